/*
 * A queue of messages for each receiver, one of them under way at a time. Invariants: a message leaves its
 * queue taken, given up after NOTIFY_ATTEMPTS, refused for good (4xx), or pushed out by a newer one; at most
 * one call is under way for each receiver, with an end by itself.
 */
#include "proxy/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy/config.h"
#include "policy/rng.h"
#include "proxy/log.h"
#include "proxy/post.h"
#include "proxy/sentry.h"
#include "proxy/view.h"

#define TIMEOUT      (10 * TICK_S)
#define FIRST_DELAY  TICK_S
#define LAST_DELAY   (60 * TICK_S)
#define AFTER_MOST   (300 * TICK_S) /* of a Retry-After */
#define RESEND       (NOTIFY_RESEND_SECONDS * TICK_S)
#define MANAGER_PATH "/api/v2/alerts"

struct message {
    struct message *next;
    char *body;
    bool resent; /* the next of this kind says the same and more */
};

struct receiver {
    struct notify *owner;
    char *url;  /* as configured: what it is known by */
    char *to;   /* where messages go */
    char *host; /* for people: the rest may be a secret */
    int format;
    struct message *first, *last;
    unsigned waiting;
    struct post_call *call; /* under way, of `first` */
    unsigned attempts;      /* of `first` */
    tick_t next_at;         /* not before */
    tick_t resend_at;
    uint64_t sent, failed, dropped;
    int status; /* of the newest answer; 0 = none */
    char error[96];
};

struct notify {
    struct notify_setup setup;
    struct rng rng;
    struct receiver *receivers[NOTIFY_RECEIVERS];
    size_t count;
    char service[128], upstream[256], instance[128];
    char why[256]; /* why nobody can be told; empty: they can */
    tick_t now;    /* of the newest call from outside */
};

/* ---- queues ---- */

static void drop_first(struct receiver *r)
{
    struct message *m = r->first;
    r->first = m->next;
    if (!r->first)
        r->last = NULL;
    r->waiting--;
    r->attempts = 0;
    free(m->body);
    free(m);
}

static void receiver_free(struct receiver *r)
{
    if (r->call)
        post_cancel(r->call);
    while (r->first)
        drop_first(r);
    free(r->url);
    free(r->to);
    free(r->host);
    free(r);
}

/* The oldest that is not under way goes. */
static void drop_oldest(struct receiver *r)
{
    struct message *m = r->call ? r->first->next : r->first;
    r->dropped++;
    metric_add(r->owner->setup.block, METRIC_NOTIFICATIONS_DROPPED, 1);
    if (!r->call) {
        drop_first(r);
        return;
    }
    r->first->next = m->next;
    if (!m->next)
        r->last = r->first;
    r->waiting--;
    free(m->body);
    free(m);
}

static void send_first(struct receiver *r);

/* Takes the body over. */
static void enqueue(struct receiver *r, char *body, bool resent)
{
    struct message *m = body ? calloc(1, sizeof *m) : NULL;
    if (!m) {
        free(body);
        r->dropped++;
        metric_add(r->owner->setup.block, METRIC_NOTIFICATIONS_DROPPED, 1);
        return;
    }
    *m = (struct message){NULL, body, resent};
    if (r->waiting >= NOTIFY_QUEUE)
        drop_oldest(r);
    if (r->last)
        r->last->next = m;
    else
        r->first = m;
    r->last = m;
    r->waiting++;
    send_first(r);
}

/* ---- sending ---- */

static tick_t delay_of(struct receiver *r, tick_t retry_after)
{
    tick_t delay = FIRST_DELAY << (r->attempts < 7 ? r->attempts - 1 : 6);
    delay = delay < LAST_DELAY ? delay : LAST_DELAY;
    delay = delay / 2 + rng_range(&r->owner->rng, 0, delay / 2);
    retry_after = retry_after < AFTER_MOST ? retry_after : AFTER_MOST;
    return delay > retry_after ? delay : retry_after;
}

static bool for_good(int status)
{
    return status >= 300 && status < 500 && status != 408 && status != 425 && status != 429;
}

static void note_failure(struct receiver *r, const struct post_result *result)
{
    if (result->status)
        snprintf(r->error, sizeof r->error, "answered %d", result->status);
    else
        snprintf(r->error, sizeof r->error, "%s", result->error ? result->error : "could not be asked");
}

static void give_up(struct receiver *r)
{
    r->failed++;
    metric_add(r->owner->setup.block, METRIC_NOTIFICATIONS_FAILED, 1);
    log_write(r->owner->setup.log, LOG_ERROR, "alerts",
              "a message for the %s receiver at %s is given up after %u attempts: %s",
              webhook_format_name(r->format), r->host, r->attempts, r->error);
    drop_first(r);
}

static void failed(struct receiver *r, const struct post_result *result, tick_t now)
{
    note_failure(r, result);
    if (for_good(result->status) || r->attempts >= NOTIFY_ATTEMPTS) {
        give_up(r);
        return;
    }
    metric_add(r->owner->setup.block, METRIC_NOTIFICATIONS_RETRIED, 1);
    r->next_at = now + delay_of(r, result->retry_after);
}

static void on_done(void *ctx, const struct post_result *result)
{
    struct receiver *r = ctx;
    r->call = NULL;
    r->status = result->status;
    if (result->status >= 200 && result->status < 300) {
        r->sent++;
        r->error[0] = '\0';
        metric_add(r->owner->setup.block, METRIC_NOTIFICATIONS_SENT, 1);
        drop_first(r);
        r->next_at = 0;
    } else {
        failed(r, result, r->owner->now);
    }
    send_first(r);
}

static void send_first(struct receiver *r)
{
    if (!r->first || r->call || r->owner->now < r->next_at)
        return;
    struct post_job job = {.url = r->to,
                           .content_type = "application/json",
                           .body = r->first->body,
                           .n = strlen(r->first->body),
                           .timeout = TIMEOUT};
    r->attempts++;
    r->call = post_start(r->owner->setup.post, &job, on_done, r);
    if (!r->call) {
        struct post_result none = {.retry_after = -1,
                                   .error = *r->owner->why ? r->owner->why : "out of memory"};
        failed(r, &none, r->owner->now);
    }
}

/* ---- receivers ---- */

/* The host of a URL that was judged. */
static char *host_of(const char *url)
{
    const char *from = strstr(url, "://"), *at;
    from = from ? from + 3 : url;
    size_t n = strcspn(from, "/?#");
    at = memchr(from, '@', n);
    if (at) {
        n -= (size_t)(at + 1 - from);
        from = at + 1;
    }
    return strndup(from, n);
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

static struct receiver *receiver_new(struct notify *n, const struct webhook_spec *spec)
{
    struct receiver *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->owner = n;
    r->format = spec->format;
    r->url = strdup(spec->url);
    r->to = target_of(spec->url, spec->format);
    r->host = host_of(spec->url);
    if (r->url && r->to && r->host)
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
    bool wanted = cfg->notifications_webhooks.count > 0;
    if (wanted && !post_ready(n->setup.post, n->why, sizeof n->why)) {
        log_write(n->setup.log, LOG_ERROR, "alerts", "notifications.webhooks: nobody can be told: %s",
                  n->why);
    } else {
        n->why[0] = '\0';
    }
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
    rng_seed(&n->rng, setup->seed);
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

void notify_events(struct notify *n, const struct alert_event *events, size_t count, tick_t now)
{
    size_t told = 0;
    n->now = now;
    for (size_t i = 0; i < count; i++)
        told += events[i].told;
    if (!told)
        return;
    struct notify_text text = text_of(n, now);
    for (size_t i = 0; i < n->count; i++) {
        struct receiver *r = n->receivers[i];
        enqueue(r, notify_text_events(&text, r->format, events, count), false);
        r->resend_at = now + RESEND;
    }
}

/* What still fires, unless such a message waits already. */
static void resend(struct receiver *r, tick_t now)
{
    struct notify_text text = text_of(r->owner, now);
    size_t count;
    for (const struct message *m = r->first; m; m = m->next)
        if (m->resent)
            return;
    char *body = notify_text_firing(&text, &count);
    if (count)
        enqueue(r, body, true);
    else
        free(body);
}

void notify_second(struct notify *n, tick_t now)
{
    n->now = now;
    for (size_t i = 0; i < n->count; i++) {
        struct receiver *r = n->receivers[i];
        if (r->format == WEBHOOK_ALERTMANAGER && now >= r->resend_at) {
            r->resend_at = now + RESEND;
            resend(r, now);
        }
        send_first(r);
    }
}

void notify_show(const struct notify *n, struct view *v)
{
    for (size_t i = 0; i < n->count; i++) {
        const struct receiver *r = n->receivers[i];
        view_object(v, NULL);
        view_text(v, "host", r->host);
        view_text(v, "format", webhook_format_name(r->format));
        view_uint(v, "waiting", r->waiting);
        view_uint(v, "sent", r->sent);
        view_uint(v, "failed", r->failed);
        view_uint(v, "dropped", r->dropped);
        view_text(v, "error", *r->error ? r->error : NULL);
        view_end(v);
    }
}
