/* Tests of policy/idle_learn.c: what is believed, doubted, refuted and forgotten, and the Keep-Alive field.
 */
#include "policy/idle_learn.h"
#include "tests/unit/policy/harness.h"

#include <string.h>

static struct idle_learn l;
static tick_t now;

static void setup(void)
{
    now = 5000 * TICK_S;
    idle_learn_init(&l, 300 * TICK_S);
}

static void closes(tick_t age)
{
    now += TICK_S;
    idle_learn_closed(&l, age, now);
}

START_TEST(knows_nothing_at_first)
{
    ck_assert_int_eq(idle_learn_trust(&l, now), 300 * TICK_S);
    closes(5 * TICK_S); /* one is an accident */
    ck_assert_int_eq(idle_learn_trust(&l, now), 300 * TICK_S);
}
END_TEST

START_TEST(two_alike_are_believed)
{
    closes(5 * TICK_S + 20 * TICK_MS);
    closes(5 * TICK_S);
    ck_assert_int_eq(idle_learn_trust(&l, now), 4500 * TICK_MS); /* below by half a second */
    closes(60 * TICK_S);
    closes(61 * TICK_S);
    ck_assert_int_eq(idle_learn_trust(&l, now), 4500 * TICK_MS);
}
END_TEST

START_TEST(margins)
{
    static const struct {
        tick_t timeout, trust;
    } t[] = {
        {100 * TICK_MS, 50 * TICK_MS}, {TICK_S, 500 * TICK_MS},    {2 * TICK_S, 1500 * TICK_MS},
        {5 * TICK_S, 4500 * TICK_MS},  {60 * TICK_S, 57 * TICK_S}, {1000 * TICK_S, 300 * TICK_S},
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        setup();
        closes(t[i].timeout);
        closes(t[i].timeout);
        ck_assert_int_eq(idle_learn_trust(&l, now), t[i].trust);
    }
}
END_TEST

START_TEST(closed_right_after_an_answer_is_not_idle)
{
    for (int i = 0; i < 100; i++)
        closes(10 * TICK_MS);
    ck_assert_int_eq(idle_learn_trust(&l, now), 300 * TICK_S);
}
END_TEST

START_TEST(a_restart_is_no_timeout)
{
    for (int age = 1; age <= 12; age++) /* all at one instant, at all ages */
        idle_learn_closed(&l, age * TICK_S, now + age * TICK_MS);
    ck_assert_int_eq(idle_learn_trust(&l, now), 300 * TICK_S);
    for (int i = 0; i < 3; i++) /* but connections that became idle together time out together */
        idle_learn_closed(&l, 60 * TICK_S + i * TICK_MS, now + TICK_S + i * TICK_MS);
    ck_assert_int_eq(idle_learn_trust(&l, now + 2 * TICK_S), 57 * TICK_S);
}
END_TEST

START_TEST(reuse_at_a_greater_age_refutes)
{
    closes(5 * TICK_S);
    closes(5 * TICK_S);
    for (int i = 0; i < 2; i++)
        idle_learn_reused(&l, 20 * TICK_S, now);
    ck_assert_int_eq(idle_learn_trust(&l, now), 4500 * TICK_MS);
    for (int i = 0; i < 100; i++)
        idle_learn_reused(&l, 5 * TICK_S + 10 * TICK_MS, now); /* no greater */
    ck_assert_int_eq(idle_learn_trust(&l, now), 4500 * TICK_MS);
    idle_learn_reused(&l, 20 * TICK_S, now);
    ck_assert_int_eq(idle_learn_trust(&l, now), 300 * TICK_S);
}
END_TEST

START_TEST(forgets_after_an_hour)
{
    closes(5 * TICK_S);
    closes(5 * TICK_S);
    ck_assert_int_eq(idle_learn_trust(&l, now + 3598 * TICK_S), 4500 * TICK_MS);
    ck_assert_int_eq(idle_learn_trust(&l, now + 3600 * TICK_S), 300 * TICK_S);
    now += 3600 * TICK_S;
    closes(60 * TICK_S);
    closes(60 * TICK_S);
    ck_assert_int_eq(idle_learn_trust(&l, now), 57 * TICK_S);
}
END_TEST

START_TEST(keep_alive_field)
{
    static const struct {
        const char *value;
        tick_t trust; /* seconds */
    } t[] = {
        {"timeout=5", 4},
        {"timeout=5, max=100", 4},
        {"max=100,\tTimeOut=20 ", 19},
        {"timeout=600", 300},
        {"", 300},
        {"timeout", 300},
        {"timeout=", 300},
        {"timeout=0", 300},
        {"timeout=-5", 300},
        {"timeout=5s", 300},
        {"xtimeout=5", 300},
        {"timeout = 5", 300},
        {",,,", 300},
        {"timeout=99999999999", 300},
        {"timeout=\"5\"", 300},
        {"timeout=999999999", 300},
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        idle_learn_init(&l, 300 * TICK_S);
        idle_learn_hint(&l, (struct slice){t[i].value, strlen(t[i].value)});
        ck_assert_msg(idle_learn_trust(&l, now) == t[i].trust * TICK_S, "%s", t[i].value);
    }
    idle_learn_hint(&l, (struct slice){NULL, 0});
    idle_learn_init(&l, 0);
    ck_assert_int_gt(idle_learn_trust(&l, now), 0);
    /* The smaller of what it says and what it does. */
    idle_learn_init(&l, 300 * TICK_S);
    idle_learn_hint(&l, SLICE("timeout=60"));
    closes(5 * TICK_S);
    closes(5 * TICK_S);
    ck_assert_int_eq(idle_learn_trust(&l, now), 4500 * TICK_MS);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("idle_learn");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, knows_nothing_at_first);
    tcase_add_test(t, two_alike_are_believed);
    tcase_add_test(t, margins);
    tcase_add_test(t, closed_right_after_an_answer_is_not_idle);
    tcase_add_test(t, a_restart_is_no_timeout);
    tcase_add_test(t, reuse_at_a_greater_age_refutes);
    tcase_add_test(t, forgets_after_an_hour);
    tcase_add_test(t, keep_alive_field);
    return run_case("policy/idle_learn", t);
}
