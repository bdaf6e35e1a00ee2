/*
 * The Mann-Kendall test. Pure. Invariant: the answer does not depend on the unit of the values.
 */
#include "metrics/trend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

static double sign(double d)
{
    return d > 0 ? 1 : d < 0 ? -1 : 0;
}

/* sorted: scratch of n. */
static double tied_variance(const double *values, size_t n, double *sorted)
{
    double count = (double)n, v = count * (count - 1) * (2 * count + 5);
    memcpy(sorted, values, n * sizeof *values);
    qsort(sorted, n, sizeof *sorted, ascending);
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && !(sorted[j] > sorted[i]); j++)
            ;
        double t = (double)(j - i);
        v -= t * (t - 1) * (2 * t + 5);
    }
    return v / 18;
}

static double median_slope(const double *values, size_t n, double *slopes)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            slopes[count++] = (values[j] - values[i]) / (double)(j - i);
    qsort(slopes, count, sizeof *slopes, ascending);
    return count % 2 ? slopes[count / 2] : (slopes[count / 2 - 1] + slopes[count / 2]) / 2;
}

/* Ranks of the values without their slope, less the mean rank; ties share one. */
static void detrended_ranks(const double *values, size_t n, double slope, double *rest, double *ranks)
{
    for (size_t i = 0; i < n; i++)
        rest[i] = values[i] - slope * (double)i;
    for (size_t i = 0; i < n; i++) {
        ranks[i] = 0;
        for (size_t j = 0; j < n; j++)
            ranks[i] += sign(rest[i] - rest[j]) / 2;
    }
}

/* n/n* after Hamed and Rao, but only over the first lags in a row that are significant. */
static double correction_of(const double *ranks, size_t n)
{
    double count = (double)n, sum = 0, square = 0, bound = 1.959964 / sqrt((double)n);
    for (size_t i = 0; i < n; i++)
        square += ranks[i] * ranks[i];
    for (size_t lag = 1; square > 0 && lag + 2 < n; lag++) {
        double r = 0, left = (double)(n - lag);
        for (size_t i = 0; i + lag < n; i++)
            r += ranks[i] * ranks[i + lag];
        r /= square;
        if (fabs(r) <= bound)
            break; /* beyond it detrending leaves negative ones that would take the correction back */
        sum += left * (left - 1) * (left - 2) * r;
    }
    double c = 1 + 2 * sum / (count * (count - 1) * (count - 2));
    return c > 0.1 ? c : 0.1; /* far below, negative autocorrelation would make any wiggle a trend */
}

bool trend_test(const double *values, size_t n, struct trend *out)
{
    *out = (struct trend){.correction = 1, .p = 1};
    if (n < TREND_LEAST || n > TREND_MOST)
        return false;
    double *scratch = malloc((n * (n - 1) / 2 + 2 * n) * sizeof *scratch);
    if (!scratch)
        return false;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            out->s += sign(values[j] - values[i]);
    out->variance = tied_variance(values, n, scratch);
    out->slope = median_slope(values, n, scratch + 2 * n);
    detrended_ranks(values, n, out->slope, scratch, scratch + n);
    out->correction = correction_of(scratch + n, n);
    free(scratch);
    if (out->variance > 0) {
        out->z = (out->s - sign(out->s)) / sqrt(out->variance * out->correction);
        out->p = erfc(fabs(out->z) / sqrt(2));
    }
    return true;
}
