/*
 * W3C Trace Context (Level 1, and the random flag of Level 2): traceparent read, checked and written; and
 * the request id. A bad traceparent starts a new trace, and its tracestate is dropped.
 */
#ifndef POLICY_TRACE_CONTEXT_H
#define POLICY_TRACE_CONTEXT_H

#include "policy/base.h"
#include "policy/head.h"
#include "policy/rng.h"

#define TRACEPARENT_LEN 55
#define TRACE_SAMPLED   0x01
#define TRACE_RANDOM    0x02
#define REQUEST_ID_LEN  36  /* of one that we made */
#define REQUEST_ID_MAX  128 /* of one that we keep */

struct trace_context {
    uint8_t trace_id[16];
    uint8_t parent_id[8]; /* of the span that sent this on */
    uint8_t flags;        /* TRACE_* ; others are zero */
};

/* Reads a traceparent. False: not valid, *t is untouched. A version above 00 is read by what 00 has. */
bool traceparent_parse(struct slice value, struct trace_context *t) MUSTCHECK;

/*
 * The request's context: its one valid traceparent. False: none, or a bad one: start a trace, drop
 * tracestate.
 */
bool trace_from_head(const struct head *h, struct trace_context *t) MUSTCHECK;

/* Begins a new trace. */
void trace_start(struct trace_context *t, bool sampled, struct rng *rng);

/* A new parent id for the next hop (each attempt is a span of its own); trace id and flags stay. */
void trace_child(struct trace_context *t, struct rng *rng);

/* Writes version 00, TRACEPARENT_LEN bytes, no NUL. */
void traceparent_format(const struct trace_context *t, char out[TRACEPARENT_LEN]);

/* The trace id in lower case hex digits, TRACE_ID_LEN bytes, no NUL. */
#define TRACE_ID_LEN 32
void trace_id_format(const struct trace_context *t, char out[TRACE_ID_LEN]);

/* May be kept and logged: 1 ... REQUEST_ID_MAX bytes of letters, digits and - . _ ~ : / + = @ , */
bool request_id_ok(struct slice value);

/* Makes one: a UUID of version 4 (RFC 9562), REQUEST_ID_LEN bytes, no NUL. Unique, not secret. */
void request_id_make(char out[REQUEST_ID_LEN], struct rng *rng);

#endif
