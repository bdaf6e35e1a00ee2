/*
 * May this request be sent again, and when: RFC 9110 9.2.2 (idempotent methods), 10.2.3
 * (Retry-After), a retry budget over all the traffic of an upstream, and the time that is left.
 */
#ifndef POLICY_RETRY_H
#define POLICY_RETRY_H

#include "policy/base.h"
#include "policy/reason.h"
#include "policy/rng.h"
#include "policy/window.h"

/* --- What to retry on: `retry.retry_on` as a set of bits. --- */
enum {
    RETRY_ON_CONNECT_FAILURE = 1u << 0, /* no connection, no name, no TLS */
    RETRY_ON_RESET = 1u << 1,           /* the connection broke */
    RETRY_ON_TIMEOUT = 1u << 2,         /* no answer in time */
    RETRY_ON_STATUS_FIRST = 3           /* bits from here: the statuses of retry_on_status() */
};

/* The bit of a status, 0 when it is not one of the common ones: see retry_rules.statuses for the others. */
uint32_t retry_on_status(int status);

/* The bit of one word of the list: connect_failure, reset, timeout, or a status as digits. 0 = unknown. */
uint32_t retry_on_word(const char *word, size_t n);

/* Every word that retry_on_word knows, for messages: "connect_failure, reset, timeout, 408, ...". */
const char *retry_on_words(void);

/* connect_failure, reset, timeout, 429, 502, 503, 504. */
uint32_t retry_on_default(void);

/* --- How long to wait. --- */
enum backoff { BACKOFF_EXPONENTIAL, BACKOFF_LINEAR, BACKOFF_FIXED, BACKOFF_FIBONACCI, BACKOFF_ADAPTIVE };
enum jitter { JITTER_NONE, JITTER_FULL, JITTER_DECORRELATED };

struct retry_rules { /* configuration: read only */
    enum backoff strategy;
    enum jitter jitter;
    int max_attempts; /* in all, the first included */
    tick_t base_delay;
    tick_t max_delay;              /* of one wait, a Retry-After included */
    tick_t max_total_time;         /* from the first attempt to the end of the last; 0 = no bound */
    uint32_t retry_on;             /* RETRY_ON_* and retry_on_status() */
    uint64_t statuses[4];          /* and these: bit i for status 400 + i, so any of 400 ... 599 */
    double success_rate_threshold; /* no retries while fewer than this share succeed; 0 = off */
};

/*
 * The wait before the next attempt, `attempts` (>= 1) having been made. Shapes, n = attempts:
 * exponential base.2^(n-1), linear base.n, fixed base, fibonacci base.(1 1 2 3 5 ...), adaptive exponential
 * divided by the share of calls that lately succeed (at least 0.1). Jitter none: the shape; full: even in [0,
 * shape]; decorrelated: even in [base, 3 x last] whatever the shape (last = the wait before, 0 at first).
 * Never above max_delay, never negative, never overflowing. failure_rate is in [0, 1], used by adaptive only.
 */
tick_t retry_delay(const struct retry_rules *rules, int attempts, tick_t last, double failure_rate,
                   struct rng *rng);

/* --- The budget: one an upstream, shared by all its traffic; plain state, the owner locks it. --- */
struct retry_budget {
    double ratio;         /* retries allowed as a share of requests, and again of those retries */
    double reserve;       /* and so many more in the whole window */
    struct window window; /* requests, retries, good and bad outcomes of the last 10 s */
};

/* `ratio` of the requests of the last 10 s, as much again of those retries, plus per_second a second. */
void retry_budget_init(struct retry_budget *b, double ratio, double per_second, tick_t now);

/* New bounds, live; the counts stay. */
void retry_budget_tune(struct retry_budget *b, double ratio, double per_second);

/* A request of a client goes to the upstream for the first time. */
void retry_budget_request(struct retry_budget *b, tick_t now);

/* So many requests and good outcomes, gathered since `when`. */
void retry_budget_gathered(struct retry_budget *b, uint32_t requests, uint32_t good, tick_t when);

/* How an attempt ended: good, or a failure of the upstream (nothing else belongs here). */
void retry_budget_outcome(struct retry_budget *b, bool good, tick_t now);

/*
 * How long an attempt usually takes, in microseconds, after one more that was answered after `took`: follows
 * the median by a thirty-second a step. 0 = unknown before. Never 0 itself.
 */
uint32_t retry_typical(uint32_t before, tick_t took);

/* Takes one retry out, or says no. retry_decide does this itself; a hedge asks its own budget. */
bool retry_budget_take(struct retry_budget *b, tick_t now) MUSTCHECK;

/* Retries that could be taken now, >= 0. */
double retry_budget_left(struct retry_budget *b, tick_t now);

/* Share of bad outcomes over the last 10 s; 0 while fewer than 20 were seen. */
double retry_budget_failure_rate(struct retry_budget *b, tick_t now);

/* --- The decision. --- */
enum retry_hint { RETRY_HINT_NONE, RETRY_HINT_NO, RETRY_HINT_YES };

struct retry_case {     /* one attempt that is over, and what is known of its request */
    enum reason reason; /* NONE: an answer came, its status is next */
    int status;
    int attempts;         /* made so far, this one included, free replacements not counted */
    int replaced;         /* free replacements of a dead pooled connection so far */
    bool idempotent;      /* by method (RFC 9110 9.2.2), or a route that says safe */
    bool idempotency_key; /* the request has an Idempotency-Key */
    bool sent;            /* at least one byte of it was written in this attempt */
    bool pooled;          /* the attempt went over a connection that had been used before */
    bool replayable;      /* the whole request is still at hand */
    bool answer_begun;    /* a byte of an answer went to the client */
    bool marked;          /* the request said that it is itself a retry of a layer above us */
    enum retry_hint hint; /* the answer said whether to retry (X-Should-Retry) */
    tick_t began;         /* when the first attempt began */
    tick_t deadline;      /* of the whole request, or of the client's signature if sooner; TICK_NEVER */
    tick_t typical;       /* how long an attempt usually takes; 0 = unknown */
    tick_t retry_after;   /* as retry_after_delta gave it; < 0: the answer said none */
    tick_t last_delay;    /* the wait before this attempt; 0 at the first */
};

enum retry_why {
    RETRY_YES,            /* send again at `at` */
    RETRY_NO_FINAL,       /* this end is not one that is retried */
    RETRY_NO_ANSWERED,    /* the client has part of an answer */
    RETRY_NO_UNSAFE,      /* bytes were sent, and the request may not be repeated */
    RETRY_NO_BODY,        /* the request body is no longer at hand */
    RETRY_NO_HINT,        /* the upstream said not to */
    RETRY_NO_MARKED,      /* a layer above retries already */
    RETRY_NO_ATTEMPTS,    /* as many as are allowed were made */
    RETRY_NO_UNHEALTHY,   /* under success_rate_threshold */
    RETRY_NO_RETRY_AFTER, /* told to wait for longer than max_delay */
    RETRY_NO_TIME,        /* it could not end before the deadline */
    RETRY_NO_BUDGET,      /* the budget is spent */
    RETRY_WHY_COUNT
};

struct retry_verdict {
    enum retry_why why;
    tick_t at;    /* RETRY_YES: when */
    tick_t delay; /* at - now: the next case's last_delay */
    bool free; /* replaces a dead pooled connection: counts as `replaced`, not as an attempt; connect anew */
};

/*
 * Decides once for an attempt that is over. Takes from the budget when, and only when, it says RETRY_YES and
 * the attempt is not free. What gave rise to a retry is the reason's row (RETRY_NEVER, RETRY_UNSENT,
 * RETRY_IDEMPOTENT) or the status. See retry.c for the order of the questions.
 */
struct retry_verdict retry_decide(const struct retry_rules *rules, const struct retry_case *c,
                                  struct retry_budget *budget, struct rng *rng, tick_t now);

/* The word for logs and labels: "budget", "attempts", ... */
const char *retry_why_name(enum retry_why why);

/*
 * What a retry was for, as the label `reason` of promptops_retries_total: "connect_failure", "reset",
 * "timeout", "503".
 */
const char *retry_cause_name(enum reason reason, int status);

/* --- Retry-After (RFC 9110 10.2.3). --- */

/* Seconds as digits; anything else is -1 (it may be a date). At most `cap`. */
tick_t retry_after_delta(struct slice value, tick_t cap);

/*
 * A date, parsed by the caller to unix seconds, against the answer's own Date (or the clock). In the past:
 * 0. At most `cap`.
 */
tick_t retry_after_date(int64_t when, int64_t date, tick_t cap);

#endif
