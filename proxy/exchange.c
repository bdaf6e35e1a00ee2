/*
 * The life of an exchange: birth, phases, timer, end. Invariants:
 * - exchange_set_phase() is the only writer of `phase`, and takes only the steps of its table;
 * - down->exchange == x exactly while x->down is set, likewise for the upstream;
 * - the request head points into the client's read buffer until exchange_keep_head(), which is called
 *   before anything that returns without an answer;
 * - exchange_over() is the only end; it counts, logs and lets go of everything exactly once;
 * - an exchange with a letter under way is kept, in PHASE_OVER, until the letter came in.
 */
#include "proxy/exchange.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/address.h"
#include "proxy/ahead.h"
#include "proxy/client.h"
#include "proxy/debug.h"
#include "proxy/exchange_internal.h"
#include "proxy/log.h"
#include "proxy/service.h"
#include "proxy/signer.h"

/* How long a client that has closed its sending side is believed to be still reading while no answer
 * has begun: a close and a half-close look the same until something is sent (RFC 9112 9.6). */
static const tick_t HALF_CLOSE_GRACE = TICK_S;

/* bit p: may be entered from phase p */
#define FROM(p) (1u << PHASE_##p)
static const uint16_t allowed_from[PHASE_COUNT] = {
    [PHASE_BEGIN] = 0,
    [PHASE_SECOND] = FROM(BEGIN) | FROM(JOINED),
    [PHASE_GATHER] = FROM(BEGIN) | FROM(JOINED) | FROM(SECOND),
    [PHASE_HOLDING] =
        FROM(BEGIN) | FROM(JOINED) | FROM(SECOND) | FROM(GATHER) | FROM(HOLDING) | FROM(BACKOFF),
    [PHASE_JOINED] = FROM(BEGIN) | FROM(JOINED) | FROM(SECOND),
    [PHASE_SERVING] = FROM(JOINED),
    [PHASE_ADMIT] = FROM(BEGIN) | FROM(SECOND) | FROM(GATHER) | FROM(HOLDING) | FROM(JOINED) | FROM(BACKOFF) |
                    FROM(SENT) | FROM(QUEUED) | FROM(ADMIT),
    [PHASE_QUEUED] = FROM(BEGIN) | FROM(SECOND) | FROM(GATHER) | FROM(HOLDING) | FROM(JOINED) |
                     FROM(BACKOFF) | FROM(SENT) | FROM(QUEUED) | FROM(ADMIT),
    [PHASE_SENT] = FROM(QUEUED),
    [PHASE_RELAY] = FROM(SENT) | FROM(GATHER),
    [PHASE_BACKOFF] = FROM(QUEUED) | FROM(SENT) | FROM(RELAY),
    [PHASE_TUNNEL] = FROM(SENT),
    [PHASE_OVER] = 0xffff & ~FROM(OVER),
};

static const char *const phase_names[PHASE_COUNT] = {"begin",   "second", "gather", "holding", "joined",
                                                     "serving", "admit",  "queued", "sent",    "relay",
                                                     "backoff", "tunnel", "over"};

/* A line of the trace that an operator has switched on, if it is about this request. */
static __attribute__((noinline)) void trace_phase_slow(const struct exchange *x, enum phase phase)
{
    char client[ADDRESS_TEXT_MAX] = "";
    if (x->down)
        x->down->ops->peer(x->down, client, sizeof client);
    struct debug_step step = {.request_id = x->request_id,
                              .client = client,
                              .from = phase_names[x->phase],
                              .to = phase_names[phase],
                              .age = x->w->now - x->began};
    debug_phase_slow(x->w->service->debug, &step);
}

void exchange_set_phase(struct exchange *x, enum phase phase)
{
    assert(allowed_from[phase] & (1u << x->phase));
    if (debug_tracing(x->w->service->debug))
        trace_phase_slow(x, phase);
    if (x->span)
        tracing_phase_slow(x, phase);
    if (phase != PHASE_OVER) {
        tick_t now = worker_now(x->w);
        x->spent[x->phase] += now - x->phase_began;
        x->phase_began = now;
        x->o.detailed = true;
    }
    x->phase = (uint8_t)phase;
}

static void timer_fired(struct timer *timer);
static void news_delivered(struct letter *letter, void *owner);
static void drained_delivered(struct letter *letter, void *owner);
static void admitted_delivered(struct letter *letter, void *owner);

static struct exchange *new_memory(void)
{
    struct exchange *x = malloc(sizeof(*x));
    if (x)
        x->timer = (struct timer){.node.due = TICK_NEVER, .fire = timer_fired};
    return x;
}

struct exchange *exchange_new(struct worker *w)
{
    struct exchange *x = w->free_exchanges;
    if (x)
        w->free_exchanges = x->free_next;
    else
        x = new_memory();
    if (!x)
        return NULL;
    memset(x, 0, unseen(offsetof(struct exchange, timer)));
    x->w = w;
    x->settings = settings_ref(w->settings);
    x->began = x->phase_began = worker_now(w);
    x->deadline = x->grace = TICK_NEVER;
    x->wait.exchange = x;
    x->news.letter.deliver = news_delivered;
    x->drained.letter.deliver = drained_delivered;
    x->admitted_news.letter.deliver = admitted_delivered;
    x->news.x = x->drained.x = x->admitted_news.x = x;
    x->replayable = true;
    w->exchanges++;
    metric_add(w->metrics, METRIC_ACTIVE_REQUESTS, 1);
    return x;
}

static void exchange_free(struct exchange *x)
{
    struct worker *w = x->w;
    w->exchanges--;
    x->free_next = w->free_exchanges;
    w->free_exchanges = x;
}

void exchange_dispose_free(struct worker *w)
{
    while (w->free_exchanges) {
        struct exchange *x = w->free_exchanges;
        w->free_exchanges = x->free_next;
        worker_cancel_timer(w, &x->timer);
        free(x);
    }
}

bool exchange_keep_head(struct exchange *x)
{
    size_t fields = sizeof(struct field) * x->req.field_count;
    size_t need = fields + x->req.len;
    if (x->kept)
        return true;
    x->copy = x->room;
    if (need > ROOM) {
        x->copy = malloc(need);
        if (!x->copy)
            return false;
    }
    ptrdiff_t moved = x->copy + fields - x->req.base;
    memcpy(x->copy, x->req.fields, fields);
    memcpy(x->copy + fields, x->req.base, x->req.len);
    for (int i = 0; i < ROUTE_MAX_CAPTURES; i++)
        if (x->route.capture[i].p)
            x->route.capture[i].p += moved;
    if (x->request_id.p && x->request_id.p != x->id)
        x->request_id.p += moved;
    x->req.fields = (struct field *)(void *)x->copy;
    x->req.base = x->copy + fields;
    x->kept = true;
    return true;
}

void exchange_arm(struct exchange *x, tick_t due)
{
    if (due > x->deadline)
        due = x->deadline;
    if (!x->replied && due > x->grace)
        due = x->grace;
    worker_set_timer(x->w, &x->timer, due);
}

void exchange_store_request(struct exchange *x, struct store_request *out, struct slice *tags, char *tag_room,
                            size_t tag_size)
{
    size_t used = 0;
    *out = (struct store_request){
        .head = &x->req,
        .origin = {x->settings->p->origin, x->settings->p->origin_len},
        .rules = &x->settings->p->cache,
        .route = {x->route.route->has_ttl, x->route.route->ttl, false, 0},
        .tags = tags,
        .tag_count = 0, /* every member is named: so nothing is cleared first */
        .credential = exchange_held_credential(x),
        .now = worker_now(x->w),
        .wall = worker_wall(x->w),
        .ahead = (enum store_ahead)x->ahead,
        .renew = x->renew,
    };
    if (!tag_room)
        return;
    for (int i = 0; i < x->route.route->tags && out->tag_count < STORE_MAX_TAGS; i++) {
        size_t n = route_tag(&x->route, i, tag_room + used, tag_size - used);
        if (n > tag_size - used)
            break;
        tags[out->tag_count++] = (struct slice){tag_room + used, n};
        used += n;
    }
}

/* ---- the beginning ------------------------------------------------------------------------------ */

static void identify(struct exchange *x)
{
    struct slice id = head_first(&x->req, FIELD_X_REQUEST_ID);
    if (id.p && id.n <= ID_MAX && request_id_ok(id)) {
        x->request_id = id;
    } else {
        request_id_make(x->id, &x->w->rng);
        x->request_id = (struct slice){x->id, REQUEST_ID_LEN};
    }
    x->trace_valid = trace_from_head(&x->req, &x->trace); /* else exchange_forward() starts one */
    if (tracing_on(x->w->service->tracing) && !x->health)
        tracing_begin_slow(x);
}

static bool method_idempotent(uint8_t method)
{
    return method == METHOD_GET || method == METHOD_HEAD || method == METHOD_OPTIONS ||
           method == METHOD_PUT || method == METHOD_DELETE;
}

/* Requests that never go on: the reason, or NONE. */
static enum reason refused(const struct exchange *x)
{
    if (x->req.method == METHOD_TRACE || x->req.method == METHOD_CONNECT)
        return REASON_METHOD_REFUSED;
    if (head_has(&x->req, FIELD_VIA) && via_is_loop(&x->req, x->w->service->instance))
        return REASON_LOOP_DETECTED;
    return REASON_NONE;
}

/* RFC 9110 7.6.2: an OPTIONS that may go no further is answered here. The number is 1*DIGIT, so 00 is one
 * too. */
static bool ends_here(const struct exchange *x)
{
    if (x->req.method != METHOD_OPTIONS)
        return false;
    struct slice hops = head_first(&x->req, FIELD_MAX_FORWARDS);
    size_t zeros = 0;
    while (zeros < hops.n && hops.p[zeros] == '0')
        zeros++;
    return hops.n > 0 && zeros == hops.n;
}

static void answer_options(struct exchange *x)
{
    const struct slice allow =
        SLICE("Proxy-Status: promptops-sidecar\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n");
    struct slice runs[2] = {allow, {x->w->lines, 0}};
    runs[1].n = exchange_own_lines(x, NULL, x->w->lines, x->w->head_size);
    struct reply reply = {.status = 200, .runs = runs, .run_count = 2, .framing = BODY_LENGTH};
    x->o.status = 200;
    x->replied = true;
    x->o.flags |= OBSERVED_OWN;
    x->down->ops->reply(x->down, &reply);
    exchange_over(x, true);
}

static bool cacheable_request(const struct exchange *x)
{
    return x_config(x)->cache_enabled && !x->route.route->no_store && x->req.body == BODY_NONE &&
           !x->req.upgrade && (x->req.method == METHOD_GET || x->req.method == METHOD_HEAD);
}

/* The tags go along, because a lookup that misses begins the fill that will carry them. */
void exchange_look(struct exchange *x)
{
    struct slice tags[STORE_MAX_TAGS];
    char room[TAG_ROOM];
    struct store_request ask;
    exchange_store_request(x, &ask, tags, room, sizeof(room));
    x->looked = true;
    enum store_verdict verdict = store_lookup(x->w->service->store, &ask, &x->look);
    if (x->span)
        tracing_lookup_slow(x);
    if (x->down && (ahead_on(x->w->service->ahead) || x->look.ahead))
        exchange_ahead_note(x, verdict);
    if (!exchange_second(x, verdict))
        exchange_act(x, verdict);
}

static void look_up(struct exchange *x)
{
    if (!cacheable_request(x) || !exchange_credential_checked(x)) {
        x->look.fwd =
            x->req.method == METHOD_GET || x->req.method == METHOD_HEAD ? CACHE_FWD_BYPASS : CACHE_FWD_METHOD;
        x->o.cache = VERDICT_BYPASS;
        if (!x_config(x)->batching_enabled || !exchange_batch_read(x))
            exchange_forward(x);
        return;
    }
    exchange_look(x);
}

void exchange_begin(struct downstream *d, const struct head *request)
{
    struct worker *w = d->worker;
    struct exchange *x = exchange_new(w);
    if (!x) {
        exchange_refuse(d, REASON_OUT_OF_MEMORY);
        return;
    }
    w->served = true;
    x->down = d;
    d->exchange = x;
    x->req = *request;
    x->body_whole = request->body == BODY_NONE;
    routes_find(x->settings->p->routes, (enum method)request->method, head_path(request), &x->route);
    x->o.operation = x->settings->p->operations[x->route.route->operation];
    x->o.route = x->settings->p->templates[x->route.route->number];
    x->o.method = request->method;
    x->idempotent = method_idempotent(request->method) || x->route.route->safe;
    if (x->route.route->timeout > 0)
        x->deadline = x->began + x->route.route->timeout;
    identify(x);
    exchange_settle_credential(x);
    enum reason no = refused(x);
    if (no != REASON_NONE)
        exchange_answer(x, no, 0);
    else if (ends_here(x))
        answer_options(x);
    else
        look_up(x);
}

void exchange_refuse(struct downstream *d, enum reason why)
{
    static const struct route none = {0};
    struct exchange *x = exchange_new(d->worker);
    if (!x) {
        d->ops->abort(d, why);
        d->ops->finished(d, false);
        return;
    }
    x->down = d;
    d->exchange = x;
    x->kept = true; /* there is no head */
    x->route.route = &none;
    x->o.operation = OPERATION_OTHER;
    request_id_make(x->id, &x->w->rng);
    x->request_id = (struct slice){x->id, REQUEST_ID_LEN};
    exchange_answer(x, why, 0);
}

void exchange_check_health(struct worker *w)
{
    static const struct route none = {0};
    struct exchange *x = exchange_new(w);
    const char *path = settings_config(w->settings)->pool_health_check_path;
    size_t n = strlen(path);
    if (!x || n + 3 > ROOM) {
        if (x)
            exchange_over(x, false);
        return;
    }
    memcpy(x->room, "GET", 3);
    memcpy(x->room + 3, path, n);
    x->req = (struct head){
        .base = x->room,
        .len = (uint32_t)n + 3,
        .method = METHOD_GET,
        .method_len = 3,
        .path_at = 3,
        .path_len = (uint32_t)n,
        .minor = 1,
    };
    x->kept = x->refresh = x->health = x->idempotent = x->body_whole = true;
    x->route.route = &none;
    x->o.method = METHOD_GET;
    x->deadline = x->began + settings_config(w->settings)->pool_health_check_timeout;
    identify(x);
    exchange_settle_credential(x);
    metric_add(w->metrics, METRIC_HEALTH_CHECKS, 1);
    exchange_forward(x);
}

/* ---- the end ------------------------------------------------------------------------------------ */

static void let_go(struct exchange *x)
{
    if (x->copy && x->copy != x->room)
        free(x->copy);
    if (x->body.p)
        free(x->body.p);
    if (x->trailers)
        free(x->trailers);
    if (x->digest)
        body_digest_free(x->digest);
    entry_release(x->entry);
    x->entry = NULL;
    settings_unref(x->settings);
    x->settings = NULL;
}

static bool letters_under_way(const struct exchange *x)
{
    return atomic_load(&x->news.posted) || atomic_load(&x->drained.posted) ||
           atomic_load(&x->admitted_news.posted);
}

void exchange_over(struct exchange *x, bool whole)
{
    struct worker *w = x->w;
    struct downstream *d = x->down;
    worker_rest_timer(&x->timer);
    if (x->wait.waiting)
        pool_cancel(w->pool, &x->wait);
    exchange_hedge_cancel(x);
    if (x->second)
        exchange_second_leave(x);
    if (d)
        d->ops->flush(d);
    exchange_judge_refusal(x);
    exchange_abandon_fill(x, x->why == REASON_NONE ? REASON_FILL_FAILED : x->why, true);
    exchange_doubt_drop(x);
    exchange_report(x, OUTCOME_CLIENT_GONE);
    exchange_admit_leave(x);
    exchange_leave_upstream(x, false);
    if (x->waiter.fill)
        fill_leave(&x->waiter);
    if (!x->refresh)
        exchange_account(x, whole);
    exchange_trace_over(x);
    if (x->health && (x->a.status == 0 || x->a.status >= 500))
        metric_add(w->metrics, METRIC_HEALTH_CHECKS_FAILED, 1);
    if (!x->ahead)
        metric_sub(w->metrics, METRIC_ACTIVE_REQUESTS, 1);
    else
        exchange_ahead_over(x);
    exchange_set_phase(x, PHASE_OVER);
    x->down = NULL;
    if (d)
        d->ops->finished(d, whole);
    if (x->seat || x->batch_alone || x->call)
        exchange_batch_over(x, whole);
    let_go(x);
    if (!letters_under_way(x))
        exchange_free(x);
}

/* ---- letters and timer --------------------------------------------------------------------------- */

static bool letter_came(struct exchange_letter *l, struct exchange **x)
{
    *x = l->x;
    atomic_store(&l->posted, false);
    if ((*x)->phase != PHASE_OVER)
        return true;
    if (!letters_under_way(*x))
        exchange_free(*x);
    return false;
}

static void news_delivered(struct letter *letter, void *owner)
{
    struct exchange *x;
    (void)owner;
    if (letter_came((struct exchange_letter *)letter, &x))
        exchange_poll_fill(x);
}

static void drained_delivered(struct letter *letter, void *owner)
{
    struct exchange *x;
    (void)owner;
    if (!letter_came((struct exchange_letter *)letter, &x))
        return;
    if (x->phase == PHASE_RELAY)
        exchange_held_drained(x);
}

static void admitted_delivered(struct letter *letter, void *owner)
{
    struct exchange *x;
    (void)owner;
    if (letter_came((struct exchange_letter *)letter, &x))
        exchange_admit_turn(x);
}

static void timer_fired(struct timer *timer)
{
    struct exchange *x = (struct exchange *)((char *)timer - offsetof(struct exchange, timer));
    tick_t now = worker_now(x->w);
    if (!x->replied && now >= x->grace) {
        exchange_request_failed(x, REASON_CLIENT_GONE);
        return;
    }
    if (!x->replied && now >= x->deadline) {
        exchange_leave_upstream(x, false);
        exchange_attempt_failed(x, REASON_DEADLINE, 0, -1);
        return;
    }
    switch ((enum phase)x->phase) {
    case PHASE_JOINED: /* the other's fetch takes too long: go alone */
        fill_leave(&x->waiter);
        x->went_loose = true;
        exchange_forward(x);
        return;
    case PHASE_SECOND:
        exchange_second_late(x);
        return;
    case PHASE_GATHER:
        exchange_batch_turn(x);
        return;
    case PHASE_ADMIT:
        exchange_admit_turn(x);
        return;
    case PHASE_QUEUED:
        pool_cancel(x->w->pool, &x->wait);
        metric_add(x->w->metrics, METRIC_POOL_TIMEOUTS, 1);
        exchange_attempt_failed(x, REASON_POOL_TIMEOUT, 0, -1);
        return;
    case PHASE_SENT:
        if (x->doubt) {
            exchange_doubt_over(x);
            return;
        }
        if (x->hedge_at && now < x->sent_until) {
            exchange_hedge_due(x);
            return;
        }
        exchange_leave_upstream(x, false);
        exchange_attempt_failed(x, REASON_RESPONSE_TIMEOUT, 0, -1);
        return;
    case PHASE_RELAY:
        if (x->held && x->up) {
            exchange_held_too_long(x);
            return;
        }
        if (x->down &&
            x->down->ops->backlog(x->down) > 0) { /* the client is the slow one; it has its own clock */
            exchange_arm_stream(x);
            return;
        }
        if (x->down && x->down->half_closed) {
            exchange_request_failed(x, REASON_CLIENT_GONE);
            return;
        }
        exchange_break_off(x, REASON_STREAM_IDLE);
        return;
    case PHASE_BACKOFF:
        exchange_attempt(x);
        return;
    case PHASE_TUNNEL:
        x->why = REASON_STREAM_IDLE;
        exchange_over(x, false);
        return;
    default:
        exchange_over(x, false);
    }
}

/* ---- events of the client's side ------------------------------------------------------------------ */

void exchange_arm_stream(struct exchange *x)
{
    tick_t wait = x_config(x)->upstream_stream_idle_timeout;
    /* A client that ended its side and to whom nothing flows may as well be gone. */
    if (x->down && x->down->half_closed && x->phase != PHASE_TUNNEL && wait > HALF_CLOSE_GRACE)
        wait = HALF_CLOSE_GRACE;
    if (x->held && wait > EXCHANGE_HELD_MAX)
        wait = EXCHANGE_HELD_MAX;
    exchange_arm(x, worker_now(x->w) + wait);
}

bool exchange_upstream_half_closed(struct exchange *x)
{
    if (!x->down || x->down->half_closed)
        return false;
    x->up_closed = true;
    x->down->ops->half_close(x->down);
    return true;
}

void exchange_client_half_closed(struct exchange *x)
{
    if (x->phase == PHASE_TUNNEL) {
        if (x->up_closed) {
            exchange_attempt_done(x, REASON_NONE, 101);
            exchange_over(x, true);
        } else {
            x->up->ops->half_close(x->up);
        }
        return;
    }
    if (x->replied) {
        exchange_arm_stream(x);
        return;
    }
    x->grace = worker_now(x->w) + HALF_CLOSE_GRACE;
    exchange_arm(x, x->timer.node.due);
}

void exchange_client_drained(struct exchange *x)
{
    if (x->phase == PHASE_SERVING)
        exchange_poll_fill(x);
    else if (x->phase == PHASE_RELAY)
        exchange_held_drained(x);
    else if (x->up && x->phase == PHASE_TUNNEL)
        x->up->ops->pause(x->up, false);
}

void exchange_detach_client(struct exchange *x, enum reason why)
{
    struct downstream *d = x->down;
    x->why = why;
    exchange_account(x, false);
    x->refresh = true;
    x->down = NULL;
    d->ops->finished(d, false);
}

void exchange_request_failed(struct exchange *x, enum reason why)
{
    bool gone = reason_row(why)->status == 0;
    x->why = why;
    if (gone && x->fill && x->phase == PHASE_RELAY && fill_waiters(x->fill) > 0) {
        exchange_detach_client(x, why); /* others wait for this fetch */
        exchange_held_drained(x);
        return;
    }
    exchange_doubt_drop(x);
    exchange_report(x, outcome_of_reason(why, false));
    exchange_attempt_done(x, why, 0);
    exchange_leave_upstream(x, false);
    if (gone || x->replied) {
        if (x->replied && x->down)
            x->down->ops->abort(x->down, why);
        exchange_over(x, false);
        return;
    }
    exchange_answer(x, why, 0);
}
