/* The sending side of a connection: heads, bodies from wherever they come, and the faults in them. */
#ifndef ORIGIN_CONN_OUT_H
#define ORIGIN_CONN_OUT_H

#include "tests/origin/call.h"
#include "tests/origin/io.h"

/* Bytes of /bytes and /chunked: byte i of the body is PATTERN[i % PATTERN_PERIOD]. */
#define PATTERN "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n"
enum { PATTERN_PERIOD = 64 };

struct out {
    struct io io;
    struct text text; /* to be sent from `at` on */
    size_t at;
    uint64_t total;     /* bytes ever written */
    uint64_t body_at;   /* of the present body: bytes of payload, or events, that were taken from the source */
    uint64_t body_wire; /* of the present body: bytes that were sent, framing included */
    uint64_t due;       /* events that may be sent by now */
    double tokens;      /* body bytes that a slow body may send now */
    int64_t tick;       /* ns: when tokens were last given */
    int64_t date_second; /* what `date` was made for */
    size_t date_len;
    char date[80];
    bool bodiless;      /* HEAD, 204, 304 */
    bool framed;        /* in chunks */
    bool head_sent;     /* of a reply with faults: only the body is left */
    bool ended;         /* the source is used up, the last chunk included */
};

enum out_result {
    OUT_DONE,
    OUT_BLOCKED, /* until writable */
    OUT_LATER,   /* until *again_us have passed */
    OUT_CUT,     /* the reply is to be cut here */
    OUT_BROKEN
};

/* Composes the head (RFC 9112 4) and gets ready for the body. now: ns since 1970, for Date. */
void out_begin(struct out *out, struct reply *reply, const struct request *request, int64_t now);
/* Moves a body of at most `max` bytes behind the head, so that the reply need not be sent by itself. */
bool out_gather(struct out *out, const struct reply *reply, size_t max);
/* Sends what can be sent. reply NULL: only what is in `text`. */
enum out_result out_pump(struct out *out, const struct reply *reply, uint64_t *again_us);
/* The time that OUT_LATER asked for has passed. */
void out_tick(struct out *out, const struct reply *reply);

#endif
