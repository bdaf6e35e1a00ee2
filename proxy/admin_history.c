/*
 * Time series by the admin port: GET /api/v1/metrics and GET /api/v1/export.
 *
 * Invariants: a query is judged whole before anything is read, and its points are bounded by
 * performance.time_series_max_points. An export holds one piece of PIECE bytes at a time and makes the next
 * when the client has taken it, so that a slow reader costs that much and nobody else's time; it owns its
 * state, and a connection that ends frees it.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "metrics/custom.h"
#include "metrics/history.h"
#include "policy/config.h"
#include "proxy/admin_range.h"

enum { PIECE = 64 * 1024, POINTS_SHOWN = 300 };

/* Seconds since 1970 up to which a time is one: until 2096. Then no difference of two overflows. */
#define TIME_MOST INT64_C(4000000000)

static int64_t wall_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * TICK_S + t.tv_nsec;
}

/* ---- what is asked for ---- */

void admin_refuse_query(struct admin_request *r, const char *name, const char *what, const char *how)
{
    char text[256];
    snprintf(text, sizeof text, "The query parameter `%s` %s.", name, what);
    admin_reply_error(r, 400, text, how);
}

static bool read_type(struct admin_request *r, enum metric_type *out)
{
    char known[512] = "Give one of";
    const char *name = admin_query(r, "metric_type");
    if (name && metric_type_find(name, out))
        return true;
    for (int i = 0; i < METRIC_TYPE_COUNT; i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s %s", i ? "," : "",
                 metric_type_row((enum metric_type)i)->name);
    }
    admin_refuse_query(r, "metric_type", name ? "names no type of metric" : "is missing", known);
    return false;
}

/* `name` goes with CUSTOM_METRIC, and only with it. */
static bool read_name(struct admin_request *r, struct history_series *s)
{
    const char *name = admin_query(r, "name");
    const struct custom *c = r->sources->custom;
    int number = name && c ? custom_find(c, name) : -1;
    if (s->type != METRIC_TYPE_CUSTOM_METRIC) {
        if (name)
            admin_refuse_query(r, "name", "goes with metric_type=CUSTOM_METRIC only", "Leave `name` out.");
        return !name;
    }
    if (number < 0) {
        admin_refuse_query(r, "name", name ? "names no custom metric that was posted" : "is missing",
                           "Give the name that is posted to /api/v1/custom-metrics.");
        return false;
    }
    s->operation = HISTORY_CUSTOM + number;
    return true;
}

/* The forms of a time: 2024-01-01T00:00:00 with or without Z, seconds since 1970, -30m. False: it is none. */
static bool parse_time(const char *text, int64_t now, int64_t *out)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"s", 1}, {"", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
    struct tm utc = {0};
    char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);
    if (end && (!*end || strcmp(end, "Z") == 0)) {
        int64_t seconds = (int64_t)timegm(&utc);
        *out = seconds >= 0 && seconds <= TIME_MOST ? seconds * TICK_S : 0;
        return seconds >= 0 && seconds <= TIME_MOST;
    }
    bool back = *text == '-';
    double v = strtod(text + back, &end);
    if (text[back] < '0' || text[back] > '9' || memchr(text, 'x', strlen(text)) || !isfinite(v) ||
        v > (double)TIME_MOST)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (strcmp(end, units[i].name) == 0 && (back || !*end) && v * units[i].seconds <= (double)TIME_MOST) {
            *out = back ? now - (int64_t)(v * units[i].seconds * TICK_S) : (int64_t)(v * TICK_S);
            *out = *out > 0 ? *out : 0;
            return true;
        }
    return false;
}

static bool read_time(struct admin_request *r, const char *name, int64_t now, int64_t *out)
{
    const char *text = admin_query(r, name);
    if (!text || parse_time(text, now, out))
        return true;
    admin_refuse_query(r, name, "is not a time",
                       "Give 2024-01-01T00:00:00 (UTC), seconds since 1970, or -30m; from 1970 to 2096.");
    return false;
}

static bool read_operation(struct admin_request *r, struct history_series *s)
{
    const char *name = admin_query(r, "operation");
    if (!name)
        return true;
    if (!history_by_operation(s->type)) {
        admin_refuse_query(r, "operation",
                           "does not go with this metric_type, which is measured for all requests together",
                           "Leave `operation` out.");
        return false;
    }
    for (unsigned i = 0; i < metrics_operations(r->sources->metrics); i++)
        if (strcmp(name, metrics_operation_name(r->sources->metrics, (uint16_t)i)) == 0) {
            s->operation = (int)i;
            return true;
        }
    admin_refuse_query(r, "operation", "names no operation that is known",
                       "Give the name that a route has, as GET /api/v1/requests shows it.");
    return false;
}

/* The names of a division's parts as a list, for who has given another. */
static void name_parts(const struct history *h, const struct history_division *d, char *out, size_t room)
{
    char digits[HISTORY_PART_NAME];
    size_t n = (size_t)snprintf(out, room, "Give one of");
    for (int i = d->first; i < d->first + d->count && n + 40 < room; i++) {
        const char *name = history_part_name(h, i, digits);
        if (name)
            n += (size_t)snprintf(out + n, room - n, " %s,", name);
    }
    snprintf(out + n, room - n, " with metric_type=%s.", metric_type_row(d->type)->name);
}

/* A type is kept apart by some things: the query parameter of a division goes with its type. */
static bool read_part(struct admin_request *r, struct history_series *s, const struct history_division *d)
{
    const char *wanted = admin_query(r, d->by), *name;
    char digits[HISTORY_PART_NAME], how[512];
    if (!wanted)
        return true;
    bool other = s->operation != METRICS_ALL;
    for (int i = d->first; s->type == d->type && !other && i < d->first + d->count; i++)
        if ((name = history_part_name(r->sources->history, i, digits)) && strcmp(wanted, name) == 0) {
            s->operation = HISTORY_PART + i;
            return true;
        }
    if (d->count == HISTORY_STATUSES)
        snprintf(how, sizeof how, "Give a status, such as 200, with metric_type=%s; 0 is for no answer.",
                 metric_type_row(d->type)->name);
    else if (d->count == HISTORY_OUTCOMES)
        snprintf(how, sizeof how,
                 "Give an outcome, such as connect_failed, or a status, such as 503, with metric_type=%s.",
                 metric_type_row(d->type)->name);
    else
        name_parts(r->sources->history, d, how, sizeof how);
    admin_refuse_query(r, d->by,
                       s->type != d->type ? "does not go with this metric_type"
                       : other            ? "does not go with another of operation, phase, state, status, "
                                            "cache, outcome and reason"
                                          : "names none that is kept",
                       how);
    return false;
}

static bool read_parts(struct admin_request *r, struct history_series *s)
{
    const struct history_division *d;
    for (int i = 0; (d = history_division(i)); i++)
        if (!read_part(r, s, d))
            return false;
    return true;
}

static int64_t most_points(const struct admin_request *r)
{
    const struct config *cfg = r->sources->snapshot ? r->sources->snapshot(r->sources->ctx) : NULL;
    return cfg ? (int64_t)cfg->performance_time_series_max_points : 1000;
}

/* The least of 1 s, 2 s, 5 s, 10 s ... that makes at most `most` points of a range. */
static int64_t fitting_step(int64_t range, int64_t most)
{
    static const int64_t steps[] = {1,   2,    5,    10,   20,   30,    60,    120,  300,
                                    600, 1200, 1800, 3600, 7200, 21600, 43200, 86400};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        if (range / (steps[i] * TICK_S) < most)
            return steps[i] * TICK_S;
    return (range / most / (86400 * TICK_S) + 1) * 86400 * TICK_S;
}

static bool read_step(struct admin_request *r, struct range *q)
{
    int64_t most = most_points(r), range = q->to - q->from;
    char how[96];
    q->step = 0;
    if (!admin_query_duration(r, "step", &q->step))
        return false;
    if (!admin_query(r, "step"))
        q->step = fitting_step(range, most < POINTS_SHOWN ? most : POINTS_SHOWN);
    if (q->step < TICK_S || q->step % TICK_S) {
        admin_refuse_query(r, "step", "is not a whole number of seconds",
                           "Give 1s or more, in whole seconds.");
        return false;
    }
    if (range / q->step < most)
        return true;
    snprintf(how, sizeof how, "Give %llds or more, or a shorter range; at most %lld points are given.",
             (long long)(fitting_step(range, most) / TICK_S), (long long)most);
    admin_refuse_query(r, "step", "makes too many points of this range", how);
    return false;
}

bool admin_read_range(struct admin_request *r, struct range *q)
{
    int64_t now = wall_now();
    if (!r->sources->history) {
        admin_absent(r);
        return false;
    }
    q->offset = now - r->sources->now(r->sources->ctx);
    q->to = now;
    if (!read_type(r, &q->series.type) || !read_time(r, "end_time", now, &q->to))
        return false;
    q->from = q->to - 3600 * TICK_S;
    q->series.operation = METRICS_ALL;
    if (!read_name(r, &q->series))
        return false;
    if (!read_time(r, "start_time", now, &q->from) || !read_operation(r, &q->series) ||
        !read_parts(r, &q->series) || !admin_query_word(r, "format", "json|csv|msgpack"))
        return false;
    if (q->from >= q->to) {
        admin_refuse_query(r, "start_time", "is not before end_time",
                           "Swap the two, or leave end_time out: then it is now.");
        return false;
    }
    if (!read_step(r, q))
        return false;
    q->from -= q->from % q->step;
    return true;
}

/* ---- showing points ---- */

static void put_when(char out[LOG_TIME_BYTES], int64_t at)
{
    log_time(at > 0 ? at : 0, out);
}

static const char *operation_name(const struct history *h, const struct metrics *m, int operation,
                                  char room[HISTORY_PART_NAME])
{
    if (operation >= HISTORY_PART) {
        const char *name = history_part_name(h, operation - HISTORY_PART, room);
        return name ? name : "";
    }
    bool one = operation != METRICS_ALL && operation < HISTORY_CUSTOM;
    return one ? metrics_operation_name(m, (uint16_t)operation) : "";
}

/* "" for what is not a custom metric. */
static const char *custom_name(const struct custom *c, const struct history_series *s)
{
    bool known = c && s->type == METRIC_TYPE_CUSTOM_METRIC && s->operation >= HISTORY_CUSTOM;
    return known ? custom_metric_at(c, (size_t)(s->operation - HISTORY_CUSTOM))->name : "";
}

static void put_number(struct text *t, const char *before, double v)
{
    text_string(t, before);
    if (isfinite(v))
        text_real(t, v);
}

static void put_statistics(struct text *t, const struct history_point *p, bool csv)
{
    text_string(t, csv ? "," : ",\"count\":");
    text_uint(t, p->count);
    put_number(t, csv ? "," : ",\"min\":", p->min);
    put_number(t, csv ? "," : ",\"max\":", p->max);
    put_number(t, csv ? "," : ",\"mean\":", p->mean);
    put_number(t, csv ? "," : ",\"p50\":", p->p50);
    put_number(t, csv ? "," : ",\"p95\":", p->p95);
    put_number(t, csv ? "," : ",\"p99\":", p->p99);
}

void admin_put_range(const struct admin_request *r, struct view *v, const struct range *q)
{
    char when[LOG_TIME_BYTES], room[HISTORY_PART_NAME];
    view_text(v, "metric_type", metric_type_row(q->series.type)->name);
    view_text(v, "unit", metric_type_row(q->series.type)->unit);
    const struct history_division *d =
        q->series.operation >= HISTORY_PART ? history_division_of(q->series.operation - HISTORY_PART) : NULL;
    const char *part = operation_name(r->sources->history, r->sources->metrics, q->series.operation, room);
    const char *name = custom_name(r->sources->custom, &q->series);
    view_text(v, "operation", d || !*part ? NULL : part);
    view_text(v, "phase", d && strcmp(d->by, "phase") == 0 ? part : NULL);
    if (d && strcmp(d->by, "phase") != 0)
        view_text(v, d->by, part);
    if (*name)
        view_text(v, "name", name);
    put_when(when, q->from);
    view_text(v, "start_time", when);
    put_when(when, q->to);
    view_text(v, "end_time", when);
    view_real(v, "step", (double)q->step / 1e9);
}

static struct view *series_view(const struct admin_request *r, const struct range *q,
                                const struct history_point *points, size_t n)
{
    char when[LOG_TIME_BYTES];
    struct view *v = view_new();
    if (!v)
        return NULL;
    admin_put_range(r, v, q);
    view_array(v, "points");
    for (size_t i = 0; i < n; i++) {
        put_when(when, points[i].from + q->offset);
        view_object(v, NULL);
        view_text(v, "time", when);
        view_uint(v, "count", points[i].count);
        view_real(v, "min", points[i].min);
        view_real(v, "max", points[i].max);
        view_real(v, "mean", points[i].mean);
        view_real(v, "p50", points[i].p50);
        view_real(v, "p95", points[i].p95);
        view_real(v, "p99", points[i].p99);
        view_end(v);
    }
    view_end(v);
    return v;
}

static void reply_csv(struct admin_request *r, const struct range *q, const struct history_point *points,
                      size_t n)
{
    struct text t = {0};
    char when[LOG_TIME_BYTES];
    text_string(&t, "time,count,min,max,mean,p50,p95,p99\r\n");
    for (size_t i = 0; i < n; i++) {
        put_when(when, points[i].from + q->offset);
        text_string(&t, when);
        put_statistics(&t, &points[i], true);
        text_string(&t, "\r\n");
    }
    if (!t.failed) {
        admin_reply_text(r, "text/csv; charset=utf-8", &t);
        return;
    }
    text_dispose(&t);
    admin_reply(r, 503, NULL);
}

void admin_show_series(struct admin_request *r)
{
    struct range q;
    if (!admin_read_range(r, &q))
        return;
    const char *format = admin_query(r, "format");
    size_t most = (size_t)((q.to - q.from) / q.step) + 2;
    struct history_point *points = malloc(most * sizeof *points);
    size_t n = points ? history_points(r->sources->history, &q.series, q.from - q.offset, q.to - q.offset,
                                       q.step, points, most)
                      : 0;
    if (!points)
        admin_reply(r, 503, NULL);
    else if (format && strcmp(format, "csv") == 0)
        reply_csv(r, &q, points, n);
    else
        admin_reply_as(r, format, series_view(r, &q, points, n));
    free(points);
}

/* ---- totals by part ---- */

struct parts {
    struct view *v;
    const struct admin_request *r;
};

static void put_part(void *arg, int operation, const struct history_point *total)
{
    const struct parts *p = arg;
    char room[HISTORY_PART_NAME];
    view_object(p->v, NULL);
    view_text(p->v, "part", operation_name(p->r->sources->history, p->r->sources->metrics, operation, room));
    view_uint(p->v, "count", total->count);
    view_real(p->v, "min", total->min);
    view_real(p->v, "max", total->max);
    view_real(p->v, "mean", total->mean);
    view_real(p->v, "p50", total->p50);
    view_real(p->v, "p95", total->p95);
    view_real(p->v, "p99", total->p99);
    view_end(p->v);
}

/* The division that `by` names; NULL: by operation. False: answered. */
static bool read_division(struct admin_request *r, enum metric_type type, const struct history_division **out)
{
    const char *by = admin_query(r, "by");
    char how[160] = "Give";
    const struct history_division *d;
    *out = NULL;
    if (by && strcmp(by, "operation") == 0 && history_by_operation(type))
        return true;
    for (int i = 0; (d = history_division(i)); i++)
        if (d->type == type) {
            size_t n = strlen(how);
            snprintf(how + n, sizeof how - n, " %s,", d->by);
            if (by && strcmp(by, d->by) == 0)
                *out = d;
        }
    if (*out)
        return true;
    size_t n = strlen(how);
    bool any = n > strlen("Give"), operations = history_by_operation(type);
    snprintf(how + n, sizeof how - n, "%s", operations ? " operation." : " with this metric_type.");
    admin_refuse_query(r, "by", by ? "is nothing by which this metric_type is kept apart" : "is missing",
                       any || operations ? how : "This type is kept as a whole only.");
    return false;
}

void admin_show_parts(struct admin_request *r)
{
    struct range q;
    const struct history_division *division;
    if (!admin_read_range(r, &q) || !read_division(r, q.series.type, &division))
        return;
    struct view *v = view_new();
    if (v) {
        admin_put_range(r, v, &q);
        view_text(v, "by", admin_query(r, "by"));
        view_array(v, "parts");
        history_parts(r->sources->history, q.series.type, division, q.from - q.offset, q.to - q.offset,
                      q.step, put_part, &(struct parts){v, r});
        view_end(v);
    }
    admin_reply(r, 200, v);
}

/* ---- all of it ---- */

struct export
{
    struct evhttp_request *http;
    struct history *history;
    const struct metrics *metrics;
    const struct custom *custom;
    struct history_cursor cursor;
    int64_t offset;
    bool csv, any;
};

static void export_free(struct evhttp_connection *connection, void *arg)
{
    (void)connection;
    free(arg);
}

static void put_row(struct export *x, struct text *t, const struct history_series *s,
                    const struct history_point *p)
{
    char when[LOG_TIME_BYTES], name[256], room[HISTORY_PART_NAME];
    const char *operation = operation_name(x->history, x->metrics, s->operation, room);
    const char *custom = custom_name(x->custom, s);
    put_when(when, p->from + x->offset);
    size_t n = log_escape((struct slice){operation, strlen(operation)}, name, sizeof name);
    text_string(t, x->csv ? "" : x->any ? ",\n{\"time\":\"" : "\n{\"time\":\"");
    text_string(t, when);
    put_number(t, x->csv ? "," : "\",\"seconds\":", (double)((p->to - p->from + TICK_S / 2) / TICK_S));
    text_string(t, x->csv ? "," : ",\"metric_type\":\"");
    text_string(t, metric_type_row(s->type)->name);
    text_string(t, x->csv ? ",\"" : "\",\"operation\":\"");
    if (x->csv)
        for (const char *c = operation; *c; c++)
            text_bytes(t, *c == '"' ? "\"\"" : c, *c == '"' ? 2 : 1);
    else
        text_bytes(t, name, n);
    text_string(t, "\"");
    put_statistics(t, p, x->csv);
    text_string(t, x->csv ? "," : *custom ? ",\"name\":\"" : ""); /* it needs no escapes */
    text_string(t, custom);
    text_string(t, x->csv ? "\r\n" : *custom ? "\"}" : "}");
    x->any = true;
}

static void send_more(struct evhttp_connection *connection, void *arg)
{
    struct export *x = arg;
    struct history_series s;
    struct history_point p;
    struct text t = {0};
    struct evbuffer *piece = evbuffer_new();
    bool more = true;
    while (piece && t.n < PIECE && !t.failed && (more = history_next(x->history, &x->cursor, &s, &p)))
        put_row(x, &t, &s, &p);
    if (!more && !x->csv)
        text_string(&t, "\n]}\n");
    bool good = piece && !t.failed && (!t.n || evbuffer_add(piece, t.p, t.n) == 0);
    text_dispose(&t);
    if (good && more) {
        evhttp_send_reply_chunk_with_cb(x->http, piece, send_more, x);
        evbuffer_free(piece);
        return;
    }
    struct evhttp_request *http = x->http;
    evhttp_connection_set_closecb(connection, NULL, NULL);
    free(x);
    if (good && evbuffer_get_length(piece))
        evhttp_send_reply_chunk(http, piece);
    if (piece)
        evbuffer_free(piece);
    if (good)
        evhttp_send_reply_end(http);
    else
        evhttp_connection_free(connection); /* broken off: never a clean end of half an export */
}

void admin_show_export(struct admin_request *r)
{
    const char *format = admin_query(r, "format");
    if (!r->sources->history) {
        admin_absent(r);
        return;
    }
    if (!admin_query_word(r, "format", "json|csv"))
        return;
    struct export *x = calloc(1, sizeof *x);
    struct evbuffer *head = x ? evbuffer_new() : NULL;
    if (!head) {
        free(x);
        admin_reply(r, 503, NULL);
        return;
    }
    *x = (struct export){.http = r->http,
                         .history = r->sources->history,
                         .metrics = r->sources->metrics,
                         .custom = r->sources->custom,
                         .offset = wall_now() - r->sources->now(r->sources->ctx),
                         .csv = format && strcmp(format, "csv") == 0};
    evbuffer_add_printf(head, "%s",
                        x->csv ? "time,seconds,metric_type,operation,count,min,max,mean,p50,p95,p99,name\r\n"
                               : "{\"points\":[");
    if (!admin_reply_start(r, x->csv ? "text/csv; charset=utf-8" : "application/json")) {
        free(x); /* HEAD */
    } else {
        struct evhttp_connection *connection = evhttp_request_get_connection(r->http);
        evhttp_connection_set_closecb(connection, export_free, x);
        evhttp_send_reply_chunk_with_cb(r->http, head, send_more, x);
    }
    evbuffer_free(head);
}
