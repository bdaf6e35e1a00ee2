/*
 * Blocks on a free list. Invariant: a block is either on the free list with refs 0, or out with refs > 0.
 * At most KEEP blocks stay on the list, so a burst of slow readers does not hold memory for ever.
 */
#include "proxy/block.h"

#include <assert.h>
#include <stdlib.h>

enum { KEEP = 16 };

static struct block *block_new(struct block_pool *pool)
{
    struct block *b = malloc(sizeof(*b));
    if (!b)
        return NULL;
    b->pool = pool;
    if (pool->metrics)
        metric_add(pool->metrics, METRIC_CONNECTION_BYTES, sizeof(*b));
    return b;
}

static void block_free(struct block *b)
{
    if (b->pool->metrics)
        metric_sub(b->pool->metrics, METRIC_CONNECTION_BYTES, sizeof(*b));
    free(b);
}

struct block *block_get(struct block_pool *pool)
{
    struct block *b = pool->free;
    if (b) {
        pool->free = b->next;
        pool->free_count--;
    } else {
        b = block_new(pool);
        if (!b)
            return NULL;
    }
    b->next = NULL;
    b->refs = 1;
    pool->live++;
    return b;
}

void block_unref(struct block *b)
{
    assert(b->refs > 0);
    if (--b->refs)
        return;
    struct block_pool *pool = b->pool;
    pool->live--;
    if (pool->free_count >= KEEP) {
        block_free(b);
        return;
    }
    b->next = pool->free;
    pool->free = b;
    pool->free_count++;
}

void block_pool_dispose(struct block_pool *pool)
{
    while (pool->free) {
        struct block *b = pool->free;
        pool->free = b->next;
        block_free(b);
    }
    pool->free_count = 0;
}
