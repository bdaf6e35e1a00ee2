/* Tests of policy/adaptive_ttl.c and policy/change_rate.c. */
#include "policy/adaptive_ttl.h"
#include "tests/unit/policy/harness.h"

#include <math.h>

static struct change_rate watched(int polls, tick_t interval, int changed_each)
{
    struct change_rate rate = {0};
    for (int i = 1; i <= polls; i++)
        change_rate_poll(&rate, interval, changed_each > 0 && i % changed_each == 0);
    return rate;
}

START_TEST(nothing_seen)
{
    struct change_rate none = {0};
    ck_assert_double_eq(change_rate_estimate(&none), 0);
    ck_assert_int_eq(adaptive_ttl(&ADAPTIVE_TTL_DEFAULT, &none, -1, NULL), 30 * TICK_S);
    ck_assert_int_eq(adaptive_ttl(&ADAPTIVE_TTL_DEFAULT, &none, 1000 * TICK_S, NULL), 100 * TICK_S);
    ck_assert_int_eq(adaptive_ttl(&ADAPTIVE_TTL_DEFAULT, &none, 0, NULL), TICK_S);
}
END_TEST

/* A Poisson process at rate r is found changed with probability 1 - exp(-r I). */
START_TEST(finds_the_rate)
{
    struct rng rng;
    rng_seed(&rng, 7);
    for (double r = 0.001; r < 0.2; r *= 5) {
        double sum = 0;
        struct change_rate rate = {0};
        for (int i = 0; i < 20000; i++) {
            change_rate_poll(&rate, 5 * TICK_S, rng_double(&rng) < 1 - exp(-r * 5));
            if (i >= 10000)
                sum += change_rate_estimate(&rate) / 10000;
        }
        must(sum > r * 0.9 && sum < r * 2.2); /* the larger of two scales: it errs to the fresh side */
    }
}
END_TEST

START_TEST(unchanged_grows_with_the_history)
{
    struct change_rate rate = watched(100, 10 * TICK_S, 0);
    tick_t ttl = adaptive_ttl(&ADAPTIVE_TTL_DEFAULT, &rate, -1, NULL);
    must(llabs(ttl - 94 * TICK_S) < TICK_S / 10); /* 2 x 0.047 x 1000 s */
}
END_TEST

START_TEST(follows_a_shift)
{
    struct change_rate rate = watched(200, 100 * TICK_S, 50);
    double before = change_rate_estimate(&rate);
    for (int i = 0; i < 5; i++)
        change_rate_poll(&rate, 20 * TICK_S, true);
    must(change_rate_estimate(&rate) > before * 10);
}
END_TEST

START_TEST(bounds_and_jitter)
{
    struct rng rng;
    struct change_rate busy = watched(100, TICK_MS, 1), still = watched(100, 100000 * TICK_S, 0);
    tick_t least = TICK_NEVER, most = 0;
    struct change_rate some = watched(100, 100 * TICK_S, 10);
    rng_seed(&rng, 1);
    tick_t middle = adaptive_ttl(&ADAPTIVE_TTL_DEFAULT, &some, -1, NULL);
    for (int i = 0; i < 2000; i++) {
        must(adaptive_ttl(&ADAPTIVE_TTL_DEFAULT, &busy, -1, &rng) == TICK_S);
        must(adaptive_ttl(&ADAPTIVE_TTL_DEFAULT, &still, -1, &rng) == (tick_t)86400 * TICK_S);
        tick_t ttl = adaptive_ttl(&ADAPTIVE_TTL_DEFAULT, &some, -1, &rng);
        least = ttl < least ? ttl : least;
        most = ttl > most ? ttl : most;
    }
    must((double)least > 0.899 * (double)middle && (double)least < 0.91 * (double)middle);
    must((double)most < 1.101 * (double)middle && (double)most > 1.09 * (double)middle);
}
END_TEST

START_TEST(odd_intervals)
{
    struct change_rate rate = {0};
    change_rate_poll(&rate, -5, true);
    change_rate_poll(&rate, TICK_NEVER, false);
    change_rate_poll(&rate, TICK_NEVER, true);
    must(isfinite(change_rate_estimate(&rate)));
    must(adaptive_ttl(&ADAPTIVE_TTL_DEFAULT, &rate, TICK_NEVER, NULL) <= (tick_t)86400 * TICK_S);
    must(sizeof rate == 28);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("adaptive_ttl");
    tcase_add_test(t, nothing_seen);
    tcase_add_test(t, finds_the_rate);
    tcase_add_test(t, unchanged_grows_with_the_history);
    tcase_add_test(t, follows_a_shift);
    tcase_add_test(t, bounds_and_jitter);
    tcase_add_test(t, odd_intervals);
    return run_case("policy/adaptive_ttl", t);
}
