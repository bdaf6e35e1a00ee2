/*
 * Reads points of any width out of the levels.
 *
 * Invariant: the records read for an answer follow each other in time without overlap, so nothing counts
 * twice.
 */
#include <string.h>

#include "metrics/history_inner.h"

#define SECOND INT64_C(1000000000)

/* The first record of a level that begins at `at` or later; NULL when there is none. */
static const struct history_record *first_from(const struct history_level *l, int64_t at)
{
    size_t low = 0, high = l->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (history_record_at(l, middle)->from < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low < l->count ? history_record_at(l, low) : NULL;
}

/* The next record from `at` on: of `level`; of a coarser one where that no longer reaches back; of finer ones
 * for the newest. */
const struct history_record *history_next_record(const struct history *h, int64_t at, int level)
{
    for (int finest = level; finest >= 0; finest--) {
        const struct history_record *best = NULL;
        for (int i = finest; i < HISTORY_LEVELS; i++) {
            const struct history_record *r = first_from(&h->levels[i], at);
            if (r && (!best || r->from < best->from))
                best = r;
        }
        if (best)
            return best;
    }
    return NULL;
}

/* Adds a series' part of a record. False when it has none. */
static bool add_record(const struct history_record *r, uint64_t wanted, struct history_cell *into)
{
    const uint8_t *p = r->packed, *content, *end;
    uint64_t key;
    while (history_entry(&p, &key, &content, &end) && key <= wanted) {
        if (key != wanted)
            continue;
        history_add(key, content, end, into);
        return true;
    }
    return false;
}

/* The mean of a cell, in the type's unit, and what it rests on. */
static void read_mean(const struct history_type *t, const struct history_cell *c, double seconds,
                      struct history_point *out)
{
    double num = (double)c->num, den = (double)c->den;
    out->count = t->kind == HISTORY_RATE ? c->num : c->den;
    if (t->kind == HISTORY_RATE)
        out->mean = seconds > 0 ? num / seconds : 0;
    else if (t->kind == HISTORY_RATIO)
        out->mean = den > 0 ? num / den : 0;
    else
        out->mean = den > 0 ? num / den / t->scale : 0;
}

/* Counts, ends and the zeros of seconds in which nothing happened. False when there is no sample. */
static bool close_sketch(const struct history_type *t, struct history_cell *c, int64_t covered)
{
    struct hist_counts *s = &c->sketch;
    uint64_t seconds = (uint64_t)((covered + SECOND / 2) / SECOND);
    if (t->kind == HISTORY_RATE && seconds > s->count) {
        s->v[0] += seconds - s->count;
        s->count = seconds;
    }
    for (unsigned i = HIST_BUCKETS; i-- > 0;)
        if (s->v[i]) {
            s->max = (uint64_t)(hist_middle(i) + 0.5);
            return true;
        }
    return false;
}

static bool finish_real(const struct real_sketch *s, struct history_point *out)
{
    if (!s->count)
        return false;
    out->count = s->count;
    out->mean = s->sum / (double)s->count;
    out->min = s->min;
    out->max = s->max;
    out->p50 = real_sketch_quantile(s, 0.50);
    out->p95 = real_sketch_quantile(s, 0.95);
    out->p99 = real_sketch_quantile(s, 0.99);
    return true;
}

bool history_finish(enum metric_type type, struct history_cell *c, int64_t covered, struct history_point *out)
{
    const struct history_type *t = history_type(type);
    unsigned least = 0;
    if (type == METRIC_TYPE_CUSTOM_METRIC)
        return finish_real(&c->real, out);
    if (!close_sketch(t, c, covered))
        return false;
    while (!c->sketch.v[least])
        least++;
    read_mean(t, c, (double)covered / 1e9, out);
    out->min = hist_middle(least) / t->scale;
    out->max = (double)c->sketch.max / t->scale;
    out->p50 = hist_quantile(&c->sketch, 0.50) / t->scale;
    out->p95 = hist_quantile(&c->sketch, 0.95) / t->scale;
    out->p99 = hist_quantile(&c->sketch, 0.99) / t->scale;
    return true;
}

/* The coarsest level whose records fill a step evenly. */
int history_level_for(int64_t width)
{
    int level = 0;
    for (int i = 1; i < HISTORY_LEVELS; i++)
        if (history_resolution(i) <= width && width % history_resolution(i) == 0)
            level = i;
    return level;
}

/* Each step that has records, oldest first: h->cell holds its sum. `see` returns false to end the walk. */
static void walk(struct history *h, const struct history_series *s, int64_t from, int64_t to, int64_t width,
                 bool (*see)(void *arg, struct history *h, int64_t from, int64_t covered), void *arg)
{
    uint64_t key = history_key(s->operation, s->type);
    int level = history_level_for(width);
    int64_t at = from, covered = 0, present = -1;
    memset(&h->cell, 0, sizeof h->cell);
    for (;;) {
        const struct history_record *r = history_next_record(h, at, level);
        int64_t number = r && r->from < to ? (r->from - from) / width : -1;
        if (number != present && covered) {
            if (!see(arg, h, from + present * width, covered))
                return;
            memset(&h->cell, 0, sizeof h->cell);
            covered = 0;
        }
        if (number < 0)
            return;
        present = number;
        (void)add_record(r, key, &h->cell);
        covered += r->to - r->from;
        at = r->to;
    }
}

struct points {
    const struct history_series *series;
    int64_t width;
    struct history_point *out;
    size_t n, most;
};

static bool see_point(void *arg, struct history *h, int64_t from, int64_t covered)
{
    struct points *p = arg;
    if (p->n == p->most)
        return false;
    p->out[p->n] = (struct history_point){.from = from, .to = from + p->width};
    p->n += history_finish(p->series->type, &h->cell, covered, &p->out[p->n]);
    return true;
}

size_t history_points(struct history *h, const struct history_series *s, int64_t from, int64_t to,
                      int64_t width, struct history_point *out, size_t most)
{
    struct points p = {s, width, out, 0, most};
    walk(h, s, from, to, width, see_point, &p);
    return p.n;
}

struct sketches {
    const struct history_type *type;
    history_see *see;
    void *arg;
};

static bool see_sketch(void *arg, struct history *h, int64_t from, int64_t covered)
{
    const struct sketches *s = arg;
    if (!close_sketch(s->type, &h->cell, covered))
        return true;
    return s->see(s->arg, from, &h->cell.sketch, s->type->scale);
}

void history_sketches(struct history *h, const struct history_series *s, int64_t from, int64_t to,
                      int64_t width, history_see *see, void *arg)
{
    struct sketches all = {history_type(s->type), see, arg};
    walk(h, s, from, to, width, see_sketch, &all);
}

struct reals {
    history_see_real *see;
    void *arg;
};

static bool see_real(void *arg, struct history *h, int64_t from, int64_t covered)
{
    const struct reals *r = arg;
    (void)covered;
    return !h->cell.real.count || r->see(r->arg, from, &h->cell.real);
}

void history_reals(struct history *h, const struct history_series *s, int64_t from, int64_t to, int64_t width,
                   history_see_real *see, void *arg)
{
    struct reals all = {see, arg};
    walk(h, s, from, to, width, see_real, &all);
}

bool history_of_events(enum metric_type type)
{
    return history_type(type)->kind == HISTORY_EACH;
}

/* Sums the last `length` nanoseconds into h->cell. Returns what they cover. */
static int64_t sum_window(struct history *h, const struct history_series *s, int64_t length, int64_t now,
                          int64_t *from)
{
    int64_t at = now - length, covered = 0;
    int level = 0;
    while (level + 1 < HISTORY_LEVELS && history_resolution(level + 1) * 10 <= length)
        level++;
    memset(&h->cell, 0, sizeof h->cell);
    *from = now;
    for (const struct history_record *r; (r = history_next_record(h, at, level)) && r->from < now;
         at = r->to) {
        if (!covered)
            *from = r->from;
        (void)add_record(r, history_key(s->operation, s->type), &h->cell);
        covered += r->to - r->from;
    }
    return covered;
}

bool history_window(struct history *h, const struct history_series *s, int64_t length, int64_t now,
                    struct history_point *out)
{
    *out = (struct history_point){.to = now};
    int64_t covered = sum_window(h, s, length, now, &out->from);
    return history_finish(s->type, &h->cell, covered, out);
}

double history_quantile(struct history *h, const struct history_series *s, int64_t length, int64_t now,
                        double q)
{
    int64_t from, covered = sum_window(h, s, length, now, &from);
    const struct history_type *t = history_type(s->type);
    if (s->type == METRIC_TYPE_CUSTOM_METRIC)
        return real_sketch_quantile(&h->cell.real, q);
    return close_sketch(t, &h->cell, covered) ? hist_quantile(&h->cell.sketch, q) / t->scale : 0;
}

bool history_next(struct history *h, struct history_cursor *c, struct history_series *s,
                  struct history_point *out)
{
    if (!c->begun) {
        *c = (struct history_cursor){.at = INT64_MIN, .begun = true};
    }
    for (const struct history_record *r; (r = history_next_record(h, c->at, 0));) {
        const uint8_t *p = r->packed, *content, *end;
        uint64_t key;
        if (c->at != r->from)
            c->key = 0; /* what the cursor stood on is gone */
        c->at = r->from;
        while (history_entry(&p, &key, &content, &end)) {
            if (key < c->key)
                continue;
            c->key = key + 1;
            memset(&h->cell, 0, sizeof h->cell);
            history_add(key, content, end, &h->cell);
            *s = (struct history_series){(enum metric_type)(key % HISTORY_TYPES),
                                         (int)(key / HISTORY_TYPES) - 1};
            *out = (struct history_point){.from = r->from, .to = r->to};
            if (history_finish(s->type, &h->cell, r->to - r->from, out))
                return true;
        }
        c->at = r->to;
        c->key = 0;
    }
    return false;
}

int64_t history_oldest(const struct history *h, int64_t now)
{
    const struct history_record *r = history_next_record(h, INT64_MIN, 0);
    return r ? r->from : now;
}
