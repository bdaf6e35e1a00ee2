/*
 * A scenario of resilience-sim: who asks, who answers, what goes wrong, and the sidecar's configuration. Read
 * from a YAML file; the keys are described in tests/sim/README.md and in the table of scenario.c.
 */
#ifndef TESTS_SIM_RESILIENCE_SCENARIO_H
#define TESTS_SIM_RESILIENCE_SCENARIO_H

#include "policy/config.h"

#define MOST_GROUPS 16
#define MOST_FAULTS 64
#define MOST_LIMITS 8
#define MOST_PHASES 32
#define MOST_EXPECT 64

enum shape { SHAPE_EXPONENTIAL, SHAPE_CONSTANT, SHAPE_LOGNORMAL, SHAPE_UNIFORM, SHAPE_PARETO };

struct latency {
    tick_t mean;
    int shape;         /* enum shape */
    double sigma;      /* lognormal: of the logarithm; pareto: the exponent */
    double tail_share; /* this share takes tail_latency instead */
    tick_t tail_latency;
};

struct phase {
    tick_t at;
    double rate; /* requests a second of one client */
};

enum arrival { ARRIVAL_POISSON, ARRIVAL_EVEN, ARRIVAL_CLOSED };
enum keys { KEYS_SHARED, KEYS_EACH };
enum client_backoff { CLIENT_BACKOFF_EXPONENTIAL, CLIENT_BACKOFF_FIXED };

struct group {
    char name[32];
    int64_t count;
    double rate; /* of one client, a second */
    int arrival;
    tick_t think;    /* closed: between an answer and the next request */
    tick_t timeout;  /* a client gives up then */
    int64_t retries; /* of its own, on top of the sidecar's */
    tick_t retry_delay;
    int retry_backoff;
    bool marks_retries; /* says that a request is a retry */
    int method;         /* enum call_method */
    int keys;
    tick_t start, stop; /* stop 0: the end */
    bool background;    /* prefetches and refreshes */
    int phase_count;
    struct phase phase[MOST_PHASES];
};

enum call_method { CALL_GET, CALL_POST };

struct service {
    int64_t workers;
    struct latency latency;
    int64_t queue;
    tick_t connect_time;
    tick_t network; /* one way */
    double errors;  /* share answered error_status all the time */
    int64_t error_status;
    bool notices_leaving; /* work is dropped when nobody waits for it any more */
};

enum fault_kind {
    FAULT_OUTAGE,
    FAULT_REFUSE,
    FAULT_HANG,
    FAULT_SLOW,
    FAULT_ERRORS,
    FAULT_RESET,
    FAULT_WORKERS,
    FAULT_FLAP,
    FAULT_TAIL
};

struct fault_spec {
    tick_t at, length;
    int kind;
    double factor;   /* slow: times as long */
    double share;    /* of the requests that it hits */
    int64_t status;  /* of errors and outages */
    int64_t workers; /* left */
    tick_t latency;  /* outage, refuse, errors: how fast it fails; tail: how slow */
    tick_t period;   /* flap: half of it down, half of it up */
};

enum limit_kind { LIMIT_WINDOW, LIMIT_BUCKET, LIMIT_SLIDING, LIMIT_BEGUN };
enum dialect {
    DIALECT_REAL,
    DIALECT_DOCUMENTED,
    DIALECT_GITHUB,
    DIALECT_DRAFT3,
    DIALECT_DRAFT7,
    DIALECT_DRAFT8,
    DIALECT_DRAFT10,
    DIALECT_RETRY_AFTER,
    DIALECT_SILENT
};

struct limit_spec {
    int64_t limit;
    tick_t window;
    int kind;
    int64_t burst; /* bucket: its size; 0 = the limit */
};

struct limits_spec {
    int dialect;
    bool per_key;           /* else one for all */
    bool count_refused;     /* a refused call counts too */
    bool answer_headers;    /* not only refusals say what is left */
    int64_t skew;           /* seconds that the server's clock is ahead */
    int64_t used_by_others; /* calls a minute that somebody else makes with the same key */
    int count;
    struct limit_spec item[MOST_LIMITS];
};

struct expectation {
    char name[64];
    char bound[32]; /* ">= 0.97" */
    struct config_place place;
};

struct scenario {
    char name[64];
    char description[256];
    int64_t seed;
    tick_t duration, warmup;
    tick_t start_at; /* within the minute, UTC */
    int group_count;
    struct group group[MOST_GROUPS];
    struct service upstream;
    int fault_count;
    struct fault_spec fault[MOST_FAULTS];
    struct limits_spec limits;
    bool without; /* compare: true - the same again with everything of the sidecar off */
    int expect_count;
    struct expectation expect[MOST_EXPECT];
    const struct config *cfg; /* a reference */
};

/* Reads a file. False with every error found in `errors`, each with its place. scenario_dispose() in any
 * case. */
bool scenario_read(const char *path, struct scenario *s, struct config_errors *errors) MUSTCHECK;
void scenario_dispose(struct scenario *s);

/* The keys, one a line with what they mean, to standard output. */
void scenario_help(void);

#endif
