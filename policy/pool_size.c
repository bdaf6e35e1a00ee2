/*
 * The size of a connection pool from what was asked of it.
 *
 * The demand (in use plus waiting) is integrated over time in slots of a second: its mean is L of Little's
 * law, exactly and without keeping single times; X is counted, and W = L / X. Needed are L / threshold, so
 * that on average that share is in use, and never less than the peak of the last 10 s; when some had to wait,
 * the peak gets the same head room.
 *
 * Invariants: min_size <= target <= max_size; a target is never below the present demand (max_size excepted);
 * within any 10 s it falls by at most a tenth, rounded up. Slot k of time lies at k % 10.
 */
#include "policy/pool_size.h"

#include <string.h>

#define SLOT         TICK_S
#define SHRINK_EVERY (10 * TICK_S)
#define SHRINK_BY    0.9
#define WAITED_MUCH  0.01

static int min_size(const struct pool_rules *r)
{
    int low = r->min_size > 0 ? r->min_size : 0;
    return low < r->max_size ? low : r->max_size;
}

void pool_size_init(struct pool_size *p, const struct pool_rules *rules, tick_t now)
{
    memset(p, 0, sizeof *p);
    p->rules = rules;
    p->began = p->last = p->shrunk = now;
    p->at = now / SLOT;
    p->level = min_size(rules);
}

void pool_size_tune(struct pool_size *p, const struct pool_rules *rules)
{
    p->rules = rules;
}

static void begin_slot(struct pool_size *p)
{
    int i = (int)(p->at % POOL_SIZE_SLOTS);
    memset(&p->slot[i], 0, sizeof p->slot[i]);
    p->slot[i].peak = p->demand;
}

/* Adds the demand since the last event to the slots that it lay in. */
static void integrate(struct pool_size *p, tick_t now)
{
    if (now <= p->last)
        return;
    if (now / SLOT - p->at > POOL_SIZE_SLOTS) { /* no event for longer than we look back: leap */
        p->at = now / SLOT - POOL_SIZE_SLOTS;
        p->last = p->at * SLOT;
        begin_slot(p);
    }
    while (p->at < now / SLOT) {
        tick_t end = (p->at + 1) * SLOT;
        p->slot[p->at % POOL_SIZE_SLOTS].busy += p->demand * (end - p->last);
        p->last = end;
        p->at++;
        begin_slot(p);
    }
    p->slot[p->at % POOL_SIZE_SLOTS].busy += p->demand * (now - p->last);
    p->last = now;
}

void pool_size_demand(struct pool_size *p, int demand, tick_t now)
{
    integrate(p, now);
    p->demand = demand > 0 ? demand : 0;
    int *peak = &p->slot[p->at % POOL_SIZE_SLOTS].peak;
    if (p->demand > *peak)
        *peak = p->demand;
}

void pool_size_acquired(struct pool_size *p, bool waited, tick_t now)
{
    integrate(p, now);
    int i = (int)(p->at % POOL_SIZE_SLOTS);
    p->slot[i].acquired++;
    p->slot[i].waited += waited;
}

struct pool_measured pool_size_measured(struct pool_size *p, tick_t now)
{
    struct pool_measured m = {.peak = p->demand};
    integrate(p, now);
    int64_t busy = 0;
    uint64_t acquired = 0, waited = 0;
    for (int i = 0; i < POOL_SIZE_SLOTS; i++) {
        busy += p->slot[i].busy;
        acquired += p->slot[i].acquired;
        waited += p->slot[i].waited;
        if (p->slot[i].peak > m.peak)
            m.peak = p->slot[i].peak;
    }
    tick_t oldest = (p->at - POOL_SIZE_SLOTS + 1) * SLOT;
    double seconds = (double)(p->last - (oldest > p->began ? oldest : p->began)) / (double)TICK_S;
    if (seconds < 0.001) {
        m.busy = p->demand;
        return m;
    }
    m.busy = (double)busy / (double)TICK_S / seconds;
    m.rate = (double)acquired / seconds;
    m.held = acquired ? m.busy / m.rate : 0;
    m.waited = acquired ? (double)waited / (double)acquired : 0;
    return m;
}

static int round_up(double x)
{
    if (x >= INT32_MAX)
        return INT32_MAX;
    int n = (int)x;
    return x - n > 1e-9 ? n + 1 : n;
}

/* How many the measured demand asks for, within the bounds. */
static int needed(struct pool_size *p, tick_t now)
{
    const struct pool_rules *r = p->rules;
    struct pool_measured m = pool_size_measured(p, now);
    double threshold = r->threshold > 0 && r->threshold <= 1 ? r->threshold : 1;
    int mean = round_up(m.busy / threshold);
    int peak = m.waited > WAITED_MUCH ? round_up(m.peak / threshold) : m.peak;
    int n = mean > peak ? mean : peak;
    return n > r->max_size ? r->max_size : n < min_size(r) ? min_size(r) : n;
}

static int adaptive_size(struct pool_size *p, tick_t now)
{
    double need = needed(p, now);
    if (p->level > p->rules->max_size)
        p->level = p->rules->max_size;
    if (need >= p->level) {
        p->level = need;
        p->shrunk = now;
    }
    while (p->level > need && now - p->shrunk >= SHRINK_EVERY) {
        p->level *= SHRINK_BY;
        p->shrunk += SHRINK_EVERY;
        if (p->level < need + 0.5) { /* near enough: nine tenths of it would never get there */
            p->level = need;
            p->shrunk = now;
        }
    }
    return round_up(p->level);
}

struct pool_target pool_size_target(struct pool_size *p, tick_t now)
{
    const struct pool_rules *r = p->rules;
    switch (r->strategy) {
    case POOL_FIXED:
        return (struct pool_target){r->max_size, r->max_size};
    case POOL_LAZY:
        return (struct pool_target){0, r->max_size};
    case POOL_ADAPTIVE:
        if (r->adaptive) {
            int n = adaptive_size(p, now);
            return (struct pool_target){n, n};
        }
        break;
    case POOL_DYNAMIC:
        break;
    }
    return (struct pool_target){min_size(r), r->max_size};
}
