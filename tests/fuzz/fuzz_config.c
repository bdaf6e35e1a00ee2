/*
 * Feeds any bytes to the YAML reader. Whatever comes out must be either a snapshot or at least one
 * error; a snapshot's values must print, and what was printed must be accepted again with the same
 * meaning.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/command_line.h"
#include "proxy/config_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct config *read_text(const void *bytes, size_t n, struct config_errors *errors)
{
    struct config_text text = {bytes, n, "", {.source = CONFIG_FROM_FILE, .name = "fuzz.yaml"}};
    struct config_draft *draft = config_draft_new();
    assert(draft);
    bool read = config_read_yaml(&text, draft, errors);
    assert(read || config_errors_any(errors));
    const struct config *cfg = config_draft_build(draft, errors);
    config_draft_free(draft);
    return cfg;
}

static void print_and_read_again(const struct config *cfg)
{
    struct config_errors errors = {0};
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    assert(out);
    config_print_yaml(cfg, out);
    fclose(out);
    const struct config *again = read_text(text, n, &errors);
    for (size_t i = 0; i < errors.count; i++)
        fprintf(stderr, "%s\n", errors.items[i]);
    assert(again);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        assert(config_same_value(cfg, again, i));
    config_unref(again);
    config_errors_free(&errors);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_errors errors = {0};
    const struct config *cfg = read_text(data, size, &errors);
    assert(cfg || config_errors_any(&errors));
    if (cfg && !config_errors_any(&errors))
        print_and_read_again(cfg);
    config_unref(cfg);
    config_errors_free(&errors);
    return 0;
}
