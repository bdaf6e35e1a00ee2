/*
 * The eleven metric types of the performance guide and CUSTOM_METRIC, by the names that
 * queries, alerts and the command line use. metric_type.def is the list.
 */
#ifndef METRICS_METRIC_TYPE_H
#define METRICS_METRIC_TYPE_H

#include <stdbool.h>
#include <stddef.h>

#include "metrics/summary.h"

enum metric_type {
#define METRIC_TYPE(id, unit, member, help) METRIC_TYPE_##id,
#include "metrics/metric_type.def"
    METRIC_TYPE_CUSTOM_METRIC, /* of the application's own: has no member in the summary */
    METRIC_TYPE_COUNT
};

struct metric_type_row {
    const char *name; /* as operators write it: REQUEST_LATENCY */
    const char *unit;
    const char *help;
};

/* The row of a type; never NULL (an unknown number gives the first row). */
const struct metric_type_row *metric_type_row(enum metric_type type);

/* Finds a type by its exact name. False, *out untouched, when there is none. */
bool metric_type_find(const char *name, enum metric_type *out);

/* The type's value over the summary's window, in the row's unit. False, *out untouched, for CUSTOM_METRIC. */
bool metric_type_value(const struct summary *s, enum metric_type type, double *out);

#endif
