/*
 * For how long an idle upstream connection may be trusted: learnt from `Keep-Alive: timeout=N` and from
 * the ages at which the upstream closed idle connections, so that we close first. Stays below what was seen,
 * and forgets after an hour, so that a longer timeout is found again.
 */
#ifndef POLICY_IDLE_LEARN_H
#define POLICY_IDLE_LEARN_H

#include "policy/base.h"

#define IDLE_LEARN_SAMPLES 16

struct idle_learn {
    tick_t max_idle; /* pool.max_idle_time: never trusted for longer */
    tick_t hint;     /* Keep-Alive: timeout; 0 = none said */
    tick_t learned;  /* the timeout believed; 0 = none */
    tick_t lowest;   /* smallest age noted; 0 = none */
    tick_t recheck;  /* when the oldest note is forgotten */
    int next;
    struct {
        tick_t age; /* 0 = free */
        tick_t when;
        uint16_t outlived; /* reuses at a greater age since: each speaks against it */
        bool doubted;      /* closed together with others of other ages: a restart, not a timeout */
    } sample[IDLE_LEARN_SAMPLES];
};

void idle_learn_init(struct idle_learn *l, tick_t max_idle);

/* The upstream closed a connection that had been idle for `age`. */
void idle_learn_closed(struct idle_learn *l, tick_t age, tick_t now);

/* A connection that had been idle for `age` was used again and answered. */
void idle_learn_reused(struct idle_learn *l, tick_t age, tick_t now);

/* The value of a Keep-Alive field; anything but timeout=DIGITS in it is ignored. */
void idle_learn_hint(struct idle_learn *l, struct slice keep_alive);

/* Idle for less than this, a connection may be used; idle for longer it is closed. <= max_idle, > 0. */
tick_t idle_learn_trust(struct idle_learn *l, tick_t now);

#endif
