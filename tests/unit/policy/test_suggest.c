/* policy/suggest.c: distances, and which candidate is taken. */
#include "policy/suggest.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(distances)
{
    ck_assert_uint_eq(suggest_distance("", ""), 0);
    ck_assert_uint_eq(suggest_distance("abc", ""), 3);
    ck_assert_uint_eq(suggest_distance("abc", "abc"), 0);
    ck_assert_uint_eq(suggest_distance("abc", "abd"), 1);
    ck_assert_uint_eq(suggest_distance("abc", "ac"), 1);
    ck_assert_uint_eq(suggest_distance("ac", "abc"), 1);
    ck_assert_uint_eq(suggest_distance("abcd", "abdc"), 1);
    ck_assert_uint_eq(suggest_distance("kitten", "sitting"), 3);
    ck_assert_uint_eq(suggest_distance("kitten", "sitting"), suggest_distance("sitting", "kitten"));
}
END_TEST

START_TEST(too_long_is_far)
{
    char a[SUGGEST_MAX_LENGTH + 2];
    memset(a, 'x', sizeof a);
    a[SUGGEST_MAX_LENGTH] = '\0';
    ck_assert_uint_eq(suggest_distance(a, ""), SUGGEST_MAX_LENGTH);
    a[SUGGEST_MAX_LENGTH] = 'x';
    a[SUGGEST_MAX_LENGTH + 1] = '\0';
    ck_assert_uint_eq(suggest_distance(a, ""), SIZE_MAX);
    ck_assert_uint_eq(suggest_distance("", a), SIZE_MAX);
}
END_TEST

START_TEST(nearest_is_taken)
{
    struct suggestion s = {.typed = "adaptve"};
    ck_assert(!suggest_offer(&s, "fixed"));
    ck_assert_ptr_null(s.best);
    ck_assert(suggest_offer(&s, "adoptive"));
    ck_assert(suggest_offer(&s, "adaptive"));
    ck_assert(!suggest_offer(&s, "adaptives"));
    ck_assert_str_eq(s.best, "adaptive");
    ck_assert_uint_eq(s.distance, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("suggest");
    TCase *t = tcase_create("suggest");
    suite_add_tcase(s, t);
    tcase_add_test(t, distances);
    tcase_add_test(t, too_long_is_far);
    tcase_add_test(t, nearest_is_taken);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
