/*
 * What LISTEN_FDS, NOTIFY_SOCKET and WATCHDOG_USEC say, right and wrong. What takes descriptors from 3 on
 * runs in a child of its own.
 */
#include <check.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy/supervisor.h"

/* In a child that has given descriptor 3, where Check's pipe was, to the case. */
#define HOLDS(what)                                                                                          \
    do {                                                                                                     \
        if (!(what))                                                                                         \
            _exit(__LINE__);                                                                                 \
    } while (0)
#define SAME(a, b) HOLDS((a) == (b))

/* A listening socket at this descriptor. */
static void listen_at(int at)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    SAME(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
    SAME(listen(fd, 1), 0);
    if (fd != at) {
        SAME(dup2(fd, at), at);
        close(fd);
    }
}

static void environment(const char *count, const char *names, long pid)
{
    char text[32];
    snprintf(text, sizeof text, "%ld", pid);
    setenv("LISTEN_PID", text, 1);
    setenv("LISTEN_FDS", count, 1);
    names ? setenv("LISTEN_FDNAMES", names, 1) : unsetenv("LISTEN_FDNAMES");
}

static void by_names_and_without(void)
{
    struct inherited in;
    char err[256];
    for (int fd = 5; fd >= 3; fd--)
        listen_at(fd);
    environment("3", "a:admin:b", getpid());
    HOLDS(supervisor_sockets(&in, err, sizeof err));
    SAME(in.admin, 4);
    SAME(in.listen_count, 2);
    HOLDS(in.listen[0] == 3 && in.listen[1] == 5);
    HOLDS(fcntl(3, F_GETFD) & FD_CLOEXEC);
    HOLDS(fcntl(3, F_GETFL) & O_NONBLOCK);
    environment("2", NULL, getpid());
    HOLDS(supervisor_sockets(&in, err, sizeof err));
    HOLDS(in.listen_count == 1 && in.listen[0] == 3 && in.admin == 4);
    environment("1", "", getpid());
    HOLDS(supervisor_sockets(&in, err, sizeof err));
    HOLDS(in.listen_count == 1 && in.admin == -1);
    inherited_close(&in);
    SAME(fcntl(3, F_GETFD), -1);
}

static void not_for_us_and_wrong(void)
{
    struct inherited in;
    char err[256] = "";
    listen_at(3);
    environment("1", NULL, getpid() + 1);
    HOLDS(supervisor_sockets(&in, err, sizeof err));
    HOLDS(in.listen_count == 0 && in.admin == -1);
    static const char *const nothing[] = {"0", "", "-1", "1x"};
    for (size_t i = 0; i < ARRAY_LEN(nothing); i++) {
        environment(nothing[i], NULL, getpid());
        HOLDS(supervisor_sockets(&in, err, sizeof err));
        SAME(in.listen_count, 0);
    }
    environment("100000", NULL, getpid());
    HOLDS(!supervisor_sockets(&in, err, sizeof err));
    HOLDS(strstr(err, "at most") != NULL);
    SAME(dup2(open("/dev/null", O_RDONLY), 3), 3);
    environment("1", NULL, getpid());
    HOLDS(!supervisor_sockets(&in, err, sizeof err));
    HOLDS(strstr(err, "descriptor 3 is not a listening") != NULL);
}

/* Runs a case in a child of its own; its exit code is the line that did not hold. */
static int line_of(void (*run)(void))
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        run();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

START_TEST(test_sockets)
{
    ck_assert_int_eq(line_of(by_names_and_without), 0);
    ck_assert_int_eq(line_of(not_for_us_and_wrong), 0);
}
END_TEST

START_TEST(test_telling)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char heard[64] = "";
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    snprintf(name.sun_path, sizeof name.sun_path, "/tmp/test-supervisor-%ld", (long)getpid());
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    setenv("NOTIFY_SOCKET", name.sun_path, 1);
    supervisor_tell("READY=1");
    ck_assert_int_eq(recv(fd, heard, sizeof heard, 0), 7);
    ck_assert_str_eq(heard, "READY=1");
    supervisor_reloading(5 * TICK_S);
    memset(heard, 0, sizeof heard);
    ck_assert_int_gt(recv(fd, heard, sizeof heard - 1, 0), 0);
    ck_assert_str_eq(heard, "RELOADING=1\nMONOTONIC_USEC=5000000");
    unlink(name.sun_path);
    supervisor_tell("READY=1"); /* nobody there any more */
    setenv("NOTIFY_SOCKET", "no/path", 1);
    supervisor_tell("READY=1");
    unsetenv("NOTIFY_SOCKET");
    supervisor_tell("READY=1");
    ck_assert_int_lt(recv(fd, heard, sizeof heard, 0), 0);
}
END_TEST

START_TEST(test_watchdog)
{
    char pid[32];
    unsetenv("WATCHDOG_PID");
    setenv("WATCHDOG_USEC", "30000000", 1);
    ck_assert_int_eq(supervisor_watchdog(), 30 * TICK_S);
    setenv("WATCHDOG_PID", "1", 1);
    ck_assert_int_eq(supervisor_watchdog(), 0);
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    ck_assert_int_eq(supervisor_watchdog(), 30 * TICK_S);
    setenv("WATCHDOG_USEC", "soon", 1);
    ck_assert_int_eq(supervisor_watchdog(), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("supervisor");
    TCase *c = tcase_create("supervisor");
    tcase_add_test(c, test_sockets);
    tcase_add_test(c, test_telling);
    tcase_add_test(c, test_watchdog);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
