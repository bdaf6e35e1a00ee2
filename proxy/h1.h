/*
 * HTTP/1.0 and HTTP/1.1 on the wire, in both roles, with no socket and no clock:
 * bytes in, heads and body bytes out. Strict: one reading of every message (RFC 9112),
 * the same that the next hop has.
 */
#ifndef PROXY_H1_H
#define PROXY_H1_H

#include "policy/head.h"
#include "policy/reason.h"

struct h1_limits {
    uint32_t max_head;               /* bytes of the whole head, start line and empty line included */
    uint32_t max_target;             /* bytes of the request target (414) */
    uint32_t max_trailer;            /* bytes of the trailer section */
    bool unknown_coding_until_close; /* responses: read an unknown transfer coding until close */
};

/* How far a head has been looked through, so that a slow sender costs linear work.
 * All zero before the first byte; zero it again for the next message. */
struct h1_scan {
    uint32_t at;    /* bytes already searched */
    uint32_t line;  /* start of the line that is being searched */
    uint32_t lines; /* complete lines so far, the start line included */
};

/*
 * Parses the request head at the start of buf[0..n).
 * `head->fields` and `head->field_max` are set by the caller; all else is set here.
 * Returns REASON_NONE (head is whole; *used = its bytes, a tolerated empty line before it included),
 * REASON_MORE (nothing wrong so far), or the row of reason.def that says what is wrong
 * (as early as it can be known). `head->base` becomes buf.
 */
enum reason h1_parse_request(struct h1_scan *scan, const struct h1_limits *limits, const char *buf, size_t n,
                             struct head *head, size_t *used) MUSTCHECK;

/*
 * The same for a response. `request_method` (enum method) decides with the status whether a body follows
 * (RFC 9112 6.3): none after HEAD, 1xx, 204 and 304. Faults come as the upstream's rows
 * (BAD_STATUS_LINE, BAD_RESPONSE_FIELD, BAD_RESPONSE_LENGTH, BAD_RESPONSE_CODING, RESPONSE_HEAD_TOO_LARGE).
 */
enum reason h1_parse_response(struct h1_scan *scan, const struct h1_limits *limits,
                              enum method request_method, const char *buf, size_t n, struct head *head,
                              size_t *used) MUSTCHECK;

/* The body of one message as it comes in. */
enum { H1_NAMED_TRAILERS = 4 };

struct h1_body {
    uint8_t kind; /* enum body_kind */
    uint8_t state;
    bool response;  /* whose reasons to give */
    bool done;      /* the last byte was seen */
    uint32_t count; /* of bytes in the present chunk line, extensions, or trailer line */
    uint32_t max_trailer;
    uint64_t left;  /* bytes still to come of the body or the chunk */
    char *trailers; /* lines `name: value CRLF` that may be forwarded; owned; NULL when none came */
    uint32_t trailers_len;
    uint32_t trailers_cap;
    bool drop_trailers; /* Connection names more fields than `named` holds */
    uint8_t named_count;
    uint32_t
        named[H1_NAMED_TRAILERS]; /* hashes of the names in Connection: hop-by-hop, in the trailers too */
};

/* Begins the body that `head` announced. A body of no bytes is done at once. */
void h1_body_init(struct h1_body *body, const struct head *head, bool response,
                  const struct h1_limits *limits);

/*
 * Reads on. Consumes *used bytes of in[0..n) and gives at most one run of payload, *data, lying inside `in`
 * (n = 0 when these bytes held none). Call again with the rest until all is used or body->done.
 * Never consumes a byte behind the end of the message. REASON_NONE, or BAD_CHUNK / BAD_TRAILER
 * (BAD_RESPONSE_CHUNK / BAD_RESPONSE_TRAILER when response), or OUT_OF_MEMORY.
 * Chunk extensions are dropped, at most 1 KiB a chunk. Trailer fields that frame, route, authenticate or
 * describe content (RFC 9110 6.5.1), or that the head's Connection names (7.6.1), are dropped; the rest
 * gathered in `trailers`.
 */
enum reason h1_body_next(struct h1_body *body, const char *in, size_t n, size_t *used,
                         struct slice *data) MUSTCHECK;

/* The connection ended. True when that is a proper end of this body (BODY_UNTIL_CLOSE, or already done). */
bool h1_body_eof(struct h1_body *body);

/* Frees the trailers. Safe twice. */
void h1_body_dispose(struct h1_body *body);

/* Writes the line that opens a chunk: hexadecimal size and CRLF. Returns its bytes. n > 0. */
size_t h1_chunk_open(char out[20], size_t n);

#endif
