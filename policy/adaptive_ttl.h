/*
 * How long an answer is kept fresh when its origin does not say: so long that, by its change rate, it is
 * stale for the wished share of the time. Only where a heuristic is allowed (RFC 9111 4.2.2): the caller does
 * not ask when the origin gave a lifetime. Learns only from looks that can be compared: a 304, or a 200 after
 * a 200 of the same variant.
 */
#ifndef POLICY_ADAPTIVE_TTL_H
#define POLICY_ADAPTIVE_TTL_H

#include "policy/change_rate.h"
#include "policy/rng.h"

struct adaptive_ttl_rules {
    double staleness;   /* share of the time that an answer may be out of date while fresh: 0.05 = 5 % */
    double first_share; /* of the time since the last modification: the first lifetime */
    tick_t first;       /* the first lifetime when nothing is known */
    tick_t least, most;
    double jitter; /* 0.1 = up to 10 % shorter or longer, so that what came together does not end together */
};

/* 4.7 %, LM x 0.1, 30 s, 1 s ... 24 h, +-10 % (measured: see policy/README.md). */
extern const struct adaptive_ttl_rules ADAPTIVE_TTL_DEFAULT;

/*
 * The lifetime for what was just fetched or validated. `modified_ago` is the time since its last
 * modification, or below 0 when that is unknown. `rng` may be NULL: no jitter.
 */
tick_t adaptive_ttl(const struct adaptive_ttl_rules *rules, const struct change_rate *rate,
                    tick_t modified_ago, struct rng *rng);

#endif
