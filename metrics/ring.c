/*
 * A ring of finished requests, each slot guarded by a version.
 *
 * Invariants: entry `number` lies in slot number % RING_ENTRIES, whose version is
 * 2 * number + 1 while it is written and 2 * number + 2 once whole. Words are stored with
 * release after the odd version: who reads a new word (with acquire) also sees that the
 * version moved on. So no fence is needed, and thread checkers understand it.
 */
#include "metrics/ring.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/observe.h"

_Static_assert(sizeof(struct observation) % 8 == 0, "an observation is copied by words");
enum { WORDS = sizeof(struct observation) / 8 };

struct slot {
    _Atomic uint64_t version;
    _Atomic uint64_t words[WORDS];
};

struct ring {
    _Atomic uint64_t count;
    struct slot slots[RING_ENTRIES];
};

struct ring *ring_new(void)
{
    return calloc(1, sizeof(struct ring));
}

void ring_free(struct ring *r)
{
    free(r);
}

void ring_put(struct ring *r, const struct observation *o)
{
    const char *from = (const char *)o;
    uint64_t number = atomic_load_explicit(&r->count, memory_order_relaxed);
    struct slot *slot = &r->slots[number % RING_ENTRIES];
    atomic_store_explicit(&slot->version, 2 * number + 1, memory_order_relaxed);
    for (size_t i = 0; i < WORDS; i++) {
        uint64_t word;
        memcpy(&word, from + 8 * i, sizeof word);
        atomic_store_explicit(&slot->words[i], word, memory_order_release);
    }
    atomic_store_explicit(&slot->version, 2 * number + 2, memory_order_release);
    atomic_store_explicit(&r->count, number + 1, memory_order_release);
}

uint64_t ring_count(const struct ring *r)
{
    return atomic_load_explicit(&((struct ring *)(uintptr_t)r)->count, memory_order_acquire);
}

bool ring_get(const struct ring *r, uint64_t number, struct observation *out)
{
    struct slot *slot = &((struct ring *)(uintptr_t)r)->slots[number % RING_ENTRIES];
    if (atomic_load_explicit(&slot->version, memory_order_acquire) != 2 * number + 2)
        return false;
    uint64_t words[WORDS];
    for (size_t i = 0; i < WORDS; i++)
        words[i] = atomic_load_explicit(&slot->words[i], memory_order_acquire);
    if (atomic_load_explicit(&slot->version, memory_order_relaxed) != 2 * number + 2)
        return false;
    memcpy(out, words, sizeof words);
    return true;
}
