/*
 * The allocator that fails on order.
 * Invariants: the count is exact with any number of threads; without orders everything is passed on. For a
 * whole program the orders come through a file that OOM_CONTROL names, mapped by both sides: see struct
 * control.
 */
#include "tests/oom/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#else
#define __lsan_do_recoverable_leak_check() 0
#endif

/* What the test of a whole program writes, and reads. 64-bit numbers in this order. */
struct control {
    atomic_long every; /* every so manieth allocation fails; 0: none */
    atomic_long seen;  /* allocations */
    atomic_long failed;
    atomic_long first; /* this one fails too (counted from the start of the process); 0: none */
};

static struct control own;
static struct control *control = &own;
static atomic_long seen, target;
static atomic_bool target_forever;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t alignment, size_t n);
int __real_posix_memalign(void **p, size_t alignment, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
int __wrap_posix_memalign(void **p, size_t alignment, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

/* Before main: the program under test knows nothing of this. */
__attribute__((constructor)) static void open_control(void)
{
    const char *path = getenv("OOM_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED)
        control = map;
    close(fd);
}

static bool ordered(void)
{
    long number = atomic_fetch_add(&seen, 1) + 1, nth = atomic_load(&target);
    bool fails = nth && (number == nth || (number > nth && atomic_load(&target_forever)));
    long total = atomic_fetch_add(&control->seen, 1) + 1, every = atomic_load(&control->every);
    fails = fails || (every > 0 && total % every == 0) || total == atomic_load(&control->first);
    if (fails) {
        atomic_fetch_add(&control->failed, 1);
        errno = ENOMEM;
    }
    return fails;
}

void *__wrap_malloc(size_t n)
{
    return ordered() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return ordered() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return ordered() ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t alignment, size_t n)
{
    return ordered() ? NULL : __real_aligned_alloc(alignment, n);
}

int __wrap_posix_memalign(void **p, size_t alignment, size_t n)
{
    return ordered() ? ENOMEM : __real_posix_memalign(p, alignment, n);
}

char *__wrap_strdup(const char *s)
{
    return ordered() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
    return ordered() ? NULL : __real_strndup(s, n);
}

void inject(long nth, bool forever)
{
    atomic_store(&target, nth);
    atomic_store(&target_forever, forever);
    atomic_store(&seen, 0);
}

long inject_seen(void)
{
    return atomic_load(&seen);
}

static int fault(const char *name, long nth, const char *what)
{
    fprintf(stderr, "%s, allocation %ld: %s\n", name, nth, what);
    return 1;
}

int inject_everywhere(const char *name, scenario_fn *scenario)
{
    int faults = 0;
    long refused = 0, runs = 0;
    inject(0, false);
    if (!scenario())
        return fault(name, 0, "does not work even with memory");
    long n = inject_seen();
    if (n == 0)
        return fault(name, 0, "allocates nothing: this tests nothing");
    /* A leak check walks the heap: each time for short scenarios, now and then for long ones. */
    long step = n > 400 ? n / 200 : 1;
    for (int forever = 0; forever < 2; forever++) {
        for (long nth = 1; nth <= n; nth++) {
            inject(nth, forever);
            refused += !scenario();
            runs++;
            inject(0, false);
            if ((nth % step == 0 || nth == n) && __lsan_do_recoverable_leak_check())
                return fault(name, nth, "leaks");
        }
    }
    inject(0, false);
    if (!scenario())
        faults += fault(name, 0, "is broken after the failures");
    if (refused == 0)
        faults += fault(name, 0, "never noticed that memory was out");
    printf("  %-34s %5ld allocations, %5ld runs, %5ld refused\n", name, n, runs, refused);
    return faults;
}
