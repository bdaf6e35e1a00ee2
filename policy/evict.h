/*
 * Which stored entry goes first: an index over nodes that live inside the caller's entries. It knows no bytes
 * and no keys, only a hash and a size; every operation is O(1). Single owner: the caller locks. lru       by
 * last use fifo      by age of insertion lfu       by use count, aged: a new entry starts at the level of the
 * last one that was evicted (LFU with dynamic aging) adaptive  S3-FIFO: a small queue on probation, a main
 * queue with reinsertion, a ghost of hashes
 */
#ifndef POLICY_EVICT_H
#define POLICY_EVICT_H

#include "policy/base.h"

enum evict_strategy { EVICT_LRU, EVICT_LFU, EVICT_FIFO, EVICT_ADAPTIVE, EVICT_PREDICTIVE };

/* Embedded in an entry. All zero before it is inserted. */
struct evict_node {
    struct evict_node *prev, *next; /* private; next is NULL when not in an index */
    uint64_t hash;                  /* of the key: set by evict_insert */
    uint32_t size;                  /* in units of 64 bytes, at least 1 */
    uint16_t level;                 /* private: lfu's priority */
    uint8_t queue;                  /* private */
    uint8_t hits;                   /* counts up to 3 or, for lfu, 255 */
};

struct evict_index; /* private to evict.c */

/* An empty index that is expected to hold about `expected` entries. NULL: out of memory. Freed by evict_free
 * (nodes stay the caller's). */
struct evict_index *evict_new(enum evict_strategy strategy, size_t expected);
void evict_free(struct evict_index *index);

/* Changes the strategy in place; entries stay, in the order of their queues. O(entries). */
void evict_set_strategy(struct evict_index *index, enum evict_strategy strategy);

void evict_insert(struct evict_index *index, struct evict_node *node, uint64_t hash, uint64_t bytes);

/* Takes a node out for any reason but eviction. Harmless when it is in no index. */
void evict_remove(struct evict_index *index, struct evict_node *node);

/* The entry was used. */
void evict_hit(struct evict_index *index, struct evict_node *node);

/* Chooses the entry that should go, takes it out and gives it; NULL when the index is empty. */
struct evict_node *evict_pop(struct evict_index *index) MUSTCHECK;

/* A new version takes the place of an old one: the node of `next` stands where `old` stood, with its history.
 */
void evict_replace(struct evict_index *index, struct evict_node *old, struct evict_node *next,
                   uint64_t bytes);

size_t evict_count(const struct evict_index *index);

#endif
