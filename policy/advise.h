/*
 * Recommendations: which setting would make things better, and by how much? For each window of traffic an
 * estimate is worked out for each kind from what was counted and from what-ifs (miniatures of the cache, the
 * recorded requests, Little's law); a recommendation stands when enough windows agree. It states the gain
 * over what is, never an absolute value, and a confidence: the share of the windows in which the gain was at
 * least half of the stated one (rule of succession), so that few windows are never sure.
 *
 * Nothing is said below a floor of events. Plain state, single owner.
 */
#ifndef POLICY_ADVISE_H
#define POLICY_ADVISE_H

#include "policy/base.h"

enum advise_kind {
    ADVISE_CACHE_SIZE,
    ADVISE_CACHE_TTL,
    ADVISE_MEMORY,
    ADVISE_POOL,
    ADVISE_RETRY,
    ADVISE_NETWORK,
    ADVISE_BREAKER,
    ADVISE_BATCHING,
    ADVISE_DNS,         /* no setting of ours: nothing to try */
    ADVISE_COMPRESSION, /* likewise */
    ADVISE_KINDS
};

enum { ADVISE_WINDOWS = 12, ADVISE_LEAST_WINDOWS = 3, ADVISE_ATTEMPTS = 8 };

/* What one window of traffic came to. Counts are of the window; 0 where nothing is known. */
struct advise_facts {
    uint64_t requests, failed;
    double latency; /* seconds, summed over the requests */

    /* The cache. */
    uint64_t evictions;
    double lookups, hits;                   /* of keys that are followed, scaled up */
    double hits_half, hits_twice;           /* with another size */
    double hits_life_twice, hits_life_four; /* with another cache.default_ttl */
    uint64_t looked, changed;               /* since the beginning: versions compared, those that differed */
    uint64_t entries, bytes, max_entries, max_bytes; /* now; limits 0: none */
    tick_t default_ttl;

    /* Upstream connections. */
    uint64_t attempts;
    double pool_wait;             /* seconds, summed over the attempts */
    unsigned pool_max, pool_peak; /* allowed; the most that were in use or waited for, sampled */
    double connecting;            /* seconds spent connecting, in all */
    uint64_t connects;
    tick_t max_idle_time;

    /* Recorded requests that went to the upstream, by attempts (the last: as many or more). */
    uint64_t recorded[ADVISE_ATTEMPTS + 1], recorded_good[ADVISE_ATTEMPTS + 1];
    unsigned max_attempts;

    bool batching_possible;  /* it is off, and can be switched on */
    double batching_saves;   /* calls that recorded ones would have shared, by replay */
    uint64_t recorded_calls; /* upstream calls of recorded requests */

    double lookup;            /* seconds that a lookup of the upstream's name takes */
    uint64_t names_looked_up; /* since the start */

    uint64_t received;                 /* bytes of the upstream's answers */
    uint64_t plain, plain_bodies;      /* those of large text bodies that came uncompressed; how many */
    uint64_t sampled, sampled_smaller; /* of these, bytes looked at, and what they would compress to */

    bool breaker_enabled;
    double breaker_saves; /* seconds of recorded requests that it would have cut short, by replay */
    double recorded_seconds;
};

/* What to change, and what that is worth. */
struct advise_estimate {
    double improvement;     /* share of the cost that is saved: upstream calls, latency, attempts, memory */
    double current, target; /* of the setting; seconds, bytes or a count */
    const char *key;        /* of the setting; "": none of ours */
};

/* Whether a window saw enough requests to say anything at all. */
bool advise_enough(const struct advise_facts *f);

/* For one window: false when there is nothing to recommend, or too little is known. */
bool advise_window(const struct advise_facts *f, enum advise_kind kind, struct advise_estimate *out);

/*
 * Calls that going together would save: of `count` begun at these times (ascending) a first goes alone; the
 * next within the window, while it is under way, waits for the window, and those who come meanwhile go with
 * it, `most` in all (policy/batch.h). Calls are taken to last for the window at least.
 */
size_t advise_batches(const tick_t *begun, size_t count, tick_t window, size_t most);

/* Over windows. All zero: nothing is known. */
struct advise_track {
    double improvement[ADVISE_WINDOWS]; /* of each window; 0: nothing to recommend */
    unsigned count, next, idle;
    struct advise_estimate last; /* of the newest window that had something to recommend */
};

void advise_note(struct advise_track *t, const struct advise_estimate *estimate); /* NULL: none */
void advise_forget(struct advise_track *t);

/* A window with too few requests says nothing for or against; as many of them as are kept, in a row, and what
 * was known is forgotten. */
void advise_idle(struct advise_track *t);

struct advise_view {
    struct advise_estimate estimate; /* improvement: the mean over the windows */
    double margin;                   /* half of the 90 % interval of the mean */
    double confidence;               /* (0, 1) */
    unsigned windows;
};

/* False: nothing that is worth saying stands on enough windows. */
bool advise_look(const struct advise_track *t, struct advise_view *out);

#endif
