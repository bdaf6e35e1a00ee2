/*
 * Which finished requests are kept: a random sample of all, the failed ones, and the slowest of each five
 * minutes. Each has places of its own, so that what is slow or failed is not pushed out by what is fast.
 * One writer, the worker; any thread reads.
 */
#ifndef METRICS_KEEPER_H
#define METRICS_KEEPER_H

#include "metrics/observe.h"

enum { KEEPER_FAILED = 256, KEEPER_SLOW = 64 };

/* Why one is kept: bits of observation.kept. */
enum keeper_why { KEPT_SAMPLE = 1, KEPT_FAILED = 2, KEPT_SLOW = 4 };

struct keeper;

/* `room`: of the sample. NULL: out of memory. */
struct keeper *keeper_new(size_t room);
void keeper_free(struct keeper *k); /* NULL is fine */

/* Keeps it when it is to be kept, and notes its number and why in it. `sample`: of 2^32 requests so many are
 * sampled. Only the owner. */
void keeper_see(struct keeper *k, struct observation *o, uint64_t sample, bool failed);

/* The sample, in the order in which they ended. */
const struct ring *keeper_sample(const struct keeper *k);

/* Bytes of what is kept, and the most that may be. Any thread. */
void keeper_bytes(const struct keeper *k, size_t *now, size_t *most);

/* Places 0 ... keeper_places() - 1: false when nothing is there. One that is kept for two reasons is in two
 * of them, with the same number. Any thread. */
size_t keeper_places(const struct keeper *k);
bool keeper_at(const struct keeper *k, size_t i, struct observation *out);

#endif
