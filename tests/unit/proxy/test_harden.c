/*
 * What the seccomp filter denies and allows, in a process of its own for each case (Check forks), since it
 * cannot be taken back.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proxy/harden.h"
#include "proxy/log.h"

static bool filtered;

static void filter(void)
{
    char err[256] = "";
    ck_assert(harden_process(false));
    filtered = harden_filter(err, sizeof err);
    if (!filtered) /* a build with a sanitizer */
        ck_assert_msg(strstr(err, "sanitizer") != NULL, "%s", err);
}

#define DENIED(call)                                                                                         \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        ck_assert_int_eq((long)(call), -1);                                                                  \
        ck_assert_int_eq(errno, EPERM);                                                                      \
    } while (0)

START_TEST(test_denied_and_survived)
{
    char *const none[] = {NULL};
    filter();
    if (!filtered)
        return;
    DENIED(syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0));
    DENIED(execve("/bin/true", none, none));
    DENIED(syscall(SYS_fork));
    DENIED(syscall(SYS_clone, 17 /* SIGCHLD: a process */, 0, 0, 0, 0));
    DENIED(socket(AF_PACKET, SOCK_RAW, 0));
    DENIED(syscall(SYS_mount, "a", "b", "c", 0, NULL));
    DENIED(syscall(SYS_bpf, 0, NULL, 0));
    DENIED(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
    ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                     MAP_FAILED);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
    DENIED(mprotect(page, 4096, PROT_READ | PROT_EXEC));
    ck_assert_uint_eq(harden_report(NULL), 10);
    ck_assert_uint_eq(harden_report(NULL), 10);
}
END_TEST

static void *denied_there(void *arg)
{
    errno = 0;
    /* Without the filter it would succeed, and the thread be left to a tracer that knows nothing of it. */
    *(long *)arg = filtered && syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0) == -1 ? errno : 0;
    return NULL;
}

START_TEST(test_named_in_the_log_and_threads_run)
{
    char path[] = "/tmp/test-harden-XXXXXX", text[1024] = "";
    int fd = mkstemp(path), error;
    struct log_config config = {.file = path, .level = LOG_INFO, .text = true};
    struct log *log = log_open(&config, &error);
    pthread_t thread;
    long code = 0;
    ck_assert(fd >= 0 && log != NULL);
    filter();
    ck_assert_int_eq(pthread_create(&thread, NULL, denied_there, &code), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    (void)harden_report(log);
    log_close(log);
    ck_assert_int_ge(read(fd, text, sizeof text - 1), 0);
    if (filtered) {
        ck_assert_int_eq(code, EPERM);
        ck_assert_ptr_nonnull(strstr(text, "the system call ptrace"));
    }
    close(fd);
    unlink(path);
}
END_TEST

START_TEST(test_dumps)
{
    struct rlimit core;
    ck_assert(harden_process(true));
    ck_assert_int_eq(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 1);
    ck_assert(harden_process(false));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    ck_assert_int_eq(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_CORE, &core), 0);
    ck_assert_uint_eq(core.rlim_max, 0);
#else
    (void)core;
#endif
    ck_assert_int_eq(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("harden");
    TCase *c = tcase_create("harden");
    tcase_add_test(c, test_denied_and_survived);
    tcase_add_test(c, test_named_in_the_log_and_threads_run);
    tcase_add_test(c, test_dumps);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    if (getenv("CK_FORK") && strcmp(getenv("CK_FORK"), "no") == 0)
        return 0; /* what is given up cannot be had back: each test needs a process */
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
