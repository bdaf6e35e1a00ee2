/*
 * SipHash-1-3 with 128 bits of result (Aumasson, Bernstein): a keyed hash, so that nobody who
 * does not know the key can choose requests that collide, or read a credential out of a hash.
 * Pure; the key is given by the caller and lives as long as the process.
 */
#ifndef POLICY_HASH_H
#define POLICY_HASH_H

#include "policy/base.h"

struct hash_key {
    uint64_t k0, k1;
};

struct hash128 {
    uint64_t lo, hi;
};

/* A hash that is being fed. Plain data, may be copied to fork it. */
struct hash_state {
    uint64_t v0, v1, v2, v3;
    uint64_t tail;  /* bytes that do not make a word yet, the first in the lowest byte */
    uint64_t total; /* bytes fed so far */
};

void hash_init(struct hash_state *state, struct hash_key key);
void hash_feed(struct hash_state *state, const void *bytes, size_t n);

/* Feeds the length and then the bytes, so that two texts one after the other cannot run into each other. */
void hash_feed_text(struct hash_state *state, struct slice text);

/* The same, with ASCII letters in lower case. */
void hash_feed_text_nocase(struct hash_state *state, struct slice text);

void hash_feed_u64(struct hash_state *state, uint64_t number);

/* The result for what was fed. The state is used up. */
struct hash128 hash_end(struct hash_state *state);

/*
 * Two numbers and two texts in one go, in registers: the key of a cache lookup, which every request needs.
 * Both lengths go first and each text is filled up with zeros to whole words, so no two different inputs look
 * alike. Not what the calls above would give for the same. A text is shorter than 4 GiB.
 */
struct hash128 hash_of_two(struct hash_key key, struct hash128 number, struct slice first,
                           struct slice second);

/* All of it in one call. */
struct hash128 hash_bytes(struct hash_key key, const void *bytes, size_t n);

static inline bool hash_equal(struct hash128 a, struct hash128 b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

#endif
