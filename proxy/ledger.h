/*
 * One budget for all sidecars that share an API key, kept in a Redis server. A thread of its own tells Redis
 * every tenth of a second what this sidecar has used of each window and wants, hears what the others have,
 * and gives the governors (admit.h) what is theirs: calls are let go from what was granted before, so no
 * request ever waits for Redis. Out of touch, each sidecar lives on its even part by the number that was seen
 * last.
 *
 * Redis sees a hash of the credential, keyed with the upstream's origin, and numbers.
 */
#ifndef PROXY_LEDGER_H
#define PROXY_LEDGER_H

#include "policy/base.h"

struct admit;
struct ledger;
struct log;
struct view;

struct ledger_options {
    const char *url;     /* redis_url.h */
    struct slice origin; /* of the upstream: a key's limits are limits there */
    struct admit *admit; /* outlives the ledger */
    struct log *log;
    uint64_t seed;
};

/* Everything but the thread; before the first request. NULL with a sentence in err: the URL is wrong, a file
 * of it cannot be read, no memory. */
struct ledger *ledger_new(const struct ledger_options *options, char *err, size_t err_size) MUSTCHECK;

/* Starts the thread, which connects by itself. False: no thread (errno). Once. */
bool ledger_start(struct ledger *l) MUSTCHECK;

/* Gives back what is held, as far as Redis answers at once, and ends the thread. When nobody asks for
 * admission any more. NULL is fine. */
void ledger_stop(struct ledger *l);

/* For the admin port. Any thread. */
void ledger_show(struct ledger *l, struct view *v);

#endif
