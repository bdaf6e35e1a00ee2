/*
 * The trace of chosen requests. Invariants: the filter is read and written under its lock, which is taken
 * only while a trace is on; a trace always has an end.
 */
#include "proxy/debug.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
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

bool debug_client_ok(const char *text)
{
    char host[DEBUG_CLIENT_MAX], ignored[sizeof(struct in6_addr)];
    size_t n = *text == '[' ? strcspn(text, "]") : 0;
    const char *behind = text + n + (n && text[n]);
    if (strcmp(text, "unix") == 0)
        return true;
    if (n && !text[n])
        return false; /* not closed */
    if (!n) {         /* one colon is before a port; more are an IPv6 address of its own */
        const char *colon = strchr(text, ':');
        behind = colon && !strchr(colon + 1, ':') ? colon : text + strlen(text);
    }
    snprintf(host, sizeof host, "%.*s", (int)(n ? n - 1 : (size_t)(behind - text)), text + (n != 0));
    if (*behind && (*behind != ':' || !behind[1] || behind[1 + strspn(behind + 1, "0123456789")]))
        return false;
    return inet_pton(AF_INET, host, ignored) == 1 || inet_pton(AF_INET6, host, ignored) == 1;
}

/* `wanted` with or without a port; `client` always has one. */
static bool client_matches(const char *wanted, const char *client)
{
    size_t n = strlen(wanted);
    bool bracket = *client == '[' && *wanted != '[';
    const char *at = client + bracket;
    if (strncmp(at, wanted, n) != 0)
        return false;
    return !at[n] || (bracket ? at[n] == ']' : at[n] == ':');
}

void debug_phase_slow(struct debug *d, const struct debug_step *s)
{
    struct debug_trace trace;
    tick_t until;
    if (!debug_get_trace(d, &trace, &until))
        return;
    if (*trace.request_id && (strlen(trace.request_id) != s->request_id.n ||
                              memcmp(trace.request_id, s->request_id.p, s->request_id.n) != 0))
        return;
    if (*trace.phase && strcmp(trace.phase, s->to) != 0)
        return;
    if (*trace.client && !client_matches(trace.client, s->client))
        return;
    log_write(d->log, LOG_INFO, "trace", "request %.*s%s%s: %s to %s after %.3f ms", (int)s->request_id.n,
              s->request_id.n ? s->request_id.p : "", *s->client ? " of " : "", s->client, s->from, s->to,
              (double)s->age / 1e6);
}
