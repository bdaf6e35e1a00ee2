/*
 * Tests of policy/budget.c: max-min fair parts, bounds, and that random members never leave less than
 * nothing.
 */
#include "policy/budget.h"
#include "policy/rng.h"
#include "tests/unit/policy/harness.h"

START_TEST(who_is_alone_may_have_all)
{
    struct budget_member me = {5, 5, 1000};
    ck_assert_int_eq(budget_target(NULL, 0, &me, 60, -1), 60);
    ck_assert_int_eq(budget_target(NULL, 0, &me, 60, 10), 15); /* the server says that only ten are left */
    me.wants = 3; /* what is over is for it as well, should it want it after all */
    ck_assert_int_eq(budget_target(NULL, 0, &me, 60, -1), 60);
    ck_assert_int_eq(budget_rest(NULL, 0, &me, 60, -1), 55);
}
END_TEST

START_TEST(equal_wishes_equal_parts)
{
    struct budget_member me = {0, 0, 100}, others[2] = {{0, 0, 100}, {0, 0, 500}};
    ck_assert_int_eq(budget_target(others, 2, &me, 60, -1), 20);
    others[0].used = 30; /* what was used is used: the rest is shared */
    ck_assert_int_eq(budget_target(others, 2, &me, 60, -1), 10);
    me.used = 12;
    ck_assert_int_eq(budget_target(others, 2, &me, 60, -1), 12 + 6);
}
END_TEST

START_TEST(who_wants_little_gets_it_and_the_others_share_the_rest)
{
    struct budget_member small = {0, 0, 4}, large = {0, 0, 100};
    struct budget_member seen_by_small[2] = {large, large}, seen_by_large[2] = {small, large};
    ck_assert_int_eq(budget_target(seen_by_small, 2, &small, 60, -1), 4);
    ck_assert_int_eq(budget_target(seen_by_large, 2, &large, 60, -1), 28);
    small.wants = 0; /* the first call after a pause need not wait */
    ck_assert_int_eq(budget_target(seen_by_small, 2, &small, 60, -1), 1);
}
END_TEST

START_TEST(the_last_calls_are_not_lost_by_rounding)
{
    struct budget_member me = {19, 19, 50}, others[2] = {{20, 20, 50}, {20, 20, 50}};
    ck_assert_int_eq(budget_target(others, 2, &me, 60, -1), 20);
    me.used = me.held = 20;
    ck_assert_int_eq(budget_target(others, 2, &me, 60, -1), 20);
    others[0].used = 40; /* more than there is */
    ck_assert_int_eq(budget_target(others, 2, &me, 60, -1), 20);
    ck_assert_int_eq(budget_rest(others, 2, &me, 60, -1), 0);
}
END_TEST

START_TEST(alone)
{
    ck_assert_int_eq(budget_alone(60, 3), 20);
    ck_assert_int_eq(budget_alone(60, 0), 60);
    ck_assert_int_eq(budget_alone(2, 5), 1);
    ck_assert_int_eq(budget_alone(0, 5), 0);
    ck_assert_int_eq(budget_kind_of(TICK_S), BUDGET_RATE);
    ck_assert_int_eq(budget_kind_of(60 * TICK_S), BUDGET_EXACT);
    ck_assert_int_eq(budget_kind_of(3600 * TICK_S), BUDGET_LONG);
}
END_TEST

START_TEST(random_members)
{
    struct rng rng;
    rng_seed(&rng, 7);
    for (int round = 0; round < 100000; round++) {
        struct budget_member m[8];
        int n = 1 + (int)rng_below(&rng, 8);
        int64_t limit = (int64_t)rng_below(&rng, 200), used = 0, sum = 0;
        for (int i = 0; i < n; i++) {
            int64_t u = (int64_t)rng_below(&rng, 30);
            m[i] = (struct budget_member){u, u, (double)rng_below(&rng, 4) * (double)rng_below(&rng, 100)};
            used += u;
        }
        for (int i = 0; i < n; i++) {
            struct budget_member me = m[i], others[8];
            int count = 0;
            for (int k = 0; k < n; k++)
                if (k != i)
                    others[count++] = m[k];
            int64_t target = budget_target(others, count, &me, limit, -1);
            must(target >= me.used);
            must(used > limit || target <= limit);
            sum += target;
        }
        must(used > limit || sum <= limit + 2 * n); /* but for rounding: the ledger sees to that */
        must(used > limit || sum >= limit);         /* nothing is left to nobody */
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("budget");
    tcase_add_test(t, who_is_alone_may_have_all);
    tcase_add_test(t, equal_wishes_equal_parts);
    tcase_add_test(t, who_wants_little_gets_it_and_the_others_share_the_rest);
    tcase_add_test(t, the_last_calls_are_not_lost_by_rounding);
    tcase_add_test(t, alone);
    tcase_add_test(t, random_members);
    return run_case("policy/budget", t);
}
