/*
 * Reference-counted byte buffers of one size, kept by one worker. A read fills a block; when a
 * peer takes the bytes slower than they come, the queue of unsent bytes holds the block itself
 * instead of a copy, and the worker reads on into another.
 * One thread only: counts are plain integers.
 */
#ifndef PROXY_BLOCK_H
#define PROXY_BLOCK_H

#include "metrics/counters.h"
#include "policy/base.h"

#define BLOCK_SIZE ((size_t)64 * 1024)

struct block_pool;

struct block {
    struct block_pool *pool;
    struct block *next; /* on the pool's free list */
    uint32_t refs;
    char data[BLOCK_SIZE];
};

struct block_pool {
    struct block *free;
    uint32_t free_count;
    uint32_t live;                 /* handed out */
    struct metrics_block *metrics; /* the owner's, where METRIC_CONNECTION_BYTES is kept; NULL: nowhere */
};

/* A block with one reference, or NULL when memory is out. */
struct block *block_get(struct block_pool *pool) MUSTCHECK;

static inline void block_ref(struct block *b)
{
    b->refs++;
}

/* Gives a reference back; the last one returns the block to its pool, which keeps a few. */
void block_unref(struct block *b);

/* Frees the kept blocks. */
void block_pool_dispose(struct block_pool *pool);

#endif
