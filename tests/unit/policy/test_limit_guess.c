/* Limits that nobody states: what is believed of them from accepted and refused calls. */
#include "policy/limit_guess.h"

#include "policy/rng.h"
#include "tests/unit/policy/harness.h"

static const struct limit_clock exact = {0, 0};

static void accepted(struct limit_log *l, double at, int calls, double each)
{
    for (int i = 0; i < calls; i++) {
        tick_t t = (tick_t)((at + i * each) * (double)TICK_S);
        limit_log_accepted(l, t, t + 2 * TICK_MS);
    }
}

static void refused(struct limit_log *l, double at)
{
    tick_t t = (tick_t)(at * (double)TICK_S);
    limit_log_refused(l, t, t + 2 * TICK_MS);
}

START_TEST(nothing_refused_says_nothing)
{
    struct limit_log l = {0};
    accepted(&l, 1, 50, 0.01);
    ck_assert_int_eq(limit_guess(&l, exact, 0).shape, LIMIT_SHAPE_NONE);
}
END_TEST

START_TEST(a_minute_that_was_spent_and_began_anew)
{
    struct limit_log l = {0};
    accepted(&l, 130, 60, 0.02); /* in the third minute */
    refused(&l, 131.5);
    refused(&l, 140.1);
    refused(&l, 150.1);
    accepted(&l, 180.1, 1, 0);
    struct limit_guess g = limit_guess(&l, exact, 0);
    ck_assert_int_eq(g.shape, LIMIT_SHAPE_FIXED);
    ck_assert_int_eq(g.length, 60 * TICK_S);
    ck_assert_double_eq(g.limit, 60);
}
END_TEST

START_TEST(what_was_accepted_after_a_refusal_refutes_a_window)
{
    struct limit_log l = {0};
    accepted(&l, 121, 10, 0.01);
    refused(&l, 121.2);
    refused(&l, 122.1);
    accepted(&l, 130.1, 10, 0.01); /* the same minute: it is shorter */
    refused(&l, 130.4);
    accepted(&l, 140.1, 10, 0.01);
    struct limit_guess g = limit_guess(&l, exact, 0);
    double rate = g.limit / (double)g.length * (double)TICK_S; /* about one a second, and not ten a minute */
    ck_assert(rate > 0.8 && rate < 1.5);
}
END_TEST

START_TEST(a_bucket_is_told_by_its_flow)
{
    struct limit_log l = {0};
    accepted(&l, 3, 20, 0.005);
    double t = 3.2;
    for (int i = 0; i < 30; i++) { /* one a second, refused when asked earlier */
        refused(&l, t);
        accepted(&l, t + 0.95, 1, 0);
        t += 1;
    }
    struct limit_guess g = limit_guess(&l, exact, 0);
    ck_assert_int_eq(g.shape, LIMIT_SHAPE_BUCKET);
    ck_assert_double_eq_tol(g.limit, 60, 3); /* a minute */
}
END_TEST

START_TEST(only_what_is_faster_when_that_is_asked_for)
{
    struct limit_log l = {0};
    accepted(&l, 121, 30, 0.01);
    refused(&l, 122);
    accepted(&l, 180.1, 1, 0);
    struct limit_guess g = limit_guess(&l, exact, 0), f = limit_guess(&l, exact, 0.6 / (double)TICK_S);
    ck_assert_double_eq_tol(g.limit / (double)g.length * 60 * (double)TICK_S, 30, 1e-6);
    ck_assert(f.shape == LIMIT_SHAPE_NONE || f.limit / (double)f.length > 0.6 / (double)TICK_S);
}
END_TEST

START_TEST(tries_come_behind_round_times_and_end)
{
    struct limit_log l = {0};
    accepted(&l, 127, 5, 0.01);
    refused(&l, 127.5);
    tick_t now = 128 * TICK_S, last = now;
    for (int i = 0; i < 40; i++) {
        tick_t at = limit_probe(&l, exact, now);
        ck_assert_int_gt(at, last);
        last = now = at;
        refused(&l, (double)at / (double)TICK_S);
    }
    ck_assert_int_gt(now, 86400 * TICK_S);
    ck_assert_int_eq(limit_probe(&(struct limit_log){0}, exact, 5), 5);
}
END_TEST

START_TEST(a_long_log_is_joined_and_loses_no_call_of_late)
{
    struct limit_log l = {0};
    for (int i = 0; i < 5000; i++) {
        accepted(&l, 100 + i * 0.1, 1, 0);
        if (i % 7 == 0)
            refused(&l, 100.05 + i * 0.1);
        ck_assert_int_le(l.count, LIMIT_RUNS);
    }
    for (int i = 1; i < l.count; i++)
        ck_assert_int_ge(l.run[i].first, l.run[i - 1].first);
    ck_assert_int_eq(limit_accepted_since(&l, (tick_t)(598.96 * (double)TICK_S)), 10);
}
END_TEST

START_TEST(random_logs_do_no_harm)
{
    struct rng r;
    rng_seed(&r, 7);
    for (int round = 0; round < 200; round++) {
        struct limit_log l = {0};
        tick_t now = (tick_t)(rng_double(&r) * 1e15);
        for (int i = 0; i < 300; i++) {
            tick_t sent = now - (tick_t)(rng_double(&r) * 2e9);
            if (rng_double(&r) < 0.3)
                limit_log_refused(&l, sent, now);
            else
                limit_log_accepted(&l, sent, now);
            if (rng_double(&r) < 0.05)
                limit_log_would_refuse(&l, now + (tick_t)(rng_double(&r) * 1e11));
            now += (tick_t)(rng_double(&r) * rng_double(&r) * 1e10);
        }
        struct limit_guess g = limit_guess(&l, (struct limit_clock){-TICK_S, TICK_S}, 0);
        ck_assert(g.shape == LIMIT_SHAPE_NONE || (g.limit > 0 && g.length > 0));
        ck_assert_int_gt(limit_probe(&l, exact, now), now);
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("limit_guess");
    tcase_add_test(t, nothing_refused_says_nothing);
    tcase_add_test(t, a_minute_that_was_spent_and_began_anew);
    tcase_add_test(t, what_was_accepted_after_a_refusal_refutes_a_window);
    tcase_add_test(t, a_bucket_is_told_by_its_flow);
    tcase_add_test(t, only_what_is_faster_when_that_is_asked_for);
    tcase_add_test(t, tries_come_behind_round_times_and_end);
    tcase_add_test(t, a_long_log_is_joined_and_loses_no_call_of_late);
    tcase_add_test(t, random_logs_do_no_harm);
    return run_case("policy/limit_guess", t);
}
