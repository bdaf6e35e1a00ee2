/* metrics/series.c: counting by key, the bound, and what is folded. */
#include "metrics/series.h"

#include <check.h>
#include <stdlib.h>

static uint64_t count_of(const struct series *s, uint64_t key)
{
    for (size_t i = 0; i < series_places(s); i++) {
        uint64_t k, n;
        if (series_at(s, i, &k, &n) && k == key)
            return n;
    }
    return 0;
}

static size_t taken(const struct series *s)
{
    size_t places = 0;
    uint64_t k, n;
    for (size_t i = 0; i < series_places(s); i++)
        places += series_at(s, i, &k, &n);
    return places;
}

START_TEST(counts_by_key)
{
    struct series *s = series_new(8);
    ck_assert_ptr_nonnull(s);
    for (uint64_t i = 0; i < 100; i++)
        ck_assert(series_add(s, 1 + i % 5, 2));
    for (uint64_t k = 1; k <= 5; k++)
        ck_assert_uint_eq(count_of(s, k), 40);
    ck_assert_uint_eq(taken(s), 5);
    series_free(s);
}
END_TEST

START_TEST(beyond_the_bound_all_is_folded)
{
    struct series *s = series_new(1024);
    size_t folded = 0;
    for (uint64_t k = 1; k <= 5000; k++)
        folded += !series_add(s, k, 1);
    ck_assert_uint_eq(folded, 5000 - 1024);
    ck_assert_uint_eq(count_of(s, SERIES_OTHER), folded);
    ck_assert_uint_eq(taken(s), 1025);
    ck_assert(series_add(s, 17, 1)); /* who is in stays in */
    ck_assert_uint_eq(count_of(s, 17), 2);
    ck_assert(!series_add(s, 6000, 3));
    ck_assert_uint_eq(count_of(s, SERIES_OTHER), folded + 3);
    series_free(s);
}
END_TEST

START_TEST(merging_adds_equal_keys)
{
    struct series_count c[] = {{5, 1}, {2, 10}, {5, 2}, {SERIES_OTHER, 1}, {2, 1}, {SERIES_OTHER, 7}};
    ck_assert_uint_eq(series_merge(c, 6), 3);
    ck_assert(c[0].key == 2 && c[0].count == 11);
    ck_assert(c[1].key == 5 && c[1].count == 3);
    ck_assert(c[2].key == SERIES_OTHER && c[2].count == 8);
    ck_assert_uint_eq(series_merge(c, 0), 0);
}
END_TEST

START_TEST(silly_sizes_are_refused)
{
    ck_assert_ptr_null(series_new(0));
    ck_assert_ptr_null(series_new(65537));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("series");
    TCase *t = tcase_create("series");
    tcase_add_test(t, counts_by_key);
    tcase_add_test(t, beyond_the_bound_all_is_folded);
    tcase_add_test(t, merging_adds_equal_keys);
    tcase_add_test(t, silly_sizes_are_refused);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
