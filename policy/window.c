/*
 * Counts by slots of time. Invariants: sum[c] is the sum of cell[*][c]; the ring holds the slots
 * at-9 ... at, and slot k lies at k % 10; `at` never goes back.
 */
#include "policy/window.h"

#include <string.h>

void window_init(struct window *w, tick_t span, tick_t now)
{
    memset(w, 0, sizeof *w);
    w->width = span / WINDOW_SLOTS > 0 ? span / WINDOW_SLOTS : 1;
    w->at = now / w->width;
}

void window_clear(struct window *w)
{
    memset(w->cell, 0, sizeof w->cell);
    memset(w->sum, 0, sizeof w->sum);
}

static void turn(struct window *w, tick_t now)
{
    int64_t at = now / w->width;
    if (at <= w->at)
        return;
    if (at - w->at >= WINDOW_SLOTS) {
        window_clear(w);
        w->at = at;
        return;
    }
    while (w->at < at) {
        uint32_t *old = w->cell[++w->at % WINDOW_SLOTS];
        for (int c = 0; c < WINDOW_COLUMNS; c++) {
            w->sum[c] -= old[c];
            old[c] = 0;
        }
    }
}

void window_add(struct window *w, int column, uint32_t n, tick_t now)
{
    turn(w, now);
    int64_t at = now / w->width;
    if (at <= w->at - WINDOW_SLOTS) /* before the span: a clock that went back */
        at = w->at;
    uint32_t *cell = &w->cell[at % WINDOW_SLOTS][column];
    if (*cell > UINT32_MAX - n) /* full: 4e9 events in a slot are enough for any share */
        n = UINT32_MAX - *cell;
    *cell += n;
    w->sum[column] += n;
}

uint64_t window_sum(struct window *w, int column, tick_t now)
{
    turn(w, now);
    return w->sum[column];
}
