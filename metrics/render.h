/*
 * Everything that is counted, as Prometheus text (0.0.4) or OpenMetrics (1.0.0), into a
 * buffer of the caller's. Opens no files and no sockets: what must be asked of the system
 * is handed in.
 */
#ifndef METRICS_RENDER_H
#define METRICS_RENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "metrics/observe.h"
#include "metrics/text.h"

struct custom;

enum supplied_id {
#define SUPPLIED(id, name, label, help) SUPPLIED_##id,
#include "metrics/counters.def"
    SUPPLIED_COUNT
};

/* Gauges that somebody else keeps, stated for one scrape. */
struct supplied_gauge {
    enum supplied_id id;
    char label[48]; /* value of the row's label; "" when it has none */
    double value;
};
enum { SUPPLIED_MAX = 320 }; /* circuits: one for each operation */
struct supplied {
    struct supplied_gauge gauge[SUPPLIED_MAX];
    size_t count;
    size_t dropped; /* stated beyond SUPPLIED_MAX */
};

/* The row of a gauge that is supplied; never NULL. */
struct supplied_row {
    const char *name, *label, *help;
};
const struct supplied_row *supplied_row(enum supplied_id id);

/* Bytes before compression over bytes after, of all that was stored; 1 when nothing was compressed. */
double metrics_compression_ratio(const struct metrics *m);

/* States one. `label` may be NULL. Any order. */
void supply(struct supplied *s, enum supplied_id id, const char *label, double value);

struct process_values {
    uint64_t cpu_ns; /* user and system */
    uint64_t resident_bytes;
    uint64_t virtual_bytes;
    uint64_t open_files;
    uint64_t max_files; /* 0: no limit known */
    uint64_t threads;
    double start_time; /* seconds since 1970 */
    const char *version;
};

struct render_input {
    const struct metrics *metrics;
    const struct supplied *supplied;      /* may be NULL */
    const struct process_values *process; /* may be NULL */
    bool open_metrics;
    const struct custom *custom; /* may be NULL */
};

#define RENDER_TYPE_PROMETHEUS  "text/plain; version=0.0.4; charset=utf-8"
#define RENDER_TYPE_OPENMETRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* Appends everything to *out. Control thread only (names of operations). False when out of memory. */
bool render_metrics(const struct render_input *input, struct text *out);

#endif
