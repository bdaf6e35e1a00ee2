/*
 * What all workers know together about what will be asked for next: the successor tables and gates of
 * policy/prefetch, how to ask again (recipe.h), the budget of refreshes ahead, and counts. Every function may
 * be called by any thread. One short lock; nothing of it is ever waited for by a request of a client that is
 * answered from the cache: what a worker has to tell is gathered, and told when the lock is free.
 *
 * Order of locks: this one, then a shard's of the store.
 */
#ifndef PROXY_AHEAD_H
#define PROXY_AHEAD_H

#include "policy/hash.h"
#include "policy/refresh.h"
#include "proxy/recipe.h"

struct ahead;
struct config;
struct store;
struct view;

/* NULL: out of memory. Borrows the store, which must outlive it. `key` is secret. */
struct ahead *ahead_new(struct store *store, const struct config *cfg, struct hash_key key);
void ahead_free(struct ahead *a); /* NULL is harmless */

/* New rules, live. What was learnt stays. */
void ahead_tune(struct ahead *a, const struct config *cfg);

/* Is anything fetched ahead? A relaxed load, for the way of every request. */
bool ahead_on(const struct ahead *a);

/* A request of a client for something that the cache may answer. */
struct ahead_event {
    uint64_t client; /* whose sequence it is part of */
    uint64_t key;    /* the place's `lo` */
    uint64_t
        before;  /* the client's key before it, when this is the first that is told under `client`; else 0 */
    bool missed; /* the upstream had to be asked */
    bool fetched_ahead; /* the answer was guessed at, and this is its first read */
    bool renewed;       /* the answer was refreshed ahead, and this is its first read */
};

#define AHEAD_BUSY UINT32_MAX

/*
 * Learns from the events, in their order. Gives the requests that will likely come next and whose answers are
 * not there, at most `max` of them; asking costs no budget. AHEAD_BUSY: the lock is taken, nothing is done.
 * *cool: the cache has answered everything lately, and all by itself, so that nothing is guessed, and further
 * events of that kind need not be told at once.
 */
unsigned ahead_learn(struct ahead *a, const struct ahead_event *events, unsigned count, tick_t now,
                     struct recipe *out, unsigned max, bool *cool);

/* May the guess be fetched? True takes from its budget. */
bool ahead_issue(struct ahead *a, uint64_t key, tick_t now) MUSTCHECK;
/* One that was issued brought nothing. */
void ahead_failed(struct ahead *a, uint64_t key);

/* The same for a refresh ahead. */
bool ahead_renew(struct ahead *a) MUSTCHECK;

/* The request that brought an answer: as recipes_learn. Unless `patient` it is passed over when the lock is
 * taken. */
void ahead_keep(struct ahead *a, const struct store_key *key, const struct head *head, uint64_t without,
                bool patient);
/* The request for a place. */
bool ahead_recipe(struct ahead *a, uint64_t place_lo, struct recipe *out) MUSTCHECK;
/* A credential was refused: nothing is asked with it any more. */
void ahead_refused(struct ahead *a, struct hash128 partition);

/* Why something was not fetched ahead. */
enum ahead_hold {
    AHEAD_HELD_CIRCUIT, /* a circuit is not closed */
    AHEAD_HELD_SPARE,   /* no quota or no place at the upstream to spare */
    AHEAD_HELD_POOL,    /* clients need the connections */
    AHEAD_HELD_FLYING,  /* as many as may be are under way */
    AHEAD_HELD_BUDGET,  /* cache.prefetch_max_load */
    AHEAD_HOLDS
};
void ahead_held(struct ahead *a, enum ahead_hold why, tick_t now);
uint64_t ahead_held_count(const struct ahead *a); /* for all reasons */

/* Fetches ahead under way over all workers: takes a place below `max`; gives it back. */
bool ahead_take_off(struct ahead *a, unsigned max) MUSTCHECK;
void ahead_land(struct ahead *a);

/* What became of what was fetched ahead, summed by the caller from the workers' counters and the store. */
struct ahead_counts {
    uint64_t issued, used, hits, wasted;
    uint64_t renew_issued, renew_used, renew_wasted;
};
/* For the admin port: members of the object that is open in v. */
void ahead_show(struct ahead *a, struct view *v, const struct ahead_counts *counts, tick_t now);

#endif
