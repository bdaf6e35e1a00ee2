/*
 * An open-addressed table of keys and counts.
 *
 * Invariants: a key is published with release after its first count, and never changed or
 * removed. At least half of the slots stay empty, so that a search ends soon. Nothing is
 * freed while the series lives.
 */
#include "metrics/series.h"

#include <stdatomic.h>
#include <stdlib.h>

struct slot {
    _Atomic uint64_t key; /* 0: empty */
    _Atomic uint64_t count;
};

struct series {
    size_t room;
    size_t used;
    size_t mask;
    _Atomic uint64_t other;
    struct slot slots[];
};

struct series *series_new(size_t room)
{
    if (room < 1 || room > 65536)
        return NULL;
    size_t slots = 4;
    while (slots < 2 * room)
        slots *= 2;
    struct series *s = calloc(1, sizeof *s + slots * sizeof(struct slot));
    if (!s)
        return NULL;
    s->room = room;
    s->mask = slots - 1;
    return s;
}

void series_free(struct series *s)
{
    free(s);
}

static void count_add(_Atomic uint64_t *count, uint64_t n)
{
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n, memory_order_relaxed);
}

bool series_add(struct series *s, uint64_t key, uint64_t n)
{
    size_t i = (size_t)((key * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & s->mask;
    for (;; i = (i + 1) & s->mask) {
        struct slot *slot = &s->slots[i];
        uint64_t there = atomic_load_explicit(&slot->key, memory_order_relaxed);
        if (there == key) {
            count_add(&slot->count, n);
            return true;
        }
        if (there)
            continue;
        if (s->used == s->room) {
            count_add(&s->other, n);
            return false;
        }
        s->used++;
        atomic_store_explicit(&slot->count, n, memory_order_relaxed);
        atomic_store_explicit(&slot->key, key, memory_order_release);
        return true;
    }
}

size_t series_places(const struct series *s)
{
    return s->mask + 2;
}

bool series_at(const struct series *s, size_t i, uint64_t *key, uint64_t *count)
{
    struct series *any = (struct series *)(uintptr_t)s; /* C11 has no atomic load from const */
    if (i > s->mask) {
        *key = SERIES_OTHER;
        *count = atomic_load_explicit(&any->other, memory_order_relaxed);
        return i == s->mask + 1 && *count > 0;
    }
    *key = atomic_load_explicit(&any->slots[i].key, memory_order_acquire);
    if (!*key)
        return false;
    *count = atomic_load_explicit(&any->slots[i].count, memory_order_relaxed);
    return true;
}

static int by_key(const void *a, const void *b)
{
    uint64_t x = ((const struct series_count *)a)->key, y = ((const struct series_count *)b)->key;
    return x < y ? -1 : x > y;
}

size_t series_merge(struct series_count *c, size_t n)
{
    if (!n)
        return 0;
    qsort(c, n, sizeof *c, by_key);
    size_t last = 0;
    for (size_t i = 1; i < n; i++) {
        if (c[i].key == c[last].key)
            c[last].count += c[i].count;
        else
            c[++last] = c[i];
    }
    return last + 1;
}
