/*
 * What the cache would hit at other sizes: the live policy in miniature at each of them, on a hashed sample
 * of the keys (miniature simulation, ATC'17; SHARDS, FAST'15), corrected by what the cache itself hit. It
 * promises gains over the present size, not hit ratios: these drift with the load, and so would the promise.
 * Single owner, but for curve_wants.
 */
#ifndef POLICY_CURVE_H
#define POLICY_CURVE_H

#include "policy/evict.h"

#define CURVE_MAX_SIZES 8

/* Of a miniature of the present size in the sidecar. */
enum { CURVE_SAMPLE_ENTRIES = 768 };

struct curve_setup {
    enum evict_strategy strategy;
    const evict_advice
        *advice; /* the rule of adaptive that the cache follows; may be NULL; outlives the curve */
    uint64_t max_entries, max_bytes; /* of the cache, 0 = none */
    const double *factors;           /* sizes to look at, as multiples; copied */
    const double *lifetimes;         /* with each of them, multiples of the settable lifetimes; NULL: all 1 */
    unsigned count;                  /* at most CURVE_MAX_SIZES */
    bool whole;       /* every key is followed until the miniatures are full, whatever the cache's limits */
    unsigned entries; /* of a miniature of the present size, at most, while more than one key in 128 is
                         sampled; 0: 2048 */
};

struct curve; /* private */

/* NULL: out of memory. */
struct curve *curve_new(const struct curve_setup *setup);
void curve_free(struct curve *curve);

void curve_set_strategy(struct curve *curve, enum evict_strategy strategy);

/* Is a request for this key in the sample? Any thread. */
bool curve_wants(const struct curve *curve, uint64_t hash);

/* A request for a key in the sample, for something that the cache keeps, until `until` if it is fetched now.
 */
void curve_note(struct curve *curve, const struct evict_item *item, tick_t now, tick_t until);

/* The same, with a lifetime instead; `settable`: it is one that a setting gives, and miniatures try others.
 * `again`: further uses of the key since the one before, each so soon that it is a hit at any size. */
void curve_note_life(struct curve *curve, const struct evict_item *item, tick_t now, tick_t lifetime,
                     bool settable, uint32_t again);

/* There were `uses` more for keys in the sample, which were not noted because there were too many: they are
 * taken to have fared like the others. */
void curve_pass(struct curve *curve, uint64_t uses);

/* Follows half as many keys from now on, unless fewer than `least` would be left: then false. */
bool curve_thin(struct curve *curve, size_t least);

/* Sums since the beginning, of all requests for the keys in the sample, scaled up to all keys. */
struct curve_sums {
    double requests;
    double passed;                /* that were not noted, and are missing in all the others */
    double base;                  /* hits at the present size and lifetime, */
    double hits[CURVE_MAX_SIZES]; /* and with each of the others */
    unsigned count;
};
void curve_sum(const struct curve *curve, struct curve_sums *out);

/*
 * What a cache that hits a share `real` of its requests would gain at another size, where a miniature of its
 * own size has `base`, and one of the other `other`: the same part of the present misses would be hits, or of
 * the present hits misses. So a sample that is luckier or less lucky than all keys promises neither more than
 * there is to gain nor loses more than there is to lose.
 */
double curve_gain(double real, double base, double other);

/* Ends a window in which the cache had `requests` in all, so many of them hits. Windows of fewer than a
 * hundred requests are joined to the next one. */
void curve_window(struct curve *curve, uint64_t requests, uint64_t hits);

struct curve_point {
    double factor;
    double hit_ratio; /* predicted: of the cache itself in the last windows, and the gain */
    double gain;      /* over the present size, in shares of the requests */
    double margin;    /* nine in ten windows are expected within gain - margin to gain + margin */
    unsigned windows; /* that this rests on */
};

/* One point a factor, in `out`, which has room for CURVE_MAX_SIZES. Returns how many; 0 before the first
 * window. */
unsigned curve_points(const struct curve *curve, struct curve_point *out);

double curve_rate(const struct curve *curve);
size_t curve_memory(const struct curve *curve);

#endif
