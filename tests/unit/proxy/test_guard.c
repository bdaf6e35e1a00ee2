/*
 * Tests of proxy/guard.c: which breaker hears of what, that nothing that is gathered is lost, and that no
 * sequence of events leaves a circuit that well answered calls do not close.
 */
#include "proxy/guard.h"

#include <pthread.h>

#include "policy/rng.h"
#include "tests/unit/policy/config_fixture.h"
#include "tests/unit/policy/harness.h"

static struct fixture f;
static struct guard *g;
static tick_t now;

static void begin(const char *const *flags)
{
    fixture_begin(&f);
    for (; flags && flags[0]; flags += 2)
        fixture_flag(&f, flags[0], flags[1]);
    fixture_good(&f);
    now = 1000 * TICK_S;
    g = guard_new(f.cfg, now, 1);
    ck_assert_ptr_nonnull(g);
}

static void end(void)
{
    guard_free(g);
    fixture_end(&f);
}

/* One call; true when it was let go. */
static bool call(uint16_t operation, enum outcome outcome)
{
    struct guard_permit p = guard_begin(g, operation, true, now);
    if (p.shed)
        return false;
    guard_end(g, p, outcome, TICK_MS, now);
    return true;
}

static enum breaker_state state(int operation)
{
    struct guard_view v;
    for (int i = 0; guard_look(g, i, &v, now); i++)
        if (v.operation == operation)
            return v.state;
    return BREAKER_CLOSED;
}

START_TEST(an_operation_fails_alone)
{
    begin(NULL);
    for (int i = 0; i < 5; i++)
        ck_assert(call(7, OUTCOME_UNAVAILABLE));
    ck_assert(!call(7, OUTCOME_OK));
    ck_assert(guard_is_open(g, 7, now));
    ck_assert(call(8, OUTCOME_OK));
    ck_assert_int_eq(state(7), BREAKER_OPEN);
    ck_assert_int_eq(state(8), BREAKER_CLOSED);
    ck_assert_int_eq(state(GUARD_WAY), BREAKER_CLOSED);
    ck_assert_int_ge(guard_retry_after(g, 7, now), TICK_S);
    guard_reset(g, 7, now);
    ck_assert(call(7, OUTCOME_OK));
    end();
}
END_TEST

START_TEST(no_way_there_is_open_for_all)
{
    begin(NULL);
    for (int i = 0; i < 5; i++)
        ck_assert(call((uint16_t)(i % 2), OUTCOME_CONNECT_FAILED));
    ck_assert_int_eq(state(GUARD_WAY), BREAKER_OPEN);
    ck_assert_int_eq(state(0), BREAKER_CLOSED);
    ck_assert(!call(3, OUTCOME_OK)); /* one that nobody called before */
    now += 10 * TICK_S; /* half-open: probes of any operation, and an answer of any kind is a way */
    ck_assert(call(3, OUTCOME_OK));
    ck_assert(call(4, OUTCOME_SERVER_ERROR));
    ck_assert(call(5, OUTCOME_THROTTLED));
    ck_assert_int_eq(state(GUARD_WAY), BREAKER_CLOSED);
    end();
}
END_TEST

START_TEST(a_shed_call_leaves_the_ways_probe_to_others)
{
    begin((const char *const[]){"circuit_breaker.half_open_requests", "1",
                                "circuit_breaker.circuit_breaker_max_timeout", "60s", NULL});
    for (int i = 0; i < 5; i++)
        (void)call(1, OUTCOME_SERVER_ERROR);
    now += 3 * TICK_S;
    for (int i = 0; i < 5; i++)
        (void)call(2, OUTCOME_CONNECT_FAILED);
    now += 5600 * TICK_MS; /* both are half-open, or 1 is */
    struct guard_permit one = guard_begin(g, 1, true, now);
    ck_assert(!one.shed);
    ck_assert(guard_begin(g, 1, true, now).shed); /* its only probe is out */
    guard_end(g, one, OUTCOME_OK, 1, now);
    ck_assert(call(2, OUTCOME_OK));
    end();
}
END_TEST

START_TEST(throttling_and_our_own_ends_say_nothing)
{
    begin((const char *const[]){"circuit_breaker.circuit_breaker_threshold", "1", NULL});
    static const enum outcome harmless[] = {OUTCOME_THROTTLED,    OUTCOME_BAD_CREDENTIALS,
                                            OUTCOME_CLIENT_ERROR, OUTCOME_CLIENT_GONE,
                                            OUTCOME_LOCAL,        OUTCOME_STALE_CONNECTION};
    for (size_t i = 0; i < 60; i++)
        ck_assert(call(1, harmless[i % ARRAY_LEN(harmless)]));
    ck_assert_int_eq(state(1), BREAKER_CLOSED);
    ck_assert(call(1, OUTCOME_RESPONSE_TIMEOUT));
    ck_assert_int_eq(state(1), BREAKER_OPEN);
    end();
}
END_TEST

/* What is gathered counts before a failure that comes later: no run is seen where there was none. */
START_TEST(successes_between_failures_are_heard)
{
    begin((const char *const[]){"circuit_breaker.failure_rate_threshold", "1.0", NULL});
    for (int i = 0; i < 1000; i++) {
        ck_assert(call(1, OUTCOME_UNAVAILABLE));
        ck_assert(call(1, i % 4 == 3 ? OUTCOME_OK : OUTCOME_UNAVAILABLE));
        ck_assert(call(1, OUTCOME_OK));
        now += TICK_MS / 4;
    }
    ck_assert_int_eq(state(1), BREAKER_CLOSED);
    end();
}
END_TEST

START_TEST(the_budget_hears_of_all_requests)
{
    begin(NULL);
    struct guard_budget b;
    for (int i = 0; i < 200; i++)
        ck_assert(call((uint16_t)(i % 3), i % 10 ? OUTCOME_OK : OUTCOME_SERVER_ERROR));
    guard_look_budget(g, &b, now);
    ck_assert_double_eq_tol(b.left, 0.1 * 1.1 * 200 + 10, 1e-9);
    ck_assert_double_eq_tol(b.failure_rate, 0.1, 1e-9);
    now += 11 * TICK_S;
    guard_look_budget(g, &b, now);
    ck_assert_double_eq_tol(b.left, 10, 1e-9);
    end();
}
END_TEST

/* ---- threads --------------------------------------------------------------------------------------------
 */

enum { THREADS = 4, EACH = 50000 };

static void *many(void *arg)
{
    uint16_t operation = *(uint16_t *)arg;
    for (int i = 0; i < EACH; i++) {
        struct guard_permit p = guard_begin(g, operation, true, now);
        guard_end(g, p, i % 20 ? OUTCOME_OK : OUTCOME_SERVER_ERROR, TICK_MS, now);
    }
    return NULL;
}

START_TEST(nothing_is_lost_between_threads)
{
    begin((const char *const[]){"circuit_breaker.circuit_breaker_threshold", "1000000",
                                "circuit_breaker.failure_rate_threshold", "1.0", NULL});
    pthread_t t[THREADS];
    uint16_t operation[THREADS] = {1, 1, 2, 0};
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, many, &operation[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    struct guard_budget b;
    guard_look_budget(g, &b, now);
    ck_assert_double_eq_tol(b.left, 0.1 * 1.1 * THREADS * EACH + 10, 1e-6);
    ck_assert_double_eq_tol(b.failure_rate, 0.05, 1e-9);
    end();
}
END_TEST

/* ---- no stuck state -------------------------------------------------------------------------------------
 */

enum { OUT = 12, OPERATIONS = 3 };
static struct guard_permit out[OUT];
static bool is_out[OUT];

/* Mostly what the phase says, so that circuits do open. */
static enum outcome random_outcome(uint64_t dice, int phase)
{
    static const enum outcome usual[] = {OUTCOME_OK, OUTCOME_CONNECT_FAILED, OUTCOME_SERVER_ERROR,
                                         OUTCOME_RESPONSE_TIMEOUT};
    return dice & 7 ? usual[phase] : (enum outcome)((dice >> 3) % OUTCOME_COUNT);
}

static void random_event(struct rng *rng, int phase)
{
    uint64_t dice = rng_next(rng);
    int i = (int)(dice % OUT);
    switch (dice >> 8 & 7) {
    case 0:
        now += (tick_t)(dice >> 16) % (dice >> 62 ? 500 * TICK_MS : 20 * TICK_S);
        break;
    case 1:
        if (dice >> 63)
            guard_sign_of_life(g, now);
        else if ((dice >> 50 & 63) == 0)
            guard_reset(g, (int)(dice >> 16 & 3) - 1, now);
        break;
    case 2:
    case 3:
    case 4: /* what lay in this place is never reported */
        out[i] = guard_begin(g, (uint16_t)((dice >> 16) % OPERATIONS), dice >> 63, now);
        is_out[i] = !out[i].shed;
        break;
    default:
        if (is_out[i])
            guard_end(g, out[i], random_outcome(dice >> 16, phase), (tick_t)(dice >> 40) % TICK_S, now);
        is_out[i] = false;
    }
}

/* Once the upstream is well, calls that come and are reported close every circuit in a bounded time. */
static void must_recover(void)
{
    tick_t limit = now + 4 * 60 * TICK_S + 2 * 65 * TICK_S;
    for (uint16_t o = 0; o < OPERATIONS; o++)
        while (!call(o, OUTCOME_OK) || state(o) != BREAKER_CLOSED || state(GUARD_WAY) != BREAKER_CLOSED) {
            must(now <= limit);
            now += TICK_S / 2;
        }
}

START_TEST(no_sequence_of_events_gets_stuck)
{
    begin(NULL);
    struct rng rng;
    rng_seed(&rng, 42);
    for (int i = 0; i < 1000000; i++) {
        random_event(&rng, i / 100 % 4);
        if (i % 500 == 0)
            must_recover();
    }
    struct guard_view v;
    for (int i = 0; guard_look(g, i, &v, now); i++) /* it was no idle run */
        ck_assert_msg(v.opened > 500, "operation %d opened %u times", v.operation, v.opened);
    end();
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("guard");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, an_operation_fails_alone);
    tcase_add_test(t, no_way_there_is_open_for_all);
    tcase_add_test(t, a_shed_call_leaves_the_ways_probe_to_others);
    tcase_add_test(t, throttling_and_our_own_ends_say_nothing);
    tcase_add_test(t, successes_between_failures_are_heard);
    tcase_add_test(t, the_budget_hears_of_all_requests);
    tcase_add_test(t, nothing_is_lost_between_threads);
    tcase_add_test(t, no_sequence_of_events_gets_stuck);
    return run_case("proxy/guard", t);
}
