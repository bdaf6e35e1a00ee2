/*
 * The sparse sketch. Invariants: buckets are in growing order, none is empty; count is their sum; a bucket's
 * number is the value's exponent and the first six bits of its fraction, minus those of 2^-1022 and plus one,
 * with the value's sign: so numbers grow as values do, and 0 stands for zero (and what is too small to be
 * told from it).
 */
#include "metrics/real_sketch.h"

#include <math.h>
#include <string.h>

enum { SUB_BITS = 6, FRACTION_BITS = 52 };

static int32_t index_of(double value)
{
    uint64_t bits;
    double size = fabs(value);
    memcpy(&bits, &size, sizeof bits);
    int32_t i = (int32_t)(bits >> (FRACTION_BITS - SUB_BITS)) - (1 << SUB_BITS) + 1;
    if (i <= 0)
        return 0;
    return value < 0 ? -i : i;
}

/* Of a number behind `joined` joinings: 1, 2 -> 1; 3, 4 -> 2. */
static int32_t join(int32_t index, unsigned joined)
{
    int32_t size = index < 0 ? -index : index;
    for (unsigned i = 0; i < joined && size; i++)
        size = (size + 1) / 2;
    return index < 0 ? -size : size;
}

/* The least size of a value in bucket `size` > 0. */
static double lower(int64_t size, unsigned joined)
{
    uint64_t fine = ((uint64_t)(size - 1) << joined) + (1 << SUB_BITS); /* the first of those joined */
    uint64_t bits = fine << (FRACTION_BITS - SUB_BITS);
    double v;
    if (fine >= (uint64_t)2047 << SUB_BITS)
        return 1.7976931348623157e308;
    memcpy(&v, &bits, sizeof v);
    return v;
}

double real_sketch_middle(int32_t index, unsigned joined)
{
    int64_t size = index < 0 ? -(int64_t)index : index;
    if (!size)
        return 0;
    double low = lower(size, joined), high = lower(size + 1, joined);
    double middle = low + (high - low) / 2;
    return index < 0 ? -middle : middle;
}

static void join_once(struct real_sketch *s)
{
    uint16_t to = 0;
    for (uint16_t i = 0; i < s->used; i++) {
        struct real_bucket b = {join(s->buckets[i].index, 1), s->buckets[i].count};
        if (to && s->buckets[to - 1].index == b.index)
            s->buckets[to - 1].count += b.count;
        else
            s->buckets[to++] = b;
    }
    s->used = to;
    s->joined++;
}

/* The place of an index, or where it belongs. */
static uint16_t place_of(const struct real_sketch *s, int32_t index)
{
    uint16_t low = 0, high = s->used;
    while (low < high) {
        uint16_t middle = (uint16_t)((low + high) / 2);
        if (s->buckets[middle].index < index)
            low = (uint16_t)(middle + 1);
        else
            high = middle;
    }
    return low;
}

void real_sketch_put(struct real_sketch *s, unsigned joined, int32_t index, uint64_t n)
{
    if (!n)
        return;
    while (s->joined < joined)
        join_once(s);
    s->count += n;
    for (;;) {
        int32_t number = join(index, s->joined - joined);
        uint16_t at = place_of(s, number);
        if (at < s->used && s->buckets[at].index == number) {
            s->buckets[at].count += n;
            return;
        }
        if (s->used < REAL_SKETCH_BUCKETS) {
            memmove(&s->buckets[at + 1], &s->buckets[at], (size_t)(s->used - at) * sizeof *s->buckets);
            s->buckets[at] = (struct real_bucket){number, n};
            s->used++;
            return;
        }
        join_once(s); /* until it fits: in the end there are three, below, at and above zero */
    }
}

static void widen(struct real_sketch *s, double min, double max)
{
    s->min = s->count && s->min < min ? s->min : min;
    s->max = s->count && s->max > max ? s->max : max;
}

void real_sketch_add(struct real_sketch *s, double value, uint64_t n)
{
    if (!n || !isfinite(value))
        return;
    widen(s, value, value);
    s->sum += value * (double)n;
    real_sketch_put(s, 0, index_of(value), n);
}

void real_sketch_merge(struct real_sketch *into, const struct real_sketch *b)
{
    if (!b->count)
        return;
    widen(into, b->min, b->max);
    into->sum += b->sum;
    for (uint16_t i = 0; i < b->used; i++)
        real_sketch_put(into, b->joined, b->buckets[i].index, b->buckets[i].count);
}

double real_sketch_quantile(const struct real_sketch *s, double q)
{
    uint64_t seen = 0;
    if (!s->count)
        return 0;
    double wanted = ceil(q * (double)s->count);
    for (uint16_t i = 0; i < s->used; i++) {
        seen += s->buckets[i].count;
        if ((double)seen >= wanted && seen < s->count)
            return fmax(s->min, fmin(s->max, real_sketch_middle(s->buckets[i].index, s->joined)));
        if ((double)seen >= wanted)
            break;
    }
    return wanted >= (double)s->count
               ? s->max
               : fmin(s->max, real_sketch_middle(s->buckets[s->used - 1].index, s->joined));
}

uint64_t real_sketch_below(const struct real_sketch *s, double bound)
{
    uint64_t seen = 0;
    if (s->count && bound >= s->max)
        return s->count;
    for (uint16_t i = 0; i < s->used && real_sketch_middle(s->buckets[i].index, s->joined) <= bound; i++)
        seen += s->buckets[i].count;
    return seen;
}
