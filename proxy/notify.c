/*
 * A courier for each receiver. Invariant: a receiver that stays in the configuration keeps its courier, and
 * so what waits for it.
 */
#include "proxy/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy/config.h"
#include "proxy/courier.h"
#include "proxy/log.h"
#include "proxy/post.h"
#include "proxy/sentry.h"
#include "proxy/view.h"

#define TIMEOUT      (10 * TICK_S)
#define RESEND       (NOTIFY_RESEND_SECONDS * TICK_S)
#define MANAGER_PATH "/api/v2/alerts"

enum { KIND_EVENTS, KIND_RESENT /* the next of this kind says the same and more */ };

struct receiver {
    struct notify *owner;
    char *url;  /* as configured: what it is known by */
    char *host; /* for people: the rest may be a secret */
    int format;
    struct courier *courier;
    tick_t resend_at;
};

struct notify {
    struct notify_setup setup;
    struct receiver *receivers[NOTIFY_RECEIVERS];
    size_t count;
    char service[128], upstream[256], instance[128];
};

/* ---- counting ---- */

static void count_call(void *ctx, const struct courier_call *call)
{
    struct receiver *r = ctx;
    if (call->verdict == COURIER_AGAIN && call->attempt < NOTIFY_ATTEMPTS)
        metric_add(r->owner->setup.block, METRIC_NOTIFICATIONS_RETRIED, 1);
}

static void count_end(void *ctx, enum courier_end end, unsigned units, unsigned kind)
{
    static const enum metric metrics[] = {[COURIER_TAKEN] = METRIC_NOTIFICATIONS_SENT,
                                          [COURIER_GIVEN_UP] = METRIC_NOTIFICATIONS_FAILED,
                                          [COURIER_REFUSED] = METRIC_NOTIFICATIONS_FAILED,
                                          [COURIER_DROPPED] = METRIC_NOTIFICATIONS_DROPPED};
    struct receiver *r = ctx;
    (void)units;
    (void)kind;
    metric_add(r->owner->setup.block, metrics[end], 1);
}

/* ---- receivers ---- */

static void receiver_free(struct receiver *r)
{
    courier_free(r->courier);
    free(r->url);
    free(r->host);
    free(r);
}

/* Where messages go: an Alertmanager's URL may be its root. */
static char *target_of(const char *url, int format)
{
    size_t n = strlen(url);
    if (format != WEBHOOK_ALERTMANAGER || strstr(url, MANAGER_PATH))
        return strdup(url);
    while (n && url[n - 1] == '/')
        n--;
    char *to = malloc(n + sizeof MANAGER_PATH);
    if (to) {
        memcpy(to, url, n);
        memcpy(to + n, MANAGER_PATH, sizeof MANAGER_PATH);
    }
    return to;
}

static struct courier *courier_for(struct receiver *r, const char *to)
{
    char what[300];
    snprintf(what, sizeof what, "the %s receiver at %.200s", webhook_format_name(r->format), r->host);
    struct post_job job = {.url = to, .content_type = "application/json", .timeout = TIMEOUT};
    struct courier_setup setup = {.post = r->owner->setup.post,
                                  .log = r->owner->setup.log,
                                  .module = "alerts",
                                  .what = what,
                                  .job = &job,
                                  .seed = r->owner->setup.seed++,
                                  .messages = NOTIFY_QUEUE,
                                  .attempts = NOTIFY_ATTEMPTS,
                                  .ctx = r,
                                  .called = count_call,
                                  .ended = count_end};
    return courier_new(&setup);
}

static struct receiver *receiver_new(struct notify *n, const struct webhook_spec *spec)
{
    struct receiver *r = calloc(1, sizeof *r);
    char *to = r ? target_of(spec->url, spec->format) : NULL;
    if (!to) {
        free(r);
        return NULL;
    }
    r->owner = n;
    r->format = spec->format;
    r->url = strdup(spec->url);
    r->host = courier_host(spec->url);
    r->courier = r->url && r->host ? courier_for(r, to) : NULL;
    free(to);
    if (r->courier)
        return r;
    receiver_free(r);
    return NULL;
}

/* Takes one that is the same out of the old list. */
static struct receiver *keep(struct receiver **old, size_t count, const struct webhook_spec *spec)
{
    for (size_t i = 0; i < count; i++) {
        struct receiver *r = old[i];
        if (!r || r->format != spec->format || strcmp(r->url, spec->url) != 0)
            continue;
        old[i] = NULL;
        return r;
    }
    return NULL;
}

void notify_tune(struct notify *n, const struct config *cfg)
{
    struct receiver *old[NOTIFY_RECEIVERS];
    size_t before = n->count;
    memcpy(old, n->receivers, sizeof old);
    n->count = 0;
    snprintf(n->service, sizeof n->service, "%s", cfg->performance_service_name);
    snprintf(n->upstream, sizeof n->upstream, "%s", cfg->upstream_url.host);
    char why[256];
    if (cfg->notifications_webhooks.count > 0 && !post_ready(n->setup.post, why, sizeof why))
        log_write(n->setup.log, LOG_ERROR, "alerts", "notifications.webhooks: nobody can be told: %s", why);
    for (size_t i = 0; i < cfg->notifications_webhooks.count; i++) {
        const struct webhook_spec *spec = &cfg->notifications_webhooks.items[i];
        if (n->count == NOTIFY_RECEIVERS) {
            log_write(n->setup.log, LOG_WARNING, "alerts", "only the first %d receivers of alerts are told",
                      NOTIFY_RECEIVERS);
            break;
        }
        struct receiver *r = keep(old, before, spec);
        r = r ? r : receiver_new(n, spec);
        if (r)
            n->receivers[n->count++] = r;
        else
            log_write(n->setup.log, LOG_WARNING, "alerts", "out of memory: a receiver of alerts is not told");
    }
    for (size_t i = 0; i < before; i++)
        if (old[i])
            receiver_free(old[i]);
}

struct notify *notify_new(const struct notify_setup *setup)
{
    struct notify *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    n->setup = *setup;
    if (gethostname(n->instance, sizeof n->instance) != 0)
        n->instance[0] = '\0';
    n->instance[sizeof n->instance - 1] = '\0';
    return n;
}

void notify_free(struct notify *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n->count; i++)
        receiver_free(n->receivers[i]);
    free(n);
}

/* ---- what is told ---- */

static struct notify_text text_of(const struct notify *n, tick_t now)
{
    return (struct notify_text){.service = n->service,
                                .upstream = n->upstream,
                                .instance = n->instance,
                                .alerts = n->setup.alerts,
                                .now = now,
                                .wall = sentry_wall(now, now),
                                .lifetime = 4 * RESEND};
}

static void put(struct receiver *r, char *body, unsigned kind, tick_t now)
{
    courier_put(r->courier, body, body ? strlen(body) : 0, 1, kind, now);
}

void notify_events(struct notify *n, const struct alert_event *events, size_t count, tick_t now)
{
    size_t told = 0;
    for (size_t i = 0; i < count; i++)
        told += events[i].told;
    if (!told)
        return;
    struct notify_text text = text_of(n, now);
    for (size_t i = 0; i < n->count; i++) {
        struct receiver *r = n->receivers[i];
        put(r, notify_text_events(&text, r->format, events, count), KIND_EVENTS, now);
        r->resend_at = now + RESEND;
    }
}

/* What still fires, unless such a message waits already. */
static void resend(struct receiver *r, tick_t now)
{
    struct notify_text text = text_of(r->owner, now);
    size_t count;
    if (courier_holds(r->courier, KIND_RESENT))
        return;
    char *body = notify_text_firing(&text, &count);
    if (count)
        put(r, body, KIND_RESENT, now);
    else
        free(body);
}

void notify_second(struct notify *n, tick_t now)
{
    for (size_t i = 0; i < n->count; i++) {
        struct receiver *r = n->receivers[i];
        if (r->format == WEBHOOK_ALERTMANAGER && now >= r->resend_at) {
            r->resend_at = now + RESEND;
            resend(r, now);
        }
        courier_second(r->courier, now);
    }
}

void notify_show(const struct notify *n, struct view *v)
{
    for (size_t i = 0; i < n->count; i++) {
        const struct receiver *r = n->receivers[i];
        struct courier_view c;
        courier_look(r->courier, &c);
        view_object(v, NULL);
        view_text(v, "host", r->host);
        view_text(v, "format", webhook_format_name(r->format));
        view_uint(v, "waiting", c.waiting);
        view_uint(v, "sent", c.sent);
        view_uint(v, "failed", c.failed);
        view_uint(v, "dropped", c.dropped);
        view_text(v, "error", *c.error ? c.error : NULL);
        view_end(v);
    }
}
