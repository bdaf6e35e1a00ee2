/* metrics/history*.c: points add up at every resolution, quantiles hold their bound, memory its budget. */
#include "metrics/custom.h"
#include "metrics/history.h"
#include "metrics/text.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND INT64_C(1000000000)
static const int64_t BEGIN = 1000 * SECOND, WALL = INT64_C(1767225600) * SECOND;
static const char *const names[] = {"other"};
static const struct history_gauges gauges = {.resident_bytes = 8000000, .cpu_ns = 0};

static struct metrics *m;
static struct history *h;
static int64_t now;
static uint64_t seed;

static void set_up(void)
{
    struct metrics_config config = {2, names, 1, names, 1, NULL, 0};
    m = metrics_new(&config);
    now = BEGIN;
    seed = 7;
    h = m ? history_new(m, now, WALL, HISTORY_BUDGET) : NULL;
    ck_assert_ptr_nonnull(h);
}

static void tear_down(void)
{
    history_free(h);
    metrics_free(m);
}

static double chance(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return ((double)(seed >> 11) + 0.5) / 9007199254740992.0;
}

/* Log-normal around 20 ms. */
static int64_t latency(double sigma)
{
    return (int64_t)(20e6 * exp(sigma * sqrt(-2 * log(chance())) * cos(2 * M_PI * chance())));
}

static void observe(int worker, uint16_t operation, unsigned status, enum cache_word cache, int64_t total)
{
    struct observation o = {
        .operation = operation, .status = (uint16_t)status, .cache = (uint8_t)cache, .total = total};
    metrics_observe(metrics_block(m, worker), &o);
}

static void tick(const struct history_gauges *g)
{
    now += SECOND;
    ck_assert(history_tick(h, now, g));
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static struct history_point window(enum metric_type type, int operation, int64_t seconds)
{
    struct history_point p;
    struct history_series s = {type, operation};
    ck_assert(history_window(h, &s, seconds * SECOND, now, &p));
    return p;
}

START_TEST(quantiles_hold_one_per_cent_over_workers_and_levels)
{
    enum { N = 60000 };
    int64_t *all = malloc(N * sizeof *all);
    ck_assert_ptr_nonnull(all);
    double sum = 0;
    for (int i = 0; i < N; i++) {
        all[i] = latency(1.0);
        sum += (double)all[i] / 1e9;
        observe(i % 2, 0, 200, VERDICT_MISS, all[i]);
        if (i % 100 == 99)
            tick(&gauges); /* ten minutes */
    }
    qsort(all, N, sizeof *all, ascending);
    struct history_series s = {METRIC_TYPE_REQUEST_LATENCY, METRICS_ALL};
    struct history_point p = window(METRIC_TYPE_REQUEST_LATENCY, METRICS_ALL, 600);
    const double q[] = {0.5, 0.95, 0.99, 0.999}, told[] = {p.p50, p.p95, p.p99};
    ck_assert_uint_eq(p.count, N);
    ck_assert_double_eq_tol(p.mean, sum / N, 1e-9 * sum);
    for (int i = 0; i < 4; i++) {
        double exact = (double)all[(int)ceil(q[i] * N) - 1] / 1e9;
        double got = i < 3 ? told[i] : history_quantile(h, &s, 600 * SECOND, now, q[i]);
        ck_assert_double_le(fabs(got - exact) / exact, 0.01);
    }
    ck_assert_double_le(fabs(p.max - (double)all[N - 1] / 1e9) / p.max, 0.01);
    ck_assert_double_le(fabs(p.min - (double)all[0] / 1e9) / p.min, 0.01);
    free(all);
}
END_TEST

START_TEST(every_width_counts_the_same)
{
    static struct history_point points[4000];
    for (int i = 0; i < 7200; i++) {
        for (int k = 0; k <= i % 3; k++)
            observe(0, 0, k ? 200 : 503, k == 2 ? VERDICT_HIT : VERDICT_MISS, latency(0.5));
        tick(&gauges);
    }
    static const int64_t widths[] = {2, 7, 10, 60, 90, 600, 3600};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        uint64_t requests = 0, errors = 0;
        struct history_series s = {METRIC_TYPE_REQUEST_LATENCY, METRICS_ALL},
                              e = {METRIC_TYPE_ERROR_RATE, METRICS_ALL};
        size_t n = history_points(h, &s, BEGIN, now, widths[w] * SECOND, points, 4000);
        ck_assert_uint_le(n, 7200 / (size_t)widths[w] + 1);
        for (size_t i = 0; i < n; i++) {
            requests += points[i].count;
            ck_assert(!i || points[i].from >= points[i - 1].to);
        }
        n = history_points(h, &e, BEGIN, now, widths[w] * SECOND, points, 4000);
        for (size_t i = 0; i < n; i++)
            errors += (uint64_t)(points[i].mean * (double)points[i].count + 0.5);
        ck_assert_uint_eq(requests, 7200 * 2);
        ck_assert_uint_eq(errors, 7200);
    }
}
END_TEST

static const struct history_division *division(const char *by)
{
    const struct history_division *d;
    for (int i = 0; (d = history_division(i)); i++)
        if (strcmp(d->by, by) == 0)
            return d;
    ck_abort_msg("no division by %s", by);
}

START_TEST(the_pool_is_kept_by_state)
{
    char room[HISTORY_PART_NAME];
    const struct history_division *d = division("state");
    ck_assert_int_eq(d->type, METRIC_TYPE_CONNECTION_POOL_SIZE);
    ck_assert_ptr_null(history_part_name(h, HISTORY_PARTS, room));
    ck_assert_ptr_null(history_part_name(h, -1, room));
    for (int i = 0; i < 30; i++) {
        metric_add(metrics_block(m, 0), METRIC_POOL_IDLE, 1);
        metric_add(metrics_block(m, 1), METRIC_POOL_WAITING, 2);
        tick(&(struct history_gauges){.limit = i < 15 ? 8 : 0, .in_flight = 3});
    }
    static const struct {
        const char *name;
        double mean, max, count;
    } expected[] = {{"idle", 15.5, 30, 30},  {"active", 0, 0, 30}, {"connecting", 0, 0, 30},
                    {"waiting", 31, 60, 30}, {"limit", 8, 8, 15},  {"in_flight", 3, 3, 30}};
    for (int i = 0; i < HISTORY_STATES; i++) {
        ck_assert_str_eq(history_part_name(h, d->first + i, room), expected[i].name);
        struct history_point p = window(METRIC_TYPE_CONNECTION_POOL_SIZE, HISTORY_PART + d->first + i, 30);
        ck_assert_double_eq_tol(p.mean, expected[i].mean, 1e-9);
        ck_assert_double_eq_tol(p.max, expected[i].max, 0.5);
        ck_assert_double_eq_tol((double)p.count, expected[i].count, 1e-9);
    }
}
END_TEST

/* What history_parts() tells, by name. */
struct told {
    int n;
    struct {
        char name[16];
        uint64_t count;
        double mean;
    } parts[8];
};

static void note_part(void *arg, int operation, const struct history_point *total)
{
    struct told *t = arg;
    char room[HISTORY_PART_NAME];
    const char *name = operation >= HISTORY_PART ? history_part_name(h, operation - HISTORY_PART, room)
                                                 : metrics_operation_name(m, (uint16_t)operation);
    ck_assert_int_lt(t->n, 8);
    snprintf(t->parts[t->n].name, sizeof t->parts[0].name, "%s", name);
    t->parts[t->n].count = total->count;
    t->parts[t->n++].mean = total->mean;
}

static uint64_t count_of(enum metric_type type, const char *by, int64_t from, int64_t to, const char *name)
{
    struct told t = {0};
    history_parts(h, type, strcmp(by, "operation") == 0 ? NULL : division(by), from, to, SECOND, note_part,
                  &t);
    for (int i = 0; i < t.n; i++)
        if (strcmp(t.parts[i].name, name) == 0)
            return t.parts[i].count;
    return 0;
}

START_TEST(requests_and_retries_are_kept_by_how_they_ended)
{
    uint16_t a = metrics_operation(m, "a"), b = metrics_operation(m, "b");
    for (int i = 0; i < 100; i++) {
        if (i < 50)
            observe(0, a, 200, VERDICT_HIT, 1000000);
        observe(1, b, i < 80 ? 200 : 503, VERDICT_MISS, 1000000);
        metrics_retry(metrics_block(m, 0), b, 0, 503);
        tick(&(struct history_gauges){0});
    }
    const enum metric_type rate = METRIC_TYPE_THROUGHPUT;
    int64_t begin = now - 100 * SECOND, middle = begin + 50 * SECOND;
    ck_assert_uint_eq(count_of(rate, "status", begin, now, "200"), 130);
    ck_assert_uint_eq(count_of(rate, "status", begin, now, "503"), 20);
    ck_assert_uint_eq(count_of(rate, "status", begin, middle, "503"), 0);
    ck_assert_uint_eq(count_of(rate, "cache", begin, middle, "hit"), 50);
    ck_assert_uint_eq(count_of(rate, "cache", middle, now, "hit"), 0);
    ck_assert_uint_eq(count_of(rate, "cache", middle, now, "miss"), 50);
    ck_assert_uint_eq(count_of(rate, "operation", begin, now, "a"), 50);
    ck_assert_uint_eq(count_of(rate, "operation", begin, now, "b"), 100);
    ck_assert_uint_eq(count_of(METRIC_TYPE_RETRY_COUNT, "reason", begin, now, "503"), 100);
    /* A part is a series, too: its rate counts the seconds in which it gained nothing. */
    struct history_point p = window(rate, HISTORY_PART + division("status")->first + 503, 100);
    ck_assert_uint_eq(p.count, 20);
    ck_assert_double_eq_tol(p.mean, 0.2, 1e-9);
    ck_assert_double_eq_tol(p.p50, 0, 1e-9);
}
END_TEST

START_TEST(an_operation_has_its_own)
{
    uint16_t a = metrics_operation(m, "a"), b = metrics_operation(m, "b");
    for (int i = 0; i < 20; i++) {
        observe(0, a, 200, VERDICT_HIT, 1000000);
        observe(1, b, 500, VERDICT_MISS, 100000000);
        observe(0, b, 200, VERDICT_BYPASS, 100000000);
        metrics_retry(metrics_block(m, 0), b, 0, 503);
        tick(&(struct history_gauges){.resident_bytes = 5000000, .cpu_ns = (uint64_t)i * 250000000});
    }
    ck_assert_double_eq_tol(window(METRIC_TYPE_ERROR_RATE, a, 20).mean, 0, 1e-12);
    ck_assert_double_eq_tol(window(METRIC_TYPE_ERROR_RATE, b, 20).mean, 0.5, 1e-12);
    ck_assert_double_eq_tol(window(METRIC_TYPE_CACHE_HIT_RATE, METRICS_ALL, 20).mean, 0.5, 1e-12);
    ck_assert_double_eq_tol(window(METRIC_TYPE_CACHE_HIT_RATE, a, 20).mean, 1, 1e-12);
    ck_assert_double_eq_tol(window(METRIC_TYPE_THROUGHPUT, METRICS_ALL, 20).mean, 3, 1e-9);
    ck_assert_double_eq_tol(window(METRIC_TYPE_THROUGHPUT, b, 20).p50, 2, 0.02);
    ck_assert_double_eq_tol(window(METRIC_TYPE_RETRY_COUNT, b, 20).mean, 1, 1e-9);
    ck_assert_double_eq_tol(window(METRIC_TYPE_MEMORY_USAGE, METRICS_ALL, 20).mean, 5, 1e-9);
    ck_assert_double_eq_tol(window(METRIC_TYPE_CPU_USAGE, METRICS_ALL, 10).p50, 25, 0.25);
    ck_assert_double_le(window(METRIC_TYPE_REQUEST_LATENCY, a, 20).max, 0.00101);
    struct history_point p;
    struct history_series none = {METRIC_TYPE_RETRY_COUNT, a}, batch = {METRIC_TYPE_BATCH_SIZE, METRICS_ALL};
    ck_assert(history_window(h, &none, 20 * SECOND, now, &p)); /* no retry is 0 of them */
    ck_assert(p.mean == 0 && p.count == 0);
    ck_assert(!history_window(h, &batch, 20 * SECOND, now, &p)); /* no batch has no size */
    for (int i = 0; i < 40; i++)
        tick(&gauges);
    ck_assert_double_eq_tol(window(METRIC_TYPE_THROUGHPUT, METRICS_ALL, 60).mean, 1, 1e-9);
    ck_assert_double_eq_tol(window(METRIC_TYPE_THROUGHPUT, METRICS_ALL, 60).p50, 0, 1e-9);
    none.type = METRIC_TYPE_ERROR_RATE;
    ck_assert(!history_window(h, &none, 20 * SECOND, now, &p)); /* no data is not zero */
}
END_TEST

START_TEST(a_day_of_fifty_operations_fits)
{
    uint16_t operations[50];
    for (int i = 0; i < 50; i++) {
        char name[24];
        snprintf(name, sizeof name, "operation_%d", i);
        operations[i] = metrics_operation(m, name);
    }
    for (int second = 0; second < 86400; second++) {
        for (int i = 0; i < 10; i++) /* each operation every five seconds, with its own scale */
            observe(0, operations[(second * 10 + i) % 50], chance() < 0.01 ? 503 : 200, VERDICT_MISS,
                    latency(1.0));
        tick(&gauges);
    }
    ck_assert_uint_lt(history_bytes(h), 16 << 20);
    struct history_point p = window(METRIC_TYPE_REQUEST_LATENCY, METRICS_ALL, 86400);
    ck_assert_uint_ge(p.count, 863000);
    p = window(METRIC_TYPE_REQUEST_LATENCY, operations[49], 86400);
    ck_assert_uint_ge(p.count, 17200);
    printf("a day, 50 operations: %zu bytes, %llu points dropped early\n", history_bytes(h),
           (unsigned long long)history_dropped(h));
}
END_TEST

START_TEST(budget_and_retention_hold)
{
    history_free(h);
    h = history_new(m, now, WALL, 64 * 1024);
    ck_assert_ptr_nonnull(h);
    for (int i = 0; i < 3000; i++) {
        for (int k = 0; k < 30; k++)
            observe(0, 0, 200, VERDICT_MISS, latency(1.5));
        tick(&gauges);
    }
    ck_assert_uint_gt(history_dropped(h), 0);
    ck_assert_uint_gt(window(METRIC_TYPE_REQUEST_LATENCY, METRICS_ALL, 3000).count, 0);
    history_retain(h, 120 * SECOND);
    tick(&gauges);
    ck_assert_int_ge(history_oldest(h, now), now - 720 * SECOND); /* a point goes when all of it is too old */
}
END_TEST

START_TEST(an_export_gives_each_second_once)
{
    struct history_cursor c = {0};
    struct history_series s;
    struct history_point p;
    uint64_t requests = 0, rows = 0;
    for (int i = 0; i < 4000; i++) {
        observe(0, 0, 200, VERDICT_MISS, 1000);
        tick(&gauges);
    }
    int64_t last = 0;
    while (history_next(h, &c, &s, &p)) {
        ck_assert_int_ge(p.from, last);
        if (s.type == METRIC_TYPE_REQUEST_LATENCY && s.operation == METRICS_ALL)
            requests += p.count;
        if (++rows == 100) { /* what is read on may vanish under the cursor */
            history_retain(h, 3000 * SECOND);
            tick(&gauges);
        }
        last = p.from;
    }
    ck_assert_uint_ge(requests, 2990);
    ck_assert_uint_le(requests, 4000);
}
END_TEST

/* The checksum anew, as who wants to do harm would make it. */
static void seal(struct text *bytes)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes->n - sizeof sum; i++)
        sum = (sum ^ (uint8_t)bytes->p[i]) * UINT64_C(0x100000001b3);
    memcpy(bytes->p + bytes->n - sizeof sum, &sum, sizeof sum);
}

/* What was saved is what is read; of what was damaged nothing is, and nothing changes. */
static void post(struct custom *c, const char *name, enum custom_type type, double value)
{
    struct custom_sample s = {.name = name, .type = type, .value = value};
    struct custom_error error;
    bool folded;
    ck_assert(custom_check(c, &s, 1, &error));
    ck_assert(custom_add(c, &s, 1, &folded));
}

static bool gather(void *arg, int64_t from, const struct real_sketch *sketch)
{
    (void)from;
    real_sketch_merge(arg, sketch);
    return true;
}

/* Names, numbers and values of custom metrics come back, though the process that reads knows others. */
START_TEST(custom_metrics_are_saved)
{
    struct custom *mine = custom_new(), *theirs = custom_new();
    struct real_sketch expected = {0}, found = {0};
    history_follow(h, mine);
    for (int i = 0; i < 100; i++) {
        post(mine, "app.jobs", CUSTOM_COUNTER, 2);
        post(mine, "app.heat", CUSTOM_GAUGE, i - 50.5);
        real_sketch_add(&expected, i - 50.5, 1);
        tick(&gauges);
    }
    struct text bytes = {0};
    history_save(h, &bytes);
    struct history *other = history_new(m, now + 7, WALL + now + 7 - BEGIN, 1 << 20);
    ck_assert_int_eq(custom_know(theirs, "first.here", CUSTOM_GAUGE), 0);
    history_follow(other, theirs);
    ck_assert(history_load(other, bytes.p, bytes.n, now + 7));
    int number = custom_find(theirs, "app.heat");
    ck_assert_int_eq(number, 2);
    ck_assert(isnan(custom_metric_at(theirs, 2)->newest));
    struct history_series s = {METRIC_TYPE_CUSTOM_METRIC, HISTORY_CUSTOM + number};
    struct history_point p;
    ck_assert(history_window(other, &s, 200 * SECOND, now + 7, &p));
    ck_assert_uint_eq(p.count, 100);
    ck_assert(fabs(p.mean - -1) < 1e-9 && p.min == -50.5 && p.max == 48.5);
    history_reals(other, &s, now - 200 * SECOND, now, SECOND, gather, &found);
    ck_assert_uint_eq(found.count, expected.count);
    ck_assert(real_sketch_quantile(&found, 0.25) == real_sketch_quantile(&expected, 0.25));
    for (size_t i = 8; i < bytes.n - 8; i++) { /* whatever comes of it, nothing is overrun */
        bytes.p[i] ^= 0xff;
        seal(&bytes);
        if (history_load(other, bytes.p, bytes.n, now + 7))
            (void)history_window(other, &s, 300 * SECOND, now + 7, &p);
        bytes.p[i] ^= 0xff;
    }
    text_dispose(&bytes);
    history_free(other);
    history_follow(h, NULL);
    custom_free(mine);
    custom_free(theirs);
}
END_TEST

START_TEST(saved_and_damaged)
{
    for (int i = 0; i < 200; i++) {
        for (int k = 0; k < 5; k++)
            observe(k % 2, OPERATION_OTHER, 200, VERDICT_MISS, (k + 1) * 1000000);
        tick(&gauges);
    }
    struct text bytes = {0};
    history_save(h, &bytes);
    ck_assert(!bytes.failed);
    struct history_series all = {METRIC_TYPE_REQUEST_LATENCY, METRICS_ALL};
    struct history_point before = window(METRIC_TYPE_REQUEST_LATENCY, METRICS_ALL, 300), after;
    struct history *other = history_new(m, now + 7, WALL + now + 7 - BEGIN, 1 << 20);
    ck_assert_ptr_nonnull(other);
    ck_assert(history_load(other, bytes.p, bytes.n, now + 7));
    ck_assert(history_window(other, &all, 300 * SECOND, now + 7, &after));
    ck_assert_uint_eq(after.count, before.count);
    ck_assert(fabs(after.p95 - before.p95) < 1e-12);
    for (size_t i = 0; i < bytes.n; i += 1 + bytes.n / 500) {
        bytes.p[i] ^= 0x55;
        ck_assert(!history_load(other, bytes.p, bytes.n, now + 7));
        bytes.p[i] ^= 0x55;
    }
    ck_assert(!history_load(other, bytes.p, bytes.n - 1, now + 7));
    ck_assert(history_window(other, &all, 300 * SECOND, now + 7, &after));
    ck_assert_uint_eq(after.count, before.count);
    for (size_t i = 8; i < bytes.n - 8;
         i += 1 + bytes.n / 1000) { /* whatever comes of it, nothing is overrun */
        bytes.p[i] ^= 0xff;
        seal(&bytes);
        if (history_load(other, bytes.p, bytes.n, now + 7))
            (void)history_window(other, &all, 300 * SECOND, now + 7, &after);
        bytes.p[i] ^= 0xff;
    }
    text_dispose(&bytes);
    history_free(other);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("history");
    TCase *t = tcase_create("history");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, quantiles_hold_one_per_cent_over_workers_and_levels);
    tcase_add_test(t, every_width_counts_the_same);
    tcase_add_test(t, the_pool_is_kept_by_state);
    tcase_add_test(t, requests_and_retries_are_kept_by_how_they_ended);
    tcase_add_test(t, an_operation_has_its_own);
    tcase_add_test(t, a_day_of_fifty_operations_fits);
    tcase_add_test(t, budget_and_retention_hold);
    tcase_add_test(t, an_export_gives_each_second_once);
    tcase_add_test(t, saved_and_damaged);
    tcase_add_test(t, custom_metrics_are_saved);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
