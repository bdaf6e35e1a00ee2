/*
 * Invariants: all miniatures saw the same requests; the first has the present size; sums over windows fade,
 * the weight of a window being the share of it that is left.
 */
#include "policy/curve.h"

#include "policy/mini.h"
#include "policy/tuner.h"

#include <math.h>
#include <stdlib.h>

enum { ENTRIES = 2048, MIN_RATE = 128, LEAST_REQUESTS = 100 };

#define MEMORY 0.9   /* of a window, when the next one came: about the last ten count */
#define NINETY 1.645 /* standard deviations to either side hold nine in ten */

struct size {
    double factor, life;
    struct mini *mini;
    struct tuner *tuner; /* finds the rule that a cache of this size would follow; NULL: the present one */
    uint64_t hits;       /* of this window */
    double total;        /* hits since the beginning, scaled up */
    double gain, square; /* sums of the windows' gains, and of their squares, faded */
};

struct curve {
    struct size sizes[CURVE_MAX_SIZES + 1]; /* the first is the present one */
    unsigned count;
    uint64_t max_entries, max_bytes;
    uint64_t threshold; /* of the sample; read by any thread */
    size_t entries;
    uint64_t sampled, passed;                /* requests of this window: noted; not noted */
    double total, passed_total;              /* requests since the beginning, scaled up */
    uint64_t requests, hits;                 /* the cache's own, of windows that were too short so far */
    double weight, square_weight, hit_ratio; /* sums over windows, faded */
    unsigned windows;
};

double curve_rate(const struct curve *curve)
{
    return ((double)curve->threshold + 1) / 18446744073709551616.0;
}

static struct mini_limits limits_of(const struct curve *curve, double factor)
{
    double share = curve_rate(curve) * factor;
    struct mini_limits limits = {(double)curve->max_entries * share, (double)curve->max_bytes * share};
    if (limits.entries > 0 && limits.entries < 1)
        limits.entries = 1;
    return limits;
}

/* False: out of memory. */
static bool open_size(const struct curve *curve, struct size *size, const struct curve_setup *setup)
{
    struct mini_recipe recipe = {setup->strategy, {EVICT_S3, 10, 0}, setup->advice, NULL};
    if (setup->advice && size->factor != 1) {
        size->tuner = tuner_new_within((uint64_t)((double)curve->max_entries * size->factor),
                                       (uint64_t)((double)curve->max_bytes * size->factor), curve->threshold);
        if (!size->tuner)
            return false;
        recipe.advice = tuner_advice(size->tuner);
    }
    size->mini = mini_new(&recipe, limits_of(curve, size->factor));
    return size->mini != NULL;
}

struct curve *curve_new(const struct curve_setup *setup)
{
    struct curve *curve = calloc(1, sizeof *curve);
    if (!curve)
        return NULL;
    curve->entries = setup->entries ? setup->entries : ENTRIES;
    curve->max_entries = setup->max_entries;
    curve->max_bytes = setup->max_bytes;
    curve->threshold = UINT64_MAX;
    for (uint64_t n = setup->whole ? 0 : setup->max_entries;
         n > curve->entries && curve->threshold > UINT64_MAX / MIN_RATE; n /= 2)
        curve->threshold /= 2;
    for (unsigned i = 0; i <= setup->count && i <= CURVE_MAX_SIZES; i++) {
        struct size *size = &curve->sizes[curve->count++];
        size->factor = i == 0 ? 1 : setup->factors[i - 1];
        size->life = i == 0 || !setup->lifetimes ? 1 : setup->lifetimes[i - 1];
        if (open_size(curve, size, setup))
            continue;
        curve_free(curve);
        return NULL;
    }
    return curve;
}

void curve_free(struct curve *curve)
{
    if (!curve)
        return;
    for (unsigned i = 0; i < curve->count; i++) {
        mini_free(curve->sizes[i].mini);
        tuner_free(curve->sizes[i].tuner);
    }
    free(curve);
}

void curve_set_strategy(struct curve *curve, enum evict_strategy strategy)
{
    for (unsigned i = 0; i < curve->count; i++)
        mini_set_strategy(curve->sizes[i].mini, strategy);
}

bool curve_wants(const struct curve *curve, uint64_t hash)
{
    return mini_sampled(hash, __atomic_load_n(&curve->threshold, __ATOMIC_RELAXED));
}

/* Half the sample when the miniatures become large; the window begins anew, as half of its requests are void.
 */
static void thin_out(struct curve *curve)
{
    __atomic_store_n(&curve->threshold, curve->threshold / 2, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < curve->count; i++) {
        struct size *size = &curve->sizes[i];
        mini_shrink(size->mini, curve->threshold, limits_of(curve, size->factor));
        if (size->tuner)
            tuner_narrow(size->tuner, curve->threshold);
        size->hits /= 2;
    }
    curve->sampled /= 2;
    curve->passed /= 2;
}

bool curve_thin(struct curve *curve, size_t least)
{
    if (mini_count(curve->sizes[0].mini) / 2 < least || curve->threshold <= UINT64_MAX / MIN_RATE)
        return false;
    thin_out(curve);
    return true;
}

void curve_pass(struct curve *curve, uint64_t uses)
{
    curve->passed += uses;
    curve->passed_total += (double)uses / curve_rate(curve);
}

/* When a copy that is fetched now is over. */
static tick_t until_of(tick_t now, tick_t lifetime, double factor)
{
    double ends = (double)now + (double)lifetime * factor;
    return ends >= (double)TICK_NEVER ? TICK_NEVER : factor == 1 ? now + lifetime : (tick_t)ends;
}

void curve_note_life(struct curve *curve, const struct evict_item *item, tick_t now, tick_t lifetime,
                     bool settable, uint32_t again)
{
    double weight = 1 / curve_rate(curve);
    for (unsigned i = 0; i < curve->count; i++) {
        struct size *size = &curve->sizes[i];
        if (size->tuner && tuner_wants(size->tuner, item->hash))
            tuner_note(size->tuner, item);
        bool hit = mini_request(size->mini, item, now, until_of(now, lifetime, settable ? size->life : 1));
        size->hits += again + hit;
        size->total += weight * ((double)again + hit);
    }
    curve->sampled += again + 1;
    curve->total += weight * ((double)again + 1);
    size_t count = mini_count(curve->sizes[0].mini);
    if (count > curve->entries && curve->threshold > UINT64_MAX / MIN_RATE)
        thin_out(curve);
}

void curve_note(struct curve *curve, const struct evict_item *item, tick_t now, tick_t until)
{
    curve_note_life(curve, item, now, until - now, false, 0);
}

void curve_sum(const struct curve *curve, struct curve_sums *out)
{
    *out = (struct curve_sums){.requests = curve->total,
                               .passed = curve->passed_total,
                               .base = curve->sizes[0].total,
                               .count = curve->count - 1};
    for (unsigned i = 1; i < curve->count; i++)
        out->hits[i - 1] = curve->sizes[i].total;
}

double curve_gain(double real, double base, double other)
{
    if (other >= base)
        return base < 1 ? (1 - real) * (other - base) / (1 - base) : 0;
    return real * (other - base) / base;
}

void curve_window(struct curve *curve, uint64_t requests, uint64_t hits)
{
    curve->requests += requests;
    curve->hits += hits;
    if (curve->requests < LEAST_REQUESTS)
        return;
    curve->weight = curve->weight * MEMORY + 1;
    curve->square_weight = curve->square_weight * MEMORY * MEMORY + 1;
    curve->hit_ratio = curve->hit_ratio * MEMORY + (double)curve->hits / (double)curve->requests;
    double real = (double)curve->hits / (double)curve->requests, noted = (double)curve->sampled,
           base = (double)curve->sizes[0].hits;
    for (unsigned i = 0; i < curve->count; i++) {
        struct size *size = &curve->sizes[i];
        double gain = noted > 0 ? curve_gain(real, base / noted, (double)size->hits / noted) : 0;
        size->gain = size->gain * MEMORY + gain;
        size->square = size->square * MEMORY + gain * gain;
    }
    for (unsigned i = 0; i < curve->count; i++)
        curve->sizes[i].hits = 0;
    curve->sampled = curve->passed = curve->requests = curve->hits = 0;
    curve->windows++;
}

static double between(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

unsigned curve_points(const struct curve *curve, struct curve_point *out)
{
    if (curve->windows == 0)
        return 0;
    double n = curve->weight * curve->weight / curve->square_weight; /* windows, as far as they still count */
    double own = curve->hit_ratio / curve->weight;
    for (unsigned i = 1; i < curve->count; i++) {
        const struct size *size = &curve->sizes[i];
        double gain = size->gain / curve->weight, variance = size->square / curve->weight - gain * gain;
        double spread = n > 1 && variance > 0 ? sqrt(variance * n / (n - 1) * (1 + 1 / n)) : 0;
        double ratio = between(own + gain, 0, 1);
        out[i - 1] = (struct curve_point){.factor = size->factor,
                                          .hit_ratio = ratio,
                                          .gain = ratio - own,
                                          .margin = n > 1 ? between(NINETY * spread, 0, 1) : 1,
                                          .windows = curve->windows};
    }
    return curve->count - 1;
}

size_t curve_memory(const struct curve *curve)
{
    size_t n = sizeof *curve;
    for (unsigned i = 0; i < curve->count; i++) {
        const struct size *size = &curve->sizes[i];
        n += mini_memory(size->mini) + (size->tuner ? tuner_memory(size->tuner) : 0);
    }
    return n;
}
