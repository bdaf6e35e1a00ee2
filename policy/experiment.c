/*
 * The test of a change. Invariants: the verdict leaves RUNNING once; IMPROVED only after all pairs.
 */
#include "policy/experiment.h"

#include <math.h>
#include <string.h>

enum { LEAST_REQUESTS = 5, GUARD_REQUESTS = 20 };

/* Student's t with 7 degrees of freedom: one-sided 2.5 %, and two-sided 10 %. */
#define T_IMPROVED 2.365
#define T_NINETY   1.895

#define GUARD_SIGMA   3.0
#define GUARD_FAILURE 0.02 /* more failures, as a share of the requests */
#define GUARD_SLOWER  1.3
#define GUARD_DEARER  1.3

static const char *const names[] = {"running", "improved", "no better", "harmful"};

const char *experiment_verdict_name(int verdict)
{
    return verdict >= 0 && verdict < (int)ARRAY_LEN(names) ? names[verdict] : "";
}

void experiment_begin(struct experiment *e, double least)
{
    memset(e, 0, sizeof *e);
    e->least = least;
}

static void add(struct experiment_slice *sum, const struct experiment_slice *s)
{
    sum->requests += s->requests;
    sum->failed += s->failed;
    sum->seconds += s->seconds;
    sum->square_seconds += s->square_seconds;
    sum->cost += s->cost;
}

void experiment_baseline(struct experiment *e, const struct experiment_slice *before)
{
    add(&e->before, before);
}

void experiment_measured(const struct experiment *e, double *mean, double *margin)
{
    double sum = 0, squares = 0;
    *mean = 0;
    *margin = 1;
    for (unsigned i = 0; i < e->pairs; i++)
        sum += e->difference[i];
    if (e->pairs < 2)
        return;
    *mean = sum / e->pairs;
    for (unsigned i = 0; i < e->pairs; i++)
        squares += (e->difference[i] - *mean) * (e->difference[i] - *mean);
    *margin = T_NINETY * sqrt(squares / (e->pairs - 1) / e->pairs);
}

static void judge(struct experiment *e)
{
    double mean, margin;
    experiment_measured(e, &mean, &margin);
    double error = margin / T_NINETY;
    bool better = mean >= e->least && mean > T_IMPROVED * error;
    bool worse = mean < 0 && -mean > T_IMPROVED * error;
    e->verdict = better ? EXPERIMENT_IMPROVED : worse ? EXPERIMENT_HARMFUL : EXPERIMENT_NO_BETTER;
}

bool experiment_pair(struct experiment *e, const struct experiment_slice *before,
                     const struct experiment_slice *after)
{
    if (e->verdict != EXPERIMENT_RUNNING || before->requests < LEAST_REQUESTS ||
        after->requests < LEAST_REQUESTS || before->cost <= 0)
        return false;
    double old = before->cost / (double)before->requests, new = after->cost / (double)after->requests;
    e->difference[e->pairs++] = 1 - new / old;
    add(&e->before, before);
    add(&e->after, after);
    if (e->pairs == EXPERIMENT_PAIRS)
        judge(e);
    return true;
}

/* Is the share b of n beyond chance larger than the share a of m? */
static bool fails_more(uint64_t a, uint64_t m, uint64_t b, uint64_t n)
{
    double p = (double)a / (double)m, q = (double)b / (double)n;
    double all = (double)(a + b + 1) / (double)(m + n + 2);
    double error = sqrt(all * (1 - all) * (1 / (double)m + 1 / (double)n));
    return q - p > GUARD_FAILURE && q - p > GUARD_SIGMA * error;
}

/* Variance of the mean of a slice's latencies; where squares are not known, that of an exponential law. */
static double variance_of_mean(const struct experiment_slice *s)
{
    double n = (double)s->requests, mean = s->seconds / n;
    double variance = s->square_seconds > 0 ? s->square_seconds / n - mean * mean : mean * mean;
    return (variance > 0 ? variance : 0) / n;
}

static bool slower(const struct experiment_slice *before, const struct experiment_slice *after)
{
    double old = before->seconds / (double)before->requests, new = after->seconds / (double)after->requests;
    double error = sqrt(variance_of_mean(before) + variance_of_mean(after));
    return new > GUARD_SLOWER *old &&new - old > GUARD_SIGMA *error &&new - old > 1e-3;
}

static bool dearer(const struct experiment_slice *before, const struct experiment_slice *after)
{
    double old = before->cost / (double)before->requests, new = after->cost / (double)after->requests;
    double error =
        sqrt((old > 0 ? old * old : 0) / (double)before->requests + new *new / (double)after->requests);
    return old > 0 && new > GUARD_DEARER *old &&new - old > GUARD_SIGMA *error;
}

bool experiment_guard(struct experiment *e, const struct experiment_slice *after_so_far)
{
    struct experiment_slice after = e->after;
    const struct experiment_slice *before = &e->before;
    add(&after, after_so_far);
    if (e->verdict != EXPERIMENT_RUNNING || before->requests < GUARD_REQUESTS ||
        after.requests < GUARD_REQUESTS)
        return false;
    if (!fails_more(before->failed, before->requests, after.failed, after.requests) &&
        !slower(before, &after) && !dearer(before, &after))
        return false;
    e->verdict = EXPERIMENT_HARMFUL;
    return true;
}

enum experiment_verdict experiment_verdict(const struct experiment *e)
{
    return e->verdict;
}
