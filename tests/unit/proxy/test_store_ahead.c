/*
 * The store for those who fetch ahead: lookups that nobody waits for, marks of what was fetched ahead, what
 * was never read.
 */
#include "tests/unit/proxy/cache_case.h"

static struct world w;

static void setup(void)
{
    world_init(&w, NULL);
}

static void teardown(void)
{
    world_dispose(&w);
}

#define ME " | Authorization: Bearer me"

static enum store_verdict ahead(const char *request, enum store_ahead kind, tick_t renew,
                                struct store_result *r)
{
    struct message m;
    request_text(&m, request);
    struct store_request ask = ask_of(&w, &m);
    ask.ahead = kind;
    ask.renew = renew;
    return store_lookup(w.store, &ask, r);
}

/* The fetch that a lookup ahead led to comes in. */
static void bring(const char *request, struct store_result *r, const char *response)
{
    struct message q, a;
    request_text(&q, request);
    response_text(&a, response);
    struct store_request ask = ask_of(&w, &q);
    entry_release(r->entry);
    must(fill_response(r->fill, &ask, &a.head, w.now, NULL) == FILL_STORED);
    must(fill_append(r->fill, "body", 4) == FILL_MORE);
    must(fill_end(r->fill, w.now));
}

static struct store_stats stats(void)
{
    struct store_stats s;
    store_stats(w.store, &s);
    return s;
}

START_TEST(what_is_missing_is_led_and_counts_as_nothing)
{
    struct store_result r;
    must(ahead("GET /p" ME, STORE_GUESSED, 0, &r) == STORE_LEAD);
    bring("GET /p" ME, &r, "200 | Cache-Control: max-age=60");
    must(ahead("GET /p" ME, STORE_GUESSED, 0, &r) == STORE_HIT);
    must(r.entry && !r.fill);
    entry_release(r.entry);
    struct store_stats s = stats();
    ck_assert_uint_eq(s.hits + s.misses + s.stale + s.coalesced + s.passed, 0);
    ck_assert_uint_eq(s.stored, 1);
}
END_TEST

/* The first use is told once; the mark stays. */
START_TEST(the_first_use_is_told)
{
    struct store_result r;
    must(ahead("GET /p", STORE_GUESSED, 0, &r) == STORE_LEAD);
    bring("GET /p", &r, "200 | Cache-Control: max-age=60");
    for (int i = 0; i < 3; i++) {
        must(look(&w, "GET /p", &r) == STORE_HIT);
        must(r.ahead == STORE_GUESSED && r.ahead_first == (i == 0) && r.first == (i == 0));
        ck_assert_uint_eq(r.hits, (unsigned)i);
        let_go(&r, STORE_HIT);
        pass_time(&w, TICK_S);
    }
    store_purge(w.store, STORE_PURGE_ALL, (struct slice){NULL, 0});
    ck_assert_uint_eq(stats().unread[STORE_GUESSED], 0);
}
END_TEST

/* Who asks while it is being fetched reads along: it was of use. */
START_TEST(joining_is_use)
{
    struct store_result r, joined;
    must(ahead("GET /p", STORE_GUESSED, 0, &r) == STORE_LEAD);
    must(look(&w, "GET /p", &joined) == STORE_JOIN);
    must(joined.ahead == STORE_GUESSED && joined.ahead_first);
    let_go(&joined, STORE_JOIN);
    must(ahead("GET /p", STORE_GUESSED, 0, &joined) == STORE_PASS); /* it is under way */
    bring("GET /p", &r, "200 | Cache-Control: max-age=60");
    must(look(&w, "GET /p", &r) == STORE_HIT && !r.ahead_first);
    let_go(&r, STORE_HIT);
}
END_TEST

START_TEST(what_nobody_read_is_told)
{
    struct store_result r;
    uint64_t keys[4];
    uint32_t seen = 0;
    ck_assert_uint_eq(store_unread(w.store, &seen, keys, 4), 0);
    must(ahead("GET /p", STORE_GUESSED, 0, &r) == STORE_LEAD);
    uint64_t place = r.key.place.lo;
    bring("GET /p", &r, "200 | Cache-Control: max-age=60");
    store_purge(w.store, STORE_PURGE_ALL, (struct slice){NULL, 0});
    ck_assert_uint_eq(stats().unread[STORE_GUESSED], 1);
    ck_assert_uint_eq(store_unread(w.store, &seen, keys, 4), 1);
    must(keys[0] == place);
    ck_assert_uint_eq(store_unread(w.store, &seen, keys, 4), 0);
}
END_TEST

/* More than are remembered: the newest are told. */
START_TEST(the_oldest_are_missing)
{
    uint64_t keys[512], last = 0;
    uint32_t seen = 0;
    for (int i = 0; i < 300; i++) {
        struct store_result r;
        char request[64];
        snprintf(request, sizeof request, "GET /p%d", i);
        must(ahead(request, STORE_GUESSED, 0, &r) == STORE_LEAD);
        last = r.key.place.lo;
        bring(request, &r, "200 | Cache-Control: max-age=60");
        store_purge(w.store, STORE_PURGE_ALL, (struct slice){NULL, 0});
    }
    ck_assert_uint_eq(store_unread(w.store, &seen, keys, 512), 256);
    must(keys[255] == last);
    ck_assert_uint_eq(stats().unread[STORE_GUESSED], 300);
}
END_TEST

/* While it is fresh, but not for long any more; validated where that is possible. */
START_TEST(renewed_before_its_end)
{
    struct store_result r;
    must(fetch(&w, "GET /p", "200 | Cache-Control: max-age=60 | ETag: \"a\"", "body") == STORABLE_YES);
    pass_time(&w, 50 * TICK_S);
    must(ahead("GET /p", STORE_RENEWED, 5 * TICK_S, &r) == STORE_HIT); /* somebody else was first */
    entry_release(r.entry);
    must(ahead("GET /p", STORE_RENEWED, 10 * TICK_S, &r) == STORE_REVALIDATE);
    must(r.entry && slice_equal(entry_etag(r.entry), SLICE("\"a\"")));
    must(verdict_of(&w, "GET /p") == STORE_HIT); /* meanwhile it is served, not waited for */
    bring("GET /p", &r, "200 | Cache-Control: max-age=60 | ETag: \"b\"");
    must(look(&w, "GET /p", &r) == STORE_HIT);
    must(r.ahead == STORE_RENEWED && r.ahead_first && r.first && r.hits == 1);
    let_go(&r, STORE_HIT);
}
END_TEST

START_TEST(renewed_without_validator)
{
    struct store_result r;
    must(fetch(&w, "GET /p", "200 | Cache-Control: max-age=60", "body") == STORABLE_YES);
    pass_time(&w, 55 * TICK_S);
    must(ahead("GET /p", STORE_RENEWED, 5 * TICK_S, &r) == STORE_LEAD && !r.entry);
    bring("GET /p", &r, "200 | Cache-Control: max-age=60");
    store_purge(w.store, STORE_PURGE_ALL, (struct slice){NULL, 0});
    ck_assert_uint_eq(stats().unread[STORE_RENEWED], 1);
}
END_TEST

/* What has left memory meanwhile is not fetched for nobody; nor what is known not to be storable. */
START_TEST(nothing_to_do)
{
    struct store_result r;
    must(ahead("GET /p", STORE_RENEWED, 60 * TICK_S, &r) == STORE_PASS && !r.fill && !r.entry);
    must(fetch(&w, "GET /p", "200 | Cache-Control: no-store", "") == STORABLE_NO_STORE);
    must(ahead("GET /p", STORE_GUESSED, 0, &r) == STORE_PASS && !r.fill);
}
END_TEST

START_TEST(peeking)
{
    struct store_result r;
    struct store_peek peek;
    struct message m;
    request_text(&m, "GET /p");
    struct store_request ask = ask_of(&w, &m);
    struct store_key key;
    store_key_of(w.store, &ask, &key);
    must(!store_peek(w.store, key.place, 0, w.now, &peek));
    must(fetch(&w, "GET /p", "200 | Cache-Control: max-age=60 | Age: 10", "body") == STORABLE_YES);
    pass_time(&w, 20 * TICK_S);
    must(store_peek(w.store, key.place, 0, w.now, &peek));
    must(peek.left == 30 * TICK_S && peek.lifetime == 50 * TICK_S && peek.received == w.now - 20 * TICK_S);
    must(peek.read_at == 0 && peek.hits == 0);
    must(look(&w, "GET /p", &r) == STORE_HIT);
    let_go(&r, STORE_HIT);
    must(store_peek(w.store, key.place, peek.received, w.now, &peek));
    must(peek.read_at == w.now && peek.hits == 1);
    must(!store_peek(w.store, key.place, peek.received + 1, w.now, &peek));
    ck_assert_uint_eq(stats().hits, 1);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("store_ahead");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_is_missing_is_led_and_counts_as_nothing);
    tcase_add_test(t, the_first_use_is_told);
    tcase_add_test(t, joining_is_use);
    tcase_add_test(t, what_nobody_read_is_told);
    tcase_add_test(t, the_oldest_are_missing);
    tcase_add_test(t, renewed_before_its_end);
    tcase_add_test(t, renewed_without_validator);
    tcase_add_test(t, nothing_to_do);
    tcase_add_test(t, peeking);
    return run_case("store_ahead", t);
}
