/*
 * What all threads of the process share: made once at the start, freed when every thread is joined.
 * Each member says who may touch it.
 */
#ifndef PROXY_SERVICE_H
#define PROXY_SERVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include "policy/base.h"
#include "policy/via.h"

struct admit;
struct ahead;
struct batcher;
struct debug;
struct frozen;
struct guard;
struct ledger;
struct log;
struct metrics;
struct permits;
struct publication;
struct resolver;
struct shared;
struct store;
struct tiers;
struct tracing;
struct worker;

struct service {
    struct metrics *metrics;             /* any thread, as metrics says */
    struct log *log;                     /* any thread */
    struct store *store;                 /* any thread */
    struct shared *shared;               /* any thread; NULL: no second level over the network */
    struct frozen *frozen;               /* any thread; NULL: no tier on disk */
    struct tiers *tiers;                 /* any thread */
    struct ledger *ledger;               /* any thread; NULL: rate limits are not shared */
    struct permits *permits;             /* any thread */
    struct guard *guard;                 /* any thread */
    struct admit *admit;                 /* any thread */
    struct ahead *ahead;                 /* any thread */
    struct batcher *batcher;             /* any thread */
    struct debug *debug;                 /* any thread; may be NULL */
    struct tracing *tracing;             /* any thread; may be NULL */
    struct resolver *resolver;           /* any thread */
    char instance[VIA_INSTANCE_LEN + 1]; /* constant: tells this process in Via, to find loops */
    struct worker **workers;             /* constant once started */
    int worker_count;
    _Atomic unsigned clients;     /* open client connections over all workers, for the limit */
    _Atomic bool draining;        /* TERM came: readiness fails */
    _Atomic int64_t refusal_told; /* tick of the last warning that the API refuses our key; 0: never */
    _Atomic int64_t
        last_request; /* coarse: tick of the newest request, stored at most once a loop turn by each worker */
};

#endif
