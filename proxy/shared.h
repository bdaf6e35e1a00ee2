/*
 * What sidecars share through a Redis server: stored answers (a level below memory) and purges. A thread of
 * its own does all of it; whoever asks it something waits for a letter, and not longer than it likes. Redis
 * slow, full, away or lying costs hits, never a request: a command has a time limit, and a breaker takes the
 * level out while it fails.
 *
 * Redis sees no credential, no path and no content. From the credential of a request a key is derived that
 * only who has the credential can derive; from that and the path a secret name; from that the name in Redis,
 * and the key that the value is sealed with. What Redis gives back under a name and was not sealed with that
 * name's key is not believed.
 */
#ifndef PROXY_SHARED_H
#define PROXY_SHARED_H

#include "policy/base.h"
#include "proxy/level.h"

struct log;
struct shared;
struct view;

struct shared_options {
    const char *url;     /* redis_url.h */
    struct slice origin; /* of the upstream: sidecars of different upstreams share nothing */
    struct store *store;
    struct log *log;
    uint64_t seed;
};

/*
 * Everything but the thread. Nothing waits for Redis. NULL with a sentence in err: the URL is wrong, a file
 * of it cannot be read, no memory.
 */
struct shared *shared_new(const struct shared_options *options, char *err, size_t err_size) MUSTCHECK;

/* Starts the thread, which connects by itself and drops from the store what other sidecars have dropped: the
 * store knows all its levels by then. False: no thread (errno). Once. */
bool shared_start(struct shared *s) MUSTCHECK;

/* Before the first request: the level, and that the store hashes Vary as the others do. */
void shared_level(struct shared *s, struct level *out);

/* Ends the thread and answers all looks. When nobody asks any more and mailboxes still stand. NULL is fine.
 */
void shared_stop(struct shared *s);

/* Counts, only growing. Any thread. */
struct shared_stats {
    uint64_t hits, misses, failures; /* looks by their end; failures: no answer in time, or an error */
    uint64_t skipped;                /* looks not made: not connected, or the breaker open */
    uint64_t stores, store_failures; /* entries written; refused by Redis or lost */
    uint64_t too_large;              /* entries not offered */
    uint64_t damaged;                /* values that were not what they should be: thrown away */
    uint64_t purged;                 /* values not used because of a purge */
    uint64_t purges_sent, purges_heard;
    uint64_t connects;
};
void shared_stats(struct shared *s, struct shared_stats *out);

/* 0 closed, 1 half-open, 2 open; and whether looks are made at all just now. Any thread. */
int shared_circuit(struct shared *s);
bool shared_usable(struct shared *s);

/* For the admin port. Any thread. */
void shared_show(struct shared *s, struct view *v);

#endif
