/*
 * From settings to the rules of breaker, retry and hedging. For the proxy and for the simulator, so that both
 * read the same settings in the same way. Invariant: whatever a configuration holds within its bounds gives
 * rules that policy accepts.
 */
#include <string.h>

#include "policy/config.h"
#include "proxy/guard.h"

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
