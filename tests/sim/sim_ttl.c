/*
 * Freshness from observed change, in a world where the truth is known: 2000 documents that change at rates
 * log-uniform from once in 30 days to once a minute, Zipf 0.9, 20 requests a second, two days of which the
 * second is counted, a cache without bounds. Stale: answers that were out of date. Origin: requests that
 * reached it. In the second half of the table all rates are 20 times higher from the second day on. Prints a
 * table; exits 1 when a bound is broken.
 */
#include "policy/adaptive_ttl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { DOCUMENTS = 2000, DAY = 86400, PER_SECOND = 20, SEEDS = 3 };

enum rule { RULE_FIXED, RULE_MODIFIED, RULE_ADAPTIVE, RULE_TRUE, RULE_COUNT };

static const char *const names[] = {"fixed 300 s", "LM x 0.10", "adaptive", "true rates, 5 %"};

struct document {
    double rate;          /* true changes a second */
    double changed, next; /* the last change, and the one to come */
    uint64_t version;
    double fetched, expires; /* of the cached copy; expires < 0: none */
    uint64_t cached;
    struct change_rate learnt;
};

struct outcome {
    double stale, origin;
};

static struct document world[DOCUMENTS];
static double zipf[DOCUMENTS];

static double exponential(struct rng *rng, double rate)
{
    return -log(1 - rng_double(rng)) / rate;
}

static void create(struct rng *rng)
{
    double slow = 1.0 / (30.0 * DAY), fast = 1.0 / 60, sum = 0;
    for (int i = 0; i < DOCUMENTS; i++) {
        double rate = slow * pow(fast / slow, rng_double(rng));
        world[i] = (struct document){.rate = rate, .expires = -1};
        world[i].changed = -exponential(rng, rate);
        world[i].next = exponential(rng, rate);
        sum += pow(i + 1, -0.9);
        zipf[i] = sum;
    }
}

static int draw(struct rng *rng)
{
    double at = rng_double(rng) * zipf[DOCUMENTS - 1];
    int low = 0, high = DOCUMENTS - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (zipf[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void let_pass(struct document *d, double now, struct rng *rng)
{
    while (d->next <= now) {
        d->changed = d->next;
        d->version++;
        d->next += exponential(rng, d->rate);
    }
}

static double lifetime(struct document *d, enum rule rule, double now, struct rng *rng)
{
    double ttl = 300;
    if (rule == RULE_MODIFIED)
        ttl = (now - d->changed) * 0.1;
    else if (rule == RULE_TRUE)
        ttl = 0.1 / d->rate;
    else if (rule == RULE_ADAPTIVE)
        return (double)adaptive_ttl(&ADAPTIVE_TTL_DEFAULT, &d->learnt,
                                    (tick_t)((now - d->changed) * (double)TICK_S), rng) /
               (double)TICK_S;
    return ttl < 1 ? 1 : ttl > DAY ? DAY : ttl;
}

static void fetch(struct document *d, enum rule rule, double now, struct rng *rng)
{
    if (d->expires >= 0)
        change_rate_poll(&d->learnt, (tick_t)((now - d->fetched) * (double)TICK_S), d->cached != d->version);
    d->cached = d->version;
    d->fetched = now;
    d->expires = now + lifetime(d, rule, now, rng);
}

static struct outcome run(enum rule rule, bool shift, uint64_t seed)
{
    struct rng events, dice; /* the same world for each rule */
    double now = 0, requests = 0, stale = 0, origin = 0;
    bool shifted = false;
    rng_seed(&events, seed);
    rng_seed(&dice, seed + 1000);
    create(&events);
    while ((now += exponential(&events, PER_SECOND)) < 2.0 * DAY) {
        if (shift && !shifted && now >= DAY)
            for (int i = 0; i < DOCUMENTS; i++) {
                let_pass(&world[i], DAY, &dice);
                world[i].rate *= 20;
                world[i].next = DAY + exponential(&dice, world[i].rate);
            }
        shifted = now >= DAY;
        struct document *d = &world[draw(&events)];
        let_pass(d, now, &dice);
        bool fetched = d->expires < 0 || now >= d->expires;
        if (fetched)
            fetch(d, rule, now, &dice);
        if (now < DAY)
            continue;
        requests++;
        origin += fetched;
        stale += d->cached != d->version;
    }
    return (struct outcome){100 * stale / requests, 100 * origin / requests};
}

static struct outcome average(enum rule rule, bool shift)
{
    struct outcome sum = {0, 0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct outcome one = run(rule, shift, seed);
        sum.stale += one.stale / SEEDS;
        sum.origin += one.origin / SEEDS;
    }
    return sum;
}

static int bound(const char *what, double value, double most)
{
    printf("%-48s %6.2f, at most %6.2f: %s\n", what, value, most, value <= most ? "good" : "BROKEN");
    return value > most;
}

int main(void)
{
    struct outcome steady[RULE_COUNT], shifted[RULE_COUNT];
    int broken = 0;
    printf("%-18s %8s %8s   %s\n", "rule", "stale %", "origin %", "after x20: stale %, origin %");
    for (enum rule rule = 0; rule < RULE_COUNT; rule++) {
        steady[rule] = average(rule, false);
        shifted[rule] = average(rule, true);
        printf("%-18s %8.2f %8.2f   %8.2f %8.2f\n", names[rule], steady[rule].stale, steady[rule].origin,
               shifted[rule].stale, shifted[rule].origin);
    }
    broken += bound("stale, steady", steady[RULE_ADAPTIVE].stale, 4.5);
    broken += bound("origin requests, steady, share of the true rates'",
                    steady[RULE_ADAPTIVE].origin / steady[RULE_TRUE].origin, 1);
    broken += bound("stale, rates x 20", shifted[RULE_ADAPTIVE].stale, 7);
    broken += bound("origin requests, rates x 20, share of the same",
                    shifted[RULE_ADAPTIVE].origin / shifted[RULE_TRUE].origin, 1);
    return broken > 0;
}
