/*
 * Sends custom metrics to performance.custom_metrics_endpoint: JSON by POST, those that changed since the
 * last message, with retries and a bounded queue. Control thread only.
 */
#ifndef PROXY_CUSTOM_PUSH_H
#define PROXY_CUSTOM_PUSH_H

#include "metrics/counters.h"
#include "policy/base.h"

struct config;
struct custom;
struct custom_push;
struct log;
struct post;

struct custom_push_setup {
    const struct custom *custom; /* borrowed */
    struct post *post;           /* borrowed */
    struct log *log;             /* borrowed */
    struct metrics_block *block; /* the control thread's */
    uint64_t seed;
};

/* NULL: out of memory. */
struct custom_push *custom_push_new(const struct custom_push_setup *setup);
void custom_push_free(struct custom_push *p); /* NULL is fine */

/* Another configuration: it is read here and not kept. */
void custom_push_tune(struct custom_push *p, const struct config *cfg);

/* Once a second. */
void custom_push_second(struct custom_push *p, tick_t now);

/* Sends what changed, at once, when there is anybody to send it to. / Nothing is on its way. */
void custom_push_flush(struct custom_push *p, tick_t now);
bool custom_push_idle(const struct custom_push *p);

#endif
