/*
 * Hedging. Invariants: over any run hedges <= budget x requests + BURST; no hedge before ENOUGH answers were
 * seen.
 */
#include "policy/hedge.h"

#include <string.h>

#define ENOUGH   100
#define MANY     20000 /* then all counts are halved: the newest matter most */
#define RENEW    32    /* answers between two looks at the quantile */
#define BURST    10.0
#define SHORTEST 16 /* log2 of the nanoseconds of the first bucket, about 64 us */

void hedge_init(struct hedge *h, const struct hedge_rules *rules)
{
    memset(h, 0, sizeof *h);
    h->rules = rules;
    h->delay = TICK_NEVER;
}

void hedge_tune(struct hedge *h, const struct hedge_rules *rules)
{
    h->rules = rules;
    h->fresh = RENEW;
}

/* Eight even steps within each doubling. */
static int bucket_of(tick_t took)
{
    if (took < (INT64_C(1) << SHORTEST))
        return 0;
    int e = 63 - __builtin_clzll((unsigned long long)took);
    int b = (e - SHORTEST) * 8 + (int)((took >> (e - 3)) & 7);
    return b < HEDGE_BUCKETS ? b : HEDGE_BUCKETS - 1;
}

/* The upper end of a bucket. */
static tick_t end_of(int b)
{
    return (INT64_C(8) + b % 8 + 1) << (SHORTEST + b / 8 - 3);
}

tick_t hedge_quantile(const struct hedge *h, double quantile)
{
    if (h->samples < ENOUGH)
        return TICK_NEVER;
    double want = quantile * h->samples, seen = 0;
    for (int b = 0; b < HEDGE_BUCKETS; b++) {
        seen += h->bucket[b];
        if (seen >= want)
            return end_of(b);
    }
    return end_of(HEDGE_BUCKETS - 1);
}

void hedge_answered(struct hedge *h, tick_t took)
{
    if (h->samples >= MANY) {
        h->samples = 0;
        for (int b = 0; b < HEDGE_BUCKETS; b++)
            h->samples += h->bucket[b] /= 2;
    }
    h->bucket[bucket_of(took > 0 ? took : 0)]++;
    h->samples++;
    if (++h->fresh >= RENEW) {
        h->fresh = 0;
        h->delay = hedge_quantile(h, h->rules->quantile);
    }
}

tick_t hedge_request(struct hedge *h)
{
    if (!h->rules->enabled)
        return TICK_NEVER;
    h->credit += h->rules->budget;
    if (h->credit > BURST)
        h->credit = BURST;
    return h->credit >= 1 ? h->delay : TICK_NEVER;
}

bool hedge_take(struct hedge *h, bool healthy)
{
    if (!h->rules->enabled || !healthy || h->credit < 1)
        return false;
    h->credit -= 1;
    return true;
}
