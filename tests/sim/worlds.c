/*
 * Invariant: what a key weighs and costs depends on the key and the seed alone, whoever asks for it.
 */
#include "tests/sim/worlds.h"

#include <math.h>
#include <stdlib.h>

#include "policy/rng.h"

struct maker {
    const struct world *world;
    struct rng rng;
    double *below;        /* of Zipf's distribution: the share of the keys up to this one */
    uint64_t pending[64]; /* keys that will be used once more */
};

const char *world_shape_name(enum world_shape shape)
{
    static const char *const names[] = {"zipf",     "scans",  "loop",    "zipf and loop", "shifting",
                                        "drifting", "recent", "uniform", "phases"};
    return names[shape];
}

const char *world_costs_name(enum world_costs costs)
{
    static const char *const names[] = {"equal", "noisy", "spread", "two", "measured"};
    return names[costs];
}

static bool open_maker(struct maker *m, const struct world *world)
{
    double sum = 0, at = 0;
    *m = (struct maker){.world = world};
    m->below = malloc(world->keys * sizeof *m->below);
    if (!m->below)
        return false;
    rng_seed(&m->rng, world->seed);
    for (uint64_t i = 0; i < world->keys; i++)
        sum += 1 / pow((double)i + 1, world->skew);
    for (uint64_t i = 0; i < world->keys; i++)
        m->below[i] = at += 1 / pow((double)i + 1, world->skew) / sum;
    for (size_t i = 0; i < ARRAY_LEN(m->pending); i++)
        m->pending[i] = 1000000 + i;
    return true;
}

static uint64_t zipf(struct maker *m)
{
    double x = rng_double(&m->rng);
    uint64_t low = 0, high = m->world->keys - 1;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (m->below[middle] < x)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A new key takes the place of one that is used for the second and last time. */
static uint64_t twice(struct maker *m, uint64_t i)
{
    uint64_t *slot = &m->pending[rng_below(&m->rng, ARRAY_LEN(m->pending))], key = *slot;
    if (rng_below(&m->rng, 2) == 0)
        return *slot = 2000000 + i;
    return key;
}

static uint64_t key_at(struct maker *m, uint64_t i)
{
    const struct world *w = m->world;
    const uint64_t far = UINT64_C(1) << 32; /* from the popular keys */
    switch (w->shape) {
    case WORLD_SCANS:
        return i % 10000 < 3000 ? far + i : zipf(m);
    case WORLD_LOOP:
        return far + i % w->loop;
    case WORLD_MIXED:
        return rng_below(&m->rng, 2) ? far + i / 2 % w->loop : zipf(m);
    case WORLD_SHIFTING:
        return zipf(m) + i / 20000 * (w->keys / 60 + 1);
    case WORLD_DRIFTING:
        return zipf(m) + i / 50;
    case WORLD_RECENT:
        return twice(m, i);
    case WORLD_UNIFORM:
        return rng_below(&m->rng, w->keys);
    case WORLD_PHASES:
        return i / 15000 % 3 == 0 ? zipf(m) : i / 15000 % 3 == 1 ? far + i % w->loop : 2 * far + i;
    default:
        return zipf(m);
    }
}

static uint64_t mixed(uint64_t x)
{
    x = (x + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 31) * 0xbf58476d1ce4e5b9u;
    return x ^ x >> 29;
}

static double normal(struct rng *rng)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += rng_double(rng);
    return sum;
}

static double cost_of(struct maker *m, uint64_t key)
{
    struct rng own;
    rng_seed(&own, mixed(key ^ m->world->seed << 20));
    switch (m->world->costs) {
    case COSTS_NOISY:
        return 0.1 * exp(0.5 * normal(&m->rng));
    case COSTS_SPREAD:
        return 0.1 * exp(1.5 * normal(&own));
    case COSTS_TWO:
        return rng_below(&own, 5) == 0 ? 2.5 : 0.05;
    case COSTS_MEASURED:
        return 0.1 * exp(1.5 * normal(&own) + 0.5 * normal(&m->rng));
    default:
        return 1;
    }
}

struct cache_record *world_make(const struct world *world)
{
    struct maker m;
    struct cache_record *records = malloc(world->count * sizeof *records);
    if (!open_maker(&m, world) || !records) {
        free(m.below);
        free(records);
        return NULL;
    }
    for (uint64_t i = 0; i < world->count; i++) {
        uint64_t key = key_at(&m, i), hash = mixed(key ^ world->seed << 40);
        records[i] = (struct cache_record){
            .hash = hash,
            .bytes = world->sizes == SIZES_SPREAD ? (uint64_t)64 << (hash >> 20) % 11 : 1024,
            .cost = (float)cost_of(&m, key),
            .time = (tick_t)i * TICK_MS};
    }
    free(m.below);
    return records;
}

/* ---- the optimum ---- */

struct use {
    uint64_t hash;
    size_t at, next;
};

static int by_key(const void *a, const void *b)
{
    const struct use *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int by_time(const void *a, const void *b)
{
    const struct use *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

/*
 * Of equal sizes, with the right not to keep: a use is a hit when its interval since the one before can be
 * held. Intervals are taken by their end (the next use), the farthest given up, in a heap of ends.
 */
static void sift(size_t *heap, size_t count, size_t at)
{
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= count)
            return;
        if (child + 1 < count && heap[child + 1] > heap[child])
            child++;
        if (heap[at] >= heap[child])
            return;
        size_t swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

static void heap_add(size_t *heap, size_t *count, size_t value)
{
    size_t at = (*count)++;
    while (at > 0 && heap[(at - 1) / 2] < value) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = value;
}

static void heap_drop_top(size_t *heap, size_t *count)
{
    heap[0] = heap[--*count];
    sift(heap, *count, 0);
}

/* `kept[i]`: is the interval that ends at use i held? The heap keeps no ends that are over: their places are
 * free from then on, and they cannot be the farthest. */
static uint64_t count_hits(const struct use *uses, size_t count, uint64_t max_entries, size_t *heap,
                           unsigned char *kept)
{
    uint64_t hits = 0, held = 0;
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept[i]) {
            hits++;
            held--;
        }
        if (uses[i].next == SIZE_MAX)
            continue;
        heap_add(heap, &n, uses[i].next);
        kept[uses[i].next] = 1;
        if (++held > max_entries) {
            kept[heap[0]] = 0;
            heap_drop_top(heap, &n);
            held--;
        }
    }
    return hits;
}

double world_optimum(const struct cache_record *records, size_t count, uint64_t max_entries)
{
    struct use *uses = malloc(count * sizeof *uses);
    size_t *heap = malloc((count + 1) * sizeof *heap);
    unsigned char *kept = calloc(count, 1);
    double hits = -1;
    if (uses && heap && kept) {
        for (size_t i = 0; i < count; i++)
            uses[i] = (struct use){records[i].hash, i, SIZE_MAX};
        qsort(uses, count, sizeof *uses, by_key);
        for (size_t i = 0; i + 1 < count; i++)
            if (uses[i].hash == uses[i + 1].hash)
                uses[i].next = uses[i + 1].at;
        qsort(uses, count, sizeof *uses, by_time);
        hits = (double)count_hits(uses, count, max_entries, heap, kept);
    }
    free(uses);
    free(heap);
    free(kept);
    return hits;
}
