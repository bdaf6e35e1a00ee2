/* metrics/recent.c and summary.c: windows are sums of what was counted within them, over hours, in little
 * memory. */
#include "metrics/recent.h"
#include "metrics/summary.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const methods[] = {"other", "GET"};
static const char *const reasons[] = {"NONE"};
#define SECOND INT64_C(1000000000)

struct world {
    struct metrics *m;
    struct recent *r;
    struct recent_totals *totals;
};

static struct world world_new(void)
{
    struct metrics_config config = {2, methods, 2, reasons, 1, NULL, 0};
    struct world w = {.m = metrics_new(&config), .totals = calloc(1, sizeof(struct recent_totals))};
    ck_assert(w.m && w.totals);
    w.r = recent_new(w.m, 0);
    ck_assert_ptr_nonnull(w.r);
    return w;
}

static void world_free(struct world *w)
{
    recent_free(w->r);
    metrics_free(w->m);
    free(w->totals);
}

static void request(struct world *w, int worker, int64_t total, enum cache_word cache)
{
    struct observation o = {.method = 1,
                            .cache = (uint8_t)cache,
                            .status = 200,
                            .total = total,
                            .bytes_out = 10,
                            .saved = SECOND};
    metrics_observe(metrics_block(w->m, worker), &o);
}

START_TEST(a_window_holds_what_happened_in_it)
{
    struct world w = world_new();
    for (int tick = 1; tick <= 30; tick++) { /* tick requests in each ten seconds */
        for (int i = 0; i < tick; i++)
            request(&w, i % 2, tick * 1000000, VERDICT_MISS);
        ck_assert(recent_tick(w.r, tick * 10 * SECOND));
    }
    request(&w, 0, 99 * 1000000, VERDICT_HIT); /* since the last tick */
    int64_t now = 305 * SECOND;
    recent_read(w.r, 5 * SECOND, now, w.totals);
    ck_assert_uint_eq(w.totals->v[METRIC_REQUESTS_DONE], 1);
    ck_assert_int_eq(w.totals->covered, 5 * SECOND);
    recent_read(w.r, 25 * SECOND, now, w.totals); /* the present five seconds, and two notes */
    ck_assert_uint_eq(w.totals->v[METRIC_REQUESTS_DONE], 1 + 30 + 29);
    ck_assert_int_eq(w.totals->covered, 25 * SECOND);
    ck_assert_uint_eq(w.totals->request.count, 60);
    ck_assert(fabs(hist_quantile(&w.totals->request, 0.4) - 29e6) < 29e6 / 100);
    recent_read(w.r, 0, now, w.totals);
    ck_assert_uint_eq(w.totals->v[METRIC_REQUESTS_DONE], 466);
    ck_assert_int_eq(w.totals->covered, now);
    recent_read(w.r, 3600 * SECOND, now, w.totals); /* longer than it has run */
    ck_assert_uint_eq(w.totals->request.count, 466);
    world_free(&w);
}
END_TEST

START_TEST(sums_and_maxima_of_a_window)
{
    struct world w = world_new();
    request(&w, 0, 50 * SECOND, VERDICT_MISS);
    ck_assert(recent_tick(w.r, 10 * SECOND));
    request(&w, 0, 2 * SECOND, VERDICT_MISS);
    request(&w, 1, 4 * SECOND, VERDICT_MISS);
    ck_assert(recent_tick(w.r, 20 * SECOND));
    recent_read(w.r, 10 * SECOND, 20 * SECOND, w.totals);
    ck_assert(hist_mean(&w.totals->request) == 3e9);
    ck_assert(fabs((double)w.totals->request.max - 4e9) < 4e9 / 100); /* not the 50 s of before */
    world_free(&w);
}
END_TEST

START_TEST(hours_go_round_in_bounded_memory)
{
    struct world w = world_new();
    for (int tick = 1; tick <= 1500; tick++) { /* more than four hours */
        for (int i = 0; i < 40; i++)
            request(&w, i % 2, (int64_t)exp(13 + i / 5.0 + tick % 7), VERDICT_HIT);
        ck_assert(recent_tick(w.r, tick * 10 * SECOND));
    }
    recent_read(w.r, 3600 * SECOND, 15000 * SECOND, w.totals);
    ck_assert_uint_eq(w.totals->v[METRIC_REQUESTS_DONE], 360 * 40);
    ck_assert_uint_eq(w.totals->request.count, 360 * 40);
    ck_assert_int_eq(w.totals->covered, 3600 * SECOND);
    recent_read(w.r, 9000 * SECOND, 15000 * SECOND,
                w.totals); /* only RECENT_NOTES are left, and it says so */
    ck_assert_int_eq(w.totals->covered, RECENT_NOTES * 10 * SECOND);
    ck_assert_uint_eq(w.totals->v[METRIC_REQUESTS_DONE], RECENT_NOTES * 40);
    ck_assert_uint_lt(recent_bytes(w.r), 1024 * 1024);
    world_free(&w);
}
END_TEST

START_TEST(gauges_are_as_they_are_now)
{
    struct world w = world_new();
    metric_add(metrics_block(w.m, 0), METRIC_ACTIVE_REQUESTS, 7);
    ck_assert(recent_tick(w.r, 10 * SECOND));
    ck_assert(recent_tick(w.r, 20 * SECOND));
    metric_sub(metrics_block(w.m, 1), METRIC_ACTIVE_REQUESTS, 2);
    recent_read(w.r, 5 * SECOND, 21 * SECOND, w.totals);
    ck_assert_uint_eq(w.totals->v[METRIC_ACTIVE_REQUESTS], 5);
    world_free(&w);
}
END_TEST

START_TEST(the_summary)
{
    struct world w = world_new();
    struct summary s;
    struct process_values process = {.resident_bytes = 50000000};
    for (int i = 0; i < 6; i++)
        request(&w, i % 2, SECOND / 100, VERDICT_HIT);
    request(&w, 0, SECOND / 10, VERDICT_STALE);
    request(&w, 0, SECOND / 10, VERDICT_COLLAPSED);
    request(&w, 0, SECOND / 10, VERDICT_REVALIDATED);
    request(&w, 0, SECOND / 10, VERDICT_MISS);
    struct observation bad = {.cache = VERDICT_BYPASS, .status = 503, .total = SECOND};
    metrics_observe(metrics_block(w.m, 0), &bad);
    struct attempt a = {
        .status = 200, .tcp = SECOND / 50, .total = SECOND / 10, .kind = ATTEMPT_BATCH, .batch = 8};
    metrics_upstream(metrics_block(w.m, 0), &a);
    metric_add(metrics_block(w.m, 0), METRIC_COMPRESSED_FROM, 300);
    metric_add(metrics_block(w.m, 0), METRIC_COMPRESSED_TO, 100);
    metric_set(metrics_block(w.m, 2), METRIC_PROCESS_CPU, SECOND / 2);
    summary_read(&(struct summary_input){w.r, 60 * SECOND, 10 * SECOND, &process}, w.totals, &s);
    ck_assert(s.cache_hit_rate == 0.7);
    ck_assert(fabs(s.error_rate - 1.0 / 11) < 1e-12);
    ck_assert(fabs(s.throughput - 1.1) < 1e-12);
    ck_assert(fabs(s.request_latency.p50 - 0.01) < 0.0001);
    ck_assert(s.request_latency.max == 1);
    ck_assert(fabs(s.network_latency.mean - 0.02) < 1e-9);
    ck_assert(s.memory_usage_mb == 50);
    ck_assert(s.cpu_usage == 5);
    ck_assert(s.batch_size == 8);
    ck_assert(s.compression_ratio == 3);
    ck_assert_uint_eq(s.requests_saved, 8 + 7);
    ck_assert(s.fetch_seconds_saved == 8);
    ck_assert_uint_eq(s.bytes_saved, 80);
    ck_assert_uint_eq(s.upstream_requests_total, 1);
    ck_assert(s.uptime == 10 && s.window == 10);
    world_free(&w);
}
END_TEST

START_TEST(nothing_is_zero_and_not_a_division)
{
    struct world w = world_new();
    struct summary s;
    summary_read(&(struct summary_input){.recent = w.r}, w.totals, &s);
    ck_assert(s.cache_hit_rate == 0 && s.error_rate == 0 && s.throughput == 0 && s.cpu_usage == 0);
    ck_assert(s.request_latency.p99 == 0 && s.compression_ratio == 1 && s.batch_size == 0);
    world_free(&w);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("recent");
    TCase *t = tcase_create("recent");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_window_holds_what_happened_in_it);
    tcase_add_test(t, sums_and_maxima_of_a_window);
    tcase_add_test(t, hours_go_round_in_bounded_memory);
    tcase_add_test(t, gauges_are_as_they_are_now);
    tcase_add_test(t, the_summary);
    tcase_add_test(t, nothing_is_zero_and_not_a_division);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
