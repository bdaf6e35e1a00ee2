/*
 * Which stored entry goes first: an index over nodes that live inside the caller's entries. It knows no keys,
 * only a hash, a size and a cost. Single owner: the caller locks; only evict_hit_shared may be called by many
 * at once.
 *   lru         by last use
 *   fifo        by age of insertion
 *   lfu         by use count, aged: a new entry starts at the level of the last one that was evicted
 *   adaptive    the rule that a tuner found best in miniature (tuner.h): S3-FIFO with any share for its small
 *               queue (Yang et al., SOSP'23), the same with a TinyLFU duel for admission (Einziger et al.,
 *               2017), lru, or value by frequency, cost and size (GDSF, Cherkasova, HPL-98-69R1); S3-FIFO
 *               with a tenth where there is no tuner
 *   predictive  as adaptive; what was prefetched stays on probation
 */
#ifndef POLICY_EVICT_H
#define POLICY_EVICT_H

#include "policy/base.h"

enum evict_strategy { EVICT_LRU, EVICT_LFU, EVICT_FIFO, EVICT_ADAPTIVE, EVICT_PREDICTIVE };

/* Embedded in an entry. All zero before it is inserted. */
struct evict_node {
    struct evict_node *prev, *next; /* private; next is NULL when not in an index */
    uint64_t hash;                  /* of the key: set by evict_insert; even in all its bits */
    uint32_t size;                  /* in units of 64 bytes, at least 1 */
    float cost;                     /* of fetching it again, in any unit */
    uint32_t at;                    /* private: lfu's level, a place in the heap */
    uint8_t hits;                   /* since it was last looked at; lfu: all */
    uint8_t uses;                   /* all that were looked at, up to 255 */
    uint8_t queue, credit;          /* private */
};

/* A request as the policies see it. */
struct evict_item {
    uint64_t hash;  /* even in all its bits, and not to be guessed by outsiders */
    uint64_t bytes; /* that it takes from the limit */
    float cost;     /* of fetching it, e.g. in seconds; 1 when unknown. Not above 0 counts as 1 */
    bool guessed;   /* was prefetched: nobody asked for it yet */
};

/* How adaptive decides. */
enum evict_kind { EVICT_S3, EVICT_DUEL, EVICT_VALUE, EVICT_RECENT };
struct evict_rule {
    enum evict_kind kind;
    unsigned share; /* of the small queue, in percent of all; 0: all enter the main queue. RECENT: of what was
                       guessed alone. VALUE: 100 by the cost, less by its square root */
    unsigned margin; /* DUEL: by so many uses must the newcomer lead */
};

/* A rule in one word, for a place that one thread writes and others read; 0 = no rule yet. */
typedef uint32_t evict_advice;
evict_advice evict_advice_of(struct evict_rule rule);

struct evict_index; /* private */

/*
 * An empty index that is expected to hold about `expected` entries. `advice` (may be NULL; outlives the
 * index) holds the rule that adaptive follows. NULL: out of memory. Freed by evict_free (nodes stay the
 * caller's).
 */
struct evict_index *evict_new(enum evict_strategy strategy, size_t expected, const evict_advice *advice);
void evict_free(struct evict_index *index);

/* Changes the strategy in place; entries stay, in the order of their queues. O(entries). */
void evict_set_strategy(struct evict_index *index, enum evict_strategy strategy);

void evict_insert(struct evict_index *index, struct evict_node *node, const struct evict_item *item);

/* Takes a node out for any reason but eviction. Harmless when it is in no index. */
void evict_remove(struct evict_index *index, struct evict_node *node);

/* The entry was used. */
void evict_hit(struct evict_index *index, struct evict_node *node);

/* The same, by any number of threads at once, while none is in a call that changes the index or the entry:
 * at most one relaxed load and store. False: this strategy (lru, lfu, adaptive while it follows lru) needs
 * the owner's evict_hit. */
bool evict_hit_shared(const struct evict_index *index, struct evict_node *node);

/* Which limit is there a need for room under? It decides whether an entry weighs its bytes, or one. */
enum evict_need { EVICT_NEED_BYTES, EVICT_NEED_ENTRIES };

/* Chooses the entry that should go, takes it out and gives it; NULL when the index is empty. Amortised O(1),
 * O(log entries) under the rule of value. */
struct evict_node *evict_pop(struct evict_index *index, enum evict_need need) MUSTCHECK;

/* A new version takes the place of an old one: the node of `next` stands where `old` stood, with its history.
 * A cost not above 0 leaves the old one's. */
void evict_replace(struct evict_index *index, struct evict_node *old, struct evict_node *next, uint64_t bytes,
                   float cost);

size_t evict_count(const struct evict_index *index);

/* Bytes allocated by the index, nodes not included. */
size_t evict_memory(const struct evict_index *index);

#endif
