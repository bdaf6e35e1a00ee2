/*
 * The push of custom metrics. Invariant: a series goes into a message when it was posted to since the message
 * before, with all that it counts, so that a message that is lost takes nothing of a counter along.
 */
#include "proxy/custom_push.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "metrics/custom.h"
#include "metrics/text.h"
#include "policy/config.h"
#include "proxy/courier.h"
#include "proxy/log.h"

#define TIMEOUT (10 * TICK_S)

enum { MESSAGES = 32, MESSAGE_SERIES = 500, ATTEMPTS = 8, BYTES = 4 << 20 };

struct custom_push {
    struct custom_push_setup setup;
    struct courier *courier; /* NULL: off */
    char service[128], instance[128];
    tick_t interval, next;
    tick_t since; /* what was posted from then on was not sent */
};

static void count_call(void *ctx, const struct courier_call *call)
{
    struct custom_push *p = ctx;
    if (call->verdict == COURIER_AGAIN && call->attempt < ATTEMPTS)
        metric_add(p->setup.block, METRIC_PUSHES_RETRIED, 1);
}

static void count_end(void *ctx, enum courier_end end, unsigned units, unsigned kind)
{
    static const enum metric metrics[] = {[COURIER_TAKEN] = METRIC_PUSHES_SENT,
                                          [COURIER_GIVEN_UP] = METRIC_PUSHES_FAILED,
                                          [COURIER_REFUSED] = METRIC_PUSHES_FAILED,
                                          [COURIER_DROPPED] = METRIC_PUSHES_DROPPED};
    struct custom_push *p = ctx;
    (void)units;
    (void)kind;
    metric_add(p->setup.block, metrics[end], 1);
}

static struct courier *courier_for(struct custom_push *p, const char *url)
{
    char *host = courier_host(url), what[300];
    if (!host)
        return NULL;
    snprintf(what, sizeof what, "performance.custom_metrics_endpoint at %.200s", host);
    free(host);
    struct post_job job = {.url = url, .content_type = "application/json", .timeout = TIMEOUT, .keep = true};
    struct courier_setup setup = {.post = p->setup.post,
                                  .log = p->setup.log,
                                  .module = "telemetry",
                                  .what = what,
                                  .job = &job,
                                  .seed = p->setup.seed++,
                                  .messages = MESSAGES,
                                  .bytes = BYTES,
                                  .attempts = ATTEMPTS,
                                  .ctx = p,
                                  .called = count_call,
                                  .ended = count_end};
    return courier_new(&setup);
}

void custom_push_tune(struct custom_push *p, const struct config *cfg)
{
    const char *url = cfg->performance_enabled ? cfg->performance_custom_metrics_endpoint.text : "";
    snprintf(p->service, sizeof p->service, "%s", cfg->performance_service_name);
    p->interval = cfg->performance_export_interval;
    p->next = 0;
    if (p->courier && strcmp(courier_url(p->courier), url) == 0)
        return;
    courier_free(p->courier);
    p->courier = *url ? courier_for(p, url) : NULL;
    if (*url && !p->courier)
        log_write(p->setup.log, LOG_ERROR, "telemetry", "out of memory: custom metrics are not sent on");
}

struct custom_push *custom_push_new(const struct custom_push_setup *setup)
{
    struct custom_push *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->setup = *setup;
    if (gethostname(p->instance, sizeof p->instance) != 0)
        p->instance[0] = '\0';
    p->instance[sizeof p->instance - 1] = '\0';
    return p;
}

void custom_push_free(struct custom_push *p)
{
    if (!p)
        return;
    courier_free(p->courier);
    free(p);
}

/* ---- messages ---- */

static void put_string(struct text *t, const char *before, const char *value)
{
    char escaped[6 * CUSTOM_VALUE_BYTES + 8];
    text_string(t, before);
    text_string(t, "\"");
    text_bytes(t, escaped, log_escape((struct slice){value, strlen(value)}, escaped, sizeof escaped));
    text_string(t, "\"");
}

static void put_number(struct text *t, const char *before, double v)
{
    text_string(t, before);
    text_real(t, v);
}

static void put_time(struct text *t, const char *before, int64_t wall)
{
    char when[LOG_TIME_BYTES];
    log_time(wall, when);
    put_string(t, before, when);
}

static void put_series(struct text *t, const struct custom_metric *m, const struct custom_series *s,
                       int64_t offset)
{
    put_string(t, "{\"name\":", m->name);
    put_string(t, ",\"type\":", custom_type_name(m->type));
    text_string(t, ",\"attributes\":{");
    for (size_t i = 0; i < s->attribute_count; i++) {
        put_string(t, i ? "," : "", s->attributes[i].key);
        put_string(t, ":", s->attributes[i].value);
    }
    text_string(t, s->folded ? "},\"folded\":true" : "}");
    put_time(t, ",\"since\":", s->began + offset);
    if (m->type != CUSTOM_HISTOGRAM) {
        put_number(t, ",\"value\":", s->value);
    } else {
        text_string(t, ",\"count\":");
        text_uint(t, s->sketch->count);
        put_number(t, ",\"sum\":", s->sketch->sum);
        put_number(t, ",\"min\":", s->sketch->min);
        put_number(t, ",\"max\":", s->sketch->max);
        put_number(t, ",\"p50\":", real_sketch_quantile(s->sketch, 0.50));
        put_number(t, ",\"p95\":", real_sketch_quantile(s->sketch, 0.95));
        put_number(t, ",\"p99\":", real_sketch_quantile(s->sketch, 0.99));
    }
    text_string(t, "}");
}

static void give(struct custom_push *p, struct text *t, unsigned units, tick_t now)
{
    text_string(t, "]}\n");
    if (t->failed)
        text_dispose(t);
    courier_put(p->courier, t->failed ? NULL : t->p, t->n, units, 0, now);
    *t = (struct text){0};
}

static void send_changed(struct custom_push *p, tick_t now)
{
    struct timespec clock;
    struct text t = {0};
    unsigned units = 0;
    clock_gettime(CLOCK_REALTIME, &clock);
    int64_t wall = clock.tv_sec * TICK_S + clock.tv_nsec;
    for (size_t i = 0; i < custom_series(p->setup.custom); i++) {
        const struct custom_series *s = custom_series_at(p->setup.custom, i);
        if (s->changed < p->since)
            continue;
        if (!units) {
            put_string(&t, "{\"version\":1,\"service\":", p->service);
            put_string(&t, ",\"instance\":", p->instance);
            put_time(&t, ",\"time\":", wall);
            text_string(&t, ",\"metrics\":[");
        }
        text_string(&t, units ? "," : "");
        put_series(&t, custom_metric_at(p->setup.custom, s->metric), s, wall - now);
        if (++units == MESSAGE_SERIES) {
            give(p, &t, units, now);
            units = 0;
        }
    }
    if (units)
        give(p, &t, units, now);
    p->since = now;
}

void custom_push_flush(struct custom_push *p, tick_t now)
{
    if (p->courier)
        send_changed(p, now);
}

void custom_push_second(struct custom_push *p, tick_t now)
{
    if (!p->courier)
        return;
    if (!p->next)
        p->next = now + p->interval - TICK_S / 2;
    if (now >= p->next) {
        p->next = now + p->interval - TICK_S / 2;
        send_changed(p, now);
    }
    courier_second(p->courier, now);
}

bool custom_push_idle(const struct custom_push *p)
{
    struct courier_view v = {0};
    if (p->courier)
        courier_look(p->courier, &v);
    return !v.busy;
}
