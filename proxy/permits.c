/*
 * One counter and one queue under one short lock; taken only when a connection is dialled, closed,
 * or handed over while somebody waits. Invariants: held <= max, but for a max that was lowered;
 * the queue is empty or no permit is free; `waiting` is the queue's length.
 */
#include "proxy/permits.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "proxy/pool.h"

struct permits {
    pthread_mutex_t lock;
    _Atomic unsigned max; /* written with the lock held; read without it by who only wants to know */
    _Atomic unsigned held;
    _Atomic unsigned waiting;
    struct ticket *first, *last;
};

struct permits *permits_new(unsigned max)
{
    struct permits *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    pthread_mutex_init(&p->lock, NULL);
    atomic_init(&p->max, max);
    return p;
}

void permits_free(struct permits *p)
{
    if (!p)
        return;
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static unsigned get(const _Atomic unsigned *v)
{
    return atomic_load_explicit(v, memory_order_relaxed);
}

static void set(_Atomic unsigned *v, unsigned to)
{
    atomic_store_explicit(v, to, memory_order_relaxed);
}

/* With the lock held. */
static void unlink_ticket(struct permits *p, struct ticket *t)
{
    if (t->prev)
        t->prev->next = t->next;
    else
        p->first = t->next;
    if (t->next)
        t->next->prev = t->prev;
    else
        p->last = t->prev;
    t->prev = t->next = NULL;
    atomic_store_explicit(&t->queued, false, memory_order_relaxed);
    set(&p->waiting, get(&p->waiting) - 1);
}

/* With the lock held: gives free permits to those who wait. */
static void serve(struct permits *p)
{
    while (p->first && get(&p->held) < get(&p->max)) {
        struct ticket *t = p->first;
        unlink_ticket(p, t);
        set(&p->held, get(&p->held) + 1);
        pool_grant(t->worker);
    }
}

void permits_set_max(struct permits *p, unsigned max)
{
    pthread_mutex_lock(&p->lock);
    set(&p->max, max);
    serve(p);
    pthread_mutex_unlock(&p->lock);
}

bool permits_take(struct permits *p)
{
    pthread_mutex_lock(&p->lock);
    bool ok = !p->first && get(&p->held) < get(&p->max);
    if (ok)
        set(&p->held, get(&p->held) + 1);
    pthread_mutex_unlock(&p->lock);
    return ok;
}

void permits_wait(struct permits *p, struct ticket *t, struct worker *w)
{
    pthread_mutex_lock(&p->lock);
    t->worker = w;
    atomic_store_explicit(&t->queued, true, memory_order_relaxed);
    t->next = NULL;
    t->prev = p->last;
    if (p->last)
        p->last->next = t;
    else
        p->first = t;
    p->last = t;
    set(&p->waiting, get(&p->waiting) + 1);
    serve(p);
    pthread_mutex_unlock(&p->lock);
}

void permits_leave(struct permits *p, struct ticket *t)
{
    pthread_mutex_lock(&p->lock);
    if (atomic_load_explicit(&t->queued, memory_order_relaxed))
        unlink_ticket(p, t);
    pthread_mutex_unlock(&p->lock);
}

void permits_give(struct permits *p)
{
    pthread_mutex_lock(&p->lock);
    set(&p->held, get(&p->held) - 1);
    serve(p);
    pthread_mutex_unlock(&p->lock);
}

bool permits_pass_on(struct permits *p, struct worker *w, struct ticket **mine)
{
    bool away = false;
    *mine = NULL;
    pthread_mutex_lock(&p->lock);
    struct ticket *t = p->first;
    if (t) {
        unlink_ticket(p, t);
        away = t->worker != w;
        if (away)
            pool_grant(t->worker); /* the permit changes hands: `held` stays */
        else
            *mine = t;
    }
    pthread_mutex_unlock(&p->lock);
    return away;
}

bool permits_awaited(const struct permits *p)
{
    return get(&p->waiting) > 0;
}

unsigned permits_held(const struct permits *p)
{
    return get(&p->held);
}

unsigned permits_waiting(const struct permits *p)
{
    return get(&p->waiting);
}

unsigned permits_max(const struct permits *p)
{
    return get(&p->max);
}
