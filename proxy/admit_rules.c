/*
 * From settings to the rules of admission. Invariant: whatever a configuration holds within its bounds gives
 * rules that policy accepts (1 <= min <= max).
 */
#include "proxy/admit_rules.h"

#include "policy/config.h"

void admit_quota_rules(const struct config *cfg, struct quota_rules *out)
{
    static const enum quota_mode modes[] = {
        [CONFIG_RATE_LIMIT_MODE_OBSERVE] = QUOTA_OBSERVE,
        [CONFIG_RATE_LIMIT_MODE_PACE] = QUOTA_PACE,
        [CONFIG_RATE_LIMIT_MODE_REJECT] = QUOTA_REJECT,
    };
    bool never = cfg->rate_limit_assume == CONFIG_RATE_LIMIT_ASSUME_NEVER;
    *out = (struct quota_rules){
        .enabled = cfg->rate_limit_enable_rate_limit_detection,
        .mode = modes[cfg->rate_limit_mode],
        .max_wait = cfg->rate_limit_max_wait,
        .assume = !never,
        .believe = cfg->rate_limit_assume == CONFIG_RATE_LIMIT_ASSUME_ALWAYS,
    };
    if (!never) {
        out->assumed[0] = cfg->rate_limit_per_minute;
        out->assumed[1] = cfg->rate_limit_per_hour;
        out->assumed[2] = cfg->rate_limit_per_day;
    }
}

void admit_concurrency_rules(const struct config *cfg, struct concurrency_rules *out)
{
    static const enum concurrency_mode modes[] = {
        [CONFIG_CONCURRENCY_MODE_ADAPTIVE] = CONCURRENCY_ADAPTIVE,
        [CONFIG_CONCURRENCY_MODE_FIXED] = CONCURRENCY_FIXED,
        [CONFIG_CONCURRENCY_MODE_OFF] = CONCURRENCY_OFF,
        [CONFIG_CONCURRENCY_MODE_OBSERVE] = CONCURRENCY_OBSERVE,
    };
    *out = (struct concurrency_rules){
        .mode = modes[cfg->concurrency_mode],
        .min = (int)cfg->concurrency_min,
        .max =
            (int)(cfg->concurrency_max > cfg->concurrency_min ? cfg->concurrency_max : cfg->concurrency_min),
        .queue_timeout = cfg->concurrency_queue_timeout,
    };
}

void admit_hedge_rules(const struct config *cfg, struct hedge_rules *out)
{
    *out = (struct hedge_rules){cfg->retry_hedge_enabled, cfg->retry_hedge_quantile, cfg->retry_hedge_budget};
}
