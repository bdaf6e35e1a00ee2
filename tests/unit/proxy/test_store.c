/*
 * The store as an exchange sees it: verdicts, keys, partitions, variants, validation, invalidation, limits.
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

START_TEST(a_fresh_answer_is_a_hit)
{
    struct store_result r;
    ck_assert_int_eq(look(&w, "GET /a?b=1", &r), STORE_LEAD);
    ck_assert_int_eq(r.fwd, CACHE_FWD_URI_MISS);
    let_go(&r, STORE_LEAD);
    ck_assert_int_eq(fetch(&w, "GET /a?b=1", "200 | Cache-Control: max-age=10 | Content-Length: 5 | Date: @0", "hello"), STORABLE_YES);
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
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("store");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_fresh_answer_is_a_hit);
    return run_case("store", t);
}
