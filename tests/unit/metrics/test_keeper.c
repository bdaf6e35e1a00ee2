/*
 * metrics/keeper.c: what is kept, and what pushes it out.
 */
#include "metrics/keeper.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define SECOND INT64_C(1000000000)
#define ALL    (UINT64_C(1) << 32)

static void see(struct keeper *k, int64_t ended, int64_t total, uint64_t sample, bool failed)
{
    struct observation o = {.status = failed ? 503 : 200, .ended_wall = ended, .total = total};
    keeper_see(k, &o, sample, failed);
}

/* How many are kept for `why`, and the fastest of them. */
static size_t count(const struct keeper *k, uint8_t why, int64_t *fastest)
{
    struct observation o;
    size_t n = 0;
    *fastest = INT64_MAX;
    for (size_t i = 0; i < keeper_places(k); i++)
        if (keeper_at(k, i, &o) && o.kept & why) {
            n++;
            if (o.total < *fastest)
                *fastest = o.total;
        }
    return n;
}

START_TEST(slow_and_failed_ones_outlive_fast_ones)
{
    struct keeper *k = keeper_new(100);
    int64_t fastest;
    for (int i = 0; i < KEEPER_SLOW; i++)
        see(k, SECOND, 1000000 + i, ALL, false);
    for (int i = 0; i < 10; i++)
        see(k, SECOND, 5, ALL, true);
    for (int i = 0; i < 100000; i++)
        see(k, 2 * SECOND, 10, ALL, false);
    ck_assert_uint_eq(count(k, KEPT_FAILED, &fastest), 10);
    ck_assert_int_eq(fastest, 5);
    struct observation o;
    size_t slow = 0, sampled = 0;
    for (size_t i = 0; i < keeper_places(k); i++) {
        if (!keeper_at(k, i, &o))
            continue;
        slow += o.total >= 1000000;
        sampled += o.total == 10 && o.kept == KEPT_SAMPLE;
    }
    ck_assert_uint_eq(slow, KEEPER_SLOW);
    ck_assert_uint_eq(sampled, 100);
    keeper_free(k);
}
END_TEST

START_TEST(the_slowest_of_each_five_minutes)
{
    struct keeper *k = keeper_new(1);
    int64_t fastest;
    for (int i = 1; i <= 1000; i++)
        see(k, SECOND, i, 0, false);
    count(k, KEPT_SLOW, &fastest);
    struct observation o;
    size_t best = 0;
    for (size_t i = 0; i < keeper_places(k); i++)
        best += keeper_at(k, i, &o) && o.total > 1000 - KEEPER_SLOW;
    ck_assert_uint_eq(best, KEEPER_SLOW);
    see(k, 400 * SECOND, 7, 0, false); /* the next set: the one before stays */
    ck_assert_uint_eq(count(k, KEPT_SLOW, &fastest), KEEPER_SLOW + 1);
    see(k, 700 * SECOND, 8, 0, false);
    ck_assert_uint_eq(count(k, KEPT_SLOW, &fastest), 2);
    ck_assert_int_eq(fastest, 7);
    keeper_free(k);
}
END_TEST

START_TEST(a_share_is_sampled)
{
    struct keeper *k = keeper_new(100000);
    for (int i = 0; i < 100000; i++)
        see(k, SECOND, 0, ALL / 10, false);
    uint64_t n = ring_count(keeper_sample(k));
    ck_assert_uint_ge(n, 9500);
    ck_assert_uint_le(n, 10500);
    keeper_free(k);
    k = keeper_new(10);
    for (int i = 0; i < 1000; i++)
        see(k, SECOND, 0, 0, false);
    ck_assert_uint_eq(ring_count(keeper_sample(k)), 0);
    keeper_free(k);
}
END_TEST

START_TEST(phases_are_not_those_of_who_was_there_before)
{
    struct keeper *k = keeper_new(1);
    struct observation o = {.status = 200, .total = 5, .detailed = 1, .body = 7, .attempts = 1};
    keeper_see(k, &o, ALL, false);
    struct observation hit = {.status = 200, .total = 1};
    keeper_see(k, &hit, ALL, false);
    struct observation got;
    ck_assert(ring_get(keeper_sample(k), 1, &got));
    ck_assert_int_eq(got.body, 0);
    ck_assert_int_eq(got.total, 1);
    keeper_free(k);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("metrics/keeper");
    TCase *t = tcase_create("keeper");
    tcase_add_test(t, slow_and_failed_ones_outlive_fast_ones);
    tcase_add_test(t, the_slowest_of_each_five_minutes);
    tcase_add_test(t, a_share_is_sampled);
    tcase_add_test(t, phases_are_not_those_of_who_was_there_before);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
