/*
 * What fetches cost: where all cost the same, luck is not taken for a difference; where they differ, the
 * difference is kept; both at once; and what nobody measured is worth the mean.
 */
#include "policy/fetch_cost.h"

#include <math.h>

#include "policy/rng.h"
#include "tests/unit/message.h"

static double normal(struct rng *rng)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += rng_double(rng);
    return sum;
}

static uint64_t hash_of(uint64_t key)
{
    uint64_t hash = (key + 1) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

/* 10,000 fetches of 500 documents whose own costs are spread by `own`, measured with `luck` (deviations of
 * logarithms). Returns the deviation of what the last 2000 are said to cost. */
static double spread_of(double own, double luck, double *share)
{
    struct fetch_cost costs = {0};
    struct rng rng;
    double each[500], sum = 0, squares = 0;
    rng_seed(&rng, 7);
    for (int i = 0; i < 500; i++)
        each[i] = own * normal(&rng);
    for (int i = 0; i < 10000; i++) {
        uint64_t key = rng_below(&rng, 500);
        double cost =
            (double)fetch_cost_note(&costs, hash_of(key), 0.1 * exp(each[key] + luck * normal(&rng)));
        must(cost > 0);
        if (i >= 8000) {
            sum += log(cost);
            squares += log(cost) * log(cost);
        }
    }
    *share = fetch_cost_own(&costs);
    return sqrt(fmax(squares / 2000 - sum / 2000 * (sum / 2000), 0));
}

START_TEST(luck_is_told_from_cost)
{
    static const struct {
        double own, luck, least_share, most_share, least, most;
    } cases[] = {
        {0, 0, 1, 1, 0, 0.001},         /* all alike */
        {0, 0.8, 0, 0.25, 0, 0.2},      /* luck alone */
        {1.5, 0, 0.95, 1, 1.3, 1.7},    /* cost alone */
        {1.2, 0.6, 0.6, 0.95, 0.8, 1.3} /* both */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        double share, spread = spread_of(cases[i].own, cases[i].luck, &share);
        ck_assert_msg(share >= cases[i].least_share && share <= cases[i].most_share, "%zu: share %g", i,
                      share);
        ck_assert_msg(spread >= cases[i].least && spread <= cases[i].most, "%zu: spread %g", i, spread);
    }
}
END_TEST

START_TEST(what_is_not_known_is_worth_the_mean)
{
    struct fetch_cost costs = {0};
    ck_assert_float_eq(fetch_cost_note(&costs, 1, 0), 1);
    for (uint64_t i = 0; i < 100; i++)
        fetch_cost_note(&costs, hash_of(i), i % 2 ? 0.1 : 0.4);
    ck_assert_float_eq_tol(fetch_cost_note(&costs, hash_of(1000), 0), 0.2F, 0.01F);
    ck_assert_float_eq_tol(fetch_cost_of(&costs, 0.2), 0.2F, 0.01F);
    must(fetch_cost_note(&costs, 5, (double)NAN) > 0 && fetch_cost_note(&costs, 5, 1e300) < 1e6F);
}
END_TEST

START_TEST(a_time_that_is_not_new_teaches_nothing)
{
    struct fetch_cost costs = {0}, before;
    for (uint64_t i = 0; i < 100; i++)
        fetch_cost_note(&costs, hash_of(i), 0.1 + (double)i * 0.01);
    before = costs;
    must(fetch_cost_of(&costs, 5) > fetch_cost_of(&costs, 0.01));
    must(memcmp(&before, &costs, sizeof costs) == 0);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("fetch_cost");
    tcase_add_test(t, luck_is_told_from_cost);
    tcase_add_test(t, what_is_not_known_is_worth_the_mean);
    tcase_add_test(t, a_time_that_is_not_new_teaches_nothing);
    return run_case("fetch_cost", t);
}
