/*
 * One lock around the breaker and the budget. Invariant: every permit that guard_begin gave out is
 * reported once; what is reported as IGNORED changes no rate.
 */
#include "proxy/guard.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "policy/config.h"

struct guard {
    pthread_mutex_t lock;
    struct breaker_rules rules;
    struct breaker breaker;
    struct retry_budget budget;
    struct rng rng;
};

void guard_breaker_rules(const struct config *cfg, struct breaker_rules *r)
{
    *r = (struct breaker_rules){
        .enabled = cfg->circuit_breaker_enable_circuit_breaker,
        .consecutive = (int)cfg->circuit_breaker_circuit_breaker_threshold,
        .failure_rate = cfg->circuit_breaker_failure_rate_threshold,
        .slow_call = cfg->circuit_breaker_slow_call_duration,
        .slow_rate = cfg->circuit_breaker_slow_call_rate_threshold,
        .window = cfg->circuit_breaker_window,
        .minimum_requests = (int)cfg->circuit_breaker_minimum_requests,
        .open_time = cfg->circuit_breaker_circuit_breaker_timeout,
        .open_max = cfg->circuit_breaker_circuit_breaker_max_timeout,
        .probes = (int)cfg->circuit_breaker_half_open_requests,
        .probe_lease = cfg->upstream_response_timeout + cfg->upstream_connect_timeout,
    };
    if (r->probes > BREAKER_MAX_PROBES)
        r->probes = BREAKER_MAX_PROBES;
}

struct guard *guard_new(const struct config *cfg, tick_t now, uint64_t seed)
{
    struct guard *g = calloc(1, sizeof(*g));
    if (!g)
        return NULL;
    pthread_mutex_init(&g->lock, NULL);
    guard_breaker_rules(cfg, &g->rules);
    rng_seed(&g->rng, seed);
    breaker_init(&g->breaker, &g->rules, now);
    retry_budget_init(&g->budget, cfg->retry_budget, 1.0, now);
    return g;
}

void guard_free(struct guard *g)
{
    if (!g)
        return;
    pthread_mutex_destroy(&g->lock);
    free(g);
}

void guard_tune(struct guard *g, const struct config *cfg, tick_t now)
{
    pthread_mutex_lock(&g->lock);
    guard_breaker_rules(cfg, &g->rules);
    breaker_tune(&g->breaker, &g->rules, now);
    retry_budget_tune(&g->budget, cfg->retry_budget, 1.0);
    pthread_mutex_unlock(&g->lock);
}

struct breaker_permit guard_begin(struct guard *g, bool first, tick_t now)
{
    pthread_mutex_lock(&g->lock);
    if (first)
        retry_budget_request(&g->budget, now);
    struct breaker_permit permit = breaker_admit(&g->breaker, &g->rng, now);
    pthread_mutex_unlock(&g->lock);
    return permit;
}

bool guard_is_open(struct guard *g, tick_t now)
{
    pthread_mutex_lock(&g->lock);
    breaker_turn(&g->breaker, &g->rng, now);
    bool open = g->breaker.state == BREAKER_OPEN;
    pthread_mutex_unlock(&g->lock);
    return open;
}

void guard_end(struct guard *g, struct breaker_permit permit, struct breaker_report report, tick_t now)
{
    pthread_mutex_lock(&g->lock);
    breaker_report(&g->breaker, permit, report, &g->rng, now);
    if (report.outcome == BREAKER_OK || report.outcome == BREAKER_FAILURE)
        retry_budget_outcome(&g->budget, report.outcome == BREAKER_OK, now);
    pthread_mutex_unlock(&g->lock);
}

struct retry_verdict guard_retry(struct guard *g, const struct retry_rules *rules, const struct retry_case *c,
                                 struct rng *rng, tick_t now)
{
    pthread_mutex_lock(&g->lock);
    struct retry_verdict v = retry_decide(rules, c, &g->budget, rng, now);
    pthread_mutex_unlock(&g->lock);
    return v;
}

void guard_sign_of_life(struct guard *g, tick_t now)
{
    pthread_mutex_lock(&g->lock);
    breaker_sign_of_life(&g->breaker, now);
    pthread_mutex_unlock(&g->lock);
}

tick_t guard_retry_after(struct guard *g, tick_t now)
{
    pthread_mutex_lock(&g->lock);
    tick_t after = breaker_retry_after(&g->breaker, now);
    pthread_mutex_unlock(&g->lock);
    return after;
}

void guard_look(struct guard *g, struct guard_view *out, tick_t now)
{
    pthread_mutex_lock(&g->lock);
    breaker_turn(&g->breaker, &g->rng, now);
    *out = (struct guard_view){
        .state = g->breaker.state,
        .cause = g->breaker.cause,
        .opened = g->breaker.opened,
        .since = g->breaker.since,
        .until = g->breaker.until,
        .retry_after = breaker_retry_after(&g->breaker, now),
        .budget_left = retry_budget_left(&g->budget, now),
        .failure_rate = retry_budget_failure_rate(&g->budget, now),
    };
    pthread_mutex_unlock(&g->lock);
}

void guard_reset(struct guard *g, tick_t now)
{
    pthread_mutex_lock(&g->lock);
    breaker_reset(&g->breaker, now);
    pthread_mutex_unlock(&g->lock);
}

/* The bits of retry.c for what the configuration holds as flags. */
static uint32_t retry_bits(const struct config *cfg)
{
    uint32_t bits = 0;
    if (cfg->retry_retry_on.connect_failure)
        bits |= RETRY_ON_CONNECT_FAILURE;
    if (cfg->retry_retry_on.reset)
        bits |= RETRY_ON_RESET;
    if (cfg->retry_retry_on.timeout)
        bits |= RETRY_ON_TIMEOUT;
    return bits;
}

void guard_retry_rules(const struct config *cfg, struct retry_rules *out)
{
    static const enum backoff strategies[] = {
        [CONFIG_RETRY_STRATEGY_EXPONENTIAL_BACKOFF] = BACKOFF_EXPONENTIAL,
        [CONFIG_RETRY_STRATEGY_LINEAR_BACKOFF] = BACKOFF_LINEAR,
        [CONFIG_RETRY_STRATEGY_FIXED_DELAY] = BACKOFF_FIXED,
        [CONFIG_RETRY_STRATEGY_FIBONACCI_BACKOFF] = BACKOFF_FIBONACCI,
        [CONFIG_RETRY_STRATEGY_ADAPTIVE_BACKOFF] = BACKOFF_ADAPTIVE,
    };
    static const enum jitter jitters[] = {
        [CONFIG_RETRY_JITTER_NONE] = JITTER_NONE,
        [CONFIG_RETRY_JITTER_FULL] = JITTER_FULL,
        [CONFIG_RETRY_JITTER_DECORRELATED] = JITTER_DECORRELATED,
    };
    *out = (struct retry_rules){
        .strategy = strategies[cfg->retry_strategy],
        .jitter = jitters[cfg->retry_jitter],
        .max_attempts = (int)cfg->retry_max_attempts,
        .base_delay = cfg->retry_base_delay,
        .max_delay = cfg->retry_max_delay,
        .max_total_time = cfg->retry_max_total_time,
        .retry_on = retry_bits(cfg),
        .success_rate_threshold = cfg->retry_success_rate_threshold,
    };
    _Static_assert(sizeof(out->statuses) == sizeof(cfg->retry_retry_on.statuses), "one set of bits for both");
    memcpy(out->statuses, cfg->retry_retry_on.statuses, sizeof(out->statuses));
}
