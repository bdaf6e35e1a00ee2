/*
 * The rules of admission that a configuration means: quota, concurrency limit, hedging. For the proxy and for
 * the simulator, so that both read the same settings in the same way.
 */
#ifndef PROXY_ADMIT_RULES_H
#define PROXY_ADMIT_RULES_H

#include "policy/concurrency.h"
#include "policy/hedge.h"
#include "policy/quota.h"

struct config;

void admit_quota_rules(const struct config *cfg, struct quota_rules *out);
void admit_concurrency_rules(const struct config *cfg, struct concurrency_rules *out);
void admit_hedge_rules(const struct config *cfg, struct hedge_rules *out);

#endif
