/*
 * A ring of bytes. Invariants: `head` is moved by the writer only, `tail` by the reader only, each behind the
 * bytes that it speaks for; between them lie whole records, each behind its length.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/span.h"

struct span_ring {
    size_t mask;
    _Alignas(64) _Atomic size_t head; /* bytes ever written */
    _Alignas(64) _Atomic size_t tail; /* bytes ever taken */
    _Alignas(64) char bytes[];
};

struct span_ring *span_ring_new(size_t bytes)
{
    struct span_ring *r;
    if (bytes < 4096 || (bytes & (bytes - 1)))
        return NULL;
    r = aligned_alloc(64, sizeof *r + bytes);
    if (!r)
        return NULL;
    memset(r, 0, sizeof *r);
    r->mask = bytes - 1;
    return r;
}

void span_ring_free(struct span_ring *r)
{
    free(r);
}

struct piece {
    void *p;
    size_t n;
};
enum { PIECES = 6 };

/* The used parts of a record. */
static size_t pieces_of(struct span_record *s, struct piece out[PIECES])
{
    size_t total = 0;
    out[0] = (struct piece){&s->head, sizeof s->head};
    out[1] = (struct piece){s->attempts, s->head.attempts * sizeof *s->attempts};
    out[2] = (struct piece){s->events, s->head.events * sizeof *s->events};
    out[3] = (struct piece){s->path, s->head.path_bytes};
    out[4] = (struct piece){s->host, s->head.host_bytes};
    out[5] = (struct piece){s->request_id, s->head.request_id_bytes};
    for (size_t i = 0; i < PIECES; i++)
        total += out[i].n;
    return total;
}

static size_t copy_in(struct span_ring *r, size_t at, const void *from, size_t n)
{
    size_t place = at & r->mask, first = r->mask + 1 - place;
    if (first > n)
        first = n;
    memcpy(r->bytes + place, from, first);
    memcpy(r->bytes, (const char *)from + first, n - first);
    return at + n;
}

static size_t copy_out(const struct span_ring *r, size_t at, void *to, size_t n)
{
    size_t place = at & r->mask, first = r->mask + 1 - place;
    if (first > n)
        first = n;
    memcpy(to, r->bytes + place, first);
    memcpy((char *)to + first, r->bytes, n - first);
    return at + n;
}

bool span_ring_put(struct span_ring *r, const struct span_record *s)
{
    struct piece pieces[PIECES];
    size_t size = pieces_of((struct span_record *)(uintptr_t)s, pieces);
    size_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    size_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
    if (size > r->mask + 1 - (head - tail))
        return false;
    for (size_t i = 0; i < PIECES; i++)
        head = copy_in(r, head, pieces[i].p, pieces[i].n);
    atomic_store_explicit(&r->head, head, memory_order_release);
    return true;
}

bool span_ring_take(struct span_ring *r, struct span_record *out)
{
    struct piece pieces[PIECES];
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    if (tail == atomic_load_explicit(&r->head, memory_order_acquire))
        return false;
    (void)copy_out(r, tail, &out->head, sizeof out->head);
    pieces_of(out, pieces);
    for (size_t i = 0; i < PIECES; i++)
        tail = copy_out(r, tail, pieces[i].p, pieces[i].n);
    atomic_store_explicit(&r->tail, tail, memory_order_release);
    return true;
}
