/*
 * The memory of a snapshot: chunks in a chain, given back together. Invariants: memory comes zeroed
 * and aligned; after one failure the arena says so for ever, so that callers may check at the end.
 */
#include "policy/config_private.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 4096u

struct config_chunk {
    struct config_chunk *next;
    size_t used;
    size_t room;
    max_align_t bytes[];
};

static struct config_chunk *add_chunk(struct config_arena *arena, size_t n)
{
    size_t room = n > CHUNK_BYTES ? n : CHUNK_BYTES;
    if (room > SIZE_MAX - sizeof(struct config_chunk))
        return NULL;
    struct config_chunk *chunk = calloc(1, sizeof *chunk + room);
    if (!chunk)
        return NULL;
    chunk->room = room;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return chunk;
}

void *config_arena_get(struct config_arena *arena, size_t n)
{
    const size_t align = sizeof(max_align_t);
    struct config_chunk *chunk = arena->chunks;
    if (n > SIZE_MAX - align) {
        arena->failed = true;
        return NULL;
    }
    n = (n + align - 1) / align * align;
    if (!chunk || chunk->room - chunk->used < n)
        chunk = add_chunk(arena, n);
    if (!chunk) {
        arena->failed = true;
        return NULL;
    }
    void *p = (char *)chunk->bytes + chunk->used;
    chunk->used += n;
    return p;
}

void *config_arena_array(struct config_arena *arena, size_t count, size_t size)
{
    size_t n;
    if (__builtin_mul_overflow(count, size, &n)) {
        arena->failed = true;
        return NULL;
    }
    return config_arena_get(arena, n);
}

char *config_arena_copy(struct config_arena *arena, const char *p, size_t n)
{
    char *copy = n < SIZE_MAX ? config_arena_get(arena, n + 1) : NULL;
    if (copy)
        memcpy(copy, p, n);
    return copy;
}

void config_arena_free(struct config_arena *arena)
{
    while (arena->chunks) {
        struct config_chunk *next = arena->chunks->next;
        free(arena->chunks);
        arena->chunks = next;
    }
}
