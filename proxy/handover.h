/*
 * An upgrade without a lost connection: the next process gets the listening sockets of this one (SCM_RIGHTS
 * over a unix socket), serves, and says so; then this one accepts no more and ends when its clients have
 * left. Since the sockets are never closed, no connection that waits in one is reset.
 */
#ifndef PROXY_HANDOVER_H
#define PROXY_HANDOVER_H

#include "policy/base.h"
#include "proxy/supervisor.h"

struct event_base;
struct handover;

/*
 * Asks the process that listens at `path` for its sockets. They are given when its listen.address and
 * admin.address are the same text. Returns a descriptor for handover_confirm(), with the sockets in *out; or
 * -1: then err is empty when there is nobody, else it says why nothing was handed over. Waits at most five
 * seconds.
 */
int handover_take(const char *path, const char *listen, const char *admin, struct inherited *out, char *err,
                  size_t err_size) MUSTCHECK;

/* We serve now: the other one may leave. Closes the descriptor. -1 is fine. */
void handover_confirm(int fd);

/* Called on the thread of the base. */
struct handover_source {
    void *ctx;
    /* Lends the sockets; false with a sentence when they are not for one who listens there. */
    bool (*lend)(void *ctx, const char *listen, const char *admin, struct inherited *out, char *why,
                 size_t why_size);
    void (*leave)(void *ctx); /* the next process serves */
};

/*
 * Waits at `path` for the next process, which must be of the same user or root; the file is made with mode
 * 0600. A `successor` takes the path over from the process before. NULL with a sentence in err. Ends with
 * handover_free(), which removes the file unless the next process has come.
 */
struct handover *handover_listen(struct event_base *base, const char *path, bool successor,
                                 const struct handover_source *source, char *err, size_t err_size) MUSTCHECK;
void handover_free(struct handover *h); /* NULL is fine */

#endif
