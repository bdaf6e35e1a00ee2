/*
 * Reading, refusing, changing and reloading the configuration while memory runs out at every place. Whatever
 * fails, the snapshot in force is untouched, and a refusal for want of memory says so.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/config_file.h"
#include "tests/oom/inject.h"

static const char GOOD[] = "listen: {address: 127.0.0.1:0}\n"
                           "upstream: {url: 'http://127.0.0.1:9/base'}\n"
                           "cache: {partition_by: [Authorization, X-Tenant], targets: [A-Cache-Control]}\n"
                           "retry: {retry_on: [reset, 502, 503]}\n"
                           "routes:\n"
                           "  - match: {path: '/v1/x/{id}', methods: [GET, HEAD]}\n"
                           "    operation: get_x\n"
                           "    cache: {ttl: 5s, tags: ['x:{id}', all]}\n"
                           "  - match: {path: '/v1/x', methods: [POST]}\n"
                           "    operation: make_x\n"
                           "    invalidates: [all]\n";

static const char BAD[] = "listen: {adress: 127.0.0.1:0, header_timeout: fast}\n"
                          "pool: {max_size: -1}\n"
                          "nonsense: [1, {a: b}]\n";

static const struct config *read_text(const char *text, struct config_errors *errors)
{
    struct config_text t = {
        (const unsigned char *)text, strlen(text), "", {.source = CONFIG_FROM_FILE, .name = "c.yaml"}};
    struct config_draft *draft = config_draft_new();
    if (!draft)
        return NULL;
    config_read_yaml(&t, draft, errors);
    const struct config *cfg = config_draft_build(draft, errors);
    config_draft_free(draft);
    return cfg;
}

static bool good_scenario(void)
{
    struct config_errors errors = {0};
    const struct config *cfg = read_text(GOOD, &errors);
    bool well = cfg != NULL && cfg->routes.count == 2 && strcmp(cfg->upstream_url.path, "/base") == 0;
    config_unref(cfg);
    config_errors_free(&errors);
    return well;
}

/* A bad file is never taken, however little memory there is. */
static bool bad_scenario(void)
{
    struct config_errors errors = {0};
    const struct config *cfg = read_text(BAD, &errors);
    if (cfg)
        abort();
    bool well = errors.count == 4 && !errors.out_of_memory;
    config_errors_free(&errors);
    return well;
}

static const struct config *running; /* made before the failures begin */

static void set_up(void)
{
    struct config_errors errors = {0};
    running = read_text(GOOD, &errors);
    if (!running)
        abort();
}

static void tear_down(void)
{
    config_unref(running);
}

static bool change_scenario(void)
{
    struct config_errors errors = {0};
    const struct config *next = config_with(running, "pool.max_size", "77", &errors);
    bool well = next && next->pool_max_size == 77;
    if (running->pool_max_size == 77 || (!next && !config_errors_any(&errors)))
        abort(); /* the one in force was touched, or nobody was told */
    config_unref(next);
    config_errors_free(&errors);
    return well;
}

static bool reload_scenario(void)
{
    struct config_errors errors = {0};
    char *environment[] = {"PROMPTOPS_SIDECAR_POOL__MAX_SIZE=5", "PROMPTOPS_SIDECAR_CACHE__TARGETS=[X]",
                           NULL};
    struct config_assignment flags[] = {{"listen.address", "127.0.0.1:0", "--listen"}};
    struct config_sources sources = {.environment = environment, .flags = flags, .flag_count = 1};
    struct config_pending pending;
    const struct config *next = config_reload(&sources, running, &errors, &pending);
    bool well = next && next->pool_max_size == 5;
    /* All of the new values, or none: never a part of them. */
    if (next && (!well || next->cache_targets.count != 1 || strcmp(next->cache_targets.items[0], "X") != 0))
        abort();
    if (!next && !config_errors_any(&errors))
        abort();
    config_unref(next);
    config_errors_free(&errors);
    return well;
}

static bool print_scenario(void)
{
    struct config_errors errors = {0};
    const struct config *cfg = read_text(GOOD, &errors);
    size_t total = 0;
    char buf[512];
    for (int i = 0; cfg && i < CONFIG_OPTION_COUNT; i++)
        total += config_print_value(cfg, i, buf, sizeof(buf)) + config_origin(cfg, i, buf, sizeof(buf));
    config_unref(cfg);
    config_errors_free(&errors);
    return total > 1000;
}

int main(void)
{
    static const struct scenario scenarios[] = {
        {"a good file", good_scenario},
        {"a bad file", bad_scenario},
        {"a change", change_scenario},
        {"a reload", reload_scenario},
        {"every option printed", print_scenario},
    };
    return inject_main("configuration without memory", scenarios, (int)ARRAY_LEN(scenarios), set_up,
                       tear_down);
}
