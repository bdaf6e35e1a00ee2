/*
 * The way up: admission, a connection, the request, attempts and retries. Invariants:
 * - every permit of the breaker is reported once (exchange_report), every attempt counted once
 *   (exchange_attempt_done);
 * - a request that may not be repeated is sent again only when no byte of it left (RFC 9110 9.2.2);
 * - `body` holds bytes that were not sent yet, or that are kept for another attempt; once a byte was
 *   sent and not kept, `replayable` is false for good.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/http_date.h"
#include "policy/retry_mark.h"
#include "proxy/compose.h"
#include "proxy/exchange_internal.h"
#include "proxy/guard.h"
#include "proxy/service.h"
#include "proxy/signer.h"
#include "proxy/upstream.h"

enum { HIGH_MARK = 256 * 1024, LEAST_BUFFER = 64 * 1024 };

/* ---- the request body ----------------------------------------------------------------------------- */

void exchange_drop_body(struct exchange *x)
{
    free(x->body.p);
    memset(&x->body, 0, sizeof(x->body));
}

/* Most that is kept for another attempt. */
static size_t keep_limit(const struct exchange *x)
{
    return (size_t)x_config(x)->retry_max_buffered_body;
}

/* Most that is read before there is a connection to send it on. */
static size_t buffer_limit(const struct exchange *x)
{
    return keep_limit(x) < LEAST_BUFFER ? LEAST_BUFFER : keep_limit(x);
}

bool exchange_buffer_body(struct exchange *x, struct slice data)
{
    if (x->body.cap - x->body.len < data.n) {
        size_t cap = x->body.cap ? x->body.cap * 2 : 4096;
        while (cap - x->body.len < data.n)
            cap *= 2;
        char *grown = realloc(x->body.p, cap);
        if (!grown)
            return false;
        x->body.p = grown;
        x->body.cap = cap;
    }
    memcpy(x->body.p + x->body.len, data.p, data.n);
    x->body.len += data.n;
    return true;
}

/* Bytes that were sent are kept only for a request that may be sent again: by another attempt, or because the
 * pooled connection under it turns out to be dead, which costs none. */
static bool keeps_body(const struct exchange *x)
{
    bool again = x_config(x)->retry_max_attempts > 1 || (x->up && x->up->pooled);
    return again && x->replayable && (x->idempotent || head_has(&x->req, FIELD_IDEMPOTENCY_KEY));
}

static bool can_send(const struct exchange *x)
{
    return x->up && (x->phase == PHASE_SENT || x->phase == PHASE_RELAY);
}

/* Bytes go past `body` straight to the upstream. */
static void send_through(struct exchange *x, struct slice data, void *owner, const struct out_owner_ops *ops)
{
    if (!keeps_body(x)) {
        x->replayable = false;
    } else if (x->body.len + data.n > keep_limit(x) || !exchange_buffer_body(x, data)) {
        x->replayable = false;
        exchange_drop_body(x);
    }
    x->up->ops->body(x->up, data, owner, ops);
}

void exchange_request_data(struct exchange *x, struct slice data, void *owner,
                           const struct out_owner_ops *ops)
{
    if (x->phase == PHASE_TUNNEL) {
        x->up->ops->body(x->up, data, owner, ops);
        return;
    }
    if (can_send(x)) {
        send_through(x, data, owner, ops);
        return;
    }
    if (x->phase == PHASE_HOLDING) {
        exchange_hold_data(x, data);
        return;
    }
    if (!x->replayable)
        return; /* the attempt has failed, and an answer is on its way */
    if (!exchange_buffer_body(x, data)) {
        exchange_request_failed(x, REASON_OUT_OF_MEMORY);
        return;
    }
    if (x->body.len > buffer_limit(x) && x->down) {
        x->body_held = true;
        x->down->ops->want_body(x->down, false);
    }
}

void exchange_request_end(struct exchange *x, struct slice trailers)
{
    if (x->phase == PHASE_TUNNEL)
        return;
    if (trailers.n && !x->trailers) {
        x->trailers = malloc(trailers.n);
        if (x->trailers) {
            memcpy(x->trailers, trailers.p, trailers.n);
            x->trailers_len = trailers.n;
        }
    }
    x->body_whole = true;
    if (x->phase == PHASE_HOLDING)
        exchange_hold_end(x);
    else if (can_send(x) && !x->end_sent) {
        x->end_sent = true;
        x->whole_at = worker_now(x->w);
        x->up->ops->end(x->up, (struct slice){x->trailers, x->trailers_len});
    }
}

/* The clock of an attempt begins anew, but for an answer that is held: that has its own. */
static void begin_clock(struct exchange *x)
{
    const struct config *cfg = x_config(x);
    tick_t wait = cfg->upstream_response_timeout, each = cfg->retry_per_try_timeout;
    if (x->doubt)
        return;
    x->sent_until = worker_now(x->w) + (each > 0 && each < wait ? each : wait);
    exchange_arm_sent(x);
}

void exchange_arm_sent(struct exchange *x)
{
    exchange_arm(x, x->hedge_at && x->hedge_at < x->sent_until ? x->hedge_at : x->sent_until);
}

void exchange_request_flush(struct exchange *x)
{
    if (!x->up)
        return;
    x->up->ops->flush(x->up);
    if (x->up->ops->backlog(x->up) > HIGH_MARK && x->down) {
        x->body_held = true;
        x->down->ops->want_body(x->down, false);
    }
    if (x->phase == PHASE_SENT)
        begin_clock(x);
    else if (x->phase == PHASE_TUNNEL)
        exchange_arm_stream(x);
}

void exchange_upstream_drained(struct exchange *x)
{
    if (x->phase == PHASE_SENT)
        begin_clock(x);
    if (x->body_held && x->down) {
        x->body_held = false;
        x->down->ops->want_body(x->down, true);
    }
}

/* ---- the request head ------------------------------------------------------------------------------ */

static void validators(struct exchange *x, struct compose *c)
{
    struct slice etag = entry_etag(x->entry);
    struct slice modified = entry_last_modified(x->entry);
    if (etag.n)
        compose_line(c, SLICE("If-None-Match"), etag);
    if (modified.n)
        compose_line(c, SLICE("If-Modified-Since"), modified);
}

/* Asks for what follows the stored beginning, or for all should the answer have changed (RFC 9110 13.1.5). */
static void rest_of_it(struct exchange *x, struct compose *c)
{
    COMPOSE(c, "Range: bytes=");
    compose_number(c, entry_length(x->entry));
    COMPOSE(c, "-\r\n");
    compose_line(c, SLICE("If-Range"), entry_etag(x->entry));
}

static void hops_left(struct exchange *x, struct compose *c)
{
    struct slice v = head_first(&x->req, FIELD_MAX_FORWARDS);
    uint64_t n = 0;
    if (!v.p || x->req.method != METHOD_OPTIONS)
        return;
    for (size_t i = 0; i < v.n && v.p[i] >= '0' && v.p[i] <= '9' && n < 1000000; i++)
        n = n * 10 + (uint64_t)(v.p[i] - '0');
    COMPOSE(c, "Max-Forwards: ");
    compose_number(c, n ? n - 1 : 0);
    COMPOSE(c, "\r\n");
}

static size_t request_lines(struct exchange *x)
{
    struct compose c = compose_into(x->w->lines, x->w->head_size);
    uint64_t drop = FIELD_BIT(HOST) | FIELD_BIT(EXPECT) | FIELD_BIT(TRACEPARENT) | FIELD_BIT(X_REQUEST_ID);
    char line[VIA_MAX];
    char parent[TRACEPARENT_LEN];
    bool validating = x->fill && x->entry && !x->unconditional;
    if (!x->trace_valid)
        drop |= FIELD_BIT(TRACESTATE);
    if (x->req.method == METHOD_OPTIONS)
        drop |= FIELD_BIT(MAX_FORWARDS);
    if (x->o.retries > 0)
        drop |= FIELD_BIT(X_RETRY_COUNT);
    drop |= exchange_dropped_fields(x);
    if (x->fill && x->entry)
        drop |=
            FIELD_BIT(IF_NONE_MATCH) | FIELD_BIT(IF_MODIFIED_SINCE) | FIELD_BIT(IF_RANGE) | FIELD_BIT(RANGE);
    compose_fields(&c, &x->req, drop);
    if (validating && x->completing)
        rest_of_it(x, &c);
    else if (validating)
        validators(x, &c);
    hops_left(x, &c);
    compose_line(&c, SLICE("Via"),
                 (struct slice){line, via_format(line, x->req.minor, x->w->service->instance)});
    compose_line(&c, SLICE("X-Request-Id"), x->request_id);
    if (x->o.retries > 0) {
        COMPOSE(&c, RETRY_COUNT_FIELD ": ");
        compose_number(&c, x->o.retries);
        COMPOSE(&c, "\r\n");
    }
    traceparent_format(&x->trace, parent);
    compose_line(&c, SLICE("traceparent"), (struct slice){parent, TRACEPARENT_LEN});
    if (x->req.upgrade)
        COMPOSE(&c, "Upgrade: websocket\r\n");
    else if (x->req.te_trailers)
        COMPOSE(&c, "TE: trailers\r\nConnection: TE\r\n");
    return c.full ? 0 : compose_size(&c);
}

/* Gives the head to the codec; REASON_NONE, or why that cannot be. */
static enum reason send_head(struct exchange *x, struct upstream *up)
{
    const struct config *cfg = x_config(x);
    struct slice base = {cfg->upstream_url.path, strlen(cfg->upstream_url.path)};
    struct slice authority = {cfg->upstream_url.authority, strlen(cfg->upstream_url.authority)};
    char signature[SIGNED_LINES_MAX];
    struct slice runs[3] = {{x->w->lines, request_lines(x)}};
    struct slice path = head_path(&x->req);
    if (path.n == 1 && path.p[0] == '*') /* of the server, not of a path on it */
        base.n = 0;
    struct call call = {
        .method = head_method(&x->req),
        .method_id = (enum method)x->req.method,
        .base_path = base,
        .path = path,
        .authority = authority,
        .runs = runs,
        .run_count = ARRAY_LEN(runs),
        .framing = (enum body_kind)x->req.body,
        .length = x->req.content_length,
        .expect_continue = x->req.expect_continue && !x->body_whole,
        .upgrade = x->req.upgrade,
        .secret = x->held_key,
    };
    if (!exchange_sign(x, &call, signature, runs + 1))
        return REASON_OUT_OF_MEMORY;
    size_t size = runs[0].n + runs[1].n + runs[2].n + path.n + base.n + authority.n + x->req.method_len;
    if (runs[0].n == 0 || size + 512 > x->w->head_size)
        return REASON_HEAD_TOO_LARGE;
    up->ops->request(up, &call);
    return REASON_NONE;
}

/* ---- attempts ---------------------------------------------------------------------------------------- */

enum outcome exchange_outcome(const struct exchange *x, enum reason why)
{
    return outcome_of_reason(why, x->a.reused && x->replaced == 0);
}

void exchange_report_slow(struct exchange *x, enum outcome outcome)
{
    tick_t now = worker_now(x->w);
    x->admitted = false;
    guard_end(x->w->service->guard, x->permit, outcome, now - x->attempt_began, now);
}

void exchange_note_upstream(struct exchange *x, const struct upstream *u)
{
    x->a.bytes_sent = u->bytes_out;
    x->a.bytes_received = u->bytes_in;
    x->a.reused = u->reused;
}

void exchange_attempt_done(struct exchange *x, enum reason why, int status)
{
    tick_t now = worker_now(x->w);
    if (!x->attempt_began)
        return;
    x->a.operation = x->o.operation;
    x->a.method = x->o.method;
    x->a.status = (uint16_t)status;
    x->a.reason = (uint16_t)why;
    x->a.kind = x->original                 ? ATTEMPT_HEDGE
                : x->batch                  ? ATTEMPT_BATCH
                : x->ahead == STORE_GUESSED ? ATTEMPT_PREFETCH
                : x->refresh                ? ATTEMPT_REFRESH
                                            : ATTEMPT_REQUEST;
    x->a.batch = x->batch;
    x->a.total = now - x->attempt_began;
    if (x->up)
        exchange_note_upstream(x, x->up);
    if (why != REASON_NONE)
        x->a.outcome = (uint8_t)exchange_outcome(x, why);
    const struct outcome_row *row = outcome_row((enum outcome)x->a.outcome);
    x->a.throttled = row->breaker == BREAKER_THROTTLED;
    x->a.failed = row->breaker == BREAKER_FAILURE || x->a.throttled;
    x->o.dns += x->a.dns;
    x->o.tcp += x->a.tcp;
    x->o.tls += x->a.tls;
    x->o.first_byte = x->a.first_byte;
    x->o.upstream += x->sent_at ? now - x->sent_at : 0;
    if (x->sent_at)
        x->o.send += (x->whole_at ? x->whole_at : now) - x->sent_at;
    exchange_note_attempt(x);
    metrics_upstream(x->w->metrics, &x->a);
    if (x->a.span)
        tracing_attempt_ended(x);
    x->attempt_began = 0;
}

void exchange_leave_upstream_slow(struct exchange *x, bool drain)
{
    struct upstream *u = x->up;
    x->up = NULL;
    exchange_note_upstream(x, u);
    u->ops->leave(u, drain);
}

void exchange_forward(struct exchange *x)
{
    if (!exchange_keep_head(x)) {
        exchange_answer(x, REASON_OUT_OF_MEMORY, 0);
        return;
    }
    if (x->o.cache == VERDICT_NONE)
        x->o.cache = VERDICT_MISS;
    if (!x->trace_valid && !x->trace_begun)
        trace_start(&x->trace, false, &x->w->rng);
    if (!exchange_hold(x))
        exchange_attempt(x);
}

/* False: the breaker is open, and the exchange has heard. */
static bool pass_breaker(struct exchange *x, bool first)
{
    struct guard *guard = x->w->service->guard;
    tick_t now = worker_now(x->w);
    x->permit = guard_begin(guard, x->o.operation, first && !x->refresh, now);
    x->permit.again = !first;
    x->admitted = !x->permit.shed;
    x->o.circuit = x->permit.shed ? CIRCUIT_OPEN
                   : x->permit.way.verdict == BREAKER_PROBE || x->permit.operation.verdict == BREAKER_PROBE
                       ? CIRCUIT_PROBE
                       : CIRCUIT_CLOSED;
    if (!x->admitted) {
        metric_add(x->w->metrics, METRIC_CIRCUIT_REFUSED, 1);
        exchange_attempt_failed(x, REASON_BREAKER_OPEN, 0, guard_retry_after(guard, x->o.operation, now));
    }
    return x->admitted;
}

/* A health check asks no breaker: it is how one that is open hears that the upstream is back. */
void exchange_attempt(struct exchange *x)
{
    struct worker *w = x->w;
    tick_t now = worker_now(w);
    bool first = x->attempts == 0 && x->replaced == 0;
    if (!exchange_admit(x) || (x->call && !exchange_batch_close(x)))
        return;
    exchange_set_phase(x, PHASE_QUEUED);
    x->sent_at = x->whole_at = x->hedge_at = 0;
    x->hedgeable = false;
    x->should_retry = RETRY_HINT_NONE;
    if (!x->health && !pass_breaker(x, first))
        return;
    x->attempts++;
    memset(&x->a, 0, sizeof(x->a));
    x->attempt_began = x->wait_began = now;
    x->sent_at = 0;
    tracing_attempt_begun(x);
    tick_t wait = now + x_config(x)->pool_acquire_timeout;
    exchange_arm(x, !first && wait > x->signature_until ? x->signature_until : wait);
    struct upstream *u = pool_acquire(w->pool, &x->wait);
    if (u)
        exchange_connected(x, u);
}

/* How long it waited for the upstream's name before a connection could be made at all. */
static tick_t name_wait(const struct exchange *x, tick_t now)
{
    tick_t known = x->w->name_known ? x->w->name_known : now;
    return known > x->wait_began ? known - x->wait_began : 0;
}

void exchange_connected(struct exchange *x, struct upstream *u)
{
    tick_t now = worker_now(x->w);
    x->up = u;
    x->a.pool_wait = now - x->wait_began;
    x->a.dns = name_wait(x, now);
    upstream_dial_times(u, &x->a.tcp, &x->a.tls);
    exchange_set_phase(x, PHASE_SENT);
    x->sent_at = now;
    tracing_propagate(x);
    enum reason no = send_head(x->original ? x->original : x, u); /* the same request, signed anew */
    if (no != REASON_NONE) {
        exchange_leave_upstream(x, false);
        exchange_attempt_failed(x, no, 0, -1);
        return;
    }
    x->end_sent = false;
    if (x->body.len)
        u->ops->body(u, (struct slice){x->body.p, x->body.len}, NULL, NULL);
    if (x->body_whole) {
        x->end_sent = true;
        x->whole_at = now;
        u->ops->end(u, (struct slice){x->trailers, x->trailers_len});
    }
    u->ops->flush(u);
    if (x->body.len && (!keeps_body(x) || x->body.len > keep_limit(x))) {
        x->replayable = false;
        exchange_drop_body(x);
    }
    exchange_hedge_plan(x);
    begin_clock(x);
    if (x->body_held && x->down && u->ops->backlog(u) <= HIGH_MARK) {
        x->body_held = false;
        x->down->ops->want_body(x->down, true);
    }
}

void exchange_connect_failed(struct exchange *x, enum reason why)
{
    exchange_attempt_failed(x, why, 0, -1);
}

/* ---- what after a failure ------------------------------------------------------------------------------ */

static struct retry_case describe(const struct exchange *x, enum reason why, int status, tick_t retry_after)
{
    return (struct retry_case){
        .reason = why,
        .status = status,
        .attempts = x->attempts,
        .replaced = x->replaced,
        .idempotent = x->idempotent && exchange_may_resend(x),
        .idempotency_key = head_has(&x->req, FIELD_IDEMPOTENCY_KEY) && exchange_may_resend(x),
        .sent = x->sent_at != 0 && (why != REASON_NONE ? x->a.bytes_sent > 0 : true),
        .pooled = x->a.reused,
        .replayable = x->replayable && !x->body_held,
        .answer_begun = x->replied,
        .marked = retry_marked(&x->req),
        .hint = x->should_retry,
        .began = x->began,
        .deadline = x->signature_until < x->deadline ? x->signature_until : x->deadline,
        .retry_after = retry_after,
        .last_delay = x->last_delay,
    };
}

bool exchange_retry(struct exchange *x, enum reason why, int status, tick_t retry_after)
{
    tick_t now = worker_now(x->w);
    struct retry_rules rules = x->settings->p->retry;
    bool waited_for = x->down    ? !x->down->half_closed
                      : x->ahead ? x->fill && fill_waiters(x->fill) > 0
                                 : x->refresh;
    if (!waited_for || x->health || x->w->stopping)
        return false;
    if (x->route.route->max_attempts > 0)
        rules.max_attempts = x->route.route->max_attempts;
    struct retry_case c = describe(x, why, status, retry_after);
    struct retry_verdict v = guard_retry(x->w->service->guard, x->o.operation, &rules, &c, &x->w->rng, now);
    if (v.why != RETRY_YES)
        return false;
    exchange_attempt_done(x, why, status);
    exchange_leave_upstream(x, true);
    if (v.free) {
        x->replaced++;
        x->attempts--;
        metric_add(x->w->metrics, METRIC_STALE_CONNECTIONS, 1);
    } else {
        if (x->o.retries < 255)
            x->o.retries++;
        metrics_retry(x->w->metrics, x->o.operation, (unsigned)why, (unsigned)status);
        x->retried = true;
        x->retried_for = why;
        x->retried_status = (uint16_t)status;
    }
    x->last_delay = v.delay;
    exchange_set_phase(x, PHASE_BACKOFF);
    if (v.at <= now)
        exchange_attempt(x);
    else
        exchange_arm(x, v.at);
    return true;
}

void exchange_attempt_failed(struct exchange *x, enum reason why, int status, tick_t retry_after)
{
    enum outcome outcome = exchange_outcome(x, why);
    if ((x->original || x->hedge) && exchange_hedge_failed(x, why, status))
        return;
    exchange_doubt_drop(x);
    exchange_admit_failed(x, outcome);
    exchange_report(x, outcome);
    exchange_attempt_done(x, why, status);
    if (why != REASON_BREAKER_OPEN && why != REASON_DEADLINE && exchange_retry(x, why, status, -1))
        return;
    if (why == REASON_STALE_CONNECTION)
        why = REASON_RESET_BEFORE_ANSWER;
    x->why = why;
    if (exchange_serve_stale(x))
        return;
    exchange_abandon_fill(x, why, reason_row(why)->fault != FAULT_UPSTREAM && why != REASON_BREAKER_OPEN);
    exchange_answer(x, why, retry_after > 0 ? retry_after : 0);
}
