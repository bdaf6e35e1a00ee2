/*
 * The metrics message. Invariants: what /metrics shows and what is written here come from the same sums; a
 * metric is written only with a data point in it; a cumulative point begins when its counter was zero.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/otlp.h"
#include "metrics/otlp_histogram.h"
#include "metrics/series.h"

enum { GAUGE = 5, SUM = 7, EXPONENTIAL = 10 };          /* fields of Metric */
enum { NUMBER_ATTRIBUTE = 7, HISTOGRAM_ATTRIBUTE = 1 }; /* fields of the data points */
enum { NUMBER_EXEMPLAR = 5, HISTOGRAM_EXEMPLAR = 11, CUMULATIVE = 2 };

struct writer {
    const struct otlp_metrics_input *in;
    struct text *out;
    size_t points;
    size_t metric, data; /* marks of the metric that is open */
    unsigned kind;       /* 0: none is open */
    bool monotonic;
    struct hist_counts counts;
    struct expo expo;
};

/* ---- metrics and points ---- */

static void end_metric(struct writer *w)
{
    if (!w->kind)
        return;
    if (w->kind != GAUGE)
        pb_uint(w->out, 2, CUMULATIVE);
    if (w->kind == SUM && w->monotonic)
        pb_uint(w->out, 3, 1);
    pb_close(w->out, w->data);
    pb_close(w->out, w->metric);
    w->kind = 0;
}

struct heading {
    const char *name, *help, *unit;
    unsigned kind;
    bool monotonic; /* of a SUM */
};

static void begin_metric(struct writer *w, const struct heading *h)
{
    end_metric(w);
    w->metric = pb_open(w->out, 2);
    pb_string(w->out, 1, h->name);
    if (*h->help)
        pb_string(w->out, 2, h->help);
    if (*h->unit)
        pb_string(w->out, 3, h->unit);
    w->data = pb_open(w->out, h->kind);
    w->kind = h->kind;
    w->monotonic = h->monotonic;
}

/* Begins a metric of /metrics: promptops_x_total as promptops.x. */
static void begin_own(struct writer *w, const char *name, const char *help, unsigned kind)
{
    char own[160];
    size_t n = (size_t)snprintf(own, sizeof own, "%s", name);
    if (strncmp(own, "promptops_", 10) == 0)
        own[9] = '.';
    if (kind == SUM && n > 6 && strcmp(own + n - 6, "_total") == 0)
        own[n - 6] = '\0';
    struct heading h = {own, help,
                        strstr(own, "_seconds") ? "s"
                        : strstr(own, "_bytes") ? "By"
                                                : "",
                        kind, true};
    begin_metric(w, &h);
}

static size_t begin_point(struct writer *w, int64_t start)
{
    size_t mark = pb_open(w->out, 1);
    if (w->kind != GAUGE)
        pb_fixed64(w->out, 2, (uint64_t)start);
    pb_fixed64(w->out, 3, (uint64_t)w->in->now);
    w->points++;
    return mark;
}

static void put_int(struct writer *w, int64_t v)
{
    pb_fixed64(w->out, 6, (uint64_t)v);
}

static void put_real(struct writer *w, double v)
{
    pb_double(w->out, 4, v);
}

static void put_attribute(struct writer *w, const char *key, const char *value)
{
    otlp_text(w->out, w->kind == EXPONENTIAL ? HISTOGRAM_ATTRIBUTE : NUMBER_ATTRIBUTE, key, value);
}

/* ---- counters and gauges ---- */

/* `key="value",key="value"` of counters.def. */
static void put_fixed_labels(struct writer *w, const char *labels)
{
    char key[32], value[64];
    int n = 0;
    while (sscanf(labels, "%31[^=]=\"%63[^\"]\"%n", key, value, &n) == 2) {
        put_attribute(w, key, value);
        labels += n;
        if (*labels == ',')
            labels++;
    }
}

static void put_counters(struct writer *w)
{
    const char *family = "";
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        const struct metric_row *row = metric_row(i);
        uint64_t v = metrics_sum(w->in->scene->metrics, i);
        if (!*row->name)
            continue;
        if (strcmp(row->name, family) != 0)
            begin_own(w, row->name, row->help, row->kind == METRIC_GAUGE ? GAUGE : SUM);
        family = row->name;
        size_t point = begin_point(w, w->in->start);
        if (row->kind == METRIC_SECONDS)
            put_real(w, (double)v / 1e9);
        else
            put_int(w, metric_signed(v));
        put_fixed_labels(w, row->labels);
        pb_close(w->out, point);
    }
}

static void put_series(struct writer *w, enum series_id id)
{
    const struct metrics *m = w->in->scene->metrics;
    struct metrics_label label[METRICS_LABELS];
    char room[METRICS_LABEL_ROOM];
    size_t n;
    struct series_count *all = metrics_series_sum(m, id, &n);
    w->out->failed |= !all;
    if (n)
        begin_own(w, series_name(id), series_help(id), SUM);
    for (size_t i = 0; i < n; i++) {
        struct series_tuple tuple = metrics_tuple(all[i].key);
        size_t labels = metrics_tuple_labels(m, id, &tuple, label, room);
        size_t point = begin_point(w, w->in->start);
        put_int(w, (int64_t)all[i].count);
        for (size_t k = 0; k < labels; k++)
            put_attribute(w, label[k].key, label[k].value);
        pb_close(w->out, point);
    }
    free(all);
}

static void put_supplied(struct writer *w)
{
    const struct supplied *s = w->in->supplied;
    for (unsigned id = 0; s && id < SUPPLIED_COUNT; id++) {
        const struct supplied_row *row = supplied_row(id);
        bool begun = false;
        for (size_t i = 0; i < s->count; i++) {
            if (s->gauge[i].id != id)
                continue;
            if (!begun)
                begin_own(w, row->name, row->help, GAUGE);
            begun = true;
            size_t point = begin_point(w, 0);
            put_real(w, s->gauge[i].value);
            if (*row->label)
                put_attribute(w, row->label, s->gauge[i].label);
            pb_close(w->out, point);
        }
    }
    const struct supplied_row *ratio = supplied_row(SUPPLIED_COMPRESSION_RATIO);
    begin_own(w, ratio->name, ratio->help, GAUGE);
    size_t point = begin_point(w, 0);
    put_real(w, metrics_compression_ratio(w->in->scene->metrics));
    pb_close(w->out, point);
}

static void put_one(struct writer *w, const struct heading *h, double v)
{
    begin_metric(w, h);
    size_t point = begin_point(w, w->in->start);
    put_real(w, v);
    pb_close(w->out, point);
}

static void put_process(struct writer *w)
{
    const struct process_values *p = w->in->process;
    const struct {
        struct heading heading;
        double value;
    } rows[] = {
        {{"process.cpu.time", "Processor time, user and system.", "s", SUM, true}, (double)p->cpu_ns / 1e9},
        {{"process.memory.usage", "Resident memory.", "By", SUM, false}, (double)p->resident_bytes},
        {{"process.memory.virtual", "Address space.", "By", SUM, false}, (double)p->virtual_bytes},
        {{"process.unix.file_descriptor.count", "Open file descriptors.", "{file_descriptor}", SUM, false},
         (double)p->open_files},
        {{"process.thread.count", "Threads.", "{thread}", SUM, false}, (double)p->threads},
        {{"process.uptime", "Time since the start.", "s", GAUGE, false},
         (double)w->in->now / 1e9 - p->start_time},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        put_one(w, &rows[i].heading, rows[i].value);
}

/* ---- histograms ---- */

static void put_histograms(struct writer *w, enum histogram_id id)
{
    const struct histogram_row *row = histogram_row(id);
    bool begun = false;
    for (int i = 0; i < metrics_parts(id); i++) {
        memset(&w->counts, 0, sizeof w->counts);
        if (!metrics_histogram(w->in->scene->metrics, id, i, &w->counts))
            continue;
        if (!begun)
            begin_own(w, row->name, row->help, EXPONENTIAL);
        begun = true;
        size_t point = begin_point(w, w->in->start);
        expo_of_counts(&w->expo, &w->counts, row->seconds ? 1e9 : 1);
        expo_put(w->out, &w->expo);
        if (*row->label)
            put_attribute(w, row->label, metrics_part_name(w->in->scene->metrics, id, i));
        pb_close(w->out, point);
    }
}

static bool same_key(const struct http_key *a, const struct http_key *b)
{
    return a->route == b->route && a->status == b->status && a->cause == b->cause && a->method == b->method &&
           a->other == b->other;
}

static void put_exemplars(struct writer *w, enum metrics_http_side side, const struct http_key *key)
{
    for (size_t i = 0; i < w->in->exemplar_count; i++) {
        const struct otlp_exemplar *e = &w->in->exemplars[i];
        if (e->side != side || !same_key(&e->key, key))
            continue;
        size_t mark = pb_open(w->out, HISTOGRAM_EXEMPLAR);
        pb_fixed64(w->out, 2, (uint64_t)e->at);
        pb_double(w->out, 3, e->value);
        pb_bytes(w->out, 4, e->span_id, sizeof e->span_id);
        pb_bytes(w->out, 5, e->trace_id, sizeof e->trace_id);
        pb_close(w->out, mark);
    }
}

/* Attributes by the semantic conventions for HTTP metrics. */
static void put_http_attributes(struct writer *w, enum metrics_http_side side, const struct http_key *k)
{
    const struct otlp_scene *s = w->in->scene;
    bool server = side == METRICS_HTTP_SERVER;
    const char *method = metrics_method_name(s->metrics, k->method),
               *route = metrics_route_name(s->metrics, k->route);
    char room[12];
    snprintf(room, sizeof room, "%u", k->status);
    if (k->other) {
        otlp_bool(w->out, HISTOGRAM_ATTRIBUTE, "otel.metric.overflow", true);
        return;
    }
    put_attribute(w, "http.request.method", strcmp(method, "OTHER") == 0 ? "_OTHER" : method);
    put_attribute(w, "url.scheme", server ? s->listen_scheme : s->server_scheme);
    if (k->status)
        otlp_int(w->out, HISTOGRAM_ATTRIBUTE, "http.response.status_code", k->status);
    if (server && *route)
        put_attribute(w, "http.route", route);
    if (!server) {
        put_attribute(w, "server.address", s->server_address);
        otlp_int(w->out, HISTOGRAM_ATTRIBUTE, "server.port", s->server_port);
    }
    if (k->status >= (server ? 500 : 400))
        put_attribute(w, "error.type", room);
    else if (server && k->cause)
        put_attribute(w, "error.type", metrics_reason_name(s->metrics, k->cause));
    else if (!server && !k->status)
        put_attribute(w, "error.type", metrics_outcome_name(s->metrics, k->cause, (char[8]){0}));
}

struct http_walk {
    struct writer *w;
    enum metrics_http_side side;
};

static void put_http(void *ctx, const struct http_key *key, const struct hist_counts *counts)
{
    struct http_walk *walk = ctx;
    struct writer *w = walk->w;
    size_t point = begin_point(w, w->in->http_start);
    expo_of_counts(&w->expo, counts, 1e9);
    expo_put(w->out, &w->expo);
    put_http_attributes(w, walk->side, key);
    put_exemplars(w, walk->side, key);
    pb_close(w->out, point);
}

static void put_conventions(struct writer *w)
{
    static const struct heading headings[METRICS_HTTP_SIDES] = {
        {"http.server.request.duration", "Duration of HTTP server requests.", "s", EXPONENTIAL, false},
        {"http.client.request.duration", "Duration of HTTP client requests.", "s", EXPONENTIAL, false},
    };
    for (int side = 0; side < METRICS_HTTP_SIDES; side++) {
        struct http_walk walk = {w, (enum metrics_http_side)side};
        size_t before = w->out->n, points = w->points;
        begin_metric(w, &headings[side]);
        w->out->failed |= !metrics_http_walk(w->in->scene->metrics, walk.side, put_http, &walk);
        end_metric(w);
        if (w->points == points && !w->out->failed)
            w->out->n = before; /* nothing yet */
    }
}

/* ---- custom metrics ---- */

static void put_custom_series(struct writer *w, const struct custom_series *s)
{
    size_t point = begin_point(w, s->began + w->in->scene->offset);
    if (w->kind == EXPONENTIAL) {
        expo_of_sketch(&w->expo, s->sketch);
        expo_put(w->out, &w->expo);
    } else {
        put_real(w, s->value);
    }
    for (size_t i = 0; i < s->attribute_count; i++)
        put_attribute(w, s->attributes[i].key, s->attributes[i].value);
    if (s->folded)
        otlp_bool(w->out, w->kind == EXPONENTIAL ? HISTOGRAM_ATTRIBUTE : NUMBER_ATTRIBUTE,
                  "otel.metric.overflow", true);
    pb_close(w->out, point);
}

static void put_custom(struct writer *w)
{
    static const unsigned kinds[CUSTOM_TYPES] = {SUM, GAUGE, EXPONENTIAL};
    size_t metric = SIZE_MAX;
    for (size_t i = 0; i < custom_series(w->in->custom); i++) {
        const struct custom_series *s = custom_series_at(w->in->custom, i);
        const struct custom_metric *m = custom_metric_at(w->in->custom, s->metric);
        struct heading h = {m->name, "", "", kinds[m->type], true};
        if (s->metric != metric)
            begin_metric(w, &h);
        metric = s->metric;
        put_custom_series(w, s);
    }
    end_metric(w);
}

bool otlp_metrics(const struct otlp_metrics_input *in, struct text *out, size_t *points)
{
    struct writer *w = calloc(1, sizeof *w);
    if (!w)
        return false;
    w->in = in;
    w->out = out;
    struct otlp_envelope envelope = otlp_open(out, in->scene);
    for (unsigned i = 0; i < SERIES_COUNT; i++)
        put_series(w, i);
    for (unsigned i = 0; i < HISTOGRAM_COUNT; i++)
        put_histograms(w, i);
    put_counters(w);
    put_supplied(w);
    if (in->process)
        put_process(w);
    end_metric(w);
    put_conventions(w);
    if (in->custom && custom_series(in->custom)) {
        otlp_next_scope(out, &envelope, in->scene, "promptops-sidecar/custom");
        put_custom(w);
    }
    otlp_close(out, &envelope);
    *points = w->points;
    free(w);
    return !out->failed;
}
