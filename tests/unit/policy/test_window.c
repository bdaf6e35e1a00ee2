/* Tests of policy/window.c. */
#include "policy/rng.h"
#include "policy/window.h"
#include "tests/unit/policy/harness.h"

START_TEST(counts_and_forgets)
{
    struct window w;
    window_init(&w, 10 * TICK_S, 100 * TICK_S);
    window_add(&w, 0, 3, 100 * TICK_S);
    window_add(&w, 1, 1, 104 * TICK_S);
    ck_assert_uint_eq(window_sum(&w, 0, 109 * TICK_S), 3);
    ck_assert_uint_eq(window_sum(&w, 0, 110 * TICK_S), 0);
    ck_assert_uint_eq(window_sum(&w, 1, 113 * TICK_S), 1);
    ck_assert_uint_eq(window_sum(&w, 1, 114 * TICK_S), 0);
    window_add(&w, 2, 5, 115 * TICK_S);
    ck_assert_uint_eq(window_sum(&w, 2, 1000000 * TICK_S), 0);
}
END_TEST

START_TEST(step_back_counts_in_the_newest_slot)
{
    struct window w;
    window_init(&w, 10 * TICK_S, 50 * TICK_S);
    window_add(&w, 0, 1, 60 * TICK_S);
    window_add(&w, 0, 1, 20 * TICK_S);
    ck_assert_uint_eq(window_sum(&w, 0, 20 * TICK_S), 2);
    ck_assert_uint_eq(window_sum(&w, 0, 69 * TICK_S), 2);
    ck_assert_uint_eq(window_sum(&w, 0, 70 * TICK_S), 0);
}
END_TEST

START_TEST(full_slot_does_not_wrap)
{
    struct window w;
    window_init(&w, TICK_S, 0);
    window_add(&w, 0, UINT32_MAX, 0);
    window_add(&w, 0, 10, 0);
    ck_assert_uint_eq(window_sum(&w, 0, 0), UINT32_MAX);
    ck_assert_uint_eq(window_sum(&w, 0, 2 * TICK_S), 0);
}
END_TEST

/* Against a list of all events. */
START_TEST(same_as_a_list)
{
    enum { EVENTS = 3000 };
    static tick_t when[EVENTS];
    struct window w;
    struct rng r;
    rng_seed(&r, 3);
    tick_t now = 5 * TICK_S, width = TICK_S;
    window_init(&w, 10 * width, now);
    for (int n = 0; n < EVENTS; n++) {
        now += rng_range(&r, 0, rng_below(&r, 50) ? TICK_S / 4 : 15 * TICK_S);
        when[n] = now;
        window_add(&w, 3, 1, now);
        uint64_t want = 0;
        for (int i = 0; i <= n; i++)
            want += when[i] / width > now / width - WINDOW_SLOTS;
        must(window_sum(&w, 3, now) == want);
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("window");
    tcase_add_test(t, counts_and_forgets);
    tcase_add_test(t, step_back_counts_in_the_newest_slot);
    tcase_add_test(t, full_slot_does_not_wrap);
    tcase_add_test(t, same_as_a_list);
    return run_case("policy/window", t);
}
