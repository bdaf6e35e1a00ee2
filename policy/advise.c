/*
 * Estimates from facts. Invariants: each is a share of a cost, in (0, 1]; each rests on at least LEAST
 * events; a setting moves by one step at a time.
 */
#include "policy/advise.h"

#include <math.h>
#include <string.h>

#define LEAST         50   /* events in a window */
#define LEAST_LOOKS   20   /* versions compared */
#define WORTH         0.05 /* below this improvement nothing is said */
#define SURE          0.6  /* confidence, below which nothing is said */
#define CHANGED_MOST  0.02 /* of the versions compared: above it a longer lifetime would serve what is old */
#define MEMORY_LOSS   0.005
#define MEMORY_LEAST  (16.0 * 1024 * 1024)
#define WAIT_SHARE    0.1
#define FUTILE        0.8
#define CONNECT_SHARE 0.1
#define LOOKUP_SLOW   0.1 /* seconds */
#define LOOKUPS_LEAST 3
#define NINETY        1.645

static bool full(const struct advise_facts *f, bool *by_bytes)
{
    bool entries = f->max_entries && (double)f->entries >= 0.9 * (double)f->max_entries;
    bool bytes = f->max_bytes && (double)f->bytes >= 0.9 * (double)f->max_bytes;
    *by_bytes = bytes && !entries;
    return entries || bytes;
}

/* Upstream calls that more hits would save, as a share of those there are. */
static double saved(const struct advise_facts *f, double hits)
{
    double calls = f->lookups - f->hits;
    return f->lookups >= LEAST && calls > 0 ? (hits - f->hits) / calls : 0;
}

static bool cache_size(const struct advise_facts *f, struct advise_estimate *out)
{
    bool by_bytes;
    if (!f->evictions || !full(f, &by_bytes))
        return false;
    double limit = by_bytes ? (double)f->max_bytes : (double)f->max_entries;
    *out = (struct advise_estimate){saved(f, f->hits_twice), limit, limit * 2,
                                    by_bytes ? "cache.max_memory_bytes" : "cache.max_size"};
    return out->improvement > 0;
}

static bool cache_ttl(const struct advise_facts *f, struct advise_estimate *out)
{
    double ttl = (double)f->default_ttl / (double)TICK_S;
    if (f->default_ttl <= 0 || f->looked < LEAST_LOOKS ||
        (double)f->changed > CHANGED_MOST * (double)f->looked)
        return false;
    double twice = saved(f, f->hits_life_twice), four = saved(f, f->hits_life_four);
    bool far = four > twice + WORTH;
    *out = (struct advise_estimate){far ? four : twice, ttl, ttl * (far ? 4 : 2), "cache.default_ttl"};
    return out->improvement > 0;
}

/* Half of the cache does nearly the same. */
static bool memory(const struct advise_facts *f, struct advise_estimate *out)
{
    bool by_bytes;
    if (!full(f, &by_bytes) || !f->max_bytes || (double)f->bytes < MEMORY_LEAST || f->lookups < LEAST ||
        f->hits < LEAST || f->hits - f->hits_half > MEMORY_LOSS * f->lookups)
        return false;
    double limit = (double)f->bytes / 2;
    *out = (struct advise_estimate){0.5, (double)f->max_bytes, limit, "cache.max_memory_bytes"};
    return true;
}

static bool pool(const struct advise_facts *f, struct advise_estimate *out)
{
    double share = f->latency > 0 ? f->pool_wait / f->latency : 0;
    if (f->attempts < LEAST || f->pool_peak <= f->pool_max || share < WAIT_SHARE)
        return false;
    double wanted = ceil(1.25 * f->pool_peak), most = 4.0 * f->pool_max;
    double target = wanted < most ? wanted : most;
    /* By Little's law what is waited for shrinks with those who find no connection. */
    double cleared =
        target >= f->pool_peak ? 1 : (target - f->pool_max) / ((double)f->pool_peak - f->pool_max);
    *out = (struct advise_estimate){fmin(share, 1) * cleared, f->pool_max, target, "pool.max_size"};
    return true;
}

/* The recorded requests, had they had fewer attempts. */
static bool retry(const struct advise_facts *f, struct advise_estimate *out)
{
    uint64_t again = 0, good = 0, all = 0, fewer = 0;
    unsigned target = f->max_attempts > 2 ? f->max_attempts - 1 : 1;
    for (unsigned n = 2; n <= ADVISE_ATTEMPTS; n++) {
        again += f->recorded[n];
        good += f->recorded_good[n];
    }
    if (f->max_attempts < 2 || again < LEAST / 2 || (double)good > (1 - FUTILE) * (double)again)
        return false;
    if ((double)good <= 0.05 * (double)again)
        target = 1;
    for (unsigned n = 1; n <= ADVISE_ATTEMPTS; n++) {
        all += n * f->recorded[n];
        fewer += (n < target ? n : target) * f->recorded[n];
    }
    *out = (struct advise_estimate){all ? 1 - (double)fewer / (double)all : 0, f->max_attempts, target,
                                    "retry.max_attempts"};
    return all >= LEAST && out->improvement > 0;
}

/* Most requests pay for a connection of their own. */
static bool network(const struct advise_facts *f, struct advise_estimate *out)
{
    double share = f->latency > 0 ? f->connecting / f->latency : 0,
           idle = (double)f->max_idle_time / (double)TICK_S;
    if (f->attempts < LEAST || f->connects < LEAST / 2 || (double)f->connects < 0.3 * (double)f->attempts ||
        share < CONNECT_SHARE)
        return false;
    *out = (struct advise_estimate){fmin(share, 1), idle, fmax(idle * 4, 60), "pool.max_idle_time"};
    return true;
}

static bool breaker(const struct advise_facts *f, struct advise_estimate *out)
{
    if (f->breaker_enabled || f->failed < LEAST / 2 || f->recorded_seconds <= 0)
        return false;
    *out = (struct advise_estimate){f->breaker_saves / f->recorded_seconds, 0, 1,
                                    "circuit_breaker.enable_circuit_breaker"};
    return out->improvement > 0;
}

static bool batching(const struct advise_facts *f, struct advise_estimate *out)
{
    if (!f->batching_possible || f->recorded_calls < LEAST)
        return false;
    *out = (struct advise_estimate){f->batching_saves / (double)f->recorded_calls, 0, 1, "batching.enabled"};
    return out->improvement > 0;
}

/* Nobody waits for the name but who comes first: after a start, and when the addresses have changed. */
static bool dns(const struct advise_facts *f, struct advise_estimate *out)
{
    double connect = f->connects ? f->connecting / (double)f->connects : 0;
    if (f->names_looked_up < LOOKUPS_LEAST || f->lookup < LOOKUP_SLOW)
        return false;
    *out = (struct advise_estimate){f->lookup / (f->lookup + connect), f->lookup, 0, ""};
    return true;
}

/* Large texts that come as they are, by how a sample of them would compress. */
static bool compression(const struct advise_facts *f, struct advise_estimate *out)
{
    if (f->plain_bodies < LEAST / 2 || !f->sampled || !f->received)
        return false;
    double smaller = 1 - (double)f->sampled_smaller / (double)f->sampled;
    double share = fmin((double)f->plain / (double)f->received, 1);
    *out = (struct advise_estimate){smaller * share, 1, 1 / (1 - fmin(smaller, 0.99)), ""};
    return out->improvement > 0;
}

size_t advise_batches(const tick_t *begun, size_t count, tick_t window, size_t most)
{
    size_t saved = 0;
    for (size_t i = 0; i < count;) {
        size_t alone = i++;
        if (i == count || begun[i] - begun[alone] > window)
            continue;
        size_t opened = i;
        while (i < count && begun[i] - begun[opened] <= window && i - opened < most)
            i++;
        saved += i - opened - 1;
    }
    return saved;
}

bool advise_enough(const struct advise_facts *f)
{
    return f->requests >= LEAST;
}

bool advise_window(const struct advise_facts *f, enum advise_kind kind, struct advise_estimate *out)
{
    static bool (*const kinds[ADVISE_KINDS])(const struct advise_facts *, struct advise_estimate *) = {
        [ADVISE_CACHE_SIZE] = cache_size,
        [ADVISE_CACHE_TTL] = cache_ttl,
        [ADVISE_MEMORY] = memory,
        [ADVISE_POOL] = pool,
        [ADVISE_RETRY] = retry,
        [ADVISE_NETWORK] = network,
        [ADVISE_BREAKER] = breaker,
        [ADVISE_BATCHING] = batching,
        [ADVISE_DNS] = dns,
        [ADVISE_COMPRESSION] = compression,
    };
    return advise_enough(f) && kinds[kind](f, out) && out->improvement >= WORTH / 2;
}

/* ---- over windows ---- */

void advise_forget(struct advise_track *t)
{
    memset(t, 0, sizeof *t);
}

void advise_note(struct advise_track *t, const struct advise_estimate *estimate)
{
    bool other =
        estimate && t->last.key &&
        (strcmp(t->last.key, estimate->key) != 0 || (*estimate->key && t->last.current != estimate->current));
    if (other)
        advise_forget(t); /* the setting is another one now: what was estimated from the old one is void */
    t->idle = 0;
    t->improvement[t->next] = estimate ? fmin(estimate->improvement, 1) : 0;
    t->next = (t->next + 1) % ADVISE_WINDOWS;
    t->count += t->count < ADVISE_WINDOWS;
    if (estimate)
        t->last = *estimate;
}

void advise_idle(struct advise_track *t)
{
    if (++t->idle >= ADVISE_WINDOWS)
        advise_forget(t);
}

bool advise_look(const struct advise_track *t, struct advise_view *out)
{
    double sum = 0, squares = 0, agree = 0;
    for (unsigned i = 0; i < t->count; i++)
        sum += t->improvement[i];
    if (t->count < ADVISE_LEAST_WINDOWS || !t->last.key)
        return false;
    double mean = sum / t->count;
    for (unsigned i = 0; i < t->count; i++) {
        squares += (t->improvement[i] - mean) * (t->improvement[i] - mean);
        agree += t->improvement[i] >= mean / 2;
    }
    *out = (struct advise_view){.estimate = t->last,
                                .margin = NINETY * sqrt(squares / (t->count - 1) / t->count),
                                .confidence = (agree + 1) / (t->count + 2),
                                .windows = t->count};
    out->estimate.improvement = mean;
    return mean >= WORTH && out->confidence >= SURE;
}
