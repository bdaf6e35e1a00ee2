/*
 * What an attempt at the upstream came to: the one classification that retry, breaker, concurrency limiter,
 * quota governor, metrics and logs share (outcome.def).
 */
#ifndef POLICY_OUTCOME_H
#define POLICY_OUTCOME_H

#include "policy/base.h"
#include "policy/breaker.h"
#include "policy/reason.h"

enum outcome {
#define OUTCOME(id, ...) OUTCOME_##id,
#include "policy/outcome.def"
#undef OUTCOME
    OUTCOME_COUNT
};

enum outcome_scope { OUTCOME_SCOPE_OPERATION, OUTCOME_SCOPE_UPSTREAM, OUTCOME_SCOPE_BOTH };

enum outcome_load { OUTCOME_LOAD_GOOD, OUTCOME_LOAD_DROPPED, OUTCOME_LOAD_SHED, OUTCOME_LOAD_NEUTRAL };

enum outcome_retry {
    OUTCOME_RETRY_NONE,
    OUTCOME_RETRY_CONNECT_FAILURE,
    OUTCOME_RETRY_RESET,
    OUTCOME_RETRY_TIMEOUT,
    OUTCOME_RETRY_STATUS /* the status decides */
};

struct outcome_row {
    const char *name;
    enum breaker_outcome breaker;
    enum outcome_scope scope;
    enum outcome_load load;
    bool charged;
    enum outcome_retry retry;
    const char *sentence;
};

/* The row; that of LOCAL for a number that is none. Never NULL. */
const struct outcome_row *outcome_row(enum outcome outcome);

/* An answer came whole, or its head did: by its status, 100 ... 599. Anything else is BAD_ANSWER. */
enum outcome outcome_of_status(int status);

/*
 * The same where the answer may say how long it holds. `stated`: it has a freshness lifetime of its own and
 * no Retry-After. Who says that an error may be kept and used again has made it on purpose: it is no sign
 * that the upstream fails, and to ask again would bring the same.
 */
enum outcome outcome_when_lasting(enum outcome outcome, bool stated);

/*
 * No usable answer came. `pooled_unanswered`: it went over a connection that had been used before and died
 * under it, and a free replacement follows: STALE_CONNECTION, whatever the reason's name. REASON_NONE is OK.
 */
enum outcome outcome_of_reason(enum reason reason, bool pooled_unanswered);

/* --- Rate limits in disguise: a status that says one thing and a body that says "slow down". --- */

#define OUTCOME_DISGUISES 8

struct outcome_disguise {
    int status;         /* 400 ... 599 */
    struct slice words; /* looked for in the beginning of the body without regard to case; not owned */
};

struct outcome_disguises { /* configuration: read only */
    int count;
    struct outcome_disguise item[OUTCOME_DISGUISES];
};

/* Reads "401:rate limit exceeded": a status, a colon, words (1 ... 100 bytes). Points into `text`. */
bool outcome_disguise_parse(struct slice text, struct outcome_disguise *out) MUSTCHECK;

/* Could an answer with this status be one? Then the beginning of its body is worth keeping. */
bool outcome_may_be_disguised(const struct outcome_disguises *d, int status);

/* All items of a list of settings, "401:rate limit"; what does not parse, or is too much, is left out. Points
 * into the items. */
void outcome_disguises_read(struct outcome_disguises *out, const char *const *items, size_t count);

/* The outcome of a status, with as much of the beginning of the body as is known. */
enum outcome outcome_of_answer(const struct outcome_disguises *d, int status, struct slice body);

#endif
