/*
 * The worth of tiers. Invariants: pure; every quotient has a divisor above 0; a tier is left only for a gain
 * of MARGIN times what it costs.
 */
#include "policy/tier.h"

#include <math.h>

enum { SPARED_MAX = 64, LARGE_SHARE = 64 };

static const double MARGIN = 2, PRICE_MEMORY_S = 30, USED = 1e-3 /* a second */;

const char *tier_name(enum tier tier)
{
    static const char *const names[TIER_COUNT] = {"warm", "hot", "cold"};
    return names[tier];
}

/* One more byte would hold what was given up last, or let what is compressed lie plain. */
double tier_price(double price, const struct tier_window *w)
{
    double bytes = w->regret_bytes + w->cold_bytes;
    if (w->seconds <= 0)
        return price;
    double seen = bytes > 0 ? (w->regrets + w->cold_uses) / w->seconds * w->fetch_ns / bytes : 0;
    double share = exp(-w->seconds / PRICE_MEMORY_S);
    return share * price + (1 - share) * seen;
}

double tier_rate(double rate, double uses, double seconds)
{
    return seconds > 0 ? (rate + uses / seconds) / 2 : rate;
}

enum tier tier_judge(const struct tier_market *market, const struct tier_facts *f)
{
    double packed = f->packed > 0 ? f->packed : f->plain * market->ratio;
    double saved = f->plain > packed ? (f->plain - packed) * market->price : 0;
    double spent = f->rate * f->plain * market->unpack_ns;
    if (f->now == TIER_COLD)
        return spent >= MARGIN * saved ? TIER_HOT : TIER_COLD;
    if (f->squeezable && f->pressed && saved > MARGIN * spent)
        return TIER_COLD;
    return f->rate > USED && spent >= saved ? TIER_HOT : TIER_WARM;
}

bool tier_spares(unsigned spared, uint64_t bytes, uint64_t limit)
{
    return spared < SPARED_MAX && bytes < limit / LARGE_SHARE;
}
