/*
 * The worth of tiers. Invariants: pure; every quotient has a divisor above 0.
 */
#include "policy/tier.h"

enum { SPARED_MAX = 64, LARGE_SHARE = 64 };

bool tier_spares(unsigned spared, uint64_t bytes, uint64_t limit)
{
    return spared < SPARED_MAX && bytes < limit / LARGE_SHARE;
}
