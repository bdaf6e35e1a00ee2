/*
 * The two doors between an exchange and the protocols: `downstream` is one request's side towards
 * the client, `upstream` one request's side towards the API. A codec (HTTP/1 today; HTTP/2 adds a
 * file a side) implements the operations below and calls the exchange's event functions of
 * exchange.h. Nothing here knows a socket, so a test can drive an exchange with tables in memory.
 */
#ifndef PROXY_CODEC_H
#define PROXY_CODEC_H

#include "policy/head.h"
#include "policy/reason.h"
#include "proxy/out.h"

struct exchange;
struct worker;

/* A response head on its way down. Fields come as complete lines, `name: value CRLF`, without those
 * of framing and connection: these are the codec's own. */
struct reply {
    uint16_t status;
    struct slice reason;
    const struct slice *runs; /* of complete field lines */
    int run_count;
    enum body_kind framing; /* NONE, LENGTH, or CHUNKED for a length not known yet */
    uint64_t length;
    bool show_length;  /* tell `length` although no body follows (HEAD, 304) */
    bool length_given; /* the runs have a Content-Length of their own */
    bool line_given;   /* the first run begins with an HTTP/1.1 status line: stored heads are kept so */
    bool close;        /* do not keep the connection after this */
};

/* A request head on its way up; the same rules. */
struct call {
    struct slice method;
    struct slice base_path; /* of the upstream's URL, without a trailing slash */
    struct slice path;
    struct slice authority;
    const struct slice *runs;
    int run_count;
    enum body_kind framing; /* NONE: no body and no length field */
    uint64_t length;
    bool expect_continue;
    bool secret;  /* the runs hold a key: wipe what is made of them once it is sent */
    bool upgrade; /* ask for the protocol in the field run (which then has Upgrade) */
    enum method method_id;
};

struct downstream;

struct downstream_ops {
    /* An interim answer (1xx), sent at once. */
    void (*interim)(struct downstream *d, const struct reply *reply);
    /* The final head; at most once. Bytes leave at flush. */
    void (*reply)(struct downstream *d, const struct reply *reply);
    /* Bytes of the body. They must stay until flush; owner/ops as in out.h. */
    void (*body)(struct downstream *d, struct slice data, void *owner, const struct out_owner_ops *ops);
    /* The whole body from a file (only with framing LENGTH). */
    void (*file)(struct downstream *d, int fd, off_t at, size_t n, void *owner,
                 const struct out_owner_ops *ops);
    /* The body is complete; `trailers` are field lines, used where the protocol can. */
    void (*end)(struct downstream *d, struct slice trailers);
    /* Offers everything to the peer. */
    void (*flush)(struct downstream *d);
    /* The answer cannot be completed: the client must see a broken message. */
    void (*abort)(struct downstream *d, enum reason why);
    /* Bytes not yet taken by the client. */
    size_t (*backlog)(const struct downstream *d);
    /* Whether request body bytes are welcome now. */
    void (*want_body)(struct downstream *d, bool wanted);
    /* 101: sends the head, then bytes pass unread both ways: body() down, exchange_request_data() up. */
    void (*tunnel)(struct downstream *d, const struct reply *reply);
    /* In a tunnel: no more bytes will come down; those queued still go. */
    void (*half_close)(struct downstream *d);
    /* The exchange is over and forgets this downstream. `whole`: the answer was sent to its end. */
    void (*finished)(struct downstream *d, bool whole);
};

struct downstream {
    const struct downstream_ops *ops;
    struct worker *worker;
    struct exchange *exchange; /* NULL between requests */
    uint8_t minor;             /* of the request's HTTP/1.x */
    bool tls;
    bool half_closed;                 /* the client sends no more, but may still read */
    uint64_t bytes_in, bytes_out;     /* of the present request, heads included */
    uint64_t ahead_key, ahead_client; /* what was asked for last, and in whose sequence: exchange_ahead.c */
    uint32_t ahead_flow;              /* the connection's number there; 0: none yet */
};

struct upstream;

struct upstream_ops {
    /* The request head; bytes leave at flush. */
    void (*request)(struct upstream *u, const struct call *call);
    void (*body)(struct upstream *u, struct slice data, void *owner, const struct out_owner_ops *ops);
    void (*end)(struct upstream *u, struct slice trailers);
    void (*flush)(struct upstream *u);
    size_t (*backlog)(const struct upstream *u);
    /* Stop or go on reading the answer. */
    void (*pause)(struct upstream *u, bool paused);
    /* In a tunnel: no more bytes will go up; those queued still go. */
    void (*half_close)(struct upstream *u);
    /* The exchange leaves before the answer was read whole: `drain` asks to read a short rest and
     * keep the connection, else it is closed. */
    void (*leave)(struct upstream *u, bool drain);
};

struct upstream {
    const struct upstream_ops *ops;
    struct worker *worker;
    struct exchange *exchange; /* NULL while idle */
    bool reused;               /* carried a request before */
    bool pooled;               /* was idle before this request: the upstream may have closed it meanwhile */
    bool request_begun;        /* a byte of this request may have left */
    uint64_t bytes_in, bytes_out;
};

#endif
