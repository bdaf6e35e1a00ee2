/*
 * How fast an error budget burns: the share of failed requests over windows from five minutes to three days,
 * over the share that the objective allows (multi-window burn rates, "The Site Reliability Workbook", chapter
 * 5). Kept in steps of ten seconds for six hours, and of five minutes for three days; 48 KiB.
 * Single owner.
 */
#ifndef POLICY_BURN_H
#define POLICY_BURN_H

#include "policy/base.h"

enum { BURN_FINE = 2161, BURN_COARSE = 865 };

struct burn_total {
    uint64_t all, bad;
};

struct burn {
    struct burn_total fine[BURN_FINE], coarse[BURN_COARSE];
    int64_t fine_at, coarse_at; /* number of the present bucket: time / width */
};

void burn_init(struct burn *b, tick_t now);

/* Requests finished since the last call, and how many of them failed. Time that goes back counts in the
 * newest bucket. */
void burn_add(struct burn *b, uint64_t all, uint64_t bad, tick_t now);

/*
 * The burn rate over the last `window` (5 min to 3 d; rounded down to buckets, the present one included) with
 * an objective of `target` (0.999: one in a thousand may fail). NAN when there were fewer than `least`
 * requests.
 */
double burn_rate(struct burn *b, tick_t window, double target, uint64_t least, tick_t now);

/* The pairs of windows: the lower of the two rates, so that it begins when it matters and ends when it ended.
 * NAN as above. */
enum burn_pair { BURN_FAST, BURN_SLOW, BURN_TICKET, BURN_PAIRS };
double burn_pair(struct burn *b, enum burn_pair pair, double target, tick_t now);

#endif
