/*
 * The controllers that all workers share for one upstream: the circuit breaker and the retry
 * budget. Each call takes one short lock; the decisions are policy's.
 */
#ifndef PROXY_GUARD_H
#define PROXY_GUARD_H

#include "policy/breaker.h"
#include "policy/retry.h"

struct config;
struct guard;

struct guard_view {
    enum breaker_state state;
    enum breaker_cause cause;
    uint32_t opened;
    tick_t since, until;
    tick_t retry_after; /* for who is shed now */
    double budget_left;
    double failure_rate;
};

/* NULL: no memory. */
struct guard *guard_new(const struct config *cfg, tick_t now, uint64_t seed);
void guard_free(struct guard *g);

/* New rules, live. */
void guard_tune(struct guard *g, const struct config *cfg, tick_t now);

/* Asks to send one attempt; `first` counts the request into the retry budget. A permit other than
 * SHED must be given back by guard_end, once. */
struct breaker_permit guard_begin(struct guard *g, bool first, tick_t now) MUSTCHECK;
void guard_end(struct guard *g, struct breaker_permit permit, struct breaker_report report, tick_t now);

/* May the request be sent again? Takes from the budget when it says so. */
struct retry_verdict guard_retry(struct guard *g, const struct retry_rules *rules, const struct retry_case *c,
                                 struct rng *rng, tick_t now);

/* Would a call be shed now, and not be a probe? Changes nothing but what time has changed. */
bool guard_is_open(struct guard *g, tick_t now);

/* The upstream has answered a health check well: an open breaker may try sooner (breaker_sign_of_life). */
void guard_sign_of_life(struct guard *g, tick_t now);

/* How long a shed client should wait. */
tick_t guard_retry_after(struct guard *g, tick_t now);

void guard_look(struct guard *g, struct guard_view *out, tick_t now);
void guard_reset(struct guard *g, tick_t now);

/* The rules of a configuration, for settings.c and the simulator. */
void guard_retry_rules(const struct config *cfg, struct retry_rules *out);
void guard_breaker_rules(const struct config *cfg, struct breaker_rules *out);

#endif
