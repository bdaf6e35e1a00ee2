/*
 * How many requests may be at the upstream at once, learnt: additive increase, multiplicative decrease
 * around what health has proved (Little's law: throughput times latency while all was well), guided by
 * whether calls queue at the upstream. There is no probing window: nothing is held back in order to measure.
 *
 * Over the limit requests wait, first come first served; when the queue has not drained for 100 ms (CoDel's
 * sign of a standing queue; Nichols, Jacobson 2012) the newest go first, because the oldest have the least
 * time left ("adaptive LIFO", Maurer 2015), and who cannot be answered before its deadline any more is
 * refused at once.
 *
 * Plain state; the owner locks it when threads share it. Every GO and every grant ends in one
 * concurrency_end.
 */
#ifndef POLICY_CONCURRENCY_H
#define POLICY_CONCURRENCY_H

#include "policy/base.h"
#include "policy/outcome.h"

enum { CONCURRENCY_BATCH = 10 };

enum concurrency_mode {
    CONCURRENCY_ADAPTIVE,
    CONCURRENCY_FIXED, /* `max` all the time */
    CONCURRENCY_OFF,
    CONCURRENCY_OBSERVE /* learns and shows, holds nobody back */
};

struct concurrency_rules { /* configuration: read only */
    enum concurrency_mode mode;
    int min, max;         /* 1 <= min <= max */
    tick_t queue_timeout; /* longest wait; 0 = none waits */
};

struct concurrency_waiter { /* embedded in what waits; zero it before use */
    struct concurrency_waiter *prev, *next;
    tick_t since, until;
    bool queued;
};

struct concurrency {
    const struct concurrency_rules *rules; /* not owned */
    double limit;
    double healthy; /* h: X.W while all was well; 0 = not known yet */
    double fastest; /* Wmin, seconds; 0 = not known yet */
    bool vague;     /* and that from what happened to be over first */
    double usual;   /* mean latency of the newest windows, seconds; 0 = not known */
    double mean,
        low;        /* of healthy windows, seconds: what of a latency's shape tells queueing from slowness */
    double reached; /* throughput before the newest step up of a ramp; 0 = no ramp */
    double top;     /* the limit of the newest collapse, and less: no ramp goes beyond it; 0 = none */
    uint32_t stale; /* calls sent before a collapse that are not over yet */
    int in_flight;
    int peak; /* of in_flight in this window */
    struct {
        tick_t began;
        int under_way; /* in_flight then */
        uint32_t good, dropped, shed, other;
        double sum;  /* of good ones' latencies, seconds */
        double lost; /* of dropped ones' */
        double lows; /* of the least of each ten of them */
        uint32_t batches;
    } window;
    struct {
        uint32_t n;
        double low;
    } batch; /* of the newest good ones, up to CONCURRENCY_BATCH */

    struct concurrency_waiter *first, *last; /* in order of arrival */
    uint32_t waiting;
    tick_t standing; /* since when the queue has been standing; 0 = it is not */
    uint64_t let_go, waited, refused, would_refuse;
};

void concurrency_init(struct concurrency *c, const struct concurrency_rules *rules, tick_t now);

/* New rules, live. */
void concurrency_tune(struct concurrency *c, const struct concurrency_rules *rules);

enum concurrency_verdict { CONCURRENCY_GO, CONCURRENCY_WAIT, CONCURRENCY_REFUSED };

/* How a waiter learns its fate. It is out of the queue then. */
typedef void (*concurrency_wake)(struct concurrency_waiter *w, bool go, void *arg);

/*
 * Asks for one. `deadline` of the request (TICK_NEVER): waiting beyond what leaves time for an answer is no
 * use. A full queue under overload refuses its oldest, so others may be woken here.
 */
enum concurrency_verdict concurrency_ask(struct concurrency *c, struct concurrency_waiter *w, tick_t deadline,
                                         concurrency_wake wake, void *arg, tick_t now) MUSTCHECK;

/* One that was let go is over. `took`: to the first byte of the answer or to the failure. Call
 * concurrency_turn after it. */
void concurrency_end(struct concurrency *c, enum outcome outcome, tick_t took, tick_t now);

/* What the caller has kept count of by itself since the last time: so many were let go and ended well, `sum`
 * ns in all; and the shortest of each CONCURRENCY_BATCH of them, added up. in_flight is set by the caller. */
struct concurrency_gathering {
    uint32_t let_go, good;
    int64_t sum;
    uint32_t batches;
    int64_t lows; /* ns */
};
void concurrency_gathered(struct concurrency *c, const struct concurrency_gathering *g, tick_t now);

/* Lets go who may go now, refuses whose time is over. Returns when the first one's time is over, TICK_NEVER
 * with nobody waiting. */
tick_t concurrency_turn(struct concurrency *c, concurrency_wake wake, void *arg, tick_t now);

/* The waiter wants no more. No harm when it is not queued. */
void concurrency_leave(struct concurrency *c, struct concurrency_waiter *w);

/* How many may be there now: whole, >= 1. OFF and OBSERVE: what it would be. */
int concurrency_limit(const struct concurrency *c);

/* For a refused client: about when there will be room, at least 1 s. */
tick_t concurrency_retry_after(const struct concurrency *c);

#endif
