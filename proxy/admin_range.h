/*
 * What a query for a time series asks for. Private to admin_history.c and admin_heatmap.c.
 */
#ifndef PROXY_ADMIN_RANGE_H
#define PROXY_ADMIN_RANGE_H

#include "metrics/history.h"
#include "proxy/admin_request.h"

struct range {
    struct history_series series;
    int64_t from, to, step; /* nanoseconds since 1970, but for the step */
    int64_t offset;         /* wall clock minus the history's */
};

/* True when all of the query is understood, and there is a history; else it was answered. */
bool admin_read_range(struct admin_request *r, struct range *q);

/* Refuses a parameter: `what` goes behind its name. */
void admin_refuse_query(struct admin_request *r, const char *name, const char *what, const char *how);

/* The members that tell what was asked for: metric_type, unit, operation, phase, start_time, end_time, step.
 */
void admin_put_range(const struct admin_request *r, struct view *v, const struct range *q);

#endif
