/*
 * Invariants: while `old` is there, the links of its buckets below `moved` are in `now`, and all others still
 * in `old`; so every hash has exactly one chain at any time.
 */
#include "policy/table.h"

#include <stdlib.h>

enum { MOVE_AT_ONCE = 4 };

bool table_init(struct table *table, size_t buckets)
{
    size_t size = 16;
    while (size < buckets && size < SIZE_MAX / 64)
        size *= 2;
    *table = (struct table){.now_size = size};
    table->now = calloc(size, sizeof *table->now);
    return table->now != NULL;
}

void table_dispose(struct table *table)
{
    free(table->now);
    free(table->old);
    *table = (struct table){0};
}

static void move_bucket(struct table *table)
{
    struct table_link *link = table->old[table->moved++];
    while (link) {
        struct table_link *next = link->next;
        struct table_link **bucket = &table->now[link->hash & (table->now_size - 1)];
        link->next = *bucket;
        *bucket = link;
        link = next;
    }
}

static void move_some(struct table *table)
{
    for (int i = 0; i < MOVE_AT_ONCE && table->moved < table->old_size; i++)
        move_bucket(table);
    if (table->moved < table->old_size)
        return;
    free(table->old);
    table->old = NULL;
}

static void begin_growth(struct table *table)
{
    struct table_link **bigger = calloc(table->now_size * 2, sizeof *bigger);
    if (!bigger)
        return;
    table->old = table->now;
    table->old_size = table->now_size;
    table->moved = 0;
    table->now = bigger;
    table->now_size *= 2;
}

void table_insert(struct table *table, struct table_link *link, uint64_t hash)
{
    if (table->pins == 0) {
        if (table->old)
            move_some(table);
        else if (table->count >= table->now_size)
            begin_growth(table);
    }
    struct table_link **bucket = table_bucket(table, hash);
    link->hash = hash;
    link->next = *bucket;
    *bucket = link;
    table->count++;
}

void table_remove(struct table *table, struct table_link *link)
{
    struct table_link **at = table_bucket(table, link->hash);
    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    link->next = NULL;
    table->count--;
}

bool table_scan(struct table *table, size_t *cursor, size_t buckets,
                void (*visit)(void *arg, struct table_link *link), void *arg)
{
    size_t old_size = table->old ? table->old_size : 0;
    for (; buckets > 0 && *cursor < old_size + table->now_size; buckets--, ++*cursor) {
        size_t i = *cursor;
        struct table_link *link = i < old_size ? table->old[i] : table->now[i - old_size];
        /* What was moved lies in `now`; the places it left must not be looked at. */
        if (i < old_size && i < table->moved)
            link = NULL;
        while (link) {
            struct table_link *next = link->next;
            visit(arg, link);
            link = next;
        }
    }
    return *cursor < old_size + table->now_size;
}
