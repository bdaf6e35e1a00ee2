/* Tests of policy/rng.c: repeatable, even, inside its bounds. */
#include "policy/rng.h"
#include "tests/unit/policy/harness.h"

START_TEST(known_answers)
{
    /* First outputs of xoshiro256** with the state 1, 2, 3, 4, as the reference program prints them. */
    static const uint64_t want[] = {11520, 0, 1509978240, 1215971899390074240};
    struct rng r = {{1, 2, 3, 4}};
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        ck_assert_uint_eq(rng_next(&r), want[i]);
}
END_TEST

START_TEST(same_seed_same_numbers)
{
    struct rng a, b, c;
    rng_seed(&a, 0);
    rng_seed(&b, 0);
    rng_seed(&c, 1);
    int differs = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t x = rng_next(&a);
        ck_assert_uint_eq(x, rng_next(&b));
        differs += x != rng_next(&c);
    }
    ck_assert_int_eq(differs, 100);
}
END_TEST

START_TEST(doubles_are_even_in_0_1)
{
    struct rng r;
    rng_seed(&r, 7);
    double sum = 0;
    int bucket[10] = {0};
    for (int i = 0; i < 100000; i++) {
        double d = rng_double(&r);
        must(d >= 0 && d < 1);
        sum += d;
        bucket[(int)(d * 10)]++;
    }
    ck_assert(sum / 100000 > 0.495 && sum / 100000 < 0.505);
    for (int i = 0; i < 10; i++)
        ck_assert(bucket[i] > 9500 && bucket[i] < 10500);
}
END_TEST

START_TEST(below_is_even_and_bounded)
{
    struct rng r;
    rng_seed(&r, 9);
    ck_assert_uint_eq(rng_below(&r, 0), 0);
    ck_assert_uint_eq(rng_below(&r, 1), 0);
    int seen[7] = {0};
    for (int i = 0; i < 70000; i++)
        seen[rng_below(&r, 7)]++;
    for (int i = 0; i < 7; i++)
        ck_assert(seen[i] > 9500 && seen[i] < 10500);
    /* Just above 2^63 half of all numbers are thrown away: the worst case still ends, and stays below. */
    for (int i = 0; i < 1000; i++)
        ck_assert(rng_below(&r, (UINT64_C(1) << 63) + 1) <= UINT64_C(1) << 63);
}
END_TEST

START_TEST(range_takes_both_ends)
{
    struct rng r;
    rng_seed(&r, 11);
    bool low = false, high = false;
    for (int i = 0; i < 1000; i++) {
        int64_t x = rng_range(&r, -2, 2);
        ck_assert(x >= -2 && x <= 2);
        low |= x == -2;
        high |= x == 2;
    }
    ck_assert(low && high);
    ck_assert_int_eq(rng_range(&r, 5, 5), 5);
    ck_assert_int_eq(rng_range(&r, 5, 4), 5);
    (void)rng_range(&r, INT64_MIN, INT64_MAX);
    for (int i = 0; i < 1000; i++)
        ck_assert(rng_range(&r, 0, INT64_MAX) >= 0);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("rng");
    tcase_add_test(t, known_answers);
    tcase_add_test(t, same_seed_same_numbers);
    tcase_add_test(t, doubles_are_even_in_0_1);
    tcase_add_test(t, below_is_even_and_bounded);
    tcase_add_test(t, range_takes_both_ends);
    return run_case("policy/rng", t);
}
