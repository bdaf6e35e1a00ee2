/*
 * What retrying is worth: retries and those that were answered well, by what they were for, over all blocks
 * and operations. Read while others count; a success may be seen before its retry, never the other way round
 * for long.
 */
#include <limits.h>

#include "metrics/observe.h"
#include "metrics/series.h"

static struct retry_worth *row_of(struct retry_worth *rows, int *n, int room, unsigned code)
{
    for (int i = 0; i < *n; i++)
        if (rows[i].code == code)
            return &rows[i];
    if (*n == room)
        return NULL;
    rows[*n] = (struct retry_worth){.code = code};
    return &rows[(*n)++];
}

int metrics_retry_worth(const struct metrics *m, struct retry_worth *out, int room)
{
    static const enum series_id ids[] = {SERIES_RETRIES, SERIES_RETRIES_WON};
    int n = 0;
    for (int b = 0; b < metrics_blocks(m); b++)
        for (int k = 0; k < 2; k++) {
            const struct series *s = metrics_series(m, b, ids[k]);
            for (size_t i = 0; i < series_places(s); i++) {
                uint64_t key, count;
                if (!series_at(s, i, &key, &count))
                    continue;
                struct series_tuple t = metrics_tuple(key);
                struct retry_worth *row = row_of(out, &n, room, t.other ? UINT_MAX : t.code);
                if (row)
                    *(k ? &row->succeeded : &row->sent) += count;
            }
        }
    return n;
}
