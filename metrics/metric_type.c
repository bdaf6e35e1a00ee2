/*
 * Names, units and values of the metric types.
 *
 * Invariants: every row but the last, CUSTOM_METRIC, is a row of metric_type.def and reads
 * one member of the summary, so that no type has a constant for a value.
 */
#include "metrics/metric_type.h"

#include <string.h>

static const struct metric_type_row rows[METRIC_TYPE_COUNT] = {
#define METRIC_TYPE(id, unit, member, help) {#id, unit, help},
#include "metrics/metric_type.def"
    {"CUSTOM_METRIC", "its own", "What the application counts itself."},
};

const struct metric_type_row *metric_type_row(enum metric_type type)
{
    return &rows[(unsigned)type < METRIC_TYPE_COUNT ? type : 0];
}

bool metric_type_find(const char *name, enum metric_type *out)
{
    for (unsigned i = 0; i < METRIC_TYPE_COUNT; i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        *out = (enum metric_type)i;
        return true;
    }
    return false;
}

bool metric_type_value(const struct summary *s, enum metric_type type, double *out)
{
    switch (type) {
#define METRIC_TYPE(id, unit, member, help)                                                                  \
    case METRIC_TYPE_##id:                                                                                   \
        *out = (double)s->member;                                                                            \
        return true;
#include "metrics/metric_type.def"
    default:
        return false;
    }
}
