/*
 * Is there a trend in a series? The Mann-Kendall test (Mann 1945; Kendall 1975), with the correction of its
 * variance for ties and, after Hamed and Rao (J. Hydrology 204, 1998), for autocorrelation: measured
 * series are autocorrelated, and without it the test cries trend far too often.
 */
#ifndef METRICS_TREND_H
#define METRICS_TREND_H

#include <stdbool.h>
#include <stddef.h>

enum { TREND_LEAST = 8, TREND_MOST = 1000 };

struct trend {
    double s;          /* Kendall's S: later-and-larger pairs less later-and-smaller ones */
    double variance;   /* of S without a trend, corrected for ties */
    double correction; /* by which autocorrelation widens or narrows it; 1 = none is significant */
    double z;
    double p;     /* two-sided; 1 when all values are the same */
    double slope; /* Theil-Sen: the median change from one value to the next */
};

/* Tests values[0..n), at equal distances in time, finite. False when n is out of TREND_LEAST ... TREND_MOST,
 * or memory is out. */
bool trend_test(const double *values, size_t n, struct trend *out);

#endif
