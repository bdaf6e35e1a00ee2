/*
 * What the files of eviction share. Invariants: a node is in exactly one list, or in the heap, as its `queue`
 * says (for lfu also `at`), or in nothing and then its `next` is NULL; lists are circular, newest first; a
 * list's weight and count are the sums over it; a node in the heap has `next` pointing to itself and `at` its
 * place.
 */
#ifndef POLICY_EVICT_PRIVATE_H
#define POLICY_EVICT_PRIVATE_H

#include "policy/evict.h"

enum { QUEUE_MAIN, QUEUE_SMALL, QUEUE_LEVELS, QUEUE_HEAP };

enum {
    EVICT_LEVELS = 256, /* of lfu: a level is a priority, modulo this */
    EVICT_USES_MAX = 255,
    EVICT_UNIT = 64 /* bytes */
};

struct evict_list {
    struct evict_node head; /* head.next is the newest, head.prev the oldest */
    uint64_t weight;
    size_t count;
};

/* lfu's lists, counted in main. */
struct evict_levels {
    struct evict_node lists[EVICT_LEVELS];
    uint64_t used[EVICT_LEVELS / 64]; /* which of them are not empty */
    unsigned base;                    /* level of the last victim */
};

/* ---- evict_ghost.c: hashes that were evicted a short while ago ---- */

struct evict_print {
    uint16_t print; /* 0: empty */
    uint16_t when;  /* in evictions, shifted */
};

struct evict_ghost {
    struct evict_print *prints; /* NULL when there was no memory: then nothing is remembered */
    size_t size;                /* power of two */
    uint64_t clock;             /* evictions */
    unsigned shift;             /* of the clock, to make `when` */
};

/* Room for `count` hashes; what was remembered is forgotten when it grows. Without memory it stays. */
void ghost_reserve(struct evict_ghost *ghost, size_t count);
void ghost_remember(struct evict_ghost *ghost, uint64_t hash);

/* Was it evicted not more than `capacity` evictions ago? Forgets it. */
bool ghost_take(struct evict_ghost *ghost, uint64_t hash, size_t capacity);

/* ---- evict_sketch.c: how often was a hash seen, about ---- */

/* A count-min sketch of four rows with aging: counters of 4 bits, halved each time ten requests an entry were
 * counted (TinyLFU: Einziger, Friedman, Manes, ACM ToS 2017). */
struct evict_sketch {
    uint64_t *words; /* 16 counters each; NULL when there was no memory: then all is 0 */
    size_t size;     /* power of two */
    uint64_t counted, period;
};

/* Counters for `count` entries; forgets when it grows. Without memory it stays. */
void sketch_reserve(struct evict_sketch *sketch, size_t count);
void sketch_add(struct evict_sketch *sketch, uint64_t hash, unsigned times);
unsigned sketch_estimate(const struct evict_sketch *sketch, uint64_t hash);

/* ---- the index ---- */

struct heap_slot {
    double rank;
    struct evict_node *node;
};

struct evict_index {
    enum evict_strategy strategy;
    struct evict_rule rule;     /* of adaptive */
    const evict_advice *advice; /* NULL: the rule stays */
    evict_advice followed;      /* the advice that `rule` is */
    bool by_count;              /* an entry weighs one */
    bool evicted;               /* anything yet */
    struct evict_list main, small;
    struct evict_levels *levels; /* NULL unless lfu was used */
    struct heap_slot *heap;      /* least rank first, four children each */
    size_t heap_count, heap_room;
    double inflation; /* rank of the last victim */
    struct evict_ghost ghost;
    struct evict_sketch own;
    struct evict_sketch *sketch; /* own, or one that somebody else feeds */
};

static inline bool evict_adapts(const struct evict_index *index)
{
    return index->strategy == EVICT_ADAPTIVE || index->strategy == EVICT_PREDICTIVE;
}

static inline uint32_t evict_weight(const struct evict_index *index, const struct evict_node *node)
{
    return index->by_count ? 1 : node->size;
}

/* ---- evict.c: lists ---- */

void evict_place(struct evict_index *index, struct evict_node *node, uint8_t queue);
void evict_unplace(struct evict_index *index, struct evict_node *node);

/* ---- evict_adaptive.c ---- */

void adaptive_insert(struct evict_index *index, struct evict_node *node, bool guessed);
/* A use under the rule RECENT. */
void adaptive_hit(struct evict_index *index, struct evict_node *node);
struct evict_node *adaptive_pop(struct evict_index *index);

/* Takes up a new rule; entries are moved only when the heap comes or goes. */
void adaptive_set_rule(struct evict_index *index, struct evict_rule rule);

/* ---- evict_heap.c: the rule of value ---- */

/* False: no memory; the node was not put in. */
bool heap_insert(struct evict_index *index, struct evict_node *node) MUSTCHECK;
void heap_remove(struct evict_index *index, struct evict_node *node);
void heap_moved(struct evict_index *index, struct evict_node *node);
struct evict_node *heap_pop(struct evict_index *index);

/* Folds the hits since the last look into `uses`; returns how many there were. */
unsigned evict_look(struct evict_node *node);

#endif
