/* Tests of policy/wheel.c: examples, and random operations against a plain table of due times. */
#include "policy/rng.h"
#include "policy/wheel.h"
#include "tests/unit/policy/harness.h"
#include <string.h>

static struct wheel w;

START_TEST(fires_when_due_and_not_before)
{
    struct wheel_timer t = {0};
    wheel_init(&w, 1000 * TICK_S);
    ck_assert(!wheel_linked(&t));
    ck_assert_int_eq(wheel_next_due(&w), TICK_NEVER);
    wheel_set(&w, &t, 1000 * TICK_S + 5 * TICK_MS + 1);
    ck_assert(wheel_armed(&t));
    ck_assert_int_eq(wheel_next_due(&w), 1000 * TICK_S + 6 * TICK_MS);
    ck_assert_ptr_null(wheel_expire(&w, 1000 * TICK_S + 5 * TICK_MS + 1));
    ck_assert_ptr_null(wheel_expire(&w, 1000 * TICK_S + 6 * TICK_MS - 1));
    ck_assert_ptr_eq(wheel_expire(&w, 1000 * TICK_S + 6 * TICK_MS), &t);
    ck_assert(!wheel_linked(&t));
    ck_assert_ptr_null(wheel_expire(&w, 1000 * TICK_S + 6 * TICK_MS));
    ck_assert_uint_eq(w.count, 0);
}
END_TEST

START_TEST(past_due_fires_at_once)
{
    struct wheel_timer a = {0}, b = {0}, c = {0};
    wheel_init(&w, TICK_S);
    wheel_set(&w, &a, 0);
    wheel_set(&w, &b, -5);
    wheel_set(&w, &c, TICK_S);
    ck_assert(wheel_next_due(&w) <= TICK_S);
    int n = 0;
    while (wheel_expire(&w, TICK_S))
        n++;
    ck_assert_int_eq(n, 3);
}
END_TEST

START_TEST(push_back_is_lazy)
{
    struct wheel_timer t = {0};
    wheel_init(&w, 0);
    wheel_set(&w, &t, 10 * TICK_MS);
    struct wheel_link where = t.link;
    wheel_set(&w, &t, 30 * TICK_S);
    ck_assert_mem_eq(&where, &t.link, sizeof where); /* a store and no more */
    ck_assert_int_eq(t.due, 30 * TICK_S);
    ck_assert_ptr_null(wheel_expire(&w, 11 * TICK_MS)); /* its slot came up: it moved */
    ck_assert(wheel_linked(&t));
    ck_assert_ptr_null(wheel_expire(&w, 30 * TICK_S - 1));
    ck_assert_ptr_eq(wheel_expire(&w, 30 * TICK_S), &t);
}
END_TEST

START_TEST(earlier_due_moves_at_once)
{
    struct wheel_timer t = {0};
    wheel_init(&w, 0);
    wheel_set(&w, &t, 3600 * TICK_S);
    wheel_set(&w, &t, 3 * TICK_MS);
    ck_assert_int_eq(wheel_next_due(&w), 3 * TICK_MS);
    ck_assert_ptr_eq(wheel_expire(&w, 3 * TICK_MS), &t);
}
END_TEST

START_TEST(pushed_back_then_pulled_forward)
{
    struct wheel_timer t = {0};
    wheel_init(&w, 0);
    wheel_set(&w, &t, 10 * TICK_MS);
    wheel_set(&w, &t, 100 * TICK_MS);
    wheel_set(&w, &t, 50 * TICK_MS); /* still later than where it lies */
    ck_assert_ptr_null(wheel_expire(&w, 49 * TICK_MS));
    ck_assert_ptr_eq(wheel_expire(&w, 50 * TICK_MS), &t);
}
END_TEST

START_TEST(never_disarms_and_leaves)
{
    struct wheel_timer t = {0};
    wheel_init(&w, 0);
    wheel_set(&w, &t, TICK_NEVER);
    ck_assert(!wheel_linked(&t));
    wheel_set(&w, &t, 10 * TICK_MS);
    wheel_set(&w, &t, TICK_NEVER);
    ck_assert(wheel_linked(&t));
    ck_assert(!wheel_armed(&t));
    ck_assert_ptr_null(wheel_expire(&w, TICK_S));
    ck_assert(!wheel_linked(&t));
    ck_assert_int_eq(wheel_next_due(&w), TICK_NEVER);
}
END_TEST

START_TEST(far_away)
{
    struct wheel_timer t = {0}, u = {0}, v = {0};
    tick_t day = 86400 * TICK_S;
    wheel_init(&w, 12345 * TICK_MS);
    wheel_set(&w, &t, 3 * day);
    wheel_set(&w, &u, 400 * day);
    wheel_set(&w, &v, TICK_NEVER - 1);
    int turns = 0;
    tick_t at = 0;
    for (tick_t due; (due = wheel_next_due(&w)) <= 500 * day; turns++) {
        struct wheel_timer *x = wheel_expire(&w, due);
        if (x == &t)
            at = due;
        if (x == &u)
            break;
    }
    ck_assert_int_eq(at, 3 * day);
    ck_assert_int_eq(wheel_next_due(&w) > 400 * day, 1);
    ck_assert_int_lt(turns, 3000); /* one a 4.7 h */
    wheel_cancel(&w, &v);
    ck_assert_uint_eq(w.count, 0);
}
END_TEST

START_TEST(a_year_in_one_step)
{
    struct wheel_timer t[50] = {0};
    wheel_init(&w, 0);
    for (int i = 0; i < 50; i++)
        wheel_set(&w, &t[i], (tick_t)(i + 1) * i * i * i * TICK_S);
    int n = 0;
    while (wheel_expire(&w, 366 * 86400 * TICK_S))
        n++;
    ck_assert_int_eq(n, 50);
}
END_TEST

START_TEST(step_back_of_the_clock_is_harmless)
{
    struct wheel_timer t = {0}, u = {0};
    wheel_init(&w, 100 * TICK_S);
    ck_assert_ptr_null(wheel_expire(&w, 200 * TICK_S));
    wheel_set(&w, &t, 150 * TICK_S);
    wheel_set(&w, &u, 201 * TICK_S);
    ck_assert_ptr_eq(wheel_expire(&w, 120 * TICK_S), &t); /* ends, and finds what is surely over */
    ck_assert_ptr_null(wheel_expire(&w, 120 * TICK_S));
    ck_assert_ptr_eq(wheel_expire(&w, 201 * TICK_S), &u);
}
END_TEST

START_TEST(cancel_and_set_between_expiries)
{
    struct wheel_timer t[10] = {0};
    wheel_init(&w, 0);
    for (int i = 0; i < 10; i++)
        wheel_set(&w, &t[i], 5 * TICK_MS);
    struct wheel_timer *first = wheel_expire(&w, 5 * TICK_MS);
    ck_assert_ptr_nonnull(first);
    for (int i = 0; i < 10; i++)
        if (&t[i] != first)
            wheel_cancel(&w, &t[i]);
    wheel_cancel(&w, first); /* at rest already */
    wheel_set(&w, first, 5 * TICK_MS);
    ck_assert_ptr_eq(wheel_expire(&w, 5 * TICK_MS), first);
    ck_assert_ptr_null(wheel_expire(&w, 5 * TICK_MS));
    ck_assert_uint_eq(w.count, 0);
    for (int l = 0; l < WHEEL_LEVELS; l++)
        ck_assert_uint_eq(w.used[l], 0);
}
END_TEST

/* --- Random operations against a table. --- */

enum { TIMERS = 64 };

static struct {
    struct wheel_timer timer;
    tick_t due; /* TICK_NEVER: not armed */
} item[TIMERS];

static tick_t some_delay(struct rng *r)
{
    switch (rng_below(r, 6)) {
    case 0:
        return rng_range(r, -5 * TICK_MS, 5 * TICK_MS);
    case 1:
        return rng_range(r, 0, 64 * TICK_MS);
    case 2:
        return rng_range(r, 0, 5 * TICK_S);
    case 3:
        return rng_range(r, 0, 600 * TICK_S);
    case 4:
        return (tick_t)64 * rng_range(r, 0, 70) * TICK_MS; /* on the edges of slots */
    default:
        return rng_range(r, 0, 20000 * TICK_S);
    }
}

static tick_t first_due(void)
{
    tick_t first = TICK_NEVER;
    for (int i = 0; i < TIMERS; i++)
        if (item[i].due < first)
            first = item[i].due;
    return first;
}

/* Expires to `now`, with random cancels and sets in between; every one that fires must be due, and none left
 * over. */
static void expire_all(struct rng *r, tick_t now)
{
    for (struct wheel_timer *t; (t = wheel_expire(&w, now));) {
        int i = (int)(((char *)t - (char *)item) / (ptrdiff_t)sizeof item[0]);
        must(item[i].due <= now); /* else: fired too early */
        item[i].due = TICK_NEVER;
        int j = (int)rng_below(r, TIMERS);
        if (rng_below(r, 4) == 0) {
            wheel_cancel(&w, &item[j].timer);
            item[j].due = TICK_NEVER;
        } else if (rng_below(r, 4) == 0) {
            item[j].due = now + 1 + rng_range(r, 0, 100 * TICK_MS);
            wheel_set(&w, &item[j].timer, item[j].due);
        }
    }
    tick_t first = first_due();
    must(first > now - TICK_MS); /* else: one was forgotten */
}

static void random_step(struct rng *r, tick_t *now)
{
    int i = (int)rng_below(r, TIMERS);
    switch (rng_below(r, 8)) {
    case 0:
        wheel_cancel(&w, &item[i].timer);
        item[i].due = TICK_NEVER;
        break;
    case 1:
        *now += rng_below(r, 10) ? rng_range(r, 0, 100 * TICK_MS) : some_delay(r) + 5 * TICK_MS;
        expire_all(r, *now);
        break;
    case 2: { /* to the time that the wheel itself asks for */
        tick_t due = wheel_next_due(&w), first = first_due();
        must(first == TICK_NEVER || due < first + TICK_MS || due <= *now); /* else: asks too late */
        if (due != TICK_NEVER && due > *now)
            *now = due;
        expire_all(r, *now);
        break;
    }
    case 3:
        item[i].due = TICK_NEVER;
        wheel_set(&w, &item[i].timer, TICK_NEVER);
        break;
    default:
        item[i].due = *now + some_delay(r);
        if (item[i].due < 0)
            item[i].due = 0;
        wheel_set(&w, &item[i].timer, item[i].due);
    }
}

static void check_bits(void)
{
    size_t count = 0;
    for (int list = 0; list < WHEEL_LEVELS * WHEEL_SLOTS + 2; list++) {
        struct wheel_link *head = &w.slot[list];
        bool some = head->next != head;
        if (list < WHEEL_LEVELS * WHEEL_SLOTS)
            must(((w.used[list / WHEEL_SLOTS] >> (list % WHEEL_SLOTS)) & 1) == some);
        for (struct wheel_link *l = head->next; l != head; l = l->next) {
            must(l->next->prev == l);
            count++;
        }
    }
    ck_assert_uint_eq(count, w.count);
}

START_TEST(random_operations_against_a_table)
{
    struct rng r;
    rng_seed(&r, 1000 + (uint64_t)_i);
    tick_t now = rng_range(&r, 0, 1000000 * TICK_S);
    wheel_init(&w, now);
    memset(item, 0, sizeof item);
    for (int i = 0; i < TIMERS; i++)
        item[i].due = TICK_NEVER;
    for (int step = 0; step < 3000; step++) {
        random_step(&r, &now);
        for (int i = 0; i < TIMERS; i++)
            must((item[i].due != TICK_NEVER) == wheel_armed(&item[i].timer));
        if (step % 50 == 0)
            check_bits();
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("wheel");
    tcase_add_test(t, fires_when_due_and_not_before);
    tcase_add_test(t, past_due_fires_at_once);
    tcase_add_test(t, push_back_is_lazy);
    tcase_add_test(t, earlier_due_moves_at_once);
    tcase_add_test(t, pushed_back_then_pulled_forward);
    tcase_add_test(t, never_disarms_and_leaves);
    tcase_add_test(t, far_away);
    tcase_add_test(t, a_year_in_one_step);
    tcase_add_test(t, step_back_of_the_clock_is_harmless);
    tcase_add_test(t, cancel_and_set_between_expiries);
    tcase_add_loop_test(t, random_operations_against_a_table, 0, 50);
    return run_case("policy/wheel", t);
}
