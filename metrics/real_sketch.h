/*
 * A sketch of real numbers of any size and sign: buckets as in hist.h (64 to a doubling), kept sparsely, so
 * that a value read back is at most 0.79 % off. Merging adds bucket by bucket. When more than
 * REAL_SKETCH_BUCKETS would be needed, neighbours are joined, which doubles that error each time.
 */
#ifndef METRICS_REAL_SKETCH_H
#define METRICS_REAL_SKETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    REAL_SKETCH_BUCKETS = 256,
    REAL_SKETCH_INDEX = 2047 << 6 /* no index is further from 0 */
};

struct real_bucket {
    int32_t index; /* by growing value; 0 is zero */
    uint64_t count;
};

/* All zero is empty. */
struct real_sketch {
    uint64_t count;
    double sum, min, max; /* min and max hold nothing while count is 0 */
    uint8_t joined;       /* how often neighbours were joined */
    uint16_t used;
    struct real_bucket buckets[REAL_SKETCH_BUCKETS]; /* by growing index */
};

/* Adds n records of a finite value. */
void real_sketch_add(struct real_sketch *s, double value, uint64_t n);

/* Adds b to *into. */
void real_sketch_merge(struct real_sketch *into, const struct real_sketch *b);

/* Adds n records to a bucket of a sketch that was joined so often; not to sum, min and max. */
void real_sketch_put(struct real_sketch *s, unsigned joined, int32_t index, uint64_t n);

/* What a value in this bucket is read back as. */
double real_sketch_middle(int32_t index, unsigned joined);

/* The value below or at which the share q of the records lie; between min and max. 0 when empty. */
double real_sketch_quantile(const struct real_sketch *s, double q);

/* How many records lie at or below a bound; sharp to a bucket. */
uint64_t real_sketch_below(const struct real_sketch *s, double bound);

#endif
