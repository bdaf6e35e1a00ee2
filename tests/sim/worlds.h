/*
 * Request sequences of several shapes, made from a seed: what the cache's decisions are tried on beside
 * published traces. The same seed gives the same world on every machine.
 */
#ifndef TESTS_SIM_WORLDS_H
#define TESTS_SIM_WORLDS_H

#include "tests/sim/cache.h"

enum world_shape {
    WORLD_ZIPF,     /* independent draws */
    WORLD_SCANS,    /* Zipf, and scans of keys that never come again */
    WORLD_LOOP,     /* round and round */
    WORLD_MIXED,    /* Zipf and a loop, by turns at random */
    WORLD_SHIFTING, /* Zipf over a set that moves on at once, now and then */
    WORLD_DRIFTING, /* the same, a little with each request */
    WORLD_RECENT,   /* each key is used twice, the second time soon */
    WORLD_UNIFORM,
    WORLD_PHASES, /* Zipf, loop and scans one after the other */
    WORLD_SHAPES
};

enum world_sizes { SIZES_EQUAL, SIZES_SPREAD /* 64 B to 64 KiB */, SIZES_MODES };
enum world_costs {
    COSTS_EQUAL,
    COSTS_NOISY,    /* all alike, but measured anew each time: log-normal, sigma 0.5 */
    COSTS_SPREAD,   /* of each key its own: log-normal, sigma 1.5 */
    COSTS_TWO,      /* one key in five costs fifty times as much as the others */
    COSTS_MEASURED, /* of each key its own, measured with noise */
    COSTS_MODES
};

struct world {
    enum world_shape shape;
    enum world_sizes sizes;
    enum world_costs costs;
    double skew;    /* of Zipf */
    uint64_t keys;  /* in the popular set */
    uint64_t loop;  /* length, where there is one */
    uint64_t count; /* requests */
    uint64_t seed;
};

const char *world_shape_name(enum world_shape shape);
const char *world_costs_name(enum world_costs costs);

/* `count` records, one a millisecond, to be freed. NULL: out of memory. */
struct cache_record *world_make(const struct world *world);

/* Hits that an optimal cache of so many entries has, which knows the future (Belady), where all sizes are
 * equal. Negative: out of memory. */
double world_optimum(const struct cache_record *records, size_t count, uint64_t max_entries);

#endif
