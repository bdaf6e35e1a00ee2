/*
 * The controllers that all workers share for one upstream: the circuit breakers, one for the way there and
 * one for each operation; the retry budget; and hedging. While nothing is wrong a call costs a few atomic
 * steps and no lock; the decisions are policy's.
 *
 * What fails before it gets there (policy/outcome.def: scope) is the way's failure and opens it for all
 * operations; what fails there is the operation's, and cuts off no other.
 */
#ifndef PROXY_GUARD_H
#define PROXY_GUARD_H

#include "policy/breaker.h"
#include "policy/outcome.h"
#include "policy/retry.h"

struct config;
struct guard;

/* Most operations that are told apart: numbers of metrics_operation(). */
#define GUARD_OPERATIONS 256

struct guard_permit { /* keep it with the attempt; all zero: none */
    struct breaker_permit way, operation;
    uint16_t number; /* of the operation */
    bool shed;       /* not to be sent, and not to be given back */
    bool again;      /* a further attempt of its request; for the owner to say */
};

/* NULL: no memory. */
struct guard *guard_new(const struct config *cfg, tick_t now, uint64_t seed);
void guard_free(struct guard *g);

/* New rules, live. */
void guard_tune(struct guard *g, const struct config *cfg, tick_t now);

/* Asks to send one attempt; `first` counts the request into the retry budget. A permit that is not shed must
 * be given back by guard_end, once. */
struct guard_permit guard_begin(struct guard *g, uint16_t operation, bool first, tick_t now) MUSTCHECK;

/* What became of it. `took`: to the first byte of the answer, or to the failure. */
void guard_end(struct guard *g, struct guard_permit permit, enum outcome outcome, tick_t took, tick_t now);

/* May the request be sent again? Takes from the budget when it says so. How long attempts of the operation
 * usually take (retry_case.typical) is filled in here. */
struct retry_verdict guard_retry(struct guard *g, uint16_t operation, const struct retry_rules *rules,
                                 const struct retry_case *c, struct rng *rng, tick_t now);

/* Would a call be shed now, and not be a probe? Changes nothing but what time has changed. */
bool guard_is_open(struct guard *g, uint16_t operation, tick_t now);

/* Nothing is wrong: both breakers that a call of this operation passes are closed. */
bool guard_is_calm(struct guard *g, uint16_t operation);

/*
 * Hedging, for each operation (policy/hedge.h). A request that may be hedged was sent: how long to wait for
 * an answer before guard_hedge_take; TICK_NEVER: for good.
 */
tick_t guard_hedge_request(struct guard *g, uint16_t operation, tick_t now);
/* May the second copy go, all circuits being closed, and the caller finding room for it? */
bool guard_hedge_take(struct guard *g, uint16_t operation, bool room) MUSTCHECK;
/* One that may be hedged was answered after so long, or was overtaken after so long. */
void guard_hedge_answered(struct guard *g, uint16_t operation, tick_t took);

/* The upstream has answered a health check well: open breakers may try sooner (breaker_sign_of_life). */
void guard_sign_of_life(struct guard *g, tick_t now);

/* How long a shed client should wait. */
tick_t guard_retry_after(struct guard *g, uint16_t operation, tick_t now);

/* One breaker for showing: 0 is the way to the upstream, then the operations that were called. False: no
 * more. */
#define GUARD_WAY (-1)
struct guard_view {
    int operation; /* its number, or GUARD_WAY */
    enum breaker_state state;
    enum breaker_cause cause;
    uint32_t opened;
    tick_t since, until;
};
bool guard_look(struct guard *g, int i, struct guard_view *out, tick_t now) MUSTCHECK;

/* A change of state of one breaker. */
struct guard_change {
    int operation; /* its number, or GUARD_WAY */
    enum breaker_state from, to;
    enum breaker_cause cause; /* of the last opening */
    tick_t at;
};
enum { GUARD_CHANGES = 256 };

/* Changes are numbered from 0; the newest GUARD_CHANGES are kept. Returns the number of the next one; takes
 * no lock. / False: not there any more, or not yet. */
uint64_t guard_changes(const struct guard *g);
bool guard_change(struct guard *g, uint64_t number, struct guard_change *out) MUSTCHECK;

/* Of all the traffic. */
struct guard_budget {
    double left;         /* retries that could be made now */
    double failure_rate; /* of the last ten seconds */
};
void guard_look_budget(struct guard *g, struct guard_budget *out, tick_t now);

/* Closes one by hand: the operation's number, or GUARD_WAY. */
void guard_reset(struct guard *g, int operation, tick_t now);

/* guard_rules.c: the rules of a configuration, for settings.c and the simulator. */
void guard_retry_rules(const struct config *cfg, struct retry_rules *out);
void guard_breaker_rules(const struct config *cfg, struct breaker_rules *out);

#endif
