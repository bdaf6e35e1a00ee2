/*
 * A hierarchical timer wheel (Varghese, Lauck 1987, scheme 7): all the timers of one worker
 * behind one alarm. Arming, pushing back, cancelling and asking for the next due time take
 * constant time, and nothing is allocated: the nodes lie inside their owners.
 *
 * Resolution is 1 ms: a timer never fires early, and less than 1 ms late after wheel_expire
 * was called. Pushing a timer back (the usual case: activity on a connection) is one store;
 * the node moves when the slot where it lies comes up.
 */
#ifndef POLICY_WHEEL_H
#define POLICY_WHEEL_H

#include "policy/base.h"

#define WHEEL_LEVELS 4
#define WHEEL_BITS   6
#define WHEEL_SLOTS  (1 << WHEEL_BITS)

struct wheel_link {
    struct wheel_link *next;
    struct wheel_link *prev;
};

/* All zero is a timer at rest. Must not be freed or moved while wheel_linked(). */
struct wheel_timer {
    struct wheel_link link; /* first: a link is its timer */
    tick_t due; /* when to fire; TICK_NEVER: not at all. Read freely, written by wheel_set; NEVER by anyone */
    int64_t at; /* the millisecond of the slot in which it lies */
};

struct wheel {
    int64_t cur;                 /* the millisecond up to which all has been looked through */
    size_t count;                /* timers that lie in it */
    uint64_t used[WHEEL_LEVELS]; /* bit s: slot s is not empty */
    struct wheel_link slot[WHEEL_LEVELS * WHEEL_SLOTS + 2]; /* and the far ones, and those that are due */
};

/* An empty wheel that begins at `now`. It points into itself: never copy or move it. */
void wheel_init(struct wheel *w, tick_t now);

/*
 * Fires `t` at `due` (in the past: at the next wheel_expire). Arms a timer at rest; changes an armed one.
 * TICK_NEVER takes the alarm back but leaves the node lying in the wheel, which costs a store only.
 */
void wheel_set(struct wheel *w, struct wheel_timer *t, tick_t due);

/* wheel_set() for the usual case, that a timer which lies in a wheel is not to fire before it is looked at
 * there: one store. False: nothing was done, and wheel_set() is needed. */
static inline bool wheel_push_back(struct wheel_timer *t, tick_t due)
{
    if (!t->link.next || due <= (t->at - 1) * TICK_MS)
        return false;
    t->due = due;
    return true;
}

/* Takes the timer out, wherever it is. Needed before its memory goes away. Safe on a timer at rest. */
void wheel_cancel(struct wheel *w, struct wheel_timer *t);

/*
 * Takes out and returns one timer with due <= now, or NULL when none is left. Call it until NULL.
 * Between two calls any timer may be set, cancelled or freed, the returned one included.
 * A `now` before the last one finds nothing new.
 */
struct wheel_timer *wheel_expire(struct wheel *w, tick_t now);

/*
 * When wheel_expire must be called next: never later than the first due time (rounded up to 1 ms); it may be
 * earlier, as slots of higher levels and pushed-back timers are then only moved. A time that is over: at
 * once. TICK_NEVER when the wheel is empty. Constant time.
 */
tick_t wheel_next_due(const struct wheel *w);

/* The node lies in a wheel. / It will fire. */
static inline bool wheel_linked(const struct wheel_timer *t)
{
    return t->link.next != NULL;
}

static inline bool wheel_armed(const struct wheel_timer *t)
{
    return t->link.next != NULL && t->due != TICK_NEVER;
}

#endif
