/*
 * One request and its answer: looks up, admits, forwards, retries, relays, stores. Owns no socket;
 * it sits between a downstream and an upstream (codec.h), or without a downstream when it refreshes
 * the cache in the background. Lives on one worker.
 */
#ifndef PROXY_EXCHANGE_H
#define PROXY_EXCHANGE_H

#include "proxy/codec.h"

struct exchange;

/* --- events from the client side ------------------------------------------------------------- */

/*
 * A request head came in. Its bytes must stay until this returns. The exchange is bound to
 * d->exchange; when the answer is complete already (a cache hit, an error) it has been given to the
 * codec, flushed, and d->exchange is NULL again on return.
 */
void exchange_begin(struct downstream *d, const struct head *request);

/* Bytes of the request's body. `owner`/`ops` may hold them (out.h), or NULL. */
void exchange_request_data(struct exchange *x, struct slice data, void *owner,
                           const struct out_owner_ops *ops);
void exchange_request_end(struct exchange *x, struct slice trailers);
/* The codec has given all it has for now: time to flush what goes up. */
void exchange_request_flush(struct exchange *x);
/* The rest of the request cannot be had (REASON_CLIENT_GONE, BAD_CHUNK, BODY_TIMEOUT, ...). */
void exchange_request_failed(struct exchange *x, enum reason why);
/* The client sends no more bytes but may still read; see half_close_grace in exchange.c. */
void exchange_client_half_closed(struct exchange *x);
/* The client took bytes: the backlog is low again. */
void exchange_client_drained(struct exchange *x);

/* A head that could not be parsed: answer it and finish. d->exchange is NULL on return. */
void exchange_refuse(struct downstream *d, enum reason why);

/* --- events from the upstream side ----------------------------------------------------------- */

/* The pool has a connection for x (or says why not). */
void exchange_connected(struct exchange *x, struct upstream *u);
void exchange_connect_failed(struct exchange *x, enum reason why);

/* An interim answer; relayed or dropped. */
void exchange_interim(struct exchange *x, const struct head *response);
/* The final head. The exchange may leave this upstream while it looks (it tries again, or is gone). */
void exchange_response(struct exchange *x, const struct head *response);
/* Bytes of the body. */
void exchange_response_data(struct exchange *x, struct slice data, void *owner,
                            const struct out_owner_ops *ops);
/* The answer is whole. The codec has let go of the exchange already. */
void exchange_response_end(struct exchange *x, struct slice trailers);
/* All that was read is given: time to flush what goes down. */
void exchange_response_flush(struct exchange *x);
/* The attempt failed. The connection is gone already; `last` has its numbers for the time of the call.
 * `why` as in reason.def. */
void exchange_upstream_failed(struct exchange *x, enum reason why, const struct upstream *last);
/* 101: from now on bytes pass unread in both directions. False: it was not asked for. */
bool exchange_upgraded(struct exchange *x, const struct head *response);
/* In a tunnel: the upstream sends no more. False: then the tunnel is over, fail it. */
bool exchange_upstream_half_closed(struct exchange *x);
/* The upstream took bytes: its backlog is low again. */
void exchange_upstream_drained(struct exchange *x);

/* --- the worker's side ------------------------------------------------------------------------ */

/* Asks the upstream for pool.health_check_path, in the background. */
void exchange_check_health(struct worker *w);

/* The turn ends: learns from its requests, and fetches what will likely be asked for next. */
void exchange_ahead_turn(struct worker *w);
/* Frees what that needs, at the worker's end. */
void exchange_ahead_dispose(struct worker *w);

/* Frees the kept objects of a worker at its end. */
void exchange_dispose_free(struct worker *w);

#endif
