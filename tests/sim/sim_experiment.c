/*
 * Experiments on a sidecar whose settings' true effect is known. Slices of ten seconds, the order of each
 * pair by lot, the guard asked once a second, as the sidecar does; latencies are log-normal and drift (an
 * AR(1) of slices), the cost of a request is its latency. A/A: the new setting is the old one, at 2 and 30
 * requests a second. Harmful: more failures, three times the latency, or a quarter dearer. Useful: a fifth
 * cheaper. Prints a table; exits 1 when a bound is broken.
 */
#include "policy/experiment.h"
#include "policy/rng.h"

#include <math.h>
#include <stdio.h>

enum { SLICE = 10, RUNS = 1000, HARMFUL_RUNS = 50 };

struct world {
    struct rng rng;
    double rate;            /* requests a second */
    double drift;           /* of the logarithm of latency */
    double failing, slower; /* the new setting's */
};

struct outcome {
    enum experiment_verdict verdict;
    int seconds; /* with the new setting in force, until it was taken back */
    int passed;  /* until the verdict */
};

static double normal(struct rng *rng)
{
    return sqrt(-2 * log(1 - rng_double(rng))) * cos(6.283185307179586 * rng_double(rng));
}

static void second(struct world *w, bool new, struct experiment_slice *s)
{
    double n = w->rate + sqrt(w->rate) * normal(&w->rng);
    w->drift = 0.98 * w->drift + 0.03 * normal(&w->rng);
    for (int i = 0; i < (int)(n + 0.5); i++) {
        double took = 0.1 * exp(0.5 * normal(&w->rng) + w->drift) * (new ? w->slower : 1);
        s->requests++;
        s->failed += rng_double(&w->rng) < 0.01 + (new ? w->failing : 0);
        s->seconds += took;
        s->square_seconds += took * took;
        s->cost += took;
    }
}

/* One slice. False: the guard broke off. */
static bool slice(struct world *w, struct experiment *e, bool new, struct experiment_slice *s,
                  struct outcome *out)
{
    *s = (struct experiment_slice){0};
    for (int i = 0; i < SLICE; i++) {
        second(w, new, s);
        out->passed++;
        out->seconds += new;
        if (new &&experiment_guard(e, s))
            return false;
    }
    return true;
}

static struct outcome run(struct world w, uint64_t seed)
{
    struct outcome out = {0};
    struct experiment e;
    struct experiment_slice old = {0}, new;
    rng_seed(&w.rng, seed);
    experiment_begin(&e, 0.02);
    for (int i = 0; i < 3 * SLICE; i++) /* what is known before it begins */
        second(&w, false, &old);
    experiment_baseline(&e, &old);
    while (experiment_verdict(&e) == EXPERIMENT_RUNNING) {
        bool first = rng_below(&w.rng, 2);
        bool good = slice(&w, &e, first, first ? &new : &old, &out) &&
                    slice(&w, &e, !first, first ? &old : &new, &out);
        if (good)
            (void)experiment_pair(&e, &old, &new);
    }
    out.verdict = experiment_verdict(&e);
    return out;
}

static int bound(const char *what, double value, double least, double most)
{
    bool good = value >= least && value <= most;
    printf("%-62s %7.3f, %.3f to %.3f: %s\n", what, value, least, most, good ? "good" : "BROKEN");
    return !good;
}

/* Shares of the runs by verdict; *worst gets the longest time in force. */
static void all(struct world w, int runs, double share[4], int *worst)
{
    for (int v = 0; v < 4; v++)
        share[v] = 0;
    *worst = 0;
    for (int seed = 1; seed <= runs; seed++) {
        struct outcome out = run(w, (uint64_t)seed);
        share[out.verdict] += 1;
        if (out.verdict != EXPERIMENT_IMPROVED && out.seconds > *worst)
            *worst = out.seconds;
    }
    for (int v = 0; v < 4; v++)
        share[v] /= runs;
}

int main(void)
{
    static const struct {
        const char *name;
        struct world world;
        int runs;
        int kind; /* 0 A/A, 1 harmful at once, 2 harmful by a little, 3 useful */
    } cases[] = {
        {"A/A, 2/s", {.rate = 2, .slower = 1}, RUNS, 0},
        {"A/A, 30/s", {.rate = 30, .slower = 1}, RUNS, 0},
        {"5 % more fail, 30/s", {.rate = 30, .slower = 1, .failing = 0.05}, HARMFUL_RUNS, 1},
        {"half fail, 5/s", {.rate = 5, .slower = 1, .failing = 0.5}, HARMFUL_RUNS, 1},
        {"three times slower, 5/s", {.rate = 5, .slower = 3}, HARMFUL_RUNS, 1},
        {"a quarter dearer, 30/s", {.rate = 30, .slower = 1.25}, HARMFUL_RUNS, 2},
        {"a fifth cheaper, 30/s", {.rate = 30, .slower = 0.8}, HARMFUL_RUNS, 3},
    };
    int broken = 0, worst;
    double share[4];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char what[96];
        all(cases[i].world, cases[i].runs, share, &worst);
        snprintf(what, sizeof what, "%s: kept", cases[i].name);
        broken += bound(what, share[EXPERIMENT_IMPROVED], cases[i].kind == 3 ? 0.9 : 0,
                        cases[i].kind == 0   ? 0.05
                        : cases[i].kind == 3 ? 1
                                             : 0);
        snprintf(what, sizeof what, "%s: longest in force, seconds", cases[i].name);
        if (cases[i].kind == 1)
            broken += bound(what, worst, 0, 60);
    }
    return broken > 0;
}
