/*
 * Tests of policy/alert.c: each transition, the margin, the cool-down, silence, groups, changes of rules. One
 * step is ten seconds unless it says otherwise.
 */
#include "policy/alert.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "policy/rng.h"
#include "tests/unit/policy/harness.h"

#define STEP (10 * TICK_S)

static struct alerts *a;
static struct alert_rule rules[4];
static double values[4];
static tick_t now;
static unsigned raised, repeated, resolved, told;

static struct alert_rule rule(const char *id, int compare, double threshold)
{
    return (struct alert_rule){.id = id,
                               .metric = ALERT_METRIC_THROUGHPUT,
                               .metric_name = "",
                               .compare = compare,
                               .threshold = threshold,
                               .severity = ALERT_WARNING,
                               .message = "m",
                               .group = "",
                               .muted_by = "",
                               .origin = "test",
                               .enabled = true};
}

static double value(void *ctx, const struct alert_rule *r)
{
    (void)ctx;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (rules[i].id && strcmp(rules[i].id, r->id) == 0)
            return values[i];
    return NAN;
}

static void step(void)
{
    struct alert_event e;
    uint64_t first;
    size_t n = alerts_step(a, value, NULL, now, &first);
    raised = repeated = resolved = told = 0;
    for (size_t i = 0; i < n; i++) {
        must(alerts_event(a, first + i, &e));
        raised += e.kind == ALERT_EVENT_RAISED;
        repeated += e.kind == ALERT_EVENT_REPEATED;
        resolved += e.kind == ALERT_EVENT_RESOLVED;
        told += e.told;
    }
    now += STEP;
}

static void set(size_t n)
{
    ck_assert(alerts_set_rules(a, rules, n, now));
}

static enum alert_state state(size_t i)
{
    struct alert_view v;
    alerts_look(a, i, &v);
    return v.state;
}

static void setup(void)
{
    a = alerts_new();
    ck_assert_ptr_nonnull(a);
    now = 1000 * TICK_S;
    memset(rules, 0, sizeof rules);
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        values[i] = 0;
    rules[0] = rule("a", ALERT_ABOVE, 10);
}

static void teardown(void)
{
    alerts_free(a);
}

START_TEST(conditions)
{
    static const struct {
        int compare;
        double value;
        bool holds;
    } cases[] = {
        {ALERT_ABOVE, 10, false},     {ALERT_ABOVE, 10.1, true},     {ALERT_AT_LEAST, 10, true},
        {ALERT_AT_LEAST, 9.9, false}, {ALERT_BELOW, 10, false},      {ALERT_BELOW, 9.9, true},
        {ALERT_AT_MOST, 10, true},    {ALERT_AT_MOST, 10.1, false},  {ALERT_EQUAL, 10, true},
        {ALERT_EQUAL, 10.1, false},   {ALERT_NOT_EQUAL, 10, false},  {ALERT_NOT_EQUAL, 9, true},
        {ALERT_ABOVE, NAN, false},    {ALERT_NOT_EQUAL, NAN, false}, {ALERT_COMPARE_NONE, 10, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct alert_rule r = rule("x", cases[i].compare, 10);
        ck_assert_msg(alert_holds(&r, cases[i].value, false) == cases[i].holds, "case %zu", i);
    }
}
END_TEST

START_TEST(margins)
{
    struct alert_rule r = rule("x", ALERT_ABOVE, 10);
    ck_assert(alert_holds(&r, 9.5, true) && !alert_holds(&r, 9, true));
    r = rule("x", ALERT_BELOW, 10);
    ck_assert(alert_holds(&r, 10.5, true) && !alert_holds(&r, 11, true));
    r = rule("x", ALERT_BELOW, 0.95); /* a share cannot rise to 1.045 */
    r.metric = ALERT_METRIC_CACHE_HIT_RATE;
    ck_assert(alert_holds(&r, 0.954, true) && !alert_holds(&r, 0.956, true));
    r = rule("x", ALERT_AT_LEAST, 0); /* no room for a margin */
    ck_assert(alert_holds(&r, 0, true) && !alert_holds(&r, -0.1, true));
    r = rule("x", ALERT_AT_LEAST, 10);
    ck_assert(alert_holds(&r, 9.5, true) && !alert_holds(&r, 8.9, true));
}
END_TEST

START_TEST(raised_at_once_and_resolved)
{
    set(1);
    step();
    ck_assert(raised == 0 && state(0) == ALERT_INACTIVE);
    values[0] = 11;
    step(); /* detection in the first evaluation that sees it */
    ck_assert(raised == 1 && told == 1 && state(0) == ALERT_FIRING);
    for (int i = 0; i < 100; i++) {
        step();
        ck_assert(raised == 0 && resolved == 0);
    }
    values[0] = 8;
    step();
    ck_assert(resolved == 1 && told == 1 && state(0) == ALERT_RESOLVED);
    step();
    ck_assert(resolved == 0 && state(0) == ALERT_INACTIVE);
}
END_TEST

START_TEST(for_means_all_the_time)
{
    rules[0].hold = 60 * TICK_S;
    set(1);
    values[0] = 11;
    for (int i = 0; i < 5; i++)
        step();
    ck_assert_int_eq(state(0), ALERT_PENDING);
    values[0] = 10;
    step();
    ck_assert_int_eq(state(0), ALERT_INACTIVE);
    values[0] = 11;
    for (int i = 0; i < 6; i++) {
        step();
        ck_assert_int_eq(state(0), ALERT_PENDING);
    }
    step();
    ck_assert(raised == 1);
}
END_TEST

START_TEST(dithers_without_flapping)
{
    struct rng rng;
    unsigned all = 0, ends = 0;
    rng_seed(&rng, 1);
    rules[0].keep = 60 * TICK_S;
    rules[0].cooldown = 300 * TICK_S;
    set(1);
    for (int i = 0; i < 100000; i++) {
        values[0] = 10 + 0.8 * (rng_double(&rng) - 0.5);
        step();
        all += raised;
        ends += resolved;
    }
    ck_assert_uint_eq(all, 1);
    ck_assert_uint_eq(ends, 0);
}
END_TEST

START_TEST(wild_values_are_not_told_within_the_cool_down)
{
    struct rng rng;
    tick_t last = 0;
    unsigned all = 0;
    rng_seed(&rng, 2);
    rules[0].cooldown = 300 * TICK_S;
    set(1);
    for (int i = 0; i < 100000; i++) {
        values[0] = rng_double(&rng) * 20;
        step();
        if (!raised)
            continue;
        ck_assert(!all || now - STEP - last >= 300 * TICK_S);
        last = now - STEP;
        all++;
    }
    ck_assert_uint_gt(all, 1000);
}
END_TEST

START_TEST(unknown_values)
{
    rules[0].keep = 20 * TICK_S;
    rules[0].hold = 10 * TICK_S;
    set(1);
    values[0] = 11;
    step();
    values[0] = NAN;
    step();
    ck_assert_int_eq(state(0), ALERT_INACTIVE);
    values[0] = 11;
    step();
    step();
    ck_assert_int_eq(state(0), ALERT_FIRING);
    values[0] = NAN; /* clear for as long as `keep` asks */
    step();
    step();
    ck_assert_int_eq(state(0), ALERT_FIRING);
    step();
    ck_assert_int_eq(state(0), ALERT_RESOLVED);
}
END_TEST

START_TEST(silence)
{
    set(1);
    ck_assert(!alerts_silence(a, "b", now));
    ck_assert(alerts_silence(a, "a", now + 100 * TICK_S));
    values[0] = 11;
    step();
    ck_assert(raised == 1 && told == 0);
    for (int i = 0; i < 9; i++) {
        step();
        ck_assert(told == 0);
    }
    step(); /* it is over, and the alert still fires */
    ck_assert(raised == 1 && told == 1);
    ck_assert(alerts_silence(a, "a", now + 1000 * TICK_S));
    values[0] = 0;
    step();
    ck_assert(resolved == 1 && told == 1); /* the raise was told, so is its end */
    values[0] = 11;
    step();
    values[0] = 0;
    step();
    ck_assert(resolved == 1 && told == 0); /* nobody heard of it */
}
END_TEST

START_TEST(repeats)
{
    unsigned n = 0;
    rules[0].severity = ALERT_ERROR;
    set(1);
    values[0] = 11;
    step();
    for (int i = 0; i < 24 * 360; i++) {
        step();
        n += repeated;
    }
    ck_assert_uint_eq(n, 6);
}
END_TEST

START_TEST(groups_tell_what_is_worse)
{
    rules[1] = rule("b", ALERT_ABOVE, 10);
    rules[2] = rule("c", ALERT_ABOVE, 10);
    rules[0].group = rules[1].group = rules[2].group = "g";
    rules[2].severity = ALERT_CRITICAL;
    set(3);
    values[0] = 11;
    step();
    ck_assert(raised == 1 && told == 1);
    values[1] = 11;
    step(); /* no worse than what was told */
    ck_assert(raised == 1 && told == 0);
    values[2] = 11;
    step();
    ck_assert(raised == 1 && told == 1);
    values[0] = values[2] = 0;
    step();
    ck_assert(resolved == 2 && told == 2);
    step(); /* the other still fires: it was covered for this episode */
    ck_assert(raised == 0 && told == 0);
    values[1] = 0;
    step();
    ck_assert(resolved == 1 && told == 0);
    values[0] = values[1] = values[2] = 11;
    step(); /* at once: one is told, the worst */
    ck_assert(raised == 3 && told == 1);
}
END_TEST

START_TEST(muted_by_what_explains_it)
{
    rules[1] = rule("b", ALERT_ABOVE, 10);
    rules[1].muted_by = "a";
    rules[0].cooldown = 100 * TICK_S;
    set(2);
    values[0] = values[1] = 11;
    step();
    ck_assert(raised == 2 && told == 1);
    values[0] = 0;
    for (int i = 0; i < 9; i++) {
        step();
        ck_assert(raised == 0);
    }
    step(); /* the cool-down of what explained it is over, and it still fires */
    ck_assert(told == 1);
}
END_TEST

START_TEST(changes_of_rules)
{
    struct alert_view v;
    rules[1] = rule("b", ALERT_ABOVE, 10);
    set(2);
    values[0] = values[1] = 11;
    step();
    rules[0].severity = ALERT_CRITICAL; /* the same condition: it goes on */
    rules[1].threshold = 20;            /* another one: over, and anew */
    set(2);
    step();
    ck_assert(resolved == 1 && told == 1 && raised == 0);
    ck_assert(state(0) == ALERT_FIRING && state(1) == ALERT_INACTIVE);
    rules[0].enabled = false;
    set(1);
    step();
    ck_assert(resolved == 1 && state(0) == ALERT_INACTIVE);
    ck_assert(!alerts_find(a, "b", &v));
    ck_assert(alerts_find(a, "a", &v) && !v.rule->enabled);
    unsigned firing[ALERT_SEVERITY_COUNT];
    alerts_firing(a, firing);
    ck_assert(!firing[ALERT_CRITICAL] && !firing[ALERT_WARNING]);
}
END_TEST

START_TEST(history_is_bounded)
{
    struct alert_event e;
    set(1);
    for (int i = 0; i < 2 * ALERT_HISTORY; i++) {
        values[0] = i % 2 ? 0 : 11;
        step();
    }
    uint64_t n = alerts_history(a);
    ck_assert_uint_eq(n, 2 * ALERT_HISTORY);
    ck_assert(!alerts_event(a, n, &e) && !alerts_event(a, n - ALERT_HISTORY - 1, &e));
    ck_assert(alerts_event(a, n - 1, &e) && e.kind == ALERT_EVENT_RESOLVED && e.at == now - STEP);
    ck_assert_str_eq(e.id, "a");
    ck_assert(alerts_event(a, n - ALERT_HISTORY, &e) && e.kind == ALERT_EVENT_RAISED);
}
END_TEST

START_TEST(too_many)
{
    static struct alert_rule many[ALERT_RULES_MOST + 1];
    static char ids[ALERT_RULES_MOST + 1][8];
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        snprintf(ids[i], sizeof ids[i], "r%zu", i);
        many[i] = rule(ids[i], ALERT_ABOVE, 1);
    }
    ck_assert(!alerts_set_rules(a, many, ARRAY_LEN(many), now));
    ck_assert(alerts_set_rules(a, many, ALERT_RULES_MOST, now));
    ck_assert_uint_eq(alerts_count(a), ALERT_RULES_MOST);
}
END_TEST

START_TEST(names)
{
    ck_assert_str_eq(alert_state_name(ALERT_PENDING), "pending");
    ck_assert_str_eq(alert_event_name(ALERT_EVENT_RESOLVED), "resolved");
    ck_assert_str_eq(alert_state_name(-1), "");
    ck_assert_str_eq(alert_event_name(9), "");
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("alert");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, conditions);
    tcase_add_test(t, margins);
    tcase_add_test(t, raised_at_once_and_resolved);
    tcase_add_test(t, for_means_all_the_time);
    tcase_add_test(t, dithers_without_flapping);
    tcase_add_test(t, wild_values_are_not_told_within_the_cool_down);
    tcase_add_test(t, unknown_values);
    tcase_add_test(t, silence);
    tcase_add_test(t, repeats);
    tcase_add_test(t, groups_tell_what_is_worse);
    tcase_add_test(t, muted_by_what_explains_it);
    tcase_add_test(t, changes_of_rules);
    tcase_add_test(t, history_is_bounded);
    tcase_add_test(t, too_many);
    tcase_add_test(t, names);
    return run_case("alert", t);
}
