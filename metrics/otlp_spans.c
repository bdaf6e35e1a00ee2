/*
 * Spans. Invariants: no attribute holds a query, a header field or a byte of a body; an attempt's span has
 * the request's as its parent, and lies within the same trace.
 */
#include "metrics/otlp_spans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KIND_INTERNAL = 1, KIND_SERVER = 2, KIND_CLIENT = 3, STATUS_ERROR = 2 };
enum {
    ATTRIBUTE = 9,
    EVENT = 11,
    EVENTS_DROPPED = 12,
    STATUS = 15,
    FLAGS = 16,
    EVENT_ATTRIBUTE = 3
}; /* fields of Span */
enum { HAS_REMOTE = 0x100, IS_REMOTE = 0x200 };

static const struct {
    const char *name, *duration; /* of the event; of its attribute with the time that it took */
} event_names[SPAN_EVENT_KINDS] = {
    [SPAN_CACHE] = {"promptops.cache.lookup", NULL},
    [SPAN_SECOND] = {"promptops.cache.lower_tier", "promptops.wait"},
    [SPAN_HELD] = {"promptops.body.held", "promptops.wait"},
    [SPAN_COALESCED] = {"promptops.cache.coalesced", "promptops.wait"},
    [SPAN_QUEUE] = {"promptops.queue", "promptops.wait"},
    [SPAN_POOL] = {"promptops.pool", "promptops.wait"},
    [SPAN_RETRY] = {"promptops.retry", "promptops.retry.delay"},
};

static const char *const kind_names[] = {"request", "refresh", "prefetch", "hedge", "batch"};

static const char *method_name(const struct otlp_scene *scene, unsigned method)
{
    const char *name = metrics_method_name(scene->metrics, method);
    return strcmp(name, "OTHER") == 0 ? "_OTHER" : name;
}

/* Seconds. */
static void put_duration(struct text *t, unsigned field, const char *key, int64_t ns)
{
    size_t mark = pb_open(t, field);
    pb_string(t, 1, key);
    size_t value = pb_open(t, 2);
    pb_double(t, 4, (double)ns / 1e9);
    pb_close(t, value);
    pb_close(t, mark);
}

static void put_times(struct text *t, const struct otlp_scene *scene, int64_t began, int64_t ended)
{
    pb_fixed64(t, 7, (uint64_t)(began + scene->offset));
    pb_fixed64(t, 8, (uint64_t)((ended > began ? ended : began) + scene->offset));
}

static void put_error(struct text *t, const char *type)
{
    otlp_text(t, ATTRIBUTE, "error.type", type);
    size_t status = pb_open(t, STATUS);
    pb_uint(t, 3, STATUS_ERROR);
    pb_close(t, status);
}

static void put_status_code(struct text *t, uint16_t status)
{
    if (status)
        otlp_int(t, ATTRIBUTE, "http.response.status_code", status);
}

/* ---- the request ---- */

static void put_event(struct text *t, const struct otlp_scene *scene, const struct span_record *s,
                      const struct span_event *e)
{
    size_t mark = pb_open(t, EVENT);
    pb_fixed64(t, 1, (uint64_t)(e->at + scene->offset));
    pb_string(t, 2, event_names[e->kind].name);
    if (e->kind == SPAN_CACHE)
        otlp_text(t, EVENT_ATTRIBUTE, "promptops.cache", cache_word_name(s->head.cache));
    else
        put_duration(t, EVENT_ATTRIBUTE, event_names[e->kind].duration, e->duration);
    if (e->kind == SPAN_RETRY && e->attempt && e->attempt <= s->head.attempts) {
        char room[8];
        const struct span_attempt *a = &s->attempts[e->attempt - 1];
        otlp_text(t, EVENT_ATTRIBUTE, "promptops.retry.cause",
                  metrics_outcome_name(scene->metrics, a->outcome, room));
        if (a->status)
            otlp_int(t, EVENT_ATTRIBUTE, "http.response.status_code", a->status);
    }
    pb_close(t, mark);
}

static void put_events(struct text *t, const struct otlp_scene *scene, const struct span_record *s)
{
    for (unsigned i = 0; i < s->head.events; i++)
        put_event(t, scene, s, &s->events[i]);
    if (s->head.events_dropped)
        pb_uint(t, EVENTS_DROPPED, s->head.events_dropped);
}

/* `host`, `host:port` or `[v6]:port`, as the Host field says it. */
static void put_host(struct text *t, const struct span_record *s)
{
    const char *p = s->host;
    size_t n = s->head.host_bytes, name = n, port = n;
    for (size_t i = n; i-- > 0 && p[i] != ']';)
        if (p[i] == ':') {
            name = i;
            port = i + 1;
            break;
        }
    bool bracketed = name > 2 && p[0] == '[' && p[name - 1] == ']';
    if (name)
        otlp_bytes(t, ATTRIBUTE, "server.address", p + bracketed, name - 2 * bracketed);
    long number = 0;
    for (size_t i = port; i < n && p[i] >= '0' && p[i] <= '9' && number < 65536; i++)
        number = number * 10 + (p[i] - '0');
    if (number > 0 && number < 65536)
        otlp_int(t, ATTRIBUTE, "server.port", number);
}

static void put_request_attributes(struct text *t, const struct otlp_scene *scene,
                                   const struct span_record *s)
{
    const struct span_head *h = &s->head;
    const char *route = metrics_route_name(scene->metrics, h->route);
    otlp_text(t, ATTRIBUTE, "http.request.method", method_name(scene, h->method));
    otlp_bytes(t, ATTRIBUTE, "url.path", s->path, h->path_bytes);
    otlp_text(t, ATTRIBUTE, "url.scheme", scene->listen_scheme);
    otlp_text(t, ATTRIBUTE, "network.protocol.version", h->minor ? "1.1" : "1.0");
    put_host(t, s);
    put_status_code(t, h->status);
    if (*route)
        otlp_text(t, ATTRIBUTE, "http.route", route);
    otlp_text(t, ATTRIBUTE, "promptops.operation", metrics_operation_name(scene->metrics, h->operation));
    otlp_text(t, ATTRIBUTE, "promptops.cache", cache_word_name(h->cache));
    if (h->request_id_bytes)
        otlp_bytes(t, ATTRIBUTE, "promptops.request_id", s->request_id, h->request_id_bytes);
    if (h->retries)
        otlp_int(t, ATTRIBUTE, "promptops.retries", h->retries);
    if (h->attempts_dropped)
        otlp_int(t, ATTRIBUTE, "promptops.attempts_not_shown", h->attempts_dropped);
}

static void put_request_status(struct text *t, const struct otlp_scene *scene, const struct span_head *h)
{
    char code[8];
    bool broken = h->status == 0 || (h->observed & OBSERVED_BROKEN);
    snprintf(code, sizeof code, "%u", h->status);
    if (h->status >= 500 && !(h->observed & OBSERVED_NO_FAULT))
        put_error(t, code);
    else if (!h->internal && broken && h->reason)
        put_error(t, metrics_reason_name(scene->metrics, h->reason));
}

/* What is done for no client of its own. */
static const char *internal_name(const struct span_record *s)
{
    unsigned kind = s->head.attempts ? s->attempts[0].kind : ATTEMPT_REFRESH;
    return kind == ATTEMPT_PREFETCH ? "prefetch " : kind == ATTEMPT_BATCH ? "batch " : "refresh ";
}

static void put_request(struct text *t, const struct otlp_scene *scene, const struct span_record *s)
{
    const struct span_head *h = &s->head;
    const char *route = metrics_route_name(scene->metrics, h->route);
    const char *internal = h->internal ? internal_name(s) : "";
    char name[SPAN_PATH_BYTES + 16];
    snprintf(name, sizeof name, "%s%s%s%s", internal, method_name(scene, h->method), *route ? " " : "",
             route);
    size_t mark = pb_open(t, 2);
    pb_bytes(t, 1, h->trace_id, sizeof h->trace_id);
    pb_bytes(t, 2, h->id, sizeof h->id);
    if (h->has_parent)
        pb_bytes(t, 4, h->parent, sizeof h->parent);
    pb_string(t, 5, name);
    pb_uint(t, 6, h->internal ? KIND_INTERNAL : KIND_SERVER);
    put_times(t, scene, h->began, h->ended);
    put_request_attributes(t, scene, s);
    put_events(t, scene, s);
    put_request_status(t, scene, h);
    pb_fixed32(t, FLAGS, h->trace_flags | HAS_REMOTE | (h->remote_parent ? IS_REMOTE : 0));
    pb_close(t, mark);
}

/* ---- attempts ---- */

static void put_full_url(struct text *t, const struct otlp_scene *scene, const struct span_record *s)
{
    struct text url = {0};
    char port[8];
    bool v6 = strchr(scene->server_address, ':') != NULL;
    snprintf(port, sizeof port, ":%u", scene->server_port);
    text_string(&url, scene->server_scheme);
    text_string(&url, v6 ? "://[" : "://");
    text_string(&url, scene->server_address);
    text_string(&url, v6 ? "]" : "");
    text_string(&url, port);
    text_string(&url, scene->server_path);
    text_bytes(&url, s->path, s->head.path_bytes);
    if (!url.failed)
        otlp_bytes(t, ATTRIBUTE, "url.full", url.p, url.n);
    text_dispose(&url);
}

static void put_attempt_phases(struct text *t, const struct span_attempt *a)
{
    const struct {
        const char *key;
        int64_t ns;
    } phases[] = {{"promptops.pool.wait", a->pool_wait},
                  {"promptops.connect.tcp", a->tcp},
                  {"promptops.connect.tls", a->tls},
                  {"promptops.first_byte", a->first_byte}};
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++)
        if (phases[i].ns > 0)
            put_duration(t, ATTRIBUTE, phases[i].key, phases[i].ns);
}

static void put_attempt(struct text *t, const struct otlp_scene *scene, const struct span_record *s,
                        const struct span_attempt *a)
{
    char code[8], room[8];
    int64_t ended = a->ended ? a->ended : s->head.ended;
    size_t mark = pb_open(t, 2);
    pb_bytes(t, 1, s->head.trace_id, sizeof s->head.trace_id);
    pb_bytes(t, 2, a->id, sizeof a->id);
    pb_bytes(t, 4, s->head.id, sizeof s->head.id);
    pb_string(t, 5, method_name(scene, s->head.method));
    pb_uint(t, 6, KIND_CLIENT);
    put_times(t, scene, a->began, ended);
    otlp_text(t, ATTRIBUTE, "http.request.method", method_name(scene, s->head.method));
    put_full_url(t, scene, s);
    otlp_text(t, ATTRIBUTE, "server.address", scene->server_address);
    otlp_int(t, ATTRIBUTE, "server.port", scene->server_port);
    put_status_code(t, a->status);
    if (a->resend)
        otlp_int(t, ATTRIBUTE, "http.request.resend_count", a->resend);
    otlp_text(t, ATTRIBUTE, "promptops.attempt",
              a->kind < sizeof kind_names / sizeof *kind_names ? kind_names[a->kind] : "other");
    otlp_bool(t, ATTRIBUTE, "promptops.connection.reused", a->reused);
    put_attempt_phases(t, a);
    snprintf(code, sizeof code, "%u", a->status);
    if (a->status >= 400)
        put_error(t, code);
    else if (!a->status)
        put_error(t, metrics_outcome_name(scene->metrics, a->outcome, room));
    pb_fixed32(t, FLAGS, s->head.trace_flags | HAS_REMOTE);
    pb_close(t, mark);
}

size_t span_count(const struct span_record *s)
{
    return 1u + s->head.attempts;
}

size_t otlp_spans(struct text *spans, const struct otlp_scene *scene, const struct span_record *s)
{
    put_request(spans, scene, s);
    for (unsigned i = 0; i < s->head.attempts; i++)
        put_attempt(spans, scene, s, &s->attempts[i]);
    return span_count(s);
}

void otlp_traces(struct text *out, const struct otlp_scene *scene, const struct text *spans)
{
    struct otlp_envelope envelope = otlp_open(out, scene);
    out->failed |= spans->failed;
    text_bytes(out, spans->p, spans->n);
    otlp_close(out, &envelope);
}
