/*
 * Cache-Control of requests and responses (RFC 9111 5.2) and targeted fields (RFC 9213), read into plain
 * data. Names are compared without case, quoted strings respected, unknown directives ignored, the first of
 * duplicates counts. Seconds are clamped at CC_SECONDS_MAX.
 */
#ifndef POLICY_CACHE_CONTROL_H
#define POLICY_CACHE_CONTROL_H

#include "policy/head.h"

#define CC_SECONDS_MAX ((int64_t)1 << 31)
#define CC_ABSENT      ((int64_t)-1) /* the directive is not there */
#define CC_INVALID     ((int64_t)-2) /* it is there, but its value is no number: to be read as 0 (stale) */

enum cc_flag {
    CC_NO_STORE = 1u << 0,
    CC_NO_CACHE = 1u << 1,        /* without field names */
    CC_NO_CACHE_FIELDS = 1u << 2, /* with field names: these are not stored */
    CC_PRIVATE = 1u << 3,         /* without field names */
    CC_PRIVATE_FIELDS = 1u << 4,
    CC_PUBLIC = 1u << 5,
    CC_MUST_REVALIDATE = 1u << 6,
    CC_PROXY_REVALIDATE = 1u << 7,
    CC_MUST_UNDERSTAND = 1u << 8,
    CC_NO_TRANSFORM = 1u << 9,
    CC_IMMUTABLE = 1u << 10,
    CC_ONLY_IF_CACHED = 1u << 11,
    CC_MAX_STALE_ANY = 1u << 12 /* max-stale without a value: however stale */
};

struct cache_control {
    uint32_t flags;  /* of enum cc_flag */
    bool seen;       /* at least one member was there */
    int64_t max_age; /* seconds, or CC_ABSENT, or CC_INVALID; so are all below */
    int64_t s_maxage;
    int64_t min_fresh;
    int64_t max_stale;
    int64_t stale_while_revalidate;
    int64_t stale_if_error;
};

/* No directive at all. */
#define CACHE_CONTROL_ABSENT                                                                                 \
    ((struct cache_control){0, false, CC_ABSENT, CC_ABSENT, CC_ABSENT, CC_ABSENT, CC_ABSENT, CC_ABSENT})

/* Reads all lines of Cache-Control in a head. Without any, all is absent. */
void cache_control_read(const struct head *head, struct cache_control *out);

/*
 * Reads the targeted field called `name` (RFC 9213 2.1) as a structured dictionary (RFC 8941).
 * Returns false, and the field is to be ignored whole, when it is missing, empty or not a valid dictionary.
 */
bool cache_control_read_targeted(const struct head *head, struct slice name,
                                 struct cache_control *out) MUSTCHECK;

/*
 * Walks the field names in `no-cache="..."` and `private="..."` of a head, over all its lines.
 * Start with *cursor all zero; `which` is CC_NO_CACHE_FIELDS and CC_PRIVATE_FIELDS or-ed. Returns false at
 * the end.
 */
struct cc_name_cursor {
    struct list_cursor list;
    struct slice rest; /* names still to be given of the present directive */
};
bool cache_control_next_name(const struct head *head, uint32_t which, struct cc_name_cursor *cursor,
                             struct slice *name);

#endif
