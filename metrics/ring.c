/*
 * Places for finished requests, each guarded by a version.
 *
 * Invariants: a place's version is 0 while it is empty, odd while it is written, else even; of a queue it is
 * 2 * number + 2. Words are stored with release after the odd version: who reads a new word (with acquire)
 * also sees that the version moved on. So no fence is needed, and thread checkers understand it. What only
 * requests with phases have (OBSERVATION_SHORT on) is not written for others, and reads as zeros.
 */
#include "metrics/ring.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/observe.h"

_Static_assert(sizeof(struct observation) % 8 == 0, "an observation is copied by words");
_Static_assert(OBSERVATION_SHORT % 8 == 0, "and so is its first part");
enum { WORDS = sizeof(struct observation) / 8, SHORT_WORDS = OBSERVATION_SHORT / 8 };

struct slot {
    _Atomic uint64_t version;
    _Atomic uint64_t words[WORDS];
};

struct ring {
    _Atomic uint64_t count;
    size_t room;
    size_t next; /* the owner's: the place of entry `count` of a queue, so that nothing is divided for each */
    struct slot slots[];
};

struct ring *ring_new(size_t room)
{
    struct ring *r = calloc(1, sizeof(struct ring) + (room ? room : 1) * sizeof(struct slot));
    if (r)
        r->room = room ? room : 1;
    return r;
}

void ring_free(struct ring *r)
{
    free(r);
}

size_t ring_room(const struct ring *r)
{
    return r->room;
}

size_t ring_bytes(const struct ring *r)
{
    uint64_t count = ring_count(r);
    return (count < r->room ? (size_t)count : r->room) * sizeof(struct slot);
}

size_t ring_bytes_most(const struct ring *r)
{
    return r->room * sizeof(struct slot);
}

/* `words` is constant where it is called, so that the compiler may unroll it. */
static inline void copy_words(struct slot *slot, const char *from, size_t words)
{
#pragma GCC unroll 64
    for (size_t i = 0; i < words; i++) {
        uint64_t word;
        memcpy(&word, from + 8 * i, sizeof word);
        atomic_store_explicit(&slot->words[i], word, memory_order_release);
    }
}

static void write_slot(struct slot *slot, uint64_t odd, const struct observation *o)
{
    const char *from = (const char *)o;
    atomic_store_explicit(&slot->version, odd, memory_order_relaxed);
    if (o->detailed)
        copy_words(slot, from, WORDS);
    else
        copy_words(slot, from, SHORT_WORDS);
    atomic_store_explicit(&slot->version, odd + 1, memory_order_release);
}

static bool read_slot(const struct slot *from, uint64_t version, struct observation *out)
{
    struct slot *slot = (struct slot *)(uintptr_t)from;
    uint64_t words[WORDS];
    for (size_t i = 0; i < WORDS; i++)
        words[i] = atomic_load_explicit(&slot->words[i], memory_order_acquire);
    if (atomic_load_explicit(&slot->version, memory_order_relaxed) != version)
        return false;
    memcpy(out, words, sizeof words);
    if (!out->detailed)
        memset((char *)out + OBSERVATION_SHORT, 0, sizeof *out - OBSERVATION_SHORT);
    return true;
}

void ring_put(struct ring *r, const struct observation *o)
{
    uint64_t number = atomic_load_explicit(&r->count, memory_order_relaxed);
    write_slot(&r->slots[r->next], 2 * number + 1, o);
    r->next = r->next + 1 < r->room ? r->next + 1 : 0;
    atomic_store_explicit(&r->count, number + 1, memory_order_release);
}

uint64_t ring_count(const struct ring *r)
{
    return atomic_load_explicit(&((struct ring *)(uintptr_t)r)->count, memory_order_acquire);
}

bool ring_get(const struct ring *r, uint64_t number, struct observation *out)
{
    const struct slot *slot = &r->slots[number % r->room];
    return atomic_load_explicit(&((struct slot *)(uintptr_t)slot)->version, memory_order_acquire) ==
               2 * number + 2 &&
           read_slot(slot, 2 * number + 2, out);
}

void ring_set(struct ring *r, size_t i, const struct observation *o)
{
    struct slot *slot = &r->slots[i % r->room];
    uint64_t number = atomic_load_explicit(&r->count, memory_order_relaxed); /* no version comes twice */
    write_slot(slot, 2 * number + 1, o);
    atomic_store_explicit(&r->count, number + 1, memory_order_release);
}

void ring_clear(struct ring *r, size_t i)
{
    atomic_store_explicit(&r->slots[i % r->room].version, 0, memory_order_release);
}

bool ring_at(const struct ring *r, size_t i, struct observation *out)
{
    const struct slot *slot = &r->slots[i % r->room];
    uint64_t version = atomic_load_explicit(&((struct slot *)(uintptr_t)slot)->version, memory_order_acquire);
    return version && version % 2 == 0 && read_slot(slot, version, out);
}
