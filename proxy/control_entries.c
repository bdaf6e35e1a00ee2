/*
 * What is stored, as the operator may see it.
 * Invariants: no more than `limit` entries are held while the store is walked, whatever it holds; values of
 * sensitive query parameters are masked as in the log; partitions and credentials are not in a view at all.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/control_internal.h"
#include "proxy/log.h"
#include "proxy/store.h"

enum { URI_SHOWN = 512 };

struct shown {
    char uri[URI_SHOWN + 1];
    int status;
    uint64_t bytes;
    uint32_t hits;
    tick_t age, ttl, fetch;
    const char *tier;
};

/* A heap whose root is the entry that goes first when there is a better one. */
struct best {
    struct shown **heap;
    size_t count, limit;
    uint64_t total;
    bool failed;
    int (*before)(const struct shown *a, const struct shown *b); /* < 0: a is shown before b */
};

static int by_number(double a, double b)
{
    return a > b ? -1 : a < b ? 1 : 0;
}

static int by_uri(const struct shown *a, const struct shown *b)
{
    return strcmp(a->uri, b->uri);
}

static int by_bytes(const struct shown *a, const struct shown *b)
{
    return by_number((double)a->bytes, (double)b->bytes);
}

static int by_hits(const struct shown *a, const struct shown *b)
{
    return by_number(a->hits, b->hits);
}

static int by_age(const struct shown *a, const struct shown *b)
{
    return by_number((double)a->age, (double)b->age);
}

static int by_ttl(const struct shown *a, const struct shown *b)
{
    return by_number((double)b->ttl, (double)a->ttl); /* what ends soonest first */
}

/* What costs most to fetch again. */
static int by_cost(const struct shown *a, const struct shown *b)
{
    return by_number((double)a->fetch, (double)b->fetch);
}

static int by_status(const struct shown *a, const struct shown *b)
{
    return by_number(b->status, a->status);
}

static void swap(struct best *b, size_t i, size_t j)
{
    struct shown *kept = b->heap[i];
    b->heap[i] = b->heap[j];
    b->heap[j] = kept;
}

static void rise(struct best *b, size_t i)
{
    for (; i && b->before(b->heap[(i - 1) / 2], b->heap[i]) < 0; i = (i - 1) / 2)
        swap(b, i, (i - 1) / 2);
}

static void sink(struct best *b)
{
    for (size_t i = 0, child; (child = 2 * i + 1) < b->count; i = child) {
        if (child + 1 < b->count && b->before(b->heap[child], b->heap[child + 1]) < 0)
            child++;
        if (b->before(b->heap[i], b->heap[child]) >= 0)
            return;
        swap(b, i, child);
    }
}

static void copy(struct shown *to, const struct store_view *view)
{
    *to = (struct shown){.status = view->status,
                         .bytes = view->bytes,
                         .hits = view->hits,
                         .age = view->age,
                         .ttl = view->ttl,
                         .fetch = view->fetch,
                         .tier = view->tier};
    to->uri[log_mask_target(view->uri, to->uri, URI_SHOWN)] = '\0';
}

static bool see(void *arg, const struct store_view *view)
{
    struct best *b = arg;
    struct shown one;
    b->total++;
    if (!b->limit)
        return true;
    copy(&one, view);
    if (b->count == b->limit) {
        if (b->before(&one, b->heap[0]) < 0) {
            *b->heap[0] = one;
            sink(b);
        }
        return true;
    }
    struct shown *kept = malloc(sizeof *kept);
    if (!kept) {
        b->failed = true;
        return false;
    }
    *kept = one;
    b->heap[b->count++] = kept;
    rise(b, b->count - 1);
    return true;
}

static void put(struct view *v, const struct shown *e)
{
    view_object(v, NULL);
    view_text(v, "uri", e->uri);
    view_int(v, "status", e->status);
    view_uint(v, "bytes", e->bytes);
    view_uint(v, "hits", e->hits);
    view_real(v, "age", (double)e->age / (double)TICK_S);
    view_real(v, "ttl", (double)e->ttl / (double)TICK_S);
    if (e->fetch > 0)
        view_real(v, "cost", (double)e->fetch / (double)TICK_S);
    view_text(v, "tier", e->tier);
    view_end(v);
}

static const struct {
    const char *name;
    int (*before)(const struct shown *a, const struct shown *b);
} orders[] = {{"hits", by_hits}, {"uri", by_uri},       {"bytes", by_bytes}, {"age", by_age},
              {"ttl", by_ttl},   {"status", by_status}, {"cost", by_cost}};

void control_entries(void *ctx, struct view *v, const char *sort, size_t limit)
{
    struct control *c = ctx;
    struct best b = {.limit = limit, .before = orders[0].before};
    for (size_t i = 0; i < ARRAY_LEN(orders); i++)
        if (strcmp(sort, orders[i].name) == 0)
            b.before = orders[i].before;
    b.heap = malloc((limit + 1) * sizeof(struct shown *));
    if (b.heap)
        store_walk(c->service.store, control_now(), see, &b);
    size_t n = b.count;
    while (b.count > 1) { /* the last to be shown goes to the end */
        swap(&b, 0, --b.count);
        sink(&b);
    }
    view_uint(v, "total", b.total);
    view_array(v, "entries");
    for (size_t i = 0; i < n; i++)
        put(v, b.heap[i]);
    view_end(v);
    if (!b.heap || b.failed)
        view_text(v, "note", "out of memory: not all is shown");
    for (size_t i = 0; i < n; i++)
        free(b.heap[i]);
    free(b.heap);
}
