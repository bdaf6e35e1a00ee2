/*
 * Tests of proxy/pool.c in virtual time. Dials, connections, exchanges, the resolver and the mailbox are
 * stood in for here; permits, timers and what the pool learns are the real ones. At every step each
 * connection and each dial holds one permit.
 */
#include "proxy/pool.h"

#include <netinet/in.h>
#include <stdarg.h>

#include "metrics/counters.h"
#include "policy/wheel.h"
#include "proxy/address.h"
#include "proxy/dial.h"
#include "proxy/exchange.h"
#include "proxy/log.h"
#include "proxy/resolve.h"
#include "proxy/service.h"
#include "proxy/settings.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "tests/unit/policy/config_fixture.h"
#include "tests/unit/policy/harness.h"

enum { DIALS = 64, CALLERS = 32, LETTERS = 16 };

static tick_t now;
static struct fixture fixture;
static struct publication publication;
static struct settings settings = {.p = &publication, .refs = 1};
static struct metrics_block block;
static struct wheel wheel;
static struct service service;
static struct worker worker, *workers[1] = {&worker};
static struct pool *pool;

/* ---- the clock and the mailbox
 * -------------------------------------------------------------------------------- */

void worker_read_now(struct worker *w)
{
    w->now = now;
}

void worker_move_timer(struct worker *w, struct timer *timer, tick_t due)
{
    wheel_set(w->wheel, &timer->node, due);
}

void worker_cancel_timer(struct worker *w, struct timer *timer)
{
    wheel_cancel(w->wheel, &timer->node);
}

static struct letter *letters[LETTERS];
static int letter_count;

void mailbox_post(struct mailbox *box, struct letter *letter)
{
    (void)box;
    ck_assert_int_lt(letter_count, LETTERS);
    letters[letter_count++] = letter;
}

static void deliver(void)
{
    while (letter_count > 0) {
        struct letter *l = letters[--letter_count];
        l->deliver(l, &worker);
    }
}

/* Time goes on, and timers fire. */
static void pass(tick_t t)
{
    tick_t end = now + t;
    while (now < end) {
        struct wheel_timer *node;
        now = now + 100 * TICK_MS < end ? now + 100 * TICK_MS : end;
        worker.now = now;
        while ((node = wheel_expire(&wheel, now)))
            ((struct timer *)(void *)node)->fire((struct timer *)(void *)node);
    }
}

/* ---- the name
 * --------------------------------------------------------------------------------------------------- */

static struct address_list *addresses;
static bool name_failed;
static int kicks, lines_logged;

struct address_list *resolver_get(struct resolver *r)
{
    (void)r;
    return addresses ? address_list_ref(addresses) : NULL;
}

bool resolver_failed(struct resolver *r)
{
    (void)r;
    return name_failed;
}

void resolver_kick(struct resolver *r)
{
    (void)r;
    kicks++;
}

void log_write(struct log *log, enum log_level level, const char *module, const char *format, ...)
{
    (void)log;
    (void)level;
    (void)module;
    (void)format;
    lines_logged++;
}

static void resolved(uint32_t version)
{
    struct address a = {.len = sizeof(struct sockaddr_in)};
    address_list_unref(addresses);
    addresses = address_list_new(&a, 1);
    addresses->version = version;
    pool_refresh(pool);
}

/* ---- dials
 * ---------------------------------------------------------------------------------------------------------
 */

static struct dial {
    bool used;
    dial_done_fn *done;
    void *arg;
    uint32_t first;
} dials[DIALS];
static int dials_begun, dials_cancelled;

struct dial *dial_start(const struct dial_request *request, dial_done_fn *done, void *arg)
{
    for (int i = 0; i < DIALS; i++)
        if (!dials[i].used) {
            dials[i] = (struct dial){true, done, arg, request->first};
            dials_begun++;
            return &dials[i];
        }
    return NULL;
}

void dial_cancel(struct dial *dial)
{
    ck_assert(dial->used);
    dial->used = false;
    dials_cancelled++;
}

static int dialling(void)
{
    int n = 0;
    for (int i = 0; i < DIALS; i++)
        n += dials[i].used;
    return n;
}

static void dial_ends(enum reason why)
{
    for (int i = 0; i < DIALS; i++)
        if (dials[i].used) {
            struct dial_result result = {.reason = why, .stream = {.fd = -1}, .text = "as the test says"};
            dials[i].used = false;
            dials[i].done(dials[i].arg, &result);
            return;
        }
    ck_abort_msg("nobody dials");
}

/* ---- connections
 * ----------------------------------------------------------------------------------------------------- */

struct connection {
    struct upstream u; /* first */
    struct pooled pooled;
    bool idle, dead, stirs, ended_by_peer;
    tick_t announced;
};
static int open_connections, looks;
static bool next_speaks_first;

static struct connection *of(struct upstream *u)
{
    return (struct connection *)(void *)u;
}

struct upstream *upstream_open(struct worker *w, struct stream stream)
{
    struct connection *c = calloc(1, sizeof(*c));
    (void)stream;
    c->u.worker = w;
    c->idle = true;
    c->dead = next_speaks_first;
    c->pooled.born = c->pooled.idle_since = now;
    open_connections++;
    return &c->u;
}

struct pooled *upstream_pooled(struct upstream *u)
{
    return &of(u)->pooled;
}

void upstream_assign(struct upstream *u, struct exchange *x)
{
    of(u)->idle = false;
    u->exchange = x;
}

bool upstream_alive(struct upstream *u)
{
    looks++;
    return !of(u)->dead;
}

bool upstream_stirs(const struct upstream *u)
{
    return ((const struct connection *)(const void *)u)->stirs;
}

void upstream_close(struct upstream *u)
{
    pool_closed(pool, u, of(u)->idle);
    open_connections--;
    free(u);
}

static enum reason broken_by;

void upstream_break(struct upstream *u, enum reason why)
{
    broken_by = why;
    upstream_close(u);
}

tick_t upstream_announced_idle(const struct upstream *u)
{
    return ((const struct connection *)(const void *)u)->announced;
}

bool upstream_closed_by_peer(const struct upstream *u)
{
    return ((const struct connection *)(const void *)u)->ended_by_peer;
}

void upstream_note_dial(struct upstream *u, tick_t tcp, tick_t tls)
{
    (void)u;
    (void)tcp;
    (void)tls;
}

/* ---- exchanges
 * -------------------------------------------------------------------------------------------------------- */

static struct caller {
    struct pool_wait wait; /* its exchange's address is the caller's own */
    struct upstream *u;
    enum reason failed;
    int order; /* in which it was served */
} callers[CALLERS];
static int served, health_checks;

static struct caller *caller_of(struct exchange *x)
{
    return (struct caller *)(void *)x;
}

void exchange_connected(struct exchange *x, struct upstream *u)
{
    caller_of(x)->u = u;
    caller_of(x)->order = ++served;
}

void exchange_connect_failed(struct exchange *x, enum reason why)
{
    caller_of(x)->failed = why;
}

void exchange_check_health(struct worker *w)
{
    ck_assert_ptr_eq(w, &worker);
    health_checks++;
}

static void ask(int i)
{
    struct caller *c = &callers[i];
    memset(c, 0, sizeof(*c));
    c->wait.exchange = (struct exchange *)(void *)c;
    struct upstream *u = pool_acquire(pool, &c->wait);
    if (u)
        exchange_connected(c->wait.exchange, u);
}

/* The answer is whole. */
static void release(int i)
{
    struct upstream *u = callers[i].u;
    callers[i].u = NULL;
    u->exchange = NULL;
    u->reused = true;
    of(u)->idle = true;
    pool_release(pool, u);
}

/* ---- the frame
 * -----------------------------------------------------------------------------------------------------------
 */

static void invariants(void)
{
    struct pool_stats s = pool_stats(pool);
    ck_assert_uint_eq(s.dialing, (unsigned)dialling());
    ck_assert_uint_eq(s.idle + s.busy, (unsigned)open_connections);
    ck_assert_uint_eq(permits_held(service.permits), s.idle + s.busy + s.dialing);
    ck_assert(s.waiting == 0 || s.idle == 0);
    ck_assert_uint_eq(metric_get(&block, METRIC_POOL_IDLE), s.idle);
    ck_assert_uint_eq(metric_get(&block, METRIC_POOL_ACTIVE), s.busy);
    ck_assert_uint_eq(metric_get(&block, METRIC_POOL_WAITING), s.waiting);
    ck_assert_uint_eq(metric_get(&block, METRIC_POOL_CONNECTING), s.dialing);
}

static void begin(const char *const *flags)
{
    now = 1000 * TICK_S;
    fixture_begin(&fixture);
    for (; flags && flags[0]; flags += 2)
        fixture_flag(&fixture, flags[0], flags[1]);
    publication.cfg = fixture_good(&fixture);
    wheel_init(&wheel, now);
    service.permits = permits_new((unsigned)publication.cfg->pool_max_size);
    service.workers = workers;
    service.worker_count = 1;
    worker = (struct worker){
        .service = &service, .wheel = &wheel, .metrics = &block, .settings = &settings, .now = now};
    pool = worker.pool = pool_new(&worker);
    resolved(1);
}

static void end(void)
{
    for (int i = 0; i < CALLERS; i++)
        pool_cancel(pool, &callers[i].wait);
    pool_free(pool);
    ck_assert_int_eq(open_connections, 0);
    ck_assert_uint_eq(permits_held(service.permits), 0);
    ck_assert_uint_eq(permits_waiting(service.permits), 0);
    permits_free(service.permits);
    address_list_unref(addresses);
    fixture_end(&fixture);
}

#define LAZY "pool.strategy", "lazy", "pool.min_size", "0"
static const char *const lazy_two[] = {LAZY, "pool.max_size", "2", NULL};

START_TEST(a_dial_for_who_comes_and_the_same_connection_for_the_next)
{
    begin(lazy_two);
    ask(0);
    ck_assert(!callers[0].u && dialling() == 1);
    invariants();
    dial_ends(REASON_NONE);
    ck_assert(callers[0].u && !callers[0].u->pooled);
    struct upstream *first = callers[0].u;
    release(0);
    invariants();
    ask(1);
    ck_assert(callers[1].u == first && first->pooled);
    ck_assert_int_eq(dials_begun, 1);
    release(1);
    end();
}
END_TEST

START_TEST(first_come_first_served_within_the_limit)
{
    begin(lazy_two);
    for (int i = 0; i < 6; i++) {
        ask(i);
        invariants();
    }
    ck_assert_int_eq(dialling(), 2);
    dial_ends(REASON_NONE);
    dial_ends(REASON_NONE);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(callers[i].order, i + 1);
        release(i);
        invariants();
    }
    ck_assert(dials_begun == 2 && open_connections == 2);
    end();
}
END_TEST

START_TEST(who_leaves_the_queue_is_passed_over)
{
    static const char *const one[] = {LAZY, "pool.max_size", "1", NULL};
    begin(one);
    for (int i = 0; i < 4; i++)
        ask(i);
    dial_ends(REASON_NONE);
    pool_cancel(pool, &callers[1].wait);
    pool_cancel(pool, &callers[1].wait); /* safe twice */
    invariants();
    release(0);
    ck_assert(callers[2].u && !callers[1].u);
    pool_cancel(pool, &callers[3].wait);
    release(2);
    invariants();
    ck_assert_int_eq(open_connections, 1);
    end();
}
END_TEST

START_TEST(a_dial_that_nobody_needs_any_more_warms_the_pool)
{
    begin(lazy_two);
    ask(0);
    pool_cancel(pool, &callers[0].wait);
    dial_ends(REASON_NONE);
    invariants();
    ck_assert_uint_eq(pool_stats(pool).idle, 1);
    end();
}
END_TEST

START_TEST(a_failed_dial_fails_the_first_and_frees_its_permit)
{
    begin(lazy_two);
    for (int i = 0; i < 3; i++)
        ask(i);
    dial_ends(REASON_CONNECT_FAILED);
    ck_assert(callers[0].failed == REASON_CONNECT_FAILED && callers[1].failed == REASON_NONE);
    deliver();
    ck_assert_int_eq(dialling(), 2); /* for the two that are left */
    invariants();
    dial_ends(REASON_CONNECT_TIMEOUT);
    deliver();
    dial_ends(REASON_NONE);
    deliver();
    ck_assert(callers[1].failed == REASON_CONNECT_TIMEOUT && callers[2].u);
    ck_assert_int_eq(kicks, 2);        /* the name may point elsewhere by now */
    ck_assert_int_eq(lines_logged, 1); /* once a second */
    invariants();
    end();
}
END_TEST

START_TEST(a_server_that_speaks_first_is_not_asked)
{
    begin(lazy_two);
    next_speaks_first = true;
    ask(0);
    dial_ends(REASON_NONE);
    ck_assert_int_eq(callers[0].failed, REASON_EARLY_RESPONSE);
    ck_assert_int_eq(open_connections, 0);
    invariants();
    end();
}
END_TEST

/* One idle connection, about which `unfit` changes something: it is closed, and another is dialled. */
static void is_not_used(void (*unfit)(struct connection *c))
{
    ask(0);
    if (dialling())
        dial_ends(REASON_NONE);
    struct connection *c = of(callers[0].u);
    release(0);
    int begun = dials_begun;
    unfit(c);
    ask(1);
    ck_assert_int_eq(dials_begun, begun + 1);
    ck_assert_ptr_null(callers[1].u);
    dial_ends(REASON_NONE);
    ck_assert_ptr_nonnull(callers[1].u);
    invariants();
    release(1);
}

static void died_a_while_ago(struct connection *c)
{
    c->dead = true;
    pass(TICK_S);
}

static void stirred_in_this_turn(struct connection *c)
{
    c->dead = c->stirs = true;
}

static void is_too_old(struct connection *c)
{
    (void)c;
    pass(11 * TICK_S);
}

static void was_announced_to_end(struct connection *c)
{
    c->announced = 2 * TICK_S;
    pass(2 * TICK_S);
}

static void has_another_address(struct connection *c)
{
    (void)c;
    resolved(addresses->version + 1);
}

START_TEST(connections_that_are_not_used_again)
{
    static void (*const unfit[])(struct connection *) = {died_a_while_ago, stirred_in_this_turn, is_too_old,
                                                         was_announced_to_end, has_another_address};
    static const char *const flags[] = {LAZY, "pool.max_size", "1", "pool.max_connection_age", "10", NULL};
    begin(flags);
    for (size_t i = 0; i < ARRAY_LEN(unfit); i++)
        is_not_used(unfit[i]);
    end();
}
END_TEST

START_TEST(looking_costs_a_call_and_is_done_when_there_is_reason_to)
{
    begin(lazy_two);
    ask(0);
    dial_ends(REASON_NONE);
    looks = 0;
    release(0);
    ask(0);
    ck_assert_int_eq(looks, 0); /* it was idle for no time at all */
    release(0);
    pass(TICK_S);
    ask(0);
    ck_assert(looks == 1 && callers[0].u);
    struct connection *c = of(callers[0].u);
    release(0);
    c->stirs = true; /* as a session ticket does */
    ask(0);
    ck_assert(looks == 2 && callers[0].u == &c->u);
    release(0);
    end();
}
END_TEST

START_TEST(an_old_address_is_drained_not_cut)
{
    begin(lazy_two);
    ask(0);
    ask(1);
    dial_ends(REASON_NONE);
    dial_ends(REASON_NONE);
    release(1);
    resolved(2);
    ck_assert_int_eq(open_connections, 1); /* the idle one went at once */
    ck_assert_ptr_nonnull(callers[0].u);   /* the busy one finishes what it does */
    release(0);
    ck_assert_int_eq(open_connections, 0);
    invariants();
    end();
}
END_TEST

START_TEST(without_a_name_they_wait_for_it)
{
    begin(lazy_two);
    address_list_unref(addresses);
    addresses = NULL;
    ask(0);
    ck_assert(dialling() == 0 && callers[0].failed == REASON_NONE);
    invariants();
    resolved(1);
    ck_assert_int_eq(dialling(), 1);
    dial_ends(REASON_NONE);
    ck_assert_ptr_nonnull(callers[0].u);
    release(0);
    pool_close_idle(pool);
    address_list_unref(addresses);
    addresses = NULL;
    name_failed = true;
    ask(1);
    ck_assert_int_eq(callers[1].failed, REASON_DNS_FAILED);
    invariants();
    end();
}
END_TEST

START_TEST(warm_before_anybody_asks_and_after_failures_ever_more_patiently)
{
    static const char *const fixed[] = {
        "pool.strategy", "fixed", "pool.min_size", "3", "pool.max_size", "3", NULL};
    begin(fixed);
    pass(100 * TICK_MS);
    ck_assert_int_eq(dialling(), 3);
    while (dialling())
        dial_ends(REASON_CONNECT_FAILED);
    invariants();
    int begun = dials_begun;
    pass(500 * TICK_MS);
    ck_assert_int_eq(dials_begun, begun);
    for (int i = 0; i < 100; i++) {
        pass(TICK_S);
        while (dialling())
            dial_ends(REASON_CONNECT_FAILED);
    }
    ck_assert_int_le(dials_begun - begun, 3 * 10); /* not three each second */
    ck_assert_int_ge(dials_begun - begun, 3);
    pass(31 * TICK_S);
    while (dialling())
        dial_ends(REASON_NONE);
    ck_assert_uint_eq(pool_stats(pool).idle, 3);
    invariants();
    end();
}
END_TEST

START_TEST(what_the_server_closes_is_opened_again)
{
    static const char *const fixed[] = {
        "pool.strategy", "fixed", "pool.min_size", "2", "pool.max_size", "2", NULL};
    begin(fixed);
    pass(TICK_S);
    dial_ends(REASON_NONE);
    dial_ends(REASON_NONE);
    ask(0);
    struct upstream *u = callers[0].u;
    release(0);
    of(u)->ended_by_peer = true;
    upstream_close(u);
    invariants();
    pass(1100 * TICK_MS);
    ck_assert_int_eq(dialling(), 1);
    dial_ends(REASON_NONE);
    ck_assert_uint_eq(pool_stats(pool).idle, 2);
    end();
}
END_TEST

START_TEST(a_lower_limit_closes_what_becomes_free)
{
    begin(lazy_two);
    ask(0);
    ask(1);
    dial_ends(REASON_NONE);
    dial_ends(REASON_NONE);
    permits_set_max(service.permits, 1);
    release(0);
    ck_assert_int_eq(open_connections, 1);
    release(1);
    ck_assert_int_eq(open_connections, 1);
    invariants();
    end();
}
END_TEST

START_TEST(another_workers_need_comes_in_turn)
{
    static const char *const one[] = {LAZY, "pool.max_size", "1", NULL};
    static struct worker other; /* its grants come to the same mailbox here */
    struct ticket theirs = {0};
    begin(one);
    other = worker;
    ask(0);
    dial_ends(REASON_NONE);
    permits_wait(service.permits, &theirs, &other);
    ask(1); /* ours comes behind theirs */
    release(0);
    ck_assert_int_eq(open_connections, 0); /* the permit went over: the connection cannot */
    ck_assert_uint_eq(permits_held(service.permits), 1);
    ck_assert_ptr_null(callers[1].u);
    pool_cancel(pool, &callers[1].wait);
    letter_count = 0;
    permits_give(service.permits); /* as the other worker will */
    end();
}
END_TEST

START_TEST(a_grant_that_comes_too_late_is_given_back)
{
    static const char *const one[] = {LAZY, "pool.max_size", "1", NULL};
    struct ticket other = {0};
    begin(one);
    ck_assert(permits_take(service.permits)); /* another worker has it */
    ask(0);
    ck_assert_int_eq(dialling(), 0);
    ck_assert_uint_eq(permits_waiting(service.permits), 1);
    permits_give(service.permits); /* a letter is under way */
    pool_cancel(pool, &callers[0].wait);
    deliver();
    ck_assert(dialling() == 0 && permits_held(service.permits) == 0);
    permits_leave(service.permits, &other);
    end();
}
END_TEST

START_TEST(the_upstream_is_asked_how_it_is)
{
    static const char *const flags[] = {LAZY, "pool.max_size", "1", "pool.health_check_interval", "5", NULL};
    begin(flags);
    pass(TICK_S);
    ck_assert_int_eq(health_checks, 0); /* the first one tells nothing that a request would not */
    pass(20 * TICK_S);
    ck_assert_int_ge(health_checks, 3);
    ck_assert_int_le(health_checks, 5);
    end();
}
END_TEST

START_TEST(at_the_end_all_hear)
{
    begin(lazy_two);
    for (int i = 0; i < 3; i++)
        ask(i);
    dial_ends(REASON_NONE);
    pool_cut(pool);
    ck_assert_int_eq(callers[1].failed, REASON_SHUTTING_DOWN);
    ck_assert_int_eq(callers[2].failed, REASON_SHUTTING_DOWN);
    ck_assert_int_eq(broken_by, REASON_SHUTTING_DOWN);
    ck_assert_int_eq(dialling(), 1);
    end(); /* which cancels the dial */
    ck_assert_int_eq(dials_cancelled, 1);
}
END_TEST

/* Chance: nothing is lost, whatever the order. */
START_TEST(any_order)
{
    static const char *const flags[] = {LAZY, "pool.max_size", "5", "pool.max_connection_age", "30", NULL};
    uint32_t dice = 12345u + (uint32_t)_i;
    begin(flags);
    for (int step = 0; step < 20000; step++) {
        dice = dice * 1664525u + 1013904223u;
        int i = (int)(dice >> 24) % CALLERS, what = (int)(dice >> 8) % 12;
        struct caller *c = &callers[i];
        if (what < 4 && !c->u && !c->wait.waiting)
            ask(i);
        else if (what < 7 && c->u)
            release(i);
        else if (what == 7)
            pool_cancel(pool, &c->wait);
        else if (what == 8 && dialling())
            dial_ends(dice & 128 ? REASON_NONE : REASON_CONNECT_FAILED);
        else if (what == 9 && c->u) {
            struct upstream *u = c->u;
            c->u = NULL;
            upstream_close(u); /* broken in the middle of an answer */
        } else if (what == 10)
            deliver();
        else if (what == 11)
            pass(dice & 64 ? TICK_MS : TICK_S);
        if (step % 997 == 0)
            resolved(addresses->version + 1);
        struct pool_stats s = pool_stats(pool);
        must(s.idle + s.busy == (unsigned)open_connections && s.dialing == (unsigned)dialling());
        must(permits_held(service.permits) <= 5);
        must(letter_count > 0 || permits_held(service.permits) == s.idle + s.busy + s.dialing);
    }
    deliver();
    while (dialling()) {
        dial_ends(REASON_NONE);
        deliver();
    }
    invariants();
    end();
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, a_dial_for_who_comes_and_the_same_connection_for_the_next);
    tcase_add_test(tc, first_come_first_served_within_the_limit);
    tcase_add_test(tc, who_leaves_the_queue_is_passed_over);
    tcase_add_test(tc, a_dial_that_nobody_needs_any_more_warms_the_pool);
    tcase_add_test(tc, a_failed_dial_fails_the_first_and_frees_its_permit);
    tcase_add_test(tc, a_server_that_speaks_first_is_not_asked);
    tcase_add_test(tc, connections_that_are_not_used_again);
    tcase_add_test(tc, looking_costs_a_call_and_is_done_when_there_is_reason_to);
    tcase_add_test(tc, an_old_address_is_drained_not_cut);
    tcase_add_test(tc, without_a_name_they_wait_for_it);
    tcase_add_test(tc, warm_before_anybody_asks_and_after_failures_ever_more_patiently);
    tcase_add_test(tc, what_the_server_closes_is_opened_again);
    tcase_add_test(tc, a_lower_limit_closes_what_becomes_free);
    tcase_add_test(tc, another_workers_need_comes_in_turn);
    tcase_add_test(tc, a_grant_that_comes_too_late_is_given_back);
    tcase_add_test(tc, the_upstream_is_asked_how_it_is);
    tcase_add_test(tc, at_the_end_all_hear);
    tcase_add_loop_test(tc, any_order, 0, 5);
    return run_case("pool", tc);
}
