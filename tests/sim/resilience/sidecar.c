/*
 * The sidecar of a run: the policy code of the proxy, put together as the proxy does: breaker (is it open),
 * quota, concurrency limit, breaker (permit), connection, attempt, classification, retry. Invariants:
 * whatever was let go by a controller is reported to it once; an attempt that nobody waits for any more is
 * reported as left by its client.
 */
#include <stddef.h>

#include "proxy/admit_rules.h"
#include "proxy/guard.h"
#include "tests/sim/resilience/sim.h"

#define WALL_OF_START (INT64_C(1767225600) * TICK_S)

static void admit(struct sim *m, struct request *q);
static void give_back(struct sim *m, struct request *q);
static void failed(struct sim *m, struct request *q, enum reason reason, int status, tick_t retry_after,
                   const char *why, bool retry);

static struct key *key_of(struct sim *m, const struct request *q)
{
    return &m->key[m->client[q->client].key];
}

static const struct group *group_of(const struct sim *m, const struct request *q)
{
    return &m->s->group[m->client[q->client].group];
}

bool sidecar_init(struct sim *m)
{
    const struct config *cfg = m->s->cfg;
    guard_breaker_rules(cfg, &m->breaker_rules);
    guard_retry_rules(cfg, &m->retry_rules);
    admit_quota_rules(cfg, &m->quota_rules);
    admit_concurrency_rules(cfg, &m->concurrency_rules);
    admit_hedge_rules(cfg, &m->hedge_rules);
    outcome_disguises_read(&m->disguises, cfg->rate_limit_disguised.items, cfg->rate_limit_disguised.count);
    m->pool_rules = (struct pool_rules){
        .strategy = cfg->pool_strategy == CONFIG_POOL_STRATEGY_FIXED     ? POOL_FIXED
                    : cfg->pool_strategy == CONFIG_POOL_STRATEGY_DYNAMIC ? POOL_DYNAMIC
                    : cfg->pool_strategy == CONFIG_POOL_STRATEGY_LAZY    ? POOL_LAZY
                                                                         : POOL_ADAPTIVE,
        .min_size = (int)cfg->pool_min_size,
        .max_size = (int)cfg->pool_max_size,
        .adaptive = cfg->pool_enable_adaptive_sizing,
        .threshold = cfg->pool_adaptive_threshold,
    };
    if (m->bare) {
        m->breaker_rules.enabled = m->quota_rules.enabled = m->hedge_rules.enabled = false;
        m->retry_rules.max_attempts = 1;
        m->concurrency_rules.mode = CONCURRENCY_OFF;
        m->pool_rules.max_size = 1000000;
    }
    breaker_init(&m->breaker, &m->breaker_rules, 0);
    retry_budget_init(&m->budget, cfg->retry_budget, 1.0, 0);
    concurrency_init(&m->limit, &m->concurrency_rules, 0);
    hedge_init(&m->hedge, &m->hedge_rules);
    pool_size_init(&m->pool, &m->pool_rules, 0);
    m->open = m->idle = m->pool_rules.min_size; /* opened before the first request */
    for (int i = 0; i < m->key_count; i++) {
        quota_init(&m->key[i].quota, &m->quota_rules, 0, WALL_OF_START + m->s->start_at);
        m->key[i].due = TICK_NEVER;
    }
    if (cfg->pool_health_check_interval > 0 && !m->bare)
        sim_push(m, cfg->pool_health_check_interval, EVENT_HEALTH, 0, 0);
    return true;
}

static void watch_breaker(struct sim *m)
{
    if (m->breaker.state == m->last_state)
        return;
    if (m->transitions < MOST_TRANSITIONS)
        m->transition[m->transitions] =
            (struct transition){m->now, m->last_state, (uint8_t)m->breaker.state, (uint8_t)m->breaker.cause};
    m->transitions++;
    m->last_state = (uint8_t)m->breaker.state;
}

/* --- Waiting: quota and limiter. --- */

static void woken_by_quota(struct quota_waiter *w, bool go, tick_t at, void *arg)
{
    struct sim *m = arg;
    struct request *q = (struct request *)(void *)w;
    q->place = PLACE_READY;
    if (go) {
        q->has_quota = true;
        sim_push(m, m->now, EVENT_ATTEMPT, q->id, q->step);
    } else {
        failed(m, q, REASON_NONE, 429, at - m->now, "quota", false);
    }
}

static void turn_quota(struct sim *m, int key)
{
    struct key *k = &m->key[key];
    tick_t due = quota_turn(&k->quota, woken_by_quota, m, m->now);
    if (due == TICK_NEVER || (due >= k->due && k->due > m->now))
        return;
    k->due = due > m->now ? due : m->now + 1;
    sim_push(m, k->due, EVENT_QUOTA, key, 0);
}

static void woken_by_limit(struct concurrency_waiter *w, bool go, void *arg)
{
    struct sim *m = arg;
    struct request *q = (struct request *)(void *)((char *)w - offsetof(struct request, limit));
    q->step++; /* its timer is void */
    q->place = PLACE_READY;
    if (go) {
        q->has_limit = true;
        sim_push(m, m->now, EVENT_ATTEMPT, q->id, q->step);
    } else {
        give_back(m, q);
        failed(m, q, REASON_NONE, 503, 0, "limiter", false);
    }
}

static void turn_limit(struct sim *m)
{
    (void)concurrency_turn(&m->limit, woken_by_limit, m, m->now);
}

static void give_back(struct sim *m, struct request *q)
{
    if (q->has_limit) {
        q->has_limit = false;
        concurrency_end(&m->limit, OUTCOME_LOCAL, 0, m->now);
        turn_limit(m);
    }
    if (q->has_quota) {
        q->has_quota = false;
        quota_end(&key_of(m, q)->quota, &(struct quota_answer){.sent_at = m->now}, m->now);
        turn_quota(m, m->client[q->client].key);
    }
}

/* --- Connections. --- */

static void pool_changed(struct sim *m)
{
    pool_size_demand(&m->pool, m->busy + m->pool_waiting, m->now);
    m->most_open = m->open > m->most_open ? m->open : m->most_open;
}

static void send(struct sim *m, struct job *j)
{
    tick_t waited = m->now - j->wait_began, timeout = m->s->cfg->upstream_response_timeout;
    tick_t per_try = m->s->cfg->retry_per_try_timeout;
    if (waited > 0)
        m->connect_waits++;
    m->longest_connect_wait = waited > m->longest_connect_wait ? waited : m->longest_connect_wait;
    pool_size_acquired(&m->pool, waited > 0, m->now);
    j->sent_at = m->now;
    j->has_connection = true;
    sim_push(m, m->now + m->s->upstream.network, EVENT_AT_SERVER, j->id, j->turn);
    if (per_try > 0 && per_try < timeout && !m->bare)
        timeout = per_try;
    j->in_server = true; /* on its way there */
    sim_push(m, m->now + timeout, EVENT_ATTEMPT_OVER, j->id, j->turn);
}

static void dial(struct sim *m, struct job *j)
{
    tick_t after = 0;
    bool hangs;
    m->open++;
    j->connecting = true;
    if (api_refuses(m, &after, &hangs)) {
        sim_push(m, m->now + (hangs ? m->s->cfg->upstream_connect_timeout : after), EVENT_CONNECT_BAD, j->id,
                 j->turn);
        return;
    }
    sim_push(m, m->now + m->s->upstream.connect_time, EVENT_CONNECTED, j->id, j->turn);
}

static void unqueue(struct sim *m, struct job *j)
{
    *(j->prev_wait >= 0 ? &m->job[j->prev_wait]->next_wait : &m->first_wait) = j->next_wait;
    *(j->next_wait >= 0 ? &m->job[j->next_wait]->prev_wait : &m->last_wait) = j->prev_wait;
    j->next_wait = j->prev_wait = -1;
    j->waiting_pool = false;
    m->pool_waiting--;
}

/* A connection became free: to the first who waits, else idle. */
static void connection_free(struct sim *m, bool usable)
{
    m->busy--;
    if (!usable)
        m->open--;
    if (m->first_wait >= 0) {
        struct job *j = m->job[m->first_wait];
        unqueue(m, j);
        m->busy++;
        if (usable)
            send(m, j);
        else
            dial(m, j);
    } else if (usable) {
        m->idle++;
    }
    pool_changed(m);
}

static void connect(struct sim *m, struct job *j)
{
    j->wait_began = m->now;
    if (m->idle > 0) {
        m->idle--;
        m->busy++;
        j->used = true;
        send(m, j);
    } else if (m->open < m->pool_rules.max_size) {
        m->busy++;
        dial(m, j);
    } else {
        j->waiting_pool = true;
        j->prev_wait = m->last_wait;
        *(m->last_wait >= 0 ? &m->job[m->last_wait]->next_wait : &m->first_wait) = j->id;
        m->last_wait = j->id;
        m->pool_waiting++;
        sim_push(m, m->now + m->s->cfg->pool_acquire_timeout, EVENT_ACQUIRE_OVER, j->id, j->turn);
    }
    pool_changed(m);
}

/* --- Attempts. --- */

/* The sidecar is through with an attempt: everybody hears of it, and its connection is given back or closed.
 */
static void report(struct sim *m, struct job *j, enum outcome outcome)
{
    struct request *q = m->request[j->request];
    const struct outcome_row *row = outcome_row(outcome);
    tick_t took = m->now - (j->sent_at ? j->sent_at : j->began);
    bool answered = outcome <= OUTCOME_UNAVAILABLE;
    j->waited_for = false;
    if (j->waiting_pool)
        unqueue(m, j);
    breaker_report(&m->breaker, j->permit, (struct breaker_report){row->breaker, took, q->attempts > 1},
                   &m->rng, m->now);
    watch_breaker(m);
    if (row->breaker == BREAKER_OK || row->breaker == BREAKER_FAILURE)
        retry_budget_outcome(&m->budget, row->breaker == BREAKER_OK, m->now);
    if (row->breaker == BREAKER_OK)
        m->typical = retry_typical(m->typical, took);
    if (outcome == OUTCOME_OK)
        hedge_answered(&m->hedge, took);
    concurrency_end(&m->limit, outcome, took, m->now);
    struct quota_answer a = {.charged = row->charged && j->sent_at,
                             .throttled = outcome == OUTCOME_THROTTLED,
                             .disguised = outcome == OUTCOME_THROTTLED && j->status == 401,
                             .sent_at = j->sent_at ? j->sent_at : m->now};
    if (answered) {
        rate_reading_end(&j->reading, (WALL_OF_START + m->s->start_at + m->now) / TICK_S);
        a.reading = &j->reading;
    }
    quota_end(&key_of(m, q)->quota, &a, m->now);
    if (j->has_connection) {
        j->has_connection = false;
        connection_free(m, answered);
    }
    sim_job_done(m, j);
    turn_limit(m);
    turn_quota(m, m->client[q->client].key);
}

static void forget(struct sim *m, struct request *q, int which, enum outcome outcome)
{
    int id = q->job[which];
    q->job[which] = -1;
    if (id >= 0)
        report(m, m->job[id], outcome);
}

static bool start_job(struct sim *m, struct request *q, bool hedge)
{
    struct breaker_permit permit = breaker_admit(&m->breaker, &m->rng, m->now);
    watch_breaker(m);
    if (permit.verdict == BREAKER_SHED) {
        give_back(m, q);
        return false;
    }
    struct job *j = sim_job(m, q->id);
    if (!j)
        return false;
    q->has_quota = q->has_limit = false; /* the job's now */
    j->permit = permit;
    j->hedge = hedge;
    q->job[hedge] = j->id;
    m->attempts++;
    m->most_in_flight = m->limit.in_flight > m->most_in_flight ? m->limit.in_flight : m->most_in_flight;
    connect(m, j);
    return true;
}

/* Takes the next hurdle, until one makes it wait, or the attempt is on its way. */
static void admit(struct sim *m, struct request *q)
{
    const struct group *g = group_of(m, q);
    breaker_turn(&m->breaker, &m->rng, m->now);
    watch_breaker(m);
    if (m->breaker_rules.enabled && m->breaker.state == BREAKER_OPEN) {
        give_back(m, q);
        failed(m, q, REASON_BREAKER_OPEN, 0, -1, "breaker", false);
        return;
    }
    if (!q->has_quota) {
        struct quota_call call = {
            .flow = (uint64_t)q->client + 1, .deadline = TICK_NEVER, .background = g->background};
        struct key *k = key_of(m, q);
        struct quota_verdict v = quota_ask(&k->quota, &call, &q->quota, woken_by_quota, m, m->now);
        if (v.kind == QUOTA_REFUSED) {
            failed(m, q, REASON_NONE, 429, v.at - m->now, "quota", false);
            return;
        }
        if (v.kind == QUOTA_WAIT) {
            q->place = PLACE_QUOTA;
            turn_quota(m, m->client[q->client].key);
            return;
        }
        q->has_quota = true;
    }
    if (!q->has_limit) {
        enum concurrency_verdict v =
            concurrency_ask(&m->limit, &q->limit, TICK_NEVER, woken_by_limit, m, m->now);
        if (v == CONCURRENCY_REFUSED) {
            give_back(m, q);
            failed(m, q, REASON_NONE, 503, 0, "limiter", false);
            return;
        }
        if (v == CONCURRENCY_WAIT) {
            q->place = PLACE_LIMIT;
            sim_push(m, q->limit.until, EVENT_LIMIT_OVER, q->id, q->step);
            return;
        }
        q->has_limit = true;
    }
    if (q->attempts++ == 0)
        retry_budget_request(&m->budget, m->now);
    q->place = PLACE_ATTEMPT;
    if (!start_job(m, q, false)) {
        failed(m, q, REASON_BREAKER_OPEN, 0, -1, "breaker", false);
        return;
    }
    tick_t delay = g->method == CALL_GET ? hedge_request(&m->hedge) : TICK_NEVER;
    if (delay != TICK_NEVER)
        sim_push(m, m->now + delay, EVENT_HEDGE, q->id, q->step);
}

static void hedge(struct sim *m, struct request *q)
{
    struct quota_call call = {.flow = (uint64_t)q->client + 1, .deadline = m->now, .background = true};
    struct quota_waiter none = {0};
    if (q->place != PLACE_ATTEMPT || q->job[0] < 0 || q->job[1] >= 0)
        return;
    bool healthy = m->breaker.state == BREAKER_CLOSED && m->limit.in_flight < concurrency_limit(&m->limit) &&
                   !m->limit.first && quota_spare(&key_of(m, q)->quota, m->now);
    if (!hedge_take(&m->hedge, healthy))
        return;
    if (quota_ask(&key_of(m, q)->quota, &call, &none, woken_by_quota, m, m->now).kind != QUOTA_GO)
        return;
    q->has_quota = true;
    if (concurrency_ask(&m->limit, &q->limit, m->now, woken_by_limit, m, m->now) != CONCURRENCY_GO) {
        give_back(m, q);
        return;
    }
    q->has_limit = true;
    if (start_job(m, q, true))
        m->hedges++;
}

static void failed(struct sim *m, struct request *q, enum reason reason, int status, tick_t retry_after,
                   const char *why, bool retry)
{
    if (retry && !m->bare) {
        const struct group *g = group_of(m, q);
        struct retry_case c = {
            .reason = reason,
            .status = status,
            .attempts = q->attempts,
            .idempotent = g->method == CALL_GET,
            .sent = reason != REASON_CONNECT_FAILED && reason != REASON_CONNECT_TIMEOUT &&
                    reason != REASON_POOL_TIMEOUT,
            .replayable = true,
            .marked = g->marks_retries && q->client_tries > 1,
            .began = q->tried,
            .deadline = TICK_NEVER,
            .typical = m->typical * TICK_US,
            .retry_after = retry_after,
            .last_delay = q->last_delay,
        };
        struct retry_verdict v = retry_decide(&m->retry_rules, &c, &m->budget, &m->rng, m->now);
        if (v.why == RETRY_YES) {
            m->retries++;
            m->late += v.at >= q->tried + m->retry_rules.max_total_time && m->retry_rules.max_total_time > 0;
            q->last_delay = v.delay;
            q->place = PLACE_BACKOFF;
            q->step++;
            sim_push(m, v.at, EVENT_ATTEMPT, q->id, q->step);
            return;
        }
    }
    sim_answered(m, q, false, why);
}

static const char *name_of(enum outcome o)
{
    return outcome_row(o)->name;
}

/* An attempt has ended, one way or another. */
static void attempt_ended(struct sim *m, struct job *j, enum reason reason, int status)
{
    struct request *q = m->request[j->request];
    int which = j->hedge;
    bool disguised = j->throttled && status == 401;
    enum outcome o =
        reason != REASON_NONE
            ? outcome_of_reason(reason, false)
            : outcome_of_answer(&m->disguises, status,
                                disguised ? SLICE("{\"detail\":\"Rate limit exceeded\"}") : SLICE(""));
    q->job[which] = -1;
    report(m, j, o);
    tick_t after = reason == REASON_NONE && j->reading.retry_after >= 0 ? j->reading.retry_after : -1;
    if (o == OUTCOME_OK) {
        m->hedges_won += which == 1;
        forget(m, q, !which, OUTCOME_CLIENT_GONE);
        sim_answered(m, q, true, NULL);
        return;
    }
    if (q->job[!which] >= 0)
        return; /* the other one may still win */
    failed(m, q, reason, disguised ? 429 : status, after, name_of(o), true);
}

/* --- From the engine. --- */

void sidecar_begin(struct sim *m, struct request *q)
{
    q->attempts = 0;
    q->last_delay = 0;
    q->why = NULL;
    q->place = PLACE_READY;
    if (group_of(m, q)->background)
        m->background_sent++;
    admit(m, q);
}

void sidecar_leave(struct sim *m, struct request *q)
{
    q->step++;
    if (q->place == PLACE_QUOTA)
        quota_leave(&key_of(m, q)->quota, &q->quota);
    if (q->place == PLACE_LIMIT)
        concurrency_leave(&m->limit, &q->limit);
    give_back(m, q);
    forget(m, q, 0, OUTCOME_CLIENT_GONE);
    forget(m, q, 1, OUTCOME_CLIENT_GONE);
}

static void each_second(struct sim *m)
{
    struct pool_target t = pool_size_target(&m->pool, m->now);
    int i = (int)(m->now / TICK_S);
    if (i < m->seconds)
        m->second[i].limit = (float)concurrency_limit(&m->limit);
    while (m->open < t.warm && m->open < m->pool_rules.max_size) {
        m->open++;
        sim_push(m, m->now + m->s->upstream.connect_time, EVENT_CONNECTED, -1, 0);
    }
    while (m->idle > 0 && m->open > t.keep) {
        m->idle--;
        m->open--;
    }
    if (m->now + TICK_S <= m->s->duration)
        sim_push(m, m->now + TICK_S, EVENT_SECOND, 0, 0);
}

static void connected(struct sim *m, const struct event *e)
{
    if (e->id < 0) { /* in advance */
        m->busy++;
        connection_free(m, true);
        return;
    }
    struct job *j = m->job[e->id];
    j->connecting = false;
    if (j->waited_for) {
        send(m, j);
        return;
    }
    connection_free(m, true); /* who asked for it has left */
    sim_job_done(m, j);
}

static void connect_bad(struct sim *m, struct job *j, enum reason why)
{
    j->connecting = false;
    connection_free(m, false);
    if (j->waited_for)
        attempt_ended(m, j, why, 0);
    else
        sim_job_done(m, j);
}

static void job_event(struct sim *m, const struct event *e)
{
    struct job *j = m->job[e->id];
    if (j->turn != e->turn)
        return;
    switch (e->kind) {
    case EVENT_CONNECT_BAD: {
        tick_t after;
        bool hangs;
        connect_bad(m, j,
                    api_refuses(m, &after, &hangs) && hangs ? REASON_CONNECT_TIMEOUT : REASON_CONNECT_FAILED);
        break;
    }
    case EVENT_ACQUIRE_OVER:
        if (j->waiting_pool && j->waited_for)
            attempt_ended(m, j, REASON_POOL_TIMEOUT, 0);
        break;
    case EVENT_ANSWER:
        if (j->waited_for)
            attempt_ended(m, j, REASON_NONE, j->status);
        else
            sim_job_done(m, j);
        break;
    case EVENT_BROKEN:
        if (j->waited_for)
            attempt_ended(m, j, REASON_RESET_BEFORE_ANSWER, 0);
        break;
    case EVENT_ATTEMPT_OVER:
        if (j->waited_for)
            attempt_ended(m, j, REASON_RESPONSE_TIMEOUT, 0);
        break;
    default:
        break;
    }
}

static void limit_over(struct sim *m, struct request *q)
{
    if (q->place != PLACE_LIMIT)
        return;
    concurrency_leave(&m->limit, &q->limit);
    m->limit.refused++;
    give_back(m, q);
    failed(m, q, REASON_NONE, 503, 0, "limiter", false);
}

void sidecar_event(struct sim *m, const struct event *e)
{
    switch (e->kind) {
    case EVENT_SECOND:
        each_second(m);
        break;
    case EVENT_HEALTH:
        if (!api_down(m->s, m->now))
            breaker_sign_of_life(&m->breaker, m->now);
        watch_breaker(m);
        if (m->now + m->s->cfg->pool_health_check_interval <= m->s->duration)
            sim_push(m, m->now + m->s->cfg->pool_health_check_interval, EVENT_HEALTH, 0, 0);
        break;
    case EVENT_QUOTA:
        if (m->key[e->id].due <= m->now)
            m->key[e->id].due = TICK_NEVER;
        turn_quota(m, e->id);
        break;
    case EVENT_ATTEMPT:
        if (m->request[e->id]->step == e->turn)
            admit(m, m->request[e->id]);
        break;
    case EVENT_HEDGE:
        if (m->request[e->id]->step == e->turn)
            hedge(m, m->request[e->id]);
        break;
    case EVENT_LIMIT_OVER:
        if (m->request[e->id]->step == e->turn)
            limit_over(m, m->request[e->id]);
        break;
    case EVENT_CONNECTED:
        connected(m, e);
        break;
    default:
        job_event(m, e);
        break;
    }
}
