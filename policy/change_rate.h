/*
 * How often a document changes, when all that is seen is whether it had changed since the last look: Cho and
 * Garcia-Molina's estimator ("Estimating frequency of change", TOIT 2003), r = -ln((n - X + 0.5) / (n + 0.5))
 * / I, on sums that decay on two scales, so that it follows a change of the rate. 28 bytes a document; plain
 * data.
 */
#ifndef POLICY_CHANGE_RATE_H
#define POLICY_CHANGE_RATE_H

#include "policy/base.h"

/* All zero: nothing was seen yet. May be copied. */
struct change_rate {
    float polls, changes, seconds;                      /* long scale: n, X, sum of the intervals */
    float recent_polls, recent_changes, recent_seconds; /* short scale */
    float history;                                      /* seconds watched, not decayed */
};

/* The document was looked at, `interval` after the last look; it had changed or not. An interval below 1 ms
 * counts as 1 ms. */
void change_rate_poll(struct change_rate *rate, tick_t interval, bool changed);

/* Changes a second: the larger of what the two scales say, and never less than one in the time watched. 0
 * when nothing was seen. */
double change_rate_estimate(const struct change_rate *rate);

#endif
