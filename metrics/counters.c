/*
 * The rows behind enum metric. Invariant: one row for each enumerator, in order, because
 * both are made from counters.def.
 */
#include "metrics/counters.h"

static const struct metric_row rows[] = {
#define METRIC(id, kind, name, labels, help) {METRIC_##kind, name, labels, help},
#include "metrics/counters.def"
};

const struct metric_row *metric_row(enum metric m)
{
    return &rows[(unsigned)m < METRIC_COUNT ? m : 0];
}
