/*
 * How many upstream connections to keep: by Little's law (L = X.W: connections in use on average are
 * acquisitions a second times the time they are held) measured over the last 10 s, with head room,
 * and by the peak of demand. Grows at once, shrinks by at most a tenth (rounded up) in 10 s.
 */
#ifndef POLICY_POOL_SIZE_H
#define POLICY_POOL_SIZE_H

#include "policy/base.h"

enum pool_strategy { POOL_FIXED, POOL_DYNAMIC, POOL_ADAPTIVE, POOL_LAZY };

struct pool_rules { /* configuration: read only; this pool's share when several workers divide it */
    enum pool_strategy strategy;
    int min_size;
    int max_size;  /* >= 1 */
    bool adaptive; /* pool.enable_adaptive_sizing; false makes ADAPTIVE a DYNAMIC */
    double
        threshold; /* pool.adaptive_threshold: use on average at most this share of the connections, (0, 1] */
};

#define POOL_SIZE_SLOTS 10

struct pool_size {
    const struct pool_rules *rules; /* not owned */
    double level;                   /* the target before rounding */
    tick_t began;                   /* of the measurement */
    tick_t shrunk;                  /* when it last shrank, or had no reason to */
    tick_t last;                    /* time of the last event */
    int demand;                     /* in use plus waiting, at the last event */
    int64_t at;                     /* number of the present second */
    struct {
        int64_t busy; /* integral of the demand: connection-nanoseconds */
        int peak;
        uint32_t acquired;
        uint32_t waited;
    } slot[POOL_SIZE_SLOTS];
};

struct pool_target {
    int warm; /* open in advance up to so many */
    int keep; /* while more than so many are open, idle ones are surplus: close the longest unused now */
};            /* up to max_size may always be opened on demand; idle ones age out by max_idle_time as well */

/* What was measured over the window, for the admin port and for recommendations. */
struct pool_measured {
    double rate;   /* X: acquisitions a second */
    double held;   /* W: seconds held on average */
    double busy;   /* L = X.W: demand on average */
    int peak;      /* highest demand */
    double waited; /* share of acquisitions that had to wait */
};

void pool_size_init(struct pool_size *p, const struct pool_rules *rules, tick_t now);

/* New rules, live. */
void pool_size_tune(struct pool_size *p, const struct pool_rules *rules);

/* The demand (connections in use plus requests waiting for one) changed, or just: time passed. */
void pool_size_demand(struct pool_size *p, int demand, tick_t now);

/* A request got a connection; `waited`: not at once. */
void pool_size_acquired(struct pool_size *p, bool waited, tick_t now);

/* How many to keep now. Ask after an event, and about once a second. */
struct pool_target pool_size_target(struct pool_size *p, tick_t now);

struct pool_measured pool_size_measured(struct pool_size *p, tick_t now);

#endif
