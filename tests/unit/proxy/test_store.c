/*
 * The store as an exchange sees it: verdicts, keys, partitions, variants, validation, invalidation, limits.
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
    must(stats.fills == 0 && stats.fill_bytes == 0); /* whatever a test did, no fill is left behind */
    world_dispose(&w);
}

static struct store_stats stats_now(void)
{
    struct store_stats s;
    store_stats(w.store, &s);
    return s;
}

#define FRESH "200 | Date: @0 | Cache-Control: max-age=100"

/* ---- hits and misses ---- */

START_TEST(a_fresh_answer_is_a_hit)
{
    struct store_result r;
    ck_assert_int_eq(look(&w, "GET /a?b=1", &r), STORE_LEAD);
    ck_assert_int_eq(r.fwd, CACHE_FWD_URI_MISS);
    let_go(&r, STORE_LEAD);
    ck_assert_int_eq(
        fetch(&w, "GET /a?b=1", "200 | Cache-Control: max-age=10 | Content-Length: 5 | Date: @0", "hello"),
        STORABLE_YES);
    pass_time(&w, 3 * TICK_S);
    ck_assert_int_eq(look(&w, "GET /a?b=1", &r), STORE_HIT);
    ck_assert_str_eq(body_text(r.entry), "hello");
    ck_assert_int_eq(r.age, 3 * TICK_S);
    ck_assert_int_eq(r.ttl, 7 * TICK_S);
    ck_assert_int_eq(r.fwd, CACHE_FWD_NONE);
    let_go(&r, STORE_HIT);
    ck_assert_int_eq(verdict_of(&w, "GET /a?b=2"), STORE_LEAD);
    pass_time(&w, 7 * TICK_S);
    ck_assert_int_eq(look(&w, "GET /a?b=1", &r), STORE_LEAD);
    ck_assert_int_eq(r.fwd, CACHE_FWD_STALE);
    let_go(&r, STORE_LEAD);
    struct store_stats s = stats_now();
    must(s.hits == 1 && s.misses == 4 && s.stored == 1 && s.entries == 1 && s.expired == 1);
}
END_TEST

START_TEST(requests_that_are_passed)
{
    static const struct {
        const char *request;
        enum store_verdict verdict;
        enum cache_fwd fwd;
    } rows[] = {
        {"POST /a | Content-Length: 0", STORE_PASS, CACHE_FWD_METHOD},
        {"PUT /a | Content-Length: 0", STORE_PASS, CACHE_FWD_METHOD},
        {"OPTIONS /a", STORE_PASS, CACHE_FWD_METHOD},
        {"GET /a | Content-Length: 3", STORE_PASS, CACHE_FWD_BYPASS},
        {"GET /a | Transfer-Encoding: chunked", STORE_PASS, CACHE_FWD_BYPASS},
        {"GET /a | Connection: upgrade | Upgrade: websocket", STORE_PASS, CACHE_FWD_BYPASS},
        {"GET /a | Cache-Control: no-store", STORE_PASS, CACHE_FWD_REQUEST},
        {"GET /a | If-Match: \"1\"", STORE_PASS, CACHE_FWD_REQUEST},
        {"GET /a | If-Unmodified-Since: x", STORE_PASS, CACHE_FWD_REQUEST},
        {"GET /a | Content-Length: 0", STORE_HIT, CACHE_FWD_NONE},
        {"HEAD /a", STORE_HIT, CACHE_FWD_NONE}, /* answered from the GET's entry */
        {"HEAD /b", STORE_PASS, CACHE_FWD_URI_MISS},
        {"GET /a | Range: bytes=0-1", STORE_HIT, CACHE_FWD_NONE},
        {"GET /b | Range: bytes=0-1", STORE_LEAD, CACHE_FWD_URI_MISS},
        {"GET /b | Range: bytes=0-1,3-4", STORE_PASS, CACHE_FWD_URI_MISS},
        {"GET /b | Range: lines=0-1", STORE_PASS, CACHE_FWD_URI_MISS},
        {"GET /a | If-None-Match: \"9\"", STORE_HIT, CACHE_FWD_NONE},
        {"GET /a | Cache-Control: only-if-cached", STORE_HIT, CACHE_FWD_NONE},
        {"GET /b | Cache-Control: only-if-cached", STORE_REFUSE, CACHE_FWD_URI_MISS}, /* RFC 9111 5.2.1.7 */
        {"GET /a | Cache-Control: only-if-cached, no-cache", STORE_REFUSE, CACHE_FWD_REQUEST},
        {"GET /a | Cache-Control: max-age=0", STORE_LEAD, CACHE_FWD_REQUEST},
    };
    must(fetch(&w, "GET /a", FRESH, "x") == STORABLE_YES);
    pass_time(&w, TICK_S);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct store_result r;
        enum store_verdict v = look(&w, rows[i].request, &r);
        if (v != rows[i].verdict || r.fwd != rows[i].fwd)
            ck_abort_msg("%s: %d, %d", rows[i].request, (int)v, (int)r.fwd);
        let_go(&r, v);
    }
}
END_TEST

/* ---- validation: 4.3 ---- */

#define VALIDATABLE "200 | Date: @0 | Cache-Control: max-age=10 | ETag: \"1\" | Last-Modified: @-50 | X: old"

static enum store_verdict lead(const char *request, struct store_result *r)
{
    enum store_verdict v = look(&w, request, r);
    if (v != STORE_REVALIDATE && v != STORE_LEAD)
        ck_abort_msg("%s: %d", request, (int)v);
    return v;
}

static struct entry *not_modified(struct fill *fill, const char *request, const char *response)
{
    struct message q, a;
    request_text(&q, request);
    response_text(&a, response);
    struct store_request ask = ask_of(&w, &q);
    return fill_not_modified(fill, &ask, &a.head, w.now);
}

START_TEST(a_304_freshens)
{
    struct store_result r;
    must(fetch(&w, "GET /a", VALIDATABLE, "body") == STORABLE_YES);
    pass_time(&w, 20 * TICK_S);
    must(lead("GET /a", &r) == STORE_REVALIDATE);
    must(r.fwd == CACHE_FWD_STALE && r.ttl == -10 * TICK_S);
    must(slice_equal(entry_etag(r.entry), SLICE("\"1\"")) && entry_last_modified(r.entry).n > 0);
    must(fill_validates(r.fill) == r.entry);
    struct entry *e =
        not_modified(r.fill, "GET /a", "304 | Date: @20 | ETag: \"1\" | X: new | Cache-Control: max-age=30");
    must(e);
    entry_release(r.entry);
    ck_assert_str_eq(body_text(e), "body");
    entry_release(e);
    must(look(&w, "GET /a", &r) == STORE_HIT);
    must(r.age == 0 && r.ttl == 30 * TICK_S);
    must(strstr(entry_head(r.entry).p, "X: new\r\n"));
    let_go(&r, STORE_HIT);
    must(stats_now().revalidated == 1 && stats_now().entries == 1);
}
END_TEST

/* A 304 that says no-store: this answer, and then nothing. */
START_TEST(a_304_that_forbids_storing)
{
    struct store_result r;
    must(fetch(&w, "GET /a", VALIDATABLE, "body") == STORABLE_YES);
    pass_time(&w, 20 * TICK_S);
    must(lead("GET /a", &r) == STORE_REVALIDATE);
    struct entry *e =
        not_modified(r.fill, "GET /a", "304 | Date: @20 | ETag: \"1\" | Cache-Control: no-store");
    must(e && entry_length(e) == 4);
    entry_release(e);
    entry_release(r.entry);
    must(stats_now().entries == 0);
}
END_TEST

/* A 304 that varies by other fields is good for this request, and for no other. */
START_TEST(a_304_with_another_vary)
{
    struct store_result r;
    must(fetch(&w, "GET /a", VALIDATABLE, "body") == STORABLE_YES);
    pass_time(&w, 20 * TICK_S);
    must(lead("GET /a", &r) == STORE_REVALIDATE);
    struct entry *e = not_modified(r.fill, "GET /a", "304 | Date: @20 | ETag: \"1\" | Vary: Accept");
    must(e);
    entry_release(e);
    entry_release(r.entry);
    must(stats_now().entries == 0);
}
END_TEST

START_TEST(a_304_for_something_else)
{
    static const char *const wrong[] = {"304 | ETag: \"2\"", "304 | ETag: W/\"2\"",
                                        "304 | Last-Modified: @-49"};
    static const char *const right[] = {"304", "304 | ETag: W/\"1\"", "304 | Last-Modified: @-50",
                                        "304 | ETag: \"1\" | Last-Modified: @-1"};
    struct store_result r;
    for (size_t i = 0; i < ARRAY_LEN(right); i++) {
        must(fetch(&w, "GET /a | Cache-Control: no-cache", VALIDATABLE, "body") == STORABLE_YES);
        must(lead("GET /a | Cache-Control: no-cache", &r) == STORE_REVALIDATE);
        struct entry *e = not_modified(r.fill, "GET /a", right[i]);
        if (!e)
            ck_abort_msg("%s", right[i]);
        entry_release(e);
        entry_release(r.entry);
    }
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        must(fetch(&w, "GET /a | Cache-Control: no-cache", VALIDATABLE, "body") == STORABLE_YES);
        must(lead("GET /a | Cache-Control: no-cache", &r) == STORE_REVALIDATE);
        if (not_modified(r.fill, "GET /a", wrong[i]))
            ck_abort_msg("%s", wrong[i]);
        must(fill_validates(r.fill) == NULL); /* the role goes on, without conditions */
        must(not_modified(r.fill, "GET /a", "304 | ETag: \"1\"") == NULL);
        must(stats_now().entries == 0);
        let_go(&r, STORE_REVALIDATE);
    }
}
END_TEST

/* A full answer to a validation takes the place of what was stored. */
START_TEST(a_200_replaces)
{
    struct store_result r;
    must(fetch(&w, "GET /a", VALIDATABLE, "old") == STORABLE_YES);
    pass_time(&w, 20 * TICK_S);
    must(fetch(&w, "GET /a", "200 | Date: @20 | Cache-Control: max-age=10", "new") == STORABLE_YES);
    must(look(&w, "GET /a", &r) == STORE_HIT && strcmp(body_text(r.entry), "new") == 0);
    let_go(&r, STORE_HIT);
    must(stats_now().entries == 1);
}
END_TEST

/* pains.md 13: what is gone upstream is gone here, though the answer that says so is not stored; an error
 * leaves what there is. */
START_TEST(answers_that_supersede)
{
    static const struct {
        const char *response;
        bool gone;
    } rows[] = {
        {"404", true},
        {"410", true},
        {"451", true},
        {"200 | Cache-Control: no-store", true},
        {"302 | Location: /x", true},
        {"500", false},
        {"502", false},
        {"503", false},
        {"504", false},
        {"429", false},
        {"408", false},
        {"401", false},
        {"403", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        must(fetch(&w, "GET /a | Cache-Control: no-cache", VALIDATABLE, "old") == STORABLE_YES);
        must(fetch(&w, "GET /a | Cache-Control: no-cache", rows[i].response, "") != STORABLE_YES);
        if ((stats_now().entries == 0) != rows[i].gone)
            ck_abort_msg("%s", rows[i].response);
        pass_time(&w, STORE_PASS_LIFE); /* what was not to be stored is remembered as such */
    }
}
END_TEST

/* RFC 5861 3: served at once, one refresh behind, none after the window. */
START_TEST(stale_while_revalidate)
{
    struct store_result first, second;
    must(fetch(&w, "GET /a",
               "200 | Date: @0 | Cache-Control: max-age=10, stale-while-revalidate=20 | ETag: \"1\"",
               "x") == STORABLE_YES);
    pass_time(&w, 15 * TICK_S);
    must(look(&w, "HEAD /a", &first) == STORE_HIT_STALE && !first.fill); /* a HEAD never leads */
    let_go(&first, STORE_HIT_STALE);
    must(look(&w, "GET /a", &first) == STORE_HIT_STALE);
    must(first.entry && first.fill && first.ttl == -5 * TICK_S && fill_validates(first.fill) == first.entry);
    must(look(&w, "GET /a", &second) == STORE_HIT_STALE);
    must(second.entry && !second.fill); /* one is enough */
    let_go(&second, STORE_HIT_STALE);
    pass_time(&w, 15 * TICK_S); /* beyond the window: who comes now waits for it */
    must(look(&w, "GET /a", &second) == STORE_JOIN);
    fill_drop(second.fill);
    struct entry *e = not_modified(first.fill, "GET /a", "304 | Date: @30");
    must(e);
    entry_release(e);
    entry_release(first.entry);
    must(verdict_of(&w, "GET /a") == STORE_HIT);
    pass_time(&w, 30 * TICK_S);
    must(verdict_of(&w, "GET /a") == STORE_REVALIDATE);
}
END_TEST

START_TEST(stale_if_error)
{
    struct store_result r;
    struct message q;
    must(fetch(&w, "GET /a", "200 | Date: @0 | Cache-Control: max-age=10, stale-if-error=20", "x") ==
         STORABLE_YES);
    pass_time(&w, 25 * TICK_S);
    request_text(&q, "GET /a");
    struct store_request ask = ask_of(&w, &q);
    must(store_stale_for_error(w.store, &ask, &r) && r.ttl == -15 * TICK_S);
    let_go(&r, STORE_HIT_STALE);
    pass_time(&w, 5 * TICK_S);
    ask = ask_of(&w, &q);
    must(!store_stale_for_error(w.store, &ask, &r) && !r.entry);
    request_text(&q, "GET /b");
    ask = ask_of(&w, &q);
    must(!store_stale_for_error(w.store, &ask, &r));
    request_text(&q, "POST /a | Content-Length: 0");
    ask = ask_of(&w, &q);
    must(!store_stale_for_error(w.store, &ask, &r));
}
END_TEST

/* 4.3.1: with nothing stored the client's own condition goes upstream; its 304 helps nobody, so nobody waits
 * for it. */
START_TEST(conditional_misses_are_not_joined)
{
    struct store_result a, b;
    must(look(&w, "GET /a | If-None-Match: \"1\"", &a) == STORE_LEAD);
    must(look(&w, "GET /a", &b) == STORE_LEAD);
    struct message q, p;
    request_text(&q, "GET /a | If-None-Match: \"1\"");
    response_text(&p, "304 | ETag: \"1\"");
    struct store_request ask = ask_of(&w, &q);
    enum storable why;
    must(fill_response(a.fill, &ask, &p.head, w.now, &why) == FILL_PASSED && why == STORABLE_STATUS);
    let_go(&b, STORE_LEAD);
    must(verdict_of(&w, "GET /a") == STORE_LEAD); /* and it leaves no mark */
}
END_TEST

/* ---- variants: 4.1 ---- */

START_TEST(several_variants)
{
    struct store_result r;
    must(fetch(&w, "GET /a | Accept: x", FRESH " | Vary: Accept", "for x") == STORABLE_YES);
    must(look(&w, "GET /a | Accept: y", &r) == STORE_LEAD && r.fwd == CACHE_FWD_VARY_MISS);
    let_go(&r, STORE_LEAD);
    must(fetch(&w, "GET /a | Accept: y", FRESH " | Vary: Accept", "for y") == STORABLE_YES);
    must(look(&w, "GET /a | Accept: x", &r) == STORE_HIT && strcmp(body_text(r.entry), "for x") == 0);
    let_go(&r, STORE_HIT);
    must(look(&w, "GET /a | Accept: y | Other: z", &r) == STORE_HIT &&
         strcmp(body_text(r.entry), "for y") == 0);
    let_go(&r, STORE_HIT);
    must(verdict_of(&w, "GET /a") == STORE_LEAD);
    must(fetch(&w, "GET /s", FRESH " | Vary: *", "x") == STORABLE_VARY);
    must(stats_now().entries == 2);
}
END_TEST

/* Of several that fit the most recent one is chosen, by Date. */
START_TEST(the_newest_that_fits)
{
    struct store_result r;
    must(fetch(&w, "GET /a | A: 1 | B: 1", "200 | Date: @-5 | Cache-Control: max-age=99 | Vary: A",
               "older") == STORABLE_YES);
    must(fetch(&w, "GET /a | A: 2 | B: 2", "200 | Date: @-1 | Cache-Control: max-age=99 | Vary: B",
               "newer") == STORABLE_YES);
    must(look(&w, "GET /a | A: 1 | B: 2", &r) == STORE_HIT && strcmp(body_text(r.entry), "newer") == 0);
    let_go(&r, STORE_HIT);
    must(look(&w, "GET /a | A: 1 | B: 3", &r) == STORE_HIT && strcmp(body_text(r.entry), "older") == 0);
    let_go(&r, STORE_HIT);
}
END_TEST

START_TEST(variants_are_bounded)
{
    char request[64];
    for (int i = 0; i < 100; i++) {
        snprintf(request, sizeof request, "GET /a | Accept: %d", i);
        must(fetch(&w, request, FRESH " | Vary: Accept", "x") == STORABLE_YES);
        w.now++;
    }
    must(stats_now().entries == STORE_MAX_VARIANTS);
    must(verdict_of(&w, "GET /a | Accept: 99") == STORE_HIT);
    must(verdict_of(&w, "GET /a | Accept: 0") == STORE_LEAD);
}
END_TEST

/* ---- partitions ---- */

START_TEST(one_partition_a_credential)
{
    struct store_result r;
    must(fetch(&w, "GET /a | Authorization: alice", FRESH, "alice's") == STORABLE_YES);
    must(verdict_of(&w, "GET /a | Authorization: bob") == STORE_LEAD);
    must(verdict_of(&w, "GET /a") == STORE_LEAD);
    must(verdict_of(&w, "GET /a | Authorization: alice | X-Tenant: 1") ==
         STORE_LEAD); /* a name that is none of ours */
    must(verdict_of(&w, "GET /a | Authorization: alice | X-Time: 1") ==
         STORE_HIT); /* a signature says nothing about who asks */
    must(fetch(&w, "GET /a | Authorization: bob", FRESH, "bob's") == STORABLE_YES);
    must(look(&w, "GET /a | authorization: alice", &r) == STORE_HIT &&
         strcmp(body_text(r.entry), "alice's") == 0);
    let_go(&r, STORE_HIT);
    must(look(&w, "GET /a | Authorization: bob", &r) == STORE_HIT &&
         strcmp(body_text(r.entry), "bob's") == 0);
    let_go(&r, STORE_HIT);
    w.rules.shared = true; /* one for all; what the private scope stored is not found there */
    must(verdict_of(&w, "GET /a | Authorization: alice") == STORE_LEAD);
    must(fetch(&w, "GET /a | Authorization: alice", FRESH ", public", "everybody's") == STORABLE_YES);
    must(verdict_of(&w, "GET /a | Authorization: bob") == STORE_HIT);
}
END_TEST

/* However credentials are spread over fields: different ones never meet, the same ones always do. */
START_TEST(no_byte_crosses_partitions)
{
    static const char *const credentials[] = {
        "",
        " | Authorization: a",
        " | Authorization: b",
        " | Authorization: ab",
        " | X-Tenant: a",
        " | X-Tenant: b",
        " | Authorization: a | X-Tenant: b",
        " | Authorization: b | X-Tenant: a",
        " | Authorization: a | Authorization: b",
        " | Authorization: b | Authorization: a",
        " | X-Tenant: a | X-Tenant: b",
        " | Authorization: ",
        " | X-Tenant: ",
        " | Authorization: a | X-Tenant: ",
        " | Authorization: a,b",
        " | Authorization: A",
    };
    char request[200], body[200];
    for (int round = 0; round < 2; round++) { /* the second time each finds its own */
        for (size_t c = 0; c < ARRAY_LEN(credentials); c++) {
            for (int path = 0; path < 5; path++) {
                struct store_result r;
                snprintf(request, sizeof request, "GET /%d%s", path, credentials[c]);
                snprintf(body, sizeof body, "%d of %zu", path, c);
                enum store_verdict v = look(&w, request, &r);
                if (round == 1 && (v != STORE_HIT || strcmp(body_text(r.entry), body) != 0))
                    ck_abort_msg("%s: %d", request, (int)v);
                must(round == 1 || v == STORE_LEAD);
                let_go(&r, v);
                if (round == 0)
                    must(fetch(&w, request, FRESH, body) == STORABLE_YES);
            }
        }
    }
    must(stats_now().entries == 5 * ARRAY_LEN(credentials));
}
END_TEST

START_TEST(a_refused_credential_loses_its_partition)
{
    struct store_result r, running;
    char request[64];
    for (int i = 0; i < 150; i++) {
        snprintf(request, sizeof request, "GET /%d | Authorization: %s", i, i % 3 ? "alice" : "bob");
        must(fetch(&w, request, FRESH, "x") == STORABLE_YES);
    }
    must(look(&w, "GET /new | Authorization: alice", &running) == STORE_LEAD);
    must(look(&w, "GET /1 | Authorization: alice", &r) == STORE_HIT);
    must(store_drop_partition(w.store, &r.key) == 100);
    let_go(&r, STORE_HIT);
    must(stats_now().entries == 50);
    must(verdict_of(&w, "GET /1 | Authorization: alice") == STORE_LEAD);
    must(verdict_of(&w, "GET /0 | Authorization: bob") == STORE_HIT);
    /* What was being fetched for it is not stored either. */
    struct message q, a;
    request_text(&q, "GET /new | Authorization: alice");
    response_text(&a, FRESH);
    struct store_request ask = ask_of(&w, &q);
    must(fill_response(running.fill, &ask, &a.head, w.now, NULL) == FILL_STORED);
    must(!fill_end(running.fill, w.now));
    must(stats_now().entries == 50);
}
END_TEST

/* The refusal of one credential leaves the fetches of others alone. */
START_TEST(a_refused_credential_touches_nobody_else)
{
    struct store_result mine, other;
    must(look(&w, "GET /a | Authorization: alice", &mine) == STORE_LEAD);
    must(look(&w, "GET /a | Authorization: mallory", &other) == STORE_LEAD);
    must(store_drop_partition(w.store, &other.key) == 0);
    let_go(&other, STORE_LEAD);
    struct message q, a;
    request_text(&q, "GET /a | Authorization: alice");
    response_text(&a, FRESH);
    struct store_request ask = ask_of(&w, &q);
    must(fill_response(mine.fill, &ask, &a.head, w.now, NULL) == FILL_STORED);
    must(fill_end(mine.fill, w.now));
}
END_TEST

/* ---- uncacheable answers ---- */

/* pains.md 10: remembered for a while, so that nobody waits for nothing. */
START_TEST(hit_for_miss)
{
    struct store_result r;
    must(fetch(&w, "GET /a", "200 | Cache-Control: no-store", "x") == STORABLE_NO_STORE);
    must(look(&w, "GET /a", &r) == STORE_PASS && r.fwd == CACHE_FWD_BYPASS);
    must(verdict_of(&w, "GET /b") == STORE_LEAD);
    pass_time(&w, STORE_PASS_LIFE);
    must(verdict_of(&w, "GET /a") == STORE_LEAD);
    must(fetch(&w, "GET /a", "200", "x") == STORABLE_NO_FRESHNESS);
    w.rules.pass_life = TICK_S;
    must(verdict_of(&w, "GET /a") == STORE_PASS);
    pass_time(&w, STORE_PASS_LIFE);
    must(fetch(&w, "GET /a", "200", "x") == STORABLE_NO_FRESHNESS);
    pass_time(&w, TICK_S);
    must(fetch(&w, "GET /a", FRESH, "x") == STORABLE_YES); /* it has become cacheable */
    must(verdict_of(&w, "GET /a") == STORE_HIT);
    must(verdict_of(&w, "GET /a | Cache-Control: no-cache") == STORE_LEAD); /* and the mark is gone */
}
END_TEST

START_TEST(what_leaves_no_mark)
{
    static const char *const rows[] = {"500", "502", "503", "429", "401", "403", "408", "304", "206"};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        must(fetch(&w, "GET /a", rows[i], "") != STORABLE_YES);
        if (verdict_of(&w, "GET /a") != STORE_LEAD)
            ck_abort_msg("%s", rows[i]);
    }
}
END_TEST

/* One shard, so that the order of eviction is that of the whole. */
static void one_shard(uint64_t max_entries)
{
    struct store_limits limits = {
        .max_entries = max_entries, .max_bytes = 1 << 20, .max_object_bytes = 1 << 16, .strategy = EVICT_LRU};
    world_dispose(&w);
    world_init(&w, &limits);
    must(w.store->shard_mask == 0);
}

START_TEST(marks_are_bounded)
{
    char request[64];
    one_shard(10);
    for (int i = 0; i < STORE_MAX_MARKERS + 100; i++) {
        snprintf(request, sizeof request, "GET /%d", i);
        must(fetch(&w, request, "200", "") == STORABLE_NO_FRESHNESS);
    }
    must(w.store->shards[0].markers.count == STORE_MAX_MARKERS);
    must(verdict_of(&w, "GET /0") == STORE_LEAD);
    must(verdict_of(&w, "GET /100") == STORE_PASS);
}
END_TEST

START_TEST(too_large)
{
    struct store_limits limits = {
        .max_entries = 10, .max_bytes = 1 << 20, .max_object_bytes = 100, .strategy = EVICT_LRU};
    store_set_limits(w.store, &limits);
    must(fetch(&w, "GET /a", FRESH " | Content-Length: 101", "") == STORABLE_SIZE);
    must(verdict_of(&w, "GET /a") == STORE_PASS);
    char body[101];
    memset(body, 'x', 100);
    body[100] = '\0';
    must(fetch(&w, "GET /b", FRESH " | Content-Length: 100", body) == STORABLE_YES);
}
END_TEST

/* ---- taking out: 4.4, tags, purges ---- */

static void hear_write(const char *request, const char *response)
{
    struct message q, a;
    request_text(&q, request);
    response_text(&a, response);
    struct store_request ask = ask_of(&w, &q);
    store_invalidate(w.store, &ask, &a.head);
}

START_TEST(unsafe_requests_invalidate)
{
    static const struct {
        const char *request, *response;
        const char *gone; /* one letter a path, of /a ... /d */
    } rows[] = {
        {"POST /a | Content-Length: 0", "200", "a"},
        {"PUT /b | Content-Length: 0", "204", "b"},
        {"DELETE /c", "302", "c"},
        {"PATCH /d | Content-Length: 0", "200", "d"},
        {"FOO /a", "200", "a"},
        {"POST /a | Content-Length: 0", "404", ""},
        {"POST /a | Content-Length: 0", "500", ""},
        {"GET /a", "200", ""},
        {"HEAD /a", "200", ""},
        {"OPTIONS /a", "200", ""},
        {"POST /x | Content-Length: 0", "201 | Location: /a", "a"},
        {"POST /x | Content-Length: 0", "201 | Location: http://origin/a | Content-Location: b", "ab"},
        {"POST /x | Content-Length: 0", "201 | Location: http://h/a",
         "a"}, /* by the name that the client uses */
        {"POST /x | Content-Length: 0", "201 | Location: http://elsewhere/a", ""},
        {"POST /x/y | Content-Length: 0", "201 | Content-Location: ../a", "a"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (char c = 'a'; c <= 'd'; c++) {
            char path[16] = "GET /?";
            path[5] = c;
            if (verdict_of(&w, path) == STORE_LEAD)
                must(fetch(&w, path, FRESH, "x") == STORABLE_YES);
        }
        hear_write(rows[i].request, rows[i].response);
        for (char c = 'a'; c <= 'd'; c++) {
            char path[16] = "GET /?";
            path[5] = c;
            if ((verdict_of(&w, path) == STORE_LEAD) != (strchr(rows[i].gone, c) != NULL))
                ck_abort_msg("%s, %s: /%c", rows[i].request, rows[i].response, c);
        }
    }
}
END_TEST

/* Only in the partition of the request. All variants go. */
START_TEST(invalidation_stays_in_its_partition)
{
    must(fetch(&w, "GET /a | Authorization: x | Accept: 1", FRESH " | Vary: Accept", "x") == STORABLE_YES);
    must(fetch(&w, "GET /a | Authorization: x | Accept: 2", FRESH " | Vary: Accept", "x") == STORABLE_YES);
    must(fetch(&w, "GET /a | Authorization: y", FRESH, "x") == STORABLE_YES);
    hear_write("POST /a | Authorization: x | Content-Length: 0", "200");
    must(stats_now().entries == 1 && stats_now().invalidated == 2);
    must(verdict_of(&w, "GET /a | Authorization: y") == STORE_HIT);
}
END_TEST

/* An answer that was on its way when the write came is not stored: it may be older than the write. */
START_TEST(a_write_dooms_the_fetch_under_way)
{
    struct store_result r, next;
    struct message q, a;
    must(look(&w, "GET /a", &r) == STORE_LEAD);
    hear_write("POST /a | Content-Length: 0", "200");
    must(look(&w, "GET /a", &next) == STORE_LEAD); /* it does not wait for the old one */
    request_text(&q, "GET /a");
    response_text(&a, FRESH);
    struct store_request ask = ask_of(&w, &q);
    must(fill_response(r.fill, &ask, &a.head, w.now, NULL) == FILL_STORED);
    must(!fill_end(r.fill, w.now));
    must(fill_response(next.fill, &ask, &a.head, w.now, NULL) == FILL_STORED);
    must(fill_end(next.fill, w.now));
    must(verdict_of(&w, "GET /a") == STORE_HIT);
}
END_TEST

static size_t purge(enum store_purge_kind kind, const char *text)
{
    return store_purge(w.store, kind, (struct slice){text, strlen(text)});
}

START_TEST(purges)
{
    char request[64], tag[16];
    for (int i = 0; i < 300; i++) {
        snprintf(tag, sizeof tag, "even:%d", i % 2);
        w.tags[0] = (struct slice){tag, strlen(tag)};
        w.tags[1] = SLICE("all");
        w.tag_count = 2;
        snprintf(request, sizeof request, "GET /p%d/%d | Authorization: %d", i % 3, i, i % 5);
        must(fetch(&w, request, FRESH, "x") == STORABLE_YES);
    }
    must(purge(STORE_PURGE_KEY, "/p0/0") == 1);
    must(purge(STORE_PURGE_KEY, "/p0/0") == 0);
    must(purge(STORE_PURGE_KEY, "/p0") == 0);
    must(purge(STORE_PURGE_PREFIX, "/p0") == 99);
    must(purge(STORE_PURGE_TAG, "even:2") == 0);
    must(purge(STORE_PURGE_TAG, "even:") == 0);
    must(purge(STORE_PURGE_TAG, "even:0") == 100);
    must(stats_now().entries == 100);
    must(verdict_of(&w, "GET /p1/1 | Authorization: 1") == STORE_HIT);
    must(verdict_of(&w, "GET /p1/4 | Authorization: 4") == STORE_LEAD);
    must(purge(STORE_PURGE_TAG_PREFIX, "odd") == 0);
    must(purge(STORE_PURGE_TAG_PREFIX, "even:") == 100);
    must(stats_now().entries == 0 && stats_now().bytes == 0);
    for (int i = 0; i < 10; i++) {
        snprintf(request, sizeof request, "GET /%d", i);
        must(fetch(&w, request, FRESH, "x") == STORABLE_YES);
    }
    must(purge(STORE_PURGE_ALL, "") == 10);
    must(stats_now().entries == 0 && stats_now().bytes == 0);
}
END_TEST

/* The tags of an entry outlive its validation, and a purge of tags dooms what may turn out to have them. */
START_TEST(tags_and_fetches)
{
    struct store_result r;
    w.tags[0] = SLICE("t");
    w.tag_count = 1;
    must(fetch(&w, "GET /a", VALIDATABLE, "x") == STORABLE_YES);
    w.tag_count = 0; /* the next calls say nothing of tags */
    pass_time(&w, 20 * TICK_S);
    must(lead("GET /a", &r) == STORE_REVALIDATE);
    struct entry *e = not_modified(r.fill, "GET /a", "304 | Date: @20");
    must(e);
    entry_release(e);
    entry_release(r.entry);
    must(purge(STORE_PURGE_TAG, "t") == 1);

    struct message q, a;
    request_text(&q, "GET /a");
    response_text(&a, "200 | Date: @20 | Cache-Control: max-age=100");
    struct store_request ask = ask_of(&w, &q);
    must(store_lookup(w.store, &ask, &r) == STORE_LEAD);
    must(purge(STORE_PURGE_TAG, "anything") == 0);
    w.tags[0] = SLICE("other");
    w.tag_count = 1;
    ask = ask_of(&w, &q);
    must(fill_response(r.fill, &ask, &a.head, w.now, NULL) == FILL_STORED);
    must(!fill_end(r.fill, w.now)); /* for all that was known, it might have had that tag */
    must(store_lookup(w.store, &ask, &r) == STORE_LEAD);
    must(purge(STORE_PURGE_TAG, "anything") == 0);
    must(fill_response(r.fill, &ask, &a.head, w.now, NULL) == FILL_STORED);
    must(fill_end(r.fill, w.now)); /* here it was known not to */
    must(purge(STORE_PURGE_TAG, "other") == 1);
}
END_TEST

struct seen {
    size_t count, stop_at;
    uint64_t bytes;
    bool uri_ok;
};

static bool see(void *arg, const struct store_view *view)
{
    struct seen *s = arg;
    s->bytes += view->bytes;
    s->uri_ok = s->uri_ok && view->uri.n > 1 && view->uri.p[0] == '/' && view->status == 200;
    return ++s->count != s->stop_at;
}

START_TEST(walking)
{
    char request[64];
    for (int i = 0; i < 200; i++) {
        snprintf(request, sizeof request, "GET /%d | Authorization: secret", i);
        must(fetch(&w, request, FRESH, "x") == STORABLE_YES);
    }
    struct seen all = {.uri_ok = true}, some = {.stop_at = 5, .uri_ok = true};
    store_walk(w.store, w.now, see, &all);
    must(all.count == 200 && all.bytes == stats_now().bytes && all.uri_ok);
    store_walk(w.store, w.now, see, &some);
    must(some.count == 5);
}
END_TEST

/* ---- limits ---- */

static void fill_up(int count, const char *body)
{
    char request[64];
    for (int i = 0; i < count; i++) {
        snprintf(request, sizeof request, "GET /f%d", i);
        must(fetch(&w, request, FRESH, body) == STORABLE_YES);
    }
}

START_TEST(entries_are_limited)
{
    struct store_limits limits = {
        .max_entries = 3, .max_bytes = 1 << 20, .max_object_bytes = 1 << 16, .strategy = EVICT_LRU};
    one_shard(3);
    fill_up(3, "x");
    must(verdict_of(&w, "GET /f0") == STORE_HIT); /* used again: 1 is now the oldest */
    must(fetch(&w, "GET /g", FRESH, "x") == STORABLE_YES);
    must(stats_now().entries == 3 && stats_now().evictions == 1);
    must(verdict_of(&w, "GET /f1") == STORE_LEAD);
    must(verdict_of(&w, "GET /f0") == STORE_HIT);
    must(fetch(&w, "GET /g | Cache-Control: no-cache", FRESH, "y") ==
         STORABLE_YES); /* a new version needs no room */
    must(stats_now().entries == 3 && stats_now().evictions == 1);
    limits.max_entries = 1;
    store_set_limits(w.store, &limits);
    must(stats_now().entries == 1);
    must(verdict_of(&w, "GET /g") == STORE_HIT); /* being fetched anew was the last use */
    must(purge(STORE_PURGE_ALL, "") == 1);
    limits.max_entries = 0;
    store_set_limits(w.store, &limits);
    fill_up(50, "x");
    must(stats_now().entries == 50);
}
END_TEST

START_TEST(bytes_are_limited)
{
    struct store_limits limits = {
        .max_entries = 0, .max_bytes = 100000, .max_object_bytes = 50000, .strategy = EVICT_FIFO};
    char body[10001];
    memset(body, 'x', 10000);
    body[10000] = '\0';
    store_set_limits(w.store, &limits);
    fill_up(30, body);
    struct store_stats s = stats_now();
    must(s.bytes <= 100000 && s.bytes > 80000 && s.evictions == 30 - s.entries);
    must(verdict_of(&w, "GET /f29") == STORE_HIT && verdict_of(&w, "GET /f0") == STORE_LEAD);
}
END_TEST

/* Sixteen shards: the limits hold for all of them together, also when few large entries are spread over them.
 */
START_TEST(limits_over_many_shards)
{
    struct store_limits limits = {
        .max_entries = 0, .max_bytes = 200000, .max_object_bytes = 0, .strategy = EVICT_ADAPTIVE};
    world_dispose(&w);
    world_init(&w, &limits);
    must(w.store->shard_mask == STORE_SHARDS - 1);
    char body[30001];
    memset(body, 'x', 30000);
    body[30000] = '\0';
    for (int i = 0; i < 5; i++) {
        fill_up(40, body);
        struct store_stats s = stats_now();
        must(s.bytes <= 200000 && s.entries >= 4);
        must(purge(STORE_PURGE_ALL, "") == s.entries);
    }
    limits = (struct store_limits){
        .max_entries = 9000, .max_bytes = 0, .max_object_bytes = 1000, .strategy = EVICT_LFU};
    world_dispose(&w);
    world_init(&w, &limits);
    limits.max_entries = 10; /* live, with the shards that there are */
    store_set_limits(w.store, &limits);
    fill_up(100, "x");
    must(stats_now().entries == 10);
}
END_TEST

/* An entry that a reader holds outlives its eviction. */
START_TEST(evicted_while_it_is_read)
{
    struct store_result r;
    must(fetch(&w, "GET /a", FRESH, "still here") == STORABLE_YES);
    must(look(&w, "GET /a", &r) == STORE_HIT);
    must(purge(STORE_PURGE_ALL, "") == 1);
    ck_assert_str_eq(body_text(r.entry), "still here");
    let_go(&r, STORE_HIT);
}
END_TEST

/* ---- time ---- */

START_TEST(clock_jumps)
{
    must(fetch(&w, "GET /a", FRESH, "x") == STORABLE_YES);
    w.wall -= 1000000; /* the wall clock jumps: what is stored ages as before */
    must(verdict_of(&w, "GET /a") == STORE_HIT);
    w.wall += 2000000;
    must(verdict_of(&w, "GET /a") == STORE_HIT);
    w.now -= 50 * TICK_S; /* and a monotonic clock that is not */
    must(verdict_of(&w, "GET /a") == STORE_HIT);
    w.now += 151 * TICK_S;
    must(verdict_of(&w, "GET /a") == STORE_LEAD);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("store");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_fresh_answer_is_a_hit);
    tcase_add_test(t, requests_that_are_passed);
    tcase_add_test(t, a_304_freshens);
    tcase_add_test(t, a_304_that_forbids_storing);
    tcase_add_test(t, a_304_with_another_vary);
    tcase_add_test(t, a_304_for_something_else);
    tcase_add_test(t, a_200_replaces);
    tcase_add_test(t, answers_that_supersede);
    tcase_add_test(t, stale_while_revalidate);
    tcase_add_test(t, stale_if_error);
    tcase_add_test(t, conditional_misses_are_not_joined);
    tcase_add_test(t, several_variants);
    tcase_add_test(t, the_newest_that_fits);
    tcase_add_test(t, variants_are_bounded);
    tcase_add_test(t, one_partition_a_credential);
    tcase_add_test(t, no_byte_crosses_partitions);
    tcase_add_test(t, a_refused_credential_loses_its_partition);
    tcase_add_test(t, a_refused_credential_touches_nobody_else);
    tcase_add_test(t, hit_for_miss);
    tcase_add_test(t, what_leaves_no_mark);
    tcase_add_test(t, marks_are_bounded);
    tcase_add_test(t, too_large);
    tcase_add_test(t, unsafe_requests_invalidate);
    tcase_add_test(t, invalidation_stays_in_its_partition);
    tcase_add_test(t, a_write_dooms_the_fetch_under_way);
    tcase_add_test(t, purges);
    tcase_add_test(t, tags_and_fetches);
    tcase_add_test(t, walking);
    tcase_add_test(t, entries_are_limited);
    tcase_add_test(t, bytes_are_limited);
    tcase_add_test(t, limits_over_many_shards);
    tcase_add_test(t, evicted_while_it_is_read);
    tcase_add_test(t, clock_jumps);
    return run_case("store", t);
}
