/*
 * One connection to a Redis server on its owner's event loop. Commands are sent one behind the other without
 * waiting; each has a deadline of its own, after which its caller is told that it failed. The connection is
 * made again, with growing pauses, for as long as it lives. Nothing here ever blocks. The only room for
 * hiredis, of which the reader and the writer of the protocol are used; connecting, TLS and time limits are
 * ours.
 */
#ifndef PROXY_REDIS_H
#define PROXY_REDIS_H

#include "policy/base.h"

struct event_base;
struct redis;
struct redis_address;
struct resolver;
struct tls_context;

enum redis_kind { REDIS_NIL, REDIS_TEXT, REDIS_INTEGER, REDIS_LIST, REDIS_ERROR };

/* What the server said. Lives as long as the call that shows it. */
struct redis_reply {
    enum redis_kind kind;
    int64_t number;             /* INTEGER */
    struct slice text;          /* TEXT, ERROR */
    struct redis_reply **items; /* LIST; none is NULL */
    size_t count;
};

enum {
    REDIS_QUEUE_MAX = 1024,         /* commands under way */
    REDIS_OUT_MAX = 8 << 20,        /* bytes not yet taken by the server */
    REDIS_REPLY_MAX = 8 << 20,      /* bytes of one reply; a longer one ends the connection */
    REDIS_REPLY_ITEMS_MAX = 1 << 16 /* of all lists of one reply */
};

struct redis_options {
    struct event_base *base;             /* the calling thread's */
    struct resolver *resolver;           /* of address->endpoint; outlives the connection */
    const struct redis_address *address; /* outlives the connection */
    struct tls_context *tls;             /* NULL: plain; outlives the connection */
    uint64_t seed;                       /* of the randomness in pauses */
    void (*changed)(void *arg, bool up); /* it can be used from now on, or no longer; from the event loop */
    void *arg;
};

/* Starts to connect. NULL: out of memory. All functions: the loop's thread only. */
struct redis *redis_new(const struct redis_options *options) MUSTCHECK;

/* Ends it. All commands under way are told that they failed; `changed` is not called. NULL is fine. */
void redis_free(struct redis *r);

/* Commands are taken. Of NULL: false. */
bool redis_up(const struct redis *r);

/* Why it is not up, or what was last wrong; "" when nothing was. Shows no password. */
const char *redis_trouble(const struct redis *r);

/* How often it was connected, and how many bytes wait to be sent. */
uint64_t redis_connects(const struct redis *r);
size_t redis_backlog(const struct redis *r);

/*
 * Called once for each command that was taken: `reply` is what the server said (an ERROR too), or NULL: no
 * answer within the time, or the connection broke. May send further commands; may not free the connection.
 */
typedef void redis_answered(void *arg, const struct redis_reply *reply);

/*
 * Sends one command of `count` words (at most 64), which are copied. `done` may be NULL. False: not
 * connected, or too much is under way; then nothing happens.
 */
bool redis_send(struct redis *r, const struct slice *words, size_t count, tick_t timeout,
                redis_answered *done, void *arg) MUSTCHECK;

/* Does the text of an ERROR or TEXT begin with this word? */
bool redis_says(const struct redis_reply *reply, const char *word);

#endif
