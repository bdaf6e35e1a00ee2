/*
 * Eviction. Invariants: a node is in exactly one list, the one that `queue` (and, for lfu, `level`) names, or
 * in none and then its `next` is NULL; lists are circular, newest first; a part's weight and count are the
 * sums over its list.
 */
#include "policy/evict.h"

#include <stdlib.h>
#include <string.h>

enum { QUEUE_MAIN, QUEUE_SMALL, QUEUE_LEVELS };

enum {
    LEVELS = 256,     /* of lfu: a level is a priority, modulo this */
    HITS_MAX = 3,     /* two bits are enough to tell used from much used (S3-FIFO) */
    HITS_TO_MAIN = 2, /* uses on probation that make an entry stay */
    SMALL_SHARE = 10, /* one part in so many is the small queue's */
    UNIT = 64,        /* bytes */
    GHOST_WAYS = 4
};

struct list {
    struct evict_node head; /* head.next is the newest, head.prev the oldest */
    uint64_t weight;
    size_t count;
};

/* A hash that was evicted, and when, counted in evictions. */
struct ghost {
    uint32_t print;
    uint32_t when;
};

struct evict_index {
    enum evict_strategy strategy;
    struct list main, small;
    struct evict_node levels[LEVELS]; /* lfu's lists; counted in main */
    uint64_t used[LEVELS / 64];       /* which of them are not empty */
    unsigned base;                    /* level of the last victim */
    struct ghost *ghosts;             /* NULL when there was no memory: then nothing is remembered */
    size_t ghost_size;                /* power of two */
    uint32_t ghost_clock;
};

static bool uses_small(const struct evict_index *index)
{
    return index->strategy == EVICT_ADAPTIVE || index->strategy == EVICT_PREDICTIVE;
}

static void ring_init(struct evict_node *head)
{
    head->prev = head->next = head;
}

static void ring_insert(struct evict_node *head, struct evict_node *node)
{
    node->prev = head;
    node->next = head->next;
    head->next->prev = node;
    head->next = node;
}

static void ring_remove(struct evict_node *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->prev = node->next = NULL;
}

static bool ring_empty(const struct evict_node *head)
{
    return head->next == head;
}

static struct list *list_of(struct evict_index *index, const struct evict_node *node)
{
    return node->queue == QUEUE_SMALL ? &index->small : &index->main;
}

/* ---- lfu ---- */

static void level_insert(struct evict_index *index, struct evict_node *node)
{
    unsigned level = (index->base + node->hits) % LEVELS;
    node->level = (uint16_t)level;
    ring_insert(&index->levels[level], node);
    index->used[level / 64] |= (uint64_t)1 << level % 64;
}

static void level_remove(struct evict_index *index, struct evict_node *node)
{
    unsigned level = node->level;
    ring_remove(node);
    if (ring_empty(&index->levels[level]))
        index->used[level / 64] &= ~((uint64_t)1 << level % 64);
}

/* The lowest level that is not empty, counted upwards from base; some level is. */
static unsigned lowest_level(const struct evict_index *index)
{
    for (unsigned step = 0; step <= LEVELS / 64; step++) {
        unsigned word = (index->base / 64 + step) % (LEVELS / 64);
        uint64_t bits = index->used[word];
        if (step == 0)
            bits &= ~(uint64_t)0 << index->base % 64;
        if (bits)
            return word * 64 + (unsigned)__builtin_ctzll(bits);
    }
    return index->base;
}

/* ---- any list ---- */

static void place(struct evict_index *index, struct evict_node *node, uint8_t queue)
{
    node->queue = queue;
    struct list *list = list_of(index, node);
    list->weight += node->size;
    list->count++;
    if (queue == QUEUE_LEVELS)
        level_insert(index, node);
    else
        ring_insert(&list->head, node);
}

static void unplace(struct evict_index *index, struct evict_node *node)
{
    struct list *list = list_of(index, node);
    list->weight -= node->size;
    list->count--;
    if (node->queue == QUEUE_LEVELS)
        level_remove(index, node);
    else
        ring_remove(node);
}

/* ---- the ghost of S3-FIFO ---- */

static struct ghost *ghost_set(const struct evict_index *index, uint32_t print)
{
    size_t sets = index->ghost_size / GHOST_WAYS;
    return &index->ghosts[((print * (uint64_t)0x9e3779b97f4a7c15u >> 32) & (sets - 1)) * GHOST_WAYS];
}

/* How many evictions ago; UINT32_MAX for an empty place. */
static uint32_t ghost_age(const struct evict_index *index, const struct ghost *ghost)
{
    return ghost->print == 0 ? UINT32_MAX : index->ghost_clock - ghost->when;
}

static uint32_t fingerprint(uint64_t hash)
{
    uint32_t print = (uint32_t)(hash >> 32);
    return print ? print : 1;
}

static void ghost_put(struct evict_index *index, struct ghost remembered)
{
    struct ghost *set = ghost_set(index, remembered.print), *oldest = set;
    for (int i = 0; i < GHOST_WAYS; i++) {
        if (set[i].print == remembered.print) {
            oldest = &set[i];
            break;
        }
        if (ghost_age(index, &set[i]) > ghost_age(index, oldest))
            oldest = &set[i];
    }
    *oldest = remembered;
}

/* Room for twice as many hashes as the ghost holds; without memory it stays as it is. */
static void ghost_grow(struct evict_index *index, size_t size)
{
    struct ghost *before = index->ghosts;
    size_t before_size = index->ghost_size;
    struct ghost *bigger = calloc(size, sizeof *bigger);
    if (!bigger)
        return;
    index->ghosts = bigger;
    index->ghost_size = size;
    for (size_t i = 0; before && i < before_size; i++)
        if (before[i].print)
            ghost_put(index, before[i]);
    free(before);
}

/* As many hashes are remembered as there are entries in the main queue. */
static size_t ghost_capacity(const struct evict_index *index)
{
    return index->main.count > 1 ? index->main.count : 1;
}

static void ghost_remember(struct evict_index *index, uint64_t hash)
{
    if (index->ghost_size < 2 * ghost_capacity(index) && index->ghost_size < (size_t)1 << 30)
        ghost_grow(index, index->ghost_size ? 2 * index->ghost_size : 64);
    if (!index->ghosts)
        return;
    index->ghost_clock++;
    ghost_put(index, (struct ghost){fingerprint(hash), index->ghost_clock});
}

/* Was it evicted a short while ago? Forgets it. */
static bool ghost_take(struct evict_index *index, uint64_t hash)
{
    if (!index->ghosts)
        return false;
    uint32_t print = fingerprint(hash);
    struct ghost *set = ghost_set(index, print);
    for (int i = 0; i < GHOST_WAYS; i++) {
        if (set[i].print != print)
            continue;
        bool recent = ghost_age(index, &set[i]) < ghost_capacity(index);
        set[i].print = 0;
        return recent;
    }
    return false;
}

/* ---- doors ---- */

struct evict_index *evict_new(enum evict_strategy strategy, size_t expected)
{
    struct evict_index *index = calloc(1, sizeof *index);
    if (!index)
        return NULL;
    index->strategy = strategy;
    ring_init(&index->main.head);
    ring_init(&index->small.head);
    for (int i = 0; i < LEVELS; i++)
        ring_init(&index->levels[i]);
    size_t size = 64;
    while (size < 2 * expected && size < (size_t)1 << 20)
        size *= 2;
    if (uses_small(index))
        ghost_grow(index, size);
    return index;
}

void evict_free(struct evict_index *index)
{
    if (!index)
        return;
    free(index->ghosts);
    free(index);
}

static uint32_t units(uint64_t bytes)
{
    uint64_t n = bytes / UNIT + (bytes % UNIT > 0);
    return n == 0 ? 1 : n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

void evict_insert(struct evict_index *index, struct evict_node *node, uint64_t hash, uint64_t bytes)
{
    node->hash = hash;
    node->size = units(bytes);
    node->hits = 0;
    if (index->strategy == EVICT_LFU) {
        node->hits = 1;
        place(index, node, QUEUE_LEVELS);
    } else {
        place(index, node, uses_small(index) && !ghost_take(index, hash) ? QUEUE_SMALL : QUEUE_MAIN);
    }
}

void evict_remove(struct evict_index *index, struct evict_node *node)
{
    if (node->next)
        unplace(index, node);
}

void evict_hit(struct evict_index *index, struct evict_node *node)
{
    switch (index->strategy) {
    case EVICT_LFU:
        level_remove(index, node);
        node->hits += node->hits < LEVELS - 1;
        level_insert(index, node);
        break;
    case EVICT_LRU:
        ring_remove(node);
        ring_insert(&index->main.head, node);
        break;
    case EVICT_FIFO:
        break;
    case EVICT_ADAPTIVE:
    case EVICT_PREDICTIVE:
        node->hits += node->hits < HITS_MAX;
        break;
    }
}

/* The oldest of the small queue leaves it: for the main queue when it was used, else for good. NULL: it
 * stayed. */
static struct evict_node *pop_small(struct evict_index *index)
{
    struct evict_node *node = index->small.head.prev;
    unplace(index, node);
    if (node->hits >= HITS_TO_MAIN) {
        node->hits = 0;
        place(index, node, QUEUE_MAIN);
        return NULL;
    }
    ghost_remember(index, node->hash);
    return node;
}

/* The oldest of the main queue goes when it was not used since it was last looked at. NULL: it stayed. */
static struct evict_node *pop_main(struct evict_index *index)
{
    struct evict_node *node = index->main.head.prev;
    unplace(index, node);
    if (node->hits == 0)
        return node;
    node->hits--;
    place(index, node, QUEUE_MAIN);
    return NULL;
}

static struct evict_node *pop_s3fifo(struct evict_index *index)
{
    for (;;) {
        uint64_t total = index->small.weight + index->main.weight;
        bool small =
            index->small.count > 0 && (index->main.count == 0 || index->small.weight >= total / SMALL_SHARE);
        struct evict_node *node = small ? pop_small(index) : pop_main(index);
        if (node)
            return node;
    }
}

static struct evict_node *pop_level(struct evict_index *index)
{
    index->base = lowest_level(index);
    struct evict_node *node = index->levels[index->base].prev;
    unplace(index, node);
    return node;
}

static struct evict_node *pop_oldest(struct evict_index *index)
{
    struct evict_node *node = index->main.head.prev;
    unplace(index, node);
    return node;
}

struct evict_node *evict_pop(struct evict_index *index)
{
    if (evict_count(index) == 0)
        return NULL;
    switch (index->strategy) {
    case EVICT_LFU:
        return pop_level(index);
    case EVICT_ADAPTIVE:
    case EVICT_PREDICTIVE:
        return pop_s3fifo(index);
    default:
        return pop_oldest(index);
    }
}

/* Takes out the entry that would go first, without deciding anything about it. */
static struct evict_node *drain_one(struct evict_index *index)
{
    if (index->strategy == EVICT_LFU)
        return pop_level(index);
    struct list *list = index->small.count > 0 ? &index->small : &index->main;
    struct evict_node *node = list->head.prev;
    unplace(index, node);
    return node;
}

void evict_set_strategy(struct evict_index *index, enum evict_strategy strategy)
{
    struct evict_node all;
    bool s3fifo = uses_small(index);
    ring_init(&all);
    if (index->strategy == strategy)
        return;
    while (evict_count(index) > 0)
        ring_insert(&all, drain_one(index));
    index->strategy = strategy;
    index->base = 0;
    if (uses_small(index) && !s3fifo && !index->ghosts)
        ghost_grow(index, 64);
    while (!ring_empty(&all)) {
        struct evict_node *node = all.prev;
        ring_remove(node);
        if (strategy == EVICT_LFU)
            node->hits += node->hits == 0;
        else if (node->hits > HITS_MAX)
            node->hits = HITS_MAX;
        place(index, node, strategy == EVICT_LFU ? QUEUE_LEVELS : QUEUE_MAIN);
    }
}

void evict_replace(struct evict_index *index, struct evict_node *old, struct evict_node *next, uint64_t bytes)
{
    struct list *list = list_of(index, old);
    list->weight -= old->size;
    *next = *old;
    next->size = units(bytes);
    list->weight += next->size;
    next->prev->next = next;
    next->next->prev = next;
    old->prev = old->next = NULL;
}

size_t evict_count(const struct evict_index *index)
{
    return index->main.count + index->small.count;
}
