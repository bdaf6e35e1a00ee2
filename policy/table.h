/*
 * A hash table of links that live inside the caller's objects. It grows a few buckets at a time, so that no
 * insertion takes long, and never shrinks. Several links may have the same hash. Single owner: the caller
 * locks.
 */
#ifndef POLICY_TABLE_H
#define POLICY_TABLE_H

#include "policy/base.h"

struct table_link {
    struct table_link *next;
    uint64_t hash;
};

struct table {
    struct table_link **now, **old; /* old: not NULL while buckets are still being moved */
    size_t now_size, old_size;      /* powers of two */
    size_t moved;                   /* buckets of old that were moved */
    size_t count;
    unsigned pins; /* while above 0 nothing moves and nothing grows */
};

/* False: out of memory. */
bool table_init(struct table *table, size_t buckets) MUSTCHECK;

/* Frees the buckets; the links are the caller's. */
void table_dispose(struct table *table);

/* Where the links of a hash are chained. */
static inline struct table_link **table_bucket(const struct table *table, uint64_t hash)
{
    if (table->old && (hash & (table->old_size - 1)) >= table->moved)
        return &table->old[hash & (table->old_size - 1)];
    return &table->now[hash & (table->now_size - 1)];
}

/* The first link of this hash at or behind `link`, or NULL. */
static inline struct table_link *table_same(struct table_link *link, uint64_t hash)
{
    while (link && link->hash != hash)
        link = link->next;
    return link;
}

static inline struct table_link *table_first(const struct table *table, uint64_t hash)
{
    return table_same(*table_bucket(table, hash), hash);
}

static inline struct table_link *table_next(const struct table_link *link)
{
    return table_same(link->next, link->hash);
}

/* Never fails: when there is no memory to grow, chains become longer. */
void table_insert(struct table *table, struct table_link *link, uint64_t hash);

/* The link must be in the table. */
void table_remove(struct table *table, struct table_link *link);

/*
 * Visits all links of up to `buckets` buckets, from *cursor (0 at first) on. `visit` may remove the link that
 * it is given. Returns false when all were visited. Between the first and the last call the table must be
 * pinned.
 */
bool table_scan(struct table *table, size_t *cursor, size_t buckets,
                void (*visit)(void *arg, struct table_link *link), void *arg);

#endif
