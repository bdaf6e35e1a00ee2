/*
 * The bytes on their way to one peer. Within a loop turn they are only gathered (a head from the
 * worker's scratch, small body runs copied behind it, others where they lie) and then offered to the
 * stream in one write; what the stream does not take is kept, by reference where the bytes have an
 * owner that can be held, else by a copy.
 */
#ifndef PROXY_OUT_H
#define PROXY_OUT_H

#include <string.h>

#include "policy/base.h"
#include "proxy/block.h"
#include "proxy/stream.h"

/* How the owner of bytes is held while they are queued. */
struct out_owner_ops {
    void (*hold)(void *owner);
    void (*drop)(void *owner);
};

extern const struct out_owner_ops OUT_BLOCK; /* owner: struct block * */

struct out_segment; /* private to out.c */

struct out {
    struct out_segment *first, *last;
    size_t bytes; /* queued in the segments */
    bool wipe;    /* copies made from now on may hold a key: they are wiped before they are freed */
};

/* What is gathered in this turn for one peer. */
#define GATHER_MAX 12
/* Up to so many bytes are made one run with the head before them: a copy costs less than the work that a
 * further run makes for the kernel (measured at 1 KiB: 5 % of a whole cached answer). */
#define GATHER_FLAT 4096
struct gather {
    char *scratch;   /* where heads are put together, at least GATHER_FLAT bytes; NULL: none, and runs stay
                        apart */
    struct out *out; /* whose bytes these are; NULL: nothing gathered */
    int count;
    int file_fd; /* >= 0: after the runs, file_len bytes of this file from file_at */
    off_t file_at;
    size_t file_len;
    void *file_owner;
    const struct out_owner_ops *file_ops;
    struct iovec iov[GATHER_MAX];
    void *owner[GATHER_MAX]; /* NULL: the bytes must be copied when they cannot be sent now */
    const struct out_owner_ops *ops[GATHER_MAX];
};

enum out_result {
    OUT_DONE,   /* everything was taken, nothing queued */
    OUT_QUEUED, /* some bytes wait: flush again when the stream is writable */
    OUT_BROKEN, /* the stream failed */
    OUT_NO_MEMORY
};

/* Adds a run. False when the gather is full: flush first. The bytes must stay until the flush. The first run
 * may be a head in `scratch`: then nothing else may be written behind it there, but at its end (see
 * GATHER_FLAT). */
static inline bool gather_add(struct gather *g, const void *p, size_t n, void *owner,
                              const struct out_owner_ops *ops)
{
    if (n == 0)
        return true;
    if (g->count == GATHER_MAX || g->file_fd >= 0)
        return false;
    if (g->count == 1 && g->iov[0].iov_base == g->scratch && n <= GATHER_FLAT &&
        g->iov[0].iov_len <= GATHER_FLAT - n) {
        memcpy(g->scratch + g->iov[0].iov_len, p, n);
        g->iov[0].iov_len += n;
        return true;
    }
    g->iov[g->count] = (struct iovec){(void *)(uintptr_t)p, n};
    g->owner[g->count] = owner;
    g->ops[g->count] = ops;
    g->count++;
    return true;
}

static inline void gather_clear(struct gather *g)
{
    g->out = NULL;
    g->count = 0;
    g->file_fd = -1;
}

/* Sends what is queued, then what is gathered; queues the rest. Clears the gather. */
enum out_result out_flush(struct out *out, struct gather *g, struct stream *s, uint64_t *sent) MUSTCHECK;

/* Sends only what is queued. */
enum out_result out_push(struct out *out, struct stream *s, uint64_t *sent) MUSTCHECK;

/* Drops everything queued. */
void out_dispose(struct out *out);

#endif
