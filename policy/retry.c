/*
 * Whether an attempt that is over is followed by another, and when.
 *
 * The questions are asked in the order of what cannot be undone first: has the client part of an answer, is
 * this end one that is retried, may the request be repeated, is it still at hand; then what others say (hint,
 * mark); then our own bounds: attempts, health, Retry-After, time, and the budget last, so that nothing is
 * taken from it for an attempt that another bound forbids.
 *
 * Invariants: a request of which bytes were sent, and that is neither idempotent nor has a key, is never sent
 * again; over any 10 s the retries of an upstream stay within ratio (1 + ratio) x requests + reserve; no
 * attempt starts at or after the deadline; a free replacement happens once a request.
 */
#include "policy/retry.h"

#include <string.h>

#include "policy/outcome.h"

#define STATUSES(X)                                                                                          \
    X(408)                                                                                                   \
    X(409)                                                                                                   \
    X(423)                                                                                                   \
    X(425)                                                                                                   \
    X(429)                                                                                                   \
    X(500)                                                                                                   \
    X(502)                                                                                                   \
    X(503)                                                                                                   \
    X(504) X(507) X(509) X(520) X(521) X(522) X(523) X(524) X(525) X(526) X(527) X(529) X(530) X(598) X(599)

static const struct {
    int status;
    const char *name;
} statuses[] = {
#define ROW(n) {n, #n},
    STATUSES(ROW)
#undef ROW
};
_Static_assert(RETRY_ON_STATUS_FIRST + ARRAY_LEN(statuses) <= 32, "retry_on is a set of 32 bits");

static const struct {
    uint32_t bit;
    const char *name;
} kinds[] = {
    {RETRY_ON_CONNECT_FAILURE, "connect_failure"},
    {RETRY_ON_RESET, "reset"},
    {RETRY_ON_TIMEOUT, "timeout"},
};

uint32_t retry_on_status(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
        if (statuses[i].status == status)
            return UINT32_C(1) << (RETRY_ON_STATUS_FIRST + i);
    return 0;
}

static bool same(const char *name, const char *word, size_t n)
{
    return strlen(name) == n && memcmp(name, word, n) == 0;
}

uint32_t retry_on_word(const char *word, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (same(kinds[i].name, word, n))
            return kinds[i].bit;
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
        if (same(statuses[i].name, word, n))
            return UINT32_C(1) << (RETRY_ON_STATUS_FIRST + i);
    return 0;
}

const char *retry_on_words(void)
{
#define WORD(n) ", " #n
    return "connect_failure, reset, timeout" STATUSES(WORD);
#undef WORD
}

uint32_t retry_on_default(void)
{
    return RETRY_ON_CONNECT_FAILURE | RETRY_ON_RESET | RETRY_ON_TIMEOUT | retry_on_status(429) |
           retry_on_status(502) | retry_on_status(503) | retry_on_status(504);
}

/*
 * The bit of an end without a usable answer. 0: our own refusals and the like, where another attempt cannot
 * help.
 */
static uint32_t retry_on_reason(enum reason reason)
{
    switch (outcome_row(outcome_of_reason(reason, false))->retry) {
    case OUTCOME_RETRY_CONNECT_FAILURE:
        return RETRY_ON_CONNECT_FAILURE;
    case OUTCOME_RETRY_RESET:
        return RETRY_ON_RESET;
    case OUTCOME_RETRY_TIMEOUT:
        return RETRY_ON_TIMEOUT;
    default:
        return reason == REASON_FILL_FAILED ? RETRY_ON_RESET : 0; /* the fetch that it waited for was reset */
    }
}

/* --- Delays. --- */

static tick_t capped(tick_t base, int64_t times, tick_t cap)
{
    if (base <= 0 || times <= 0)
        return 0;
    return base > cap / times ? cap : base * times;
}

/* 2^(n-1), or the n-th of 1 1 2 3 5 ..., held where any delay is over any cap. */
static int64_t power(int n)
{
    return n > 62 ? INT64_C(1) << 62 : INT64_C(1) << (n > 1 ? n - 1 : 0);
}

static int64_t fibonacci(int n)
{
    int64_t a = 1, b = 1;
    for (int i = 2; i < n && i < 90; i++) {
        int64_t c = a + b;
        a = b;
        b = c;
    }
    return b;
}

static tick_t shape(const struct retry_rules *rules, int n, double failure_rate)
{
    tick_t base = rules->base_delay, cap = rules->max_delay;
    switch (rules->strategy) {
    case BACKOFF_LINEAR:
        return capped(base, n, cap);
    case BACKOFF_FIXED:
        return capped(base, 1, cap);
    case BACKOFF_FIBONACCI:
        return capped(base, fibonacci(n), cap);
    case BACKOFF_ADAPTIVE: {
        /*
         * So many attempts does a success take at this rate of failure: the load is spread over as much
         * more time.
         */
        double share = 1 - failure_rate,
               d = (double)capped(base, power(n), cap) / (share > 0.1 ? share : 0.1);
        return d < (double)cap ? (tick_t)d : cap;
    }
    case BACKOFF_EXPONENTIAL:
    default:
        return capped(base, power(n), cap);
    }
}

tick_t retry_delay(const struct retry_rules *rules, int attempts, tick_t last, double failure_rate,
                   struct rng *rng)
{
    tick_t d = shape(rules, attempts > 0 ? attempts : 1, failure_rate);
    if (rules->jitter == JITTER_FULL)
        return rng_range(rng, 0, d);
    if (rules->jitter == JITTER_DECORRELATED) {
        tick_t base = capped(rules->base_delay, 1, rules->max_delay);
        return rng_range(rng, base, capped(last > base ? last : base, 3, rules->max_delay));
    }
    return d;
}

/* --- The budget. --- */

enum { REQUESTS, RETRIES, GOOD, BAD };

#define BUDGET_SECONDS   10
#define MINIMUM_TO_JUDGE 20

void retry_budget_tune(struct retry_budget *b, double ratio, double per_second)
{
    b->ratio = ratio > 0 ? ratio : 0;
    b->reserve = per_second > 0 ? per_second * BUDGET_SECONDS : 0;
}

void retry_budget_init(struct retry_budget *b, double ratio, double per_second, tick_t now)
{
    retry_budget_tune(b, ratio, per_second);
    window_init(&b->window, BUDGET_SECONDS * TICK_S, now);
}

void retry_budget_request(struct retry_budget *b, tick_t now)
{
    window_add(&b->window, REQUESTS, 1, now);
}

void retry_budget_gathered(struct retry_budget *b, uint32_t requests, uint32_t good, tick_t when)
{
    if (requests)
        window_add(&b->window, REQUESTS, requests, when);
    if (good)
        window_add(&b->window, GOOD, good, when);
}

void retry_budget_outcome(struct retry_budget *b, bool good, tick_t now)
{
    window_add(&b->window, good ? GOOD : BAD, 1, now);
}

double retry_budget_left(struct retry_budget *b, tick_t now)
{
    /* A share of the requests, and the same share of those retries for what fails again. */
    double left = b->ratio * (1 + b->ratio) * (double)window_sum(&b->window, REQUESTS, now) + b->reserve -
                  (double)window_sum(&b->window, RETRIES, now);
    return left > 0 ? left : 0;
}

bool retry_budget_take(struct retry_budget *b, tick_t now)
{
    if (retry_budget_left(b, now) < 1)
        return false;
    window_add(&b->window, RETRIES, 1, now);
    return true;
}

double retry_budget_failure_rate(struct retry_budget *b, tick_t now)
{
    uint64_t bad = window_sum(&b->window, BAD, now), all = bad + window_sum(&b->window, GOOD, now);
    return all < MINIMUM_TO_JUDGE ? 0 : (double)bad / (double)all;
}

uint32_t retry_typical(uint32_t before, tick_t took)
{
    int64_t us = took / TICK_US;
    uint32_t seen = us < 1 ? 1 : us > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)us;
    if (before == 0)
        return seen;
    uint32_t step = before / 32 + 1;
    if (seen > before)
        return before + (seen - before < step ? seen - before : step);
    return before - (before - seen < step ? before - seen : step);
}

/* --- The decision. --- */

/*
 * A pooled connection that died under the request says nothing about the upstream's health: the pool was
 * late.
 */
static bool is_replacement(const struct retry_case *c)
{
    return c->replaced == 0 &&
           (c->reason == REASON_STALE_CONNECTION || (c->pooled && c->reason == REASON_RESET_BEFORE_ANSWER));
}

static bool wanted_status(const struct retry_rules *rules, int status)
{
    unsigned bit = (unsigned)status - 400u;
    if (rules->retry_on & retry_on_status(status))
        return true;
    return bit < 200 && ((rules->statuses[bit / 64] >> (bit % 64)) & 1);
}

static bool wanted(const struct retry_rules *rules, const struct retry_case *c)
{
    if (c->reason == REASON_NONE)
        return wanted_status(rules, c->status) || (c->hint == RETRY_HINT_YES && c->status >= 400);
    return reason_row(c->reason)->retry != RETRY_NEVER && (rules->retry_on & retry_on_reason(c->reason));
}

/* What speaks against any further attempt, whatever our own bounds. */
static enum retry_why forbidden(const struct retry_rules *rules, const struct retry_case *c)
{
    if (c->answer_begun)
        return RETRY_NO_ANSWERED;
    if (!is_replacement(c) && !wanted(rules, c))
        return RETRY_NO_FINAL;
    if (c->sent && !c->idempotent && !c->idempotency_key)
        return RETRY_NO_UNSAFE;
    if (!c->replayable)
        return RETRY_NO_BODY;
    if (is_replacement(c))
        return RETRY_YES;
    if (c->hint == RETRY_HINT_NO)
        return RETRY_NO_HINT;
    if (c->marked)
        return RETRY_NO_MARKED;
    return RETRY_YES;
}

static tick_t time_limit(const struct retry_rules *rules, const struct retry_case *c)
{
    if (rules->max_total_time > 0 && c->began < c->deadline - rules->max_total_time)
        return c->began + rules->max_total_time;
    return c->deadline;
}

/* The wait: ours, or the one that was asked for if that is longer. */
static tick_t wait_for(const struct retry_rules *rules, const struct retry_case *c, double failing,
                       struct rng *rng)
{
    tick_t own = retry_delay(rules, c->attempts, c->last_delay, failing, rng);
    if (c->retry_after <= own)
        return own;
    /* Not all at the same instant: a token bucket would refuse most of them again. */
    return c->retry_after + (rules->jitter == JITTER_NONE ? 0 : rng_range(rng, 0, rules->base_delay));
}

struct retry_verdict retry_decide(const struct retry_rules *rules, const struct retry_case *c,
                                  struct retry_budget *budget, struct rng *rng, tick_t now)
{
    struct retry_verdict v = {.why = forbidden(rules, c), .at = now};
    tick_t left = time_limit(rules, c) - now;
    if (v.why != RETRY_YES)
        return v;
    if (is_replacement(c)) {
        v.why = left > 0 ? RETRY_YES : RETRY_NO_TIME;
        v.free = left > 0;
        return v;
    }
    double failing = retry_budget_failure_rate(budget, now);
    if (c->attempts >= rules->max_attempts)
        v.why = RETRY_NO_ATTEMPTS;
    else if (1 - failing < rules->success_rate_threshold)
        v.why = RETRY_NO_UNHEALTHY;
    else if (c->retry_after > rules->max_delay)
        v.why = RETRY_NO_RETRY_AFTER;
    if (v.why != RETRY_YES)
        return v;
    v.delay = wait_for(rules, c, failing, rng);
    if (v.delay >= left || c->typical > left - v.delay)
        v.why = RETRY_NO_TIME;
    else if (!retry_budget_take(budget, now))
        v.why = RETRY_NO_BUDGET;
    else
        v.at = now + v.delay;
    return v;
}

const char *retry_why_name(enum retry_why why)
{
    static const char *const names[RETRY_WHY_COUNT] = {
        [RETRY_YES] = "yes",
        [RETRY_NO_FINAL] = "final",
        [RETRY_NO_ANSWERED] = "answered",
        [RETRY_NO_UNSAFE] = "unsafe",
        [RETRY_NO_BODY] = "body",
        [RETRY_NO_HINT] = "hint",
        [RETRY_NO_MARKED] = "marked",
        [RETRY_NO_ATTEMPTS] = "attempts",
        [RETRY_NO_UNHEALTHY] = "unhealthy",
        [RETRY_NO_RETRY_AFTER] = "retry_after",
        [RETRY_NO_TIME] = "time",
        [RETRY_NO_BUDGET] = "budget",
    };
    return (unsigned)why < RETRY_WHY_COUNT ? names[why] : "unknown";
}

const char *retry_cause_name(enum reason reason, int status)
{
    if (reason == REASON_NONE) {
        for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
            if (statuses[i].status == status)
                return statuses[i].name;
        return "other";
    }
    uint32_t bit = retry_on_reason(reason);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].bit == bit)
            return kinds[i].name;
    return "other";
}

/* --- Retry-After. --- */

tick_t retry_after_delta(struct slice value, tick_t cap)
{
    if (value.n == 0)
        return -1;
    tick_t t = 0;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return -1;
        if (t < TICK_NEVER / 100) /* large enough for any cap; the rest only has to be digits */
            t = t * 10 + (value.p[i] - '0') * TICK_S;
    }
    return t < cap ? t : cap;
}

tick_t retry_after_date(int64_t when, int64_t date, tick_t cap)
{
    if (when <= date)
        return 0;
    uint64_t seconds = (uint64_t)when - (uint64_t)date;
    return seconds > (uint64_t)(cap / TICK_S) ? cap : (tick_t)seconds * TICK_S;
}
