/*
 * Brings messages to one address: one call at a time, with retries and a bounded queue, so that a receiver
 * that hangs, refuses or is away costs nobody but its own messages. For alerts, custom metrics and OTLP.
 * Control thread only.
 */
#ifndef PROXY_COURIER_H
#define PROXY_COURIER_H

#include "proxy/post.h"

struct courier;
struct log;

/* What an answer means. */
enum courier_verdict {
    COURIER_GOOD,
    COURIER_AGAIN, /* later */
    COURIER_NEVER  /* refused for good */
};

/* How a message ends. */
enum courier_end {
    COURIER_TAKEN,
    COURIER_GIVEN_UP, /* after as many attempts as it has */
    COURIER_REFUSED,
    COURIER_DROPPED /* pushed out by a newer one, or no memory */
};

/* One call that ended; `attempt` counts from 1. */
struct courier_call {
    const struct post_result *result;
    enum courier_verdict verdict;
    unsigned attempt;
};

struct courier_setup {
    struct post *post;          /* borrowed */
    struct log *log;            /* borrowed */
    const char *module;         /* of the log; constant */
    const char *what;           /* "the slack receiver at host", for the log: no secret in it; copied */
    const struct post_job *job; /* url, content type, fields and so on of each message; all copied */
    uint64_t seed;              /* for jitter */
    unsigned messages;          /* that wait at most: the oldest goes */
    size_t bytes;               /* of them at most; 0: no bound but `messages` */
    unsigned attempts;          /* of a message */
    void *ctx;
    /* Judges an answer; *retry_after (-1: not said) may be set. NULL: by the HTTP status. */
    enum courier_verdict (*judge)(void *ctx, const struct post_result *result, tick_t *retry_after);
    void (*called)(void *ctx, const struct courier_call *call);                    /* may be NULL */
    void (*ended)(void *ctx, enum courier_end end, unsigned units, unsigned kind); /* may be NULL */
};

struct courier_view {
    unsigned waiting; /* messages, the one under way included */
    size_t bytes;     /* of them */
    uint64_t sent, failed, dropped;
    bool busy;         /* a call is under way; else what waits waits for its time */
    const char *error; /* of the newest call, when it failed; else "". Valid until the next call */
};

/* NULL: out of memory. Loads libcurl; that it cannot be loaded is each message's error. */
struct courier *courier_new(const struct courier_setup *setup);

/* Breaks off what is under way; what waits is gone, and nobody is told. NULL is fine. */
void courier_free(struct courier *c);

/* Queues a message and takes its bytes (malloc) over. NULL body: counts as dropped. `units` (items in it) and
 * `kind` are the caller's. */
void courier_put(struct courier *c, char *body, size_t n, unsigned units, unsigned kind, tick_t now);

/* Once a second: retries. */
void courier_second(struct courier *c, tick_t now);

/* Is a message of this kind waiting? */
bool courier_holds(const struct courier *c, unsigned kind);

void courier_look(const struct courier *c, struct courier_view *out);

/* The URL as it was given: what tells couriers apart. Not to be shown. */
const char *courier_url(const struct courier *c);

/* 3xx and 4xx are for good, but for 408, 425 and 429. */
enum courier_verdict courier_judge_status(int status);

/* The host (and port) of a URL that was judged, for people; to be freed. NULL: out of memory. */
char *courier_host(const char *url);

#endif
