/*
 * The guard of mapped files. Invariants: only a fault at a mapped file (BUS_ADRERR), by a thread under guard,
 * is mended; every other one ends the process as it would have without us; the handler calls nothing but
 * mmap, sigaction and raise.
 */
#include "proxy/sigbus.h"

#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

static _Thread_local volatile sig_atomic_t guarded, happened;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (guarded && info->si_code == BUS_ADRERR) {
        void *page = (void *)((uintptr_t)info->si_addr & ~(uintptr_t)(PAGE - 1));
        if (mmap(page, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) {
            happened = 1;
            return;
        }
    }
    struct sigaction usual = {.sa_handler = SIG_DFL};
    sigaction(number, &usual, NULL);
    raise(number); /* delivered on the way out */
}

bool sigbus_init(void)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, NULL) == 0;
}

void sigbus_guard(bool on)
{
    guarded = on;
}

bool sigbus_happened(void)
{
    bool was = happened;
    happened = 0;
    return was;
}
