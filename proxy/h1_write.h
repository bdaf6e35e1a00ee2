/*
 * Heads in HTTP/1.1, written from the neutral forms of codec.h. Framing and connection fields are
 * always ours (RFC 9112 6, 7.6.1 of RFC 9110): nothing of the peer's is copied.
 */
#ifndef PROXY_H1_WRITE_H
#define PROXY_H1_WRITE_H

#include "proxy/codec.h"

enum h1_write_flags {
    H1_CHUNKED = 1,    /* announce chunked */
    H1_CLOSE = 2,      /* Connection: close */
    H1_KEEP_ALIVE = 4, /* Connection: keep-alive, for HTTP/1.0 */
    H1_INTERIM = 8     /* a 1xx: no framing fields */
};

/* Bytes written into out[0..cap), or 0 when they might not fit: 160 are asked for beside the runs and the
 * start line's parts. */
size_t h1_write_reply(char *out, size_t cap, const struct reply *reply, unsigned flags);
size_t h1_write_call(char *out, size_t cap, const struct call *call, unsigned flags);

/* The usual reason phrase of a status, "" for an unknown one (RFC 9110 15). */
const char *h1_reason_phrase(unsigned status);

#endif
