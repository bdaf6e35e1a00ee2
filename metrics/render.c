/*
 * Writes all that is counted in the two text formats of Prometheus.
 *
 * Invariants: every family has HELP and TYPE once, its samples together; a histogram's
 * cumulative counts never fall and +Inf equals _count, because all come from one reading.
 * The formats differ in the names of counter families, and in the end mark.
 */
#include "metrics/render.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/exemplar.h"
#include "metrics/render_inner.h"
#include "metrics/series.h"

struct bound {
    const char *text; /* as OpenMetrics wants it: always with a point */
    double value;
};

static const struct bound second_bounds[] = {
    {"0.0001", 1e-4}, {"0.00025", 2.5e-4}, {"0.0005", 5e-4},  {"0.001", 1e-3}, {"0.0025", 2.5e-3},
    {"0.005", 5e-3},  {"0.01", 1e-2},      {"0.025", 2.5e-2}, {"0.05", 5e-2},  {"0.1", 0.1},
    {"0.25", 0.25},   {"0.5", 0.5},        {"1.0", 1},        {"2.5", 2.5},    {"5.0", 5},
    {"10.0", 10},     {"30.0", 30},        {"60.0", 60},      {"300.0", 300},
};

static const struct bound count_bounds[] = {
    {"1.0", 1},   {"2.0", 2},     {"5.0", 5},     {"10.0", 10},   {"20.0", 20},
    {"50.0", 50}, {"100.0", 100}, {"200.0", 200}, {"500.0", 500},
};

/* Help text: backslash and newline escaped; in OpenMetrics the quote, too. */
static void put_escaped(struct text *out, const char *s, bool quote)
{
    const char *special = quote ? "\\\n\"" : "\\\n";
    for (;;) {
        size_t plain = strcspn(s, special);
        text_bytes(out, s, plain);
        s += plain;
        if (!*s)
            return;
        text_string(out, *s == '\\' ? "\\\\" : *s == '\n' ? "\\n" : "\\\"");
        s++;
    }
}

void render_family(struct text *out, bool open_metrics, const char *name, const char *type, const char *help)
{
    size_t n = strlen(name);
    if (open_metrics && strcmp(type, "counter") == 0 && n > 6 && strcmp(name + n - 6, "_total") == 0)
        n -= 6;
    text_string(out, "# HELP ");
    text_bytes(out, name, n);
    text_string(out, " ");
    put_escaped(out, help, open_metrics);
    text_string(out, "\n# TYPE ");
    text_bytes(out, name, n);
    text_string(out, " ");
    text_string(out, type);
    text_string(out, "\n");
}

void render_label(struct text *out, bool first, const char *key, const char *value)
{
    text_string(out, first ? "" : ",");
    text_string(out, key);
    text_string(out, "=\"");
    put_escaped(out, value, true);
    text_string(out, "\"");
}

struct writer {
    const struct render_input *in;
    struct text *out;
    struct hist_counts *scratch; /* all zero between two histograms */
    struct text prefix;
    struct exemplar *exemplars;                 /* by operation; NULL: the format or the histogram has none */
    size_t exemplar_count, part_at, part_count; /* of the part under way: from where, how many */
};

static const struct supplied_row supplied_rows[SUPPLIED_COUNT] = {
#define SUPPLIED(id, name, label, help) {name, label, help},
#include "metrics/counters.def"
};

const struct supplied_row *supplied_row(enum supplied_id id)
{
    return &supplied_rows[(unsigned)id < SUPPLIED_COUNT ? id : 0];
}

double metrics_compression_ratio(const struct metrics *m)
{
    uint64_t from = metrics_sum(m, METRIC_COMPRESSED_FROM), to = metrics_sum(m, METRIC_COMPRESSED_TO);
    return to ? (double)from / (double)to : 1;
}

void supply(struct supplied *s, enum supplied_id id, const char *label, double value)
{
    if (s->count == SUPPLIED_MAX) {
        s->dropped++;
        return;
    }
    struct supplied_gauge *g = &s->gauge[s->count++];
    *g = (struct supplied_gauge){.id = id, .value = value};
    snprintf(g->label, sizeof g->label, "%s", label ? label : "");
}

/* ---- pieces ---- */

static void put_family(struct writer *w, const char *name, const char *type, const char *help)
{
    render_family(w->out, w->in->open_metrics, name, type, help);
}

static void put_label(struct writer *w, bool first, const char *key, const char *value)
{
    render_label(w->out, first, key, value);
}

static void put_real_sample(struct writer *w, const char *name, double v)
{
    text_string(w->out, name);
    text_string(w->out, " ");
    text_real(w->out, v);
    text_string(w->out, "\n");
}

/* ---- plain counters and gauges ---- */

static void put_metric_value(struct writer *w, const struct metric_row *row, uint64_t v)
{
    if (row->kind == METRIC_SECONDS)
        text_real(w->out, (double)v / 1e9);
    else if (row->kind == METRIC_GAUGE)
        text_int(w->out, metric_signed(v));
    else
        text_uint(w->out, v);
}

static void put_metrics(struct writer *w)
{
    const char *family = "";
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        const struct metric_row *row = metric_row(i);
        if (!*row->name)
            continue;
        if (strcmp(row->name, family) != 0)
            put_family(w, row->name, row->kind == METRIC_GAUGE ? "gauge" : "counter", row->help);
        family = row->name;
        text_string(w->out, row->name);
        if (*row->labels) {
            text_string(w->out, "{");
            text_string(w->out, row->labels);
            text_string(w->out, "}");
        }
        text_string(w->out, " ");
        put_metric_value(w, row, metrics_sum(w->in->metrics, i));
        text_string(w->out, "\n");
    }
}

/* ---- series ---- */

static void put_series(struct writer *w, enum series_id id)
{
    size_t n, labels;
    struct metrics_label label[METRICS_LABELS];
    char room[METRICS_LABEL_ROOM];
    struct series_count *all = metrics_series_sum(w->in->metrics, id, &n);
    w->out->failed |= !all;
    put_family(w, series_name(id), "counter", series_help(id));
    for (size_t i = 0; all && i < n; i++) {
        struct series_tuple tuple = metrics_tuple(all[i].key);
        text_string(w->out, series_name(id));
        text_string(w->out, "{");
        labels = metrics_tuple_labels(w->in->metrics, id, &tuple, label, room);
        for (size_t k = 0; k < labels; k++)
            put_label(w, k == 0, label[k].key, label[k].value);
        text_string(w->out, "} ");
        text_uint(w->out, all[i].count);
        text_string(w->out, "\n");
    }
    free(all);
}

/* ---- histograms ---- */

struct histogram_label {
    const char *name; /* "" for none */
    const char *value;
};

/* `name_sum{label="value"} ` or, without a label, `name_sum `. */
static void put_histogram_name(struct writer *w, const char *name, const char *suffix,
                               const struct histogram_label *label)
{
    text_string(w->out, name);
    text_string(w->out, suffix);
    if (*label->name) {
        text_string(w->out, "{");
        put_label(w, true, label->name, label->value);
        text_string(w->out, "}");
    }
    text_string(w->out, " ");
}

/* What all buckets of a histogram begin with, made once: `name_bucket{label="value",le="`. */
static void make_prefix(struct writer *w, const char *name, const struct histogram_label *label)
{
    struct text *out = w->out;
    text_clear(&w->prefix);
    w->out = &w->prefix;
    text_string(w->out, name);
    text_string(w->out, "_bucket{");
    if (*label->name) {
        put_label(w, true, label->name, label->value);
        text_string(w->out, ",");
    }
    text_string(w->out, "le=\"");
    w->out = out;
    out->failed |= w->prefix.failed;
}

static void put_bucket(struct writer *w, const char *bound, uint64_t below, double above, double upto)
{
    const struct exemplar *e =
        w->part_count ? render_exemplar_pick(w->exemplars + w->part_at, w->part_count, above, upto) : NULL;
    text_bytes(w->out, w->prefix.p, w->prefix.n);
    text_string(w->out, bound);
    text_bytes(w->out, "\"} ", 3);
    text_uint(w->out, below);
    if (e)
        render_exemplar(w->out, e);
    text_bytes(w->out, "\n", 1);
}

/* A fine bucket counts under a bound when its middle does not exceed it: the bound is so off by at most 0.8
 * %. The scratch is used up: all zero behind it. */
static void put_histogram(struct writer *w, const struct histogram_row *row,
                          const struct histogram_label *label)
{
    const struct bound *bounds = row->seconds ? second_bounds : count_bounds;
    size_t n = row->seconds ? sizeof second_bounds / sizeof *bounds : sizeof count_bounds / sizeof *bounds;
    double unit = row->seconds ? 1e9 : 1;
    double bound = 0;
    uint64_t below = 0;
    unsigned at = 0;
    make_prefix(w, row->name, label);
    for (size_t i = 0; i < n; i++) {
        double above = bound;
        bound = bounds[i].value * unit;
        unsigned end = hist_index((uint64_t)bound);
        end += hist_middle(end) <= bound;
        for (; at < end; at++) {
            below += w->scratch->v[at];
            w->scratch->v[at] = 0;
        }
        put_bucket(w, bounds[i].text, below, above, bound);
    }
    put_bucket(w, "+Inf", w->scratch->count, bound, HUGE_VAL);
    put_histogram_name(w, row->name, "_sum", label);
    text_real(w->out, (double)w->scratch->sum / unit);
    text_string(w->out, "\n");
    put_histogram_name(w, row->name, "_count", label);
    text_uint(w->out, w->scratch->count);
    text_string(w->out, "\n");
    memset(w->scratch->v + at, 0, (HIST_BUCKETS - at) * sizeof *w->scratch->v);
    w->scratch->count = w->scratch->sum = w->scratch->max = 0;
}

static void put_histograms(struct writer *w, enum histogram_id id)
{
    const struct histogram_row *row = histogram_row(id);
    put_family(w, row->name, "histogram", row->help);
    if (!*row->label) {
        metrics_histogram(w->in->metrics, id, 0, w->scratch);
        put_histogram(w, row, &(struct histogram_label){"", ""});
        return;
    }
    for (int i = 0; i < metrics_parts(id); i++) {
        if (!metrics_histogram(w->in->metrics, id, i, w->scratch) && id != HISTOGRAM_CONNECT)
            continue; /* an operation not seen yet */
        const char *value = metrics_part_name(w->in->metrics, id, i);
        w->part_at += w->part_count;
        w->part_count = render_exemplars_of(w->exemplars, w->exemplar_count, (unsigned)i, &w->part_at);
        put_histogram(w, row, &(struct histogram_label){row->label, value});
    }
}

/* ---- what others keep ---- */

static void put_supplied(struct writer *w, enum supplied_id id)
{
    const struct supplied *s = w->in->supplied;
    bool opened = false;
    for (size_t i = 0; s && i < s->count; i++) {
        const struct supplied_gauge *g = &s->gauge[i];
        if (g->id != id)
            continue;
        if (!opened)
            put_family(w, supplied_rows[id].name, "gauge", supplied_rows[id].help);
        opened = true;
        text_string(w->out, supplied_rows[id].name);
        if (*supplied_rows[id].label) {
            text_string(w->out, "{");
            put_label(w, true, supplied_rows[id].label, g->label);
            text_string(w->out, "}");
        }
        put_real_sample(w, "", g->value);
    }
}

static void put_compression_ratio(struct writer *w)
{
    put_family(w, supplied_rows[SUPPLIED_COMPRESSION_RATIO].name, "gauge",
               supplied_rows[SUPPLIED_COMPRESSION_RATIO].help);
    put_real_sample(w, supplied_rows[SUPPLIED_COMPRESSION_RATIO].name,
                    metrics_compression_ratio(w->in->metrics));
}

static void put_process_gauge(struct writer *w, const char *name, const char *help, double v)
{
    put_family(w, name, "gauge", help);
    put_real_sample(w, name, v);
}

static void put_process(struct writer *w, const struct process_values *p)
{
    put_family(w, "process_cpu_seconds_total", "counter", "Processor time, user and system.");
    put_real_sample(w, "process_cpu_seconds_total", (double)p->cpu_ns / 1e9);
    put_process_gauge(w, "process_resident_memory_bytes", "Memory in use.", (double)p->resident_bytes);
    put_process_gauge(w, "process_virtual_memory_bytes", "Address space in use.", (double)p->virtual_bytes);
    put_process_gauge(w, "process_open_fds", "Open file descriptors.", (double)p->open_files);
    if (p->max_files)
        put_process_gauge(w, "process_max_fds", "File descriptors allowed.", (double)p->max_files);
    put_process_gauge(w, "process_threads", "Threads.", (double)p->threads);
    put_process_gauge(w, "process_start_time_seconds", "Start of the process in seconds since 1970.",
                      p->start_time);
    put_family(w, "promptops_build_info", "gauge", "Always 1; the label says which version runs.");
    text_string(w->out, "promptops_build_info{");
    put_label(w, true, "version", p->version ? p->version : "unknown");
    text_string(w->out, "} 1\n");
}

bool render_metrics(const struct render_input *input, struct text *out)
{
    struct writer w = {.in = input, .out = out, .scratch = calloc(1, sizeof(struct hist_counts))};
    if (!w.scratch)
        return false;
    for (unsigned i = 0; i < SERIES_COUNT; i++)
        put_series(&w, i);
    for (unsigned i = 0; i < HISTOGRAM_COUNT; i++) {
        bool exemplars = input->open_metrics && i == HISTOGRAM_REQUEST;
        w.exemplar_count = exemplars ? render_exemplars_gather(input->metrics, &w.exemplars) : 0;
        w.part_at = w.part_count = 0;
        put_histograms(&w, i);
    }
    free(w.exemplars);
    put_metrics(&w);
    for (unsigned i = 0; i < SUPPLIED_COUNT; i++)
        if (i != SUPPLIED_COMPRESSION_RATIO)
            put_supplied(&w, i);
    put_compression_ratio(&w);
    if (input->process)
        put_process(&w, input->process);
    if (input->custom)
        render_custom(input->custom, input->open_metrics, out);
    if (input->open_metrics)
        text_string(out, "# EOF\n");
    free(w.scratch);
    text_dispose(&w.prefix);
    return !out->failed;
}
