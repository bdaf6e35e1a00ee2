/*
 * A cache without values, sockets or a clock on the very code that the sidecar's store decides with: table,
 * eviction, tuner, curve and prefetch. For cache-sim and the simulated worlds. Fetches complete at once, so
 * what prefetching gains is an upper bound on what would come in time.
 */
#ifndef TESTS_SIM_CACHE_H
#define TESTS_SIM_CACHE_H

#include "policy/evict.h"
#include "policy/prefetch.h"

struct cache_record {
    uint64_t hash; /* of the key, even in all its bits */
    uint64_t bytes;
    float cost;
    tick_t time; /* of the request; looked at by prefetching only */
};

#define CACHE_LOOKS 3

/* What a stretch of requests had, and what the curve of a sidecar says that other sizes would have had. */
struct cache_window {
    double hits, predicted_base, predicted[CACHE_LOOKS]; /* shares of its requests */
};

struct cache_setup {
    enum evict_strategy strategy;
    uint64_t max_entries, max_bytes; /* 0 = no limit */
    double predict;                  /* a multiple of the size to predict for; 0 = none */
    enum prefetch_strategy prefetch; /* all requests are one client's sequence */
    uint64_t window;                 /* requests of a window; 0: none are told */
    struct cache_window *windows;    /* one for each full window of the trace */
    const double *looks;             /* CACHE_LOOKS multiples to predict as the sidecar does; NULL: none */
};

struct cache_result {
    uint64_t requests, hits, evictions, most_entries;
    double bytes, hit_bytes, cost, hit_cost;
    size_t curve_memory;
    size_t memory;    /* of all bookkeeping, beside keys and values */
    double predicted; /* hit ratio at the multiple */
    uint64_t prefetched, prefetch_used;
    struct evict_rule rule; /* at the end, of adaptive */
    uint64_t rule_changes;
};

/* Runs the records in their order. False: out of memory. */
bool cache_run(const struct cache_setup *setup, const struct cache_record *records, size_t count,
               struct cache_result *out);

#endif
