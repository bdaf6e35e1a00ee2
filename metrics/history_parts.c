/*
 * Time series of what is counted apart by status, cache verdict, outcome and reason, and totals by part.
 *
 * Invariants: a part's number is its code in the series that the workers count, behind the parts that are
 * measured; a second in which a part gained nothing takes no byte. What was folded for want of room has no
 * code and is in the whole only.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/history_inner.h"
#include "metrics/series.h"

enum {
    FIRST_STATE = HISTORY_PHASES,
    FIRST_CODED = FIRST_STATE + HISTORY_STATES,
    FIRST_VERDICT = FIRST_CODED + HISTORY_STATUSES,
    FIRST_OUTCOME = FIRST_VERDICT + HISTORY_VERDICTS,
    FIRST_REASON = FIRST_OUTCOME + HISTORY_OUTCOMES
};

static const struct history_division divisions[] = {
    {"phase", METRIC_TYPE_NETWORK_LATENCY, 0, HISTORY_PHASES},
    {"state", METRIC_TYPE_CONNECTION_POOL_SIZE, FIRST_STATE, HISTORY_STATES},
    {"status", METRIC_TYPE_THROUGHPUT, FIRST_CODED, HISTORY_STATUSES},
    {"cache", METRIC_TYPE_THROUGHPUT, FIRST_VERDICT, HISTORY_VERDICTS},
    {"outcome", METRIC_TYPE_THROUGHPUT, FIRST_OUTCOME, HISTORY_OUTCOMES},
    {"reason", METRIC_TYPE_RETRY_COUNT, FIRST_REASON, HISTORY_OUTCOMES}};
enum { DIVISIONS = sizeof divisions / sizeof *divisions };

_Static_assert((int)VERDICT_COUNT <= (int)HISTORY_VERDICTS, "each verdict has a part");
_Static_assert((int)FIRST_REASON + (int)HISTORY_OUTCOMES == (int)HISTORY_PARTS, "each part is in a division");

const struct history_division *history_division(int i)
{
    return i >= 0 && i < DIVISIONS ? &divisions[i] : NULL;
}

const struct history_division *history_division_of(int part)
{
    for (int i = 0; i < DIVISIONS; i++)
        if (part >= divisions[i].first && part < divisions[i].first + divisions[i].count)
            return &divisions[i];
    return NULL;
}

const char *history_part_name(const struct history *h, int part, char room[HISTORY_PART_NAME])
{
    if (part < 0 || part >= HISTORY_PARTS)
        return NULL;
    if (part < FIRST_STATE)
        return history_phase_name(part);
    if (part < FIRST_CODED)
        return history_state_name(part - FIRST_STATE);
    if (part < FIRST_VERDICT) {
        snprintf(room, HISTORY_PART_NAME, "%d", part - FIRST_CODED);
        return room;
    }
    if (part < FIRST_OUTCOME)
        return part - FIRST_VERDICT < VERDICT_COUNT ? cache_word_name((unsigned)(part - FIRST_VERDICT))
                                                    : NULL;
    const char *name =
        metrics_outcome_name(h->metrics, (unsigned)(part - FIRST_OUTCOME) % HISTORY_OUTCOMES, room);
    return strcmp(name, "other") == 0 ? NULL : name;
}

uint64_t history_names_mark(const struct history *h)
{
    uint64_t mark = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    char room[HISTORY_PART_NAME];
    for (int i = 0; i < HISTORY_PARTS; i++) {
        const char *name = history_part_name(h, i, room);
        for (name = name ? name : ""; *name; name++)
            mark = (mark ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
        mark = (mark ^ 0xff) * UINT64_C(0x100000001b3);
    }
    return mark;
}

/* ---- counting ---- */

static void count(struct history *h, int part, uint64_t n)
{
    h->coded_now[part - FIRST_CODED] += n;
}

static void count_tuple(struct history *h, enum series_id id, const struct series_tuple *t, uint64_t n)
{
    if (t->other)
        return;
    if (id == SERIES_REQUESTS) {
        if (t->code < HISTORY_STATUSES)
            count(h, FIRST_CODED + t->code, n);
        if (t->cache < VERDICT_COUNT)
            count(h, FIRST_VERDICT + t->cache, n);
    } else if (t->code < HISTORY_OUTCOMES) {
        count(h, (id == SERIES_UPSTREAM ? FIRST_OUTCOME : FIRST_REASON) + t->code, n);
    }
}

static void count_series(struct history *h, enum series_id id)
{
    for (int b = 0; b < metrics_blocks(h->metrics); b++) {
        const struct series *s = metrics_series(h->metrics, b, id);
        uint64_t key, n;
        for (size_t i = 0; i < series_places(s); i++)
            if (series_at(s, i, &key, &n)) {
                struct series_tuple t = metrics_tuple(key);
                count_tuple(h, id, &t, n);
            }
    }
}

void history_put_coded(struct history *h, double seconds)
{
    memset(h->coded_now, 0, sizeof h->coded_now);
    count_series(h, SERIES_REQUESTS);
    count_series(h, SERIES_UPSTREAM);
    count_series(h, SERIES_RETRIES);
    for (int i = 0; i < HISTORY_CODED; i++) {
        uint64_t gain = h->coded_now[i] - h->coded[i];
        if (!gain || h->coded_now[i] < h->coded[i])
            continue;
        enum metric_type type =
            FIRST_CODED + i < FIRST_REASON ? METRIC_TYPE_THROUGHPUT : METRIC_TYPE_RETRY_COUNT;
        history_put_sample(&h->packed, history_key(HISTORY_PART + FIRST_CODED + i, type), gain, 0,
                           (uint64_t)((double)gain * 1e3 / seconds));
        h->coded[i] = h->coded_now[i];
    }
}

/* ---- totals ---- */

struct wanted {
    int first, count; /* as in struct history_series */
    enum metric_type type;
    int64_t from, to;
    int level;
};

/* The number of a wanted entry, from 0 on; -1: it is another one's. */
static int wanted_number(const struct wanted *w, uint64_t key)
{
    int64_t number = (int64_t)(key / HISTORY_TYPES) - 1 - w->first;
    return key % HISTORY_TYPES == w->type && number >= 0 && number < w->count ? (int)number : -1;
}

/* Marks what has a sample. Returns what the records cover. */
static int64_t find_present(const struct history *h, const struct wanted *w, bool *present)
{
    int64_t covered = 0;
    const struct history_record *r;
    for (int64_t at = w->from; (r = history_next_record(h, at, w->level)) && r->from < w->to; at = r->to) {
        const uint8_t *p = r->packed, *content, *end;
        uint64_t key;
        covered += r->to - r->from;
        while (history_entry(&p, &key, &content, &end)) {
            int number = wanted_number(w, key);
            if (number >= 0)
                present[number] = true;
        }
    }
    return covered;
}

static void sum(struct history *h, const struct wanted *w, uint64_t wanted_key)
{
    const struct history_record *r;
    memset(&h->cell, 0, sizeof h->cell);
    for (int64_t at = w->from; (r = history_next_record(h, at, w->level)) && r->from < w->to; at = r->to) {
        const uint8_t *p = r->packed, *content, *end;
        uint64_t key;
        while (history_entry(&p, &key, &content, &end) && key <= wanted_key)
            if (key == wanted_key)
                history_add(key, content, end, &h->cell);
    }
}

void history_parts(struct history *h, enum metric_type type, const struct history_division *division,
                   int64_t from, int64_t to, int64_t step, history_see_part *see, void *arg)
{
    const struct wanted w = {.first = division ? HISTORY_PART + division->first : 0,
                             .count = division ? division->count : METRICS_MAX_OPERATIONS,
                             .type = type,
                             .from = from,
                             .to = to,
                             .level = history_level_for(step)};
    bool present[HISTORY_OUTCOMES] = {false}; /* the largest division */
    int64_t covered = find_present(h, &w, present);
    for (int i = 0; i < w.count; i++) {
        struct history_point total = {.from = from, .to = to};
        if (!present[i])
            continue;
        sum(h, &w, history_key(w.first + i, type));
        if (history_finish(type, &h->cell, covered, &total))
            see(arg, w.first + i, &total);
    }
}
