/*
 * The do-nothing forwarder: one thread, epoll; every client connection has one upstream connection of its own, and bytes
 * are copied from one to the other with read() and write() through one 64 KiB buffer. It parses nothing, so it is the
 * floor for any copying proxy.
 * Invariant: a direction that could not write all keeps the rest, and its source is not read until that is gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/tools/common.h"

enum { EVENTS = 256, MAX_FD = 65536, BUFFER = 64 * 1024 };

static const char program[] = "bench-forward";
static const char usage[] = "usage: bench-forward --upstream ADDRESS:PORT [--listen ADDRESS:PORT]\n";

struct end {
    int peer;     /* descriptor of the other end; -1: closed */
    char *rest;   /* what `peer` sent and this end could not take yet */
    size_t rest_at, rest_n;
    uint32_t interest;
};

struct forwarder {
    int epoll, listen;
    struct sockaddr_in upstream;
    struct end ends[MAX_FD];
    char buffer[BUFFER];
};

static void interest(struct forwarder *f, int fd, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.fd = fd};
    if (f->ends[fd].interest == events)
        return;
    f->ends[fd].interest = events;
    epoll_ctl(f->epoll, EPOLL_CTL_MOD, fd, &e);
}

static void adopt(struct forwarder *f, int fd, int peer)
{
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    f->ends[fd] = (struct end){.peer = peer, .interest = EPOLLIN};
    epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &e);
}

static void accept_all(struct forwarder *f)
{
    for (;;) {
        int fd = accept4(f->listen, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        int up = connect_to(&f->upstream);
        if (fd >= MAX_FD || up < 0 || up >= MAX_FD) {
            close(fd);
            if (up >= 0)
                close(up);
            continue;
        }
        set_nodelay(fd);
        adopt(f, fd, up);
        adopt(f, up, fd);
    }
}

static void drop(struct forwarder *f, int fd)
{
    int peer = f->ends[fd].peer;
    if (peer < 0)
        return;
    for (int i = 0; i < 2; i++) {
        int one = i ? peer : fd;
        free(f->ends[one].rest);
        f->ends[one] = (struct end){.peer = -1};
        close(one);
    }
}

/* Keeps what `fd` could not take, and stops reading from its peer. */
static bool keep_rest(struct forwarder *f, int fd, const char *p, size_t n)
{
    struct end *e = &f->ends[fd];
    e->rest = malloc(n);
    if (!e->rest)
        return false;
    memcpy(e->rest, p, n);
    e->rest_at = 0;
    e->rest_n = n;
    interest(f, fd, f->ends[fd].interest | EPOLLOUT);
    interest(f, e->peer, f->ends[e->peer].interest & ~(uint32_t)EPOLLIN);
    return true;
}

static bool copy_from(struct forwarder *f, int fd)
{
    int to = f->ends[fd].peer;
    ssize_t n = recv(fd, f->buffer, BUFFER, 0);
    if (n < 0)
        return errno == EAGAIN;
    if (n == 0)
        return false;
    ssize_t done = send(to, f->buffer, (size_t)n, MSG_NOSIGNAL);
    if (done < 0 && errno != EAGAIN)
        return false;
    if (done < 0)
        done = 0;
    return done == n || keep_rest(f, to, f->buffer + done, (size_t)(n - done));
}

static bool write_rest(struct forwarder *f, int fd)
{
    struct end *e = &f->ends[fd];
    ssize_t n = send(fd, e->rest + e->rest_at, e->rest_n - e->rest_at, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN;
    e->rest_at += (size_t)n;
    if (e->rest_at < e->rest_n)
        return true;
    free(e->rest);
    e->rest = NULL;
    interest(f, fd, e->interest & ~(uint32_t)EPOLLOUT);
    interest(f, e->peer, f->ends[e->peer].interest | EPOLLIN);
    return true;
}

static void serve(struct forwarder *f, int fd, uint32_t events)
{
    if (f->ends[fd].peer < 0)
        return; /* closed earlier in this turn, by its other end */
    bool good = true;
    if ((events & EPOLLOUT) && f->ends[fd].rest)
        good = write_rest(f, fd);
    if (good && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && (f->ends[fd].interest & EPOLLIN))
        good = copy_from(f, fd);
    else if (good && (events & (EPOLLHUP | EPOLLERR)))
        good = false;
    if (!good)
        drop(f, fd);
}

int main(int argc, char **argv)
{
    static const char *const values[] = {"listen", "upstream", NULL};
    static const char *const flags[] = {NULL};
    struct epoll_event events[EVENTS], listening = {.events = EPOLLIN, .data.fd = -1};
    struct forwarder *f = calloc(1, sizeof(*f));
    check_options(argc, argv, values, flags, usage);
    if (!f)
        die(program, "malloc");
    for (int i = 0; i < MAX_FD; i++)
        f->ends[i].peer = -1;
    if (!parse_address(option(argc, argv, "upstream", ""), &f->upstream)) {
        fputs(usage, stderr);
        return 2;
    }
    f->epoll = epoll_create1(EPOLL_CLOEXEC);
    f->listen = listen_on(program, option(argc, argv, "listen", "127.0.0.1:0"));
    if (f->epoll < 0 || epoll_ctl(f->epoll, EPOLL_CTL_ADD, f->listen, &listening) < 0)
        die(program, "epoll");
    for (;;) {
        int n = epoll_wait(f->epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd < 0)
                accept_all(f);
            else
                serve(f, events[i].data.fd, events[i].events);
        }
    }
}
