/* The arithmetic of refresh-ahead. */
#include "policy/refresh.h"

#define FETCHES   4             /* so many times of a fetch before the end, so that one retry fits */
#define SPREAD    10            /* and up to a tenth of the lifetime more, at random */
#define SPREAD_BY (60 * TICK_S) /* but no more than this */
#define LEAST     (50 * TICK_MS)
#define LONG_GAPS 4

tick_t refresh_lead(tick_t lifetime, tick_t fetch_time, struct rng *rng)
{
    if (lifetime < REFRESH_LEAST_LIFE)
        return 0;
    tick_t most = lifetime / 3, spread = lifetime / SPREAD < SPREAD_BY ? lifetime / SPREAD : SPREAD_BY;
    if (fetch_time < 0)
        fetch_time = 0;
    tick_t lead = fetch_time < most / FETCHES ? fetch_time * FETCHES : most;
    if (lead < LEAST)
        lead = LEAST;
    lead += (tick_t)rng_below(rng, (uint64_t)spread + 1);
    return lead < most ? lead : most;
}

bool refresh_wanted(const struct refresh_reads *r)
{
    if (r->reads == 0)
        return false;
    if (r->reads >= 2 || r->streak > 0)
        return true;
    return r->silence <= r->span * LONG_GAPS;
}

/* ---- the budget ---- */

static void add(struct refresh_budget *b, double n)
{
    b->left = b->left + n > REFRESH_BURST ? REFRESH_BURST : b->left + n;
}

void refresh_budget_earn(struct refresh_budget *b, double load, double requests)
{
    add(b, load * requests);
}

bool refresh_budget_take(struct refresh_budget *b, double load)
{
    if (load <= 0 || b->left < 1)
        return false;
    b->left += load - 1;
    return true;
}

void refresh_budget_give(struct refresh_budget *b)
{
    add(b, 1);
}
