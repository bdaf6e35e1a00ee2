/*
 * Conditions and ranges that a cache answers itself (RFC 9110 13 and 14, RFC 9111 4.3.2): from a complete
 * stored 200, is it a 304, a 206, a 416, or the whole?
 */
#ifndef POLICY_CONDITION_H
#define POLICY_CONDITION_H

#include "policy/head.h"

/* The stored answer's side. */
struct validators {
    struct slice etag;     /* as received, quotes and W/ included; n = 0: none */
    int64_t last_modified; /* unix seconds; INT64_MIN: none */
    int64_t date;          /* unix seconds */
};

/* Weak and strong comparison of entity tags (RFC 9110 8.8.3.2). Malformed tags equal nothing. */
bool etag_equal_weak(struct slice a, struct slice b);
bool etag_equal_strong(struct slice a, struct slice b);

/*
 * True when the request's If-None-Match, or without one its If-Modified-Since, is satisfied by what is
 * stored, so that the answer is 304. `now` in unix seconds, for two-digit years.
 */
bool condition_not_modified(const struct head *request, const struct validators *stored, int64_t now);

enum range_verdict {
    RANGE_WHOLE,        /* no Range that we act on: answer 200 */
    RANGE_PART,         /* 206 with bytes first ... last */
    RANGE_UNSATISFIABLE /* 416 with Content-Range: bytes * / size */
};

/* Judges Range and If-Range for a stored body of `size` bytes. *first and *last are set for RANGE_PART. */
enum range_verdict condition_range(const struct head *request, const struct validators *stored, uint64_t size,
                                   uint64_t *first, uint64_t *last);

/* The bytes that a 206 brings (RFC 9110 14.4). */
struct content_range {
    uint64_t first, last, total; /* first <= last < total */
};

/* Reads `bytes first-last/total`. False: missing, twice, invalid, another unit, or the total is not told. */
bool content_range_read(const struct head *response, struct content_range *out) MUSTCHECK;

/* Reads one byte-range-spec: `bytes=first-last`, `bytes=first-`, `bytes=-suffix`. More than one range:
 * RANGE_WHOLE. */
enum range_verdict range_parse(struct slice value, uint64_t size, uint64_t *first, uint64_t *last);

#endif
