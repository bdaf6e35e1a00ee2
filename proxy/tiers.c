/*
 * The keeper's thread. Invariants: one sweep at a time; what it knows of the traffic comes from the store's
 * counts alone; while nothing is given up for room and nothing is cold, it compresses nothing.
 */
#include "proxy/tiers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "proxy/squeeze.h"
#include "proxy/store.h"

enum { TURN_MS = 1000, PRESSED_TURN_MS = 50 };

struct tiers {
    struct store *store;
    struct squeezer *squeezer;
    pthread_t thread;
    _Atomic bool active;
    _Atomic uint64_t threshold, fetch_ns;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t bell;
    bool stopping;
    struct tiers_stats stats;
};

static tick_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (tick_t)t.tv_sec * TICK_S + t.tv_nsec;
}

/* What a window says of the price. */
static void reckon(struct tiers *t, const struct store_stats *was, const struct store_stats *is, tick_t took,
                   struct tier_market *market)
{
    double cold = (double)is->tier_bytes[TIER_COLD];
    struct tier_window w = {.seconds = (double)took / (double)TICK_S,
                            .regrets = (double)(is->regrets - was->regrets),
                            .regret_bytes = (double)is->ghost_bytes,
                            .cold_uses = (double)(is->cold_hits - was->cold_hits),
                            .cold_bytes = market->ratio > 0 ? cold / market->ratio : cold,
                            .fetch_ns = (double)atomic_load(&t->fetch_ns)};
    market->price = tier_price(market->price, &w);
}

static void learn(struct tiers *t, const struct store_swept *swept, struct tier_market *market)
{
    if (swept->unpack_bytes > 0)
        market->unpack_ns = (double)swept->unpack_ns / (double)swept->unpack_bytes;
    pthread_mutex_lock(&t->lock);
    t->stats.chilled += swept->chilled;
    t->stats.compressed_from += swept->from;
    t->stats.compressed_to += swept->to;
    if (t->stats.compressed_from > 0)
        market->ratio = (double)t->stats.compressed_to / (double)t->stats.compressed_from;
    t->stats.market = *market;
    pthread_mutex_unlock(&t->lock);
}

/* True: it is time to end. */
static bool sleep_for(struct tiers *t, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms % 1000 * 1000000;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&t->lock);
    if (!t->stopping)
        pthread_cond_timedwait(&t->bell, &t->lock, &until);
    bool stopping = t->stopping;
    pthread_mutex_unlock(&t->lock);
    return stopping;
}

/* A look at an entry takes some 100 ns: all of them take one part in fifty of a processor at most, and one in
 * five while memory is wanted. */
static int64_t pause_ms(const struct store_stats *s, bool pressed)
{
    int64_t entries = (int64_t)s->entries;
    int64_t least = pressed ? PRESSED_TURN_MS : TURN_MS, share = entries / (pressed ? 2000 : 200);
    return share > least ? share : least;
}

static void *run(void *arg)
{
    struct tiers *t = arg;
    struct store_stats was, is;
    struct store_swept swept = {0};
    struct tier_market market = {0};
    tick_t since = now_ns();
    bool eager = false;
    uint64_t evictions = 0;
    store_stats(t->store, &was);
    while (!sleep_for(t, pause_ms(&was, swept.pressed))) {
        tick_t now = now_ns();
        store_stats(t->store, &is);
        reckon(t, &was, &is, now - since, &market);
        was = is;
        since = now;
        struct store_sweep how = {.market = market,
                                  .threshold = atomic_load(&t->threshold),
                                  .now = now,
                                  .active = atomic_load(&t->active) && market.price > 0,
                                  .eager = eager,
                                  .wanted = is.evictions > evictions};
        evictions = is.evictions;
        store_sweep(t->store, t->squeezer, &how, &swept);
        eager = swept.pressed && swept.chilled == 0; /* what was not used of late was not enough */
        learn(t, &swept, &market);
    }
    return NULL;
}

struct tiers *tiers_start(struct store *store)
{
    pthread_condattr_t attributes;
    struct tiers *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->store = store;
    t->squeezer = squeezer_new();
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&t->bell, &attributes);
    pthread_condattr_destroy(&attributes);
    if (t->squeezer && pthread_create(&t->thread, NULL, run, t) == 0)
        return t;
    squeezer_free(t->squeezer);
    pthread_cond_destroy(&t->bell);
    pthread_mutex_destroy(&t->lock);
    free(t);
    return NULL;
}

void tiers_stop(struct tiers *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    pthread_cond_signal(&t->bell);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    squeezer_free(t->squeezer);
    pthread_cond_destroy(&t->bell);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void tiers_tune(struct tiers *t, bool active, uint64_t threshold, uint64_t fetch_ns)
{
    atomic_store(&t->active, active);
    atomic_store(&t->threshold, threshold);
    if (fetch_ns > 0)
        atomic_store(&t->fetch_ns, fetch_ns);
}

void tiers_stats(struct tiers *t, struct tiers_stats *out)
{
    pthread_mutex_lock(&t->lock);
    *out = t->stats;
    pthread_mutex_unlock(&t->lock);
}
