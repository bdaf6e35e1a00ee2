/*
 * What the curve of a sidecar promises of other sizes, window by window: the gain that its miniatures had in
 * a window against the gain that caches of these sizes really had in it, in worlds of several shapes. Exits 1
 * when the mean error is above 1.5 points, or that of any window above 5. Arguments: the first seed, seeds,
 * entries, requests of a window, 1 to show each world.
 */
#include "policy/curve.h"
#include "tests/sim/worlds.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WINDOWS = 12 };

#define FAR 5.0 /* points */

static const double looks[CACHE_LOOKS] = {0.5, 2, 4};

struct error {
    double sum, worst;
    int count, far; /* above FAR */
};

static void note(struct error *error, double points)
{
    error->sum += fabs(points);
    error->worst = fmax(error->worst, fabs(points));
    error->far += fabs(points) > FAR;
    error->count++;
}

static void run(const struct world *world, uint64_t entries, double factor, const double *of,
                struct cache_window *windows, const struct cache_record *records, size_t *memory)
{
    struct cache_result result;
    struct cache_setup setup = {
        .strategy = EVICT_ADAPTIVE, .window = world->count / WINDOWS, .windows = windows, .looks = of};
    if (world->sizes == SIZES_EQUAL)
        setup.max_entries = (uint64_t)((double)entries * factor);
    else
        setup.max_bytes = (uint64_t)((double)entries * 12000 * factor);
    if (!cache_run(&setup, records, world->count, &result))
        exit(1);
    if (of && result.curve_memory > *memory)
        *memory = result.curve_memory;
}

static void run_world(const struct world *world, uint64_t entries, bool show, struct error *all,
                      size_t *memory)
{
    struct cache_record *records = world_make(world);
    struct cache_window promised[WINDOWS], real[WINDOWS];
    struct error own = {0};
    if (!records)
        exit(1);
    run(world, entries, 1, looks, promised, records, memory);
    for (int i = 0; i < CACHE_LOOKS; i++) {
        run(world, entries, looks[i], NULL, real, records, memory);
        for (int w = 0; w < WINDOWS; w++) {
            double gain = curve_gain(promised[w].hits, promised[w].predicted_base, promised[w].predicted[i]),
                   truth = real[w].hits - promised[w].hits, error = 100 * (gain - truth);
            note(&own, error);
            note(all, error);
            if (show && fabs(error) > FAR)
                printf("  %s%s, seed %llu, size %g, window %d: gain %.2f, promised %.2f\n",
                       world_shape_name(world->shape), world->sizes == SIZES_EQUAL ? "" : " by bytes",
                       (unsigned long long)world->seed, looks[i], w, 100 * truth, 100 * gain);
        }
    }
    if (show)
        printf("%-16s%-10s seed %4llu: mean %.2f, worst %.2f\n", world_shape_name(world->shape),
               world->sizes == SIZES_EQUAL ? "" : " by bytes", (unsigned long long)world->seed,
               own.sum / own.count, own.worst);
    free(records);
}

static uint64_t argument(int argc, char **argv, int at, uint64_t otherwise)
{
    return argc > at ? strtoull(argv[at], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    static const double skews[] = {0.9, 0.7, 1.1};
    uint64_t seed = argument(argc, argv, 1, 1), seeds = argument(argc, argv, 2, 1),
             entries = argument(argc, argv, 3, 600), window = argument(argc, argv, 4, 6000);
    bool show = argument(argc, argv, 5, 0);
    struct error all = {0};
    size_t memory = 0;
    for (int sizes = 0; sizes < SIZES_MODES; sizes++) {
        for (int shape = 0; shape < WORLD_SHAPES; shape++) {
            for (uint64_t i = seed; i < seed + seeds; i++) {
                struct world world = {.shape = (enum world_shape)shape,
                                      .sizes = (enum world_sizes)sizes,
                                      .costs = (enum world_costs)(i % COSTS_MODES),
                                      .skew = skews[i % 3],
                                      .keys = 40 * entries,
                                      .loop = entries * 3 / 2 + i % 4 * entries,
                                      .count = WINDOWS * window,
                                      .seed = i};
                run_world(&world, entries, show, &all, &memory);
            }
        }
    }
    printf("%d windows: mean error %.2f points, worst %.2f, %d above %g; memory at most %zu KiB\n", all.count,
           all.sum / all.count, all.worst, all.far, FAR, memory / 1024);
    return all.sum / all.count <= 1.5 && all.far <= all.count / 20 ? 0 : 1;
}
