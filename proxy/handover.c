/*
 * The protocol, over SOCK_SEQPACKET, so that a message is a packet: "take LISTEN ADMIN" is answered by "given
 * N A" with N + A descriptors, or by "refused WHY"; "serving" ends it. Invariants: one asks at a time; until
 * "serving" comes nothing has changed for the one who lends, so that a successor which fails to start takes
 * nothing along.
 */
#include "proxy/handover.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { FDS_MAX = 250, TEXT_MAX = 1024, PATIENCE_SECONDS = 5 };

struct handover {
    struct handover_source source;
    struct event_base *base;
    struct event *ready; /* somebody connects */
    struct event *asker; /* the one who is here; NULL: nobody */
    int fd, asker_fd;
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
};

static bool name_of(const char *path, struct sockaddr_un *out, char *err, size_t err_size)
{
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (*path == '/' && strlen(path) < sizeof out->sun_path) {
        memcpy(out->sun_path, path, strlen(path) + 1);
        return true;
    }
    snprintf(err, err_size, "listen.handover: %s is no absolute path of at most %zu bytes", path,
             sizeof out->sun_path - 1);
    return false;
}

/* ---- taking ----------------------------------------------------------------------------------------------
 */

union control_room {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
};

/* The descriptors that came with a message; at most FDS_MAX. */
static int descriptors_of(struct msghdr *m, int *fds)
{
    int count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n && count < FDS_MAX; i++)
            memcpy(&fds[count++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
    }
    return count;
}

/* Reads the answer. True when the sockets are in *out. */
static bool receive(int fd, struct inherited *out, char *err, size_t err_size)
{
    union control_room control = {0};
    char text[TEXT_MAX];
    int fds[FDS_MAX], listen = 0, admin = 0;
    struct iovec iov = {text, sizeof text - 1};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    if (n <= 0) {
        snprintf(err, err_size, "listen.handover: the process before did not answer");
        return false;
    }
    text[n] = '\0';
    int count = descriptors_of(&m, fds);
    if (sscanf(text, "given %d %d", &listen, &admin) == 2 && listen > 0 && admin >= 0 && admin <= 1 &&
        count == listen + admin) {
        for (int i = 0; i < listen; i++)
            out->listen[out->listen_count++] = fds[i];
        out->admin = admin ? fds[listen] : -1;
        return true;
    }
    for (int i = 0; i < count; i++)
        close(fds[i]);
    snprintf(err, err_size, "listen.handover: the process before said: %s", text);
    return false;
}

int handover_take(const char *path, const char *listen, const char *admin, struct inherited *out, char *err,
                  size_t err_size)
{
    struct sockaddr_un sun;
    struct timeval patience = {PATIENCE_SECONDS, 0};
    char text[TEXT_MAX];
    *out = (struct inherited){.admin = -1};
    *err = '\0';
    if (!name_of(path, &sun, err, err_size))
        return -1;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof sun) != 0) {
        if (errno != ENOENT && errno != ECONNREFUSED)
            snprintf(err, err_size, "listen.handover: %s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    int n = snprintf(text, sizeof text, "take %s %s", listen, admin);
    if (send(fd, text, (size_t)n, MSG_NOSIGNAL) == n && receive(fd, out, err, err_size))
        return fd;
    if (!*err)
        snprintf(err, err_size, "listen.handover: %s: %s", path, strerror(errno));
    close(fd);
    return -1;
}

void handover_confirm(int fd)
{
    if (fd < 0)
        return;
    (void)send(fd, "serving", 7, MSG_NOSIGNAL);
    close(fd);
}

/* ---- lending ---------------------------------------------------------------------------------------------
 */

static void forget_asker(struct handover *h)
{
    if (h->asker)
        event_free(h->asker);
    if (h->asker_fd >= 0)
        close(h->asker_fd);
    h->asker = NULL;
    h->asker_fd = -1;
}

static void stop_listening(struct handover *h)
{
    if (h->ready)
        event_free(h->ready);
    if (h->fd >= 0)
        close(h->fd);
    h->ready = NULL;
    h->fd = -1;
}

static void give(int fd, const struct inherited *sockets)
{
    union control_room control = {0};
    char text[64];
    int admin = sockets->admin >= 0, count = sockets->listen_count + admin;
    int n = snprintf(text, sizeof text, "given %d %d", sockets->listen_count, admin);
    struct iovec iov = {text, (size_t)n};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = CMSG_SPACE((size_t)count * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    memcpy(CMSG_DATA(c), sockets->listen, (size_t)sockets->listen_count * sizeof(int));
    if (admin)
        memcpy(CMSG_DATA(c) + (size_t)sockets->listen_count * sizeof(int), &sockets->admin, sizeof(int));
    (void)sendmsg(fd, &m, MSG_NOSIGNAL);
}

static void answer(struct handover *h, char *text)
{
    struct inherited lent = {.admin = -1};
    char why[256] = "this is not understood", reply[300];
    char *listen = strncmp(text, "take ", 5) == 0 ? text + 5 : NULL;
    char *admin = listen ? strchr(listen, ' ') : NULL;
    if (admin) {
        *admin++ = '\0';
        if (h->source.lend(h->source.ctx, listen, admin, &lent, why, sizeof why) &&
            lent.listen_count < FDS_MAX) {
            give(h->asker_fd, &lent);
            return;
        }
    }
    int n = snprintf(reply, sizeof reply, "refused: %s", why);
    (void)send(h->asker_fd, reply, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void on_message(evutil_socket_t fd, short what, void *arg)
{
    struct handover *h = arg;
    char text[TEXT_MAX];
    ssize_t n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);
    (void)what;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        forget_asker(h);
        return;
    }
    text[n] = '\0';
    if (strcmp(text, "serving") != 0) {
        answer(h, text);
        return;
    }
    forget_asker(h);
    stop_listening(h);
    h->path[0] = '\0'; /* the file is the next process's now */
    h->source.leave(h->source.ctx);
}

static bool is_trusted(int fd)
{
    struct ucred peer;
    socklen_t n = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

static void on_connection(evutil_socket_t lfd, short what, void *arg)
{
    struct handover *h = arg;
    int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    (void)what;
    if (fd < 0)
        return;
    if (h->asker || !is_trusted(fd)) {
        close(fd);
        return;
    }
    h->asker_fd = fd;
    h->asker = event_new(h->base, fd, EV_READ | EV_PERSIST, on_message, h);
    if (!h->asker || event_add(h->asker, NULL) != 0)
        forget_asker(h);
}

/* Does somebody listen there? */
static bool is_alive(const struct sockaddr_un *sun)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive = fd >= 0 && connect(fd, (const struct sockaddr *)sun, sizeof *sun) == 0;
    if (fd >= 0)
        close(fd);
    return alive;
}

/* Binds beside the path and moves the file there, over that of the process before: at no time is nobody
 * there. */
static int open_at(const struct sockaddr_un *sun)
{
    struct sockaddr_un beside = {.sun_family = AF_UNIX};
    int n = snprintf(beside.sun_path, sizeof beside.sun_path, "%s.%ld", sun->sun_path, (long)getpid());
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0177);
    if ((size_t)n >= sizeof beside.sun_path)
        errno = ENAMETOOLONG;
    bool good = fd >= 0 && (size_t)n < sizeof beside.sun_path &&
                bind(fd, (const struct sockaddr *)&beside, sizeof beside) == 0 && listen(fd, 4) == 0 &&
                rename(beside.sun_path, sun->sun_path) == 0;
    int error = errno;
    umask(old);
    if (good)
        return fd;
    if (fd >= 0) {
        (void)unlink(beside.sun_path);
        close(fd);
    }
    errno = error;
    return -1;
}

struct handover *handover_listen(struct event_base *base, const char *path, bool successor,
                                 const struct handover_source *source, char *err, size_t err_size)
{
    struct sockaddr_un sun;
    if (!name_of(path, &sun, err, err_size))
        return NULL;
    if (!successor && is_alive(&sun)) {
        snprintf(err, err_size, "listen.handover: another process listens at %s", path);
        return NULL;
    }
    struct handover *h = calloc(1, sizeof *h);
    if (!h) {
        snprintf(err, err_size, "listen.handover: out of memory");
        return NULL;
    }
    h->source = *source;
    h->base = base;
    h->asker_fd = -1;
    h->fd = open_at(&sun);
    if (h->fd < 0) {
        snprintf(err, err_size, "listen.handover: cannot listen at %s: %s", path, strerror(errno));
        free(h);
        return NULL;
    }
    memcpy(h->path, sun.sun_path, sizeof h->path);
    h->ready = event_new(base, h->fd, EV_READ | EV_PERSIST, on_connection, h);
    if (h->ready && event_add(h->ready, NULL) == 0)
        return h;
    snprintf(err, err_size, "listen.handover: out of memory");
    handover_free(h);
    return NULL;
}

void handover_free(struct handover *h)
{
    if (!h)
        return;
    forget_asker(h);
    stop_listening(h);
    if (h->path[0])
        (void)unlink(h->path);
    free(h);
}
