/*
 * THE door of the data path: what happened to a request is said here once, when it is
 * finished, and counted everywhere at once (counters, series, histograms, the ring of
 * recent requests). About 50 ns; no lock; memory only at the first sight of something new.
 *
 * All durations are nanoseconds. A duration of 0 means: this phase did not happen.
 */
#ifndef METRICS_OBSERVE_H
#define METRICS_OBSERVE_H

#include <stdbool.h>

#include "metrics/counters.h"
#include "metrics/hist.h"
#include "metrics/ring.h"

/* What the cache had to do with a request: CACHE_WORD(id, label, saved: an upstream request was saved). */
#define CACHE_WORDS                                                                                          \
    CACHE_WORD(NONE, "none", 0)               /* no answer was looked for: refused before that */            \
    CACHE_WORD(HIT, "hit", 1)                 /* fresh from the cache */                                     \
    CACHE_WORD(STALE, "stale", 1)             /* stale from the cache, within a window that allows it */     \
    CACHE_WORD(MISS, "miss", 0)               /* nothing usable stored: forwarded */                         \
    CACHE_WORD(REVALIDATED, "revalidated", 0) /* from the cache, after the upstream said 304 */              \
    CACHE_WORD(COLLAPSED, "collapsed", 1)     /* shared the upstream request of another */                   \
    CACHE_WORD(BYPASS, "bypass", 0)           /* the cache was not asked */                                  \
    CACHE_WORD(BATCHED, "batched", 0)         /* a miss, answered out of a batch made of several */

enum cache_word {
#define CACHE_WORD(id, label, saved) VERDICT_##id,
    CACHE_WORDS
#undef CACHE_WORD
        VERDICT_COUNT
};

enum observation_flag {
    OBSERVED_BROKEN = 1,   /* the answer ended before its end, and not by the client's doing */
    OBSERVED_NO_FAULT = 2, /* never a failure whatever the status (a 504 that only-if-cached asked for) */
    OBSERVED_CLIENT_GONE = 4,
    OBSERVED_HEDGED = 8,
    OBSERVED_STREAMED = 16, /* the answer had no known length */
    OBSERVED_OWN = 32,      /* the answer was made by the sidecar, not relayed nor stored */
    OBSERVED_STORED = 64,   /* the answer was stored */
    OBSERVED_QUOTA = 128,   /* the API said what was left of its rate limit: quota_left, quota_limit */
    OBSERVED_AHEAD = 256    /* it is the first use of an answer that was fetched ahead, which was a request to
                               the upstream as well: time is saved, but no request */
};

/* How the circuit breakers stood when the last attempt was asked for. */
enum observed_circuit { CIRCUIT_NOT_ASKED, CIRCUIT_CLOSED, CIRCUIT_PROBE, CIRCUIT_OPEN };

/* One attempt of a request, for people. */
struct observed_attempt {
    uint32_t at_us;   /* since the request began */
    uint32_t took_us; /* to its end */
    uint16_t status;  /* 0: no answer came */
    uint16_t reason;  /* 0: ended well, or by the answer's status */
    uint8_t reused;   /* on a connection used before */
    uint8_t outcome;  /* index into metrics_config.outcomes */
};
enum { OBSERVED_ATTEMPTS = 4 }; /* the first ones, and the last */

/* One finished request of a client. Zero it, then fill in what is known. */
struct observation {
    uint16_t operation; /* of metrics_operation() */
    uint8_t method;     /* as numbered by the caller: index into metrics_config.methods */
    uint8_t cache;      /* enum cache_word */
    uint16_t status;    /* sent to the client; 0: none was sent */
    uint16_t reason;    /* index into metrics_config.reasons; 0: ended well */
    uint8_t attempts;   /* at the upstream, the first included */
    uint8_t retries;
    uint16_t flags;                 /* of enum observation_flag */
    uint16_t route;                 /* of metrics_route() */
    uint8_t detailed;               /* true: what stands behind `path` is not all zero */
    uint8_t kept;                   /* why it is kept: keeper.h. Set by metrics_observe(), as the following */
    uint8_t circuit;                /* enum observed_circuit */
    uint64_t number;                /* in the order of ends, of its block */
    int64_t ended_wall;             /* nanoseconds since 1970, for people only */
    int64_t total;                  /* first byte of the request to last byte of the answer */
    int64_t saved;                  /* upstream time that the cache saved: what the stored answer once took */
    uint64_t bytes_in;              /* from the client, head and body */
    uint64_t bytes_out;             /* to the client */
    char request_id[RING_ID_BYTES]; /* shortened or padded with NUL; not terminated when full */
    char path[RING_PATH_BYTES];     /* likewise; without the query */

    /* Phases, all attempts together, one after the other. */
    int64_t held;       /* for the rest of the request, which its signature covers */
    int64_t second;     /* a tier below memory was asked */
    int64_t joined;     /* for the fetch of another request, and its bytes */
    int64_t queue_wait; /* held back by the concurrency limit or the rate limit */
    int64_t
        pool_wait; /* for a connection: dns, tcp and tls are part of it where this request waited for them */
    int64_t send;  /* until the request's last byte was handed over */
    int64_t wait;  /* from then on, to the answer's first byte, or to the attempt's failure */
    int64_t body;  /* from the answer's first byte to its last */
    int64_t retry_delay; /* between attempts */

    int64_t dns;                     /* for the upstream's name */
    int64_t tcp, tls;                /* connections that were made for it */
    int64_t first_byte;              /* of the last attempt: from sending to the upstream's first byte */
    int64_t upstream;                /* of all: from sending to the upstream's last byte */
    int64_t quota_left, quota_limit; /* of the window that has the least left; limit < 0: not said */
    struct observed_attempt tried[OBSERVED_ATTEMPTS];
};
#define OBSERVATION_SHORT offsetof(struct observation, held)

enum attempt_kind {
    ATTEMPT_REQUEST, /* for a client */
    ATTEMPT_REFRESH, /* behind a stale answer */
    ATTEMPT_PREFETCH,
    ATTEMPT_HEDGE,
    ATTEMPT_BATCH
};

/* One attempt at the upstream, ended well or not. */
struct attempt {
    uint16_t operation;
    uint16_t status; /* of the upstream's answer; 0: none came */
    uint16_t reason; /* index into metrics_config.reasons; 0: a whole answer came */
    uint8_t kind;    /* enum attempt_kind */
    uint8_t method;  /* as in an observation */
    uint8_t span;    /* its place in the request's trace, plus one; 0: it is not traced */
    uint8_t outcome; /* index into metrics_config.outcomes */
    bool failed;     /* by the upstream's fault, or refused by its rate limit */
    bool throttled;  /* the latter, whatever its status */
    bool reused;     /* sent on a connection used before */
    int64_t pool_wait;
    int64_t dns;      /* waited for the upstream's name; not part of the histogram, which is of lookups */
    int64_t tcp, tls; /* when this attempt made the connection */
    int64_t first_byte;
    int64_t total;
    int64_t round_trip; /* TCP_INFO's smoothed round trip, when known; else that of `tcp` is taken */
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint16_t batch; /* requests in this one, when it is a batch */
};

enum { METRICS_MAX_OPERATIONS = 256, OPERATION_OTHER = 0, METRICS_MAX_ROUTES = 1536, ROUTE_NONE = 0 };

struct metrics_config {
    int workers;                /* blocks 0 ... workers - 1; the control thread has block `workers` */
    const char *const *methods; /* label of each method number; copied */
    size_t method_count;
    const char *const *reasons; /* name of each reason number; copied, in lower case */
    size_t reason_count;
    const char *const *outcomes; /* label of each outcome of an attempt; at most 100; copied */
    size_t outcome_count;
};

struct metrics; /* all blocks, and the names of what they count */

/* NULL when out of memory, or when there are more than 255 methods or 500 reasons. Freed by metrics_free()
 * once no thread uses it. */
struct metrics *metrics_new(const struct metrics_config *config);
void metrics_free(struct metrics *m);

/* Room for a sample of so many requests over all workers (at first RING_ENTRIES each). Before the workers
 * start. False when out of memory: the old room stays. */
bool metrics_make_room(struct metrics *m, size_t requests);

/* Block of worker i, or of the control thread for i == workers. Belongs to m. */
struct metrics_block *metrics_block(struct metrics *m, int i);
int metrics_blocks(const struct metrics *m);

/*
 * The number of an operation's name, made at the first sight of it and kept for the life of the process,
 * so that a reload changes no series. Copies the name. Control thread only (or before the workers start).
 * OPERATION_OTHER once METRICS_MAX_OPERATIONS names are known, or out of memory.
 */
uint16_t metrics_operation(struct metrics *m, const char *name);

/* The same for a route's template; ROUTE_NONE once METRICS_MAX_ROUTES are known, or out of memory. / "" for
 * no template. */
uint16_t metrics_route(struct metrics *m, const char *path);
const char *metrics_route_name(const struct metrics *m, uint16_t route);

/* Names for numbers; never NULL, "other" for an unknown number. Operations: control thread only. */
const char *metrics_operation_name(const struct metrics *m, uint16_t operation);
const char *metrics_method_name(const struct metrics *m, unsigned method);
const char *metrics_reason_name(const struct metrics *m, unsigned reason);
const char *cache_word_name(unsigned word);

/*
 * Whether requests and attempts are measured at all (else only what the sidecar needs itself is counted:
 * connections, requests under way), and the share of requests that is kept as a sample. True and 1 at first.
 * Any thread; workers see it soon.
 */
void metrics_set_sampling(struct metrics *m, bool measure, double share);

/* True when this block's requests are measured. */
bool metrics_measuring(const struct metrics_block *b);

/* Counts one finished request, and keeps it or not. Only by the block's owner, exactly once a request. */
void metrics_observe(struct metrics_block *b, struct observation *o);

/* The upstream's name was looked up, and that took so long. Only by the block's owner. */
void metrics_lookup(struct metrics_block *b, int64_t took);

/* Counts one attempt at the upstream. Only by the block's owner, exactly once an attempt. */
void metrics_upstream(struct metrics_block *b, const struct attempt *a);

/* Counts a retry that was decided: because of `reason`, or when that is 0 because of the answer's `status`.
 */
void metrics_retry(struct metrics_block *b, uint16_t operation, unsigned reason, unsigned status);

/* And that the attempt which it led to was answered well. */
void metrics_retry_succeeded(struct metrics_block *b, uint16_t operation, unsigned reason, unsigned status);

/* What retrying has been worth, by what it was for. Any thread. Returns how many rows, at most `room`. */
struct retry_worth {
    unsigned code; /* see metrics_outcome_name(); UINT_MAX: all that found no room */
    uint64_t sent, succeeded;
};
int metrics_retry_worth(const struct metrics *m, struct retry_worth *out, int room);

/* The rule for what is a failure to the application: 5xx, 429, or broken off; not OBSERVED_NO_FAULT. */
bool observation_failed(const struct observation *o);

/* Sum of a counter or gauge over all blocks: each term exact, the set not a snapshot. Any thread. */
uint64_t metrics_sum(const struct metrics *m, enum metric metric);

/* What is counted of each operation beside its durations. */
enum operation_tally {
    TALLY_REQUESTS,
    TALLY_FAILED,   /* observation_failed() */
    TALLY_ANSWERED, /* from the cache, fresh or stale */
    TALLY_ASKED,    /* of the cache */
    TALLY_RETRIES,
    TALLY_COUNT
};

/* Operations known by now: 0 ... this - 1. Control thread only. / A sum over all blocks. Any thread. */
unsigned metrics_operations(const struct metrics *m);
uint64_t metrics_operation_sum(const struct metrics *m, uint16_t operation, enum operation_tally which);

enum histogram_id {
#define HISTOGRAM(id, unit, name, label, help) HISTOGRAM_##id,
#include "metrics/counters.def"
    HISTOGRAM_COUNT
};

/*
 * Adds all blocks' records of a histogram to *into (see hist.h). `part`: for REQUEST and UPSTREAM the
 * operation, for CONNECT 0 dns, 1 tcp, 2 tls, else 0; METRICS_ALL adds all parts. Any thread. True when there
 * was any.
 */
enum { METRICS_ALL = -1, METRICS_CONNECT_PHASES = 3 };
bool metrics_histogram(const struct metrics *m, enum histogram_id id, int part, struct hist_counts *into);

/* The row of a histogram; never NULL. */
struct histogram_row {
    const char *name;
    const char *label; /* name of its one label, "" when it has none */
    const char *help;
    bool seconds; /* recorded in nanoseconds; else plain counts */
};
const struct histogram_row *histogram_row(enum histogram_id id);

/* Detail of a block, for render.c and for those who list recent requests. */
struct series;
enum series_id {
#define SERIES(id, room, name, help) SERIES_##id,
#include "metrics/counters.def"
    SERIES_COUNT
};

/* All blocks' counts of a series by key, to be freed. NULL: no memory. */
struct series_count;
struct series_count *metrics_series_sum(const struct metrics *m, enum series_id id, size_t *n);

const struct series *metrics_series(const struct metrics *m, int block, enum series_id id);
const char *series_name(enum series_id id);
const char *series_help(enum series_id id);
const struct ring *metrics_ring(const struct metrics *m, int block); /* the sample */
struct keeper;
const struct keeper *metrics_keeper(const struct metrics *m, int block);

/* Takes a series' key apart (see series.h). */
struct series_tuple {
    uint16_t operation;
    uint16_t code; /* status; or for UPSTREAM and RETRIES an outcome, see metrics_outcome_name() */
    uint8_t method;
    uint8_t cache;
    bool other; /* the tuple into which all that found no room was folded */
};
struct series_tuple metrics_tuple(uint64_t key);

/* The labels of a tuple, in their order. Returns how many. `room` takes digits; names as below. */
struct metrics_label {
    const char *key, *value;
};
enum { METRICS_LABELS = 4, METRICS_LABEL_ROOM = 12 };
size_t metrics_tuple_labels(const struct metrics *m, enum series_id id, const struct series_tuple *t,
                            struct metrics_label out[METRICS_LABELS], char room[METRICS_LABEL_ROOM]);

/* Keeps the trace of a finished request as an exemplar of its duration (exemplar.h); of one that is recorded
 * somewhere, else it leads nowhere. Only by the block's owner. / What a block has kept. */
struct exemplar;
struct exemplars;
void metrics_exemplar(struct metrics_block *b, const struct exemplar *e);
const struct exemplars *metrics_exemplars(const struct metrics *m, int block);

/* The name of a part of a histogram that has a label. Control thread only. */
const char *metrics_part_name(const struct metrics *m, enum histogram_id id, int part);
int metrics_parts(enum histogram_id id);

/*
 * Durations by what the semantic conventions of OpenTelemetry ask for: of requests by route, method, status
 * (and reason, for those that had none or broke off), of attempts by method, status and outcome. Kept from
 * the first metrics_http_begin() on; nothing is spent before it.
 */
struct http_key {
    uint16_t route; /* server only */
    uint16_t status;
    uint16_t cause; /* server: a reason, 0: none; client: an outcome */
    uint8_t method;
    bool other; /* all that found no room */
};
enum metrics_http_side { METRICS_HTTP_SERVER, METRICS_HTTP_CLIENT, METRICS_HTTP_SIDES };

/* Control thread only. False: out of memory. */
bool metrics_http_begin(struct metrics *m);
/* Calls `each` with every key and the sum of its histograms over all blocks. */
typedef void metrics_http_each(void *ctx, const struct http_key *key, const struct hist_counts *counts);
bool metrics_http_walk(const struct metrics *m, enum metrics_http_side side, metrics_http_each *each,
                       void *ctx);
struct http_key metrics_http_key(const struct observation *o);

/* Label of an outcome: its name; of a retry's cause: a reason's name, or a status.
 * `room` takes digits. */
const char *metrics_outcome_name(const struct metrics *m, unsigned outcome, char room[8]);

#endif
