/*
 * Messages about alerts. Invariants: each is one JSON value; whatever a rule's message holds, it is escaped;
 * for Slack, so that it mentions nobody and links nowhere.
 */
#include "proxy/notify_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/log.h"
#include "proxy/view.h"

enum { MESSAGE_MOST = 1024 };

static const char *message_of(const struct notify_text *t, const char *id)
{
    struct alert_view view;
    return alerts_find(t->alerts, id, &view) ? view.rule->message : "";
}

static void put_time(const struct notify_text *t, struct view *v, const char *key, tick_t at)
{
    char when[LOG_TIME_BYTES];
    log_time(t->wall - (t->now - at), when);
    view_text(v, key, when);
}

static void condition_text(int compare, double threshold, char out[48])
{
    snprintf(out, 48, "%s %.15g", alert_compare_name(compare), threshold);
}

static void value_text(double value, char out[32])
{
    if (isnan(value))
        snprintf(out, 32, "unknown");
    else
        snprintf(out, 32, "%.6g", value);
}

/* ---- json ---- */

static void put_plain(const struct notify_text *t, struct view *v, const struct alert_event *e)
{
    char condition[48];
    condition_text(e->compare, e->threshold, condition);
    view_object(v, NULL);
    view_text(v, "id", e->id);
    view_text(v, "event", alert_event_name(e->kind));
    view_text(v, "status", e->kind == ALERT_EVENT_RESOLVED ? "resolved" : "firing");
    view_text(v, "severity", alert_severity_name(e->severity));
    view_text(v, "message", message_of(t, e->id));
    view_text(v, "metric_type", alert_metric_name(e->metric));
    view_text(v, "condition", condition);
    view_real(v, "threshold", e->threshold);
    view_real(v, "value", e->value);
    put_time(t, v, "began", e->since);
    put_time(t, v, "at", e->at);
    view_end(v);
}

static char *plain(const struct notify_text *t, const struct alert_event *events, size_t count)
{
    struct view *v = view_new();
    if (!v)
        return NULL;
    view_int(v, "version", 1);
    view_text(v, "service", t->service);
    view_text(v, "upstream", t->upstream);
    view_text(v, "instance", t->instance);
    put_time(t, v, "time", t->now);
    view_array(v, "alerts");
    for (size_t i = 0; i < count; i++)
        if (events[i].told)
            put_plain(t, v, &events[i]);
    view_end(v);
    return view_print(v, NULL);
}

/* ---- slack ---- */

/* Text with Slack's three special characters escaped. */
static size_t slack_text(char *out, size_t room, const char *text)
{
    size_t n = 0;
    for (; *text && n + 6 < room; text++) {
        const char *as = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : NULL;
        if (as) {
            memcpy(out + n, as, strlen(as));
            n += strlen(as);
        } else {
            out[n++] = *text;
        }
    }
    out[n] = '\0';
    return n;
}

static size_t slack_line(const struct notify_text *t, char *out, size_t room, const struct alert_event *e)
{
    char line[MESSAGE_MOST + 512], condition[48], value[32];
    condition_text(e->compare, e->threshold, condition);
    value_text(e->value, value);
    snprintf(line, sizeof line, "[%s] %s on %s (%s): %s %s, is %s. %.*s",
             e->kind == ALERT_EVENT_RESOLVED ? "RESOLVED" : alert_severity_name(e->severity), e->id,
             t->service, t->instance, alert_metric_name(e->metric), condition, value, MESSAGE_MOST,
             message_of(t, e->id));
    return slack_text(out, room, line);
}

static char *slack(const struct notify_text *t, const struct alert_event *events, size_t count)
{
    struct view *v = view_new();
    size_t room = 16384, n = 0; /* Slack shows no more than 40,000 characters */
    char *text = malloc(room);
    if (!v || !text) {
        view_free(v);
        free(text);
        return NULL;
    }
    text[0] = '\0';
    for (size_t i = 0; i < count && n + 64 < room; i++) {
        if (!events[i].told)
            continue;
        if (n)
            text[n++] = '\n';
        n += slack_line(t, text + n, room - n, &events[i]);
    }
    view_text(v, "text", text);
    free(text);
    return view_print(v, NULL);
}

/* ---- alertmanager, its API version 2: a list of alerts, told again and again while they fire ---- */

struct manager_alert {
    const char *id;
    int severity, metric, compare;
    double threshold, value;
    tick_t began, ends;
};

static void put_manager(const struct notify_text *t, struct view *v, const struct manager_alert *a)
{
    char condition[48], value[32], summary[160];
    condition_text(a->compare, a->threshold, condition);
    value_text(a->value, value);
    snprintf(summary, sizeof summary, "%s %s, is %s", alert_metric_name(a->metric), condition, value);
    view_object(v, NULL);
    view_object(v, "labels"); /* these tell it from others: nothing that changes while it fires */
    view_text(v, "alertname", a->id);
    view_text(v, "severity", alert_severity_name(a->severity));
    view_text(v, "service", t->service);
    view_text(v, "upstream", t->upstream);
    view_text(v, "instance", t->instance);
    view_text(v, "metric_type", alert_metric_name(a->metric));
    view_end(v);
    view_object(v, "annotations");
    view_text(v, "summary", summary);
    view_text(v, "description", message_of(t, a->id));
    view_end(v);
    put_time(t, v, "startsAt", a->began);
    put_time(t, v, "endsAt", a->ends);
    view_end(v);
}

static char *manager(const struct notify_text *t, const struct alert_event *events, size_t count)
{
    struct view *v = view_new();
    if (!v)
        return NULL;
    view_array(v, "alerts");
    for (size_t i = 0; i < count; i++) {
        const struct alert_event *e = &events[i];
        struct manager_alert a = {
            e->id,        e->severity,
            e->metric,    e->compare,
            e->threshold, e->value,
            e->since,     e->kind == ALERT_EVENT_RESOLVED ? t->now : t->now + t->lifetime};
        if (e->told)
            put_manager(t, v, &a);
    }
    view_end(v);
    return view_print(v, "alerts");
}

char *notify_text_firing(const struct notify_text *t, size_t *count)
{
    struct view *v = view_new();
    *count = 0;
    if (!v)
        return NULL;
    view_array(v, "alerts");
    for (size_t i = 0; i < alerts_count(t->alerts); i++) {
        struct alert_view one;
        alerts_look(t->alerts, i, &one);
        if (one.state != ALERT_FIRING || !one.told)
            continue;
        const struct alert_rule *r = one.rule;
        struct manager_alert a = {r->id,        r->severity, r->metric, r->compare,
                                  r->threshold, one.value,   one.began, t->now + t->lifetime};
        put_manager(t, v, &a);
        ++*count;
    }
    view_end(v);
    return view_print(v, "alerts");
}

char *notify_text_events(const struct notify_text *t, int format, const struct alert_event *events,
                         size_t count)
{
    switch (format) {
    case WEBHOOK_SLACK:
        return slack(t, events, count);
    case WEBHOOK_ALERTMANAGER:
        return manager(t, events, count);
    default:
        return plain(t, events, count);
    }
}
