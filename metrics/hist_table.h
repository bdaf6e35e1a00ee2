/*
 * Histograms by key, in a table of fixed size. One writer, any readers, no locks; memory at the first sight
 * of a key.
 */
#ifndef METRICS_HIST_TABLE_H
#define METRICS_HIST_TABLE_H

#include "metrics/hist.h"

struct hist_table;

/* The key of the histogram that takes what found no room. */
#define HIST_TABLE_OTHER UINT64_MAX

struct hist_table *hist_table_new(size_t room); /* keys; NULL when out of memory */
void hist_table_free(struct hist_table *t);     /* NULL is fine */

/* Records under `key` (neither 0 nor HIST_TABLE_OTHER). Only the owner. False: out of memory, not recorded.
 */
bool hist_table_record(struct hist_table *t, uint64_t key, int64_t value);

/* Place i (0 ... hist_table_places() - 1): its key and histogram. False when nothing is there. Any thread. */
size_t hist_table_places(const struct hist_table *t);
bool hist_table_at(const struct hist_table *t, size_t i, uint64_t *key, const struct hist **hist);

#endif
