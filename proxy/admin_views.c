/*
 * What the admin port shows.
 *
 * Invariants: nothing here changes anything; a source that is not there answers 501 by name.
 */
#include <stdlib.h>
#include <string.h>

#include "metrics/summary.h"
#include "proxy/admin_request.h"
#include "proxy/process.h"

/* ---- health ---- */

static void reply_health(struct admin_request *r, bool (*good)(const struct admin_health *))
{
    struct admin_health h = {0};
    struct view *v = view_new();
    r->sources->health(r->sources->ctx, &h);
    bool ok = good(&h);
    if (v) {
        view_text(v, "status", ok ? "ok" : "unavailable");
        view_text(v, "why", ok ? NULL : h.why ? h.why : "No reason was given.");
        view_bool(v, "live", h.live);
        view_bool(v, "started", h.started);
        view_bool(v, "ready", h.ready);
    }
    admin_reply(r, ok ? 200 : 503, v);
}

static bool is_live(const struct admin_health *h)
{
    return h->live;
}

static bool is_ready(const struct admin_health *h)
{
    return h->live && h->started && h->ready;
}

static bool is_started(const struct admin_health *h)
{
    return h->started;
}

void admin_health_live(struct admin_request *r)
{
    reply_health(r, is_live);
}

void admin_health_ready(struct admin_request *r)
{
    reply_health(r, is_ready);
}

void admin_health_startup(struct admin_request *r)
{
    reply_health(r, is_started);
}

/* ---- metrics ---- */

static void read_process(const struct admin_request *r, struct process_values *out)
{
    if (r->sources->process)
        r->sources->process(r->sources->ctx, out);
    else
        process_read(out);
    if (r->block)
        metric_set(r->block, METRIC_PROCESS_CPU, out->cpu_ns);
}

void admin_show_metrics(struct admin_request *r)
{
    const char *accept = admin_field(r, "Accept");
    struct process_values process = {0};
    struct supplied *supplied = calloc(1, sizeof *supplied);
    struct text out = {0};
    bool open = accept && strstr(accept, "application/openmetrics-text");
    read_process(r, &process);
    if (supplied && r->sources->supply)
        r->sources->supply(r->sources->ctx, supplied);
    struct render_input input = {r->sources->metrics, supplied, &process, open, r->sources->custom};
    bool whole = supplied && render_metrics(&input, &out);
    free(supplied);
    if (whole) {
        admin_header(r, "Vary", "Accept");
        admin_reply_text(r, open ? RENDER_TYPE_OPENMETRICS : RENDER_TYPE_PROMETHEUS, &out);
        return;
    }
    text_dispose(&out);
    admin_reply(r, 503, NULL);
}

/* ---- summary ---- */

static void put_spread(struct view *v, const char *key, const struct summary_spread *s)
{
    view_object(v, key);
    view_real(v, "mean", s->mean);
    view_real(v, "p50", s->p50);
    view_real(v, "p90", s->p90);
    view_real(v, "p95", s->p95);
    view_real(v, "p99", s->p99);
    view_real(v, "max", s->max);
    view_uint(v, "count", s->count);
    view_end(v);
}

void admin_put_summary(struct view *v, const struct summary *s)
{
    view_real(v, "window", s->window);
    view_real(v, "uptime", s->uptime);
    view_real(v, "cache_hit_rate", s->cache_hit_rate);
    view_real(v, "error_rate", s->error_rate);
    view_real(v, "throughput", s->throughput);
    put_spread(v, "request_latency", &s->request_latency);
    put_spread(v, "upstream_latency", &s->upstream_latency);
    view_real(v, "network_latency", s->network_latency.mean);
    view_real(v, "memory_usage_mb", s->memory_usage_mb);
    view_real(v, "cpu_usage", s->cpu_usage);
    view_int(v, "active_requests", s->active_requests);
    view_int(v, "connection_pool_size", s->connection_pool_size);
    view_uint(v, "retry_count", s->retry_count);
    view_real(v, "batch_size", s->batch_size);
    view_real(v, "compression_ratio", s->compression_ratio);
    view_uint(v, "requests_total", s->requests_total);
    view_uint(v, "requests_failed", s->requests_failed);
    view_uint(v, "upstream_requests_total", s->upstream_requests_total);
    view_object(v, "cost");
    view_real(v, "fetch_seconds_saved", s->fetch_seconds_saved);
    view_uint(v, "requests_saved", s->requests_saved);
    view_uint(v, "bytes_saved", s->bytes_saved);
    view_end(v);
}

void admin_show_summary(struct admin_request *r)
{
    int64_t length = 0;
    struct process_values process = {0};
    struct summary summary;
    if (!admin_query_duration(r, "window", &length))
        return;
    struct recent_totals *scratch = malloc(sizeof *scratch);
    struct view *v = scratch ? view_new() : NULL;
    if (v) {
        read_process(r, &process);
        struct summary_input input = {r->sources->recent, length, r->sources->now(r->sources->ctx), &process};
        summary_read(&input, scratch, &summary);
        admin_put_summary(v, &summary);
    }
    free(scratch);
    admin_reply(r, 200, v);
}

/* ---- what others fill in ---- */

static void reply_source(struct admin_request *r, void (*source)(void *ctx, struct view *v))
{
    if (!source) {
        admin_absent(r);
        return;
    }
    struct view *v = view_new();
    if (v)
        source(r->sources->ctx, v);
    admin_reply(r, 200, v);
}

void admin_show_cache(struct admin_request *r)
{
    reply_source(r, r->sources->cache);
}

void admin_show_pool(struct admin_request *r)
{
    reply_source(r, r->sources->pool);
}

void admin_show_circuit(struct admin_request *r)
{
    reply_source(r, r->sources->circuit);
}

void admin_show_rate_limits(struct admin_request *r)
{
    reply_source(r, r->sources->rate_limits);
}

void admin_show_cache_entries(struct admin_request *r)
{
    uint64_t limit = 100;
    const char *sort = admin_query(r, "sort");
    if (!r->sources->cache_entries) {
        admin_absent(r);
        return;
    }
    if (!admin_query_number(r, "limit", 10000, &limit) ||
        !admin_query_word(r, "sort", "uri|bytes|hits|age|ttl|status|cost"))
        return;
    struct view *v = view_new();
    if (v)
        r->sources->cache_entries(r->sources->ctx, v, sort ? sort : "", (size_t)limit);
    admin_reply(r, 200, v);
}
