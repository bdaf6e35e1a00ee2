/*
 * Invariants: the bytes of a key are in its own pages only, from the read on; no sentence of this file
 * carries any of them; every way out of secret_read wipes what was read.
 */
#include "proxy/secret.h"

#include "proxy/read_up_to.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct secret {
    size_t mapped; /* bytes of the mapping that begins here */
    size_t n;
    bool safe; /* locked, and kept out of core dumps */
    char bytes[];
};

static size_t whole_pages(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (n + page - 1) / page * page;
}

/* Pages of our own. *hidden: core dumps leave them out. */
static void *map_pages(size_t n, bool *hidden)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    *hidden = madvise(p, n, MADV_DONTDUMP) == 0;
    (void)madvise(p, n, MADV_WIPEONFORK); /* nothing here forks; should that change, a child knows no keys */
    return p;
}

static struct secret *new_secret(size_t room)
{
    bool hidden = false;
    size_t mapped = whole_pages(sizeof(struct secret) + room);
    struct secret *s = map_pages(mapped, &hidden);
    if (!s)
        return NULL;
    s->mapped = mapped;
    s->safe = mlock(s, mapped) == 0 && hidden;
    return s;
}

void secret_free(struct secret *secret)
{
    if (!secret)
        return;
    size_t mapped = secret->mapped;
    explicit_bzero(secret, mapped);
    munmap(secret, mapped); /* unlocks, too */
}

struct slice secret_bytes(const struct secret *secret)
{
    return (struct slice){secret->bytes, secret->n};
}

bool secret_protected(const struct secret *secret)
{
    return secret->safe;
}

void *secret_room(size_t n)
{
    bool hidden = false;
    return map_pages(whole_pages(n), &hidden);
}

void secret_room_free(void *room, size_t n)
{
    if (!room)
        return;
    explicit_bzero(room, n);
    munmap(room, whole_pages(n));
}

/* ---- traces ---- */

/* More than a TLS write takes: tls_writev's record of 16 KiB and what OpenSSL needs below it. */
enum { BURNT = 40 * 1024 };

static __attribute__((noinline)) void burn_stack(void)
{
    char below[BURNT];
    explicit_bzero(below, sizeof(below));
}

/* Leaves every register cleared that a function may change, where the compiler can. */
#if defined(__has_attribute)
#if __has_attribute(zero_call_used_regs)
__attribute__((zero_call_used_regs("all")))
#endif
#endif
static __attribute__((noinline)) void
clear_registers(void)
{
    __asm__ volatile("" ::: "memory"); /* a call of a function that does nothing would be left out */
}

#if defined(__x86_64__)
static __attribute__((noinline, target("avx"))) void clear_avx(void)
{
    __asm__ volatile("vzeroall" ::
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                           "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

#define CLEAR(n) __asm__ volatile("vpxorq %%zmm" #n ", %%zmm" #n ", %%zmm" #n ::: "xmm" #n)

static __attribute__((noinline, target("avx512f"))) void clear_avx512(void)
{
    CLEAR(16);
    CLEAR(17);
    CLEAR(18);
    CLEAR(19);
    CLEAR(20);
    CLEAR(21);
    CLEAR(22);
    CLEAR(23);
    CLEAR(24);
    CLEAR(25);
    CLEAR(26);
    CLEAR(27);
    CLEAR(28);
    CLEAR(29);
    CLEAR(30);
    CLEAR(31);
}
#endif

void secret_burn_traces(void)
{
    burn_stack();
    clear_registers();
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        clear_avx512();
    if (__builtin_cpu_supports("avx"))
        clear_avx();
#endif
}

/* ---- reading ---- */

static bool say(char *why, size_t n, const char *format, ...) __attribute__((format(printf, 3, 4)));

static bool say(char *why, size_t n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, n, format, args);
    va_end(args);
    return false;
}

static bool say_errno(char *why, size_t n)
{
    char text[128];
    int error = errno;
    return say(why, n, "it cannot be read: %s; give a file that this user may read",
               strerror_r(error, text, sizeof text));
}

/* Looks at what was read; on success it is in s->bytes[0 ... s->n). */
static bool accept_bytes(struct secret *s, enum secret_use use, char *why, size_t n)
{
    while (s->n > 0 && (s->bytes[s->n - 1] == '\n' || s->bytes[s->n - 1] == '\r'))
        s->n--;
    if (s->n == 0)
        return say(why, n, "it is empty; write the key into it, on one line");
    if (s->n > SECRET_MAX)
        return say(why, n, "it has more than %d bytes; it must hold one key and nothing else", SECRET_MAX);
    for (size_t i = 0; i < s->n; i++) {
        unsigned char c = (unsigned char)s->bytes[i];
        bool plain = c >= ' ' && c != 0x7F;
        if (use == SECRET_FOR_FIELD && !(c > ' ' && c < 0x7F))
            return say(
                why, n,
                "it has a byte, at %zu, that a header field cannot carry in a key; it must hold one key of "
                "printable ASCII without spaces, and nothing else",
                i);
        if (!plain)
            return say(
                why, n,
                "it has a control character, at %zu; it must hold one key on one line, and nothing else", i);
    }
    return true;
}

static bool read_file(struct secret *s, const char *path, char *why, size_t n)
{
    struct stat st;
    int fd =
        open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* a FIFO must not hold the process up */
    if (fd < 0)
        return say_errno(why, n);
    bool ok = fstat(fd, &st) == 0 || say_errno(why, n);
    if (ok && !S_ISREG(st.st_mode))
        ok = say(why, n, "it is not a regular file; give a file that holds the key");
    if (ok) {
        ssize_t got = read_up_to(fd, s->bytes,
                                 SECRET_MAX + 3); /* a line end, and one more to tell too long from long */
        s->n = got > 0 ? (size_t)got : 0;
        ok = got >= 0 || say_errno(why, n);
    }
    close(fd);
    return ok;
}

struct secret *secret_read(const char *path, enum secret_use use, char *why, size_t n)
{
    struct secret *s = new_secret(SECRET_MAX + 3);
    if (!s) {
        say(why, n, "out of memory");
        return NULL;
    }
    if (read_file(s, path, why, n) && accept_bytes(s, use, why, n)) {
        explicit_bzero(s->bytes + s->n, SECRET_MAX + 3 - s->n);
        return s;
    }
    secret_free(s);
    return NULL;
}

struct secret *secret_join(const char *before, const struct secret *secret, const char *behind)
{
    size_t a = strlen(before), z = strlen(behind);
    struct secret *s = new_secret(a + secret->n + z);
    if (!s)
        return NULL;
    memcpy(s->bytes, before, a);
    memcpy(s->bytes + a, secret->bytes, secret->n);
    memcpy(s->bytes + a + secret->n, behind, z);
    s->n = a + secret->n + z;
    return s;
}
