/*
 * When a read has waited for longer than most do, a second copy of it may win ("The Tail at Scale", Dean,
 * Barroso 2013). When to send it: at a quantile of the latencies that were measured, decaying; whether:
 * within a budget, and never while the upstream is in trouble, for then all are slow and copies make it
 * worse.
 *
 * Plain state; the owner locks it when threads share it.
 */
#ifndef POLICY_HEDGE_H
#define POLICY_HEDGE_H

#include "policy/base.h"

struct hedge_rules { /* configuration: read only */
    bool enabled;
    double quantile; /* (0, 1) */
    double budget;   /* hedges as a share of requests */
};

#define HEDGE_BUCKETS 168 /* eight to the doubling, from 64 us to two minutes */

struct hedge {
    const struct hedge_rules *rules; /* not owned */
    uint32_t bucket[HEDGE_BUCKETS];
    uint32_t samples; /* in the buckets; halved when there are many */
    uint32_t fresh;   /* since `delay` was worked out */
    tick_t delay;     /* the quantile; TICK_NEVER while too little is known */
    double credit;    /* hedges that may be sent now */
};

void hedge_init(struct hedge *h, const struct hedge_rules *rules);

/* New rules, live. */
void hedge_tune(struct hedge *h, const struct hedge_rules *rules);

/* An attempt was answered after so long; a hedge counts from its own beginning. */
void hedge_answered(struct hedge *h, tick_t took);

/*
 * A request begins that may be hedged (GET or HEAD, no body). How long to wait before hedge_take; TICK_NEVER:
 * do not.
 */
tick_t hedge_request(struct hedge *h);

/* The wait is over and no answer has begun: may the second one go? `healthy`: breaker closed, limit and quota
 * have room. */
bool hedge_take(struct hedge *h, bool healthy) MUSTCHECK;

/* The quantile as measured, for showing; TICK_NEVER: too little is known. */
tick_t hedge_quantile(const struct hedge *h, double quantile);

#endif
