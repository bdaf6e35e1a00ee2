/*
 * Tests of policy/retry.c: delays, budget, every way to say no, Retry-After, and random cases against the
 * rules of INTERFACE.md.
 */
#include "policy/retry.h"
#include "tests/unit/policy/harness.h"

#include <math.h>
#include <string.h>

static struct rng rng;
static struct retry_budget budget;
static struct retry_rules rules;
static struct retry_case a_case;

static const tick_t now = 1000 * TICK_S;

static void setup(void)
{
    rng_seed(&rng, 42);
    retry_budget_init(&budget, 0.1, 1, now);
    rules = (struct retry_rules){
        .strategy = BACKOFF_EXPONENTIAL,
        .jitter = JITTER_NONE,
        .max_attempts = 3,
        .base_delay = 100 * TICK_MS,
        .max_delay = 60 * TICK_S,
        .max_total_time = 30 * TICK_S,
        .retry_on = retry_on_default(),
        .success_rate_threshold = 0.5,
    };
    a_case = (struct retry_case){
        .reason = REASON_NONE,
        .status = 503,
        .attempts = 1,
        .idempotent = true,
        .sent = true,
        .replayable = true,
        .began = now,
        .deadline = TICK_NEVER,
        .retry_after = -1,
    };
}

static struct retry_verdict decide(void)
{
    return retry_decide(&rules, &a_case, &budget, &rng, now);
}

static const char *why(void)
{
    return retry_why_name(decide().why);
}

/* --- The set. --- */

START_TEST(words_and_statuses)
{
    ck_assert_uint_eq(retry_on_word("connect_failure", 15), RETRY_ON_CONNECT_FAILURE);
    ck_assert_uint_eq(retry_on_word("reset", 5), RETRY_ON_RESET);
    ck_assert_uint_eq(retry_on_word("timeout", 7), RETRY_ON_TIMEOUT);
    ck_assert_uint_eq(retry_on_word("503", 3), retry_on_status(503));
    ck_assert_uint_eq(retry_on_word("50", 2), 0);
    ck_assert_uint_eq(retry_on_word("5030", 4), 0);
    ck_assert_uint_eq(retry_on_word("", 0), 0);
    ck_assert_uint_eq(retry_on_word("200", 3), 0);
    ck_assert_uint_eq(retry_on_status(200), 0);
    ck_assert_uint_eq(retry_on_status(-1), 0);
    ck_assert(retry_on_status(408) && retry_on_status(429) && retry_on_status(500));
    uint32_t seen = 0;
    int words = 0;
    for (const char *p = retry_on_words(); *p;
         words++) { /* every word in the message is known, and has a bit of its own */
        size_t n = strcspn(p, ",");
        uint32_t bit = retry_on_word(p, n);
        ck_assert_uint_ne(bit, 0);
        ck_assert_uint_eq(seen & bit, 0);
        seen |= bit;
        p += n;
        p += strspn(p, ", ");
    }
    ck_assert_int_gt(words, 10);
}
END_TEST

/* --- Delays. --- */

START_TEST(shapes)
{
    static const struct {
        enum backoff strategy;
        int want[8]; /* in units of base_delay */
    } t[] = {
        {BACKOFF_EXPONENTIAL, {1, 2, 4, 8, 16, 32, 64, 128}},
        {BACKOFF_LINEAR, {1, 2, 3, 4, 5, 6, 7, 8}},
        {BACKOFF_FIXED, {1, 1, 1, 1, 1, 1, 1, 1}},
        {BACKOFF_FIBONACCI, {1, 1, 2, 3, 5, 8, 13, 21}},
        {BACKOFF_ADAPTIVE, {1, 2, 4, 8, 16, 32, 64, 128}},
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        for (int n = 1; n <= 8; n++) {
            rules.strategy = t[i].strategy;
            ck_assert_int_eq(retry_delay(&rules, n, 0, 0, &rng), t[i].want[n - 1] * rules.base_delay);
        }
}
END_TEST

START_TEST(adaptive_spreads_by_the_failure_rate)
{
    rules.strategy = BACKOFF_ADAPTIVE;
    ck_assert_int_eq(retry_delay(&rules, 1, 0, 0.5, &rng), 200 * TICK_MS);
    ck_assert_int_eq(retry_delay(&rules, 2, 0, 0.75, &rng), 800 * TICK_MS);
    ck_assert_int_eq(retry_delay(&rules, 1, 0, 1, &rng), TICK_S); /* at most tenfold */
}
END_TEST

START_TEST(no_delay_overflows_or_passes_the_cap)
{
    static const tick_t bases[] = {0, 1, 100 * TICK_MS, TICK_S, TICK_NEVER / 2, TICK_NEVER};
    static const tick_t caps[] = {0, 1, 60 * TICK_S, TICK_NEVER};
    static const int attempts[] = {-1, 0, 1, 2, 61, 62, 63, 64, 92, 1000, 2147483647};
    for (int s = BACKOFF_EXPONENTIAL; s <= BACKOFF_ADAPTIVE; s++)
        for (int j = JITTER_NONE; j <= JITTER_DECORRELATED; j++)
            for (size_t b = 0; b < ARRAY_LEN(bases); b++)
                for (size_t c = 0; c < ARRAY_LEN(caps); c++)
                    for (size_t n = 0; n < ARRAY_LEN(attempts); n++) {
                        rules.strategy = (enum backoff)s;
                        rules.jitter = (enum jitter)j;
                        rules.base_delay = bases[b];
                        rules.max_delay = caps[c];
                        tick_t d = retry_delay(&rules, attempts[n], bases[b], 0.3, &rng);
                        must(d >= 0 && d <= caps[c]);
                    }
}
END_TEST

START_TEST(full_jitter_is_even_below_the_shape)
{
    rules.jitter = JITTER_FULL;
    double sum = 0;
    tick_t low = TICK_NEVER, high = 0;
    for (int i = 0; i < 10000; i++) {
        tick_t d = retry_delay(&rules, 3, 0, 0, &rng);
        sum += (double)d;
        low = d < low ? d : low;
        high = d > high ? d : high;
    }
    ck_assert(sum / 10000 > 195e6 && sum / 10000 < 205e6);
    ck_assert_int_lt(low, 2 * TICK_MS);
    ck_assert(high > 398 * TICK_MS && high <= 400 * TICK_MS);
}
END_TEST

START_TEST(decorrelated_jitter_grows_from_the_last)
{
    rules.jitter = JITTER_DECORRELATED;
    for (int i = 0; i < 1000; i++) {
        tick_t d = retry_delay(&rules, 1, 0, 0, &rng);
        must(d >= rules.base_delay && d <= 3 * rules.base_delay);
        d = retry_delay(&rules, 2, TICK_S, 0, &rng);
        must(d >= rules.base_delay && d <= 3 * TICK_S);
        d = retry_delay(&rules, 3, 50 * TICK_S, 0, &rng);
        must(d >= rules.base_delay && d <= 60 * TICK_S);
    }
}
END_TEST

/* --- The budget. --- */

START_TEST(budget_is_a_share_plus_a_floor)
{
    for (int i = 0; i < 200; i++)
        retry_budget_request(&budget, now);
    ck_assert_double_eq_tol(retry_budget_left(&budget, now), 32,
                            1e-9); /* a tenth of 200, a tenth of that, and 10 x 1/s */
    int taken = 0;
    while (retry_budget_take(&budget, now))
        taken++;
    ck_assert_int_eq(taken, 32);
    ck_assert_double_eq_tol(retry_budget_left(&budget, now), 0, 1e-9);
    /* After 10 s all is forgotten: the requests, and the retries. */
    ck_assert_double_eq_tol(retry_budget_left(&budget, now + 10 * TICK_S), 10, 1e-9);
}
END_TEST

START_TEST(budget_of_nothing)
{
    retry_budget_init(&budget, 0, 0, now);
    for (int i = 0; i < 1000; i++)
        retry_budget_request(&budget, now);
    ck_assert(!retry_budget_take(&budget, now));
    retry_budget_tune(&budget, 0.01, 0); /* live: the counts stay */
    ck_assert_double_eq_tol(retry_budget_left(&budget, now), 10.1, 1e-9);
    retry_budget_tune(&budget, -1, -1);
    ck_assert_double_eq_tol(retry_budget_left(&budget, now), 0, 1e-9);
}
END_TEST

START_TEST(failure_rate_needs_twenty)
{
    for (int i = 0; i < 19; i++)
        retry_budget_outcome(&budget, false, now);
    ck_assert_double_eq_tol(retry_budget_failure_rate(&budget, now), 0, 1e-9);
    retry_budget_outcome(&budget, true, now);
    ck_assert_double_eq_tol(retry_budget_failure_rate(&budget, now), 0.95, 1e-9);
    ck_assert_double_eq_tol(retry_budget_failure_rate(&budget, now + 11 * TICK_S), 0, 1e-9);
}
END_TEST

/* --- The decision. --- */

START_TEST(says_yes_and_when)
{
    struct retry_verdict v = decide();
    ck_assert_int_eq(v.why, RETRY_YES);
    ck_assert_int_eq(v.delay, 100 * TICK_MS);
    ck_assert_int_eq(v.at, now + 100 * TICK_MS);
    ck_assert(!v.free);
    ck_assert_double_eq_tol(retry_budget_left(&budget, now), 9, 1e-9);
}
END_TEST

START_TEST(statuses_by_the_set)
{
    static const int yes[] = {429, 502, 503, 504}, no[] = {200, 301, 400, 401, 404, 408, 500, 501, 505};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        a_case.status = yes[i];
        ck_assert_str_eq(why(), "yes");
    }
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        a_case.status = no[i];
        ck_assert_str_eq(why(), "final");
    }
    rules.retry_on |= retry_on_status(500);
    a_case.status = 500;
    ck_assert_str_eq(why(), "yes");
    a_case.status = 501; /* any status from 400 to 599 can be asked for */
    ck_assert_str_eq(why(), "final");
    rules.statuses[(501 - 400) / 64] |= UINT64_C(1) << (501 - 400) % 64;
    ck_assert_str_eq(why(), "yes");
    for (size_t i = 0; i < ARRAY_LEN(rules.statuses); i++)
        rules.statuses[i] = UINT64_MAX;
    a_case.status = 599;
    ck_assert_str_eq(why(), "yes");
    a_case.status = 600;
    ck_assert_str_eq(why(), "final");
    a_case.status = 399;
    ck_assert_str_eq(why(), "final");
}
END_TEST

START_TEST(reasons_by_class_and_set)
{
    static const struct {
        enum reason reason;
        const char *get, *post, *cause; /* with bytes sent, when that can be */
        bool sent;
    } t[] = {
        {REASON_CONNECT_FAILED, "yes", "yes", "connect_failure", false},
        {REASON_CONNECT_TIMEOUT, "yes", "yes", "connect_failure", false},
        {REASON_DNS_FAILED, "yes", "yes", "connect_failure", false},
        {REASON_TLS_FAILED, "yes", "yes", "connect_failure", false},
        {REASON_RESET_BEFORE_ANSWER, "yes", "unsafe", "reset", true},
        {REASON_RESET_IN_ANSWER, "yes", "unsafe", "reset", true},
        {REASON_RESPONSE_TIMEOUT, "yes", "unsafe", "timeout", true},
        {REASON_STREAM_IDLE, "yes", "unsafe", "timeout", true},
        {REASON_TLS_CERTIFICATE, "final", "final", "connect_failure", false},
        {REASON_BAD_STATUS_LINE, "final", "final", "other", true},
        {REASON_CLIENT_GONE, "final", "final", "other", true},
        {REASON_BREAKER_OPEN, "final", "final", "other", false},
        {REASON_POOL_TIMEOUT, "final", "final", "other", false},
        {REASON_DEADLINE, "final", "final", "other", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        a_case.reason = t[i].reason;
        a_case.sent = t[i].sent;
        a_case.idempotent = true;
        ck_assert_msg(strcmp(why(), t[i].get) == 0, "GET, %s: %s", reason_row(t[i].reason)->name, why());
        a_case.idempotent = false;
        ck_assert_msg(strcmp(why(), t[i].post) == 0, "POST, %s: %s", reason_row(t[i].reason)->name, why());
        if (strcmp(t[i].get, "yes") == 0)
            ck_assert_str_eq(retry_cause_name(t[i].reason, 0), t[i].cause);
        retry_budget_init(&budget, 0.1, 1, now);
    }
    ck_assert_str_eq(retry_cause_name(REASON_NONE, 503), "503");
    ck_assert_str_eq(retry_cause_name(REASON_NONE, 599), "599");
    ck_assert_str_eq(retry_cause_name(REASON_NONE, 418), "other");
    ck_assert_str_eq(retry_cause_name(REASON_BREAKER_OPEN, 0), "other");
    rules.retry_on = retry_on_status(503);
    a_case.reason = REASON_CONNECT_FAILED;
    a_case.sent = false;
    ck_assert_str_eq(why(), "final");
}
END_TEST

START_TEST(a_post_that_was_sent_is_not_repeated)
{
    a_case.idempotent = false;
    ck_assert_str_eq(why(), "unsafe");
    a_case.idempotency_key = true;
    ck_assert_str_eq(why(), "yes");
    a_case.idempotency_key = false;
    a_case.sent = false;
    a_case.reason = REASON_RESET_BEFORE_ANSWER;
    ck_assert_str_eq(why(), "yes");
    /* A row that says unsent does not outweigh bytes that were. */
    a_case.sent = true;
    a_case.reason = REASON_STALE_CONNECTION;
    ck_assert_str_eq(why(), "unsafe");
}
END_TEST

START_TEST(never_after_an_answer_began)
{
    a_case.answer_begun = true;
    ck_assert_str_eq(why(), "answered");
    a_case.reason = REASON_RESET_IN_ANSWER;
    ck_assert_str_eq(why(), "answered");
    a_case.reason = REASON_STALE_CONNECTION;
    ck_assert_str_eq(why(), "answered");
}
END_TEST

START_TEST(body_hint_and_mark)
{
    a_case.replayable = false;
    ck_assert_str_eq(why(), "body");
    a_case.replayable = true;
    a_case.hint = RETRY_HINT_NO;
    ck_assert_str_eq(why(), "hint");
    a_case.hint = RETRY_HINT_NONE;
    a_case.marked = true;
    ck_assert_str_eq(why(), "marked");
    a_case.marked = false;
    a_case.status = 409;
    ck_assert_str_eq(why(), "final");
    a_case.hint = RETRY_HINT_YES;
    ck_assert_str_eq(why(), "yes");
    a_case.status = 200;
    ck_assert_str_eq(why(), "final");
    ck_assert_double_eq_tol(retry_budget_left(&budget, now), 9, 1e-9); /* a no takes nothing */
}
END_TEST

START_TEST(dead_pooled_connection_is_replaced_once_for_free)
{
    retry_budget_init(&budget, 0, 0, now);
    a_case.attempts = rules.max_attempts; /* not even that matters */
    a_case.pooled = true;
    a_case.reason = REASON_RESET_BEFORE_ANSWER;
    struct retry_verdict v = decide();
    ck_assert_int_eq(v.why, RETRY_YES);
    ck_assert(v.free);
    ck_assert_int_eq(v.at, now);
    a_case.replaced = 1;
    ck_assert_str_eq(why(), "attempts");
    a_case.replaced = 0;
    a_case.pooled = false; /* a fresh connection that resets is the upstream's word */
    ck_assert_str_eq(why(), "attempts");
    a_case.reason = REASON_STALE_CONNECTION;
    a_case.sent = false;
    a_case.idempotent = false;
    ck_assert_str_eq(why(), "yes");
    a_case.replayable = false;
    ck_assert_str_eq(why(), "body");
    a_case.replayable = true;
    a_case.deadline = now;
    ck_assert_str_eq(why(), "time");
    rules.retry_on = 0; /* replacing is the pool's repair, not a retry */
    a_case.deadline = TICK_NEVER;
    ck_assert(decide().free);
}
END_TEST

START_TEST(bounds)
{
    a_case.attempts = 3;
    ck_assert_str_eq(why(), "attempts");
    a_case.attempts = 2;
    ck_assert_str_eq(why(), "yes");
    rules.max_attempts = 1;
    a_case.attempts = 1;
    ck_assert_str_eq(why(), "attempts");
    rules.max_attempts = 3;
    retry_budget_tune(&budget, 0, 0);
    ck_assert_str_eq(why(), "budget");
}
END_TEST

START_TEST(no_retries_while_most_fail)
{
    for (int i = 0; i < 10; i++)
        retry_budget_outcome(&budget, true, now);
    for (int i = 0; i < 10; i++)
        retry_budget_outcome(&budget, false, now);
    ck_assert_str_eq(why(), "yes");
    retry_budget_outcome(&budget, false, now);
    ck_assert_str_eq(why(), "unhealthy");
    rules.success_rate_threshold = 0;
    ck_assert_str_eq(why(), "yes");
}
END_TEST

START_TEST(time_bounds)
{
    a_case.deadline = now + 100 * TICK_MS;
    ck_assert_str_eq(why(), "time"); /* it would start at the deadline */
    a_case.deadline++;
    ck_assert_str_eq(why(), "yes");
    a_case.typical = 50 * TICK_MS;
    ck_assert_str_eq(why(), "time"); /* it could not end before it */
    a_case.deadline = now + 150 * TICK_MS;
    ck_assert_str_eq(why(), "yes");
    a_case.deadline = TICK_NEVER;
    a_case.began = now - 30 * TICK_S;
    ck_assert_str_eq(why(), "time"); /* max_total_time */
    rules.max_total_time = 0;
    ck_assert_str_eq(why(), "yes");
    a_case.deadline = now - TICK_S;
    ck_assert_str_eq(why(), "time");
    a_case.deadline = 0;
    ck_assert_str_eq(why(), "time");
}
END_TEST

START_TEST(retry_after_is_obeyed)
{
    a_case.retry_after = 5 * TICK_S;
    ck_assert_int_eq(decide().delay, 5 * TICK_S);
    a_case.retry_after = 50 * TICK_MS; /* shorter than our own */
    ck_assert_int_eq(decide().delay, 100 * TICK_MS);
    a_case.retry_after = 61 * TICK_S;
    ck_assert_str_eq(why(), "retry_after");
    a_case.retry_after = 29 * TICK_S;
    ck_assert_str_eq(why(), "yes");
    a_case.retry_after = 30 * TICK_S;
    ck_assert_str_eq(why(), "time");
    rules.jitter = JITTER_FULL; /* not all at the same instant, and never before */
    a_case.retry_after = 2 * TICK_S;
    for (int i = 0; i < 100; i++) {
        tick_t d = retry_decide(&rules, &a_case, &budget, &rng, now + i * 10 * TICK_S).delay;
        ck_assert(d == 0 || (d >= 2 * TICK_S && d <= 2 * TICK_S + rules.base_delay));
    }
}
END_TEST

START_TEST(retry_after_forms)
{
    tick_t hour = 3600 * TICK_S;
    ck_assert_int_eq(retry_after_delta(SLICE("0"), hour), 0);
    ck_assert_int_eq(retry_after_delta(SLICE("120"), hour), 120 * TICK_S);
    ck_assert_int_eq(retry_after_delta(SLICE("007"), hour), 7 * TICK_S);
    ck_assert_int_eq(retry_after_delta(SLICE("99999"), hour), hour);
    ck_assert_int_eq(retry_after_delta(SLICE("99999999999999999999999999999999999999"), hour), hour);
    static const char *const bad[] = {
        "", "-1", "+1", "1.5", " 1", "1 ", "1s", "0x10", "Fri, 31 Dec 1999 23:59:59 GMT"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_int_eq(retry_after_delta((struct slice){bad[i], strlen(bad[i])}, hour), -1);
    ck_assert_int_eq(retry_after_delta(SLICE("99999999999999999999999999999999999x"), hour), -1);
    ck_assert_int_eq(retry_after_date(1000, 940, hour), 60 * TICK_S);
    ck_assert_int_eq(retry_after_date(1000, 1000, hour), 0);
    ck_assert_int_eq(retry_after_date(1000, 2000, hour), 0);
    ck_assert_int_eq(retry_after_date(100000, 0, hour), hour);
    ck_assert_int_eq(retry_after_date(INT64_MAX, INT64_MIN, hour), hour);
    ck_assert_int_eq(retry_after_date(INT64_MIN, INT64_MAX, hour), 0);
}
END_TEST

/* --- Random cases: what INTERFACE.md promises, whatever the case. --- */

static void random_case(struct rng *r)
{
    static const int statuses[] = {200, 404, 408, 429, 500, 502, 503, 504};
    a_case = (struct retry_case){
        .reason = rng_below(r, 2) ? REASON_NONE : (enum reason)rng_below(r, REASON_COUNT),
        .status = statuses[rng_below(r, ARRAY_LEN(statuses))],
        .attempts = (int)rng_range(r, 1, 4),
        .replaced = (int)rng_below(r, 2),
        .idempotent = rng_below(r, 2),
        .idempotency_key = rng_below(r, 4) == 0,
        .sent = rng_below(r, 2),
        .pooled = rng_below(r, 2),
        .replayable = rng_below(r, 4) != 0,
        .answer_begun = rng_below(r, 4) == 0,
        .marked = rng_below(r, 8) == 0,
        .hint = (enum retry_hint)rng_below(r, 3),
        .began = now - rng_range(r, 0, 40 * TICK_S),
        .deadline = rng_below(r, 2) ? TICK_NEVER : now + rng_range(r, -TICK_S, 5 * TICK_S),
        .typical = rng_range(r, 0, TICK_S),
        .retry_after = rng_below(r, 2) ? -1 : rng_range(r, 0, 100 * TICK_S),
        .last_delay = rng_range(r, 0, TICK_S),
    };
}

START_TEST(random_cases_keep_the_promises)
{
    int yes = 0, free_ones = 0;
    for (int i = 0; i < 200000; i++) {
        random_case(&rng);
        if (i % 100 == 0)
            retry_budget_init(&budget, 0.1, 1, now);
        rules.strategy = (enum backoff)rng_below(&rng, 5);
        rules.jitter = (enum jitter)rng_below(&rng, 3);
        double before = retry_budget_left(&budget, now);
        struct retry_verdict v = decide();
        double took = before - retry_budget_left(&budget, now);
        must((unsigned)v.why < RETRY_WHY_COUNT);
        if (v.why != RETRY_YES) {
            must(took == 0 && !v.free);
            continue;
        }
        yes++;
        free_ones += v.free;
        must(took == (v.free ? 0 : 1));
        must(!a_case.answer_begun && a_case.replayable);
        must(!a_case.sent || a_case.idempotent || a_case.idempotency_key);
        must(a_case.attempts < rules.max_attempts || v.free);
        must(v.at >= now && v.at < a_case.deadline);
        must(v.at < a_case.began + rules.max_total_time);
        must(v.free || v.delay >= a_case.retry_after);
        must(!v.free || a_case.replaced == 0);
        must(a_case.reason == REASON_NONE || reason_row(a_case.reason)->retry != RETRY_NEVER);
    }
    ck_assert_int_gt(yes, 1000);
    ck_assert_int_gt(free_ones, 100);
}
END_TEST

START_TEST(typical_is_the_median)
{
    uint32_t t = retry_typical(0, 7 * TICK_MS);
    ck_assert_uint_eq(t, 7000);
    double sum = 0;
    for (int i = 0; i < 20000; i++) { /* exponential, mean 100 ms: the median is 69.3 ms */
        t = retry_typical(t, (tick_t)(-100e6 * log(1 - rng_double(&rng))));
        sum += i >= 10000 ? t : 0;
    }
    ck_assert_double_eq_tol(sum / 10000, 69300, 5000);
    for (int i = 0; i < 200; i++)
        t = retry_typical(t, 0);
    ck_assert_uint_ge(t, 1);
    for (int i = 0; i < 2000; i++)
        t = retry_typical(t, TICK_NEVER);
    ck_assert_uint_le(t, UINT32_MAX / 2);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("retry");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, words_and_statuses);
    tcase_add_test(t, shapes);
    tcase_add_test(t, adaptive_spreads_by_the_failure_rate);
    tcase_add_test(t, no_delay_overflows_or_passes_the_cap);
    tcase_add_test(t, full_jitter_is_even_below_the_shape);
    tcase_add_test(t, decorrelated_jitter_grows_from_the_last);
    tcase_add_test(t, budget_is_a_share_plus_a_floor);
    tcase_add_test(t, budget_of_nothing);
    tcase_add_test(t, failure_rate_needs_twenty);
    tcase_add_test(t, says_yes_and_when);
    tcase_add_test(t, statuses_by_the_set);
    tcase_add_test(t, reasons_by_class_and_set);
    tcase_add_test(t, a_post_that_was_sent_is_not_repeated);
    tcase_add_test(t, never_after_an_answer_began);
    tcase_add_test(t, body_hint_and_mark);
    tcase_add_test(t, dead_pooled_connection_is_replaced_once_for_free);
    tcase_add_test(t, bounds);
    tcase_add_test(t, no_retries_while_most_fail);
    tcase_add_test(t, time_bounds);
    tcase_add_test(t, retry_after_is_obeyed);
    tcase_add_test(t, retry_after_forms);
    tcase_add_test(t, typical_is_the_median);
    tcase_add_test(t, random_cases_keep_the_promises);
    return run_case("policy/retry", t);
}
