/* Lifetimes that fills learn, with the test's own clock. */
#include "proxy/store_inner.h"
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

static struct fill *revalidate(const struct message *m)
{
    struct store_request ask = ask_of(&w, m);
    struct store_result r;
    must(store_lookup(w.store, &ask, &r) == STORE_REVALIDATE);
    entry_release(r.entry);
    return r.fill;
}

/* Looks 100 s apart that find nothing changed make the lifetime grow, and one that finds a change ends that.
 */
START_TEST(a_lifetime_is_learnt)
{
    struct message a, get;
    tick_t lifetime = 0;
    request_text(&get, "GET /a");
    w.rules.adaptive_ttl = true;
    must(fetch(&w, "GET /a", "200 | Date: @0 | ETag: \"1\"", "body") == STORABLE_YES);
    for (int i = 0; i < 9; i++) {
        pass_time(&w, 100 * TICK_S);
        struct fill *fill = revalidate(&get);
        struct store_request ask = ask_of(&w, &get);
        response_text(&a, "304 | ETag: \"1\"");
        struct entry *e = fill_not_modified(fill, &ask, &a.head, w.now);
        must(e && entry_freshness(e)->lifetime > lifetime * 9 / 11);
        lifetime = entry_freshness(e)->lifetime;
        entry_release(e);
    }
    must(lifetime > 76 * TICK_S && lifetime < 94 * TICK_S); /* 2 x 0.047 of 900 s, give or take a tenth */
    pass_time(&w, 300 * TICK_S);
    must(fetch(&w, "GET /a", "200 | ETag: \"2\"", "body") == STORABLE_YES);
    struct store_request ask = ask_of(&w, &get);
    struct store_result r;
    must(store_lookup(w.store, &ask, &r) == STORE_HIT);
    must(r.ttl > 0 && r.ttl < lifetime);
    entry_release(r.entry);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("fill_learn");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_lifetime_is_learnt);
    return run_case("fill_learn", t);
}
