/*
 * HTTP dates (RFC 9110 5.6.7, RFC 9111 5.3): the three forms, everything that is none, centuries, and the way
 * back.
 */
#include "policy/http_date.h"

#include "tests/unit/message.h"

static bool parse(const char *text, int64_t now, int64_t *out)
{
    return http_date_parse((struct slice){text, strlen(text)}, now, out);
}

START_TEST(the_three_forms)
{
    static const struct {
        const char *text;
        int64_t when;
    } rows[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Wed Nov 16 08:49:37 1994", 784975777},
        {"sun, 06 nov 1994 08:49:37 gmt", 784111777}, /* any letter case */
        {"SUNDAY, 06-NOV-94 08:49:37 GMT", 784111777},
        {"SUN NOV  6 08:49:37 1994", 784111777},
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
        {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
        {"Tue, 19 Jan 2038 03:14:08 GMT", 2147483648}, /* beyond 32 bits */
        {"Fri, 31 Dec 9999 23:59:59 GMT", 253402300799},
        {"Sat, 01 Jan 0000 00:00:00 GMT", -62167219200},
        {"Tue, 29 Feb 2000 00:00:00 GMT", 951782400},
        {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800}, /* a leap second is the next day's first */
        {"Mon, 06 Nov 1994 08:49:37 GMT", 784111777},  /* the wrong day of the week decides nothing */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t when = 12345;
        if (!parse(rows[i].text, WALL, &when) || when != rows[i].when)
            ck_abort_msg("%s: %lld", rows[i].text, (long long)when);
    }
}
END_TEST

START_TEST(nothing_else)
{
    static const char *const rows[] = {
        "",
        "0",
        "-1",
        "1994",
        "784111777",
        "Sun",
        "Sun,",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMTx",
        "Sun, 06-Nov-1994 08:49:37 GMT", /* dashes */
        "Sun, 06 Nov 94 08:49:37 GMT",   /* two digits in the wrong form */
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT", /* single-digit hour */
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT", /* missing comma */
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37 GMT", /* double space */
        "Sun, 06 Nov  1994 08:49:37 GMT",
        "Sun, 06\tNov 1994 08:49:37 GMT",
        "Sun, 06 November 1994 08:49:37 GMT",
        "Son, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nav 1994 08:49:37 GMT",
        "Sun, 32 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Tue, 29 Feb 1900 00:00:00 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 19941 08:49:37 GMT",
        "Sun, +6 Nov 1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994", /* asctime pads with a space */
        "Sun Nov 06 08:49:37 1994 GMT",
        "Sun Nov  6 08:49:37 94",
        "1994-11-06T08:49:37Z",
        "Sunday, 06-Nov-94 08:49:37",
        "Sund, 06-Nov-94 08:49:37 GMT",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t when = 12345;
        if (parse(rows[i], WALL, &when) || when != 12345)
            ck_abort_msg("taken: %s", rows[i]);
    }
}
END_TEST

/* RFC 9110 5.6.7: a year that seems more than 50 years ahead is of the century before. */
START_TEST(two_digit_years)
{
    int64_t when, then;
    for (int ahead = -49; ahead <= 50; ahead++) {
        char text[64], full[64];
        int year = 2023 + ahead;
        snprintf(text, sizeof text, "Monday, 14-Nov-%02d 00:00:00 GMT", year % 100);
        snprintf(full, sizeof full, "Mon, 14 Nov %04d 00:00:00 GMT", year);
        must(parse(text, WALL, &when) && parse(full, WALL, &then));
        if (when != then)
            ck_abort_msg("%s is not %s", text, full);
    }
    /* The day after today in fifty years is too far. */
    must(parse("Monday, 15-Nov-73 00:00:00 GMT", WALL, &when));
    must(parse("Thu, 15 Nov 1973 00:00:00 GMT", WALL, &then));
    must(when == then);
    must(parse("Friday, 31-Dec-99 00:00:00 GMT", 946684800 + 86400, &when)); /* on 2 January 2000 */
    must(parse("Fri, 31 Dec 1999 00:00:00 GMT", 0, &then));
    must(when == then);
}
END_TEST

START_TEST(written_and_read_again)
{
    char text[HTTP_DATE_LEN + 1] = {0};
    int64_t back;
    http_date_write(text, 784111777);
    ck_assert_str_eq(text, "Sun, 06 Nov 1994 08:49:37 GMT");
    for (int64_t t = -62167219200; t < 253402300800; t += 86400 * 977 + 12345) {
        http_date_write(text, t);
        must(parse(text, 0, &back) && back == t);
    }
    http_date_write(text, INT64_MAX);
    ck_assert_str_eq(text, "Fri, 31 Dec 9999 23:59:59 GMT");
    http_date_write(text, INT64_MIN);
    ck_assert_str_eq(text, "Sat, 01 Jan 0000 00:00:00 GMT");
}
END_TEST

START_TEST(every_beginning_of_a_date_is_none)
{
    static const char *const rows[] = {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
                                       "Sun Nov  6 08:49:37 1994"};
    int64_t when;
    for (size_t r = 0; r < ARRAY_LEN(rows); r++)
        for (size_t n = 0; n < strlen(rows[r]); n++)
            must(!http_date_parse((struct slice){rows[r], n}, WALL, &when));
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("http_date");
    tcase_add_test(t, the_three_forms);
    tcase_add_test(t, nothing_else);
    tcase_add_test(t, two_digit_years);
    tcase_add_test(t, written_and_read_again);
    tcase_add_test(t, every_beginning_of_a_date_is_none);
    return run_case("http_date", t);
}
