/*
 * A connection to the upstream that speaks HTTP/1 as a client.
 */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "policy/base.h"
#include "proxy/codec.h"
#include "proxy/stream.h"

struct address;
struct pool;
struct worker;

/* What the pool keeps of a connection. */
struct pooled {
    struct upstream *prev, *next; /* on the idle or the busy list */
    tick_t born, idle_since;
    tick_t trusted;      /* how long it may be idle, as far as is known of the server */
    uint32_t generation; /* of the addresses and settings it was dialled with */
    bool doomed;         /* close it instead of pooling it */
};

/* Takes over a connected stream. NULL (stream closed): no memory. */
struct upstream *upstream_open(struct worker *w, struct stream stream);

struct pooled *upstream_pooled(struct upstream *u);

/* Binds it to an exchange, for one request. */
void upstream_assign(struct upstream *u, struct exchange *x);

/* Whether an idle connection is still good: nothing has come in, not even its end. Costs a system call. */
bool upstream_alive(struct upstream *u);

/* Something has come in, by what this turn of the loop found, that nobody has looked at yet. */
bool upstream_stirs(const struct upstream *u);

/* Closes an idle connection. */
void upstream_close(struct upstream *u);

/* Cuts a connection in whatever it does, failing its exchange with `why`. */
void upstream_break(struct upstream *u, enum reason why);

/* The lifetime of an idle connection that the server has announced (Keep-Alive: timeout=N), or 0. */
tick_t upstream_announced_idle(const struct upstream *u);

/* What making the connection cost, told to the first exchange that uses it. */
void upstream_note_dial(struct upstream *u, tick_t tcp, tick_t tls);
void upstream_dial_times(struct upstream *u, tick_t *tcp, tick_t *tls);

/* The peer ended it while it was idle. */
bool upstream_closed_by_peer(const struct upstream *u);

/* As upstream_ops.leave, for a tunnel or a broken exchange. */
void upstream_leave(struct upstream *u, bool drain);

#endif
