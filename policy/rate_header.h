/*
 * What an answer says about the rate limit: every form of it that is met in the field.
 *
 *   X-RateLimit-Limit, -Remaining, -Reset (also X-Rate-Limit-*), with -Second -Minute -Hour -Day or -Requests
 *       behind them, and X-RateLimit-Reset-After
 *   RateLimit-Limit, -Remaining, -Reset                    draft-ietf-httpapi-ratelimit-headers -00 ... -06
 *   RateLimit: limit=10, remaining=5, reset=30             -07
 *   RateLimit: default;r=50;t=30                           -08, names as tokens
 *   RateLimit: "default";r=50;t=30                         -09 ... -11, names as strings
 *   RateLimit-Policy: 10;w=1, "default";q=100;w=60         -07 / -08 ...
 *   Retry-After: 120 / an HTTP date (RFC 9110 10.2.3), Retry-After-Ms
 *
 * A reset may be seconds from now, unix seconds or milliseconds, an HTTP date, an ISO 8601 date, or "6m0s".
 * Points in time are measured against the answer's own Date, so that the clocks' difference cancels out.
 *
 * Everything here comes from outside: what cannot be read is as if it were not there.
 */
#ifndef POLICY_RATE_HEADER_H
#define POLICY_RATE_HEADER_H

#include "policy/base.h"
#include "policy/head.h"

#define RATE_WINDOWS 8 /* more in one answer are left out */

/* Counts above this are no limit at all, and are read as this. */
#define RATE_MANY INT64_C(1000000000000)

/* Keys of windows without a name. Others are hashes, above RATE_KEY_NAMES. */
enum {
    RATE_KEY_PLAIN = 1,
    RATE_KEY_SECOND,
    RATE_KEY_MINUTE,
    RATE_KEY_HOUR,
    RATE_KEY_DAY,
    RATE_KEY_LEARNT,
    RATE_KEY_NAMES = 16
};

struct rate_window {
    uint32_t key;      /* tells the windows of one upstream apart: of its name, or of its length */
    int64_t limit;     /* calls a window; < 0 = not said. Never 0 unless it said 0 */
    int64_t remaining; /* < 0 = not said; a negative count is read as 0 */
    tick_t reset;      /* from the answer on until it begins anew; < 0 = not said; at most 400 days */
    tick_t length;     /* of the window; 0 = not said */
    bool exact;        /* the reset is finer than whole seconds */
};

struct rate_reading {
    int count;
    struct rate_window window[RATE_WINDOWS];
    tick_t retry_after; /* < 0: none */

    /* Until rate_reading_end(): points in time wait for the Date. */
    int64_t date; /* unix seconds of the Date field; < 0: none */
    struct {
        int64_t ms; /* a delta or a point in time, in milliseconds */
        uint8_t form;
    } raw[RATE_WINDOWS], raw_retry;
};

/* "minute", "hour", ..., "named" for a key: the label `window`. */
const char *rate_key_name(uint32_t key);

/* Begins with nothing said. */
void rate_reading_begin(struct rate_reading *r);

/* One field of the answer, in any order; other fields are ignored. `wall` (unix seconds): for the century of
 * old dates. */
void rate_reading_field(struct rate_reading *r, struct slice name, struct slice value, int64_t wall);

/* All fields are in. `wall` stands in for a missing Date. Windows without any number are dropped. */
void rate_reading_end(struct rate_reading *r, int64_t wall);

/* All three for a parsed head. True when it said anything. */
bool rate_reading_head(struct rate_reading *r, const struct head *response, int64_t wall);

/* Does a head have any field that rate_reading_head would read? Most have none. */
bool rate_header_in(const struct head *response);

/* Whether a field's name is worth giving to rate_reading_field: quick, for every field of every answer. */
bool rate_header_name(struct slice name);

#endif
