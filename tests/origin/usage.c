/*
 * The usage log, kept as sums. Invariants: the maps by endpoint and by prompt are bounded (what comes late is
 * counted in the totals only); all is under one lock.
 */
#include "tests/origin/usage.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/origin/jsonread.h"
#include "tests/origin/server.h"
#include "tests/origin/when.h"

enum { MAX_NAMES = 200 };

struct usage {
    pthread_mutex_t lock;
    uint64_t requests, successes;
    int64_t tokens_requested, tokens_used;
    double cost, milliseconds;
    json_t *by_endpoint, *by_prompt, *by_hour;
};

static void clear(struct usage *u)
{
    u->requests = u->successes = 0;
    u->tokens_requested = u->tokens_used = 0;
    u->cost = u->milliseconds = 0;
    json_object_clear(u->by_endpoint);
    json_object_clear(u->by_prompt);
    json_object_clear(u->by_hour);
}

struct usage *usage_new(void)
{
    struct usage *u = calloc(1, sizeof(*u));
    if (!u)
        return NULL;
    pthread_mutex_init(&u->lock, NULL);
    u->by_endpoint = json_object();
    u->by_prompt = json_object();
    u->by_hour = json_object();
    if (u->by_endpoint && u->by_prompt && u->by_hour)
        return u;
    usage_free(u);
    return NULL;
}

void usage_free(struct usage *u)
{
    if (!u)
        return;
    json_decref(u->by_endpoint);
    json_decref(u->by_prompt);
    json_decref(u->by_hour);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

void usage_reset(struct usage *u)
{
    pthread_mutex_lock(&u->lock);
    clear(u);
    pthread_mutex_unlock(&u->lock);
}

static void count_name(json_t *map, const char *name)
{
    json_t *n = name ? json_object_get(map, name) : NULL;
    if (n)
        json_integer_set(n, json_integer_value(n) + 1);
    else if (name && json_object_size(map) < MAX_NAMES)
        json_object_set_new(map, name, json_integer(1));
}

static int64_t integer_of(const json_t *o, const char *name)
{
    return json_integer_value(json_object_get(o, name));
}

static void add_entry(struct usage *u, const json_t *o, int64_t now)
{
    char hour[32];
    const char *cost = json_string_value(json_object_get(o, "estimated_cost_usd"));
    pthread_mutex_lock(&u->lock);
    u->requests++;
    u->successes += integer_of(o, "status_code") < 400;
    u->tokens_requested += integer_of(o, "tokens_requested");
    u->tokens_used += integer_of(o, "tokens_used");
    u->milliseconds += json_number_value(json_object_get(o, "processing_time_ms"));
    u->cost += cost ? strtod(cost, NULL) : json_number_value(json_object_get(o, "estimated_cost_usd"));
    count_name(u->by_endpoint, json_string_value(json_object_get(o, "endpoint")));
    count_name(u->by_prompt, json_string_value(json_object_get(o, "prompt_id")));
    when_hour(now, hour);
    count_name(u->by_hour, hour);
    pthread_mutex_unlock(&u->lock);
}

void op_log_usage(struct call *call)
{
    struct request *r = call->request;
    struct text json = {0};
    json_t *o = json_loadb(r->body.n ? r->body.p : "", r->body.n, 0, NULL);
    static const char *const needed[] = {"endpoint", "method", NULL};
    if (!json_is_object(o)) {
        json_decref(o);
        reply_missing(call, NULL);
        return;
    }
    for (int i = 0; needed[i]; i++) {
        if (!json_is_string(json_object_get(o, needed[i]))) {
            json_decref(o);
            reply_missing(call, needed[i]);
            return;
        }
    }
    add_entry(call->origin->usage, o, settings_clock(call->settings));
    json_decref(o);
    text_puts(&json, "{\"message\":\"Usage logged successfully\"}");
    reply_json(call, 200, &json);
}

static json_t *list_of(const json_t *map, const char *name)
{
    json_t *list = json_array(), *value;
    const char *key;
    json_object_foreach((json_t *)map, key, value)
        json_array_append_new(list, json_pack("{s:s, s:O}", name, key, "count", value));
    return list;
}

void op_usage_stats(struct call *call)
{
    struct usage *u = call->origin->usage;
    int64_t now = settings_clock(call->settings);
    char from[40], to[40], cost[40];
    when_text(now - 30 * INT64_C(86400) * 1000000000, false, from);
    when_text(now, false, to);
    pthread_mutex_lock(&u->lock);
    snprintf(cost, sizeof(cost), "%.6f", u->cost);
    double n = u->requests ? (double)u->requests : 1;
    json_t *o =
        json_pack("{s:I, s:I, s:I, s:s, s:f, s:f, s:O, s:o, s:o, s:s, s:s}", "total_requests",
                  (json_int_t)u->requests, "total_tokens_requested", (json_int_t)u->tokens_requested,
                  "total_tokens_used", (json_int_t)u->tokens_used, "total_cost_usd", cost,
                  "average_response_time_ms", u->milliseconds / n, "success_rate", (double)u->successes / n,
                  "requests_by_endpoint", u->by_endpoint, "requests_by_hour", list_of(u->by_hour, "hour"),
                  "top_prompts", list_of(u->by_prompt, "prompt_id"), "period_start", from, "period_end", to);
    struct text json = {0};
    text_json_value(&json, o);
    pthread_mutex_unlock(&u->lock);
    json_decref(o);
    reply_json(call, 200, &json);
}
