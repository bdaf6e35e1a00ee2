/*
 * WebSocket framing by wslay over a libevent connection.
 *
 * Invariants: wslay's own queue is emptied into the connection's buffer at once, so that what waits is
 * counted in one place; while that is over the limit nothing is read either, so that a client which only asks
 * (pings) and never reads costs no memory. `over` is called from the connection's callbacks only, as the last
 * thing.
 */
#include "proxy/websocket.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

#include "proxy/digest.h"

enum { WRITE_SECONDS = 60, CLOSE_SECONDS = 3 };

struct websocket {
    struct bufferevent *b;
    wslay_event_context_ptr ws;
    void (*over)(void *arg);
    void *arg;
    tick_t heard, pinged; /* on the clock of websocket_tick; 0: not yet */
    bool spoken;          /* the client sent something since the last tick */
    bool closing, peer_closed;
    bool ending; /* all is said: what still comes is thrown away until the client ends, so that it can read
                    all */
};

bool websocket_accept(const char *key, char out[WEBSOCKET_ACCEPT])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[24 + sizeof guid];
    if (strlen(key) != 24 || strspn(key, DIGEST_BASE64) != 22 || strcmp(key + 22, "==") != 0)
        return false;
    memcpy(text, key, 24);
    memcpy(text + 24, guid, sizeof guid);
    return digest_sha1_base64((struct slice){text, sizeof text - 1}, out, WEBSOCKET_ACCEPT);
}

/* ---- wslay's callbacks ---- */

static ssize_t take_bytes(wslay_event_context_ptr ws, uint8_t *into, size_t room, int flags, void *arg)
{
    struct websocket *w = arg;
    int n = evbuffer_remove(bufferevent_get_input(w->b), into, room);
    (void)flags;
    if (n > 0)
        return n;
    wslay_event_set_error(ws, WSLAY_ERR_WOULDBLOCK);
    return -1;
}

static ssize_t put_bytes(wslay_event_context_ptr ws, const uint8_t *p, size_t n, int flags, void *arg)
{
    struct websocket *w = arg;
    (void)flags;
    if (evbuffer_add(bufferevent_get_output(w->b), p, n) == 0)
        return (ssize_t)n;
    wslay_event_set_error(ws, WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static void on_message(wslay_event_context_ptr ws, const struct wslay_event_on_msg_recv_arg *m, void *arg)
{
    struct websocket *w = arg;
    (void)ws;
    w->spoken = true;
    if (m->opcode == WSLAY_CONNECTION_CLOSE)
        w->closing = w->peer_closed = true; /* wslay answers it */
    else if (!wslay_is_ctrl_frame(m->opcode))
        websocket_close(w, WEBSOCKET_POLICY, "This stream takes no messages.");
}

/* ---- the connection's callbacks ---- */

static size_t waiting(const struct websocket *w)
{
    return evbuffer_get_length(bufferevent_get_output(w->b));
}

/* Writes what is queued; ends what has ended. The last thing that a callback of the connection does. */
static void settle(struct websocket *w)
{
    bool good = wslay_event_send(w->ws) == 0;
    bool done = !wslay_event_want_read(w->ws) && !wslay_event_want_write(w->ws) && !waiting(w);
    if (good && done && !w->peer_closed) {
        struct timeval time = {CLOSE_SECONDS, 0};
        w->closing = w->ending = true;
        bufferevent_set_timeouts(w->b, &time, &time);
        bufferevent_enable(w->b, EV_READ);
        return;
    }
    if (!good || done) {
        bufferevent_setcb(w->b, NULL, NULL, NULL, NULL);
        w->over(w->arg);
        return;
    }
    if (waiting(w) > WEBSOCKET_QUEUE)
        bufferevent_disable(w->b, EV_READ);
    else
        bufferevent_enable(w->b, EV_READ);
}

static void on_read(struct bufferevent *b, void *arg)
{
    struct websocket *w = arg;
    if (w->ending) {
        evbuffer_drain(bufferevent_get_input(b), WEBSOCKET_QUEUE);
        return;
    }
    if (wslay_event_recv(w->ws) == 0) {
        if (!wslay_event_want_read(w->ws)) /* else a full buffer would hide the client's end */
            evbuffer_drain(bufferevent_get_input(b), evbuffer_get_length(bufferevent_get_input(b)));
        settle(w);
        return;
    }
    bufferevent_setcb(w->b, NULL, NULL, NULL, NULL);
    w->over(w->arg);
}

static void on_write(struct bufferevent *b, void *arg)
{
    (void)b;
    settle(arg);
}

static void on_event(struct bufferevent *b, short what, void *arg)
{
    struct websocket *w = arg;
    (void)what; /* end, error or time out: no more can be said */
    bufferevent_setcb(b, NULL, NULL, NULL, NULL);
    w->over(w->arg);
}

/* ---- the owner's side ---- */

struct websocket *websocket_new(struct bufferevent *b, void (*over)(void *arg), void *arg)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = take_bytes, .send_callback = put_bytes, .on_msg_recv_callback = on_message};
    struct timeval write_time = {WRITE_SECONDS, 0};
    struct websocket *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    *w = (struct websocket){.b = b, .over = over, .arg = arg};
    if (wslay_event_context_server_init(&w->ws, &callbacks, w) != 0) {
        free(w);
        return NULL;
    }
    wslay_event_config_set_max_recv_msg_length(w->ws, WEBSOCKET_MESSAGE);
    bufferevent_setwatermark(b, EV_READ, 0, 4 * WEBSOCKET_MESSAGE);
    bufferevent_set_timeouts(b, NULL, &write_time);
    bufferevent_setcb(b, on_read, on_write, on_event, w);
    bufferevent_enable(b, EV_READ | EV_WRITE);
    return w;
}

void websocket_go(struct websocket *w)
{
    if (evbuffer_get_length(bufferevent_get_input(w->b)))
        bufferevent_trigger(w->b, EV_READ, BEV_OPT_DEFER_CALLBACKS);
}

void websocket_free(struct websocket *w)
{
    if (!w)
        return;
    bufferevent_setcb(w->b, NULL, NULL, NULL, NULL);
    wslay_event_context_free(w->ws);
    free(w);
}

bool websocket_send(struct websocket *w, struct slice text)
{
    struct wslay_event_msg message = {WSLAY_TEXT_FRAME, (const uint8_t *)text.p, text.n};
    return !w->closing && waiting(w) + text.n <= WEBSOCKET_QUEUE &&
           wslay_event_queue_msg(w->ws, &message) == 0 && wslay_event_send(w->ws) == 0;
}

void websocket_tick(struct websocket *w, tick_t now)
{
    struct wslay_event_msg ping = {WSLAY_PING, NULL, 0};
    if (w->spoken || !w->heard)
        w->heard = w->pinged = now;
    w->spoken = false;
    if (now - w->heard > WEBSOCKET_SILENCE * TICK_S) {
        bufferevent_trigger_event(w->b, BEV_EVENT_TIMEOUT, BEV_OPT_DEFER_CALLBACKS);
    } else if (now - w->pinged >= WEBSOCKET_PING * TICK_S && !w->closing) {
        w->pinged = now;
        if (wslay_event_queue_msg(w->ws, &ping) == 0)
            (void)wslay_event_send(w->ws);
    }
}

void websocket_close(struct websocket *w, unsigned code, const char *reason)
{
    struct timeval time = {CLOSE_SECONDS, 0};
    if (w->closing)
        return;
    w->closing = true;
    bufferevent_set_timeouts(w->b, &time, &time);
    if (wslay_event_queue_close(w->ws, (uint16_t)code, (const uint8_t *)reason, strlen(reason)) == 0)
        (void)wslay_event_send(w->ws);
}
