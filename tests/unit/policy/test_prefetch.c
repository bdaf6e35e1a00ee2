/* Tests of policy/prefetch.c and policy/successor.c. */
#include "policy/prefetch.h"
#include "policy/rng.h"
#include "tests/unit/policy/harness.h"

static const struct successor_size small = {.keys = 64, .clients = 16};

START_TEST(learns_what_follows)
{
    struct successor_guess guess[4];
    struct successor *s = successor_new(&small);
    for (int i = 0; i < 4; i++) {
        successor_see(s, 1, 10, i);
        successor_see(s, 1, i < 3 ? 20 : 30, i);
    }
    successor_see(s, 1, 10, 9);
    ck_assert_uint_eq(successor_guess(s, 1, guess, 4), 2);
    ck_assert_uint_eq(guess[0].key, 20);
    ck_assert_uint_eq(guess[0].support, 3);
    ck_assert_double_eq_tol((double)guess[0].confidence, 0.75, 1e-6);
    ck_assert_uint_eq(guess[1].key, 30);
    ck_assert_uint_eq(successor_guess(s, 1, guess, 1), 1);
    ck_assert_uint_eq(guess[0].key, 20);
    ck_assert_uint_eq(successor_guess(s, 2, guess, 4), 0);
    successor_free(s);
}
END_TEST

/* Two clients that take turns: what follows across them is no sequence. */
START_TEST(clients_do_not_mix)
{
    struct successor_guess guess[4];
    struct successor *s = successor_new(&small);
    for (int i = 0; i < 20; i++)
        for (uint64_t key = 0; key < 3; key++) {
            successor_see(s, 1, 100 + key, 0);
            successor_see(s, 2, 200 + key, 0);
        }
    ck_assert_uint_eq(successor_guess(s, 1, guess, 4), 1);
    ck_assert_uint_eq(guess[0].key, 100);
    successor_free(s);
}
END_TEST

START_TEST(silence_ends_a_sequence)
{
    struct successor_guess guess[4];
    struct successor_size size = small;
    size.gap = 10 * TICK_S;
    struct successor *s = successor_new(&size);
    for (int i = 0; i < 3; i++) {
        successor_see(s, 1, 10, i * 100 * TICK_S);
        successor_see(s, 1, 20, i * 100 * TICK_S + 11 * TICK_S);
    }
    successor_see(s, 1, 10, 1000 * TICK_S);
    ck_assert_uint_eq(successor_guess(s, 1, guess, 4), 0);
    successor_free(s);
}
END_TEST

/* a x b, c x d: only the pair says what follows x. */
START_TEST(pairs_with_back_off)
{
    struct successor_guess guess[4];
    struct successor_size size = small;
    size.order_two = true;
    struct successor *s = successor_new(&size);
    for (int i = 0; i < 5; i++) {
        const uint64_t keys[] = {1, 9, 2, 3, 9, 4};
        for (size_t k = 0; k < ARRAY_LEN(keys); k++)
            successor_see(s, 1, keys[k], 0);
    }
    successor_see(s, 1, 1, 0);
    successor_see(s, 1, 9, 0);
    ck_assert_uint_eq(successor_guess(s, 1, guess, 4), 1);
    ck_assert_uint_eq(guess[0].key, 2);
    ck_assert_uint_eq(guess[0].order, 2);
    successor_see(s, 2, 9, 0); /* a client of whom one key is known */
    ck_assert_uint_eq(successor_guess(s, 2, guess, 4), 2);
    ck_assert_uint_eq(guess[0].order, 1);
    successor_free(s);
}
END_TEST

START_TEST(bounded_and_robust)
{
    struct successor_guess guess[4];
    struct rng rng;
    struct successor *s = successor_new(&(struct successor_size){0});
    size_t bytes = successor_bytes(s);
    rng_seed(&rng, 3);
    for (int i = 0; i < 200000; i++) {
        uint64_t client = rng_below(&rng, 100);
        successor_see(s, client, i % 2 ? rng_next(&rng) : rng_below(&rng, 40), i);
        unsigned n = successor_guess(s, client, guess, 4);
        must(n <= 4);
        for (unsigned k = 0; k < n; k++)
            must(guess[k].confidence > 0 && guess[k].confidence <= 1 && guess[k].support > 0);
    }
    must(successor_bytes(s) == bytes && bytes < 4096);
    successor_free(s);
    successor_free(NULL);
}
END_TEST

static unsigned ask(struct prefetch *p, uint64_t client, uint64_t key, tick_t now,
                    struct successor_guess *guess)
{
    struct prefetch_event event = {client, key, now, false};
    return prefetch_request(p, &event, guess, PREFETCH_MAX_GUESSES);
}

static unsigned miss(struct prefetch *p, uint64_t client, uint64_t key, tick_t now,
                     struct successor_guess *guess)
{
    struct prefetch_event event = {client, key, now, true};
    return prefetch_request(p, &event, guess, PREFETCH_MAX_GUESSES);
}

START_TEST(none_does_nothing)
{
    struct successor_guess guess[4];
    struct prefetch *p = prefetch_new(&(struct prefetch_settings){.strategy = PREFETCH_NONE, .max_load = 1});
    for (int i = 0; i < 100; i++)
        must(ask(p, 1, (uint64_t)i % 3, i, guess) == 0);
    must(!prefetch_issue(p, &(struct successor_guess){1, 1, 9, 1}, 0));
    prefetch_free(p);
    prefetch_free(NULL);
}
END_TEST

/* Used in part, wasted in part, counted once each. */
START_TEST(counts_honestly)
{
    struct successor_guess guess[4];
    struct prefetch_stats stats;
    struct prefetch *p =
        prefetch_new(&(struct prefetch_settings){.strategy = PREFETCH_ALWAYS, .max_load = 1});
    for (int i = 0; i < 3; i++)
        for (uint64_t key = 1; key <= 2; key++)
            ask(p, 1, key, i, guess);
    must(ask(p, 1, 1, 5, guess) == 1 && guess[0].key == 2);
    must(prefetch_issue(p, &guess[0], 5));
    ask(p, 1, 2, 6, guess);
    ask(p, 1, 2, 7, guess); /* its second use is an ordinary hit */
    must(prefetch_issue(p, &(struct successor_guess){3, 1, 2, 1}, 8));
    prefetch_evicted(p, 3);
    prefetch_evicted(p, 3);
    prefetch_failed(p, 77); /* never issued */
    prefetch_stats(p, 9, &stats);
    ck_assert_uint_eq(stats.issued, 2);
    ck_assert_uint_eq(stats.used, 1);
    ck_assert_uint_eq(stats.wasted, 1);
    prefetch_free(p);
}
END_TEST

/* A tenth of all that goes to the upstream, the prefetches included; what the cache answers gives nothing. */
START_TEST(the_bucket_holds)
{
    struct successor_guess guess[4];
    struct prefetch *p =
        prefetch_new(&(struct prefetch_settings){.strategy = PREFETCH_ALWAYS, .max_load = 0.1});
    unsigned issued = 0;
    for (int i = 0; i < 10000; i++) {
        miss(p, 1, (uint64_t)i, i, guess);
        ask(p, 1, (uint64_t)i, i, guess);
        issued += prefetch_issue(p, &(struct successor_guess){1000000 + (uint64_t)i, 1, 9, 1}, i);
    }
    must(issued >= 1100 && issued <= 1130);
    prefetch_free(p);
}
END_TEST

START_TEST(no_load_no_prefetch)
{
    struct successor_guess guess[4];
    struct prefetch *p =
        prefetch_new(&(struct prefetch_settings){.strategy = PREFETCH_ALWAYS, .max_load = 0});
    for (int i = 0; i < 100; i++)
        miss(p, 1, (uint64_t)i % 3, i, guess);
    must(!prefetch_issue(p, &(struct successor_guess){6, 1, 9, 1}, 0));
    must(prefetch_bytes(p) > (size_t)16384 * 56);
    prefetch_free(p);
}
END_TEST

/* A guess that the cache did not have when it was asked for was of no use. */
START_TEST(a_miss_is_no_use)
{
    struct successor_guess guess[4];
    struct prefetch_stats stats;
    struct prefetch *p =
        prefetch_new(&(struct prefetch_settings){.strategy = PREFETCH_ALWAYS, .max_load = 1});
    must(prefetch_issue(p, &(struct successor_guess){3, 1, 2, 1}, 0));
    miss(p, 1, 3, 1, guess);
    ask(p, 1, 3, 2, guess);
    prefetch_stats(p, 3, &stats);
    ck_assert_uint_eq(stats.used, 0);
    ck_assert_uint_eq(stats.wasted, 1);
    prefetch_free(p);
}
END_TEST

/* Where a client is put down, a sequence begins: what came before is not followed by it. */
START_TEST(a_client_put_down)
{
    struct successor_guess guess[4];
    struct successor *s = successor_new(&small);
    for (int i = 0; i < 4; i++) {
        successor_see(s, 1, 10, i);
        successor_stand(s, 1, 20, i);
        successor_see(s, 1, 30, i);
    }
    successor_see(s, 2, 20, 9);
    ck_assert_uint_eq(successor_guess(s, 2, guess, 4), 1);
    ck_assert_uint_eq(guess[0].key, 30);
    successor_see(s, 2, 10, 9);
    ck_assert_uint_eq(successor_guess(s, 2, guess, 4), 0);
    successor_free(s);
}
END_TEST

/* Guesses that fail: off before long, and for longer each time; back later. */
START_TEST(switches_itself_off)
{
    struct successor_guess guess[4];
    struct prefetch_stats stats;
    struct prefetch *p = prefetch_new(
        &(struct prefetch_settings){.strategy = PREFETCH_ADAPTIVE, .max_load = 1, .accuracy = 0.7});
    tick_t now = 0;
    unsigned issued = 0;
    for (int i = 0; i < 200; i++, now += TICK_MS) {
        struct successor_guess sure = {(uint64_t)i + 500, 1, 9, 1};
        ask(p, 1, 1, now, guess);
        if (prefetch_issue(p, &sure, now)) {
            issued++;
            prefetch_evicted(p, sure.key);
        }
    }
    prefetch_stats(p, now, &stats);
    must(stats.off && stats.switched_off == 1 && issued == 60 && stats.wasted == 60);
    now += 60 * TICK_S;
    prefetch_stats(p, now, &stats);
    must(!stats.off && stats.confidence > 0.85);
    prefetch_free(p);
}
END_TEST

/* Strategies change live, at any time. */
START_TEST(settings_change)
{
    struct successor_guess guess[4];
    struct rng rng;
    struct prefetch_settings set = {.max_load = 0.2, .accuracy = 0.7, .keys = 256, .clients = 16};
    struct prefetch *p = prefetch_new(&set);
    rng_seed(&rng, 5);
    for (int i = 0; i < 50000; i++) {
        if (i % 500 == 0) {
            set.strategy = (enum prefetch_strategy)rng_below(&rng, 4);
            prefetch_set(p, &set);
        }
        unsigned n = ask(p, rng_below(&rng, 5), (uint64_t)i % 17, i * TICK_MS, guess);
        must(n <= PREFETCH_MAX_GUESSES);
        for (unsigned k = 0; k < n; k++)
            if (prefetch_issue(p, &guess[k], i * TICK_MS) && rng_below(&rng, 2))
                prefetch_evicted(p, guess[k].key);
    }
    struct prefetch_stats stats;
    prefetch_stats(p, 50000 * TICK_MS, &stats);
    must(stats.issued >= stats.used + stats.wasted && stats.issued > 0);
    prefetch_free(p);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("prefetch");
    tcase_add_test(t, learns_what_follows);
    tcase_add_test(t, clients_do_not_mix);
    tcase_add_test(t, silence_ends_a_sequence);
    tcase_add_test(t, pairs_with_back_off);
    tcase_add_test(t, bounded_and_robust);
    tcase_add_test(t, none_does_nothing);
    tcase_add_test(t, counts_honestly);
    tcase_add_test(t, the_bucket_holds);
    tcase_add_test(t, no_load_no_prefetch);
    tcase_add_test(t, a_miss_is_no_use);
    tcase_add_test(t, a_client_put_down);
    tcase_add_test(t, switches_itself_off);
    tcase_add_test(t, settings_change);
    return run_case("policy/prefetch", t);
}
