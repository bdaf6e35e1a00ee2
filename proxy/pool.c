/*
 * One worker's part of the pool. Invariants:
 * - every connection and every dial holds one permit;
 * - an exchange waits only while there is no idle connection; waiting ones are served in order;
 * - dials under way never exceed the waiting exchanges by more than those meant to warm the pool;
 * - idle connections are a stack: the most recently used is taken first, so that surplus ones age.
 */
#include "proxy/pool.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "metrics/counters.h"
#include "policy/config.h"
#include "policy/idle_learn.h"
#include "policy/pool_size.h"
#include "proxy/dial.h"
#include "proxy/exchange.h"
#include "proxy/log.h"
#include "proxy/resolve.h"
#include "proxy/service.h"
#include "proxy/settings.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

/* An idle connection is looked at before use when it has been idle for longer than this: before, its
 * end would have come as an event of the turns in between. */
static const tick_t PEEK_AFTER = 20 * TICK_MS;

enum { DIALS_MAX = 64 };

struct dialing {
    struct pool *pool;
    struct dial *dial;
    tick_t began;
    uint32_t generation;
    bool used;
};

struct pool {
    struct worker *w;
    struct upstream *idle, *busy;
    struct pool_wait *first, *last;
    struct dialing dials[DIALS_MAX];
    unsigned idle_count, busy_count, dial_count, wait_count;
    uint32_t generation; /* of addresses and settings: older connections are not pooled */
    uint32_t address_version;
    uint32_t next_address;
    struct idle_learn learn;
    _Atomic unsigned granted;   /* permits granted, not yet seen */
    _Atomic unsigned reclaimed; /* idle connections that others ask for */
    struct letter grant_letter, reclaim_letter;
    struct pool_rules rules;
    struct pool_size size;
    struct timer upkeep;
    tick_t prune_at, check_at;
    tick_t warm_at, warm_pause; /* no connection is opened ahead of need before warm_at; the pause doubles
                                   while dials fail */
    tick_t said;                /* when a failed dial was logged last */
    bool closing;
};

static const struct config *config_of(const struct pool *pool)
{
    return settings_config(pool->w->settings);
}

/* ---- lists ------------------------------------------------------------------------------------ */

static void push(struct upstream **list, struct upstream *u)
{
    struct pooled *p = upstream_pooled(u);
    p->prev = NULL;
    p->next = *list;
    if (p->next)
        upstream_pooled(p->next)->prev = u;
    *list = u;
}

static void take_out(struct upstream **list, struct upstream *u)
{
    struct pooled *p = upstream_pooled(u);
    if (p->prev)
        upstream_pooled(p->prev)->next = p->next;
    else
        *list = p->next;
    if (p->next)
        upstream_pooled(p->next)->prev = p->prev;
    p->prev = p->next = NULL;
}

static void make_idle(struct pool *pool, struct upstream *u)
{
    upstream_pooled(u)->idle_since = worker_now(pool->w);
    push(&pool->idle, u);
    pool->idle_count++;
    metric_add(pool->w->metrics, METRIC_POOL_IDLE, 1);
}

static void note_demand(struct pool *pool)
{
    pool_size_demand(&pool->size, (int)(pool->busy_count + pool->wait_count), worker_now(pool->w));
}

static void make_busy(struct pool *pool, struct upstream *u)
{
    push(&pool->busy, u);
    pool->busy_count++;
    note_demand(pool);
    metric_add(pool->w->metrics, METRIC_POOL_ACTIVE, 1);
}

static void leave_idle(struct pool *pool, struct upstream *u)
{
    take_out(&pool->idle, u);
    pool->idle_count--;
    metric_sub(pool->w->metrics, METRIC_POOL_IDLE, 1);
}

static void leave_busy(struct pool *pool, struct upstream *u)
{
    take_out(&pool->busy, u);
    pool->busy_count--;
    note_demand(pool);
    metric_sub(pool->w->metrics, METRIC_POOL_ACTIVE, 1);
}

static void wait_leave(struct pool *pool, struct pool_wait *wait)
{
    if (!wait->waiting)
        return;
    if (wait->prev)
        wait->prev->next = wait->next;
    else
        pool->first = wait->next;
    if (wait->next)
        wait->next->prev = wait->prev;
    else
        pool->last = wait->prev;
    wait->prev = wait->next = NULL;
    wait->waiting = false;
    pool->wait_count--;
    metric_sub(pool->w->metrics, METRIC_POOL_WAITING, 1);
    permits_leave(pool->w->service->permits, &wait->ticket);
}

static void wait_enter(struct pool *pool, struct pool_wait *wait)
{
    wait->waiting = true;
    wait->next = NULL;
    wait->prev = pool->last;
    if (pool->last)
        pool->last->next = wait;
    else
        pool->first = wait;
    pool->last = wait;
    pool->wait_count++;
    metric_add(pool->w->metrics, METRIC_POOL_WAITING, 1);
    note_demand(pool);
}

/* ---- dialling --------------------------------------------------------------------------------- */

static void dialed(void *arg, const struct dial_result *result);

/* Starts a dial with a permit in hand; gives the permit back when it cannot. The reason why not, or NONE. */
static enum reason dial(struct pool *pool)
{
    struct worker *w = pool->w;
    struct dialing *d = NULL;
    for (int i = 0; i < DIALS_MAX && !d; i++)
        if (!pool->dials[i].used)
            d = &pool->dials[i];
    struct address_list *list = d ? resolver_get(w->service->resolver) : NULL;
    if (!list) {
        permits_give(w->service->permits);
        if (!d)
            return REASON_NONE; /* enough dials are under way: their ends start further ones */
        return resolver_failed(w->service->resolver) ? REASON_DNS_FAILED : REASON_DNS_PENDING;
    }
    struct dial_request request = {
        .base = w->base,
        .addresses = list,
        .first = pool->next_address,
        .tls = w->settings->p->tls_client,
        .timeout = config_of(pool)->upstream_connect_timeout,
    };
    *d = (struct dialing){.pool = pool, .began = worker_now(w), .generation = pool->generation, .used = true};
    d->dial = dial_start(&request, dialed, d);
    address_list_unref(list);
    if (!d->dial) {
        d->used = false;
        permits_give(w->service->permits);
        return REASON_OUT_OF_MEMORY;
    }
    pool->dial_count++;
    metric_add(w->metrics, METRIC_POOL_CONNECTING, 1);
    return REASON_NONE;
}

static void fail_first(struct pool *pool, enum reason why)
{
    struct pool_wait *wait = pool->first;
    if (!wait)
        return;
    wait_leave(pool, wait);
    exchange_connect_failed(wait->exchange, why);
}

/* Another worker may sit on idle connections while the limit keeps us from dialling. */
static void ask_others(struct pool *pool)
{
    struct service *s = pool->w->service;
    for (int i = 0; i < s->worker_count; i++)
        if (s->workers[i] && s->workers[i] != pool->w)
            pool_reclaim(s->workers[i]);
}

/* Sees to it that every waiting exchange has a dial or a place in the queue for a permit. */
static void help_waiting(struct pool *pool)
{
    struct permits *permits = pool->w->service->permits;
    while (pool->dial_count < pool->wait_count && permits_take(permits)) {
        enum reason r = dial(pool);
        if (r != REASON_NONE && r != REASON_DNS_PENDING) {
            fail_first(pool, r);
            continue;
        }
        if (r == REASON_DNS_PENDING || pool->dial_count == DIALS_MAX)
            return; /* pool_refresh() comes back when the name is resolved; dialed() when a dial ends */
    }
    if (pool->dial_count >= pool->wait_count)
        return;
    bool queued = false;
    unsigned covered = pool->dial_count;
    for (struct pool_wait *wait = pool->first; wait; wait = wait->next) {
        if (covered > 0) {
            covered--;
            continue;
        }
        if (!atomic_load_explicit(&wait->ticket.queued, memory_order_relaxed)) {
            permits_wait(permits, &wait->ticket, pool->w);
            queued = true;
        }
    }
    if (queued)
        ask_others(pool);
}

/* A usable connection is here: to the first who waits, else idle. */
static void hand_out(struct pool *pool, struct upstream *u)
{
    struct pool_wait *wait = pool->first;
    if (!wait || pool->closing) {
        make_idle(pool, u);
        return;
    }
    wait_leave(pool, wait);
    make_busy(pool, u);
    pool_size_acquired(&pool->size, true, worker_now(pool->w));
    u->pooled = u->reused;
    upstream_assign(u, wait->exchange);
    exchange_connected(wait->exchange, u);
}

/* Says so once a second, and lets the warming of the pool wait longer and longer. */
static void dial_failed(struct pool *pool, const char *text)
{
    tick_t now = worker_now(pool->w);
    pool->warm_pause = pool->warm_pause ? pool->warm_pause * 2 : TICK_S;
    if (pool->warm_pause > 30 * TICK_S)
        pool->warm_pause = 30 * TICK_S;
    pool->warm_at = now + pool->warm_pause;
    if (pool->said && now - pool->said < TICK_S)
        return;
    pool->said = now;
    log_write(pool->w->service->log, LOG_WARNING, "pool", "upstream connection failed: %s", text);
}

static void dialed(void *arg, const struct dial_result *result)
{
    struct dialing *d = arg;
    struct pool *pool = d->pool;
    struct worker *w = pool->w;
    uint32_t generation = d->generation;
    worker_now(w);
    d->used = false;
    pool->dial_count--;
    metric_sub(w->metrics, METRIC_POOL_CONNECTING, 1);
    if (result->reason != REASON_NONE) {
        pool->next_address = result->index + 1;
        metric_add(w->metrics, METRIC_POOL_CONNECT_FAILED, 1);
        dial_failed(pool, result->text);
        permits_give(w->service->permits);
        resolver_kick(w->service->resolver);
        fail_first(pool, result->reason);
        help_waiting(pool);
        return;
    }
    pool->next_address = result->index;
    pool->warm_at = pool->warm_pause = 0;
    struct upstream *u = upstream_open(w, result->stream);
    if (!u) {
        permits_give(w->service->permits);
        fail_first(pool, REASON_OUT_OF_MEMORY);
        return;
    }
    metric_add(w->metrics, METRIC_POOL_OPENED, 1);
    upstream_pooled(u)->generation = generation;
    upstream_note_dial(u, result->tcp, result->tls);
    if (!upstream_alive(u)) { /* it speaks before it was asked, or has closed at once */
        make_idle(pool, u);
        upstream_close(u);
        fail_first(pool, REASON_EARLY_RESPONSE);
        help_waiting(pool);
        return;
    }
    hand_out(pool, u);
}

/* ---- the doors -------------------------------------------------------------------------------- */

static tick_t trusted_idle(struct pool *pool, const struct upstream *u)
{
    tick_t t = idle_learn_trust(&pool->learn, worker_now(pool->w));
    tick_t said = upstream_announced_idle(u);
    if (said > 0 && said - TICK_S / 2 < t)
        t = said > TICK_S ? said - TICK_S / 2 : said / 2;
    return t;
}

/* Not to be used any more, however short it has been idle. */
static bool worn_out(struct pool *pool, const struct pooled *p)
{
    const struct config *cfg = config_of(pool);
    return p->doomed || p->generation != pool->generation ||
           (cfg->pool_max_connection_age > 0 && worker_now(pool->w) - p->born > cfg->pool_max_connection_age);
}

static bool outdated(struct pool *pool, struct upstream *u)
{
    struct pooled *p = upstream_pooled(u);
    return worn_out(pool, p) || worker_now(pool->w) - p->idle_since > trusted_idle(pool, u);
}

struct upstream *pool_acquire(struct pool *pool, struct pool_wait *wait)
{
    tick_t now = worker_now(pool->w);
    while (pool->idle && !pool->first) {
        struct upstream *u = pool->idle;
        tick_t idle = now - upstream_pooled(u)->idle_since;
        if (outdated(pool, u) || (idle > PEEK_AFTER && !upstream_alive(u))) {
            upstream_close(u);
            continue;
        }
        if (idle > TICK_S)
            idle_learn_reused(&pool->learn, idle, now);
        leave_idle(pool, u);
        make_busy(pool, u);
        metric_add(pool->w->metrics, METRIC_POOL_REUSED, 1);
        pool_size_acquired(&pool->size, false, now);
        u->pooled = true;
        upstream_assign(u, wait->exchange);
        return u;
    }
    wait_enter(pool, wait);
    help_waiting(pool);
    return NULL;
}

void pool_cancel(struct pool *pool, struct pool_wait *wait)
{
    wait_leave(pool, wait);
}

void pool_release(struct pool *pool, struct upstream *u)
{
    struct pooled *p = upstream_pooled(u);
    leave_busy(pool, u);
    p->idle_since = worker_now(pool->w);
    const struct permits *permits = pool->w->service->permits;
    bool over = permits_held(permits) > permits_max(permits); /* pool.max_size was lowered */
    if (pool->closing || over || worn_out(pool, p)) {
        make_idle(pool, u);
        upstream_close(u);
        return;
    }
    if (permits_awaited(pool->w->service->permits)) {
        struct ticket *mine;
        if (permits_pass_on(pool->w->service->permits, pool->w, &mine)) {
            p->doomed = true; /* its permit belongs to another worker now */
            make_idle(pool, u);
            upstream_close(u);
            return;
        }
    }
    hand_out(pool, u);
}

void pool_closed(struct pool *pool, struct upstream *u, bool idle)
{
    struct pooled *p = upstream_pooled(u);
    bool passed_on = p->doomed && idle;
    if (idle) {
        tick_t now = worker_now(pool->w);
        if (!passed_on && !pool->closing && upstream_closed_by_peer(u))
            idle_learn_closed(&pool->learn, now - p->idle_since, now);
        leave_idle(pool, u);
    } else {
        leave_busy(pool, u);
    }
    metric_add(pool->w->metrics, METRIC_POOL_CLOSED, 1);
    if (!passed_on)
        permits_give(pool->w->service->permits);
}

/* ---- from other threads ------------------------------------------------------------------------ */

static void on_granted(struct letter *letter, void *owner)
{
    struct worker *w = owner;
    struct pool *pool = w->pool;
    (void)letter;
    if (!pool) /* the worker is being freed */
        return;
    unsigned n = atomic_exchange(&pool->granted, 0);
    while (n-- > 0) {
        if (pool->dial_count >= pool->wait_count) {
            permits_give(w->service->permits); /* who waited has been served meanwhile, or has left */
            continue;
        }
        enum reason r = dial(pool);
        if (r != REASON_NONE)
            fail_first(pool, r);
    }
}

void pool_grant(struct worker *w)
{
    if (atomic_fetch_add(&w->pool->granted, 1) == 0)
        mailbox_post(&w->box, &w->pool->grant_letter);
}

/* Another worker waits: one idle connection is closed, and its permit goes to the queue. */
static void on_reclaimed(struct letter *letter, void *owner)
{
    struct worker *w = owner;
    (void)letter;
    if (!w->pool)
        return;
    unsigned n = atomic_exchange(&w->pool->reclaimed, 0);
    while (n-- > 0 && w->pool->idle && permits_awaited(w->service->permits))
        upstream_close(w->pool->idle);
}

void pool_reclaim(struct worker *w)
{
    if (atomic_fetch_add(&w->pool->reclaimed, 1) == 0)
        mailbox_post(&w->box, &w->pool->reclaim_letter);
}

/* ---- upkeep ------------------------------------------------------------------------------------- */

static void close_outdated(struct pool *pool)
{
    struct upstream *next;
    for (struct upstream *u = pool->idle; u; u = next) {
        next = upstream_pooled(u)->next;
        if (outdated(pool, u))
            upstream_close(u);
    }
}

void pool_refresh(struct pool *pool)
{
    struct address_list *list = resolver_get(pool->w->service->resolver);
    if (list && pool->address_version && pool->address_version != list->version) {
        pool->generation++;
        pool->next_address = 0;
    }
    if (list)
        pool->address_version = list->version;
    address_list_unref(list);
    close_outdated(pool);
    help_waiting(pool);
}

void pool_renew(struct pool *pool)
{
    if (pool->w->settings->p->tls_client) /* a certificate or a trust may be another */
        pool->generation++;
    pool->learn.max_idle = config_of(pool)->pool_max_idle_time;
    close_outdated(pool);
}

static void warm_up(struct pool *pool, unsigned target)
{
    unsigned open = pool->idle_count + pool->busy_count + pool->dial_count;
    while (open < target && !pool->closing && permits_take(pool->w->service->permits)) {
        if (dial(pool) != REASON_NONE)
            return;
        open++;
    }
}

static void trim(struct pool *pool, unsigned keep)
{
    while (pool->idle && pool->idle_count + pool->busy_count > keep) {
        struct upstream *oldest = pool->idle;
        while (upstream_pooled(oldest)->next)
            oldest = upstream_pooled(oldest)->next;
        upstream_close(oldest);
    }
}

/* This worker's part of a number that all share. */
static int share(const struct pool *pool, int64_t whole)
{
    int n = pool->w->service->worker_count > 0 ? pool->w->service->worker_count : 1;
    return (int)(whole / n) + (pool->w->index < whole % n);
}

static void read_rules(struct pool *pool)
{
    static const enum pool_strategy strategies[] = {
        [CONFIG_POOL_STRATEGY_FIXED] = POOL_FIXED,
        [CONFIG_POOL_STRATEGY_DYNAMIC] = POOL_DYNAMIC,
        [CONFIG_POOL_STRATEGY_ADAPTIVE] = POOL_ADAPTIVE,
        [CONFIG_POOL_STRATEGY_LAZY] = POOL_LAZY,
    };
    const struct config *cfg = config_of(pool);
    int most = share(pool, cfg->pool_max_size);
    pool->rules = (struct pool_rules){
        .strategy = strategies[cfg->pool_strategy],
        .min_size = share(pool, cfg->pool_min_size),
        .max_size = most < 1 ? 1 : most,
        .adaptive = cfg->pool_enable_adaptive_sizing,
        .threshold = cfg->pool_adaptive_threshold,
    };
}

/* Once a second: the size that demand asks for; every prune_interval: what has become too old. */
static void upkeep(struct timer *timer)
{
    struct pool *pool = (struct pool *)((char *)timer - offsetof(struct pool, upkeep));
    tick_t now = worker_now(pool->w);
    struct pool_target target;
    if (pool->closing)
        return;
    read_rules(pool);
    pool_size_tune(&pool->size, &pool->rules);
    target = pool_size_target(&pool->size, now);
    if (now >= pool->prune_at) {
        pool->prune_at = now + config_of(pool)->pool_prune_interval;
        close_outdated(pool);
        trim(pool, (unsigned)target.keep);
    }
    if (now >= pool->warm_at)
        warm_up(pool, (unsigned)target.warm);
    tick_t interval = config_of(pool)->pool_health_check_interval;
    if (interval > 0 && pool->w->index == 0 && now >= pool->check_at) {
        if (pool->check_at)
            exchange_check_health(pool->w);
        pool->check_at = now + interval;
    }
    worker_set_timer(pool->w, &pool->upkeep, now + TICK_S);
}

void pool_close_idle(struct pool *pool)
{
    pool->closing = true;
    while (pool->idle)
        upstream_close(pool->idle);
}

void pool_cut(struct pool *pool)
{
    while (pool->first)
        fail_first(pool, REASON_SHUTTING_DOWN);
    while (pool->busy)
        upstream_break(pool->busy, REASON_SHUTTING_DOWN);
}

struct pool_stats pool_stats(const struct pool *pool)
{
    return (struct pool_stats){pool->idle_count, pool->busy_count, pool->dial_count, pool->wait_count};
}

struct pool *pool_new(struct worker *w)
{
    struct pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        return NULL;
    pool->w = w;
    pool->grant_letter.deliver = on_granted;
    pool->reclaim_letter.deliver = on_reclaimed;
    idle_learn_init(&pool->learn, config_of(pool)->pool_max_idle_time);
    read_rules(pool);
    pool_size_init(&pool->size, &pool->rules, worker_now(w));
    pool->upkeep.fire = upkeep;
    worker_set_timer(w, &pool->upkeep, worker_now(w) + 1);
    return pool;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    worker_cancel_timer(pool->w, &pool->upkeep);
    pool_close_idle(pool);
    pool_cut(pool);
    for (int i = 0; i < DIALS_MAX; i++)
        if (pool->dials[i].used) {
            dial_cancel(pool->dials[i].dial);
            permits_give(pool->w->service->permits);
        }
    assert(!pool->first);
    free(pool);
}
