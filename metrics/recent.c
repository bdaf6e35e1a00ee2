/*
 * Notes of what was counted, ten seconds each, packed.
 *
 * Invariants: control thread only. `last` is what all notes together have come to, so the sum
 * of all notes and of (now - last) is what the counters say: nothing is counted twice or
 * lost between two ticks. A note holds only what changed, as pairs of variable-length
 * numbers, so that a quiet ten seconds cost a few dozen bytes and a busy one some kilobytes.
 */
#include "metrics/recent.h"

#include <stdlib.h>
#include <string.h>

enum { HISTOGRAMS = 4 };

static const enum histogram_id histogram_ids[HISTOGRAMS] = {HISTOGRAM_REQUEST, HISTOGRAM_UPSTREAM,
                                                            HISTOGRAM_ROUND_TRIP, HISTOGRAM_BATCH_SIZE};

struct note {
    int64_t from, to;
    uint8_t *packed;
    size_t n;
};

struct recent {
    const struct metrics *metrics;
    int64_t started;
    struct note notes[RECENT_NOTES];
    size_t newest; /* place of the newest note, when there is one */
    size_t count;
    struct recent_totals last;
    struct recent_totals present;
    uint8_t *scratch; /* room for the largest note */
};

/* A varint takes at most 10 bytes. A pair for each counter and bucket, an end mark and a sum for each list.
 */
enum { SCRATCH = 20 * (METRIC_COUNT + HISTOGRAMS * (HIST_BUCKETS + 2) + 1) };

static struct hist_counts *histogram_of(struct recent_totals *t, int i)
{
    struct hist_counts *const all[HISTOGRAMS] = {&t->request, &t->upstream, &t->round_trip, &t->batch};
    return all[i];
}

struct recent *recent_new(const struct metrics *m, int64_t now)
{
    struct recent *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->scratch = malloc(SCRATCH);
    if (!w->scratch) {
        free(w);
        return NULL;
    }
    w->metrics = m;
    w->started = now;
    return w;
}

void recent_free(struct recent *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < RECENT_NOTES; i++)
        free(w->notes[i].packed);
    free(w->scratch);
    free(w);
}

static void read_present(struct recent *w, int64_t now)
{
    memset(&w->present, 0, sizeof w->present);
    w->present.covered = now - w->started;
    for (unsigned i = 0; i < METRIC_COUNT; i++)
        w->present.v[i] = metrics_sum(w->metrics, i);
    for (int i = 0; i < HISTOGRAMS; i++)
        metrics_histogram(w->metrics, histogram_ids[i], METRICS_ALL, histogram_of(&w->present, i));
}

/* ---- packing ---- */

static uint8_t *put(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

static const uint8_t *get(const uint8_t *p, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        *v |= (uint64_t)(*p & 0x7f) << shift;
        if (!(*p++ & 0x80))
            break;
    }
    return p;
}

/* Pairs (step to the next place that changed, change), ended by a step of 0. */
static uint8_t *put_changes(uint8_t *p, const uint64_t *now, const uint64_t *before, size_t n)
{
    size_t at = 0; /* one past the place last written */
    for (size_t i = 0; i < n; i++) {
        if (now[i] == before[i])
            continue;
        p = put(p, i + 1 - at);
        p = put(p, now[i] - before[i]);
        at = i + 1;
    }
    return put(p, 0);
}

static const uint8_t *get_changes(const uint8_t *p, uint64_t *into, size_t n)
{
    size_t at = 0;
    for (;;) {
        uint64_t step, change;
        p = get(p, &step);
        if (!step)
            return p;
        p = get(p, &change);
        at += step;
        if (at <= n)
            into[at - 1] += change;
    }
}

static size_t pack(uint8_t *room, struct recent_totals *now, struct recent_totals *before)
{
    uint8_t *p = put_changes(room, now->v, before->v, METRIC_COUNT);
    for (int i = 0; i < HISTOGRAMS; i++) {
        struct hist_counts *a = histogram_of(now, i), *b = histogram_of(before, i);
        p = put_changes(p, a->v, b->v, HIST_BUCKETS);
        p = put(p, a->sum - b->sum);
    }
    return (size_t)(p - room);
}

static void unpack(const struct note *note, struct recent_totals *into)
{
    const uint8_t *p = get_changes(note->packed, into->v, METRIC_COUNT);
    for (int i = 0; i < HISTOGRAMS; i++) {
        struct hist_counts *c = histogram_of(into, i);
        uint64_t sum;
        p = get_changes(p, c->v, HIST_BUCKETS);
        p = get(p, &sum);
        c->sum += sum;
    }
}

bool recent_tick(struct recent *w, int64_t now)
{
    read_present(w, now);
    size_t n = pack(w->scratch, &w->present, &w->last);
    uint8_t *packed = malloc(n);
    if (!packed)
        return false;
    memcpy(packed, w->scratch, n);
    int64_t from = w->count ? w->notes[w->newest].to : w->started;
    w->newest = w->count ? (w->newest + 1) % RECENT_NOTES : 0;
    if (w->count < RECENT_NOTES)
        w->count++;
    struct note *note = &w->notes[w->newest];
    free(note->packed);
    *note = (struct note){from, now, packed, n};
    w->last = w->present;
    return true;
}

/* ---- reading ---- */

/* Counts and maximum of a histogram that was put together from differences. */
static void difference_close(struct hist_counts *c, uint64_t max_ever)
{
    c->count = 0;
    c->max = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        if (!c->v[i])
            continue;
        c->count += c->v[i];
        c->max = (uint64_t)hist_middle(i);
    }
    if (c->v[HIST_BUCKETS - 1] || c->max > max_ever)
        c->max = max_ever;
}

static void add_since_last(struct recent *w, struct recent_totals *out)
{
    for (unsigned i = 0; i < METRIC_COUNT; i++)
        out->v[i] += w->present.v[i] - w->last.v[i];
    for (int i = 0; i < HISTOGRAMS; i++) {
        struct hist_counts *to = histogram_of(out, i);
        const struct hist_counts *a = histogram_of(&w->present, i), *b = histogram_of(&w->last, i);
        for (unsigned k = 0; k < HIST_BUCKETS; k++)
            to->v[k] += a->v[k] - b->v[k];
        to->sum += a->sum - b->sum;
    }
}

void recent_read(struct recent *w, int64_t length, int64_t now, struct recent_totals *out)
{
    read_present(w, now);
    if (length <= 0 || length >= now - w->started) {
        *out = w->present;
        return;
    }
    memset(out, 0, sizeof *out);
    add_since_last(w, out);
    int64_t from = w->count ? w->notes[w->newest].to : w->started;
    for (size_t i = 0; i < w->count; i++) {
        const struct note *note = &w->notes[(w->newest + RECENT_NOTES - i) % RECENT_NOTES];
        if (note->to <= now - length)
            break;
        unpack(note, out);
        from = note->from;
    }
    out->covered = now - from;
    for (unsigned i = 0; i < METRIC_COUNT; i++)
        if (metric_row(i)->kind == METRIC_GAUGE)
            out->v[i] = w->present.v[i];
    for (int i = 0; i < HISTOGRAMS; i++)
        difference_close(histogram_of(out, i), histogram_of(&w->present, i)->max);
}

int64_t recent_age(const struct recent *w, int64_t now)
{
    return now - w->started;
}

size_t recent_bytes(const struct recent *w)
{
    size_t n = sizeof *w + SCRATCH;
    for (size_t i = 0; i < w->count; i++)
        n += w->notes[(w->newest + RECENT_NOTES - i) % RECENT_NOTES].n;
    return n;
}
