/*
 * What the workers know together of what comes next. Invariants: `lock` is held for a batch of events or for
 * one question, never across anything that waits; a guess is given only with a recipe of its own place.
 */
#include "proxy/ahead.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "policy/config.h"
#include "policy/prefetch.h"
#include "proxy/view.h"

enum { KEYS = 8192, CLIENTS = 1024, UNREAD_MOST = 256 };

/* A client that was silent for so long begins anew. */
static const tick_t GAP = 300 * TICK_S;

/* So many answers from the cache in a row that were not fetched ahead: there is nothing to be gained. */
enum { COOL_AFTER = 256 };

struct ahead {
    struct store *store;
    _Atomic bool on;
    _Atomic unsigned flying;
    _Atomic uint64_t held[AHEAD_HOLDS];
    _Atomic int last_hold; /* -1: none */
    _Atomic tick_t last_hold_at;
    pthread_mutex_t lock; /* of what follows */
    struct hash_key key;
    struct prefetch_settings set;
    bool enabled;
    struct prefetch *prefetch; /* NULL: it was never on */
    struct recipes *recipes;
    struct refresh_budget budget;
    uint32_t unread_seen;
    unsigned heat; /* answers until it is cool; 0: it is */
};

static enum prefetch_strategy strategy_of(const struct config *cfg)
{
    static const enum prefetch_strategy strategies[] = {
        [CONFIG_CACHE_PREFETCH_STRATEGY_NONE] = PREFETCH_NONE,
        [CONFIG_CACHE_PREFETCH_STRATEGY_ALWAYS] = PREFETCH_ALWAYS,
        [CONFIG_CACHE_PREFETCH_STRATEGY_ADAPTIVE] = PREFETCH_ADAPTIVE,
        [CONFIG_CACHE_PREFETCH_STRATEGY_PREDICTIVE] = PREFETCH_PREDICTIVE,
    };
    return cfg->cache_enabled && cfg->cache_enable_prefetching ? strategies[cfg->cache_prefetch_strategy]
                                                               : PREFETCH_NONE;
}

/* Under the lock. Memory is taken when it is first needed; without it nothing is fetched ahead. */
static bool make_tables(struct ahead *a)
{
    if (!a->prefetch)
        a->prefetch = prefetch_new(&a->set);
    if (!a->recipes)
        a->recipes = recipes_new(a->key);
    return a->prefetch && a->recipes;
}

void ahead_tune(struct ahead *a, const struct config *cfg)
{
    pthread_mutex_lock(&a->lock);
    a->enabled = cfg->cache_enabled && cfg->cache_enable_prefetching;
    a->set = (struct prefetch_settings){
        .strategy = strategy_of(cfg),
        .max_load = cfg->cache_prefetch_max_load,
        .accuracy = cfg->cache_prefetch_accuracy_threshold,
        .keys = KEYS,
        .clients = CLIENTS,
        .gap = GAP,
    };
    bool on = a->set.strategy != PREFETCH_NONE && make_tables(a);
    if (a->prefetch)
        prefetch_set(a->prefetch, &a->set);
    atomic_store_explicit(&a->on, on, memory_order_relaxed);
    pthread_mutex_unlock(&a->lock);
}

struct ahead *ahead_new(struct store *store, const struct config *cfg, struct hash_key key)
{
    struct ahead *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    pthread_mutex_init(&a->lock, NULL);
    a->store = store;
    a->key = key;
    a->budget.left = REFRESH_BURST;
    atomic_init(&a->last_hold, -1);
    ahead_tune(a, cfg);
    return a;
}

void ahead_free(struct ahead *a)
{
    if (!a)
        return;
    prefetch_free(a->prefetch);
    recipes_free(a->recipes);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

bool ahead_on(const struct ahead *a)
{
    return atomic_load_explicit(&((struct ahead *)(uintptr_t)a)->on, memory_order_relaxed);
}

/* ---- learning and guessing, under the lock ---------------------------------------------------------------
 */

static void hear_of_unread(struct ahead *a)
{
    uint64_t keys[UNREAD_MOST];
    unsigned n = store_unread(a->store, &a->unread_seen, keys, UNREAD_MOST);
    for (unsigned i = 0; i < n; i++)
        prefetch_evicted(a->prefetch, keys[i]);
}

/* Need the answer not be fetched? */
static bool is_there(struct ahead *a, struct hash128 place, tick_t now)
{
    struct store_peek peek;
    return store_peek(a->store, place, 0, now, &peek) && peek.left > 0;
}

static unsigned learn_one(struct ahead *a, const struct ahead_event *event, tick_t now, struct recipe *out,
                          unsigned max)
{
    struct successor_guess guess[PREFETCH_MAX_GUESSES];
    struct prefetch_event seen = {event->client, event->key, now, event->missed};
    unsigned given = 0;
    if (event->before)
        prefetch_stand(a->prefetch, event->client, event->before, now);
    if (event->missed || event->fetched_ahead)
        a->heat = COOL_AFTER;
    else
        a->heat -= a->heat > 0;
    unsigned n = prefetch_request(a->prefetch, &seen, guess, a->heat > 0 ? PREFETCH_MAX_GUESSES : 0);
    for (unsigned i = 0; i < n && given < max; i++) {
        const struct hash128 *place = recipes_place(a->recipes, guess[i].key);
        if (!place || is_there(a, *place, now))
            continue;
        if (!prefetch_has_budget(a->prefetch))
            ahead_held(a, AHEAD_HELD_BUDGET, now);
        else if (recipes_find(a->recipes, guess[i].key, &out[given]))
            given++;
    }
    return given;
}

unsigned ahead_learn(struct ahead *a, const struct ahead_event *events, unsigned count, tick_t now,
                     struct recipe *out, unsigned max, bool *cool)
{
    unsigned given = 0, missed = 0;
    if (pthread_mutex_trylock(&a->lock) != 0)
        return AHEAD_BUSY;
    if (ahead_on(a)) {
        hear_of_unread(a);
        for (unsigned i = 0; i < count; i++) {
            given += learn_one(a, &events[i], now, &out[given], max - given);
            missed += events[i].missed;
            if (events[i].renewed)
                refresh_budget_give(&a->budget);
        }
        refresh_budget_earn(&a->budget, a->set.max_load, missed);
    }
    *cool = a->heat == 0;
    pthread_mutex_unlock(&a->lock);
    return given;
}

/* ---- one question each -----------------------------------------------------------------------------------
 */

bool ahead_issue(struct ahead *a, uint64_t key, tick_t now)
{
    struct successor_guess guess = {.key = key};
    pthread_mutex_lock(&a->lock);
    bool go = ahead_on(a) && prefetch_issue(a->prefetch, &guess, now);
    pthread_mutex_unlock(&a->lock);
    return go;
}

void ahead_failed(struct ahead *a, uint64_t key)
{
    pthread_mutex_lock(&a->lock);
    if (a->prefetch)
        prefetch_failed(a->prefetch, key);
    pthread_mutex_unlock(&a->lock);
}

bool ahead_renew(struct ahead *a)
{
    pthread_mutex_lock(&a->lock);
    bool go = ahead_on(a) && refresh_budget_take(&a->budget, a->set.max_load);
    pthread_mutex_unlock(&a->lock);
    return go;
}

void ahead_keep(struct ahead *a, const struct store_key *key, const struct head *head, uint64_t without,
                bool patient)
{
    if (patient)
        pthread_mutex_lock(&a->lock);
    else if (pthread_mutex_trylock(&a->lock) != 0)
        return;
    if (ahead_on(a))
        recipes_learn(a->recipes, key, head, without);
    pthread_mutex_unlock(&a->lock);
}

bool ahead_recipe(struct ahead *a, uint64_t place_lo, struct recipe *out)
{
    pthread_mutex_lock(&a->lock);
    bool found = ahead_on(a) && recipes_find(a->recipes, place_lo, out);
    pthread_mutex_unlock(&a->lock);
    return found;
}

void ahead_refused(struct ahead *a, struct hash128 partition)
{
    pthread_mutex_lock(&a->lock);
    if (a->recipes)
        recipes_forget(a->recipes, partition);
    pthread_mutex_unlock(&a->lock);
}

/* ---- without the lock ------------------------------------------------------------------------------------
 */

void ahead_held(struct ahead *a, enum ahead_hold why, tick_t now)
{
    atomic_fetch_add_explicit(&a->held[why], 1, memory_order_relaxed);
    atomic_store_explicit(&a->last_hold, (int)why, memory_order_relaxed);
    atomic_store_explicit(&a->last_hold_at, now, memory_order_relaxed);
}

bool ahead_take_off(struct ahead *a, unsigned max)
{
    if (atomic_fetch_add_explicit(&a->flying, 1, memory_order_relaxed) < max)
        return true;
    atomic_fetch_sub_explicit(&a->flying, 1, memory_order_relaxed);
    return false;
}

void ahead_land(struct ahead *a)
{
    atomic_fetch_sub_explicit(&a->flying, 1, memory_order_relaxed);
}

uint64_t ahead_held_count(const struct ahead *a)
{
    struct ahead *mine = (struct ahead *)(uintptr_t)a;
    uint64_t sum = 0;
    for (int i = 0; i < AHEAD_HOLDS; i++)
        sum += atomic_load_explicit(&mine->held[i], memory_order_relaxed);
    return sum;
}

/* ---- showing ---------------------------------------------------------------------------------------------
 */

static const struct {
    const char *name, *sentence;
} holds[AHEAD_HOLDS] = {
    [AHEAD_HELD_CIRCUIT] = {"circuit", "a circuit is not closed"},
    [AHEAD_HELD_SPARE] = {"spare", "the rate limit or the concurrency limit has nothing to spare"},
    [AHEAD_HELD_POOL] = {"pool", "clients need the upstream connections"},
    [AHEAD_HELD_FLYING] = {"in_flight", "as many as may be are under way"},
    [AHEAD_HELD_BUDGET] = {"budget", "cache.prefetch_max_load is used up"},
};

/* A hold that is so recent is a reason of now. */
static const tick_t HOLD_SHOWN = 10 * TICK_S;

/* Why nothing is fetched ahead now, in words; NULL: it may be. */
static const char *paused_why(struct ahead *a, const struct prefetch_stats *s, tick_t now)
{
    int hold = atomic_load_explicit(&a->last_hold, memory_order_relaxed);
    tick_t at = atomic_load_explicit(&a->last_hold_at, memory_order_relaxed);
    if (!a->enabled)
        return "cache.enable_prefetching or cache.enabled is off";
    if (a->set.strategy == PREFETCH_NONE)
        return "cache.prefetch_strategy is none";
    if (!ahead_on(a))
        return "out of memory";
    if (s->off)
        return "fewer prefetches than cache.prefetch_accuracy_threshold were used; it is tried again later";
    if (hold >= 0 && now - at < HOLD_SHOWN)
        return holds[hold].sentence;
    return NULL;
}

static void show_policy(const struct ahead *a, struct view *v, const struct prefetch_stats *s, tick_t now)
{
    view_real(v, "accuracy_threshold", a->set.accuracy);
    view_real(v, "max_load", a->set.max_load);
    if (s->precision >= 0)
        view_real(v, "accuracy", s->precision);
    else
        view_null(v, "accuracy"); /* too few have been settled */
    view_real(v, "confidence", s->confidence);
    view_real(v, "budget", s->tokens);
    view_uint(v, "switched_off", s->switched_off);
    if (s->off && s->off_until > now)
        view_real(v, "tried_again_in", (double)(s->off_until - now) / (double)TICK_S);
}

void ahead_show(struct ahead *a, struct view *v, const struct ahead_counts *counts, tick_t now)
{
    static const char *const strategies[] = {"none", "always", "adaptive", "predictive"};
    struct prefetch_stats s = {.precision = -1};
    pthread_mutex_lock(&a->lock);
    if (a->prefetch)
        prefetch_stats(a->prefetch, now, &s);
    const char *why = paused_why(a, &s, now);
    view_text(v, "strategy", strategies[a->set.strategy]);
    view_text(v, "state", !ahead_on(a) ? "off" : why ? "paused" : "active");
    if (why)
        view_text(v, "reason", why);
    show_policy(a, v, &s, now);
    view_uint(v, "observed", s.requests);
    view_uint(v, "issued", counts->issued);
    view_uint(v, "used", counts->used);
    view_uint(v, "wasted", counts->wasted);
    view_uint(v, "hits", counts->hits);
    view_uint(v, "in_flight", atomic_load_explicit(&a->flying, memory_order_relaxed));
    view_object(v, "held");
    for (int i = 0; i < AHEAD_HOLDS; i++)
        view_uint(v, holds[i].name, atomic_load_explicit(&a->held[i], memory_order_relaxed));
    view_end(v);
    view_object(v, "refresh_ahead");
    view_uint(v, "issued", counts->renew_issued);
    view_uint(v, "used", counts->renew_used);
    view_uint(v, "wasted", counts->renew_wasted);
    view_real(v, "budget", a->budget.left);
    view_end(v);
    view_uint(v, "known_requests", a->recipes ? recipes_count(a->recipes) : 0);
    view_uint(v, "memory_bytes",
              sizeof *a + (a->prefetch ? prefetch_bytes(a->prefetch) : 0) +
                  (a->recipes ? recipes_bytes(a->recipes) : 0));
    pthread_mutex_unlock(&a->lock);
}
