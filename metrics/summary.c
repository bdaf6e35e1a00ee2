/*
 * Makes the summary out of what a window counted. Every ratio is a ratio of sums, never a
 * mean of ratios, and 0 where there was nothing to divide by.
 */
#include "metrics/summary.h"

static double ratio(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

static struct summary_spread spread(const struct hist_counts *c)
{
    return (struct summary_spread){
        .count = c->count,
        .mean = hist_mean(c) / 1e9,
        .p50 = hist_quantile(c, 0.50) / 1e9,
        .p90 = hist_quantile(c, 0.90) / 1e9,
        .p95 = hist_quantile(c, 0.95) / 1e9,
        .p99 = hist_quantile(c, 0.99) / 1e9,
        .max = (double)c->max / 1e9,
    };
}

static void read_cache(const uint64_t *v, struct summary *out)
{
    uint64_t answered = v[METRIC_CACHE_HITS] + v[METRIC_CACHE_STALE];
    uint64_t asked =
        answered + v[METRIC_CACHE_MISSES] + v[METRIC_CACHE_COALESCED] + v[METRIC_CACHE_REVALIDATED];
    out->cache_hit_rate = ratio(answered, asked);
    out->cache_hits = v[METRIC_CACHE_HITS];
    out->cache_misses = v[METRIC_CACHE_MISSES];
    out->cache_stale = v[METRIC_CACHE_STALE];
    out->cache_coalesced = v[METRIC_CACHE_COALESCED];
    out->fetch_seconds_saved = (double)v[METRIC_CACHE_SAVED] / 1e9;
    out->requests_saved = v[METRIC_CACHE_SAVED_REQUESTS];
    out->bytes_saved = v[METRIC_CACHE_SAVED_BYTES];
    out->compression_ratio =
        v[METRIC_COMPRESSED_TO] ? ratio(v[METRIC_COMPRESSED_FROM], v[METRIC_COMPRESSED_TO]) : 1;
}

void summary_read(const struct summary_input *in, struct recent_totals *scratch, struct summary *out)
{
    *out = (struct summary){.uptime = (double)recent_age(in->recent, in->now) / 1e9};
    recent_read(in->recent, in->length, in->now, scratch);
    const uint64_t *v = scratch->v;
    out->window = (double)scratch->covered / 1e9;
    out->requests_total = v[METRIC_REQUESTS_DONE];
    out->requests_failed = v[METRIC_REQUESTS_FAILED];
    out->error_rate = ratio(v[METRIC_REQUESTS_FAILED], v[METRIC_REQUESTS_DONE]);
    out->throughput = out->window > 0 ? (double)out->requests_total / out->window : 0;
    out->request_latency = spread(&scratch->request);
    out->upstream_latency = spread(&scratch->upstream);
    out->network_latency = spread(&scratch->round_trip);
    out->memory_usage_mb = in->process ? (double)in->process->resident_bytes / 1e6 : 0;
    out->cpu_usage = out->window > 0 ? (double)v[METRIC_PROCESS_CPU] / 1e9 / out->window * 100 : 0;
    out->active_requests = metric_signed(v[METRIC_ACTIVE_REQUESTS]);
    out->connection_pool_size =
        metric_signed(v[METRIC_POOL_IDLE] + v[METRIC_POOL_ACTIVE] + v[METRIC_POOL_CONNECTING]);
    out->retry_count = v[METRIC_RETRIES_DONE];
    out->batch_size = hist_mean(&scratch->batch);
    out->upstream_requests_total = v[METRIC_UPSTREAM_DONE];
    read_cache(v, out);
}
