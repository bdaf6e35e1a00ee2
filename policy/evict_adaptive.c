/*
 * The rules of adaptive over one structure: a small queue on probation, a main queue with reinsertion, and a
 * ghost. S3 lets in who was used twice on probation, or came back soon after it was thrown out; DUEL lets in
 * who was seen more often, for its weight and cost, than the one that would go for it; VALUE keeps no queues
 * but a heap; RECENT is lru, with what was guessed on probation. Between S3, DUEL and RECENT, and between
 * shares, only the next decisions change: nothing is moved.
 */
#include "policy/evict_private.h"

enum { CREDIT_MAX = 3, CREDIT_TO_MAIN = 2 };

evict_advice evict_advice_of(struct evict_rule rule)
{
    return 1u << 31 | (evict_advice)rule.margin << 16 | (evict_advice)rule.kind << 8 | (rule.share & 255);
}

void adaptive_set_rule(struct evict_index *index, struct evict_rule rule)
{
    bool was = index->rule.kind == EVICT_VALUE, is = rule.kind == EVICT_VALUE;
    index->rule = rule;
    if (is && !was) {
        index->inflation = 0;
        size_t left = index->main.count + index->small.count;
        for (; left > 0; left--) {
            struct evict_node *node = (index->small.count > 0 ? &index->small : &index->main)->head.prev;
            evict_look(node);
            evict_unplace(index, node);
            evict_place(index, node, QUEUE_HEAP);
        }
    }
    if (was && !is) { /* a heap's array rises about from the front to the back */
        size_t count = index->heap_count;
        index->heap_count = 0;
        for (size_t i = 0; i < count; i++)
            evict_place(index, index->heap[i].node, QUEUE_MAIN);
    }
}

static void follow(struct evict_index *index)
{
    if (!index->advice)
        return;
    evict_advice advice = __atomic_load_n(index->advice, __ATOMIC_RELAXED);
    if (advice == 0 || advice == index->followed)
        return;
    index->followed = advice;
    adaptive_set_rule(
        index, (struct evict_rule){(enum evict_kind)(advice >> 8 & 3), advice & 255, advice >> 16 & 15});
}

static size_t ghost_capacity(const struct evict_index *index)
{
    return index->main.count > 1 ? index->main.count : 1;
}

static uint64_t list_weight(const struct evict_index *index, const struct evict_list *list)
{
    return index->by_count ? list->count : list->weight;
}

/* Is the small queue at or over its share? */
static bool small_is_due(const struct evict_index *index)
{
    uint64_t small = list_weight(index, &index->small), total = small + list_weight(index, &index->main);
    return index->small.count > 0 && (index->main.count == 0 || small >= total * index->rule.share / 100);
}

void adaptive_insert(struct evict_index *index, struct evict_node *node, bool guessed)
{
    follow(index);
    if (index->sketch == &index->own && !guessed)
        sketch_add(&index->own, node->hash, 1);
    uint8_t queue = QUEUE_SMALL;
    if (index->rule.kind == EVICT_VALUE)
        queue = QUEUE_HEAP;
    else if (guessed)
        queue = QUEUE_SMALL;
    else if (index->rule.share == 0 || index->rule.kind == EVICT_RECENT ||
             (!index->evicted && small_is_due(index)) ||
             (index->rule.kind == EVICT_S3 && ghost_take(&index->ghost, node->hash, ghost_capacity(index))))
        queue = QUEUE_MAIN; /* while nothing was evicted, both queues fill by their shares */
    evict_place(index, node, queue);
}

/* Turns the hits since the last look into credit. */
static void look(struct evict_index *index, struct evict_node *node)
{
    unsigned hits = evict_look(node), credit = node->credit + hits;
    node->credit = (uint8_t)(credit > CREDIT_MAX ? CREDIT_MAX : credit);
    if (index->sketch == &index->own)
        sketch_add(&index->own, node->hash, hits);
}

static struct evict_node *oldest(const struct evict_list *list)
{
    return list->head.prev;
}

static void move_to_main(struct evict_index *index, struct evict_node *node, unsigned credit)
{
    evict_unplace(index, node);
    node->credit = (uint8_t)credit;
    evict_place(index, node, QUEUE_MAIN);
}

static struct evict_node *gone(struct evict_index *index, struct evict_node *node)
{
    evict_unplace(index, node);
    if (index->sketch == &index->own)
        ghost_reserve(&index->ghost, evict_count(index)), sketch_reserve(&index->own, evict_count(index));
    return node;
}

/* The oldest of the main queue that was not used since it was last looked at; the queue is not empty. */
static struct evict_node *main_victim(struct evict_index *index)
{
    for (;;) {
        struct evict_node *node = oldest(&index->main);
        look(index, node);
        if (node->credit == 0)
            return node;
        move_to_main(index, node, node->credit - 1);
    }
}

static struct evict_node *pop_s3(struct evict_index *index)
{
    while (small_is_due(index)) {
        struct evict_node *node = oldest(&index->small);
        look(index, node);
        if (node->credit >= CREDIT_TO_MAIN) {
            move_to_main(index, node, 0);
            continue;
        }
        gone(index, node);
        ghost_remember(&index->ghost, node->hash);
        return node;
    }
    return gone(index, main_victim(index));
}

void adaptive_hit(struct evict_index *index, struct evict_node *node)
{
    node->hits += node->hits < EVICT_USES_MAX;
    evict_unplace(index, node);
    evict_place(index, node, QUEUE_MAIN);
}

/* What is on probation goes while it has more than its share, else the one that was not used for longest. */
static struct evict_node *pop_recent(struct evict_index *index)
{
    bool probation = index->main.count == 0 || small_is_due(index);
    struct evict_node *node = oldest(probation ? &index->small : &index->main);
    look(index, node);
    if (probation)
        ghost_remember(&index->ghost, node->hash);
    return gone(index, node);
}

/* Was `a` seen more often than `b`, for its cost and weight? */
static bool worth_more(const struct evict_index *index, const struct evict_node *a,
                       const struct evict_node *b)
{
    double seen_a = sketch_estimate(index->sketch, a->hash), seen_b = sketch_estimate(index->sketch, b->hash);
    seen_b += index->rule.margin;
    return seen_a * (double)a->cost * evict_weight(index, b) >
           seen_b * (double)b->cost * evict_weight(index, a);
}

static struct evict_node *pop_duel(struct evict_index *index)
{
    uint64_t total = list_weight(index, &index->small) + list_weight(index, &index->main);
    uint64_t share = total * index->rule.share / 100;
    while (index->small.count > 1 && list_weight(index, &index->small) > (share > 1 ? share : 1)) {
        struct evict_node *node = oldest(&index->small); /* the main queue is not full yet */
        look(index, node);
        move_to_main(index, node, node->credit);
    }
    if (index->main.count == 0)
        return gone(index, oldest(&index->small));
    struct evict_node *victim = main_victim(index);
    if (index->small.count == 0)
        return gone(index, victim);
    struct evict_node *candidate = oldest(&index->small);
    look(index, candidate);
    if (!worth_more(index, candidate, victim)) {
        ghost_remember(&index->ghost, candidate->hash);
        return gone(index, candidate);
    }
    move_to_main(index, candidate, 0);
    return gone(index, victim);
}

struct evict_node *adaptive_pop(struct evict_index *index)
{
    follow(index);
    index->evicted = true;
    if (index->heap_count > 0 && index->main.count == 0)
        return heap_pop(index);
    if (index->rule.kind == EVICT_RECENT)
        return pop_recent(index);
    return index->rule.kind == EVICT_DUEL ? pop_duel(index) : pop_s3(index);
}
