/*
 * Entries that lie compressed in memory: found, served, validated and purged like any other, and accounted by
 * what they take.
 */
#include "proxy/squeeze.h"
#include "proxy/store_inner.h"
#include "tests/unit/proxy/cache_case.h"

#define OK "200 | Cache-Control: max-age=60, stale-if-error=600 | ETag: \"a\" | X-More: yes"

enum { BODY = 6000 };

struct cold_world {
    struct world w;
    struct squeezer *squeezer;
    bool wanted;
    char body[BODY + 1];
};

/* Room for some bodies only, so that there is pressure from the second on. */
static void begin(struct cold_world *c, uint64_t max_bytes)
{
    struct store_limits limits = {
        .max_entries = 1000, .max_bytes = max_bytes, .max_object_bytes = 1 << 20, .strategy = EVICT_LRU};
    world_init(&c->w, &limits);
    c->squeezer = squeezer_new();
    must(c->squeezer);
    c->wanted = true;
    for (int i = 0; i < BODY; i++)
        c->body[i] = "{\"prompt\": \"abc\"}, "[i % 19];
    c->body[BODY] = '\0';
}

static void finish(struct cold_world *c)
{
    struct store_stats s;
    store_stats(c->w.store, &s);
    ck_assert_uint_eq(s.bytes, s.tier_bytes[0] + s.tier_bytes[1] + s.tier_bytes[2]);
    ck_assert_uint_eq(s.entries, s.tier_entries[0] + s.tier_entries[1] + s.tier_entries[2]);
    world_dispose(&c->w);
    squeezer_free(c->squeezer);
}

static struct store_swept sweep(struct cold_world *c, double price)
{
    struct store_swept swept;
    struct store_sweep how = {.market = {.price = price, .unpack_ns = 1},
                              .threshold = 1024,
                              .now = c->w.now,
                              .active = true,
                              .eager = true,
                              .wanted = c->wanted};
    store_sweep(c->w.store, c->squeezer, &how, &swept);
    return swept;
}

static void store_some(struct cold_world *c, int count)
{
    for (int i = 0; i < count; i++) {
        char request[32];
        snprintf(request, sizeof(request), "GET /p%d", i);
        ck_assert_int_eq(fetch(&c->w, request, OK, c->body), STORABLE_YES);
    }
}

static uint64_t cold_of(struct cold_world *c)
{
    struct store_stats s;
    store_stats(c->w.store, &s);
    return s.tier_entries[TIER_COLD];
}

START_TEST(what_lies_compressed_is_served_like_any_other)
{
    struct cold_world c;
    struct store_result r;
    begin(&c, 30000);
    store_some(&c, 4);
    struct store_stats before, after;
    store_stats(c.w.store, &before);
    struct store_swept swept = sweep(&c, 1000);
    ck_assert_uint_gt(swept.chilled, 0);
    ck_assert_uint_lt(swept.to * 4, swept.from);
    store_stats(c.w.store, &after);
    ck_assert_uint_lt(after.bytes, before.bytes);
    ck_assert_uint_eq(after.entries, 4);
    for (int i = 0; i < 4; i++) {
        char request[32];
        snprintf(request, sizeof(request), "GET /p%d", i);
        ck_assert_int_eq(look(&c.w, request, &r), STORE_HIT);
        ck_assert_str_eq(body_text(r.entry), c.body);
        struct slice head = entry_head_with_length(r.entry);
        must(memmem(head.p, head.n, "X-More: yes\r\n", 13) &&
             memmem(head.p, head.n, "Content-Length: 6000\r\n", 22));
        ck_assert_uint_eq(entry_etag(r.entry).n, 3);
        entry_release(r.entry);
    }
    store_stats(c.w.store, &after);
    ck_assert_uint_eq(after.hits, 4);
    ck_assert_uint_eq(after.cold_hits, swept.chilled);
    finish(&c);
}
END_TEST

START_TEST(without_pressure_or_price_nothing_is_compressed)
{
    struct cold_world c;
    begin(&c, 1 << 20);
    c.wanted = false;
    store_some(&c, 4);
    ck_assert_uint_eq(sweep(&c, 1000).chilled, 0);
    finish(&c);
    begin(&c, 30000);
    store_some(&c, 4);
    ck_assert_uint_eq(sweep(&c, 0).chilled, 0);
    finish(&c);
}
END_TEST

START_TEST(more_entries_fit)
{
    struct cold_world c;
    begin(&c, 60000);
    for (int turn = 0; turn < 20; turn++) {
        for (int i = 0; i < 30; i++) {
            char request[32];
            struct store_result r;
            snprintf(request, sizeof(request), "GET /p%d", i);
            enum store_verdict v = look(&c.w, request, &r);
            let_go(&r, v);
            if (v == STORE_LEAD)
                ck_assert_int_eq(fetch(&c.w, request, OK, c.body), STORABLE_YES);
            sweep(&c, 1000);
        }
    }
    struct store_stats s;
    store_stats(c.w.store, &s);
    ck_assert_uint_eq(s.entries, 30); /* eight would fit without */
    ck_assert_uint_le(s.bytes, 60000);
    finish(&c);
}
END_TEST

START_TEST(a_cold_one_is_validated)
{
    struct cold_world c;
    struct store_result r;
    struct message q, a;
    begin(&c, 14000);
    store_some(&c, 2);
    sweep(&c, 1000);
    ck_assert_uint_gt(cold_of(&c), 0);
    pass_time(&c.w, 100 * TICK_S);
    for (int i = 0; i < 2; i++) {
        char request[32];
        snprintf(request, sizeof(request), "GET /p%d", i);
        ck_assert_int_eq(look(&c.w, request, &r), STORE_REVALIDATE);
        request_text(&q, request);
        response_text(&a, "304 | ETag: \"a\" | Cache-Control: max-age=60 | X-More: new");
        struct store_request ask = ask_of(&c.w, &q);
        struct entry *merged = fill_not_modified(r.fill, &ask, &a.head, c.w.now);
        must(merged);
        ck_assert_str_eq(body_text(merged), c.body);
        must(memmem(entry_head(merged).p, entry_head(merged).n, "X-More: new", 11));
        entry_release(merged);
        entry_release(r.entry);
        ck_assert_int_eq(verdict_of(&c.w, request), STORE_HIT);
    }
    finish(&c);
}
END_TEST

START_TEST(a_304_about_another_version_drops_the_cold_one)
{
    struct cold_world c;
    struct store_result r;
    struct message q, a;
    begin(&c, 14000);
    store_some(&c, 2);
    sweep(&c, 1000);
    pass_time(&c.w, 100 * TICK_S);
    for (int i = 0; i < 2; i++) {
        char request[32];
        snprintf(request, sizeof(request), "GET /p%d", i);
        ck_assert_int_eq(look(&c.w, request, &r), STORE_REVALIDATE);
        request_text(&q, request);
        response_text(&a, "304 | ETag: \"other\"");
        struct store_request ask = ask_of(&c.w, &q);
        must(!fill_not_modified(r.fill, &ask, &a.head, c.w.now));
        let_go(&r, STORE_REVALIDATE);
        ck_assert_int_eq(verdict_of(&c.w, request), STORE_LEAD);
    }
    struct store_stats s;
    store_stats(c.w.store, &s);
    ck_assert_uint_eq(s.entries, 0);
    finish(&c);
}
END_TEST

START_TEST(stale_ones_help_for_an_error_and_head_and_ranges_work)
{
    struct cold_world c;
    struct store_result r;
    struct message m;
    struct answer answer;
    begin(&c, 14000);
    store_some(&c, 2);
    sweep(&c, 1000);
    ck_assert_int_eq(look(&c.w, "GET /p0 | Range: bytes=10-19", &r), STORE_HIT);
    request_text(&m, "GET /p0 | Range: bytes=10-19");
    entry_answer(r.entry, &m.head, c.w.wall, &answer);
    ck_assert_uint_eq(answer.length, 10);
    entry_release(r.entry);
    ck_assert_int_eq(verdict_of(&c.w, "HEAD /p1"), STORE_HIT);
    sweep(&c, 1000);
    pass_time(&c.w, 100 * TICK_S);
    request_text(&m, "GET /p1");
    struct store_request ask = ask_of(&c.w, &m);
    must(store_stale_for_error(c.w.store, &ask, &r));
    ck_assert_str_eq(body_text(r.entry), c.body);
    entry_release(r.entry);
    finish(&c);
}
END_TEST

START_TEST(purges_and_vary_reach_cold_ones)
{
    struct cold_world c;
    struct store_result r;
    begin(&c, 22000);
    c.w.tags[0] = SLICE("prompt:7");
    c.w.tag_count = 1;
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(fetch(&c.w, i ? "GET /v | X-Kind: b" : "GET /v | X-Kind: a",
                               i ? OK " | Vary: X-Kind | X-Is: b" : OK " | Vary: X-Kind | X-Is: a", c.body),
                         STORABLE_YES);
    }
    ck_assert_int_eq(fetch(&c.w, "GET /other", OK, c.body), STORABLE_YES);
    sweep(&c, 1000);
    ck_assert_uint_gt(cold_of(&c), 0);
    ck_assert_int_eq(look(&c.w, "GET /v | X-Kind: a", &r), STORE_HIT);
    must(memmem(entry_head(r.entry).p, entry_head(r.entry).n, "X-Is: a", 7));
    entry_release(r.entry);
    ck_assert_int_eq(look(&c.w, "GET /v | X-Kind: b", &r), STORE_HIT);
    must(memmem(entry_head(r.entry).p, entry_head(r.entry).n, "X-Is: b", 7));
    entry_release(r.entry);
    ck_assert_int_eq(verdict_of(&c.w, "GET /v | X-Kind: c"), STORE_LEAD);
    ck_assert_uint_eq(store_purge(c.w.store, STORE_PURGE_TAG, SLICE("prompt:7")), 3);
    ck_assert_uint_eq(cold_of(&c), 0);
    finish(&c);
}
END_TEST

START_TEST(a_cold_one_is_renewed_ahead)
{
    struct cold_world c;
    struct store_result r;
    struct message q;
    begin(&c, 14000);
    store_some(&c, 2);
    sweep(&c, 1000);
    ck_assert_uint_gt(cold_of(&c), 0);
    for (int i = 0; i < 2; i++) {
        char request[32];
        snprintf(request, sizeof(request), "GET /p%d", i);
        request_text(&q, request);
        struct store_request ask = ask_of(&c.w, &q);
        ask.ahead = STORE_RENEWED;
        ask.renew = 1000 * TICK_S;
        ck_assert_int_eq(store_lookup(c.w.store, &ask, &r), STORE_REVALIDATE);
        ck_assert_str_eq(body_text(r.entry), c.body);
        let_go(&r, STORE_REVALIDATE);
    }
    finish(&c);
}
END_TEST

START_TEST(what_is_used_much_lies_plain_again)
{
    struct cold_world c;
    struct store_result r;
    begin(&c, 14000);
    store_some(&c, 2);
    sweep(&c, 1000);
    struct store_stats s;
    store_stats(c.w.store, &s);
    uint64_t cold = s.tier_entries[TIER_COLD];
    ck_assert_uint_gt(cold, 0);
    pass_time(&c.w, TICK_S);
    sweep(&c, 1e-9); /* memory is worth next to nothing now */
    for (int i = 0; i < 2; i++) {
        char request[32];
        snprintf(request, sizeof(request), "GET /p%d", i);
        ck_assert_int_eq(look(&c.w, request, &r), STORE_HIT);
        ck_assert_str_eq(body_text(r.entry), c.body);
        entry_release(r.entry);
    }
    ck_assert_uint_lt(cold_of(&c), cold);
    finish(&c);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("store_cold");
    tcase_add_test(t, what_lies_compressed_is_served_like_any_other);
    tcase_add_test(t, without_pressure_or_price_nothing_is_compressed);
    tcase_add_test(t, more_entries_fit);
    tcase_add_test(t, a_cold_one_is_validated);
    tcase_add_test(t, a_304_about_another_version_drops_the_cold_one);
    tcase_add_test(t, stale_ones_help_for_an_error_and_head_and_ranges_work);
    tcase_add_test(t, purges_and_vary_reach_cold_ones);
    tcase_add_test(t, a_cold_one_is_renewed_ahead);
    tcase_add_test(t, what_is_used_much_lies_plain_again);
    return run_case("store_cold", t);
}
