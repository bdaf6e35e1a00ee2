/*
 * The paths that have nothing to do with prompts: bodies of any size and shape, for tests and benches.
 * Invariant: a number in a path is bounded before it is used; what is wrong with it is answered with 400.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "tests/origin/api.h"
#include "tests/origin/digest.h"
#include "tests/origin/jsonread.h"
#include "tests/origin/server.h"
#include "tests/origin/ws.h"

static const char bytes_type[] = "application/octet-stream";
#define MAX_BYTES UINT64_C(1000000000000)

/* A number from the path; false: the reply says what is wrong. */
static bool path_number(struct call *call, int index, uint64_t max, uint64_t *out)
{
    char sentence[96];
    if (parse_number(request_param(call, index), max, out))
        return true;
    snprintf(sentence, sizeof(sentence), "segment %d of the path must be a number up to %" PRIu64, index + 2, max);
    reply_error(call, 400, sentence);
    return false;
}

/* A number from the query, `value` as it was when it is not there. */
static bool query_number(struct call *call, const char *name, uint64_t max, uint64_t *value)
{
    struct text text = {0};
    bool good = !query_get(call->request->query, name, &text) ||
                parse_number((struct slice){text.p, text.n}, max, value);
    text_free(&text);
    if (!good)
        reply_error(call, 400, "a number in the query is not one, or is too large");
    return good;
}

static void reply_pattern(struct call *call, uint64_t n)
{
    call->reply->status = 200;
    call->reply->content_type = bytes_type;
    call->reply->source = FROM_PATTERN;
    call->reply->length = n;
}

void op_health(struct call *call)
{
    struct text json = {0};
    text_puts(&json, "{\"status\":\"healthy\",\"service\":\"promptops-origin\"}");
    reply_json(call, 200, &json);
}

void op_bytes(struct call *call)
{
    uint64_t n;
    if (path_number(call, 0, MAX_BYTES, &n))
        reply_pattern(call, n);
}

void op_chunked(struct call *call)
{
    uint64_t n, step;
    if (!path_number(call, 0, MAX_BYTES, &n) || !path_number(call, 1, 1024 * 1024, &step))
        return;
    if (step == 0) {
        reply_error(call, 400, "a chunk has at least 1 byte");
        return;
    }
    reply_pattern(call, n);
    call->reply->source = FROM_CHUNKS;
    call->reply->step = (uint32_t)step;
}

void op_sse(struct call *call)
{
    uint64_t count, interval;
    if (!path_number(call, 0, 1000000000, &count) || !path_number(call, 1, 3600000, &interval))
        return;
    call->reply->status = 200;
    call->reply->content_type = "text/event-stream; charset=utf-8";
    reply_field(call, "cache-control", "no-store");
    call->reply->source = FROM_EVENTS;
    call->reply->length = count;
    call->reply->step = (uint32_t)interval;
}

void op_echo(struct call *call)
{
    struct request *r = call->request;
    struct text json = {0};
    text_puts(&json, "{\"method\":");
    text_json(&json, head_method(&r->head));
    text_puts(&json, ",\"target\":");
    text_json(&json, head_path(&r->head));
    text_printf(&json, ",\"minor\":%d,\"headers\":[", r->head.minor);
    for (int i = 0; i < r->head.field_count; i++) {
        text_puts(&json, i ? ",[" : "[");
        text_json(&json, head_name(&r->head, i));
        text_puts(&json, ",");
        text_json(&json, head_value(&r->head, i));
        text_puts(&json, "]");
    }
    text_printf(&json, "],\"length\":%" PRIu64 ",\"body\":", r->body_len);
    text_json(&json, (struct slice){r->body.p, r->body.n});
    text_puts(&json, "}");
    reply_json(call, 200, &json);
}

void op_status(struct call *call)
{
    uint64_t status;
    if (!path_number(call, 0, 599, &status))
        return;
    if (status < 200) {
        reply_error(call, 400, "the status must be from 200 to 599");
        return;
    }
    if (status >= 400) {
        reply_error(call, (int)status, "As asked");
        return;
    }
    call->reply->status = (int)status;
    if (status >= 300 && status != 304)
        reply_field(call, "location", "/bytes/0");
    if (status != 204 && status != 304) {
        struct text json = {0};
        text_printf(&json, "{\"status\":%d}", (int)status);
        reply_json(call, (int)status, &json);
    }
}

void op_delay(struct call *call)
{
    uint64_t ms;
    struct text json = {0};
    if (!path_number(call, 0, 3600000, &ms))
        return;
    text_printf(&json, "{\"delayed_ms\":%" PRIu64 "}", ms);
    reply_json(call, 200, &json);
    call->reply->delay_us = ms * 1000;
}

void op_upload(struct call *call)
{
    struct request *r = call->request;
    struct text json = {0};
    char hex[65] = "";
    if (r->digest)
        digest_end(r->digest, hex);
    r->digest = NULL;
    text_printf(&json, "{\"length\":%" PRIu64 ",\"sha256\":\"%s\"}", r->body_len, hex);
    reply_json(call, 200, &json);
}

void op_ws(struct call *call)
{
    struct request *r = call->request;
    char accept[29];
    struct slice version = request_field(r, "sec-websocket-version");
    bool asked = r->head.upgrade && slice_is_nocase(head_first(&r->head, FIELD_UPGRADE), "websocket");
    if (!asked || r->head.minor == 0 || r->head.method != METHOD_GET) {
        reply_field(call, "upgrade", "websocket");
        reply_error(call, 426, "this is a WebSocket");
        return;
    }
    if (!slice_is(version, "13") || !ws_accept(request_field(r, "sec-websocket-key"), accept)) {
        reply_field(call, "sec-websocket-version", "13");
        reply_error(call, 400, "Sec-WebSocket-Version must be 13 and Sec-WebSocket-Key 24 characters");
        return;
    }
    call->reply->status = 101;
    call->reply->source = FROM_NOTHING;
    call->reply->upgrade = true;
    reply_field(call, "sec-websocket-accept", accept);
}

void op_cacheable(struct call *call)
{
    uint64_t n, age = 60;
    char line[48], etag[40];
    if (!path_number(call, 0, MAX_BYTES, &n) || !query_number(call, "max-age", 2147483648u, &age))
        return;
    reply_pattern(call, n);
    snprintf(line, sizeof(line), "max-age=%" PRIu64, age);
    reply_field(call, "cache-control", line);
    snprintf(etag, sizeof(etag), "\"bytes-%" PRIu64 "\"", n);
    reply_field(call, "etag", etag);
    struct slice none = head_first(&call->request->head, FIELD_IF_NONE_MATCH);
    if (!none.p || !(slice_is(none, "*") || memmem(none.p, none.n, etag, strlen(etag))))
        return;
    call->reply->status = 304;
    call->reply->content_type = NULL;
    call->reply->source = FROM_NOTHING;
}
