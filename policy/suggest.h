/* "Did you mean ...?": how near two words are, and which of many is nearest. */
#ifndef POLICY_SUGGEST_H
#define POLICY_SUGGEST_H

#include "policy/base.h"

#define SUGGEST_MAX_LENGTH 96

/*
 * The fewest letters to put in, leave out, change or swap with their neighbour that turn a into b.
 * SIZE_MAX when either is longer than SUGGEST_MAX_LENGTH.
 */
size_t suggest_distance(const char *a, const char *b);

/*
 * The best so far among many candidates. Set `typed`, leave the rest zero, offer each, read `best`.
 * A candidate that would change more than about a quarter of the word is no help and never taken.
 */
struct suggestion {
    const char *typed;
    const char *best; /* NULL: none is near */
    size_t distance;
};

/* Returns true when the candidate became the best. It is kept by reference. */
bool suggest_offer(struct suggestion *s, const char *candidate);

#endif
