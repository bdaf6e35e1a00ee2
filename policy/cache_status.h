/*
 * The text of our member of Cache-Status (RFC 9211): why this answer came from where it came.
 */
#ifndef POLICY_CACHE_STATUS_H
#define POLICY_CACHE_STATUS_H

#include "policy/base.h"

/* Why a request went to the upstream (RFC 9211 2.2). */
enum cache_fwd {
    CACHE_FWD_NONE,     /* it did not: a hit */
    CACHE_FWD_BYPASS,   /* the cache is configured not to handle this request, or knows that the answer is not
                           cacheable */
    CACHE_FWD_METHOD,   /* the method's semantics need the upstream */
    CACHE_FWD_URI_MISS, /* nothing stored for this URI */
    CACHE_FWD_VARY_MISS, /* something is stored for the URI, but not for these request fields */
    CACHE_FWD_REQUEST,   /* something fits, but the request's own directives refuse it */
    CACHE_FWD_STALE,     /* something fits, but is stale */
    CACHE_FWD_PARTIAL    /* something fits, but has not all of the wanted bytes */
};

struct cache_status {
    enum cache_fwd fwd; /* CACHE_FWD_NONE: hit */
    uint16_t
        fwd_status; /* the upstream's status when it differs from what was sent, or was 304; 0 = left out */
    bool has_ttl;
    int64_t ttl;         /* seconds of freshness left, below 0 when stale */
    bool stored;         /* the forwarded answer was stored */
    bool collapsed;      /* the answer came from another request's fetch */
    struct slice key;    /* only when debugging; n = 0 leaves it out */
    struct slice detail; /* a token of ours; n = 0 leaves it out */
};

#define CACHE_STATUS_MAX 512

/*
 * Writes `promptops-sidecar; hit; ttl=...` into out[0..cap). Returns the bytes written, without a NUL;
 * 0 when cap is less than CACHE_STATUS_MAX. A key that is too long, or that has bytes which no sf-string may
 * have, is left out.
 */
size_t cache_status_write(char *out, size_t cap, const struct cache_status *status);

/* The word of RFC 9211 for a reason ("uri-miss"), "" for CACHE_FWD_NONE. */
struct slice cache_fwd_name(enum cache_fwd fwd);

#endif
