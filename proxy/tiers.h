/*
 * The keeper of the tiers in memory: a thread that judges once a second where each entry belongs, and
 * compresses what is to be cold, so that no worker has to.
 */
#ifndef PROXY_TIERS_H
#define PROXY_TIERS_H

#include "policy/base.h"
#include "policy/tier.h"

struct store;
struct tiers;

/* Starts the thread. NULL: no memory, or no thread (errno). The store outlives it. */
struct tiers *tiers_start(struct store *store) MUSTCHECK;
void tiers_stop(struct tiers *tiers); /* NULL is fine */

/* Live: whether anything is compressed, from which size of a body on, and what a fetch costs on average, in
 * ns (0: not known yet). Any thread. */
void tiers_tune(struct tiers *tiers, bool active, uint64_t threshold, uint64_t fetch_ns);

struct tiers_stats {
    uint64_t chilled;                        /* entries that were compressed */
    uint64_t compressed_from, compressed_to; /* their bytes */
    struct tier_market market;
};
void tiers_stats(struct tiers *tiers, struct tiers_stats *out);

#endif
