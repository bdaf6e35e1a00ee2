/*
 * /api/v1/session: a browser shows the token once, and is known by a cookie that no script can read.
 *
 * Invariants: the token is in no URL and in no answer; a wrong one is counted like any request that the gate
 * refuses. The cookie is sent by the browser to this site only (SameSite=Strict), and over TLS only where the
 * port has TLS; what it may change is for the gate to judge.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "proxy/admin_gate.h"
#include "proxy/admin_request.h"
#include "proxy/admin_sessions.h"

static void reply(struct admin_request *r, unsigned left)
{
    struct view *v = view_new();
    if (v) {
        view_bool(v, "guarded", admin_gate_guarded(r->door->gate));
        view_bool(v, "authenticated",
                  left || !admin_gate_guarded(r->door->gate) || strcmp(r->who, "token") == 0);
        if (left)
            view_uint(v, "expires_in", left);
        else
            view_null(v, "expires_in");
    }
    admin_reply(r, 200, v);
}

static void set_cookie(struct admin_request *r, const char *id, int seconds)
{
    char cookie[192];
    snprintf(cookie, sizeof cookie,
             ADMIN_SESSION_COOKIE "=%s; Path=/; HttpOnly; SameSite=Strict; Max-Age=%d%s", id, seconds,
             r->door->encrypted ? "; Secure" : "");
    admin_header(r, "Set-Cookie", cookie);
    explicit_bzero(cookie, sizeof cookie);
}

static tick_t now_of(const struct admin_request *r)
{
    return r->sources->now(r->sources->ctx);
}

void admin_show_session(struct admin_request *r)
{
    char id[ADMIN_SESSION_ID];
    unsigned left = 0;
    if (admin_sessions_read(admin_field(r, "Cookie"), id))
        left = admin_sessions_left(r->door->sessions, id, admin_gate_generation(r->door->gate), now_of(r));
    reply(r, left);
}

/* 200: the body has the token. Otherwise the status that it was answered with. */
static int read_login(struct admin_request *r)
{
    json_t *body = admin_body(r);
    if (!body)
        return 400;
    const json_t *token = json_object_get(body, "token");
    const char *text = json_string_value(token);
    bool whole = text && json_object_size(body) == 1 && strlen(text) == json_string_length(token);
    bool good = whole && admin_gate_opens(r->door->gate, text);
    json_decref(body);
    if (!whole)
        admin_reply_error(r, 400, "The body is not an object with the member `token` alone.",
                          "Send {\"token\": \"<content of admin.token_file>\"}.");
    else if (!good && !admin_too_many_failed(r))
        admin_reply_error(r, 401, "This is not the admin token.",
                          "It is the content of admin.token_file, without white space around it.");
    return !whole ? 400 : good ? 200 : 401;
}

void admin_begin_session(struct admin_request *r)
{
    char id[ADMIN_SESSION_ID];
    if (!admin_gate_guarded(r->door->gate)) {
        admin_reply_error(r, 409, "No token is asked for here, so there is nothing to log in to.",
                          "Go on without; or set admin.token_file.");
        return;
    }
    if (read_login(r) != 200)
        return;
    if (!admin_sessions_begin(r->door->sessions, admin_gate_generation(r->door->gate), now_of(r), id)) {
        admin_reply_error(r, 503, "There is no randomness for a session.", "Try again.");
        return;
    }
    set_cookie(r, id, ADMIN_SESSION_SECONDS);
    explicit_bzero(id, sizeof id);
    reply(r, ADMIN_SESSION_SECONDS);
}

void admin_end_session(struct admin_request *r)
{
    char id[ADMIN_SESSION_ID];
    if (admin_sessions_read(admin_field(r, "Cookie"), id))
        admin_sessions_end(r->door->sessions, id);
    set_cookie(r, "", 0);
    reply(r, 0);
}
