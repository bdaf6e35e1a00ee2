/*
 * /api/v1/alerts: what is watched, how it stands, what happened; alerts set, switched off, silenced.
 * Invariant: a body is judged like a row of `alerts:` in the configuration, whole, before anything changes.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/admin_request.h"
#include "proxy/log.h"
#include "proxy/notify.h"
#include "proxy/sentry.h"

enum { HISTORY_DEFAULT = 100, FIELDS = 10, SILENCE_MOST = 30 * 86400 };

#define ALERT_HOW                                                                                            \
    "Send {\"metric_type\": \"ERROR_RATE\", \"condition\": \"> 0.1\", \"severity\": \"warning\", "           \
    "\"message\": \"...\", \"for\": \"60s\", \"cooldown_period\": 300, \"enabled\": true}."

static tick_t now_of(const struct admin_request *r)
{
    return r->sources->now(r->sources->ctx);
}

static void put_time(struct view *v, const char *key, tick_t at, tick_t now)
{
    char when[LOG_TIME_BYTES];
    log_time(sentry_wall(at, now), when);
    view_text(v, key, when);
}

static void put_condition(struct view *v, int metric, int compare, double threshold)
{
    char condition[48];
    snprintf(condition, sizeof condition, "%s %.15g", alert_compare_name(compare), threshold);
    view_text(v, "metric_type", alert_metric_name(metric));
    view_text(v, "condition", condition);
    view_real(v, "threshold", threshold);
}

static void put_alert(struct view *v, const struct alert_view *a, tick_t now)
{
    const struct alert_rule *r = a->rule;
    view_text(v, "id", r->id);
    put_condition(v, r->metric, r->compare, r->threshold);
    view_text(v, "metric_name", *r->metric_name ? r->metric_name : NULL);
    view_text(v, "severity", alert_severity_name(r->severity));
    view_text(v, "message", r->message);
    view_bool(v, "enabled", r->enabled);
    view_text(v, "state", alert_state_name(a->state));
    view_real(v, "value", a->value); /* null: not known */
    put_time(v, "since", a->since, now);
    view_uint(v, "raised", a->raised);
    view_bool(v, "told", a->state == ALERT_FIRING && a->told);
    view_real(v, "for", (double)r->hold / (double)TICK_S);
    view_real(v, "cooldown_period", (double)r->cooldown / (double)TICK_S);
    view_text(v, "origin", r->origin);
    view_text(v, "group", *r->group ? r->group : NULL);
    if (a->silence > now)
        put_time(v, "silenced_until", a->silence, now);
    else
        view_null(v, "silenced_until");
}

void admin_put_alerts(const struct admin_sources *s, struct view *v, const char *state)
{
    uint64_t firing = 0;
    if (!s->sentry)
        return;
    const struct alerts *alerts = sentry_alerts(s->sentry);
    view_bool(v, "enabled", sentry_enabled(s->sentry));
    view_array(v, "alerts");
    for (size_t i = 0; i < alerts_count(alerts); i++) {
        struct alert_view one;
        alerts_look(alerts, i, &one);
        firing += one.state == ALERT_FIRING;
        if (state && strcmp(state, alert_state_name(one.state)) != 0)
            continue;
        view_object(v, NULL);
        put_alert(v, &one, s->now(s->ctx));
        view_end(v);
    }
    view_end(v);
    view_uint(v, "firing", firing);
    view_array(v, "receivers");
    if (s->notify)
        notify_show(s->notify, v);
    view_end(v);
}

void admin_show_alerts(struct admin_request *r)
{
    if (!r->sources->sentry) {
        admin_absent(r);
        return;
    }
    if (!admin_query_word(r, "state", "inactive|pending|firing|resolved"))
        return;
    struct view *v = view_new();
    if (v)
        admin_put_alerts(r->sources, v, admin_query(r, "state"));
    admin_reply(r, 200, v);
}

void admin_put_alert_event(struct view *v, const struct alert_event *e, tick_t now)
{
    view_text(v, "id", e->id);
    view_text(v, "event", alert_event_name(e->kind));
    put_time(v, "at", e->at, now);
    put_time(v, "began", e->since, now);
    put_condition(v, e->metric, e->compare, e->threshold);
    view_real(v, "value", e->value);
    view_text(v, "severity", alert_severity_name(e->severity));
    view_bool(v, "told", e->told);
}

void admin_show_alert_history(struct admin_request *r)
{
    uint64_t limit = HISTORY_DEFAULT;
    if (!r->sources->sentry) {
        admin_absent(r);
        return;
    }
    if (!admin_query_number(r, "limit", ALERT_HISTORY, &limit))
        return;
    const struct alerts *alerts = sentry_alerts(r->sources->sentry);
    uint64_t total = alerts_history(alerts);
    struct alert_event e;
    struct view *v = view_new();
    if (v) {
        view_uint(v, "total", total);
        view_array(v, "history");
        for (uint64_t i = 0; i < limit && i < total && alerts_event(alerts, total - 1 - i, &e); i++) {
            view_object(v, NULL);
            admin_put_alert_event(v, &e, now_of(r));
            view_end(v);
        }
        view_end(v);
    }
    admin_reply(r, 200, v);
}

static void reply_alert(struct admin_request *r)
{
    struct alert_view one;
    struct view *v = NULL;
    if (alerts_find(sentry_alerts(r->sources->sentry), r->name, &one) && (v = view_new()))
        put_alert(v, &one, now_of(r));
    admin_reply(r, v ? 200 : 503, v);
}

/* ---- changes ---- */

/* The body's members as text, the id first. Returns how many; 0 with what is wrong. */
static size_t read_fields(const struct admin_request *r, const json_t *body, struct alert_field out[FIELDS],
                          char text[FIELDS][48], const char **wrong)
{
    const char *name;
    json_t *value;
    size_t n = 0;
    out[n++] = (struct alert_field){"id", r->name};
    json_object_foreach((json_t *)(uintptr_t)body, name, value)
    {
        *wrong = "The body has more members than an alert.";
        if (n == FIELDS)
            return 0;
        if (strcmp(name, "threshold") == 0)
            continue; /* held against the condition afterwards */
        *wrong = "The id in the body is not that of the path.";
        if (strcmp(name, "id") == 0 && (!json_is_string(value) || strcmp(json_string_value(value), r->name)))
            return 0;
        if (strcmp(name, "id") == 0)
            continue;
        *wrong = "A member is neither text nor a number nor true or false.";
        if (json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value))
            out[n] = (struct alert_field){name, json_string_value(value)};
        else if (json_is_boolean(value))
            out[n] = (struct alert_field){name, json_is_true(value) ? "true" : "false"};
        else if (json_is_number(value)) {
            snprintf(text[n], sizeof text[n], "%.15g", json_number_value(value));
            out[n] = (struct alert_field){name, text[n]};
        } else
            return 0;
        n++;
    }
    return n;
}

void admin_set_alert(struct admin_request *r)
{
    struct alert_field fields[FIELDS];
    char text[FIELDS][48], what[768] = "";
    const char *wrong = "";
    const struct alert_spec *spec = NULL;
    if (!r->sources->sentry) {
        admin_absent(r);
        return;
    }
    json_t *body = admin_body(r);
    if (!body)
        return;
    size_t n = read_fields(r, body, fields, text, &wrong);
    const json_t *threshold = json_object_get(body, "threshold");
    if (n) {
        spec = alert_spec_read(fields, n, what, sizeof what);
        wrong = what;
    }
    if (spec && threshold &&
        (!json_is_number(threshold) || json_number_value(threshold) != spec->threshold)) {
        wrong = "`threshold` is not that of `condition`.";
        alert_spec_free(spec);
        spec = NULL;
    }
    snprintf(r->detail, sizeof r->detail, "%.64s: %s %.40s", r->name,
             spec ? alert_metric_name(spec->metric_type) : "", spec ? spec->condition : "");
    if (!spec) {
        admin_reply_error(r, *wrong ? 400 : 503, *wrong ? wrong : "The sidecar is out of memory.", ALERT_HOW);
    } else if (!sentry_set(r->sources->sentry, spec, now_of(r))) {
        alert_spec_free(spec);
        admin_reply_error(r, 409, "There are too many alerts, or too little memory.",
                          "DELETE one that was set here; 256 may be.");
    } else if (!sentry_enabled(r->sources->sentry)) {
        admin_reply_error(r, 409, "The alert is kept, but alerting is switched off.",
                          "Set performance.enable_alerting.");
    } else {
        reply_alert(r);
    }
    json_decref(body);
}

static void reply_unknown(struct admin_request *r)
{
    admin_reply_error(r, 404, "There is no alert of this id.", "GET /api/v1/alerts lists them.");
}

void admin_delete_alert(struct admin_request *r)
{
    struct view *v;
    if (!r->sources->sentry) {
        admin_absent(r);
        return;
    }
    snprintf(r->detail, sizeof r->detail, "%.64s", r->name);
    enum sentry_unset done = sentry_unset(r->sources->sentry, r->name, now_of(r));
    switch (done) {
    case SENTRY_UNKNOWN:
        reply_unknown(r);
        return;
    case SENTRY_NO_ROOM:
        admin_reply_error(r, 409, "There is no room to note that it is off.",
                          "DELETE one that was set here.");
        return;
    default:
        v = view_new();
        if (v) {
            view_text(v, "id", r->name);
            view_bool(v, "removed", done == SENTRY_REMOVED); /* else it is switched off */
        }
        admin_reply(r, 200, v);
    }
}

void admin_silence_alert(struct admin_request *r)
{
    if (!r->sources->sentry) {
        admin_absent(r);
        return;
    }
    json_t *body = admin_body(r);
    if (!body)
        return;
    const json_t *seconds = json_object_get(body, "seconds");
    double n = json_is_number(seconds) ? json_number_value(seconds) : -1;
    size_t members = json_object_size(body);
    json_decref(body);
    if (members != 1 || !(n >= 0 && n <= SILENCE_MOST)) {
        admin_reply_error(r, 400, "`seconds` is not a number from 0 to 2592000, or not the only member.",
                          "Send {\"seconds\": 3600}; 0 ends a silence.");
        return;
    }
    tick_t until = n > 0 ? now_of(r) + (tick_t)(n * (double)TICK_S) : 0;
    snprintf(r->detail, sizeof r->detail, "%.64s: %.0f s", r->name, n);
    if (alerts_silence(sentry_alerts(r->sources->sentry), r->name, until))
        reply_alert(r);
    else
        reply_unknown(r);
}
