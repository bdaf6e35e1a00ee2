/*
 * Bodies. Invariants: `runs` is a chain that only grows at its end, and a link is never changed once a later
 * byte was published; so a reader that was told of n bytes may walk as far as they lie while the writer goes
 * on behind them. A descriptor is counted in the budget from memfd_create to close. `length` is the writer's;
 * readers are told how far they may read.
 */
#include "proxy/body.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RUN_MIN = 4096 - 64 }; /* first run of a body of unknown length, with its header a page */

#define RUN_MAX ((uint64_t)16 << 20)

struct run {
    struct run *next;
    char *bytes; /* behind this struct, or in the mapping of the descriptor */
    uint64_t room;
};

struct body {
    _Atomic int refs;
    int fd; /* -1: all on the heap */
    struct body_budget *budget;
    struct run *runs, *last;
    uint64_t length, limit;
    uint64_t expected;  /* UINT64_MAX: unknown */
    uint64_t last_used; /* bytes in the last run */
    uint64_t heap;      /* bytes allocated for runs */
    bool heap_only;     /* no descriptor could be had */
    char *map;          /* of fd, readable, `limit` or `expected` bytes long */
    uint64_t map_size;
    struct body *keeper; /* took over fd and map, and must live as long as our runs point into it */
};

/* ---- runs ---- */

static void link_run(struct body *b, struct run *run)
{
    run->next = NULL;
    if (b->last)
        b->last->next = run;
    else
        b->runs = run;
    b->last = run;
    b->last_used = 0;
}

static bool add_heap_run(struct body *b, uint64_t room)
{
    struct run *run = malloc(sizeof *run + room);
    if (!run)
        return false;
    run->bytes = (char *)(run + 1);
    run->room = room;
    b->heap += sizeof *run + room;
    link_run(b, run);
    return true;
}

/* How large the next run on the heap should be when n bytes wait: all of it where the length is known and
 * small, else a share of what is there. */
static uint64_t next_room(const struct body *b, uint64_t n)
{
    uint64_t left = (b->expected != UINT64_MAX ? b->expected : b->limit) - b->length;
    uint64_t room = b->length < BODY_FD_MIN / 2 ? b->length : b->length / 4;
    if (b->expected != UINT64_MAX && b->expected < BODY_FD_MIN)
        room = left;
    if (room > RUN_MAX)
        room = RUN_MAX;
    if (room < RUN_MIN)
        room = RUN_MIN;
    /* So that it is full when the time for a descriptor has come. */
    if (!b->heap_only && b->budget->max > 0 && b->length < BODY_FD_MIN && b->length + room >= BODY_FD_MIN)
        room = BODY_FD_MIN - 1 - b->length;
    if (room < n)
        room = n;
    return room > left && left >= n ? left : room;
}

/* ---- descriptors ---- */

static bool take_descriptor(struct body_budget *budget)
{
    if (atomic_fetch_add_explicit(&budget->descriptors, 1, memory_order_relaxed) < budget->max)
        return true;
    atomic_fetch_sub_explicit(&budget->descriptors, 1, memory_order_relaxed);
    return false;
}

static void drop_descriptor(struct body *b)
{
    if (b->map)
        munmap(b->map, b->map_size);
    if (b->fd >= 0) {
        close(b->fd);
        atomic_fetch_sub_explicit(&b->budget->descriptors, 1, memory_order_relaxed);
    }
    b->map = NULL;
    b->fd = -1;
}

/* From here on the bytes go into a memfd; what is on the heap so far is copied to its start. False: stay on
 * the heap. */
static bool open_descriptor(struct body *b)
{
    struct run *run;
    if (!take_descriptor(b->budget))
        return false;
    b->fd = memfd_create("promptops-body", MFD_CLOEXEC);
    if (b->fd < 0) {
        atomic_fetch_sub_explicit(&b->budget->descriptors, 1, memory_order_relaxed);
        return false;
    }
    b->map_size = b->expected != UINT64_MAX ? b->expected : b->limit;
    void *map = mmap(NULL, b->map_size, PROT_READ, MAP_SHARED, b->fd, 0);
    b->map = map == MAP_FAILED ? NULL : map;
    run = malloc(sizeof *run);
    bool ok = b->map && run;
    uint64_t at = 0;
    for (struct run *r = b->runs; ok && r; r = r->next) {
        uint64_t n = r == b->last ? b->last_used : r->room;
        ok = pwrite(b->fd, r->bytes, n, (off_t)at) == (ssize_t)n;
        at += n;
    }
    if (!ok) {
        free(run);
        drop_descriptor(b);
        return false;
    }
    *run = (struct run){NULL, b->map + b->length, b->map_size - b->length};
    b->heap += sizeof *run;
    link_run(b, run);
    return true;
}

static bool write_descriptor(struct body *b, const char *bytes, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t r = pwrite(b->fd, bytes + done, n - done, (off_t)(b->length + done));
        if (r <= 0)
            return false;
        done += (size_t)r;
    }
    return true;
}

/* ---- doors ---- */

struct body *body_new(struct body_budget *budget, uint64_t expected, uint64_t limit)
{
    struct body *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    atomic_init(&b->refs, 1);
    b->fd = -1;
    b->budget = budget;
    b->expected = expected;
    b->limit = expected != UINT64_MAX && expected < limit ? expected : limit;
    return b;
}

struct body *body_ref(struct body *body)
{
    atomic_fetch_add_explicit(&body->refs, 1, memory_order_relaxed);
    return body;
}

void body_unref(struct body *body)
{
    if (!body || atomic_fetch_sub_explicit(&body->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (struct run *run = body->runs; run;) {
        struct run *next = run->next;
        free(run);
        run = next;
    }
    drop_descriptor(body);
    body_unref(body->keeper);
    free(body);
}

/* Copies what fits into the last run, as far as it is on the heap. */
static size_t fill_last_run(struct body *b, const char *bytes, size_t n)
{
    if (!b->last || b->last_used == b->last->room)
        return 0;
    uint64_t room = b->last->room - b->last_used;
    size_t take = n < room ? n : (size_t)room;
    memcpy(b->last->bytes + b->last_used, bytes, take);
    b->last_used += take;
    b->length += take;
    return take;
}

/* Is it time to leave the heap, now that the last run is full and n bytes more have come? */
static bool wants_descriptor(const struct body *b, size_t n)
{
    if (b->heap_only || b->budget->max == 0)
        return false;
    return (b->expected != UINT64_MAX ? b->expected : b->length + n) >= BODY_FD_MIN;
}

/* Makes room behind the last run, which is full. */
static bool extend(struct body *b, size_t n)
{
    if (wants_descriptor(b, n)) {
        if (open_descriptor(b))
            return true;
        b->heap_only = true;
    }
    return add_heap_run(b, next_room(b, n));
}

bool body_append(struct body *body, const void *bytes, size_t n)
{
    const char *p = bytes;
    if (n > body->limit - body->length)
        return false;
    if (body->fd < 0) {
        size_t done = fill_last_run(body, p, n);
        p += done;
        n -= done;
    }
    if (n == 0)
        return true;
    if (body->fd < 0 && !extend(body, n))
        return false;
    if (body->fd < 0)
        return fill_last_run(body, p, n) == n;
    if (!write_descriptor(body, p, n))
        return false;
    body->length += n;
    body->last_used += n;
    return true;
}

/* A body with the same bytes in one run on the heap. NULL: out of memory. */
static struct body *copy_in_one(const struct body *from)
{
    struct body *b = body_new(from->budget, from->length, from->length);
    if (!b || !add_heap_run(b, from->length)) {
        body_unref(b);
        return NULL;
    }
    for (const struct run *r = from->runs; r; r = r->next)
        fill_last_run(b, r->bytes, r == from->last ? from->last_used : r->room);
    return b;
}

/* A body that owns the descriptor alone; what is on the heap in front of it goes with the old one. NULL: out
 * of memory. */
static struct body *take_over(struct body *from)
{
    struct body *b = body_new(from->budget, UINT64_MAX, from->limit);
    struct run *run = malloc(sizeof *run);
    if (!b || !run) {
        body_unref(b);
        free(run);
        return NULL;
    }
    *run = (struct run){NULL, from->map, from->map_size};
    link_run(b, run);
    b->heap = sizeof *run;
    b->length = b->last_used = from->length;
    b->fd = from->fd;
    b->map = from->map;
    b->map_size = from->map_size;
    from->fd = -1;
    from->map = NULL;
    from->keeper = body_ref(b);
    return b;
}

struct body *body_finish(struct body *body)
{
    struct body *better = NULL;
    bool scattered = body->runs && body->runs->next;
    if (scattered && body->fd >= 0)
        better = take_over(body);
    else if (scattered && body->length < BODY_FD_MIN)
        better = copy_in_one(body);
    else if (body->runs && body->fd < 0 && body->length < body->runs->room / 2)
        better = copy_in_one(body); /* mostly empty */
    if (!better)
        return body;
    body_unref(body);
    return better;
}

uint64_t body_length(const struct body *body)
{
    return body->length;
}

uint64_t body_footprint(const struct body *body)
{
    uint64_t pages = body->fd >= 0 ? (body->length + 4095) & ~(uint64_t)4095 : 0;
    return sizeof *body + body->heap + pages;
}

int body_fd(const struct body *body)
{
    return body->fd;
}

int body_iov(const struct body *body, uint64_t at, uint64_t n, struct iovec *iov, int max)
{
    int count = 0;
    if (n == 0)
        return 0;
    for (const struct run *r = body->runs; r && n > 0 && count<max; r = n> 0 ? r->next : NULL) {
        if (at >= r->room) {
            at -= r->room;
            continue;
        }
        uint64_t take = r->room - at < n ? r->room - at : n;
        iov[count++] = (struct iovec){r->bytes + at, take};
        n -= take;
        at = 0;
    }
    return count;
}
