/*
 * Counts by tuple of labels, in a table of fixed size: whatever clients send, the number of
 * series stays bounded. One writer, any readers, no locks.
 */
#ifndef METRICS_SERIES_H
#define METRICS_SERIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct series;

/* The key under which all that found no room is counted. */
#define SERIES_OTHER UINT64_MAX

/* Room for `room` keys (1 ... 65536). NULL when out of memory. */
struct series *series_new(size_t room);
void series_free(struct series *s);

/* Counts n under `key` (neither 0 nor SERIES_OTHER). False when there was no room left for a new key: then it
 * went to SERIES_OTHER. */
bool series_add(struct series *s, uint64_t key, uint64_t n);

/*
 * Place i (0 ... series_places(s) - 1) of the table. False when nothing is there. The last place is
 * SERIES_OTHER's, there only when something was folded. Any thread.
 */
bool series_at(const struct series *s, size_t i, uint64_t *key, uint64_t *count);
size_t series_places(const struct series *s);

/* One key and its count, for merging. */
struct series_count {
    uint64_t key;
    uint64_t count;
};

/* Sorts by key and adds up equal ones. Returns how many are left. */
size_t series_merge(struct series_count *c, size_t n);

#endif
