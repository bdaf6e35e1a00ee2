/* Tests of policy/experiment.c: what is kept, what is broken off, and what says nothing. */
#include "policy/experiment.h"

#include "tests/unit/policy/harness.h"

static struct experiment e;

static struct experiment_slice slice(uint64_t requests, uint64_t failed, double latency, double cost)
{
    double n = (double)requests;
    return (struct experiment_slice){requests, failed, latency * n, latency * latency * n * 1.1, cost * n};
}

static void pairs(int n, double before, double after, double wobble)
{
    for (int i = 0; i < n; i++) {
        struct experiment_slice old = slice(100, 0, 0.1, before),
                                new = slice(100, 0, 0.1, after + (i % 2 ? wobble : -wobble));
        ck_assert(experiment_pair(&e, &old, &new));
    }
}

START_TEST(better_is_kept_after_all_pairs)
{
    double mean, margin;
    experiment_begin(&e, 0.02);
    experiment_measured(&e, &mean, &margin);
    ck_assert(mean == 0 && margin == 1);
    pairs(EXPERIMENT_PAIRS - 1, 1, 0.8, 0.02);
    ck_assert_int_eq(experiment_verdict(&e), EXPERIMENT_RUNNING);
    pairs(1, 1, 0.8, 0.02);
    ck_assert_int_eq(experiment_verdict(&e), EXPERIMENT_IMPROVED);
    experiment_measured(&e, &mean, &margin);
    ck_assert_double_eq_tol(mean, 0.2, 0.01);
    ck_assert(margin > 0 && margin < 0.02);
    struct experiment_slice s = slice(100, 0, 0.1, 1);
    ck_assert(!experiment_pair(&e, &s, &s)); /* it is over */
}
END_TEST

START_TEST(what_is_the_same_is_not_kept)
{
    experiment_begin(&e, 0.02);
    pairs(EXPERIMENT_PAIRS, 1, 1, 0.05);
    ck_assert_int_eq(experiment_verdict(&e), EXPERIMENT_NO_BETTER);
    experiment_begin(&e, 0.02); /* better for sure, but by too little */
    pairs(EXPERIMENT_PAIRS, 1, 0.99, 0.001);
    ck_assert_int_eq(experiment_verdict(&e), EXPERIMENT_NO_BETTER);
    experiment_begin(&e, 0.02);
    pairs(EXPERIMENT_PAIRS, 1, 1.1, 0.02);
    ck_assert_int_eq(experiment_verdict(&e), EXPERIMENT_HARMFUL);
}
END_TEST

START_TEST(harm_is_broken_off)
{
    struct experiment_slice good = slice(100, 1, 0.1, 1), failing = slice(50, 10, 0.1, 1),
                            slow = slice(50, 0, 0.3, 1), dear = slice(100, 1, 0.1, 3),
                            few = slice(10, 10, 9, 9);
    struct experiment_slice *const bad[] = {&failing, &slow, &dear};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        experiment_begin(&e, 0.02);
        ck_assert(!experiment_guard(&e, bad[i])); /* nothing to compare with */
        experiment_baseline(&e, &good);
        ck_assert(!experiment_guard(&e, &good));
        ck_assert(!experiment_guard(&e, &few));
        ck_assert(experiment_guard(&e, bad[i]));
        ck_assert_int_eq(experiment_verdict(&e), EXPERIMENT_HARMFUL);
        ck_assert(!experiment_guard(&e, bad[i])); /* said once */
    }
}
END_TEST

START_TEST(few_requests_say_nothing)
{
    struct experiment_slice few = slice(4, 0, 0.1, 1), free = slice(100, 0, 0.1, 0),
                            good = slice(100, 0, 0.1, 1);
    experiment_begin(&e, 0.02);
    ck_assert(!experiment_pair(&e, &few, &good) && !experiment_pair(&e, &good, &few));
    ck_assert(!experiment_pair(&e, &free, &good)); /* nothing to save */
    ck_assert_uint_eq(e.pairs, 0);
    ck_assert_str_eq(experiment_verdict_name(EXPERIMENT_HARMFUL), "harmful");
    ck_assert_str_eq(experiment_verdict_name(7), "");
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("experiment");
    tcase_add_test(t, better_is_kept_after_all_pairs);
    tcase_add_test(t, what_is_the_same_is_not_kept);
    tcase_add_test(t, harm_is_broken_off);
    tcase_add_test(t, few_requests_say_nothing);
    return run_case("experiment", t);
}
