/*
 * Breakers, budget and their fast path. Invariants:
 * - every permit that is not shed is reported once; what is reported as IGNORED changes no rate;
 * - `epoch` of a circuit is its breaker's while that is closed, else 0, and is written with the lock held
 * only;
 * - calls of a closed circuit that are answered well, and first attempts, are gathered in atomic counters for
 * at most QUANTUM; whoever takes the lock tells policy of them first, so it hears of them before any failure
 *   that came later. None is lost, and none counts in a slot of time that is further off than QUANTUM.
 */
#include "proxy/guard.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "policy/config.h"
#include "proxy/admit_rules.h"

#define QUANTUM (10 * TICK_MS)

struct circuit {
    struct breaker breaker;
    _Atomic uint32_t epoch;   /* of the permits that it gives without a question; 0: ask */
    _Atomic uint32_t good;    /* gathered */
    _Atomic uint32_t typical; /* retry_typical; of two that write at once one is lost, and nothing with it */
    int operation;            /* GUARD_WAY: the way there */
    enum breaker_state seen;  /* noted last */
    struct hedge hedge;       /* under hedge_lock */
};

struct guard {
    pthread_mutex_t lock;
    struct breaker_rules rules, way_rules;
    _Atomic tick_t slow_call; /* of the rules */
    struct circuit way;
    struct circuit *_Atomic operation[GUARD_OPERATIONS]; /* made at the first call */
    struct circuit *made[GUARD_OPERATIONS];              /* the same, in the order in which they were made */
    _Atomic int count;                                   /* of made */
    struct retry_budget budget;
    struct rng rng;
    pthread_mutex_t hedge_lock; /* alone, or inside the other */
    struct hedge_rules hedge_rules;
    _Atomic bool hedging;
    _Atomic uint32_t requests; /* gathered */
    _Atomic tick_t began;      /* when gathering began */
    _Atomic uint64_t changes;
    struct guard_change change[GUARD_CHANGES];
};

/* The way there is neither slow nor fast: only operations are. */
static void read_rules(struct guard *g, const struct config *cfg)
{
    guard_breaker_rules(cfg, &g->rules);
    g->way_rules = g->rules;
    g->way_rules.slow_call = 0;
    pthread_mutex_lock(&g->hedge_lock);
    admit_hedge_rules(cfg, &g->hedge_rules);
    pthread_mutex_unlock(&g->hedge_lock);
    atomic_store_explicit(&g->hedging, g->hedge_rules.enabled, memory_order_relaxed);
    atomic_store_explicit(&g->slow_call, g->rules.slow_call, memory_order_relaxed);
}

/* With the lock held. */
static void note_change(struct guard *g, struct circuit *c)
{
    uint64_t number = atomic_load_explicit(&g->changes, memory_order_relaxed);
    g->change[number % GUARD_CHANGES] =
        (struct guard_change){c->operation, c->seen, c->breaker.state, c->breaker.cause, c->breaker.since};
    c->seen = c->breaker.state;
    atomic_store_explicit(&g->changes, number + 1, memory_order_relaxed);
}

static void publish(struct guard *g, struct circuit *c)
{
    if (c->breaker.state != c->seen)
        note_change(g, c);
    atomic_store_explicit(&c->epoch, c->breaker.state == BREAKER_CLOSED ? c->breaker.epoch : 0,
                          memory_order_release);
}

static void circuit_init(struct guard *g, struct circuit *c, int operation, const struct breaker_rules *rules,
                         tick_t now)
{
    c->operation = operation;
    breaker_init(&c->breaker, rules, now);
    c->seen = c->breaker.state;
    publish(g, c);
}

/* With the lock held. */
static struct circuit *make(struct guard *g, uint16_t operation, tick_t now)
{
    struct circuit *c = atomic_load_explicit(&g->operation[operation], memory_order_acquire);
    if (c)
        return c;
    c = calloc(1, sizeof(*c));
    if (!c)
        return g->made[0]; /* no memory: it shares a breaker */
    int n = atomic_load_explicit(&g->count, memory_order_relaxed);
    circuit_init(g, c, operation, &g->rules, now);
    hedge_init(&c->hedge, &g->hedge_rules);
    g->made[n] = c;
    atomic_store_explicit(&g->operation[operation], c, memory_order_release);
    atomic_store_explicit(&g->count, n + 1, memory_order_release);
    return c;
}

struct guard *guard_new(const struct config *cfg, tick_t now, uint64_t seed)
{
    struct guard *g = calloc(1, sizeof(*g));
    if (!g)
        return NULL;
    pthread_mutex_init(&g->lock, NULL);
    pthread_mutex_init(&g->hedge_lock, NULL);
    read_rules(g, cfg);
    rng_seed(&g->rng, seed);
    circuit_init(g, &g->way, GUARD_WAY, &g->way_rules, now);
    retry_budget_init(&g->budget, cfg->retry_budget, 1.0, now);
    atomic_init(&g->began, now);
    if (!make(g, 0, now)) {
        guard_free(g);
        return NULL;
    }
    return g;
}

void guard_free(struct guard *g)
{
    if (!g)
        return;
    for (int i = 0; i < GUARD_OPERATIONS; i++)
        free(g->made[i]);
    pthread_mutex_destroy(&g->hedge_lock);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

/* ---- the lock -------------------------------------------------------------------------------------------
 */

/* Policy hears of what was gathered. */
static void tell(struct guard *g, tick_t now)
{
    tick_t when = atomic_load_explicit(&g->began, memory_order_relaxed);
    int n = atomic_load_explicit(&g->count, memory_order_relaxed);
    uint32_t all = 0;
    atomic_store_explicit(&g->began, now, memory_order_relaxed);
    for (int i = 0; i < n; i++) {
        uint32_t good = 0;
        if (atomic_load_explicit(&g->made[i]->good, memory_order_relaxed))
            good = atomic_exchange_explicit(&g->made[i]->good, 0, memory_order_relaxed);
        all += good;
        breaker_report_good(&g->made[i]->breaker, good, when, &g->rng, now);
    }
    breaker_report_good(&g->way.breaker, all, when, &g->rng, now);
    retry_budget_gathered(&g->budget, atomic_exchange_explicit(&g->requests, 0, memory_order_relaxed), all,
                          when);
}

static void lock(struct guard *g, tick_t now)
{
    pthread_mutex_lock(&g->lock);
    tell(g, now);
}

/* What `tell` or a decision changed is published; `c` may be NULL. */
static void unlock(struct guard *g)
{
    int n = atomic_load_explicit(&g->count, memory_order_relaxed);
    publish(g, &g->way);
    for (int i = 0; i < n; i++)
        publish(g, g->made[i]);
    pthread_mutex_unlock(&g->lock);
}

static struct circuit *circuit_of(struct guard *g, uint16_t operation, tick_t now)
{
    uint16_t i = operation < GUARD_OPERATIONS ? operation : 0;
    struct circuit *c = atomic_load_explicit(&g->operation[i], memory_order_acquire);
    if (c)
        return c;
    lock(g, now);
    c = make(g, i, now);
    unlock(g);
    return c;
}

/* What is gathered is told of in time. */
static void look_at_clock(struct guard *g, tick_t now)
{
    if (now - atomic_load_explicit(&g->began, memory_order_relaxed) < QUANTUM)
        return;
    lock(g, now);
    unlock(g);
}

void guard_tune(struct guard *g, const struct config *cfg, tick_t now)
{
    lock(g, now);
    read_rules(g, cfg);
    breaker_tune(&g->way.breaker, &g->way_rules, now);
    for (int i = 0; i < atomic_load_explicit(&g->count, memory_order_relaxed); i++)
        breaker_tune(&g->made[i]->breaker, &g->rules, now);
    retry_budget_tune(&g->budget, cfg->retry_budget, 1.0);
    unlock(g);
}

/* ---- calls ----------------------------------------------------------------------------------------------
 */

static uint32_t calm_epoch(const struct circuit *c)
{
    return atomic_load_explicit(&c->epoch, memory_order_acquire);
}

/* One of them is not closed. With the lock held. */
static void ask(struct guard *g, struct circuit *c, struct guard_permit *p, tick_t now)
{
    p->way = breaker_admit(&g->way.breaker, &g->rng, now);
    p->shed = p->way.verdict == BREAKER_SHED;
    if (p->shed)
        return;
    p->operation = breaker_admit(&c->breaker, &g->rng, now);
    p->shed = p->operation.verdict == BREAKER_SHED;
    if (p->shed) /* the way's probe is free for another */
        breaker_report(&g->way.breaker, p->way, (struct breaker_report){BREAKER_IGNORED, 0, false}, &g->rng,
                       now);
}

struct guard_permit guard_begin(struct guard *g, uint16_t operation, bool first, tick_t now)
{
    struct circuit *c = circuit_of(g, operation, now);
    uint32_t way = calm_epoch(&g->way), own = calm_epoch(c);
    struct guard_permit p = {.way = {.epoch = way}, .operation = {.epoch = own}, .number = operation};
    if (first)
        atomic_fetch_add_explicit(&g->requests, 1, memory_order_relaxed);
    look_at_clock(g, now);
    if (way && own)
        return p; /* BREAKER_PASS is 0 */
    lock(g, now);
    ask(g, c, &p, now);
    unlock(g);
    return p;
}

/* What a breaker of the way hears. */
static enum breaker_outcome of_way(const struct outcome_row *row)
{
    return row->scope == OUTCOME_SCOPE_UPSTREAM ? row->breaker
           : row->scope == OUTCOME_SCOPE_BOTH   ? BREAKER_OK
                                                : BREAKER_IGNORED;
}

/* Says nothing to anybody, or can be gathered. */
static bool quickly(struct guard *g, struct circuit *c, const struct guard_permit *p, enum breaker_outcome o,
                    tick_t took)
{
    tick_t slow = atomic_load_explicit(&g->slow_call, memory_order_relaxed);
    if (p->way.verdict != BREAKER_PASS || p->operation.verdict != BREAKER_PASS || o == BREAKER_FAILURE)
        return false;
    if (o != BREAKER_OK)
        return true;
    if (p->operation.epoch != calm_epoch(c) || p->way.epoch != calm_epoch(&g->way) ||
        (slow > 0 && took > slow))
        return false;
    atomic_fetch_add_explicit(&c->good, 1, memory_order_relaxed);
    return true;
}

void guard_end(struct guard *g, struct guard_permit permit, enum outcome outcome, tick_t took, tick_t now)
{
    struct circuit *c = circuit_of(g, permit.number, now);
    const struct outcome_row *row = outcome_row(outcome);
    enum breaker_outcome own = row->scope == OUTCOME_SCOPE_UPSTREAM ? BREAKER_IGNORED : row->breaker;
    if (permit.shed)
        return;
    if (row->breaker == BREAKER_OK) {
        uint32_t typical = atomic_load_explicit(&c->typical, memory_order_relaxed);
        atomic_store_explicit(&c->typical, retry_typical(typical, took), memory_order_relaxed);
    }
    if (quickly(g, c, &permit, row->breaker, took))
        return;
    lock(g, now);
    breaker_report(&g->way.breaker, permit.way, (struct breaker_report){of_way(row), took, permit.again},
                   &g->rng, now);
    breaker_report(&c->breaker, permit.operation, (struct breaker_report){own, took, permit.again}, &g->rng,
                   now);
    if (row->breaker == BREAKER_OK || row->breaker == BREAKER_FAILURE)
        retry_budget_outcome(&g->budget, row->breaker == BREAKER_OK, now);
    unlock(g);
}

bool guard_is_calm(struct guard *g, uint16_t operation)
{
    struct circuit *c = atomic_load_explicit(&g->operation[operation < GUARD_OPERATIONS ? operation : 0],
                                             memory_order_acquire);
    return calm_epoch(&g->way) && (!c || calm_epoch(c));
}

bool guard_is_open(struct guard *g, uint16_t operation, tick_t now)
{
    if (guard_is_calm(g, operation))
        return false;
    struct circuit *c = circuit_of(g, operation, now);
    lock(g, now);
    breaker_turn(&g->way.breaker, &g->rng, now);
    breaker_turn(&c->breaker, &g->rng, now);
    bool open = g->way.breaker.state == BREAKER_OPEN || c->breaker.state == BREAKER_OPEN;
    unlock(g);
    return open;
}

struct retry_verdict guard_retry(struct guard *g, uint16_t operation, const struct retry_rules *rules,
                                 const struct retry_case *c, struct rng *rng, tick_t now)
{
    struct retry_case full = *c;
    struct circuit *of = circuit_of(g, operation, now);
    full.typical = (tick_t)atomic_load_explicit(&of->typical, memory_order_relaxed) * TICK_US;
    lock(g, now);
    struct retry_verdict v = retry_decide(rules, &full, &g->budget, rng, now);
    unlock(g);
    return v;
}

void guard_sign_of_life(struct guard *g, tick_t now)
{
    lock(g, now);
    breaker_sign_of_life(&g->way.breaker, now);
    for (int i = 0; i < atomic_load_explicit(&g->count, memory_order_relaxed); i++)
        breaker_sign_of_life(&g->made[i]->breaker, now);
    unlock(g);
}

tick_t guard_retry_after(struct guard *g, uint16_t operation, tick_t now)
{
    struct circuit *c = circuit_of(g, operation, now);
    lock(g, now);
    tick_t way = breaker_retry_after(&g->way.breaker, now), own = breaker_retry_after(&c->breaker, now);
    unlock(g);
    return way > own ? way : own;
}

/* ---- hedging --------------------------------------------------------------------------------------------
 */

tick_t guard_hedge_request(struct guard *g, uint16_t operation, tick_t now)
{
    if (!atomic_load_explicit(&g->hedging, memory_order_relaxed))
        return TICK_NEVER;
    struct circuit *c = circuit_of(g, operation, now);
    pthread_mutex_lock(&g->hedge_lock);
    tick_t delay = hedge_request(&c->hedge);
    pthread_mutex_unlock(&g->hedge_lock);
    return delay;
}

/* Only after guard_hedge_request has made the circuit. */
static struct circuit *hedged(struct guard *g, uint16_t operation)
{
    return atomic_load_explicit(&g->operation[operation < GUARD_OPERATIONS ? operation : 0],
                                memory_order_acquire);
}

bool guard_hedge_take(struct guard *g, uint16_t operation, bool room)
{
    struct circuit *c = hedged(g, operation);
    bool calm = guard_is_calm(g, operation), may = false;
    if (!c)
        return false;
    pthread_mutex_lock(&g->hedge_lock);
    may = hedge_take(&c->hedge, room && calm);
    pthread_mutex_unlock(&g->hedge_lock);
    return may;
}

void guard_hedge_answered(struct guard *g, uint16_t operation, tick_t took)
{
    struct circuit *c = hedged(g, operation);
    if (!c || !atomic_load_explicit(&g->hedging, memory_order_relaxed))
        return;
    pthread_mutex_lock(&g->hedge_lock);
    hedge_answered(&c->hedge, took);
    pthread_mutex_unlock(&g->hedge_lock);
}

/* ---- showing --------------------------------------------------------------------------------------------
 */

bool guard_look(struct guard *g, int i, struct guard_view *out, tick_t now)
{
    if (i < 0 || i > atomic_load_explicit(&g->count, memory_order_acquire))
        return false;
    lock(g, now);
    struct circuit *c = i == 0 ? &g->way : g->made[i - 1];
    struct breaker *b = &c->breaker;
    breaker_turn(b, &g->rng, now);
    *out = (struct guard_view){
        .operation = c->operation,
        .state = b->state,
        .cause = b->cause,
        .opened = b->opened,
        .since = b->since,
        .until = b->until,
    };
    unlock(g);
    return true;
}

uint64_t guard_changes(const struct guard *g)
{
    return atomic_load_explicit(&((struct guard *)(uintptr_t)g)->changes, memory_order_relaxed);
}

bool guard_change(struct guard *g, uint64_t number, struct guard_change *out)
{
    pthread_mutex_lock(&g->lock);
    uint64_t next = atomic_load_explicit(&g->changes, memory_order_relaxed);
    bool there = number < next && next - number <= GUARD_CHANGES;
    if (there)
        *out = g->change[number % GUARD_CHANGES];
    pthread_mutex_unlock(&g->lock);
    return there;
}

void guard_look_budget(struct guard *g, struct guard_budget *out, tick_t now)
{
    lock(g, now);
    *out = (struct guard_budget){
        .left = retry_budget_left(&g->budget, now),
        .failure_rate = retry_budget_failure_rate(&g->budget, now),
    };
    unlock(g);
}

void guard_reset(struct guard *g, int operation, tick_t now)
{
    struct circuit *c = operation == GUARD_WAY ? &g->way : circuit_of(g, (uint16_t)operation, now);
    lock(g, now);
    breaker_reset(&c->breaker, now);
    unlock(g);
}
