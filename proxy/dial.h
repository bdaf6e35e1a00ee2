/*
 * One attempt to get a ready upstream stream: connect (Happy Eyeballs, RFC 8305), then
 * TLS when asked, all within one time limit, on a worker's event loop.
 */
#ifndef PROXY_DIAL_H
#define PROXY_DIAL_H

#include "policy/base.h"
#include "policy/reason.h"
#include "proxy/address.h"
#include "proxy/stream.h"

struct event_base;
struct tls_context;
struct dial;

struct dial_request {
    struct event_base *base;        /* the calling thread's own */
    struct address_list *addresses; /* the dial takes a reference */
    uint32_t first;                 /* index to begin with, modulo the count: the last that worked, say */
    struct tls_context *tls;        /* NULL: plain; else the dial takes a reference */
    tick_t timeout;                 /* over everything; > 0 */
    tick_t stagger;                 /* before the next address is tried beside the present one; 0: 250 ms */
};

struct dial_result {
    enum reason
        reason; /* NONE, CONNECT_FAILED, CONNECT_TIMEOUT, TLS_FAILED, TLS_CERTIFICATE, OUT_OF_MEMORY */
    struct stream stream; /* when NONE: the caller's from now on; else closed (fd -1) */
    uint32_t index;       /* of the address in request.addresses: the one used, or the last that failed */
    struct address address;
    tick_t tcp; /* from the start of the winning attempt to connected; -1: not reached */
    tick_t tls; /* of the handshake; -1: none, or not reached */
    bool tls_resumed;
    const char *text; /* what went wrong, with the address; valid during the call; "" when NONE */
};

/* Called once, from the event loop, never from inside dial_start; the dial is gone when it is called. May
 * start another dial. */
typedef void dial_done_fn(void *arg, const struct dial_result *result);

/* Starts. NULL when out of memory (done is then not called). Sockets are non-blocking, close-on-exec,
 * TCP_NODELAY. */
struct dial *dial_start(const struct dial_request *request, dial_done_fn *done, void *arg) MUSTCHECK;

/* Ends it without a call of done. Not after done was called. NULL is well. */
void dial_cancel(struct dial *dial);

#endif
