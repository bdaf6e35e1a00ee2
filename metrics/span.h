/*
 * What a traced request leaves behind, as its worker writes it and the exporter reads it: plain numbers, no
 * text but the path and the host, nothing of credentials, queries and bodies.
 *
 * All times are nanoseconds of the monotonic clock.
 */
#ifndef METRICS_SPAN_H
#define METRICS_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SPAN_ATTEMPTS = 8, /* further ones are counted only */
    SPAN_EVENTS = 16,  /* likewise */
    SPAN_PATH_BYTES = 256,
    SPAN_HOST_BYTES = 128,
    SPAN_ID_BYTES = 64
};

/* One attempt at the upstream: a client span. */
struct span_attempt {
    uint8_t id[8];
    int64_t began, ended; /* ended 0: it is under way */
    int64_t total;        /* as it was measured for the histograms */
    int64_t pool_wait, tcp, tls, first_byte;
    uint64_t bytes_sent, bytes_received;
    uint16_t status, reason;
    uint8_t outcome, kind; /* enum attempt_kind */
    uint8_t resend;        /* attempts before it */
    bool reused;
};

enum span_event_kind {
    SPAN_CACHE,     /* the cache was asked; its verdict is the request's */
    SPAN_SECOND,    /* a tier below memory was asked */
    SPAN_HELD,      /* waited for the rest of the request's body */
    SPAN_COALESCED, /* waited for the fetch of another */
    SPAN_QUEUE,     /* waited for the rate limit or the concurrency limit */
    SPAN_POOL,      /* waited for a connection */
    SPAN_RETRY,     /* decided on; `duration`: waited before it */
    SPAN_EVENT_KINDS
};

struct span_event {
    int64_t at, duration;
    uint8_t kind;    /* enum span_event_kind */
    uint8_t attempt; /* RETRY: index of the attempt that it follows, plus one; 0: it is not shown */
};

/* The request itself: a server span; or, when `internal`, work that no client waits for. */
struct span_head {
    uint8_t trace_id[16], id[8], parent[8];
    bool has_parent, remote_parent, internal;
    uint8_t trace_flags;
    uint8_t method, cache, minor;
    uint8_t observed; /* enum observation_flag */
    uint16_t operation, route, status, reason;
    uint8_t retries;
    int64_t began, ended, total;
    uint64_t bytes_in, bytes_out;
    uint16_t path_bytes, host_bytes, request_id_bytes;
    uint8_t attempts, events; /* that follow */
    uint16_t attempts_dropped, events_dropped;
};

struct span_record {
    struct span_head head;
    struct span_attempt attempts[SPAN_ATTEMPTS];
    struct span_event events[SPAN_EVENTS];
    char path[SPAN_PATH_BYTES];
    char host[SPAN_HOST_BYTES];
    char request_id[SPAN_ID_BYTES];
};

/*
 * Records on their way from one worker to the exporter: one writer, one reader, no locks; bounded.
 */
struct span_ring;

/* `bytes`: a power of two, at least 4096. NULL when out of memory. */
struct span_ring *span_ring_new(size_t bytes);
void span_ring_free(struct span_ring *r); /* NULL is fine */

/* Copies what is used of a record. Only the writer. False: no room, nothing was written. */
bool span_ring_put(struct span_ring *r, const struct span_record *s);

/* Takes the oldest out. Only the reader. False: there is none. */
bool span_ring_take(struct span_ring *r, struct span_record *out);

#endif
