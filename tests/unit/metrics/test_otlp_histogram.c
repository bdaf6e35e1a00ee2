/* metrics/otlp_histogram.c: indexes by the specification, exact counts, bounds that hold, exact merge. */
#include "metrics/otlp_histogram.h"

#include <math.h>
#include <string.h>

#include "main.h"
#include "metrics/protobuf.h"

/* What is read back of a data point. */
struct point {
    uint64_t count, zero;
    double sum, min, max;
    int scale;
    bool has_min, has_max;
    struct {
        int32_t offset;
        uint64_t v[1000];
        size_t n;
    } side[2];
};

static int64_t zigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static double real(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static void read_side(struct point *p, int side, struct pb_reader r)
{
    struct pb_field f;
    bool bad = false;
    while (pb_next(&r, &f, &bad)) {
        if (f.number == 1) {
            p->side[side].offset = (int32_t)zigzag(f.value);
            continue;
        }
        ck_assert_uint_eq(f.number, 2);
        while (f.content.p < f.content.end) { /* packed */
            uint64_t v = 0;
            unsigned shift = 0;
            do
                v |= (uint64_t)(*f.content.p & 0x7f) << shift;
            while (shift += 7, *f.content.p++ & 0x80);
            p->side[side].v[p->side[side].n++] = v;
        }
    }
    ck_assert(!bad);
}

static struct point read_point(const struct expo *e)
{
    struct text t = {0};
    struct point p = {.count = 0};
    struct pb_field f;
    bool bad = false;
    expo_put(&t, e);
    struct pb_reader r = {(uint8_t *)t.p, (uint8_t *)t.p + t.n};
    while (pb_next(&r, &f, &bad)) {
        p.count = f.number == 4 ? f.value : p.count;
        p.sum = f.number == 5 ? real(f.value) : p.sum;
        p.scale = f.number == 6 ? (int)zigzag(f.value) : p.scale;
        p.zero = f.number == 7 ? f.value : p.zero;
        if (f.number == 8 || f.number == 9)
            read_side(&p, f.number == 9, f.content);
        if (f.number == 12)
            p.has_min = true, p.min = real(f.value);
        if (f.number == 13)
            p.has_max = true, p.max = real(f.value);
    }
    ck_assert(!bad);
    text_dispose(&t);
    uint64_t sum = p.zero;
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < p.side[side].n; i++)
            sum += p.side[side].v[i];
    ck_assert_uint_eq(sum, p.count);
    return p;
}

START_TEST(indexes_are_those_of_the_specification)
{
    /* scale 0: (1, 2] is 0, (2, 4] is 1, (0.5, 1] is -1 */
    ck_assert_int_eq(expo_index(1.5, 0), 0);
    ck_assert_int_eq(expo_index(2, 0), 0);
    ck_assert_int_eq(expo_index(1, 0), -1);
    ck_assert_int_eq(expo_index(4, 0), 1);
    ck_assert_int_eq(expo_index(4.1, 0), 2);
    ck_assert_int_eq(expo_index(0.25, 1), -5);
    for (int scale = -3; scale <= 5; scale++)
        for (double v = 1e-9; v < 1e9; v *= 1.37) {
            double step = exp2(exp2(-scale));
            int32_t i = expo_index(v, scale);
            ck_assert_double_ge(v, pow(step, i) * (1 - 1e-9));
            ck_assert_double_le(v, pow(step, i + 1) * (1 + 1e-9));
        }
}
END_TEST

/* Latencies of all sizes: each lies in the bucket that is written for it, but for 0.8 %. */
START_TEST(latencies)
{
    static struct hist h;
    static struct expo e;
    struct hist_counts *counts = calloc(1, sizeof *counts);
    uint64_t n = 0;
    for (double v = 1000; v < 1e11; v *= 1.01, n++)
        ck_assert(hist_record(&h, (int64_t)v));
    ck_assert(hist_record(&h, 0));
    hist_read(&h, counts);
    expo_of_counts(&e, counts, 1e9);
    struct point p = read_point(&e);
    ck_assert_uint_eq(p.count, n + 1);
    ck_assert_uint_eq(p.zero, 1);
    ck_assert(p.side[0].n <= EXPO_BUCKETS && p.side[0].n > EXPO_BUCKETS / 2 - 1 && p.side[1].n == 0);
    ck_assert(p.has_max && !p.has_min);
    double step = exp2(exp2(-p.scale)), bound = pow(step, p.side[0].offset);
    uint64_t below = 0;
    for (size_t i = 0; i < p.side[0].n; i++) {
        below += p.side[0].v[i];
        bound *= step;
        double truly = floor(log(bound * 1e9 / 1000) / log(1.01)) + 1; /* how many lie at or under it */
        ck_assert_double_le(fabs((double)below - fmin(truly, (double)n)), 2);
    }
    hist_dispose(&h);
    free(counts);
}
END_TEST

START_TEST(narrow_ones_are_fine_and_wide_ones_fit)
{
    static struct expo e;
    struct real_sketch s = {0};
    real_sketch_add(&s, 1.5, 10);
    expo_of_sketch(&e, &s);
    struct point p = read_point(&e);
    ck_assert_int_eq(p.scale, EXPO_SCALE_MOST);
    ck_assert_uint_eq(p.side[0].n, 1);
    ck_assert(p.has_min && p.min == 1.5 && p.max == 1.5 && p.sum == 15);
    for (int i = -300; i <= 300; i += 3)
        real_sketch_add(&s, (i % 2 ? -1 : 1) * pow(10, i), 1);
    real_sketch_add(&s, 0, 5);
    expo_of_sketch(&e, &s);
    p = read_point(&e);
    ck_assert_uint_eq(p.count, 10 + 201 + 5);
    ck_assert_uint_ge(p.zero, 5);
    ck_assert(p.scale < 0 && p.side[0].n <= EXPO_BUCKETS && p.side[1].n <= EXPO_BUCKETS && p.side[1].n > 1);
    ck_assert(p.min == s.min && p.max == s.max);
}
END_TEST

START_TEST(an_empty_one)
{
    static struct expo e;
    struct real_sketch s = {0};
    expo_of_sketch(&e, &s);
    struct point p = read_point(&e);
    ck_assert(p.count == 0 && !p.has_min && !p.has_max);
}
END_TEST

SUITE("metrics/otlp_histogram", indexes_are_those_of_the_specification, latencies,
      narrow_ones_are_fine_and_wide_ones_fit, an_empty_one)
