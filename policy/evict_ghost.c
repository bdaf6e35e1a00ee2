/*
 * The memory of what was evicted, as fingerprints of 16 bits in sets of four with a coarse clock: 4 bytes a
 * hash. A stranger is taken for a remembered one about once in 16,000 questions. Invariants: `size` is a
 * power of two of at least four; a print of 0 is an empty place.
 */
#include "policy/evict_private.h"

#include <stdlib.h>

enum { WAYS = 4, CLOCK_BITS = 12 /* of `when` that one filling of the ghost goes through */ };

void ghost_reserve(struct evict_ghost *ghost, size_t count)
{
    size_t size = 16;
    while (size < count + count / 4 && size < (size_t)1 << 30)
        size *= 2;
    if (size <= ghost->size)
        return;
    struct evict_print *prints = calloc(size, sizeof *prints);
    if (!prints)
        return;
    free(ghost->prints);
    ghost->prints = prints;
    ghost->size = size;
    ghost->shift = 0;
    while (size >> ghost->shift > (size_t)1 << CLOCK_BITS)
        ghost->shift++;
}

static uint16_t print_of(uint64_t hash)
{
    uint16_t print = (uint16_t)(hash >> 48);
    return print ? print : 1;
}

static struct evict_print *set_of(const struct evict_ghost *ghost, uint64_t hash)
{
    return &ghost->prints[(hash >> 14) & (ghost->size / WAYS - 1) * WAYS];
}

static unsigned age_of(const struct evict_ghost *ghost, const struct evict_print *print)
{
    return print->print == 0 ? UINT16_MAX + 1u : (uint16_t)((ghost->clock >> ghost->shift) - print->when);
}

void ghost_remember(struct evict_ghost *ghost, uint64_t hash)
{
    if (!ghost->prints)
        return;
    struct evict_print *set = set_of(ghost, hash), *oldest = set;
    uint16_t print = print_of(hash);
    ghost->clock++;
    for (int i = 0; i < WAYS; i++) {
        if (set[i].print == print) {
            oldest = &set[i];
            break;
        }
        if (age_of(ghost, &set[i]) > age_of(ghost, oldest))
            oldest = &set[i];
    }
    *oldest = (struct evict_print){print, (uint16_t)(ghost->clock >> ghost->shift)};
}

bool ghost_take(struct evict_ghost *ghost, uint64_t hash, size_t capacity)
{
    if (!ghost->prints)
        return false;
    struct evict_print *set = set_of(ghost, hash);
    uint16_t print = print_of(hash);
    for (int i = 0; i < WAYS; i++) {
        if (set[i].print != print)
            continue;
        bool recent = (uint64_t)age_of(ghost, &set[i]) << ghost->shift < (capacity > 1 ? capacity : 1);
        set[i].print = 0;
        return recent;
    }
    return false;
}
