/*
 * Mean staleness of a lifetime T at rate r is about rT / 2 while small, so T = 2s / r. Invariant: the result
 * is within [least, most], jitter included.
 */
#include "policy/adaptive_ttl.h"

const struct adaptive_ttl_rules ADAPTIVE_TTL_DEFAULT = {.staleness = 0.047,
                                                        .first_share = 0.10,
                                                        .first = 30 * TICK_S,
                                                        .least = TICK_S,
                                                        .most = (tick_t)86400 * TICK_S,
                                                        .jitter = 0.1};

static double seconds(tick_t t)
{
    return (double)t / (double)TICK_S;
}

/* The wish in seconds, before bounds and jitter. */
static double wished(const struct adaptive_ttl_rules *rules, const struct change_rate *rate,
                     tick_t modified_ago)
{
    double r = change_rate_estimate(rate), longest = (double)rate->history + seconds(rules->first);
    if (!(r > 0))
        return modified_ago >= 0 ? seconds(modified_ago) * rules->first_share : seconds(rules->first);
    double ttl = 2 * rules->staleness / r;
    return ttl > longest ? longest : ttl;
}

tick_t adaptive_ttl(const struct adaptive_ttl_rules *rules, const struct change_rate *rate,
                    tick_t modified_ago, struct rng *rng)
{
    double ttl = wished(rules, rate, modified_ago), least = seconds(rules->least),
           most = seconds(rules->most);
    if (rng && rules->jitter > 0)
        ttl *= 1 + rules->jitter * (2 * rng_double(rng) - 1);
    ttl = ttl < least ? least : ttl > most ? most : ttl;
    return (tick_t)(ttl * (double)TICK_S);
}
