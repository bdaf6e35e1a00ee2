/*
 * Races connections to the addresses of an upstream and shakes hands on the first that is made.
 * Invariants: at most one attempt shakes hands, and then no other is open; `done` is called once, last of
 * all, when every socket, event and reference of the dial is gone; dial_start only ever arms events.
 */
#include "proxy/dial.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/tls.h"

#define STAGGER (250 * TICK_MS) /* RFC 8305 5, Connection Attempt Delay */

enum { TEXT_MAX = 448 };

enum attempt_state { ATTEMPT_UNUSED, ATTEMPT_CONNECTING, ATTEMPT_HANDSHAKE, ATTEMPT_CLOSED };

struct attempt {
    struct dial *dial;
    struct event event;
    struct stream stream;
    enum attempt_state state;
    uint32_t index; /* of its address */
    tick_t began;
    tick_t connected;
};

struct dial {
    struct dial_request request;
    dial_done_fn *done;
    void *arg;
    struct event limit;   /* the time for all; made active early to report a failure from the loop */
    struct event stagger; /* the next attempt is due */
    uint32_t open;        /* attempts that are under way */
    uint32_t started;     /* attempts[0..started) were begun, in this order */
    uint32_t last_failed; /* index of the address */
    enum reason reason;   /* of the last failure */
    char text[TEXT_MAX];
    struct attempt attempts[]; /* one for each address, in the order to try */
};

static void begin_next(struct dial *d);

static tick_t monotonic(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * TICK_S + t.tv_nsec;
}

static struct timeval to_timeval(tick_t t)
{
    /* Upwards: a timer must not fire before its time. */
    tick_t us = (t + TICK_US - 1) / TICK_US;
    return (struct timeval){.tv_sec = us / 1000000, .tv_usec = us % 1000000};
}

static void close_attempt(struct attempt *a)
{
    if (a->state != ATTEMPT_CONNECTING && a->state != ATTEMPT_HANDSHAKE)
        return;
    event_del(&a->event);
    stream_close(&a->stream);
    a->state = ATTEMPT_CLOSED;
    a->dial->open--;
}

static void dispose(struct dial *d)
{
    for (uint32_t i = 0; i < d->started; i++)
        close_attempt(&d->attempts[i]);
    event_del(&d->limit);
    event_del(&d->stagger);
    address_list_unref(d->request.addresses);
    tls_context_unref(d->request.tls);
    free(d);
}

/* Ends without a stream, for the reason and with the text that the last failure left. */
static void finish_badly(struct dial *d)
{
    char text[TEXT_MAX];
    struct dial_result result = {
        .reason = d->reason, .stream = {.fd = -1}, .tcp = -1, .tls = -1, .text = text};
    dial_done_fn *done = d->done;
    void *arg = d->arg;
    memcpy(text, d->text, sizeof(text));
    result.index = d->last_failed;
    result.address = d->request.addresses->at[d->last_failed];
    dispose(d);
    done(arg, &result);
}

static void finish_well(struct attempt *a)
{
    struct dial *d = a->dial;
    struct dial_result result = {
        .reason = REASON_NONE, .stream = a->stream, .index = a->index, .tls = -1, .text = ""};
    dial_done_fn *done = d->done;
    void *arg = d->arg;
    result.address = d->request.addresses->at[a->index];
    result.tcp = a->connected - a->began;
    if (a->stream.tls) {
        result.tls = monotonic() - a->connected;
        result.tls_resumed = tls_resumed(a->stream.tls);
    }
    event_del(&a->event);
    a->state = ATTEMPT_CLOSED;
    a->stream = (struct stream){.fd = -1};
    d->open--;
    dispose(d);
    done(arg, &result);
}

static void note_failure(struct attempt *a, enum reason reason, const char *doing, const char *why)
{
    struct dial *d = a->dial;
    char address[ADDRESS_TEXT_MAX];
    address_format(&d->request.addresses->at[a->index], address, sizeof(address));
    snprintf(d->text, sizeof(d->text), "%s %s: %s", doing, address, why);
    d->reason = reason;
    d->last_failed = a->index;
}

/*
 * An attempt is over: the next address is tried at once (RFC 8305 5). When there is none, and nothing is
 * under way, the whole has failed, which the loop will report: this may run inside dial_start.
 */
static void attempt_over(struct attempt *a)
{
    struct dial *d = a->dial;
    close_attempt(a);
    if (d->reason != REASON_TLS_CERTIFICATE && d->reason != REASON_OUT_OF_MEMORY)
        begin_next(d);
    if (d->open == 0)
        event_active(&d->limit, EV_TIMEOUT, 0);
}

static void connect_failed(struct attempt *a, int error)
{
    note_failure(a, error == ETIMEDOUT ? REASON_CONNECT_TIMEOUT : REASON_CONNECT_FAILED, "connect to",
                 strerror(error));
    attempt_over(a);
}

static void on_handshake(evutil_socket_t fd, short what, void *arg);

/* Waits for what the handshake needs next. */
static void await(struct attempt *a, short what)
{
    event_del(&a->event);
    event_assign(&a->event, a->dial->request.base, a->stream.fd, what, on_handshake, a);
    if (event_add(&a->event, NULL) != 0) {
        note_failure(a, REASON_OUT_OF_MEMORY, "TLS with", "no event could be added");
        attempt_over(a);
    }
}

static void shake_hands(struct attempt *a)
{
    const char *why;
    enum reason reason;
    switch (tls_handshake(a->stream.tls)) {
    case TLS_DONE:
        finish_well(a);
        return;
    case TLS_WANT_READ:
        await(a, EV_READ);
        return;
    case TLS_WANT_WRITE:
        await(a, EV_WRITE);
        return;
    case TLS_FAILED:
        break;
    }
    reason = tls_failure(a->stream.tls, &why);
    note_failure(a, reason, "TLS with", why);
    attempt_over(a);
}

static void on_handshake(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    shake_hands(arg);
}

/* The race is won: everybody else goes home. */
static void connected(struct attempt *a)
{
    struct dial *d = a->dial;
    a->connected = monotonic();
    event_del(&d->stagger);
    for (uint32_t i = 0; i < d->started; i++)
        if (&d->attempts[i] != a)
            close_attempt(&d->attempts[i]);
    if (!d->request.tls) {
        finish_well(a);
        return;
    }
    a->state = ATTEMPT_HANDSHAKE;
    a->stream.tls = tls_session_new_client(d->request.tls, a->stream.fd);
    if (a->stream.tls) {
        shake_hands(a);
        return;
    }
    note_failure(a, REASON_OUT_OF_MEMORY, "TLS with", "out of memory");
    attempt_over(a);
}

/*
 * True when the socket met itself: a port without a listener, taken as the socket's own by chance,
 * connects to itself (simultaneous open) and would echo every request.
 */
static bool met_itself(const struct attempt *a)
{
    struct address own;
    const struct address *peer = &a->dial->request.addresses->at[a->index];
    if (peer->sa.ss_family == AF_UNIX)
        return false;
    memset(&own, 0, sizeof(own));
    own.len = sizeof(own.sa);
    return getsockname(a->stream.fd, (struct sockaddr *)&own.sa, &own.len) == 0 && address_equal(&own, peer);
}

static void on_connect(evutil_socket_t fd, short what, void *arg)
{
    struct attempt *a = arg;
    int error = 0;
    socklen_t n = sizeof(error);
    (void)what;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
        error = errno;
    if (error == 0 && met_itself(a))
        error = ECONNREFUSED;
    if (error)
        connect_failed(a, error);
    else
        connected(a);
}

/* Opens the socket, begins to connect and waits for the end of it. 0, or why not. */
static int open_socket(struct attempt *a)
{
    const struct address *to = &a->dial->request.addresses->at[a->index];
    int one = 1;
    int fd = socket(to->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    a->stream.fd = fd;
    event_assign(&a->event, a->dial->request.base, fd, EV_WRITE, on_connect, a);
    if (to->sa.ss_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    /* Connected at once (a unix socket) is writable at once: one way for both. */
    if (connect(fd, (const struct sockaddr *)&to->sa, to->len) != 0 && errno != EINPROGRESS && errno != EINTR)
        return errno;
    return event_add(&a->event, NULL) == 0 ? 0 : ENOMEM;
}

static void begin(struct attempt *a)
{
    a->began = monotonic();
    a->state = ATTEMPT_CONNECTING;
    a->dial->open++;
    event_assign(&a->event, a->dial->request.base, -1, EV_WRITE, on_connect, a);
    int error = open_socket(a);
    if (error)
        connect_failed(a, error);
}

/* Begins the attempt that is next, if any is left, and sets the alarm for the one behind it. */
static void begin_next(struct dial *d)
{
    if (d->started == d->request.addresses->count)
        return;
    struct attempt *a = &d->attempts[d->started++];
    if (d->started < d->request.addresses->count) {
        struct timeval t = to_timeval(d->request.stagger);
        event_add(&d->stagger, &t);
    } else {
        event_del(&d->stagger);
    }
    begin(a);
}

static void on_stagger(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    begin_next(arg);
}

/* The time is over, or everything has failed already. */
static void on_limit(evutil_socket_t fd, short what, void *arg)
{
    struct dial *d = arg;
    char why[64];
    (void)fd;
    (void)what;
    snprintf(why, sizeof(why), "not done within %lld ms", (long long)(d->request.timeout / TICK_MS));
    for (uint32_t i = 0; i < d->started; i++) {
        struct attempt *a = &d->attempts[i];
        if (a->state == ATTEMPT_CONNECTING)
            note_failure(a, REASON_CONNECT_TIMEOUT, "connect to", why);
        else if (a->state == ATTEMPT_HANDSHAKE)
            note_failure(a, REASON_CONNECT_TIMEOUT, "TLS with", why);
    }
    finish_badly(d);
}

/*
 * The order to try (RFC 8305 4): from `first` on, the families taking turns, beginning with the first one's,
 * as long as both have addresses left.
 */
static void set_order(struct dial *d)
{
    const struct address_list *list = d->request.addresses;
    uint32_t n = list->count, first = d->request.first % n, same = 0, other = 0;
    sa_family_t family = list->at[first].sa.ss_family;
    for (uint32_t i = 0; i < n; i++) {
        bool turn = i % 2 == 0;
        while (same < n && list->at[(first + same) % n].sa.ss_family != family)
            same++;
        while (other < n && list->at[(first + other) % n].sa.ss_family == family)
            other++;
        bool take_same = other >= n || (turn && same < n);
        d->attempts[i].index = (first + (take_same ? same++ : other++)) % n;
        d->attempts[i].dial = d;
        d->attempts[i].stream.fd = -1;
    }
}

struct dial *dial_start(const struct dial_request *request, dial_done_fn *done, void *arg)
{
    uint32_t n = request->addresses->count;
    struct dial *d = calloc(1, sizeof(*d) + n * sizeof(d->attempts[0]));
    if (!d)
        return NULL;
    d->request = *request;
    d->done = done;
    d->arg = arg;
    address_list_ref(d->request.addresses);
    if (d->request.tls)
        tls_context_ref(d->request.tls);
    if (d->request.stagger <= 0)
        d->request.stagger = STAGGER;
    set_order(d);
    evtimer_assign(&d->limit, request->base, on_limit, d);
    evtimer_assign(&d->stagger, request->base, on_stagger, d);
    struct timeval limit = to_timeval(request->timeout);
    if (event_add(&d->limit, &limit) != 0) {
        dispose(d);
        return NULL;
    }
    begin_next(d);
    return d;
}

void dial_cancel(struct dial *d)
{
    if (d)
        dispose(d);
}
