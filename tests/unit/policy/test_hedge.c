/*
 * Tests of policy/hedge.c: the quantile is right within a bucket, the budget holds, and nothing is sent in
 * trouble.
 */
#include "policy/hedge.h"
#include "policy/rng.h"
#include "tests/unit/policy/harness.h"

static const struct hedge_rules rules = {true, 0.95, 0.05};
static struct hedge h;

START_TEST(knows_nothing_at_first)
{
    hedge_init(&h, &rules);
    ck_assert_int_eq(hedge_request(&h), TICK_NEVER);
    for (int i = 0; i < 99; i++)
        hedge_answered(&h, TICK_MS);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(hedge_request(&h), TICK_NEVER);
}
END_TEST

START_TEST(finds_the_quantile)
{
    struct rng rng;
    rng_seed(&rng, 3);
    hedge_init(&h, &rules);
    for (int i = 0; i < 200000; i++) /* even from 0 to 100 ms: the counts are halved several times */
        hedge_answered(&h, rng_range(&rng, 0, 100 * TICK_MS));
    tick_t q = hedge_quantile(&h, 0.95);
    ck_assert(q >= 94 * TICK_MS && q <= 107 * TICK_MS);
    ck_assert(hedge_quantile(&h, 0.5) >= 49 * TICK_MS && hedge_quantile(&h, 0.5) <= 56 * TICK_MS);
    for (int i = 0; i < 40000; i++) /* the newest matter most */
        hedge_answered(&h, TICK_S);
    ck_assert(hedge_quantile(&h, 0.5) >= TICK_S);
}
END_TEST

START_TEST(extremes)
{
    hedge_init(&h, &rules);
    for (int i = 0; i < 200; i++)
        hedge_answered(&h, i % 2 ? -5 : TICK_NEVER);
    ck_assert(hedge_quantile(&h, 0.9999) > 100 * TICK_S);
    ck_assert(hedge_quantile(&h, 0.01) < TICK_MS);
}
END_TEST

/* Hedges stay within budget x requests + 10, however many want one. */
START_TEST(budget)
{
    uint64_t sent = 0;
    hedge_init(&h, &rules);
    for (int i = 0; i < 200; i++)
        hedge_answered(&h, TICK_MS);
    for (int i = 0; i < 100000; i++) {
        (void)hedge_request(&h);
        sent += hedge_take(&h, true);
        sent += hedge_take(&h, true);
        must((double)sent <= 0.05 * (i + 1) + 10);
    }
    ck_assert(sent > 4900);
}
END_TEST

START_TEST(not_in_trouble)
{
    struct hedge_rules off = rules;
    off.enabled = false;
    hedge_init(&h, &rules);
    for (int i = 0; i < 1000; i++) {
        hedge_answered(&h, TICK_MS);
        (void)hedge_request(&h);
    }
    ck_assert(!hedge_take(&h, false));
    ck_assert(hedge_take(&h, true));
    hedge_tune(&h, &off);
    ck_assert(!hedge_take(&h, true));
    ck_assert_int_eq(hedge_request(&h), TICK_NEVER);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("hedge");
    tcase_add_test(t, knows_nothing_at_first);
    tcase_add_test(t, finds_the_quantile);
    tcase_add_test(t, extremes);
    tcase_add_test(t, budget);
    tcase_add_test(t, not_in_trouble);
    return run_case("policy/hedge", t);
}
