/*
 * The trace of chosen requests. Invariants: the filter is read and written under its lock, which is taken
 * only while a trace is on; a trace always has an end.
 */
#include "proxy/debug.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/log.h"

struct debug {
    struct log *log;
    atomic_bool on;
    pthread_mutex_t lock; /* of what follows */
    struct debug_trace trace;
    tick_t until;
};

struct debug *debug_new(struct log *log)
{
    struct debug *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->log = log;
    pthread_mutex_init(&d->lock, NULL);
    return d;
}

void debug_free(struct debug *d)
{
    if (!d)
        return;
    pthread_mutex_destroy(&d->lock);
    free(d);
}

bool debug_tracing(const struct debug *d)
{
    return d && atomic_load_explicit(&((struct debug *)(uintptr_t)d)->on, memory_order_relaxed);
}

void debug_set_trace(struct debug *d, const struct debug_trace *trace, tick_t until)
{
    pthread_mutex_lock(&d->lock);
    if (trace)
        d->trace = *trace;
    d->until = until;
    if (trace) /* its lines come whatever log.level is */
        (void)log_set_module(d->log, "trace", LOG_INFO, until);
    pthread_mutex_unlock(&d->lock);
    atomic_store_explicit(&d->on, trace != NULL, memory_order_relaxed);
}

bool debug_get_trace(struct debug *d, struct debug_trace *out, tick_t *until)
{
    pthread_mutex_lock(&d->lock);
    *out = d->trace;
    *until = d->until;
    pthread_mutex_unlock(&d->lock);
    return debug_tracing(d);
}

void debug_tick(struct debug *d, tick_t now)
{
    struct debug_trace trace;
    tick_t until;
    if (log_expire_modules(d->log, now))
        log_write(d->log, LOG_INFO, "admin", "log levels of modules are what log.level says again");
    if (debug_get_trace(d, &trace, &until) && now >= until) {
        debug_set_trace(d, NULL, 0);
        log_write(d->log, LOG_INFO, "admin", "the trace of requests has ended");
    }
}

void debug_phase_slow(struct debug *d, struct slice request_id, const char *from, const char *to, tick_t age)
{
    struct debug_trace trace;
    tick_t until;
    if (!debug_get_trace(d, &trace, &until))
        return;
    if (*trace.request_id && (strlen(trace.request_id) != request_id.n ||
                              memcmp(trace.request_id, request_id.p, request_id.n) != 0))
        return;
    if (*trace.phase && strcmp(trace.phase, to) != 0)
        return;
    log_write(d->log, LOG_INFO, "trace", "request %.*s: %s to %s after %.3f ms", (int)request_id.n,
              request_id.n ? request_id.p : "", from, to, (double)age / 1e6);
}
