/*
 * The timers of one worker in four wheels of 64 slots: 1 ms, 64 ms, 4.1 s and 4.4 min a slot, and a list
 * for what lies beyond (4.7 h at most).
 *
 * Invariants. A linked timer with at <= cur lies in the due list. Else its place is by the highest group of
 * six bits in which `at` differs from `cur`: that group is the level, its value in `at` the slot; so every
 * slot in use is above cur's own digit on its level, the lowest used slot of the lowest used level comes
 * first, and slots never wrap round. Timers that differ above the last level are in the far list.
 * Bit s of used[l] is set exactly when slot s of level l is not empty. A timer's `due` may be
 * later than its `at` (it was pushed back), never earlier.
 */
#include "policy/wheel.h"

#include <string.h>

enum { FAR = WHEEL_LEVELS * WHEEL_SLOTS, DUE, LISTS };

static struct wheel_timer *timer_of(struct wheel_link *l)
{
    return (struct wheel_timer *)l; /* link is the first member */
}

static bool empty(const struct wheel_link *head)
{
    return head->next == head;
}

/* The first millisecond at which `due` is over. */
static int64_t ceil_ms(tick_t due)
{
    if (due <= 0)
        return 0;
    return (due - 1) / TICK_MS + 1;
}

static int list_for(const struct wheel *w, int64_t at)
{
    if (at <= w->cur)
        return DUE;
    int top = 63 - __builtin_clzll((uint64_t)(at ^ w->cur));
    int level = top / WHEEL_BITS;
    if (level >= WHEEL_LEVELS)
        return FAR;
    return level * WHEEL_SLOTS + (int)((at >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1));
}

static void put(struct wheel *w, struct wheel_timer *t)
{
    int list = list_for(w, t->at);
    struct wheel_link *head = &w->slot[list], *l = &t->link;
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
    if (list < FAR)
        w->used[list / WHEEL_SLOTS] |= UINT64_C(1) << (list % WHEEL_SLOTS);
    w->count++;
}

static void take(struct wheel *w, struct wheel_timer *t)
{
    struct wheel_link *l = &t->link, *prev = l->prev, *next = l->next;
    prev->next = next;
    next->prev = prev;
    l->next = l->prev = NULL;
    w->count--;
    /* Alone before: both neighbours were the list's head, whose place tells which bit to clear. */
    if (prev == next && prev >= w->slot && prev < w->slot + FAR) {
        int list = (int)(prev - w->slot);
        w->used[list / WHEEL_SLOTS] &= ~(UINT64_C(1) << (list % WHEEL_SLOTS));
    }
}

void wheel_init(struct wheel *w, tick_t now)
{
    memset(w, 0, sizeof *w);
    w->cur = now / TICK_MS;
    for (int i = 0; i < LISTS; i++)
        w->slot[i].next = w->slot[i].prev = &w->slot[i];
}

void wheel_set(struct wheel *w, struct wheel_timer *t, tick_t due)
{
    if (wheel_push_back(t, due))
        return; /* it is moved when its slot comes up */
    t->due = due;
    if (wheel_linked(t))
        take(w, t);
    else if (due == TICK_NEVER)
        return;
    t->at = ceil_ms(due);
    put(w, t);
}

void wheel_cancel(struct wheel *w, struct wheel_timer *t)
{
    if (wheel_linked(t))
        take(w, t);
    t->due = TICK_NEVER;
}

/* The next millisecond at which something has to be done, and the list that it is about. -1: nothing. */
static int64_t next_ms(const struct wheel *w, int *list)
{
    if (!empty(&w->slot[DUE])) {
        *list = DUE;
        return w->cur;
    }
    for (int level = 0; level < WHEEL_LEVELS; level++) {
        if (!w->used[level])
            continue;
        int slot = __builtin_ctzll(w->used[level]), shift = level * WHEEL_BITS;
        *list = level * WHEEL_SLOTS + slot;
        return (((w->cur >> shift >> WHEEL_BITS) << WHEEL_BITS) | slot) << shift;
    }
    *list = FAR;
    if (empty(&w->slot[FAR]))
        return -1;
    return ((w->cur >> (WHEEL_LEVELS * WHEEL_BITS)) + 1) << (WHEEL_LEVELS * WHEEL_BITS);
}

tick_t wheel_next_due(const struct wheel *w)
{
    int list;
    int64_t ms = next_ms(w, &list);
    if (ms < 0 || ms > TICK_NEVER / TICK_MS)
        return TICK_NEVER;
    return ms * TICK_MS;
}

/* Puts every timer of a list where it belongs now that `cur` has moved on. */
static void spread(struct wheel *w, int list)
{
    struct wheel_link *head = &w->slot[list], all;
    if (empty(head))
        return;
    all = *head;
    head->next = head->prev = head;
    if (list < FAR)
        w->used[list / WHEEL_SLOTS] &= ~(UINT64_C(1) << (list % WHEEL_SLOTS));
    for (struct wheel_link *l = all.next, *next; l != head; l = next) {
        next = l->next;
        w->count--;
        struct wheel_timer *t = timer_of(l);
        if (t->due == TICK_NEVER) {
            l->next = l->prev = NULL;
            continue;
        }
        t->at = ceil_ms(t->due); /* pushed-back timers go to their real place while they are in hand */
        put(w, t);
    }
}

static struct wheel_timer *pop_due(struct wheel *w, tick_t now)
{
    struct wheel_link *head = &w->slot[DUE];
    while (!empty(head)) {
        struct wheel_timer *t = timer_of(head->next);
        take(w, t);
        if (t->due <= now)
            return t;
        if (t->due != TICK_NEVER) {
            t->at = ceil_ms(t->due);
            put(w, t);
        }
    }
    return NULL;
}

struct wheel_timer *wheel_expire(struct wheel *w, tick_t now)
{
    /*
     * After a step back of the clock what was due stays due; and pop_due must not meet times after `now` in
     * the due list, which it would put there again and again.
     */
    if (now < w->cur * TICK_MS)
        now = w->cur * TICK_MS;
    int64_t target = now / TICK_MS;
    for (;;) {
        struct wheel_timer *t = pop_due(w, now);
        if (t)
            return t;
        int list;
        int64_t ms = next_ms(w, &list);
        if (ms < 0 || ms > target) {
            /* Nothing lies between: the digits above every used slot stay as they are. */
            if (target > w->cur)
                w->cur = target;
            return NULL;
        }
        w->cur = ms;
        spread(w, list);
    }
}
