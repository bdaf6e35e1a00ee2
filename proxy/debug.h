/*
 * What an operator switches on for a while on a live sidecar: a log level of one module, and a trace of
 * chosen requests. It ends by itself. Changed on the control thread; asked on any.
 */
#ifndef PROXY_DEBUG_H
#define PROXY_DEBUG_H

#include <stdatomic.h>

#include "policy/base.h"

struct log;

enum { DEBUG_ID_MAX = 128, DEBUG_PHASE_MAX = 16, DEBUG_CLIENT_MAX = 64, DEBUG_SECONDS_MOST = 86400 };

/* Requests to trace: all members that are not "" must match. */
struct debug_trace {
    char request_id[DEBUG_ID_MAX];
    char client[DEBUG_CLIENT_MAX]; /* an IP address with or without a port; "unix" */
    char phase[DEBUG_PHASE_MAX];   /* only when a request enters this one */
};

struct debug;

struct debug *debug_new(struct log *log); /* NULL when out of memory */
void debug_free(struct debug *d);

/* Whether a text can be `client` of a trace. */
bool debug_client_ok(const char *text);

/* Traces until `until`; NULL switches off. */
void debug_set_trace(struct debug *d, const struct debug_trace *trace, tick_t until);

/* The trace in force and its end. False when there is none. */
bool debug_get_trace(struct debug *d, struct debug_trace *out, tick_t *until);

/* To be called each second: switches off what has ended, and says so in the log. */
void debug_tick(struct debug *d, tick_t now);

/* Whether a trace is on. One relaxed load. NULL is fine. */
bool debug_tracing(const struct debug *d);

/* A request enters a phase: writes a line when it is traced. `client`: its address, "" when nobody waits. */
struct debug_step {
    struct slice request_id;
    const char *client, *from, *to;
    tick_t age;
};
void debug_phase_slow(struct debug *d, const struct debug_step *step);

#endif
