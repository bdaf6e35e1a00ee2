/*
 * What the unit tests of policy/ share: a Check program of one suite, and an assertion for inner
 * loops (Check's own notes every passed assertion with a system call).
 */
#ifndef TESTS_UNIT_POLICY_HARNESS_H
#define TESTS_UNIT_POLICY_HARNESS_H

#include <check.h>
#include <stdlib.h>

#define must(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            ck_abort_msg("%s", #condition);                                                                  \
    } while (0)

/* Runs one case and gives the exit code. */
static inline int run_case(const char *name, TCase *t)
{
    Suite *s = suite_create(name);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}

#endif
