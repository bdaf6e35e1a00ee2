/*
 * Exponential histograms of OTLP, out of sketches with other buckets. A bucket there goes where its middle
 * belongs, so that a bound is sharp to 0.8 %, and counts are exact.
 */
#ifndef METRICS_OTLP_HISTOGRAM_H
#define METRICS_OTLP_HISTOGRAM_H

#include "metrics/hist.h"
#include "metrics/real_sketch.h"
#include "metrics/text.h"

enum {
    EXPO_BUCKETS = 160,  /* of one sign at most, as SDKs have */
    EXPO_SCALE_MOST = 5, /* 32 buckets a doubling: finer ones would say more than is known */
    EXPO_SOURCES = HIST_BUCKETS
};

struct expo_part {
    double value;
    uint64_t count;
};

/* What a histogram is made of. */
struct expo {
    struct expo_part parts[EXPO_SOURCES];
    size_t n;
    uint64_t count;
    double sum, min, max;
    bool has_min, has_max;
};

/* Fills *e. `unit`: what a value of 1 is recorded as. */
void expo_of_counts(struct expo *e, const struct hist_counts *c, double unit);
void expo_of_sketch(struct expo *e, const struct real_sketch *s);

/* The bucket of a value > 0 at a scale: (2^(i / 2^scale), 2^((i + 1) / 2^scale)]. */
int32_t expo_index(double value, int scale);

/* Writes count, sum, scale, zero count, buckets, min and max: all of an ExponentialHistogramDataPoint but its
 * attributes, times and exemplars. */
void expo_put(struct text *t, const struct expo *e);

#endif
