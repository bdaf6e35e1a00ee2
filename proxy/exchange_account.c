/*
 * What is told of a request when it is over: to the metrics, to those who look at single requests, and to the
 * access log. Invariant: once a request of a client; the phases of one add up to its time, but for what the
 * head took to be looked at.
 */
#include <string.h>

#include "metrics/exemplar.h"
#include "policy/rate_header.h"
#include "policy/reason.h"
#include "proxy/address.h"
#include "proxy/exchange_internal.h"
#include "proxy/log.h"
#include "proxy/service.h"

static inline void note_text(char *to, size_t room, struct slice from)
{
    if (from.n >= room) /* as an id of our own is: of a length that is known here */
        memcpy(to, from.p, room);
    else if (from.n)
        memcpy(to, from.p, unseen(from.n));
}

tick_t exchange_spent(struct exchange *x, enum phase phase)
{
    return x->spent[phase] + (x->phase == phase ? worker_now(x->w) - x->phase_began : 0);
}

static uint32_t microseconds(tick_t t)
{
    tick_t us = t / TICK_US;
    return us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

void exchange_note_attempt(struct exchange *x)
{
    int i = x->attempts + x->replaced - 1;
    if (i < 0)
        return;
    x->o.tried[i < OBSERVED_ATTEMPTS ? i : OBSERVED_ATTEMPTS - 1] =
        (struct observed_attempt){.at_us = microseconds(x->attempt_began - x->began),
                                  .took_us = microseconds(x->a.total),
                                  .status = x->a.status,
                                  .reason = x->a.reason,
                                  .reused = x->a.reused,
                                  .outcome = x->a.outcome};
}

void exchange_note_quota(struct exchange *x, const struct rate_reading *reading)
{
    for (int i = 0; i < reading->count; i++) {
        const struct rate_window *w = &reading->window[i];
        if (w->remaining < 0 || (x->o.flags & OBSERVED_QUOTA && w->remaining >= x->o.quota_left))
            continue;
        x->o.flags |= OBSERVED_QUOTA;
        x->o.quota_left = w->remaining;
        x->o.quota_limit = w->limit;
    }
}

static void note_phases(struct exchange *x)
{
    struct observation *o = &x->o;
    const tick_t *spent = x->spent;
    tick_t now = worker_now(x->w);
    x->spent[x->phase] += now - x->phase_began; /* the present stay, up to now */
    x->phase_began = now;
    o->held = spent[PHASE_HOLDING];
    o->second = spent[PHASE_SECOND];
    /* a batch is a fetch shared with others */
    o->joined = spent[PHASE_JOINED] + spent[PHASE_SERVING] + spent[PHASE_GATHER];
    o->queue_wait = spent[PHASE_ADMIT];
    o->pool_wait = spent[PHASE_QUEUED];
    o->send = o->send < spent[PHASE_SENT] ? o->send : spent[PHASE_SENT];
    o->wait = spent[PHASE_SENT] - o->send;
    o->body = spent[PHASE_RELAY] + spent[PHASE_TUNNEL];
    o->retry_delay = spent[PHASE_BACKOFF];
}

/* When it ended: as exact as is cheap (worker.h). */
static tick_t end_of(struct exchange *x)
{
    tick_t now = worker_now(x->w);
    return x->began == now && metrics_measuring(x->w->metrics) ? worker_end(x->w) : now;
}

/* The first User-Agent line; it is nobody's business but the log's, so that the field has no number. */
static struct slice user_agent(const struct head *h)
{
    for (int i = 0; h->base && i < (int)h->field_count; i++)
        if (slice_equal_nocase(head_name(h, i), SLICE("User-Agent")))
            return head_value(h, i);
    return (struct slice){"", 0};
}

static void write_log(struct exchange *x, struct slice target)
{
    struct worker *w = x->w;
    char client[ADDRESS_TEXT_MAX] = "", trace[TRACE_ID_LEN];
    if (x->down)
        x->down->ops->peer(x->down, client, sizeof client);
    static const uint8_t none[sizeof x->trace.trace_id];
    bool traced = memcmp(x->trace.trace_id, none, sizeof none) != 0;
    if (traced)
        trace_id_format(&x->trace, trace);
    struct access_record record = {
        .observed = &x->o,
        .client = {client, strlen(client)},
        .trace_id = {trace, traced ? sizeof trace : 0},
        .method = x->req.base ? head_method(&x->req) : (struct slice){"", 0},
        .target = target,
        .host = x->req.base ? (struct slice){x->req.base + x->req.authority_at, x->req.authority_len}
                            : (struct slice){"", 0},
        .user_agent = user_agent(&x->req),
        .request_id = x->request_id,
        .operation = routes_operation_name(x->settings->p->routes, x->route.route->operation),
        .outcome = x->attempts > 0 ? outcome_row((enum outcome)x->a.outcome)->name : NULL,
        .reason = x->why == REASON_NONE ? NULL : reason_row(x->why)->name,
        .minor = x->req.minor,
    };
    worker_log_access(w->log, &record);
}

/* The request belongs to a trace that is recorded: the sidecar's span of it, or else the client's trace. */
static void note_exemplar(struct exchange *x)
{
    struct exemplar e = {.value = x->o.total, .at = x->o.ended_wall, .operation = x->o.operation};
    memcpy(e.trace_id, x->span ? x->span->head.trace_id : x->trace.trace_id, sizeof e.trace_id);
    if (x->span)
        memcpy(e.span_id, x->span->head.id, sizeof e.span_id);
    metrics_exemplar(x->w->metrics, &e);
}

void exchange_account(struct exchange *x, bool whole)
{
    struct worker *w = x->w;
    struct slice target = x->req.base ? head_path(&x->req) : (struct slice){"", 0};
    struct slice path = {target.p, target.n < x->route.path_n ? target.n : x->route.path_n};
    x->o.total = end_of(x) - x->began;
    x->o.ended_wall = worker_wall_ns(w);
    x->o.attempts = (uint8_t)(x->attempts > 255 ? 255 : x->attempts);
    x->o.reason = (uint16_t)x->why;
    if (x->o.detailed)
        note_phases(x);
    if (x->down) {
        x->o.bytes_in = x->down->bytes_in;
        x->o.bytes_out = x->down->bytes_out;
    }
    if (x->stored)
        x->o.flags |= OBSERVED_STORED;
    if (!whole && x->why != REASON_CLIENT_GONE && x->replied)
        x->o.flags |= OBSERVED_BROKEN;
    if (x->why == REASON_CLIENT_GONE || x->why == REASON_CLIENT_STALLED)
        x->o.flags |= OBSERVED_CLIENT_GONE;
    if (x->why == REASON_ONLY_IF_CACHED)
        x->o.flags |= OBSERVED_NO_FAULT;
    note_text(x->o.request_id, RING_ID_BYTES, x->request_id);
    note_text(x->o.path, RING_PATH_BYTES, path);
    metrics_observe(w->metrics, &x->o);
    if (x->span || (x->trace_valid && x->trace.flags & TRACE_SAMPLED))
        note_exemplar(x);
    if (x->span)
        tracing_answered_slow(x);
    if (log_access_on(w->service->log))
        write_log(x, target);
}
