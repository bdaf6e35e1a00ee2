/*
 * A small seeded generator, so that every decision that throws dice can be repeated in a
 * test: xoshiro256** (Blackman, Vigna 2018), seeded by splitmix64. Fast and even; not for
 * secrets. One state a thread; the owner passes it in.
 */
#ifndef POLICY_RNG_H
#define POLICY_RNG_H

#include "policy/base.h"

struct rng {
    uint64_t s[4];
};

/* Any seed is good, 0 too. The same seed gives the same numbers. */
void rng_seed(struct rng *r, uint64_t seed);

static inline uint64_t rng_rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

/* 64 even bits. */
static inline uint64_t rng_next(struct rng *r)
{
    uint64_t *s = r->s, result = rng_rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rng_rotl(s[3], 45);
    return result;
}

/* Even in [0, 1), in steps of 2^-53. */
double rng_double(struct rng *r);

/* Even in [0, n), without bias. 0 when n is 0. */
uint64_t rng_below(struct rng *r, uint64_t n);

/* Even in [lo, hi], both included. lo when hi <= lo. */
int64_t rng_range(struct rng *r, int64_t lo, int64_t hi);

#endif
