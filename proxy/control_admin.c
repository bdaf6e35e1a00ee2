/*
 * What the admin port shows of the running process. Everything is read where it is kept, by relaxed
 * looks or short locks; nothing here waits for a worker.
 */
#include <limits.h>
#include <string.h>

#include "metrics/history.h"
#include "metrics/keeper.h"
#include "metrics/observe.h"
#include "metrics/recent.h"
#include "proxy/admit.h"
#include "proxy/ahead.h"
#include "proxy/batcher.h"
#include "proxy/control_internal.h"
#include "proxy/guard.h"
#include "proxy/ledger.h"
#include "proxy/permits.h"
#include "proxy/process.h"
#include "proxy/resolve.h"
#include "proxy/shared.h"
#include "proxy/store.h"

enum { CHANGES_SHOWN = 50 };

static void health(void *ctx, struct admin_health *out)
{
    struct control *c = ctx;
    *out = (struct admin_health){
        .live = true,
        .started = c->stage >= STAGE_SERVING,
        .ready = c->stage == STAGE_SERVING,
        .why = c->stage == STAGE_STARTING   ? "Starting."
               : c->stage == STAGE_DRAINING ? "Draining: the local application is still served."
               : c->stage == STAGE_STOPPING ? "Stopping."
               : c->reload_failed
                   ? "Ready; the last reload was refused, the configuration before it is in force."
                   : "Ready.",
    };
}

static tick_t now_of(void *ctx)
{
    (void)ctx;
    return control_now();
}

static void process(void *ctx, struct process_values *out)
{
    (void)ctx;
    process_read(out);
}

/* What the store counts under its own locks. The control thread's block is ours to write. */
static void note_store(struct control *c, const struct store_stats *s)
{
    struct metrics_block *block = metrics_block(c->service.metrics, c->service.worker_count);
    metric_set(block, METRIC_CACHE_STORES, s->stored);
    metric_set(block, METRIC_CACHE_EVICTIONS, s->evictions);
    metric_set(block, METRIC_CACHE_EXPIRED, s->expired);
    metric_set(block, METRIC_CACHE_PURGED, s->invalidated);
    metric_set(block, METRIC_PREFETCH_WASTED, s->unread[STORE_GUESSED]);
    metric_set(block, METRIC_RENEW_WASTED, s->unread[STORE_RENEWED]);
    metric_set(block, METRIC_AHEAD_HELD, ahead_held_count(c->service.ahead));
}

_Static_assert(GUARD_OPERATIONS >= METRICS_MAX_OPERATIONS, "a breaker for each operation");

const char *control_circuit_name(const struct control *c, int operation)
{
    return operation == GUARD_WAY ? "upstream"
                                  : metrics_operation_name(c->service.metrics, (uint16_t)operation);
}

/* What each bounded pool takes of the process' memory, and may take at most; a limit that is off is left out.
 */
static void supply_memory(struct control *c, const struct store_stats *stats, struct supplied *out)
{
    size_t kept = 0, kept_most = 0, now, most;
    for (int i = 0; i < metrics_blocks(c->service.metrics); i++) {
        keeper_bytes(metrics_keeper(c->service.metrics, i), &now, &most);
        kept += now;
        kept_most += most;
    }
    supply(out, SUPPLIED_MEMORY_POOL, "cache", (double)stats->bytes);
    if (c->cfg->cache_max_memory_bytes)
        supply(out, SUPPLIED_MEMORY_POOL_LIMIT, "cache", (double)c->cfg->cache_max_memory_bytes);
    supply(out, SUPPLIED_MEMORY_POOL, "connections",
           (double)metrics_sum(c->service.metrics, METRIC_CONNECTION_BYTES));
    supply(out, SUPPLIED_MEMORY_POOL, "history", (double)history_bytes(c->history));
    supply(out, SUPPLIED_MEMORY_POOL_LIMIT, "history", (double)HISTORY_BUDGET);
    supply(out, SUPPLIED_MEMORY_POOL, "notes", (double)recent_bytes(c->recent));
    supply(out, SUPPLIED_MEMORY_POOL, "requests", (double)kept);
    supply(out, SUPPLIED_MEMORY_POOL_LIMIT, "requests", (double)kept_most);
}

/* The same of the shared level, which has a thread of its own. */
static void note_shared(struct control *c)
{
    struct shared_stats s;
    struct metrics_block *b = metrics_block(c->service.metrics, c->service.worker_count);
    if (!c->service.shared)
        return;
    shared_stats(c->service.shared, &s);
    const struct {
        enum metric metric;
        uint64_t value;
    } rows[] = {{METRIC_SHARED_HITS, s.hits},
                {METRIC_SHARED_MISSES, s.misses},
                {METRIC_SHARED_FAILURES, s.failures},
                {METRIC_SHARED_SKIPPED, s.skipped},
                {METRIC_SHARED_STORES, s.stores},
                {METRIC_SHARED_STORE_FAILURES, s.store_failures},
                {METRIC_SHARED_TOO_LARGE, s.too_large},
                {METRIC_SHARED_DAMAGED, s.damaged},
                {METRIC_SHARED_PURGED, s.purged},
                {METRIC_SHARED_PURGES_SENT, s.purges_sent},
                {METRIC_SHARED_PURGES_HEARD, s.purges_heard},
                {METRIC_SHARED_CONNECTS, s.connects}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        metric_set(b, rows[i].metric, rows[i].value);
}

void control_supply(void *ctx, struct supplied *out)
{
    struct control *c = ctx;
    struct store_stats stats;
    struct guard_view guard;
    struct guard_budget budget;
    store_stats(c->service.store, &stats);
    note_store(c, &stats);
    note_shared(c);
    control_tiers_note(c);
    if (c->service.shared)
        supply(out, SUPPLIED_SHARED_USABLE, NULL, shared_usable(c->service.shared));
    guard_look_budget(c->service.guard, &budget, control_now());
    control_tiers_supply(c, &stats, out);
    supply_memory(c, &stats, out);
    struct admit_left left[QUOTA_WINDOWS];
    int windows = admit_left(c->service.admit, left, QUOTA_WINDOWS, control_now());
    for (int i = 0; i < windows; i++)
        supply(out, SUPPLIED_QUOTA_REMAINING, left[i].window, (double)left[i].left);
    supply(out, SUPPLIED_CONCURRENCY_LIMIT, NULL, admit_concurrency_limit(c->service.admit));
    supply(out, SUPPLIED_RETRY_BUDGET, NULL, budget.left);
    for (int i = 0; guard_look(c->service.guard, i, &guard, control_now()); i++)
        supply(out, SUPPLIED_CIRCUIT_STATE, control_circuit_name(c, guard.operation), (double)guard.state);
}

/* What is fetched ahead of requests. */
static void show_ahead(struct control *c, struct view *v)
{
    struct ahead_counts counts = {
        .issued = control_gauge(c, METRIC_PREFETCH_ISSUED),
        .used = control_gauge(c, METRIC_PREFETCH_USED),
        .hits = control_gauge(c, METRIC_PREFETCH_HITS),
        .wasted = control_gauge(c, METRIC_PREFETCH_WASTED),
        .renew_issued = control_gauge(c, METRIC_RENEW_ISSUED),
        .renew_used = control_gauge(c, METRIC_RENEW_USED),
        .renew_wasted = control_gauge(c, METRIC_RENEW_WASTED),
    };
    view_object(v, "prefetch");
    ahead_show(c->service.ahead, v, &counts, control_now());
    view_end(v);
}

static void cache(void *ctx, struct view *v)
{
    struct control *c = ctx;
    struct store_stats s;
    store_stats(c->service.store, &s);
    view_uint(v, "entries", s.entries);
    view_uint(v, "bytes", s.bytes);
    view_uint(v, "max_entries", (uint64_t)c->cfg->cache_max_size);
    view_uint(v, "max_bytes", c->cfg->cache_max_memory_bytes);
    view_uint(v, "fills", s.fills);
    view_uint(v, "fill_bytes", s.fill_bytes);
    view_uint(v, "hits", s.hits);
    view_uint(v, "misses", s.misses);
    view_uint(v, "stale", s.stale);
    view_uint(v, "coalesced", s.coalesced);
    view_uint(v, "revalidated", s.revalidated);
    view_uint(v, "stored", s.stored);
    view_uint(v, "evictions", s.evictions);
    control_tiers_show(c, &s, v);
    if (c->service.shared) {
        view_object(v, "shared");
        shared_show(c->service.shared, v);
        view_end(v);
    }
    view_uint(v, "expired", s.expired);
    view_uint(v, "invalidated", s.invalidated);
    note_store(c, &s);
    show_ahead(c, v);
    view_object(v, "batching");
    view_bool(v, "enabled", c->cfg->batching_enabled);
    batcher_show(c->service.batcher, v, control_now());
    view_end(v);
}

static void pool(void *ctx, struct view *v)
{
    struct control *c = ctx;
    struct resolver_status dns;
    view_int(v, "idle", metric_signed(control_gauge(c, METRIC_POOL_IDLE)));
    view_int(v, "active", metric_signed(control_gauge(c, METRIC_POOL_ACTIVE)));
    view_int(v, "connecting", metric_signed(control_gauge(c, METRIC_POOL_CONNECTING)));
    view_int(v, "waiting", metric_signed(control_gauge(c, METRIC_POOL_WAITING)));
    view_uint(v, "permits", permits_held(c->service.permits));
    view_uint(v, "max_size", permits_max(c->service.permits));
    view_uint(v, "opened", control_gauge(c, METRIC_POOL_OPENED));
    view_uint(v, "closed", control_gauge(c, METRIC_POOL_CLOSED));
    view_uint(v, "reused", control_gauge(c, METRIC_POOL_REUSED));
    resolver_status(c->service.resolver, &dns);
    view_object(v, "dns");
    view_uint(v, "addresses", dns.count);
    view_uint(v, "version", dns.version);
    view_uint(v, "lookups", dns.lookups);
    view_uint(v, "failures", dns.failures);
    view_text(v, "error", dns.error);
    view_end(v);
}

/* What retrying has been worth, by what it was for. */
static void retries(const struct metrics *m, struct view *v)
{
    struct retry_worth row[64];
    int n = metrics_retry_worth(m, row, ARRAY_LEN(row));
    view_array(v, "retries");
    for (int i = 0; i < n; i++) {
        char room[METRICS_LABEL_ROOM];
        view_object(v, NULL);
        view_text(v, "reason",
                  row[i].code == UINT_MAX ? "other" : metrics_outcome_name(m, row[i].code, room));
        view_uint(v, "sent", row[i].sent);
        view_uint(v, "succeeded", row[i].succeeded);
        view_real(v, "success_rate", row[i].sent ? (double)row[i].succeeded / (double)row[i].sent : 0);
        view_end(v);
    }
    view_end(v);
}

/* One for the way to the upstream, by the name "upstream", and one for each operation that was called. */
static void circuit(void *ctx, struct view *v)
{
    struct control *c = ctx;
    struct guard_view g;
    struct guard_budget budget;
    tick_t now = control_now();
    guard_look_budget(c->service.guard, &budget, now);
    for (int i = 0; guard_look(c->service.guard, i, &g, now); i++) {
        view_object(v, control_circuit_name(c, g.operation));
        view_text(v, "state", breaker_state_name(g.state));
        view_text(v, "cause", breaker_cause_name(g.cause));
        view_uint(v, "opened", g.opened);
        view_real(v, "seconds_in_state", (double)(now - g.since) / (double)TICK_S);
        if (g.state == BREAKER_OPEN)
            view_real(v, "next_probe_in", (double)(g.until - now) / (double)TICK_S);
        if (g.operation == GUARD_WAY) {
            view_real(v, "failure_rate", budget.failure_rate);
            view_real(v, "retry_budget", budget.left);
            retries(c->service.metrics, v);
        }
        view_end(v);
    }
}

static void circuit_history(void *ctx, struct view *v)
{
    struct control *c = ctx;
    struct guard_change change;
    uint64_t next = guard_changes(c->service.guard);
    view_uint(v, "total", next);
    view_array(v, "changes"); /* newest first */
    for (uint64_t i = 0; i < CHANGES_SHOWN && i < next; i++)
        if (guard_change(c->service.guard, next - 1 - i, &change)) {
            view_object(v, NULL);
            control_put_change(c, v, &change);
            view_end(v);
        }
    view_end(v);
}

static void rate_limits(void *ctx, struct view *v)
{
    struct control *c = ctx;
    admit_show(c->service.admit, v, control_now());
    if (c->service.ledger)
        ledger_show(c->service.ledger, v);
}

static const struct config *snapshot(void *ctx)
{
    struct control *c = ctx;
    return c->cfg;
}

static void drain(void *ctx)
{
    control_drain(ctx);
}

static int64_t purge(void *ctx, enum admin_purge kind, struct slice what)
{
    struct control *c = ctx;
    static const enum store_purge_kind kinds[] = {
        [PURGE_KEY] = STORE_PURGE_KEY,
        [PURGE_PREFIX] = STORE_PURGE_PREFIX,
        [PURGE_TAG] = STORE_PURGE_TAG,
        [PURGE_ALL] = STORE_PURGE_ALL,
    };
    size_t count = store_purge(c->service.store, kinds[kind], what);
    control_tiers_settle(c);
    return (int64_t)count;
}

static bool reset(void *ctx, const char *name)
{
    struct control *c = ctx;
    struct guard_view g;
    for (int i = 0; guard_look(c->service.guard, i, &g, control_now()); i++)
        if (strcmp(name, control_circuit_name(c, g.operation)) == 0) {
            guard_reset(c->service.guard, g.operation, control_now());
            return true;
        }
    return false;
}

void control_sources(struct control *c, struct admin_sources *out)
{
    *out = (struct admin_sources){
        .ctx = c,
        .metrics = c->service.metrics,
        .recent = c->recent,
        .history = c->history,
        .custom = c->custom,
        .health = health,
        .now = now_of,
        .process = process,
        .supply = control_supply,
        .cache = cache,
        .cache_entries = control_entries,
        .pool = pool,
        .circuit = circuit,
        .circuit_history = circuit_history,
        .rate_limits = rate_limits,
        .snapshot = snapshot,
        .change = control_change,
        .adviser = c->adviser,
        .sentry = c->sentry,
        .notify = c->notify,
        .debug = c->service.debug,
        .log = c->service.log,
        .drain = drain,
        .purge = purge,
        .circuit_reset = reset,
    };
}
