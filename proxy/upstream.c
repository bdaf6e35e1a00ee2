/*
 * The upstream side in HTTP/1. Invariants:
 * - u.exchange is set from assign to the end of the answer, and never while the connection is idle;
 * - a connection goes back to the pool only when its request was sent whole, its answer read whole,
 *   and nothing is left over (http-rules: the pool's own rules); bytes that come while idle close it;
 * - a connection is freed by upstream_free() only; functions that may free say so.
 */
#include "proxy/upstream.h"

#include <assert.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/counters.h"
#include "policy/config.h"
#include "proxy/exchange.h"
#include "proxy/h1.h"
#include "proxy/h1_write.h"
#include "proxy/pool.h"
#include "proxy/secret.h"
#include "proxy/settings.h"
#include "proxy/tls.h"
#include "proxy/worker.h"

enum {
    INTERIM_MAX = 16, /* interim answers to one request */
    READS_PER_TURN = 4,
    LOW_MARK = 64 * 1024,
    READ_MORE = 16 * 1024
};

struct h1_upstream {
    struct upstream u; /* first: the codec's door */
    struct pooled pooled;
    struct stream stream;
    struct event rd, wr;
    struct out out;
    struct {
        char *p;
        uint32_t len, cap;
    } in; /* a partial head; empty at all other times */
    struct h1_scan scan;
    struct h1_body body;
    struct settings *settings;
    size_t secret;  /* bytes of the worker's head buffer that hold a key, until they are flushed */
    uint8_t method; /* of the request under way */
    uint8_t interims;
    bool idle; /* on the pool's idle list */
    bool reading, writing, paused;
    bool head_done;  /* the final head was read */
    bool sent_whole; /* the request was given whole */
    bool chunked;    /* the request is sent chunked */
    bool keep;       /* both sides let the connection live on */
    bool more;       /* bytes may lie in the socket behind those that were read last */
    bool feeding;    /* feed() is at work: who leaves now is freed by it */
    bool draining;   /* nobody wants the rest of this answer, which is at hand */
    bool doomed;     /* to be freed when feed() is through */
    bool tunnel, asked_upgrade;
    bool end_writing; /* tunnel: shut our side down once the queue is empty */
    tick_t announced_idle;
    tick_t dial_tcp, dial_tls; /* of the dial, until told; then 0 */
    bool closed_by_peer;
};

static struct h1_upstream *of(struct upstream *u)
{
    return (struct h1_upstream *)u;
}

static void read_on(struct h1_upstream *h, bool on)
{
    if (h->reading == on)
        return;
    h->reading = on;
    if (!on) {
        event_del(&h->rd);
        return;
    }
    event_add(&h->rd, NULL);
    if (h->stream.tls && tls_pending(h->stream.tls))
        event_active(&h->rd, EV_READ, 0);
}

static void write_on(struct h1_upstream *h, bool on)
{
    if (h->writing == on)
        return;
    h->writing = on;
    if (on)
        event_add(&h->wr, NULL);
    else
        event_del(&h->wr);
}

static void in_clear(struct h1_upstream *h)
{
    free(h->in.p);
    h->in.p = NULL;
    h->in.len = h->in.cap = 0;
}

static void upstream_free(struct h1_upstream *h)
{
    struct worker *w = h->u.worker;
    bool idle = h->idle;
    assert(!h->u.exchange);
    event_del(&h->rd);
    event_del(&h->wr);
    if (w->up.out == &h->out)
        gather_clear(&w->up);
    out_dispose(&h->out);
    h1_body_dispose(&h->body);
    in_clear(h);
    if (h->settings)
        settings_unref(h->settings);
    stream_close(&h->stream);
    pool_closed(w->pool, &h->u, idle);
    free(h);
}

/* Lets go of the exchange and frees; then the exchange hears why. */
static void fail(struct h1_upstream *h, enum reason why)
{
    struct exchange *x = h->u.exchange;
    struct upstream last = h->u; /* its numbers outlive the connection */
    h->u.exchange = NULL;
    upstream_free(h);
    if (x)
        exchange_upstream_failed(x, why, &last);
}

void upstream_break(struct upstream *u, enum reason why)
{
    fail(of(u), why);
}

void upstream_close(struct upstream *u)
{
    upstream_free(of(u));
}

struct pooled *upstream_pooled(struct upstream *u)
{
    return &of(u)->pooled;
}

tick_t upstream_announced_idle(const struct upstream *u)
{
    return ((const struct h1_upstream *)u)->announced_idle;
}

void upstream_note_dial(struct upstream *u, tick_t tcp, tick_t tls)
{
    of(u)->dial_tcp = tcp > 0 ? tcp : 0;
    of(u)->dial_tls = tls > 0 ? tls : 0;
}

void upstream_dial_times(struct upstream *u, tick_t *tcp, tick_t *tls)
{
    struct h1_upstream *h = of(u);
    *tcp = h->dial_tcp;
    *tls = h->dial_tls;
    h->dial_tcp = h->dial_tls = 0;
}

bool upstream_closed_by_peer(const struct upstream *u)
{
    return ((const struct h1_upstream *)u)->closed_by_peer;
}

void upstream_assign(struct upstream *u, struct exchange *x)
{
    struct h1_upstream *h = of(u);
    h->idle = false;
    u->exchange = x;
    u->request_begun = false;
    u->bytes_in = u->bytes_out = 0;
    h->head_done = h->sent_whole = h->chunked = h->draining = h->paused = h->asked_upgrade = false;
    h->feeding = h->doomed = false;
    h->interims = 0;
    memset(&h->scan, 0, sizeof(h->scan));
    if (h->settings != u->worker->settings) {
        if (h->settings)
            settings_unref(h->settings);
        h->settings = settings_ref(u->worker->settings);
    }
}

bool upstream_stirs(const struct upstream *u)
{
    return (((const struct h1_upstream *)u)->rd.ev_evcallback.evcb_flags & EVLIST_ACTIVE) != 0;
}

bool upstream_alive(struct upstream *u)
{
    struct h1_upstream *h = of(u);
    char byte;
    if (h->stream.tls) { /* bytes on the socket may be a session ticket: only TLS can tell */
        ssize_t got = stream_read(&h->stream, &byte, 1);
        return got == STREAM_AGAIN || got == STREAM_WANT_WRITE;
    }
    ssize_t r = recv(h->stream.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* ---- sending ---------------------------------------------------------------------------------- */

/* An answer may have come before the break: the read side looks, and tells; when its reader is slow, as soon
 * as it is asked to go on. */
static void sending_broke(struct h1_upstream *h)
{
    out_dispose(&h->out);
    h->keep = false;
    write_on(h, false);
    if (h->paused)
        return;
    read_on(h, true);
    event_active(&h->rd, EV_READ, 0);
}

static void flush_gather(struct h1_upstream *h)
{
    struct worker *w = h->u.worker;
    if (w->up.out != &h->out)
        return;
    enum out_result r = out_flush(&h->out, &w->up, &h->stream, &h->u.bytes_out);
    if (h->secret > 0) {
        explicit_bzero(w->up_head, h->secret);
        secret_burn_traces();
    }
    h->secret = 0;
    if (h->u.bytes_out > 0)
        h->u.request_begun = true;
    if (r == OUT_QUEUED)
        write_on(h, true);
    else if (r != OUT_DONE)
        sending_broke(h);
}

static void put(struct h1_upstream *h, const void *p, size_t n, void *owner, const struct out_owner_ops *ops)
{
    struct gather *g = &h->u.worker->up;
    if (g->out != &h->out) {
        assert(!g->out);
        g->out = &h->out;
    }
    if (gather_add(g, p, n, owner, ops))
        return;
    flush_gather(h);
    g->out = &h->out;
    (void)gather_add(g, p, n, owner, ops);
}

static void up_request(struct upstream *u, const struct call *call)
{
    struct h1_upstream *h = of(u);
    struct worker *w = u->worker;
    size_t n = h1_write_call(w->up_head, w->head_size, call, 0);
    assert(n > 0); /* exchange.c has counted the bytes */
    h->method = (uint8_t)call->method_id;
    h->chunked = call->framing == BODY_CHUNKED;
    h->asked_upgrade = call->upgrade;
    h->keep = true;
    h->secret = call->secret ? n : 0;
    h->out.wipe = call->secret;
    put(h, w->up_head, n, NULL, NULL);
}

static void up_body(struct upstream *u, struct slice data, void *owner, const struct out_owner_ops *ops)
{
    struct h1_upstream *h = of(u);
    struct gather *g = &u->worker->up;
    if (!h->chunked) {
        put(h, data.p, data.n, owner, ops);
        return;
    }
    char open[20];
    size_t n = h1_chunk_open(open, data.n);
    if (g->count > 0 && g->count + 3 > GATHER_MAX)
        flush_gather(h);
    char *line = u->worker->up_head + u->worker->head_size - 64 - 24 * (size_t)(g->count + 1);
    memcpy(line, open, n);
    put(h, line, n, NULL, NULL);
    put(h, data.p, data.n, owner, ops);
    put(h, "\r\n", 2, NULL, NULL);
}

static void up_end(struct upstream *u, struct slice trailers)
{
    struct h1_upstream *h = of(u);
    h->sent_whole = true;
    if (!h->chunked)
        return;
    put(h, "0\r\n", 3, NULL, NULL);
    put(h, trailers.p, trailers.n, NULL, NULL);
    put(h, "\r\n", 2, NULL, NULL);
}

static void up_flush(struct upstream *u)
{
    flush_gather(of(u));
}

static size_t up_backlog(const struct upstream *u)
{
    return ((const struct h1_upstream *)u)->out.bytes;
}

static void up_half_close(struct upstream *u)
{
    struct h1_upstream *h = of(u);
    h->end_writing = true;
    if (h->out.bytes == 0)
        stream_end(&h->stream);
}

static void up_pause(struct upstream *u, bool paused)
{
    of(u)->paused = paused;
    read_on(of(u), !paused);
}

/* Only what is at hand is drained, never waited for: a new connection costs less than a wait. */
void upstream_leave(struct upstream *u, bool drain)
{
    struct h1_upstream *h = of(u);
    u->exchange = NULL;
    if (!h->feeding) {
        upstream_free(h);
        return;
    }
    h->draining = drain && h->head_done && h->sent_whole && h->keep && h->out.bytes == 0 && !h->tunnel;
    h->doomed = !h->draining;
}

static const struct upstream_ops UPSTREAM_OPS = {
    .request = up_request,
    .body = up_body,
    .end = up_end,
    .flush = up_flush,
    .backlog = up_backlog,
    .pause = up_pause,
    .half_close = up_half_close,
    .leave = upstream_leave,
};

/* ---- receiving -------------------------------------------------------------------------------- */

/*
 * The answer is whole: ends the exchange, then gives the connection back or closes it (in this order:
 * the pool may start the next exchange at once, and only one answer is gathered at a time).
 * `rest`: bytes that lie behind the answer.
 */
static void answer_over(struct h1_upstream *h, size_t rest)
{
    struct exchange *x = h->u.exchange;
    h->u.exchange = NULL;
    if (x)
        exchange_response_end(x, (struct slice){h->body.trailers, h->body.trailers_len});
    h1_body_dispose(&h->body);
    in_clear(h);
    if (!h->keep || !h->sent_whole || h->out.bytes > 0 || rest > 0 || (h->more && !upstream_alive(&h->u))) {
        upstream_free(h);
        return;
    }
    h->idle = true;
    h->u.reused = true;
    pool_release(h->u.worker->pool, &h->u);
}

/* What to say of a connection that ended or broke, by how far the answer had come. */
static enum reason end_reason(const struct h1_upstream *h)
{
    if (h->head_done || h->in.len > 0 || h->u.bytes_in > 0)
        return REASON_RESET_IN_ANSWER;
    if (h->u.reused || h->u.pooled)
        return REASON_STALE_CONNECTION;
    return REASON_RESET_BEFORE_ANSWER;
}

static void note_keep_alive(struct h1_upstream *h, const struct head *head)
{
    struct slice v = head_first(head, FIELD_KEEP_ALIVE);
    static const char word[] = "timeout=";
    for (size_t i = 0; v.p && i + sizeof(word) - 1 < v.n; i++) {
        if (!slice_equal_nocase((struct slice){v.p + i, sizeof(word) - 1}, SLICE("timeout=")))
            continue;
        tick_t seconds = 0;
        for (i += sizeof(word) - 1; i < v.n && v.p[i] >= '0' && v.p[i] <= '9' && seconds < 86400; i++)
            seconds = seconds * 10 + (v.p[i] - '0');
        h->announced_idle = seconds * TICK_S;
        return;
    }
}

/* One head from p[0..n). Returns bytes used, 0 = more needed; *gone when h was freed. */
static size_t take_head(struct h1_upstream *h, const char *p, size_t n, bool *gone)
{
    struct worker *w = h->u.worker;
    struct head head; /* not cleared: the parser sets all but its table */
    size_t used = 0;
    head.fields = w->fields;
    head.field_max = w->field_max;
    enum reason r =
        h1_parse_response(&h->scan, &h->settings->p->upstream_limits, h->method, p, n, &head, &used);
    if (r == REASON_MORE)
        return 0;
    *gone = true;
    if (r != REASON_NONE) {
        fail(h, r);
        return 0;
    }
    memset(&h->scan, 0, sizeof(h->scan));
    if (head.status == 101) {
        struct exchange *x = h->u.exchange;
        if (!h->asked_upgrade || !x || !h->sent_whole || !exchange_upgraded(x, &head)) {
            fail(h, REASON_UNASKED_UPGRADE);
            return 0;
        }
        *gone = false;
        h->tunnel = h->head_done = true;
        h->keep = false;
        return used;
    }
    if (head.status < 200) {
        if (++h->interims > INTERIM_MAX) {
            fail(h, REASON_TOO_MANY_INTERIM);
            return 0;
        }
        *gone = false;
        if (h->u.exchange)
            exchange_interim(h->u.exchange, &head);
        return used;
    }
    *gone = false;
    h->head_done = true;
    if (!head.keep_alive || head.body == BODY_UNTIL_CLOSE)
        h->keep = false;
    if (head_has(&head, FIELD_KEEP_ALIVE))
        note_keep_alive(h, &head);
    h1_body_init(&h->body, &head, true, &h->settings->p->upstream_limits);
    if (h->u.exchange)
        exchange_response(h->u.exchange, &head);
    return used;
}

/* Body bytes. Returns false when h is gone. */
static bool take_body(struct h1_upstream *h, const char *p, size_t n, struct block *block)
{
    size_t at = 0;
    while (at < n && !h->body.done) {
        size_t used = 0;
        struct slice data = {NULL, 0};
        enum reason r = h1_body_next(&h->body, p + at, n - at, &used, &data);
        at += used;
        if (r != REASON_NONE) {
            fail(h, r);
            return false;
        }
        if (data.n > 0 && h->u.exchange)
            exchange_response_data(h->u.exchange, data, block, &OUT_BLOCK);
        if (h->doomed)
            break;
    }
    if (h->body.done && !h->doomed) {
        answer_over(h, n - at);
        return false;
    }
    if (h->doomed || h->draining) {
        upstream_free(h);
        return false;
    }
    return true;
}

static bool keep_partial(struct h1_upstream *h, const char *p, size_t n)
{
    if (h->in.p && p == h->in.p) {
        h->in.len = (uint32_t)n;
        return true;
    }
    if (h->in.p && p > h->in.p && p <= h->in.p + h->in.cap) {
        memmove(h->in.p, p, n);
        h->in.len = (uint32_t)n;
        return true;
    }
    h->in.p = malloc(n + READ_MORE);
    if (!h->in.p)
        return false;
    memcpy(h->in.p, p, n);
    h->in.len = (uint32_t)n;
    h->in.cap = (uint32_t)(n + READ_MORE);
    return true;
}

static bool feed_tunnel(struct h1_upstream *h, const char *p, size_t n)
{
    if (n > 0)
        exchange_response_data(h->u.exchange, (struct slice){p, n}, NULL, NULL);
    if (!h->doomed && h->u.exchange)
        exchange_response_flush(h->u.exchange);
    if (h->doomed) {
        upstream_free(h);
        return false;
    }
    in_clear(h);
    return true;
}

/* Bytes of an answer. False when h is gone. */
static bool feed(struct h1_upstream *h, const char *p, size_t n, struct block *block)
{
    size_t at = 0;
    h->feeding = true;
    while (!h->head_done) {
        bool gone = false;
        size_t used = take_head(h, p + at, n - at, &gone);
        if (gone)
            return false;
        at += used;
        if (h->doomed) {
            upstream_free(h);
            return false;
        }
        if (used > 0 && at < n)
            continue;
        if (h->head_done)
            break;
        h->feeding = false;
        if (at == n) {
            in_clear(h);
            return true;
        }
        if (keep_partial(h, p + at, n - at))
            return true;
        fail(h, REASON_OUT_OF_MEMORY);
        return false;
    }
    if (h->tunnel) {
        bool alive = feed_tunnel(h, p + at, n - at);
        if (alive)
            h->feeding = false;
        return alive;
    }
    if (!take_body(h, p + at, n - at, block))
        return false;
    if (h->u.exchange)
        exchange_response_flush(h->u.exchange);
    if (h->doomed) {
        upstream_free(h);
        return false;
    }
    h->feeding = false;
    in_clear(h);
    return true;
}

static void eof(struct h1_upstream *h, bool broken)
{
    bool truncated = h->stream.tls && tls_truncated(h->stream.tls);
    if (h->tunnel && !broken && exchange_upstream_half_closed(h->u.exchange)) {
        read_on(h, false);
    } else if (h->tunnel) {
        fail(h, REASON_NONE);
    } else if (!broken && !truncated && h->head_done && h1_body_eof(&h->body)) {
        h->keep = false;
        answer_over(h, 0);
    } else {
        fail(h, h->u.exchange ? end_reason(h) : REASON_NONE);
    }
}

/* Reads once. False: stop reading in this turn (nothing there, or h is gone). */
static bool read_once(struct h1_upstream *h)
{
    struct worker *w = h->u.worker;
    struct block *b = NULL;
    char *to;
    size_t room;
    if (h->in.len > 0) {
        if (h->in.cap - h->in.len < READ_MORE / 2) {
            char *grown = realloc(h->in.p, (size_t)h->in.cap + READ_MORE);
            if (!grown) {
                fail(h, REASON_OUT_OF_MEMORY);
                return false;
            }
            h->in.p = grown;
            h->in.cap += READ_MORE;
        }
        to = h->in.p + h->in.len;
        room = h->in.cap - h->in.len;
    } else {
        b = worker_scratch(w);
        if (!b) {
            fail(h, REASON_OUT_OF_MEMORY);
            return false;
        }
        to = b->data;
        room = BLOCK_SIZE;
    }
    ssize_t r = stream_read(&h->stream, to, room);
    if (r == STREAM_WANT_WRITE)
        write_on(h, true);
    if (r == STREAM_AGAIN || r == STREAM_WANT_WRITE)
        return false;
    if (r <= 0) {
        eof(h, r < 0);
        return false;
    }
    h->u.bytes_in += (uint64_t)r;
    h->more = stream_more(&h->stream, r, room);
    if (!b)
        return feed(h, h->in.p, h->in.len + (size_t)r, NULL) && h->stream.tls;
    return feed(h, to, (size_t)r, b) && ((size_t)r == room || h->stream.tls);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct h1_upstream *h = arg;
    (void)fd;
    (void)what;
    worker_now(h->u.worker);
    if (!h->u.exchange) { /* idle: its end, or bytes that nobody asked for */
        if (h->stream.tls && upstream_alive(&h->u))
            return;
        h->closed_by_peer = true;
        upstream_free(h);
        return;
    }
    if (!h->reading)
        return;
    for (int i = 0; i < READS_PER_TURN; i++) {
        bool pending_before = h->reading && !h->paused;
        if (!pending_before)
            return;
        if (!read_once(h))
            return;
    }
    if (h->stream.tls && tls_pending(h->stream.tls) && h->reading)
        event_active(&h->rd, EV_READ, 0);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct h1_upstream *h = arg;
    (void)fd;
    (void)what;
    worker_now(h->u.worker);
    size_t before = h->out.bytes;
    enum out_result r = out_push(&h->out, &h->stream, &h->u.bytes_out);
    if (h->out.wipe)
        secret_burn_traces();
    if (h->u.bytes_out > 0)
        h->u.request_begun = true;
    if (r == OUT_BROKEN || r == OUT_NO_MEMORY) {
        sending_broke(h);
        return;
    }
    if (h->out.bytes == 0) {
        write_on(h, false);
        if (h->end_writing)
            stream_end(&h->stream);
    }
    if (h->u.exchange && h->out.bytes <= LOW_MARK && before > LOW_MARK)
        exchange_upstream_drained(h->u.exchange);
}

struct upstream *upstream_open(struct worker *w, struct stream stream)
{
    struct h1_upstream *h = calloc(1, sizeof(*h));
    if (!h) {
        stream_close(&stream);
        return NULL;
    }
    h->u.ops = &UPSTREAM_OPS;
    h->u.worker = w;
    h->stream = stream;
    h->idle = true;
    h->pooled.born = h->pooled.idle_since = worker_now(w);
    event_assign(&h->rd, w->base, stream.fd, EV_READ | EV_PERSIST, on_readable, h);
    event_assign(&h->wr, w->base, stream.fd, EV_WRITE | EV_PERSIST, on_writable, h);
    read_on(h, true);
    return &h->u;
}
