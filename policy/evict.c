/*
 * Eviction: the lists, and the plain strategies lru, fifo and lfu. The invariants are those of
 * evict_private.h.
 */
#include "policy/evict_private.h"

#include <stdlib.h>
#include <string.h>

/* ---- rings ---- */

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

static struct evict_list *list_of(struct evict_index *index, const struct evict_node *node)
{
    return node->queue == QUEUE_SMALL ? &index->small : &index->main;
}

/* ---- lfu ---- */

static void level_insert(struct evict_levels *levels, struct evict_node *node)
{
    unsigned level = (levels->base + node->hits) % EVICT_LEVELS;
    node->at = level;
    ring_insert(&levels->lists[level], node);
    levels->used[level / 64] |= (uint64_t)1 << level % 64;
}

static void level_remove(struct evict_levels *levels, struct evict_node *node)
{
    unsigned level = node->at;
    ring_remove(node);
    if (ring_empty(&levels->lists[level]))
        levels->used[level / 64] &= ~((uint64_t)1 << level % 64);
}

/* The lowest level that is not empty, counted upwards from base; some level is. */
static unsigned lowest_level(const struct evict_levels *levels)
{
    for (unsigned step = 0; step <= EVICT_LEVELS / 64; step++) {
        unsigned word = (levels->base / 64 + step) % (EVICT_LEVELS / 64);
        uint64_t bits = levels->used[word];
        if (step == 0)
            bits &= ~(uint64_t)0 << levels->base % 64;
        if (bits)
            return word * 64 + (unsigned)__builtin_ctzll(bits);
    }
    return levels->base;
}

static struct evict_levels *levels_new(void)
{
    struct evict_levels *levels = calloc(1, sizeof *levels);
    for (int i = 0; levels && i < EVICT_LEVELS; i++)
        ring_init(&levels->lists[i]);
    return levels;
}

/* ---- any list ---- */

void evict_place(struct evict_index *index, struct evict_node *node, uint8_t queue)
{
    if (queue == QUEUE_HEAP) {
        if (heap_insert(index, node))
            return;
        queue = QUEUE_MAIN; /* no memory: it is merely judged by its age */
    }
    node->queue = queue;
    struct evict_list *list = list_of(index, node);
    list->weight += node->size;
    list->count++;
    if (queue == QUEUE_LEVELS)
        level_insert(index->levels, node);
    else
        ring_insert(&list->head, node);
}

void evict_unplace(struct evict_index *index, struct evict_node *node)
{
    if (node->queue == QUEUE_HEAP) {
        heap_remove(index, node);
        return;
    }
    struct evict_list *list = list_of(index, node);
    list->weight -= node->size;
    list->count--;
    if (node->queue == QUEUE_LEVELS)
        level_remove(index->levels, node);
    else
        ring_remove(node);
}

/* ---- doors ---- */

struct evict_index *evict_new(enum evict_strategy strategy, size_t expected, const evict_advice *advice)
{
    struct evict_index *index = calloc(1, sizeof *index);
    if (!index)
        return NULL;
    index->strategy = strategy;
    index->rule = (struct evict_rule){EVICT_S3, 10, 0};
    index->advice = advice;
    index->sketch = &index->own;
    ring_init(&index->main.head);
    ring_init(&index->small.head);
    if (strategy == EVICT_LFU && !(index->levels = levels_new())) {
        free(index);
        return NULL;
    }
    if (evict_adapts(index)) {
        size_t count = expected < (size_t)1 << 20 ? expected : (size_t)1 << 20;
        ghost_reserve(&index->ghost, count);
        sketch_reserve(&index->own, count);
    }
    return index;
}

void evict_free(struct evict_index *index)
{
    if (!index)
        return;
    free(index->ghost.prints);
    free(index->own.words);
    free(index->levels);
    free(index->heap);
    free(index);
}

static uint32_t units(uint64_t bytes)
{
    uint64_t n = bytes / EVICT_UNIT + (bytes % EVICT_UNIT > 0);
    return n == 0 ? 1 : n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

void evict_insert(struct evict_index *index, struct evict_node *node, const struct evict_item *item)
{
    node->hash = item->hash;
    node->size = units(item->bytes);
    node->cost = item->cost > 0 ? item->cost : 1;
    node->hits = 0;
    node->credit = 0;
    node->uses = item->guessed ? 0 : 1;
    if (index->strategy == EVICT_LFU) {
        node->hits = 1;
        evict_place(index, node, QUEUE_LEVELS);
    } else if (evict_adapts(index)) {
        adaptive_insert(index, node, item->guessed);
    } else {
        evict_place(index, node, QUEUE_MAIN);
    }
}

void evict_remove(struct evict_index *index, struct evict_node *node)
{
    if (node->next)
        evict_unplace(index, node);
}

bool evict_hit_shared(const struct evict_index *index, struct evict_node *node)
{
    if (index->strategy == EVICT_LFU || index->strategy == EVICT_LRU ||
        (evict_adapts(index) && index->rule.kind == EVICT_RECENT))
        return false;
    if (index->strategy != EVICT_FIFO) {
        unsigned hits = __atomic_load_n(&node->hits, __ATOMIC_RELAXED);
        if (hits < EVICT_USES_MAX) /* a count that is lost between two threads does no harm */
            __atomic_store_n(&node->hits, (uint8_t)(hits + 1), __ATOMIC_RELAXED);
    }
    return true;
}

void evict_hit(struct evict_index *index, struct evict_node *node)
{
    if (evict_hit_shared(index, node))
        return;
    if (index->strategy == EVICT_LFU) {
        level_remove(index->levels, node);
        node->hits += node->hits < EVICT_USES_MAX;
        level_insert(index->levels, node);
    } else if (evict_adapts(index)) {
        adaptive_hit(index, node);
    } else {
        ring_remove(node);
        ring_insert(&index->main.head, node);
    }
}

static struct evict_node *pop_level(struct evict_index *index)
{
    index->levels->base = lowest_level(index->levels);
    struct evict_node *node = index->levels->lists[index->levels->base].prev;
    evict_unplace(index, node);
    return node;
}

static struct evict_node *pop_oldest(struct evict_index *index, struct evict_list *list)
{
    struct evict_node *node = list->head.prev;
    evict_unplace(index, node);
    return node;
}

struct evict_node *evict_pop(struct evict_index *index, enum evict_need need)
{
    if (evict_count(index) == 0)
        return NULL;
    index->by_count = need == EVICT_NEED_ENTRIES;
    if (evict_adapts(index))
        return adaptive_pop(index);
    return index->strategy == EVICT_LFU ? pop_level(index) : pop_oldest(index, &index->main);
}

/* Takes out the entry that would go about first, without deciding anything about it. */
static struct evict_node *drain_one(struct evict_index *index)
{
    if (index->strategy == EVICT_LFU)
        return pop_level(index);
    if (index->heap_count > 0) {
        struct evict_node *node = index->heap[0].node;
        heap_remove(index, node);
        return node;
    }
    return pop_oldest(index, index->small.count > 0 ? &index->small : &index->main);
}

void evict_set_strategy(struct evict_index *index, enum evict_strategy strategy)
{
    struct evict_node all;
    ring_init(&all);
    if (index->strategy == strategy)
        return;
    if (strategy == EVICT_LFU && !index->levels && !(index->levels = levels_new()))
        strategy = EVICT_LRU; /* no memory for lfu's lists */
    while (evict_count(index) > 0)
        ring_insert(&all, drain_one(index));
    bool was_lfu = index->strategy == EVICT_LFU;
    index->strategy = strategy;
    index->inflation = 0;
    if (index->levels)
        index->levels->base = 0;
    bool heap = evict_adapts(index) && index->rule.kind == EVICT_VALUE;
    while (!ring_empty(&all)) {
        struct evict_node *node = all.prev;
        ring_remove(node);
        if (was_lfu) {
            node->uses = node->hits > 0 ? node->hits : 1;
            node->hits = 0;
        } else {
            evict_look(node);
        }
        node->credit = 0;
        if (strategy == EVICT_LFU)
            node->hits = node->uses > 0 ? node->uses : 1;
        evict_place(index, node, strategy == EVICT_LFU ? QUEUE_LEVELS : heap ? QUEUE_HEAP : QUEUE_MAIN);
    }
}

void evict_replace(struct evict_index *index, struct evict_node *old, struct evict_node *next, uint64_t bytes,
                   float cost)
{
    *next = *old;
    next->size = units(bytes);
    next->cost = cost > 0 ? cost : old->cost;
    if (old->queue == QUEUE_HEAP) {
        heap_moved(index, next);
    } else {
        struct evict_list *list = list_of(index, old);
        list->weight -= old->size;
        list->weight += next->size;
        next->prev->next = next;
        next->next->prev = next;
    }
    old->prev = old->next = NULL;
}

size_t evict_count(const struct evict_index *index)
{
    return index->main.count + index->small.count + index->heap_count;
}

size_t evict_memory(const struct evict_index *index)
{
    return sizeof *index + (index->levels ? sizeof *index->levels : 0) +
           index->heap_room * sizeof *index->heap + index->ghost.size * sizeof *index->ghost.prints +
           index->own.size * sizeof *index->own.words;
}
