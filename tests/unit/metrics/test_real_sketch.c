/* metrics/real_sketch.c: accuracy over the whole range of numbers, joining, merging. */
#include "metrics/real_sketch.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "main.h"

static const double allowed = 1.0 / 128;

static uint64_t seed = 42;

static double uniform(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return ((double)(seed >> 11) + 0.5) / 9007199254740992.0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

START_TEST(one_value_of_any_size)
{
    static const double values[] = {0,      1,      -1,     1e-300, -1e-300, 3.14159, 1e300,
                                    -1e300, 1e-310, 123456, 0.1,    1.7e308, -0.0};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct real_sketch s = {0};
        real_sketch_add(&s, values[i], 3);
        real_sketch_add(&s, NAN, 1);
        real_sketch_add(&s, INFINITY, 1);
        ck_assert_uint_eq(s.count, 3);
        ck_assert_double_eq(s.min, values[i]);
        ck_assert_double_eq(real_sketch_quantile(&s, 1), values[i]);
        double read = real_sketch_middle(s.buckets[0].index, 0);
        if (fabs(values[i]) > 1e-307)
            ck_assert_double_le(fabs(read - values[i]), fabs(values[i]) * allowed);
        else
            ck_assert_double_eq(read, 0);
    }
}
END_TEST

START_TEST(quantiles_are_near)
{
    enum { N = 20001 };
    static double v[N];
    struct real_sketch s = {0}, half[2] = {{0}, {0}};
    for (int i = 0; i < N; i++) {
        v[i] = (uniform() - 0.3) * 20; /* both signs, some near zero */
        real_sketch_add(&s, v[i], 1);
        real_sketch_add(&half[i % 2], v[i], 1);
    }
    qsort(v, N, sizeof *v, by_value);
    real_sketch_merge(&half[0], &half[1]);
    double error = allowed * (double)(1u << s.joined);
    for (double q = 0.01; q <= 1; q += 0.01) {
        double exact = v[(size_t)ceil(q * N) - 1];
        ck_assert_double_le(fabs(real_sketch_quantile(&s, q) - exact), fabs(exact) * error + 1e-6);
        ck_assert_double_le(fabs(real_sketch_quantile(&half[0], q) - exact), fabs(exact) * error * 2 + 1e-6);
    }
    ck_assert_uint_eq(half[0].count, N);
    ck_assert_double_eq_tol(half[0].sum, s.sum, 1e-6);
    ck_assert_double_eq(half[0].min, v[0]);
    ck_assert_uint_eq(real_sketch_below(&s, v[N - 1]), N);
    ck_assert_uint_eq(real_sketch_below(&s, v[0] - 1), 0);
}
END_TEST

/* Numbers of every size: in the end buckets are wide, but nothing is lost, and the order holds. */
START_TEST(neighbours_are_joined_when_it_is_full)
{
    struct real_sketch s = {0};
    for (int i = 0; i < 30000; i++)
        real_sketch_add(&s, (i % 2 ? -1 : 1) * pow(10, (uniform() - 0.5) * 600), 1);
    uint64_t sum = 0;
    for (uint16_t i = 0; i < s.used; i++) {
        sum += s.buckets[i].count;
        ck_assert(i == 0 || s.buckets[i].index > s.buckets[i - 1].index);
        ck_assert(i == 0 || real_sketch_middle(s.buckets[i].index, s.joined) >
                                real_sketch_middle(s.buckets[i - 1].index, s.joined));
    }
    ck_assert_uint_eq(sum, 30000);
    ck_assert_uint_eq(s.count, 30000);
    ck_assert(s.joined > 4 && s.used <= REAL_SKETCH_BUCKETS);
    struct real_sketch fine = {0};
    real_sketch_add(&fine, 2, 5);
    real_sketch_merge(&fine, &s);
    ck_assert_uint_eq(fine.count, 30005);
    ck_assert_uint_eq(fine.joined, s.joined);
}
END_TEST

SUITE("metrics/real_sketch", one_value_of_any_size, quantiles_are_near, neighbours_are_joined_when_it_is_full)
