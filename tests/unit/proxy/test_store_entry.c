/*
 * Stored answers: what of a head is kept (RFC 9111 3.1), what a 304 changes (3.2, 4.3.4), and what an entry
 * answers.
 */
#include "proxy/store_inner.h"
#include "tests/unit/proxy/cache_case.h"

static struct body_budget budget;

static void setup(void)
{
    budget = (struct body_budget){0, BODY_FD_MAX};
}

static struct entry *entry_of(const char *response, const char *body, bool shared)
{
    struct message m;
    struct freshness fresh = {.date = WALL, .last_modified = INT64_MIN};
    struct vary_key vary = {{0, 0}, 0, 0};
    const struct slice tags[2] = {SLICE("a:1"), SLICE("b")};
    response_text(&m, response);
    struct entry_recipe recipe = {SLICE("/u?q"), SLICE("accept"), &vary, &fresh, tags, 2, shared, WALL, NULL};
    struct entry *e = entry_make(&recipe, &m.head);
    if (!e || !body)
        return e;
    struct body *b = body_new(&budget, strlen(body), 1 << 20);
    must(b && body_append(b, body, strlen(body)));
    entry_complete(e, body_finish(b));
    return e;
}

static const char *text_of(struct slice s)
{
    static char out[MESSAGE_MAX];
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return out;
}

/* RFC 9111 3.1 */
START_TEST(what_is_kept)
{
    struct entry *e = entry_of(
        "200 | Date: @0 | Connection: close, X-Hop | X-Hop: 1 | Keep-Alive: timeout=5 | Proxy-Connection: x "
        "| "
        "Proxy-Authenticate: Basic | Proxy-Authentication-Info: x=1 | Proxy-Authorization: x | TE: trailers "
        "| "
        "Trailer: x | Upgrade: h2c | Age: 5 | Content-Length: 2 | X-Empty: | sEt-CooKie: a=1 | X-A: 1 | "
        "Set-Cookie: b=2 | X-A: 2 | Test-Header: \xe4\xf6 | Via: 1.1 x | Warning: 110 | Content-Type: "
        "text/plain",
        "hi", false);
    ck_assert_str_eq(
        text_of(entry_head_with_length(e)),
        "HTTP/1.1 200 OK\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\nX-Empty: \r\nsEt-CooKie: a=1\r\nX-A: 1\r\n"
        "Set-Cookie: b=2\r\nX-A: 2\r\nTest-Header: \xe4\xf6\r\nVia: 1.1 x\r\nWarning: 110\r\nContent-Type: "
        "text/plain\r\n"
        "Content-Length: 2\r\n");
    must(entry_head(e).n + strlen("Content-Length: 2\r\n") == entry_head_with_length(e).n);
    must(entry_head(e).p == entry_head_with_length(e).p);
    ck_assert_str_eq(text_of(entry_span(e, e->uri)), "/u?q");
    ck_assert_str_eq(text_of(entry_span(e, e->names)), "accept");
    ck_assert_str_eq(text_of(entry_span(e, e->tag_text)), "a:1\nb\n");
    ck_assert_str_eq(body_text(e), "hi");
    entry_release(e);
}
END_TEST

START_TEST(date_is_always_there)
{
    struct entry *e = entry_of("404 | X: y", "", false);
    ck_assert_str_eq(
        text_of(entry_head_with_length(e)),
        "HTTP/1.1 404 OK\r\nX: y\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Length: 0\r\n");
    entry_release(e);
    e = entry_of("200 | Date: @-5 | Cache-Control: no-cache=\"date\"", "",
                 false); /* its own was not to be stored */
    must(strstr(text_of(entry_head(e)), "Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"));
    entry_release(e);
    e = entry_of("204", "", false); /* which has no length (RFC 9110 8.6) */
    ck_assert_str_eq(text_of(entry_head_with_length(e)),
                     "HTTP/1.1 204 OK\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n");
    entry_release(e);
}
END_TEST

/* RFC 9111 5.2.2.4 and 5.2.2.7 with names */
START_TEST(fields_that_may_not_be_stored)
{
    const char *response = "200 | Date: @0 | Cache-Control: no-cache=\"x-a, SET-COOKIE\", private=x-p, "
                           "max-age=5 | X-A: 1 | X-P: 2 | Set-Cookie: c";
    struct entry *e = entry_of(response, NULL, true);
    must(!strstr(text_of(entry_head(e)), "X-A:") && !strstr(text_of(entry_head(e)), "Cookie:") &&
         !strstr(text_of(entry_head(e)), "X-P:"));
    entry_release(e);
    e = entry_of(response, NULL, false);
    must(!strstr(text_of(entry_head(e)), "X-A:") && strstr(text_of(entry_head(e)), "X-P: 2\r\n"));
    entry_release(e);
    char many[2000] = "200 | Cache-Control: no-cache=\"";
    for (int i = 0; i < 33; i++)
        sprintf(many + strlen(many), "a%d,", i);
    strcat(many, "\"");
    must(!entry_of(many, NULL, false)); /* more than we check: not stored rather than stored wrongly */
}
END_TEST

START_TEST(validators_as_received)
{
    struct entry *e = entry_of(
        "200 | etag: W/\"x\" | Last-Modified: nonsense | ETag: \"y\" | Content-Language: de", NULL, false);
    ck_assert_str_eq(text_of(entry_etag(e)), "W/\"x\"");
    ck_assert_str_eq(text_of(entry_last_modified(e)), "nonsense");
    ck_assert_str_eq(text_of(entry_span(e, e->language)), "de");
    entry_release(e);
    e = entry_of("200 | Content-Language: de | Content-Language: en", NULL, false);
    must(entry_etag(e).n == 0 && entry_last_modified(e).n == 0);
    must(entry_span(e, e->language).n == 0); /* no single language */
    entry_release(e);
}
END_TEST

/* RFC 9111 3.2, 4.3.4 */
START_TEST(merging_a_304)
{
    struct message m;
    struct entry *old = entry_of(
        "200 | Date: @-100 | ETag: \"1\" | X-A: 1 | X-A: 2 | X-B: b | Content-Type: text/plain | "
        "Content-Encoding: gzip | Content-Length: 4 | Content-Language: de | Cache-Control: max-age=1",
        "body", false);
    response_text(&m, "304 | Date: @0 | ETag: \"1\" | x-a: 3 | Content-Type: text/html | Content-Encoding: "
                      "br | Content-Range: x | Age: 7 | "
                      "Content-Length: 99 | Cache-Control: max-age=9 | Set-Cookie: s | Connection: X-H | "
                      "X-H: 1 | Content-Language: en");
    struct entry *e = entry_merge(old, &m.head, WALL, true);
    must(e);
    ck_assert_str_eq(text_of(entry_head(e)),
                     "HTTP/1.1 200 OK\r\nX-B: b\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\n"
                     "Date: Tue, 14 Nov 2023 22:13:20 GMT\r\nETag: \"1\"\r\nx-a: 3\r\nCache-Control: "
                     "max-age=9\r\nSet-Cookie: s\r\n"
                     "Content-Language: en\r\nAge: 7\r\n");
    struct field fields[32];
    struct head view;
    must(e->field_count == 10);
    entry_head_view(e, fields, &view);
    must(view.field_count == 10 && view.status == 200 &&
         slice_equal(head_first(&view, FIELD_AGE), SLICE("7")));
    must(slice_equal((struct slice){view.base + view.reason_at, view.reason_len}, SLICE("OK")));
    must(slice_equal(head_name(&view, 0), SLICE("X-B")) && slice_equal(head_value(&view, 0), SLICE("b")));
    entry_drop_age(e);
    entry_drop_age(e);
    must(!strstr(text_of(entry_head(e)), "Age:") && e->field_count == 9);
    entry_complete(e, body_ref(old->body));
    must(strstr(text_of(entry_head_with_length(e)), "\r\nContent-Length: 4\r\n"));
    ck_assert_str_eq(text_of(entry_span(e, e->uri)), "/u?q");
    ck_assert_str_eq(text_of(entry_span(e, e->tag_text)), "a:1\nb\n");
    entry_release(old);
    ck_assert_str_eq(body_text(e), "body"); /* shared */
    entry_release(e);
}
END_TEST

/* Without Date in the 304 the time of receipt stands for it: the age restarts. */
START_TEST(merging_a_304_without_date)
{
    struct message m;
    struct entry *old = entry_of("200 | Date: @-100 | Age: 5 | X-A: 1", "body", false);
    response_text(&m, "304 | ETag: \"n\"");
    struct entry *e = entry_merge(old, &m.head, WALL, true);
    ck_assert_str_eq(text_of(entry_head(e)),
                     "HTTP/1.1 200 OK\r\nX-A: 1\r\nETag: \"n\"\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n");
    must(e->age_n == 0);
    entry_release(e);
    entry_release(old);
}
END_TEST

/* ---- answers ---- */

static struct answer answer_to(const struct entry *e, const char *request)
{
    struct message m;
    struct answer a;
    request_text(&m, request);
    entry_answer(e, &m.head, WALL, &a);
    return a;
}

static const char *head_of(const struct entry *e, const struct answer *a)
{
    static char out[MESSAGE_MAX];
    char *exact;
    size_t n = entry_answer_head(e, a, out, entry_head(e).n + 256);
    must(n > 0);
    out[n] = '\0';
    must((exact = malloc(n)) != NULL);
    must(entry_answer_head(e, a, exact, n) == n && memcmp(exact, out, n) == 0);
    must(entry_answer_head(e, a, exact, n - 1) == 0); /* no room: nothing, rather than a part */
    free(exact);
    return out;
}

START_TEST(answers)
{
    struct entry *e = entry_of(
        "200 | Date: @0 | ETag: \"1\" | Last-Modified: @-9 | Content-Type: t | Cache-Control: c | Vary: a | "
        "Expires: x | Content-Location: l | Set-Cookie: s",
        "0123456789", false);
    struct answer a = answer_to(e, "GET /");
    must(a.kind == ANSWER_WHOLE && a.status == 200 && a.has_body && a.first == 0 && a.length == 10);
    must(strcmp(head_of(e, &a), text_of(entry_head_with_length(e))) == 0);
    a = answer_to(e, "HEAD /");
    must(a.kind == ANSWER_WHOLE && !a.has_body && a.length == 10);
    a = answer_to(e, "GET / | If-None-Match: \"1\"");
    must(a.kind == ANSWER_NOT_MODIFIED && a.status == 304 && !a.has_body);
    ck_assert_str_eq(head_of(e, &a),
                     "HTTP/1.1 304 Not Modified\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\nETag: \"1\"\r\n"
                     "Cache-Control: c\r\nVary: a\r\nExpires: x\r\nContent-Location: l\r\nSet-Cookie: s\r\n");
    a = answer_to(e, "GET / | If-None-Match: \"1\" | Range: bytes=1-2"); /* the condition goes first */
    must(a.kind == ANSWER_NOT_MODIFIED);
    a = answer_to(e, "GET / | If-None-Match: \"2\" | Range: bytes=3-4");
    must(a.kind == ANSWER_PART && a.status == 206 && a.has_body && a.first == 3 && a.length == 2);
    must(strstr(head_of(e, &a), "HTTP/1.1 206 Partial Content\r\n") &&
         strstr(head_of(e, &a), "Content-Range: bytes 3-4/10\r\nContent-Length: 2\r\n"));
    must(strstr(head_of(e, &a), "Content-Type: t\r\n"));
    a = answer_to(e, "GET / | Range: bytes=10-");
    must(a.kind == ANSWER_UNSATISFIABLE && a.status == 416 && !a.has_body);
    ck_assert_str_eq(head_of(e, &a),
                     "HTTP/1.1 416 Range Not Satisfiable\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
                     "Content-Range: bytes */10\r\nContent-Length: 0\r\n");
    entry_release(e);
}
END_TEST

/* Conditions and ranges are about a 200 alone. */
START_TEST(answers_of_other_statuses)
{
    struct entry *e = entry_of("404 | ETag: \"1\"", "gone", false);
    struct answer a = answer_to(e, "GET / | If-None-Match: \"1\"");
    must(a.kind == ANSWER_WHOLE && a.status == 404);
    a = answer_to(e, "GET / | Range: bytes=0-0");
    must(a.kind == ANSWER_WHOLE && a.length == 4);
    entry_release(e);
    e = entry_of("200 | Last-Modified: @-9", "", false);
    a = answer_to(e, "GET /");
    must(a.kind == ANSWER_WHOLE && !a.has_body && a.length == 0);
    entry_release(e);
}
END_TEST

START_TEST(runs_of_a_range)
{
    char text[9001];
    memset(text, 'x', 9000);
    text[9000] = '\0';
    text[8999] = 'y';
    struct entry *e = entry_of("200", text, false);
    struct iovec iov[4];
    must(entry_body_iov(e, 8998, 100, iov, 4) == 1 && iov[0].iov_len == 2 &&
         ((char *)iov[0].iov_base)[1] == 'y');
    must(entry_body_iov(e, 9000, 1, iov, 4) == 0);
    must(entry_body_iov(e, UINT64_MAX, 1, iov, 4) == 0);
    must(entry_fd(e) == -1 && entry_length(e) == 9000);
    struct entry *again = entry_ref(e);
    entry_release(e);
    must(entry_length(again) == 9000);
    entry_release(again);
    entry_release(NULL);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("store_entry");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, what_is_kept);
    tcase_add_test(t, date_is_always_there);
    tcase_add_test(t, fields_that_may_not_be_stored);
    tcase_add_test(t, validators_as_received);
    tcase_add_test(t, merging_a_304);
    tcase_add_test(t, merging_a_304_without_date);
    tcase_add_test(t, answers);
    tcase_add_test(t, answers_of_other_statuses);
    tcase_add_test(t, runs_of_a_range);
    return run_case("store_entry", t);
}
