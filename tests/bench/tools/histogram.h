/* Counts of durations in buckets a power of two wide, each cut in 128: every value is known to within 1 %. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_SUB = 128, HISTOGRAM_BUCKETS = 40 * HISTOGRAM_SUB };

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total, max;
    double sum;
};

/* value in ns. */
void histogram_add(struct histogram *h, uint64_t value);
/* The value that a share `q` (0 to 1) of all does not exceed; 0 when there is none. */
uint64_t histogram_quantile(const struct histogram *h, double q);

#endif
