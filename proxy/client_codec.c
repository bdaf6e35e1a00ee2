/*
 * The client's door towards the exchange: what codec.h asks of a downstream, in HTTP/1. Invariants:
 * - bytes are gathered for one client at a time and leave at flush;
 * - nothing here frees the client: a broken stream is shut down, and the read side tells.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "policy/config.h"
#include "proxy/address.h"
#include "proxy/client_internal.h"
#include "proxy/exchange.h"
#include "proxy/h1_write.h"

static struct client *client_of(struct downstream *d)
{
    return (struct client *)d;
}

static void gather_begin(struct client *c)
{
    struct gather *g = &c->d.worker->down;
    assert(!g->out || g->out == &c->out);
    g->out = &c->out;
}

static void client_flush(struct client *c)
{
    struct worker *w = c->d.worker;
    enum out_result r;
    if (w->down.out != &c->out)
        return;
    r = out_flush(&c->out, &w->down, &c->stream, &c->d.bytes_out);
    if (r == OUT_QUEUED) {
        client_write_on(c, true);
    } else if (r != OUT_DONE) {
        /* The read side will tell; nobody may free the client in the middle of an exchange's step. */
        out_dispose(&c->out);
        shutdown(c->stream.fd, SHUT_RDWR);
        client_read_on(c, true);
    }
}

static void put(struct client *c, const void *p, size_t n, void *owner, const struct out_owner_ops *ops)
{
    struct gather *g = &c->d.worker->down;
    gather_begin(c);
    if (gather_add(g, p, n, owner, ops))
        return;
    client_flush(c);
    gather_begin(c);
    (void)gather_add(g, p, n, owner, ops);
}

static void down_interim(struct downstream *d, const struct reply *reply)
{
    struct client *c = client_of(d);
    if (d->minor == 0)
        return;
    size_t n = h1_write_reply(d->worker->down_head, d->worker->head_size, reply, H1_INTERIM);
    put(c, d->worker->down_head, n, NULL, NULL);
    client_flush(c);
}

static void down_reply(struct downstream *d, const struct reply *reply)
{
    struct client *c = client_of(d);
    unsigned flags = 0;
    c->replied = true;
    if (reply->close || !c->body.done || d->worker->stopping || d->worker->leaving ||
        (d->half_closed && c->in.len == 0))
        c->close_after = true;
    c->chunked = reply->framing == BODY_CHUNKED && d->minor >= 1;
    c->until_close = reply->framing == BODY_CHUNKED && d->minor == 0; /* HTTP/1.0 knows no chunks */
    if (c->until_close)
        c->close_after = true;
    if (c->chunked)
        flags |= H1_CHUNKED;
    if (c->close_after)
        flags |= H1_CLOSE;
    else if (d->minor == 0)
        flags |= H1_KEEP_ALIVE;
    size_t n = h1_write_reply(d->worker->down_head, d->worker->head_size, reply, flags);
    put(c, d->worker->down_head, n, NULL, NULL);
}

static void down_body(struct downstream *d, struct slice data, void *owner, const struct out_owner_ops *ops)
{
    struct client *c = client_of(d);
    struct gather *g = &d->worker->down;
    char open[20];
    size_t n;
    if (data.n == 0)
        return;
    if (!c->chunked) {
        put(c, data.p, data.n, owner, ops);
        return;
    }
    n = h1_chunk_open(open, data.n);
    if (g->count > 0 && g->count + 3 > GATHER_MAX)
        client_flush(c);
    /* The size line is put behind the head in the worker's scratch, which lives until the flush. */
    char *line = d->worker->down_head + d->worker->head_size - 64 - 24 * (size_t)(g->count + 1);
    memcpy(line, open, n);
    put(c, line, n, NULL, NULL);
    put(c, data.p, data.n, owner, ops);
    put(c, "\r\n", 2, NULL, NULL);
}

static void down_file(struct downstream *d, int fd, off_t at, size_t n, void *owner,
                      const struct out_owner_ops *ops)
{
    struct client *c = client_of(d);
    struct gather *g = &d->worker->down;
    gather_begin(c);
    g->file_fd = fd;
    g->file_at = at;
    g->file_len = n;
    g->file_owner = owner;
    g->file_ops = ops;
}

static void down_end(struct downstream *d, struct slice trailers)
{
    struct client *c = client_of(d);
    if (!c->chunked)
        return;
    if (trailers.n == 0) {
        put(c, "0\r\n\r\n", 5, NULL, NULL);
        return;
    }
    put(c, "0\r\n", 3, NULL, NULL);
    put(c, trailers.p, trailers.n, NULL, NULL);
    put(c, "\r\n", 2, NULL, NULL);
}

static void down_flush(struct downstream *d)
{
    client_flush(client_of(d));
}

/*
 * Breaks the message so that the client sees it: fewer bytes than promised, or no last chunk, then the
 * end of the connection. A body that ends with the connection needs a reset (with TLS: an end without
 * close_notify), because a plain end would look like a whole message.
 */
static void down_abort(struct downstream *d, enum reason why)
{
    struct client *c = client_of(d);
    (void)why;
    client_flush(c);
    c->close_after = true;
    c->hard_end = c->until_close;
    out_dispose(&c->out);
}

static size_t down_backlog(const struct downstream *d)
{
    return ((const struct client *)d)->out.bytes;
}

void client_resume_later(struct client *c)
{
    struct worker *w = c->d.worker;
    if (c->on_resume)
        return;
    c->on_resume = true;
    c->resume_next = w->resume;
    w->resume = c;
}

static void down_want_body(struct downstream *d, bool wanted)
{
    struct client *c = client_of(d);
    c->body_paused = !wanted;
    if (!wanted && c->state == CLIENT_TUNNEL)
        client_read_on(c, false);
    if (wanted && c->in.len > 0)
        client_resume_later(c);
    else if (wanted && !d->half_closed) /* its end was read already */
        client_read_on(c, true);
}

static void down_finished(struct downstream *d, bool whole)
{
    struct client *c = client_of(d);
    d->exchange = NULL;
    if (!whole)
        c->close_after = true;
    if (c->state == CLIENT_TUNNEL)
        c->close_after = true;
    if (!c->feeding || !c->reading)
        client_resume_later(c);
}

static void down_tunnel(struct downstream *d, const struct reply *reply)
{
    struct client *c = client_of(d);
    down_interim(d, reply);
    client_set_state(c, CLIENT_TUNNEL);
    c->chunked = false;
    c->body.done = true;
    if (c->in.len > 0) {
        exchange_request_data(d->exchange, (struct slice){c->in.p, c->in.len}, NULL, NULL);
        exchange_request_flush(d->exchange);
        client_in_clear(c);
    }
    client_read_on(c, true);
    client_set_timer(c, client_config(c)->upstream_stream_idle_timeout);
}

static void down_half_close(struct downstream *d)
{
    struct client *c = client_of(d);
    c->end_writing = true;
    if (c->out.bytes == 0)
        stream_end(&c->stream);
}

static void down_peer(const struct downstream *d, char *out, size_t size)
{
    const struct client *c = (const struct client *)(const void *)d;
    struct address address = {.len = sizeof address.sa};
    *out = '\0';
    if (c->port) { /* without a system call */
        *(struct sockaddr_in *)&address.sa =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_port = c->port, .sin_addr = {c->peer}};
        address_format(&address, out, size);
        return;
    }
    if (getpeername(c->stream.fd, (struct sockaddr *)&address.sa, &address.len) != 0)
        return;
    if (address.sa.ss_family == AF_UNIX)
        snprintf(out, size, "unix");
    else
        address_format(&address, out, size);
}

const struct downstream_ops CLIENT_OPS = {
    .interim = down_interim,
    .reply = down_reply,
    .body = down_body,
    .file = down_file,
    .end = down_end,
    .flush = down_flush,
    .abort = down_abort,
    .backlog = down_backlog,
    .want_body = down_want_body,
    .tunnel = down_tunnel,
    .half_close = down_half_close,
    .peer = down_peer,
    .finished = down_finished,
};
