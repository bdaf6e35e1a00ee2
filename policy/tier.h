/*
 * Which tier an entry is worth. Memory is one budget, in which an entry lies plain or compressed; below it is
 * a disk. All by measured benefit: what plain bytes save when they are used, against what the same bytes
 * would save if they held something else.
 */
#ifndef POLICY_TIER_H
#define POLICY_TIER_H

#include "policy/base.h"

/*
 * hot: plain, and its uses pay for that. warm: plain, though nothing says that it pays: the next to be
 * compressed when memory is wanted. cold: compressed.
 */
enum tier { TIER_WARM, TIER_HOT, TIER_COLD, TIER_COUNT };

const char *tier_name(enum tier tier);

/* What was seen over some time. */
struct tier_window {
    double seconds;
    double regrets;      /* misses on what had been given up for room shortly before */
    double regret_bytes; /* of what was given up and is still remembered */
    double cold_uses;    /* hits on compressed entries, which were there only because they are */
    double cold_bytes;   /* that these would take when plain */
    double fetch_ns;     /* what a miss costs: mean time of the upstream */
};

/* What things cost just now. All zero: nothing is known yet, and nothing is compressed. */
struct tier_market {
    double price;     /* ns a second that one byte more of memory would save */
    double unpack_ns; /* of one byte that comes out */
    double ratio;     /* bytes after over bytes before, of what was compressed lately */
};

/* The price after this window: the mean of the windows with half a minute of memory, so that it does not drop
 * to nothing as soon as compression has made room. */
double tier_price(double price, const struct tier_window *window);

/* Uses a second, from those of the last `seconds` and what was thought before. */
double tier_rate(double rate, double uses, double seconds);

struct tier_facts {
    enum tier now;
    double plain, packed; /* bytes; packed 0: not compressed yet */
    double rate;          /* uses a second */
    bool squeezable;      /* may be compressed at all */
    bool pressed;         /* memory is wanted now */
};

/* Where it belongs. Between what pays and what does not there is room, so that nothing goes to and fro. */
enum tier tier_judge(const struct tier_market *market, const struct tier_facts *facts);

/*
 * Room is wanted on disk, and the oldest record there was of use since it was last considered: does it get
 * another round? Not when so many were spared in this search that it would not end soon, nor when it is so
 * large that others gain more by its going.
 */
bool tier_spares(unsigned spared, uint64_t bytes, uint64_t limit);

#endif
