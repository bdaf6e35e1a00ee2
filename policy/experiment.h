/*
 * Is a change of a setting better than what was before? Pairs of measurements, one with the old setting and
 * one with the new, taken close together (slices of time in random order) or on the same requests (a ghost of
 * the old setting), judged by a t test on their relative differences; and a guard that breaks off at once
 * when the new setting does harm. What is not shown to be better is not kept.
 *
 * The number of pairs is fixed beforehand, so that looking often makes no false alarm. Single owner.
 */
#ifndef POLICY_EXPERIMENT_H
#define POLICY_EXPERIMENT_H

#include "policy/base.h"

enum { EXPERIMENT_PAIRS = 8 };

/* What a slice of traffic came to. */
struct experiment_slice {
    uint64_t requests, failed;
    double seconds;        /* of latency, summed over the requests */
    double square_seconds; /* sum of their squares; 0: not known */
    double cost;           /* what is to become less, in all: upstream calls, seconds, bytes */
};

enum experiment_verdict {
    EXPERIMENT_RUNNING,
    EXPERIMENT_IMPROVED,
    EXPERIMENT_NO_BETTER, /* not shown to be better, or not by enough */
    EXPERIMENT_HARMFUL
};

struct experiment {
    double difference[EXPERIMENT_PAIRS]; /* share of the old cost that the new one saves */
    unsigned pairs;
    double least;                          /* improvement worth keeping */
    struct experiment_slice before, after; /* sums, for the guard */
    enum experiment_verdict verdict;
};

/* `least`: an improvement below it, a share of the cost, is not worth a change. */
void experiment_begin(struct experiment *e, double least);

/*
 * Slices of the old setting and of the new one, whole, of about the same traffic. One of fewer than a few
 * requests says nothing: then the pair is not counted, and false.
 */
bool experiment_pair(struct experiment *e, const struct experiment_slice *before,
                     const struct experiment_slice *after);

/*
 * The new setting's slice so far, any time; not counted yet. True: it does harm (requests fail, or take
 * longer, or cost more, beyond chance and by much): the verdict is HARMFUL. `before` of at least one slice
 * must be known (experiment_pair, or experiment_baseline), else false.
 */
bool experiment_guard(struct experiment *e, const struct experiment_slice *after_so_far);

/* A slice of the old setting, for the guard alone. */
void experiment_baseline(struct experiment *e, const struct experiment_slice *before);

enum experiment_verdict experiment_verdict(const struct experiment *e);

/* The mean improvement and half of its 90 % interval, as shares of the old cost; 0 and 1 before two pairs. */
void experiment_measured(const struct experiment *e, double *mean, double *margin);

/* "running", "improved", "no better", "harmful". */
const char *experiment_verdict_name(int verdict);

#endif
