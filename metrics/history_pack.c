/*
 * How points are packed: variable-length numbers; of a sketch only the buckets that are not empty, a run of
 * neighbours at one number each.
 *
 * Invariants: what is packed is read by nobody but this file; a token is even for the next bucket's count,
 * odd for empty buckets to step over.
 */
#include <string.h>

#include "metrics/history_inner.h"

enum { VARINT = 10 };

static size_t put(uint8_t *p, uint64_t v)
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        p[n++] = (uint8_t)(v | 0x80);
    p[n++] = (uint8_t)v;
    return n;
}

static const uint8_t *get(const uint8_t *p, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        *v |= (uint64_t)(*p & 0x7f) << shift;
        if (!(*p++ & 0x80))
            break;
    }
    return p;
}

void history_put(struct text *t, uint64_t v)
{
    uint8_t room[VARINT];
    text_bytes(t, (const char *)room, put(room, v));
}

void history_put_cell(struct text *t, uint64_t key, const struct history_cell *c)
{
    uint8_t
        room[2 * VARINT * (HIST_BUCKETS / 2 + 2)]; /* 50 KiB: buckets of one neighbour each are the worst */
    size_t n = put(room, c->num);
    unsigned at = 0;
    n += put(room + n, c->den);
    for (unsigned i = 0; i < HIST_BUCKETS && n + 3 * VARINT < sizeof room; i++) {
        if (!c->sketch.v[i])
            continue;
        if (i > at)
            n += put(room + n, (uint64_t)(i - at) << 1 | 1);
        n += put(room + n, c->sketch.v[i] << 1);
        at = i + 1;
    }
    history_put(t, key + 1);
    history_put(t, n);
    text_bytes(t, (const char *)room, n);
}

static size_t put_double(uint8_t *p, double v)
{
    memcpy(p, &v, sizeof v);
    return sizeof v;
}

static const uint8_t *get_double(const uint8_t *p, double *v)
{
    memcpy(v, p, sizeof *v);
    return p + sizeof *v;
}

/* Signed numbers as unsigned ones, small for small: 0, -1, 1, -2 ... */
static uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

void history_put_real(struct text *t, uint64_t key, const struct real_sketch *s)
{
    uint8_t room[VARINT * (2 * REAL_SKETCH_BUCKETS + 1) + 3 * sizeof(double)];
    size_t n = put_double(room, s->sum);
    int64_t last = 0;
    n += put_double(room + n, s->min);
    n += put_double(room + n, s->max);
    n += put(room + n, s->joined);
    for (uint16_t i = 0; i < s->used; i++) {
        n += put(room + n, zigzag(s->buckets[i].index - last));
        n += put(room + n, s->buckets[i].count);
        last = s->buckets[i].index;
    }
    history_put(t, key + 1);
    history_put(t, n);
    text_bytes(t, (const char *)room, n);
}

static void add_real(const uint8_t *p, const uint8_t *end, struct real_sketch *into)
{
    struct real_sketch one = {0};
    uint64_t joined, step, count;
    int64_t index = 0;
    p = get_double(p, &one.sum);
    p = get_double(p, &one.min);
    p = get_double(p, &one.max);
    p = get(p, &joined);
    one.joined = (uint8_t)joined;
    while (p < end && one.used < REAL_SKETCH_BUCKETS) {
        p = get(p, &step);
        p = get(p, &count);
        index += unzigzag(step);
        one.buckets[one.used++] = (struct real_bucket){(int32_t)index, count};
        one.count += count;
    }
    real_sketch_merge(into, &one);
}

void history_put_sample(struct text *t, uint64_t key, uint64_t num, uint64_t den, uint64_t sample)
{
    uint8_t room[4 * VARINT];
    unsigned at = hist_index(sample);
    size_t n = put(room, num);
    n += put(room + n, den);
    if (at)
        n += put(room + n, (uint64_t)at << 1 | 1);
    n += put(room + n, 1 << 1);
    history_put(t, key + 1);
    history_put(t, n);
    text_bytes(t, (const char *)room, n);
}

bool history_entry(const uint8_t **p, uint64_t *key, const uint8_t **content, const uint8_t **end)
{
    uint64_t n;
    *p = get(*p, key);
    if (!*key)
        return false;
    --*key;
    *content = get(*p, &n);
    *end = *content + n;
    *p = *end;
    return true;
}

void history_add(uint64_t key, const uint8_t *p, const uint8_t *end, struct history_cell *into)
{
    uint64_t num, den, token;
    size_t at = 0;
    if (history_is_real(key)) {
        add_real(p, end, &into->real);
        return;
    }
    p = get(p, &num);
    p = get(p, &den);
    into->num += num;
    into->den += den;
    while (p < end) {
        p = get(p, &token);
        if (token & 1) {
            at += token >> 1;
        } else if (at < HIST_BUCKETS) {
            into->sketch.v[at++] += token >> 1;
            into->sketch.count += token >> 1;
        }
    }
}
