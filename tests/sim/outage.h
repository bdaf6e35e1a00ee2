/*
 * A service in trouble, and clients behind the sidecar's retry, breaker and a concurrency limit, in virtual
 * time: one queue of events, no sockets, no clock. The same seed gives the same run.
 *
 * The server has `workers`, each busy for an exponential time; a FIFO queue of bounded length; and does not
 * notice when a client has given up, so that work is wasted as in real outages.
 */
#ifndef TESTS_SIM_OUTAGE_H
#define TESTS_SIM_OUTAGE_H

#include "policy/breaker.h"
#include "policy/retry.h"

enum outage_kind {
    OUTAGE_NONE,
    OUTAGE_HARD, /* every request answered 503 in 5 ms */
    OUTAGE_GRAY  /* every service takes `slow` times as long */
};

struct outage_setup {
    uint64_t seed;
    double rate; /* requests offered a second, Poisson */
    int workers;
    tick_t service; /* mean time of one */
    int queue;      /* places */
    double errors;  /* share of answers that are 503 all the time */
    enum outage_kind kind;
    double slow;
    tick_t before, fault, after; /* lengths of the three phases */
    tick_t patience;             /* of one attempt */
    tick_t deadline;             /* of a request, all attempts; TICK_NEVER */
    int cap;                     /* attempts in flight; 0 = no limit: above it a request is refused here */
    struct retry_rules retry;
    double budget, budget_floor;
    struct breaker_rules breaker;
    tick_t health; /* between two health checks, which fail in a hard outage only; 0 = none */
};

enum { OUTAGE_BEFORE, OUTAGE_DURING, OUTAGE_AFTER, OUTAGE_PHASES };

struct outage_result {
    struct {
        uint64_t offered; /* requests that came in this phase */
        uint64_t sent;    /* attempts that reached the server in this phase */
        uint64_t good;    /* requests that came in this phase and were answered well */
    } phase[OUTAGE_PHASES];
    uint64_t late;   /* attempts begun at or after their request's deadline: must be none */
    uint32_t opened; /* times the breaker opened */
    double recovery; /* seconds after the fault until five good seconds in a row began; < 0: never */
};

/* The model of the resilience tests: 800 requests a second on 100 workers of 100 ms, 10 s + 30 s + 60 s. */
void outage_defaults(struct outage_setup *s);

/* Runs it. False when out of memory. */
bool outage_run(const struct outage_setup *s, struct outage_result *result) MUSTCHECK;

#endif
