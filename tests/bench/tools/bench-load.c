/*
 * The load generator: one thread, epoll. Closed loop: every connection asks again as soon as it was answered
 * (capacity). Open loop (--rate): request i is due at start + i / rate whatever became of the others, and its latency
 * counts from then, so that a slow server cannot hide behind a waiting client (no coordinated omission).
 * Invariants: an answer is counted as good only with the expected status and length; a request without a free
 * connection waits in `due`, with its clock running; what is behind the head of a plain answer is discarded in the kernel.
 */
#include <errno.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/tools/common.h"
#include "tests/bench/tools/histogram.h"

enum { EVENTS = 256, HEAD_MAX = 8192, MAX_CONNECTIONS = 20000 };

static const char program[] = "bench-load";
static const char usage[] =
    "usage: bench-load --connect ADDRESS:PORT [option]...\n"
    "  --path P           (/)\n"
    "  --host H           the Host field (localhost)\n"
    "  --field 'N: V'     one more field\n"
    "  --connections N    (10)\n"
    "  --requests N       stop after so many answers (0: no such end)\n"
    "  --seconds N        stop after this time (0: no such end)\n"
    "  --rate R           open loop, requests a second; 0: closed loop (0)\n"
    "  --status N         expected (200)\n"
    "  --bytes N          expected length of the body (not looked at when not given)\n"
    "  --tls              speak TLS (the certificate is not looked at)\n"
    "  --idle             open the connections, one request on each, say so, and keep them until standard input ends\n"
    "Prints one line of JSON. Exit 1 when an answer was wrong.\n";

struct conn {
    int fd; /* -1: closed */
    SSL *ssl;
    bool busy, in_body;
    int64_t started; /* ns: when it was due (open loop) or sent */
    uint64_t left;   /* bytes of the body still to come */
    size_t head_n;
    struct conn *next_free;
    char head[HEAD_MAX];
};

struct load {
    struct sockaddr_in where;
    char request[4096];
    size_t request_len;
    uint64_t connections, requests, rate, status, bytes;
    bool any_length, idle;
    int64_t start, deadline; /* ns; deadline 0: none */
    uint64_t issued, answered, wrong, broken, connects;
    int epoll;
    SSL_CTX *tls;
    struct conn *conns, *free;
    struct histogram latency;
};

static bool is_over(const struct load *l, int64_t now)
{
    return (l->requests && l->answered + l->wrong + l->broken >= l->requests) || (l->deadline && now >= l->deadline);
}

/* --- connections --- */

static bool handshake(struct load *l, struct conn *c)
{
    if (!l->tls)
        return true;
    c->ssl = SSL_new(l->tls);
    if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1)
        return false;
    for (;;) {
        int r = SSL_connect(c->ssl);
        if (r == 1)
            return true;
        int e = SSL_get_error(c->ssl, r);
        struct pollfd p = {c->fd, e == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN, 0};
        if ((e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE) || poll(&p, 1, 10000) <= 0)
            return false;
    }
}

static bool open_conn(struct load *l, struct conn *c)
{
    c->fd = connect_to(&l->where);
    c->busy = c->in_body = false;
    c->head_n = 0;
    l->connects++;
    if (c->fd < 0 || !handshake(l, c))
        return false;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    return epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &e) == 0;
}

static void close_conn(struct conn *c)
{
    SSL_free(c->ssl);
    c->ssl = NULL;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static void send_request(struct load *l, struct conn *c, int64_t due)
{
    ssize_t n = c->ssl ? SSL_write(c->ssl, l->request, (int)l->request_len)
                       : send(c->fd, l->request, l->request_len, MSG_NOSIGNAL);
    c->busy = true;
    c->in_body = false;
    c->head_n = 0;
    c->started = due;
    l->issued++;
    /* A request is a few hundred bytes on an empty connection: it goes out whole, or the connection is broken. */
    if (n != (ssize_t)l->request_len)
        shutdown(c->fd, SHUT_RDWR);
}

/* --- answers --- */

/* Content-Length of a head that ends with a NUL; UINT64_MAX when it has none. */
static uint64_t content_length(const char *head)
{
    const char *p = head;
    while ((p = strchr(p, '\n')) != NULL) {
        p++;
        if ((*p | 0x20) == 'c' && strncasecmp(p, "content-length:", 15) == 0)
            return strtoull(p + 15, NULL, 10);
    }
    return UINT64_MAX;
}

enum progress { AGAIN, DONE, BROKEN };

/* Looks at what was read of a head. */
static enum progress take_head(struct load *l, struct conn *c)
{
    char *end = memmem(c->head, c->head_n, "\r\n\r\n", 4);
    if (!end)
        return c->head_n == HEAD_MAX - 1 ? BROKEN : AGAIN;
    size_t behind = c->head_n - (size_t)(end + 4 - c->head);
    end[2] = 0;
    uint64_t length = content_length(c->head);
    unsigned long status = c->head_n > 12 ? strtoul(c->head + 9, NULL, 10) : 0;
    if (length == UINT64_MAX || behind > length)
        return BROKEN;
    if (status != l->status || (!l->any_length && length != l->bytes))
        l->wrong++;
    else
        l->answered++;
    c->left = length - behind;
    c->in_body = true;
    return c->left ? AGAIN : DONE;
}

static ssize_t read_some(struct conn *c, void *to, size_t n, int flags)
{
    if (!c->ssl)
        return recv(c->fd, to, n, flags);
    int r = SSL_read(c->ssl, to, (int)n);
    if (r > 0)
        return r;
    int e = SSL_get_error(c->ssl, r);
    errno = e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
    return e == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

static enum progress read_answer(struct load *l, struct conn *c)
{
    static char waste[256 * 1024]; /* written for TLS only: MSG_TRUNC throws the rest away without a copy */
    for (;;) {
        size_t room = c->in_body ? (c->left < sizeof(waste) ? (size_t)c->left : sizeof(waste)) : HEAD_MAX - 1 - c->head_n;
        char *to = c->in_body ? waste : c->head + c->head_n;
        ssize_t n = read_some(c, to, room, c->in_body ? MSG_TRUNC : 0);
        if (n <= 0)
            return n < 0 && errno == EAGAIN ? AGAIN : BROKEN;
        enum progress p = AGAIN;
        if (c->in_body) {
            c->left -= (uint64_t)n;
            p = c->left ? AGAIN : DONE;
        } else {
            c->head_n += (size_t)n;
            p = take_head(l, c);
        }
        if (p != AGAIN || (!c->ssl && (size_t)n < room))
            return p;
    }
}

static void give_back(struct load *l, struct conn *c)
{
    c->busy = false;
    c->next_free = l->free;
    l->free = c;
}

/* Something came on a connection. */
static void on_readable(struct load *l, struct conn *c)
{
    enum progress p = c->busy ? read_answer(l, c) : BROKEN;
    if (p == AGAIN)
        return;
    int64_t now = now_ns();
    bool was_busy = c->busy;
    if (p == DONE) {
        histogram_add(&l->latency, (uint64_t)(now - c->started));
        give_back(l, c);
        return;
    }
    l->broken += was_busy;
    close_conn(c);
    if (!open_conn(l, c)) {
        fprintf(stderr, "%s: cannot connect again: %s\n", program, strerror(errno));
        exit(1);
    }
    if (was_busy)
        give_back(l, c);
}

/* --- the two loops --- */

/* Sends what is due. Returns ns until more is due, or -1 when that does not depend on time. */
static int64_t issue(struct load *l, int64_t now)
{
    while (l->free && !(l->requests && l->issued >= l->requests)) {
        int64_t due = now;
        if (l->rate) {
            due = l->start + (int64_t)((double)l->issued * 1e9 / (double)l->rate);
            if (due > now)
                return due - now;
        }
        struct conn *c = l->free;
        l->free = c->next_free;
        send_request(l, c, due);
    }
    return -1;
}

static void run(struct load *l)
{
    struct epoll_event events[EVENTS];
    int64_t now = now_ns();
    while (!is_over(l, now)) {
        int64_t wait = issue(l, now);
        if (l->deadline && (wait < 0 || wait > l->deadline - now))
            wait = l->deadline - now;
        struct timespec t = {wait / 1000000000, wait % 1000000000};
        int n = epoll_pwait2(l->epoll, events, EVENTS, wait < 0 ? NULL : &t, NULL);
        for (int i = 0; i < n; i++)
            on_readable(l, events[i].data.ptr);
        now = now_ns();
    }
}

/* Opens all, asks once on each, and waits until standard input ends. */
static void run_idle(struct load *l)
{
    char byte;
    l->requests = l->connections;
    run(l);
    printf("{\"idle\": %llu, \"wrong\": %llu, \"broken\": %llu}\n", (unsigned long long)l->answered,
           (unsigned long long)l->wrong, (unsigned long long)l->broken);
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
}

static void report(const struct load *l, int64_t took)
{
    const struct histogram *h = &l->latency;
    double us = 1e-3, seconds = (double)took * 1e-9;
    printf("{\"requests\": %llu, \"wrong\": %llu, \"broken\": %llu, \"connects\": %llu, \"seconds\": %.6f, "
           "\"rate\": %.1f, \"latency_us\": {\"mean\": %.1f, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, "
           "\"p999\": %.1f, \"max\": %.1f}, \"behind\": %llu}\n",
           (unsigned long long)l->answered, (unsigned long long)l->wrong, (unsigned long long)l->broken,
           (unsigned long long)l->connects, seconds, (double)l->answered / seconds,
           h->total ? h->sum / (double)h->total * us : 0, (double)histogram_quantile(h, 0.5) * us,
           (double)histogram_quantile(h, 0.9) * us, (double)histogram_quantile(h, 0.99) * us,
           (double)histogram_quantile(h, 0.999) * us, (double)h->max * us,
           (unsigned long long)(l->issued - l->answered - l->wrong - l->broken));
}

/* --- the command line --- */

static uint64_t number(int argc, char **argv, const char *name, const char *otherwise, uint64_t max)
{
    return number_option(program, name, option(argc, argv, name, otherwise), max);
}

static void read_options(struct load *l, int argc, char **argv)
{
    static const char *const values[] = {"connect", "path",   "host",   "field", "connections", "requests",
                                         "seconds", "rate",   "status", "bytes", NULL};
    static const char *const flags[] = {"tls", "idle", NULL};
    check_options(argc, argv, values, flags, usage);
    if (!parse_address(option(argc, argv, "connect", ""), &l->where)) {
        fputs(usage, stderr);
        exit(2);
    }
    const char *field = option(argc, argv, "field", "");
    int n = snprintf(l->request, sizeof(l->request), "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\n%s%s\r\n",
                     option(argc, argv, "path", "/"), option(argc, argv, "host", "localhost"), field,
                     *field ? "\r\n" : "");
    if (n < 0 || (size_t)n >= sizeof(l->request)) {
        fputs("bench-load: the request is too long\n", stderr);
        exit(2);
    }
    l->request_len = (size_t)n;
    l->connections = number(argc, argv, "connections", "10", MAX_CONNECTIONS);
    l->requests = number(argc, argv, "requests", "0", UINT64_MAX / 2);
    l->rate = number(argc, argv, "rate", "0", 10000000);
    l->status = number(argc, argv, "status", "200", 999);
    l->any_length = !option(argc, argv, "bytes", NULL);
    l->bytes = number(argc, argv, "bytes", "0", UINT64_MAX / 2);
    l->idle = flag(argc, argv, "idle");
    l->deadline = (int64_t)number(argc, argv, "seconds", "0", 86400) * 1000000000;
    if (l->connections == 0 || (!l->requests && !l->deadline && !l->idle)) {
        fputs("bench-load: it needs connections, and an end: --requests or --seconds\n", stderr);
        exit(2);
    }
    if (flag(argc, argv, "tls") && !(l->tls = SSL_CTX_new(TLS_client_method())))
        die(program, "TLS");
}

static void open_all(struct load *l)
{
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->conns = calloc(l->connections, sizeof(struct conn));
    if (l->epoll < 0 || !l->conns)
        die(program, "start");
    for (uint64_t i = 0; i < l->connections; i++) {
        if (!open_conn(l, &l->conns[i]))
            die(program, "connect");
        give_back(l, &l->conns[i]);
    }
}

int main(int argc, char **argv)
{
    struct load *l = calloc(1, sizeof(*l));
    if (!l)
        die(program, "malloc");
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1UL); /* else the kernel may wake us 50 us late */
    read_options(l, argc, argv);
    open_all(l);
    l->start = now_ns();
    if (l->deadline)
        l->deadline += l->start;
    if (l->idle)
        run_idle(l);
    else
        run(l);
    if (!l->idle)
        report(l, now_ns() - l->start);
    return l->wrong || l->broken ? 1 : 0;
}
