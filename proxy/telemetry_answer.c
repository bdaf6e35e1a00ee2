/*
 * Reads answers of a collector. Invariant: what it sends is trusted for nothing but how to go on; whatever is
 * malformed counts as not said.
 */
#include "proxy/telemetry_answer.h"

#include <stddef.h>

#include "metrics/protobuf.h"

/* The codes of gRPC after which OTLP may send again. */
enum {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_FRAME = 5 /* bytes before a message: compressed or not, length */
};

#define DELAY_MOST (300 * TICK_S)

/* ---- google.rpc.Status in grpc-status-details-bin ---- */

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    return c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Base64 with or without its padding. Returns the bytes. */
static size_t from_base64(const char *text, uint8_t *out, size_t room)
{
    uint32_t bits = 0;
    unsigned held = 0;
    size_t n = 0;
    for (; *text && digit(*text) >= 0 && n < room; text++) {
        bits = bits << 6 | (uint32_t)digit(*text);
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[n++] = (uint8_t)(bits >> held);
        }
    }
    return n;
}

/* The content of field `number`, of the kind LENGTH; empty when there is none. */
static struct pb_reader inside(struct pb_reader r, unsigned number)
{
    struct pb_field f;
    bool bad = false;
    while (pb_next(&r, &f, &bad))
        if (f.number == number && f.kind == PB_LENGTH)
            return f.content;
    return (struct pb_reader){r.end, r.end};
}

static uint64_t varint(struct pb_reader r, unsigned number)
{
    struct pb_field f;
    bool bad = false;
    while (pb_next(&r, &f, &bad))
        if (f.number == number && f.kind == PB_VARINT)
            return f.value;
    return 0;
}

/* Any { type_url = 1, value = 2 } of a RetryInfo { retry_delay = 1 }; -1: it is another. */
static tick_t delay_in(struct pb_reader any)
{
    static const char name[] = "google.rpc.RetryInfo";
    struct pb_reader url = inside(any, 1);
    size_t n = (size_t)(url.end - url.p), k = sizeof name - 1;
    if (n < k)
        return -1;
    for (size_t i = 0; i < k; i++)
        if (url.p[n - k + i] != (uint8_t)name[i])
            return -1;
    struct pb_reader delay = inside(inside(any, 2), 1);
    uint64_t seconds = varint(delay, 1), nanos = varint(delay, 2);
    if (seconds > DELAY_MOST / TICK_S)
        return DELAY_MOST;
    return (tick_t)seconds * TICK_S + (nanos < TICK_S ? (tick_t)nanos : 0);
}

static tick_t retry_info(const char *details)
{
    uint8_t room[POST_DETAILS_MOST];
    struct pb_field f;
    bool bad = false;
    struct pb_reader r = {room, room + from_base64(details, room, sizeof room)};
    tick_t delay = -1;
    while (delay < 0 && pb_next(&r, &f, &bad))
        if (f.number == 3 && f.kind == PB_LENGTH)
            delay = delay_in(f.content);
    return delay;
}

/* ---- verdicts ---- */

static enum courier_verdict by_status(int status)
{
    if (status >= 200 && status < 300)
        return COURIER_GOOD;
    return status == 429 || status == 502 || status == 503 || status == 504 ? COURIER_AGAIN : COURIER_NEVER;
}

enum courier_verdict telemetry_judge(bool grpc, const struct post_result *result, tick_t *retry_after)
{
    if (!grpc || result->status != 200)
        return grpc && result->status < 300 ? COURIER_NEVER : by_status(result->status);
    tick_t delay = result->grpc_details ? retry_info(result->grpc_details) : -1;
    if (delay >= 0)
        *retry_after = delay;
    switch (result->grpc_status) {
    case GRPC_OK:
        return COURIER_GOOD;
    case GRPC_RESOURCE_EXHAUSTED: /* may be for good: only who says when to come back means it */
        return delay >= 0 ? COURIER_AGAIN : COURIER_NEVER;
    case GRPC_CANCELLED:
    case GRPC_DEADLINE_EXCEEDED:
    case GRPC_ABORTED:
    case GRPC_OUT_OF_RANGE:
    case GRPC_UNAVAILABLE:
    case GRPC_DATA_LOSS:
        return COURIER_AGAIN;
    default:
        return COURIER_NEVER;
    }
}

uint64_t telemetry_rejected(bool grpc, const struct post_result *result)
{
    const uint8_t *p = (const uint8_t *)result->answer;
    size_t n = p ? result->answer_n : 0, skip = grpc ? GRPC_FRAME : 0;
    if (n <= skip || (grpc && p[0] != 0))
        return 0;
    struct pb_reader answer = {p + skip, p + n};
    return varint(inside(answer, 1), 1);
}
