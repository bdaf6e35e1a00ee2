/*
 * How often a hash was seen lately, about. Invariants: a hash has one counter in each of four words, at the
 * place (of 16) that its hash gives; a counter only rises where it is the least (conservative update), so the
 * least is never too small between two halvings.
 */
#include "policy/evict_private.h"

#include <stdlib.h>

enum { ROWS = 4, COUNTER_MAX = 15, PERIOD = 10 };

void sketch_reserve(struct evict_sketch *sketch, size_t count)
{
    size_t size = 16;
    while (size < count && size < (size_t)1 << 28)
        size *= 2;
    if (size <= sketch->size)
        return;
    uint64_t *words = calloc(size, sizeof *words);
    if (!words)
        return;
    free(sketch->words);
    sketch->words = words;
    sketch->size = size;
    sketch->counted = 0;
    sketch->period = PERIOD * (uint64_t)size;
}

/* The word and the shift of a row's counter. */
static uint64_t *counter_at(const struct evict_sketch *sketch, uint64_t hash, unsigned row, unsigned *shift)
{
    uint64_t mixed = (hash + row) * 0x9e3779b97f4a7c15u;
    mixed ^= mixed >> 32;
    mixed *= 0xd6e8feb86659fd93u;
    *shift = (unsigned)(mixed >> 60) * 4;
    return &sketch->words[(mixed >> 24) & (sketch->size - 1)];
}

unsigned sketch_estimate(const struct evict_sketch *sketch, uint64_t hash)
{
    unsigned least = COUNTER_MAX;
    if (!sketch->words)
        return 0;
    for (unsigned row = 0; row < ROWS; row++) {
        unsigned shift;
        const uint64_t *word = counter_at(sketch, hash, row, &shift);
        unsigned count = (unsigned)(*word >> shift & 15);
        least = count < least ? count : least;
    }
    return least;
}

static void halve(struct evict_sketch *sketch)
{
    for (size_t i = 0; i < sketch->size; i++)
        sketch->words[i] = sketch->words[i] >> 1 & 0x7777777777777777u;
    sketch->counted /= 2;
}

void sketch_add(struct evict_sketch *sketch, uint64_t hash, unsigned times)
{
    if (!sketch->words || times == 0)
        return;
    unsigned target = sketch_estimate(sketch, hash) + times;
    target = target > COUNTER_MAX ? COUNTER_MAX : target;
    for (unsigned row = 0; row < ROWS; row++) {
        unsigned shift;
        uint64_t *word = counter_at(sketch, hash, row, &shift);
        if ((*word >> shift & 15) < target)
            *word = (*word & ~((uint64_t)15 << shift)) | (uint64_t)target << shift;
    }
    sketch->counted += times;
    if (sketch->counted >= sketch->period)
        halve(sketch);
}
