/*
 * What usually comes next: for each key the few keys that followed it, in the sequence of one client at a
 * time. Order 1 (what follows B) always, order 2 (what follows A, B) when asked for, with back-off to
 * order 1. A fixed amount of memory, whatever is seen: rows live in sets of four, and the least proven one
 * gives way. Single owner: the caller locks.
 *
 * Sources: Markov prefetching and dependency graphs as compared by Domenech et al. (algorithm choice matters
 * little, precision and extra traffic do); counts are halved when a row reaches 64, so that old habits fade.
 */
#ifndef POLICY_SUCCESSOR_H
#define POLICY_SUCCESSOR_H

#include "policy/base.h"

#define SUCCESSOR_SLOTS 4  /* successors remembered for a key */
#define SUCCESSOR_FULL  64 /* transitions out of a key after which its counts are halved */

struct successor; /* private to successor.c */

struct successor_size {
    size_t keys;    /* contexts remembered, about; rounded up to a power of two; at least 16. 56 bytes each */
    size_t clients; /* clients whose last keys are remembered, about; at least 16. 40 bytes each */
    bool order_two; /* remember pairs as contexts too; they share the room of `keys` */
    tick_t gap;     /* a client that was silent for longer begins a new sequence; 0 = never */
};

/* NULL: out of memory. Freed by successor_free. */
struct successor *successor_new(const struct successor_size *size) MUSTCHECK;
void successor_free(struct successor *s); /* NULL is harmless */

/* A guess at the next key. */
struct successor_guess {
    uint64_t key;
    float confidence; /* share of the transitions out of the context that went there, 0 ... 1 */
    uint16_t support; /* transitions seen from the context to this key (decayed) */
    uint8_t order;    /* length of the context that says so: 1 or 2 */
};

/*
 * The client asked for `key`: learns that it followed the client's previous one, and remembers it as that
 * client's last. Any 64-bit number is a good key or client, 0 included; a key that follows itself is not a
 * transition.
 */
void successor_see(struct successor *s, uint64_t client, uint64_t key, tick_t now);

/* The client's last key is this one, however it came there: nothing is learnt, a new sequence begins. */
void successor_stand(struct successor *s, uint64_t client, uint64_t key, tick_t now);

/*
 * What this client will ask for next, the likeliest first; after successor_see. Fills up to `max` of out and
 * returns how many. Guesses of a pair with support >= 2 come in place of those of its last key.
 */
unsigned successor_guess(const struct successor *s, uint64_t client, struct successor_guess *out,
                         unsigned max);

/* Bytes that it takes. */
size_t successor_bytes(const struct successor *s);

#endif
