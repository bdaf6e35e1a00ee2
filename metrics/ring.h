/*
 * The last requests that one worker finished. The worker writes; any thread copies an
 * entry out, and sees it whole or not at all.
 */
#ifndef METRICS_RING_H
#define METRICS_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RING_ENTRIES = 1024, RING_ID_BYTES = 36, RING_PATH_BYTES = 92 };

struct observation;
struct ring;

/* NULL when out of memory. Memory is touched as entries are written. */
struct ring *ring_new(void);
void ring_free(struct ring *r);

/* Writes over the oldest entry. Only the owner. */
void ring_put(struct ring *r, const struct observation *o);

/* Entries ever written: the newest has the number count - 1, the oldest still there about count -
 * RING_ENTRIES. Any thread. */
uint64_t ring_count(const struct ring *r);

/* Copies entry `number`. False when it is not (or no longer) there, or is being overwritten. Any thread. */
bool ring_get(const struct ring *r, uint64_t number, struct observation *out);

#endif
