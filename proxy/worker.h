/*
 * A worker thread: one event loop with its listening socket, clients, upstream connections,
 * buffers, timers and counters. A request never leaves it. What comes from other threads comes
 * through the mailbox.
 */
#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "policy/head.h"
#include "policy/rng.h"
#include "policy/wheel.h"
#include "proxy/admit.h"
#include "proxy/block.h"
#include "proxy/mailbox.h"
#include "proxy/out.h"

struct ahead_desk;
struct client;
struct event;
struct event_base;
struct exchange;
struct listener;
struct metrics_block;
struct pool;
struct publication;
struct service;
struct settings;
struct worker_log;

/* A timer of this worker: what the wheel keeps, and what to call when it is due. */
struct timer {
    struct wheel_timer node; /* first */
    void (*fire)(struct timer *timer);
};

/* Room beside the peer's own fields for those that we add. */
#define HEAD_ROOM 4096

enum client_state {
    CLIENT_HANDSHAKE,
    CLIENT_IDLE,
    CLIENT_HEAD,
    CLIENT_BUSY,
    CLIENT_LINGER,
    CLIENT_TUNNEL,
    CLIENT_STATES
};

struct worker {
    struct service *service; /* what the workers share; not owned */
    int index;
    pthread_t thread;
    struct event_base *base;
    struct mailbox box;
    struct stop_letter {
        struct letter letter;
        _Atomic bool posted;
    } stop_letter[2];   /* to finish; to cut */
    struct event *tick; /* drives the wheel */
    tick_t tick_due;    /* when `tick` is set to fire; TICK_NEVER when it is not */
    struct wheel *wheel;
    tick_t now;        /* 0 = not read yet in this turn: use worker_now() */
    tick_t end;        /* the clock at an end of a request in this turn: worker_end() */
    unsigned ends;     /* how many asked for it in this turn */
    tick_t plain_due;  /* when to look at a text that came uncompressed again */
    tick_t name_known; /* when the upstream's addresses came here first; 0: not yet */
    int64_t wall;      /* unix seconds, likewise */
    char date[32];     /* `wall` as IMF-fixdate */
    int64_t date_of;   /* the second that `date` shows */
    tick_t offset;     /* unix nanoseconds less `now`, as of the second offset_of */
    int64_t offset_of;
    struct rng rng;
    struct settings *settings; /* the snapshot for new requests; a reference */
    struct listener *listener;
    struct pool *pool;
    struct metrics_block *metrics;
    struct worker_log *log;
    struct admit_memo credential; /* the newest client's */

    struct block_pool blocks;
    struct block *scratch;     /* where reads go; see worker_scratch() */
    char *down_head, *up_head; /* where heads are put together; head_size bytes each */
    size_t head_size;
    char *lines;          /* field lines being rewritten; head_size bytes */
    struct field *fields; /* the table of the head being parsed */
    uint16_t field_max;
    struct gather down, up; /* bytes gathered in this turn, for one client and one upstream */

    struct client *clients[CLIENT_STATES]; /* every client sits on the list of its state */
    unsigned client_count[CLIENT_STATES];
    struct client *resume; /* clients with saved input to look at when the turn ends */
    struct exchange *free_exchanges;
    unsigned exchanges;      /* alive */
    bool served;             /* a request began in this turn */
    struct ahead_desk *desk; /* of exchange_ahead.c; NULL: nothing yet */
    unsigned told;           /* requests that it is to learn from when the turn ends */
    _Atomic bool left;       /* the loop is over */
    bool stopping;           /* finish what is in flight, then leave the loop */
    bool leaving; /* another process accepts now: clients are told to close with their next answer */
};

/* Nanoseconds on the monotonic clock, read once a turn. */
void worker_read_now(struct worker *w);
static inline tick_t worker_now(struct worker *w)
{
    if (w->now == 0)
        worker_read_now(w);
    return w->now;
}

/*
 * The clock at the end of a request that began in this same turn, which worker_now() would call
 * instantaneous: read at the first such end of a turn and at every fourth from there; those in between take
 * the reading before theirs, and so seem shorter by what up to three requests take.
 */
void worker_read_end(struct worker *w);
static inline tick_t worker_end(struct worker *w)
{
    if (w->ends++ % 4 == 0)
        worker_read_end(w);
    return w->end;
}

/* Unix seconds, read once a turn. / The same as a Date value (29 bytes). */
int64_t worker_wall(struct worker *w);
struct slice worker_date(struct worker *w);
/* Unix nanoseconds at worker_now(). */
tick_t worker_wall_ns(struct worker *w);

/* The block for the next read, with nobody else holding it. NULL: no memory. */
struct block *worker_scratch(struct worker *w);

/* Sets or pushes back a timer, and the loop's tick with it. */
void worker_move_timer(struct worker *w, struct timer *timer, tick_t due);
static inline void worker_set_timer(struct worker *w, struct timer *timer, tick_t due)
{
    if (!wheel_push_back(&timer->node, due))
        worker_move_timer(w, timer, due);
}

/* It does not fire, but may lie in the wheel until its time: for one that is set again soon. / It does not,
 * and its memory may go away. */
static inline void worker_rest_timer(struct timer *timer)
{
    timer->node.due = TICK_NEVER;
}
void worker_cancel_timer(struct worker *w, struct timer *timer);

/* Makes a worker (not yet running) that listens on listen_fd, which it takes over, and begins with a
 * reference of its own on p. NULL: no memory or descriptors; errno says. */
struct worker *worker_new(struct service *service, int index, int listen_fd, struct publication *p);
/* Before it runs: one more socket. False: no memory, fd stays the caller's. */
bool worker_listen(struct worker *w, int fd) MUSTCHECK;
bool worker_start(struct worker *w) MUSTCHECK;
/* On the worker's own thread: accepts no more, serves the clients that are there until they close. */
void worker_leave(struct worker *w);
/* From any thread: the worker accepts no more, finishes what is in flight and leaves the loop; `force` cuts
 * what is in flight. Needs no memory, so that it cannot be lost. */
void worker_stop(struct worker *w, bool force);
/* From any thread. */
void worker_post(struct worker *w, struct letter *letter);
/* After the thread was joined. */
void worker_free(struct worker *w);

/* Clients in all states. */
unsigned worker_clients(const struct worker *w);

#endif
