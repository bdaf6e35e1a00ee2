/*
 * The filter is a list of what is allowed: the calls of our own code and of libevent, OpenSSL, glibc and
 * libcurl as seen by the tests. Invariants:
 * - no new process and no new program: clone makes threads only, fork and execve are not in the list;
 * - no memory that can be written and run: mmap and mprotect are looked at by their arguments. A library may
 *   still be loaded (libcurl is, when first wanted), since its pages are never both at once;
 * - sockets are unix, IPv4, IPv6 and the netlink that name resolution asks;
 * - what is denied is survived: the handler of SIGSYS counts it and gives the caller EPERM.
 */
#include "proxy/harden.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <ucontext.h>

#include "proxy/log.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Names, not numbers: what an architecture does not have is passed over. */
static const char *const allowed[] = {
    /* files */
    "access",
    "chmod",
    "close",
    "close_range",
    "copy_file_range",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fchmod",
    "fchmodat",
    "fcntl",
    "fdatasync",
    "flock",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "getcwd",
    "getdents",
    "getdents64",
    "lseek",
    "lstat",
    "mkdir",
    "mkdirat",
    "newfstatat",
    "open",
    "openat",
    "pipe",
    "pipe2",
    "pread64",
    "preadv",
    "pwrite64",
    "pwritev",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "stat",
    "statfs",
    "statx",
    "sync_file_range",
    "umask",
    "unlink",
    "unlinkat",
    "write",
    "writev",
    /* sockets, whose families are looked at below */
    "accept",
    "accept4",
    "bind",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "listen",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "sendfile",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    /* waiting and time */
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd",
    "eventfd2",
    "gettimeofday",
    "nanosleep",
    "poll",
    "ppoll",
    "pselect6",
    "restart_syscall",
    "select",
    "time",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
    "times",
    /* memory */
    "brk",
    "madvise",
    "membarrier",
    "memfd_create",
    "mincore",
    "mlock",
    "mlock2",
    "mremap",
    "msync",
    "munlock",
    "munmap",
    /* threads, signals, end */
    "exit",
    "exit_group",
    "futex",
    "futex_waitv",
    "get_robust_list",
    "getcpu",
    "gettid",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigtimedwait",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "tgkill",
    /* about this process */
    "getegid",
    "geteuid",
    "getgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getrandom",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getuid",
    "sysinfo",
    "uname",
};

/* Calls that are allowed with some arguments only: those where argument `index` and `mask` give `value`. */
struct shape {
    const char *name;
    unsigned index;
    uint64_t mask;
    uint64_t value;
};

#define WORD 0xffffffff /* int: the upper half says nothing */

static const struct shape shapes[] = {
    {"clone", 0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM},
    {"mmap", 2, PROT_EXEC, 0},
    {"mmap", 2, PROT_WRITE, 0},
    {"mprotect", 2, PROT_EXEC, 0},
    {"socket", 0, WORD, AF_UNIX},
    {"socket", 0, WORD, AF_INET},
    {"socket", 0, WORD, AF_INET6},
    {"socket", 0, WORD, AF_NETLINK},
    {"socketpair", 0, WORD, AF_UNIX},
    {"ioctl", 1, 0xffffffff, FIONREAD},
    {"ioctl", 1, 0xffffffff, FIONBIO},
    {"ioctl", 1, 0xffffffff, TCGETS},
    {"ioctl", 1, 0xffffffff, 0x8933}, /* SIOCGIFINDEX: the zone of fe80::1%eth0 */
    {"prctl", 0, WORD, PR_SET_NAME},
    {"prctl", 0, WORD, PR_GET_DUMPABLE},
    {"prctl", 0, WORD, 0x53564d41},    /* PR_SET_VMA: newer C libraries name their memory */
    {"prlimit64", 2, ~(uint64_t)0, 0}, /* to read a limit, not to set one */
};

/* ---- what was denied ----------------------------------------------------------------------------------- */

enum { CALLS = 512 }; /* numbers above share the last place */

static _Atomic uint32_t denied[CALLS];
static uint32_t told[CALLS];

/* Runs in the thread whose call was denied, instead of the call. */
static void on_denied(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    (void)number;
    unsigned call =
        info->si_syscall >= 0 && info->si_syscall < CALLS ? (unsigned)info->si_syscall : CALLS - 1;
    atomic_fetch_add_explicit(&denied[call], 1, memory_order_relaxed);
#if defined(__x86_64__)
    u->uc_mcontext.gregs[REG_RAX] = -EPERM;
#elif defined(__aarch64__)
    u->uc_mcontext.regs[0] = (unsigned long long)-EPERM;
#else
    (void)u; /* harden_filter() does not filter here */
#endif
}

uint64_t harden_report(struct log *log)
{
    uint64_t all = 0;
    for (unsigned call = 0; call < CALLS; call++) {
        uint32_t now = atomic_load_explicit(&denied[call], memory_order_relaxed);
        all += now;
        if (now == told[call])
            continue;
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, (int)call);
        if (log)
            log_write(
                log, LOG_WARNING, "security",
                "the system call %s (%u) was denied %u times by the seccomp filter; requests go on. If "
                "something does not work, report this, and set security.seccomp: false until it is mended",
                name ? name : "of a number", call, now - told[call]);
        free(name);
        told[call] = now;
    }
    return all;
}

/* ---- giving up ------------------------------------------------------------------------------------------
 */

bool harden_process(bool core_dumps)
{
    struct rlimit none = {0, 0};
    bool good = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
    if (core_dumps ||
        SANITIZED) /* whose leak check looks into the process from outside, and waits for ever else */
        return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0 && good;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && setrlimit(RLIMIT_CORE, &none) == 0 && good;
}

static int add_rules(scmp_filter_ctx ctx)
{
    int error = 0;
    for (size_t i = 0; i < ARRAY_LEN(allowed) && !error; i++) {
        int call = seccomp_syscall_resolve_name(allowed[i]);
        if (call != __NR_SCMP_ERROR)
            error = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(shapes) && !error; i++) {
        const struct shape *s = &shapes[i];
        struct scmp_arg_cmp compare = {s->index, SCMP_CMP_MASKED_EQ, s->mask, s->value};
        error =
            seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, seccomp_syscall_resolve_name(s->name), 1, &compare);
    }
    /* Its flags lie in memory, where no filter sees them: the C library falls back to clone. */
    if (!error && seccomp_syscall_resolve_name("clone3") != __NR_SCMP_ERROR)
        error = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), seccomp_syscall_resolve_name("clone3"), 0);
    return error;
}

/* CPPFLAGS=-DHARDEN_DENIES=SCMP_ACT_KILL_PROCESS makes a forgotten call an end that no test can overlook. */
#ifndef HARDEN_DENIES
#define HARDEN_DENIES SCMP_ACT_TRAP
#endif

static int load(void)
{
    scmp_filter_ctx ctx = seccomp_init(HARDEN_DENIES);
    if (!ctx)
        return -ENOMEM;
    int error = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1); /* all threads, not this one alone */
    if (!error)
        error = add_rules(ctx);
    (void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree; an older library has none */
    if (!error)
        error = seccomp_load(ctx);
    seccomp_release(ctx);
    return error;
}

bool harden_filter(char *err, size_t err_size)
{
    struct sigaction handler = {.sa_sigaction = on_denied, .sa_flags = SA_SIGINFO | SA_RESTART};
#if defined(__x86_64__) || defined(__aarch64__)
    const bool known = true;
#else
    const bool known = false;
#endif
    if (SANITIZED || !known) {
        snprintf(err, err_size, "%s",
                 known ? "this is a build with a sanitizer, which needs calls of its own"
                       : "it is not made for this architecture");
        return false;
    }
    sigfillset(&handler.sa_mask);
    if (sigaction(SIGSYS, &handler, NULL) != 0) {
        snprintf(err, err_size, "no handler for SIGSYS: %s", strerror(errno));
        return false;
    }
    int error = load();
    if (error)
        snprintf(err, err_size, "%s", strerror(-error));
    return !error;
}
