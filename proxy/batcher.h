/*
 * What is known about batches, and the misses that wait to become one: shared by all workers, one short lock,
 * taken only by misses of get_prompt and by batch_get while batching.enabled is set.
 *
 * A *kind* is all requests that may go together: one credential, one project, one set of request fields,
 * hashed with a key of this process. Proofs, pauses and gathers belong to a kind; nothing passes from one to
 * another.
 */
#ifndef PROXY_BATCHER_H
#define PROXY_BATCHER_H

#include <stdatomic.h>

#include "policy/batch.h"
#include "policy/hash.h"
#include "proxy/batch_json.h"
#include "proxy/mailbox.h"

struct batcher;
struct batch_kind;
struct exchange;
struct log;
struct view;

#define BATCH_KINDS      256 /* most that are known; the one that was not used for longest is forgotten */
#define BATCH_CANDIDATES 8   /* prompts kept in mind to be compared */

/* NULL: out of memory. `log` may be NULL. */
struct batcher *batcher_new(struct hash_key key, struct log *log);
void batcher_free(struct batcher *b);

/* Hashes what makes a kind; anything may be fed. */
void batcher_hash(const struct batcher *b, struct hash_state *out);

/* Finds it or makes it; the caller's reference. NULL: no memory, or all are in use. */
struct batch_kind *batcher_kind(struct batcher *b, struct hash128 id, tick_t now);
void batcher_leave(struct batcher *b, struct batch_kind *k); /* NULL is fine */

/* ---- misses that wait ---- */

/* One answer's head, shared by those whom it is given to. */
struct batch_result;

/* A miss that waits. Its letter comes exactly once, after batcher_close gave it to the host. */
struct batch_seat {
    struct letter letter; /* first */
    struct mailbox *to;
    struct exchange *x; /* of its own thread; NULL: nobody waits any more */
    struct batch_seat *next;
    struct batch_wanted *wanted; /* its place in the batch that was sent; the host's */
    _Atomic bool left;           /* as x == NULL, for other threads */
    struct batch_result *result; /* NULL: go singly */
    struct text body;
    tick_t sent; /* when the batch was */
    struct slice id;
    char id_bytes[BATCH_ID_MAX];
};

/* The batch to be. Its host is the exchange that will send it, on the worker where it was opened. */
struct batch_gather {
    struct batch_kind *kind; /* a reference */
    struct batch_seat *first, **last;
    unsigned count, most;
    bool tight; /* for one of them there was no quota, or no place, to spare */
    void *host; /* worker */
};

enum batch_choice {
    BATCH_ALONE,  /* go singly, and call batcher_alone_over in the end */
    BATCH_WAITS,  /* the seat is taken, and waits */
    BATCH_FILLED, /* likewise, and it was the last one on this host: send at once, *gather */
    BATCH_OPENS   /* nobody waits yet: batcher_open, or batcher_alone */
};

struct batch_miss {
    bool tight; /* see batch_facts */
    void *host; /* the worker */
    struct batch_seat *seat;
};

/* What is to become of a miss. */
enum batch_choice batcher_miss(struct batcher *b, struct batch_kind *k, const struct batch_miss *miss,
                               struct batch_gather **gather, tick_t now);

/* Opens `gather`, zeroed but for host and most, with its first seat; others may join it from now on. */
void batcher_open(struct batcher *b, struct batch_kind *k, struct batch_gather *gather,
                  const struct batch_miss *miss);

/* How many have joined so far, and whether it was tight for one of them. */
unsigned batcher_gathered(struct batcher *b, struct batch_gather *gather, bool *tight);

/* Nobody joins any more: the seats are the caller's, who gives each its letter. Once. */
void batcher_close(struct batcher *b, struct batch_gather *gather);

/* A miss goes singly; it is over, and its answer was stored or not. */
void batcher_alone(struct batcher *b, struct batch_kind *k);
void batcher_alone_over(struct batcher *b, struct batch_kind *k, struct slice id, bool stored);

/* ---- proofs ---- */

/* What a form of the kind is known to look like; references of the caller's, given back by batch_known_drop.
 */
struct batch_known {
    struct batch_shape *single, *item; /* NULL: nothing is known */
    struct hash128 fields;             /* of the answers' heads */
    struct batch_envelope envelope;
    bool has_envelope;
    bool to_single, to_item; /* proven */
    bool refuted;            /* to_single is, and is not to be looked at again yet */
};
void batcher_known(struct batcher *b, struct batch_kind *k, unsigned form, struct batch_known *out,
                   tick_t now);
void batch_known_drop(struct batch_known *known);

/* Prompts to be compared now, by one call for all: their ids, at most BATCH_CANDIDATES. 0: none, or one is
 * under way. Else with a reference on the kind, and to be ended with batcher_compared_all. `urgent`: nothing
 * is proven yet. */
struct batch_candidates {
    unsigned count;
    bool urgent;
    char ids[BATCH_CANDIDATES][BATCH_ID_MAX];
    uint8_t lengths[BATCH_CANDIDATES];
};
unsigned batcher_candidates(struct batcher *b, struct batch_kind *k, struct batch_candidates *out,
                            tick_t now);
void batcher_compared_all(struct batcher *b, struct batch_kind *k, bool answered, tick_t now);

/* Until it is known whether a difference is one, no batch of this kind stands for single answers; `item`: nor
 * single ones for a batch. The first takes a reference, the caller's. */
void batcher_suspect(struct batcher *b, struct batch_kind *k, bool item);
void batcher_trust(struct batcher *b, struct batch_kind *k, bool item);

/* One prompt was compared in this form, with this outcome. `seen`: what the two looked like, taken over by
 * reference where nothing was known. `why`: for the log, when they differ. */
struct batch_comparison {
    unsigned form;
    bool to_single, to_item;
    bool item_only; /* `to_single` is not known yet */
    struct batch_shape *single, *item;
    struct hash128 fields;
    const struct batch_envelope *envelope; /* NULL: it could not be learnt */
    const char *why;
};
void batcher_compared(struct batcher *b, struct batch_kind *k, const struct batch_comparison *c, tick_t now);

/* The API answers otherwise than what was compared: anew from the beginning. */
void batcher_unlike(struct batcher *b, struct batch_kind *k, unsigned form);

/* ---- batches ---- */

/* A batch for clients is over: so many prompts were asked for, so many answered from it. */
void batcher_batch_over(struct batcher *b, struct batch_kind *k, unsigned asked, unsigned answered,
                        tick_t now);
/* A client's own batch_get was answered, with so many prompts from the cache. */
void batcher_client_over(struct batcher *b, struct batch_kind *k, unsigned asked, unsigned stored);

/* Kinds that are refuted. Any thread. */
unsigned batcher_refuted(struct batcher *b);
/* For the admin port. */
void batcher_show(struct batcher *b, struct view *v, tick_t now);

#endif
