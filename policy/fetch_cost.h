/*
 * What fetching something again will take, from how long fetching took: measured times are partly what the
 * document costs and partly luck. How much is luck is learnt from keys that were fetched more than once
 * (their difference), against how far all are apart; each time is drawn towards the mean by that share
 * (empirical Bayes: James, Stein 1961; Morris, JASA 1983), on logarithms, as times of answers are skewed. So
 * where all documents cost the same, all costs are the same, however the times vary. Plain data; single
 * owner.
 */
#ifndef POLICY_FETCH_COST_H
#define POLICY_FETCH_COST_H

#include "policy/base.h"

enum { FETCH_COST_KEYS = 64 };

/* All zero: nothing was seen yet. */
struct fetch_cost {
    double weight, mean, square; /* of all fetches: how many still count, of their logarithms the mean, and
                                    the mean square distance from it */
    double pairs, within;        /* of keys seen twice: how many still count, the mean of half the squared
                                    difference */
    uint32_t fetches;
    struct fetch_cost_seen {
        uint64_t hash;
        float log;
        uint32_t at;         /* `fetches` then; 0: the slot is empty */
    } seen[FETCH_COST_KEYS]; /* some of the keys that were fetched lately */
};

/* A key was fetched in so many seconds; not above 0: that is not known. Returns the cost that it is worth, in
 * seconds, above 0. `hash` is even in all its bits. */
float fetch_cost_note(struct fetch_cost *costs, uint64_t hash, double seconds);

/* The same for a time that was noted before, or is of another sidecar: nothing is learnt from it. */
float fetch_cost_of(const struct fetch_cost *costs, double seconds);

/* The share of the differences between measured times that is the documents' own: 0 to 1. */
double fetch_cost_own(const struct fetch_cost *costs);

#endif
