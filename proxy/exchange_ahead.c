/*
 * Exchanges without a client that fetch ahead: what will likely be asked for next, and what is about to be
 * stale. What is learnt and guessed is ahead.h's; here requests are told to it, gathered over a turn of the
 * loop, and what it guesses is fetched, when nothing is wrong and there is something to spare.
 *
 * Invariants: such an exchange is never counted, logged or retried as a client's request, waits for no limit,
 * and is sent only with the credential that its place in the cache belongs to (the key is made anew from what
 * is to be sent, and must be the same); a request that its client signed is neither recorded nor repeated;
 * what took off (`flying`) lands once, in exchange_ahead_over.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/ahead.h"
#include "proxy/compose.h"
#include "proxy/exchange_internal.h"
#include "proxy/permits.h"
#include "proxy/service.h"

enum {
    EVENTS = 64,           /* of a turn; more are told as soon as there are so many */
    ORDERS = 4,            /* guesses fetched a turn */
    RENEWALS = 4096,       /* versions of which a worker knows when to refresh them */
    SLAB = 64,             /* ... allocated so many at a time */
    SHARE_OF_THE_POOL = 4, /* a quarter of the connections, at most, fetch ahead */
    UNHURRIED = 32,        /* events that are gathered while nothing is to be gained */
    LEARNT_A_SECOND =
        1000 /* events, while nothing is to be gained: in dense traffic the rest says the same */
};

/* When the lock was taken by another worker. */
static const tick_t AGAIN = TICK_MS;

/* A refresh that was held back is tried again, unless so little is left. */
static const tick_t TOO_LATE = 50 * TICK_MS;

/* A version that is to be refreshed before its end. */
struct renewal {
    struct timer timer;
    struct renewal *next; /* free */
    struct worker *w;
    struct hash128 place;
    tick_t received; /* which version */
    uint32_t hits;   /* of its place, before it was read first */
    bool streak;     /* it was itself fetched ahead, and read */
};

struct slab {
    struct slab *next;
    struct renewal items[SLAB];
};

/* What a worker has for this. */
struct ahead_desk {
    struct worker *w;
    struct timer again;
    uint32_t flows; /* connections that got a number */
    bool cool;      /* there is nothing to be gained at present */
    bool hurry;     /* but one of the events says otherwise */
    unsigned learnt;
    tick_t learnt_since;
    unsigned renewals;
    struct renewal *free;
    struct slab *slabs;
    struct ahead_event events[EVENTS];
};

enum start { STARTED, HELD_BACK, NOTHING_TO_DO };

static struct ahead *ahead_of(const struct worker *w)
{
    return w->service->ahead;
}

static void again(struct timer *timer)
{
    struct ahead_desk *desk = (struct ahead_desk *)((char *)timer - offsetof(struct ahead_desk, again));
    exchange_ahead_turn(desk->w);
}

/* NULL: out of memory. */
static struct ahead_desk *desk_of(struct worker *w)
{
    if (w->desk)
        return w->desk;
    w->desk = calloc(1, sizeof *w->desk);
    if (w->desk) {
        w->desk->w = w;
        w->desk->again.fire = again;
    }
    return w->desk;
}

void exchange_ahead_dispose(struct worker *w)
{
    struct ahead_desk *desk = w->desk;
    while (desk && desk->slabs) {
        struct slab *next = desk->slabs->next;
        free(desk->slabs);
        desk->slabs = next;
    }
    free(desk);
    w->desk = NULL;
}

/* ---- an exchange of our own ------------------------------------------------------------------------------
 */

/* NULL: no memory, or it is not a request to be repeated (any more). */
static struct exchange *exchange_of(struct worker *w, const struct recipe *recipe, enum store_ahead kind)
{
    struct exchange *x = exchange_new(w);
    struct store_request ask;
    struct store_key key;
    if (!x)
        return NULL;
    size_t fields = sizeof(struct field) * recipe->head.field_count;
    _Static_assert(sizeof(struct field) * RECIPE_FIELDS + sizeof(recipe->bytes) <= ROOM, "a recipe fits");
    metric_sub(w->metrics, METRIC_ACTIVE_REQUESTS, 1); /* those of clients are counted */
    x->ahead = (uint8_t)kind;
    x->copy = x->room;
    memcpy(x->copy, recipe->fields, fields);
    memcpy(x->copy + fields, recipe->head.base, recipe->head.len);
    x->req = recipe->head;
    x->req.fields = (struct field *)(void *)x->copy;
    x->req.base = x->copy + fields;
    x->kept = x->refresh = x->idempotent = x->body_whole = x->looked = true;
    routes_find(x->settings->p->routes, METHOD_GET, head_path(&x->req), &x->route);
    x->o.operation = x->settings->p->operations[x->route.route->operation];
    x->o.route = x->settings->p->templates[x->route.route->number];
    x->o.method = METHOD_GET;
    request_id_make(x->id, &w->rng);
    x->request_id = (struct slice){x->id, REQUEST_ID_LEN};
    if (tracing_on(w->service->tracing))
        tracing_begin_ahead(x);
    exchange_settle_credential(x);
    exchange_store_request(x, &ask, NULL, NULL, 0);
    store_key_of(w->service->store, &ask, &key);
    if (hash_equal(key.place, recipe->key.place) && !x->client_signed && !x->route.route->no_store)
        return x;
    exchange_over(x, false);
    return NULL;
}

/* Is nothing wrong, and something to spare? */
static bool may_go(struct exchange *x, enum ahead_hold *why)
{
    struct service *s = x->w->service;
    struct pool_stats pool = pool_stats(x->w->pool);
    unsigned most = permits_max(s->permits), share = most / SHARE_OF_THE_POOL;
    if (!guard_is_calm(s->guard, x->o.operation)) {
        *why = AHEAD_HELD_CIRCUIT;
        return false;
    }
    if (!admit_background_allowed(s->admit, exchange_quota_credential(x), worker_now(x->w))) {
        *why = AHEAD_HELD_SPARE;
        return false;
    }
    if (pool.waiting > 0 || (pool.idle == 0 && permits_held(s->permits) + 1 >= most && most > 1)) {
        *why = AHEAD_HELD_POOL;
        return false;
    }
    *why = AHEAD_HELD_FLYING;
    x->flying = ahead_take_off(s->ahead, share > 1 ? share : 1);
    return x->flying;
}

/* It ends before anything was sent. */
static void ground(struct exchange *x)
{
    if (x->flying)
        ahead_land(ahead_of(x->w));
    x->flying = false;
    exchange_over(x, false);
}

static bool leads(enum store_verdict verdict)
{
    return verdict == STORE_LEAD || verdict == STORE_REVALIDATE;
}

static bool take_from_budget(struct exchange *x)
{
    struct ahead *a = ahead_of(x->w);
    bool guessed = x->ahead == STORE_GUESSED;
    if (!(guessed ? ahead_issue(a, x->look.key.place.lo, worker_now(x->w)) : ahead_renew(a)))
        return false;
    metric_add(x->w->metrics, guessed ? METRIC_PREFETCH_ISSUED : METRIC_RENEW_ISSUED, 1);
    return true;
}

/* Fetches what the recipe asks for, if there is need and room. `renew`: what has more left is fresh enough.
 */
static enum start start(struct worker *w, const struct recipe *recipe, enum store_ahead kind, tick_t renew)
{
    struct slice tags[STORE_MAX_TAGS];
    char room[TAG_ROOM];
    struct store_request ask;
    enum ahead_hold why;
    struct exchange *x = w->stopping ? NULL : exchange_of(w, recipe, kind);
    if (!x)
        return NOTHING_TO_DO;
    x->renew = renew;
    if (!may_go(x, &why)) {
        ahead_held(ahead_of(w), why, worker_now(w));
        ground(x);
        return HELD_BACK;
    }
    exchange_store_request(x, &ask, tags, room, sizeof(room));
    enum store_verdict verdict = store_lookup(w->service->store, &ask, &x->look);
    if (leads(verdict) && take_from_budget(x)) {
        if (!exchange_second(x, verdict))
            exchange_act(x, verdict);
        return STARTED;
    }
    if (leads(verdict)) {
        ahead_held(ahead_of(w), AHEAD_HELD_BUDGET, worker_now(w));
        fill_abort(x->look.fill, REASON_FILL_FAILED, true);
    }
    entry_release(x->look.entry);
    ground(x);
    return leads(verdict) ? HELD_BACK : NOTHING_TO_DO;
}

void exchange_ahead_over(struct exchange *x)
{
    struct worker *w = x->w;
    if (!x->flying)
        return;
    x->flying = false;
    ahead_land(ahead_of(w));
    if (x->brought)
        return;
    if (x->ahead == STORE_GUESSED)
        ahead_failed(ahead_of(w), x->look.key.place.lo);
    metric_add(w->metrics, x->ahead == STORE_GUESSED ? METRIC_PREFETCH_WASTED : METRIC_RENEW_WASTED, 1);
}

/* ---- what is about to be stale ---------------------------------------------------------------------------
 */

static struct renewal *renewal_new(struct ahead_desk *desk)
{
    struct renewal *r = desk->free;
    if (!r && desk->renewals < RENEWALS) {
        struct slab *slab = calloc(1, sizeof *slab);
        if (!slab)
            return NULL;
        slab->next = desk->slabs;
        desk->slabs = slab;
        desk->renewals += SLAB;
        for (unsigned i = 0; i < SLAB; i++) {
            slab->items[i].next = desk->free;
            desk->free = &slab->items[i];
        }
        r = desk->free;
    }
    if (r)
        desk->free = r->next;
    return r;
}

static void renewal_free(struct renewal *r)
{
    struct ahead_desk *desk = r->w->desk;
    r->next = desk->free;
    desk->free = r;
}

/* The version's end is near. */
static void renewal_due(struct timer *timer)
{
    struct renewal *r = (struct renewal *)timer;
    struct worker *w = r->w;
    struct recipe recipe;
    struct store_peek peek;
    tick_t now = worker_now(w);
    enum start how = NOTHING_TO_DO;
    if (store_peek(w->service->store, r->place, r->received, now, &peek) && peek.left > 0) {
        struct refresh_reads reads = {.reads = peek.hits - r->hits,
                                      .span = peek.read_at - peek.received,
                                      .silence = now - peek.read_at,
                                      .streak = r->streak};
        if (refresh_wanted(&reads) && ahead_recipe(ahead_of(w), r->place.lo, &recipe)) {
            how = start(w, &recipe, STORE_RENEWED, peek.left);
            explicit_bzero(recipe.bytes, sizeof recipe.bytes);
        }
    }
    if (how == HELD_BACK && peek.left > TOO_LATE)
        worker_set_timer(w, &r->timer, now + peek.left / 4);
    else
        renewal_free(r);
}

/* A version was read for the first time: it is to be refreshed before its end, if it is still read by then.
 */
static void plan_renewal(struct exchange *x)
{
    struct worker *w = x->w;
    const struct freshness *f = entry_freshness(x->look.entry);
    tick_t lifetime = f->lifetime - f->initial_age;
    tick_t lead = refresh_lead(lifetime, entry_fetch_time(x->look.entry), &w->rng);
    struct ahead_desk *desk = desk_of(w);
    struct renewal *r = lead > 0 && !f->no_cache && desk ? renewal_new(desk) : NULL;
    if (!r)
        return;
    ahead_keep(ahead_of(w), &x->look.key, &x->req, exchange_dropped_fields(x), false);
    *r = (struct renewal){.timer.fire = renewal_due,
                          .w = w,
                          .place = x->look.key.place,
                          .received = f->received,
                          .hits = x->look.hits,
                          .streak = x->look.ahead == STORE_RENEWED};
    worker_set_timer(w, &r->timer, f->received + lifetime - lead);
}

/* ---- what may be repeated
 * ----------------------------------------------------------------------------------- */

#define CREDENTIALS (FIELD_BIT(AUTHORIZATION) | FIELD_BIT(X_API_KEY) | FIELD_BIT(COOKIE))

/*
 * May what this request asks for be asked for again without its client? Not when the client signed it, nor
 * when it shows a credential that is no part of the place in the cache, as in the shared scope: that would go
 * up on behalf of somebody else.
 */
static bool is_repeatable(const struct exchange *x)
{
    const struct cache_rules *rules = &x->settings->p->cache;
    uint64_t shown = x->req.present & CREDENTIALS & ~exchange_dropped_fields(x);
    for (unsigned i = 0; shown && !rules->shared && i < rules->partition_count; i++)
        shown &= ~((uint64_t)1 << rules->partition_ids[i]);
    return !shown && !x->client_signed && x->req.method == METHOD_GET;
}

/* ---- what clients do -------------------------------------------------------------------------------------
 */

/* An answer that was fetched ahead is of use. */
static void count_use(struct exchange *x)
{
    struct metrics_block *m = x->w->metrics;
    if (x->look.ahead == STORE_GUESSED)
        metric_add(m, METRIC_PREFETCH_HITS, 1);
    if (!x->look.ahead_first)
        return;
    metric_add(m, x->look.ahead == STORE_GUESSED ? METRIC_PREFETCH_USED : METRIC_RENEW_USED, 1);
    x->o.flags |= OBSERVED_AHEAD;
}

/*
 * Whose sequence the request is part of. A connection has its own; the first request of a connection, and so
 * each one of a client that makes a connection for each, is part of its credential's.
 */
static void tell(struct exchange *x, struct ahead_desk *desk, struct ahead_event *event)
{
    struct downstream *d = x->down;
    uint64_t who = x->look.key.partition.lo;
    event->client = who;
    event->key = x->look.key.place.lo;
    if (d->ahead_key) {
        if (!d->ahead_flow)
            d->ahead_flow = ++desk->flows;
        uint64_t flow = (uint64_t)(unsigned)x->w->index << 32 | d->ahead_flow;
        event->client = who ^ flow * 0x9e3779b97f4a7c15u;
        event->before = d->ahead_client == who ? d->ahead_key : 0;
    }
    desk->events[x->w->told++] = *event;
    d->ahead_client = event->client;
    d->ahead_key = event->key;
}

/* Enough was learnt in this second, and nothing is to be gained. */
static bool is_enough(struct ahead_desk *desk, tick_t now)
{
    if (now - desk->learnt_since >= TICK_S) {
        desk->learnt_since = now;
        desk->learnt = 0;
    }
    return desk->cool && ++desk->learnt > LEARNT_A_SECOND;
}

void exchange_ahead_note(struct exchange *x, enum store_verdict verdict)
{
    struct worker *w = x->w;
    struct downstream *d = x->down;
    if (verdict == STORE_HIT && !x->look.ahead && !x->look.first && x->look.key.place.lo == d->ahead_key)
        return; /* as below, for the most frequent case */
    struct ahead_event event = {
        .missed = verdict != STORE_HIT && verdict != STORE_HIT_STALE && verdict != STORE_JOIN,
        .fetched_ahead = x->look.ahead == STORE_GUESSED && x->look.ahead_first,
        .renewed = x->look.ahead == STORE_RENEWED && x->look.ahead_first,
    };
    bool telling = event.missed || event.fetched_ahead || event.renewed;
    if (x->look.ahead)
        count_use(x);
    if (x->went_loose || !ahead_on(ahead_of(w)) || !is_repeatable(x))
        return;
    if (verdict == STORE_HIT && x->look.first && !head_has(&x->req, FIELD_RANGE) &&
        entry_status(x->look.entry) == 200)
        plan_renewal(x);
    if (x->look.key.place.lo == d->ahead_key && !telling)
        return; /* what follows itself says nothing */
    struct ahead_desk *desk = desk_of(w);
    if (!desk)
        return;
    if (!telling && is_enough(desk, worker_now(w))) {
        d->ahead_key = x->look.key.place.lo; /* from here its sequence goes on */
        d->ahead_client = x->look.key.partition.lo;
        return;
    }
    desk->hurry = desk->hurry || telling;
    if (w->told == EVENTS)
        exchange_ahead_turn(w);
    if (w->told < EVENTS)
        tell(x, desk, &event);
}

void exchange_ahead_stored(struct exchange *x)
{
    x->brought = true;
    if (x->looked && !x->ahead && is_repeatable(x) && !head_has(&x->req, FIELD_RANGE))
        ahead_keep(ahead_of(x->w), &x->look.key, &x->req, exchange_dropped_fields(x), true);
}

/* Tells, and fetches what is guessed. */
static void tell_all(struct ahead_desk *desk)
{
    struct worker *w = desk->w;
    struct recipe orders[ORDERS];
    tick_t now = worker_now(w);
    unsigned n = ahead_learn(ahead_of(w), desk->events, w->told, now, orders, ORDERS, &desk->cool);
    if (n == AHEAD_BUSY) {
        worker_set_timer(w, &desk->again, now + AGAIN);
        return;
    }
    w->told = 0;
    desk->hurry = false;
    for (unsigned i = 0; i < n; i++) {
        (void)start(w, &orders[i], STORE_GUESSED, 0);
        explicit_bzero(orders[i].bytes, sizeof orders[i].bytes);
    }
}

void exchange_ahead_turn(struct worker *w)
{
    struct ahead_desk *desk = w->desk;
    if (w->told > 0 && (!desk->cool || desk->hurry || w->told >= UNHURRIED))
        tell_all(desk);
}
