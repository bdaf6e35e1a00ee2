/* Tests of policy/pool_size.c: strategies, measures, bounds and pace; and step, ramp, burst and random loads.
 */
#include "policy/pool_size.h"
#include "policy/rng.h"
#include "tests/unit/policy/harness.h"

static struct pool_rules rules;
static struct pool_size p;
static struct rng rng;
static tick_t now;

static void setup(void)
{
    rng_seed(&rng, 8);
    now = 500 * TICK_S;
    rules = (struct pool_rules){POOL_ADAPTIVE, 2, 1000, true, 0.8};
    pool_size_init(&p, &rules, now);
}

/* Holds a demand for so long, asking every 100 ms; gives the last target. */
static int hold(int demand, tick_t time)
{
    int keep = 0;
    for (tick_t end = now + time; now < end; now += 100 * TICK_MS) {
        pool_size_demand(&p, demand, now);
        keep = pool_size_target(&p, now).keep;
    }
    return keep;
}

START_TEST(strategies)
{
    static const struct {
        enum pool_strategy strategy;
        bool adaptive;
        int warm, keep;
    } t[] = {
        {POOL_FIXED, true, 10, 10},    {POOL_DYNAMIC, true, 2, 10}, {POOL_LAZY, true, 0, 10},
        {POOL_ADAPTIVE, false, 2, 10}, {POOL_ADAPTIVE, true, 8, 8}, /* 6 / 0.8 */
    };
    rules.max_size = 10;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        rules.strategy = t[i].strategy;
        rules.adaptive = t[i].adaptive;
        pool_size_init(&p, &rules, now);
        pool_size_demand(&p, 6, now);
        struct pool_target got = pool_size_target(&p, now);
        ck_assert_int_eq(got.warm, t[i].warm);
        ck_assert_int_eq(got.keep, t[i].keep);
    }
}
END_TEST

START_TEST(littles_law)
{
    /* 100 a second, each held for 50 ms: L = 5. */
    for (int i = 0; i < 2000; i++) {
        pool_size_demand(&p, 10, now);
        pool_size_acquired(&p, i % 10 == 0, now);
        now += 5 * TICK_MS;
        pool_size_demand(&p, 0, now);
        now += 5 * TICK_MS;
    }
    struct pool_measured m = pool_size_measured(&p, now);
    ck_assert_double_eq_tol(m.busy, 5, 0.05);
    ck_assert_double_eq_tol(m.rate, 100, 1);
    ck_assert_double_eq_tol(m.held, 0.05, 0.001);
    ck_assert_double_eq_tol(m.waited, 0.1, 0.01);
    ck_assert_int_eq(m.peak, 10);
}
END_TEST

START_TEST(bounds)
{
    ck_assert_int_eq(hold(0, TICK_S), 2);
    ck_assert_int_eq(hold(5000, TICK_S), 1000);
    rules.max_size = 4; /* live */
    rules.min_size = 9; /* nonsense: min above max */
    ck_assert_int_eq(hold(100, 20 * TICK_S), 4);
    ck_assert_int_eq(hold(0, 400 * TICK_S), 4);
    rules.min_size = -1;
    rules.threshold = 0;
    ck_assert_int_eq(hold(0, 400 * TICK_S), 0);
    pool_size_demand(&p, -5, now);
    ck_assert_int_eq(pool_size_target(&p, now).keep, 0);
}
END_TEST

START_TEST(step_up_is_at_once)
{
    hold(10, 30 * TICK_S);
    pool_size_demand(&p, 200, now);
    ck_assert_int_ge(pool_size_target(&p, now).keep, 200);
    ck_assert_int_eq(hold(200, 30 * TICK_S), 250); /* head room: 200 / 0.8 */
}
END_TEST

START_TEST(step_down_is_slow)
{
    hold(100, 30 * TICK_S);
    int before = hold(100, TICK_S), at = before;
    ck_assert_int_eq(before, 125);
    tick_t start = now;
    while (at > 13) {
        int next = hold(10, 10 * TICK_S);
        ck_assert_int_le(at - next, (at + 9) / 10);
        ck_assert_int_le(next, at);
        at = next;
        ck_assert_int_lt(now - start, 300 * TICK_S);
    }
    ck_assert_int_gt(now - start, 200 * TICK_S); /* ln(125/12.5) / ln(1/0.9) = 22 steps of 10 s */
    ck_assert_int_eq(hold(10, 60 * TICK_S), 13);
}
END_TEST

START_TEST(ramp_is_followed)
{
    for (int demand = 0; demand < 500; demand++) {
        pool_size_demand(&p, demand, now);
        int keep = pool_size_target(&p, now).keep;
        ck_assert_int_ge(keep, demand);
        ck_assert_int_le(keep, demand * 5 / 4 + 2);
        now += 120 * TICK_MS;
    }
}
END_TEST

START_TEST(burst_is_remembered_for_a_while)
{
    hold(4, 30 * TICK_S);
    pool_size_demand(&p, 300, now);
    pool_size_target(&p, now);
    now += 50 * TICK_MS;
    pool_size_demand(&p, 4, now);
    ck_assert_int_eq(hold(4, 10 * TICK_S), 300);
    int later = hold(4, 60 * TICK_S);
    ck_assert_int_lt(later, 200);
    ck_assert_int_gt(later, 130);
}
END_TEST

START_TEST(waits_give_head_room_on_the_peak)
{
    hold(10, 30 * TICK_S);
    for (int i = 0; i < 100; i++) {
        pool_size_demand(&p, 40, now);
        pool_size_acquired(&p, i % 20 == 0, now);
        now += TICK_MS;
        pool_size_demand(&p, 1, now);
        now += 9 * TICK_MS;
    }
    ck_assert_int_eq(pool_size_target(&p, now).keep, 50); /* 40 / 0.8 */
}
END_TEST

START_TEST(long_silence)
{
    hold(50, 20 * TICK_S);
    now += 1000000 * TICK_S;
    struct pool_measured m = pool_size_measured(&p, now); /* nothing was said: the demand still holds */
    ck_assert_double_eq_tol(m.busy, 50, 1e-6);
    pool_size_demand(&p, 0, now);
    now += 1000000 * TICK_S;
    ck_assert_int_eq(pool_size_target(&p, now).keep, 2);
    pool_size_demand(&p, 7, now - 5 * TICK_S); /* a step back in time */
    ck_assert_int_eq(pool_size_target(&p, now - 5 * TICK_S).keep, 7);
}
END_TEST

START_TEST(random_loads_keep_the_promises)
{
    rules.min_size = 3;
    rules.max_size = 200;
    pool_size_init(&p, &rules, now);
    int last[110] = {0}; /* targets of the last 11 s, ten a second */
    int demand = 0;
    for (int i = 0; i < 100000; i++) {
        uint64_t dice = rng_below(&rng, 1000);
        if (dice < 900)
            demand += (int)rng_range(&rng, -3, 3);
        else if (dice < 905)
            demand = (int)rng_below(&rng, 300);
        else if (dice < 910)
            demand = 0;
        demand = demand < 0 ? 0 : demand;
        pool_size_demand(&p, demand, now);
        int keep = pool_size_target(&p, now).keep;
        must(keep >= 3 && keep <= 200);
        must(keep >= demand || keep == 200);
        for (int k = 0; k < 99 && k < i; k++) { /* against each of the last 9.9 s */
            int then = last[(i - k + 109) % 110];
            must(then - keep <= (then + 9) / 10);
        }
        last[i % 110] = keep;
        now += 100 * TICK_MS;
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("pool_size");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, strategies);
    tcase_add_test(t, littles_law);
    tcase_add_test(t, bounds);
    tcase_add_test(t, step_up_is_at_once);
    tcase_add_test(t, step_down_is_slow);
    tcase_add_test(t, ramp_is_followed);
    tcase_add_test(t, burst_is_remembered_for_a_while);
    tcase_add_test(t, waits_give_head_room_on_the_peak);
    tcase_add_test(t, long_silence);
    tcase_add_test(t, random_loads_keep_the_promises);
    return run_case("policy/pool_size", t);
}
