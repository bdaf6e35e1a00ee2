/*
 * Bytes to and from a peer: a plain socket, or TLS over one. Above this file nobody
 * knows which. Never blocks.
 */
#ifndef PROXY_STREAM_H
#define PROXY_STREAM_H

#include <errno.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "policy/base.h"
#include "policy/reason.h"

struct tls_session; /* of tls.c */

struct stream {
    int fd;                  /* -1 when closed */
    struct tls_session *tls; /* NULL: plain */
};

enum {
    STREAM_EOF =
        0, /* the peer closed its side (TLS: with close_notify; without it is STREAM_ERROR, see tls.h) */
    STREAM_AGAIN = -1,     /* nothing now: wait until readable */
    STREAM_ERROR = -2,     /* broken: reset or a TLS failure; close it */
    STREAM_WANT_WRITE = -3 /* TLS only: wait until writable before reading, or reverse */
};

ssize_t tls_read(struct tls_session *tls, void *buf, size_t n);
ssize_t tls_writev(struct tls_session *tls, const struct iovec *iov, int count);
void tls_end(struct tls_session *tls);           /* sends close_notify when it can at once, and has not yet */
void tls_close(struct tls_session *tls);         /* tls_end; frees */
bool tls_pending(const struct tls_session *tls); /* bytes wait in here: no readiness event will come for them;
                                                    false once tls_read said STREAM_AGAIN */
bool tls_more(const struct tls_session *tls);    /* see stream_more() */

/* Bytes read (> 0), or one of the results above. */
static inline ssize_t stream_read(struct stream *s, void *buf, size_t n)
{
    if (__builtin_expect(s->tls != NULL, 0))
        return tls_read(s->tls, buf, n);
    for (;;) {
        ssize_t r = recv(s->fd, buf, n, 0);
        if (r >= 0)
            return r;
        if (errno == EINTR)
            continue;
        return errno == EAGAIN || errno == EWOULDBLOCK ? STREAM_AGAIN : STREAM_ERROR;
    }
}

/* The last read gave r bytes into room for n. False: nothing lay behind them at that moment. */
static inline bool stream_more(const struct stream *s, ssize_t r, size_t n)
{
    return s->tls ? tls_more(s->tls) : (size_t)r == n;
}

/*
 * Bytes taken (may be fewer than offered, may be of part of a vector), or AGAIN, ERROR, WANT_WRITE.
 * Bytes once offered must be offered again, first and unchanged (TLS has them encrypted already); more may
 * follow. `more`: the next bytes are written right behind, so that these need no packet of their own; a mere
 * hint.
 */
static inline ssize_t stream_writev(struct stream *s, struct iovec *iov, int count, bool more)
{
    if (__builtin_expect(s->tls != NULL, 0))
        return tls_writev(s->tls, iov, count);
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    int flags = MSG_NOSIGNAL | (more ? MSG_MORE : 0);
    for (;;) {
        ssize_t r = count == 1 ? send(s->fd, iov->iov_base, iov->iov_len, flags) : sendmsg(s->fd, &m, flags);
        if (r >= 0)
            return r;
        if (errno == EINTR)
            continue;
        return errno == EAGAIN || errno == EWOULDBLOCK ? STREAM_AGAIN : STREAM_ERROR;
    }
}

/* Nothing more will be written, and the peer is told; reading goes on. All bytes must have been taken. */
static inline void stream_end(struct stream *s)
{
    if (s->tls)
        tls_end(s->tls);
    shutdown(s->fd, SHUT_WR);
}

/* Closes both; safe on a closed stream. */
static inline void stream_close(struct stream *s)
{
    if (s->tls) {
        tls_close(s->tls);
        s->tls = NULL;
    }
    if (s->fd >= 0) {
        close(s->fd);
        s->fd = -1;
    }
}

#endif
