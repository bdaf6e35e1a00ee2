/*
 * What the application counts itself: counters, gauges and histograms posted to the admin port, by name and
 * attributes. The number of names, and of series (a name with its attributes), is bounded whatever is posted;
 * what finds no room is folded into one series of its name, or refused when the name itself finds none.
 *
 * Control thread only. Times are nanoseconds of one monotonic clock.
 */
#ifndef METRICS_CUSTOM_H
#define METRICS_CUSTOM_H

#include "metrics/real_sketch.h"

enum {
    CUSTOM_NAMES = 128,
    CUSTOM_SERIES = 1024,        /* in all, those of what was folded not counted */
    CUSTOM_SERIES_OF_NAME = 100, /* of one name */
    CUSTOM_ATTRIBUTES = 8,
    CUSTOM_NAME_BYTES = 128,
    CUSTOM_KEY_BYTES = 64,
    CUSTOM_VALUE_BYTES = 128
};

enum custom_type { CUSTOM_COUNTER, CUSTOM_GAUGE, CUSTOM_HISTOGRAM, CUSTOM_TYPES };

struct custom_attribute {
    const char *key, *value;
};

/* One posted value. Strings are borrowed. */
struct custom_sample {
    const char *name;
    enum custom_type type;
    double value; /* counter: what is added; gauge: what it is now; histogram: one observation */
    struct custom_attribute attributes[CUSTOM_ATTRIBUTES];
    size_t attribute_count;
};

/* What is wrong with a sample. */
struct custom_error {
    size_t sample;    /* which of them */
    bool no_room;     /* it is good, but there is no room for another name */
    char field[96];   /* "name", "attributes.key" */
    char what[160];   /* goes on behind the field: "is ..." */
    char remedy[200]; /* a sentence */
};

struct custom;

struct custom *custom_new(void); /* NULL: out of memory */
void custom_free(struct custom *c);

/* "counter", "gauge", "histogram". / False: none of them. */
const char *custom_type_name(enum custom_type type);
bool custom_type_find(const char *name, enum custom_type *out);

/*
 * Judges samples together, against each other and against what is known. False with the first that is wrong:
 * names and keys that are not [A-Za-z_][A-Za-z0-9_.-/]*, a value that does not go with its type, a type other
 * than before, names that would be the same in /metrics, no room. Nothing changes.
 */
bool custom_check(const struct custom *c, const struct custom_sample *samples, size_t n,
                  struct custom_error *error);

/* Makes a name known that has no value yet, as one that was kept over a restart; a gauge's newest is NAN
 * then. Its number; -1: it is no name, is known with another type, or finds no room. */
int custom_know(struct custom *c, const char *name, enum custom_type type);

/* Counts a sample that was judged. *folded: its attributes found no room. False: out of memory. */
bool custom_add(struct custom *c, const struct custom_sample *sample, int64_t now, bool *folded);

/* One name. Valid while c lives; what it points to changes with each custom_add. */
struct custom_metric {
    char *name;
    char *family; /* in /metrics: with prefix, legal, without _total */
    enum custom_type type;
    double newest;             /* of a gauge: posted last, in any series; NAN before that */
    size_t series_count;       /* the folded one not counted */
    struct real_sketch second; /* what was posted since custom_second_over() */
};

/* One series of it. */
struct custom_series {
    size_t metric;
    bool folded; /* stands for all whose attributes found no room: it has none */
    struct custom_attribute *attributes;
    size_t attribute_count;     /* by growing key */
    double value;               /* counter: total; gauge: newest */
    struct real_sketch *sketch; /* histogram: all observations; else NULL */
    int64_t began, changed;     /* first and last posted */
    uint64_t hash;
};

size_t custom_metrics(const struct custom *c);
struct custom_metric *custom_metric_at(const struct custom *c, size_t i);
/* By name; -1: there is none. */
int custom_find(const struct custom *c, const char *name);

/* All series, those of one metric together; the order stays but for new ones. */
size_t custom_series(const struct custom *c);
const struct custom_series *custom_series_at(const struct custom *c, size_t i);

/* Samples counted, and those of them that were folded. */
uint64_t custom_samples(const struct custom *c);
uint64_t custom_folded(const struct custom *c);

/* The second is over: empties each metric's `second`. */
void custom_second_over(struct custom *c);

/* An attribute's key as a label of Prometheus; false when `room` is too small. */
bool custom_label(const char *key, char *out, size_t room);

#endif
