/*
 * Who is behind a request, for levels that outlive the process or are shared with others: keys and names that
 * only who has the credential can derive. The credential goes into one key derivation and is kept nowhere.
 */
#ifndef PROXY_PERSONS_H
#define PROXY_PERSONS_H

#include "policy/hash.h"
#include "proxy/seal.h"

struct persons;
struct store;
struct store_request;

/* Whoever asks, as a level knows them. */
struct person {
    struct hash128 partition; /* in this process */
    struct hash128 id;        /* in the level; tells nothing of the credential */
    struct seal_key root;
    uint64_t used; /* 0: empty */
    bool nameless; /* with more credential fields than are reckoned with: nothing of theirs is kept */
};

/* `origin` of the upstream: who asks nobody in particular has a root for each upstream, that anybody can
 * derive. The sealer and the store outlive it. NULL: no memory. */
struct persons *persons_new(const struct sealer *sealer, struct store *store, struct slice origin) MUSTCHECK;
void persons_free(struct persons *persons); /* NULL is fine */

/* Copies whom a request is of, who has this partition, or this id. Any thread. False: nobody known. */
bool persons_asking(struct persons *p, const struct store_request *request, struct person *out) MUSTCHECK;
bool persons_in(struct persons *p, struct hash128 partition, struct person *out) MUSTCHECK;
bool persons_by_id(struct persons *p, struct hash128 id, struct person *out) MUSTCHECK;

/* Somebody was given up for another, of whom memory or a level may still have something. */
bool persons_forgot(const struct persons *p);

/* The secret name of a path of a person; never 0. False: no memory. */
bool persons_name_path(struct persons *p, const struct person *person, struct slice path,
                       struct hash128 *name) MUSTCHECK;

/* The secret name of what a request asks for; 0: it has none. */
void persons_name_of(struct persons *p, const struct store_request *request, struct hash128 *name);

/* What requests select by Vary is hashed with this key, the same in all processes of an upstream. False: no
 * memory. */
bool persons_vary_key(const struct sealer *sealer, struct slice origin, struct hash_key *out) MUSTCHECK;

#endif
