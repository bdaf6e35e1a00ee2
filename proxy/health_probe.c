/*
 * One request over a connection of its own. Invariants: at most ANSWER_MAX bytes are kept; every wait counts
 * against one deadline.
 */
#include "proxy/health_probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>

#include "policy/config.h"
#include "proxy/address.h"
#include "proxy/command_line.h"
#include "proxy/stream.h"
#include "proxy/tls.h"

enum { ANSWER_MAX = 16384, PATIENCE_MS = 3000 };

static const char default_path[] = "/health/ready";

struct probe {
    struct endpoint to;
    struct stream stream;
    int64_t deadline; /* in ms of the monotonic clock */
    char why[320];
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool failed(struct probe *p, const char *what, const char *why)
{
    snprintf(p->why, sizeof p->why, "%s%s%s", what, *why ? ": " : "", why);
    return false;
}

static bool wait_until(struct probe *p, short events)
{
    struct pollfd fd = {p->stream.fd, events, 0};
    int64_t left = p->deadline - now_ms();
    int n = left > 0 ? poll(&fd, 1, (int)left) : 0;
    if (n > 0 || (n < 0 && errno == EINTR))
        return true;
    return failed(p, "no answer within three seconds", "");
}

/* ---- connecting ------------------------------------------------------------------------------------------
 */

/* Where one who listens everywhere is reached from here. */
static const char *reachable(const char *host)
{
    if (!*host || strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0)
        return "127.0.0.1";
    return strcmp(host, "::") == 0 ? "::1" : host;
}

static bool connect_to(struct probe *p, const struct sockaddr *sa, socklen_t n)
{
    int error = 0;
    socklen_t size = sizeof error;
    p->stream.fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->stream.fd < 0)
        return failed(p, "no socket", strerror(errno));
    if (connect(p->stream.fd, sa, n) == 0)
        return true;
    if (errno != EINPROGRESS)
        return failed(p, "cannot connect", strerror(errno));
    if (!wait_until(p, POLLOUT))
        return false;
    (void)getsockopt(p->stream.fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return error ? failed(p, "cannot connect", strerror(error)) : true;
}

static bool connect_any(struct probe *p)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list;
    char port[8];
    if (p->to.kind == ENDPOINT_UNIX) {
        if (strlen(p->to.host) >= sizeof sun.sun_path)
            return failed(p, "the path is too long for a unix socket", "");
        memcpy(sun.sun_path, p->to.host, strlen(p->to.host) + 1);
        return connect_to(p, (struct sockaddr *)&sun, sizeof sun);
    }
    snprintf(port, sizeof port, "%u", p->to.port);
    int code = getaddrinfo(reachable(p->to.host), port, &hints, &list);
    if (code)
        return failed(p, p->to.host, gai_strerror(code));
    bool good = false;
    for (struct addrinfo *a = list; a && !good; a = a->ai_next) {
        stream_close(&p->stream);
        good = connect_to(p, a->ai_addr, a->ai_addrlen);
    }
    freeaddrinfo(list);
    return good;
}

static bool shake_hands(struct probe *p)
{
    struct tls_client_options options = {.server_name = p->to.host, .verify = false};
    struct tls_context *context = tls_context_client(&options, p->why, sizeof p->why);
    if (!context)
        return false;
    p->stream.tls = tls_session_new_client(context, p->stream.fd);
    tls_context_unref(context);
    if (!p->stream.tls)
        return failed(p, "out of memory", "");
    for (;;) {
        const char *text = "";
        switch (tls_handshake(p->stream.tls)) {
        case TLS_DONE:
            return true;
        case TLS_WANT_READ:
            if (!wait_until(p, POLLIN))
                return false;
            break;
        case TLS_WANT_WRITE:
            if (!wait_until(p, POLLOUT))
                return false;
            break;
        default:
            (void)tls_failure(p->stream.tls, &text);
            return failed(p, "TLS", text ? text : "");
        }
    }
}

/* ---- asking ----------------------------------------------------------------------------------------------
 */

static bool send_all(struct probe *p, const char *text, size_t n)
{
    while (n > 0) {
        struct iovec iov = {(void *)(uintptr_t)text, n};
        ssize_t sent = stream_writev(&p->stream, &iov, 1, false);
        if (sent > 0) {
            text += sent;
            n -= (size_t)sent;
        } else if (sent == STREAM_ERROR) {
            return failed(p, "the connection broke", "");
        } else if (!wait_until(p, sent == STREAM_AGAIN && p->stream.tls ? POLLIN | POLLOUT : POLLOUT)) {
            return false;
        }
    }
    return true;
}

/* Reads to the end of the connection, which the request asks for. */
static bool read_all(struct probe *p, char *answer, size_t room)
{
    size_t n = 0;
    for (;;) {
        ssize_t got = stream_read(&p->stream, answer + n, room - 1 - n);
        if (got > 0)
            n += (size_t)got;
        if (got == STREAM_EOF || got == STREAM_ERROR || n == room - 1)
            break;
        if (got < 0 && !wait_until(p, got == STREAM_WANT_WRITE ? POLLOUT : POLLIN))
            return false;
    }
    answer[n] = '\0';
    return n > 0 ? true : failed(p, "the connection ended without an answer", "");
}

static bool ask(struct probe *p, const char *path, char *answer, size_t room)
{
    char request[ENDPOINT_BASE_MAX + ENDPOINT_HOST_MAX + 128], authority[ENDPOINT_HOST_MAX + 16];
    endpoint_authority(&p->to, authority, sizeof authority);
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
                     path, authority);
    return connect_any(p) && (!p->to.tls || shake_hands(p)) && send_all(p, request, (size_t)n) &&
           read_all(p, answer, room);
}

static bool find_endpoint(struct probe *p, const char *url, const struct config *cfg)
{
    if (url)
        return endpoint_parse_url(url, &p->to, p->why, sizeof p->why);
    if (!endpoint_parse(cfg->admin_address.text, &p->to, p->why, sizeof p->why))
        return false;
    p->to.tls = *cfg->admin_tls_certificate_file != '\0';
    return true;
}

int health_probe(const char *url, const struct config *cfg, FILE *out, FILE *err)
{
    struct probe p = {.stream = {.fd = -1}, .deadline = now_ms() + PATIENCE_MS};
    char answer[ANSWER_MAX], where[ENDPOINT_HOST_MAX + 16];
    if (!find_endpoint(&p, url, cfg)) {
        fprintf(err, "promptops-sidecar: --health: %s\n", p.why);
        return EXIT_USAGE;
    }
    endpoint_format(&p.to, where, sizeof where);
    bool asked = ask(&p, *p.to.base ? p.to.base : default_path, answer, sizeof answer);
    stream_close(&p.stream);
    if (!asked) {
        fprintf(err, "promptops-sidecar: --health: %s: %s\n", where, p.why);
        return EXIT_RUN_TIME;
    }
    const char *body = strstr(answer, "\r\n\r\n");
    bool good = strncmp(answer, "HTTP/1.1 200", 12) == 0 && (answer[12] == ' ' || answer[12] == '\r');
    fprintf(good ? out : err, "%s\n", body && body[4] ? body + 4 : answer);
    return good ? EXIT_GOOD : EXIT_RUN_TIME;
}
