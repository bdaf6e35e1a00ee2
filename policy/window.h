/*
 * Counts over the last so many seconds: a ring of ten slots, each a tenth of the span, with
 * running sums, so that adding and reading cost the same whatever the rate. The present slot is
 * begun, so that a sum covers between nine and ten tenths of the span.
 */
#ifndef POLICY_WINDOW_H
#define POLICY_WINDOW_H

#include "policy/base.h"

#define WINDOW_SLOTS   10
#define WINDOW_COLUMNS 4

struct window {
    tick_t width; /* of a slot */
    int64_t at;   /* number of the present slot: time / width */
    uint32_t cell[WINDOW_SLOTS][WINDOW_COLUMNS];
    uint64_t sum[WINDOW_COLUMNS];
};

/* Empty, over `span` (at least 10 ns). */
void window_init(struct window *w, tick_t span, tick_t now);

/* Adds n to a column (0 ... WINDOW_COLUMNS-1) at `now`, which may lie back within the span; what lies before
 * it counts in the newest slot. */
void window_add(struct window *w, int column, uint32_t n, tick_t now);

/* The sum of a column over the span that ends now. */
uint64_t window_sum(struct window *w, int column, tick_t now);

/* Forgets all counts. */
void window_clear(struct window *w);

#endif
