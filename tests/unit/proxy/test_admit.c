/*
 * Tests of proxy/admit.c: the fast path of the concurrency limit is exact, nobody waits for ever, and who
 * shows no key is counted, and governed once an answer speaks of a limit.
 */
#include "proxy/admit.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "policy/rng.h"
#include "tests/unit/policy/config_fixture.h"
#include "tests/unit/policy/harness.h"

static struct fixture f;
static struct admit *a;
static const struct hash_key key = {1, 2};

static void begin(const char *const *flags)
{
    fixture_begin(&f);
    for (; flags && flags[0]; flags += 2)
        fixture_flag(&f, flags[0], flags[1]);
    fixture_good(&f);
    a = admit_new(f.cfg, key, TICK_S, 1000 * TICK_S);
    ck_assert_ptr_nonnull(a);
}

static void end(void)
{
    admit_free(a);
    fixture_end(&f);
}

static const char *const fixed_at_four[] = {"concurrency.mode",
                                            "fixed",
                                            "concurrency.max",
                                            "4",
                                            "concurrency.min",
                                            "1",
                                            "concurrency.queue_timeout",
                                            "10m",
                                            NULL};

/* ---- the place at the upstream, from many threads ---------------------------------------------------------
 */

enum { THREADS = 8, EACH = 20000, LIMIT = 4 };
static _Atomic int inside, most;
static _Atomic uint64_t waited;

struct seat {
    struct admit_ticket t; /* first */
    _Atomic bool woken;
};

static void woken(struct admit_ticket *t)
{
    atomic_store(&((struct seat *)(void *)t)->woken, true);
}

static void wait_for_turn(struct seat *s)
{
    tick_t at;
    atomic_fetch_add(&waited, 1);
    while (!atomic_load(&s->woken))
        sched_yield();
    enum admit_verdict v = admit_turn(a, &s->t, true, &at, 2 * TICK_S);
    must(v == ADMIT_GO);
}

static void *come_and_go(void *arg)
{
    struct rng rng;
    rng_seed(&rng, (uint64_t)(uintptr_t)arg);
    for (int i = 0; i < EACH; i++) {
        struct seat s = {.t = {.wake = woken}};
        tick_t at;
        enum admit_verdict v = admit_limit(a, &s.t, TICK_NEVER, &at, 2 * TICK_S);
        must(v != ADMIT_REFUSED);
        if (v == ADMIT_WAIT)
            wait_for_turn(&s);
        int n = atomic_fetch_add(&inside, 1) + 1, m = atomic_load(&most);
        while (n > m && !atomic_compare_exchange_weak(&most, &m, n))
            ;
        if (rng_below(&rng, 8) == 0)
            sched_yield();
        while (atomic_load(&waited) == 0) /* on a quick machine nobody might ever meet another */
            sched_yield();
        atomic_fetch_sub(&inside, 1);
        admit_end(a, &s.t, rng_below(&rng, 3) ? OUTCOME_OK : OUTCOME_THROTTLED, &(struct quota_answer){0},
                  TICK_MS, 2 * TICK_S);
    }
    return NULL;
}

START_TEST(never_more_than_the_limit_and_nobody_is_forgotten)
{
    begin(fixed_at_four);
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, come_and_go, (void *)(uintptr_t)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    ck_assert_int_le(atomic_load(&most), LIMIT);
    ck_assert_uint_gt(atomic_load(&waited), 0);
    struct seat s[LIMIT + 1] = {0};
    tick_t at;
    for (int i = 0; i < LIMIT; i++) /* all places are free again, and no more */
        ck_assert_int_eq(admit_limit(a, &s[i].t, TICK_NEVER, &at, 2 * TICK_S), ADMIT_GO);
    ck_assert_int_eq(admit_limit(a, &s[LIMIT].t, TICK_NEVER, &at, 2 * TICK_S), ADMIT_WAIT);
    end();
}
END_TEST

START_TEST(what_is_gathered_teaches_the_limit)
{
    begin(NULL); /* adaptive: Little's law of ten in flight at 100 ms */
    struct admit_ticket t[10] = {0};
    tick_t at, now = 2 * TICK_S;
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 10; i++) {
            ck_assert_int_eq(admit_limit(a, &t[i], TICK_NEVER, &at, now), ADMIT_GO);
            t[i].wake = woken;
        }
        now += 100 * TICK_MS;
        for (int i = 0; i < 10; i++)
            admit_end(a, &t[i], OUTCOME_OK, &(struct quota_answer){0}, 100 * TICK_MS, now);
    }
    int limit = admit_concurrency_limit(a);
    ck_assert_msg(limit >= 10 && limit <= 3 * 11 + 20, "limit %d", limit);
    end();
}
END_TEST

/* ---- keys -------------------------------------------------------------------------------------------------
 */

static enum admit_verdict ask(struct admit_ticket *t, const char *credential, struct admit_memo *memo,
                              tick_t now)
{
    tick_t at;
    struct admit_call call = {.credential = {credential, strlen(credential)},
                              .flow = 1,
                              .deadline = TICK_NEVER,
                              .wall = 1000 * TICK_S,
                              .memo = memo};
    *t = (struct admit_ticket){.wake = woken};
    return admit_quota(a, t, &call, &at, now);
}

static void answered(struct admit_ticket *t, int64_t left, tick_t now)
{
    struct rate_reading r = {.retry_after = -1, .date = -1};
    if (left >= 0) {
        r.count = 1;
        r.window[0] = (struct rate_window){RATE_KEY_HOUR, 100, left, 900 * TICK_S, 3600 * TICK_S, false};
    }
    struct quota_answer answer = {.charged = true, .sent_at = now, .reading = &r};
    admit_end(a, t, OUTCOME_OK, &answer, TICK_MS, now);
}

START_TEST(a_memory_does_not_mix_keys_up)
{
    begin((const char *const[]){"rate_limit.max_wait", "0", NULL});
    struct admit_memo memo = {0};
    struct admit_ticket t;
    tick_t now = 2 * TICK_S;
    ck_assert_int_eq(ask(&t, "Bearer one", &memo, now), ADMIT_GO);
    answered(&t, 0, now);
    ck_assert_int_eq(ask(&t, "Bearer one", &memo, now), ADMIT_REFUSED);
    ck_assert_int_eq(ask(&t, "Bearer two", &memo, now), ADMIT_GO);
    answered(&t, -1, now);
    ck_assert_int_eq(ask(&t, "Bearer one", NULL, now), ADMIT_REFUSED);
    char longer[200];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    ck_assert_int_eq(ask(&t, longer, &memo, now), ADMIT_GO);
    answered(&t, 0, now);
    ck_assert_int_eq(ask(&t, longer, &memo, now), ADMIT_REFUSED);
    ck_assert_int_eq(ask(&t, "Bearer one", &memo, now), ADMIT_REFUSED);
    end();
}
END_TEST

START_TEST(without_a_key_all_go_and_news_are_heard)
{
    begin(NULL);
    struct admit_ticket t, first, second;
    struct admit_left left[QUOTA_WINDOWS];
    tick_t now = 2 * TICK_S;
    ck_assert_int_eq(ask(&first, "", NULL, now), ADMIT_GO);
    ck_assert_int_eq(ask(&second, "", NULL, now), ADMIT_GO);
    answered(&first, -1, now);
    ck_assert_int_eq(admit_left(a, left, QUOTA_WINDOWS, now), 0);
    answered(&second, 7, now); /* from here on it has a governor, which shows what is left */
    ck_assert_int_eq(admit_left(a, left, QUOTA_WINDOWS, now), 1);
    ck_assert_int_eq(left[0].left, 7);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(ask(&t, "", NULL, now), ADMIT_GO); /* and holds nobody back */
        answered(&t, 0, now);
    }
    ck_assert_int_eq(ask(&t, "", NULL, now), ADMIT_GO);
    admit_leave(a, &t, 0, now);
    end();
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("admit");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, never_more_than_the_limit_and_nobody_is_forgotten);
    tcase_add_test(t, what_is_gathered_teaches_the_limit);
    tcase_add_test(t, a_memory_does_not_mix_keys_up);
    tcase_add_test(t, without_a_key_all_go_and_news_are_heard);
    return run_case("proxy/admit", t);
}
