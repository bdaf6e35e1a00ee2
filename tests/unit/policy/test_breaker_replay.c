/* policy/breaker_replay.c: what passes before a circuit opens counts once an outage. */
#include "policy/breaker_replay.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { N = 1000 };
static struct breaker_replay *r;
static struct breaker_rules rules;
static struct replay_call calls[N];
static struct replay_event room[2 * N];

static void set_up(void)
{
    r = calloc(1, sizeof *r);
    ck_assert_ptr_nonnull(r);
    breaker_replay_init(r, 1);
    rules = (struct breaker_rules){.consecutive = 5,
                                   .failure_rate = 0.5,
                                   .window = 10 * TICK_S,
                                   .minimum_requests = 20,
                                   .open_time = 30 * TICK_S,
                                   .open_max = 60 * TICK_S,
                                   .probes = 1};
}

static void tear_down(void)
{
    free(r);
}

/* One after the other, each 10 ms, from `from` on. The share of their time that is saved. */
static double stretch(tick_t from, enum breaker_outcome outcome, uint16_t circuit)
{
    for (int i = 0; i < N; i++)
        calls[i] = (struct replay_call){.began = from + i * 10 * TICK_MS,
                                        .ended = from + (i + 1) * 10 * TICK_MS,
                                        .took = 10 * TICK_MS,
                                        .circuit = circuit,
                                        .outcome = (uint8_t)outcome};
    return (double)breaker_replay_run(r, &rules, calls, N, room) / (10.0 * TICK_MS * N);
}

START_TEST(an_outage_over_many_stretches)
{
    double share = stretch(1000 * TICK_S, BREAKER_FAILURE, 1);
    ck_assert_double_eq_tol(share, 1 - 5.0 / N, 0.0011); /* five pass */
    share = stretch(1010 * TICK_S, BREAKER_FAILURE, 1);
    ck_assert_double_eq(share, 1); /* none passes */
    share = stretch(1020 * TICK_S, BREAKER_FAILURE, 1);
    ck_assert_double_ge(share, 1 - 2.0 / N); /* at most the probe */
}
END_TEST

START_TEST(those_under_way_pass_too)
{
    for (int i = 0; i < 100; i++) /* all at once, each a second long */
        calls[i] = (struct replay_call){
            .began = TICK_S, .ended = 2 * TICK_S, .took = TICK_S, .outcome = BREAKER_FAILURE};
    ck_assert_int_eq(breaker_replay_run(r, &rules, calls, 100, room), 0);
}
END_TEST

START_TEST(circuits_are_apart_and_the_rest_is_quiet)
{
    ck_assert_double_gt(stretch(1000 * TICK_S, BREAKER_FAILURE, 1), 0.9);
    ck_assert_double_eq(stretch(1000 * TICK_S, BREAKER_OK, 2), 0);
    ck_assert_double_eq(stretch(1000 * TICK_S, BREAKER_THROTTLED, 3), 0);
    ck_assert_double_eq(stretch(1000 * TICK_S, BREAKER_IGNORED, 9999), 0);
    ck_assert_int_eq(breaker_replay_run(r, &rules, calls, 0, room), 0);
}
END_TEST

/* The wall clock was set back by a day: what is open then would stay so for a day. */
START_TEST(a_clock_that_is_set_back)
{
    ck_assert_double_gt(stretch(90000 * TICK_S, BREAKER_FAILURE, 1), 0.9);
    ck_assert_double_eq(stretch(1000 * TICK_S, BREAKER_OK, 1), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("breaker_replay");
    TCase *t = tcase_create("breaker_replay");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, an_outage_over_many_stretches);
    tcase_add_test(t, those_under_way_pass_too);
    tcase_add_test(t, circuits_are_apart_and_the_rest_is_quiet);
    tcase_add_test(t, a_clock_that_is_set_back);
    suite_add_tcase(s, t);
    SRunner *run = srunner_create(s);
    srunner_run_all(run, CK_NORMAL);
    int failed = srunner_ntests_failed(run);
    srunner_free(run);
    return failed > 0;
}
