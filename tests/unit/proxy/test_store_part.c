/*
 * Parts in the store (RFC 9111 3.3, 3.4): kept, answering what lies in them, joined, made whole, rescued.
 */
#include "proxy/store_inner.h"
#include "tests/unit/proxy/cache_case.h"

static struct world w;

static void setup(void)
{
    world_init(&w, NULL);
}

static void teardown(void)
{
    struct store_stats stats;
    store_stats(w.store, &stats);
    must(stats.fills == 0 && stats.fill_bytes == 0);
    world_dispose(&w);
}

static struct store_stats stats_now(void)
{
    struct store_stats s;
    store_stats(w.store, &s);
    return s;
}

/* The document is 0123456789. */
#define PART(range, length)                                                                                  \
    "206 | Date: @0 | Cache-Control: max-age=100 | ETag: \"1\" | Content-Range: bytes " range                \
    "/10 | Content-Length: " length

/* What a Range is answered with, as text; NULL when it has to be fetched. */
static const char *ranged(const char *range)
{
    static char out[64];
    struct message m;
    struct store_result r;
    char request[100];
    snprintf(request, sizeof request, "GET /a | Range: bytes=%s", range);
    request_text(&m, request);
    struct store_request ask = ask_of(&w, &m);
    enum store_verdict v = store_lookup(w.store, &ask, &r);
    out[0] = '\0';
    if (v == STORE_HIT) {
        struct answer answer;
        char head[1024];
        entry_answer(r.entry, &m.head, w.wall, &answer);
        must(answer.kind == ANSWER_PART && answer.status == 206);
        size_t n = entry_answer_head(r.entry, &answer, head, sizeof head);
        head[n] = '\0';
        const char *line = strstr(head, "Content-Range: bytes ");
        must(line && !strstr(line + 1, "Content-Range") && strncmp(head, "HTTP/1.1 206 ", 13) == 0);
        snprintf(out, sizeof out, "%.*s=%.*s", (int)strcspn(line + 21, "\r"), line + 21, (int)answer.length,
                 body_text(r.entry) + answer.first);
    }
    let_go(&r, v);
    return v == STORE_HIT ? out : NULL;
}

static void expect(const char *range, const char *wanted)
{
    const char *got = ranged(range);
    if (wanted ? !got || strcmp(got, wanted) != 0 : got != NULL)
        ck_abort_msg("%s: %s, not %s", range, got ? got : "none", wanted ? wanted : "none");
}

START_TEST(a_part_answers_what_lies_in_it)
{
    must(fetch(&w, "GET /a | Range: bytes=3-7", PART("3-7", "5"), "34567") == STORABLE_YES);
    expect("3-7", "3-7/10=34567");
    expect("4-5", "4-5/10=45");
    expect("7-7", "7-7/10=7");
    expect("2-4", NULL);
    expect("7-8", NULL);
    expect("3-", NULL);
    expect("-3", NULL);
    expect("0-", NULL);
    expect("20-", NULL);
    must(verdict_of(&w, "GET /a") == STORE_LEAD); /* it is no whole answer, and no beginning */
    must(verdict_of(&w, "HEAD /a") == STORE_PASS);
    must(verdict_of(&w, "GET /a | Range: bytes=3-4,5-6") == STORE_PASS);
    must(verdict_of(&w, "GET /a | Range: bytes=4-5 | If-Range: \"1\"") == STORE_HIT);
    must(verdict_of(&w, "GET /a | Range: bytes=4-5 | If-Range: \"2\"") == STORE_LEAD);
    must(verdict_of(&w, "GET /a | Range: bytes=4-5 | Cache-Control: no-cache") == STORE_LEAD);
    must(verdict_of(&w, "GET /a | Range: bytes=4-5 | Authorization: x") == STORE_LEAD);
    pass_time(&w, 100 * TICK_S);
    expect("4-5", NULL); /* stale */
}
END_TEST

START_TEST(a_suffix_is_counted_from_the_end_of_the_whole)
{
    must(fetch(&w, "GET /a | Range: bytes=-4", PART("6-9", "4"), "6789") == STORABLE_YES);
    expect("-4", "6-9/10=6789");
    expect("-1", "9-9/10=9");
    expect("8-", "8-9/10=89");
    expect("8-99", "8-9/10=89");
    expect("-5", NULL);
}
END_TEST

START_TEST(parts_that_are_not_kept)
{
    static const char *const responses[] = {
        "206 | Cache-Control: max-age=100 | Content-Length: 5",
        "206 | Cache-Control: max-age=100 | Content-Range: bytes 3-7/* | Content-Length: 5",
        "206 | Cache-Control: max-age=100 | Content-Range: bytes 3-7/10 | Content-Length: 4",
        "206 | Cache-Control: max-age=100 | Content-Range: bytes 7-3/10 | Content-Length: 5",
        "206 | Cache-Control: max-age=100 | Content-Range: bytes 3-7/7 | Content-Length: 5",
        "206 | Cache-Control: max-age=100 | Content-Range: lines 3-7/10 | Content-Length: 5",
        "206 | Cache-Control: max-age=100 | Content-Range: bytes */10 | Content-Length: 5",
        "206 | Cache-Control: max-age=100 | Content-Range: bytes 3-7/10 | Content-Range: bytes 3-7/10 | "
        "Content-Length: 5",
        "206 | Cache-Control: max-age=100 | Content-Range: bytes 3-99999999999999999999999/10 | "
        "Content-Length: 5",
        "416 | Cache-Control: max-age=100 | Content-Range: bytes */10 | Content-Length: 5",
        "206 | Cache-Control: no-store | Content-Range: bytes 3-7/10 | Content-Length: 5",
    };
    for (size_t i = 0; i < ARRAY_LEN(responses); i++)
        if (fetch(&w, "GET /a | Range: bytes=3-7", responses[i], "34567") == STORABLE_YES)
            ck_abort_msg("%s", responses[i]);
    /* A 206 to no Range says nothing that we understand. */
    store_purge(w.store, STORE_PURGE_ALL, SLICE(""));
    must(fetch(&w, "GET /b", PART("3-7", "5"), "34567") == STORABLE_STATUS);
    must(stats_now().entries == 0);
}
END_TEST

START_TEST(parts_are_joined_when_the_strong_validator_is_the_same)
{
    static const struct {
        const char *first, *first_body, *second, *second_body, *asked, *wanted;
    } rows[] = {
        {PART("2-4", "3"), "234", PART("5-7", "3"), "567", "2-7", "2-7/10=234567"},
        {PART("5-7", "3"), "567", PART("2-4", "3"), "234", "2-7", "2-7/10=234567"},
        {PART("2-6", "5"), "23456", PART("4-8", "5"), "45678", "2-8", "2-8/10=2345678"},
        {PART("2-8", "7"), "2345678", PART("4-5", "2"), "45", "2-8", "2-8/10=2345678"},
        {PART("4-5", "2"), "45", PART("2-8", "7"), "2345678", "2-8", "2-8/10=2345678"},
        {PART("2-3", "2"), "23", PART("5-6", "2"), "56", "2-3", NULL}, /* a gap: the newer one stays */
        {PART("2-3", "2"), "23", PART("5-6", "2"), "56", "5-6", "5-6/10=56"},
        {"206 | Cache-Control: max-age=9 | ETag: \"2\" | Content-Range: bytes 2-4/10 | Content-Length: 3",
         "abc", PART("5-7", "3"), "567", "2-7", NULL},
        {"206 | Cache-Control: max-age=9 | ETag: W/\"1\" | Content-Range: bytes 2-4/10 | Content-Length: 3",
         "abc",
         "206 | Cache-Control: max-age=9 | ETag: W/\"1\" | Content-Range: bytes 5-7/10 | Content-Length: 3",
         "567", "2-7", NULL},
        {"206 | Cache-Control: max-age=9 | Content-Range: bytes 2-4/10 | Content-Length: 3", "abc",
         "206 | Cache-Control: max-age=9 | Content-Range: bytes 5-7/10 | Content-Length: 3", "567", "2-7",
         NULL},
        {"206 | Cache-Control: max-age=9 | ETag: \"1\" | Content-Range: bytes 2-4/11 | Content-Length: 3",
         "abc", PART("5-7", "3"), "567", "2-7", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        must(fetch(&w, "GET /a | Range: bytes=0-99 | Cache-Control: no-cache", rows[i].first,
                   rows[i].first_body) == STORABLE_YES);
        must(fetch(&w, "GET /a | Range: bytes=0-99 | Cache-Control: no-cache", rows[i].second,
                   rows[i].second_body) == STORABLE_YES);
        expect(rows[i].asked, rows[i].wanted);
        must(stats_now().entries == 1);
        store_purge(w.store, STORE_PURGE_ALL, SLICE(""));
    }
}
END_TEST

START_TEST(joined_to_the_last_byte_they_are_the_whole)
{
    struct store_result r;
    must(fetch(&w, "GET /a | Range: bytes=0-4", PART("0-4", "5"), "01234") == STORABLE_YES);
    must(fetch(&w, "GET /a | Range: bytes=5-", PART("5-9", "5") " | X: y", "56789") == STORABLE_YES);
    must(look(&w, "GET /a", &r) == STORE_HIT);
    must(entry_status(r.entry) == 200 && strcmp(body_text(r.entry), "0123456789") == 0);
    struct slice head = entry_head_with_length(r.entry);
    must(strncmp(head.p, "HTTP/1.1 200 OK\r\n", 17) == 0);
    must(memmem(head.p, head.n, "Content-Length: 10\r\n", 20) && memmem(head.p, head.n, "X: y\r\n", 6));
    must(!memmem(head.p, head.n, "Content-Range", 13));
    let_go(&r, STORE_HIT);
    must(verdict_of(&w, "HEAD /a") == STORE_HIT && stats_now().entries == 1);
}
END_TEST

/* The 206 to our own asking for the rest; NULL: not taken. Gives the fill's reading when it is over. */
static bool complete(const char *response, const char *rest)
{
    struct message q, p;
    struct store_result r;
    struct entry *whole = NULL;
    request_text(&q, "GET /a");
    response_text(&p, response);
    struct store_request ask = ask_of(&w, &q);
    must(store_lookup(w.store, &ask, &r) == STORE_COMPLETE && r.fwd == CACHE_FWD_PARTIAL);
    must(entry_length(r.entry) == 4 && entry_total(r.entry) == 10);
    bool taken = fill_complete_part(r.fill, &ask, &p.head, w.now, &whole);
    if (taken) {
        must(entry_status(whole) == 200);
        must(fill_append(r.fill, rest, strlen(rest)) == FILL_MORE);
        must(fill_end(r.fill, w.now) == (strlen(rest) == 6));
        r.fill = NULL;
    }
    entry_release(whole);
    let_go(&r, STORE_COMPLETE);
    return taken;
}

START_TEST(a_beginning_is_made_whole)
{
    static const struct {
        const char *response, *rest;
        bool taken, stored;
    } rows[] = {
        {PART("4-9", "6") " | X: new", "456789", true, true},
        {PART("4-9", "6"), "4567", true, false}, /* it broke off */
        {PART("5-9", "5"), "", false, false},
        {PART("4-8", "5"), "", false, false},
        {"206 | Cache-Control: max-age=9 | ETag: \"2\" | Content-Range: bytes 4-9/10 | Content-Length: 6", "",
         false, false},
        {"206 | Cache-Control: max-age=9 | ETag: W/\"1\" | Content-Range: bytes 4-9/10 | Content-Length: 6",
         "", false, false},
        {"206 | Cache-Control: max-age=9 | Content-Range: bytes 4-9/10 | Content-Length: 6", "", false,
         false},
        {"206 | Cache-Control: max-age=9 | ETag: \"1\" | Content-Range: bytes 4-9/11 | Content-Length: 6", "",
         false, false},
        {"206 | Cache-Control: max-age=9 | ETag: \"1\" | Content-Range: bytes 4-9/10 | Content-Length: 7", "",
         false, false},
        {"206 | Cache-Control: max-age=9 | ETag: \"1\" | Content-Length: 6", "", false, false},
        {"206 | Cache-Control: no-store | ETag: \"1\" | Content-Range: bytes 4-9/10 | Content-Length: 6", "",
         false, false},
    };
    /* A row more: how many bytes there will be is not told, so that the client could not be promised its
     * length. */
    must(fetch(&w, "GET /a | Range: bytes=0-3", PART("0-3", "4"), "0123") == STORABLE_YES);
    must(!complete("206 | ETag: \"1\" | Content-Range: bytes 4-9/10 | Transfer-Encoding: chunked", ""));
    store_purge(w.store, STORE_PURGE_ALL, SLICE(""));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct store_result r;
        must(fetch(&w, "GET /a | Range: bytes=0-3", PART("0-3", "4") " | X: old | Y: kept", "0123") ==
             STORABLE_YES);
        if (complete(rows[i].response, rows[i].rest) != rows[i].taken)
            ck_abort_msg("%s", rows[i].response);
        enum store_verdict v = look(&w, "GET /a", &r);
        if ((v == STORE_HIT) != rows[i].stored)
            ck_abort_msg("%s: %d", rows[i].response, (int)v);
        if (v == STORE_HIT) {
            struct slice head = entry_head(r.entry);
            must(strcmp(body_text(r.entry), "0123456789") == 0);
            must(memmem(head.p, head.n, "X: new\r\n", 8) && memmem(head.p, head.n, "Y: kept\r\n", 9));
        }
        let_go(&r, v);
        store_purge(w.store, STORE_PURGE_ALL, SLICE(""));
    }
}
END_TEST

/* Without a strong validator, or without its first byte, all is asked for. */
START_TEST(what_cannot_be_made_whole)
{
    must(fetch(&w, "GET /a | Range: bytes=0-3",
               "206 | Cache-Control: max-age=9 | ETag: W/\"1\" | Content-Range: bytes 0-3/10 | "
               "Content-Length: 4",
               "0123") == STORABLE_YES);
    must(verdict_of(&w, "GET /a") == STORE_LEAD);
    must(fetch(&w, "GET /b | Range: bytes=1-3", PART("1-3", "3"), "123") == STORABLE_YES);
    must(verdict_of(&w, "GET /b") == STORE_LEAD);
    must(fetch(&w, "GET /c | Range: bytes=0-3", PART("0-3", "4"), "0123") == STORABLE_YES);
    must(verdict_of(&w, "GET /c | If-None-Match: \"0\"") == STORE_LEAD);
    must(verdict_of(&w, "GET /c | Cache-Control: only-if-cached") == STORE_REFUSE);
    must(verdict_of(&w, "GET /c") == STORE_COMPLETE);
}
END_TEST

/* RFC 9111 3.3: what broke off is a beginning. */
START_TEST(a_broken_answer_is_kept_as_a_beginning)
{
    static const struct {
        const char *response, *bytes;
        bool kept;
    } rows[] = {
        {"200 | Cache-Control: max-age=9 | ETag: \"1\" | Content-Length: 10", "0123", true},
        {"200 | Cache-Control: max-age=9 | ETag: \"1\" | Content-Length: 10", "", false},
        {"200 | Cache-Control: max-age=9 | ETag: W/\"1\" | Content-Length: 10", "0123", false},
        {"200 | Cache-Control: max-age=9 | Content-Length: 10", "0123", false},
        {"200 | Cache-Control: max-age=9 | ETag: \"1\" | Transfer-Encoding: chunked", "0123", false},
        {"404 | Cache-Control: max-age=9 | ETag: \"1\" | Content-Length: 10", "0123", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct message q, p;
        struct store_result r;
        request_text(&q, "GET /a");
        response_text(&p, rows[i].response);
        struct store_request ask = ask_of(&w, &q);
        must(store_lookup(w.store, &ask, &r) == STORE_LEAD);
        must(fill_response(r.fill, &ask, &p.head, w.now, NULL) == FILL_STORED);
        must(fill_append(r.fill, rows[i].bytes, strlen(rows[i].bytes)) == FILL_MORE);
        fill_abort(r.fill, REASON_RESET_IN_ANSWER, false);
        enum store_verdict v = look(&w, "GET /a", &r);
        if (v != (rows[i].kept ? STORE_COMPLETE : STORE_LEAD))
            ck_abort_msg("%s: %d", rows[i].response, (int)v);
        let_go(&r, v);
        if (rows[i].kept)
            expect("1-2", "1-2/10=12");
        store_purge(w.store, STORE_PURGE_ALL, SLICE(""));
    }
}
END_TEST

START_TEST(a_whole_answer_takes_the_part_away)
{
    must(fetch(&w, "GET /a | Range: bytes=1-3", PART("1-3", "3"), "123") == STORABLE_YES);
    must(fetch(&w, "GET /a", "200 | Date: @0 | Cache-Control: max-age=100 | ETag: \"2\"", "whole") ==
         STORABLE_YES);
    must(stats_now().entries == 1);
    expect("1-3", "1-3/5=hol");
    /* and a 404 takes both */
    must(fetch(&w, "GET /b | Range: bytes=1-3", PART("1-3", "3"), "123") == STORABLE_YES);
    must(fetch(&w, "GET /b", "404", "") == STORABLE_NO_FRESHNESS);
    must(stats_now().entries == 1);
}
END_TEST

START_TEST(a_part_serves_while_the_origin_is_away)
{
    struct message m;
    struct store_result r;
    w.rules.stale_if_error = 100 * TICK_S;
    must(fetch(&w, "GET /a | Range: bytes=1-3", PART("1-3", "3"), "123") == STORABLE_YES);
    pass_time(&w, 150 * TICK_S);
    request_text(&m, "GET /a | Range: bytes=2-3");
    struct store_request ask = ask_of(&w, &m);
    must(store_stale_for_error(w.store, &ask, &r));
    entry_release(r.entry);
    request_text(&m, "GET /a");
    ask = ask_of(&w, &m);
    must(!store_stale_for_error(w.store, &ask, &r));
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("store_part");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_part_answers_what_lies_in_it);
    tcase_add_test(t, a_suffix_is_counted_from_the_end_of_the_whole);
    tcase_add_test(t, parts_that_are_not_kept);
    tcase_add_test(t, parts_are_joined_when_the_strong_validator_is_the_same);
    tcase_add_test(t, joined_to_the_last_byte_they_are_the_whole);
    tcase_add_test(t, a_beginning_is_made_whole);
    tcase_add_test(t, what_cannot_be_made_whole);
    tcase_add_test(t, a_broken_answer_is_kept_as_a_beginning);
    tcase_add_test(t, a_whole_answer_takes_the_part_away);
    tcase_add_test(t, a_part_serves_while_the_origin_is_away);
    return run_case("store_part", t);
}
