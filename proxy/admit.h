/*
 * Admission to the upstream, shared by all workers: the quota governor of each API key, and the concurrency
 * limit. The decisions are policy's; here they are locked, kept in a bounded table, and those who wait are
 * woken on their own thread. A place below the concurrency limit while nobody waits, and the quota of who
 * shows no key, cost a few atomic steps and no lock.
 */
#ifndef PROXY_ADMIT_H
#define PROXY_ADMIT_H

#include "policy/concurrency.h"
#include "policy/hash.h"
#include "policy/quota.h"

struct admit;
struct config;
struct view;

/* Most keys that are told apart; others share one governor. */
#define ADMIT_KEYS 256

/* What a request that asks embeds. Zero it before use. The locked members are admit.c's. */
struct admit_ticket {
    struct quota_waiter quota_wait;
    struct concurrency_waiter limit_wait;
    int key;           /* of the table; set by admit_quota. -1: of who shows none, and counted without it */
    struct hash128 id; /* of the key, so that a place that was given to another is not taken for it */
    bool has_quota;    /* let go, and not yet ended; locked */
    bool has_limit;    /* likewise */
    tick_t refused_at; /* woken without: when its turn would have come; locked */
    void (*wake)(struct admit_ticket *t); /* called under a lock, from any thread: post a letter and return */
};

/* NULL: no memory. `wall`: unix nanoseconds at `now`. */
struct admit *admit_new(const struct config *cfg, struct hash_key hash, tick_t now, int64_t wall);
void admit_free(struct admit *a);

/* New rules, live. */
void admit_tune(struct admit *a, const struct config *cfg, tick_t now);

/* A worker's memory of the newest credential, so that a connection's next request need not hash it again.
 * Zero it before use. Not for a key that the sidecar holds: that is copied nowhere. */
struct admit_memo {
    struct hash128 id;
    uint16_t n; /* 0: nothing */
    char bytes[128];
};

enum admit_verdict { ADMIT_GO, ADMIT_WAIT, ADMIT_REFUSED };

struct admit_call {
    struct slice credential; /* who asks; hashed, not kept. Empty: no key, no limit of a key; counted, never
                                held back */
    uint64_t flow;           /* shares are fair between flows */
    tick_t deadline;
    bool background;
    int64_t wall;            /* unix nanoseconds */
    struct admit_memo *memo; /* the caller's own, or NULL */
};

/* Asks the key's governor. *at: WAIT: call admit_turn then; REFUSED: when its turn would have come. */
enum admit_verdict admit_quota(struct admit *a, struct admit_ticket *t, const struct admit_call *call,
                               tick_t *at, tick_t now) MUSTCHECK;

/* Asks for a place at the upstream. *at as above; REFUSED: about when to come again. */
enum admit_verdict admit_limit(struct admit *a, struct admit_ticket *t, tick_t deadline, tick_t *at,
                               tick_t now) MUSTCHECK;

/* Time has passed for a waiter, or it was woken: how does it stand now? `for_limit`: it asked admit_limit
 * last. */
enum admit_verdict admit_turn(struct admit *a, struct admit_ticket *t, bool for_limit, tick_t *at,
                              tick_t now) MUSTCHECK;

/* The call is over, or its answer has begun. Ends what the ticket holds, once; no harm when it holds nothing.
 */
void admit_end(struct admit *a, struct admit_ticket *t, enum outcome outcome,
               const struct quota_answer *answer, tick_t took, tick_t now);

/* Leaves all queues, and gives back what is held as never sent (or as sent, when sent_at > 0). */
void admit_leave(struct admit *a, struct admit_ticket *t, tick_t sent_at, tick_t now);

/*
 * May work that no client waits for (refresh, prefetch) go to the upstream now: is there quota to spare, and
 * a place? The credential as in admit_call; {NULL, 0} = who has none.
 */
bool admit_background_allowed(struct admit *a, struct slice credential, tick_t now);

/* ---- one budget for all sidecars that share a key (ledger.h) ---- */

/* Before the first request: the name by which others know who has this credential. False: it has none, and
 * its budget is not shared. */
typedef bool admit_name(void *arg, struct slice credential, struct hash128 *out);
void admit_share(struct admit *a, admit_name *name, void *arg);

/* So many sidecars are there, this one included, and whether what they use is known. */
void admit_sidecars(struct admit *a, int count, bool in_touch, tick_t now);

/* A key of which others may spend as well, as it stands. */
struct admit_part {
    int place; /* in the table */
    struct hash128 name;
    int count;
    struct quota_part part[QUOTA_WINDOWS];
    tick_t gate; /* nothing goes before; a refusal by the API closed it. 0: none */
    bool disguised;
};

/* The next one from *place on, which moves behind it; begin with 0. False: no more. */
bool admit_part_next(struct admit *a, int *place, struct admit_part *out, tick_t now);

struct admit_grant {
    int64_t calls, common; /* as in quota_granted; calls < 0: nothing new */
};

/* What was agreed on: one grant for each of p->part. `gate`: another was refused until then; 0 = no. */
void admit_granted(struct admit *a, const struct admit_part *p, const struct admit_grant *grant, tick_t gate,
                   bool disguised, tick_t now);

/* For the admin port: every key that is known, by a short hash. */
void admit_show(struct admit *a, struct view *v, tick_t now);

/* The least that is left in each kind of window over all keys; `count` of them at most. Returns how many. */
struct admit_left {
    const char *window;
    int64_t left;
    double share; /* the least share of a limit that is left; NAN: all of them are only assumed */
};
int admit_left(struct admit *a, struct admit_left *out, int count, tick_t now);
int admit_concurrency_limit(struct admit *a);
/* Requests at the upstream now. */
int admit_in_flight(struct admit *a);

#endif
