/*
 * Writes Cache-Status. Invariant: what is written is a valid member of a structured list (RFC 8941), whatever
 * the key holds.
 */
#include "policy/cache_status.h"

#include <string.h>

#include "policy/decimal.h"

#define ROOM_FOR_THE_REST 256 /* everything but key and detail fits in this */

static const struct slice names[] = {
    [CACHE_FWD_NONE] = {"", 0},
    [CACHE_FWD_BYPASS] = {"bypass", 6},
    [CACHE_FWD_METHOD] = {"method", 6},
    [CACHE_FWD_URI_MISS] = {"uri-miss", 8},
    [CACHE_FWD_VARY_MISS] = {"vary-miss", 9},
    [CACHE_FWD_REQUEST] = {"request", 7},
    [CACHE_FWD_STALE] = {"stale", 5},
    [CACHE_FWD_PARTIAL] = {"partial", 7},
};

struct slice cache_fwd_name(enum cache_fwd fwd)
{
    return (size_t)fwd < ARRAY_LEN(names) ? names[fwd] : names[CACHE_FWD_NONE];
}

static char *put(char *out, struct slice text)
{
    memcpy(out, text.p, text.n);
    return out + text.n;
}

static char *put_number(char *out, int64_t value)
{
    const int64_t most = 999999999999999; /* of an sf-integer */
    if (value > most)
        value = most;
    if (value < 0) {
        *out++ = '-';
        value = value < -most ? most : -value;
    }
    return out + decimal_write(out, (uint64_t)value);
}

/* Can it be an sf-string without escapes that would make it longer than we reserved? */
static bool plain_text(struct slice text)
{
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] < 0x20 || text.p[i] > 0x7e || text.p[i] == '"' || text.p[i] == '\\')
            return false;
    return true;
}

static bool plain_token(struct slice text)
{
    for (size_t i = 0; i < text.n; i++)
        if (!((text.p[i] >= 'a' && text.p[i] <= 'z') || (i > 0 && (text.p[i] == '-' || text.p[i] == '_'))))
            return false;
    return text.n > 0;
}

size_t cache_status_write(char *out, size_t cap, const struct cache_status *status)
{
    if (cap < CACHE_STATUS_MAX)
        return 0;
    char *p = put(out, SLICE("promptops-sidecar"));
    if (status->fwd == CACHE_FWD_NONE) {
        p = put(p, SLICE("; hit"));
    } else {
        p = put(p, SLICE("; fwd="));
        p = put(p, cache_fwd_name(status->fwd));
    }
    if (status->fwd_status > 0)
        p = put_number(put(p, SLICE("; fwd-status=")), status->fwd_status);
    if (status->has_ttl)
        p = put_number(put(p, SLICE("; ttl=")), status->ttl);
    if (status->stored)
        p = put(p, SLICE("; stored"));
    if (status->collapsed)
        p = put(p, SLICE("; collapsed"));
    if (status->key.n > 0 && status->key.n <= cap - ROOM_FOR_THE_REST && plain_text(status->key)) {
        p = put(put(p, SLICE("; key=\"")), status->key);
        *p++ = '"';
    }
    if (status->detail.n <= 32 && plain_token(status->detail))
        p = put(put(p, SLICE("; detail=")), status->detail);
    return (size_t)(p - out);
}
