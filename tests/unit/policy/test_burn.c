/* Tests of policy/burn.c: the sums are those of the windows, and old time counts nothing. */
#include "policy/burn.h"

#include <math.h>

#include "tests/unit/policy/harness.h"

static struct burn b;

START_TEST(knows_nothing_without_requests)
{
    burn_init(&b, 0);
    ck_assert(isnan(burn_rate(&b, 3600 * TICK_S, 0.999, 0, 0)));
    burn_add(&b, 5, 5, 0);
    ck_assert(isnan(burn_rate(&b, 3600 * TICK_S, 0.999, 10, 0)));
    burn_add(&b, 90, 90, 0); /* enough for the short windows, too little for the long ones */
    for (int p = 0; p < BURN_PAIRS; p++)
        ck_assert(isnan(burn_pair(&b, p, 0.999, 0)));
}
END_TEST

START_TEST(rates_are_of_sums)
{
    tick_t now = 5 * TICK_S;
    burn_init(&b, now);
    for (int i = 0; i < 3600; i++, now += 10 * TICK_S) /* ten hours: 1 % for the last hour */
        burn_add(&b, 100, i >= 3240, now);
    now -= 10 * TICK_S;
    ck_assert_double_eq_tol(burn_rate(&b, 300 * TICK_S, 0.999, 1, now), 10, 1e-6);
    ck_assert_double_eq_tol(burn_rate(&b, 3600 * TICK_S, 0.999, 1, now), 10, 1e-6);
    ck_assert_double_eq_tol(burn_rate(&b, 7200 * TICK_S, 0.999, 1, now), 5, 1e-6);
    ck_assert_double_eq_tol(burn_rate(&b, 72 * 3600 * TICK_S, 0.999, 1, now), 1, 1e-6);
    ck_assert_double_eq_tol(burn_pair(&b, BURN_FAST, 0.999, now), 10, 1e-6);
    ck_assert_double_eq_tol(burn_pair(&b, BURN_SLOW, 0.999, now), 10.0 / 6, 1e-6);
    ck_assert_double_eq_tol(burn_pair(&b, BURN_TICKET, 0.999, now), 1, 1e-6);
    /* Five minutes later without a request nothing is known of the short window. */
    ck_assert(isnan(burn_pair(&b, BURN_FAST, 0.999, now + 310 * TICK_S)));
}
END_TEST

START_TEST(time_goes_on)
{
    burn_init(&b, 0);
    burn_add(&b, 100, 100, 0);
    burn_add(&b, 100, 0, 30 * TICK_S);
    burn_add(&b, 100, 0, 10 * TICK_S); /* back: counted where it is now */
    ck_assert_double_eq_tol(burn_rate(&b, 300 * TICK_S, 0.9, 1, 30 * TICK_S), 10.0 / 3, 1e-6);
    ck_assert_double_eq_tol(burn_rate(&b, 300 * TICK_S, 0.9, 1, 320 * TICK_S), 0, 1e-6);
    tick_t day = 86400 * TICK_S;
    ck_assert(isnan(burn_rate(&b, 3 * day, 0.9, 1, 4 * day)));
    ck_assert(isnan(burn_rate(&b, 300 * TICK_S, 0.9, 1, 4 * day)));
    burn_add(&b, 10, 1, 4 * day);
    ck_assert_double_eq_tol(burn_rate(&b, 3 * day, 0.9, 1, 4 * day), 1, 1e-6);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("burn");
    tcase_add_test(t, knows_nothing_without_requests);
    tcase_add_test(t, rates_are_of_sums);
    tcase_add_test(t, time_goes_on);
    return run_case("burn", t);
}
