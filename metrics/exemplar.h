/*
 * Exemplars: for an operation and a duration of some size, the trace of the newest request that took so long.
 * /metrics shows them beside the buckets when OpenMetrics is asked for. A fixed number of places a worker,
 * found by operation and octave of the duration; two that meet in one write over each other. One writer, the
 * worker; any thread reads.
 */
#ifndef METRICS_EXEMPLAR_H
#define METRICS_EXEMPLAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXEMPLAR_PLACES = 512 };

struct exemplar {
    uint8_t trace_id[16], span_id[8]; /* span_id all zero: the sidecar made no span of it */
    int64_t value;                    /* nanoseconds */
    int64_t at;                       /* nanoseconds since 1970 */
    uint64_t operation;
};

struct exemplars;

/* Memory is touched as places are written. NULL when out of memory. */
struct exemplars *exemplars_new(void);
void exemplars_free(struct exemplars *e); /* NULL is fine */

/* Writes over what was in its place. Only the owner. */
void exemplar_put(struct exemplars *e, const struct exemplar *one);

/* Place i, below EXEMPLAR_PLACES. False when nothing is there, or it is being written. Any thread. */
bool exemplar_get(const struct exemplars *e, size_t i, struct exemplar *out);

#endif
