/*
 * The downstream side in HTTP/1. Invariants:
 * - a client sits on the worker's list of its state; client_set_state() is the only writer;
 * - `in` holds bytes that were read but not used, and only those; it is empty when nothing waits;
 * - d.exchange is set exactly while a request is being answered; the next head is parsed only then
 *   when it is NULL, so pipelined requests are answered in order (RFC 9112 9.3.2);
 * - a client that is to be freed is freed by client_free() only, never inside a callback that
 *   still uses it: callbacks that may free return right after.
 */
#include "proxy/client.h"

#include <assert.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/counters.h"
#include "policy/config.h"
#include "proxy/client_internal.h"
#include "proxy/codec.h"
#include "proxy/exchange.h"
#include "proxy/h1.h"
#include "proxy/h1_write.h"
#include "proxy/service.h"
#include "proxy/settings.h"
#include "proxy/tls.h"
#include "proxy/worker.h"

enum {
    READ_MORE = 16 * 1024,      /* room for a further read behind a partial head */
    PIPELINE_MAX = 64 * 1024,   /* bytes read ahead while a request is being answered */
    LINGER_BYTES = 1024 * 1024, /* read and dropped after an answer that ends the connection */
    LOW_MARK = 64 * 1024,       /* backlog at which the exchange may go on */
    REQUESTS_PER_TURN = 64
};
static const tick_t LINGER_TIME = 2 * TICK_S;

static void client_free(struct client *c);
static void client_feed(struct client *c, const char *p, size_t n, struct block *block);
static void client_process(struct client *c);
static void on_readable(evutil_socket_t fd, short what, void *arg);
static void on_writable(evutil_socket_t fd, short what, void *arg);

/* ---- state ---------------------------------------------------------------------------------- */

static void list_leave(struct client *c)
{
    struct worker *w = c->d.worker;
    if (c->prev)
        c->prev->next = c->next;
    else
        w->clients[c->state] = c->next;
    if (c->next)
        c->next->prev = c->prev;
    w->client_count[c->state]--;
}

static void list_enter(struct client *c, enum client_state state)
{
    struct worker *w = c->d.worker;
    c->state = (uint8_t)state;
    c->prev = NULL;
    c->next = w->clients[state];
    if (c->next)
        c->next->prev = c;
    w->clients[state] = c;
    w->client_count[state]++;
}

void client_set_state(struct client *c, enum client_state state)
{
    if (c->state == state)
        return;
    list_leave(c);
    list_enter(c, state);
}

void client_read_on(struct client *c, bool on)
{
    if (c->reading == on)
        return;
    c->reading = on;
    if (!on) {
        event_del(&c->rd);
        return;
    }
    event_add(&c->rd, NULL);
    if (c->stream.tls && tls_pending(c->stream.tls))
        event_active(&c->rd, EV_READ, 0);
}

void client_write_on(struct client *c, bool on)
{
    if (c->writing == on)
        return;
    c->writing = on;
    if (on)
        event_add(&c->wr, NULL);
    else
        event_del(&c->wr);
}

void client_set_timer(struct client *c, tick_t after)
{
    worker_set_timer(c->d.worker, &c->timer, worker_now(c->d.worker) + after);
}

const struct config *client_config(const struct client *c)
{
    return settings_config(c->settings ? c->settings : c->d.worker->settings);
}

static void drop_settings(struct client *c)
{
    if (c->settings)
        settings_unref(c->settings);
    c->settings = NULL;
}

void client_in_clear(struct client *c)
{
    if (!c->in.p)
        return;
    free(c->in.p);
    c->in.p = NULL;
    c->in.len = c->in.cap = 0;
}

static void client_free(struct client *c)
{
    struct worker *w = c->d.worker;
    assert(!c->d.exchange);
    list_leave(c);
    event_del(&c->rd);
    event_del(&c->wr);
    worker_cancel_timer(w, &c->timer);
    if (c->on_resume) {
        struct client **at = &w->resume;
        while (*at != c)
            at = &(*at)->resume_next;
        *at = c->resume_next;
    }
    if (w->down.out == &c->out)
        gather_clear(&w->down);
    out_dispose(&c->out);
    h1_body_dispose(&c->body);
    client_in_clear(c);
    drop_settings(c);
    stream_close(&c->stream);
    metric_sub(w->metrics, METRIC_CLIENT_CONNECTIONS, 1);
    atomic_fetch_sub_explicit(&w->service->clients, 1, memory_order_relaxed);
    free(c);
}

/* The connection is lost, or must be seen as broken by the client. May free c. */
static void client_break(struct client *c, enum reason why)
{
    if (c->d.exchange)
        exchange_request_failed(c->d.exchange,
                                why); /* leads to finished(), which leaves c alone in this state */
    c->d.exchange = NULL;
    client_free(c);
}

/* ---- ending a connection -------------------------------------------------------------------- */

static bool input_waits(const struct client *c)
{
    return c->in.len > 0 || (c->replied && !c->body.done);
}

/* All was sent. Closes at once when nothing of the client's is unread, else reads and drops for a
 * while, so that the answer is not destroyed by a reset (RFC 9112 9.6). */
static void client_close_softly(struct client *c)
{
    client_in_clear(c);
    stream_end(&c->stream);
    client_set_state(c, CLIENT_LINGER);
    client_write_on(c, false);
    client_read_on(c, true);
    client_set_timer(c, LINGER_TIME);
}

static void client_after_answer(struct client *c)
{
    if (c->out.bytes > 0) /* wait until it is written; on_writable comes back here */
        return;
    bool unread = input_waits(c);
    if (!c->close_after)
        return;
    if (c->hard_end) {
        struct linger at_once = {1, 0};
        if (c->stream.tls)
            shutdown(c->stream.fd, SHUT_WR);
        setsockopt(c->stream.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        client_free(c);
        return;
    }
    if (unread || !c->d.half_closed) {
        client_close_softly(c);
        return;
    }
    client_free(c);
}

static void linger_read(struct client *c)
{
    char drop[4096];
    for (int i = 0; i < 16; i++) {
        ssize_t r = stream_read(&c->stream, drop, sizeof(drop));
        if (r == STREAM_AGAIN || r == STREAM_WANT_WRITE)
            return;
        if (r <= 0 || (c->lingered += (uint32_t)r) > LINGER_BYTES) {
            client_free(c);
            return;
        }
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Back to waiting for a request, the answer being on its way. */
static void client_ready(struct client *c)
{
    if (c->body.trailers)
        h1_body_dispose(&c->body);
    c->body = (struct h1_body){.done = true};
    c->scan = (struct h1_scan){0};
    c->replied = c->chunked = c->body_paused = false;
    c->d.bytes_in = c->d.bytes_out = 0;
    drop_settings(c);
    client_set_state(c, CLIENT_IDLE);
    client_set_timer(c, client_config(c)->listen_idle_timeout);
}

/* Keeps p[0..n), some bytes, as input to be looked at later. */
static bool save_bytes(struct client *c, const char *p, size_t n)
{
    if (c->in.p && p >= c->in.p && p < c->in.p + c->in.cap) {
        memmove(c->in.p, p, n);
        c->in.len = (uint32_t)n;
        return true;
    }
    char *grown = malloc(n + READ_MORE);
    if (!grown)
        return false;
    memcpy(grown, p, n);
    free(c->in.p);
    c->in.p = grown;
    c->in.len = (uint32_t)n;
    c->in.cap = (uint32_t)(n + READ_MORE);
    return true;
}

static bool save_input(struct client *c, const char *p, size_t n)
{
    if (n > 0)
        return save_bytes(c, p, n);
    if (c->in.p)
        client_in_clear(c);
    return true;
}

static struct h1_limits limits_of(const struct client *c)
{
    return c->settings->p->client_limits;
}

/* Parses the next head. Returns bytes used; 0 when more are needed or the client was refused. */
static size_t take_head(struct client *c, const char *p, size_t n)
{
    struct worker *w = c->d.worker;
    struct head head; /* not cleared: the parser sets all but its table */
    size_t used = 0;
    head.fields = w->fields;
    if (!c->settings)
        c->settings = settings_ref(w->settings);
    struct h1_limits limits = limits_of(c);
    const struct config *cfg = client_config(c);
    head.field_max =
        w->field_max < cfg->listen_max_header_fields ? w->field_max : (uint16_t)cfg->listen_max_header_fields;
    enum reason r = h1_parse_request(&c->scan, &limits, p, n, &head, &used);
    if (r == REASON_MORE) {
        if (c->state != CLIENT_HEAD) {
            client_set_state(c, CLIENT_HEAD);
            client_set_timer(c, cfg->listen_header_timeout);
        }
        return 0;
    }
    client_set_state(c, CLIENT_BUSY);
    c->d.bytes_in = used;
    if (r == REASON_NONE && c->misdirected)
        r = REASON_MISDIRECTED;
    if (r != REASON_NONE) {
        c->body.done = false; /* whatever follows is not read as a request */
        c->close_after = true;
        c->d.minor = 1;
        exchange_refuse(&c->d, r);
        return 0;
    }
    c->d.minor = head.minor;
    c->close_after = !head.keep_alive;
    h1_body_init(&c->body, &head, false, &limits);
    client_set_timer(c, cfg->listen_idle_timeout);
    exchange_begin(&c->d, &head);
    return used;
}

/* Gives body bytes to the exchange. Returns bytes used. */
static size_t take_body(struct client *c, const char *p, size_t n, struct block *block)
{
    size_t at = 0;
    while (at < n && !c->body.done && c->d.exchange && !c->body_paused) {
        size_t used = 0;
        struct slice data = {NULL, 0};
        enum reason r = h1_body_next(&c->body, p + at, n - at, &used, &data);
        at += used;
        c->d.bytes_in += used;
        if (r != REASON_NONE) {
            c->body.done = false;
            c->close_after = true;
            exchange_request_failed(c->d.exchange, r);
            return at;
        }
        if (data.n)
            exchange_request_data(c->d.exchange, data, block, &OUT_BLOCK);
    }
    if (c->d.exchange && c->body.done)
        exchange_request_end(c->d.exchange, (struct slice){c->body.trailers, c->body.trailers_len});
    return at;
}

/* The present request's answer is given and its exchange gone: what now? False: c is gone or ends. */
static bool request_over(struct client *c)
{
    if (c->d.half_closed && c->in.len == 0)
        c->close_after = true;
    if (!c->close_after && c->body.done) {
        if (c->out.bytes > 0)
            return false; /* the next request waits until this answer was taken */
        client_ready(c);
        return true;
    }
    c->close_after = true;
    client_after_answer(c);
    return false;
}

/* No more bytes can come: ends what can only go on with more. `used`: those in hand are used up. True: c is
 * freed. */
static bool client_over(struct client *c, bool used)
{
    if (c->state == CLIENT_HEAD || (c->state == CLIENT_IDLE && used)) {
        client_free(c);
        return true;
    }
    if (c->state != CLIENT_BUSY || c->body.done || !used)
        return false;
    client_break(c, REASON_CLIENT_GONE); /* in the middle of a body */
    return true;
}

/* Looks at bytes in hand as far as the state lets it. Keeps the rest. May free c. */
static void client_feed(struct client *c, const char *p, size_t n, struct block *block)
{
    size_t at = 0;
    int requests = 0;
    c->feeding = true;
    for (;;) {
        if (c->state == CLIENT_BUSY && !c->d.exchange) {
            c->feeding = false;
            if (!save_input(c, p + at, n - at)) {
                client_free(c);
                return;
            }
            if (!request_over(c))
                return;
            c->feeding = true;
            p = c->in.p;
            n = c->in.len;
            at = 0;
            block = NULL;
        }
        if (c->state == CLIENT_BUSY) {
            bool had_body = !c->body.done;
            if (had_body)
                at += take_body(c, p + at, n - at, block);
            if (c->d.exchange) {
                if (had_body)
                    exchange_request_flush(c->d.exchange);
                if (c->d.exchange)
                    break;
            }
            continue;
        }
        if (at == n || requests++ == REQUESTS_PER_TURN)
            break;
        size_t used = take_head(c, p + at, n - at);
        at += used;
        if (c->state != CLIENT_BUSY)
            break;
        if (c->d.exchange && c->body.done)
            exchange_request_end(c->d.exchange, (struct slice){NULL, 0});
        if (c->d.exchange && (c->body.done || at == n))
            exchange_request_flush(c->d.exchange);
    }
    c->feeding = false;
    if (c->d.half_closed && client_over(c, at == n))
        return;
    if (!save_input(c, p + at, n - at)) {
        client_break(c, REASON_OUT_OF_MEMORY);
        return;
    }
    if (c->in.len > 0 && c->state == CLIENT_IDLE)
        client_resume_later(c);
}

static void client_process(struct client *c)
{
    client_feed(c, c->in.p, c->in.len, NULL);
}

void clients_resume(struct worker *w)
{
    struct client *list = w->resume;
    w->resume = NULL;
    for (struct client *c = list; c; c = c->resume_next)
        c->on_resume = false;
    while (list) {
        struct client *c = list;
        list = c->resume_next;
        if (c->state == CLIENT_TUNNEL) {
            if (!c->d.exchange && c->out.bytes == 0)
                client_free(c);
            continue;
        }
        if (c->state == CLIENT_LINGER || c->state == CLIENT_HANDSHAKE)
            continue;
        if (!c->body_paused && !c->d.half_closed)
            client_read_on(c, true);
        if (c->state == CLIENT_IDLE && c->in.len == 0 && !c->d.half_closed)
            continue; /* it was answered on the spot, and asked nothing more */
        client_process(c);
    }
}

/* ---- events ---------------------------------------------------------------------------------- */

/* Is something left to do with what this client has sent: an answer that is not taken yet, requests that wait
 * for the end of this turn, or bytes of a body that the upstream was too slow for? */
static bool client_waits(const struct client *c)
{
    if (c->d.exchange)
        return c->state == CLIENT_BUSY && !c->body.done && c->in.len > 0;
    return c->state == CLIENT_BUSY || (c->state == CLIENT_IDLE && c->in.len > 0);
}

/* The client sends no more. What it sent whole is answered (RFC 9112 9.6). */
static void client_eof(struct client *c, bool broken)
{
    broken = broken || c->d.half_closed;
    if (!broken && client_waits(c)) {
        c->d.half_closed = true;
        client_read_on(c, false);
        if (c->out.bytes == 0 && !c->body_paused)
            client_resume_later(c);
        return;
    }
    if (broken || c->state == CLIENT_TUNNEL || !c->d.exchange || !c->body.done) {
        client_break(c, REASON_CLIENT_GONE);
        return;
    }
    c->d.half_closed = true;
    client_read_on(c, false);
    exchange_client_half_closed(c->d.exchange);
}

/* Whether bytes may be read now; stops reading when not. */
static bool may_read(struct client *c)
{
    bool waits = c->state == CLIENT_BUSY && (c->body.done || c->body_paused);
    if (!waits || c->in.len < PIPELINE_MAX)
        return true;
    client_read_on(c, false);
    return false;
}

/* Reads, and sees to it that decrypted bytes that stay behind are looked at: no event tells of them. */
static ssize_t client_read(struct client *c, void *p, size_t n)
{
    ssize_t r = stream_read(&c->stream, p, n);
    if (r > 0 && c->stream.tls && tls_pending(c->stream.tls))
        event_active(&c->rd, EV_READ, 0);
    if (r == STREAM_WANT_WRITE)
        client_write_on(c, true);
    return r == STREAM_WANT_WRITE ? STREAM_AGAIN : r;
}

static void tunnel_read(struct client *c, struct block *b)
{
    ssize_t r = client_read(c, b->data, BLOCK_SIZE);
    if (r == STREAM_AGAIN)
        return;
    if (r == 0 && c->d.exchange) {
        c->d.half_closed = true;
        client_read_on(c, false);
        exchange_client_half_closed(c->d.exchange);
        return;
    }
    if (r <= 0 || !c->d.exchange) {
        client_break(c, REASON_CLIENT_GONE);
        return;
    }
    c->d.bytes_in += (uint64_t)r;
    exchange_request_data(c->d.exchange, (struct slice){b->data, (size_t)r}, b, &OUT_BLOCK);
    if (c->d.exchange)
        exchange_request_flush(c->d.exchange);
}

static void read_into_saved(struct client *c)
{
    if (c->in.cap - c->in.len < READ_MORE / 2) {
        char *grown = realloc(c->in.p, (size_t)c->in.cap + 2 * READ_MORE);
        if (!grown) {
            client_break(c, REASON_OUT_OF_MEMORY);
            return;
        }
        c->in.p = grown;
        c->in.cap += 2 * READ_MORE;
    }
    ssize_t r = client_read(c, c->in.p + c->in.len, c->in.cap - c->in.len);
    if (r == STREAM_AGAIN)
        return;
    if (r <= 0) {
        client_eof(c, r < 0);
        return;
    }
    c->in.len += (uint32_t)r;
    client_process(c);
}

static void read_once(struct client *c)
{
    struct worker *w = c->d.worker;
    if (c->in.len > 0) {
        if (may_read(c))
            read_into_saved(c);
        return;
    }
    struct block *b = worker_scratch(w);
    if (!b) {
        client_break(c, REASON_OUT_OF_MEMORY);
        return;
    }
    if (c->state == CLIENT_TUNNEL) {
        tunnel_read(c, b);
        return;
    }
    ssize_t r = client_read(c, b->data, BLOCK_SIZE);
    if (r == STREAM_AGAIN)
        return;
    if (r <= 0) {
        client_eof(c, r < 0);
        return;
    }
    if (c->state == CLIENT_BUSY && !c->body.done)
        client_set_timer(c, client_config(c)->listen_idle_timeout);
    client_feed(c, b->data, (size_t)r, b);
}

static void handshake(struct client *c)
{
    switch (tls_handshake(c->stream.tls)) {
    case TLS_DONE:
        client_write_on(c, false);
        client_read_on(c, true);
        client_set_state(c, CLIENT_IDLE);
        client_set_timer(c, client_config(c)->listen_idle_timeout);
        if (tls_pending(c->stream.tls))
            read_once(c);
        return;
    case TLS_WANT_READ:
        client_write_on(c, false);
        client_read_on(c, true);
        return;
    case TLS_WANT_WRITE:
        client_write_on(c, true);
        return;
    default:
        metric_add(c->d.worker->metrics, METRIC_CLIENT_TLS_FAILED, 1);
        client_free(c);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct client *c = arg;
    (void)fd;
    (void)what;
    worker_now(c->d.worker);
    if (c->state == CLIENT_HANDSHAKE)
        handshake(c);
    else if (c->state == CLIENT_LINGER)
        linger_read(c);
    else
        read_once(c);
}

/* The queue of unsent bytes is empty. */
static void drained(struct client *c)
{
    client_write_on(c, false);
    if (c->state == CLIENT_TUNNEL && !c->d.exchange)
        client_free(c);
    else if (c->end_writing)
        stream_end(&c->stream);
    else if (c->state == CLIENT_BUSY && !c->d.exchange)
        client_process(c);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct client *c = arg;
    (void)fd;
    (void)what;
    worker_now(c->d.worker);
    if (c->state == CLIENT_HANDSHAKE) {
        handshake(c);
        return;
    }
    size_t before = c->out.bytes;
    enum out_result r = out_push(&c->out, &c->stream, &c->d.bytes_out);
    if (r == OUT_BROKEN || r == OUT_NO_MEMORY) {
        client_break(c, REASON_CLIENT_GONE);
        return;
    }
    if (c->out.bytes < before)
        client_set_timer(c, client_config(c)->listen_idle_timeout);
    if (c->d.exchange && c->out.bytes <= LOW_MARK && before > LOW_MARK)
        exchange_client_drained(c->d.exchange);
    if (c->out.bytes == 0)
        drained(c);
}

static void on_timer(struct timer *timer)
{
    struct client *c = (struct client *)((char *)timer - offsetof(struct client, timer));
    switch ((enum client_state)c->state) {
    case CLIENT_HEAD:
        client_set_state(c, CLIENT_BUSY);
        c->body.done = false;
        c->close_after = true;
        c->d.minor = 1;
        exchange_refuse(&c->d, REASON_HEAD_TIMEOUT);
        client_process(c);
        return;
    case CLIENT_BUSY:
        if (c->out.bytes > 0) {
            client_break(c, REASON_CLIENT_STALLED);
        } else if (c->d.exchange && !c->body.done && !c->body_paused) {
            c->close_after = true;
            exchange_request_failed(c->d.exchange, REASON_BODY_TIMEOUT);
        } else if (c->d.exchange) {
            client_set_timer(c, client_config(c)->listen_idle_timeout); /* the exchange has its own clock */
        } else {
            client_free(c);
        }
        return;
    case CLIENT_TUNNEL:
        client_set_timer(c, client_config(c)->upstream_stream_idle_timeout);
        return;
    default:
        client_free(c);
    }
}

/* ---- birth and end --------------------------------------------------------------------------- */

bool client_open(struct worker *w, int fd, struct tls_session *tls, const struct sockaddr_storage *peer,
                 bool misdirected)
{
    struct client *c = calloc(1, sizeof(*c));
    struct stream stream = {fd, tls};
    if (!c) {
        stream_close(&stream);
        return false;
    }
    c->d.ops = &CLIENT_OPS;
    c->d.worker = w;
    c->d.tls = tls != NULL;
    c->stream = stream;
    c->misdirected = misdirected;
    if (peer && peer->ss_family == AF_INET) {
        const struct sockaddr_in *sin = (const struct sockaddr_in *)peer;
        c->peer = sin->sin_addr.s_addr;
        c->port = sin->sin_port;
    }
    c->body.done = true;
    c->timer.fire = on_timer;
    event_assign(&c->rd, w->base, fd, EV_READ | EV_PERSIST, on_readable, c);
    event_assign(&c->wr, w->base, fd, EV_WRITE | EV_PERSIST, on_writable, c);
    list_enter(c, tls ? CLIENT_HANDSHAKE : CLIENT_IDLE);
    metric_add(w->metrics, METRIC_CLIENT_ACCEPTED, 1);
    metric_add(w->metrics, METRIC_CLIENT_CONNECTIONS, 1);
    atomic_fetch_add_explicit(&w->service->clients, 1, memory_order_relaxed);
    client_read_on(c, true);
    client_set_timer(c,
                     tls ? client_config(c)->listen_header_timeout : client_config(c)->listen_idle_timeout);
    return true;
}

void clients_close_idle(struct worker *w, bool force)
{
    static const enum client_state ends[] = {CLIENT_HANDSHAKE, CLIENT_IDLE};
    static const enum client_state all[] = {CLIENT_LINGER, CLIENT_HEAD, CLIENT_BUSY, CLIENT_TUNNEL};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        while (w->clients[ends[i]])
            client_free(w->clients[ends[i]]);
    for (size_t i = 0; force && i < ARRAY_LEN(all); i++)
        while (w->clients[all[i]])
            client_break(w->clients[all[i]], REASON_SHUTTING_DOWN);
}
