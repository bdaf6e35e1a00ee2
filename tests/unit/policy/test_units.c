/* policy/units.c: what is read, what is refused, and that printing reads back. */
#include "policy/units.h"

#include <check.h>
#include <stdlib.h>

static void good_duration(const char *text, tick_t want)
{
    tick_t v = -1;
    ck_assert_msg(units_parse_duration(text, &v), "%s was refused", text);
    ck_assert_msg(v == want, "%s gave %lld", text, (long long)v);
}

static void bad_duration(const char *text)
{
    tick_t v;
    ck_assert_msg(!units_parse_duration(text, &v), "%s was taken", text);
}

START_TEST(durations)
{
    good_duration("0", 0);
    good_duration("10", 10 * TICK_S);
    good_duration("0.25", 250 * TICK_MS);
    good_duration("250ms", 250 * TICK_MS);
    good_duration("1.5ms", 1500 * TICK_US);
    good_duration("20us", 20 * TICK_US);
    good_duration("7ns", 7);
    good_duration("30s", 30 * TICK_S);
    good_duration("5m", 300 * TICK_S);
    good_duration("1h", 3600 * TICK_S);
    good_duration("1.000001h", 3600 * TICK_S + 3600 * TICK_US);
    good_duration("2d", 2 * 86400 * TICK_S);
    good_duration("106751d", (tick_t)106751 * 86400 * TICK_S);
}
END_TEST

START_TEST(bad_durations)
{
    static const char *const texts[] = {"",     "s",    "-1",   "+1",    "1 s",  " 1s",      "1s ",     "1.",  ".5",
                                        "1..5", "1e3",  "0x10", "1S",    "5min", "1h30m",    "inf",     "nan", "1.0000001s",
                                        "1.5ns", "106752d", "99999999999999999999", "18446744073709551616s", "9223372036854775807ns"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        bad_duration(texts[i]);
}
END_TEST

static void good_size(const char *text, uint64_t want)
{
    uint64_t v = 1;
    ck_assert_msg(units_parse_size(text, &v), "%s was refused", text);
    ck_assert_msg(v == want, "%s gave %llu", text, (unsigned long long)v);
}

START_TEST(sizes)
{
    good_size("0", 0);
    good_size("10", 10);
    good_size("10B", 10);
    good_size("64KiB", 65536);
    good_size("64Ki", 65536);
    good_size("100MiB", 100u << 20);
    good_size("1.5GiB", 1610612736u);
    good_size("1TiB", 1ull << 40);
    good_size("10MB", 10000000);
    good_size("1KB", 1000);
    static const char *const bad[] = {"",       "KiB",  "-1",        "1k",       "1K",         "1kib",
                                      "1 KiB",  "1.5",  "0.3KiB",    "8388608TiB", "1e6",      "0x10",
                                      "64KiBs", "99999999999999999999"};
    uint64_t v;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!units_parse_size(bad[i], &v), "%s was taken", bad[i]);
}
END_TEST

START_TEST(whole_numbers)
{
    int64_t v;
    ck_assert(units_parse_int("0", &v) && v == 0);
    ck_assert(units_parse_int("-5", &v) && v == -5);
    ck_assert(units_parse_int("9223372036854775807", &v) && v == INT64_MAX);
    static const char *const bad[] = {"", "-", "+1", "01", "1.0", "1e3", " 1", "1 ", "0x1", "9223372036854775808", "1_000"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!units_parse_int(bad[i], &v), "%s was taken", bad[i]);
}
END_TEST

START_TEST(reals)
{
    double v;
    ck_assert(units_parse_real("0.1", &v) && v == 0.1);
    ck_assert(units_parse_real("-1e-3", &v) && v == -0.001);
    static const char *const bad[] = {"", "nan", "inf", "0x1p3", "1e999", "1,5", "1.0 ", "--1", "e"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!units_parse_real(bad[i], &v), "%s was taken", bad[i]);
}
END_TEST

START_TEST(booleans)
{
    bool v = false;
    ck_assert(units_parse_bool("true", &v) && v);
    ck_assert(units_parse_bool("No", &v) && !v);
    ck_assert(units_parse_bool("ON", &v) && v);
    ck_assert(units_parse_bool("off", &v) && !v);
    ck_assert(!units_parse_bool("1", &v));
    ck_assert(!units_parse_bool("", &v));
    ck_assert(!units_parse_bool("trueish", &v));
    ck_assert(!units_parse_bool("tru", &v));
}
END_TEST

START_TEST(printing)
{
    char buf[UNITS_MAX_TEXT];
    ck_assert_str_eq(units_print_duration(0, buf), "0s");
    ck_assert_str_eq(units_print_duration(90 * TICK_S, buf), "90s");
    ck_assert_str_eq(units_print_duration(3600 * TICK_S, buf), "1h");
    ck_assert_str_eq(units_print_duration(86400 * TICK_S, buf), "24h");
    ck_assert_str_eq(units_print_duration(1500 * TICK_US, buf), "1500us");
    ck_assert_str_eq(units_print_size(0, buf), "0");
    ck_assert_str_eq(units_print_size(1000, buf), "1000");
    ck_assert_str_eq(units_print_size(8u << 20, buf), "8MiB");
    ck_assert_str_eq(units_print_int(-7, buf), "-7");
    ck_assert_str_eq(units_print_real(0.1, buf), "0.1");
    ck_assert_str_eq(units_print_real(1.0, buf), "1");
}
END_TEST

START_TEST(printed_reads_back)
{
    uint64_t state = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        char buf[UNITS_MAX_TEXT];
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        uint64_t x = state >> (1 + i % 60), size;
        tick_t t;
        double r, want = (double)state / 1e12;
        ck_assert(units_parse_duration(units_print_duration((tick_t)x, buf), &t) && (uint64_t)t == x);
        ck_assert(units_parse_size(units_print_size(x, buf), &size) && size == x);
        ck_assert(units_parse_real(units_print_real(want, buf), &r) && r == want);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("units");
    TCase *t = tcase_create("units");
    suite_add_tcase(s, t);
    tcase_add_test(t, durations);
    tcase_add_test(t, bad_durations);
    tcase_add_test(t, sizes);
    tcase_add_test(t, whole_numbers);
    tcase_add_test(t, reals);
    tcase_add_test(t, booleans);
    tcase_add_test(t, printing);
    tcase_add_test(t, printed_reads_back);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
