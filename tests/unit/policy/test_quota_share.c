/*
 * Tests of policy/quota_share.c: what is let go under a grant, out of touch, in a new window; what is told of
 * a window; refusals of others. Minutes of it under load are tests/sim/sim_budget.c's.
 */
#include "policy/budget.h"
#include "policy/quota.h"
#include "tests/unit/policy/harness.h"

#include <string.h>

#define WALL (INT64_C(1767225600) * TICK_S)

static struct quota q;
static struct quota_rules rules;
static tick_t now;

static void wake(struct quota_waiter *w, bool go, tick_t at, void *arg)
{
    (void)w, (void)go, (void)at, (void)arg;
}

static void begin(int sidecars, bool in_touch)
{
    now = 5000 * TICK_S;
    rules = (struct quota_rules){true, QUOTA_PACE, 0, {60, 3600, 0}, true, true};
    quota_init(&q, &rules, now, WALL + 58 * TICK_S);
    now += 10 * TICK_S; /* well into the next minute, which was seen from its beginning */
    quota_share(&q, sidecars, in_touch, now);
}

/* Calls that go, one a second and ended at once, for at most so long. */
static int spend(int seconds)
{
    static const struct rate_reading nothing = {.retry_after = -1, .date = -1};
    int n = 0;
    for (int i = 0; i < seconds * 4; i++, now += TICK_S / 4) {
        struct quota_waiter w = {0};
        struct quota_call call = {.flow = 1, .deadline = TICK_NEVER};
        if (quota_ask(&q, &call, &w, wake, NULL, now).kind != QUOTA_GO)
            continue;
        n++;
        quota_end(&q, &(struct quota_answer){.charged = true, .sent_at = now, .reading = &nothing}, now);
    }
    return n;
}

static const struct quota_part *minute(struct quota_part *parts)
{
    int n = quota_parts(&q, parts, now);
    for (int i = 0; i < n; i++)
        if (parts[i].key == RATE_KEY_MINUTE)
            return &parts[i];
    ck_abort_msg("no minute");
    return NULL;
}

START_TEST(out_of_touch_an_even_part)
{
    struct quota_part parts[QUOTA_WINDOWS];
    begin(3, false);
    ck_assert_int_eq(minute(parts)->held, 20);
    ck_assert_int_eq(spend(51), 20);
    ck_assert_int_eq(minute(parts)->used, 20);
    now += 5 * TICK_S; /* the next minute */
    ck_assert_int_eq(minute(parts)->used, 0);
    ck_assert_int_eq(spend(30) > 5, 1);
}
END_TEST

START_TEST(not_more_than_is_granted)
{
    struct quota_part parts[QUOTA_WINDOWS];
    begin(3, true);
    const struct quota_part *p = minute(parts);
    ck_assert_int_eq(p->limit, 60);
    ck_assert_int_eq(p->left, -1); /* the server says nothing */
    quota_granted(&q, p, 7, 0, now);
    ck_assert_int_eq(spend(51), 7);
    p = minute(parts);
    ck_assert(p->wants > 0);
    ck_assert_int_eq(p->used, 7);
    quota_granted(&q, p, 8, 0, now);
    ck_assert_int_eq(spend(1), 1);
}
END_TEST

START_TEST(a_grant_of_a_window_that_is_over_is_none)
{
    struct quota_part old[QUOTA_WINDOWS], parts[QUOTA_WINDOWS];
    begin(3, true);
    const struct quota_part *p = minute(old);
    now += 60 * TICK_S;
    quota_granted(&q, p, 50, 0, now);
    ck_assert_int_eq(minute(parts)->held, 20);
}
END_TEST

START_TEST(others_may_have_some_left)
{
    struct quota_part parts[QUOTA_WINDOWS];
    struct quota_waiter w = {0};
    struct quota_call call = {.flow = 1, .deadline = TICK_NEVER};
    begin(2, true);
    rules.max_wait = TICK_S;
    quota_granted(&q, minute(parts), 0, 10, now);
    ck_assert_int_eq(quota_ask(&q, &call, &w, wake, NULL, now).kind, QUOTA_WAIT);
    quota_leave(&q, &w);
    quota_granted(&q, minute(parts), 0, 0, now); /* nobody has: not before the next minute */
    ck_assert_int_eq(quota_ask(&q, &call, &w, wake, NULL, now).kind, QUOTA_REFUSED);
}
END_TEST

START_TEST(unshared_as_before)
{
    struct quota_part parts[QUOTA_WINDOWS];
    begin(3, true);
    quota_share(&q, 0, false, now);
    ck_assert_int_eq(quota_parts(&q, parts, now), 0);
    ck_assert_int_ge(spend(40), 38);
}
END_TEST

START_TEST(an_assumed_limit_is_shared_once_it_is_believed)
{
    struct quota_part parts[QUOTA_WINDOWS];
    begin(3, true);
    rules.believe = false;
    quota_init(&q, &rules, now, WALL + 5 * TICK_S);
    quota_share(&q, 3, true, now);
    ck_assert_int_eq(quota_parts(&q, parts, now), 0);
    quota_heard_refusal(&q, now + 30 * TICK_S, true, now);
    ck_assert_int_eq(quota_parts(&q, parts, now), 2);
    ck_assert_int_eq(q.gate, now + 30 * TICK_S);
    ck_assert_int_eq(spend(25), 0);
    quota_heard_refusal(&q, now + TICK_S, false, now); /* an older word changes nothing */
    ck_assert_int_ge(q.gate, now);
}
END_TEST

START_TEST(a_rate_is_shared_as_a_rate)
{
    struct quota_part parts[QUOTA_WINDOWS];
    struct rate_reading said = {.count = 1, .retry_after = -1, .date = -1};
    said.window[0] =
        (struct rate_window){.key = 77, .limit = 100, .remaining = 99, .reset = TICK_S, .length = TICK_S};
    begin(4, true);
    struct quota_waiter w = {0};
    struct quota_call call = {.flow = 1, .deadline = TICK_NEVER};
    ck_assert_int_eq(quota_ask(&q, &call, &w, wake, NULL, now).kind, QUOTA_GO);
    quota_end(&q, &(struct quota_answer){.charged = true, .sent_at = now, .reading = &said}, now);
    ck_assert_int_eq(quota_parts(&q, parts, now), 1);
    ck_assert_int_eq(budget_kind_of(parts[0].length), BUDGET_RATE);
    ck_assert_int_eq(parts[0].used, 0);
    ck_assert_int_eq(parts[0].held, 25);
    ck_assert_int_eq(parts[0].left, -1);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("quota_share");
    tcase_add_test(t, out_of_touch_an_even_part);
    tcase_add_test(t, not_more_than_is_granted);
    tcase_add_test(t, a_grant_of_a_window_that_is_over_is_none);
    tcase_add_test(t, others_may_have_some_left);
    tcase_add_test(t, unshared_as_before);
    tcase_add_test(t, an_assumed_limit_is_shared_once_it_is_believed);
    tcase_add_test(t, a_rate_is_shared_as_a_rate);
    return run_case("policy/quota_share", t);
}
