/*
 * Accepting. Invariants: at most BATCH connections are accepted a turn, so that a flood of them does not
 * starve those that are there; when descriptors run out, one is kept in reserve so that the newcomer
 * can be refused instead of being left in the queue, and accepting pauses for a moment.
 */
#include "proxy/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/netfilter_ipv4.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "metrics/counters.h"
#include "policy/config.h"
#include "policy/reason.h"
#include "proxy/address.h"
#include "proxy/client.h"
#include "proxy/log.h"
#include "proxy/resolve.h"
#include "proxy/service.h"
#include "proxy/settings.h"
#include "proxy/tls.h"
#include "proxy/worker.h"

enum { BATCH = 64, BACKLOG = 4096 };

struct listener {
    struct worker *w;
    struct listener *others; /* of the same worker, or NULL */
    struct event *ready;
    struct event *again; /* after a pause */
    int fd;
    int reserve; /* a descriptor to give up when there are no more */
    bool tcp;
};

/* ---- refusing ------------------------------------------------------------------------------------- */

/* A connection over the limit gets an answer, not a reset: what it has sent is read so that the close is
 * clean. */
static void refuse(struct worker *w, int fd)
{
    const struct reason_row *row = reason_row(REASON_TOO_MANY_CONNECTIONS);
    char body[512], text[1024], stamp[32], drop[4096];
    time_t wall = (time_t)worker_wall(w);
    struct tm tm;
    gmtime_r(&wall, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
    int len = snprintf(body, sizeof(body),
                       "{\"success\":false,\"error\":\"%s\",\"status_code\":%d,\"timestamp\":\"%s\","
                       "\"details\":{\"reason\":\"%s\",\"source\":\"promptops-sidecar\"}}\n",
                       row->sentence, row->status, stamp, row->name);
    int n = snprintf(
        text, sizeof(text),
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        "Proxy-Status: promptops-sidecar; error=%s\r\nRetry-After: 1\r\nConnection: close\r\n\r\n%s",
        len, row->proxy_status, body);
    metric_add(w->metrics, METRIC_CLIENT_REFUSED, 1);
    if (!w->settings->p->tls_server && send(fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
        shutdown(fd, SHUT_WR);
        while (recv(fd, drop, sizeof(drop), MSG_DONTWAIT) > 0)
            continue;
    }
    close(fd);
}

static void out_of_descriptors(struct listener *l)
{
    struct timeval pause = {0, 50000};
    if (l->reserve >= 0) {
        close(l->reserve);
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            refuse(l->w, fd);
        l->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    log_write(l->w->service->log, LOG_WARNING, "listener",
              "no file descriptor for a new connection: accepting pauses; raise the limit (ulimit -n)");
    event_del(l->ready);
    evtimer_add(l->again, &pause);
}

/* ---- redirected connections ------------------------------------------------------------------------- */

/* Where the client meant to go before iptables sent it here. */
static bool original_destination(int fd, struct address *out)
{
    out->len = sizeof(out->sa);
    if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, &out->sa, &out->len) == 0)
        return true;
    out->len = sizeof(out->sa);
    return getsockopt(fd, SOL_IPV6, SO_ORIGINAL_DST, &out->sa, &out->len) == 0;
}

static bool same_as_local(int fd, const struct address *a)
{
    struct address local = {.len = sizeof(local.sa)};
    return getsockname(fd, (struct sockaddr *)&local.sa, &local.len) == 0 && address_equal(&local, a);
}

/* A redirected connection for a host that is not our upstream: answering it would be a lie. */
static bool is_misdirected(struct worker *w, int fd)
{
    struct address to;
    if (!original_destination(fd, &to) || same_as_local(fd, &to))
        return false;
    struct address_list *list = resolver_get(w->service->resolver);
    bool ours = list && address_list_has(list, &to);
    address_list_unref(list);
    return !ours;
}

/* ---- accepting --------------------------------------------------------------------------------------- */

static void take(struct listener *l, int fd, const struct sockaddr_storage *peer)
{
    struct worker *w = l->w;
    const struct config *cfg = settings_config(w->settings);
    struct tls_session *tls = NULL;
    int on = 1;
    if (atomic_load_explicit(&w->service->clients, memory_order_relaxed) >=
        (uint64_t)cfg->listen_max_connections) {
        refuse(w, fd);
        return;
    }
    if (l->tcp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (w->settings->p->tls_server && !(tls = tls_session_new_server(w->settings->p->tls_server, fd))) {
        close(fd);
        return;
    }
    (void)client_open(w, fd, tls, peer, cfg->listen_transparent && is_misdirected(w, fd));
}

static void on_ready(evutil_socket_t lfd, short what, void *arg)
{
    struct listener *l = arg;
    (void)what;
    worker_now(l->w);
    for (int i = 0; i < BATCH; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof(peer);
        int fd = accept4(lfd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take(l, fd, &peer);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            out_of_descriptors(l);
        if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
    struct listener *l = arg;
    (void)fd;
    (void)what;
    event_add(l->ready, NULL);
}

struct listener *listener_start(struct worker *w, int fd, struct listener *others)
{
    struct listener *l = calloc(1, sizeof(*l));
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    if (!l)
        return NULL;
    l->w = w;
    l->fd = fd;
    l->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    l->tcp = getsockname(fd, (struct sockaddr *)&sa, &len) == 0 && sa.ss_family != AF_UNIX;
    l->ready = event_new(w->base, fd, EV_READ | EV_PERSIST, on_ready, l);
    l->again = evtimer_new(w->base, on_again, l);
    if (!l->ready || !l->again || event_add(l->ready, NULL) != 0) {
        listener_stop(l);
        return NULL;
    }
    l->others = others;
    return l;
}

void listener_stop(struct listener *l)
{
    if (l->others)
        listener_stop(l->others);
    if (l->ready)
        event_free(l->ready);
    if (l->again)
        event_free(l->again);
    close(l->fd);
    if (l->reserve >= 0)
        close(l->reserve);
    free(l);
}

/* ---- opening ------------------------------------------------------------------------------------------ */

static int open_unix(const char *path, char *err, size_t err_size)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct stat st;
    if (strlen(path) >= sizeof(sun.sun_path)) {
        snprintf(err, err_size, "listen.address: the path %s is longer than a socket's may be (%zu bytes)",
                 path, sizeof(sun.sun_path) - 1);
        return -1;
    }
    memcpy(sun.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        goto fail;
    if (stat(path, &st) == 0 && S_ISSOCK(st.st_mode)) { /* left behind by a process that is gone? */
        int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool alive = probe >= 0 && connect(probe, (struct sockaddr *)&sun, sizeof(sun)) == 0;
        if (probe >= 0)
            close(probe);
        if (!alive)
            unlink(path);
    }
    if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
fail:
    snprintf(err, err_size, "listen.address: cannot listen on unix:%s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

static int open_tcp(const struct endpoint *e, bool reuse_port, char *err, size_t err_size)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char port[8], name[ADDRESS_TEXT_MAX + ENDPOINT_HOST_MAX];
    int on = 1, fd = -1, why = 0;
    endpoint_format(e, name, sizeof(name));
    snprintf(port, sizeof(port), "%u", e->port);
    int rc = getaddrinfo(e->host[0] && strcmp(e->host, "*") != 0 ? e->host : NULL, port, &hints, &list);
    if (rc != 0) {
        snprintf(err, err_size, "listen.address: %s: %s", e->host, gai_strerror(rc));
        return -1;
    }
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (reuse_port)
            setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
        if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
            why = errno;
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd < 0)
        snprintf(err, err_size, "listen.address: cannot listen on %s: %s", name, strerror(why ? why : errno));
    return fd;
}

int listener_open(const char *address, bool reuse_port, char *err, size_t err_size)
{
    struct endpoint e;
    if (!endpoint_parse(address, &e, err, err_size))
        return -1;
    return e.kind == ENDPOINT_UNIX ? open_unix(e.host, err, err_size)
                                   : open_tcp(&e, reuse_port, err, err_size);
}

void listener_name(int fd, char *out, size_t size)
{
    struct address a = {.len = sizeof(a.sa)};
    if (size)
        out[0] = '\0';
    if (getsockname(fd, (struct sockaddr *)&a.sa, &a.len) == 0)
        address_format(&a, out, size);
}
