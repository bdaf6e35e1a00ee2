/*
 * /api/v1/recommendations and /api/v1/cache/curve: the guide's recommendation objects, with the evidence that
 * they rest on; trying, dismissing and taking back. Invariant: every number shown was measured or worked out
 * from what was.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "policy/config.h"
#include "proxy/admin_request.h"
#include "proxy/adviser.h"

/* What a kind is called, and what it saves. */
struct words {
    const char *strategy, *category, *title, *saves, *effort;
    const char *because; /* how the estimate was made */
};

static const struct words words[ADVISE_KINDS] = {
    [ADVISE_CACHE_SIZE] =
        {"SMART_CACHING", "Caching", "Enlarge the cache", "API calls", "low",
         "Entries are evicted that are asked for again; a miniature of the cache at twice the "
         "size hits more of the same requests."},
    [ADVISE_CACHE_TTL] =
        {"SMART_CACHING", "Caching", "Keep answers for longer", "API calls", "low",
         "Answers end their lifetime and come back the same; a miniature of the cache with a "
         "longer lifetime hits more of the same requests."},
    [ADVISE_MEMORY] = {"MEMORY_OPTIMIZATION", "Memory Usage", "Make the cache smaller", "memory of the cache",
                       "low",
                       "A miniature of the cache at half the size hits nearly as many of the same requests."},
    [ADVISE_POOL] =
        {"CONNECTION_POOLING", "Connection Pooling", "Allow more upstream connections", "request latency",
         "low",
         "Requests wait for a connection while all are in use; the wait ends when there are as many "
         "as were wanted at once."},
    [ADVISE_RETRY] =
        {"ADAPTIVE_RETRY", "Retry Logic", "Retry less", "upstream attempts", "low",
         "Of the recorded requests that were retried most failed all the same; counted again with "
         "fewer attempts."},
    [ADVISE_NETWORK] = {"NETWORK_OPTIMIZATION", "Network Performance", "Keep idle connections for longer",
                        "request latency", "low",
                        "Many attempts make a connection of their own, and wait for it."},
    [ADVISE_BREAKER] =
        {"CIRCUIT_BREAKER", "Circuit Breaker", "Switch the circuit breaker on", "request latency", "low",
         "The recorded requests, replayed through the circuit breaker: it would have cut short "
         "those that failed in the end."},
    [ADVISE_BATCHING] =
        {"REQUEST_BATCHING", "Request Batching", "Fetch prompts in batches", "upstream attempts", "low",
         "Recorded prompts were asked for within batching.window of each other; counted again as "
         "batches."},
    [ADVISE_DNS] =
        {"NETWORK_OPTIMIZATION", "Network Performance", "Use a quicker name server",
         "time to the first connection", "medium",
         "Lookups of the upstream's name are slow. Requests do not wait for them but after a start, "
         "and when the addresses have changed: then the wait is that of a lookup, beside that of a "
         "connection. Use a caching resolver near this machine."},
    [ADVISE_COMPRESSION] =
        {"COMPRESSION", "Compression", "Ask for compressed answers", "bytes from the API", "medium",
         "Large text answers come uncompressed: the application does not ask for a coding, or the API does "
         "not "
         "offer one. Their beginnings were looked at for repetition and entropy. Let the application send "
         "Accept-Encoding."},
};

static const char *impact_of(double improvement)
{
    return improvement >= 0.3 ? "high" : improvement >= 0.1 ? "medium" : "low";
}

static void put_estimate(struct view *v, const struct adviser_view *one)
{
    char text[96];
    const struct words *w = &words[one->kind];
    double gain = one->advice.estimate.improvement;
    snprintf(text, sizeof text, "%.0f%% less %s", gain * 100, w->saves);
    view_text(v, "estimated_improvement", text);
    view_object(v, "estimate");
    view_real(v, "improvement", gain);
    view_real(v, "margin", one->advice.margin);
    view_text(v, "of", w->saves);
    view_end(v);
    view_object(v, "evidence");
    view_text(v, "because", w->because);
    view_uint(v, "windows", one->advice.windows);
    view_uint(v, "requests_in_the_last", one->requests);
    view_end(v);
}

static void put_outcome(struct view *v, const struct adviser_view *one)
{
    view_text(v, "state", adviser_state_name(one->state));
    if (one->measured)
        view_real(v, "measured_improvement", one->improvement);
    else
        view_null(v, "measured_improvement");
    if (one->state != ADVISER_TRYING && !one->measured && !*one->why)
        return;
    view_object(v, "experiment");
    view_text(v, "verdict", experiment_verdict_name(one->verdict));
    view_uint(v, "pairs", one->pairs);
    view_uint(v, "pairs_in_all", EXPERIMENT_PAIRS);
    view_real(v, "margin", one->measured ? one->margin : NAN);
    view_text(v, "why", *one->why ? one->why : NULL);
    view_end(v);
}

static void put_one(struct view *v, const struct adviser_view *one)
{
    const struct words *w = &words[one->kind];
    char text[512];
    bool ours = *one->key;
    snprintf(text, sizeof text, ours ? "%s Set %s from %s to %s." : "%s", w->because, one->key, one->from,
             one->to);
    view_text(v, "id", adviser_id(one->kind));
    view_text(v, "strategy", w->strategy);
    view_text(v, "category", w->category);
    view_text(v, "title", w->title);
    view_text(v, "description", text);
    view_text(v, "impact", impact_of(one->advice.estimate.improvement));
    view_text(v, "effort", w->effort);
    view_real(v, "confidence", one->advice.confidence);
    view_real(v, "current_value", one->advice.estimate.current);
    view_real(v, "target_value", one->advice.estimate.target);
    put_estimate(v, one);
    if (ours) {
        view_object(v, "change");
        view_text(v, "key", one->key);
        view_text(v, "from", one->from);
        view_text(v, "to", one->to);
        view_end(v);
    } else {
        view_null(v, "change");
    }
    put_outcome(v, one);
}

void admin_put_advice(const struct admin_sources *s, struct view *v)
{
    const struct adviser *a = s->adviser;
    const char *trying = NULL;
    if (!a)
        return;
    const struct config *cfg = s->snapshot(s->ctx);
    view_bool(v, "enabled", cfg->performance_enabled && cfg->performance_enable_optimization_recommendations);
    view_bool(v, "auto_apply", cfg->performance_optimization_auto_apply);
    view_array(v, "recommendations");
    for (int kind = 0; kind < ADVISE_KINDS; kind++) {
        struct adviser_view one;
        if (!adviser_look(a, (enum advise_kind)kind, &one) || one.state == ADVISER_DISMISSED)
            continue;
        if (one.state == ADVISER_TRYING)
            trying = adviser_id(one.kind);
        view_object(v, NULL);
        put_one(v, &one);
        view_end(v);
    }
    view_end(v);
    view_text(v, "experiment", trying);
}

void admin_show_advice(struct admin_request *r)
{
    if (!r->sources->adviser) {
        admin_absent(r);
        return;
    }
    struct view *v = view_new();
    if (v)
        admin_put_advice(r->sources, v);
    admin_reply(r, 200, v);
}

static void act(struct admin_request *r,
                enum adviser_answer (*what)(struct adviser *a, const char *id, tick_t now))
{
    struct adviser *a = r->sources->adviser;
    if (!a) {
        admin_absent(r);
        return;
    }
    snprintf(r->detail, sizeof r->detail, "%.64s", r->name);
    switch (what(a, r->name, r->sources->now(r->sources->ctx))) {
    case ADVISER_DONE:
        break;
    case ADVISER_UNKNOWN:
        admin_reply_error(r, 404, "There is no such recommendation.",
                          "GET /api/v1/recommendations lists them.");
        return;
    case ADVISER_BUSY:
        admin_reply_error(r, 409, "Another recommendation is being tried.",
                          "Wait for its end, or revert it: GET /api/v1/recommendations names it.");
        return;
    case ADVISER_NOT_NOW:
        admin_reply_error(r, 409,
                          "The recommendation's state does not allow this, or its setting was changed.",
                          "GET /api/v1/recommendations shows both.");
        return;
    case ADVISER_NO_SETTING:
        admin_reply_error(r, 409, "No setting of the sidecar does this.",
                          "Its description says what to change, and where.");
        return;
    case ADVISER_REFUSED:
        admin_reply_error(r, 409, "The setting could not be changed, or the change could not be noted.",
                          "The log says why.");
        return;
    }
    struct view *v = NULL;
    for (int kind = 0; kind < ADVISE_KINDS; kind++) {
        struct adviser_view one;
        if (strcmp(adviser_id((enum advise_kind)kind), r->name) != 0 ||
            !adviser_look(a, (enum advise_kind)kind, &one) || !(v = view_new()))
            continue;
        put_one(v, &one);
        break;
    }
    admin_reply(r, 200, v);
}

void admin_apply_advice(struct admin_request *r)
{
    act(r, adviser_apply);
}

void admin_dismiss_advice(struct admin_request *r)
{
    act(r, adviser_dismiss);
}

void admin_revert_advice(struct admin_request *r)
{
    act(r, adviser_revert);
}

void admin_show_curve(struct admin_request *r)
{
    const struct curve_point *points;
    double rate = 0;
    if (!r->sources->adviser) {
        admin_absent(r);
        return;
    }
    const struct config *cfg = r->sources->snapshot(r->sources->ctx);
    unsigned n = adviser_curve(r->sources->adviser, &points, &rate);
    struct view *v = view_new();
    if (v) {
        view_uint(v, "max_entries", (uint64_t)cfg->cache_max_size);
        view_uint(v, "max_bytes", cfg->cache_max_memory_bytes);
        view_real(v, "sampled", rate);
        view_array(v, "points");
        for (unsigned i = 0; i < n; i++) {
            view_object(v, NULL);
            view_real(v, "factor", points[i].factor);
            view_real(v, "hit_ratio", points[i].hit_ratio);
            view_real(v, "gain", points[i].gain);
            view_real(v, "margin", points[i].margin);
            view_uint(v, "windows", points[i].windows);
            view_end(v);
        }
        view_end(v);
    }
    admin_reply(r, 200, v);
}
