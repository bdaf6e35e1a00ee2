/*
 * Requests and failures of the past as running totals in rings, so that a window is one difference.
 * Invariant: a place of a ring holds the totals at the end of its bucket; of the present one, those of now.
 * Places of before the first call hold 0.
 */
#include "policy/burn.h"

#include <math.h>
#include <string.h>

#define FINE_WIDTH   (10 * TICK_S)
#define COARSE_WIDTH (300 * TICK_S)
#define LEAST_SHORT  10 /* requests in the windows of a pair, below which nothing is said */
#define LEAST_LONG   100

void burn_init(struct burn *b, tick_t now)
{
    memset(b, 0, sizeof *b);
    b->fine_at = now / FINE_WIDTH;
    b->coarse_at = now / COARSE_WIDTH;
}

static void advance(struct burn_total *ring, int64_t size, int64_t *at, int64_t to)
{
    struct burn_total last = ring[*at % size];
    if (to - *at > size)
        *at = to - size;
    while (*at < to) {
        ++*at;
        ring[*at % size] = last;
    }
}

static void pass(struct burn *b, tick_t now)
{
    advance(b->fine, BURN_FINE, &b->fine_at, now / FINE_WIDTH);
    advance(b->coarse, BURN_COARSE, &b->coarse_at, now / COARSE_WIDTH);
}

void burn_add(struct burn *b, uint64_t all, uint64_t bad, tick_t now)
{
    pass(b, now);
    struct burn_total *to[] = {&b->fine[b->fine_at % BURN_FINE], &b->coarse[b->coarse_at % BURN_COARSE]};
    for (size_t i = 0; i < ARRAY_LEN(to); i++) {
        to[i]->all += all;
        to[i]->bad += bad;
    }
}

double burn_rate(struct burn *b, tick_t window, double target, uint64_t least, tick_t now)
{
    bool fine = window < BURN_FINE * FINE_WIDTH;
    int64_t size = fine ? BURN_FINE : BURN_COARSE, count = window / (fine ? FINE_WIDTH : COARSE_WIDTH);
    pass(b, now);
    int64_t at = fine ? b->fine_at : b->coarse_at;
    const struct burn_total *ring = fine ? b->fine : b->coarse;
    count = count < size - 1 ? count : size - 1;
    struct burn_total end = ring[at % size],
                      begin = at >= count ? ring[(at - count) % size] : (struct burn_total){0, 0};
    uint64_t all = end.all - begin.all, bad = end.bad - begin.bad;
    if (all == 0 || all < least)
        return NAN;
    return (double)bad / (double)all / (1 - target);
}

double burn_pair(struct burn *b, enum burn_pair pair, double target, tick_t now)
{
    static const tick_t windows[BURN_PAIRS][2] = {
        [BURN_FAST] = {3600 * TICK_S, 300 * TICK_S},
        [BURN_SLOW] = {6 * 3600 * TICK_S, 1800 * TICK_S},
        [BURN_TICKET] = {72 * 3600 * TICK_S, 6 * 3600 * TICK_S},
    };
    double small = burn_rate(b, windows[pair][1], target, LEAST_SHORT, now);
    double large = burn_rate(b, windows[pair][0], target, LEAST_LONG, now);
    return isnan(small) || isnan(large) ? NAN : small < large ? small : large;
}
