/*
 * history_load: whatever stands in the file, with a checksum that agrees, nothing is overrun, and what was
 * taken in can be read and saved again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/custom.h"
#include "metrics/history_inner.h"
#include "metrics/text.h"

#define SECOND INT64_C(1000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"other"};
    struct metrics_config config = {1, names, 1, names, 1, NULL, 0};
    static struct metrics *m; /* names of operations gather in it: then there is no room for more */
    if (!m)
        m = metrics_new(&config);
    struct history *h = history_new(m, 100 * SECOND, 200 * SECOND, 1 << 16);
    struct custom *custom = custom_new();
    struct text file = {0}, again = {0};
    history_follow(h, custom);
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    text_bytes(&file, "PPHIST3\n", 8);
    history_put(&file,
                history_names_mark(h) ^ (size && (data[0] & 1))); /* its parts are ours, or they are not */
    text_bytes(&file, (const char *)data, size);
    for (size_t i = 0; i < file.n; i++)
        sum = (sum ^ (uint8_t)file.p[i]) * UINT64_C(0x100000001b3);
    text_bytes(&file, (const char *)&sum, sizeof sum);
    if (history_load(h, file.p, file.n, 100 * SECOND)) {
        struct history_cursor cursor = {0};
        struct history_series series;
        struct history_point point;
        while (history_next(h, &cursor, &series, &point))
            ;
        history_save(h, &again);
        if (!history_load(h, again.p, again.n, 100 * SECOND))
            abort();
    }
    text_dispose(&file);
    text_dispose(&again);
    history_free(h);
    custom_free(custom);
    return 0;
}
