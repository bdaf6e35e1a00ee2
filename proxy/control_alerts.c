/*
 * The alerts of the running process: where their values come from, and who is told. Everything is read where
 * it is kept, by relaxed looks or short locks.
 */
#include <math.h>
#include <time.h>

#include "metrics/custom.h"
#include "metrics/history.h"
#include "proxy/admit.h"
#include "proxy/batcher.h"
#include "proxy/control_internal.h"
#include "proxy/guard.h"
#include "proxy/notify.h"
#include "proxy/permits.h"
#include "proxy/process.h"
#include "proxy/sentry.h"
#include "proxy/settings.h"
#include "proxy/tls.h"

static void process(void *ctx, struct process_values *out)
{
    (void)ctx;
    process_read(out);
}

static double quota_left(void *ctx)
{
    struct control *c = ctx;
    struct admit_left left[QUOTA_WINDOWS];
    double least = NAN;
    int n = admit_left(c->service.admit, left, QUOTA_WINDOWS, control_now());
    for (int i = 0; i < n; i++)
        if (isnan(least) || left[i].share < least)
            least = left[i].share;
    return least;
}

static double circuits_open(void *ctx)
{
    struct control *c = ctx;
    struct guard_view g;
    double n = 0;
    for (int i = 0; guard_look(c->service.guard, i, &g, control_now()); i++)
        n += g.state != BREAKER_CLOSED;
    return n;
}

static double batching_refuted(void *ctx)
{
    struct control *c = ctx;
    return c->cfg->batching_enabled ? batcher_refuted(c->service.batcher) : 0;
}

static bool starved(void *ctx)
{
    struct control *c = ctx;
    return metric_signed(control_gauge(c, METRIC_POOL_WAITING)) > 0 &&
           permits_held(c->service.permits) >= permits_max(c->service.permits);
}

static double certificate_days(void *ctx)
{
    const struct control *c = ctx;
    const struct tls_context *const all[] = {c->published->tls_server, c->published->tls_client};
    int64_t first = admin_certificate_not_after(c->admin);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (all[i] && tls_certificate_not_after(all[i]) < first)
            first = tls_certificate_not_after(all[i]);
    return first == INT64_MAX ? NAN : (double)(first - (int64_t)time(NULL)) / 86400;
}

/* Of a gauge what was posted last; of a counter what was added within performance.alert_window, of a
 * histogram the mean of what was posted in it. */
static double custom(void *ctx, const char *name)
{
    struct control *c = ctx;
    struct history_point p;
    int number = custom_find(c->custom, name);
    if (number < 0)
        return NAN;
    const struct custom_metric *m = custom_metric_at(c->custom, (size_t)number);
    if (m->type == CUSTOM_GAUGE)
        return m->newest;
    if (!c->cfg->performance_enabled || !c->cfg->performance_enable_historical_analysis)
        return NAN; /* windows come out of the time series */
    struct history_series s = {METRIC_TYPE_CUSTOM_METRIC, HISTORY_CUSTOM + number};
    bool any = history_window(c->history, &s, c->cfg->performance_alert_window, control_now(), &p);
    if (m->type == CUSTOM_COUNTER)
        return any ? p.mean * (double)p.count : 0;
    return any ? p.mean : NAN;
}

static void tell(void *ctx, const struct alert_event *events, size_t count)
{
    struct control *c = ctx;
    notify_events(c->notify, events, count, control_now());
    control_events_alerts(c, events, count);
}

bool control_alerts_start(struct control *c)
{
    struct sentry_sources sources = {
        .ctx = c,
        .recent = c->recent,
        .metrics = c->service.metrics,
        .block = metrics_block(c->service.metrics, c->service.worker_count),
        .log = c->service.log,
        .process = process,
        .quota_left = quota_left,
        .circuits_open = circuits_open,
        .batching_refuted = batching_refuted,
        .starved = starved,
        .certificate_days = certificate_days,
        .custom = custom,
    };
    c->sentry = sentry_new(&sources, c->cfg, control_now());
    if (!c->sentry)
        return false;
    struct notify_setup setup = {.post = c->post,
                                 .alerts = sentry_alerts(c->sentry),
                                 .log = c->service.log,
                                 .block = sources.block,
                                 .seed = (uint64_t)control_now()};
    c->notify = notify_new(&setup);
    if (!c->notify)
        return false;
    notify_tune(c->notify, c->cfg);
    sentry_listen(c->sentry, tell, c);
    return true;
}

void control_alerts_tune(struct control *c)
{
    if (!c->notify)
        return;
    sentry_tune(c->sentry, c->cfg, control_now());
    notify_tune(c->notify, c->cfg);
}

void control_alerts_second(struct control *c, tick_t now)
{
    sentry_second(c->sentry, now);
    notify_second(c->notify, now);
}

void control_alerts_stop(struct control *c)
{
    notify_free(c->notify);
    sentry_free(c->sentry);
}
