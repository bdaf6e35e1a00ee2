/*
 * Conditions and ranges that a cache answers itself (RFC 9110 8.8.3, 13, 14; RFC 9111 4.3.2).
 */
#include "policy/condition.h"

#include "tests/unit/message.h"

static struct slice text(const char *s)
{
    return (struct slice){s, strlen(s)};
}

START_TEST(entity_tags)
{
    static const struct {
        const char *a, *b;
        bool weak, strong;
    } rows[] = {
        {"\"1\"", "\"1\"", true, true}, /* the table of RFC 9110 8.8.3.2 */
        {"W/\"1\"", "W/\"1\"", true, false},
        {"W/\"1\"", "W/\"2\"", false, false},
        {"W/\"1\"", "\"1\"", true, false},
        {"\"\"", "\"\"", true, true},
        {"\"a\\\"", "\"a\\\"", true, true}, /* a backslash is a byte like any other */
        {"1", "1", false, false},           /* no quotes: no tag */
        {"\"1", "\"1", false, false},
        {"w/\"1\"", "w/\"1\"", false, false},
        {"\"1\"2\"", "\"1\"2\"", false, false},
        {"\"", "\"", false, false},
        {"", "", false, false},
        {"*", "*", false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice a = text(rows[i].a), b = text(rows[i].b);
        if (etag_equal_weak(a, b) != rows[i].weak || etag_equal_strong(a, b) != rows[i].strong ||
            etag_equal_weak(b, a) != rows[i].weak || etag_equal_strong(b, a) != rows[i].strong)
            ck_abort_msg("%s %s", rows[i].a, rows[i].b);
    }
}
END_TEST

/* Stored with ETag "b", Last-Modified a hundred seconds before Date; WALL is Tue, 14 Nov 2023 22:13:20 GMT.
 */
static const struct {
    const char *request;
    bool expected;
} conditions[] = {
    {"GET /", false},
    {"GET / | If-None-Match: \"b\"", true},
    {"GET / | If-None-Match: W/\"b\"", true}, /* weak comparison */
    {"GET / | If-None-Match: \"a\"", false},
    {"GET / | If-None-Match: \"a\", \"b\"", true}, /* over the whole list */
    {"GET / | If-None-Match: \"a\" | If-None-Match: W/\"x\" ,\t\"b\"", true},
    {"GET / | If-None-Match: \"a, \"b\"", false},
    {"GET / | If-None-Match: \"a,\\\", \"b\"", true},
    {"GET / | If-None-Match: *", true},
    {"GET / | If-None-Match: b", false},
    {"GET / | If-None-Match: ", false},
    {"GET / | If-None-Match: \"a\" | If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT",
     false}, /* it goes first */
    {"GET / | If-None-Match: \"b\" | If-Modified-Since: Tue, 14 Nov 2000 22:13:20 GMT", true},
    {"GET / | If-Modified-Since: Tue, 14 Nov 2023 22:11:40 GMT", true}, /* just then */
    {"GET / | If-Modified-Since: Tue, 14 Nov 2023 22:11:39 GMT", false},
    {"GET / | If-Modified-Since: Tuesday, 14-Nov-23 22:11:40 GMT", true}, /* all three forms */
    {"GET / | If-Modified-Since: Tue Nov 14 22:11:40 2023", true},
    {"GET / | If-Modified-Since: Tue Nov 14 22:11:39 2023", false},
    {"GET / | If-Modified-Since: tomorrow", false},
    {"GET / | If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT | If-Modified-Since: Tue, 14 Nov 2023 "
     "22:13:20 GMT",
     false},
    {"HEAD / | If-None-Match: \"b\"", true},
};

START_TEST(not_modified)
{
    struct validators stored = {SLICE("\"b\""), WALL - 100, WALL};
    for (size_t i = 0; i < ARRAY_LEN(conditions); i++) {
        struct message q;
        request_text(&q, conditions[i].request);
        if (condition_not_modified(&q.head, &stored, WALL) != conditions[i].expected)
            ck_abort_msg("%s", conditions[i].request);
    }
}
END_TEST

START_TEST(not_modified_with_little_stored)
{
    struct message q;
    struct validators nothing = {{"", 0}, INT64_MIN, WALL};
    request_text(&q, "GET / | If-None-Match: \"\"");
    must(!condition_not_modified(&q.head, &nothing, WALL));
    request_text(&q, "GET / | If-None-Match: *");
    must(condition_not_modified(&q.head, &nothing, WALL));
    request_text(
        &q, "GET / | If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"); /* Date stands for Last-Modified */
    must(condition_not_modified(&q.head, &nothing, WALL));
    request_text(&q, "GET / | If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT");
    must(!condition_not_modified(&q.head, &nothing, WALL));
}
END_TEST

static const struct {
    const char *value;
    enum range_verdict verdict;
    uint64_t first, last; /* of 1000 bytes */
} ranges[] = {
    {"bytes=0-0", RANGE_PART, 0, 0},
    {"bytes=0-499", RANGE_PART, 0, 499},
    {"bytes=500-999", RANGE_PART, 500, 999},
    {"BYTES=500-", RANGE_PART, 500, 999},
    {"bytes=500-5000", RANGE_PART, 500, 999},
    {"bytes=999-", RANGE_PART, 999, 999},
    {"bytes=-1", RANGE_PART, 999, 999},
    {"bytes=-1000", RANGE_PART, 0, 999},
    {"bytes=-5000", RANGE_PART, 0, 999},
    {"bytes=0-99999999999999999999999999", RANGE_PART, 0, 999},
    {"bytes=1000-", RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=1000-2000", RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=99999999999999999999999999-", RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=-0", RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=5-4", RANGE_WHOLE, 0, 0}, /* invalid: as if it were not there */
    {"bytes=-", RANGE_WHOLE, 0, 0},
    {"bytes=", RANGE_WHOLE, 0, 0},
    {"bytes=a-b", RANGE_WHOLE, 0, 0},
    {"bytes=1", RANGE_WHOLE, 0, 0},
    {"bytes=+1-2", RANGE_WHOLE, 0, 0},
    {"bytes=1-2x", RANGE_WHOLE, 0, 0},
    {"bytes= 1-2", RANGE_WHOLE, 0, 0},
    {"bytes 1-2", RANGE_WHOLE, 0, 0},
    {"bytes=0-1,3-4", RANGE_WHOLE, 0, 0}, /* one range only */
    {"lines=0-1", RANGE_WHOLE, 0, 0},
    {"", RANGE_WHOLE, 0, 0},
};

START_TEST(single_ranges)
{
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        uint64_t first = 0, last = 0;
        enum range_verdict v = range_parse(text(ranges[i].value), 1000, &first, &last);
        if (v != ranges[i].verdict || first != ranges[i].first || last != ranges[i].last)
            ck_abort_msg("%s: %d %llu %llu", ranges[i].value, (int)v, (unsigned long long)first,
                         (unsigned long long)last);
    }
    uint64_t first, last;
    must(range_parse(SLICE("bytes=0-"), 0, &first, &last) == RANGE_UNSATISFIABLE);
    must(range_parse(SLICE("bytes=-5"), 0, &first, &last) == RANGE_UNSATISFIABLE);
}
END_TEST

START_TEST(range_and_if_range)
{
    static const struct {
        const char *request;
        enum range_verdict verdict;
    } rows[] = {
        {"GET /", RANGE_WHOLE},
        {"GET / | Range: bytes=1-2", RANGE_PART},
        {"HEAD / | Range: bytes=1-2", RANGE_WHOLE}, /* 14.2: GET alone */
        {"GET / | Range: bytes=1-2 | Range: bytes=3-4", RANGE_WHOLE},
        {"GET / | Range: bytes=1-2 | If-Range: \"b\"", RANGE_PART},
        {"GET / | Range: bytes=1-2 | If-Range: W/\"b\"", RANGE_WHOLE}, /* strong comparison */
        {"GET / | Range: bytes=1-2 | If-Range: \"a\"", RANGE_WHOLE},
        {"GET / | Range: bytes=5000- | If-Range: \"a\"", RANGE_WHOLE},
        {"GET / | Range: bytes=1-2 | If-Range: Tue, 14 Nov 2023 22:11:40 GMT", RANGE_PART},
        {"GET / | Range: bytes=1-2 | If-Range: Tue, 14 Nov 2023 22:11:41 GMT",
         RANGE_WHOLE}, /* exactly that date */
        {"GET / | Range: bytes=1-2 | If-Range: Wed Nov 15 22:11:40 2023", RANGE_WHOLE},
        {"GET / | Range: bytes=1-2 | If-Range: nonsense", RANGE_WHOLE},
        {"GET / | Range: bytes=1-2 | If-Range: \"b\" | If-Range: \"b\"", RANGE_WHOLE},
    };
    struct validators stored = {SLICE("\"b\""), WALL - 100, WALL};
    uint64_t first, last;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct message q;
        request_text(&q, rows[i].request);
        if (condition_range(&q.head, &stored, 1000, &first, &last) != rows[i].verdict)
            ck_abort_msg("%s", rows[i].request);
    }
    /* A date is no strong validator when the answer was made within a minute of it (8.8.2.2). */
    struct message q;
    struct validators recent = {SLICE("\"b\""), WALL - 59, WALL};
    request_text(&q, "GET / | Range: bytes=1-2 | If-Range: Tue, 14 Nov 2023 22:12:21 GMT");
    must(condition_range(&q.head, &recent, 1000, &first, &last) == RANGE_WHOLE);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("condition");
    tcase_add_test(t, entity_tags);
    tcase_add_test(t, not_modified);
    tcase_add_test(t, not_modified_with_little_stored);
    tcase_add_test(t, single_ranges);
    tcase_add_test(t, range_and_if_range);
    return run_case("condition", t);
}
