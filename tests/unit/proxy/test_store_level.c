/*
 * What a level below memory had: whom it answers, when it goes into memory, and that a purge while it was
 * looked for holds. The level here is a list in the test.
 */
#include "proxy/level.h"
#include "proxy/store_inner.h"
#include "tests/unit/proxy/cache_case.h"

#define GET  "GET /p"
#define HEAD "HEAD /p"
#define OK   "200 | Cache-Control: max-age=60 | ETag: \"a\" | Content-Length: 5"

/* What the level was told. */
struct told {
    struct entry *kept;
    unsigned keeps, drops;
    enum level_drop_kind last;
};

static void keep(void *self, struct entry *entry, const struct store_key *key, struct hash128 name)
{
    struct told *t = self;
    (void)key;
    (void)name;
    entry_release(t->kept);
    t->kept = entry_ref(entry);
    t->keeps++;
}

static void drop(void *self, const struct level_drop *d)
{
    struct told *t = self;
    t->drops++;
    t->last = d->kind;
}

static bool no_look(void *self, struct level_look *look)
{
    (void)self;
    (void)look;
    return false;
}

static void with_level(struct world *w, struct told *t)
{
    struct level level = {.name = "test", .self = t, .look = no_look, .keep = keep, .drop = drop};
    world_init(w, NULL);
    *t = (struct told){0};
    store_set_levels(w->store, &level, 1);
}

static void dispose(struct world *w, struct told *t)
{
    entry_release(t->kept);
    world_dispose(w);
}

/* Stored once, and gone from memory since: what a level gives back. */
static struct entry *once_stored(struct world *w, struct told *t)
{
    ck_assert_int_eq(fetch(w, GET, OK, "hello"), STORABLE_YES);
    struct entry *entry = t->kept;
    must(entry);
    t->kept = NULL;
    store_purge(w->store, STORE_PURGE_ALL, SLICE(""));
    return entry;
}

static enum store_verdict take(struct world *w, const char *request, struct fill *fill, bool leads,
                               struct entry *entry, struct store_result *r, bool *taken)
{
    struct message m;
    enum store_verdict v = STORE_LEAD;
    request_text(&m, request);
    struct store_request ask = ask_of(w, &m);
    *taken = store_take_up(w->store, &ask, fill, leads, entry, 0, &v, r);
    return v;
}

START_TEST(what_is_stored_is_offered_and_what_is_dropped_is_told)
{
    struct world w;
    struct told t;
    with_level(&w, &t);
    ck_assert_int_eq(fetch(&w, GET, OK, "hello"), STORABLE_YES);
    ck_assert_uint_eq(t.keeps, 1);
    ck_assert_str_eq(body_text(t.kept), "hello");
    store_purge(w.store, STORE_PURGE_TAG, SLICE("x"));
    ck_assert_uint_eq(t.drops, 2); /* before and after memory was searched */
    ck_assert_int_eq(t.last, LEVEL_DROP_TAG);
    struct store_key key = {{1, 2}, {3, 4}};
    store_drop_partition(w.store, &key);
    ck_assert_int_eq(t.last, LEVEL_DROP_PARTITION);
    dispose(&w, &t);
}
END_TEST

START_TEST(a_fresh_one_answers_the_leader_and_those_who_wait)
{
    struct world w;
    struct told t;
    struct store_result r, joined;
    struct fill_news news;
    struct fill_waiter waiter = {0};
    struct message m;
    bool taken;
    with_level(&w, &t);
    struct entry *entry = once_stored(&w, &t);
    ck_assert_int_eq(look(&w, GET, &r), STORE_LEAD);
    ck_assert_int_eq(look(&w, GET, &joined), STORE_JOIN); /* one look a key: all others wait for it */
    fill_join(joined.fill, &waiter);
    ck_assert_int_eq(take(&w, GET, r.fill, true, entry, &r, &taken), STORE_HIT);
    must(taken);
    ck_assert_str_eq(body_text(r.entry), "hello");
    request_text(&m, GET);
    struct store_request ask = ask_of(&w, &m);
    ck_assert_int_eq(fill_poll(&waiter, &ask, &news), FILL_DONE);
    ck_assert_uint_eq(entry_level(news.entry), 1);
    entry_release(news.entry);
    entry_release(r.entry);
    ck_assert_uint_eq(t.keeps, 1); /* it is not offered to the level that it came from */
    struct store_stats s;
    store_stats(w.store, &s);
    ck_assert_uint_eq(s.hits, 1);
    ck_assert_uint_eq(s.misses, 1); /* the first fetch */
    dispose(&w, &t);
}
END_TEST

START_TEST(a_stale_one_is_validated_under_the_same_fill)
{
    struct world w;
    struct told t;
    struct store_result r;
    bool taken;
    with_level(&w, &t);
    struct entry *entry = once_stored(&w, &t);
    pass_time(&w, 100 * TICK_S);
    ck_assert_int_eq(look(&w, GET, &r), STORE_LEAD);
    struct fill *fill = r.fill;
    ck_assert_int_eq(take(&w, GET, fill, true, entry, &r, &taken), STORE_REVALIDATE);
    must(taken);
    ck_assert_ptr_eq(r.fill, fill);
    ck_assert_ptr_eq(fill_validates(fill), r.entry);
    ck_assert_int_eq(r.fwd, CACHE_FWD_STALE);
    must(r.ttl < 0);
    ck_assert_int_eq(verdict_of(&w, GET), STORE_JOIN); /* others go on waiting */
    let_go(&r, STORE_REVALIDATE);
    dispose(&w, &t);
}
END_TEST

START_TEST(a_purge_meanwhile_holds)
{
    struct world w;
    struct told t;
    struct store_result r;
    bool taken;
    with_level(&w, &t);
    struct entry *entry = once_stored(&w, &t);
    ck_assert_int_eq(look(&w, GET, &r), STORE_LEAD);
    store_purge(w.store, STORE_PURGE_KEY, SLICE("/p"));
    take(&w, GET, r.fill, true, entry, &r, &taken);
    must(!taken);
    let_go(&r, STORE_LEAD);
    ck_assert_int_eq(verdict_of(&w, GET), STORE_LEAD); /* nor is it in memory */
    dispose(&w, &t);
}
END_TEST

START_TEST(a_head_request_is_answered_through_a_look_of_its_own)
{
    struct world w;
    struct told t;
    struct store_result r;
    struct message m;
    bool taken;
    with_level(&w, &t);
    struct entry *entry = once_stored(&w, &t);
    ck_assert_int_eq(look(&w, HEAD, &r), STORE_PASS);
    ck_assert_int_eq(r.fwd, CACHE_FWD_URI_MISS);
    request_text(&m, HEAD);
    struct store_request ask = ask_of(&w, &m);
    struct fill *fill = store_begin_look(w.store, &ask, &r.key);
    must(fill);
    ck_assert_int_eq(verdict_of(&w, GET), STORE_LEAD); /* nobody waits for it */
    ck_assert_int_eq(take(&w, HEAD, fill, false, entry, &r, &taken), STORE_HIT);
    must(taken);
    entry_release(r.entry);
    dispose(&w, &t);
}
END_TEST

START_TEST(what_does_not_fit_or_is_of_no_use_changes_nothing)
{
    struct world w;
    struct told t;
    struct store_result r;
    bool taken;
    with_level(&w, &t);
    ck_assert_int_eq(fetch(&w, "GET /p | X-A: 1",
                           "200 | Cache-Control: max-age=60 | Vary: X-A | Content-Length: 5", "hello"),
                     STORABLE_YES);
    struct entry *entry = t.kept;
    t.kept = NULL;
    store_purge(w.store, STORE_PURGE_ALL, SLICE(""));
    ck_assert_int_eq(look(&w, GET, &r), STORE_LEAD);
    take(&w, GET, r.fill, true, entry, &r, &taken); /* another variant */
    must(!taken);
    let_go(&r, STORE_LEAD);
    dispose(&w, &t);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("store_level");
    tcase_add_test(t, what_is_stored_is_offered_and_what_is_dropped_is_told);
    tcase_add_test(t, a_fresh_one_answers_the_leader_and_those_who_wait);
    tcase_add_test(t, a_stale_one_is_validated_under_the_same_fill);
    tcase_add_test(t, a_purge_meanwhile_holds);
    tcase_add_test(t, a_head_request_is_answered_through_a_look_of_its_own);
    tcase_add_test(t, what_does_not_fit_or_is_of_no_use_changes_nothing);
    return run_case("store_level", t);
}
