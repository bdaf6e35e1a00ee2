/*
 * Threads and listening sockets. Invariants: each thread has its own event base, its own listening socket
 * (SO_REUSEPORT) and its own connections; a bound socket that never listens holds the port while an outage closes
 * the listening ones; other threads reach a thread through its eventfd only.
 */
#include "tests/origin/server.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/origin/conn.h"

enum { ACCEPTS_A_TURN = 64 };

struct worker {
    struct server *server;
    struct event_base *base;
    struct event *listen_event, *control_event, *wake_event;
    int listen_fd, control_fd, wake_fd, reserve_fd;
    pthread_t thread;
    bool started;
    struct settings *settings;
    uint64_t settings_seen, random;
    struct conn *conns;
    void *spares;
};

struct server {
    struct origin *origin;
    atomic_bool stopping;
    int hold_fd; /* bound, not listening: keeps the port ours */
    struct sockaddr_storage address;
    socklen_t address_len;
    int count;
    struct worker workers[];
};

struct event_base *worker_base(struct worker *w)
{
    return w->base;
}

struct origin *worker_origin(struct worker *w)
{
    return w->server->origin;
}

void **worker_spares(struct worker *w)
{
    return &w->spares;
}

const struct settings *worker_settings(struct worker *w)
{
    struct settings_box *box = w->server->origin->settings;
    if (settings_is_newer(box, w->settings_seen)) {
        settings_unref(w->settings);
        w->settings = settings_get(box, &w->settings_seen);
    }
    return w->settings;
}

/* xorshift64*: even enough for faults, and each thread has its own. */
double worker_random(struct worker *w)
{
    uint64_t x = w->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    w->random = x;
    return (double)((x * 0x2545F4914F6CDD1Dull) >> 11) / 9007199254740992.0;
}

void worker_link(struct worker *w, struct conn *c)
{
    struct conn_links *links = conn_links(c);
    links->prev = NULL;
    links->next = w->conns;
    if (w->conns)
        conn_links(w->conns)->prev = c;
    w->conns = c;
}

void worker_unlink(struct worker *w, struct conn *c)
{
    struct conn_links *links = conn_links(c);
    if (links->next)
        conn_links(links->next)->prev = links->prev;
    if (links->prev)
        conn_links(links->prev)->next = links->next;
    else
        w->conns = links->next;
}

/* --- listening --- */

static bool resolve(const char *where, struct sockaddr_storage *address, socklen_t *len)
{
    char host[64];
    const char *colon = strrchr(where, ':');
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    size_t n = colon ? (size_t)(colon - where) : 0;
    bool bracketed = n >= 2 && where[0] == '[' && where[n - 1] == ']';
    if (bracketed) {
        where++;
        n -= 2;
    }
    if (!colon || n == 0 || n >= sizeof(host))
        return false;
    memcpy(host, where, n);
    host[n] = 0;
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        return false;
    memcpy(address, found->ai_addr, found->ai_addrlen);
    *len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

/* A bound socket, listening or only holding the address. -1 and errno on failure. */
static int bind_socket(const struct sockaddr_storage *address, socklen_t len, bool listening)
{
    int on = 1;
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)address, len) < 0 || (listening && listen(fd, 4096) < 0)) {
        int e = errno;
        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static bool name_of(int fd, char out[64])
{
    struct sockaddr_storage a;
    socklen_t n = sizeof(a);
    char host[48], port[8];
    if (getsockname(fd, (struct sockaddr *)&a, &n) < 0 ||
        getnameinfo((struct sockaddr *)&a, n, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return false;
    snprintf(out, 64, a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return true;
}

/* Out of descriptors: takes the waiting connection with the one kept for this, and drops it. */
static void accept_and_drop(struct worker *w, int fd)
{
    close(w->reserve_fd);
    int c = accept(fd, NULL, NULL);
    if (c >= 0)
        close(c);
    w->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void accept_some(struct worker *w, int fd, bool control)
{
    int on = 1;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int c = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (c < 0) {
            if (errno == EMFILE || errno == ENFILE)
                accept_and_drop(w, fd);
            return;
        }
        setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        conn_accept(w, c, control);
    }
}

static void on_listen(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    accept_some(arg, fd, false);
}

static void on_control(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    accept_some(arg, fd, true);
}

static void stop_listening(struct worker *w)
{
    if (w->listen_event)
        event_free(w->listen_event);
    w->listen_event = NULL;
    if (w->listen_fd >= 0)
        close(w->listen_fd);
    w->listen_fd = -1;
}

static bool start_listening(struct worker *w)
{
    struct server *s = w->server;
    w->listen_fd = bind_socket(&s->address, s->address_len, true);
    if (w->listen_fd < 0)
        return false;
    w->listen_event = event_new(w->base, w->listen_fd, EV_READ | EV_PERSIST, on_listen, w);
    return w->listen_event && event_add(w->listen_event, NULL) == 0;
}

/* --- threads --- */

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;
    uint64_t n;
    (void)what;
    if (read(fd, &n, sizeof(n)) < 0)
        return;
    if (atomic_load(&w->server->stopping)) {
        event_base_loopbreak(w->base);
        return;
    }
    bool refuse = worker_settings(w)->outage == OUTAGE_REFUSE;
    if (refuse && w->listen_fd >= 0)
        stop_listening(w);
    else if (!refuse && w->listen_fd < 0)
        start_listening(w);
}

static void wake(struct worker *w)
{
    uint64_t one = 1;
    if (write(w->wake_fd, &one, sizeof(one)) < 0)
        return; /* the counter is full: it will wake anyway */
}

void server_settings_changed(struct server *server)
{
    for (int i = 0; i < server->count; i++)
        wake(&server->workers[i]);
}

static void *run_worker(void *arg)
{
    struct worker *w = arg;
    event_base_dispatch(w->base);
    return NULL;
}

static bool prepare_worker(struct worker *w, struct server *s, int index)
{
    w->server = s;
    w->listen_fd = w->control_fd = -1;
    w->random = 0x9E3779B97F4A7C15ull * (uint64_t)(index + 1);
    w->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    w->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    w->base = event_base_new();
    if (w->wake_fd < 0 || !w->base)
        return false;
    w->settings = settings_get(s->origin->settings, &w->settings_seen);
    w->wake_event = event_new(w->base, w->wake_fd, EV_READ | EV_PERSIST, on_wake, w);
    return w->wake_event && event_add(w->wake_event, NULL) == 0 && start_listening(w);
}

static bool listen_control(struct worker *w, struct server_plan *plan)
{
    struct sockaddr_storage address;
    socklen_t len;
    if (!plan->control)
        return true;
    if (!resolve(plan->control, &address, &len)) {
        errno = EINVAL;
        return false;
    }
    w->control_fd = bind_socket(&address, len, true);
    if (w->control_fd < 0)
        return false;
    w->control_event = event_new(w->base, w->control_fd, EV_READ | EV_PERSIST, on_control, w);
    return w->control_event && event_add(w->control_event, NULL) == 0 && name_of(w->control_fd, plan->control_at);
}

static void dispose_worker(struct worker *w)
{
    while (w->conns)
        conn_free(w->conns);
    conn_free_spares(w->spares);
    stop_listening(w);
    if (w->control_event)
        event_free(w->control_event);
    if (w->control_fd >= 0)
        close(w->control_fd);
    if (w->wake_event)
        event_free(w->wake_event);
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    if (w->reserve_fd >= 0)
        close(w->reserve_fd);
    if (w->base)
        event_base_free(w->base);
    settings_unref(w->settings);
}

struct server *server_start(struct origin *origin, struct server_plan *plan, const char **why)
{
    struct server *s = calloc(1, sizeof(*s) + (size_t)plan->threads * sizeof(struct worker));
    *why = "out of memory";
    if (!s)
        return NULL;
    s->origin = origin;
    origin->server = s;
    s->hold_fd = -1;
    if (!resolve(plan->listen, &s->address, &s->address_len)) {
        *why = "not an ADDRESS:PORT in numbers";
        goto fail;
    }
    s->hold_fd = bind_socket(&s->address, s->address_len, false);
    if (s->hold_fd < 0 || getsockname(s->hold_fd, (struct sockaddr *)&s->address, &s->address_len) < 0 ||
        !name_of(s->hold_fd, plan->listen_at))
        goto fail_errno;
    for (int i = 0; i < plan->threads; i++) {
        s->count++;
        if (!prepare_worker(&s->workers[i], s, i))
            goto fail_errno;
    }
    if (!listen_control(&s->workers[0], plan))
        goto fail_errno;
    for (int i = 0; i < s->count; i++) {
        if (pthread_create(&s->workers[i].thread, NULL, run_worker, &s->workers[i]) != 0)
            goto fail_errno;
        s->workers[i].started = true;
    }
    return s;
fail_errno:
    *why = strerror(errno);
fail:
    server_stop(s);
    return NULL;
}

void server_stop(struct server *s)
{
    atomic_store(&s->stopping, true);
    for (int i = 0; i < s->count; i++) {
        if (!s->workers[i].started)
            continue;
        wake(&s->workers[i]);
        pthread_join(s->workers[i].thread, NULL);
    }
    for (int i = 0; i < s->count; i++)
        dispose_worker(&s->workers[i]);
    if (s->hold_fd >= 0)
        close(s->hold_fd);
    s->origin->server = NULL;
    free(s);
}
