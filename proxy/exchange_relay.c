/*
 * The way down: the upstream's answer to the client and into the cache. Invariants:
 * - framing is never copied: the codec below decides it anew from what is known (RFC 9112 6.3);
 * - an answer that breaks off is broken for the client too, and is never stored as complete;
 * - bytes are stored before they are gathered for the client, and both see all of them.
 */
#include <string.h>

#include "policy/http_date.h"
#include "proxy/compose.h"
#include "proxy/exchange_internal.h"
#include "proxy/service.h"

enum { HIGH_MARK = 256 * 1024 };

/* ---- heads --------------------------------------------------------------------------------------------- */

void exchange_interim(struct exchange *x, const struct head *response)
{
    struct compose c = compose_into(x->w->lines, x->w->head_size);
    if (!x->down || x->replied || (response->status == 100 && !x->req.expect_continue))
        return;
    compose_fields(&c, response, 0);
    if (c.full)
        return;
    struct slice run = {x->w->lines, compose_size(&c)};
    struct reply reply = {.status = response->status, .runs = &run, .run_count = 1};
    x->down->ops->interim(x->down, &reply);
}

bool exchange_upgraded(struct exchange *x, const struct head *response)
{
    struct compose c = compose_into(x->w->lines, x->w->head_size);
    struct slice protocol = head_first(response, FIELD_UPGRADE);
    if (!x->down || !x->req.upgrade || !protocol.n)
        return false;
    compose_fields(&c, response, 0);
    compose_line(&c, SLICE("Upgrade"), protocol);
    COMPOSE(&c, "Connection: upgrade\r\n");
    if (c.full)
        return false;
    struct slice run = {x->w->lines, compose_size(&c)};
    struct reply reply = {.status = 101, .runs = &run, .run_count = 1};
    exchange_admit_answered(x, response);
    exchange_report(x, BREAKER_OK);
    x->o.status = 101;
    x->a.status = 101;
    x->replied = true;
    x->deadline = TICK_NEVER;
    exchange_set_phase(x, PHASE_TUNNEL);
    x->down->ops->tunnel(x->down, &reply);
    exchange_request_flush(x);
    return true;
}

static tick_t retry_after_of(const struct exchange *x, const struct head *response)
{
    struct slice v = head_first(response, FIELD_RETRY_AFTER);
    int64_t when;
    if (!v.p)
        return -1;
    tick_t delta = retry_after_delta(v, 24 * 3600 * TICK_S);
    if (delta >= 0)
        return delta;
    if (!http_date_parse(v, worker_wall(x->w), &when))
        return -1;
    return retry_after_date(when, worker_wall(x->w), 24 * 3600 * TICK_S);
}

static bool is_unsafe(uint8_t method)
{
    return method != METHOD_GET && method != METHOD_HEAD && method != METHOD_OPTIONS && method != METHOD_TRACE;
}

/* What a success of this route makes untrue: the tags of its `invalidates`. */
static void purge_tags(struct exchange *x)
{
    char tag[512];
    for (int i = 0; i < x->route.route->invalidates; i++) {
        bool prefix = false;
        size_t n = route_invalidate(&x->route, i, tag, sizeof(tag), &prefix);
        if (n <= sizeof(tag))
            store_purge(x->w->service->store, STORE_PURGE_TAG, (struct slice){tag, n});
    }
}

/* Anything in the request that says who asks, by cache.partition_by. */
static bool has_credential(const struct exchange *x)
{
    if (x->held_key)
        return true;
    const struct cache_rules *rules = &x->settings->p->cache;
    for (unsigned i = 0; i < rules->partition_count; i++) {
        if (rules->partition_ids[i] != FIELD_OTHER && head_has(&x->req, (enum field_id)rules->partition_ids[i]))
            return true;
        for (int f = 0; rules->partition_ids[i] == FIELD_OTHER && f < x->req.field_count; f++)
            if (slice_equal_nocase(head_name(&x->req, f), rules->partition_names[i]))
                return true;
    }
    return false;
}

/* The cache hears of every answer: what it makes untrue, and who may no longer ask. */
static void tell_cache(struct exchange *x, const struct head *response)
{
    struct store_request ask;
    x->refused = (x->looked || x->held_key) && (response->status == 401 || response->status == 403) && has_credential(x);
    if (!x_config(x)->cache_enabled)
        return;
    exchange_store_request(x, &ask, NULL, NULL, 0);
    if (is_unsafe(x->req.method) && !x->route.route->safe && response->status < 400) {
        store_invalidate(x->w->service->store, &ask, response);
        purge_tags(x);
    }
    if (x->looked && !x->fill)
        store_heard(x->w->service->store, &ask, response);
}

/* The API says 401 or 403 also when the caller is over its rate limit; the body tells which. */
static bool says_rate_limit(struct slice body)
{
    static const char words[] = "rate limit";
    for (size_t i = 0; i + sizeof(words) - 1 <= body.n; i++)
        if (slice_equal_nocase((struct slice){body.p + i, sizeof(words) - 1}, SLICE(words)))
            return true;
    return false;
}

/* A credential that was really refused loses what was stored for it. */
void exchange_judge_refusal(struct exchange *x)
{
    if (!x->refused)
        return;
    x->refused = false;
    x->a.rate_limited = says_rate_limit((struct slice){x->hint, x->hint_len});
    if (x->a.rate_limited)
        return;
    exchange_credential_refused(x);
    if (x->looked)
        store_drop_partition(x->w->service->store, &x->look.key);
}

static void offer_to_cache(struct exchange *x, const struct head *response)
{
    struct slice tags[STORE_MAX_TAGS];
    char room[TAG_ROOM];
    struct store_request ask;
    if (!x->fill)
        return;
    exchange_store_request(x, &ask, tags, room, sizeof(room));
    x->stored = fill_response(x->fill, &ask, response, x->sent_at, NULL) == FILL_STORED;
    if (!x->stored)
        x->fill = NULL;
}

static void send_reply(struct exchange *x, const struct head *response)
{
    struct worker *w = x->w;
    struct compose c = compose_into(w->lines, w->head_size);
    struct cache_status status = {.fwd = x->look.fwd, .stored = x->stored};
    bool no_body = response->body == BODY_NONE;
    if (x->fill && x->entry)
        status.fwd_status = response->status;
    if (x->unchecked)
        status.detail = SLICE("unchecked-signature");
    compose_fields(&c, response, 0);
    if (!head_has(response, FIELD_DATE))
        compose_line(&c, SLICE("Date"), worker_date(w));
    if (!c.full)
        c.p += exchange_own_lines(x, &status, c.p, (size_t)(c.end - c.p));
    struct slice run = {w->lines, compose_size(&c)};
    struct reply reply = {
        .status = response->status,
        .reason = {response->base + response->reason_at, response->reason_len},
        .runs = &run,
        .run_count = 1,
        .framing = no_body ? BODY_NONE : response->body == BODY_LENGTH ? BODY_LENGTH : BODY_CHUNKED,
        .length = response->content_length,
        .show_length = no_body && response->has_content_length && (x->req.method == METHOD_HEAD || response->status == 304),
    };
    x->replied = true;
    x->o.status = response->status;
    if (reply.framing == BODY_CHUNKED)
        x->o.flags |= OBSERVED_STREAMED;
    x->down->ops->reply(x->down, &reply);
}

/* ---- the final answer ------------------------------------------------------------------------------------ */

/* A 304 to our own validation. True: dealt with. */
static bool revalidated(struct exchange *x, const struct head *response)
{
    struct store_request ask;
    if (response->status != 304 || !x->fill || !x->entry || x->unconditional)
        return false;
    exchange_store_request(x, &ask, NULL, NULL, 0);
    struct entry *merged = fill_not_modified(x->fill, &ask, response, x->sent_at);
    exchange_attempt_done(x, REASON_NONE, 304);
    exchange_leave_upstream(x, true);
    if (!merged) { /* not about what is stored: ask again without conditions */
        if (!exchange_may_resend(x)) {
            exchange_attempt_failed(x, REASON_NONCE_SPENT, 0, -1);
            return true;
        }
        x->unconditional = true;
        exchange_set_phase(x, PHASE_BACKOFF);
        exchange_attempt(x);
        return true;
    }
    x->fill = NULL;
    struct cache_status status = {.fwd = x->look.fwd, .fwd_status = 304, .stored = true};
    exchange_serve_entry(x, merged, status, VERDICT_REVALIDATED);
    return true;
}

static enum breaker_outcome judge(int status)
{
    if (status == 429)
        return BREAKER_THROTTLED;
    return status >= 500 ? BREAKER_FAILURE : BREAKER_OK;
}

void exchange_response(struct exchange *x, const struct head *response)
{
    tick_t now = worker_now(x->w);
    int status = response->status;
    x->a.first_byte = now - x->sent_at;
    x->a.rate_limited = status == 429;
    exchange_admit_answered(x, response);
    exchange_report(x, judge(status));
    if (revalidated(x, response))
        return;
    if (config_retries_status(x_config(x), status) && exchange_retry(x, REASON_NONE, status, retry_after_of(x, response)))
        return;
    if (freshness_error_status(status) && exchange_serve_stale(x))
        return;
    exchange_set_phase(x, PHASE_RELAY);
    x->deadline = TICK_NEVER; /* from here on the stream's own clock counts */
    x->a.status = (uint16_t)status;
    tell_cache(x, response);
    offer_to_cache(x, response);
    if (x->down)
        send_reply(x, response);
    else if (!x->fill) { /* nobody wants it any more */
        exchange_attempt_done(x, REASON_NONE, status);
        exchange_leave_upstream(x, true);
        exchange_over(x, true);
        return;
    }
    exchange_arm_stream(x);
}

static void fill_drained(void *arg)
{
    struct exchange *x = arg;
    if (!atomic_exchange(&x->drained.posted, true))
        mailbox_post(&x->w->box, &x->drained.letter);
}

void exchange_response_data(struct exchange *x, struct slice data, void *owner, const struct out_owner_ops *ops)
{
    if ((x->refused || x->doubt) && x->hint_len < HINT) {
        size_t n = data.n < (size_t)(HINT - x->hint_len) ? data.n : (size_t)(HINT - x->hint_len);
        memcpy(x->hint + x->hint_len, data.p, n);
        x->hint_len = (uint16_t)(x->hint_len + n);
    }
    if (x->fill && !x->fill_full && fill_append(x->fill, data.p, data.n) != FILL_MORE)
        x->fill_full = true;
    if (x->down)
        x->down->ops->body(x->down, data, owner, ops);
}

void exchange_response_flush(struct exchange *x)
{
    bool full = false;
    if (x->down) {
        x->down->ops->flush(x->down);
        full = x->down->ops->backlog(x->down) > HIGH_MARK && (!x->fill || x->fill_full);
    }
    if (x->fill && !x->fill_full && fill_backlog(x->fill, fill_drained, x) >= FILL_BACKLOG_HIGH)
        full = true;
    if (full && x->up)
        x->up->ops->pause(x->up, true);
    exchange_arm_stream(x);
}

void exchange_response_end(struct exchange *x, struct slice trailers)
{
    struct fill *fill = x->fill;
    if (x->phase != PHASE_RELAY)
        return;
    exchange_admit_judge(x);
    exchange_judge_refusal(x);
    exchange_attempt_done(x, REASON_NONE, x->a.status);
    x->up = NULL;
    x->fill = NULL;
    if (fill)
        fill_end(fill, worker_now(x->w));
    if (x->down)
        x->down->ops->end(x->down, trailers);
    exchange_over(x, true);
}

void exchange_break_off(struct exchange *x, enum reason why)
{
    exchange_judge_refusal(x);
    exchange_leave_upstream(x, false);
    exchange_attempt_done(x, why, x->a.status);
    x->why = why;
    exchange_abandon_fill(x, why, false);
    if (x->down)
        x->down->ops->abort(x->down, why);
    exchange_over(x, false);
}

void exchange_upstream_failed(struct exchange *x, enum reason why, const struct upstream *last)
{
    exchange_note_upstream(x, last);
    x->up = NULL;
    if (x->phase == PHASE_TUNNEL) {
        exchange_attempt_done(x, REASON_NONE, 101);
        exchange_over(x, true);
        return;
    }
    if (x->phase != PHASE_RELAY) {
        exchange_attempt_failed(x, why, 0, -1);
        return;
    }
    exchange_break_off(x, why);
}
