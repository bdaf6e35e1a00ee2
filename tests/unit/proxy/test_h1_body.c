/*
 * Bodies of HTTP/1 messages: chunked ones good and bad, named by the section of the RFC, each given whole,
 * cut at every byte and byte by byte (the result must be the same); trailers; limits at their edges; lengths;
 * and the end of the connection.
 */
#include <check.h>

#include "tests/fuzz/h1_check.h"

struct row {
    const char *section;
    const char *p;
    size_t n;
    enum reason want;
    const char *payload; /* all that may be given, also before a fault */
    const char *trailers;
    size_t behind; /* bytes behind the message, not to be used */
};

#define GOOD(section, text, payload, trailers, behind)                                                       \
    {                                                                                                        \
        section, text, sizeof(text) - 1, REASON_NONE, payload, trailers, behind                              \
    }
#define CHUNK(section, text, payload)                                                                        \
    {                                                                                                        \
        section, text, sizeof(text) - 1, REASON_BAD_CHUNK, payload, "", 0                                    \
    }
#define TRAILER(section, text)                                                                               \
    {                                                                                                        \
        section, text, sizeof(text) - 1, REASON_BAD_TRAILER, "a", "", 0                                      \
    }
#define A "1\r\na\r\n"

static const struct row chunked[] = {
    GOOD("9112-7.1 two chunks", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", "", 0),
    GOOD("9112-7.1 nothing", "0\r\n\r\n", "", "", 0),
    GOOD("9112-7.1 bytes behind", A "0\r\n\r\nGET /", "a", "", 5),
    GOOD("9112-7.1 CRLF behind", A "0\r\n\r\n\r\n", "a", "", 2),
    GOOD("9112-7.1 letters of both cases", "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
         "01234567890123456789", "", 0),
    GOOD("9112-7.1 zeros before the size", "0001\r\na\r\n000\r\n\r\n", "a", "", 0),
    GOOD("9112-7.1 sixteen digits", "0000000000000001\r\na\r\n0000000000000000\r\n\r\n", "a", "", 0),
    GOOD("9112-7.1 payload that looks like framing", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n", "", 0),
    CHUNK("9112-7.1 seventeen digits", "00000000000000001\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 no size", "\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 no size, extension", ";a=b\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 0x", "0x1\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 plus", "+1\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 minus", "-1\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 space before", " 1\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 space behind", "1 \r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 tab behind", "1\t\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 space before an extension", "1 ;a\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 not hexadecimal", "g\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 underscore", "1_0\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 NUL in the size", "1\0\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 8 bits", "\xb1\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1 64 bits", "8000000000000000\r\n", ""),
    CHUNK("9112-7.1 wraps", "ffffffffffffffff\r\na", ""),
    CHUNK("9112-7.1 wraps to 1", "10000000000000001\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-2.2 LF behind the size", "1\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-2.2 CR behind the size", "1\ra\r\n0\r\n\r\n", ""),
    CHUNK("9112-2.2 CR CR LF behind the size", "1\r\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-2.2 LF behind the payload", "1\r\na\n0\r\n\r\n", "a"),
    CHUNK("9112-2.2 CR behind the payload", "1\r\na\r0\r\n\r\n", "a"),
    CHUNK("9112-7.1 payload longer than said", "1\r\nab\r\n0\r\n\r\n", "a"),
    CHUNK("9112-7.1 payload shorter than said", "3\r\na\r\n0\r\n\r\n", "a\r\n"),
    CHUNK("9112-7.1 no end of the payload", "1\r\na1\r\nb\r\n0\r\n\r\n", "a"),
    CHUNK("9112-7.1 empty line between chunks", A "\r\n0\r\n\r\n", "a"),

    GOOD("9112-7.1.1 extensions", "1;a;b=c;d=\"e;f\\\"\\\\ \t\"\r\na\r\n0;x\r\n\r\n", "a", "", 0),
    GOOD("9112-7.1.1 white space inside", "1; a = b\t;c\r\na\r\n0\r\n\r\n", "a", "", 0),
    GOOD("9112-7.1.1 obs-text in quotes", "1;a=\"\xc3\xa9\"\r\na\r\n0\r\n\r\n", "a", "", 0),
    CHUNK("9112-7.1.1 8 bits without quotes", "1;a=\xc3\xa9\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1.1 delimiter without quotes", "1;a=(\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1.1 LF ends it", "1;a\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1.1 LF inside", "1;a\nb\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1.1 CR inside", "1;a\rb\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1.1 NUL inside", "1;a\0\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1.1 DEL inside", "1;a\x7f\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1.1 CRLF in quotes", "1;a=\"\r\n\"\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1.1 LF in quotes", "1;a=\"\n\"\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1.1 quotes never closed", "1;a=\"b\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1.1 escaped CR", "1;a=\"\\\r\n\"\r\na\r\n0\r\n\r\n", ""),
    CHUNK("9112-7.1.1 NUL in quotes", "1;a=\"\0\"\r\na\r\n0\r\n\r\n", ""),

    GOOD("9112-7.1.2 trailers", A "0\r\nX-One: 1\r\nX-Two:2 \t \r\nX-Empty:\r\n\r\n", "a",
         "X-One: 1\r\nX-Two: 2\r\nX-Empty: \r\n", 0),
    GOOD("9112-7.1.2 nothing but white space", A "0\r\nX: \t \r\nY:  \r\n\r\n", "a", "X: \r\nY: \r\n", 0),
    GOOD("9112-7.1.2 empty behind a dropped one", A "0\r\nTE: a\r\nXY:\r\n\r\n", "a", "XY: \r\n", 0),
    GOOD("9112-7.1.2 obs-text", A "0\r\nX: \xc3\xa9\r\n\r\n", "a", "X: \xc3\xa9\r\n", 0),
    GOOD("9110-6.5.1 framing", A "0\r\nContent-Length: 5\r\ntransfer-encoding: chunked\r\nX: y\r\n\r\nrest",
         "a", "X: y\r\n", 4),
    GOOD("9110-6.5.1 routing", A "0\r\nHost: b\r\nX-Forwarded-For: c\r\nForwarded: d\r\nX-Real-IP: e\r\n\r\n",
         "a", "", 0),
    GOOD("9110-6.5.1 authentication",
         A "0\r\nAuthorization: b\r\nCookie: c\r\nSet-Cookie: d\r\nWWW-Authenticate: e\r\nX-Api-Key: f\r\n"
           "X-PromptOps-Signature: g\r\nProxy-Authentication-Info: h\r\n\r\n",
         "a", "", 0),
    GOOD("9110-6.5.1 content",
         A "0\r\nContent-Type: b\r\nContent-Encoding: c\r\nContent-Foo: d\r\nContentment: e\r\n\r\n", "a",
         "Contentment: e\r\n", 0),
    GOOD("9110-6.5.1 control",
         A "0\r\nCache-Control: b\r\nExpect: c\r\nIf-None-Match: d\r\nTE: e\r\nConnection: f\r\nTrailer: "
           "g\r\nAge: 1\r\n\r\n",
         "a", "", 0),
    GOOD("9110-6.5 what may come late", A "0\r\nServer-Timing: b\r\nGrpc-Status: 0\r\nDigest: c\r\n\r\n", "a",
         "Server-Timing: b\r\nGrpc-Status: 0\r\nDigest: c\r\n", 0),
    GOOD("9110-6.5.1 dropped between kept", "0\r\nX: 1\r\nHost: b\r\nY: 2\r\n\r\n", "", "X: 1\r\nY: 2\r\n",
         0),
    TRAILER("9112-5.1 space before the colon", A "0\r\nX : 1\r\n\r\n"),
    TRAILER("9112-5.1 no name", A "0\r\n: 1\r\n\r\n"),
    TRAILER("9112-5.1 no colon", A "0\r\nX\r\n\r\n"),
    TRAILER("9112-5.1 space in the name", A "0\r\nX Y: 1\r\n\r\n"),
    TRAILER("9112-5.2 folded first", A "0\r\n X: 1\r\n\r\n"),
    {"9112-5.2 folded", A "0\r\nX: 1\r\n y\r\n\r\n", sizeof(A "0\r\nX: 1\r\n y\r\n\r\n") - 1,
     REASON_BAD_TRAILER, "a", "X: 1\r\n", 0},
    TRAILER("9112-2.2 LF", A "0\r\nHost: 1\n\r\n"),
    TRAILER("9112-2.2 CR", A "0\r\nHost: 1\r2\r\n\r\n"),
    TRAILER("9112-2.2 LF ends the section", A "0\r\n\n"),
    TRAILER("9112-2.2 CR ends the section", A "0\r\n\rX"),
    TRAILER("9110-5.5 NUL", A "0\r\nX: \0\r\n\r\n"),
    TRAILER("9110-5.5 control", A "0\r\nX: \x01\r\n\r\n"),
    TRAILER("9110-5.5 DEL", A "0\r\nX\x7f: 1\r\n\r\n"),
    CHUNK("9112-2.2 LF behind the last size", A "0\n\r\n", "a"),
};

static struct body_case make_case(const char *p, size_t n, bool response)
{
    return (struct body_case){
        .p = p, .n = n, .kind = BODY_CHUNKED, .response = response, .max_trailer = 4096};
}

static void check_result(const struct row *row, const struct body_result *r, bool response)
{
    enum reason want = row->want;
    if (response && want == REASON_BAD_CHUNK)
        want = REASON_BAD_RESPONSE_CHUNK;
    if (response && want == REASON_BAD_TRAILER)
        want = REASON_BAD_RESPONSE_TRAILER;
    ck_assert_msg(r->reason == want, "%s: %s", row->section, reason_row(r->reason)->name);
    ck_assert_msg(r->payload_len == strlen(row->payload) &&
                      memcmp(r->payload, row->payload, r->payload_len) == 0,
                  "%s: payload `%.*s`", row->section, (int)r->payload_len, r->payload);
    ck_assert_msg(r->trailers_len == strlen(row->trailers) &&
                      memcmp(r->trailers, row->trailers, r->trailers_len) == 0,
                  "%s: trailers `%.*s`", row->section, (int)r->trailers_len, r->trailers);
    ck_assert_msg(r->done == (want == REASON_NONE), "%s", row->section);
    ck_assert_msg(!r->done || r->used == row->n - row->behind, "%s: used %zu", row->section, r->used);
}

START_TEST(chunked_rows)
{
    const struct row *row = &chunked[_i];
    for (int response = 0; response < 2; response++)
        for (size_t cut = 0; cut <= row->n; cut++) {
            struct body_case c = make_case(row->p, row->n, response);
            struct body_result r;
            claim_body(&c, cut, cut % 5 + 1, &r);
            check_result(row, &r, response);
            body_result_free(&r);
        }
}
END_TEST

/* Every proper beginning of a good message is neither done nor wrong, and is no proper end. */
START_TEST(cut_off)
{
    const struct row *row = &chunked[_i];
    for (size_t n = 0; row->want == REASON_NONE && n < row->n - row->behind; n++) {
        struct body_case c = make_case(row->p, n, false);
        struct body_result r;
        claim_body(&c, n / 2, 1, &r);
        ck_assert_msg(r.reason == REASON_NONE && !r.done && r.used == n, "%s, %zu bytes", row->section, n);
        body_result_free(&r);
    }
}
END_TEST

/* ---- Limits ---- */

static enum reason read_text(const char *p, size_t n, uint32_t max_trailer, size_t *trailers_len)
{
    struct body_case c = make_case(p, n, false);
    struct body_result r;
    c.max_trailer = max_trailer;
    claim_body(&c, n / 3, 7, &r);
    enum reason reason = r.reason;
    ck_assert(r.done == (reason == REASON_NONE));
    *trailers_len = r.trailers_len;
    body_result_free(&r);
    return reason;
}

START_TEST(limit_extensions)
{
    for (size_t n = 1020; n < 1030; n++) { /* of the extensions of one chunk, the semicolon included */
        char text[4096] = "1", *p = text + 1;
        size_t trailers_len;
        *p++ = ';';
        memset(p, 'x', n - 1);
        p += n - 1;
        p += sprintf(p, "\r\na\r\n2;");
        memset(p, 'y', 1000);
        p += 1000;
        p += sprintf(p, "\r\nbc\r\n0\r\n\r\n");
        ck_assert_int_eq(read_text(text, (size_t)(p - text), 100, &trailers_len),
                         n <= 1024 ? REASON_NONE : REASON_BAD_CHUNK);
    }
}
END_TEST

START_TEST(limit_trailers)
{
    static const char text[] = "0\r\nX: 1\r\nHost: dropped\r\nLonger-Name:2\r\n\r\n";
    uint32_t section = sizeof(text) - 1 - 3 - 2;
    size_t trailers_len;
    for (uint32_t max = 0; max < section + 5; max++)
        ck_assert_int_eq(read_text(text, sizeof(text) - 1, max, &trailers_len),
                         max >= section ? REASON_NONE : REASON_BAD_TRAILER);
    ck_assert_uint_eq(trailers_len, strlen("X: 1\r\nLonger-Name: 2\r\n"));
    ck_assert_int_eq(read_text("0\r\n\r\n", 5, 0, &trailers_len), REASON_NONE);
}
END_TEST

/* A trailer without end is refused at the byte that is too many, whether or not its line has ended. */
START_TEST(limit_trailers_is_early)
{
    struct head head = {.body = BODY_CHUNKED};
    struct h1_limits limits = {.max_trailer = 1000};
    struct h1_body body;
    struct slice data;
    size_t used, given = 0;
    h1_body_init(&body, &head, false, &limits);
    ck_assert_int_eq(h1_body_next(&body, "0\r\n", 3, &used, &data), REASON_NONE);
    while (h1_body_next(&body, "x", 1, &used, &data) == REASON_NONE)
        given++;
    ck_assert_uint_eq(given, 1000);
    h1_body_dispose(&body);
}
END_TEST

/* The trailers may grow by rewriting: `a:b` becomes `a: b`; in memory of any size that must fit. */
START_TEST(many_trailers)
{
    char *text = malloc(200000), *want = malloc(200000);
    ck_assert(text && want);
    size_t n = (size_t)sprintf(text, "0\r\n"), m = 0, trailers_len;
    for (int i = 0; i < 9000; i++) {
        n += (size_t)sprintf(text + n, "x%d:%d\r\n", i, i);
        m += (size_t)sprintf(want + m, "x%d: %d\r\n", i, i);
    }
    n += (size_t)sprintf(text + n, "\r\n");
    struct body_case c = make_case(text, n, true);
    struct body_result r;
    c.max_trailer = 1 << 20;
    claim_body(&c, 1, 1, &r);
    ck_assert(r.done && r.trailers_len == m && memcmp(r.trailers, want, m) == 0);
    ck_assert_int_eq(read_text(text, n, 1 << 20, &trailers_len), REASON_NONE);
    body_result_free(&r);
    free(text);
    free(want);
}
END_TEST

START_TEST(huge_chunk)
{
    struct head head = {.body = BODY_CHUNKED};
    struct h1_limits limits = {0};
    struct h1_body body;
    struct slice data;
    size_t used;
    h1_body_init(&body, &head, false, &limits);
    ck_assert_int_eq(h1_body_next(&body, "7fffffffffffffff\r\nabc", 21, &used, &data), REASON_NONE);
    ck_assert(used == 21 && data.n == 3 && memcmp(data.p, "abc", 3) == 0 && !body.done);
    ck_assert_uint_eq(body.left, (uint64_t)INT64_MAX - 3);
    ck_assert(!h1_body_eof(&body));
    h1_body_dispose(&body);
}
END_TEST

/* A hundred thousand chunks of a byte, in one buffer: not linear, it would take minutes. */
START_TEST(many_chunks_cost_linear_work)
{
    enum { COUNT = 100000 };
    char *text = malloc(COUNT * 6 + 6);
    ck_assert_ptr_nonnull(text);
    for (int i = 0; i < COUNT; i++)
        memcpy(text + i * 6, "1\r\nx\r\n", 6);
    memcpy(text + COUNT * 6, "0\r\n\r\n", 5);
    struct body_case c = make_case(text, COUNT * 6 + 5, false);
    struct body_result r;
    read_cut(&c, c.n, 1, &r);
    ck_assert(r.done && r.payload_len == COUNT);
    body_result_free(&r);
    free(text);
}
END_TEST

/* ---- The other kinds ---- */

START_TEST(length)
{
    for (size_t said = 0; said < 8; said++)
        for (size_t cut = 0; cut <= 6; cut++) {
            struct body_case c = {
                .p = "abcdef", .n = 6, .kind = BODY_LENGTH, .length = said, .response = true};
            struct body_result r;
            size_t got = said < 6 ? said : 6;
            claim_body(&c, cut, 1, &r);
            ck_assert(r.reason == REASON_NONE && r.used == got && r.payload_len == got &&
                      memcmp(r.payload, "abcdef", got) == 0);
            ck_assert(r.done ==
                      (said <= 6)); /* read_cut has checked that the close is no proper end before that */
            body_result_free(&r);
        }
}
END_TEST

START_TEST(none_and_until_close)
{
    struct body_case none = {.p = "abc", .n = 3, .kind = BODY_NONE};
    struct body_case until_close = {.p = "0\r\n\r\n", .n = 5, .kind = BODY_UNTIL_CLOSE, .response = true};
    struct body_result r;
    claim_body(&none, 1, 1, &r);
    ck_assert(r.done && r.used == 0 && r.payload_len == 0 && r.reason == REASON_NONE);
    body_result_free(&r);
    claim_body(&until_close, 1, 1, &r);
    ck_assert(!r.done && r.used == 5 && r.payload_len == 5 && r.reason == REASON_NONE);
    body_result_free(&r);
}
END_TEST

START_TEST(end_of_connection)
{
    struct head head = {.body = BODY_UNTIL_CLOSE};
    struct h1_limits limits = {0};
    struct h1_body body;
    h1_body_init(&body, &head, true, &limits);
    ck_assert(!body.done);
    ck_assert(h1_body_eof(&body) && body.done && h1_body_eof(&body));
    head.body = BODY_CHUNKED;
    h1_body_init(&body, &head, true, &limits);
    ck_assert(!h1_body_eof(&body) && !body.done);
    head.body = BODY_NONE;
    h1_body_init(&body, &head, true, &limits);
    ck_assert(h1_body_eof(&body));
    h1_body_dispose(&body);
}
END_TEST

START_TEST(chunk_open)
{
    static const size_t sizes[] = {
        1, 9, 10, 15, 16, 17, 255, 256, 4095, 4096, 65535, 65536, 1 << 20, SIZE_MAX >> 1, SIZE_MAX};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char *out = malloc(20), want[24];
        ck_assert_ptr_nonnull(out);
        size_t n = h1_chunk_open(out, sizes[i]);
        snprintf(want, sizeof(want), "%zx\r\n", sizes[i]);
        ck_assert(n == strlen(want) && memcmp(out, want, n) == 0);
        free(out);
    }
}
END_TEST

/* What we write, we read. */
START_TEST(round_trip)
{
    char payload[5000], text[40000];
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (char)(i * 7);
    for (size_t chunk = 1; chunk < sizeof(payload); chunk = chunk * 3 + 1) {
        size_t n = 0;
        for (size_t at = 0; at < sizeof(payload);) {
            size_t k = sizeof(payload) - at < chunk ? sizeof(payload) - at : chunk;
            n += h1_chunk_open(text + n, k);
            memcpy(text + n, payload + at, k);
            memcpy(text + n + k, "\r\n", 2);
            n += k + 2;
            at += k;
        }
        memcpy(text + n, "0\r\n\r\n", 5);
        struct body_case c = make_case(text, n + 5, false);
        struct body_result r;
        claim_body(&c, n / 2, 11, &r);
        ck_assert(r.done && r.used == n + 5 && r.payload_len == sizeof(payload) &&
                  memcmp(r.payload, payload, sizeof(payload)) == 0);
        body_result_free(&r);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("h1_body");
    TCase *tc = tcase_create("bodies");
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, chunked_rows, 0, (int)ARRAY_LEN(chunked));
    tcase_add_loop_test(tc, cut_off, 0, (int)ARRAY_LEN(chunked));
    tcase_add_test(tc, limit_extensions);
    tcase_add_test(tc, limit_trailers);
    tcase_add_test(tc, limit_trailers_is_early);
    tcase_add_test(tc, many_trailers);
    tcase_add_test(tc, huge_chunk);
    tcase_add_test(tc, many_chunks_cost_linear_work);
    tcase_add_test(tc, length);
    tcase_add_test(tc, none_and_until_close);
    tcase_add_test(tc, end_of_connection);
    tcase_add_test(tc, chunk_open);
    tcase_add_test(tc, round_trip);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
