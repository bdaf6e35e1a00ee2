/*
 * Tests of proxy/permits.c: never more than the limit, first come first served over all workers, and no
 * permit lost or made. The workers' pools are counters here.
 */
#include "proxy/permits.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>

#include "proxy/pool.h"
#include "tests/unit/policy/harness.h"

enum { WORKERS = 4, EACH = 20000, LIMIT = 3 };
static char desk[WORKERS]; /* their addresses stand for workers */
static _Atomic int granted[WORKERS];

static struct worker *worker(int i)
{
    return (struct worker *)(void *)&desk[i];
}

/* In the place of the pool's. */
void pool_grant(struct worker *w)
{
    atomic_fetch_add(&granted[(char *)(void *)w - desk], 1);
}

static struct permits *p;

static void begin(unsigned max)
{
    for (int i = 0; i < WORKERS; i++)
        atomic_store(&granted[i], 0);
    p = permits_new(max);
    ck_assert_ptr_nonnull(p);
}

START_TEST(up_to_the_limit_and_no_further)
{
    begin(2);
    ck_assert(permits_take(p) && permits_take(p) && !permits_take(p));
    ck_assert_uint_eq(permits_held(p), 2);
    permits_give(p);
    ck_assert_uint_eq(permits_held(p), 1);
    ck_assert(permits_take(p) && !permits_take(p));
    ck_assert(!permits_awaited(p));
    permits_free(p);
    permits_free(NULL);
}
END_TEST

START_TEST(who_waits_is_served_in_order)
{
    struct ticket t[3] = {0};
    begin(1);
    ck_assert(permits_take(p));
    for (int i = 0; i < 3; i++)
        permits_wait(p, &t[i], worker(i));
    ck_assert_uint_eq(permits_waiting(p), 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(atomic_load(&granted[i]), 0);
        permits_give(p);
        ck_assert_int_eq(atomic_load(&granted[i]), 1);
        ck_assert_uint_eq(permits_held(p), 1); /* it changed hands */
        ck_assert(!t[i].queued);
    }
    permits_give(p);
    ck_assert_uint_eq(permits_held(p), 0);
    permits_free(p);
}
END_TEST

START_TEST(nobody_passes_those_who_wait)
{
    struct ticket t = {0}, late = {0};
    begin(1);
    ck_assert(permits_take(p));
    permits_wait(p, &t, worker(0));
    permits_set_max(p, 2); /* a second permit: it is the waiting one's */
    ck_assert_int_eq(atomic_load(&granted[0]), 1);
    ck_assert(!permits_take(p));
    permits_wait(p, &late, worker(1));
    permits_leave(p, &late);
    permits_leave(p, &late); /* no harm */
    permits_leave(p, &t);    /* it was served: no harm either */
    permits_give(p);
    ck_assert_int_eq(atomic_load(&granted[1]), 0);
    ck_assert(permits_take(p));
    permits_free(p);
}
END_TEST

START_TEST(one_that_leaves_from_the_middle)
{
    struct ticket t[3] = {0};
    begin(1);
    ck_assert(permits_take(p));
    for (int i = 0; i < 3; i++)
        permits_wait(p, &t[i], worker(i));
    permits_leave(p, &t[1]);
    permits_give(p);
    permits_give(p);
    ck_assert(granted[0] == 1 && granted[1] == 0 && granted[2] == 1);
    ck_assert_uint_eq(permits_waiting(p), 0);
    permits_free(p);
}
END_TEST

START_TEST(a_free_place_is_given_at_once)
{
    struct ticket t = {0};
    begin(1);
    permits_wait(p, &t, worker(3));
    ck_assert(granted[3] == 1 && permits_held(p) == 1 && !permits_awaited(p));
    permits_free(p);
}
END_TEST

START_TEST(a_connection_is_passed_on)
{
    struct ticket ours = {0}, theirs = {0}, *mine = &ours;
    begin(1);
    ck_assert(permits_take(p));
    ck_assert(!permits_pass_on(p, worker(0), &mine) && !mine); /* nobody waits */
    permits_wait(p, &theirs, worker(1));
    permits_wait(p, &ours, worker(0));
    ck_assert(permits_pass_on(p, worker(0), &mine) && !mine);
    ck_assert(granted[1] == 1 && permits_held(p) == 1);
    ck_assert(!permits_pass_on(p, worker(0), &mine));
    ck_assert_ptr_eq(mine, &ours);
    ck_assert(granted[0] == 0 && !ours.queued &&
              !permits_awaited(p)); /* it is served with the connection itself */
    permits_free(p);
}
END_TEST

START_TEST(a_lower_limit_cuts_nobody)
{
    struct ticket t = {0};
    begin(3);
    ck_assert(permits_take(p) && permits_take(p) && permits_take(p));
    permits_set_max(p, 1);
    ck_assert(permits_held(p) == 3 && permits_max(p) == 1);
    permits_wait(p, &t, worker(0));
    permits_give(p);
    permits_give(p);
    ck_assert_int_eq(granted[0], 0);
    permits_give(p);
    ck_assert(granted[0] == 1 && permits_held(p) == 1);
    permits_free(p);
}
END_TEST

/* ---- many threads
 * ------------------------------------------------------------------------------------------ */

static _Atomic int inside, most;

static void *turns(void *arg)
{
    int i = (int)(intptr_t)arg;
    for (int n = 0; n < EACH; n++) {
        if (!permits_take(p)) {
            struct ticket t = {0};
            permits_wait(p, &t, worker(i));
            while (atomic_load(&granted[i]) == 0)
                sched_yield();
            atomic_fetch_sub(&granted[i], 1);
        }
        int now = atomic_fetch_add(&inside, 1) + 1, before = atomic_load(&most);
        while (now > before && !atomic_compare_exchange_weak(&most, &before, now))
            continue;
        atomic_fetch_sub(&inside, 1);
        permits_give(p);
    }
    return NULL;
}

START_TEST(from_many_threads)
{
    pthread_t thread[WORKERS];
    begin(LIMIT);
    for (intptr_t i = 0; i < WORKERS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, turns, (void *)i), 0);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(thread[i], NULL);
    ck_assert_int_le(most, LIMIT);
    ck_assert_uint_eq(permits_held(p), 0);
    ck_assert_uint_eq(permits_waiting(p), 0);
    permits_free(p);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, up_to_the_limit_and_no_further);
    tcase_add_test(tc, who_waits_is_served_in_order);
    tcase_add_test(tc, nobody_passes_those_who_wait);
    tcase_add_test(tc, one_that_leaves_from_the_middle);
    tcase_add_test(tc, a_free_place_is_given_at_once);
    tcase_add_test(tc, a_connection_is_passed_on);
    tcase_add_test(tc, a_lower_limit_cuts_nobody);
    tcase_add_test(tc, from_many_threads);
    return run_case("permits", tc);
}
