/*
 * The circuit breaker of one upstream: closed, open, half-open. It opens on failures in a row, on the
 * share of failures or on the share of slow calls over a sliding window; lets a few probes through after a
 * while; and closes when they succeed. Plain state: the owner locks it when threads share it.
 *
 * Every admitted call is reported with the permit it was given, so that an answer from before a change of
 * state says nothing about the state after it. A probe's permit is a lease: when its time is over without a
 * report the probe counts as failed, so that half-open always ends.
 */
#ifndef POLICY_BREAKER_H
#define POLICY_BREAKER_H

#include "policy/base.h"
#include "policy/rng.h"
#include "policy/window.h"

#define BREAKER_MAX_PROBES 16

enum breaker_state { BREAKER_CLOSED, BREAKER_HALF_OPEN, BREAKER_OPEN }; /* the gauge's 0, 1, 2 */
enum breaker_verdict { BREAKER_PASS, BREAKER_PROBE, BREAKER_SHED };

enum breaker_outcome {
    BREAKER_OK,
    BREAKER_FAILURE,   /* the upstream's fault: 5xx, broken, no answer */
    BREAKER_THROTTLED, /* 429 or a rate limit in disguise: alive, and never a failure */
    BREAKER_IGNORED    /* says nothing: the client left, we refused it ourselves */
};

enum breaker_cause {
    BREAKER_CAUSE_NONE,
    BREAKER_CAUSE_CONSECUTIVE,
    BREAKER_CAUSE_FAILURE_RATE,
    BREAKER_CAUSE_SLOW_RATE,
    BREAKER_CAUSE_PROBE_FAILED,
    BREAKER_CAUSE_PROBE_LOST /* no report within the lease */
};

struct breaker_rules { /* configuration: read only */
    bool enabled;
    int consecutive;     /* failures in a row; 0 = not watched */
    double failure_rate; /* of the window's calls, > 0; above 1 = not watched */
    tick_t slow_call;    /* a call longer than this is slow; 0 = not watched */
    double slow_rate;
    tick_t window;
    int minimum_requests; /* in the window, before a share means anything */
    tick_t open_time;     /* the first time; then doubling with jitter to: */
    tick_t open_max;
    int probes; /* half-open: so many at once, and so many successes close it; 1 ... BREAKER_MAX_PROBES */
    tick_t probe_lease; /* a probe not reported by then has failed; 0 = 30 s */
};

struct breaker {
    const struct breaker_rules *rules; /* not owned: outlives the breaker, or is replaced by breaker_tune */
    enum breaker_state state;
    enum breaker_cause cause; /* of the last opening */
    uint32_t epoch;           /* number of changes of state so far */
    uint32_t opened;          /* number of openings so far */
    uint32_t run;             /* failures in a row */
    tick_t run_began;         /* when the first of them was reported */
    tick_t run_sent;          /* and when it was sent */
    uint32_t run_passed;      /* good ends since then of calls that were sent before */
    uint32_t streak;          /* openings without a quiet time between: the exponent of the doubling */
    uint32_t good;            /* half-open: successes so far */
    tick_t since;             /* of the state */
    tick_t until;             /* open: its end */
    tick_t opened_for;        /* the last opening's length */
    tick_t lease[BREAKER_MAX_PROBES]; /* half-open: ends of leases; 0 = free */
    struct window window;             /* calls, failures, slow */
};

struct breaker_permit { /* keep it with the attempt; all zero is a PASS of no epoch: its report is ignored */
    uint8_t verdict;    /* enum breaker_verdict */
    uint8_t probe;
    uint32_t epoch;
};

void breaker_init(struct breaker *b, const struct breaker_rules *rules, tick_t now);

/*
 * New rules, live; they may be the old ones, changed in place. State stays, and counts too unless the
 * window's length is another; a breaker that is now off is closed.
 */
void breaker_tune(struct breaker *b, const struct breaker_rules *rules, tick_t now);

/* Asks for one call. PASS and PROBE must be reported, whatever becomes of them; SHED need not. */
struct breaker_permit breaker_admit(struct breaker *b, struct rng *rng, tick_t now) MUSTCHECK;

struct breaker_report {
    enum breaker_outcome outcome;
    tick_t took; /* to the first byte of the answer, or to the failure */
    bool again; /* a further attempt of a request: a request that fails is one failure in a row, however often
                 * it was tried; two that cannot succeed, tried three times each, are no outage */
};

/* Reports an admitted call, once. */
void breaker_report(struct breaker *b, struct breaker_permit permit, struct breaker_report report,
                    struct rng *rng, tick_t now);

/*
 * n calls of the closed state that were gathered since `when` and answered well, none of them slow. For
 * callers that take no lock for each of them: report what was gathered before any other event.
 */
void breaker_report_good(struct breaker *b, uint32_t n, tick_t when, struct rng *rng, tick_t now);

/* Ends what has run out (open time, leases), as breaker_admit does too. Call it at breaker_next_due. */
void breaker_turn(struct breaker *b, struct rng *rng, tick_t now);

/*
 * An active health check of the upstream succeeded. An open breaker whose first open time is over goes
 * half-open now rather than at the end of its doubled time: after a long outage nobody waits for open_max.
 * Says nothing in other states.
 */
void breaker_sign_of_life(struct breaker *b, tick_t now);

/* When the state changes by time alone: end of the open time, of the first lease; else TICK_NEVER. */
tick_t breaker_next_due(const struct breaker *b);

/* How long a shed client should wait: the rest of the open time, at least 1 s (for Retry-After). */
tick_t breaker_retry_after(const struct breaker *b, tick_t now);

/* Closes it and forgets, by hand. */
void breaker_reset(struct breaker *b, tick_t now);

/* The words for the admin port and logs. */
const char *breaker_state_name(enum breaker_state state);
const char *breaker_cause_name(enum breaker_cause cause);

#endif
