/*
 * History from the inside, shared by history*.c only.
 */
#ifndef METRICS_HISTORY_INNER_H
#define METRICS_HISTORY_INNER_H

#include "metrics/custom.h"
#include "metrics/history.h"
#include "metrics/text.h"

/* How a type's samples come about; see history_point. */
enum history_kind { HISTORY_EACH, HISTORY_RATIO, HISTORY_RATE, HISTORY_GAUGE };

struct history_type {
    enum history_kind kind;
    double scale; /* a sketched number is the value times this */
};
const struct history_type *history_type(enum metric_type type);

/* A point while it is put together. RATIO: num / den is the mean. RATE: num events. Else num is a sum, den a
 * count. */
struct history_cell {
    uint64_t num, den;
    struct hist_counts sketch; /* only v[] and count */
    struct real_sketch real;   /* of CUSTOM_METRIC, and then nothing else */
};

struct history_record {
    int64_t from, to;
    uint8_t *packed; /* entries by growing key: key + 1, bytes, content; ended by 0 */
    size_t n;
};

struct history_level {
    struct history_record *records; /* a ring */
    size_t cap, oldest, count;
    int64_t open; /* what the next record begins with */
};

enum { HISTORY_TYPES = 16, HISTORY_SHARED = 2 + HISTORY_PHASES };

/* How far an operation, or a histogram, had come at the last tick. The counts may wrap: differences do not
 * mind. */
struct history_mark {
    uint64_t tally[TALLY_COUNT];
    uint64_t sum;
    uint64_t count; /* of a shared one */
    uint32_t v[HIST_BUCKETS];
};

struct history {
    const struct metrics *metrics;
    struct custom *custom; /* may be NULL */
    int64_t offset, last, retention;
    size_t budget, bytes, marks_bytes;
    uint64_t dropped, cpu_ns, compressed_from, compressed_to;
    struct history_level levels[HISTORY_LEVELS];
    struct history_mark *marks[METRICS_MAX_OPERATIONS];
    struct history_mark shared[HISTORY_SHARED];
    uint64_t coded[HISTORY_CODED];     /* how far each part that is counted had come */
    uint64_t coded_now[HISTORY_CODED]; /* scratch of a tick */
    struct hist_counts read;
    struct history_cell cell, all;
    struct text packed;
};

int64_t history_resolution(int level);
struct history_record *history_record_at(const struct history_level *l, size_t i);

static inline uint64_t history_key(int operation, enum metric_type type)
{
    return (uint64_t)(operation + 1) * HISTORY_TYPES + (uint64_t)type;
}

static inline bool history_is_part(uint64_t key)
{
    return key >= history_key(HISTORY_PART, (enum metric_type)0) &&
           key < history_key(HISTORY_PART + HISTORY_PARTS, (enum metric_type)0);
}

/* history.c: the name of phase or state i. */
const char *history_phase_name(int i);
const char *history_state_name(int i);

/* history_parts.c: the entries of parts that are counted in series. / A number that differs when the names of
 * parts do, so that another process's are not taken for ours. */
void history_put_coded(struct history *h, double seconds);
uint64_t history_names_mark(const struct history *h);

/* history_read.c: the next record from `at` on for points of a level; the coarsest level of a step; a point
 * out of what a cell holds, false without a sample. */
const struct history_record *history_next_record(const struct history *h, int64_t at, int level);
int history_level_for(int64_t step);
bool history_finish(enum metric_type type, struct history_cell *c, int64_t covered,
                    struct history_point *out);

/* history.c: takes records over that another process has made, and leaves `made` empty. */
void history_take_over(struct history *h, struct history_level made[HISTORY_LEVELS], int64_t now);

static inline bool history_is_real(uint64_t key)
{
    return key % HISTORY_TYPES == METRIC_TYPE_CUSTOM_METRIC;
}

/* history_pack.c */
void history_put(struct text *t, uint64_t v);
/* Appends an entry: a whole cell, or one of a single sample. */
void history_put_cell(struct text *t, uint64_t key, const struct history_cell *c);
void history_put_real(struct text *t, uint64_t key, const struct real_sketch *s);
void history_put_sample(struct text *t, uint64_t key, uint64_t num, uint64_t den, uint64_t sample);
/* Reads the entry's head at *p: its key, and where its content begins and ends. False at the end. */
bool history_entry(const uint8_t **p, uint64_t *key, const uint8_t **content, const uint8_t **end);
/* Adds an entry's content to a cell. */
void history_add(uint64_t key, const uint8_t *content, const uint8_t *end, struct history_cell *into);

#endif
