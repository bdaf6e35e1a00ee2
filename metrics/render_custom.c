/*
 * Custom metrics in the text formats of Prometheus: `promptops_custom_` and their name. Invariant: a family's
 * samples stand together, and its buckets are always the same ones.
 */
#include <stdio.h>

#include "metrics/render_inner.h"

/* Of histograms whose unit nobody told: 1, 2.5, 5 in each of nine decades. */
static const struct {
    const char *text;
    double value;
} bounds[] = {
    {"0.001", 1e-3},     {"0.0025", 2.5e-3}, {"0.005", 5e-3},    {"0.01", 1e-2},   {"0.025", 2.5e-2},
    {"0.05", 5e-2},      {"0.1", 0.1},       {"0.25", 0.25},     {"0.5", 0.5},     {"1.0", 1},
    {"2.5", 2.5},        {"5.0", 5},         {"10.0", 10},       {"25.0", 25},     {"50.0", 50},
    {"100.0", 100},      {"250.0", 250},     {"500.0", 500},     {"1000.0", 1e3},  {"2500.0", 2.5e3},
    {"5000.0", 5e3},     {"10000.0", 1e4},   {"25000.0", 2.5e4}, {"50000.0", 5e4}, {"100000.0", 1e5},
    {"250000.0", 2.5e5}, {"500000.0", 5e5},
};

/* `name{labels` without the closing brace; `le` may be NULL. */
static void put_name(const struct custom_series *s, const char *family, const char *suffix, const char *le,
                     struct text *out)
{
    char label[CUSTOM_KEY_BYTES + 1];
    bool first = true;
    text_string(out, family);
    text_string(out, suffix);
    if (!s->attribute_count && !s->folded && !le) {
        text_string(out, " ");
        return;
    }
    text_string(out, "{");
    if (s->folded) {
        render_label(out, true, "attributes", "other");
        first = false;
    }
    for (size_t i = 0; i < s->attribute_count; i++, first = false)
        if (custom_label(s->attributes[i].key, label, sizeof label))
            render_label(out, first, label, s->attributes[i].value);
    if (le)
        render_label(out, first, "le", le);
    text_string(out, "} ");
}

static void put_count(struct text *out, uint64_t n)
{
    text_uint(out, n);
    text_string(out, "\n");
}

static void put_real(struct text *out, double v)
{
    text_real(out, v);
    text_string(out, "\n");
}

static void put_sketch(const struct custom_series *s, const char *family, struct text *out)
{
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        put_name(s, family, "_bucket", bounds[i].text, out);
        put_count(out, real_sketch_below(s->sketch, bounds[i].value));
    }
    put_name(s, family, "_bucket", "+Inf", out);
    put_count(out, s->sketch->count);
    put_name(s, family, "_sum", NULL, out);
    put_real(out, s->sketch->sum);
    put_name(s, family, "_count", NULL, out);
    put_count(out, s->sketch->count);
}

static void put_metric(const struct custom_metric *m, bool open_metrics, struct text *out)
{
    char name[sizeof "promptops_custom_" + CUSTOM_NAME_BYTES + sizeof "_total"], help[192];
    snprintf(name, sizeof name, "%s%s", m->family, m->type == CUSTOM_COUNTER ? "_total" : "");
    snprintf(help, sizeof help, "Custom metric %s, posted by the application.", m->name);
    render_family(out, open_metrics, name, custom_type_name(m->type), help);
}

void render_custom(const struct custom *c, bool open_metrics, struct text *out)
{
    size_t metric = SIZE_MAX;
    for (size_t i = 0; i < custom_series(c); i++) {
        const struct custom_series *s = custom_series_at(c, i);
        const struct custom_metric *m = custom_metric_at(c, s->metric);
        if (s->metric != metric)
            put_metric(m, open_metrics, out);
        metric = s->metric;
        if (m->type == CUSTOM_HISTOGRAM) {
            put_sketch(s, m->family, out);
            continue;
        }
        put_name(s, m->family, m->type == CUSTOM_COUNTER ? "_total" : "", NULL, out);
        put_real(out, s->value);
    }
}
