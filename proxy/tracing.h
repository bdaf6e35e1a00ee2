/*
 * Traces of sampled requests, from their worker to the exporter (telemetry.h). A request that is not sampled
 * costs a look at a flag; so does every request while traces are off.
 */
#ifndef PROXY_TRACING_H
#define PROXY_TRACING_H

#include <stdatomic.h>

#include "metrics/span.h"
#include "policy/base.h"

struct exchange;
struct metrics_block;
struct tracing;

struct tracing *tracing_new(int workers); /* NULL: out of memory */
void tracing_free(struct tracing *t);     /* when the workers have ended; NULL is fine */

/*
 * Control thread: on or off, and which share (0 ... 1) of the requests that come without a trace begins one;
 * who brings a trace has decided already (W3C Trace Context: the flag `sampled`). False: out of memory; it
 * stays off.
 */
bool tracing_set(struct tracing *t, bool on, double share);

/* Control thread: takes the next record out of any worker's ring. False: there is none. */
bool tracing_take(struct tracing *t, struct span_record *out);

/* ---- on the worker's thread: what happens to an exchange (exchange_internal.h) ---- */

/* A client's request came, its trace (if any) is known: is it to be traced? */
void tracing_begin_slow(struct exchange *x);
bool tracing_on(const struct tracing *t);

/* x is sent for nobody: it may begin a trace of its own. */
void tracing_begin_ahead(struct exchange *x);

/* x works behind the answer to `from`, which is traced or not. */
void tracing_begin_behind(struct exchange *x, const struct exchange *from);

/* x->span is there: it enters a phase; asks the cache; an attempt begins, ends; the request is over for its
 * client; all is over. */
void tracing_phase_slow(struct exchange *x, unsigned to);
void tracing_lookup_slow(struct exchange *x);
void tracing_attempt_begun(struct exchange *x);
void tracing_attempt_ended(struct exchange *x);
void tracing_answered_slow(struct exchange *x);
void tracing_over_slow(struct exchange *x);

/* Makes the trace context that goes up name the attempt of x. */
void tracing_propagate(struct exchange *x);

#endif
