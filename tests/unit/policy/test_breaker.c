/*
 * Tests of policy/breaker.c: each way to open and close, leases, stale reports, and random events against
 * "never stuck".
 */
#include "policy/breaker.h"
#include "tests/unit/policy/harness.h"

#include <string.h>

static struct breaker b;
static struct breaker_rules rules;
static struct rng rng;
static tick_t now;

static void setup(void)
{
    rng_seed(&rng, 5);
    now = 1000 * TICK_S;
    rules = (struct breaker_rules){
        .enabled = true,
        .consecutive = 5,
        .failure_rate = 0.5,
        .slow_call = 0,
        .slow_rate = 1.0,
        .window = 10 * TICK_S,
        .minimum_requests = 20,
        .open_time = 5 * TICK_S,
        .open_max = 60 * TICK_S,
        .probes = 3,
        .probe_lease = 30 * TICK_S,
    };
    breaker_init(&b, &rules, now);
}

static struct breaker_permit admit(void)
{
    return breaker_admit(&b, &rng, now);
}

static void report(struct breaker_permit p, enum breaker_outcome outcome)
{
    breaker_report(&b, p, (struct breaker_report){outcome, TICK_MS, false}, &rng, now);
}

static void call(enum breaker_outcome outcome)
{
    report(admit(), outcome);
}

static void calls(int n, enum breaker_outcome outcome)
{
    while (n--)
        call(outcome);
}

static void trip(void)
{
    calls(5, BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_OPEN);
}

static void to_half_open(void)
{
    now = breaker_next_due(&b);
    breaker_turn(&b, &rng, now);
    ck_assert_int_eq(b.state, BREAKER_HALF_OPEN);
}

/* Two requests that cannot succeed, tried three times each, opened it for everybody. */
START_TEST(a_request_is_one_failure_in_a_row)
{
    for (int request = 0; request < 4; request++)
        for (int attempt = 0; attempt < 3; attempt++)
            breaker_report(&b, admit(), (struct breaker_report){BREAKER_FAILURE, TICK_MS, attempt > 0}, &rng,
                           now);
    ck_assert_int_eq(b.state, BREAKER_CLOSED);
    call(BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_OPEN);
    ck_assert_int_eq(b.cause, BREAKER_CAUSE_CONSECUTIVE);
}
END_TEST

START_TEST(opens_after_failures_in_a_row)
{
    calls(4, BREAKER_FAILURE);
    call(BREAKER_OK);
    calls(4, BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_CLOSED);
    ck_assert_int_eq(breaker_next_due(&b), TICK_NEVER);
    call(BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_OPEN);
    ck_assert_int_eq(b.cause, BREAKER_CAUSE_CONSECUTIVE);
    ck_assert_int_eq(admit().verdict, BREAKER_SHED);
    ck_assert_int_eq(b.opened, 1);
}
END_TEST

START_TEST(opens_at_once_after_healthy_traffic)
{
    calls(900, BREAKER_OK);
    calls(5, BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_OPEN);
    ck_assert_int_eq(b.cause, BREAKER_CAUSE_CONSECUTIVE);
}
END_TEST

/* In dense traffic five failures are a matter of milliseconds: a slow upstream has them between its answers.
 */
START_TEST(dense_traffic_needs_a_while)
{
    calls(10000, BREAKER_OK);
    for (int i = 0; i < 149; i++) {
        call(BREAKER_FAILURE);
        now += TICK_MS;
        must(b.state == BREAKER_CLOSED);
    }
    call(BREAKER_OK); /* an answer between: it begins anew */
    for (int i = 0; i < 150; i++) {
        must(b.state == BREAKER_CLOSED);
        call(BREAKER_FAILURE);
        now += TICK_MS;
    }
    call(BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_OPEN);
    ck_assert_int_eq(b.cause, BREAKER_CAUSE_CONSECUTIVE);
}
END_TEST

/* A tenth of 1000 calls a second fails: five in a row are chance, about every 100 s, and must not trip it. */
START_TEST(chance_runs_do_not_open)
{
    for (int i = 0; i < 500000; i++) {
        now += TICK_MS;
        call(rng_double(&rng) < 0.1 ? BREAKER_FAILURE : BREAKER_OK);
        must(b.state == BREAKER_CLOSED);
    }
    calls(10, BREAKER_FAILURE); /* but ten, over a while, are not chance */
    ck_assert_int_eq(b.state, BREAKER_CLOSED);
    now += 160 * TICK_MS;
    call(BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_OPEN);
}
END_TEST

START_TEST(opens_on_failure_rate)
{
    rules.consecutive = 0;
    for (int i = 0; i < 9; i++) {
        call(BREAKER_OK);
        call(BREAKER_FAILURE);
    }
    call(BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_CLOSED); /* 19 calls: too few */
    call(BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_OPEN);
    ck_assert_int_eq(b.cause, BREAKER_CAUSE_FAILURE_RATE);
}
END_TEST

START_TEST(old_failures_are_forgotten)
{
    rules.consecutive = 0;
    calls(15, BREAKER_FAILURE);
    now += 10 * TICK_S;
    calls(10, BREAKER_OK);
    calls(9, BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_CLOSED);
}
END_TEST

START_TEST(opens_on_slow_calls)
{
    rules.slow_call = TICK_S;
    rules.slow_rate = 0.5;
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(b.state, BREAKER_CLOSED);
        breaker_report(&b, admit(), (struct breaker_report){BREAKER_OK, i % 2 ? 2 * TICK_S : TICK_S, false},
                       &rng, now);
    }
    ck_assert_int_eq(b.state, BREAKER_OPEN);
    ck_assert_int_eq(b.cause, BREAKER_CAUSE_SLOW_RATE);
    to_half_open(); /* a slow probe is no proof of health */
    breaker_report(&b, admit(), (struct breaker_report){BREAKER_OK, 2 * TICK_S, false}, &rng, now);
    ck_assert_int_eq(b.state, BREAKER_OPEN);
}
END_TEST

START_TEST(throttled_and_ignored_never_count)
{
    calls(4, BREAKER_FAILURE);
    calls(1000, BREAKER_THROTTLED);
    calls(1000, BREAKER_IGNORED);
    ck_assert_int_eq(b.state, BREAKER_CLOSED);
    ck_assert_uint_eq(window_sum(&b.window, 0, now), 4);
    call(BREAKER_FAILURE); /* nor do they break a run */
    ck_assert_int_eq(b.state, BREAKER_OPEN);
}
END_TEST

START_TEST(open_time_doubles_with_jitter_to_its_maximum)
{
    trip();
    tick_t want = 5 * TICK_S;
    for (int i = 0; i < 10; i++) {
        ck_assert(b.opened_for >= want && b.opened_for <= want + want / 10);
        ck_assert(b.opened_for <= 60 * TICK_S);
        ck_assert_int_eq(breaker_next_due(&b), now + b.opened_for);
        ck_assert_int_eq(breaker_retry_after(&b, now), b.opened_for);
        now = b.until - 1;
        ck_assert_int_eq(admit().verdict, BREAKER_SHED);
        ck_assert_int_eq(breaker_retry_after(&b, now), TICK_S);
        now = b.until;
        struct breaker_permit p = admit();
        ck_assert_int_eq(p.verdict, BREAKER_PROBE);
        report(p, BREAKER_FAILURE);
        ck_assert_int_eq(b.state, BREAKER_OPEN);
        ck_assert_int_eq(b.cause, BREAKER_CAUSE_PROBE_FAILED);
        want = want * 2 < 60 * TICK_S ? want * 2 : 60 * TICK_S;
    }
}
END_TEST

START_TEST(quiet_time_begins_the_doubling_anew)
{
    trip();
    to_half_open();
    call(BREAKER_FAILURE);
    ck_assert(b.opened_for >= 10 * TICK_S);
    to_half_open();
    calls(3, BREAKER_OK);
    ck_assert_int_eq(b.state, BREAKER_CLOSED);
    trip(); /* at once again: it was not over */
    ck_assert(b.opened_for >= 20 * TICK_S);
    to_half_open();
    calls(3, BREAKER_OK);
    now += 30 * TICK_S;
    trip();
    ck_assert(b.opened_for < 6 * TICK_S);
}
END_TEST

START_TEST(probes_close_it)
{
    trip();
    to_half_open();
    struct breaker_permit p[3];
    for (int i = 0; i < 3; i++) {
        p[i] = admit();
        ck_assert_int_eq(p[i].verdict, BREAKER_PROBE);
    }
    ck_assert_int_eq(admit().verdict, BREAKER_SHED); /* no fourth */
    report(p[1], BREAKER_OK);
    ck_assert_int_eq(admit().verdict, BREAKER_SHED); /* two are still out, and one was good: enough */
    report(p[0], BREAKER_OK);
    report(p[2], BREAKER_OK);
    ck_assert_int_eq(b.state, BREAKER_CLOSED);
    ck_assert_int_eq(admit().verdict, BREAKER_PASS);
    ck_assert_int_eq(breaker_next_due(&b), TICK_NEVER);
}
END_TEST

START_TEST(ignored_probe_gives_its_lease_back)
{
    trip();
    to_half_open();
    for (int i = 0; i < 100; i++)
        call(BREAKER_IGNORED);
    ck_assert_int_eq(b.state, BREAKER_HALF_OPEN);
    ck_assert_int_eq(breaker_next_due(&b), TICK_NEVER);
    calls(3, BREAKER_THROTTLED); /* an answer: alive */
    ck_assert_int_eq(b.state, BREAKER_CLOSED);
}
END_TEST

START_TEST(lost_probe_ends_half_open)
{
    trip();
    to_half_open();
    struct breaker_permit lost = admit();
    ck_assert_int_eq(breaker_next_due(&b), now + 30 * TICK_S);
    now += 30 * TICK_S - 1;
    breaker_turn(&b, &rng, now);
    ck_assert_int_eq(b.state, BREAKER_HALF_OPEN);
    now++;
    ck_assert_int_eq(admit().verdict, BREAKER_SHED);
    ck_assert_int_eq(b.state, BREAKER_OPEN);
    ck_assert_int_eq(b.cause, BREAKER_CAUSE_PROBE_LOST);
    report(lost, BREAKER_OK); /* too late */
    ck_assert_int_eq(b.state, BREAKER_OPEN);
}
END_TEST

START_TEST(late_answers_say_nothing)
{
    struct breaker_permit late[10], zero = {0};
    for (int i = 0; i < 10; i++)
        late[i] = admit();
    trip();
    to_half_open();
    struct breaker_permit shed = {.verdict = BREAKER_SHED, .epoch = b.epoch};
    for (int i = 0; i < 5; i++)
        report(late[i], BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_HALF_OPEN);
    for (int i = 0; i < 10; i++)
        report(late[i], BREAKER_OK);
    report(shed, BREAKER_FAILURE);
    report(zero, BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_HALF_OPEN);
    ck_assert_uint_eq(b.good, 0);
    struct breaker_permit p = admit();
    report(p, BREAKER_OK);
    report(p, BREAKER_OK); /* twice: the second is not heard */
    ck_assert_uint_eq(b.good, 1);
}
END_TEST

START_TEST(sign_of_life_shortens_a_doubled_time)
{
    trip();
    for (int i = 0; i < 3; i++) {
        to_half_open();
        call(BREAKER_FAILURE);
    }
    ck_assert(b.opened_for >= 40 * TICK_S);
    now += 5 * TICK_S - 1;
    breaker_sign_of_life(&b, now);
    ck_assert_int_eq(b.state, BREAKER_OPEN); /* never before the first open time */
    now++;
    breaker_sign_of_life(&b, now);
    ck_assert_int_eq(b.state, BREAKER_HALF_OPEN);
    breaker_sign_of_life(&b, now);
    calls(3, BREAKER_OK);
    ck_assert_int_eq(b.state, BREAKER_CLOSED);
    uint32_t epoch = b.epoch;
    breaker_sign_of_life(&b, now);
    ck_assert_uint_eq(b.epoch, epoch);
}
END_TEST

START_TEST(disabled_lets_all_pass)
{
    rules.enabled = false;
    calls(1000, BREAKER_FAILURE);
    ck_assert_int_eq(admit().verdict, BREAKER_PASS);
    rules.enabled = true;
    trip();
    struct breaker_rules off = rules;
    off.enabled = false;
    breaker_tune(&b, &off, now); /* live */
    ck_assert_int_eq(b.state, BREAKER_CLOSED);
    ck_assert_int_eq(admit().verdict, BREAKER_PASS);
}
END_TEST

START_TEST(window_changed_in_place)
{
    rules.consecutive = 0;
    calls(15, BREAKER_FAILURE);
    breaker_tune(&b, &rules, now); /* nothing new: the counts stay */
    ck_assert_uint_eq(window_sum(&b.window, 0, now), 15);
    rules.window = 100 * TICK_S;
    breaker_tune(&b, &rules, now);
    ck_assert_uint_eq(window_sum(&b.window, 0, now), 0);
    calls(15, BREAKER_FAILURE);
    now += 60 * TICK_S;
    calls(5, BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_OPEN);
}
END_TEST

START_TEST(reset_by_hand)
{
    trip();
    breaker_reset(&b, now);
    ck_assert_int_eq(b.state, BREAKER_CLOSED);
    ck_assert_int_eq(admit().verdict, BREAKER_PASS);
    calls(4, BREAKER_FAILURE);
    ck_assert_int_eq(b.state, BREAKER_CLOSED);
    trip();
    ck_assert(b.opened_for < 6 * TICK_S);
}
END_TEST

START_TEST(odd_settings)
{
    rules.probes = 0;
    rules.probe_lease = 0;
    rules.open_time = 10 * TICK_S;
    rules.open_max = TICK_S; /* less than the first */
    trip();
    ck_assert_int_eq(b.opened_for, 10 * TICK_S);
    to_half_open();
    struct breaker_permit p = admit();
    ck_assert_int_eq(p.verdict, BREAKER_PROBE);
    ck_assert_int_eq(breaker_next_due(&b), now + 30 * TICK_S);
    report(p, BREAKER_OK);
    ck_assert_int_eq(b.state, BREAKER_CLOSED);
    rules.probes = 1000;
    trip();
    to_half_open();
    for (int i = 0; i < BREAKER_MAX_PROBES; i++)
        ck_assert_int_eq(admit().verdict, BREAKER_PROBE);
    ck_assert_int_eq(admit().verdict, BREAKER_SHED);
    ck_assert_str_eq(breaker_state_name(BREAKER_HALF_OPEN), "half_open");
    ck_assert_str_eq(breaker_state_name((enum breaker_state)9), "unknown");
    ck_assert_str_eq(breaker_cause_name(BREAKER_CAUSE_PROBE_LOST), "probe_lost");
}
END_TEST

/* --- Random events. --- */

enum { OUT = 8 };

static struct breaker_permit out[OUT];
static bool is_out[OUT];

static int probes_out(void)
{
    int n = 0;
    for (int i = 0; i < BREAKER_MAX_PROBES; i++)
        n += b.lease[i] != 0;
    return n;
}

static void random_event(void)
{
    uint64_t dice = rng_next(&rng);
    int i = (int)(dice % OUT);
    switch (dice >> 8 & 7) {
    case 0:
        now += (tick_t)(dice >> 16) % (20 * TICK_S);
        break;
    case 1:
        breaker_turn(&b, &rng, now);
        if (dice >> 63)
            breaker_sign_of_life(&b, now);
        break;
    case 2:
    case 3:
    case 4: /* an admission; what lay in this place is never reported */
        out[i] = admit();
        is_out[i] = true;
        must(b.state != BREAKER_OPEN || out[i].verdict == BREAKER_SHED);
        must(b.state != BREAKER_CLOSED || out[i].verdict == BREAKER_PASS);
        break;
    default:
        if (is_out[i])
            report(out[i], (enum breaker_outcome)(dice >> 16 & 3));
        is_out[i] = false;
    }
    must(probes_out() <= rules.probes);
    must(b.state == BREAKER_HALF_OPEN || probes_out() == 0);
    must(b.state != BREAKER_OPEN || b.until <= now + rules.open_max);
}

/*
 * Whatever went before: once the upstream is well, requests that come and are reported close it in a
 * bounded time.
 */
static void must_recover(void)
{
    tick_t limit = now + rules.open_max + rules.probe_lease + rules.open_max + TICK_S;
    while (b.state != BREAKER_CLOSED) {
        must(now <= limit);
        struct breaker_permit p = admit();
        if (p.verdict == BREAKER_SHED) {
            tick_t due = breaker_next_due(&b);
            must(due != TICK_NEVER); /* shedding always ends by time */
            now = due > now ? due : now;
        } else {
            report(p, BREAKER_OK);
        }
    }
    must(admit().verdict == BREAKER_PASS);
}

/* 20 x 50,000 sequences of 1 to 40 events. */
START_TEST(never_stuck)
{
    rng_seed(&rng, 900 + (uint64_t)_i);
    rules.consecutive = 2;
    rules.minimum_requests = 4;
    uint32_t opened = 0;
    for (int sequence = 0; sequence < 50000; sequence++) {
        rules.probes = 1 + sequence % 4;
        breaker_init(&b, &rules, now);
        memset(is_out, 0, sizeof is_out);
        for (uint64_t n = rng_below(&rng, 40) + 1; n; n--)
            random_event();
        opened += b.opened;
        must_recover();
    }
    ck_assert_uint_gt(opened, 1000);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("breaker");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_request_is_one_failure_in_a_row);
    tcase_add_test(t, opens_after_failures_in_a_row);
    tcase_add_test(t, opens_at_once_after_healthy_traffic);
    tcase_add_test(t, dense_traffic_needs_a_while);
    tcase_add_test(t, chance_runs_do_not_open);
    tcase_add_test(t, opens_on_failure_rate);
    tcase_add_test(t, old_failures_are_forgotten);
    tcase_add_test(t, opens_on_slow_calls);
    tcase_add_test(t, throttled_and_ignored_never_count);
    tcase_add_test(t, open_time_doubles_with_jitter_to_its_maximum);
    tcase_add_test(t, quiet_time_begins_the_doubling_anew);
    tcase_add_test(t, probes_close_it);
    tcase_add_test(t, ignored_probe_gives_its_lease_back);
    tcase_add_test(t, lost_probe_ends_half_open);
    tcase_add_test(t, late_answers_say_nothing);
    tcase_add_test(t, sign_of_life_shortens_a_doubled_time);
    tcase_add_test(t, disabled_lets_all_pass);
    tcase_add_test(t, window_changed_in_place);
    tcase_add_test(t, reset_by_hand);
    tcase_add_test(t, odd_settings);
    tcase_add_loop_test(t, never_stuck, 0, 20);
    return run_case("policy/breaker", t);
}
