/*
 * A cache without values, sockets or a clock on the very code that the sidecar's store decides with: table,
 * eviction, tuner and curve. For cache-sim and the simulated worlds.
 */
#ifndef TESTS_SIM_CACHE_H
#define TESTS_SIM_CACHE_H

#include "policy/evict.h"

struct cache_record {
    uint64_t hash; /* of the key, even in all its bits */
    uint64_t bytes;
    float cost;
};

struct cache_setup {
    enum evict_strategy strategy;
    uint64_t max_entries, max_bytes; /* 0 = no limit */
    double predict;                  /* a multiple of the size to predict for; 0 = none */
};

struct cache_result {
    uint64_t requests, hits, evictions, most_entries;
    double bytes, hit_bytes, cost, hit_cost;
    size_t memory;          /* of all bookkeeping, beside keys and values */
    double predicted;       /* hit ratio at the multiple */
    struct evict_rule rule; /* at the end, of adaptive */
    uint64_t rule_changes;
};

/* Runs the records in their order. False: out of memory. */
bool cache_run(const struct cache_setup *setup, const struct cache_record *records, size_t count,
               struct cache_result *out);

#endif
