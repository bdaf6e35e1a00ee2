/*
 * What would a circuit breaker have done? Calls that were recorded without one are played through breakers
 * that live on from one stretch of time to the next, one a circuit: a call is admitted when it began and
 * reported when it ended. So what passes before a circuit opens counts once an outage, not once a stretch.
 *
 * Plain state, single owner.
 */
#ifndef POLICY_BREAKER_REPLAY_H
#define POLICY_BREAKER_REPLAY_H

#include "policy/breaker.h"

enum { BREAKER_REPLAY_CIRCUITS = 256 };

struct breaker_replay {
    struct breaker_rules rules; /* `enabled` is set whatever is handed in */
    struct rng rng;
    tick_t latest; /* of the events so far: time that runs backwards begins anew */
    bool begun[BREAKER_REPLAY_CIRCUITS];
    struct breaker circuit[BREAKER_REPLAY_CIRCUITS];
};

/* Nothing is known yet. *r is all zero. */
void breaker_replay_init(struct breaker_replay *r, uint64_t seed);

/* One recorded call. Set all but `permit`. */
struct replay_call {
    tick_t began, ended, took; /* took: to its first byte, or to the failure */
    uint16_t circuit;          /* below BREAKER_REPLAY_CIRCUITS; else the last */
    uint8_t outcome;           /* enum breaker_outcome */
    struct breaker_permit permit;
};

struct replay_event {
    tick_t at;
    uint32_t call;
    bool end;
};

/*
 * Plays `count` calls (any order) of a stretch that follows those of before. `room` holds 2 * count events.
 * Returns the time that calls took which would not have been let through.
 */
tick_t breaker_replay_run(struct breaker_replay *r, const struct breaker_rules *rules,
                          struct replay_call *calls, size_t count, struct replay_event *room);

#endif
