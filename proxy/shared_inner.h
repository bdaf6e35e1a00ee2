/*
 * What the files of the shared level share among themselves; nobody else includes this.
 *
 * Threads: all but what is said otherwise belongs to the thread of the level. `lock` guards the inbox and the
 * pending purges.
 */
#ifndef PROXY_SHARED_INNER_H
#define PROXY_SHARED_INNER_H

#include <pthread.h>
#include <stdatomic.h>

#include "policy/breaker.h"
#include "policy/rng.h"
#include "proxy/mailbox.h"
#include "proxy/persons.h"
#include "proxy/redis.h"
#include "proxy/redis_place.h"
#include "proxy/seal.h"
#include "proxy/shared.h"
#include "proxy/store.h"

struct event;
struct event_base;

enum {
    SHARED_KEY_MAX = 96,         /* bytes of a name in Redis */
    SHARED_VALUE_MAX = 1 << 20,  /* bytes of a body that is offered to the others */
    SHARED_JOBS_MAX = 1024,      /* waiting for the thread */
    SHARED_JOB_BYTES = 16 << 20, /* of bodies in them */
    SHARED_LOOKS_MAX = 512,      /* under way; more are not made */
    SHARED_PENDING_MAX = 256,    /* purges that Redis has not confirmed */
    SHARED_PURGES_KEPT = 1024,   /* purges by tag, path, prefix, of all, of a credential: in Redis and here */
    SHARED_PLACES_KEPT = 512,    /* purges of one place */
    SHARED_PURGE_TEXT = 16 << 10 /* bytes of a path or a tag; a longer one purges all */
};

#define SHARED_LOOK_TIMEOUT  (50 * TICK_MS)
#define SHARED_PATIENCE      (60 * TICK_MS)
#define SHARED_WRITE_TIMEOUT TICK_S
#define SHARED_TURN          (250 * TICK_MS) /* retries, probes */

/* A purge: waiting to be confirmed by Redis, or known to have happened. */
struct purge {
    struct purge *next; /* pending */
    uint64_t stamp;     /* in its stream; 0: not known yet */
    uint64_t serial;    /* ours; 0: of another sidecar */
    bool sent;
    enum level_drop_kind kind;
    struct hash128 who;
    bool sealed; /* of somebody unknown here: `text` is not readable, and matches all of theirs */
    size_t n;
    char text[];
};

enum job_kind { JOB_KEEP, JOB_DELETE, JOB_PURGE };

struct job {
    struct job *next;
    enum job_kind kind;
    struct hash128 name;
    struct entry *entry;      /* KEEP: a reference */
    struct hash128 partition; /* KEEP */
    uint64_t stamps[2];       /* KEEP: of the newest purges carried out when it was offered */
};

/* A ring of purges that were heard, oldest first. */
struct purge_log {
    struct purge *at[SHARED_PURGES_KEPT];
    unsigned first, count, most;
    char key[SHARED_KEY_MAX]; /* of the stream */
    char last[48];            /* id of the newest one heard, as Redis writes it */
    bool whole;               /* everything that is in the stream was heard */
    uint64_t floor;           /* before this one nobody knows what was purged */
};

enum { LOG_PURGES, LOG_PLACES };

struct shared_counts {
    _Atomic uint64_t hits, misses, failures, skipped, stores, store_failures, too_large, damaged, purged,
        purges_sent, purges_heard, connects;
};

struct shared {
    struct store *store;
    struct log *log;
    char *origin; /* with its length, a copy */
    size_t origin_n;
    char space[48]; /* in front of every key */
    uint64_t me;    /* this sidecar, in records of purges */
    struct sealer *sealer;
    struct redis_place place;
    pthread_t thread;
    bool running;
    struct event_base *base;
    struct mailbox box;
    struct event *turn;
    struct redis *ask, *tell, *hear;
    struct breaker_rules rules;
    struct breaker breaker;
    struct rng rng;
    bool probing, hearing;
    tick_t full_until; /* Redis had no room: nothing is written before */
    _Atomic bool usable;
    _Atomic int circuit;
    _Atomic int looking; /* looks under way */

    pthread_mutex_t lock;
    struct letter bell; /* posted when `rung` becomes true */
    bool rung, stopping;
    struct level_look *looks, *last_look;
    struct job *jobs, *last_job;
    unsigned job_count, pending_count;
    size_t job_bytes;
    struct purge *pending, *last_pending;
    uint64_t serial;
    char trouble[192]; /* for the admin port */

    struct purge_log logs[2];
    _Atomic uint64_t stamps[2]; /* carried out */

    struct persons *persons;
    struct shared_counts counts;
};

static inline void shared_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

tick_t shared_now(void);
int64_t shared_wall(void); /* unix milliseconds */

/* True on the level's own thread. */
bool shared_is_own(const struct shared *s);

/* Under the lock: wakes the thread. */
void shared_ring(struct shared *s);

/* Whether looks are made may have changed. */
void shared_judge(struct shared *s);

/* A look's command is over. */
void shared_report(struct shared *s, struct breaker_permit permit, bool good, tick_t took);

/* ---- shared_names.c ---- */

void shared_name_of(void *self, const struct store_request *request, struct hash128 *name);

/* The key of a name in Redis, and what seals its value. */
struct shared_place {
    char key[SHARED_KEY_MAX];
    size_t key_n;
    struct seal_key seal;
};
bool shared_place_of(struct shared *s, struct hash128 name, struct shared_place *out) MUSTCHECK;

/* The same for one of its variants. */
bool shared_variant_of(struct shared *s, const struct shared_place *place, uint64_t generation,
                       const struct vary_key *vary, struct shared_place *out) MUSTCHECK;

/* ---- shared_entries.c ---- */

bool shared_look(void *self, struct level_look *look);
void shared_keep(void *self, struct entry *entry, const struct store_key *key, struct hash128 name);
void shared_ask_for(struct shared *s, struct level_look *look); /* the thread's part of a look */
void shared_write(struct shared *s, const struct job *job);     /* the thread's part of KEEP */
void shared_delete(struct shared *s, const struct job *job);

/* ---- shared_purge.c ---- */

void shared_drop(void *self, const struct level_drop *drop);

/* Was what has this note, path and tags purged since? */
struct packed;
bool shared_was_purged(struct shared *s, const struct packed *packed);

void shared_hear(struct shared *s);         /* reads on, unless it is waiting for an answer */
void shared_tell_pending(struct shared *s); /* sends what was not confirmed */
bool shared_hears(const struct shared *s);
void shared_purge_dispose(struct shared *s);

#endif
