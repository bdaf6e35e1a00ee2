/*
 * /api/v1/debug: log levels of modules and a trace of chosen requests, for a while.
 * Invariants: a body is judged whole before anything of it is switched on; everything has an end.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "proxy/admin_request.h"
#include "proxy/debug.h"

#define DEBUG_HOW                                                                                            \
    "Send {\"seconds\": 1 to 86400, \"modules\": {\"pool\": \"debug\"}, \"trace\": {\"request_id\": "        \
    "\"...\", "                                                                                              \
    "\"client\": \"127.0.0.1\", \"phase\": \"sent\"}}; GET lists the modules."

static void reply(struct admin_request *r)
{
    struct view *v = view_new();
    tick_t now = r->sources->now(r->sources->ctx), until;
    struct debug_trace trace;
    const char *name;
    int level;
    static const char *const levels[] = {"debug", "info", "warning", "error"};
    if (v) {
        view_object(v, "modules");
        for (unsigned i = 0; (name = log_module(r->sources->log, i, &level, &until)); i++) {
            view_object(v, name);
            view_text(v, "level", level < 0 ? NULL : levels[level]);
            view_real(v, "seconds_left", level < 0 ? 0 : (double)(until - now) / (double)TICK_S);
            view_end(v);
        }
        view_end(v);
        if (debug_get_trace(r->sources->debug, &trace, &until)) {
            view_object(v, "trace");
            view_text(v, "request_id", *trace.request_id ? trace.request_id : NULL);
            view_text(v, "client", *trace.client ? trace.client : NULL);
            view_text(v, "phase", *trace.phase ? trace.phase : NULL);
            view_real(v, "seconds_left", (double)(until - now) / (double)TICK_S);
            view_end(v);
        } else {
            view_null(v, "trace");
        }
    }
    admin_reply(r, 200, v);
}

static bool known_module(const struct log *log, const char *name)
{
    const char *one;
    int level;
    tick_t until;
    for (unsigned i = 0; (one = log_module(log, i, &level, &until)); i++)
        if (strcmp(one, name) == 0)
            return true;
    return false;
}

static const char *modules_wrong(const struct log *log, const json_t *modules)
{
    const char *name;
    json_t *value;
    enum log_level level;
    if (modules && !json_is_object(modules))
        return "`modules` is not an object.";
    json_object_foreach((json_t *)(uintptr_t)modules, name, value)
    {
        if (!known_module(log, name))
            return "`modules` names a module that there is not.";
        if (!json_is_string(value) || !log_level_parse(json_string_value(value), &level))
            return "`modules` has a level that is none of debug, info, warning and error.";
    }
    return NULL;
}

static const char *phase_wrong(const char *text)
{
    static const char phases[] =
        " second gather holding joined serving admit queued sent relay backoff tunnel over ";
    char word[DEBUG_PHASE_MAX + 2];
    snprintf(word, sizeof word, " %.14s ", text);
    return strchr(text, ' ') || !strstr(phases, word)
               ? "`trace.phase` is no phase; there are second, gather, holding, joined, serving, admit, "
                 "queued, sent, relay, backoff, tunnel and over."
               : NULL;
}

static const char *client_wrong(const char *text)
{
    return debug_client_ok(text) ? NULL
                                 : "`trace.client` is no IP address, with or without a port, nor `unix`: "
                                   "names are not looked up.";
}

static const char *trace_wrong(const json_t *trace, struct debug_trace *out)
{
    const struct {
        const char *name;
        char *into;
        size_t room;
        const char *(*wrong)(const char *text);
    } members[] = {{"request_id", out->request_id, DEBUG_ID_MAX, NULL},
                   {"client", out->client, DEBUG_CLIENT_MAX, client_wrong},
                   {"phase", out->phase, DEBUG_PHASE_MAX, phase_wrong}};
    const char *name;
    json_t *value;
    *out = (struct debug_trace){"", "", ""};
    if (trace && !json_is_object(trace))
        return "`trace` is not an object.";
    if (trace && json_object_size(trace) == 0)
        return "`trace` is empty: it must say request_id, client or phase.";
    json_object_foreach((json_t *)(uintptr_t)trace, name, value)
    {
        const char *text = json_string_value(value), *wrong;
        size_t i = 0;
        while (i < 3 && strcmp(members[i].name, name) != 0)
            i++;
        if (i == 3)
            return "`trace` has a member that is none of request_id, client and phase.";
        if (!text || !*text || strlen(text) >= members[i].room)
            return "`trace` has a value that is not a short string.";
        if (members[i].wrong && (wrong = members[i].wrong(text)))
            return wrong;
        snprintf(members[i].into, members[i].room, "%s", text);
    }
    return NULL;
}

static const char *members_wrong(const json_t *body)
{
    size_t known = (json_object_get(body, "seconds") != NULL) + (json_object_get(body, "modules") != NULL) +
                   (json_object_get(body, "trace") != NULL);
    if (known < json_object_size(body))
        return "The body has a member that is none of seconds, modules and trace.";
    return json_object_get(body, "modules") || json_object_get(body, "trace")
               ? NULL
               : "The body has neither `modules` nor `trace`: there is nothing to switch on.";
}

void admin_show_debug(struct admin_request *r)
{
    if (r->sources->debug)
        reply(r);
    else
        admin_absent(r);
}

void admin_end_debug(struct admin_request *r)
{
    if (!r->sources->debug) {
        admin_absent(r);
        return;
    }
    debug_set_trace(r->sources->debug, NULL, 0);
    (void)log_expire_modules(r->sources->log, TICK_NEVER);
    reply(r);
}

static void switch_on(struct admin_request *r, const json_t *body, const struct debug_trace *trace)
{
    json_t *seconds = json_object_get(body, "seconds"), *value;
    tick_t until = r->sources->now(r->sources->ctx) + (seconds ? json_integer_value(seconds) : 300) * TICK_S;
    const char *name;
    enum log_level level;
    json_object_foreach(json_object_get(body, "modules"), name, value)
    {
        if (log_level_parse(json_string_value(value), &level))
            (void)log_set_module(r->sources->log, name, level, until);
    }
    if (json_object_get(body, "trace"))
        debug_set_trace(r->sources->debug, trace, until);
}

void admin_set_debug(struct admin_request *r)
{
    struct debug_trace trace;
    if (!r->sources->debug) {
        admin_absent(r);
        return;
    }
    json_t *body = admin_body(r);
    if (!body)
        return;
    const json_t *seconds = json_object_get(body, "seconds");
    const char *wrong = members_wrong(body);
    if (!wrong)
        wrong = modules_wrong(r->sources->log, json_object_get(body, "modules"));
    if (!wrong)
        wrong = trace_wrong(json_object_get(body, "trace"), &trace);
    if (!wrong && seconds &&
        (!json_is_integer(seconds) || json_integer_value(seconds) < 1 ||
         json_integer_value(seconds) > DEBUG_SECONDS_MOST))
        wrong = "`seconds` is not a whole number from 1 to 86400.";
    if (wrong) {
        admin_reply_error(r, 400, wrong, DEBUG_HOW);
    } else {
        snprintf(r->detail, sizeof r->detail, "log levels and trace");
        switch_on(r, body, &trace);
        reply(r);
    }
    json_decref(body);
}
