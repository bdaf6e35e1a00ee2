/*
 * The right to have a connection to the upstream, counted exactly over all workers. A connection
 * holds one permit from its dial to its close. Who finds none waits in one fair queue of all
 * workers; a permit that becomes free goes to the worker at the head of that queue.
 */
#ifndef PROXY_PERMITS_H
#define PROXY_PERMITS_H

#include "policy/base.h"

struct permits;
struct worker;

/* A place in the queue, embedded in what waits. Zero it before use. */
struct ticket {
    struct ticket *prev, *next;
    struct worker *worker;
    _Atomic bool queued; /* written with the lock held, by whichever worker serves the queue */
};

/* NULL: no memory. */
struct permits *permits_new(unsigned max);
void permits_free(struct permits *p);

/* Changes the limit; connections beyond it are not cut, but closed when they become free (pool_release). */
void permits_set_max(struct permits *p, unsigned max);

/* Takes a permit when one is free and nobody waits before. */
bool permits_take(struct permits *p) MUSTCHECK;

/* Queues up. The worker's pool is told by pool_granted() through its mailbox. */
void permits_wait(struct permits *p, struct ticket *t, struct worker *w);

/* Leaves the queue; no harm when not in it. */
void permits_leave(struct permits *p, struct ticket *t);

/* Gives a permit back: to the first in the queue, else to the free ones. */
void permits_give(struct permits *p);

/*
 * A connection of worker `w` became free. True: somebody of another worker comes first, so close the
 * connection (the permit has been passed on already). False: keep it; *mine is set when the first in
 * the queue is w's own, whose ticket was taken out of the queue.
 */
bool permits_pass_on(struct permits *p, struct worker *w, struct ticket **mine) MUSTCHECK;

/* Anybody waiting? A relaxed look, for deciding whether to take the lock. */
bool permits_awaited(const struct permits *p);

unsigned permits_held(const struct permits *p);
unsigned permits_waiting(const struct permits *p);
unsigned permits_max(const struct permits *p);

#endif
