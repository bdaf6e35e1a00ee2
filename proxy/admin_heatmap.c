/*
 * GET /api/v1/metrics/heatmap: how the samples of a metric lie, a column for each step of time and a row for
 * each range of values.
 *
 * Invariants: the rows reach from the least to the greatest sample of the whole range, in equal ratios for
 * single events (and custom metrics above zero that spread widely) and in equal widths for the rest; every
 * sample is in exactly one cell.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/real_sketch.h"
#include "proxy/admin_range.h"
#include "proxy/log.h"

enum { ROWS_DEFAULT = 24, ROWS_MOST = 100, ROWS_LEAST = 2 };

struct heat {
    struct view *v;
    const struct range *q;
    double least, greatest; /* of all samples */
    double bounds[ROWS_MOST + 1];
    uint64_t cells[ROWS_MOST];
    unsigned rows;
};

static bool see_bounds(void *arg, int64_t from, const struct hist_counts *sketch, double scale)
{
    struct heat *h = arg;
    (void)from;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        if (sketch->v[i]) {
            h->least = fmin(h->least, (double)hist_lower(i) / scale);
            h->greatest = fmax(h->greatest, (double)hist_upper(i) / scale);
        }
    return true;
}

static bool see_real_bounds(void *arg, int64_t from, const struct real_sketch *sketch)
{
    struct heat *h = arg;
    (void)from;
    h->least = fmin(h->least, sketch->min);
    h->greatest = fmax(h->greatest, sketch->max);
    return true;
}

/* Bounds of the rows: rows + 1 of them, growing. */
static void make_bounds(struct heat *h, bool ratios)
{
    double low = h->least, high = h->greatest;
    if (ratios && low < high / 1e6)
        low = high / 1e6; /* what is shorter joins the lowest row */
    for (unsigned i = 0; i <= h->rows; i++) {
        double share = (double)i / h->rows;
        h->bounds[i] = ratios ? low * pow(high / low, share) : low + (high - low) * share;
    }
    h->bounds[0] = h->least;
    h->bounds[h->rows] = high;
}

static unsigned row_of(const struct heat *h, double value)
{
    unsigned row = 0;
    while (row + 1 < h->rows && value >= h->bounds[row + 1])
        row++;
    return row;
}

static void put_column(struct heat *h, int64_t from)
{
    char when[LOG_TIME_BYTES];
    uint64_t count = 0;
    for (unsigned i = 0; i < h->rows; i++)
        count += h->cells[i];
    log_time(from + h->q->offset, when);
    view_object(h->v, NULL);
    view_text(h->v, "time", when);
    view_uint(h->v, "count", count);
    view_array(h->v, "counts");
    for (unsigned i = 0; i < h->rows; i++)
        view_uint(h->v, NULL, h->cells[i]);
    view_end(h->v);
    view_end(h->v);
    memset(h->cells, 0, sizeof h->cells);
}

static bool see_column(void *arg, int64_t from, const struct hist_counts *sketch, double scale)
{
    struct heat *h = arg;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        if (sketch->v[i])
            h->cells[row_of(h, hist_middle(i) / scale)] += sketch->v[i];
    put_column(h, from);
    return true;
}

static bool see_real_column(void *arg, int64_t from, const struct real_sketch *sketch)
{
    struct heat *h = arg;
    for (uint16_t i = 0; i < sketch->used; i++)
        h->cells[row_of(h, real_sketch_middle(sketch->buckets[i].index, sketch->joined))] +=
            sketch->buckets[i].count;
    put_column(h, from);
    return true;
}

/* Custom metrics may be below zero, or one value only: then it has a row of some width about it. */
static bool widened(struct heat *h)
{
    if (h->greatest == h->least) {
        double half = h->least ? fabs(h->least) / 128 : 0.5;
        h->least -= half;
        h->greatest += half;
    }
    return h->greatest > h->least;
}

static void put_heat(struct admin_request *r, struct heat *h)
{
    const struct range *q = h->q;
    int64_t from = q->from - q->offset, to = q->to - q->offset;
    admin_put_range(r, h->v, q);
    bool real = q->series.type == METRIC_TYPE_CUSTOM_METRIC;
    if (real)
        history_reals(r->sources->history, &q->series, from, to, q->step, see_real_bounds, h);
    else
        history_sketches(r->sources->history, &q->series, from, to, q->step, see_bounds, h);
    bool any = real ? widened(h) : h->greatest > h->least;
    if (any)
        make_bounds(h,
                    real ? h->least > 0 && h->greatest > 10 * h->least : history_of_events(q->series.type));
    view_array(h->v, "bounds");
    for (unsigned i = 0; any && i <= h->rows; i++)
        view_real(h->v, NULL, h->bounds[i]);
    view_end(h->v);
    view_array(h->v, "columns");
    if (any && real)
        history_reals(r->sources->history, &q->series, from, to, q->step, see_real_column, h);
    else if (any)
        history_sketches(r->sources->history, &q->series, from, to, q->step, see_column, h);
    view_end(h->v);
}

void admin_show_heatmap(struct admin_request *r)
{
    struct range q;
    uint64_t rows = ROWS_DEFAULT;
    if (!admin_query_number(r, "buckets", ROWS_MOST, &rows) || !admin_read_range(r, &q))
        return;
    if (rows < ROWS_LEAST) {
        admin_refuse_query(r, "buckets", "is too small", "Give 2 to 100.");
        return;
    }
    struct heat *h = calloc(1, sizeof *h);
    struct view *v = h ? view_new() : NULL;
    if (v) {
        *h = (struct heat){.v = v, .q = &q, .least = INFINITY, .greatest = -INFINITY, .rows = (unsigned)rows};
        put_heat(r, h);
    }
    free(h);
    admin_reply(r, 200, v);
}
