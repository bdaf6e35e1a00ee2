/*
 * The custom metrics. Invariants: names and families are unique; a series belongs to one metric for good;
 * nothing is removed, so that a counter never goes back; `series` holds those of a metric side by side.
 */
#include "metrics/custom.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "promptops_custom_"

struct custom {
    struct custom_metric *metrics[CUSTOM_NAMES];
    size_t metric_count;
    struct custom_series *series[CUSTOM_SERIES + CUSTOM_NAMES]; /* each name may have a folded one */
    size_t series_count, folded_series;
    uint64_t samples, folded;
};

static const char *const type_names[CUSTOM_TYPES] = {"counter", "gauge", "histogram"};

const char *custom_type_name(enum custom_type type)
{
    return type_names[(unsigned)type < CUSTOM_TYPES ? type : 0];
}

bool custom_type_find(const char *name, enum custom_type *out)
{
    for (int i = 0; i < CUSTOM_TYPES; i++)
        if (strcmp(name, type_names[i]) == 0) {
            *out = (enum custom_type)i;
            return true;
        }
    return false;
}

struct custom *custom_new(void)
{
    return calloc(1, sizeof(struct custom));
}

static void metric_free(struct custom_metric *m)
{
    if (!m)
        return;
    free(m->name);
    free(m->family);
    free(m);
}

static void series_free_one(struct custom_series *s)
{
    if (!s)
        return;
    for (size_t i = 0; s->attributes && i < s->attribute_count; i++) {
        free((char *)(uintptr_t)s->attributes[i].key);
        free((char *)(uintptr_t)s->attributes[i].value);
    }
    free(s->attributes);
    free(s->sketch);
    free(s);
}

void custom_free(struct custom *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->metric_count; i++)
        metric_free(c->metrics[i]);
    for (size_t i = 0; i < c->series_count; i++)
        series_free_one(c->series[i]);
    free(c);
}

/* ---- names ---- */

static bool is_letter(char ch)
{
    return (ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z') || ch == '_';
}

static bool is_word(const char *s)
{
    if (!is_letter(*s))
        return false;
    for (; *s; s++)
        if (!is_letter(*s) && !(*s >= '0' && *s <= '9') && *s != '.' && *s != '-' && *s != '/')
            return false;
    return true;
}

static bool ends_in(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n > k && strcmp(s + n - k, tail) == 0;
}

bool custom_label(const char *key, char *out, size_t room)
{
    size_t n = strlen(key);
    if (n >= room)
        return false;
    for (size_t i = 0; i <= n; i++)
        out[i] = key[i] == '.' || key[i] == '-' || key[i] == '/' ? '_' : key[i];
    return true;
}

enum { FAMILY_BYTES = sizeof PREFIX + CUSTOM_NAME_BYTES };

static void family_of(const char *name, enum custom_type type, char out[FAMILY_BYTES])
{
    memcpy(out, PREFIX, sizeof PREFIX);
    (void)custom_label(name, out + sizeof PREFIX - 1, CUSTOM_NAME_BYTES + 1);
    if (type == CUSTOM_COUNTER && ends_in(out, "_total"))
        out[strlen(out) - 6] = '\0';
}

/* ---- judging ---- */

static bool wrong(struct custom_error *e, const char *field, const char *what, const char *remedy)
{
    snprintf(e->field, sizeof e->field, "%s", field);
    snprintf(e->what, sizeof e->what, "%s", what);
    snprintf(e->remedy, sizeof e->remedy, "%s", remedy);
    return false;
}

static bool check_name(const struct custom_sample *s, struct custom_error *e)
{
    static const char *const kept[] = {"_total", "_sum", "_count", "_bucket", "_created", "_info"};
    char family[FAMILY_BYTES], what[160];
    size_t n = strlen(s->name);
    if (n == 0 || n > CUSTOM_NAME_BYTES || !is_word(s->name))
        return wrong(
            e, "name", "is not a name of 1 to 128 bytes",
            "Begin with a letter or _, go on with letters, digits and . - / _, as in app.jobs.done.");
    family_of(s->name, s->type, family);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (ends_in(family, kept[i])) {
            snprintf(what, sizeof what, "ends in %s, which /metrics keeps for parts of %s", kept[i],
                     i == 0 ? "counters" : "histograms and other types");
            return wrong(e, "name", what,
                         "Choose another end for the name, or, for _total, the type counter.");
        }
    return true;
}

static bool check_value(const struct custom_sample *s, struct custom_error *e)
{
    if (!isfinite(s->value))
        return wrong(e, "value", "is not a finite number", "Send a number, as in 1 or 0.25.");
    if (s->type == CUSTOM_COUNTER && s->value < 0)
        return wrong(e, "value", "is below 0, and counters only grow",
                     "Send what is to be added, or choose the type gauge.");
    return true;
}

static bool check_text(const char *value)
{
    for (const char *p = value; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return strlen(value) <= CUSTOM_VALUE_BYTES;
}

static bool check_attributes(const struct custom_sample *s, struct custom_error *e)
{
    char field[96], label[CUSTOM_KEY_BYTES + 1], other[CUSTOM_KEY_BYTES + 1];
    for (size_t i = 0; i < s->attribute_count; i++) {
        const char *key = s->attributes[i].key;
        snprintf(field, sizeof field, "attributes.%.64s", key);
        if (strlen(key) > CUSTOM_KEY_BYTES || !is_word(key) || strncmp(key, "__", 2) == 0)
            return wrong(e, field, "is not a name of 1 to 64 bytes",
                         "Begin with a letter, go on with letters, digits and . - / _.");
        if (!check_text(s->attributes[i].value))
            return wrong(e, field, "is longer than 128 bytes, or has control characters",
                         "Send short text that comes in few variants: each makes a series of its own.");
        (void)custom_label(key, label, sizeof label);
        if (strcmp(label, "le") == 0 || strcmp(label, "quantile") == 0 || strcmp(label, "attributes") == 0)
            return wrong(e, field, "is a label that /metrics keeps for itself", "Choose another name.");
        for (size_t k = 0; k < i; k++) {
            (void)custom_label(s->attributes[k].key, other, sizeof other);
            if (strcmp(label, other) == 0)
                return wrong(e, field, "is the same label in /metrics as another attribute",
                             "Send each attribute once; . - / and _ are the same there.");
        }
    }
    return true;
}

/* Two uses of a name must agree, and two names must not become one in /metrics. */
static bool check_pair(const struct custom_sample *s, const char *name, const char *family,
                       enum custom_type type, struct custom_error *e)
{
    char own[FAMILY_BYTES], what[160];
    if (strcmp(s->name, name) == 0 && s->type != type) {
        snprintf(what, sizeof what, "is %s, but this name is a %s already", custom_type_name(s->type),
                 custom_type_name(type));
        return wrong(e, "type", what, "Keep to one type for a name, or choose another name.");
    }
    family_of(s->name, s->type, own);
    if (strcmp(s->name, name) == 0 || strcmp(own, family) != 0)
        return true;
    snprintf(what, sizeof what, "would be the same in /metrics as %.100s", name);
    return wrong(e, "name", what, "Choose another name: . - / and _ are the same there.");
}

static bool check_others(const struct custom *c, const struct custom_sample *samples, size_t at,
                         struct custom_error *e)
{
    const struct custom_sample *s = &samples[at];
    char family[FAMILY_BYTES];
    for (size_t i = 0; i < c->metric_count; i++)
        if (!check_pair(s, c->metrics[i]->name, c->metrics[i]->family, c->metrics[i]->type, e))
            return false;
    for (size_t i = 0; i < at; i++) {
        family_of(samples[i].name, samples[i].type, family);
        if (!check_pair(s, samples[i].name, family, samples[i].type, e))
            return false;
    }
    return true;
}

static bool is_new(const struct custom *c, const struct custom_sample *samples, size_t at)
{
    if (custom_find(c, samples[at].name) >= 0)
        return false;
    for (size_t i = 0; i < at; i++)
        if (strcmp(samples[i].name, samples[at].name) == 0)
            return false;
    return true;
}

bool custom_check(const struct custom *c, const struct custom_sample *samples, size_t n,
                  struct custom_error *error)
{
    size_t names = c->metric_count;
    memset(error, 0, sizeof *error);
    for (size_t i = 0; i < n; i++) {
        error->sample = i;
        if (!check_name(&samples[i], error) || !check_value(&samples[i], error) ||
            !check_attributes(&samples[i], error) || !check_others(c, samples, i, error))
            return false;
        names += is_new(c, samples, i);
        if (names > CUSTOM_NAMES) {
            error->no_room = true;
            return wrong(error, "name", "finds no room: 128 names are known",
                         "Use fewer names, and attributes for what varies; names are kept until the process "
                         "ends.");
        }
    }
    return true;
}

/* ---- counting ---- */

int custom_find(const struct custom *c, const char *name)
{
    for (size_t i = 0; i < c->metric_count; i++)
        if (strcmp(c->metrics[i]->name, name) == 0)
            return (int)i;
    return -1;
}

static int add_metric(struct custom *c, const struct custom_sample *s)
{
    char family[FAMILY_BYTES];
    struct custom_metric *m = c->metric_count < CUSTOM_NAMES ? calloc(1, sizeof *m) : NULL;
    if (!m)
        return -1;
    family_of(s->name, s->type, family);
    m->name = strdup(s->name);
    m->family = strdup(family);
    m->type = s->type;
    m->newest = NAN;
    if (!m->name || !m->family) {
        metric_free(m);
        return -1;
    }
    c->metrics[c->metric_count] = m;
    return (int)c->metric_count++;
}

int custom_know(struct custom *c, const char *name, enum custom_type type)
{
    struct custom_sample s = {.name = name, .type = type};
    struct custom_error error;
    if ((unsigned)type >= CUSTOM_TYPES || !custom_check(c, &s, 1, &error))
        return -1;
    int known = custom_find(c, name);
    return known >= 0 ? known : add_metric(c, &s);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct custom_attribute *)a)->key, ((const struct custom_attribute *)b)->key);
}

/* FNV-1a: it only speeds up the search. */
static uint64_t hash_of(size_t metric, const struct custom_attribute *a, size_t n)
{
    uint64_t h = UINT64_C(14695981039346656037) ^ metric;
    for (size_t i = 0; i < 2 * n; i++)
        for (const char *p = i % 2 ? a[i / 2].value : a[i / 2].key;; p++) {
            h = (h ^ (unsigned char)*p) * UINT64_C(1099511628211);
            if (!*p)
                break;
        }
    return h;
}

static bool same(const struct custom_series *s, const struct custom_attribute *a, size_t n)
{
    if (s->attribute_count != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (strcmp(s->attributes[i].key, a[i].key) != 0 || strcmp(s->attributes[i].value, a[i].value) != 0)
            return false;
    return true;
}

static struct custom_series *find_series(const struct custom *c, size_t metric, bool folded,
                                         const struct custom_attribute *a, size_t n)
{
    uint64_t hash = hash_of(metric, a, n);
    for (size_t i = 0; i < c->series_count; i++) {
        struct custom_series *s = c->series[i];
        if (s->hash == hash && s->metric == metric && s->folded == folded && same(s, a, n))
            return s;
    }
    return NULL;
}

static bool copy_attributes(struct custom_series *s, const struct custom_attribute *a, size_t n)
{
    s->attributes = calloc(n + 1, sizeof *s->attributes);
    if (!s->attributes)
        return false;
    for (size_t i = 0; i < n; i++) {
        s->attributes[i].key = strdup(a[i].key);
        s->attributes[i].value = strdup(a[i].value);
        s->attribute_count = i + 1;
        if (!s->attributes[i].key || !s->attributes[i].value)
            return false;
    }
    return true;
}

static struct custom_series *add_series(struct custom *c, size_t metric, bool folded,
                                        const struct custom_attribute *a, size_t n)
{
    struct custom_series *s = calloc(1, sizeof *s);
    bool histogram = c->metrics[metric]->type == CUSTOM_HISTOGRAM;
    if (!s)
        return NULL;
    s->metric = metric;
    s->folded = folded;
    s->hash = hash_of(metric, a, n);
    s->sketch = histogram ? calloc(1, sizeof *s->sketch) : NULL;
    if (!copy_attributes(s, a, n) || (histogram && !s->sketch)) {
        series_free_one(s);
        return NULL;
    }
    size_t at = c->series_count;
    while (at > 0 && c->series[at - 1]->metric > metric)
        at--;
    memmove(&c->series[at + 1], &c->series[at], (c->series_count - at) * sizeof *c->series);
    c->series[at] = s;
    c->series_count++;
    if (folded)
        c->folded_series++;
    else
        c->metrics[metric]->series_count++;
    return s;
}

/* The sample's series, made at its first sight; the folded one when there is no room. NULL: no memory. */
static struct custom_series *series_of(struct custom *c, size_t metric, const struct custom_sample *sample,
                                       bool *folded)
{
    struct custom_attribute sorted[CUSTOM_ATTRIBUTES];
    size_t n = sample->attribute_count;
    memcpy(sorted, sample->attributes, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_key);
    *folded = false;
    struct custom_series *s = find_series(c, metric, false, sorted, n);
    if (s)
        return s;
    if (c->metrics[metric]->series_count < CUSTOM_SERIES_OF_NAME &&
        c->series_count - c->folded_series < CUSTOM_SERIES)
        return add_series(c, metric, false, sorted, n);
    *folded = true;
    s = find_series(c, metric, true, NULL, 0);
    return s ? s : add_series(c, metric, true, NULL, 0);
}

bool custom_add(struct custom *c, const struct custom_sample *sample, int64_t now, bool *folded)
{
    int metric = custom_find(c, sample->name);
    if (metric < 0)
        metric = add_metric(c, sample);
    struct custom_series *s = metric >= 0 ? series_of(c, (size_t)metric, sample, folded) : NULL;
    if (!s)
        return false;
    struct custom_metric *m = c->metrics[metric];
    if (s->began == 0)
        s->began = now;
    s->changed = now;
    if (m->type == CUSTOM_COUNTER)
        s->value += sample->value;
    else if (m->type == CUSTOM_GAUGE)
        s->value = m->newest = sample->value;
    else
        real_sketch_add(s->sketch, sample->value, 1);
    real_sketch_add(&m->second, sample->value, 1);
    c->samples++;
    c->folded += *folded;
    return true;
}

/* ---- reading ---- */

size_t custom_metrics(const struct custom *c)
{
    return c->metric_count;
}

struct custom_metric *custom_metric_at(const struct custom *c, size_t i)
{
    return c->metrics[i];
}

size_t custom_series(const struct custom *c)
{
    return c->series_count;
}

const struct custom_series *custom_series_at(const struct custom *c, size_t i)
{
    return c->series[i];
}

uint64_t custom_samples(const struct custom *c)
{
    return c->samples;
}

uint64_t custom_folded(const struct custom *c)
{
    return c->folded;
}

void custom_second_over(struct custom *c)
{
    for (size_t i = 0; i < c->metric_count; i++)
        memset(&c->metrics[i]->second, 0, sizeof c->metrics[i]->second);
}
