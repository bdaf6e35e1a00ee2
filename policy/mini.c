/*
 * Invariants: every node in use is in the index and in the chain of its hash; all others are in the free
 * list; nodes live in blocks that never move. Chains are found by bits of the hash that sampling does not
 * choose by.
 */
#include "policy/mini.h"

#include <stdlib.h>

enum { BLOCK = 32 };

struct mini_node {
    struct evict_node node;
    struct mini_node *chain;
    int64_t until;
};

struct block {
    struct block *next;
    struct mini_node nodes[BLOCK];
};

struct mini {
    struct evict_index *index;
    struct mini_limits limits;
    struct block *blocks;
    struct mini_node *spare;
    struct mini_node **chains;
    size_t chain_count; /* power of two */
    size_t block_count;
    double bytes;
};

struct mini *mini_new(const struct mini_recipe *recipe, struct mini_limits limits)
{
    struct mini *mini = calloc(1, sizeof *mini);
    if (!mini)
        return NULL;
    mini->limits = limits;
    mini->index = evict_new(recipe->strategy, 0, recipe->advice);
    if (mini->index) {
        mini->index->rule = recipe->rule;
        if (recipe->sketch)
            mini->index->sketch = recipe->sketch;
    }
    mini->chain_count = 64;
    mini->chains = calloc(mini->chain_count, sizeof(struct mini_node *));
    if (mini->index && mini->chains)
        return mini;
    mini_free(mini);
    return NULL;
}

void mini_free(struct mini *mini)
{
    if (!mini)
        return;
    while (mini->blocks) {
        struct block *block = mini->blocks;
        mini->blocks = block->next;
        free(block);
    }
    evict_free(mini->index);
    free(mini->chains);
    free(mini);
}

static struct mini_node **chain_of(const struct mini *mini, uint64_t hash)
{
    return &mini->chains[(hash >> 8) & (mini->chain_count - 1)];
}

static struct mini_node *find(const struct mini *mini, uint64_t hash)
{
    struct mini_node *node = *chain_of(mini, hash);
    while (node && node->node.hash != hash)
        node = node->chain;
    return node;
}

/* Longer chains when there is no memory. */
static void grow_chains(struct mini *mini)
{
    size_t before = mini->chain_count;
    struct mini_node **old = mini->chains, **chains = calloc(before * 2, sizeof *chains);
    if (!chains)
        return;
    mini->chains = chains;
    mini->chain_count = before * 2;
    for (size_t i = 0; i < before; i++) {
        for (struct mini_node *node = old[i], *next; node; node = next) {
            next = node->chain;
            struct mini_node **chain = chain_of(mini, node->node.hash);
            node->chain = *chain;
            *chain = node;
        }
    }
    free(old);
}

static struct mini_node *take_spare(struct mini *mini)
{
    if (!mini->spare) {
        struct block *block = calloc(1, sizeof *block);
        if (!block)
            return NULL;
        block->next = mini->blocks;
        mini->blocks = block;
        mini->block_count++;
        for (int i = 0; i < BLOCK; i++) {
            block->nodes[i].chain = mini->spare;
            mini->spare = &block->nodes[i];
        }
    }
    struct mini_node *node = mini->spare;
    mini->spare = node->chain;
    return node;
}

static double bytes_of(const struct mini_node *node)
{
    return (double)node->node.size * EVICT_UNIT;
}

/* It left the index. */
static void drop(struct mini *mini, struct mini_node *node)
{
    struct mini_node **at = chain_of(mini, node->node.hash);
    while (*at != node)
        at = &(*at)->chain;
    *at = node->chain;
    mini->bytes -= bytes_of(node);
    node->chain = mini->spare;
    mini->spare = node;
}

static void make_room(struct mini *mini, double entries, double bytes)
{
    for (;;) {
        bool over_entries =
            mini->limits.entries > 0 && (double)evict_count(mini->index) + entries > mini->limits.entries;
        bool over_bytes = mini->limits.bytes > 0 && mini->bytes + bytes > mini->limits.bytes;
        if (!over_entries && !over_bytes)
            return;
        struct evict_node *victim =
            evict_pop(mini->index, over_entries ? EVICT_NEED_ENTRIES : EVICT_NEED_BYTES);
        if (!victim)
            return;
        drop(mini, (struct mini_node *)victim);
    }
}

static void add(struct mini *mini, const struct evict_item *item, int64_t until)
{
    uint64_t rounded = (item->bytes + EVICT_UNIT - 1) / EVICT_UNIT * EVICT_UNIT;
    double bytes = rounded > 0 ? (double)rounded : EVICT_UNIT;
    if (mini->limits.bytes > 0 && bytes > mini->limits.bytes)
        return;
    make_room(mini, 1, bytes);
    struct mini_node *node = take_spare(mini);
    if (!node)
        return;
    node->until = until;
    evict_insert(mini->index, &node->node, item);
    if (evict_adapts(mini->index) && mini->index->rule.kind == EVICT_S3)
        ghost_reserve(&mini->index->ghost, evict_count(mini->index));
    mini->bytes += bytes_of(node);
    struct mini_node **chain = chain_of(mini, item->hash);
    node->chain = *chain;
    *chain = node;
    if (evict_count(mini->index) > mini->chain_count)
        grow_chains(mini);
}

bool mini_request(struct mini *mini, const struct evict_item *item, int64_t now, int64_t until)
{
    struct mini_node *node = find(mini, item->hash);
    if (!node) {
        add(mini, item, until);
        return false;
    }
    evict_hit(mini->index, &node->node);
    if (now < node->until)
        return true;
    node->until = until;
    return false;
}

void mini_set_strategy(struct mini *mini, enum evict_strategy strategy)
{
    evict_set_strategy(mini->index, strategy);
}

void mini_shrink(struct mini *mini, uint64_t threshold, struct mini_limits limits)
{
    for (size_t i = 0; i < mini->chain_count; i++) {
        for (struct mini_node *node = mini->chains[i], *next; node; node = next) {
            next = node->chain;
            if (mini_sampled(node->node.hash, threshold))
                continue;
            evict_remove(mini->index, &node->node);
            drop(mini, node);
        }
    }
    mini->limits = limits;
    make_room(mini, 0, 0);
}

size_t mini_count(const struct mini *mini)
{
    return evict_count(mini->index);
}

size_t mini_memory(const struct mini *mini)
{
    return sizeof *mini + evict_memory(mini->index) + mini->chain_count * sizeof *mini->chains +
           mini->block_count * sizeof(struct block);
}
