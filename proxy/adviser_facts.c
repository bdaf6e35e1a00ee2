/*
 * Facts for recommendations. Invariant: everything is a difference of two marks of what only grows, so that
 * nothing is counted in two windows.
 */
#include "proxy/adviser_facts.h"

#include <stdlib.h>
#include <string.h>

#include "policy/breaker_replay.h"
#include "policy/config.h"
#include "proxy/guard.h"

static void histogram(const struct metrics *m, enum histogram_id id, int part, uint64_t *sum, uint64_t *count)
{
    struct hist_counts *c = calloc(1, sizeof *c); /* some ten KiB */
    if (!c)
        return;
    if (metrics_histogram(m, id, part, c)) {
        *sum += c->sum;
        *count += c->count;
    }
    free(c);
}

void facts_mark(const struct adviser_sources *s, struct facts_mark *out)
{
    const struct metrics *m = s->metrics;
    uint64_t ignored = 0, opened = 0;
    *out = (struct facts_mark){.requests = metrics_sum(m, METRIC_REQUESTS_DONE),
                               .failed = metrics_sum(m, METRIC_REQUESTS_FAILED),
                               .attempts = metrics_sum(m, METRIC_UPSTREAM_DONE)};
    histogram(m, HISTOGRAM_REQUEST, METRICS_ALL, &out->latency, &ignored);
    histogram(m, HISTOGRAM_POOL_WAIT, METRICS_ALL, &out->pool_wait, &ignored);
    out->received = metrics_sum(m, METRIC_UPSTREAM_RECEIVED_BYTES);
    out->plain = metrics_sum(m, METRIC_PLAIN_BYTES);
    out->plain_bodies = metrics_sum(m, METRIC_PLAIN_BODIES);
    out->sampled = metrics_sum(m, METRIC_PLAIN_SAMPLED);
    out->sampled_smaller = metrics_sum(m, METRIC_PLAIN_SMALLER);
    histogram(m, HISTOGRAM_CONNECT, 0, &out->looking, &out->lookups);
    histogram(m, HISTOGRAM_CONNECT, 1, &out->connecting, &out->connects);
    histogram(m, HISTOGRAM_CONNECT, 2, &out->connecting, &opened);
    for (int b = 0; b < metrics_blocks(m) && b < FACTS_BLOCKS; b++)
        out->recorded[b] = ring_count(metrics_ring(m, b));
    store_stats(s->store, &out->store);
    if (!store_whatif(s->store, &out->whatif))
        out->whatif = (struct store_whatif){0};
}

void facts_lookups(const struct facts_mark *from, const struct facts_mark *to, uint64_t *lookups,
                   uint64_t *hits)
{
    const struct store_stats *a = &from->store, *b = &to->store;
    uint64_t all = b->hits - a->hits, ahead = b->ahead - a->ahead;
    *lookups = all + b->misses - a->misses + b->stale - a->stale + b->coalesced - a->coalesced;
    *hits = all > ahead ? all - ahead : 0; /* what was fetched ahead was asked of the upstream as well */
}

/* ---- recorded requests ---- */

enum { BATCH_MOST = 4096, REPLAY_MOST = 32768 };

struct reading {
    uint16_t batchable; /* the operation's number; OPERATION_OTHER: none */
    size_t begins;
    tick_t *begun; /* of the calls that can be batched; BATCH_MOST of them at most. NULL: not wanted */
    size_t calls;
    struct replay_call *call; /* what went to the upstream; REPLAY_MOST at most. NULL: not wanted */
};

static int by_time(const void *a, const void *b)
{
    tick_t x = *(const tick_t *)a, y = *(const tick_t *)b;
    return x < y ? -1 : x > y;
}

/* A breaker hears of 429 that the upstream lives, and of a client that left nothing. */
static enum breaker_outcome heard(const struct observation *o)
{
    if (o->status == 429)
        return BREAKER_THROTTLED;
    if (observation_failed(o))
        return BREAKER_FAILURE;
    return o->status ? BREAKER_OK : BREAKER_IGNORED;
}

static void read_ring(const struct ring *ring, uint64_t from, uint64_t end, struct reading *r,
                      struct advise_facts *f)
{
    struct observation o;
    for (uint64_t i = end - from > ring_room(ring) ? end - ring_room(ring) : from; i < end; i++) {
        if (!ring_get(ring, i, &o))
            continue;
        f->recorded_seconds += (double)o.total / 1e9;
        if (!o.attempts)
            continue;
        unsigned n = o.attempts < ADVISE_ATTEMPTS ? o.attempts : ADVISE_ATTEMPTS;
        f->recorded[n]++;
        f->recorded_calls += o.attempts;
        f->recorded_good[n] += !observation_failed(&o);
        if (r->begun && r->begins < BATCH_MOST && o.operation == r->batchable && o.cache == VERDICT_MISS)
            r->begun[r->begins++] = o.ended_wall - o.total;
        if (r->call && r->calls < REPLAY_MOST)
            r->call[r->calls++] = (struct replay_call){.began = o.ended_wall - o.total,
                                                       .ended = o.ended_wall,
                                                       .took = o.first_byte ? o.first_byte : o.total,
                                                       .circuit = o.operation,
                                                       .outcome = (uint8_t)heard(&o)};
    }
}

/* The number of the operation that can be batched, once it was called. */
static uint16_t batchable(const struct metrics *m)
{
    for (uint16_t i = 1; i < METRICS_MAX_OPERATIONS; i++)
        if (strcmp(metrics_operation_name(m, i), "get_prompt") == 0)
            return i;
    return OPERATION_OTHER;
}

static void play(const struct config *cfg, struct reading *r, struct breaker_replay *replay,
                 struct advise_facts *f)
{
    struct breaker_rules rules;
    struct replay_event *room = calloc(2 * r->calls + 1, sizeof *room);
    guard_breaker_rules(cfg, &rules);
    if (room)
        f->breaker_saves = (double)breaker_replay_run(replay, &rules, r->call, r->calls, room) / 1e9;
    free(room);
}

static void read_recorded(const struct adviser_sources *s, const struct facts_mark *from,
                          const struct facts_mark *to, struct breaker_replay *replay, struct advise_facts *f)
{
    const struct config *cfg = s->config(s->ctx);
    bool all = cfg->performance_sample_rate >= 1; /* of a sample neighbours are missing */
    struct reading r = {.batchable = batchable(s->metrics)};
    f->batching_possible = all && !cfg->batching_enabled && r.batchable != OPERATION_OTHER &&
                           config_option_row(config_option_find("batching.enabled"))->effective;
    r.begun = f->batching_possible ? calloc(BATCH_MOST, sizeof *r.begun) : NULL;
    r.call = all && replay ? calloc(REPLAY_MOST, sizeof *r.call) : NULL;
    for (int b = 0; b < metrics_blocks(s->metrics) && b < FACTS_BLOCKS; b++)
        read_ring(metrics_ring(s->metrics, b), from->recorded[b], to->recorded[b], &r, f);
    if (r.call)
        play(cfg, &r, replay, f);
    free(r.call);
    if (!r.begun)
        return;
    qsort(r.begun, r.begins, sizeof *r.begun, by_time);
    f->batching_saves =
        (double)advise_batches(r.begun, r.begins, cfg->batching_window, (size_t)cfg->batching_max_batch);
    free(r.begun);
}

/* ---- facts ---- */

static void read_cache(const struct facts_mark *from, const struct facts_mark *to, const struct config *cfg,
                       struct advise_facts *f)
{
    const struct store_whatif *a = &from->whatif, *b = &to->whatif;
    f->evictions = to->store.evictions - from->store.evictions;
    if (b->requests >= a->requests) {
        f->lookups = b->requests - a->requests;
        f->hits = b->base - a->base;
        f->hits_half = b->hits[STORE_WHATIF_HALF] - a->hits[STORE_WHATIF_HALF];
        f->hits_twice = b->hits[STORE_WHATIF_TWICE] - a->hits[STORE_WHATIF_TWICE];
        f->hits_life_twice = b->hits[STORE_WHATIF_LIFE_TWICE] - a->hits[STORE_WHATIF_LIFE_TWICE];
        f->hits_life_four = b->hits[STORE_WHATIF_LIFE_FOUR] - a->hits[STORE_WHATIF_LIFE_FOUR];
    }
    f->looked = b->looked;
    f->changed = b->changed;
    f->entries = to->store.entries;
    f->bytes = to->store.bytes;
    f->max_entries = (uint64_t)cfg->cache_max_size;
    f->max_bytes = cfg->cache_max_memory_bytes;
    f->default_ttl = cfg->cache_default_ttl;
}

void facts_read(const struct adviser_sources *s, const struct facts_mark *from, const struct facts_mark *to,
                unsigned peak, struct breaker_replay *replay, struct advise_facts *out)
{
    const struct config *cfg = s->config(s->ctx);
    *out = (struct advise_facts){
        .requests = to->requests - from->requests,
        .failed = to->failed - from->failed,
        .latency = (double)(to->latency - from->latency) / 1e9,
        .attempts = to->attempts - from->attempts,
        .pool_wait = (double)(to->pool_wait - from->pool_wait) / 1e9,
        .pool_max = (unsigned)cfg->pool_max_size,
        .pool_peak = peak,
        .connecting = (double)(to->connecting - from->connecting) / 1e9,
        .connects = to->connects - from->connects,
        .max_idle_time = cfg->pool_max_idle_time,
        .max_attempts = (unsigned)cfg->retry_max_attempts,
        .breaker_enabled = cfg->circuit_breaker_enable_circuit_breaker,
        .names_looked_up = to->lookups,
        .received = to->received - from->received,
        .plain = to->plain - from->plain,
        .plain_bodies = to->plain_bodies - from->plain_bodies,
        .sampled = to->sampled - from->sampled,
        .sampled_smaller = to->sampled_smaller - from->sampled_smaller,
    };
    /* There may be none in a short window: then all of them. */
    const struct facts_mark none = {0}, *since = to->lookups > from->lookups ? from : &none;
    if (to->lookups > since->lookups)
        out->lookup = (double)(to->looking - since->looking) / 1e9 / (double)(to->lookups - since->lookups);
    read_cache(from, to, cfg, out);
    read_recorded(s, from, to, replay, out);
}

bool facts_ghost(enum advise_kind kind)
{
    return kind == ADVISE_CACHE_SIZE || kind == ADVISE_CACHE_TTL || kind == ADVISE_MEMORY;
}

/*
 * Calls that lookups cost: with the setting in force, and with that of before, which is the miniatures' base.
 * While all keys are followed the base says it outright; of a sample only the difference of two miniatures is
 * sharp enough.
 */
static bool ghost_slices(int whatif, const struct facts_mark *from, const struct facts_mark *to,
                         struct experiment_slice *before, struct experiment_slice *after)
{
    const struct store_whatif *a = &from->whatif, *b = &to->whatif;
    uint64_t lookups, hits;
    facts_lookups(from, to, &lookups, &hits);
    double noted = b->requests - a->requests, base = b->base - a->base;
    if (noted <= 0 || lookups == 0)
        return false;
    double whole =
        (noted + b->skipped - a->skipped) / noted; /* uses that were not noted fared like the others */
    after->requests = lookups;
    after->cost = (double)(lookups - hits);
    *before = *after;
    if (b->rate >= 1)
        before->cost = (double)lookups - base * whole;
    else if (whatif >= 0)
        before->cost += (b->hits[whatif] - a->hits[whatif] - base) * whole;
    return true;
}

bool facts_slice(enum advise_kind kind, int whatif, const struct facts_mark *from,
                 const struct facts_mark *to, struct experiment_slice *before, struct experiment_slice *after)
{
    *after = (struct experiment_slice){.requests = to->requests - from->requests,
                                       .failed = to->failed - from->failed,
                                       .seconds = (double)(to->latency - from->latency) / 1e9};
    after->cost = kind == ADVISE_RETRY || kind == ADVISE_BATCHING ? (double)(to->attempts - from->attempts)
                                                                  : after->seconds;
    return !facts_ghost(kind) || ghost_slices(whatif, from, to, before, after);
}
