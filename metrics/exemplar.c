/*
 * Places of exemplars, each guarded by a version: 0 while it is empty, odd while it is written, else even.
 * Words are stored with release after the odd version, as in ring.c, so that no fence is needed.
 */
#include "metrics/exemplar.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct exemplar) % 8 == 0, "an exemplar is copied by words");
enum { WORDS = sizeof(struct exemplar) / 8, OCTAVES = 64 };

struct place {
    _Atomic uint64_t version;
    _Atomic uint64_t words[WORDS];
};

struct exemplars {
    struct place places[EXEMPLAR_PLACES];
};

struct exemplars *exemplars_new(void)
{
    return calloc(1, sizeof(struct exemplars));
}

void exemplars_free(struct exemplars *e)
{
    free(e);
}

/* Neighbouring octaves of one operation never meet. */
static size_t place_of(const struct exemplar *one)
{
    uint64_t value = one->value > 0 ? (uint64_t)one->value : 1;
    size_t octave = OCTAVES - 1 - (size_t)__builtin_clzll(value);
    return (one->operation * 37 + octave) % EXEMPLAR_PLACES;
}

void exemplar_put(struct exemplars *e, const struct exemplar *one)
{
    struct place *p = &e->places[place_of(one)];
    uint64_t version = atomic_load_explicit(&p->version, memory_order_relaxed);
    atomic_store_explicit(&p->version, version + 1, memory_order_relaxed);
    for (size_t i = 0; i < WORDS; i++) {
        uint64_t word;
        memcpy(&word, (const char *)one + 8 * i, sizeof word);
        atomic_store_explicit(&p->words[i], word, memory_order_release);
    }
    atomic_store_explicit(&p->version, version + 2, memory_order_release);
}

bool exemplar_get(const struct exemplars *e, size_t i, struct exemplar *out)
{
    struct place *p = (struct place *)(uintptr_t)&e->places[i % EXEMPLAR_PLACES];
    uint64_t version = atomic_load_explicit(&p->version, memory_order_acquire), words[WORDS];
    if (version == 0 || version % 2)
        return false;
    for (size_t k = 0; k < WORDS; k++)
        words[k] = atomic_load_explicit(&p->words[k], memory_order_acquire);
    if (atomic_load_explicit(&p->version, memory_order_relaxed) != version)
        return false;
    memcpy(out, words, sizeof words);
    return true;
}
