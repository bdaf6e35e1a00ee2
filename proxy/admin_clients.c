/*
 * Limits of the admin port that its HTTP server does not have.
 *
 * Invariants: each slot holds a reference on its connection, so that the pointer stays good when the server
 * lets go; the server clears a connection's callbacks when it frees it, which is how that is seen. A
 * connection is ended by shutting its socket down: the server then closes it on its own.
 */
#include "proxy/admin_clients.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

struct slot {
    struct bufferevent *b; /* a reference; NULL: free */
    tick_t since;          /* accepted, or the last whole request */
    bool asked;            /* a request came: an answer may be on its way */
};

struct bucket {
    double tokens;
    tick_t at;
};

struct admin_clients {
    struct slot slots[ADMIN_CLIENTS_MAX];
    struct event *sweep;
    struct bucket all, failed;
};

static tick_t clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (tick_t)t.tv_sec * TICK_S + t.tv_nsec;
}

static bool let_go(struct bufferevent *b)
{
    bufferevent_data_cb read_cb, write_cb;
    bufferevent_event_cb event_cb;
    void *arg;
    bufferevent_getcb(b, &read_cb, &write_cb, &event_cb, &arg);
    return !event_cb;
}

static void release(struct slot *s)
{
    bufferevent_decref(s->b);
    *s = (struct slot){0};
}

/* The slot is free afterwards; the server sees the end of the stream, and frees the rest. */
static void cut(struct slot *s)
{
    evutil_socket_t fd = bufferevent_getfd(s->b);
    if (fd >= 0)
        shutdown(fd, SHUT_RDWR);
    release(s);
}

static void sweep(evutil_socket_t fd, short what, void *arg)
{
    struct admin_clients *c = arg;
    tick_t now = clock_now();
    (void)fd;
    (void)what;
    for (int i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        struct slot *s = &c->slots[i];
        if (!s->b)
            continue;
        bool answering = s->asked && evbuffer_get_length(bufferevent_get_output(s->b)) > 0;
        tick_t most = (answering ? ADMIN_ANSWER_SECONDS : ADMIN_CLIENT_SECONDS) * TICK_S;
        if (let_go(s->b))
            release(s);
        else if (now - s->since > most)
            cut(s);
    }
}

struct admin_clients *admin_clients_new(struct event_base *base)
{
    struct admin_clients *c = calloc(1, sizeof *c);
    struct timeval second = {1, 0};
    if (!c)
        return NULL;
    c->all.tokens = 500;
    c->failed.tokens = 20;
    c->all.at = c->failed.at = clock_now();
    c->sweep = event_new(base, -1, EV_PERSIST, sweep, c);
    if (c->sweep && event_add(c->sweep, &second) == 0)
        return c;
    admin_clients_free(c);
    return NULL;
}

void admin_clients_free(struct admin_clients *c)
{
    if (!c)
        return;
    for (int i = 0; i < ADMIN_CLIENTS_MAX; i++)
        if (c->slots[i].b)
            release(&c->slots[i]);
    if (c->sweep)
        event_free(c->sweep);
    free(c);
}

void admin_clients_add(struct admin_clients *c, struct bufferevent *b)
{
    struct slot *oldest = NULL;
    if (!b)
        return;
    for (int i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        struct slot *s = &c->slots[i];
        if (s->b && let_go(s->b))
            release(s);
        if (!s->b) {
            oldest = s;
            break;
        }
        if (!oldest || s->since < oldest->since)
            oldest = s;
    }
    if (oldest->b)
        cut(oldest);
    bufferevent_incref(b);
    *oldest = (struct slot){b, clock_now(), false};
}

void admin_clients_asked(struct admin_clients *c, const struct bufferevent *b)
{
    for (int i = 0; b && i < ADMIN_CLIENTS_MAX; i++)
        if (c->slots[i].b == b) {
            c->slots[i].since = clock_now();
            c->slots[i].asked = true;
        }
}

void admin_clients_leave(struct admin_clients *c, const struct bufferevent *b)
{
    for (int i = 0; i < ADMIN_CLIENTS_MAX; i++)
        if (b && c->slots[i].b == b)
            release(&c->slots[i]);
}

unsigned admin_clients_wait(struct admin_clients *c, bool failed, tick_t now)
{
    struct bucket *b = failed ? &c->failed : &c->all;
    double rate = failed ? 5 : 100, most = failed ? 20 : 500;
    if (now > b->at)
        b->tokens += rate * (double)(now - b->at) / (double)TICK_S;
    b->at = now;
    if (b->tokens > most)
        b->tokens = most;
    if (b->tokens < 1)
        return 1;
    b->tokens -= 1;
    return 0;
}
