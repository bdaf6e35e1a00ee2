/* metrics/metric_type.c: the guide's names are all there, found again, and each reads its own number. */
#include "metrics/metric_type.h"

#include <check.h>

static const char *const guide[] = {"REQUEST_LATENCY", "MEMORY_USAGE",      "CPU_USAGE",
                                    "NETWORK_LATENCY", "CACHE_HIT_RATE",    "ERROR_RATE",
                                    "THROUGHPUT",      "RETRY_COUNT",       "CONNECTION_POOL_SIZE",
                                    "BATCH_SIZE",      "COMPRESSION_RATIO", "CUSTOM_METRIC"};

START_TEST(the_guides_names)
{
    ck_assert_uint_eq(sizeof guide / sizeof *guide, METRIC_TYPE_COUNT);
    for (unsigned i = 0; i < METRIC_TYPE_COUNT; i++) {
        enum metric_type type;
        ck_assert(metric_type_find(guide[i], &type));
        ck_assert_str_eq(metric_type_row(type)->name, guide[i]);
        ck_assert(*metric_type_row(type)->unit && *metric_type_row(type)->help);
    }
}
END_TEST

START_TEST(other_names_are_not_found)
{
    static const char *const wrong[] = {"", "request_latency", "REQUEST_LATENC", "REQUEST_LATENCY "};
    enum metric_type type = METRIC_TYPE_BATCH_SIZE;
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert(!metric_type_find(wrong[i], &type));
    ck_assert_int_eq(type, METRIC_TYPE_BATCH_SIZE);
    ck_assert_ptr_eq(metric_type_row(METRIC_TYPE_COUNT), metric_type_row(0));
}
END_TEST

START_TEST(each_reads_its_own_number)
{
    struct summary s = {.request_latency.mean = 1,
                        .memory_usage_mb = 2,
                        .cpu_usage = 3,
                        .network_latency.mean = 4,
                        .cache_hit_rate = 5,
                        .error_rate = 6,
                        .throughput = 7,
                        .connection_pool_size = 8,
                        .retry_count = 9,
                        .batch_size = 10,
                        .compression_ratio = 11};
    double v = -1;
    ck_assert(!metric_type_value(&s, METRIC_TYPE_CUSTOM_METRIC, &v) && v < 0);
    for (unsigned i = 0; i < METRIC_TYPE_CUSTOM_METRIC; i++) {
        ck_assert(metric_type_value(&s, (enum metric_type)i, &v));
        ck_assert_msg(v > i + 0.5 && v < i + 1.5, "%s reads %g", metric_type_row(i)->name, v);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("metric_type");
    TCase *t = tcase_create("metric_type");
    tcase_add_test(t, the_guides_names);
    tcase_add_test(t, other_names_are_not_found);
    tcase_add_test(t, each_reads_its_own_number);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
