/*
 * What adaptive makes of fetch costs, in worlds of several shapes: the share of the cost that it saves and of
 * the requests that it hits, beside lru. Prints means over the shapes; exits 1 when it is more than half a
 * point below lru in hits or in cost anywhere, or gains nothing where costs differ, or where they are merely
 * measured with luck does otherwise than where they are equal. Arguments: the first seed, seeds, entries.
 */
#include "tests/sim/worlds.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { REQUESTS = 60000, KEYS = 20000 };

struct sums {
    double lru_hits, hits, optimum, lru_cost, cost, worst_hits, worst_cost;
    int count;
};

static double percent(double part, double all)
{
    return all > 0 ? 100 * part / all : 0;
}

static void run_world(const struct world *world, uint64_t entries, struct sums *sums)
{
    struct cache_record *records = world_make(world);
    struct cache_setup setup = {.strategy = EVICT_LRU};
    struct cache_result lru, adaptive;
    if (world->sizes == SIZES_EQUAL)
        setup.max_entries = entries;
    else
        setup.max_bytes = entries * 12000;
    bool ok = records && cache_run(&setup, records, world->count, &lru);
    setup.strategy = EVICT_ADAPTIVE;
    if (!ok || !cache_run(&setup, records, world->count, &adaptive))
        exit(1);
    double more_hits = percent((double)adaptive.hits - (double)lru.hits, (double)world->count);
    double more_cost = percent(adaptive.hit_cost - lru.hit_cost, lru.cost);
    sums->lru_hits += percent((double)lru.hits, (double)world->count);
    sums->hits += percent((double)adaptive.hits, (double)world->count);
    sums->optimum +=
        percent((world->sizes == SIZES_EQUAL ? world_optimum(records, world->count, entries) : 0),
                (double)world->count);
    sums->lru_cost += percent(lru.hit_cost, lru.cost);
    sums->cost += percent(adaptive.hit_cost, adaptive.cost);
    sums->worst_hits = fmin(sums->worst_hits, more_hits);
    sums->worst_cost = fmin(sums->worst_cost, more_cost);
    sums->count++;
    if (more_hits < -0.5 || more_cost < -0.5)
        printf("  %s, costs %s, seed %llu: %.2f hits and %.2f of the cost beside lru\n",
               world_shape_name(world->shape), world_costs_name(world->costs),
               (unsigned long long)world->seed, more_hits, more_cost);
    free(records);
}

static struct sums run_shapes(enum world_sizes sizes, enum world_costs costs, uint64_t seed, int seeds,
                              uint64_t entries)
{
    static const double skews[] = {0.9, 0.7, 1.1};
    struct sums sums = {0};
    for (int shape = 0; shape < WORLD_SHAPES; shape++) {
        for (int i = 0; i < seeds; i++) {
            struct world world = {.shape = (enum world_shape)shape,
                                  .sizes = sizes,
                                  .costs = costs,
                                  .skew = skews[(seed + (uint64_t)i) % 3],
                                  .keys = KEYS,
                                  .loop = entries * 3 / 2 + (uint64_t)i * entries,
                                  .count = REQUESTS,
                                  .seed = seed + (uint64_t)i};
            run_world(&world, entries, &sums);
        }
    }
    return sums;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1,
             entries = argc > 3 ? strtoull(argv[3], NULL, 10) : 400;
    int seeds = argc > 2 ? atoi(argv[2]) : 1;
    bool good = seeds > 0 && entries > 0;
    printf("%-22s %8s %8s %8s %9s %9s %8s %8s\n", "costs, sizes", "lru hits", "hits", "Belady", "lru saved",
           "saved", "worst", "worst");
    for (int sizes = 0; sizes < SIZES_MODES; sizes++) {
        double equal = 0;
        for (int costs = 0; costs < COSTS_MODES; costs++) {
            struct sums s =
                run_shapes((enum world_sizes)sizes, (enum world_costs)costs, seed, seeds, entries);
            printf("%-10s %-11s %8.2f %8.2f %8.2f %9.2f %9.2f %8.2f %8.2f\n",
                   world_costs_name((enum world_costs)costs), sizes == SIZES_EQUAL ? "equal" : "64 B-64 KiB",
                   s.lru_hits / s.count, s.hits / s.count, sizes == SIZES_EQUAL ? s.optimum / s.count : NAN,
                   s.lru_cost / s.count, s.cost / s.count, s.worst_hits, s.worst_cost);
            equal = costs == COSTS_EQUAL ? s.hits / s.count : equal;
            good = good && s.worst_hits >= -0.5 && s.worst_cost >= -0.5;
            good = good && (costs != COSTS_NOISY || fabs(s.hits / s.count - equal) < 1.5);
            good = good && (costs <= COSTS_NOISY || s.cost - s.hits > 3.0 * s.count);
        }
    }
    return good ? 0 : 1;
}
