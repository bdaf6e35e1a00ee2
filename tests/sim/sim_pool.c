/*
 * Pool sizes under steady, step, ramp and burst loads, in steps of a millisecond: how many requests wait for
 * a connection, how long, and how many connections are kept for it. Prints a table, exits 1 when a bound is
 * broken.
 */
#include "policy/pool_size.h"
#include "policy/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    CONNECT_MS = 20,
    HOLD_MS = 100, /* mean, exponential */
    MAX_OPEN = 2000,
    RING = 4096, /* longest hold, in ms */
    MAX_WAIT = 1000
};

#define SECONDS  240
#define MAX_IDLE 60000 /* ms */

struct pool {
    struct pool_size size;
    int busy, connecting;
    int idle[MAX_OPEN]; /* since when, in ms; a stack: the last used on top */
    int idle_count;
    int release[RING], connected[RING];
    int waiting[1 << 16]; /* since when; a ring */
    unsigned wait_first, wait_end;
};

struct measured {
    long requests, waited;
    long wait_of[MAX_WAIT];
    int longest;
    double open; /* mean */
    int most, last;
    bool steep; /* the target fell by more than a tenth, rounded up, within 10 s */
};

static struct pool pool;
static struct rng rng;

static void start_hold(int now)
{
    int ms = (int)(-log(1 - rng_double(&rng)) * HOLD_MS) + 1;
    pool.release[(now + (ms < RING ? ms : RING - 1)) % RING]++;
    pool.busy++;
}

static int open_count(void)
{
    return pool.busy + pool.idle_count + pool.connecting;
}

static void open_one(int now)
{
    if (open_count() >= MAX_OPEN)
        return;
    pool.connecting++;
    pool.connected[(now + CONNECT_MS) % RING]++;
}

/* A connection came free: to the one that waits longest, or to the idle. */
static void hand_out(int now, struct measured *m)
{
    if (pool.wait_first == pool.wait_end) {
        pool.idle[pool.idle_count++] = now;
        return;
    }
    int wait = now - pool.waiting[pool.wait_first++ % ARRAY_LEN(pool.waiting)];
    m->wait_of[wait < MAX_WAIT ? wait : MAX_WAIT - 1]++;
    m->longest = wait > m->longest ? wait : m->longest;
    pool_size_acquired(&pool.size, true, now * TICK_MS);
    m->waited++;
    start_hold(now);
}

static void arrive(int now, struct measured *m)
{
    m->requests++;
    if (pool.idle_count) {
        pool.idle_count--;
        pool_size_acquired(&pool.size, false, now * TICK_MS);
        start_hold(now);
        return;
    }
    pool.waiting[pool.wait_end++ % ARRAY_LEN(pool.waiting)] = now;
    if (pool.connecting < (int)(pool.wait_end - pool.wait_first))
        open_one(now);
}

static void tend(int now)
{
    pool_size_demand(&pool.size, pool.busy + (int)(pool.wait_end - pool.wait_first), now * TICK_MS);
    struct pool_target target = pool_size_target(&pool.size, now * TICK_MS);
    while (open_count() < target.warm && open_count() < MAX_OPEN)
        open_one(now);
    if (now % 1000)
        return;
    int drop = 0;
    while (drop < pool.idle_count && (open_count() - drop > target.keep || now - pool.idle[drop] > MAX_IDLE))
        drop++;
    pool.idle_count -= drop;
    memmove(pool.idle, pool.idle + drop, (size_t)pool.idle_count * sizeof pool.idle[0]);
}

static int poisson(double mean)
{
    int n = 0;
    for (double p = exp(-mean), sum = p, u = rng_double(&rng); u > sum && n < 1000; sum += p)
        p *= mean / ++n;
    return n;
}

typedef double load(int ms);

static double steady(int ms)
{
    (void)ms;
    return 200;
}

static double step_load(int ms)
{
    return ms < 60000 || ms >= 120000 ? 20 : 400;
}

static double ramp(int ms)
{
    return ms < 120000 ? ms / 120000.0 * 1000 : (240000 - ms) / 120000.0 * 1000;
}

static double bursts(int ms)
{
    return ms % 60000 >= 30000 && ms % 60000 < 32000 ? 1000 : 5;
}

static double idle_then_burst(int ms)
{
    return ms < 120000 ? 0 : 500;
}

static struct measured run(load *rate, enum pool_strategy strategy)
{
    static int targets[SECONDS];
    struct pool_rules rules = {strategy, 2, MAX_OPEN, true, 0.8};
    struct measured m = {0};
    rng_seed(&rng, 99);
    memset(&pool, 0, sizeof pool);
    pool_size_init(&pool.size, &rules, 0);
    for (int now = 0; now < SECONDS * 1000; now++) {
        int *released = &pool.release[now % RING], *connected = &pool.connected[now % RING];
        for (; *released; --*released, pool.busy--)
            hand_out(now, &m);
        for (; *connected; --*connected, pool.connecting--)
            hand_out(now, &m);
        for (int n = poisson(rate(now) / 1000); n; n--)
            arrive(now, &m);
        tend(now);
        m.open += open_count() / (SECONDS * 1000.0);
        m.most = open_count() > m.most ? open_count() : m.most;
        if (now % 1000)
            continue;
        int second = now / 1000, keep = pool_size_target(&pool.size, now * TICK_MS).keep;
        targets[second] = keep;
        int before = second >= 9 ? targets[second - 9] : keep;
        m.steep |= before - keep > (before + 9) / 10;
    }
    m.last = open_count();
    return m;
}

static int percentile(const struct measured *m, double q)
{
    double left = q * (double)m->requests - (double)(m->requests - m->waited);
    int ms = 0;
    for (; left > 0 && ms < MAX_WAIT - 1; ms++)
        left -= (double)m->wait_of[ms];
    return ms;
}

static int failures;

static void bound(bool good, const char *what)
{
    if (good)
        return;
    printf("  BROKEN: %s\n", what);
    failures++;
}

int main(void)
{
    static const struct {
        const char *name;
        load *rate;
    } loads[] = {{"steady 200/s (L = 20)", steady},
                 {"step 20, 400, 20/s", step_load},
                 {"ramp 0 to 1000/s and back", ramp},
                 {"bursts of 1000/s on 5/s", bursts},
                 {"idle, then 500/s", idle_then_burst}};
    static const struct {
        const char *name;
        enum pool_strategy strategy;
    } strategies[] = {{"lazy", POOL_LAZY}, {"dynamic", POOL_DYNAMIC}, {"adaptive", POOL_ADAPTIVE}};
    for (size_t i = 0; i < ARRAY_LEN(loads); i++)
        for (size_t k = 0; k < ARRAY_LEN(strategies); k++) {
            struct measured m = run(loads[i].rate, strategies[k].strategy);
            double waited = (double)m.waited / (double)m.requests;
            printf("%-26s %-9s waited %6.3f %%  p99.9 %3d ms  longest %3d ms  open mean %6.1f most %4d at "
                   "the end %d\n",
                   loads[i].name, strategies[k].name, 100 * waited, percentile(&m, 0.999), m.longest, m.open,
                   m.most, m.last);
            bound(m.longest <= 2 * CONNECT_MS, "no request waits for longer than two connect times");
            if (strategies[k].strategy != POOL_ADAPTIVE)
                continue;
            bound(!m.steep, "a target falls by a tenth in 10 s at most");
            if (loads[i].rate == steady)
                bound(waited < 0.005 && m.open < 60, "steady: 0.5 % wait, under three times L connections");
        }
    puts(failures ? "BROKEN" : "all bounds held");
    return failures > 0;
}
