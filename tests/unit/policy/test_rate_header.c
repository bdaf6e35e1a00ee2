/*
 * Tests of policy/rate_header.c: every dialect, a row a form; garbage, negative numbers and overflow change
 * nothing or are clamped; points in time are measured against the answer's own Date.
 */
#include "policy/rate_header.h"
#include "tests/unit/policy/harness.h"

#include <stdio.h>
#include <string.h>

#define WALL      INT64_C(1700000000) /* Tue, 14 Nov 2023 22:13:20 GMT */
#define NONE      (-1)
#define HUGE_TEXT "99999999999999999999999999999999"

/* "name: value | name: value" */
static void read(struct rate_reading *r, const char *text)
{
    rate_reading_begin(r);
    while (*text) {
        const char *end = strstr(text, " | "), *colon = strchr(text, ':');
        size_t n = end ? (size_t)(end - text) : strlen(text);
        must(colon && colon < text + n);
        struct slice name = {text, (size_t)(colon - text)},
                     value = {colon + 1, (size_t)(text + n - colon - 1)};
        while (value.n && *value.p == ' ') {
            value.p++;
            value.n--;
        }
        rate_reading_field(r, name, value, WALL);
        text += n + (end ? 3 : 0);
    }
    rate_reading_end(r, WALL);
}

struct expected {
    const char *text;
    int count;                       /* windows */
    int64_t limit, remaining, reset; /* of the first; reset in seconds */
    int64_t length;                  /* seconds */
    int64_t retry;                   /* seconds */
};

static const struct expected rows[] = {
    /* The documented fields of the PromptOps API, and their kin. */
    {"X-RateLimit-Limit-Minute: 60 | X-RateLimit-Remaining-Minute: 12 | X-RateLimit-Reset-Minute: 30", 1, 60,
     12, 30, 60, NONE},
    {"X-RateLimit-Reset-Minute: 2023-11-14T22:14:00Z | X-RateLimit-Limit-Minute: 60 | "
     "X-RateLimit-Remaining-Minute: 0",
     1, 60, 0, 40, 60, NONE},
    {"X-RateLimit-Reset-Minute: 2023-11-14T22:14:00 | X-RateLimit-Limit-Minute: 60", 1, 60, NONE, 40, 60,
     NONE},
    {"X-RateLimit-Reset-Minute: 2023-11-14T23:14:00+01:00 | X-RateLimit-Limit-Minute: 60", 1, 60, NONE, 40,
     60, NONE},
    {"x-ratelimit-limit-hour: 3600 | x-ratelimit-remaining-hour: 3599", 1, 3600, 3599, NONE, 3600, NONE},
    {"X-RateLimit-Limit-Day: 86400", 1, 86400, NONE, NONE, 86400, NONE},
    {"X-RateLimit-Limit-Second: 5 | X-RateLimit-Remaining-Second: 4", 1, 5, 4, NONE, 1, NONE},
    {"X-RateLimit-Limit: 5000 | X-RateLimit-Remaining: 4999 | X-RateLimit-Reset: 1700000060", 1, 5000, 4999,
     60, 0, NONE},
    {"X-RateLimit-Limit: 5000 | X-RateLimit-Remaining: 4999 | X-RateLimit-Reset: 1700000060000", 1, 5000,
     4999, 60, 0, NONE},
    {"X-RateLimit-Limit: 5000 | X-RateLimit-Remaining: 4999 | X-RateLimit-Reset: 60", 1, 5000, 4999, 60, 0,
     NONE},
    {"X-Rate-Limit-Limit: 15 | X-Rate-Limit-Remaining: 1 | X-Rate-Limit-Reset: 900", 1, 15, 1, 900, 0, NONE},
    {"x-ratelimit-limit-requests: 60 | x-ratelimit-remaining-requests: 59 | x-ratelimit-reset-requests: 6m0s",
     1, 60, 59, 360, 0, NONE},
    {"x-ratelimit-limit-tokens: 150000 | x-ratelimit-remaining-tokens: 149984", 0, 0, 0, 0, 0, NONE},
    {"X-RateLimit-Limit: 5 | X-RateLimit-Remaining: 4 | X-RateLimit-Reset-After: 64.0", 1, 5, 4, 64, 0, NONE},
    {"X-RateLimit-Limit: 5 | X-RateLimit-Reset: Tue, 14 Nov 2023 22:13:50 GMT", 1, 5, NONE, 30, 0, NONE},
    /* The server's clock is an hour ahead: its Date cancels that. */
    {"Date: Tue, 14 Nov 2023 23:13:20 GMT | X-RateLimit-Limit: 60 | X-RateLimit-Reset: 1700003630", 1, 60,
     NONE, 30, 0, NONE},
    {"X-RateLimit-Limit: 60 | X-RateLimit-Reset: 1700003630 | Date: Tue, 14 Nov 2023 23:13:20 GMT", 1, 60,
     NONE, 30, 0, NONE},
    {"Date: nonsense | X-RateLimit-Limit: 60 | X-RateLimit-Reset: 1700000030", 1, 60, NONE, 30, 0, NONE},
    {"X-RateLimit-Limit: 60 | X-RateLimit-Reset: 1699999990", 1, 60, NONE, 0, 0, NONE},
    /* Drafts up to -06. */
    {"RateLimit-Limit: 100 | RateLimit-Remaining: 50 | RateLimit-Reset: 50", 1, 100, 50, 50, 0, NONE},
    {"RateLimit-Limit: 100, 100;w=10 | RateLimit-Remaining: 50 | RateLimit-Reset: 5", 1, 100, 50, 5, 10,
     NONE},
    {"RateLimit-Limit: 10, 10;w=1;burst=1000, 1000;w=3600 | RateLimit-Remaining: 9 | RateLimit-Reset: 1", 2,
     10, 9, 1, 1, NONE},
    {"RateLimit-Limit: 100;w=60 | RateLimit-Remaining: 50", 1, 100, 50, NONE, 60, NONE},
    /* -07. */
    {"RateLimit: limit=100, remaining=50, reset=50", 1, 100, 50, 50, 0, NONE},
    {"RateLimit: limit=100, remaining=50, reset=50 | RateLimit-Policy: 100;w=60;comment=\"fixed, window\"", 1,
     100, 50, 50, 60, NONE},
    {"RateLimit-Policy: 100;w=60 | RateLimit: limit=100, remaining=50, reset=50", 1, 100, 50, 50, 60, NONE},
    {"RateLimit: LIMIT=100,remaining=50,reset=50", 1, 100, 50, 50, 0, NONE},
    {"RateLimit-Policy: 10;w=1, 50;w=60", 2, 10, NONE, NONE, 1, NONE},
    /* -08: tokens; from -09 on: strings. */
    {"RateLimit: default;r=50;t=30 | RateLimit-Policy: default;q=100;w=60", 1, 100, 50, 30, 60, NONE},
    {"RateLimit: \"default\";r=50;t=30", 1, NONE, 50, 30, 0, NONE},
    {"RateLimit-Policy: \"default\";q=100;w=10 | RateLimit: \"default\";r=50;t=3", 1, 100, 50, 3, 10, NONE},
    {"RateLimit-Policy: \"burst\";q=100;w=60,\"daily\";q=1000;w=86400 | RateLimit: \"daily\";r=7;t=5000", 2,
     100, NONE, NONE, 60, NONE},
    {"RateLimit-Policy: \"a\";qu=\"content-bytes\";q=1000000;w=60 | RateLimit-Policy: "
     "\"b\";qu=\"requests\";q=9;w=60",
     1, 9, NONE, NONE, 60, NONE},
    {"RateLimit-Policy: \"p\";q=100;w=60;pk=:sdfjLJUOUH==: | RateLimit: \"p\";r=9;t=6;pk=:sdfjLJUOUH==:", 1,
     100, 9, 6, 60, NONE},
    {"RateLimit: \"a\\\"b\";r=1;t=2", 1, NONE, 1, 2, 0, NONE},
    /* Retry-After. */
    {"Retry-After: 120", 0, 0, 0, 0, 0, 120},
    {"Retry-After: 0", 0, 0, 0, 0, 0, 0},
    {"Retry-After: Tue, 14 Nov 2023 22:15:20 GMT", 0, 0, 0, 0, 0, 120},
    {"Date: Tue, 14 Nov 2023 22:14:20 GMT | Retry-After: Tue, 14 Nov 2023 22:15:20 GMT", 0, 0, 0, 0, 0, 60},
    {"Retry-After: Tue, 14 Nov 2023 22:00:00 GMT", 0, 0, 0, 0, 0, 0},
    {"Retry-After-Ms: 1500", 0, 0, 0, 0, 0, 1},
    /* Garbage changes nothing. */
    {"Retry-After: soon", 0, 0, 0, 0, 0, NONE},
    {"Retry-After: -5", 0, 0, 0, 0, 0, NONE},
    {"Retry-After: ", 0, 0, 0, 0, 0, NONE},
    {"Retry-After: 12x", 0, 0, 0, 0, 0, NONE},
    {"Retry-After: " HUGE_TEXT, 0, 0, 0, 0, 0, NONE},
    {"X-RateLimit-Limit: many | X-RateLimit-Remaining: few", 0, 0, 0, 0, 0, NONE},
    {"X-RateLimit-Limit: 60 | X-RateLimit-Remaining: -3", 1, 60, 0, NONE, 0, NONE},
    {"X-RateLimit-Limit: 60 | X-RateLimit-Reset: -3", 1, 60, NONE, NONE, 0, NONE},
    {"X-RateLimit-Limit: " HUGE_TEXT " | X-RateLimit-Remaining: " HUGE_TEXT, 1, RATE_MANY, RATE_MANY, NONE, 0,
     NONE},
    {"X-RateLimit-Limit: 60 | X-RateLimit-Reset: " HUGE_TEXT, 1, 60, NONE, NONE, 0, NONE},
    {"X-RateLimit-Limit: 60.5 | X-RateLimit-Remaining: 59.9", 1, 60, 59, NONE, 0, NONE},
    {"X-RateLimit-Reset: 30", 0, 0, 0, 0, 0, NONE},
    {"RateLimit: ", 0, 0, 0, 0, 0, NONE},
    {"RateLimit: ;;;,,,=,\"", 0, 0, 0, 0, 0, NONE},
    {"RateLimit: \"open;r=5;t=6", 0, 0, 0, 0, 0, NONE},
    {"RateLimit: a;r=" HUGE_TEXT ";t=" HUGE_TEXT, 1, NONE, RATE_MANY, NONE, 0, NONE},
    {"RateLimit: a;r=x;t=y", 0, 0, 0, 0, 0, NONE},
    {"RateLimit-Policy: 100;w=" HUGE_TEXT, 1, 100, NONE, NONE, 0, NONE},
    {"RateLimit-Limit: , , ,", 0, 0, 0, 0, 0, NONE},
    {"X-RateLimit-Limit-Fortnight: 5", 0, 0, 0, 0, 0, NONE},
    {"X-RateLimit-: 5", 0, 0, 0, 0, 0, NONE},
    {"X-RateLimit-Reset-Minute: 2023-13-14T22:14:00Z | X-RateLimit-Limit-Minute: 60", 1, 60, NONE, NONE, 60,
     NONE},
    {"X-RateLimit-Reset-Minute: 2023-11-14T22:14:0 | X-RateLimit-Limit-Minute: 60", 1, 60, NONE, NONE, 60,
     NONE},
    {"Content-Length: 5", 0, 0, 0, 0, 0, NONE},
};

static int64_t seconds(tick_t t)
{
    return t < 0 ? -1 : t / TICK_S;
}

START_TEST(dialects)
{
    const struct expected *e = &rows[_i];
    struct rate_reading r;
    read(&r, e->text);
    ck_assert_msg(r.count == e->count, "%s: %d windows", e->text, r.count);
    ck_assert_msg(seconds(r.retry_after) == e->retry, "%s: retry after %lld", e->text,
                  (long long)seconds(r.retry_after));
    if (!e->count)
        return;
    const struct rate_window *w = &r.window[0];
    ck_assert_msg(w->limit == e->limit, "%s: limit %lld", e->text, (long long)w->limit);
    ck_assert_msg(w->remaining == e->remaining, "%s: remaining %lld", e->text, (long long)w->remaining);
    ck_assert_msg(seconds(w->reset) == e->reset, "%s: reset %lld", e->text, (long long)w->reset);
    ck_assert_msg(w->length == e->length * TICK_S, "%s: length %lld", e->text, (long long)w->length);
}
END_TEST

START_TEST(fine_times)
{
    struct rate_reading r;
    read(&r, "x-ratelimit-limit-requests: 60 | x-ratelimit-reset-requests: 1m0.25s");
    ck_assert_int_eq(r.window[0].reset, 60250 * TICK_MS);
    ck_assert(r.window[0].exact);
    read(&r, "x-ratelimit-limit: 60 | x-ratelimit-reset: 250ms");
    ck_assert_int_eq(r.window[0].reset, 250 * TICK_MS);
    read(&r, "x-ratelimit-limit: 60 | x-ratelimit-reset: 2.5");
    ck_assert_int_eq(r.window[0].reset, 2500 * TICK_MS);
    read(&r, "x-ratelimit-limit: 60 | x-ratelimit-reset: 3");
    ck_assert(!r.window[0].exact);
    read(&r, "Retry-After-Ms: 1500");
    ck_assert_int_eq(r.retry_after, 1500 * TICK_MS);
}
END_TEST

/* One window, told by two families of fields, is one window. */
START_TEST(merged)
{
    struct rate_reading r;
    read(&r, "X-RateLimit-Limit-Minute: 60 | X-RateLimit-Remaining-Minute: 5 | RateLimit-Limit: 60, 60;w=60 "
             "| RateLimit-Reset: 7");
    ck_assert_int_eq(r.count, 1);
    ck_assert_int_eq(r.window[0].remaining, 5);
    ck_assert_int_eq(r.window[0].reset, 7 * TICK_S);
    ck_assert_str_eq(rate_key_name(r.window[0].key), "minute");
}
END_TEST

START_TEST(many_windows)
{
    struct rate_reading r;
    char text[2000] = "RateLimit: x0;r=1;t=1";
    for (int i = 1; i < 60; i++)
        sprintf(text + strlen(text), ", x%d;r=1;t=1", i);
    read(&r, text);
    ck_assert_int_eq(r.count, RATE_WINDOWS);
}
END_TEST

START_TEST(names)
{
    static const char *const yes[] = {"X-RateLimit-Limit", "ratelimit", "RateLimit-Policy",  "Retry-After",
                                      "retry-after-ms",    "Date",      "x-rate-limit-reset"};
    static const char *const no[] = {"", "x", "x-request-id", "server", "content-type", "etag", "referrer"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        ck_assert_msg(rate_header_name((struct slice){yes[i], strlen(yes[i])}), "%s", yes[i]);
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        ck_assert_msg(!rate_header_name((struct slice){no[i], strlen(no[i])}), "%s", no[i]);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("rate_header");
    tcase_add_loop_test(t, dialects, 0, ARRAY_LEN(rows));
    tcase_add_test(t, fine_times);
    tcase_add_test(t, merged);
    tcase_add_test(t, many_windows);
    tcase_add_test(t, names);
    return run_case("policy/rate_header", t);
}
