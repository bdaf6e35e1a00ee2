/*
 * Finished requests that one worker keeps. The worker writes; any thread copies an entry out, and sees it
 * whole or not at all.
 */
#ifndef METRICS_RING_H
#define METRICS_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RING_ENTRIES = 1024 /* by default */, RING_ID_BYTES = 36, RING_PATH_BYTES = 92 };

struct observation;
struct ring;

/* Room for `room` entries, at least one. NULL when out of memory. Memory is touched as entries are written.
 */
struct ring *ring_new(size_t room);
void ring_free(struct ring *r);
size_t ring_room(const struct ring *r);

/* Bytes of the entries written so far, and of all when it is full. Any thread. */
size_t ring_bytes(const struct ring *r);
size_t ring_bytes_most(const struct ring *r);

/* Writes over the oldest entry. Only the owner. */
void ring_put(struct ring *r, const struct observation *o);

/* Entries ever put: the newest has the number count - 1, the oldest still there about count - room. Any
 * thread. */
uint64_t ring_count(const struct ring *r);

/* Copies entry `number`. False when it is not (or no longer) there, or is being overwritten. Any thread. */
bool ring_get(const struct ring *r, uint64_t number, struct observation *out);

/* For rings that are no queue: writes over place `i`, empties it, reads it. The first two only by the owner.
 */
void ring_set(struct ring *r, size_t i, const struct observation *o);
void ring_clear(struct ring *r, size_t i);
bool ring_at(const struct ring *r, size_t i, struct observation *out);

#endif
