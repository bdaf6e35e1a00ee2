/*
 * When a stored answer is fetched anew before it is stale, so that nobody waits for that: shortly before its
 * end, the earlier the longer its fetch takes, at a random moment, so that answers that came together are not
 * fetched together; and only when it will likely be read again. Pure arithmetic.
 *
 * Source for early refresh weighed by the time of the fetch: XFetch (Vattani et al., VLDB 2015). Here a
 * timer takes the place of the dice at each read, because answers that are read seldom are to be fresh too.
 */
#ifndef POLICY_REFRESH_H
#define POLICY_REFRESH_H

#include "policy/base.h"
#include "policy/rng.h"

#define REFRESH_LEAST_LIFE (500 * TICK_MS) /* what lives shorter is not refreshed ahead */

/*
 * How long before its end a version that lives for `lifetime` is to be fetched anew, when fetching takes
 * `fetch_time` (0: not known). At most a third of the lifetime. 0: not at all, it lives too short.
 */
tick_t refresh_lead(tick_t lifetime, tick_t fetch_time, struct rng *rng);

/* What is known of a version when that moment comes. */
struct refresh_reads {
    uint32_t reads;  /* answered from it, the one that brought it not counted */
    tick_t span;     /* from its receipt to its last read */
    tick_t silence;  /* since then */
    unsigned streak; /* versions before it in a row that were refreshed ahead, and read */
};

/*
 * Will it likely be read again soon? Yes when two reads at least came, or the version before it was read as
 * well, or a single one not so long ago that it looks like the last: silence of up to four times the gap
 * before it. Never without any read: so what nobody reads any more is refreshed once in vain, at most.
 */
bool refresh_wanted(const struct refresh_reads *r);

/*
 * How many refreshes may be in vain: `load` a request to the upstream, refreshes included, and REFRESH_BURST
 * at once. One that was read came in place of a miss, and gives its place back.
 */
#define REFRESH_BURST 256
struct refresh_budget {
    double left; /* set to REFRESH_BURST at first */
};
/* So many requests of clients went to the upstream. */
void refresh_budget_earn(struct refresh_budget *b, double load, double requests);
/* May one go? True takes from the budget. */
bool refresh_budget_take(struct refresh_budget *b, double load) MUSTCHECK;
/* One that went was read. */
void refresh_budget_give(struct refresh_budget *b);

#endif
