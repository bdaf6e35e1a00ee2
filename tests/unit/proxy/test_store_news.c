/*
 * What the store learns from the answers to HEAD and POST.
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

#define VALIDATABLE "200 | Date: @0 | Cache-Control: max-age=10 | ETag: \"1\" | Last-Modified: @-50 | X: old"

static void hear(const char *request, const char *response)
{
    struct message q, p;
    request_text(&q, request);
    response_text(&p, response);
    struct store_request ask = ask_of(&w, &q);
    store_heard(w.store, &ask, &p.head, w.now);
}

enum effect { KEPT, GONE, FRESHENED };

/* RFC 9111 4.3.5: the entry is stale when the HEAD is answered. */
START_TEST(head_freshens_or_contradicts)
{
    static const struct {
        const char *request, *response;
        enum effect effect;
    } rows[] = {
        {"HEAD /a", "200 | Date: @20 | Cache-Control: max-age=10 | ETag: \"1\"", FRESHENED},
        {"HEAD /a", "200 | Date: @20 | Cache-Control: max-age=10 | ETag: \"1\" | Content-Length: 4",
         FRESHENED},
        {"HEAD /a", "200 | Date: @20 | Cache-Control: max-age=10 | Last-Modified: @-50", FRESHENED},
        {"HEAD /a", "200 | Date: @20 | Cache-Control: max-age=10",
         KEPT}, /* nothing says that the body is the same */
        {"HEAD /a", "200 | Date: @20 | Cache-Control: max-age=10 | Content-Length: 4", KEPT},
        {"HEAD /a", "404 | ETag: \"2\"", KEPT},
        {"HEAD /a", "304 | ETag: \"1\"", KEPT},
        {"GET /a", "200 | ETag: \"2\"", KEPT},
        {"HEAD /b", "200 | ETag: \"2\"", KEPT},
        {"HEAD /a | Authorization: x", "200 | ETag: \"2\"", KEPT}, /* another partition */
        {"HEAD /a", "200 | ETag: \"2\"", GONE},
        {"HEAD /a", "200 | ETag: W/\"1\"", GONE},
        {"HEAD /a", "200 | ETag: \"1\" | Last-Modified: @-1", GONE},
        {"HEAD /a", "200 | Content-Length: 5", GONE},
        {"HEAD /a", "200 | ETag: \"1\" | Content-Length: 5", GONE},
        {"HEAD /a", "200 | Cache-Control: no-store | ETag: \"1\"", GONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct store_result r;
        must(fetch(&w, "GET /a | Cache-Control: no-cache", VALIDATABLE, "body") == STORABLE_YES);
        pass_time(&w, 20 * TICK_S);
        hear(rows[i].request, rows[i].response);
        enum store_verdict v = look(&w, "GET /a", &r);
        enum effect effect = v == STORE_HIT ? FRESHENED : v == STORE_REVALIDATE ? KEPT : GONE;
        if (effect != rows[i].effect)
            ck_abort_msg("%s, %s: %d", rows[i].request, rows[i].response, (int)effect);
        let_go(&r, v);
        store_purge(w.store, STORE_PURGE_ALL, SLICE(""));
        pass_time(&w, -20 * TICK_S);
    }
}
END_TEST

START_TEST(head_replaces_fields)
{
    struct store_result r;
    must(fetch(&w, "GET /a", VALIDATABLE, "body") == STORABLE_YES);
    hear("HEAD /a", "200 | Date: @0 | Cache-Control: max-age=99 | ETag: \"1\" | X: new | Content-Type: a/b");
    must(look(&w, "GET /a", &r) == STORE_HIT);
    struct slice head = entry_head_with_length(r.entry);
    must(memmem(head.p, head.n, "X: new\r\n", 8) && !memmem(head.p, head.n, "old", 3));
    must(memmem(head.p, head.n, "Content-Length: 4\r\n", 19));
    must(strcmp(body_text(r.entry), "body") == 0 && r.ttl > 90 * TICK_S);
    let_go(&r, STORE_HIT);
}
END_TEST

/* The first bytes of the answer to a POST, when it is adopted. */
static bool post(const char *request, const char *response, const char *body)
{
    struct message q, p;
    request_text(&q, request);
    response_text(&p, response);
    struct store_request ask = ask_of(&w, &q);
    store_invalidate(w.store, &ask, &p.head);
    struct fill *fill = store_adopt(w.store, &ask, &p.head);
    if (!fill)
        return false;
    must(fill_response(fill, &ask, &p.head, w.now, NULL) == FILL_STORED);
    must(fill_append(fill, body, strlen(body)) == FILL_MORE);
    return fill_end(fill, w.now);
}

/* RFC 9110 9.3.3 */
START_TEST(post_is_stored_with_freshness_and_its_own_location)
{
    static const struct {
        const char *request, *response;
        bool stored;
    } rows[] = {
        {"POST /a", "200 | Cache-Control: max-age=10 | Content-Location: /a", true},
        {"POST /a",
         "201 | Expires: @10 | Date: @0 | Content-Location: ", true}, /* an empty reference is the target */
        {"POST /a?x=1", "200 | Cache-Control: max-age=10 | Content-Location: /a?x=1", true},
        {"POST /a", "200 | Cache-Control: max-age=10 | Content-Location: http://origin:80/a", true},
        {"POST /a", "200 | Cache-Control: max-age=10 | Content-Location: http://origin:81/a", false},
        {"POST /a?x=1", "200 | Cache-Control: max-age=10 | Content-Location: /a", false},
        {"POST /a", "200 | Cache-Control: max-age=10 | Content-Location: /b", false},
        {"POST /a", "200 | Cache-Control: max-age=10 | Content-Location: /a | Content-Location: /a", false},
        {"POST /a", "200 | Cache-Control: max-age=10", false},
        {"POST /a", "200 | ETag: \"1\" | Last-Modified: @-9999 | Content-Location: /a",
         false}, /* not explicit */
        {"POST /a", "200 | Cache-Control: no-store, max-age=10 | Content-Location: /a", false},
        {"POST /a | Cache-Control: no-store", "200 | Cache-Control: max-age=10 | Content-Location: /a",
         false},
        {"PUT /a", "200 | Cache-Control: max-age=10 | Content-Location: /a", false},
        {"POST /a", "206 | Cache-Control: max-age=10 | Content-Location: /a", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool stored = post(rows[i].request, rows[i].response, "posted");
        if (stored != rows[i].stored || (stats_now().entries == 1) != rows[i].stored)
            ck_abort_msg("%s, %s: %d", rows[i].request, rows[i].response, stored);
        store_purge(w.store, STORE_PURGE_ALL, SLICE(""));
    }
}
END_TEST

START_TEST(a_get_is_answered_from_a_post)
{
    struct store_result r;
    must(fetch(&w, "GET /a", VALIDATABLE, "old") == STORABLE_YES);
    must(post("POST /a", "200 | Cache-Control: max-age=10 | Content-Location: /a", "posted"));
    must(look(&w, "GET /a", &r) == STORE_HIT && strcmp(body_text(r.entry), "posted") == 0);
    let_go(&r, STORE_HIT);
    must(verdict_of(&w, "GET /a | Authorization: x") == STORE_LEAD);
    must(verdict_of(&w, "POST /a") == STORE_PASS); /* a POST itself always goes on */
    must(stats_now().entries == 1);
}
END_TEST

/* A purge between the head and the end of the answer. */
START_TEST(a_purge_dooms_an_adopted_answer)
{
    struct message q, p;
    request_text(&q, "POST /a");
    response_text(&p, "200 | Cache-Control: max-age=10 | Content-Location: /a");
    struct store_request ask = ask_of(&w, &q);
    struct fill *fill = store_adopt(w.store, &ask, &p.head);
    must(fill && verdict_of(&w, "GET /a") == STORE_LEAD); /* which does not wait for it */
    must(fill_response(fill, &ask, &p.head, w.now, NULL) == FILL_STORED);
    store_purge(w.store, STORE_PURGE_ALL, SLICE(""));
    must(fill_append(fill, "x", 1) == FILL_MORE);
    must(!fill_end(fill, w.now) && stats_now().entries == 0);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("store_news");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, head_freshens_or_contradicts);
    tcase_add_test(t, head_replaces_fields);
    tcase_add_test(t, post_is_stored_with_freshness_and_its_own_location);
    tcase_add_test(t, a_get_is_answered_from_a_post);
    tcase_add_test(t, a_purge_dooms_an_adopted_answer);
    return run_case("store_news", t);
}
