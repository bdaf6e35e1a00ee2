/*
 * An open-addressed table. Invariants: a key is published with release behind its histogram, and never
 * changed or removed; at least half of the slots stay empty, so that a search ends soon; the last slot is
 * HIST_TABLE_OTHER's.
 */
#include "metrics/hist_table.h"

#include <stdlib.h>

struct slot {
    _Atomic uint64_t key; /* 0: empty */
    struct hist *hist;
};

struct hist_table {
    size_t room, used, mask;
    struct hist other;
    struct slot slots[];
};

struct hist_table *hist_table_new(size_t room)
{
    size_t slots = 4;
    while (slots < 2 * room)
        slots *= 2;
    struct hist_table *t = calloc(1, sizeof *t + slots * sizeof(struct slot));
    if (!t)
        return NULL;
    t->room = room;
    t->mask = slots - 1;
    return t;
}

void hist_table_free(struct hist_table *t)
{
    for (size_t i = 0; t && i <= t->mask; i++)
        if (t->slots[i].hist) {
            hist_dispose(t->slots[i].hist);
            free(t->slots[i].hist);
        }
    if (t)
        hist_dispose(&t->other);
    free(t);
}

bool hist_table_record(struct hist_table *t, uint64_t key, int64_t value)
{
    size_t i = (size_t)((key * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & t->mask;
    for (;; i = (i + 1) & t->mask) {
        struct slot *slot = &t->slots[i];
        uint64_t there = atomic_load_explicit(&slot->key, memory_order_relaxed);
        if (there == key)
            return hist_record(slot->hist, value);
        if (there)
            continue;
        if (t->used == t->room)
            return hist_record(&t->other, value);
        if (!slot->hist && !(slot->hist = calloc(1, sizeof *slot->hist)))
            return false;
        if (!hist_record(slot->hist, value))
            return false;
        t->used++;
        atomic_store_explicit(&slot->key, key, memory_order_release);
        return true;
    }
}

size_t hist_table_places(const struct hist_table *t)
{
    return t->mask + 2;
}

bool hist_table_at(const struct hist_table *t, size_t i, uint64_t *key, const struct hist **hist)
{
    struct hist_table *any = (struct hist_table *)(uintptr_t)t; /* C11 has no atomic load from const */
    if (i > t->mask) {
        *key = HIST_TABLE_OTHER;
        *hist = &t->other;
        return i == t->mask + 1;
    }
    *key = atomic_load_explicit(&any->slots[i].key, memory_order_acquire);
    *hist = *key ? any->slots[i].hist : NULL;
    return *key != 0;
}
