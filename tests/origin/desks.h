/*
 * Workers: so many calls are worked on at once, the others wait for their turn. The queue is first come,
 * first served, and work that nobody waits for any more is done all the same, as in a real server that does
 * not notice.
 */
#ifndef ORIGIN_DESKS_H
#define ORIGIN_DESKS_H

#include <stdint.h>

enum { MAX_DESKS = 1000 };

struct desks;

struct desks *desks_new(void); /* NULL when out of memory */
void desks_free(struct desks *d);

/*
 * A call that takes `work_us` of one of the first `workers` (1 ... MAX_DESKS): microseconds from now until it
 * is done, its wait included. Any thread may call.
 */
uint64_t desks_take(struct desks *d, uint32_t workers, uint64_t work_us);

#endif
