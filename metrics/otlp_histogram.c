/*
 * Exponential histograms. Invariants: the sum of zero count and all buckets is count; the scale is the finest
 * of at most EXPO_SCALE_MOST at which both signs fit into EXPO_BUCKETS.
 */
#include "metrics/otlp_histogram.h"

#include <math.h>
#include <string.h>

#include "metrics/protobuf.h"

enum { SCALE_LEAST = -10 };

void expo_of_counts(struct expo *e, const struct hist_counts *c, double unit)
{
    e->n = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        if (c->v[i])
            e->parts[e->n++] = (struct expo_part){hist_middle(i) / unit, c->v[i]};
    e->count = c->count;
    e->sum = (double)c->sum / unit;
    e->max = (double)c->max / unit;
    e->has_min = false;
    e->has_max = c->count > 0;
}

void expo_of_sketch(struct expo *e, const struct real_sketch *s)
{
    e->n = s->used;
    for (uint16_t i = 0; i < s->used; i++)
        e->parts[i] =
            (struct expo_part){real_sketch_middle(s->buckets[i].index, s->joined), s->buckets[i].count};
    e->count = s->count;
    e->sum = s->sum;
    e->min = s->min;
    e->max = s->max;
    e->has_min = e->has_max = s->count > 0;
}

int32_t expo_index(double value, int scale)
{
    return (int32_t)ceil(ldexp(log2(value), scale)) - 1;
}

struct span {
    double low, high; /* sizes of the values of one sign; high 0: none */
};

static struct span span_of(const struct expo *e, int sign)
{
    struct span s = {INFINITY, 0};
    for (size_t i = 0; i < e->n; i++) {
        double size = e->parts[i].value * sign;
        if (size <= 0)
            continue;
        s.low = size < s.low ? size : s.low;
        s.high = size > s.high ? size : s.high;
    }
    return s;
}

static bool fits(const struct span *s, int scale)
{
    return s->high <= 0 || expo_index(s->high, scale) - expo_index(s->low, scale) < EXPO_BUCKETS;
}

static void put_side(struct text *t, unsigned field, const struct expo *e, int sign, const struct span *s,
                     int scale)
{
    uint64_t counts[EXPO_BUCKETS] = {0};
    if (s->high <= 0)
        return;
    int32_t first = expo_index(s->low, scale), last = expo_index(s->high, scale);
    for (size_t i = 0; i < e->n; i++)
        if (e->parts[i].value * sign > 0)
            counts[expo_index(e->parts[i].value * sign, scale) - first] += e->parts[i].count;
    size_t side = pb_open(t, field);
    pb_sint(t, 1, first);
    size_t list = pb_open(t, 2);
    for (int32_t i = 0; i <= last - first; i++)
        pb_element(t, counts[i]);
    pb_close(t, list);
    pb_close(t, side);
}

void expo_put(struct text *t, const struct expo *e)
{
    struct span positive = span_of(e, 1), negative = span_of(e, -1);
    int scale = EXPO_SCALE_MOST;
    uint64_t zero = 0;
    while (scale > SCALE_LEAST && (!fits(&positive, scale) || !fits(&negative, scale)))
        scale--;
    for (size_t i = 0; i < e->n; i++)
        if (e->parts[i].value == 0)
            zero += e->parts[i].count;
    pb_fixed64(t, 4, e->count);
    pb_double(t, 5, e->sum);
    pb_sint(t, 6, scale);
    pb_fixed64(t, 7, zero);
    put_side(t, 8, e, 1, &positive, scale);
    put_side(t, 9, e, -1, &negative, scale);
    if (e->has_min)
        pb_double(t, 12, e->min);
    if (e->has_max)
        pb_double(t, 13, e->max);
}
