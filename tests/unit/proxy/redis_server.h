/*
 * A real redis-server for tests, in a directory of its own, on a socket there (and TLS on a free port when
 * asked), ended with the test.
 */
#ifndef TESTS_UNIT_PROXY_REDIS_SERVER_H
#define TESTS_UNIT_PROXY_REDIS_SERVER_H

#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct redis_server {
    char dir[64];
    char socket[128];
    int port;
    pid_t pid;
};

static inline int free_port(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, n), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
    close(fd);
    return ntohs(sa.sin_port);
}

static inline bool redis_server_answers(const struct redis_server *s)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(un.sun_path, sizeof(un.sun_path), "%.100s", s->socket);
    bool ok = connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0;
    close(fd);
    return ok;
}

/* `more`: further words for the command line, NULL at their end. The directory must have been made. */
static inline void redis_server_run(struct redis_server *s, const char *const *more)
{
    const char *words[40] = {"redis-server", "--save", "", "--appendonly", "no", "--dir"};
    char port[16];
    int n = 6;
    words[n++] = s->dir;
    words[n++] = "--unixsocket";
    words[n++] = s->socket;
    words[n++] = "--bind";
    words[n++] = "127.0.0.1";
    snprintf(port, sizeof(port), "%d", s->port);
    if (!more) {
        words[n++] = "--port";
        words[n++] = port;
    }
    while (more && *more && n < 39)
        words[n++] = *more++;
    s->pid = fork();
    if (s->pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 1);
        execvp(words[0], (char *const *)words);
        fprintf(stderr, "redis-server is not installed\n");
        _exit(127);
    }
    ck_assert_int_gt(s->pid, 0);
    for (int i = 0; i < 1000 && !redis_server_answers(s); i++) {
        struct timespec t = {0, 10000000};
        ck_assert_msg(waitpid(s->pid, NULL, WNOHANG) == 0, "redis-server ended");
        nanosleep(&t, NULL);
    }
    ck_assert(redis_server_answers(s));
}

static inline void redis_server_start(struct redis_server *s)
{
    snprintf(s->dir, sizeof(s->dir), "/tmp/sidecar-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(s->dir));
    snprintf(s->socket, sizeof(s->socket), "%s/redis.sock", s->dir);
    s->port = free_port();
    redis_server_run(s, NULL);
}

static inline void redis_server_kill(struct redis_server *s)
{
    kill(s->pid, SIGCONT);
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    unlink(s->socket);
}

static inline void redis_server_stop(struct redis_server *s)
{
    redis_server_kill(s);
    rmdir(s->dir);
}

#endif
