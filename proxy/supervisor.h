/*
 * What the one who started us hands over, and what it is told: systemd's socket activation (sd_listen_fds(3))
 * and notifications (sd_notify(3)), which others speak too.
 */
#ifndef PROXY_SUPERVISOR_H
#define PROXY_SUPERVISOR_H

#include "policy/base.h"

enum { INHERITED_MAX = 256 };

/* Listening sockets that were there before this process. Each has one owner: who takes it sets it to -1. */
struct inherited {
    int listen[INHERITED_MAX]; /* for the application */
    int listen_count;
    int admin; /* -1: none */
};

/*
 * Takes the sockets that LISTEN_FDS names for this process. By LISTEN_FDNAMES `admin` is the admin port's and
 * all others are the application's; without names, the first is the application's and the second the admin
 * port's. All become non-blocking and close on exec. False with a sentence in err when one is no listening
 * stream socket, or there are too many: the start must fail then. *out has none when nothing was handed over.
 */
bool supervisor_sockets(struct inherited *out, char *err, size_t err_size) MUSTCHECK;

/* Closes what was not taken. */
void inherited_close(struct inherited *sockets);

/*
 * Tells the supervisor (NOTIFY_SOCKET) a state: "READY=1", "STOPPING=1", "WATCHDOG=1", lines of them. Without
 * one nothing is done. Never blocks; what cannot be told is lost.
 */
void supervisor_tell(const char *state);

/* The same for RELOADING=1, which needs the time of the monotonic clock beside it. */
void supervisor_reloading(tick_t now);

/* How often the supervisor wants to hear WATCHDOG=1 at the latest (WATCHDOG_USEC), in ticks; 0: not at all.
 */
tick_t supervisor_watchdog(void);

#endif
