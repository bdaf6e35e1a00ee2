/*
 * The snapshot: each section is a function that writes one member.
 *
 * Invariants: nothing here waits, and nothing takes time that grows with the number of stored entries; counts
 * are since the start unless the member says `window`; what is not known is null or left out, never 0.
 */
#include "proxy/admin_snapshot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "metrics/history.h"
#include "metrics/series.h"
#include "metrics/summary.h"
#include "policy/config.h"
#include "proxy/admin_request.h"
#include "proxy/process.h"
#include "proxy/version.h"

/* The summary's window; that of the numbers by operation. */
#define SNAPSHOT_WINDOW  (60 * TICK_S)
#define OPERATION_WINDOW (300 * TICK_S)

enum { REQUESTS_SHOWN = 10 };

struct snapshot {
    const struct admin_sources *sources;
    const struct config *cfg; /* may be NULL */
    tick_t now;
    struct process_values process;
    struct supplied supplied;
    struct recent_totals totals; /* of SNAPSHOT_WINDOW, once put_summary has read them */
    struct hist_counts counts;   /* scratch */
};

/* ---- what it is ---- */

static void put_time(struct snapshot *s, struct view *v)
{
    char when[LOG_TIME_BYTES];
    struct timespec t;
    (void)s;
    clock_gettime(CLOCK_REALTIME, &t);
    log_time(t.tv_sec * TICK_S + t.tv_nsec, when);
    view_text(v, "time", when);
}

static void put_service(struct snapshot *s, struct view *v)
{
    const struct config *cfg = s->cfg;
    struct admin_health h = {0};
    s->sources->health(s->sources->ctx, &h);
    view_object(v, "service");
    view_text(v, "name", cfg ? cfg->performance_service_name : NULL);
    view_text(v, "version", PROMPTOPS_SIDECAR_VERSION);
    view_text(v, "upstream", cfg ? cfg->upstream_url.host : NULL);
    view_int(v, "workers", metrics_blocks(s->sources->metrics) - 1);
    view_bool(v, "ready", h.live && h.started && h.ready);
    view_text(v, "why", h.why);
    view_real(v, "started", s->process.start_time);
    view_bool(v, "measuring", !cfg || cfg->performance_enabled);
    view_bool(v, "live", cfg && cfg->performance_enabled && cfg->performance_enable_real_time_monitoring);
    view_real(v, "refresh_interval",
              cfg ? (double)cfg->performance_dashboard_refresh_interval / (double)TICK_S : 30);
    view_end(v);
}

static void put_summary(struct snapshot *s, struct view *v)
{
    struct summary summary;
    struct summary_input input = {s->sources->recent, SNAPSHOT_WINDOW, s->now, &s->process};
    summary_read(&input, &s->totals, &summary);
    view_object(v, "summary");
    admin_put_summary(v, &summary);
    view_end(v);
}

/* ---- requests ---- */

static void put_spread(struct view *v, const char *key, const struct hist_counts *c)
{
    view_object(v, key);
    view_uint(v, "count", c->count);
    view_real(v, "mean", c->count ? hist_mean(c) / 1e9 : NAN);
    view_real(v, "p50", c->count ? hist_quantile(c, 0.50) / 1e9 : NAN);
    view_real(v, "p90", c->count ? hist_quantile(c, 0.90) / 1e9 : NAN);
    view_real(v, "p95", c->count ? hist_quantile(c, 0.95) / 1e9 : NAN);
    view_real(v, "p99", c->count ? hist_quantile(c, 0.99) / 1e9 : NAN);
    view_real(v, "max", c->count ? (double)c->max / 1e9 : NAN);
    view_end(v);
}

/* The last OPERATION_WINDOW of an operation: nulls when nothing was measured in it. */
static void put_window(struct snapshot *s, struct view *v, int operation)
{
    struct history_series latency = {METRIC_TYPE_REQUEST_LATENCY, operation};
    struct history_series rate = {METRIC_TYPE_THROUGHPUT, operation};
    struct history_point p = {0}, q = {0};
    struct history *h = s->sources->history;
    bool known = h && history_window(h, &latency, OPERATION_WINDOW, s->now, &p) && p.count;
    bool rated = h && history_window(h, &rate, OPERATION_WINDOW, s->now, &q);
    view_object(v, "window");
    view_real(v, "seconds", (double)OPERATION_WINDOW / (double)TICK_S);
    view_real(v, "throughput", rated ? q.mean : NAN);
    view_uint(v, "count", p.count);
    view_real(v, "mean", known ? p.mean : NAN);
    view_real(v, "p50", known ? p.p50 : NAN);
    view_real(v, "p95", known ? p.p95 : NAN);
    view_real(v, "p99", known ? p.p99 : NAN);
    view_real(v, "max", known ? p.max : NAN);
    view_end(v);
}

static void put_operations(struct snapshot *s, struct view *v)
{
    const struct metrics *m = s->sources->metrics;
    view_array(v, "by_operation");
    for (unsigned i = 0; i < metrics_operations(m); i++) {
        uint16_t operation = (uint16_t)i;
        uint64_t requests = metrics_operation_sum(m, operation, TALLY_REQUESTS);
        if (!requests)
            continue;
        view_object(v, NULL);
        view_text(v, "operation", metrics_operation_name(m, operation));
        view_uint(v, "requests", requests);
        view_uint(v, "failed", metrics_operation_sum(m, operation, TALLY_FAILED));
        view_uint(v, "asked_of_cache", metrics_operation_sum(m, operation, TALLY_ASKED));
        view_uint(v, "answered_from_cache", metrics_operation_sum(m, operation, TALLY_ANSWERED));
        view_uint(v, "retries", metrics_operation_sum(m, operation, TALLY_RETRIES));
        put_window(s, v, (int)i);
        view_end(v);
    }
    view_end(v);
}

/* All blocks' tuples of a series, summed up. Returns how many; *all is to be freed. */
static size_t read_series(const struct metrics *m, enum series_id id, struct series_count **all)
{
    size_t n = 0, room = 0;
    for (int b = 0; b < metrics_blocks(m); b++)
        room += series_places(metrics_series(m, b, id));
    *all = malloc((room + 1) * sizeof **all);
    if (!*all)
        return 0;
    for (int b = 0; b < metrics_blocks(m); b++) {
        const struct series *one = metrics_series(m, b, id);
        for (size_t i = 0; i < series_places(one); i++)
            if (series_at(one, i, &(*all)[n].key, &(*all)[n].count) && (*all)[n].count)
                n++;
    }
    return series_merge(*all, n);
}

static void put_statuses(struct snapshot *s, struct view *v)
{
    struct series_count *all;
    uint64_t by_status[1000] = {0}, by_cache[VERDICT_COUNT] = {0}, folded = 0;
    size_t n = read_series(s->sources->metrics, SERIES_REQUESTS, &all);
    for (size_t i = 0; i < n; i++) {
        struct series_tuple t = metrics_tuple(all[i].key);
        if (t.other || t.code >= 1000 || t.cache >= VERDICT_COUNT) {
            folded += all[i].count;
            continue;
        }
        by_status[t.code] += all[i].count;
        by_cache[t.cache] += all[i].count;
    }
    free(all);
    view_array(v, "by_status"); /* 0: no answer was sent */
    for (unsigned i = 0; i < 1000; i++)
        if (by_status[i]) {
            view_object(v, NULL);
            view_uint(v, "status", i);
            view_uint(v, "count", by_status[i]);
            view_end(v);
        }
    view_end(v);
    view_array(v, "by_cache");
    for (unsigned i = 0; i < VERDICT_COUNT; i++)
        if (by_cache[i]) {
            view_object(v, NULL);
            view_text(v, "cache", cache_word_name(i));
            view_uint(v, "count", by_cache[i]);
            view_end(v);
        }
    view_end(v);
    view_uint(v, "folded", folded);
}

/* Retries by reason, and attempts by outcome: [{operation, <word>, count}]. */
static void put_codes(struct snapshot *s, struct view *v, enum series_id id, const char *list,
                      const char *word)
{
    struct series_count *all;
    const struct metrics *m = s->sources->metrics;
    size_t n = read_series(m, id, &all);
    view_array(v, list);
    for (size_t i = 0; i < n; i++) {
        char room[8];
        struct series_tuple t = metrics_tuple(all[i].key);
        view_object(v, NULL);
        view_text(v, "operation", t.other ? "other" : metrics_operation_name(m, t.operation));
        view_text(v, word, t.other ? "other" : metrics_outcome_name(m, t.code, room));
        view_uint(v, "count", all[i].count);
        view_end(v);
    }
    view_end(v);
    free(all);
}

/* The spread as buckets: the counts between two bounds of a doubling each, in seconds. */
static void put_distribution(struct snapshot *s, struct view *v)
{
    const struct hist_counts *c = &s->totals.request;
    unsigned last = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        if (c->v[i])
            last = i;
    view_object(v, "distribution");
    view_real(v, "window", (double)s->totals.covered / 1e9);
    view_array(v, "buckets");
    uint64_t below = 0, count = 0;
    for (unsigned i = 0; c->count && i < HIST_BUCKETS; i++) {
        count += c->v[i];
        if (hist_upper(i) < 1024 || (i + 1) % (HIST_PAGE / 4) != 0)
            continue; /* four bounds a doubling */
        view_object(v, NULL);
        view_real(v, "from", (double)below / 1e9);
        view_real(v, "to", (double)hist_upper(i) / 1e9);
        view_uint(v, "count", count);
        view_end(v);
        below = hist_upper(i);
        count = 0;
        if (i >= last)
            break;
    }
    view_end(v);
    view_end(v);
}

static void put_requests(struct snapshot *s, struct view *v)
{
    view_object(v, "requests");
    view_int(v, "active", metric_signed(metrics_sum(s->sources->metrics, METRIC_ACTIVE_REQUESTS)));
    put_operations(s, v);
    put_statuses(s, v);
    put_codes(s, v, SERIES_RETRIES, "retries_by_reason", "reason");
    put_codes(s, v, SERIES_UPSTREAM, "upstream_by_outcome", "outcome");
    put_distribution(s, v);
    admin_put_notable(s->sources, v, "slowest", REQUESTS_SHOWN, false);
    admin_put_notable(s->sources, v, "failed", REQUESTS_SHOWN, true);
    view_end(v);
}

/* ---- cache ---- */

static void put_tiers(const struct snapshot *s, struct view *v)
{
    view_array(v, "tiers");
    for (size_t i = 0; i < s->supplied.count; i++) {
        const struct supplied_gauge *g = &s->supplied.gauge[i];
        if (g->id != SUPPLIED_CACHE_ENTRIES)
            continue;
        view_object(v, NULL);
        view_text(v, "tier", g->label);
        view_real(v, "entries", g->value);
        for (size_t k = 0; k < s->supplied.count; k++)
            if (s->supplied.gauge[k].id == SUPPLIED_CACHE_BYTES &&
                strcmp(s->supplied.gauge[k].label, g->label) == 0)
                view_real(v, "bytes", s->supplied.gauge[k].value);
        view_end(v);
    }
    view_end(v);
}

static void put_cache(struct snapshot *s, struct view *v)
{
    const struct metrics *m = s->sources->metrics;
    uint64_t issued = metrics_sum(m, METRIC_PREFETCH_ISSUED), used = metrics_sum(m, METRIC_PREFETCH_USED);
    view_object(v, "cache");
    if (s->sources->cache)
        s->sources->cache(s->sources->ctx, v);
    view_bool(v, "enabled", s->cfg && s->cfg->cache_enabled);
    put_tiers(s, v);
    view_object(v, "saved");
    view_real(v, "seconds", (double)metrics_sum(m, METRIC_CACHE_SAVED) / 1e9);
    view_uint(v, "requests", metrics_sum(m, METRIC_CACHE_SAVED_REQUESTS));
    view_uint(v, "bytes", metrics_sum(m, METRIC_CACHE_SAVED_BYTES));
    view_end(v);
    view_object(v, "prefetch");
    view_uint(v, "issued", issued);
    view_uint(v, "used", used);
    view_real(v, "accuracy", issued ? (double)used / (double)issued : NAN);
    view_end(v);
    view_end(v);
}

/* ---- network ---- */

static void put_phases(struct snapshot *s, struct view *v)
{
    static const struct {
        const char *name;
        enum histogram_id id;
        int part;
    } phases[] = {{"pool_wait", HISTOGRAM_POOL_WAIT, 0},
                  {"dns", HISTOGRAM_CONNECT, 0},
                  {"tcp", HISTOGRAM_CONNECT, 1},
                  {"tls", HISTOGRAM_CONNECT, 2},
                  {"first_byte", HISTOGRAM_FIRST_BYTE, 0},
                  {"round_trip", HISTOGRAM_ROUND_TRIP, 0},
                  {"upstream", HISTOGRAM_UPSTREAM, METRICS_ALL}};
    view_object(v, "phases");
    for (size_t i = 0; i < ARRAY_LEN(phases); i++) {
        memset(&s->counts, 0, sizeof s->counts);
        metrics_histogram(s->sources->metrics, phases[i].id, phases[i].part, &s->counts);
        put_spread(v, phases[i].name, &s->counts);
    }
    view_end(v);
}

static void put_source(struct snapshot *s, struct view *v, const char *name,
                       void (*source)(void *ctx, struct view *v))
{
    if (!source)
        return;
    view_object(v, name);
    source(s->sources->ctx, v);
    view_end(v);
}

static void put_network(struct snapshot *s, struct view *v)
{
    view_object(v, "network");
    put_source(s, v, "pool", s->sources->pool);
    put_phases(s, v);
    put_source(s, v, "circuit", s->sources->circuit);
    put_source(s, v, "circuit_history", s->sources->circuit_history);
    put_source(s, v, "rate_limits", s->sources->rate_limits);
    view_end(v);
}

/* ---- the process, and what asks for attention ---- */

static void put_process(struct snapshot *s, struct view *v)
{
    view_object(v, "process");
    view_real(v, "cpu_seconds", (double)s->process.cpu_ns / 1e9);
    view_uint(v, "resident_bytes", s->process.resident_bytes);
    view_uint(v, "virtual_bytes", s->process.virtual_bytes);
    view_uint(v, "open_files", s->process.open_files);
    view_uint(v, "max_files", s->process.max_files);
    view_uint(v, "threads", s->process.threads);
    if (s->sources->history) {
        view_uint(v, "history_bytes", history_bytes(s->sources->history));
        view_uint(v, "history_dropped", history_dropped(s->sources->history));
    }
    view_end(v);
}

static void put_alerts(struct snapshot *s, struct view *v)
{
    view_object(v, "alerts");
    admin_put_alerts(s->sources, v, NULL);
    view_end(v);
}

static void put_advice(struct snapshot *s, struct view *v)
{
    view_object(v, "recommendations");
    admin_put_advice(s->sources, v);
    view_end(v);
}

#define SECTIONS                                                                                             \
    SECTION(time)                                                                                            \
    SECTION(service)                                                                                         \
    SECTION(summary)                                                                                         \
    SECTION(requests)                                                                                        \
    SECTION(cache)                                                                                           \
    SECTION(network)                                                                                         \
    SECTION(process)                                                                                         \
    SECTION(alerts)                                                                                          \
    SECTION_AS(recommendations, advice)

#define SECTION_AS(name, function) #name,
#define SECTION(name)              #name,
const char *const snapshot_sections[SNAPSHOT_SECTIONS] = {SECTIONS};
#undef SECTION_AS
#undef SECTION

#define SECTION_AS(name, function) put_##function,
#define SECTION(name)              put_##name,
static void (*const writers[SNAPSHOT_SECTIONS])(struct snapshot *s, struct view *v) = {SECTIONS};

struct view *snapshot_view(const struct admin_sources *sources)
{
    struct snapshot *s = calloc(1, sizeof *s);
    struct view *v = s ? view_new() : NULL;
    if (v) {
        s->sources = sources;
        s->cfg = sources->snapshot ? sources->snapshot(sources->ctx) : NULL;
        s->now = sources->now(sources->ctx);
        if (sources->process)
            sources->process(sources->ctx, &s->process);
        else
            process_read(&s->process);
        if (sources->supply)
            sources->supply(sources->ctx, &s->supplied);
        for (size_t i = 0; i < SNAPSHOT_SECTIONS; i++)
            writers[i](s, v);
    }
    free(s);
    return v;
}

void admin_show_snapshot(struct admin_request *r)
{
    admin_reply(r, 200, snapshot_view(r->sources));
}
