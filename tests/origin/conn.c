/*
 * One connection of a client: reads requests, has them handled, sends the replies.
 * Invariants:
 *  - requests are answered one after the other; what follows in the buffer waits (pipelining);
 *  - the bytes of a request's head do not move until its reply is complete;
 *  - a connection is freed in one place, settle(), at the end of a callback, after `dead` was set;
 *  - `out` holds bytes of finished replies and the head of the present one; the body of the present one comes
 *    from `out` (what is produced) or behind it (what is shared), never both.
 */
#include "tests/origin/conn.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/h1.h"
#include "tests/origin/call.h"
#include "tests/origin/conn_out.h"
#include "tests/origin/digest.h"
#include "tests/origin/server.h"
#include "tests/origin/ws.h"

enum {
    INPUT_ROOM = 32 * 1024,  /* at first, and behind a head */
    GATHER_MAX = 16 * 1024,  /* a body up to this size is copied to go out with its neighbours */
    BACKLOG_MAX = 256 * 1024 /* of answers to pipelined requests */
};

enum phase { READ_HEAD, READ_BODY, WAIT, SEND, WEBSOCKET, HANG, LINGER };

struct input {
    struct input *spare; /* on the thread's list of unused ones */
    struct request request;
    size_t cap;
    char bytes[];
};

struct conn {
    struct conn_links links;
    struct worker *worker;
    struct event read_event, write_event, timer;
    bool write_armed, control, dead, reset, in_request, counted;
    uint8_t phase;
    struct input *input; /* NULL while nothing was received */
    size_t in_at;        /* start of the present head */
    size_t in_n;         /* end of what was received */
    size_t head_end;     /* end of the present head */
    size_t body_at;      /* start of what of the body was not read yet */
    struct h1_scan scan;
    struct h1_body body;
    struct reply reply;
    struct ws *ws;
    struct out out;
};

static const struct h1_limits limits = {.max_head = MAX_HEAD, .max_target = MAX_TARGET, .max_trailer = 16 * 1024};

struct conn_links *conn_links(struct conn *c)
{
    return &c->links;
}

static struct counts *counts_of(struct conn *c)
{
    return &worker_origin(c->worker)->counts;
}

/* --- input buffer --- */

static void input_drop(struct conn *c)
{
    struct input *in = c->input;
    if (!in)
        return;
    void **spares = worker_spares(c->worker);
    c->input = NULL;
    c->in_at = c->in_n = 0;
    digest_free(in->request.digest);
    in->request.digest = NULL;
    if (in->cap == INPUT_ROOM && in->request.body.cap <= INPUT_ROOM) {
        in->spare = *spares;
        *spares = in;
        return;
    }
    text_free(&in->request.body);
    text_free(&in->request.decoded);
    free(in);
}

void conn_free_spares(void *spares)
{
    for (struct input *in = spares, *next; in; in = next) {
        next = in->spare;
        text_free(&in->request.body);
        text_free(&in->request.decoded);
        free(in);
    }
}

static bool input_new(struct conn *c)
{
    void **spares = worker_spares(c->worker);
    if (*spares) {
        c->input = *spares;
        *spares = c->input->spare;
    } else {
        c->input = malloc(sizeof(struct input) + INPUT_ROOM);
        if (!c->input)
            return false;
        memset(&c->input->request, 0, sizeof(c->input->request));
        c->input->cap = INPUT_ROOM;
    }
    c->in_at = c->in_n = 0;
    return true;
}

static bool input_grow(struct conn *c)
{
    size_t cap = c->input->cap + INPUT_ROOM;
    struct input *in = realloc(c->input, sizeof(struct input) + cap);
    if (!in)
        return false;
    in->cap = cap;
    in->request.head.base = in->bytes;
    c->input = in;
    return true;
}

/* Makes room to read into; false when there is none to be had (the reader has to wait). */
static bool input_room(struct conn *c)
{
    if (!c->input)
        return input_new(c);
    struct input *in = c->input;
    if (c->phase == READ_HEAD && c->in_at > 0) {
        memmove(in->bytes, in->bytes + c->in_at, c->in_n - c->in_at);
        c->in_n -= c->in_at;
        c->in_at = 0;
    }
    if (c->phase == READ_BODY && c->body_at > c->head_end) {
        memmove(in->bytes + c->head_end, in->bytes + c->body_at, c->in_n - c->body_at);
        c->in_n -= c->body_at - c->head_end;
        c->body_at = c->head_end;
    }
    if (c->in_n < in->cap)
        return true;
    return c->phase == READ_HEAD && in->cap < MAX_HEAD + INPUT_ROOM && input_grow(c);
}

/* --- the end --- */

static void kill_conn(struct conn *c, bool reset)
{
    c->dead = true;
    c->reset = reset;
    if (reset)
        COUNT(counts_of(c), resets);
}

static void request_over(struct conn *c)
{
    if (!c->in_request)
        return;
    c->in_request = false;
    if (c->counted)
        count_leave(&counts_of(c)->active_now);
    h1_body_dispose(&c->body);
    blob_unref(c->reply.blob);
    c->reply.blob = NULL;
}

void conn_free(struct conn *c)
{
    request_over(c);
    input_drop(c);
    event_del(&c->read_event);
    event_del(&c->write_event);
    event_del(&c->timer);
    io_close(&c->out.io, c->reset);
    text_free(&c->out.text);
    text_free(&c->reply.fields);
    if (c->ws) {
        ws_free(c->ws);
        free(c->ws);
    }
    count_leave(&counts_of(c)->open_now);
    worker_unlink(c->worker, c);
    free(c);
}

static void arm_timer(struct conn *c, uint64_t us)
{
    struct timeval tv = {(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};
    evtimer_add(&c->timer, &tv);
}

/* Says good bye: no more is sent, and what the peer still sends is thrown away for a while. */
static void linger(struct conn *c)
{
    c->phase = LINGER;
    io_shutdown(&c->out.io);
    input_drop(c);
    event_add(&c->read_event, NULL);
    arm_timer(c, 1000000);
}

/* --- replies --- */

static void count_status(struct conn *c, int status)
{
    struct counts *n = counts_of(c);
    if (status < 300)
        COUNT(n, responses_2xx);
    else if (status < 400)
        COUNT(n, responses_3xx);
    else if (status < 500)
        COUNT(n, responses_4xx);
    else
        COUNT(n, responses_5xx);
}

/* The request is answered: on to the next, or to the end. */
static void reply_done(struct conn *c)
{
    struct request *r = &c->input->request;
    bool close = c->reply.close || !r->head.keep_alive;
    size_t next = c->body_at;
    bool upgrade = c->reply.upgrade;
    request_over(c);
    if (close) {
        linger(c);
        return;
    }
    c->in_at = next;
    c->scan = (struct h1_scan){0};
    c->phase = upgrade ? WEBSOCKET : READ_HEAD;
}

/* Writes what can be written. Goes on to the next request when the reply is complete. */
static void send_on(struct conn *c)
{
    uint64_t again_us = 0;
    bool replying = c->phase == SEND;
    uint64_t before = c->out.total;
    enum out_result result = out_pump(&c->out, replying ? &c->reply : NULL, &again_us);
    COUNT_ADD(counts_of(c), bytes_out, c->out.total - before);
    switch (result) {
    case OUT_BLOCKED:
        if (!c->write_armed) {
            c->write_armed = true;
            event_add(&c->write_event, NULL);
        }
        return;
    case OUT_LATER:
        arm_timer(c, again_us);
        return;
    case OUT_BROKEN:
        if (c->in_request)
            COUNT(counts_of(c), aborted);
        kill_conn(c, false);
        return;
    case OUT_CUT:
        COUNT(counts_of(c), truncated);
        if (c->reply.cut == CUT_RESET) {
            kill_conn(c, true);
        } else {
            request_over(c);
            linger(c);
        }
        return;
    case OUT_DONE:
        if (replying)
            reply_done(c);
        return;
    }
}

static void begin_reply(struct conn *c)
{
    struct request *r = &c->input->request;
    count_status(c, c->reply.status);
    out_begin(&c->out, &c->reply, r, settings_clock(worker_settings(c->worker)));
    c->phase = SEND;
    bool more = c->in_n > c->body_at;
    if (more && !c->reply.close && r->head.keep_alive && !c->reply.upgrade && c->out.text.n < BACKLOG_MAX &&
        out_gather(&c->out, &c->reply, GATHER_MAX))
        reply_done(c);
}

static void run_request(struct conn *c)
{
    struct request *r = &c->input->request;
    struct call call = {
        .origin = worker_origin(c->worker),
        .request = r,
        .reply = &c->reply,
        .settings = worker_settings(c->worker),
        .control = c->control,
        .worker = c->worker,
    };
    handle_request(&call);
    if (c->reply.reset_before) {
        kill_conn(c, true);
        return;
    }
    if (c->reply.hang) {
        c->phase = HANG;
        return;
    }
    if (c->reply.delay_us) {
        c->phase = WAIT;
        arm_timer(c, c->reply.delay_us);
        return;
    }
    begin_reply(c);
}

/* --- requests --- */

static void fresh_reply(struct conn *c)
{
    struct text fields = c->reply.fields;
    fields.n = 0;
    fields.failed = false;
    c->reply = (struct reply){.status = 500, .fields = fields};
}

/* The message itself is at fault: says so and closes. */
static void refuse(struct conn *c, int status, const char *sentence)
{
    struct request *r = &c->input->request;
    struct call call = {.origin = worker_origin(c->worker), .request = r, .reply = &c->reply};
    if (!c->in_request) {
        c->in_request = true;
        c->counted = false;
        r->head.method = METHOD_OTHER;
        r->head.minor = 1;
        r->head.keep_alive = false;
        c->body_at = c->in_n;
    }
    COUNT(counts_of(c), malformed);
    fresh_reply(c);
    reply_detail(&call, status, sentence);
    c->reply.close = true;
    begin_reply(c);
}

static void split_target(struct request *r)
{
    struct slice target = head_path(&r->head);
    const char *mark = memchr(target.p, '?', target.n);
    r->path = (struct slice){target.p, mark ? (size_t)(mark - target.p) : target.n};
    r->query = mark ? (struct slice){mark + 1, target.n - r->path.n - 1} : (struct slice){NULL, 0};
    route_find(r->head.method, r->path, &r->decoded, &r->match);
}

static bool begin_request(struct conn *c, size_t used)
{
    struct request *r = &c->input->request;
    c->in_request = true;
    c->counted = false;
    c->head_end = c->body_at = c->in_at + used;
    while (c->input->cap - c->body_at < INPUT_ROOM / 4)
        if (!input_grow(c))
            return false;
    r = &c->input->request;
    r->head.base = c->input->bytes + c->in_at;
    split_target(r);
    c->counted = r->match.op < OP_CONTROL_GET;
    if (c->counted)
        count_enter(&counts_of(c)->active_now, &counts_of(c)->active_max);
    r->body.n = 0;
    r->body_len = 0;
    fresh_reply(c);
    h1_body_init(&c->body, &r->head, false, &limits);
    c->phase = READ_BODY;
    if (r->match.op == OP_UPLOAD && !(r->digest = digest_new()))
        return false;
    if (r->head.expect_continue && !c->body.done && c->in_n == c->body_at)
        text_puts(&c->out.text, "HTTP/1.1 100 Continue\r\n\r\n");
    return true;
}

/* True when a head was read and there is more to do. */
static bool read_head(struct conn *c)
{
    if (!c->input || c->in_n == c->in_at || c->out.text.n - c->out.at >= BACKLOG_MAX)
        return false;
    struct request *r = &c->input->request;
    size_t used = 0;
    r->head.fields = r->fields;
    r->head.field_max = MAX_FIELDS;
    enum reason reason = h1_parse_request(&c->scan, &limits, c->input->bytes + c->in_at, c->in_n - c->in_at,
                                          &r->head, &used);
    if (reason == REASON_MORE)
        return false;
    if (reason != REASON_NONE) {
        const struct reason_row *row = reason_row(reason);
        refuse(c, row->status, row->sentence);
        return true;
    }
    if (!begin_request(c, used))
        kill_conn(c, false);
    return true;
}

static bool take_body(struct request *r, struct slice data)
{
    r->body_len += data.n;
    if (r->digest)
        digest_add(r->digest, data.p, data.n);
    else if (r->body.n + data.n > MAX_BODY)
        return false;
    else
        text_add(&r->body, data.p, data.n);
    return !r->body.failed;
}

static bool read_body(struct conn *c)
{
    struct request *r = &c->input->request;
    while (!c->body.done && c->body_at < c->in_n) {
        struct slice data = {NULL, 0};
        size_t used = 0;
        enum reason reason =
            h1_body_next(&c->body, c->input->bytes + c->body_at, c->in_n - c->body_at, &used, &data);
        c->body_at += used;
        if (reason != REASON_NONE) {
            refuse(c, reason_row(reason)->status, reason_row(reason)->sentence);
            return true;
        }
        if (!take_body(r, data)) {
            refuse(c, 413, "The request body is larger than the stand-in keeps.");
            return true;
        }
    }
    if (!c->body.done)
        return false;
    run_request(c);
    return true;
}

static bool read_websocket(struct conn *c)
{
    unsigned messages = 0;
    if (!c->input || c->in_n == c->in_at || c->out.text.n - c->out.at >= BACKLOG_MAX)
        return false;
    if (!c->ws && !(c->ws = calloc(1, sizeof(*c->ws)))) {
        kill_conn(c, false);
        return false;
    }
    bool good = ws_read(c->ws, c->input->bytes + c->in_at, c->in_n - c->in_at, &c->out.text, &messages);
    COUNT_ADD(counts_of(c), websocket_messages, messages);
    c->in_at = c->in_n;
    if (good && !c->ws->ended)
        return false;
    send_on(c);
    if (!c->dead)
        linger(c);
    return false;
}

/* Does all that can be done with what is there. */
static void run(struct conn *c)
{
    bool more = true;
    while (more && !c->dead) {
        switch (c->phase) {
        case READ_HEAD:
            more = read_head(c);
            break;
        case READ_BODY:
            more = read_body(c);
            break;
        case SEND:
            send_on(c);
            more = c->phase != SEND && c->phase != LINGER;
            break;
        case WEBSOCKET:
            more = read_websocket(c);
            break;
        default:
            more = false;
        }
    }
}

/* --- events --- */

/* Requests wait in the buffer that may be answered now: their turn was put off because `out` was full. */
static bool was_put_off(const struct conn *c)
{
    bool reading = c->phase == READ_HEAD || c->phase == WEBSOCKET;
    return !c->dead && reading && c->input && c->in_at < c->in_n && c->out.text.n == 0;
}

/* Ends every callback: sends what is gathered, arms what has to be armed, or frees. */
static void settle(struct conn *c)
{
    bool again = true;
    while (again) {
        bool reading = c->phase == READ_HEAD || c->phase == READ_BODY || c->phase == WEBSOCKET;
        again = false;
        if (!c->dead && reading && c->out.text.n > 0) {
            send_on(c);
            again = was_put_off(c);
        }
        if (again)
            run(c);
    }
    if (c->dead) {
        conn_free(c);
        return;
    }
    if (c->input && c->in_at == c->in_n && (c->phase == READ_HEAD || c->phase == WEBSOCKET))
        input_drop(c);
    const struct settings *s = worker_settings(c->worker);
    if (c->phase == READ_HEAD && !c->input && s->idle_timeout_ms && !c->control)
        arm_timer(c, (uint64_t)s->idle_timeout_ms * 1000);
}

/* One read. False when nothing more can be read now. */
static bool receive(struct conn *c)
{
    char waste[4096];
    bool lingering = c->phase == LINGER;
    if (!lingering && !input_room(c)) {
        event_del(&c->read_event); /* full: to be armed again when the reply went out */
        return false;
    }
    char *to = lingering ? waste : c->input->bytes + c->in_n;
    size_t room = lingering ? sizeof(waste) : c->input->cap - c->in_n;
    ssize_t n = io_read(&c->out.io, to, room);
    if (n == IO_AGAIN)
        return false;
    if (n == IO_WANT_WRITE) {
        c->write_armed = true;
        event_add(&c->write_event, NULL);
        return false;
    }
    if (n <= 0) {
        if (c->in_request)
            COUNT(counts_of(c), aborted);
        kill_conn(c, false);
        return false;
    }
    COUNT_ADD(counts_of(c), bytes_in, (unsigned long long)n);
    if (!lingering)
        c->in_n += (size_t)n;
    return true;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    (void)fd;
    (void)what;
    if (c->phase == READ_HEAD && !c->input)
        event_del(&c->timer);
    do {
        if (!receive(c))
            break;
        run(c);
    } while (!c->dead && io_pending(&c->out.io));
    settle(c);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    (void)fd;
    (void)what;
    c->write_armed = false;
    send_on(c);
    if (!c->dead) {
        event_add(&c->read_event, NULL);
        run(c);
    }
    settle(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    (void)fd;
    (void)what;
    if (c->phase == WAIT) {
        begin_reply(c);
        run(c);
    } else if (c->phase == SEND) {
        out_tick(&c->out, &c->reply);
        run(c);
    } else {
        if (c->phase == READ_HEAD)
            COUNT(counts_of(c), idle_closed);
        kill_conn(c, false);
    }
    if (!c->dead)
        event_add(&c->read_event, NULL);
    settle(c);
}

void conn_accept(struct worker *worker, int fd, bool control)
{
    struct origin *origin = worker_origin(worker);
    struct event_base *base = worker_base(worker);
    struct conn *c = calloc(1, sizeof(*c));
    if (!c) {
        struct io io = {.fd = fd};
        io_close(&io, true);
        return;
    }
    c->worker = worker;
    c->control = control;
    if (!io_open(&c->out.io, fd, control ? NULL : origin->tls)) {
        free(c);
        return;
    }
    event_assign(&c->read_event, base, fd, EV_READ | EV_PERSIST, on_readable, c);
    event_assign(&c->write_event, base, fd, EV_WRITE, on_writable, c);
    evtimer_assign(&c->timer, base, on_timer, c);
    worker_link(worker, c);
    COUNT(&origin->counts, connections);
    count_enter(&origin->counts.open_now, &origin->counts.open_max);
    event_add(&c->read_event, NULL);
}
