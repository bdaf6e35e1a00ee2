/*
 * Gathering and queueing of outgoing bytes. Invariants: `bytes` is the sum over the segments;
 * bytes leave in the order in which they were added; a segment holds its owner exactly once, or
 * owns its copy.
 */
#include "proxy/out.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>

struct out_segment {
    struct out_segment *next;
    const char *p; /* NULL: a file's bytes */
    size_t n;
    int fd;
    off_t at;
    void *owner;
    const struct out_owner_ops *ops;
    bool wipe;
    char copy[]; /* the bytes themselves when there is no owner */
};

static void hold_block(void *owner)
{
    block_ref(owner);
}

static void drop_block(void *owner)
{
    block_unref(owner);
}

const struct out_owner_ops OUT_BLOCK = {hold_block, drop_block};

static void segment_free(struct out_segment *seg)
{
    if (seg->owner)
        seg->ops->drop(seg->owner);
    else if (seg->wipe && seg->p)
        explicit_bzero(seg->copy, (size_t)(seg->p - seg->copy) + seg->n);
    free(seg);
}

static void append(struct out *out, struct out_segment *seg)
{
    seg->next = NULL;
    if (out->last)
        out->last->next = seg;
    else
        out->first = seg;
    out->last = seg;
    out->bytes += seg->n;
}

/* Below this a copy costs less than holding a whole block would. */
enum { HOLD_MIN = 4096 };

static bool queue_run(struct out *out, const char *p, size_t n, void *owner, const struct out_owner_ops *ops)
{
    if (n < HOLD_MIN)
        owner = NULL;
    struct out_segment *seg = malloc(sizeof(*seg) + (owner ? 0 : n));
    if (!seg)
        return false;
    *seg = (struct out_segment){.p = p, .n = n, .fd = -1, .owner = owner, .ops = ops, .wipe = out->wipe};
    if (owner) {
        ops->hold(owner);
    } else {
        memcpy(seg->copy, p, n);
        seg->p = seg->copy;
    }
    append(out, seg);
    return true;
}

static bool queue_file(struct out *out, const struct gather *g, off_t at, size_t n)
{
    struct out_segment *seg = malloc(sizeof(*seg));
    if (!seg)
        return false;
    *seg =
        (struct out_segment){.n = n, .fd = g->file_fd, .at = at, .owner = g->file_owner, .ops = g->file_ops};
    seg->ops->hold(seg->owner);
    append(out, seg);
    return true;
}

static ssize_t send_file_plain(int to, int fd, off_t at, size_t n)
{
    for (;;) {
        ssize_t r = sendfile(to, fd, &at, n);
        if (r > 0)
            return r;
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return STREAM_AGAIN;
        return STREAM_ERROR; /* 0: the file is shorter than it must be */
    }
}

/* TLS has to see the bytes; so they are read in small pieces. */
static ssize_t send_file(struct stream *s, int fd, off_t at, size_t n)
{
    char piece[16 * 1024];
    if (!s->tls)
        return send_file_plain(s->fd, fd, at, n);
    ssize_t r = pread(fd, piece, n < sizeof(piece) ? n : sizeof(piece), at);
    if (r <= 0)
        return STREAM_ERROR;
    struct iovec iov = {piece, (size_t)r};
    return stream_writev(s, &iov, 1, false);
}

static enum out_result result_of(ssize_t r)
{
    return r == STREAM_ERROR ? OUT_BROKEN : OUT_QUEUED;
}

/* Takes n sent bytes off the front of the queue. */
static void consume(struct out *out, size_t n)
{
    out->bytes -= n;
    while (n > 0) {
        struct out_segment *seg = out->first;
        if (n < seg->n) {
            if (seg->p)
                seg->p += n;
            seg->at += (off_t)n;
            seg->n -= n;
            return;
        }
        n -= seg->n;
        out->first = seg->next;
        if (!out->first)
            out->last = NULL;
        segment_free(seg);
    }
}

enum out_result out_push(struct out *out, struct stream *s, uint64_t *sent)
{
    while (out->first) {
        struct iovec iov[GATHER_MAX];
        int count = 0;
        size_t want = 0;
        ssize_t r;
        for (struct out_segment *seg = out->first; seg && seg->p && count < GATHER_MAX; seg = seg->next) {
            iov[count++] = (struct iovec){(void *)(uintptr_t)seg->p, seg->n};
            want += seg->n;
        }
        if (count) {
            r = stream_writev(s, iov, count, false);
        } else {
            want = out->first->n;
            r = send_file(s, out->first->fd, out->first->at, want);
        }
        if (r < 0)
            return result_of(r);
        *sent += (uint64_t)r;
        consume(out, (size_t)r);
        if ((size_t)r < want && !s->tls && count)
            return OUT_QUEUED;
    }
    return OUT_DONE;
}

/* Queues what is left of the gather after its first `skip` bytes. */
static enum out_result queue_rest(struct out *out, const struct gather *g, size_t skip)
{
    for (int i = 0; i < g->count; i++) {
        size_t n = g->iov[i].iov_len;
        if (skip >= n) {
            skip -= n;
            continue;
        }
        if (!queue_run(out, (const char *)g->iov[i].iov_base + skip, n - skip, g->owner[i], g->ops[i]))
            return OUT_NO_MEMORY;
        skip = 0;
    }
    if (g->file_fd >= 0 && g->file_len > skip &&
        !queue_file(out, g, g->file_at + (off_t)skip, g->file_len - skip))
        return OUT_NO_MEMORY;
    return OUT_QUEUED;
}

/* A small answer is one run. */
static enum out_result send_run(struct iovec *run, struct stream *s, size_t *gone)
{
    ssize_t r = stream_writev(s, run, 1, false);
    if (r < 0)
        return result_of(r);
    *gone = (size_t)r;
    return *gone == run->iov_len ? OUT_DONE : OUT_QUEUED;
}

/* Offers the runs; says how many bytes of them went. */
static enum out_result send_runs(struct gather *g, struct stream *s, size_t *gone)
{
    if (g->count == 1 && g->file_fd < 0 && !s->tls)
        return send_run(g->iov, s, gone);
    size_t total = 0;
    for (int i = 0; i < g->count; i++)
        total += g->iov[i].iov_len;
    *gone = 0;
    while (*gone < total) {
        struct iovec rest[GATHER_MAX];
        int n = 0;
        size_t skip = *gone;
        for (int i = 0; i < g->count; i++) {
            if (skip >= g->iov[i].iov_len) {
                skip -= g->iov[i].iov_len;
                continue;
            }
            rest[n++] = (struct iovec){(char *)g->iov[i].iov_base + skip, g->iov[i].iov_len - skip};
            skip = 0;
        }
        ssize_t r = stream_writev(s, rest, n, g->file_fd >= 0);
        if (r < 0)
            return result_of(r);
        *gone += (size_t)r;
        if (!s->tls && *gone < total)
            return OUT_QUEUED;
    }
    return OUT_DONE;
}

/* The file behind the runs, when the runs went whole. */
static enum out_result send_tail(struct gather *g, struct stream *s, uint64_t *sent)
{
    while (g->file_len > 0) {
        ssize_t r = send_file(s, g->file_fd, g->file_at, g->file_len);
        if (r < 0)
            return result_of(r);
        g->file_at += r;
        g->file_len -= (size_t)r;
        *sent += (uint64_t)r;
    }
    return OUT_DONE;
}

enum out_result out_flush(struct out *out, struct gather *g, struct stream *s, uint64_t *sent)
{
    size_t gone = 0;
    enum out_result r = out->first ? out_push(out, s, sent) : OUT_DONE;
    if (r == OUT_DONE) {
        r = send_runs(g, s, &gone);
        *sent += gone;
        if (r == OUT_DONE && g->file_fd >= 0) {
            r = send_tail(g, s, sent);
        }
    }
    if (r == OUT_QUEUED)
        r = queue_rest(out, g, gone);
    gather_clear(g);
    return r;
}

void out_dispose(struct out *out)
{
    while (out->first) {
        struct out_segment *seg = out->first;
        out->first = seg->next;
        segment_free(seg);
    }
    out->last = NULL;
    out->bytes = 0;
}
