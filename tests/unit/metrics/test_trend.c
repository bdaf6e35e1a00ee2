/*
 * metrics/trend: values worked out by hand, ties, and how often noise is called a trend.
 */
#include "metrics/trend.h"

#include <check.h>
#include <math.h>
#include <stdint.h>

static uint64_t state = 88172645463325252u;

static double uniform(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(state >> 11) / 9007199254740992.0;
}

static double normal(void)
{
    return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

START_TEST(values_worked_out_by_hand)
{
    struct trend t;
    double rising[10], tied[8] = {1, 1, 2, 3, 3, 3, 4, 5}, same[9] = {0};
    for (int i = 0; i < 10; i++)
        rising[i] = 3 + 2 * i;
    ck_assert(trend_test(rising, 10, &t));
    ck_assert_double_eq_tol(t.s, 45, 1e-9);
    ck_assert_double_eq_tol(t.variance, 125, 1e-9); /* 10 * 9 * 25 / 18 */
    ck_assert_double_eq_tol(t.z, 44 / sqrt(125), 1e-9);
    ck_assert_double_eq_tol(t.p, 8.30e-5, 1e-6);
    ck_assert_double_eq_tol(t.slope, 2, 1e-9);
    ck_assert(trend_test(tied, 8, &t));
    ck_assert_double_eq_tol(t.s, 24, 1e-9); /* 28 pairs, 1 + 3 of them tied */
    ck_assert_double_eq_tol(t.variance, (8 * 7 * 21 - 18 - 66) / 18.0, 1e-9);
    ck_assert(trend_test(same, 9, &t));
    ck_assert_double_eq_tol(t.p, 1, 1e-12);
    ck_assert(!trend_test(rising, TREND_LEAST - 1, &t));
}
END_TEST

/* How many of 400 series without a trend are called one at 5 %. */
static void false_alarms(double memory, int *corrected, int *plain)
{
    *corrected = *plain = 0;
    for (int run = 0; run < 400; run++) {
        double values[100], last = normal();
        struct trend t;
        for (int i = 0; i < 100; i++)
            values[i] = last = memory * last + sqrt(1 - memory * memory) * normal();
        ck_assert(trend_test(values, 100, &t));
        *corrected += t.p < 0.05;
        *plain += erfc(fabs(t.z) * sqrt(t.correction) / sqrt(2)) < 0.05;
    }
}

START_TEST(noise_is_seldom_called_a_trend)
{
    int corrected, plain;
    false_alarms(0, &corrected, &plain);
    ck_assert_int_le(corrected, 44); /* 11 %: the correction itself is estimated */
    ck_assert_int_le(plain, 32);
    false_alarms(0.6, &corrected, &plain);
    ck_assert_int_ge(plain, 100);    /* uncorrected, a quarter and more */
    ck_assert_int_le(corrected, 80); /* the correction is estimated from the same 100 values */
    ck_assert_int_lt(corrected * 2, plain);
}
END_TEST

START_TEST(a_trend_in_noise_is_found)
{
    int found = 0;
    for (int run = 0; run < 100; run++) {
        double values[60];
        struct trend t;
        for (int i = 0; i < 60; i++)
            values[i] = 0.05 * i + normal();
        ck_assert(trend_test(values, 60, &t));
        found += t.p < 0.05 && t.slope > 0;
    }
    ck_assert_int_ge(found, 95);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("trend");
    TCase *t = tcase_create("trend");
    tcase_add_test(t, values_worked_out_by_hand);
    tcase_add_test(t, noise_is_seldom_called_a_trend);
    tcase_add_test(t, a_trend_in_noise_is_found);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
