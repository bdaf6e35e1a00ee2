/*
 * Hit ratios of the strategies in worlds with fixed seeds: Zipf, scans through it, a loop larger than the
 * cache, a set that shifts, sizes and costs that differ widely. Prints a table; exits 1 when adaptive is more
 * than half a point below lru anywhere, holds nothing of the loop, or gains nothing from sizes, or when what
 * it would hit at half, twice or four times the size is predicted more than 3 points wrong.
 */
#include "policy/rng.h"
#include "tests/sim/cache.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { REQUESTS = 200000, KEYS = 20000, CACHE = 500 };

static struct cache_record records[REQUESTS];
static double below[KEYS]; /* of Zipf's distribution: the share of the keys up to this one */

static void make_zipf(void)
{
    double sum = 0, at = 0;
    for (int i = 0; i < KEYS; i++)
        sum += 1 / pow(i + 1, 0.9);
    for (int i = 0; i < KEYS; i++)
        below[i] = at += 1 / pow(i + 1, 0.9) / sum;
}

static uint64_t zipf(struct rng *rng)
{
    double x = rng_double(rng);
    int low = 0, high = KEYS - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (below[middle] < x)
            low = middle + 1;
        else
            high = middle;
    }
    return (uint64_t)low;
}

enum world { ZIPF, SCANS, LOOP, SHIFTING, SIZES, WORLDS };
static const char *const names[WORLDS] = {"zipf", "zipf and scans", "loop of 2000", "shifting",
                                          "sizes, by bytes"};

static uint64_t key_at(enum world world, struct rng *rng, uint64_t i)
{
    switch (world) {
    case SCANS:
        return i % 10000 < 3000 ? 1000000 + i : zipf(rng);
    case LOOP:
        return i % 2000;
    case SHIFTING:
        return zipf(rng) + i / 20000 * 300;
    default:
        return zipf(rng);
    }
}

static void make_world(enum world world)
{
    struct rng rng;
    rng_seed(&rng, 42 + (uint64_t)world);
    for (uint64_t i = 0; i < REQUESTS; i++) {
        uint64_t hash = (key_at(world, &rng, i) + 1) * 0x9e3779b97f4a7c15u;
        hash = (hash ^ hash >> 31) * 0xbf58476d1ce4e5b9u;
        hash ^= hash >> 29;
        records[i] =
            (struct cache_record){hash, world == SIZES ? (uint64_t)64 << (hash >> 20) % 11 : 64, 1, 0};
    }
}

/* At so many times the size; *predicted for `predict` times that, when it is above 0. */
static double run_at(enum world world, enum evict_strategy strategy, double factor, double predict,
                     double *predicted)
{
    struct cache_result result;
    struct cache_setup setup = {.strategy = strategy, .predict = predict};
    if (world == SIZES)
        setup.max_bytes = (uint64_t)(factor * CACHE * 12000);
    else
        setup.max_entries = (uint64_t)(factor * CACHE);
    if (!cache_run(&setup, records, REQUESTS, &result))
        exit(1);
    if (predicted)
        *predicted = 100 * result.predicted;
    return 100 * (double)result.hits / (double)result.requests;
}

static double run(enum world world, enum evict_strategy strategy)
{
    return run_at(world, strategy, 1, 0, NULL);
}

/* Prints what adaptive hits at other sizes, and what was predicted. False: too far from each other. */
static bool predicts(enum world world)
{
    static const double factors[] = {0.5, 2, 4};
    bool good = true;
    for (int i = 0; i < 3; i++) {
        double predicted, real = run_at(world, EVICT_ADAPTIVE, factors[i], 0, NULL);
        run_at(world, EVICT_ADAPTIVE, 1, factors[i], &predicted);
        printf("  at %g times the size %.2f, predicted %.2f\n", factors[i], real, predicted);
        good = good && fabs(predicted - real) <= 3;
    }
    return good;
}

int main(void)
{
    bool good = true;
    make_zipf();
    printf("%-16s %8s %8s %8s %8s   hits in 100\n", "world", "lru", "lfu", "fifo", "adaptive");
    for (int w = 0; w < WORLDS; w++) {
        make_world((enum world)w);
        double lru = run((enum world)w, EVICT_LRU), adaptive = run((enum world)w, EVICT_ADAPTIVE);
        printf("%-16s %8.2f %8.2f %8.2f %8.2f\n", names[w], lru, run((enum world)w, EVICT_LFU),
               run((enum world)w, EVICT_FIFO), adaptive);
        double wanted = w == LOOP ? 10 : w == SIZES ? lru + 1 : lru - 0.5;
        if (adaptive < wanted) {
            printf("  adaptive must have %.2f at least\n", wanted);
            good = false;
        }
        good = predicts((enum world)w) && good;
    }
    return good ? 0 : 1;
}
