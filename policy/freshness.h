/*
 * The decisions of an HTTP cache (RFC 9111, 5861, 9213), as pure functions: may this answer be stored, how
 * long is it fresh, what may a stored answer do for this request.
 */
#ifndef POLICY_FRESHNESS_H
#define POLICY_FRESHNESS_H

#include "policy/cache_control.h"
#include "policy/cache_status.h"

#define CACHE_MAX_TARGETS         4
#define CACHE_MAX_PARTITION_NAMES 8

/* What the configuration says about caching; filled by its reader, never changed while in use. */
struct cache_rules {
    bool shared;          /* scope: shared (a strict shared cache) or private (one cache a credential) */
    bool adds_credential; /* requests go up with Authorization even when the client sent none */
    tick_t default_ttl;   /* when neither the origin nor the route says; 0 = none */
    tick_t stale_while_revalidate; /* when the origin states no lifetime; never longer than the lifetime
                                      itself */
    tick_t stale_if_error;         /* when the origin says nothing */
    double heuristic_fraction;     /* of Date minus Last-Modified; 0 = none */
    bool adaptive_ttl; /* lifetimes that nobody gave are learnt: see fill.c and policy/adaptive_ttl */
    tick_t pass_life;  /* how long an uncacheable answer is remembered as such; 0 = 10 s */
    struct slice
        targets[CACHE_MAX_TARGETS]; /* targeted fields in order of preference; obeyed in the shared scope */
    unsigned target_count;
    struct slice partition_names[CACHE_MAX_PARTITION_NAMES]; /* fields that say who asks; obeyed in the
                                                                private scope */
    uint8_t
        partition_ids[CACHE_MAX_PARTITION_NAMES]; /* field_lookup of each: FIELD_OTHER = compare the name */
    unsigned partition_count;
};

/* What the route says. */
struct cache_route {
    bool has_ttl;
    tick_t ttl;
    bool has_learnt; /* this document's changes say how long it lasts: in place of the heuristic (4.2.2) */
    tick_t learnt;
};

/* A request as a cache sees it. */
struct cache_ask {
    struct cache_control cc; /* all absent when the request has no Cache-Control and no Pragma */
    bool plain;              /* nothing in the request limits what may be answered */
};

/* Reads the request's directives. Pragma: no-cache counts where Cache-Control is missing (RFC 9111 5.4). */
void cache_ask_read(const struct head *request, struct cache_ask *out);

/* Everything about an answer that later decisions need, once it was received. */
struct freshness {
    tick_t lifetime;    /* freshness lifetime (RFC 9111 4.2.1) */
    tick_t initial_age; /* corrected initial age (4.2.3) */
    tick_t received;    /* monotonic time of receipt: the age grows from here, whatever the wall clock does */
    tick_t swr;         /* it may be served stale while it is refreshed, for so long */
    tick_t sie;         /* ... when the refresh fails, for so long */
    int64_t date;       /* Date, or the time of receipt when that is missing or invalid; unix seconds */
    int64_t last_modified; /* unix seconds; INT64_MIN = none */
    bool must_revalidate;  /* never to be served stale (must-revalidate, proxy-revalidate, s-maxage when
                              shared) */
    bool no_cache;         /* each use must be validated first */
    bool immutable;        /* RFC 8246 */
    bool learnable;        /* nobody gave a lifetime, and one may be guessed (RFC 9111 4.2.2) and learnt */
    bool settable;         /* the lifetime is cache.default_ttl */
    bool has_validator;    /* ETag or Last-Modified is there */
};

/* When an answer was asked for and received. */
struct freshness_times {
    tick_t sent;     /* monotonic: the request left */
    tick_t received; /* monotonic: the answer's head came */
    int64_t wall;    /* unix seconds at receipt */
};

/* Why an answer is stored or is not. */
enum storable {
    STORABLE_YES,
    STORABLE_METHOD,     /* not the answer to a GET, nor that to a POST with explicit freshness */
    STORABLE_STATUS,     /* 1xx, 304, 416 to a Range, one that is not understood, or a 206 of which it is not
                          * clear what it brings
                          */
    STORABLE_NO_STORE,   /* either side says no-store */
    STORABLE_PRIVATE,    /* shared scope: private */
    STORABLE_AUTHORIZED, /* shared scope: the request had Authorization and nothing allows it */
    STORABLE_VARY,       /* Vary: * or too many members (the store's own judgement, as the next) */
    STORABLE_NAMES,  /* more names in no-cache="..." than are checked for each field (the store's own, too) */
    STORABLE_SIZE,   /* larger than max_object_bytes */
    STORABLE_MEMORY, /* no memory for it */
    STORABLE_NO_FRESHNESS /* no lifetime, and nothing to validate it by */
};

/*
 * May the answer to this request be stored (RFC 9111 3)? Fills `out` in any case where the answer has one.
 * `request` is the client's request, `route` may be NULL. After a 304, `response` is the stored head with the
 * 304's fields merged in (4.3.4). Of a POST (RFC 9110 9.3.3) the caller has compared Content-Location, of a
 * 206 it has read Content-Range.
 */
enum storable freshness_judge(const struct cache_rules *rules, const struct cache_route *route,
                              const struct head *request, const struct head *response,
                              const struct freshness_times *times, struct freshness *out);

/* Does the origin itself give a freshness lifetime, above 0, to an answer that came at `wall`, and allow it
 * to be used without asking (RFC 9111 4.2.1)? */
bool freshness_stated(const struct cache_rules *rules, const struct head *response, int64_t wall);

/* The current age (RFC 9111 4.2.3), never below 0, never wrapping. */
tick_t freshness_age(const struct freshness *f, tick_t now);

/* Lifetime minus age; below 0 when stale. */
tick_t freshness_left(const struct freshness *f, tick_t now);

/* What a stored answer may do for a request that it matches. */
enum reuse {
    REUSE_FRESH,    /* answer with it */
    REUSE_STALE,    /* answer with it although it is stale: the client said max-stale */
    REUSE_REFRESH,  /* answer with it and refresh it behind (stale-while-revalidate) */
    REUSE_VALIDATE, /* ask the origin first; *fwd says why */
};
enum reuse freshness_reuse(const struct freshness *f, const struct cache_ask *ask, tick_t now,
                           enum cache_fwd *fwd);

/* May it answer for a failed fetch (stale-if-error, RFC 5861 4; disconnected, RFC 9111 4.2.4)? */
bool freshness_for_error(const struct freshness *f, const struct cache_ask *ask, tick_t now);

/* Does this status of the upstream count as a failed fetch (500, 502, 503, 504)? */
static inline bool freshness_error_status(int status)
{
    return status == 500 || status == 502 || status == 503 || status == 504;
}

#endif
