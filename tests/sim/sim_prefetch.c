/*
 * Prefetch in worlds where it can gain and where it cannot: an LRU cache of 1000 of 4000 keys, four clients
 * that take turns at random, fetches that complete at once (so an upper bound on what comes in time), 50 ms
 * from request to request. sequences  each client walks one of 200 fixed sequences of 20 keys after another
 *   broken     the same, and each tenth request goes anywhere
 *   random     each request goes anywhere: nothing can be learnt
 *   turned     sequences; at half-time what followed what is shuffled for good, to random
 * Prints a table, exits 1 when a bound is broken.
 */
#include "policy/prefetch.h"
#include "policy/rng.h"

#include <stdio.h>
#include <string.h>

enum {
    KEYS = 4000,
    CAPACITY = 1000,
    LENGTH = 20,
    CLIENTS = 4,
    REQUESTS = 400000,
    LEARNING = 10000,
    NONE = -1
};

enum world { SEQUENCES, BROKEN, RANDOM, TURNED, WORLDS };
static const char *const worlds[] = {"sequences", "broken", "random", "turned"};
static const char *const strategies[] = {"none", "always", "adaptive", "predictive"};

struct cache {
    int older[KEYS], newer[KEYS]; /* links of the order of use */
    bool in[KEYS], ahead[KEYS];   /* ahead: prefetched and not used yet */
    int oldest, newest, count;
};

struct result {
    double hits, precision, origin, late; /* late: prefetches a request, in %, after LEARNING requests */
    struct prefetch_stats stats;
};

static void unlink_key(struct cache *c, int k)
{
    *(c->older[k] == NONE ? &c->oldest : &c->newer[c->older[k]]) = c->newer[k];
    *(c->newer[k] == NONE ? &c->newest : &c->older[c->newer[k]]) = c->older[k];
    c->in[k] = false;
    c->count--;
}

static void put_newest(struct cache *c, int k)
{
    c->older[k] = c->newest;
    c->newer[k] = NONE;
    *(c->newest == NONE ? &c->oldest : &c->newer[c->newest]) = k;
    c->newest = k;
    c->in[k] = true;
    c->count++;
}

static void store(struct cache *c, struct prefetch *p, int k, bool ahead)
{
    if (c->count == CAPACITY) {
        int victim = c->oldest;
        unlink_key(c, victim);
        if (c->ahead[victim])
            prefetch_evicted(p, (uint64_t)victim);
    }
    put_newest(c, k);
    c->ahead[k] = ahead;
}

static int next_key(enum world world, int step, int *at, struct rng *rng)
{
    bool anywhere = world == RANDOM || (world == TURNED && step > REQUESTS / 2) ||
                    (world == BROKEN && rng_below(rng, 10) == 0);
    if (anywhere)
        return (int)rng_below(rng, KEYS);
    *at = (*at + 1) % LENGTH == 0 ? (int)rng_below(rng, KEYS / LENGTH) * LENGTH : *at + 1;
    return *at;
}

static struct result run(enum world world, enum prefetch_strategy strategy)
{
    static struct cache c;
    struct prefetch_settings set = {.strategy = strategy, .max_load = 0.1, .accuracy = 0.7};
    struct prefetch *p = prefetch_new(&set);
    struct result r = {0};
    struct rng rng;
    int at[CLIENTS] = {0};
    uint64_t used = 0, fetches = 0, before = 0;
    if (!p)
        return r;
    memset(&c, 0, sizeof c);
    c.oldest = c.newest = NONE;
    rng_seed(&rng, 1);
    for (int i = 0; i < REQUESTS; i++) {
        struct successor_guess guess[PREFETCH_MAX_GUESSES];
        uint64_t client = rng_below(&rng, CLIENTS);
        int k = next_key(world, i, &at[client], &rng);
        struct prefetch_event event = {client, (uint64_t)k, i * 50 * TICK_MS, !c.in[k]};
        unsigned n = prefetch_request(p, &event, guess, PREFETCH_MAX_GUESSES);
        if (c.in[k]) {
            r.hits += 100.0 / REQUESTS;
            used += c.ahead[k];
            c.ahead[k] = false;
            unlink_key(&c, k);
            put_newest(&c, k);
        } else {
            fetches++;
            store(&c, p, k, false);
        }
        for (unsigned g = 0; g < n; g++)
            if (!c.in[guess[g].key] && prefetch_issue(p, &guess[g], event.now)) {
                fetches++;
                store(&c, p, (int)guess[g].key, true);
            }
        prefetch_stats(p, event.now, &r.stats);
        if (i == LEARNING)
            before = r.stats.issued;
    }
    r.precision = r.stats.issued ? (double)used / (double)r.stats.issued : 1;
    r.origin = 100.0 * (double)fetches / REQUESTS;
    r.late = 100.0 * (double)(r.stats.issued - before) / (REQUESTS - LEARNING);
    prefetch_free(p);
    return r;
}

static int bound(const char *what, bool held)
{
    printf("%-72s %s\n", what, held ? "good" : "BROKEN");
    return !held;
}

int main(void)
{
    struct result r[WORLDS][4];
    int broken = 0;
    printf("%-10s %-11s %6s %9s %7s %9s %5s\n", "world", "strategy", "hits %", "precision", "origin",
           "issued %", "off");
    for (enum world w = 0; w < WORLDS; w++)
        for (enum prefetch_strategy s = PREFETCH_NONE; s <= PREFETCH_PREDICTIVE; s++) {
            r[w][s] = run(w, s);
            printf("%-10s %-11s %6.2f %9.3f %7.2f %9.2f %5lu\n", worlds[w], strategies[s], r[w][s].hits,
                   r[w][s].precision, r[w][s].origin, r[w][s].late,
                   (unsigned long)r[w][s].stats.switched_off);
        }
    for (enum prefetch_strategy s = PREFETCH_ADAPTIVE; s <= PREFETCH_PREDICTIVE; s++) {
        printf("%s:\n", strategies[s]);
        broken += bound("sequences: at least 8 points of hits more, precision at least 0.8",
                        r[SEQUENCES][s].hits >= r[SEQUENCES][0].hits + 8 && r[SEQUENCES][s].precision >= 0.8);
        broken += bound("broken: at least 8 points of hits more, origin at most 10 points more",
                        r[BROKEN][s].hits >= r[BROKEN][0].hits + 8 &&
                            r[BROKEN][s].origin <= r[BROKEN][0].origin + 10);
        broken += bound("random: at most 1 % prefetches after 10,000 requests", r[RANDOM][s].late <= 1);
        broken +=
            bound("random: at most 0.1 points of hits less", r[RANDOM][s].hits >= r[RANDOM][0].hits - 0.1);
        broken += bound("turned: it switches itself off", r[TURNED][s].stats.switched_off > 0);
    }
    return broken > 0;
}
