/*
 * Numbers that one thread writes and any thread reads. Every worker has a block, and so
 * has the control thread; the owner is the only writer, nobody locks, nobody resets.
 * counters.def is the list.
 */
#ifndef METRICS_COUNTERS_H
#define METRICS_COUNTERS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum metric {
#define METRIC(id, kind, name, labels, help) METRIC_##id,
#include "metrics/counters.def"
    METRIC_COUNT
};

enum metric_kind { METRIC_COUNTER, METRIC_SECONDS, METRIC_GAUGE };

struct metric_row {
    enum metric_kind kind;
    const char *name;   /* Prometheus family; "" when it has none of its own */
    const char *labels; /* `state="idle"`, or "" */
    const char *help;
};

struct metrics_detail; /* histograms, series and the ring of one block: observe.c */

/* Made by metrics_new() of observe.h, aligned to a cache line so that writers do not disturb each other. */
struct metrics_block {
    _Alignas(64) _Atomic uint64_t v[METRIC_COUNT];
    struct metrics_detail *detail;
};

/* Adds n. Only the block's owner may call it. A load and a store, both relaxed: there is one writer. */
static inline void metric_add(struct metrics_block *b, enum metric m, uint64_t n)
{
    atomic_store_explicit(&b->v[m], atomic_load_explicit(&b->v[m], memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Takes n away from a gauge. One block's part may go below zero; the sum over the blocks is right. */
static inline void metric_sub(struct metrics_block *b, enum metric m, uint64_t n)
{
    metric_add(b, m, (uint64_t)0 - n);
}

/* Sets this block's part of a gauge, or a counter that somebody else keeps (never backwards). */
static inline void metric_set(struct metrics_block *b, enum metric m, uint64_t n)
{
    atomic_store_explicit(&b->v[m], n, memory_order_relaxed);
}

/* One block's part. Any thread. */
static inline uint64_t metric_get(const struct metrics_block *b, enum metric m)
{
    return atomic_load_explicit(&((struct metrics_block *)(uintptr_t)b)->v[m], memory_order_relaxed);
}

/* The row of counters.def; never NULL (an unknown number gives the first row). */
const struct metric_row *metric_row(enum metric m);

/* For a gauge's sum: unsigned wrap-around read as a signed number. */
static inline int64_t metric_signed(uint64_t sum)
{
    return (int64_t)sum;
}

#endif
