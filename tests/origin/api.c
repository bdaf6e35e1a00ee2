/*
 * What happens to every request: count, outage, faults, credential, operation, fields. And the replies that
 * all handlers share. Invariant: after handle_request the reply is complete, whatever happened.
 */
#include "tests/origin/api.h"

#include <stdio.h>
#include <string.h>

#include "tests/origin/auth.h"
#include "tests/origin/fault.h"
#include "tests/origin/server.h"
#include "tests/origin/usage.h"
#include "tests/origin/when.h"

static const char json_media[] = "application/json";

struct slice request_field(const struct request *r, const char *name)
{
    for (int i = 0; i < r->head.field_count; i++)
        if (slice_is_nocase(head_name(&r->head, i), name))
            return head_value(&r->head, i);
    return (struct slice){NULL, 0};
}

struct slice request_param(const struct call *call, int index)
{
    return call->request->match.params[index];
}

const char *status_phrase(int status)
{
    static const struct {
        int status;
        const char *phrase;
    } table[] = {
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {422, "Unprocessable Entity"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].status == status)
            return table[i].phrase;
    return "Status";
}

void reply_blob(struct call *call, int status, struct blob *blob)
{
    struct reply *reply = call->reply;
    blob_unref(reply->blob);
    reply->status = status;
    reply->content_type = json_media;
    reply->source = FROM_BLOB;
    reply->blob = blob_ref(blob);
}

void reply_json(struct call *call, int status, struct text *json)
{
    struct reply *reply = call->reply;
    blob_unref(reply->blob);
    reply->blob = blob_take(json);
    reply->status = reply->blob ? status : 500;
    reply->content_type = reply->blob ? json_media : NULL;
    reply->source = reply->blob ? FROM_BLOB : FROM_NOTHING;
}

void reply_detail(struct call *call, int status, const char *detail)
{
    struct text json = {0};
    text_puts(&json, "{\"detail\":");
    text_json(&json, (struct slice){detail, strlen(detail)});
    text_puts(&json, "}");
    reply_json(call, status, &json);
}

void reply_error(struct call *call, int status, const char *error)
{
    struct text json = {0};
    char now[40];
    when_text(settings_clock(call->settings), true, now);
    text_puts(&json, "{\"success\":false,\"error\":");
    text_json(&json, (struct slice){error, strlen(error)});
    text_printf(&json, ",\"status_code\":%d,\"timestamp\":\"%s\",\"details\":{}}", status, now);
    reply_json(call, status, &json);
}

void reply_missing(struct call *call, const char *name)
{
    struct text json = {0};
    text_puts(&json, "{\"detail\":[{\"loc\":[\"body\"");
    if (name)
        text_printf(&json, ",\"%s\"", name);
    text_printf(&json, "],\"msg\":\"%s\",\"type\":\"%s\"}]}",
                name ? "field required" : "value is not a valid dict",
                name ? "value_error.missing" : "type_error.dict");
    reply_json(call, 422, &json);
}

void reply_field(struct call *call, const char *name, const char *value)
{
    text_printf(&call->reply->fields, "%s: %s\r\n", name, value);
}

static handler *const handlers[OP_COUNT] = {
    [OP_HEALTH] = op_health,
    [OP_GET_PROMPT] = op_get_prompt,
    [OP_LIST_VERSIONS] = op_list_versions,
    [OP_GET_PROMPT_VERSION] = op_get_prompt_version,
    [OP_SEARCH_PROMPTS] = op_search_prompts,
    [OP_LIST_PROMPTS] = op_list_prompts,
    [OP_GET_MODEL_PROMPT] = op_get_model_prompt,
    [OP_BATCH_GET] = op_batch_get,
    [OP_CREATE_PROMPT] = op_create_prompt,
    [OP_UPDATE_PROMPT] = op_update_prompt,
    [OP_DELETE_PROMPT] = op_delete_prompt,
    [OP_DELETE_VERSION] = op_delete_version,
    [OP_RENDER] = op_render,
    [OP_COMPATIBILITY] = op_compatibility,
    [OP_LOG_USAGE] = op_log_usage,
    [OP_USAGE_STATS] = op_usage_stats,
    [OP_USAGE_LIMITS] = op_usage_limits,
    [OP_LIST_KEYS] = op_list_keys,
    [OP_CREATE_KEY] = op_create_key,
    [OP_DELETE_KEY] = op_delete_key,
    [OP_VALIDATE_KEY] = op_validate_key,
    [OP_CHECK_KEY] = op_check_key,
    [OP_BYTES] = op_bytes,
    [OP_CHUNKED] = op_chunked,
    [OP_SSE] = op_sse,
    [OP_ECHO] = op_echo,
    [OP_STATUS] = op_status,
    [OP_DELAY] = op_delay,
    [OP_UPLOAD] = op_upload,
    [OP_WS] = op_ws,
    [OP_CACHEABLE] = op_cacheable,
    [OP_CONTROL_GET] = op_control_get,
    [OP_CONTROL_SET] = op_control_set,
    [OP_CONTROL_RESET] = op_control_reset,
};

static void run_operation(struct call *call)
{
    const struct route_match *match = &call->request->match;
    handler *handle = handlers[match->op];
    if (match->needs_key && !auth_check(call, call->settings))
        return;
    if (handle)
        handle(call);
    else if (match->other_method)
        reply_detail(call, 405, "Method Not Allowed");
    else
        reply_detail(call, 404, "Not Found");
}

void handle_request(struct call *call)
{
    enum op op = call->request->match.op;
    struct fault_draw draw = {0};
    if (op >= OP_CONTROL_GET) { /* neither counted nor disturbed */
        run_operation(call);
        return;
    }
    COUNT(&call->origin->counts, requests);
    COUNT(&call->origin->counts, by_op[op]);
    if (call->control) {
        run_operation(call);
        return;
    }
    if (fault_outage(call))
        return;
    fault_draw(call, &draw);
    if (!fault_answer(call, &draw)) {
        run_operation(call);
        fault_fields(call);
    }
    fault_apply(call, &draw);
}
