/*
 * The few numbers that say how the sidecar is doing, over a window: what
 * GET /api/v1/summary answers and alerts and the dashboard build on.
 */
#ifndef METRICS_SUMMARY_H
#define METRICS_SUMMARY_H

#include "metrics/recent.h"
#include "metrics/render.h"

/* Durations in seconds. `count` = records behind it. */
struct summary_spread {
    uint64_t count;
    double mean, p50, p90, p95, p99, max;
};

struct summary {
    double window;         /* seconds really covered */
    double uptime;         /* seconds */
    double cache_hit_rate; /* fresh and stale answers from the cache, of all requests that asked it; 0 when
                              none */
    double error_rate;     /* failed requests (observation_failed) of all */
    double throughput;     /* finished requests a second */
    struct summary_spread request_latency;
    struct summary_spread upstream_latency;
    struct summary_spread network_latency; /* round trips to the upstream; its mean is the summary's number */
    double memory_usage_mb;                /* resident, in 10^6 bytes */
    double cpu_usage;                      /* percent of one processor */
    int64_t active_requests;
    int64_t connection_pool_size; /* idle, active and connecting */
    uint64_t retry_count;
    double batch_size;        /* mean; 0 when there was none */
    double compression_ratio; /* bytes before over bytes after; 1 when nothing was compressed */
    uint64_t requests_total;  /* within the window, as all the counts here */
    uint64_t requests_failed;
    uint64_t upstream_requests_total;
    uint64_t cache_hits, cache_misses, cache_stale, cache_coalesced;
    double fetch_seconds_saved;
    uint64_t requests_saved;
    uint64_t bytes_saved;
};

struct summary_input {
    struct recent *recent;
    int64_t length;                       /* nanoseconds up to now; 0 = since the start */
    int64_t now;                          /* on the clock of `recent` */
    const struct process_values *process; /* may be NULL */
};

/* Fills *out. `scratch` is the caller's, its content of no account. */
void summary_read(const struct summary_input *in, struct recent_totals *scratch, struct summary *out);

#endif
