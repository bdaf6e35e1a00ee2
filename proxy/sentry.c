/*
 * Values for the alerts, from sums over a window and from what the sidecar's parts say now. Invariants: a
 * ratio of too few events is unknown, not zero; what the admin port has set lies over the configuration,
 * whatever is reloaded.
 */
#include "proxy/sentry.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "metrics/metric_type.h"
#include "policy/alert_rules.h"
#include "policy/burn.h"
#include "policy/config.h"
#include "proxy/log.h"

enum { FEW = 10 /* events, below which a ratio or a mean says nothing */, STARVED_SECONDS = 60 };

struct sentry {
    struct sentry_sources sources;
    struct alerts *alerts;
    struct burn burn;
    uint64_t all, bad; /* requests that burn knows of */
    uint64_t starved;  /* one bit a second, the newest the lowest */
    unsigned seconds;  /* of those that were looked at */
    tick_t interval, window, cooldown, next;
    double objective;
    bool enabled;
    const struct alert_spec *admin[SENTRY_ADMIN_MOST];
    size_t admin_count;
    const struct config *cfg; /* whose rules are in force; a reference */
    sentry_listener *listener;
    void *listener_ctx;
    struct recent_totals totals; /* of the window, while judging */
    struct summary summary;
    tick_t now;
};

int64_t sentry_wall(tick_t at, tick_t now)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * TICK_S + t.tv_nsec - (now - at);
}

/* ---- values ---- */

static double amplification(const uint64_t *v)
{
    uint64_t again = v[METRIC_RETRIES_DONE] + v[METRIC_HEDGES_SENT], all = v[METRIC_UPSTREAM_DONE];
    return all >= 2 * FEW && again < all ? (double)all / (double)(all - again) : NAN;
}

/* Is there enough of it to be said? */
static bool known(const struct sentry *w, int metric)
{
    const struct summary *s = &w->summary;
    switch (metric) {
    case ALERT_METRIC_REQUEST_LATENCY:
    case ALERT_METRIC_ERROR_RATE:
        return s->requests_total >= FEW;
    case ALERT_METRIC_NETWORK_LATENCY:
        return s->network_latency.count > 0;
    case ALERT_METRIC_CACHE_HIT_RATE:
        return s->cache_hits + s->cache_stale + s->cache_misses + s->cache_coalesced >= 2 * FEW;
    case ALERT_METRIC_BATCH_SIZE:
        return w->totals.batch.count > 0;
    case ALERT_METRIC_COMPRESSION_RATIO:
        return w->totals.v[METRIC_COMPRESSED_TO] > 0;
    default:
        return true;
    }
}

static double value_of(void *ctx, const struct alert_rule *rule)
{
    struct sentry *w = ctx;
    const struct sentry_sources *s = &w->sources;
    double out = NAN;
    switch (rule->metric) {
    case ALERT_METRIC_CUSTOM_METRIC:
        return s->custom(s->ctx, rule->metric_name);
    case ALERT_METRIC_QUOTA_REMAINING:
        return s->quota_left(s->ctx);
    case ALERT_METRIC_CIRCUITS_OPEN:
        return s->circuits_open(s->ctx);
    case ALERT_METRIC_BATCHING_REFUTED:
        return s->batching_refuted(s->ctx);
    case ALERT_METRIC_POOL_STARVATION:
        return w->seconds < FEW ? NAN
                                : __builtin_popcountll(w->starved & ((UINT64_C(1) << STARVED_SECONDS) - 1)) /
                                      (double)w->seconds;
    case ALERT_METRIC_CERTIFICATE_DAYS:
        return s->certificate_days(s->ctx);
    case ALERT_METRIC_RETRY_AMPLIFICATION:
        return amplification(w->totals.v);
    case ALERT_METRIC_ERROR_BUDGET_BURN_FAST:
    case ALERT_METRIC_ERROR_BUDGET_BURN_SLOW:
    case ALERT_METRIC_ERROR_BUDGET_BURN_TICKET:
        return burn_pair(&w->burn, (enum burn_pair)(rule->metric - ALERT_METRIC_ERROR_BUDGET_BURN_FAST),
                         w->objective, w->now);
    default: /* the guide's: in the same order in both tables */
        if (!known(w, rule->metric) || !metric_type_value(&w->summary, (enum metric_type)rule->metric, &out))
            return NAN;
        return out;
    }
}

_Static_assert((int)METRIC_TYPE_CUSTOM_METRIC == (int)ALERT_METRIC_CUSTOM_METRIC &&
                   (int)METRIC_TYPE_COMPRESSION_RATIO == (int)ALERT_METRIC_COMPRESSION_RATIO,
               "the guide's types have the same numbers in both tables");

/* ---- rules ---- */

/* False: out of memory; the old ones stay. */
static bool make_rules(struct sentry *w, tick_t now)
{
    const struct config *cfg = w->cfg;
    struct alert_spec *admin = calloc(w->admin_count + 1, sizeof *admin);
    size_t room = alert_rules_built_in() + cfg->alerts.count + w->admin_count;
    struct alert_rule *rules = calloc(room + 1, sizeof *rules);
    bool good = admin && rules;
    if (good) {
        for (size_t i = 0; i < w->admin_count; i++)
            admin[i] = *w->admin[i];
        struct alert_rules_setup setup = {cfg->alerts.items, admin, cfg->alerts.count, w->admin_count,
                                          w->cooldown};
        size_t count = w->enabled ? alert_rules(&setup, rules, room) : 0;
        good = alerts_set_rules(w->alerts, rules, count, now);
    }
    free(admin);
    free(rules);
    return good;
}

void sentry_tune(struct sentry *w, const struct config *cfg, tick_t now)
{
    config_ref(cfg);
    config_unref(w->cfg);
    w->cfg = cfg;
    w->enabled = cfg->performance_enabled && cfg->performance_enable_alerting;
    w->interval = cfg->performance_alert_interval;
    w->window = cfg->performance_alert_window;
    w->cooldown = cfg->performance_alert_cooldown_seconds * TICK_S;
    w->objective = cfg->performance_objective;
    if (w->next > now + w->interval)
        w->next = now + w->interval;
    if (!make_rules(w, now))
        log_write(w->sources.log, LOG_WARNING, "alerts", "out of memory: the rules before stay in force");
}

struct sentry *sentry_new(const struct sentry_sources *sources, const struct config *cfg, tick_t now)
{
    struct sentry *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->sources = *sources;
    w->alerts = alerts_new();
    if (!w->alerts) {
        free(w);
        return NULL;
    }
    burn_init(&w->burn, now);
    sentry_tune(w, cfg, now);
    w->next = now + w->interval;
    return w;
}

void sentry_free(struct sentry *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->admin_count; i++)
        alert_spec_free(w->admin[i]);
    config_unref(w->cfg);
    alerts_free(w->alerts);
    free(w);
}

void sentry_listen(struct sentry *w, sentry_listener *listener, void *ctx)
{
    w->listener = listener;
    w->listener_ctx = ctx;
}

bool sentry_enabled(const struct sentry *w)
{
    return w->enabled;
}

struct alerts *sentry_alerts(struct sentry *w)
{
    return w->alerts;
}

/* ---- what the admin port sets ---- */

static size_t find_admin(const struct sentry *w, const char *id)
{
    size_t at = 0;
    while (at < w->admin_count && strcmp(w->admin[at]->id, id) != 0)
        at++;
    return at;
}

bool sentry_set(struct sentry *w, const struct alert_spec *spec, tick_t now)
{
    size_t at = find_admin(w, spec->id);
    if (at == SENTRY_ADMIN_MOST)
        return false;
    const struct alert_spec *was = at < w->admin_count ? w->admin[at] : NULL;
    w->admin[at] = spec;
    w->admin_count += !was;
    if (make_rules(w, now)) {
        alert_spec_free(was);
        return true;
    }
    w->admin[at] = was;
    w->admin_count -= !was;
    return false;
}

enum sentry_unset sentry_unset(struct sentry *w, const char *id, tick_t now)
{
    size_t at = find_admin(w, id);
    struct alert_view view;
    char what[768];
    if (at < w->admin_count) {
        const struct alert_spec *was = w->admin[at];
        w->admin[at] = w->admin[--w->admin_count];
        if (make_rules(w, now)) {
            alert_spec_free(was);
            return SENTRY_REMOVED;
        }
        w->admin[w->admin_count++] = w->admin[at];
        w->admin[at] = was;
        return SENTRY_NO_ROOM;
    }
    if (!alerts_find(w->alerts, id, &view))
        return SENTRY_UNKNOWN;
    struct alert_field off[] = {{"id", id}, {"enabled", "false"}};
    const struct alert_spec *spec = alert_spec_read(off, ARRAY_LEN(off), what, sizeof what);
    if (spec && sentry_set(w, spec, now))
        return SENTRY_SWITCHED_OFF;
    alert_spec_free(spec);
    return SENTRY_NO_ROOM;
}

/* ---- judging ---- */

static void say(const struct sentry *w, const struct alert_event *e)
{
    struct alert_view view;
    bool there = alerts_find(w->alerts, e->id, &view), over = e->kind == ALERT_EVENT_RESOLVED;
    log_write(w->sources.log, over || e->severity <= ALERT_INFO ? LOG_INFO : LOG_WARNING, "alerts",
              "%s %s (%s): %s %s %g, is %g%s. %s", e->id, alert_event_name(e->kind),
              alert_severity_name(e->severity), alert_metric_name(e->metric), alert_compare_name(e->compare),
              e->threshold, e->value, e->told ? "" : "; silenced, or told already by another",
              there && !over ? view.rule->message : "");
}

static void count(struct sentry *w, const struct alert_event *events, size_t n)
{
    unsigned firing[ALERT_SEVERITY_COUNT];
    static const enum metric gauges[ALERT_SEVERITY_COUNT] = {METRIC_ALERTS_INFO, METRIC_ALERTS_WARNING,
                                                             METRIC_ALERTS_ERROR, METRIC_ALERTS_CRITICAL};
    alerts_firing(w->alerts, firing);
    for (int i = 0; i < ALERT_SEVERITY_COUNT; i++)
        metric_set(w->sources.block, gauges[i], firing[i]);
    for (size_t i = 0; i < n; i++)
        if (events[i].kind == ALERT_EVENT_RESOLVED)
            metric_add(w->sources.block, METRIC_ALERTS_RESOLVED, 1);
        else if (events[i].kind == ALERT_EVENT_RAISED && !events[i].late)
            metric_add(w->sources.block, METRIC_ALERTS_RAISED, 1);
}

static void judge(struct sentry *w, tick_t now)
{
    struct process_values process = {0};
    struct alert_event *events;
    uint64_t first;
    w->now = now;
    w->sources.process(w->sources.ctx, &process);
    struct summary_input input = {w->sources.recent, w->window, now, &process};
    summary_read(&input, &w->totals, &w->summary);
    size_t n = alerts_step(w->alerts, value_of, w, now, &first), found = 0;
    events = calloc(n + 1, sizeof *events);
    if (!events)
        return; /* they stay in the history */
    for (size_t i = 0; i < n; i++)
        found += alerts_event(w->alerts, first + i, &events[found]);
    for (size_t i = 0; i < found; i++)
        say(w, &events[i]);
    count(w, events, found);
    if (found && w->listener)
        w->listener(w->listener_ctx, events, found);
    free(events);
}

void sentry_second(struct sentry *w, tick_t now)
{
    uint64_t all = metrics_sum(w->sources.metrics, METRIC_REQUESTS_DONE);
    uint64_t bad = metrics_sum(w->sources.metrics, METRIC_REQUESTS_FAILED);
    bad = bad - w->bad > all - w->all ? w->bad + (all - w->all) : bad; /* the set is no snapshot */
    burn_add(&w->burn, all - w->all, bad - w->bad, now);
    w->all = all;
    w->bad = bad;
    w->starved = w->starved << 1 | w->sources.starved(w->sources.ctx);
    w->seconds += w->seconds < STARVED_SECONDS;
    if (now + TICK_S / 4 < w->next) /* a second of the timer is not always a whole one */
        return;
    w->next = now + w->interval;
    judge(w, now);
}
