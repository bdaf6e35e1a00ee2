/* metrics/observe.c and ring.c: what one observation counts, names, folding, and reading while others write.
 */
#include "metrics/observe.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "metrics/series.h"

static const char *const methods[] = {"other", "GET", "POST"};
static const char *const reasons[] = {"NONE", "CONNECT_FAILED", "RESPONSE_TIMEOUT"};
static const char *const outcomes[] = {"ok", "throttled", "connect_failed"};

static struct metrics *fresh(int workers)
{
    struct metrics_config config = {workers, methods, 3, reasons, 3, outcomes, 3};
    struct metrics *m = metrics_new(&config);
    ck_assert_ptr_nonnull(m);
    return m;
}

/* How often a tuple was counted, over all blocks. */
static uint64_t tuples(const struct metrics *m, enum series_id id, struct series_tuple want)
{
    uint64_t sum = 0;
    for (int b = 0; b < metrics_blocks(m); b++) {
        const struct series *s = metrics_series(m, b, id);
        for (size_t i = 0; i < series_places(s); i++) {
            uint64_t key, count;
            if (!series_at(s, i, &key, &count))
                continue;
            struct series_tuple t = metrics_tuple(key);
            if (t.operation == want.operation && t.code == want.code && t.method == want.method &&
                t.cache == want.cache && t.other == want.other)
                sum += count;
        }
    }
    return sum;
}

START_TEST(a_request_is_counted_everywhere)
{
    struct metrics *m = fresh(2);
    uint16_t get = metrics_operation(m, "get_prompt");
    struct observation o = {.operation = get,
                            .method = 1,
                            .cache = VERDICT_HIT,
                            .status = 200,
                            .total = 2000000,
                            .bytes_in = 100,
                            .bytes_out = 1000,
                            .saved = 30000000};
    metrics_observe(metrics_block(m, 0), &o);
    metrics_observe(metrics_block(m, 1), &o);
    o = (struct observation){
        .operation = get, .method = 2, .cache = VERDICT_MISS, .status = 503, .total = 5000000};
    metrics_observe(metrics_block(m, 1), &o);
    ck_assert_uint_eq(metrics_sum(m, METRIC_REQUESTS_DONE), 3);
    ck_assert_uint_eq(metrics_sum(m, METRIC_REQUESTS_FAILED), 1);
    ck_assert_uint_eq(metrics_sum(m, METRIC_CACHE_HITS), 2);
    ck_assert_uint_eq(metrics_sum(m, METRIC_CACHE_MISSES), 1);
    ck_assert_uint_eq(metrics_sum(m, METRIC_CACHE_SAVED), 60000000);
    ck_assert_uint_eq(metrics_sum(m, METRIC_CACHE_SAVED_REQUESTS), 2);
    ck_assert_uint_eq(metrics_sum(m, METRIC_CACHE_SAVED_BYTES), 2000);
    ck_assert_uint_eq(metrics_sum(m, METRIC_REQUEST_BYTES), 200);
    struct series_tuple hit = {.operation = get, .code = 200, .method = 1, .cache = VERDICT_HIT};
    ck_assert_uint_eq(tuples(m, SERIES_REQUESTS, hit), 2);
    struct hist_counts *c = calloc(1, sizeof *c);
    ck_assert(metrics_histogram(m, HISTOGRAM_REQUEST, get, c));
    ck_assert_uint_eq(c->count, 3);
    ck_assert_uint_eq(c->max, 5000000);
    ck_assert(!metrics_histogram(m, HISTOGRAM_REQUEST, OPERATION_OTHER, c));
    ck_assert(!metrics_histogram(m, HISTOGRAM_REQUEST, METRICS_MAX_OPERATIONS, c));
    ck_assert_uint_eq(ring_count(metrics_ring(m, 1)), 2);
    free(c);
    metrics_free(m);
}
END_TEST

/* What a hit saved: not the request, when that was made ahead; nothing, when the upstream was asked in vain.
 */
START_TEST(what_was_saved)
{
    static const struct {
        uint8_t cache;
        uint16_t flags;
        uint8_t attempts;
        unsigned seconds, requests;
    } cases[] = {{VERDICT_HIT, 0, 0, 1, 1},   {VERDICT_HIT, OBSERVED_AHEAD, 0, 1, 0},
                 {VERDICT_STALE, 0, 1, 0, 0}, {VERDICT_COLLAPSED, 0, 0, 1, 1},
                 {VERDICT_MISS, 0, 1, 0, 0},  {VERDICT_REVALIDATED, 0, 1, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct metrics *m = fresh(1);
        struct observation o = {.cache = cases[i].cache,
                                .flags = cases[i].flags,
                                .attempts = cases[i].attempts,
                                .status = 200,
                                .total = 1,
                                .saved = 1000000000,
                                .bytes_out = 7};
        metrics_observe(metrics_block(m, 0), &o);
        ck_assert_uint_eq(metrics_sum(m, METRIC_CACHE_SAVED), cases[i].seconds * 1000000000u);
        ck_assert_uint_eq(metrics_sum(m, METRIC_CACHE_SAVED_REQUESTS), cases[i].requests);
        ck_assert_uint_eq(metrics_sum(m, METRIC_CACHE_SAVED_BYTES), cases[i].requests * 7);
        metrics_free(m);
    }
}
END_TEST

START_TEST(what_is_a_failure)
{
    static const struct {
        uint16_t status;
        uint8_t flags;
        bool failed;
    } cases[] = {{200, 0, false},
                 {304, 0, false},
                 {404, 0, false},
                 {429, 0, true},
                 {500, 0, true},
                 {504, OBSERVED_NO_FAULT, false},
                 {200, OBSERVED_BROKEN, true},
                 {0, OBSERVED_CLIENT_GONE, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct observation o = {.status = cases[i].status, .flags = cases[i].flags};
        ck_assert_int_eq(observation_failed(&o), cases[i].failed);
    }
}
END_TEST

START_TEST(an_attempt_is_counted_by_outcome)
{
    static const struct {
        uint16_t status;
        uint8_t outcome;
        bool failed, throttled;
        const char *name;
    } cases[] = {{200, 0, false, false, "ok"},
                 {429, 1, true, true, "throttled"},
                 {401, 1, true, true, "throttled"},
                 {0, 2, true, false, "connect_failed"},
                 {0, 50, false, false, "other"}};
    struct metrics *m = fresh(1);
    char room[8];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct attempt a = {.operation = (uint16_t)i,
                            .status = cases[i].status,
                            .outcome = cases[i].outcome,
                            .failed = cases[i].failed,
                            .throttled = cases[i].throttled,
                            .tcp = 1000,
                            .first_byte = 5000,
                            .total = 9000};
        metrics_upstream(metrics_block(m, 0), &a);
    }
    const struct series *s = metrics_series(m, 0, SERIES_UPSTREAM);
    size_t seen = 0;
    for (size_t i = 0; i < series_places(s); i++) {
        uint64_t key, count;
        if (!series_at(s, i, &key, &count))
            continue;
        struct series_tuple t = metrics_tuple(key);
        ck_assert_str_eq(metrics_outcome_name(m, t.code, room), cases[t.operation].name);
        seen++;
    }
    ck_assert_uint_eq(seen, 5);
    ck_assert_uint_eq(metrics_sum(m, METRIC_UPSTREAM_DONE), 5);
    ck_assert_uint_eq(metrics_sum(m, METRIC_UPSTREAM_FAILED), 3);
    ck_assert_uint_eq(metrics_sum(m, METRIC_QUOTA_ANSWERS), 2);
    struct hist_counts *c = calloc(1, sizeof *c);
    ck_assert(metrics_histogram(m, HISTOGRAM_CONNECT, 1, c) && c->count == 5);
    ck_assert(!metrics_histogram(m, HISTOGRAM_CONNECT, 0, c));   /* no name was looked up */
    ck_assert(metrics_histogram(m, HISTOGRAM_ROUND_TRIP, 0, c)); /* taken from tcp */
    free(c);
    metrics_free(m);
}
END_TEST

START_TEST(a_retry_is_counted_by_reason)
{
    struct metrics *m = fresh(1);
    char room[8];
    metrics_retry(metrics_block(m, 0), 3, 0, 503);
    metrics_retry(metrics_block(m, 0), 3, 1, 0);
    metrics_retry(metrics_block(m, 0), 3, 1, 0);
    ck_assert_uint_eq(metrics_sum(m, METRIC_RETRIES_DONE), 3);
    ck_assert_uint_eq(tuples(m, SERIES_RETRIES, (struct series_tuple){.operation = 3, .code = 503}), 1);
    ck_assert_uint_eq(tuples(m, SERIES_RETRIES, (struct series_tuple){.operation = 3, .code = 1025}), 2);
    ck_assert_str_eq(metrics_outcome_name(m, 503, room), "503");
    ck_assert_str_eq(metrics_outcome_name(m, 1025, room), "connect_failed");
    ck_assert_str_eq(metrics_outcome_name(m, 50, room), "other");
    metrics_free(m);
}
END_TEST

START_TEST(operations_keep_their_numbers_and_are_bounded)
{
    struct metrics *m = fresh(0);
    char name[32];
    ck_assert_uint_eq(metrics_operation(m, "other"), OPERATION_OTHER);
    uint16_t first = metrics_operation(m, "a");
    ck_assert_uint_eq(metrics_operation(m, "a"), first);
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "operation_%d", i);
        metrics_operation(m, name);
    }
    ck_assert_uint_eq(metrics_operation(m, "a"), first);
    ck_assert_uint_eq(metrics_operation(m, "one too many"), OPERATION_OTHER);
    ck_assert_str_eq(metrics_operation_name(m, first), "a");
    ck_assert_str_eq(metrics_operation_name(m, 9999), "other");
    metrics_free(m);
}
END_TEST

START_TEST(series_are_bounded_and_folding_is_counted)
{
    struct metrics *m = fresh(1);
    for (unsigned status = 0; status < 3000; status++) {
        struct observation o = {.operation = 60000, .status = (uint16_t)status, .total = 1};
        metrics_observe(metrics_block(m, 0), &o);
    }
    ck_assert_uint_eq(metrics_sum(m, METRIC_SERIES_FOLDED), 3000 - 1024);
    ck_assert_uint_eq(tuples(m, SERIES_REQUESTS, (struct series_tuple){.other = true}), 3000 - 1024);
    struct hist_counts *c = calloc(1, sizeof *c);
    ck_assert(
        metrics_histogram(m, HISTOGRAM_REQUEST, OPERATION_OTHER, c)); /* an unknown number counts as other */
    ck_assert_uint_eq(c->count, 3000);
    free(c);
    metrics_free(m);
}
END_TEST

START_TEST(the_ring_keeps_the_newest)
{
    struct metrics *m = fresh(1);
    const struct ring *ring = metrics_ring(m, 0);
    for (int i = 0; i < RING_ENTRIES + 10; i++) {
        struct observation o = {.status = 200, .total = i};
        memcpy(o.request_id, "abc", 3);
        metrics_observe(metrics_block(m, 0), &o);
    }
    struct observation got;
    ck_assert_uint_eq(ring_count(ring), RING_ENTRIES + 10);
    ck_assert(!ring_get(ring, 9, &got));
    ck_assert(ring_get(ring, 10, &got));
    ck_assert_int_eq(got.total, 10);
    ck_assert(ring_get(ring, RING_ENTRIES + 9, &got));
    ck_assert_int_eq(got.total, RING_ENTRIES + 9);
    ck_assert_str_eq(got.request_id, "abc");
    ck_assert(!ring_get(ring, RING_ENTRIES + 10, &got));
    metrics_free(m);
}
END_TEST

/* ---- one writes, one reads: run under a thread checker, too ---- */

enum { WRITES = 60000 };

struct writer {
    struct metrics_block *block;
    _Atomic bool done;
};

/* All fields of an entry tell the same number, so that a torn one shows. */
static void *write_all(void *arg)
{
    struct writer *w = arg;
    for (uint32_t i = 1; i <= WRITES; i++) {
        struct observation o = {.operation = (uint16_t)(i % 50),
                                .status = (uint16_t)(200 + i % 3),
                                .detailed = 1,
                                .total = i,
                                .tcp = i,
                                .saved = i,
                                .bytes_in = i,
                                .bytes_out = i};
        memset(o.path, (int)(i & 0xff), sizeof o.path);
        metrics_observe(w->block, &o);
    }
    atomic_store(&w->done, true);
    return NULL;
}

static void check_whole(const struct observation *o)
{
    bool whole = o->tcp == o->total && o->saved == o->total && (int64_t)o->bytes_in == o->total &&
                 (int64_t)o->bytes_out == o->total;
    for (size_t i = 0; i < sizeof o->path; i++)
        whole &= (unsigned char)o->path[i] == (o->total & 0xff);
    ck_assert(whole);
}

START_TEST(readers_see_whole_things)
{
    struct metrics *m = fresh(1);
    struct writer w = {.block = metrics_block(m, 0)};
    struct hist_counts *c = calloc(1, sizeof *c);
    uint64_t last_count = 0, last_sum = 0, got_entries = 0;
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, write_all, &w), 0);
    bool done;
    do {
        done = atomic_load(&w.done);
        uint64_t count = ring_count(metrics_ring(m, 0));
        struct observation o;
        if (count && ring_get(metrics_ring(m, 0), count - 1, &o)) {
            check_whole(&o);
            got_entries++;
        }
        memset(c, 0, sizeof *c);
        metrics_histogram(m, HISTOGRAM_REQUEST, METRICS_ALL, c);
        ck_assert_uint_ge(c->count, last_count);
        last_count = c->count;
        uint64_t sum = tuples(m, SERIES_REQUESTS, (struct series_tuple){.operation = 1, .code = 201});
        ck_assert_uint_ge(sum, last_sum);
        last_sum = sum;
    } while (!done);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_gt(got_entries, 0);
    memset(c, 0, sizeof *c);
    metrics_histogram(m, HISTOGRAM_REQUEST, METRICS_ALL, c);
    ck_assert_uint_eq(c->count, WRITES);
    ck_assert_uint_eq(metrics_sum(m, METRIC_REQUESTS_DONE), WRITES);
    free(c);
    metrics_free(m);
}
END_TEST

START_TEST(observing_is_cheap)
{
    struct metrics *m = fresh(1);
    struct timespec a, b;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    for (uint32_t i = 0; i < 1000000; i++) {
        struct observation o = {.operation = (uint16_t)(i & 15),
                                .method = 1,
                                .cache = VERDICT_HIT,
                                .status = 200,
                                .total = 10000 + i % 1000000,
                                .bytes_in = 200,
                                .bytes_out = 2000};
        metrics_observe(metrics_block(m, 0), &o);
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    double ns = ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / 1e6;
    printf("metrics_observe: %.1f ns\n", ns);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__OPTIMIZE__)
    ck_assert(ns < 1000);
#endif
    metrics_free(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("observe");
    TCase *t = tcase_create("observe");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_request_is_counted_everywhere);
    tcase_add_test(t, what_was_saved);
    tcase_add_test(t, what_is_a_failure);
    tcase_add_test(t, an_attempt_is_counted_by_outcome);
    tcase_add_test(t, a_retry_is_counted_by_reason);
    tcase_add_test(t, operations_keep_their_numbers_and_are_bounded);
    tcase_add_test(t, series_are_bounded_and_folding_is_counted);
    tcase_add_test(t, the_ring_keeps_the_newest);
    tcase_add_test(t, readers_see_whole_things);
    tcase_add_test(t, observing_is_cheap);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
