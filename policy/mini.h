/*
 * A cache in miniature: keys without values under the very code of evict.h, to learn what another rule or
 * size would have hit (miniature simulation: Waldspurger et al., ATC'17). Fed with a sample of the keys,
 * chosen by their hash (SHARDS, FAST'15), and given that share of the limits. Single owner.
 */
#ifndef POLICY_MINI_H
#define POLICY_MINI_H

#include "policy/evict_private.h"

struct mini_limits {
    double entries, bytes; /* 0 = no limit */
};

struct mini; /* private */

struct mini_recipe {
    enum evict_strategy strategy;
    struct evict_rule rule;      /* of adaptive, */
    const evict_advice *advice;  /* when this is not NULL: where it follows from */
    struct evict_sketch *sketch; /* fed by the caller, or NULL: its own; both outlive the miniature */
};

/* NULL: out of memory. */
struct mini *mini_new(const struct mini_recipe *recipe, struct mini_limits limits);
void mini_free(struct mini *mini);

/* A request: was it a hit? `now` and `until` in any unit: an entry is no hit from `until` on, and is fetched
 * anew. Where there is no memory, a miss. */
bool mini_request(struct mini *mini, const struct evict_item *item, int64_t now, int64_t until);

void mini_set_strategy(struct mini *mini, enum evict_strategy strategy);

/* Keeps only keys whose hash is below `threshold` (see sample.h), and these limits. */
void mini_shrink(struct mini *mini, uint64_t threshold, struct mini_limits limits);

size_t mini_count(const struct mini *mini);
size_t mini_memory(const struct mini *mini);

/* Is a key of this hash in the sample that takes all below the threshold? UINT64_MAX takes every one. */
static inline bool mini_sampled(uint64_t hash, uint64_t threshold)
{
    return (hash * 0xbf58476d1ce4e5b9u) <= threshold;
}

#endif
