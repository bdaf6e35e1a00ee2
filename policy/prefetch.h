/*
 * What to fetch before it is asked for, and when to leave it: guesses of policy/successor pass the gates of
 * support, confidence and net value, a token bucket that is filled by the requests themselves, and a switch
 * that turns all of it off for a while when what was fetched is not used. Single owner: the caller locks.
 * Bounded memory.
 *
 * A caller does, for each request of a client that the cache may answer:
 *
 *     unsigned n = prefetch_request(p, &event, guesses, PREFETCH_MAX_GUESSES);
 *     for each guess that is not stored, not under way and may be fetched:
 *         if (prefetch_issue(p, &guesses[i], now))  fetch it
 *
 * and tells prefetch_evicted when something that was prefetched leaves the cache without having been used.
 * That a prefetched key was used, prefetch_request sees for itself: it is told of every request.
 */
#ifndef POLICY_PREFETCH_H
#define POLICY_PREFETCH_H

#include "policy/base.h"
#include "policy/successor.h"

#define PREFETCH_MAX_GUESSES 4

enum prefetch_strategy {
    PREFETCH_NONE,      /* nothing is learnt and nothing fetched */
    PREFETCH_ALWAYS,    /* whatever followed twice before; the bucket alone holds it back */
    PREFETCH_ADAPTIVE,  /* order 1; the confidence asked for follows the accuracy reached; switches itself off
                         */
    PREFETCH_PREDICTIVE /* the same with order 2 and back-off to order 1 */
};

struct prefetch_settings {
    enum prefetch_strategy strategy;
    double max_load;   /* useless prefetches a request to the upstream, at most (cache.prefetch_max_load); 0 =
                          none. One that was used came in place of a miss, and gives its token back */
    double accuracy;   /* used / issued below which it is switched off for a while
                          (cache.prefetch_accuracy_threshold) */
    double cost_ratio; /* cost of a useless fetch in units of what a useful one saves; 0 = 1. A guess must be
                          worth more than it costs: p > (1 - p) * cost_ratio */
    size_t keys, clients; /* see struct successor_size; 0 = 16384 and 1024 */
    tick_t gap;           /* see struct successor_size; 0 = never */
};

struct prefetch; /* private to prefetch.c */

/* NULL: out of memory. Freed by prefetch_free. */
struct prefetch *prefetch_new(const struct prefetch_settings *settings) MUSTCHECK;
void prefetch_free(struct prefetch *p); /* NULL is harmless */

/* Changes everything but the sizes, live. What was learnt stays. */
void prefetch_set(struct prefetch *p, const struct prefetch_settings *settings);

/* A request of a client. */
struct prefetch_event {
    uint64_t client; /* whose sequence it is part of: nothing is learnt across clients */
    uint64_t key;    /* what it asks for */
    tick_t now;
    bool missed; /* the cache could not answer it, nor was it being fetched: the upstream was asked */
};

/*
 * Learns from the request, settles whether a prefetch was of use, and gives the guesses worth fetching, the
 * best first: up to `max`, 0 while switched off. Asking costs no budget.
 */
unsigned prefetch_request(struct prefetch *p, const struct prefetch_event *event, struct successor_guess *out,
                          unsigned max);

/* The client's sequence stands at this key, wherever it was before: nothing is learnt from that. */
void prefetch_stand(struct prefetch *p, uint64_t client, uint64_t key, tick_t now);

/* May this guess be fetched now? True takes a token and counts it as issued: the caller fetches. */
bool prefetch_issue(struct prefetch *p, const struct successor_guess *guess, tick_t now);

/* Would prefetch_issue say yes, as far as the budget goes? Changes nothing. */
bool prefetch_has_budget(const struct prefetch *p);

/* A prefetch that was issued brought nothing to the cache (failed, not cacheable): counts as wasted. */
void prefetch_failed(struct prefetch *p, uint64_t key);

/* Something prefetched left the cache, or was fetched anew, before anybody used it: counts as wasted. */
void prefetch_evicted(struct prefetch *p, uint64_t key);

struct prefetch_stats {
    uint64_t requests, issued, used,
        wasted;            /* issued - used - wasted: still open, or too long ago to be known */
    uint64_t over_budget;  /* guesses refused for want of a token */
    uint64_t switched_off; /* times it switched itself off */
    double precision;      /* of the last 200 that were settled; -1 before there are 20 */
    double confidence;     /* asked for at present */
    bool off;              /* switched off at present */
    tick_t off_until;      /* ... until then; 0: for good, since the strategy is none */
    double tokens;         /* prefetches that the budget allows now */
};
void prefetch_stats(const struct prefetch *p, tick_t now, struct prefetch_stats *out);

/* Bytes that are allocated. */
size_t prefetch_bytes(const struct prefetch *p);

#endif
