/* Tests of policy/advise.c: each kind's estimate from facts where it is known, its floor, and what windows
 * make of it. */
#include "policy/advise.h"

#include <math.h>
#include <string.h>

#include "tests/unit/policy/harness.h"

static struct advise_facts f;
static struct advise_estimate out;

static void plain(void)
{
    f = (struct advise_facts){.requests = 1000,
                              .latency = 100,
                              .attempts = 500,
                              .lookups = 1000,
                              .hits = 500,
                              .hits_half = 300,
                              .hits_twice = 500,
                              .hits_life_twice = 500,
                              .hits_life_four = 500,
                              .looked = 100,
                              .entries = 100,
                              .bytes = 1000,
                              .max_entries = 10000,
                              .max_bytes = 1 << 30,
                              .pool_max = 10,
                              .pool_peak = 5,
                              .max_idle_time = 10 * TICK_S,
                              .max_attempts = 3,
                              .breaker_enabled = true,
                              .recorded_seconds = 10};
}

static bool any(void)
{
    for (int kind = 0; kind < ADVISE_KINDS; kind++)
        if (advise_window(&f, (enum advise_kind)kind, &out))
            return true;
    return false;
}

START_TEST(nothing_for_nothing)
{
    f = (struct advise_facts){0};
    ck_assert(!any());
    plain();
    ck_assert(!any());
}
END_TEST

START_TEST(cache_size)
{
    plain();
    f.evictions = 10;
    f.entries = f.max_entries;
    f.hits_twice = 750;
    ck_assert(advise_window(&f, ADVISE_CACHE_SIZE, &out));
    ck_assert_double_eq_tol(out.improvement, 0.5, 1e-9); /* 250 of the 500 calls */
    ck_assert(out.current == 10000 && out.target == 20000);
    ck_assert_str_eq(out.key, "cache.max_size");
    f.entries = 10;
    f.bytes = f.max_bytes;
    ck_assert(advise_window(&f, ADVISE_CACHE_SIZE, &out));
    ck_assert_str_eq(out.key, "cache.max_memory_bytes");
    f.evictions = 0;
    ck_assert(!advise_window(&f, ADVISE_CACHE_SIZE, &out));
    f.evictions = 10;
    f.requests = 10;
    ck_assert(!advise_window(&f, ADVISE_CACHE_SIZE, &out));
}
END_TEST

START_TEST(cache_ttl)
{
    plain();
    f.default_ttl = 10 * TICK_S;
    f.hits_life_twice = 700;
    f.hits_life_four = 710;
    ck_assert(advise_window(&f, ADVISE_CACHE_TTL, &out));
    ck_assert(fabs(out.improvement - 0.4) < 1e-9 && out.target == 20);
    f.hits_life_four = 800;
    ck_assert(advise_window(&f, ADVISE_CACHE_TTL, &out));
    ck_assert(fabs(out.improvement - 0.6) < 1e-9 && out.target == 40);
    f.changed = 5; /* of a hundred: it would serve what is old */
    ck_assert(!advise_window(&f, ADVISE_CACHE_TTL, &out));
    f.changed = f.looked = 0; /* nothing is known of that */
    ck_assert(!advise_window(&f, ADVISE_CACHE_TTL, &out));
}
END_TEST

START_TEST(memory)
{
    plain();
    f.bytes = f.max_bytes;
    f.hits_half = 499;
    ck_assert(advise_window(&f, ADVISE_MEMORY, &out));
    ck_assert(out.improvement == 0.5 && out.target == (double)f.max_bytes / 2);
    f.hits_half = 450;
    ck_assert(!advise_window(&f, ADVISE_MEMORY, &out));
    f.hits = f.hits_half = 0; /* random traffic: no size is right */
    ck_assert(!advise_window(&f, ADVISE_MEMORY, &out));
}
END_TEST

START_TEST(pool)
{
    plain();
    f.pool_wait = 60;
    ck_assert(!advise_window(&f, ADVISE_POOL, &out)); /* they wait for something else: all was never in use */
    f.pool_peak = 20;
    ck_assert(advise_window(&f, ADVISE_POOL, &out));
    ck_assert(fabs(out.improvement - 0.6) < 1e-9 && out.target == 25);
    f.pool_peak = 100; /* one step at a time: a third of those that wait find one */
    ck_assert(advise_window(&f, ADVISE_POOL, &out));
    ck_assert(fabs(out.improvement - 0.6 * 30 / 90) < 1e-9 && out.target == 40);
    f.pool_wait = 5;
    ck_assert(!advise_window(&f, ADVISE_POOL, &out));
}
END_TEST

START_TEST(retry)
{
    plain();
    f.recorded[1] = f.recorded_good[1] = 100;
    f.recorded[3] = 100;
    ck_assert(advise_window(&f, ADVISE_RETRY, &out));
    ck_assert(fabs(out.improvement - 0.5) < 1e-9 && out.target == 1); /* 400 attempts, then 200 */
    f.recorded_good[3] = 15;
    ck_assert(advise_window(&f, ADVISE_RETRY, &out));
    ck_assert(fabs(out.improvement - 0.25) < 1e-9 && out.target == 2);
    f.recorded_good[3] = 50; /* they do help */
    ck_assert(!advise_window(&f, ADVISE_RETRY, &out));
}
END_TEST

START_TEST(network_and_breaker)
{
    plain();
    f.connects = 400;
    f.connecting = 30;
    ck_assert(advise_window(&f, ADVISE_NETWORK, &out));
    ck_assert(fabs(out.improvement - 0.3) < 1e-9 && out.target == 60);
    f.connects = 50;
    ck_assert(!advise_window(&f, ADVISE_NETWORK, &out));
    f.breaker_saves = 8;
    f.failed = 100;
    ck_assert(!advise_window(&f, ADVISE_BREAKER, &out));
    f.breaker_enabled = false;
    ck_assert(advise_window(&f, ADVISE_BREAKER, &out));
    ck_assert(fabs(out.improvement - 0.8) < 1e-9);
}
END_TEST

START_TEST(batching)
{
    static const tick_t begun[] = {0, 1, 2, 10, 11, 20, 21, 22, 23, 24};
    ck_assert_uint_eq(advise_batches(begun, ARRAY_LEN(begun), 2, 50), 3);  /* 1-2, 21-23 */
    ck_assert_uint_eq(advise_batches(begun, ARRAY_LEN(begun), 100, 4), 6); /* 1-11, 21-24 */
    ck_assert_uint_eq(advise_batches(begun, ARRAY_LEN(begun), 0, 50), 0);
    ck_assert_uint_eq(advise_batches(begun, 0, 2, 50), 0);
    plain();
    f.recorded_calls = 100;
    f.batching_saves = 60;
    ck_assert(!advise_window(&f, ADVISE_BATCHING, &out)); /* on already, or not to be had */
    f.batching_possible = true;
    ck_assert(advise_window(&f, ADVISE_BATCHING, &out));
    ck_assert_double_eq_tol(out.improvement, 0.6, 1e-9);
}
END_TEST

START_TEST(windows)
{
    struct advise_track t = {0};
    struct advise_view view;
    struct advise_estimate one = {0.4, 10, 20, "pool.max_size"};
    advise_note(&t, &one);
    advise_note(&t, &one);
    ck_assert(!advise_look(&t, &view)); /* too few */
    advise_note(&t, &one);
    ck_assert(advise_look(&t, &view) && view.windows == 3);
    ck_assert(fabs(view.confidence - 0.8) < 1e-9 && fabs(view.estimate.improvement - 0.4) < 1e-9);
    for (int i = 0; i < 40; i++)
        advise_note(&t, &one);
    ck_assert(advise_look(&t, &view) && view.confidence > 0.9 && view.windows == ADVISE_WINDOWS);
    for (int i = 0; i < 7; i++)
        advise_note(&t, NULL);
    ck_assert(!advise_look(&t, &view)); /* windows disagree */
    one.current = 20;
    advise_note(&t, &one); /* the setting is another one: anew */
    ck_assert_uint_eq(t.count, 1);
    advise_forget(&t);
    one.improvement = 0.03;
    for (int i = 0; i < 12; i++)
        advise_note(&t, &one);
    ck_assert(!advise_look(&t, &view)); /* not worth it */
}
END_TEST

START_TEST(advice_that_is_for_others)
{
    f = (struct advise_facts){
        .requests = 100, .names_looked_up = 5, .lookup = 0.3, .connects = 10, .connecting = 1};
    ck_assert(advise_window(&f, ADVISE_DNS, &out));
    ck_assert_double_eq_tol(out.improvement, 0.75, 1e-9); /* of 0.3 s and 0.1 s */
    ck_assert_str_eq(out.key, "");
    f.lookup = 0.02;
    ck_assert(!advise_window(&f, ADVISE_DNS, &out)); /* quick enough */
    f.lookup = 0.3;
    f.names_looked_up = 2;
    ck_assert(!advise_window(&f, ADVISE_DNS, &out)); /* too few */
    f = (struct advise_facts){.requests = 100,
                              .received = 1000000,
                              .plain = 800000,
                              .plain_bodies = 100,
                              .sampled = 4096,
                              .sampled_smaller = 1024};
    ck_assert(advise_window(&f, ADVISE_COMPRESSION, &out));
    ck_assert_double_eq_tol(out.improvement, 0.8 * 0.75, 1e-9);
    f.sampled_smaller = 4090;
    ck_assert(!advise_window(&f, ADVISE_COMPRESSION, &out)); /* would not get smaller */
    f = (struct advise_facts){.requests = 100, .received = 1000000};
    ck_assert(!advise_window(&f, ADVISE_COMPRESSION, &out));
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("advise");
    tcase_add_test(t, nothing_for_nothing);
    tcase_add_test(t, cache_size);
    tcase_add_test(t, cache_ttl);
    tcase_add_test(t, memory);
    tcase_add_test(t, pool);
    tcase_add_test(t, retry);
    tcase_add_test(t, network_and_breaker);
    tcase_add_test(t, batching);
    tcase_add_test(t, windows);
    tcase_add_test(t, advice_that_is_for_others);
    return run_case("advise", t);
}
