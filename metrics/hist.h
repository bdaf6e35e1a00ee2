/*
 * A log-linear histogram: values up to 128 exactly, then 64 equal buckets to each doubling.
 * A value read back is the middle of its bucket: at most 1/128 (0.79 %) off. Merging adds
 * bucket by bucket, so the histogram of all workers is exactly the one that a single
 * writer would have made. No logarithm: the index comes from the place of the highest
 * bit and the six bits under it.
 *
 * One writer, any readers, no locks. Each doubling's 64 counters are allocated when
 * the first value falls there, so an idle histogram is a few hundred bytes.
 */
#ifndef METRICS_HIST_H
#define METRICS_HIST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HIST_SUB_BITS = 6,
    HIST_PAGE = 1 << HIST_SUB_BITS,
    HIST_MAX_BITS = 44, /* in nanoseconds: 4.9 hours; beyond, the last bucket takes all */
    HIST_PAGES = HIST_MAX_BITS - HIST_SUB_BITS + 1,
    HIST_BUCKETS = HIST_PAGES * HIST_PAGE
};

struct hist_page;

/* All zero is an empty histogram. */
struct hist {
    struct hist_page *_Atomic pages[HIST_PAGES];
    _Atomic uint64_t sum;
    _Atomic uint64_t max;
};

/* A plain copy, for reading: sums of any number of histograms. All zero is empty. */
struct hist_counts {
    uint64_t v[HIST_BUCKETS];
    uint64_t count;
    uint64_t sum;
    uint64_t max; /* exact; of a difference of two: the middle of the highest bucket */
};

/* Bucket of a value. */
static inline unsigned hist_index(uint64_t value)
{
    if (value < HIST_PAGE)
        return (unsigned)value;
    unsigned bit = 63u - (unsigned)__builtin_clzll(value);
    if (bit >= HIST_MAX_BITS)
        return HIST_BUCKETS - 1;
    unsigned shift = bit - HIST_SUB_BITS;
    return ((shift + 1) << HIST_SUB_BITS) + (unsigned)((value >> shift) & (HIST_PAGE - 1));
}

/* Smallest value of a bucket, and the smallest above it. */
uint64_t hist_lower(unsigned index);
uint64_t hist_upper(unsigned index);

/* What a value in this bucket is read back as. */
double hist_middle(unsigned index);

/* Records a value; negative ones as 0. Only the owner. False when memory ran out: then nothing was recorded.
 */
bool hist_record(struct hist *h, int64_t value);

/* Frees the pages. No thread may be using them. */
void hist_dispose(struct hist *h);

/* Adds h to *into. Any thread. */
void hist_read(const struct hist *h, struct hist_counts *into);

/* Adds b to *into. */
void hist_merge(struct hist_counts *into, const struct hist_counts *b);

/*
 * The value below or at which the share q (0 ... 1) of the records lie; the exact maximum for q >= 1 and
 * never more than it; 0 when empty.
 */
double hist_quantile(const struct hist_counts *c, double q);

/* Mean; exact but for records made while it was read. 0 when empty. */
double hist_mean(const struct hist_counts *c);

#endif
