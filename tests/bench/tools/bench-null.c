/*
 * The do-nothing server: one thread, epoll, read() and write() of an answer made beforehand. It looks for nothing in
 * a request but its end, so it is the floor for any server: what it costs is what the kernel costs.
 * Invariant: write interest is on exactly while a connection has answers it could not write.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/tools/common.h"

enum { EVENTS = 256, MAX_FD = 65536, MAX_BODY = 64 * 1024 * 1024 };

static const char program[] = "bench-null";
static const char usage[] = "usage: bench-null [--listen ADDRESS:PORT] [--bytes N] [--field 'name: value']\n";

struct conn {
    uint32_t owed;  /* answers not yet written whole */
    size_t written; /* of the first of them */
    uint8_t ending; /* bytes of CR LF CR LF seen at the end of the last read */
    bool writing;
};

struct null_server {
    int epoll, listen;
    char *answer;
    size_t answer_len;
    struct conn conns[MAX_FD];
};

static void make_answer(struct null_server *s, size_t bytes, const char *field)
{
    char head[512];
    int n = snprintf(head, sizeof(head),
                     "HTTP/1.1 200 OK\r\nserver: bench-null\r\ncontent-type: application/octet-stream\r\n"
                     "content-length: %zu\r\n%s%s\r\n",
                     bytes, field, *field ? "\r\n" : "");
    if (n < 0 || (size_t)n >= sizeof(head)) {
        errno = EINVAL;
        die(program, "--field");
    }
    s->answer_len = (size_t)n + bytes;
    s->answer = malloc(s->answer_len);
    if (!s->answer)
        die(program, "malloc");
    memcpy(s->answer, head, (size_t)n);
    memset(s->answer + n, 'x', bytes);
}

static void want(struct null_server *s, int fd, bool writing)
{
    struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.fd = fd};
    if (s->conns[fd].writing == writing)
        return;
    s->conns[fd].writing = writing;
    epoll_ctl(s->epoll, EPOLL_CTL_MOD, fd, &e);
}

static void accept_all(struct null_server *s)
{
    for (;;) {
        int fd = accept4(s->listen, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        s->conns[fd] = (struct conn){0};
        set_nodelay(fd);
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e);
    }
}

/* Ends of heads in these bytes, also when one is split over reads. */
static uint32_t count_heads(struct conn *c, const char *p, size_t n)
{
    uint32_t heads = 0;
    size_t at = 0;
    while (c->ending && at < n) {
        char expected = c->ending % 2 ? '\n' : '\r';
        c->ending = p[at] == expected ? (uint8_t)(c->ending + 1) : 0;
        at++;
        if (c->ending == 4) {
            heads++;
            c->ending = 0;
        }
    }
    const char *end;
    while ((end = memmem(p + at, n - at, "\r\n\r\n", 4)) != NULL) {
        heads++;
        at = (size_t)(end - p) + 4;
    }
    for (uint8_t k = n - at < 3 ? (uint8_t)(n - at) : 3; !c->ending && k > 0; k--)
        if (memcmp(p + n - k, "\r\n\r", k) == 0)
            c->ending = k;
    return heads;
}

static bool write_owed(struct null_server *s, int fd)
{
    struct conn *c = &s->conns[fd];
    while (c->owed) {
        ssize_t n = send(fd, s->answer + c->written, s->answer_len - c->written, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return false;
        if (n < 0)
            break;
        c->written += (size_t)n;
        if (c->written < s->answer_len)
            break;
        c->written = 0;
        c->owed--;
    }
    want(s, fd, c->owed > 0);
    return true;
}

static bool serve(struct null_server *s, int fd, uint32_t events)
{
    char buf[16 * 1024];
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return false;
        if (n > 0)
            s->conns[fd].owed += count_heads(&s->conns[fd], buf, (size_t)n);
    }
    return write_owed(s, fd);
}

int main(int argc, char **argv)
{
    static const char *const values[] = {"listen", "bytes", "field", NULL};
    static const char *const flags[] = {NULL};
    check_options(argc, argv, values, flags, usage);
    struct null_server *s = calloc(1, sizeof(*s));
    struct epoll_event events[EVENTS], listening = {.events = EPOLLIN, .data.fd = -1};
    if (!s)
        die(program, "malloc");
    make_answer(s, number_option(program, "bytes", option(argc, argv, "bytes", "1024"), MAX_BODY),
                option(argc, argv, "field", ""));
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    s->listen = listen_on(program, option(argc, argv, "listen", "127.0.0.1:0"));
    if (s->epoll < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listen, &listening) < 0)
        die(program, "epoll");
    for (;;) {
        int n = epoll_wait(s->epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd < 0)
                accept_all(s);
            else if (!serve(s, fd, events[i].events))
                close(fd);
        }
    }
}
