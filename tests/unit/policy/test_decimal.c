/* Tests of policy/decimal.h. */
#include <stdio.h>
#include <string.h>

#include "policy/decimal.h"
#include "tests/unit/policy/harness.h"

static void same_as_printf(uint64_t v)
{
    char got[DECIMAL_MAX + 1], expected[DECIMAL_MAX + 2];
    size_t n = (size_t)snprintf(expected, sizeof expected, "%llu", (unsigned long long)v);
    got[DECIMAL_MAX] = '!';
    ck_assert_uint_eq(decimal_write(got, v), n);
    ck_assert_mem_eq(got, expected, n);
    ck_assert(got[DECIMAL_MAX] == '!');
}

START_TEST(around_every_power_of_ten)
{
    uint64_t power = 1;
    for (int i = 0; i < DECIMAL_MAX; i++, power *= 10)
        for (uint64_t d = 0; d < 3; d++)
            same_as_printf(power - 1 + d);
    same_as_printf(UINT64_MAX);
    same_as_printf(UINT64_MAX - 1);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("decimal");
    tcase_add_test(t, around_every_power_of_ten);
    return run_case("policy/decimal", t);
}
