/*
 * Remembers nonces in a ring, oldest first, with a hash table over it. Invariants: a slot of the ring is in exactly one
 * chain while it is used; what is older than twice the validity of a timestamp (which may lie that far in the
 * future) cannot come again and is forgotten.
 */
#include "tests/origin/nonce.h"

#include <stdlib.h>
#include <string.h>

enum { CAPACITY = 65536, CHAINS = 65536, FREE = -1 };
#define KEEP INT64_C(600000000000)

struct slot {
    uint64_t hash[2];
    int64_t seen;
    int32_t next; /* in its chain */
};

struct nonces {
    int32_t chains[CHAINS];
    struct slot ring[CAPACITY];
    uint32_t first, count;
};

static void hash_nonce(struct slice s, uint64_t out[2])
{
    uint64_t a = 1469598103934665603ull, b = 0x9E3779B97F4A7C15ull;
    for (size_t i = 0; i < s.n; i++) {
        a = (a ^ (unsigned char)s.p[i]) * 1099511628211ull;
        b = (b + (unsigned char)s.p[i]) * 0xD6E8FEB86659FD93ull;
        b ^= b >> 32;
    }
    out[0] = a;
    out[1] = b;
}

static int32_t *chain_of(struct nonces *n, const uint64_t hash[2])
{
    return &n->chains[(hash[0] ^ hash[0] >> 32) % CHAINS];
}

struct nonces *nonces_new(void)
{
    struct nonces *n = malloc(sizeof(*n));
    if (n)
        nonces_clear(n);
    return n;
}

void nonces_free(struct nonces *n)
{
    free(n);
}

void nonces_clear(struct nonces *n)
{
    for (int i = 0; i < CHAINS; i++)
        n->chains[i] = FREE;
    n->first = n->count = 0;
}

static void forget_oldest(struct nonces *n)
{
    int32_t index = (int32_t)n->first;
    int32_t *at = chain_of(n, n->ring[index].hash);
    while (*at != index)
        at = &n->ring[*at].next;
    *at = n->ring[index].next;
    n->first = (n->first + 1) % CAPACITY;
    n->count--;
}

bool nonces_add(struct nonces *n, struct slice nonce, int64_t now)
{
    uint64_t hash[2];
    hash_nonce(nonce, hash);
    while (n->count && now - n->ring[n->first].seen > KEEP)
        forget_oldest(n);
    int32_t *chain = chain_of(n, hash);
    for (int32_t i = *chain; i != FREE; i = n->ring[i].next)
        if (n->ring[i].hash[0] == hash[0] && n->ring[i].hash[1] == hash[1])
            return false;
    if (n->count == CAPACITY)
        return false;
    int32_t index = (int32_t)((n->first + n->count) % CAPACITY);
    n->ring[index] = (struct slot){{hash[0], hash[1]}, now, *chain};
    *chain = index;
    n->count++;
    return true;
}
