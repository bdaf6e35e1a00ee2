/*
 * GET /__control tells what was received and what is set; POST changes what is set; POST /__control/reset makes all
 * as it was at the start. Invariant: a refused change changes nothing.
 */
#include "tests/origin/api.h"
#include "tests/origin/auth.h"
#include "tests/origin/jsonread.h"
#include "tests/origin/server.h"

void op_control_get(struct call *call)
{
    struct text json = {0};
    json_t *received = counts_json(&call->origin->counts);
    text_puts(&json, "{\"received\":");
    text_json_value(&json, received);
    text_puts(&json, ",\"settings\":");
    text_json_value(&json, call->settings->source);
    text_puts(&json, "}");
    json_decref(received);
    reply_json(call, 200, &json);
}

void op_control_set(struct call *call)
{
    struct request *r = call->request;
    struct text why = {0};
    json_error_t error;
    json_t *patch = json_loadb(r->body.n ? r->body.p : "", r->body.n, JSON_REJECT_DUPLICATES, &error);
    if (!patch) {
        text_printf(&why, "line %d, column %d: %s", error.line, error.column, error.text);
        reply_error(call, 400, text_cstr(&why));
    } else if (!settings_patch(call->origin->settings, patch, &why)) {
        reply_error(call, 400, text_cstr(&why));
    } else {
        server_settings_changed(call->origin->server);
        call->settings = worker_settings(call->worker);
        op_control_get(call);
    }
    text_free(&why);
    json_decref(patch);
}

void op_control_reset(struct call *call)
{
    struct origin *o = call->origin;
    bool good = settings_reset(o->settings) && store_reset(o->store);
    keyring_reset(o->keyring);
    usage_reset(o->usage);
    counts_reset(&o->counts);
    server_settings_changed(o->server);
    call->settings = worker_settings(call->worker);
    if (good)
        op_control_get(call);
    else
        reply_error(call, 500, "out of memory");
}
