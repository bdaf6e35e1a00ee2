/*
 * Timestamps of signed requests: known days, every day back and forth, and what is no timestamp.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "policy/timestamp.h"
#include "tests/unit/message.h"

static void writes(int64_t when, enum timestamp_form form, const char *wanted)
{
    char out[TIMESTAMP_MAX + 1];
    out[timestamp_write(out, when, form)] = '\0';
    ck_assert_str_eq(out, wanted);
}

static bool reads(const char *text, int64_t *out)
{
    return timestamp_read((struct slice){text, strlen(text)}, out);
}

START_TEST(known_times)
{
    writes(0, TIMESTAMP_NAIVE_UTC, "1970-01-01T00:00:00");
    writes(0, TIMESTAMP_ZULU, "1970-01-01T00:00:00Z");
    writes(0, TIMESTAMP_UNIX, "0");
    writes(1767225600, TIMESTAMP_NAIVE_UTC, "2026-01-01T00:00:00");
    writes(1767225600, TIMESTAMP_ZULU, "2026-01-01T00:00:00Z");
    writes(1767225600, TIMESTAMP_UNIX, "1767225600");
    writes(951868799, TIMESTAMP_ZULU, "2000-02-29T23:59:59Z");
    writes(-1, TIMESTAMP_ZULU, "1970-01-01T00:00:00Z");
    writes(INT64_MAX, TIMESTAMP_ZULU, "9999-12-31T23:59:59Z");
    writes(INT64_MAX, TIMESTAMP_UNIX, "253402300799");
}
END_TEST

/* Against the C library's calendar, a time of each day from 1970 to 2400, and a few in later centuries. */
START_TEST(every_day)
{
    for (int64_t day = 0; day < 157054 + 3000000; day += day < 157054 ? 1 : 997) {
        time_t when = (time_t)(day * 86400 + day * 7919 % 86400);
        struct tm tm;
        char wanted[64], out[TIMESTAMP_MAX + 1];
        int64_t back = -1;
        if (when > INT64_C(253402300799))
            break;
        gmtime_r(&when, &tm);
        strftime(wanted, sizeof wanted, "%Y-%m-%dT%H:%M:%S", &tm);
        out[timestamp_write(out, when, TIMESTAMP_NAIVE_UTC)] = '\0';
        ck_assert_str_eq(out, wanted);
        ck_assert(reads(out, &back));
        ck_assert_int_eq(back, when);
    }
}
END_TEST

START_TEST(forms_that_are_read)
{
    static const struct {
        const char *text;
        int64_t when;
    } table[] = {
        {"2026-01-01T00:00:00", 1767225600},
        {"2026-01-01T00:00:00Z", 1767225600},
        {"2026-01-01T00:00:00.999999", 1767225600},
        {"2026-01-01T00:00:00.5Z", 1767225600},
        {"1767225600", 1767225600},
        {"1767225600.25", 1767225600},
        {"0", 0},
        {"2024-02-29T12:00:00", 1709208000},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        int64_t when = -1;
        ck_assert_msg(reads(table[i].text, &when), "%s", table[i].text);
        ck_assert_int_eq(when, table[i].when);
    }
}
END_TEST

START_TEST(what_is_none)
{
    static const char *const table[] = {
        "",
        "-1",
        "+1",
        "1e9",
        "0x10",
        "1767225600 ",
        " 1",
        "1.",
        "1.x",
        "253402300800",
        "99999999999999999999",
        "2026-01-01",
        "2026-01-01T00:00",
        "2026-01-01 00:00:00",
        "2026-01-01t00:00:00",
        "2026-01-01T00:00:00z",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T00:00:00ZZ",
        "2026-01-01T00:00:00.",
        "2026-01-01T00:00:00.Z",
        "2026-02-29T00:00:00",
        "2026-13-01T00:00:00",
        "2026-00-01T00:00:00",
        "2026-01-00T00:00:00",
        "2026-04-31T00:00:00",
        "2026-01-01T24:00:00",
        "2026-01-01T00:60:00",
        "2026-01-01T00:00:60",
        "1969-12-31T23:59:59",
        "2100-02-29T00:00:00",
        "2026-1-01T00:00:00",
        "202a-01-01T00:00:00",
        "----",
        "2026-01-01T0x:00:00",
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        int64_t when = 77;
        ck_assert_msg(!reads(table[i], &when), "%s", table[i]);
        ck_assert_int_eq(when, 77);
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("timestamp");
    tcase_add_test(t, known_times);
    tcase_add_test(t, every_day);
    tcase_add_test(t, forms_that_are_read);
    tcase_add_test(t, what_is_none);
    return run_case("timestamp", t);
}
