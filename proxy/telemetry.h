/*
 * Sends metrics and traces to an OpenTelemetry collector, by gRPC or HTTP. A collector that hangs, refuses or
 * is away costs nothing but what was meant for it: queues are bounded, and everything runs on the control
 * thread.
 */
#ifndef PROXY_TELEMETRY_H
#define PROXY_TELEMETRY_H

#include "metrics/render.h"
#include "policy/base.h"

struct config;
struct custom;
struct log;
struct post;
struct service;
struct telemetry;

struct telemetry_setup {
    void *ctx;
    struct service *service;     /* borrowed */
    struct custom *custom;       /* borrowed */
    struct post *post;           /* borrowed */
    struct metrics_block *block; /* the control thread's */
    void (*supply)(void *ctx, struct supplied *out);
    void (*process)(void *ctx, struct process_values *out);
    int64_t start; /* wall clock when the counters were zero */
    uint64_t seed;
};

/* NULL: out of memory. */
struct telemetry *telemetry_new(const struct telemetry_setup *setup);
void telemetry_free(struct telemetry *t); /* breaks off what is under way; NULL is fine */

/* Another configuration: it is read here and not kept. */
void telemetry_tune(struct telemetry *t, const struct config *cfg);

/* A few times a second: takes over what was traced, before the workers' rings are full. */
void telemetry_gather(struct telemetry *t, tick_t now);

/* Once a second. */
void telemetry_second(struct telemetry *t, tick_t now);

/* The last call before the end: sends what there is. / True: no call is under way; what waits for another
 * attempt will not see it. */
void telemetry_flush(struct telemetry *t, tick_t now);
bool telemetry_idle(const struct telemetry *t);

#endif
