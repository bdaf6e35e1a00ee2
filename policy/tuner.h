/*
 * Which rule adaptive eviction should follow: every candidate runs in miniature on a sample of the requests,
 * and the live rule moves to one that saves more, with hysteresis. One a cache, whatever its shards. Single
 * owner, but for tuner_wants and the advice.
 */
#ifndef POLICY_TUNER_H
#define POLICY_TUNER_H

#include "policy/evict.h"

struct tuner; /* private */

/* For a cache with these limits, 0 = none. NULL: out of memory. */
struct tuner *tuner_new(uint64_t max_entries, uint64_t max_bytes);

/* The same for a cache that is not there, by the sample that somebody else follows: no key beyond the
 * `threshold` of mini.h will be noted. It has seven of the eleven candidates, those between which the others
 * lie, for two thirds of the cost. */
struct tuner *tuner_new_within(uint64_t max_entries, uint64_t max_bytes, uint64_t threshold);
void tuner_free(struct tuner *tuner);

/* From now on no key beyond the threshold is noted. */
void tuner_narrow(struct tuner *tuner, uint64_t threshold);

/* Other limits: it starts to learn anew, and the advice stays until then. False: out of memory, nothing
 * changed. */
bool tuner_set_limits(struct tuner *tuner, uint64_t max_entries, uint64_t max_bytes) MUSTCHECK;

/* Is a request for this key in the sample? Any thread. */
bool tuner_wants(const struct tuner *tuner, uint64_t hash);

/* A request, hit or miss, for a key in the sample, for something that the cache keeps. */
void tuner_note(struct tuner *tuner, const struct evict_item *item);

/* Where indexes read their rule, by any thread. Valid as long as the tuner. */
const evict_advice *tuner_advice(const struct tuner *tuner);

struct evict_rule tuner_rule(const struct tuner *tuner);

/* The share of the keys that are sampled. */
double tuner_rate(const struct tuner *tuner);

/* How often the rule was changed. */
uint64_t tuner_changes(const struct tuner *tuner);

size_t tuner_memory(const struct tuner *tuner);

#endif
