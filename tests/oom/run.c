/* Runs scenarios under Check, one child process each, so that a crash of one does not hide the others. */
#include <check.h>
#include <stdlib.h>

#include "tests/oom/inject.h"

static const struct scenario *table; /* of the one suite of this program */

START_TEST(every_allocation)
{
    ck_assert_int_eq(inject_everywhere(table[_i].name, table[_i].run), 0);
}
END_TEST

int inject_main(const char *suite, const struct scenario *scenarios, int count, void (*set_up)(void),
                void (*tear_down)(void))
{
    table = scenarios;
    TCase *t = tcase_create(suite);
    tcase_set_timeout(t, 240);
    if (set_up)
        tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, every_allocation, 0, count);
    Suite *s = suite_create(suite);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
