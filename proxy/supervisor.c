/*
 * A few lines instead of libsystemd, which brings more code than the protocol is long. Invariants: sockets
 * are taken only when LISTEN_PID names this process; a descriptor of *out is a listening stream socket,
 * non-blocking, closed on exec.
 */
#include "proxy/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST_FD = 3 };

/* A number of the environment; 0 when it is not there or is none. */
static long long number_of(const char *name)
{
    const char *text = getenv(name);
    char *end;
    if (!text || !*text)
        return 0;
    long long n = strtoll(text, &end, 10);
    return *end || n < 0 ? 0 : n;
}

static bool is_listening(int fd)
{
    int on = 0, type = 0;
    socklen_t n = sizeof on, m = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n) == 0 && on &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &m) == 0 && type == SOCK_STREAM;
}

/* The i-th of the names that colons separate; empty when there are fewer. */
static struct slice name_at(const char *names, int i)
{
    while (names && i-- > 0) {
        names = strchr(names, ':');
        names = names ? names + 1 : NULL;
    }
    return names ? (struct slice){names, strcspn(names, ":")} : (struct slice){"", 0};
}

bool supervisor_sockets(struct inherited *out, char *err, size_t err_size)
{
    const char *names = getenv("LISTEN_FDNAMES");
    long long count = number_of("LISTEN_FDS");
    *out = (struct inherited){.admin = -1};
    if (count == 0 || number_of("LISTEN_PID") != getpid())
        return true;
    if (count > INHERITED_MAX) {
        snprintf(err, err_size, "LISTEN_FDS: %lld sockets are handed over, allowed: at most %d", count,
                 INHERITED_MAX);
        return false;
    }
    for (int i = 0; i < (int)count; i++) {
        int fd = FIRST_FD + i;
        struct slice name = name_at(names, i);
        if (!is_listening(fd)) {
            snprintf(err, err_size, "LISTEN_FDS: descriptor %d is not a listening stream socket", fd);
            inherited_close(out);
            return false;
        }
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        bool admin = names ? name.n == 5 && memcmp(name.p, "admin", 5) == 0 : i == 1;
        if (admin && out->admin < 0)
            out->admin = fd;
        else
            out->listen[out->listen_count++] = fd;
    }
    return true;
}

void inherited_close(struct inherited *sockets)
{
    for (int i = 0; i < sockets->listen_count; i++)
        if (sockets->listen[i] >= 0)
            close(sockets->listen[i]);
    if (sockets->admin >= 0)
        close(sockets->admin);
    *sockets = (struct inherited){.admin = -1};
}

void supervisor_tell(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof to.sun_path || (*path != '/' && *path != '@'))
        return;
    memcpy(to.sun_path, path, n);
    if (*path == '@') /* a name that is no file */
        to.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}

void supervisor_reloading(tick_t now)
{
    char text[64];
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(now / TICK_US));
    supervisor_tell(text);
}

tick_t supervisor_watchdog(void)
{
    long long us = number_of("WATCHDOG_USEC"), pid = number_of("WATCHDOG_PID");
    return us > 0 && (pid == 0 || pid == getpid()) ? (tick_t)us * TICK_US : 0;
}
