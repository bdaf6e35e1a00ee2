/*
 * Exemplars beside the buckets of OpenMetrics. Invariant: a bucket shows the newest of its operation whose
 * duration lies in it, so that at most one stands at a bucket however many traces there were.
 */
#include <stdio.h>
#include <stdlib.h>

#include "metrics/exemplar.h"
#include "metrics/render_inner.h"

static int by_operation(const void *a, const void *b)
{
    uint64_t x = ((const struct exemplar *)a)->operation, y = ((const struct exemplar *)b)->operation;
    return x < y ? -1 : x > y;
}

size_t render_exemplars_gather(const struct metrics *m, struct exemplar **out)
{
    size_t blocks = (size_t)metrics_blocks(m), n = 0;
    *out = calloc(blocks * EXEMPLAR_PLACES, sizeof **out);
    for (size_t b = 0; *out && b < blocks; b++)
        for (size_t i = 0; i < EXEMPLAR_PLACES; i++)
            n += exemplar_get(metrics_exemplars(m, (int)b), i, &(*out)[n]);
    if (n)
        qsort(*out, n, sizeof **out, by_operation);
    return n;
}

size_t render_exemplars_of(const struct exemplar *all, size_t n, unsigned operation, size_t *at)
{
    size_t count = 0;
    while (*at < n && all[*at].operation < operation)
        ++*at;
    while (*at + count < n && all[*at + count].operation == operation)
        count++;
    return count;
}

const struct exemplar *render_exemplar_pick(const struct exemplar *all, size_t n, double above, double upto)
{
    const struct exemplar *newest = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct exemplar *e = &all[i];
        if ((double)e->value > above && (double)e->value <= upto && (!newest || e->at > newest->at))
            newest = e;
    }
    return newest;
}

static void put_hex(struct text *out, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    char pair[2];
    for (size_t i = 0; i < n; i++) {
        pair[0] = digits[p[i] >> 4];
        pair[1] = digits[p[i] & 15];
        text_bytes(out, pair, sizeof pair);
    }
}

void render_exemplar(struct text *out, const struct exemplar *e)
{
    char when[40];
    bool spanned = false;
    for (size_t i = 0; i < sizeof e->span_id; i++)
        spanned |= e->span_id[i] != 0;
    text_string(out, " # {trace_id=\"");
    put_hex(out, e->trace_id, sizeof e->trace_id);
    if (spanned) {
        text_string(out, "\",span_id=\"");
        put_hex(out, e->span_id, sizeof e->span_id);
    }
    text_string(out, "\"} ");
    text_real(out, (double)e->value / 1e9);
    snprintf(when, sizeof when, " %lld.%03d", (long long)(e->at / 1000000000), (int)(e->at / 1000000 % 1000));
    text_string(out, when);
}
