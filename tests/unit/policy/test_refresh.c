/* Tests of policy/refresh.c. */
#include "policy/refresh.h"
#include "tests/unit/policy/harness.h"

START_TEST(before_the_end_and_at_random)
{
    struct rng rng;
    tick_t least = TICK_NEVER, most = 0;
    rng_seed(&rng, 1);
    for (int i = 0; i < 1000; i++) {
        tick_t lead = refresh_lead(60 * TICK_S, 100 * TICK_MS, &rng);
        least = lead < least ? lead : least;
        most = lead > most ? lead : most;
    }
    must(least >= 400 * TICK_MS && least < 500 * TICK_MS);
    must(most > 6 * TICK_S && most <= 6400 * TICK_MS);
}
END_TEST

/* Whatever the numbers: some time is left of the life that has begun, and the lead is never negative. */
START_TEST(bounded)
{
    struct rng rng;
    rng_seed(&rng, 2);
    for (int i = 0; i < 100000; i++) {
        tick_t life = (tick_t)(rng_next(&rng) >> (1 + rng_below(&rng, 60)));
        tick_t took = (tick_t)(rng_next(&rng) >> rng_below(&rng, 62));
        tick_t lead = refresh_lead(life, took, &rng);
        must(lead >= 0 && lead <= life / 3);
        must((lead == 0) == (life < REFRESH_LEAST_LIFE));
    }
    /* A day: not hours before its end. */
    must(refresh_lead(86400 * TICK_S, TICK_S, &rng) <= 64 * TICK_S);
}
END_TEST

START_TEST(evidence)
{
    static const struct {
        const char *what;
        struct refresh_reads reads;
        bool wanted;
    } rows[] = {
        {"nobody read it", {0, 0, 60 * TICK_S, 0}, false},
        {"nobody read it, however often before", {0, 0, 60 * TICK_S, 9}, false},
        {"twice", {2, TICK_S, 60 * TICK_S, 0}, true},
        {"once, half-way", {1, 30 * TICK_S, 30 * TICK_S, 0}, true},
        {"once, at the very beginning", {1, TICK_S, 59 * TICK_S, 0}, false},
        {"once, as the version before", {1, TICK_S, 59 * TICK_S, 1}, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_msg(refresh_wanted(&rows[i].reads) == rows[i].wanted, "%s", rows[i].what);
}
END_TEST

/* In vain: the burst, then a tenth of all that goes up. Of use: without end. */
START_TEST(budget)
{
    struct refresh_budget b = {REFRESH_BURST};
    unsigned taken = 0;
    while (refresh_budget_take(&b, 0.1))
        taken++;
    must(taken >= REFRESH_BURST && taken <= REFRESH_BURST * 1.2);
    refresh_budget_earn(&b, 0.1, 1000);
    for (taken = 0; refresh_budget_take(&b, 0.1);)
        taken++;
    must(taken >= 100 && taken <= 112);
    refresh_budget_give(&b);
    for (int i = 0; i < 1000; i++) {
        must(refresh_budget_take(&b, 0.1));
        refresh_budget_give(&b);
    }
    must(b.left <= REFRESH_BURST);
    must(!refresh_budget_take(&b, 0));
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("refresh");
    tcase_add_test(t, before_the_end_and_at_random);
    tcase_add_test(t, bounded);
    tcase_add_test(t, evidence);
    tcase_add_test(t, budget);
    return run_case("policy/refresh", t);
}
