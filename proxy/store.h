/*
 * The cache of the process: entries in memory, found by a keyed hash of who asks and what for, shared by all
 * workers. Every function may be called by any thread, unless it says otherwise. A lookup that hits allocates
 * nothing and holds its shard's lock for a pointer and a count.
 */
#ifndef PROXY_STORE_H
#define PROXY_STORE_H

#include "policy/evict.h"
#include "policy/freshness.h"
#include "policy/hash.h"
#include "policy/tier.h"
#include "proxy/fill.h"
#include "proxy/store_entry.h"

struct store;

struct store_limits {
    uint64_t max_entries;      /* 0 = no limit */
    uint64_t max_bytes;        /* of heads, bodies and our own bookkeeping; 0 = no limit */
    uint64_t max_object_bytes; /* a larger body is not stored; 0 = max_bytes */
    enum evict_strategy strategy;
};

/* NULL: out of memory. `seed` is secret and random, one a process. */
struct store *store_new(const struct store_limits *limits, struct hash_key seed);

/* No lookup, fill or waiter may be under way; entries still referenced live on until released. */
void store_free(struct store *store);

/* Changes the limits live; evicts at once what is over. */
void store_set_limits(struct store *store, const struct store_limits *limits);

#define STORE_MAX_TAGS 8

/* A request as the store sees it. Everything is the caller's, and is only looked at during the call. */
struct store_request {
    const struct head *head; /* the client's request */
    struct slice origin; /* of the upstream: "https://api.promptops.ai:443", one spelling for each upstream */
    const struct cache_rules *rules;
    struct slice credential; /* that the sidecar shows instead of the client's Authorization and X-API-Key,
                                which say nothing then; {NULL, 0}: the client's own goes up */
    struct cache_route route;
    const struct slice *tags; /* of the route, its names filled in, none with a newline. fill_response gives
                                 them to the entry; */
    unsigned tag_count;       /* at most STORE_MAX_TAGS count. When store_lookup had none, any purge of tags
                                 meanwhile dooms the fetch */
    /* When not NULL it is called at most once, when store_lookup begins a fill, and its result replaces
     * tag_count: it writes the tags first. So a hit, which needs none, writes none. */
    unsigned (*write_tags)(void *writer);
    void *writer;
    tick_t now;
    int64_t wall; /* the same moment in unix seconds */
    enum store_ahead {
        STORE_ASKED,   /* somebody waits for the answer */
        STORE_GUESSED, /* nobody does: it will likely be asked for next */
        STORE_RENEWED  /* nobody does: what is stored will soon be stale */
    } ahead;
    tick_t renew; /* RENEWED: what has more than this left is fresh enough */
};

/* Where a request's answers live. */
struct store_key {
    struct hash128 place;     /* partition, GET, origin, path and query */
    struct hash128 partition; /* who asks: the credential enters hashed, and leaves nowhere */
};

/* The key of a request, also of one that was not looked up. */
void store_key_of(struct store *store, const struct store_request *request, struct store_key *out);

/*
 * What the leader of a fill sends upstream: a GET with the client's fields. When fill_validates gives an
 * entry, that one's validators take the place of the client's conditions and Range (RFC 9111 4.3.1); for a
 * refresh behind a stale answer without one, these are merely left out; else they go along.
 */
enum store_verdict {
    STORE_HIT,        /* result.entry is the answer */
    STORE_HIT_STALE,  /* result.entry is the answer, although stale; when result.fill is set, this caller also
                         refreshes it behind */
    STORE_REVALIDATE, /* this caller leads result.fill: send entry_etag and entry_last_modified of
                         result.entry instead of the client's conditions */
    STORE_LEAD,       /* miss: this caller leads result.fill */
    STORE_COMPLETE, /* this caller leads result.fill: result.entry is the beginning of the answer; ask for the
                       rest with Range and If-Range, and give a 206 to fill_complete_part */
    STORE_JOIN,     /* another fetch is under way: fill_join(result.fill, ...) */
    STORE_PASS,     /* forward without the store: nothing is to be stored, nobody waits */
    STORE_REFUSE    /* only-if-cached and nothing usable: 504, REASON_ONLY_IF_CACHED */
};

struct store_result {
    struct entry *entry; /* HIT, HIT_STALE, REVALIDATE, COMPLETE: the caller's reference, to be given to
                            entry_release. Else NULL */
    struct fill *fill; /* LEAD, REVALIDATE, COMPLETE, HIT_STALE that refreshes: the leader's role. JOIN: to be
                          given to fill_join or fill_drop. Else NULL */
    enum cache_fwd fwd; /* for Cache-Status */
    tick_t age, ttl;    /* of entry, now; ttl below 0 when stale */
    bool first;         /* HIT: nobody has read this version before */
    uint32_t hits;      /* ... and so often were the versions before it read */
    uint8_t ahead;      /* HIT, HIT_STALE, JOIN: what made the sidecar fetch the answer (enum store_ahead) */
    bool ahead_first;   /* ... and this is its first use */
    struct store_key key;
};

/*
 * The decision for one request. The exchange asks once the route is known and the request has no body.
 * GET and HEAD only; a HEAD never leads (a miss is PASS). Range is answered from complete entries and from
 * parts that hold all of it; else it leads a fill that nobody joins, and a 206 is kept as a part.
 */
enum store_verdict store_lookup(struct store *store, const struct store_request *request,
                                struct store_result *result);

/*
 * A request that nobody waits for (request->ahead) counts in no statistics, and is no use of an entry. It
 * leads a fill when there is something to fetch: nothing usable stored (GUESSED), or something that is about
 * to be stale (RENEWED; also when that is gone meanwhile, nothing is led). Else HIT with the entry, or PASS:
 * nothing is to be done.
 */

/*
 * The fetch failed (status 0), or brought 500, 502, 503 or 504: is there an entry that may be served instead
 * (RFC 5861 4, RFC 9111 4.2.4)? True: result.entry is the caller's, result.ttl is below 0.
 */
bool store_stale_for_error(struct store *store, const struct store_request *request,
                           struct store_result *result);

/* A fresh whole answer to this GET, without a fetch or a wait: the caller's reference, or NULL. `use`: it is
 * one, for those who count. */
struct entry *store_fresh(struct store *store, const struct store_request *request, bool use) MUSTCHECK;

/*
 * An unsafe request had this non-error answer (RFC 9111 4.4): drops the target URI, and Location and
 * Content-Location of the same origin, in the partition of the request. Calling it for a safe method or an
 * error status does nothing.
 */
void store_invalidate(struct store *store, const struct store_request *request, const struct head *response);

/*
 * The 200 to a HEAD has news of a stored entry (RFC 9111 4.3.5): validators or a length that differ drop it;
 * a validator that is the same freshens it with the fields of the answer, which was asked for at `sent`.
 * Without any validator it says nothing of the body, and changes nothing.
 */
void store_heard(struct store *store, const struct store_request *request, const struct head *response,
                 tick_t sent);

/*
 * A fill for an answer that no lookup led to: the one to a POST, which later GETs may be answered with when
 * it has explicit freshness and a Content-Location equal to its own URI (RFC 9110 9.3.3). Nobody joins it.
 * NULL: it is not such an answer, or there is no memory; else go on with fill_response.
 */
struct fill *store_adopt(struct store *store, const struct store_request *request,
                         const struct head *response);

/* The credential of this request was refused (401, 403): forgets everything in its partition. Not for the
 * shared scope, where that is everything of everybody. Returns the entries dropped. */
size_t store_drop_partition(struct store *store, const struct store_key *key);

/* The same for whom a request is of: levels may know their names, but not what they are in this process. */
size_t store_drop_asker(struct store *store, const struct store_request *request);

enum store_purge_kind {
    STORE_PURGE_KEY,
    STORE_PURGE_PREFIX,
    STORE_PURGE_TAG,
    STORE_PURGE_TAG_PREFIX,
    STORE_PURGE_ALL
};

/* Drops entries in all partitions: by path and query, by a prefix of them, by tag, by a prefix of tags, or
 * all. Returns how many. */
size_t store_purge(struct store *store, enum store_purge_kind kind, struct slice text);

struct store_stats {
    uint64_t entries, bytes, fills;
    uint64_t fill_bytes; /* held by fills under way, not part of bytes */
    uint64_t hits, misses, stale, coalesced, revalidated, passed,
        refused; /* lookups by verdict; revalidated = 304s merged */
    uint64_t stored, evictions, expired,
        invalidated;      /* expired = replaced or dropped when found too old to use */
    uint64_t oom;         /* something was not stored for want of memory */
    uint64_t regrets;     /* misses on what had been given up for room shortly before */
    uint64_t ghost_bytes; /* of what was given up and is still remembered */
    uint64_t cold_hits;
    uint64_t tier_entries[TIER_COUNT], tier_bytes[TIER_COUNT]; /* by enum tier; parts of entries and bytes */
    uint64_t ahead;     /* answers that were fetched ahead and stored */
    uint64_t unread[3]; /* fetched ahead, and gone or replaced before anybody read it: by enum store_ahead */
};
void store_stats(struct store *store, struct store_stats *out);

/*
 * Judges in which tier each entry belongs, and compresses what is to be cold. On a thread that may take its
 * time; never two at once.
 */
struct squeezer;
struct store_sweep {
    struct tier_market market;
    uint64_t threshold; /* smaller bodies are not compressed */
    tick_t now;
    bool active; /* entries are compressed */
    bool eager;  /* also such as were used since the last sweep */
    bool wanted; /* something was given up for room since then */
};
struct store_swept {
    uint64_t chilled, from, to;       /* entries, and their bytes before and after compression */
    bool pressed;                     /* there is still more in memory than there should be */
    uint64_t unpack_ns, unpack_bytes; /* all that was spent on thawing so far, and the bytes that came out */
};
void store_sweep(struct store *store, struct squeezer *squeezer, const struct store_sweep *how,
                 struct store_swept *out);

/*
 * What other settings would have hit, in miniature on a sample of the keys. whatif_begin starts anew from
 * these limits, and from the lifetime that cache.default_ttl gives (0: none is tried); entries = 0 and bytes
 * = 0: nothing is followed any more. False: out of memory, nothing is.
 */
enum {
    STORE_WHATIF_HALF, /* the size */
    STORE_WHATIF_TWICE,
    STORE_WHATIF_FOUR,
    STORE_WHATIF_LIFE_TWICE, /* the lifetime */
    STORE_WHATIF_LIFE_FOUR,
    STORE_WHATIF_COUNT
};
bool store_whatif_begin(struct store *store, uint64_t entries, uint64_t bytes, enum evict_strategy strategy,
                        tick_t lifetime);

struct store_whatif {
    double requests, base, hits[STORE_WHATIF_COUNT]; /* since the beginning, scaled up to all keys */
    double skipped;                                  /* requests that are missing in these */
    double rate;                                     /* the share of the keys that is followed */
    uint64_t looked,
        changed; /* answers that took another's place, or said that it is the same; changed ones */
};
bool store_whatif(struct store *store, struct store_whatif *out);

/* What is stored at a place, as far as who fetches ahead wants to know. */
struct store_peek {
    tick_t left;       /* of its lifetime */
    tick_t received;   /* when this version came */
    tick_t lifetime;   /* from its receipt on */
    tick_t fetch_time; /* entry_fetch_time */
    tick_t read_at;    /* its last read, to within 50 ms; 0: none */
    uint32_t hits;     /* reads of all its versions */
};
/* The version of a whole answer that was received at `received`; 0: the one with the longest life before it.
 * False: there is none. Counts nothing. */
bool store_peek(struct store *store, struct hash128 place, tick_t received, tick_t now,
                struct store_peek *out);

/*
 * The places (their `lo`) of what was GUESSED and left memory before anybody read it, since the last call:
 * at most `max`. *seen is the caller's, 0 at first. When more than 256 left meanwhile, the oldest are
 * missing.
 */
unsigned store_unread(struct store *store, uint32_t *seen, uint64_t *out, unsigned max);

/* Ends a window in which there were `requests` that asked the cache, and so many hits; then the predicted hit
 * ratio by size (see policy/curve.h), at most CURVE_MAX_SIZES points, of which the first three are sizes. */
struct curve_point;
unsigned store_curve(struct store *store, uint64_t requests, uint64_t hits, struct curve_point *out);

/* One entry as the operator may see it: no credential, no partition. */
struct store_view {
    struct slice uri; /* path and query */
    int status;
    uint64_t bytes;
    uint32_t hits;
    tick_t age, ttl;
    tick_t fetch; /* what fetching it took; 0: not known */
    const char *tier;
};

/*
 * Calls back for every entry, in no order, under a shard's lock for a few entries at a time: `see` copies
 * what it wants and returns at once; false stops the walk. Entries that come or go meanwhile may be missed,
 * none is seen twice.
 */
void store_walk(struct store *store, tick_t now, bool (*see)(void *arg, const struct store_view *view),
                void *arg);

#endif
