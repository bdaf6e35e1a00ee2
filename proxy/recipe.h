/*
 * How to ask again: for each place in the cache the request that brought its answer, without its client. Kept
 * in two parts, since an application sends the same fields with all its requests: *sets of fields*, of which
 * few are kept, and *paths*, each with the set that it was asked with.
 *
 * A set may hold a client's credential: sets are left out of core dumps, and wiped when they are given up.
 * What is found for a place was recorded under that place's partition, so with the credential of the same.
 *
 * Bounded memory. Single owner: the caller locks.
 */
#ifndef PROXY_RECIPE_H
#define PROXY_RECIPE_H

#include "policy/hash.h"
#include "policy/head.h"
#include "proxy/store.h"

enum {
    RECIPE_PATH = 208,   /* bytes of path and query; longer ones are not recorded */
    RECIPE_FIELDS = 40,  /* fields of a set; requests with more are not recorded */
    RECIPE_BYTES = 1536, /* of the names and values of a set; likewise */
    RECIPE_SETS = 64,    /* sets; the one unused longest gives way */
    RECIPE_PATHS = 4096  /* paths; likewise within a group of four */
};

/* A request to be sent. `head` points into this very object: it is filled in place, and not to be moved. */
struct recipe {
    struct store_key key;
    struct head head; /* GET, without a body */
    struct field fields[RECIPE_FIELDS];
    char bytes[RECIPE_PATH + RECIPE_BYTES + 4];
};

struct recipes; /* private */

/* NULL: out of memory. The key is secret. */
struct recipes *recipes_new(struct hash_key key) MUSTCHECK;
void recipes_free(struct recipes *r); /* wipes; NULL is harmless */

/*
 * The request `head` brought the answer that is stored under `key`. Of its fields those are kept that say
 * what is wanted and by whom: not what is this message's or this connection's own (conditions, ranges, wishes
 * of caching, ids, traces, signatures), nor those in `without` (FIELD_BIT). Nothing is recorded of anything
 * but a GET without a body, nor of what is too large.
 */
void recipes_learn(struct recipes *r, const struct store_key *key, const struct head *head, uint64_t without);

/* The place whose first half this is; NULL: not recorded, or its fields are forgotten. */
const struct hash128 *recipes_place(const struct recipes *r, uint64_t place_lo);

/* The request for that place. False: not recorded. */
bool recipes_find(struct recipes *r, uint64_t place_lo, struct recipe *out) MUSTCHECK;

/* The credential of this partition was refused: forgets all that was asked with it. */
void recipes_forget(struct recipes *r, struct hash128 partition);

/* Bytes allocated; and paths recorded. */
size_t recipes_bytes(const struct recipes *r);
size_t recipes_count(const struct recipes *r);

#endif
