/*
 * A worker's connections to the upstream: idle ones, those being dialled, and the exchanges that
 * wait for one. The limit over all workers is held by permits.h.
 */
#ifndef PROXY_POOL_H
#define PROXY_POOL_H

#include "policy/reason.h"
#include "proxy/permits.h"

struct exchange;
struct pool;
struct upstream;
struct worker;

/* What a waiting exchange embeds. Zero it before use. */
struct pool_wait {
    struct pool_wait *prev, *next;
    struct exchange *exchange;
    struct ticket ticket;
    bool waiting;
};

struct pool_stats {
    unsigned idle, busy, dialing, waiting;
};

struct pool *pool_new(struct worker *w);
/* Closes everything. */
void pool_free(struct pool *pool);

/* A usable idle connection at once, or NULL: then wait->exchange is queued and is told by
 * exchange_connected() or exchange_connect_failed(). */
struct upstream *pool_acquire(struct pool *pool, struct pool_wait *wait);

/* Stops waiting. */
void pool_cancel(struct pool *pool, struct pool_wait *wait);

/* From upstream.c: the connection finished a request and can take another. May close it. */
void pool_release(struct pool *pool, struct upstream *u);

/* From upstream.c: the connection is gone for good; its permit is free. `idle`: it was on the idle list. */
void pool_closed(struct pool *pool, struct upstream *u, bool idle);

/* Any thread: a permit was granted to this worker; / another worker needs one of its idle connections. */
void pool_grant(struct worker *w);
void pool_reclaim(struct worker *w);

/* The upstream's addresses may have changed: connections made with older ones are closed once idle, and
 * exchanges that waited for a name go on. */
void pool_refresh(struct pool *pool);

/* Settings changed (TLS, limits): connections made before are closed once idle. */
void pool_renew(struct pool *pool);

/* Closes idle connections and lets no new one come (at the worker's end). */
void pool_close_idle(struct pool *pool);

/* Ends everything now: who waits and who is being answered hears REASON_SHUTTING_DOWN. */
void pool_cut(struct pool *pool);

/* Owner's thread only, or a relaxed look from elsewhere. */
struct pool_stats pool_stats(const struct pool *pool);

#endif
