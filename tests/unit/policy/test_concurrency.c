/*
 * Tests of policy/concurrency.c: nobody is held back in health, the floor, the queue's order, deadlines, and
 * random events against the counts. What the limit reaches over time is tests/sim/scenarios'.
 */
#include "policy/concurrency.h"
#include "policy/rng.h"
#include "tests/unit/policy/harness.h"

#include <string.h>

static struct concurrency c;
static struct concurrency_rules rules;
static tick_t now;
static struct {
    struct concurrency_waiter *w;
    bool go;
} woken[64];
static int wakes;

static void wake(struct concurrency_waiter *w, bool go, void *arg)
{
    (void)arg;
    must(!w->queued);
    woken[wakes % 64].w = w;
    woken[wakes++ % 64].go = go;
}

static void setup(void)
{
    now = 1000 * TICK_S;
    wakes = 0;
    rules = (struct concurrency_rules){CONCURRENCY_ADAPTIVE, 4, 1000, TICK_S};
    concurrency_init(&c, &rules, now);
}

static enum concurrency_verdict ask(struct concurrency_waiter *w)
{
    return concurrency_ask(&c, w, TICK_NEVER, wake, NULL, now);
}

static void fixed(int n)
{
    rules.mode = CONCURRENCY_FIXED;
    rules.max = n;
    concurrency_tune(&c, &rules);
}

/* So many calls a second of so long, for some seconds. */
static void traffic(int rate, tick_t took, enum outcome outcome, int seconds)
{
    struct concurrency_waiter w;
    int held = (int)((int64_t)rate * took / TICK_S) + 1;
    for (int i = 0; i < held; i++) {
        memset(&w, 0, sizeof w);
        if (ask(&w) == CONCURRENCY_WAIT)
            concurrency_leave(&c, &w);
    }
    for (int i = 0; i < rate * seconds; i++) {
        now += TICK_S / rate;
        concurrency_end(&c, outcome, took, now);
        for (int k = 0; k < 2 && c.in_flight < held; k++) {
            memset(&w, 0, sizeof w);
            if (ask(&w) == CONCURRENCY_WAIT)
                concurrency_leave(&c, &w);
        }
    }
    while (c.in_flight)
        concurrency_end(&c, OUTCOME_LOCAL, 0, now);
}

START_TEST(holds_nobody_back_before_it_knows)
{
    struct concurrency_waiter w[900] = {0};
    for (int i = 0; i < 900; i++)
        must(ask(&w[i]) == CONCURRENCY_GO);
    ck_assert_int_eq(c.in_flight, 900);
}
END_TEST

START_TEST(health_is_the_floor)
{
    traffic(500, 100 * TICK_MS, OUTCOME_OK, 10); /* X.W = 50 */
    ck_assert(c.healthy > 40 && c.healthy < 60);
    ck_assert_int_ge(concurrency_limit(&c), 60);
    ck_assert_int_le(concurrency_limit(&c), 100); /* 1.5 h + 5 */
    traffic(100, 500 * TICK_MS, OUTCOME_RESPONSE_TIMEOUT,
            1); /* nothing is answered: a few find out how it goes on */
    ck_assert_int_ge(concurrency_limit(&c), (int)(0.25 * c.healthy));
    ck_assert_int_le(concurrency_limit(&c), (int)(0.5 * c.healthy));
    traffic(100, 500 * TICK_MS, OUTCOME_RESPONSE_TIMEOUT, 60); /* nothing is answered at all: down to min */
    ck_assert_int_eq(concurrency_limit(&c), 4);
    traffic(500, 100 * TICK_MS, OUTCOME_OK, 20);
    ck_assert_int_ge(concurrency_limit(&c), 40);
}
END_TEST

START_TEST(throttling_and_refused_keys_are_no_load)
{
    traffic(500, 100 * TICK_MS, OUTCOME_OK, 10);
    int before = concurrency_limit(&c);
    traffic(500, 100 * TICK_MS, OUTCOME_THROTTLED, 5);
    traffic(500, 100 * TICK_MS, OUTCOME_BAD_CREDENTIALS, 5);
    ck_assert_int_ge(concurrency_limit(&c), before);
}
END_TEST

START_TEST(fixed_and_off)
{
    struct concurrency_waiter w[4] = {0};
    fixed(2);
    ck_assert_int_eq(ask(&w[0]), CONCURRENCY_GO);
    ck_assert_int_eq(ask(&w[1]), CONCURRENCY_GO);
    ck_assert_int_eq(ask(&w[2]), CONCURRENCY_WAIT);
    rules.mode = CONCURRENCY_OBSERVE;
    ck_assert_int_eq(concurrency_turn(&c, wake, NULL, now), TICK_NEVER);
    ck_assert(wakes == 1 && woken[0].w == &w[2] && woken[0].go);
    ck_assert_int_eq(ask(&w[3]), CONCURRENCY_GO);
    ck_assert_int_eq(c.in_flight, 4);
}
END_TEST

START_TEST(first_come_first_served)
{
    struct concurrency_waiter w[5] = {0};
    fixed(1);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(ask(&w[i]), i ? CONCURRENCY_WAIT : CONCURRENCY_GO);
    concurrency_end(&c, OUTCOME_OK, TICK_MS, now);
    ck_assert_int_eq(concurrency_turn(&c, wake, NULL, now), now + TICK_S);
    ck_assert(wakes == 1 && woken[0].w == &w[1] && woken[0].go);
    concurrency_leave(&c, &w[2]);
    concurrency_leave(&c, &w[2]);
    concurrency_end(&c, OUTCOME_OK, TICK_MS, now);
    (void)concurrency_turn(&c, wake, NULL, now);
    ck_assert_ptr_eq(woken[1].w, &w[3]);
}
END_TEST

START_TEST(newest_first_when_the_queue_stands)
{
    struct concurrency_waiter w[5] = {0};
    fixed(1);
    for (int i = 0; i < 4; i++) {
        (void)ask(&w[i]);
        now += 10 * TICK_MS;
    }
    (void)concurrency_turn(&c, wake, NULL, now);
    now += 110 * TICK_MS;
    concurrency_end(&c, OUTCOME_OK, TICK_MS, now);
    (void)concurrency_turn(&c, wake, NULL, now);
    ck_assert(wakes == 1 && woken[0].w == &w[3] && woken[0].go);
    now += 2 * TICK_S; /* the others' time is over */
    ck_assert_int_eq(concurrency_turn(&c, wake, NULL, now), TICK_NEVER);
    ck_assert_int_eq(wakes, 3);
    ck_assert(!woken[1].go && !woken[2].go && woken[1].w == &w[1]);
}
END_TEST

START_TEST(who_cannot_be_answered_in_time_does_not_wait)
{
    struct concurrency_waiter w[3] = {0};
    fixed(1);
    c.usual = 0.2;
    ck_assert_int_eq(ask(&w[0]), CONCURRENCY_GO);
    ck_assert_int_eq(concurrency_ask(&c, &w[1], now + 100 * TICK_MS, wake, NULL, now), CONCURRENCY_REFUSED);
    ck_assert_int_eq(concurrency_ask(&c, &w[1], now + 500 * TICK_MS, wake, NULL, now), CONCURRENCY_WAIT);
    ck_assert_int_eq(w[1].until, now + 300 * TICK_MS);
    rules.queue_timeout = 0;
    ck_assert_int_eq(ask(&w[2]), CONCURRENCY_REFUSED);
}
END_TEST

START_TEST(a_full_queue_refuses_its_oldest)
{
    static struct concurrency_waiter w[200];
    memset(w, 0, sizeof w);
    fixed(1);
    c.usual = 10; /* nobody is worked off within a second: least room, 16 */
    for (int i = 0; i < 40; i++) {
        must(ask(&w[i]) == (i ? CONCURRENCY_WAIT : CONCURRENCY_GO));
        must(c.waiting <= 16);
    }
    ck_assert_int_eq(wakes, 39 - 16);
    ck_assert(woken[0].w == &w[1] && !woken[0].go);
    ck_assert_int_ge(concurrency_retry_after(&c), TICK_S);
}
END_TEST

/* Random events: the counts agree with what was told, and who waits is always let go or refused in the end.
 */
enum { SLOTS = 64 };
static struct concurrency_waiter slot[SLOTS];
static int place[SLOTS]; /* 0 idle, 1 waits, 2 in flight */

static void wake_slot(struct concurrency_waiter *w, bool go, void *arg)
{
    (void)arg;
    must(place[w - slot] == 1);
    place[w - slot] = go ? 2 : 0;
}

static void one_event(struct rng *rng)
{
    int i = (int)rng_below(rng, SLOTS), flying = 0, waiting = 0;
    now += rng_range(rng, 0, 30 * TICK_MS);
    if (place[i] == 0) {
        place[i] = 1;
        tick_t deadline = rng_below(rng, 4) ? TICK_NEVER : now + rng_range(rng, 0, 3 * TICK_S);
        enum concurrency_verdict v = concurrency_ask(&c, &slot[i], deadline, wake_slot, NULL, now);
        place[i] = v == CONCURRENCY_GO ? 2 : v == CONCURRENCY_WAIT ? 1 : 0;
    } else if (place[i] == 1 && rng_below(rng, 8) == 0) {
        concurrency_leave(&c, &slot[i]);
        place[i] = 0;
    } else if (place[i] == 2) {
        place[i] = 0;
        concurrency_end(&c, (enum outcome)rng_below(rng, OUTCOME_COUNT), rng_range(rng, 0, 2 * TICK_S), now);
    }
    if (rng_below(rng, 2))
        (void)concurrency_turn(&c, wake_slot, NULL, now);
    for (int k = 0; k < SLOTS; k++) {
        flying += place[k] == 2;
        waiting += place[k] == 1;
        must(slot[k].queued == (place[k] == 1));
    }
    must(c.in_flight == flying && (int)c.waiting == waiting);
    must(concurrency_limit(&c) >= rules.min && concurrency_limit(&c) <= rules.max);
}

START_TEST(random_events)
{
    struct rng rng;
    rng_seed(&rng, 11);
    rules.max = 30;
    concurrency_init(&c, &rules, now);
    memset(slot, 0, sizeof slot);
    memset(place, 0, sizeof place);
    for (int i = 0; i < 300000; i++)
        one_event(&rng);
    for (int k = 0; k < SLOTS; k++)
        if (place[k] == 2) {
            place[k] = 0;
            concurrency_end(&c, OUTCOME_OK, TICK_MS, now);
        }
    now += 10 * TICK_S;
    ck_assert_int_eq(concurrency_turn(&c, wake_slot, NULL, now), TICK_NEVER);
    ck_assert_int_eq(c.waiting, 0);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("concurrency");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, holds_nobody_back_before_it_knows);
    tcase_add_test(t, health_is_the_floor);
    tcase_add_test(t, throttling_and_refused_keys_are_no_load);
    tcase_add_test(t, fixed_and_off);
    tcase_add_test(t, first_come_first_served);
    tcase_add_test(t, newest_first_when_the_queue_stands);
    tcase_add_test(t, who_cannot_be_answered_in_time_does_not_wait);
    tcase_add_test(t, a_full_queue_refuses_its_oldest);
    tcase_add_test(t, random_events);
    tcase_set_timeout(t, 60);
    return run_case("policy/concurrency", t);
}
