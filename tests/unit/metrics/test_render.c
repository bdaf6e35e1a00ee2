/*
 * metrics/render.c: families and samples as Prometheus wants them, in both formats. Where
 * promtool is installed it judges, too.
 */
#include "metrics/render.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "metrics/exemplar.h"

static const char *const methods[] = {"other", "GET", "POST"};
static const char *const reasons[] = {"NONE", "CONNECT_FAILED"};
static const char *const outcomes[] = {"ok", "connect_failed"};

/* Two requests of an operation whose name needs every escape, a miss with its attempt, a retry. */
static struct metrics *filled(void)
{
    struct metrics_config config = {2, methods, 3, reasons, 2, outcomes, 2};
    struct metrics *m = metrics_new(&config);
    ck_assert_ptr_nonnull(m);
    uint16_t odd = metrics_operation(m, "a\"b\\c\nd");
    struct observation o = {
        .operation = odd, .method = 1, .cache = VERDICT_HIT, .status = 200, .total = 2000000};
    metrics_observe(metrics_block(m, 0), &o);
    metrics_observe(metrics_block(m, 1), &o);
    o = (struct observation){
        .operation = odd, .method = 2, .cache = VERDICT_MISS, .status = 502, .total = 70000000000};
    metrics_observe(metrics_block(m, 1), &o);
    struct attempt a = {.operation = odd, .reason = 1, .outcome = 1, .tcp = 400000, .total = 500000};
    metrics_upstream(metrics_block(m, 1), &a);
    metrics_retry(metrics_block(m, 1), odd, 1, 0);
    metric_add(metrics_block(m, 0), METRIC_POOL_IDLE, 1);
    metric_sub(metrics_block(m, 1), METRIC_POOL_IDLE,
               3); /* its connections were opened by the other: the sum counts */
    metric_add(metrics_block(m, 2), METRIC_POOL_IDLE, 4);
    metric_add(metrics_block(m, 0), METRIC_CACHE_SAVED, 1500000000);
    return m;
}

static struct text rendered(const struct metrics *m, bool open)
{
    struct supplied supplied = {0};
    struct process_values process = {.cpu_ns = 2500000000,
                                     .resident_bytes = 1048576,
                                     .open_files = 7,
                                     .max_files = 1024,
                                     .threads = 3,
                                     .start_time = 1.7e9,
                                     .version = "1.2.3"};
    struct text out = {0};
    supply(&supplied, SUPPLIED_CACHE_ENTRIES, "hot", 12);
    supply(&supplied, SUPPLIED_CIRCUIT_STATE, "up\"stream", 2);
    supply(&supplied, SUPPLIED_CACHE_ENTRIES, "warm", 3);
    struct render_input in = {m, &supplied, &process, open, NULL};
    ck_assert(render_metrics(&in, &out));
    text_bytes(&out, "", 1);
    ck_assert(!out.failed);
    out.n--;
    return out;
}

static void must_have(const struct text *t, const char *line)
{
    const char *at = t->p;
    size_t n = strlen(line);
    while ((at = strstr(at, line)) && !((at == t->p || at[-1] == '\n') && at[n] == '\n'))
        at++;
    ck_assert_msg(at != NULL, "no line: %s", line);
}

START_TEST(prometheus_lines)
{
    static const char *const lines[] = {
        "# TYPE promptops_requests_total counter",
        "promptops_requests_total{operation=\"a\\\"b\\\\c\\nd\",method=\"GET\",code=\"200\",cache=\"hit\"} 2",
        "promptops_requests_total{operation=\"a\\\"b\\\\c\\nd\",method=\"POST\",code=\"502\",cache=\"miss\"} "
        "1",
        "# TYPE promptops_request_duration_seconds histogram",
        "promptops_request_duration_seconds_bucket{operation=\"a\\\"b\\\\c\\nd\",le=\"0.001\"} 0",
        "promptops_request_duration_seconds_bucket{operation=\"a\\\"b\\\\c\\nd\",le=\"0.0025\"} 2",
        "promptops_request_duration_seconds_bucket{operation=\"a\\\"b\\\\c\\nd\",le=\"60.0\"} 2",
        "promptops_request_duration_seconds_bucket{operation=\"a\\\"b\\\\c\\nd\",le=\"300.0\"} 3",
        "promptops_request_duration_seconds_bucket{operation=\"a\\\"b\\\\c\\nd\",le=\"+Inf\"} 3",
        "promptops_request_duration_seconds_sum{operation=\"a\\\"b\\\\c\\nd\"} 70.004",
        "promptops_request_duration_seconds_count{operation=\"a\\\"b\\\\c\\nd\"} 3",
        "promptops_upstream_requests_total{operation=\"a\\\"b\\\\c\\nd\",outcome=\"connect_failed\"} 1",
        "promptops_retries_total{operation=\"a\\\"b\\\\c\\nd\",reason=\"connect_failed\"} 1",
        "promptops_upstream_connect_seconds_count{phase=\"dns\"} 0",
        "promptops_upstream_connect_seconds_count{phase=\"tcp\"} 1",
        "promptops_pool_wait_seconds_count 0",
        "promptops_pool_connections{state=\"idle\"} 2",
        "promptops_cache_saved_seconds_total 1.5",
        "promptops_cache_entries{tier=\"hot\"} 12",
        "promptops_cache_entries{tier=\"warm\"} 3",
        "promptops_circuit_state{name=\"up\\\"stream\"} 2",
        "promptops_compression_ratio 1",
        "process_cpu_seconds_total 2.5",
        "process_resident_memory_bytes 1048576",
        "promptops_build_info{version=\"1.2.3\"} 1",
    };
    struct metrics *m = filled();
    struct text t = rendered(m, false);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        must_have(&t, lines[i]);
    ck_assert_ptr_null(strstr(t.p, "# EOF"));
    text_dispose(&t);
    metrics_free(m);
}
END_TEST

START_TEST(open_metrics_lines)
{
    struct metrics *m = filled();
    struct text t = rendered(m, true);
    must_have(&t, "# TYPE promptops_requests counter");
    must_have(&t, "# TYPE process_cpu_seconds counter");
    must_have(&t, "promptops_requests_total{operation=\"a\\\"b\\\\c\\nd\",method=\"GET\",code=\"200\",cache="
                  "\"hit\"} 2");
    ck_assert(t.n > 6 && memcmp(t.p + t.n - 6, "# EOF\n", 6) == 0);
    text_dispose(&t);
    metrics_free(m);
}
END_TEST

static void keep(struct metrics *m, int block, uint16_t operation, int64_t value, int64_t at, uint8_t trace,
                 uint8_t span)
{
    struct exemplar e = {.value = value, .at = at, .operation = operation};
    memset(e.trace_id, trace, sizeof e.trace_id);
    memset(e.span_id, span, sizeof e.span_id);
    metrics_exemplar(metrics_block(m, block), &e);
}

static size_t occurrences(const char *text, const char *word)
{
    size_t n = 0;
    for (; (text = strstr(text, word)); text += strlen(word))
        n++;
    return n;
}

/* The newest of each bucket, and none in Prometheus' own format. */
START_TEST(exemplars_stand_at_buckets)
{
    struct metrics *m = filled();
    uint16_t odd = metrics_operation(m, "a\"b\\c\nd");
    keep(m, 0, odd, 2000000, INT64_C(1700000000) * 1000000000 + 5000000, 0xab, 0);
    keep(m, 1, odd, 2100000, INT64_C(1700000001) * 1000000000, 0xcd, 0x0e);
    keep(m, 1, odd, 70000000000, INT64_C(1700000002) * 1000000000, 0xef, 0);
    keep(m, 1, OPERATION_OTHER, 2000000, INT64_C(1700000003) * 1000000000, 0x11, 0);
    struct text t = rendered(m, true);
    must_have(&t, "promptops_request_duration_seconds_bucket{operation=\"a\\\"b\\\\c\\nd\",le=\"0.0025\"} 2"
                  " # {trace_id=\"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd\",span_id=\"0e0e0e0e0e0e0e0e\"} 0.0021 "
                  "1700000001.000");
    must_have(&t, "promptops_request_duration_seconds_bucket{operation=\"a\\\"b\\\\c\\nd\",le=\"300.0\"} 3"
                  " # {trace_id=\"efefefefefefefefefefefefefefefef\"} 70 1700000002.000");
    ck_assert_uint_eq(occurrences(t.p, "trace_id"), 2); /* `other` has no requests: no buckets */
    text_dispose(&t);
    t = rendered(m, false);
    ck_assert_uint_eq(occurrences(t.p, "trace_id"), 0);
    text_dispose(&t);
    metrics_free(m);
}
END_TEST

/* However many traces there are, what is kept and shown is bounded. */
START_TEST(exemplars_are_bounded)
{
    struct metrics *m = filled();
    uint16_t odd = metrics_operation(m, "a\"b\\c\nd");
    for (int i = 0; i < 100000; i++)
        keep(m, i % 2, odd, (int64_t)1 << i % 40, i, (uint8_t)i, 1);
    struct text t = rendered(m, true);
    size_t n = occurrences(t.p, "trace_id");
    ck_assert_msg(n > 10 && n <= 20, "%zu", n);
    text_dispose(&t);
    metrics_free(m);
}
END_TEST

/* Every family is opened once, and its samples follow it with nothing in between. */
START_TEST(families_stand_together)
{
    struct metrics *m = filled();
    struct text t = rendered(m, false);
    char family[200] = "";
    static char seen[200][200];
    size_t families = 0;
    for (char *save = NULL, *line = strtok_r(t.p, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (sscanf(line, "# TYPE %199s", family) == 1) {
            for (size_t i = 0; i < families; i++)
                ck_assert_str_ne(seen[i], family);
            ck_assert_uint_lt(families, 200);
            snprintf(seen[families++], 200, "%s", family);
        } else if (*line != '#') {
            ck_assert_msg(strncmp(line, family, strlen(family)) == 0, "%s stands under %s", line, family);
        }
    }
    ck_assert_uint_gt(families, 50);
    text_dispose(&t);
    metrics_free(m);
}
END_TEST

START_TEST(folded_series_say_other)
{
    struct metrics_config config = {1, methods, 3, reasons, 2, outcomes, 2};
    struct metrics *m = metrics_new(&config);
    for (unsigned status = 0; status < 1030; status++) {
        struct observation o = {.status = (uint16_t)status, .total = 1};
        metrics_observe(metrics_block(m, 0), &o);
    }
    struct text t = rendered(m, false);
    must_have(
        &t,
        "promptops_requests_total{operation=\"other\",method=\"other\",code=\"other\",cache=\"other\"} 6");
    must_have(&t, "promptops_series_folded_total 6");
    text_dispose(&t);
    metrics_free(m);
}
END_TEST

/* How long a scrape of many series takes. */
START_TEST(ten_thousand_series)
{
    struct metrics_config config = {2, methods, 3, reasons, 2, outcomes, 2};
    struct metrics *m = metrics_new(&config);
    double best = 1e9;
    size_t lines = 0, bytes = 0;
    for (int i = 0; i < 255; i++) {
        char name[32];
        snprintf(name, sizeof name, "operation_%d", i);
        uint16_t operation = metrics_operation(m, name);
        for (int k = 0; k < 40; k++) {
            struct observation o = {
                .operation = operation, .status = (uint16_t)(200 + k % 4), .total = (int64_t)1000 << k % 24};
            metrics_observe(metrics_block(m, k % 2), &o);
            struct attempt a = {
                .operation = operation, .outcome = (uint8_t)(k % 2), .total = (int64_t)1000 << k % 24};
            metrics_upstream(metrics_block(m, k % 2), &a);
        }
    }
    for (int round = 0; round < 5; round++) {
        struct timespec from, to;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
        struct text t = rendered(m, false);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
        double ms = (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
        best = ms < best ? ms : best;
        lines = 0;
        for (size_t i = 0; i < t.n; i++)
            lines += t.p[i] == '\n';
        bytes = t.n;
        text_dispose(&t);
    }
    printf("/metrics: %zu lines, %zu bytes in %.1f ms of processor time\n", lines, bytes, best);
    ck_assert_uint_gt(lines, 10000);
#if defined __OPTIMIZE__ && !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
    ck_assert_msg(best < 5.0 * 4 * (double)lines / 10000, "%.1f ms",
                  best); /* 5 ms for 10,000; a busy machine */
#endif
    metrics_free(m);
}
END_TEST

START_TEST(too_many_supplied_are_counted)
{
    struct supplied s = {0};
    for (int i = 0; i < SUPPLIED_MAX + 3; i++)
        supply(&s, SUPPLIED_CIRCUIT_STATE, "x", i);
    ck_assert_uint_eq(s.count, SUPPLIED_MAX);
    ck_assert_uint_eq(s.dropped, 3);
}
END_TEST

START_TEST(numbers_read_back)
{
    static const double values[] = {0, 1, -1, 0.1, 1e-9, 70.004, 1.7e9, 123456789.123, 1e300, 5e-324};
    struct text t = {0};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        text_clear(&t);
        text_real(&t, values[i]);
        text_bytes(&t, "", 1);
        ck_assert(strtod(t.p, NULL) == values[i]);
    }
    text_clear(&t);
    text_int(&t, INT64_MIN);
    text_bytes(&t, "", 1);
    ck_assert_str_eq(t.p, "-9223372036854775808");
    text_dispose(&t);
}
END_TEST

START_TEST(promtool_is_content)
{
    if (system("command -v promtool >/dev/null 2>&1") != 0)
        return;
    struct metrics *m = filled();
    struct text t = rendered(m, false);
    FILE *f = popen("promtool check metrics >&2", "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(t.p, 1, t.n, f), t.n);
    ck_assert_int_eq(pclose(f), 0);
    text_dispose(&t);
    metrics_free(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("render");
    TCase *t = tcase_create("render");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, prometheus_lines);
    tcase_add_test(t, open_metrics_lines);
    tcase_add_test(t, exemplars_stand_at_buckets);
    tcase_add_test(t, exemplars_are_bounded);
    tcase_add_test(t, families_stand_together);
    tcase_add_test(t, folded_series_say_other);
    tcase_add_test(t, ten_thousand_series);
    tcase_add_test(t, too_many_supplied_are_counted);
    tcase_add_test(t, numbers_read_back);
    tcase_add_test(t, promtool_is_content);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
