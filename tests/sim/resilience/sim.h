/*
 * One run of resilience-sim from the inside: virtual time, clients, the sidecar's own policy code, and a
 * model of the API. One queue of events; no sockets, no clock. Split over engine.c (events, clients),
 * sidecar.c (what the proxy does), api.c (what the upstream does) and report.c.
 */
#ifndef TESTS_SIM_RESILIENCE_SIM_H
#define TESTS_SIM_RESILIENCE_SIM_H

#include "policy/breaker.h"
#include "policy/concurrency.h"
#include "policy/hedge.h"
#include "policy/outcome.h"
#include "policy/pool_size.h"
#include "policy/quota.h"
#include "policy/retry.h"
#include "policy/rng.h"
#include "tests/sim/resilience/scenario.h"

enum event_kind {
    EVENT_ARRIVE,       /* id: client */
    EVENT_CLIENT_AGAIN, /* id: request: the client's own retry */
    EVENT_GIVES_UP,     /* id: request: the client's patience is over */
    EVENT_ATTEMPT,      /* id: request: backoff is over */
    EVENT_LIMIT_OVER,   /* id: request: its wait for the limiter is over */
    EVENT_QUOTA,        /* id: key: look at its waiters */
    EVENT_ACQUIRE_OVER, /* id: job: its wait for a connection is over */
    EVENT_CONNECTED,    /* id: job, or -1: a connection in advance */
    EVENT_CONNECT_BAD,  /* id: job */
    EVENT_AT_SERVER,    /* id: job */
    EVENT_SERVED,       /* id: job */
    EVENT_ANSWER,       /* id: job: at the sidecar */
    EVENT_BROKEN,       /* id: job: a reset at the sidecar */
    EVENT_ATTEMPT_OVER, /* id: job: response or connect timeout */
    EVENT_HEDGE,        /* id: request */
    EVENT_SECOND,       /* pool sizing, samples */
    EVENT_HEALTH        /* an active health check */
};

struct event {
    tick_t at;
    uint64_t order;
    int id;
    uint32_t turn; /* of the request or job: an event of an earlier life is void */
    uint8_t kind;
};

enum {
    PLACE_NONE,
    PLACE_READY,
    PLACE_QUOTA,
    PLACE_LIMIT,
    PLACE_ATTEMPT,
    PLACE_BACKOFF,
    PLACE_CLIENT_BACKOFF
};

struct request {
    struct quota_waiter quota; /* first */
    struct concurrency_waiter limit;
    int id, client, next_free;
    uint32_t turn; /* of the life of the slot */
    uint32_t step; /* of waits within a life */
    int place;
    tick_t began; /* the client's first try */
    tick_t tried; /* the newest try of the client */
    tick_t last_delay;
    int client_tries, attempts;
    bool has_quota, has_limit; /* held, and not yet with a job */
    int job[2];                /* the attempt, and its hedge; -1 */
    const char *why;           /* of the newest failure */
};

struct job {
    int id, request, next_free;
    uint32_t turn;
    bool waited_for, in_server, connecting, has_connection, hedge, waiting_pool, used;
    struct breaker_permit permit;
    tick_t began, sent_at, wait_began;
    int status;
    bool throttled;
    struct rate_reading reading;
    int next_wait, prev_wait; /* for a connection; -1 */
};

struct client {
    int group, key;
    uint64_t good, offered;
};

struct key {
    struct quota quota;
    tick_t due; /* of the newest EVENT_QUOTA; TICK_NEVER: none */
    struct {
        int64_t index, count;
        double level; /* bucket */
        tick_t at;
        tick_t *when;     /* sliding: the newest `limit` calls, the oldest at count % limit; NULL: none yet */
    } spent[MOST_LIMITS]; /* at the API */
    uint64_t accepted, throttled;
};

struct transition {
    tick_t at;
    uint8_t from, to, cause;
};

#define MOST_TRANSITIONS 500
#define WHY_ROWS         16

struct second {
    uint32_t offered, good, sent; /* requests by when they began; calls at the API */
    float limit;
    uint32_t worked,
        in_time; /* calls that the API began to work on; those that take no longer than anybody waits */
    double work; /* seconds of work in them */
};

struct sim {
    const struct scenario *s;
    bool bare; /* no sidecar: straight to the API */
    struct rng rng;
    tick_t now;
    struct event *heap;
    size_t events, heap_room;
    uint64_t order;
    struct request **request;
    int request_count, request_room, free_request;
    struct job **job;
    int job_count, job_room, free_job;
    struct client *client;
    int client_count;
    struct key *key;
    int key_count;
    /* the sidecar */
    struct breaker_rules breaker_rules;
    struct retry_rules retry_rules;
    struct quota_rules quota_rules;
    struct concurrency_rules concurrency_rules;
    struct hedge_rules hedge_rules;
    struct outcome_disguises disguises;
    struct pool_rules pool_rules;
    struct breaker breaker;
    struct retry_budget budget;
    struct concurrency limit;
    struct hedge hedge;
    struct pool_size pool;
    int open, idle, busy, pool_waiting, first_wait, last_wait;
    /* the API */
    int serving, fifo_first, fifo_length;
    int *fifo;
    /* what happened */
    tick_t patience;
    struct second *second;
    int seconds;
    uint32_t typical; /* retry_typical */
    float *latency;
    size_t latencies, latency_room;
    uint64_t offered, good, attempts, retries, late, hedges, hedges_won, at_server, wasted, throttled,
        accepted, client_retries, background_sent;
    uint64_t connect_waits;
    tick_t longest_connect_wait;
    int most_open, most_in_flight;
    struct {
        const char *why;
        uint64_t count;
    } failed[WHY_ROWS];
    struct transition transition[MOST_TRANSITIONS];
    int transitions;
    uint8_t last_state;
    bool broken; /* out of memory */
};

/* engine.c */
bool sim_run(struct sim *m, const struct scenario *s, bool bare) MUSTCHECK;
void sim_free(struct sim *m);
void sim_push(struct sim *m, tick_t at, enum event_kind kind, int id, uint32_t turn);
tick_t sim_draw(struct sim *m, const struct latency *l);
struct job *sim_job(struct sim *m, int request);
void sim_job_done(struct sim *m, struct job *j);
/* The client has its answer, or its error: what then is the client's business. */
void sim_answered(struct sim *m, struct request *q, bool good, const char *why);

/* sidecar.c */
bool sidecar_init(struct sim *m);
void sidecar_begin(struct sim *m, struct request *q); /* a client's try comes in */
void sidecar_leave(struct sim *m, struct request *q); /* and is left by its client */
void sidecar_event(struct sim *m, const struct event *e);

/* api.c */
tick_t api_patience(const struct sim *m); /* of the most patient client, or the sidecar's own if shorter */
void api_arrive(struct sim *m, struct job *j);
void api_served(struct sim *m, struct job *j);
bool api_refuses(struct sim *m, tick_t *after, bool *hangs); /* a connection, now */
const struct fault_spec *api_fault(const struct scenario *s, enum fault_kind kind, tick_t now);
int api_workers(const struct scenario *s, tick_t now);
bool api_down(const struct scenario *s, tick_t now); /* no call is answered well now */

/* report.c: the JSON object; false when an expectation was not met, with a line for each on standard error.
 */
bool report_print(struct sim *m, struct sim *bare);

#endif
