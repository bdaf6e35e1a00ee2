/*
 * The recorder of traces. Invariants: a record belongs to one exchange from its beginning to
 * tracing_over_slow(); the second copy of a request (a hedge) writes into the original's; a worker writes
 * into its own ring only.
 */
#include "proxy/tracing.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/exchange_internal.h"
#include "proxy/service.h"

enum { RING_BYTES = 512 * 1024, SPARE_MOST = 64 };

/* One worker's. The ring is made when traces are switched on first. */
struct lane {
    struct span_ring *_Atomic ring;
    struct spare {
        struct spare *next;
    } * spare; /* records not in use; the worker's own */
    unsigned spares;
};

struct tracing {
    _Atomic bool on;
    _Atomic uint64_t threshold; /* of 2^32 roots so many are sampled */
    int workers, next;          /* next: whose ring is looked at first */
    struct lane lanes[];
};

struct tracing *tracing_new(int workers)
{
    struct tracing *t = calloc(1, sizeof *t + (size_t)workers * sizeof(struct lane));
    if (t)
        t->workers = workers;
    return t;
}

void tracing_free(struct tracing *t)
{
    for (int i = 0; t && i < t->workers; i++) {
        span_ring_free(atomic_load(&t->lanes[i].ring));
        for (struct spare *s; (s = t->lanes[i].spare);) {
            t->lanes[i].spare = s->next;
            free(s);
        }
    }
    free(t);
}

bool tracing_set(struct tracing *t, bool on, double share)
{
    for (int i = 0; on && i < t->workers; i++) {
        if (atomic_load(&t->lanes[i].ring))
            continue;
        struct span_ring *ring = span_ring_new(RING_BYTES);
        if (!ring)
            return false;
        atomic_store(&t->lanes[i].ring, ring);
    }
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    atomic_store_explicit(&t->threshold, (uint64_t)(share * 4294967296.0), memory_order_relaxed);
    atomic_store_explicit(&t->on, on, memory_order_release);
    return true;
}

bool tracing_on(const struct tracing *t)
{
    return t && atomic_load_explicit(&((struct tracing *)(uintptr_t)t)->on, memory_order_acquire);
}

bool tracing_take(struct tracing *t, struct span_record *out)
{
    for (int i = 0; i < t->workers; i++) {
        struct span_ring *ring = atomic_load(&t->lanes[(t->next + i) % t->workers].ring);
        if (!ring || !span_ring_take(ring, out))
            continue;
        t->next = (t->next + i) % t->workers;
        return true;
    }
    t->next = (t->next + 1) % t->workers;
    return false;
}

/* ---- on the worker's thread ---- */

static tick_t exact_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (tick_t)t.tv_sec * TICK_S + t.tv_nsec;
}

static void random_id(uint8_t id[8], struct rng *rng)
{
    uint64_t v;
    do
        v = rng_next(rng);
    while (v == 0);
    memcpy(id, &v, sizeof v);
}

static struct span_record *record_new(struct exchange *x)
{
    struct lane *lane = &x->w->service->tracing->lanes[x->w->index];
    struct span_record *s = (struct span_record *)lane->spare;
    if (s) {
        lane->spare = lane->spare->next;
        lane->spares--;
    } else if (!(s = malloc(sizeof *s))) {
        metric_add(x->w->metrics, METRIC_OTLP_SPANS_DROPPED, 1);
        return NULL;
    }
    memset(&s->head, 0, sizeof s->head);
    return s;
}

static void record_free(struct exchange *x, struct span_record *s)
{
    struct lane *lane = &x->w->service->tracing->lanes[x->w->index];
    struct spare *spare = (struct spare *)(void *)s;
    if (lane->spares == SPARE_MOST) {
        free(s);
        return;
    }
    spare->next = lane->spare;
    lane->spare = spare;
    lane->spares++;
}

/* Parent-based: who brings a trace has decided; a root is sampled by performance.sample_rate. */
static bool sampled(struct exchange *x)
{
    uint64_t threshold = atomic_load_explicit(&x->w->service->tracing->threshold, memory_order_relaxed);
    if (x->trace_valid)
        return x->trace.flags & TRACE_SAMPLED;
    return rng_next(&x->w->rng) >> 32 < threshold;
}

void tracing_begin_slow(struct exchange *x)
{
    if (!sampled(x) || !(x->span = record_new(x)))
        return;
    struct span_head *h = &x->span->head;
    if (x->trace_valid) {
        memcpy(h->parent, x->trace.parent_id, sizeof h->parent);
        h->has_parent = h->remote_parent = true;
    } else {
        trace_start(&x->trace, true, &x->w->rng);
        x->trace_begun = true;
    }
    memcpy(h->trace_id, x->trace.trace_id, sizeof h->trace_id);
    random_id(h->id, &x->w->rng);
    h->trace_flags = x->trace.flags;
    h->began = x->phase_since = x->began;
}

void tracing_begin_ahead(struct exchange *x)
{
    tracing_begin_slow(x);
    if (x->span)
        x->span->head.internal = true;
}

void tracing_begin_behind(struct exchange *x, const struct exchange *from)
{
    if (!from->span || !(x->span = record_new(x)))
        return;
    struct span_head *h = &x->span->head;
    *h = (struct span_head){.internal = true, .has_parent = true, .began = x->began};
    memcpy(h->trace_id, from->span->head.trace_id, sizeof h->trace_id);
    memcpy(h->parent, from->span->head.id, sizeof h->parent);
    random_id(h->id, &x->w->rng);
    h->trace_flags = from->span->head.trace_flags;
    x->phase_since = x->began;
    x->trace = from->trace;
    x->trace_begun = true;
}

/* ---- events ---- */

static void add_event(struct exchange *x, enum span_event_kind kind, tick_t at, tick_t duration)
{
    struct span_head *h = &x->span->head;
    if (h->events == SPAN_EVENTS) {
        h->events_dropped++;
        return;
    }
    x->span->events[h->events++] =
        (struct span_event){.at = at, .duration = duration, .kind = kind, .attempt = x->a.span};
}

void tracing_lookup_slow(struct exchange *x)
{
    add_event(x, SPAN_CACHE, worker_now(x->w), 0);
}

/* Waiting ends, or the next attempt is waited for. */
void tracing_phase_slow(struct exchange *x, unsigned to)
{
    static const int8_t left[PHASE_COUNT] = {
        [PHASE_SECOND] = SPAN_SECOND + 1,    [PHASE_HOLDING] = SPAN_HELD + 1,
        [PHASE_JOINED] = SPAN_COALESCED + 1, [PHASE_ADMIT] = SPAN_QUEUE + 1,
        [PHASE_QUEUED] = SPAN_POOL + 1,      [PHASE_BACKOFF] = SPAN_RETRY + 1};
    tick_t now = worker_now(x->w), since = x->phase_since;
    x->phase_since = now;
    if (!left[x->phase] || to == x->phase)
        return;
    if (now > since || x->phase == PHASE_BACKOFF) /* a retry at once is one, too */
        add_event(x, (enum span_event_kind)(left[x->phase] - 1), since, now - since);
}

/* ---- attempts ---- */

/* Whose record an attempt of x goes into. */
static struct exchange *owner_of(struct exchange *x)
{
    return x->original ? x->original : x;
}

void tracing_attempt_begun(struct exchange *x)
{
    struct exchange *owner = owner_of(x);
    if (!owner->span)
        return;
    struct span_head *h = &owner->span->head;
    if (h->attempts == SPAN_ATTEMPTS) {
        h->attempts_dropped++;
        return;
    }
    struct span_attempt *a = &owner->span->attempts[h->attempts];
    *a = (struct span_attempt){.began = x->attempt_began,
                               .resend = h->attempts,
                               .kind = x->original  ? ATTEMPT_HEDGE
                                       : x->refresh ? ATTEMPT_REFRESH
                                                    : ATTEMPT_REQUEST};
    random_id(a->id, &x->w->rng);
    x->a.span = ++h->attempts;
}

void tracing_attempt_ended(struct exchange *x)
{
    struct exchange *owner = owner_of(x);
    if (!owner->span || !x->a.span)
        return;
    struct span_attempt *a = &owner->span->attempts[x->a.span - 1];
    a->ended = worker_now(x->w);
    a->total = x->a.total;
    a->pool_wait = x->a.pool_wait;
    a->tcp = x->a.tcp;
    a->tls = x->a.tls;
    a->first_byte = x->a.first_byte;
    a->bytes_sent = x->a.bytes_sent;
    a->bytes_received = x->a.bytes_received;
    a->status = x->a.status;
    a->reason = x->a.reason;
    a->outcome = x->a.outcome;
    a->kind = x->a.kind;
    a->reused = x->a.reused;
}

void tracing_propagate(struct exchange *x)
{
    struct exchange *owner = owner_of(x);
    if (owner->span && x->a.span)
        memcpy(owner->trace.parent_id, owner->span->attempts[x->a.span - 1].id,
               sizeof owner->trace.parent_id);
    else
        trace_child(&owner->trace, &x->w->rng);
}

/* ---- the end ---- */

static uint16_t copy_text(char *to, size_t room, struct slice from)
{
    size_t n = from.n < room ? from.n : room;
    if (n)
        memcpy(to, from.p, n);
    return (uint16_t)n;
}

static void describe(struct exchange *x)
{
    struct span_record *s = x->span;
    struct span_head *h = &s->head;
    struct slice path = x->req.base ? head_path(&x->req) : (struct slice){"", 0};
    const char *query = path.n ? memchr(path.p, '?', path.n) : NULL;
    struct slice host = {x->req.base ? x->req.base + x->req.authority_at : "",
                         x->req.base ? x->req.authority_len : 0};
    if (query)
        path.n = (size_t)(query - path.p);
    h->path_bytes = copy_text(s->path, SPAN_PATH_BYTES, path);
    h->host_bytes = copy_text(s->host, SPAN_HOST_BYTES, host);
    h->request_id_bytes = copy_text(s->request_id, SPAN_ID_BYTES, x->request_id);
    h->operation = x->o.operation;
    h->route = x->o.route;
    h->method = x->o.method;
    h->minor = x->req.minor;
}

void tracing_answered_slow(struct exchange *x)
{
    struct span_head *h = &x->span->head;
    h->ended = exact_now(); /* the turn's clock would call most hits instantaneous */
    h->total = x->o.total;
    h->status = x->o.status;
    h->reason = x->o.reason;
    h->observed = x->o.flags;
    h->cache = x->o.cache;
    h->retries = x->o.retries;
    h->bytes_in = x->o.bytes_in;
    h->bytes_out = x->o.bytes_out;
}

void tracing_over_slow(struct exchange *x)
{
    struct span_record *s = x->span;
    struct span_ring *ring = atomic_load(&x->w->service->tracing->lanes[x->w->index].ring);
    if (!s->head.ended)
        s->head.ended = worker_now(x->w);
    describe(x);
    bool idle = s->head.internal && !s->head.attempts; /* it came to nothing */
    if (!idle && (!ring || !span_ring_put(ring, s)))
        metric_add(x->w->metrics, METRIC_OTLP_SPANS_DROPPED, 1u + s->head.attempts);
    x->span = NULL;
    record_free(x, s);
}
