/*
 * The limits of HTTP/1 heads, each at its edge and one behind it, and known at the earliest byte; and that
 * the work stays linear when bytes come one by one or fields by the thousand.
 */
#include <check.h>

#include "tests/fuzz/h1_check.h"

#define LIMITS                                                                                               \
    {                                                                                                        \
        .max_head = 65536, .max_target = 8192, .max_trailer = 4096                                           \
    }
#define GET "GET / HTTP/1.1\r\nHost: a\r\n"

static char *filled(const char *before, size_t n, const char *after)
{
    char *text = malloc(strlen(before) + n + strlen(after) + 1);
    ck_assert_ptr_nonnull(text);
    strcpy(text, before);
    memset(text + strlen(before), 'a', n);
    strcpy(text + strlen(before) + n, after);
    return text;
}

/* Parses in all ways, and says when at the latest a byte-wise reader knew. */
static enum reason limited(const struct head_case *c, size_t *known_at)
{
    struct head_result whole, bytes;
    claim_head(c, c->n / 3, 17, &whole);
    parse_cut(c, 0, 1, &bytes);
    claim_same_result(&whole, &bytes);
    *known_at = bytes.known_at;
    enum reason reason = whole.reason;
    head_result_free(&whole);
    head_result_free(&bytes);
    return reason;
}

static struct head_case limited_case(const char *text)
{
    return (struct head_case){.p = text, .n = strlen(text), .limits = LIMITS, .field_max = 64};
}

START_TEST(limit_head)
{
    for (int response = 0; response < 2; response++) {
        char *text =
            filled(response ? "HTTP/1.1 200 x\r\nX: " : "GET / HTTP/1.1\r\nHost: a\r\nX: ", 900, "\r\n\r\n");
        struct head_case c = limited_case(text);
        size_t known_at;
        c.response = response;
        c.limits.max_head = (uint32_t)c.n;
        ck_assert_int_eq(limited(&c, &known_at), REASON_NONE);
        c.limits.max_head = (uint32_t)c.n - 1;
        enum reason too_large = response ? REASON_RESPONSE_HEAD_TOO_LARGE : REASON_HEAD_TOO_LARGE;
        ck_assert_int_eq(limited(&c, &known_at), too_large);
        ck_assert_uint_eq(known_at, c.n - 1);
        for (uint32_t max = 0; max < c.n - 1; max += 13) {
            c.limits.max_head = max;
            ck_assert_int_eq(limited(&c, &known_at), too_large);
            ck_assert_uint_eq(known_at, max);
        }
        free(text);
    }
}
END_TEST

/* What is behind a head does not count towards its limit. */
START_TEST(limit_head_with_body)
{
    struct head_case c = limited_case(GET "\r\nmore bytes of the next message");
    size_t known_at;
    c.limits.max_head = sizeof(GET "\r\n") - 1;
    ck_assert_int_eq(limited(&c, &known_at), REASON_NONE);
    ck_assert_uint_eq(known_at, c.limits.max_head);
}
END_TEST

/* Whatever comes first in the bytes is said: a fault in a long line, or that the head is too large. */
START_TEST(limit_head_against_fault)
{
    char *text = filled("GET / HTTP/1.1\r\nHost: a\r\nX", 600, " : b\r\n\r\n");
    struct head_case c = limited_case(text);
    size_t known_at;
    ck_assert_int_eq(limited(&c, &known_at), REASON_BAD_FIELD);
    c.limits.max_head = 627;
    ck_assert_int_eq(limited(&c, &known_at), REASON_BAD_FIELD);
    c.limits.max_head = 626;
    ck_assert_int_eq(limited(&c, &known_at), REASON_HEAD_TOO_LARGE);
    free(text);
}
END_TEST

START_TEST(limit_target)
{
    static const char *const before[] = {"GET /", "PROPPATCH /", "GET http://a/", "\r\nGET /"};
    static const size_t start[] = {4, 10, 4, 6};
    for (size_t i = 0; i < ARRAY_LEN(before); i++) {
        char *text = filled(before[i], 1000, " HTTP/1.1\r\nHost: a\r\n\r\n");
        struct head_case c = limited_case(text);
        size_t known_at, target = strlen(before[i]) - start[i] + 1000;
        c.limits.max_target = (uint32_t)target;
        ck_assert_int_eq(limited(&c, &known_at), REASON_NONE);
        c.limits.max_target = (uint32_t)target - 1;
        ck_assert_int_eq(limited(&c, &known_at), REASON_TARGET_TOO_LONG);
        ck_assert_uint_eq(known_at, start[i] + target);
        c.limits.max_target = 500;
        ck_assert_int_eq(limited(&c, &known_at), REASON_TARGET_TOO_LONG);
        ck_assert_uint_eq(known_at, start[i] + 501);
        c.limits.max_target = 0;
        ck_assert_int_eq(limited(&c, &known_at), REASON_TARGET_TOO_LONG);
        free(text);
    }
}
END_TEST

START_TEST(limit_fields)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\nB: b\r\nC: c\r\n\r\n";
    static const char response[] = "HTTP/1.1 200 x\r\nHost: a\r\nB: b\r\nC: c\r\n\r\n";
    struct head_case c = limited_case(text);
    size_t known_at;
    c.field_max = 3;
    ck_assert_int_eq(limited(&c, &known_at), REASON_NONE);
    c.field_max = 2;
    ck_assert_int_eq(limited(&c, &known_at), REASON_TOO_MANY_FIELDS);
    ck_assert_uint_eq(known_at, strlen("GET / HTTP/1.1\r\nHost: a\r\nB: b\r\nC"));
    c.field_max = 0;
    ck_assert_int_eq(limited(&c, &known_at), REASON_TOO_MANY_FIELDS);
    c = limited_case(response);
    c.response = true;
    c.field_max = 3;
    ck_assert_int_eq(limited(&c, &known_at), REASON_NONE);
    c.field_max = 2;
    ck_assert_int_eq(limited(&c, &known_at), REASON_RESPONSE_HEAD_TOO_LARGE);
}
END_TEST

START_TEST(limit_method)
{
    for (size_t n = 63; n < 67; n++) {
        char *text = filled("", n, " / HTTP/1.1\r\nHost: a\r\n\r\n");
        struct head_case c = limited_case(text);
        size_t known_at;
        ck_assert_int_eq(limited(&c, &known_at), n <= 64 ? REASON_NONE : REASON_BAD_REQUEST_LINE);
        ck_assert(n <= 64 || known_at == 65);
        free(text);
    }
}
END_TEST

START_TEST(limit_name)
{
    for (size_t n = 65534; n < 65538; n++) {
        char *text = filled("GET / HTTP/1.1\r\nHost: a\r\n", n, ": b\r\n\r\n");
        struct head_case c = limited_case(text);
        struct head_result r;
        c.limits.max_head = 1 << 20;
        claim_head(&c, 300, 5000, &r);
        ck_assert_int_eq(r.reason, n <= 65535 ? REASON_NONE : REASON_HEAD_TOO_LARGE);
        head_result_free(&r);
        free(text);
    }
}
END_TEST

/* Connection may name 32 fields that are not in our table; those that are cost nothing. */
START_TEST(limit_named)
{
    for (int n = 31; n < 35; n++) {
        char text[2048];
        size_t at = (size_t)sprintf(
            text, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, keep-alive, upgrade, te, host");
        for (int i = 0; i < n; i++)
            at += (size_t)sprintf(text + at, ", x-%d", i);
        sprintf(text + at, "\r\nX-30: 1\r\nY-30: 1\r\n\r\n");
        struct head_case c = limited_case(text);
        size_t known_at;
        ck_assert_int_eq(limited(&c, &known_at), n <= 32 ? REASON_NONE : REASON_TOO_MANY_OPTIONS);
    }
}
END_TEST

/* A megabyte in one line, byte by byte. Not linear, it would take minutes, and the test's time limit would
 * end it. */
START_TEST(slow_senders_cost_linear_work)
{
    static const char *const before[] = {"GET /",
                                         "GET / HTTP/1.1\r\nHost: a\r\nX: ", "GET / HTTP/1.1\r\nHost: a\r\n"};
    static const char *const after[] = {" HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\n", " "};
    static const enum reason want[] = {REASON_NONE, REASON_NONE, REASON_BAD_FIELD};
    for (size_t i = 0; i < ARRAY_LEN(before); i++) {
        char *text = filled(before[i], 1 << 20, after[i]);
        size_t n = strlen(text), used;
        struct field fields[8];
        struct head head = {.fields = fields, .field_max = 8};
        struct h1_limits limits = {.max_head = 1 << 21, .max_target = (1 << 20) + 1};
        struct h1_scan scan = {0};
        enum reason reason = REASON_MORE;
        for (size_t k = 1; k <= n && reason == REASON_MORE; k++)
            reason = h1_parse_request(&scan, &limits, text, k, &head, &used);
        if (reason == REASON_MORE) { /* the name that is too long is judged when its line ends */
            ck_assert_int_eq(want[i], REASON_BAD_FIELD);
            char *whole = filled(text, 0, ": b\r\n\r\n");
            reason = h1_parse_request(&scan, &limits, whole, strlen(whole), &head, &used);
            ck_assert_int_eq(reason, REASON_HEAD_TOO_LARGE);
            free(whole);
        } else {
            ck_assert_int_eq(reason, want[i]);
        }
        free(text);
    }
}
END_TEST

/* Fields in the tens of thousands, each named or not by Connection: linear too. */
START_TEST(many_fields)
{
    enum { COUNT = 20000 };
    char *text = malloc(COUNT * 16 + 1024);
    struct field *fields = malloc(COUNT * sizeof(*fields));
    ck_assert(text && fields);
    size_t used, at = (size_t)sprintf(
                     text, "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-1, x-2, x-7, accept-language\r\n");
    for (int i = 2; i < COUNT; i++)
        at += (size_t)sprintf(text + at, i % 3 ? "X-%d: y\r\n" : "Connection: x-%d\r\n", i % 10);
    at += (size_t)sprintf(text + at, "\r\n");
    struct head head = {.fields = fields, .field_max = COUNT};
    struct h1_limits limits = {.max_head = 1 << 20, .max_target = 100};
    struct h1_scan scan = {0};
    /* Named over and over, the names are more than 32. */
    ck_assert_int_eq(h1_parse_request(&scan, &limits, text, at, &head, &used), REASON_TOO_MANY_OPTIONS);
    for (char *p = text + 80; (p = strstr(p, "\r\nConnection: x")) != NULL; p++)
        memcpy(p + 2, "Xonnection", 10);
    scan = (struct h1_scan){0};
    ck_assert_int_eq(h1_parse_request(&scan, &limits, text, at, &head, &used), REASON_NONE);
    ck_assert_int_eq(head.field_count, COUNT);
    free(text);
    free(fields);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("h1_limits");
    TCase *tc = tcase_create("limits");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, limit_head);
    tcase_add_test(tc, limit_head_with_body);
    tcase_add_test(tc, limit_head_against_fault);
    tcase_add_test(tc, limit_target);
    tcase_add_test(tc, limit_fields);
    tcase_add_test(tc, limit_method);
    tcase_add_test(tc, limit_name);
    tcase_add_test(tc, limit_named);
    tcase_add_test(tc, slow_senders_cost_linear_work);
    tcase_add_test(tc, many_fields);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
