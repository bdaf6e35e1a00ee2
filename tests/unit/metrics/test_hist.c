/* metrics/hist.c: bucket arithmetic, accuracy against exact quantiles, exact merge. */
#include "metrics/hist.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SAMPLES = 1000000 };
static const double allowed = 1.0 / 128;

static uint64_t seed = 42;

static double uniform(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return ((double)(seed >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static double log_normal(void)
{
    return 5e6 * exp(normal());
}

static double pareto(void)
{
    return 1e6 * pow(uniform(), -1 / 1.2);
}

static double bimodal(void)
{
    return uniform() < 0.7 ? 2e5 + 2e4 * normal() : 4e8 + 3e7 * normal();
}

static double constant(void)
{
    return 123456789;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static double exact(const int64_t *sorted, size_t n, double q)
{
    double rank = ceil(q * (double)n);
    return (double)sorted[rank < 1 ? 0 : (size_t)rank - 1];
}

static double (*const shapes[])(void) = {log_normal, pareto, bimodal, constant};

START_TEST(quantiles_are_within_the_bound)
{
    static const double qs[] = {0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1};
    int64_t *all = malloc(SAMPLES * sizeof *all);
    struct hist *h = calloc(1, sizeof *h);
    struct hist_counts *c = calloc(1, sizeof *c);
    ck_assert(all && h && c);
    double sum = 0;
    size_t recorded = 0;
    for (size_t i = 0; i < SAMPLES; i++) {
        all[i] = (int64_t)shapes[_i]();
        sum += (double)all[i];
        recorded += hist_record(h, all[i]);
    }
    ck_assert_uint_eq(recorded, SAMPLES);
    hist_read(h, c);
    qsort(all, SAMPLES, sizeof *all, by_value);
    ck_assert_uint_eq(c->count, SAMPLES);
    for (size_t i = 0; i < sizeof qs / sizeof *qs; i++) {
        double want = exact(all, SAMPLES, qs[i]), got = hist_quantile(c, qs[i]);
        ck_assert_msg(fabs(got - want) <= allowed * want, "shape %d, q %g: %g instead of %g", _i, qs[i], got,
                      want);
    }
    ck_assert_uint_eq(c->max, (uint64_t)all[SAMPLES - 1]);
    ck_assert(fabs(hist_mean(c) - sum / SAMPLES) <= 1e-9 * sum / SAMPLES);
    hist_dispose(h);
    free(h);
    free(c);
    free(all);
}
END_TEST

START_TEST(four_merged_are_one)
{
    struct hist *h = calloc(5, sizeof *h);
    struct hist_counts *one = calloc(1, sizeof *one), *four = calloc(1, sizeof *four),
                       *part = calloc(1, sizeof *part);
    ck_assert(h && one && four && part);
    for (int i = 0; i < 100000; i++) {
        int64_t v = (int64_t)shapes[i % 3]();
        ck_assert(hist_record(&h[4], v) && hist_record(&h[i % 4], v));
    }
    hist_read(&h[4], one);
    for (int i = 0; i < 4; i++) {
        *part = (struct hist_counts){0};
        hist_read(&h[i], part);
        hist_merge(four, part);
        hist_dispose(&h[i]);
    }
    ck_assert_mem_eq(one, four, sizeof *one);
    hist_dispose(&h[4]);
    free(h);
    free(one);
    free(four);
    free(part);
}
END_TEST

START_TEST(buckets_join_without_gaps)
{
    for (unsigned i = 0; i + 1 < HIST_BUCKETS; i++) {
        ck_assert_uint_eq(hist_index(hist_lower(i)), i);
        ck_assert_uint_eq(hist_index(hist_upper(i) - 1), i);
        ck_assert_uint_eq(hist_upper(i), hist_lower(i + 1));
        ck_assert(hist_middle(i) - (double)hist_lower(i) <= allowed * (double)hist_lower(i));
    }
    ck_assert_uint_eq(hist_index(UINT64_MAX), HIST_BUCKETS - 1);
    ck_assert_uint_eq(hist_index(UINT64_C(1) << HIST_MAX_BITS), HIST_BUCKETS - 1);
}
END_TEST

START_TEST(extremes)
{
    struct hist h = {0};
    struct hist_counts *c = calloc(1, sizeof *c);
    ck_assert_ptr_nonnull(c);
    ck_assert(hist_quantile(c, 0.5) == 0 && hist_mean(c) == 0);
    ck_assert(hist_record(&h, -5) && hist_record(&h, 0) && hist_record(&h, INT64_MAX));
    hist_read(&h, c);
    ck_assert_uint_eq(c->v[0], 2);
    ck_assert_uint_eq(c->v[HIST_BUCKETS - 1], 1);
    ck_assert(hist_quantile(c, 0.5) == 0);
    ck_assert(hist_quantile(c, 0.99) == (double)INT64_MAX);
    hist_dispose(&h);
    free(c);
}
END_TEST

START_TEST(memory_follows_use)
{
    struct hist h = {0};
    ck_assert_uint_le(sizeof h, 512);
    for (int i = 0; i < 1000; i++)
        ck_assert(hist_record(&h, 1000000 + i)); /* all within one doubling */
    unsigned pages = 0;
    for (unsigned i = 0; i < HIST_PAGES; i++)
        pages += atomic_load(&h.pages[i]) != NULL;
    ck_assert_uint_eq(pages, 1);
    hist_dispose(&h);
}
END_TEST

/* Not a bench: a bound so wide that only a mistake (an allocation, a logarithm) exceeds it. */
START_TEST(recording_is_cheap)
{
    struct hist h = {0};
    struct timespec a, b;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    bool all = true; /* an assertion a record would cost more than the record */
    for (int64_t i = 0; i < 2000000; i++)
        all &= hist_record(&h, 1000 + (i * 7919) % 100000000);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    ck_assert(all);
    double ns = ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / 2e6;
    printf("hist_record: %.1f ns\n", ns);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__OPTIMIZE__)
    ck_assert(ns < 200);
#endif
    hist_dispose(&h);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hist");
    TCase *t = tcase_create("hist");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, quantiles_are_within_the_bound, 0, 4);
    tcase_add_test(t, four_merged_are_one);
    tcase_add_test(t, buckets_join_without_gaps);
    tcase_add_test(t, extremes);
    tcase_add_test(t, memory_follows_use);
    tcase_add_test(t, recording_is_cheap);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
