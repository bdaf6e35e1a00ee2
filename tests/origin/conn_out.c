/*
 * Sends replies. Invariants: the framing is decided once, in out_begin; a reply with faults sends its head first and
 * by itself, so that limits count bytes of the body only; never more than OUT_ROOM bytes are produced ahead.
 */
#include "tests/origin/conn_out.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/origin/when.h"

enum { BLOCK = 64 * 1024, OUT_ROOM = 64 * 1024, ROUNDS = 8, MAX_IOV = 8 };

#define P4(x)  x x x x
#define P16(x) P4(P4(x))
static const char block[BLOCK + 1] = P4(P16(P16(PATTERN)));
_Static_assert(sizeof(PATTERN) == PATTERN_PERIOD + 1, "the pattern has its period");
_Static_assert(sizeof(P4(P16(P16(PATTERN)))) == BLOCK + 1, "the block is whole periods");

static int64_t monotonic(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool has_faults(const struct reply *reply)
{
    return reply->cut != CUT_NOT || reply->bytes_per_second != 0;
}

/* Makes the Date line once a second, not once an answer. */
static void add_date(struct out *out, int64_t now)
{
    if (out->date_second != now / 1000000000) {
        char when[40];
        out->date_second = now / 1000000000;
        when_http(now, when);
        snprintf(out->date, sizeof(out->date), "date: %s\r\nserver: promptops-origin\r\n", when);
        out->date_len = strlen(out->date);
    }
    text_add(&out->text, out->date, out->date_len);
}

static void add_length(struct text *text, uint64_t n)
{
    char digits[24], *p = digits + sizeof(digits);
    do {
        *--p = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    text_puts(text, "content-length: ");
    text_add(text, p, (size_t)(digits + sizeof(digits) - p));
    text_puts(text, "\r\n");
}

static void add_status(struct text *text, int status)
{
    char code[4] = {(char)('0' + status / 100 % 10), (char)('0' + status / 10 % 10), (char)('0' + status % 10), ' '};
    text_puts(text, "HTTP/1.1 ");
    text_add(text, code, 4);
    text_puts(text, status_phrase(status));
    text_puts(text, "\r\n");
}

static uint64_t source_length(const struct reply *reply)
{
    if (reply->source == FROM_BLOB)
        return reply->blob->n;
    return reply->source == FROM_PATTERN ? reply->length : 0;
}

static void add_framing(struct out *out, struct reply *reply, const struct request *request)
{
    bool streamed = reply->source == FROM_CHUNKS || reply->source == FROM_EVENTS;
    if (reply->status < 200 || reply->status == 204)
        return;
    if (!streamed) {
        if (reply->status != 304)
            add_length(&out->text, source_length(reply));
        return;
    }
    out->framed = request->head.minor >= 1;
    if (out->framed)
        text_puts(&out->text, "transfer-encoding: chunked\r\n");
    else
        reply->close = true;
}

void out_begin(struct out *out, struct reply *reply, const struct request *request, int64_t now)
{
    struct text *text = &out->text;
    out->body_at = out->body_wire = 0;
    out->due = 1;
    out->tokens = 0;
    out->tick = reply->bytes_per_second ? monotonic() : 0;
    out->framed = out->head_sent = false;
    out->bodiless = request->head.method == METHOD_HEAD || reply->status < 200 || reply->status == 204 ||
                    reply->status == 304;
    out->ended = reply->source == FROM_NOTHING;
    add_status(text, reply->status);
    add_date(out, now);
    if (reply->content_type) {
        text_puts(text, "content-type: ");
        text_puts(text, reply->content_type);
        text_puts(text, "\r\n");
    }
    add_framing(out, reply, request);
    text_add(text, reply->fields.p, reply->fields.n);
    if (reply->upgrade)
        text_puts(text, "connection: upgrade\r\nupgrade: websocket\r\n");
    else if (reply->close || !request->head.keep_alive)
        text_puts(text, "connection: close\r\n");
    else if (request->head.minor == 0)
        text_puts(text, "connection: keep-alive\r\n");
    text_puts(text, "\r\n");
}

bool out_gather(struct out *out, const struct reply *reply, size_t max)
{
    uint64_t n = source_length(reply);
    if (has_faults(reply) || reply->source == FROM_CHUNKS || reply->source == FROM_EVENTS)
        return false;
    if (out->bodiless || n == 0)
        return true;
    if (n > max)
        return false;
    if (reply->source == FROM_BLOB)
        text_add(&out->text, reply->blob->p, (size_t)n);
    else
        text_add(&out->text, block, (size_t)n);
    return true;
}

/* --- bodies that are produced --- */

static void add_chunk_line(struct out *out, size_t n)
{
    char line[24];
    int len = snprintf(line, sizeof(line), "%zx\r\n", n);
    text_add(&out->text, line, (size_t)len);
}

static void produce_chunk(struct out *out, const struct reply *reply)
{
    uint64_t left = reply->length - out->body_at;
    size_t n = left < reply->step ? (size_t)left : reply->step;
    if (out->framed)
        add_chunk_line(out, n);
    for (size_t done = 0; done < n;) {
        size_t phase = (size_t)((out->body_at + done) % PATTERN_PERIOD);
        size_t part = n - done < BLOCK - phase ? n - done : BLOCK - phase;
        text_add(&out->text, block + phase, part);
        done += part;
    }
    if (out->framed)
        text_puts(&out->text, "\r\n");
    out->body_at += n;
}

static void produce_event(struct out *out)
{
    char event[96];
    int n = snprintf(event, sizeof(event), "id: %" PRIu64 "\nevent: tick\ndata: {\"n\":%" PRIu64 "}\n\n", out->body_at,
                     out->body_at);
    if (out->framed)
        add_chunk_line(out, (size_t)n);
    text_add(&out->text, event, (size_t)n);
    if (out->framed)
        text_puts(&out->text, "\r\n");
    out->body_at++;
}

static void produce(struct out *out, const struct reply *reply)
{
    bool events = reply->source == FROM_EVENTS;
    if (out->ended || out->bodiless || (reply->source != FROM_CHUNKS && !events))
        return;
    while (out->text.n < OUT_ROOM && out->body_at < reply->length) {
        if (events && reply->step && out->body_at >= out->due)
            return;
        if (events)
            produce_event(out);
        else
            produce_chunk(out, reply);
    }
    if (out->body_at >= reply->length) {
        if (out->framed)
            text_puts(&out->text, "0\r\n\r\n");
        out->ended = true;
    }
}

/* --- sending --- */

/* Adds what comes behind `text`: shared bytes, at most `max` of them. Returns how many vectors. */
static int tail_vectors(const struct out *out, const struct reply *reply, uint64_t max, struct iovec *iov)
{
    uint64_t left = source_length(reply) - out->body_at;
    int count = 0;
    if (left > max)
        left = max;
    if (reply->source == FROM_BLOB && left) {
        iov[0] = (struct iovec){reply->blob->p + out->body_at, (size_t)left};
        return 1;
    }
    size_t phase = (size_t)(out->body_at % PATTERN_PERIOD);
    for (; left && count < MAX_IOV - 1; count++) {
        size_t n = left < BLOCK - phase ? (size_t)left : BLOCK - phase;
        iov[count] = (struct iovec){(char *)(uintptr_t)block + phase, n};
        left -= n;
        phase = 0;
    }
    return count;
}

static bool has_tail(const struct out *out, const struct reply *reply)
{
    return reply && !out->bodiless && out->body_at < source_length(reply);
}

/* How many bytes may go out now: all, or what the faults leave. */
static uint64_t allowance(const struct out *out, const struct reply *reply)
{
    uint64_t allowed = UINT64_MAX;
    if (!reply || !has_faults(reply) || !out->head_sent)
        return allowed;
    if (reply->cut != CUT_NOT)
        allowed = reply->cut_at - out->body_wire;
    if (reply->bytes_per_second && (double)allowed > out->tokens)
        allowed = (uint64_t)out->tokens;
    return allowed;
}

static void account(struct out *out, const struct reply *reply, size_t n)
{
    size_t of_text = out->text.n - out->at < n ? out->text.n - out->at : n;
    out->total += n;
    out->at += of_text;
    if (reply && out->head_sent) {
        out->body_wire += n;
        out->tokens -= (double)n;
    }
    out->body_at += n - of_text;
    if (out->at < out->text.n)
        return;
    out->at = out->text.n = 0;
    if (out->text.cap > 2 * OUT_ROOM)
        text_free(&out->text);
}

/* One write. OUT_DONE: something went out. */
static enum out_result write_some(struct out *out, const struct reply *reply, uint64_t allowed)
{
    struct iovec iov[MAX_IOV];
    int count = 0;
    size_t in_text = out->text.n - out->at, text_part = in_text < allowed ? in_text : (size_t)allowed;
    if (text_part)
        iov[count++] = (struct iovec){out->text.p + out->at, text_part};
    bool head_alone = reply && has_faults(reply) && !out->head_sent;
    if (has_tail(out, reply) && !head_alone && text_part == in_text)
        count += tail_vectors(out, reply, allowed - text_part, iov + count);
    ssize_t n = io_writev(&out->io, iov, count);
    if (n == IO_AGAIN || n == IO_WANT_WRITE)
        return OUT_BLOCKED;
    if (n < 0)
        return OUT_BROKEN;
    account(out, reply, (size_t)n);
    return OUT_DONE;
}

/* Nothing may go out now: until when, or what else. */
static enum out_result stop_here(const struct out *out, const struct reply *reply, uint64_t *again_us)
{
    if (reply->cut != CUT_NOT && out->body_wire >= reply->cut_at) {
        return OUT_CUT;
    }
    uint64_t us = 1000000 / reply->bytes_per_second;
    *again_us = us > 10000 ? us : 10000;
    return OUT_LATER;
}

enum out_result out_pump(struct out *out, const struct reply *reply, uint64_t *again_us)
{
    for (int round = 0; round < ROUNDS; round++) {
        bool faults = reply && has_faults(reply);
        if (out->text.failed)
            return OUT_BROKEN;
        if (faults && !out->head_sent && out->at == out->text.n)
            out->head_sent = true;
        if (reply && (!faults || out->head_sent))
            produce(out, reply);
        if (out->at == out->text.n && !has_tail(out, reply)) {
            bool complete = !reply || out->ended || out->bodiless || reply->source == FROM_BLOB ||
                            reply->source == FROM_PATTERN;
            if (complete)
                return OUT_DONE;
            *again_us = (uint64_t)reply->step * 1000; /* the next event is not due yet */
            return OUT_LATER;
        }
        uint64_t allowed = allowance(out, reply);
        if (allowed == 0)
            return stop_here(out, reply, again_us);
        enum out_result r = write_some(out, reply, allowed);
        if (r != OUT_DONE)
            return r;
    }
    return OUT_BLOCKED; /* its turn is over; it goes on when the loop comes round */
}

void out_tick(struct out *out, const struct reply *reply)
{
    out->due++;
    if (!reply->bytes_per_second)
        return;
    int64_t now = monotonic();
    out->tokens += (double)(now - out->tick) * 1e-9 * (double)reply->bytes_per_second;
    out->tick = now;
}
