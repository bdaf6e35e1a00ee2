/*
 * What the decisions cost: nanoseconds a call, the best of several rounds (the machine may be shared).
 */
#include "policy/breaker.h"
#include "policy/idle_learn.h"
#include "policy/pool_size.h"
#include "policy/retry.h"
#include "policy/route.h"
#include "policy/trace_context.h"
#include "policy/wheel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 7, CALLS = 200000, TIMERS = 10000 };

static struct rng rng;
static struct routes *preset, *many;
static struct wheel wheel;
static struct wheel_timer timers[TIMERS];
static struct breaker breaker;
static struct retry_budget budget;
static struct pool_size pool;
static struct idle_learn idle;
static volatile uint64_t sink; /* so that no call is optimised away */

static const char *const paths[] = {
    "/v1/client/prompts/prompt_0123456789",
    "/v1/client/prompts/prompt_0123456789/versions/1.2.0",
    "/v1/client/prompts?query=hello&limit=50&offset=0",
    "/v1/client/prompts/prompt_0123456789/model/openai/gpt-4o",
    "/api/prompts/prompt_0123456789",
    "/health",
    "/v1/client/usage/log",
    "/not/there/at/all",
};

static void find(const struct routes *r, int i)
{
    static size_t length[ARRAY_LEN(paths)];
    size_t k = (size_t)i % ARRAY_LEN(paths);
    if (!length[k])
        length[k] = strlen(paths[k]);
    struct route_match m;
    routes_find(r, METHOD_GET, (struct slice){paths[k], length[k]}, &m);
    sink += m.route->operation;
}

static void route_preset_find(int i)
{
    find(preset, i);
}

static void route_many_find(int i)
{
    find(many, i);
}

static void route_find_and_tag(int i)
{
    (void)i;
    struct route_match m;
    char tag[200];
    routes_find(preset, METHOD_GET, (struct slice){paths[0], strlen(paths[0])}, &m);
    sink += route_tag(&m, 0, tag, sizeof tag);
}

static void wheel_push_back(int i)
{
    wheel_set(&wheel, &timers[i % TIMERS], 60 * TICK_S + i);
}

static void wheel_set_and_cancel(int i)
{
    struct wheel_timer *t = &timers[i % TIMERS];
    wheel_cancel(&wheel, t);
    wheel_set(&wheel, t, 30 * TICK_S + (tick_t)i * TICK_US);
}

static tick_t wheel_now;

/* One timer a millisecond falls due and is set again 10 s ahead. */
static void wheel_fire_and_set(int i)
{
    (void)i;
    wheel_now += TICK_MS;
    for (struct wheel_timer *t; (t = wheel_expire(&wheel, wheel_now));)
        wheel_set(&wheel, t, wheel_now + TIMERS * TICK_MS);
    sink += (uint64_t)wheel_next_due(&wheel);
}

static void breaker_call(int i)
{
    struct breaker_permit p = breaker_admit(&breaker, &rng, i * TICK_US);
    breaker_report(&breaker, p, (struct breaker_report){BREAKER_OK, TICK_MS, false}, &rng, i * TICK_US);
}

static void retry_call(int i)
{
    static const struct retry_rules rules = {
        BACKOFF_ADAPTIVE, JITTER_FULL, 3, 100 * TICK_MS, 60 * TICK_S, 30 * TICK_S, ~UINT32_C(0), {0}, 0.5};
    struct retry_case c = {.status = 503,
                           .attempts = 1,
                           .idempotent = true,
                           .sent = true,
                           .replayable = true,
                           .began = i * TICK_US,
                           .deadline = TICK_NEVER,
                           .retry_after = -1};
    retry_budget_request(&budget, i * TICK_US);
    sink += retry_decide(&rules, &c, &budget, &rng, i * TICK_US).why;
}

static void pool_call(int i)
{
    pool_size_demand(&pool, i % 20, i * TICK_US);
    sink += (uint64_t)pool_size_target(&pool, i * TICK_US).keep;
}

static void idle_call(int i)
{
    idle_learn_reused(&idle, TICK_S, i * TICK_US);
    sink += (uint64_t)idle_learn_trust(&idle, i * TICK_US);
}

static void trace_call(int i)
{
    (void)i;
    struct trace_context t;
    char out[TRACEPARENT_LEN];
    if (!traceparent_parse(SLICE("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), &t))
        abort();
    trace_child(&t, &rng);
    traceparent_format(&t, out);
    sink += (uint64_t)out[40];
}

static void measure(const char *name, void (*call)(int))
{
    double best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (int i = 0; i < CALLS; i++)
            call(i);
        clock_gettime(CLOCK_MONOTONIC, &b);
        double ns = ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / CALLS;
        best = ns < best ? ns : best;
    }
    printf("%-44s %7.1f ns\n", name, best);
}

/* 900 rows of a user before the preset's. */
static struct routes *compile_many(void)
{
    enum { ROWS = 900 };
    static char path[ROWS][64];
    static struct route_spec spec[ROWS];
    struct route_error error;
    for (int i = 0; i < ROWS; i++) {
        snprintf(path[i], sizeof path[i], "/v1/service%d/{a}/%d", i, i);
        spec[i] = (struct route_spec){.path = path[i], .operation = "mine"};
    }
    return routes_compile(spec, ROWS, true, NULL, &error);
}

int main(void)
{
    struct route_error error;
    static const struct breaker_rules breaker_rules = {true, 5,          0.5,         TICK_S, 1, 10 * TICK_S,
                                                       20,   5 * TICK_S, 60 * TICK_S, 3,      0};
    static const struct pool_rules pool_rules = {POOL_ADAPTIVE, 2, 100, true, 0.8};
    rng_seed(&rng, 1);
    preset = routes_compile(NULL, 0, true, NULL, &error);
    many = compile_many();
    if (!preset || !many)
        return 1;
    wheel_init(&wheel, 0);
    for (int i = 0; i < TIMERS; i++)
        wheel_set(&wheel, &timers[i], 10 * TICK_S + i * TICK_MS);
    breaker_init(&breaker, &breaker_rules, 0);
    retry_budget_init(&budget, 0.1, 1, 0);
    pool_size_init(&pool, &pool_rules, 0);
    idle_learn_init(&idle, 300 * TICK_S);
    measure("routes_find, preset", route_preset_find);
    measure("routes_find, 900 rows and the preset", route_many_find);
    measure("routes_find and route_tag", route_find_and_tag);
    measure("wheel_set, pushed back", wheel_push_back);
    measure("wheel_cancel and wheel_set, 10,000 timers", wheel_set_and_cancel);
    for (int i = 0; i < TIMERS; i++) {
        wheel_cancel(&wheel, &timers[i]);
        wheel_set(&wheel, &timers[i], (i + 1) * TICK_MS);
    }
    measure("wheel_expire and set again, 10,000 timers", wheel_fire_and_set);
    measure("breaker_admit and breaker_report", breaker_call);
    measure("retry_decide", retry_call);
    measure("pool_size_demand and target", pool_call);
    measure("idle_learn_reused and trust", idle_call);
    measure("traceparent: parse, child, format", trace_call);
    routes_free(preset);
    routes_free(many);
    return 0;
}
