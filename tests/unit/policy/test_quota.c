/*
 * Tests of policy/quota.c and quota_window.c: own count and told windows, even spending, refusals, shares,
 * background work, and random events against the counts. Whole minutes under load are tests/sim/scenarios'.
 */
#include "policy/quota.h"
#include "policy/rng.h"
#include "tests/unit/policy/harness.h"

#include <string.h>

#define MINUTE (60 * TICK_S)
#define WALL   (INT64_C(1767225600) * TICK_S) /* 2026-01-01T00:00:00Z */

static struct quota q;
static struct quota_rules rules;
static tick_t now;
static struct {
    struct quota_waiter *w;
    bool go;
    tick_t at;
} woken[2000];
static int wakes;
static bool disguised;

static void wake(struct quota_waiter *w, bool go, tick_t at, void *arg)
{
    (void)arg;
    must(!w->queued && wakes < 2000);
    woken[wakes].w = w;
    woken[wakes].at = at;
    woken[wakes++].go = go;
}

static void begin(bool assume)
{
    now = 5000 * TICK_S;
    wakes = 0;
    disguised = false;
    rules = (struct quota_rules){true, QUOTA_PACE, 5 * TICK_S, {60, 3600, 86400}, assume, assume};
    quota_init(&q, &rules, now,
               WALL + TICK_S); /* a second into the minute: its beginning is past all doubt */
}

static struct quota_verdict ask(struct quota_waiter *w, uint64_t flow)
{
    struct quota_call call = {.flow = flow, .deadline = TICK_NEVER};
    return quota_ask(&q, &call, w, wake, NULL, now);
}

static void end(bool throttled, const struct rate_reading *reading)
{
    static const struct rate_reading nothing = {.retry_after = -1, .date = -1};
    quota_end(&q, &(struct quota_answer){true, throttled, disguised, now, reading ? reading : &nothing}, now);
}

/* Calls that go at once, ended at once. */
static int spend(int most)
{
    struct quota_waiter w = {0};
    int n = 0;
    for (; n < most; n++) {
        struct quota_verdict v = ask(&w, 99);
        if (v.kind != QUOTA_GO) {
            quota_leave(&q, &w);
            break;
        }
        end(false, NULL);
    }
    return n;
}

static struct rate_reading told(uint32_t key, int64_t limit, int64_t remaining, tick_t reset, tick_t length)
{
    struct rate_reading r = {.count = 1, .retry_after = -1, .date = -1};
    r.window[0] = (struct rate_window){key, limit, remaining, reset, length, false};
    return r;
}

START_TEST(all_go_where_nothing_is_known)
{
    begin(false);
    ck_assert_int_eq(spend(5000), 5000);
    ck_assert(quota_spare(&q, now));
    ck_assert_int_eq(q.count, 0);
}
END_TEST

/* Sixty a minute: half of them at once after idle time, then evenly; never more than sixty in a minute of the
 * server.
 */
START_TEST(own_count)
{
    struct quota_waiter w = {0};
    begin(true);
    tick_t end_of_minute = now + 59 * TICK_S;
    int sent = spend(100);
    ck_assert_int_ge(sent, 30);
    ck_assert_int_le(sent, 31);
    for (; now < end_of_minute; now += 10 * TICK_MS) {
        struct quota_verdict v = ask(&w, 1);
        if (v.kind == QUOTA_GO) {
            sent++;
            end(false, NULL);
        } else {
            quota_leave(&q, &w);
        }
    }
    ck_assert_int_ge(sent, 58);
    ck_assert_int_le(sent, 60);
}
END_TEST

START_TEST(waits_and_is_let_go_in_time)
{
    struct quota_waiter w[20] = {0};
    begin(true);
    (void)spend(100);
    struct quota_verdict v = ask(&w[0], 1);
    ck_assert_int_eq(v.kind, QUOTA_WAIT);
    ck_assert(v.at > now && v.at < now + 3 * TICK_S);
    tick_t due = quota_turn(&q, wake, NULL, now);
    ck_assert_int_eq(due, v.at);
    now = due;
    ck_assert_int_eq(quota_turn(&q, wake, NULL, now), TICK_NEVER);
    ck_assert(wakes == 1 && woken[0].w == &w[0] && woken[0].go);
}
END_TEST

/* Whose turn comes later than max_wait is refused, and told when it would have come. */
START_TEST(bounded_wait)
{
    struct quota_waiter w[50];
    int waiting = 0, refused = 0;
    memset(w, 0, sizeof w);
    begin(true);
    (void)spend(100);
    for (int i = 0; i < 50; i++) {
        struct quota_verdict v = ask(&w[i], 1);
        waiting += v.kind == QUOTA_WAIT;
        refused += v.kind == QUOTA_REFUSED;
        if (v.kind == QUOTA_REFUSED)
            must(v.at > now + rules.max_wait && v.at < now + 10 * TICK_S);
    }
    ck_assert_int_ge(waiting, 2);
    ck_assert_int_le(waiting, 6);
    ck_assert_int_eq(waiting + refused, 50);
    rules.mode = QUOTA_REJECT;
    struct quota_waiter late = {0};
    ck_assert_int_eq(ask(&late, 1).kind, QUOTA_REFUSED);
}
END_TEST

START_TEST(fair_shares)
{
    static struct quota_waiter w[4000];
    int got[10] = {0};
    begin(true);
    (void)spend(100);
    memset(w, 0, sizeof w);
    /* Flow 0 asks ten times as often as the others. */
    for (int i = 0; i < 4000 && wakes < 1900; i++) {
        uint64_t flow = i % 2 ? 0 : (uint64_t)(i / 2 % 10);
        (void)ask(&w[i], flow + 1);
        now += 20 * TICK_MS;
        (void)quota_turn(&q, wake, NULL, now);
        while (q.in_flight)
            end(false, NULL);
    }
    for (int i = 0; i < wakes; i++)
        if (woken[i].go)
            got[woken[i].w->flow - 1]++;
    for (int i = 0; i < 10; i++)
        ck_assert_msg(got[i] >= got[5] - 1 && got[i] <= got[5] + 1, "flow %d: %d, flow 5: %d", i, got[i],
                      got[5]);
}
END_TEST

START_TEST(told_windows_replace_assumed_ones)
{
    struct quota_waiter w = {0};
    begin(true);
    ck_assert_int_eq(ask(&w, 1).kind, QUOTA_GO);
    struct rate_reading r = told(RATE_KEY_MINUTE, 600, 599, 50 * TICK_S, MINUTE);
    end(false, &r);
    ck_assert_int_eq(q.count, 1);
    struct quota_look look = quota_look(&q, 0, now);
    ck_assert_int_eq(look.limit, 600);
    ck_assert_int_eq(look.left, 599);
    ck_assert(look.told);
    ck_assert_int_ge(spend(100), 50);
}
END_TEST

/* Answers overtake each other: within a window the smallest count holds, unless the call is newer than all
 * news. */
START_TEST(out_of_order)
{
    struct quota_waiter w = {0};
    struct rate_reading first = told(RATE_KEY_MINUTE, 100, 99, 50 * TICK_S, MINUTE),
                        second = told(RATE_KEY_MINUTE, 100, 98, 50 * TICK_S, MINUTE);
    begin(false);
    tick_t sent = now;
    (void)!ask(&w, 1).kind;
    (void)!ask(&w, 1).kind;
    now += 100 * TICK_MS;
    quota_end(&q, &(struct quota_answer){true, false, false, sent, &second}, now);
    now += TICK_MS;
    quota_end(&q, &(struct quota_answer){true, false, false, sent, &first}, now);
    ck_assert_int_eq(quota_look(&q, 0, now).left, 98);
    now += 52 * TICK_S;
    ck_assert_int_eq(quota_look(&q, 0, now).left, 100); /* a new window */
    tick_t late = now;
    quota_end(&q, &(struct quota_answer){true, false, false, sent, &second}, now);
    ck_assert_int_ge(quota_look(&q, 0, late).left, 98);
}
END_TEST

START_TEST(nothing_left)
{
    struct quota_waiter w = {0};
    begin(false);
    (void)!ask(&w, 1).kind;
    struct rate_reading r = told(RATE_KEY_HOUR, 100, 0, 1800 * TICK_S, 3600 * TICK_S);
    end(false, &r);
    struct quota_verdict v = ask(&w, 1);
    ck_assert_int_eq(v.kind, QUOTA_REFUSED);
    ck_assert(v.at >= now + 1800 * TICK_S && v.at <= now + 1802 * TICK_S);
    ck_assert(!quota_spare(&q, now));
    now = v.at;
    ck_assert_int_eq(ask(&w, 1).kind, QUOTA_GO);
}
END_TEST

START_TEST(retry_after_is_a_gate_for_all)
{
    struct quota_waiter w[3] = {0};
    struct rate_reading r = {.retry_after = 3 * TICK_S, .date = -1};
    begin(false);
    (void)!ask(&w[0], 1).kind;
    end(true, &r);
    struct quota_verdict v = ask(&w[1], 1);
    ck_assert_int_eq(v.kind, QUOTA_WAIT);
    ck_assert_int_eq(v.at, now + 3 * TICK_S);
    now = v.at;
    ck_assert_int_eq(quota_turn(&q, wake, NULL, now), TICK_NEVER);
    ck_assert(wakes == 1 && woken[0].go);
    ck_assert_int_eq(ask(&w[2], 1).kind, QUOTA_WAIT); /* one goes first */
    end(false, NULL);
    (void)quota_turn(&q, wake, NULL, now);
    ck_assert_int_eq(wakes, 2);
}
END_TEST

/* A refusal that says nothing, of an API that never said anything: its documented limits are believed from
 * then on. */
START_TEST(refusal_without_a_word)
{
    struct quota_waiter w = {0};
    begin(false);
    disguised = true;
    (void)!ask(&w, 1).kind;
    end(true, NULL);
    ck_assert_int_eq(q.count, 3);
    struct quota_verdict v = ask(&w, 1);
    ck_assert_int_eq(v.kind, QUOTA_REFUSED);
    ck_assert(v.at > now + 55 * TICK_S && v.at <= now + 61 * TICK_S); /* the next minute of the server */
}
END_TEST

/* Nobody is alarmed by a limit that nobody sent: it is marked until a refusal shows that it is there. */
START_TEST(what_is_only_assumed_is_marked)
{
    for (int believed = 0; believed < 2; believed++) {
        begin(true);
        rules.believe = believed;
        quota_init(&q, &rules, now, 1767225600 * TICK_S);
        ck_assert(quota_look(&q, 0, now).assumed);
        q.in_flight = 1;
        quota_end(&q, &(struct quota_answer){true, true, true, now, NULL}, now + TICK_MS);
        ck_assert(!quota_look(&q, 0, now + TICK_MS).assumed);
    }
}
END_TEST

/*
 * "Wait a second", to the first call of all, three seconds before the minute is over: it was taken for the
 * end of the minute, and the third behind it was refused, as if the minute began late and at the even pace.
 */
START_TEST(first_call_refused_near_the_end_of_a_minute)
{
    struct rate_reading later = {.retry_after = TICK_S, .date = -1};
    for (int at = 0; at < 1200; at++) { /* by tenths of a second, on both sides of belief */
        struct quota_waiter w[4] = {0};
        begin(true);
        rules.believe = at & 1;
        quota_init(&q, &rules, now, WALL + at / 2 * 100 * TICK_MS);
        ck_assert_int_eq(ask(&w[0], 1).kind, QUOTA_GO);
        end(true, &later);
        for (int i = 1; i < 4; i++)
            ck_assert_int_eq(ask(&w[i], 1).kind, QUOTA_WAIT);
    }
}
END_TEST

/* What is only assumed holds nobody back; beyond it one goes first; an answer disproves it, a refusal
 * confirms it. */
START_TEST(assumed_and_not_believed)
{
    struct quota_waiter w[3] = {0};
    for (int refused = 0; refused < 2; refused++) {
        begin(true);
        rules.believe = false;
        quota_init(&q, &rules, now, WALL + TICK_S);
        memset(w, 0, sizeof w);
        ck_assert_int_eq(spend(60), 60);
        ck_assert_int_eq(ask(&w[0], 1).kind, QUOTA_GO);
        ck_assert_int_eq(ask(&w[1], 1).kind, QUOTA_WAIT);
        disguised = refused;
        end(refused, NULL);
        (void)quota_turn(&q, wake, NULL, now);
        ck_assert_int_eq(wakes > 0 && woken[0].go, !refused);
        if (!refused)
            ck_assert_int_eq(spend(500), 500);
        else
            ck_assert_int_eq(ask(&w[2], 1).kind, QUOTA_REFUSED);
    }
}
END_TEST

/* The server's clock is 30 s ahead of ours: its minute ends by its Date, not by our clock. */
START_TEST(servers_clock)
{
    struct quota_waiter w = {0};
    struct rate_reading r = {.retry_after = -1, .date = WALL / TICK_S + 31};
    begin(true);
    (void)!ask(&w, 1).kind;
    end(false, &r);
    tick_t ends = TICK_NEVER;
    for (int i = 0; i < q.count; i++)
        if (q.window[i].key == RATE_KEY_MINUTE)
            ends = quota_look(&q, i, now).ends;
    ck_assert(ends >= now + 28 * TICK_S && ends <= now + 30 * TICK_S);
}
END_TEST

START_TEST(background_gets_the_spare)
{
    struct quota_waiter w = {0};
    struct quota_call call = {.flow = 1, .deadline = TICK_NEVER, .background = true};
    begin(true);
    ck_assert_int_eq(quota_ask(&q, &call, &w, wake, NULL, now).kind, QUOTA_GO);
    end(false, NULL);
    for (int i = 0; i < 300; i++) { /* half a minute of a foreground that wants all */
        now += 100 * TICK_MS;
        if (ask(&w, 1).kind == QUOTA_GO)
            end(false, NULL);
        quota_leave(&q, &w);
    }
    ck_assert(!quota_spare(&q, now));
    ck_assert_int_eq(quota_ask(&q, &call, &w, wake, NULL, now).kind, QUOTA_REFUSED);
    ck_assert(!w.queued);
}
END_TEST

START_TEST(modes)
{
    struct quota_waiter w = {0};
    begin(true);
    rules.mode = QUOTA_OBSERVE;
    ck_assert_int_eq(spend(500), 500);
    ck_assert_int_eq(quota_look(&q, 0, now).left, 0);
    ck_assert_int_eq(quota_next(&q, now), now);
    rules.mode = QUOTA_REJECT;
    ck_assert_int_eq(ask(&w, 1).kind, QUOTA_REFUSED);
    rules.enabled = false;
    ck_assert_int_eq(spend(500), 500);
}
END_TEST

START_TEST(tuned)
{
    struct quota_waiter w = {0};
    begin(true);
    (void)spend(100);
    ck_assert_int_eq(ask(&w, 1).kind, QUOTA_WAIT);
    rules.assume = false;
    quota_tune(&q, &rules, now);
    ck_assert_int_eq(q.count, 0);
    (void)quota_turn(&q, wake, NULL, now);
    ck_assert(wakes == 1 && woken[0].go);
}
END_TEST

/* Random events: the counts agree, a waiter is woken once, and nobody waits beyond its time. */
enum { SLOTS = 48, SEQUENCES = 50000 };
static struct quota_waiter slot[SLOTS];
static int place[SLOTS];
static tick_t sent_at[SLOTS];

static void wake_slot(struct quota_waiter *w, bool go, tick_t at, void *arg)
{
    (void)at;
    (void)arg;
    must(place[w - slot] == 1);
    place[w - slot] = go ? 2 : 0;
    sent_at[w - slot] = now;
}

static void random_end(struct rng *rng, int i)
{
    struct rate_reading r = {.retry_after = rng_below(rng, 20) ? -1 : rng_range(rng, 0, 90 * TICK_S),
                             .date = -1};
    if (rng_below(rng, 3) == 0)
        r.date = WALL / TICK_S + (now - 5000 * TICK_S) / TICK_S + rng_range(rng, -2, 2);
    if (rng_below(rng, 2)) {
        r.count = 1;
        r.window[0] = (struct rate_window){(uint32_t)rng_below(rng, 20),    rng_range(rng, -1, 100),
                                           rng_range(rng, -1, 100),         rng_range(rng, -1, 100) * TICK_S,
                                           rng_range(rng, 0, 100) * TICK_S, rng_below(rng, 2)};
    }
    place[i] = 0;
    struct quota_answer a = {
        .charged = rng_below(rng, 8) != 0,
        .throttled = rng_below(rng, 6) == 0,
        .disguised = rng_below(rng, 12) == 0,
        .sent_at = sent_at[i],
        .reading = rng_below(rng, 5) ? &r : NULL,
    };
    quota_end(&q, &a, now);
}

static void one_event(struct rng *rng)
{
    int i = (int)rng_below(rng, SLOTS);
    uint32_t flying = 0, waiting = 0;
    now += rng_range(rng, 0, 2 * TICK_S);
    if (place[i] == 0) {
        struct quota_call call = {rng_below(rng, 200),
                                  rng_below(rng, 5) ? TICK_NEVER : now + rng_range(rng, 0, TICK_S),
                                  rng_below(rng, 6) == 0};
        place[i] = 1;
        struct quota_verdict v = quota_ask(&q, &call, &slot[i], wake_slot, NULL, now);
        if (v.kind != QUOTA_WAIT)
            place[i] = v.kind == QUOTA_GO ? 2 : 0;
        sent_at[i] = now;
        must(v.at >= now);
    } else if (place[i] == 1 && rng_below(rng, 4) == 0) {
        quota_leave(&q, &slot[i]);
        place[i] = 0;
    } else if (place[i] == 2) {
        random_end(rng, i);
    }
    tick_t due = quota_turn(&q, wake_slot, NULL, now);
    must(due > now && (due == TICK_NEVER) == (q.first == NULL));
    for (int k = 0; k < SLOTS; k++) {
        flying += place[k] == 2;
        waiting += place[k] == 1;
        must(slot[k].queued == (place[k] == 1));
    }
    must(q.in_flight == flying && q.waiting == waiting && q.count <= QUOTA_WINDOWS);
}

START_TEST(random_events)
{
    struct rng rng;
    rng_seed(&rng, (uint64_t)_i + 1);
    begin(_i % 2);
    memset(slot, 0, sizeof slot);
    memset(place, 0, sizeof place);
    for (int i = 0; i < 100000; i++)
        one_event(&rng);
    for (int k = 0; k < SLOTS; k++)
        if (place[k] == 2) {
            place[k] = 0;
            quota_end(&q, &(struct quota_answer){.sent_at = now}, now);
        }
    for (int i = 0; i < 100 && q.first; i++) {
        now += 100 * TICK_S;
        (void)quota_turn(&q, wake_slot, NULL, now);
        while (q.in_flight)
            quota_end(&q, &(struct quota_answer){.sent_at = now}, now);
    }
    ck_assert_int_eq(q.waiting, 0);
}
END_TEST

/* --- Never stuck: once nothing is under way any more, a call goes after a while. --- */

/* What others say about the budget that is shared. */
static void random_share(struct rng *rng)
{
    struct quota_part part[QUOTA_WINDOWS];
    int n = quota_parts(&q, part, now);
    if (rng_below(rng, 2))
        quota_share(&q, (int)rng_below(rng, 4), rng_below(rng, 2), now);
    else if (n)
        quota_granted(&q, &part[rng_below(rng, (uint64_t)n)], rng_range(rng, -1, 50), rng_range(rng, -1, 50),
                      now);
    else
        quota_heard_refusal(&q, now + rng_range(rng, -TICK_S, 90 * TICK_S), rng_below(rng, 2), now);
}

static void random_tune(struct rng *rng)
{
    rules.mode = (enum quota_mode)rng_below(rng, 3);
    rules.assume = rng_below(rng, 2);
    rules.believe = rules.assume && rng_below(rng, 2);
    rules.max_wait = rng_range(rng, 0, 20 * TICK_S);
    quota_tune(&q, &rules, now);
}

static void must_go_again(void)
{
    for (int k = 0; k < SLOTS; k++)
        if (place[k] == 2) {
            place[k] = 0;
            quota_end(&q, &(struct quota_answer){.sent_at = now}, now);
        } else if (place[k] == 1) {
            quota_leave(&q, &slot[k]);
            place[k] = 0;
        }
    must(q.in_flight == 0 && q.waiting == 0);
    quota_share(&q, q.sidecars, false, now); /* nobody grants any more */
    tick_t began = now;
    int gone = 0;
    for (int round = 0; round < 4000 && gone < 3;
         round++) { /* windows of a second that are stated to hold nothing */
        tick_t next = quota_next(&q, now);
        now = next > now ? next : now;
        must(now - began < 3 * 86400 * TICK_S); /* a day's window that was believed is the longest */
        place[0] = 1;
        struct quota_call call = {1, TICK_NEVER, false};
        struct quota_verdict v = quota_ask(&q, &call, &slot[0], wake_slot, NULL, now);
        if (v.kind == QUOTA_GO) {
            end(false, NULL);
            gone++;
        }
        quota_leave(&q, &slot[0]);
        place[0] = 0;
    }
    must(gone == 3);
}

/* 20 x 50,000 sequences of 1 to 40 events. */
START_TEST(never_stuck)
{
    struct rng rng;
    rng_seed(&rng, 700 + (uint64_t)_i);
    for (int sequence = 0; sequence < SEQUENCES; sequence++) {
        begin(sequence % 2);
        memset(slot, 0, sizeof slot);
        memset(place, 0, sizeof place);
        for (uint64_t n = rng_below(&rng, 40) + 1; n; n--) {
            uint64_t kind = rng_below(&rng, 40);
            if (kind == 0)
                random_tune(&rng);
            else if (kind < 4)
                random_share(&rng);
            one_event(&rng);
        }
        must_go_again();
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("quota");
    tcase_add_test(t, all_go_where_nothing_is_known);
    tcase_add_test(t, own_count);
    tcase_add_test(t, waits_and_is_let_go_in_time);
    tcase_add_test(t, bounded_wait);
    tcase_add_test(t, fair_shares);
    tcase_add_test(t, told_windows_replace_assumed_ones);
    tcase_add_test(t, out_of_order);
    tcase_add_test(t, nothing_left);
    tcase_add_test(t, retry_after_is_a_gate_for_all);
    tcase_add_test(t, refusal_without_a_word);
    tcase_add_test(t, what_is_only_assumed_is_marked);
    tcase_add_test(t, first_call_refused_near_the_end_of_a_minute);
    tcase_add_test(t, assumed_and_not_believed);
    tcase_add_test(t, servers_clock);
    tcase_add_test(t, background_gets_the_spare);
    tcase_add_test(t, modes);
    tcase_add_test(t, tuned);
    tcase_add_loop_test(t, random_events, 0, 4);
    tcase_add_loop_test(t, never_stuck, 0, 20);
    tcase_set_timeout(t, 60);
    return run_case("policy/quota", t);
}
