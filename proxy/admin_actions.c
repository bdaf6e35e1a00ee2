/*
 * What can be changed through the admin port.
 *
 * Invariants: who asked was checked before (admin.c), and what was asked is written to the audit log there,
 * from r->detail. A body that is not exactly what is wanted changes nothing.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "proxy/admin_request.h"

void admin_drain(struct admin_request *r)
{
    if (!r->sources->drain) {
        admin_absent(r);
        return;
    }
    r->sources->drain(r->sources->ctx);
    struct view *v = view_new();
    if (v)
        view_bool(v, "draining", true);
    admin_reply(r, 202, v);
}

#define PURGE_HOW                                                                                            \
    "Send exactly one of {\"key\": \"/path?query\"}, {\"prefix\": \"/path\"}, {\"tag\": \"name\"} or "       \
    "{\"all\": true}."

/* Takes the one member of a purge's body apart. False with what is wrong. */
static bool read_purge(const json_t *body, enum admin_purge *kind, struct slice *what, const char **wrong)
{
    static const char *const names[] = {"key", "prefix", "tag", "all"};
    void *member = json_object_iter((json_t *)(uintptr_t)body);
    *wrong = "The body does not have exactly one member.";
    if (json_object_size(body) != 1)
        return false;
    *wrong = "The body's member is none of key, prefix, tag and all.";
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        const json_t *value = json_object_iter_value(member);
        if (strcmp(json_object_iter_key(member), names[i]) != 0)
            continue;
        *kind = (enum admin_purge)i;
        *what = SLICE("");
        *wrong = "`all` is not true.";
        if (*kind == PURGE_ALL)
            return json_is_true(value);
        *wrong = "The value is not a string, or is empty, or has a NUL in it.";
        *what = (struct slice){json_string_value(value), json_string_length(value)};
        return what->n && !memchr(what->p, 0, what->n);
    }
    return false;
}

void admin_purge(struct admin_request *r)
{
    enum admin_purge kind;
    struct slice what;
    const char *wrong;
    if (!r->sources->purge) {
        admin_absent(r);
        return;
    }
    json_t *body = admin_body(r);
    if (!body)
        return;
    if (!read_purge(body, &kind, &what, &wrong)) {
        admin_reply_error(r, 400, wrong, PURGE_HOW);
        json_decref(body);
        return;
    }
    int64_t purged = r->sources->purge(r->sources->ctx, kind, what);
    snprintf(r->detail, sizeof r->detail, "%s %.*s: %lld entries",
             json_object_iter_key(json_object_iter(body)), (int)(what.n < 200 ? what.n : 200), what.p,
             (long long)purged);
    json_decref(body);
    if (purged < 0) {
        admin_reply_error(r, 503, "The purge failed; some entries may be left.",
                          "See the log, and try again.");
        return;
    }
    struct view *v = view_new();
    if (v)
        view_int(v, "purged", purged);
    admin_reply(r, 200, v);
}

void admin_circuit_reset(struct admin_request *r)
{
    if (!r->sources->circuit_reset) {
        admin_absent(r);
        return;
    }
    snprintf(r->detail, sizeof r->detail, "%.250s", r->name);
    if (!r->sources->circuit_reset(r->sources->ctx, r->name)) {
        admin_reply_error(r, 404, "There is no circuit breaker of this name.",
                          "GET /api/v1/circuit lists them.");
        return;
    }
    struct view *v = view_new();
    if (v)
        view_bool(v, "reset", true);
    admin_reply(r, 200, v);
}
