/* What the stand-in received. Counts only grow, until they are reset by POST /__control/reset. */
#ifndef ORIGIN_COUNT_H
#define ORIGIN_COUNT_H

#include <jansson.h>
#include <stdatomic.h>

#include "tests/origin/route.h"

#define COUNTS(X)                                                                                                \
    X(connections)          /* accepted */                                                                       \
    X(bytes_in)             /* as read, above TLS */                                                             \
    X(bytes_out)                                                                                                 \
    X(responses_2xx)                                                                                             \
    X(responses_3xx)                                                                                             \
    X(responses_4xx)                                                                                             \
    X(responses_5xx)                                                                                             \
    X(malformed)            /* requests that could not be parsed */                                              \
    X(aborted)              /* the client went away before its answer was complete */                            \
    X(resets)               /* connections reset on purpose */                                                   \
    X(truncated)            /* answers cut short on purpose */                                                   \
    X(unauthorized)                                                                                              \
    X(replays)              /* nonces seen before */                                                             \
    X(rate_limited)                                                                                              \
    X(idle_closed)          /* keep-alive connections closed by idle_timeout_ms */                               \
    X(websocket_messages)

struct counts {
#define X(name) atomic_ullong name;
    COUNTS(X)
#undef X
    atomic_ullong requests;
    atomic_ullong by_op[OP_COUNT];
    atomic_llong open_now, open_max;     /* connections */
    atomic_llong active_now, active_max; /* requests between head and end of answer */
};

#define COUNT(counts, name) atomic_fetch_add_explicit(&(counts)->name, 1, memory_order_relaxed)
#define COUNT_ADD(counts, name, n) atomic_fetch_add_explicit(&(counts)->name, (n), memory_order_relaxed)

/* One more, and the highest mark; one fewer. */
void count_enter(atomic_llong *now, atomic_llong *max);
void count_leave(atomic_llong *now);
/* All but what is open now becomes zero. */
void counts_reset(struct counts *counts);
/* A new object, or NULL when out of memory. */
json_t *counts_json(struct counts *counts);

#endif
