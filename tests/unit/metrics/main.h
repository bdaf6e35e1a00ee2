/* The main() of a Check program: SUITE(name, test, ...). */
#ifndef TESTS_UNIT_METRICS_MAIN_H
#define TESTS_UNIT_METRICS_MAIN_H

#include "tests/unit/policy/harness.h"

#define SUITE(name, ...)                                                                                     \
    int main(void)                                                                                           \
    {                                                                                                        \
        const TTest *const tests[] = {__VA_ARGS__};                                                          \
        TCase *c = tcase_create("all");                                                                      \
        for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)                                            \
            tcase_add_test(c, tests[i]);                                                                     \
        return run_case(name, c);                                                                            \
    }

#endif
