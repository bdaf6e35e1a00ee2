/*
 * The way down: the upstream's answer to the client and into the cache. Invariants:
 * - framing is never copied: the codec below decides it anew from what is known (RFC 9112 6.3);
 * - an answer that breaks off is broken for the client too, and is never stored as complete;
 * - bytes are stored before they are gathered for the client, and both see all of them.
 */
#include <string.h>
#include <strings.h>

#include "policy/compressible.h"
#include "policy/http_date.h"
#include "policy/retry_mark.h"
#include "policy/uri.h"
#include "proxy/ahead.h"
#include "proxy/compose.h"
#include "proxy/exchange_internal.h"
#include "proxy/guard.h"
#include "proxy/service.h"

enum { HIGH_MARK = 256 * 1024, PLAIN_LEAST = 1024 };

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
    if (!x->down || !x->req.upgrade || !response->upgrade)
        return false;
    compose_fields(&c, response, 0);
    COMPOSE(&c, "Upgrade: websocket\r\nConnection: upgrade\r\n");
    if (c.full)
        return false;
    struct slice run = {x->w->lines, compose_size(&c)};
    struct reply reply = {.status = 101, .runs = &run, .run_count = 1};
    x->a.outcome = OUTCOME_OK;
    exchange_admit_answered(x, response, OUTCOME_OK);
    exchange_report(x, OUTCOME_OK);
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
    return method != METHOD_GET && method != METHOD_HEAD && method != METHOD_OPTIONS &&
           method != METHOD_TRACE;
}

/* What a success of this route makes untrue: the tags of its `invalidates`. */
static void purge_tags(struct exchange *x)
{
    char tag[512];
    for (int i = 0; i < x->route.route->invalidates; i++) {
        bool prefix = false;
        size_t n = route_invalidate(&x->route, i, tag, sizeof(tag), &prefix);
        if (n <= sizeof(tag))
            store_purge(x->w->service->store, prefix ? STORE_PURGE_TAG_PREFIX : STORE_PURGE_TAG,
                        (struct slice){tag, n});
    }
}

/* Anything in the request that says who asks, by cache.partition_by. */
static bool has_credential(const struct exchange *x)
{
    if (x->held_key)
        return true;
    const struct cache_rules *rules = &x->settings->p->cache;
    for (unsigned i = 0; i < rules->partition_count; i++) {
        if (rules->partition_ids[i] != FIELD_OTHER &&
            head_has(&x->req, (enum field_id)rules->partition_ids[i]))
            return true;
        for (int f = 0; rules->partition_ids[i] == FIELD_OTHER && f < x->req.field_count; f++)
            if (slice_equal_nocase(head_name(&x->req, f), rules->partition_names[i]))
                return true;
    }
    return false;
}

/* Does a refusal of this credential take what is stored for it along? A 403 to what is not read may only mean
 * that it may not be written; a signature that nobody checked may be anybody's; and in the shared scope
 * nothing is stored for one credential alone. */
static bool drops_partition(const struct exchange *x, int status)
{
    bool unproven = x->client_signed && !x->looked; /* only those that were found good are looked up */
    if (!x->refused || x->settings->p->cache.shared || unproven)
        return false;
    return status == 401 || x->looked;
}

/* The cache hears of every answer: what it makes untrue, and who may no longer ask. */
static void tell_cache(struct exchange *x, const struct head *response)
{
    struct store_request ask;
    x->refused = x->a.outcome == OUTCOME_BAD_CREDENTIALS && has_credential(x);
    x->drops = false;
    if (!x_config(x)->cache_enabled)
        return;
    exchange_store_request(x, &ask, NULL, NULL, 0);
    if (is_unsafe(x->req.method) && !x->route.route->safe && response->status < 400) {
        store_invalidate(x->w->service->store, &ask, response);
        purge_tags(x);
    }
    x->drops = drops_partition(x, response->status);
    if (x->drops && !x->looked)
        store_key_of(x->w->service->store, &ask, &x->look.key);
    if (x->looked && !x->fill)
        store_heard(x->w->service->store, &ask, response, x->sent_at);
}

/* A credential that was really refused loses what was stored for it. */
void exchange_judge_refusal_slow(struct exchange *x)
{
    x->refused = false;
    exchange_credential_refused(x);
    if (x->drops) {
        struct store_request ask;
        exchange_store_request(x, &ask, NULL, NULL, 0);
        store_drop_asker(x->w->service->store, &ask);
        ahead_refused(x->w->service->ahead, x->look.key.partition);
    }
}

/* The answer to a POST may be one for later GETs (RFC 9110 9.3.3); not where nobody here has checked who
 * asks. */
static bool may_adopt(const struct exchange *x)
{
    return x->req.method == METHOD_POST && !x->call && x_config(x)->cache_enabled &&
           !x->route.route->no_store && !x->client_signed;
}

/* An answer that could not be stored for a reason that its sender may not know of. */
static const struct refusal {
    enum storable why;
    enum metric counter;
    struct slice word; /* in Cache-Status */
} refusals[] = {
    {STORABLE_VARY, METRIC_CACHE_REFUSED_VARY, {"unusable-vary", 13}},
    {STORABLE_NAMES, METRIC_CACHE_REFUSED_NAMES, {"too-many-names", 14}},
    {STORABLE_SIZE, METRIC_CACHE_REFUSED_SIZE, {"too-large", 9}},
    {STORABLE_MEMORY, METRIC_CACHE_REFUSED_MEMORY, {"no-memory", 9}},
};

static const struct refusal *refusal_of(enum storable why)
{
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++)
        if (refusals[i].why == why)
            return &refusals[i];
    return NULL;
}

static void count_refusal(struct exchange *x, enum storable why)
{
    const struct refusal *refusal = refusal_of(why);
    if (refusal)
        metric_add(x->w->metrics, refusal->counter, 1);
}

static void offer_to_cache(struct exchange *x, const struct head *response)
{
    struct slice tags[STORE_MAX_TAGS];
    char room[TAG_ROOM];
    struct store_request ask;
    if (!x->fill && !may_adopt(x))
        return;
    exchange_store_request(x, &ask, tags, room, sizeof(room));
    if (!x->fill)
        x->fill = store_adopt(x->w->service->store, &ask, response);
    if (!x->fill)
        return;
    x->stored = fill_response(x->fill, &ask, response, x->sent_at, &x->storable) == FILL_STORED;
    if (!x->stored) {
        x->fill = NULL;
        count_refusal(x, x->storable);
    }
}

/* An answer that nobody asked for takes the place of what is stored only when it says what is true now; a
 * failure, or a refusal, leaves that until somebody asks. */
static bool is_news(const struct exchange *x, int status)
{
    return !x->ahead || status < 400 || status == 404 || status == 410;
}

static void send_reply(struct exchange *x, const struct head *response)
{
    struct worker *w = x->w;
    struct compose c = compose_into(w->lines, w->head_size);
    struct cache_status status = {.fwd = x->look.fwd, .stored = x->stored};
    bool no_body = response->body == BODY_NONE;
    const struct refusal *refusal = x->storable ? refusal_of(x->storable) : NULL;
    if (refusal)
        status.detail = refusal->word;
    if (x->fill && x->entry && !x->completing)
        status.fwd_status = response->status;
    if (x->unchecked)
        status.detail = SLICE("unchecked-signature");
    if (x->o.cache == VERDICT_BATCHED)
        status.detail = SLICE("batched");
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
        .framing = no_body                         ? BODY_NONE
                   : response->body == BODY_LENGTH ? BODY_LENGTH
                                                   : BODY_CHUNKED,
        .length = response->content_length,
        .show_length = no_body && response->has_content_length &&
                       (x->req.method == METHOD_HEAD || response->status == 304),
    };
    x->replied = true;
    x->o.status = response->status;
    if (reply.framing == BODY_CHUNKED)
        x->o.flags |= OBSERVED_STREAMED;
    x->down->ops->reply(x->down, &reply);
}

/*
 * A redirect by the API to itself (it sends one for a slash too many) would lead the client past the sidecar,
 * and past its credential: the origin is left away, and the path leads back here (RFC 9110 10.2.2).
 */
static void keep_location_here(const struct exchange *x, const struct head *response)
{
    const struct config_url *url = &x_config(x)->upstream_url;
    struct slice scheme = url->tls ? SLICE("https") : SLICE("http"),
                 authority = {url->authority, strlen(url->authority)};
    if (!head_has(response, FIELD_LOCATION) || url->path[0])
        return; /* a path before ours would have to go too, and may be no part of it */
    for (int i = 0; i < response->field_count; i++) {
        struct field *f = &response->fields[i];
        if (f->id != FIELD_LOCATION)
            continue;
        size_t n = uri_origin_length(head_value(response, i), scheme, authority);
        f->value += (uint32_t)n;
        f->value_len -= (uint32_t)n;
    }
}

/* ---- the final answer ------------------------------------------------------------------------------------
 */

/* The answer is not about what is stored: once more, without conditions. */
static void ask_for_all(struct exchange *x)
{
    if (!exchange_may_resend(x)) {
        exchange_attempt_failed(x, REASON_NONCE_SPENT, 0, -1);
        return;
    }
    x->unconditional = true;
    exchange_set_phase(x, PHASE_BACKOFF);
    exchange_attempt(x);
}

/* The answer to our asking for the rest of a stored beginning (RFC 9111 3.3). True: dealt with. */
static bool completed(struct exchange *x, const struct head *response)
{
    struct store_request ask;
    struct entry *whole;
    if (!x->completing || x->unconditional || !x->fill ||
        (response->status != 206 && response->status != 416))
        return false;
    exchange_store_request(x, &ask, NULL, NULL, 0);
    if (response->status == 416 || !fill_complete_part(x->fill, &ask, response, x->sent_at, &whole)) {
        exchange_attempt_done(x, REASON_NONE, response->status);
        exchange_leave_upstream(x, true);
        ask_for_all(x);
        return true;
    }
    exchange_set_phase(x, PHASE_RELAY);
    x->deadline = TICK_NEVER;
    x->a.status = 206;
    x->stored = true;
    if (x->down)
        exchange_serve_completed(x, whole);
    entry_release(whole);
    exchange_arm_stream(x);
    return true;
}

/* A 304 to our own validation. True: dealt with. */
static bool revalidated(struct exchange *x, const struct head *response)
{
    struct store_request ask;
    if (response->status != 304 || !x->fill || !x->entry || x->unconditional || x->completing)
        return false;
    exchange_store_request(x, &ask, NULL, NULL, 0);
    struct entry *merged = fill_not_modified(x->fill, &ask, response, x->sent_at);
    exchange_attempt_done(x, REASON_NONE, 304);
    exchange_leave_upstream(x, true);
    if (!merged) {
        ask_for_all(x);
        return true;
    }
    x->fill = NULL;
    struct cache_status status = {.fwd = x->look.fwd, .fwd_status = 304, .stored = true};
    exchange_serve_entry(x, merged, status, VERDICT_REVALIDATED);
    return true;
}

enum outcome exchange_outcome_of_answer(const struct exchange *x, const struct head *response,
                                        enum outcome by_status)
{
    if (response->status < 500 || head_has(response, FIELD_RETRY_AFTER))
        return by_status;
    return outcome_when_lasting(by_status,
                                freshness_stated(&x->settings->p->cache, response, worker_wall(x->w)));
}

void exchange_response(struct exchange *x, const struct head *response)
{
    if ((x->original || x->hedge) && !(x = exchange_hedge_response(x, response)))
        return;
    x->a.first_byte = worker_now(x->w) - x->sent_at;
    if (x->hedgeable && response->status < 500)
        guard_hedge_answered(x->w->service->guard, x->o.operation, x->a.first_byte);
    if (!exchange_doubt(x, response))
        (void)exchange_answered(x, response,
                                exchange_outcome_of_answer(x, response, outcome_of_status(response->status)));
}

/* A text of some length, as it is: what a content coding would make smaller. */
static bool plain_text(const struct head *response)
{
    if (head_has(response, FIELD_CONTENT_ENCODING) || response->body == BODY_NONE ||
        (response->has_content_length && response->content_length < PLAIN_LEAST))
        return false;
    struct slice type = head_first(response, FIELD_CONTENT_TYPE);
    if (type.n < 16) /* "application/json" */
        return type.n > 5 && strncasecmp(type.p, "text/", 5) == 0;
    /* One letter each tells most types apart before anything is compared. */
    if ((type.p[0] | 0x20) == 't')
        return strncasecmp(type.p, "text/", 5) == 0;
    if ((type.p[12] | 0x20) == 'j')
        return strncasecmp(type.p, "application/json", 16) == 0;
    return (type.p[12] | 0x20) == 'x' && type.n >= 20 && strncasecmp(type.p, "application/x-ndjson", 20) == 0;
}

/* Counts bytes of such an answer; once a second one piece is looked at: some 0.2 ms. */
static __attribute__((noinline)) void note_plain(struct exchange *x, struct slice data)
{
    struct worker *w = x->w;
    metric_add(w->metrics, METRIC_PLAIN_BYTES, data.n);
    if (data.n < PLAIN_LEAST / 2 || worker_now(w) < w->plain_due)
        return;
    w->plain_due = worker_now(w) + TICK_S;
    metric_add(w->metrics, METRIC_PLAIN_SAMPLED, data.n < COMPRESSIBLE_MOST ? data.n : COMPRESSIBLE_MOST);
    metric_add(w->metrics, METRIC_PLAIN_SMALLER, compressible_size(data));
}

bool exchange_answered(struct exchange *x, const struct head *response, enum outcome outcome)
{
    tick_t now = worker_now(x->w);
    int status = response->status, as = outcome == OUTCOME_THROTTLED ? 429 : status;
    x->a.outcome = (uint8_t)outcome;
    exchange_admit_answered(x, response, outcome);
    exchange_report(x, outcome);
    if (x->retried && outcome == OUTCOME_OK)
        metrics_retry_succeeded(x->w->metrics, x->o.operation, (unsigned)x->retried_for, x->retried_status);
    x->retried = false;
    if (x->health && status < 500)
        guard_sign_of_life(x->w->service->guard, now);
    if (revalidated(x, response) || completed(x, response))
        return x->phase == PHASE_RELAY;
    x->should_retry = status >= 400 ? retry_hint_of(response) : RETRY_HINT_NONE;
    bool listed = config_retries_status(x_config(x), as) || x->should_retry == RETRY_HINT_YES;
    if (outcome == OUTCOME_LASTING_ERROR && status != 501)
        listed = x->should_retry == RETRY_HINT_YES; /* it would come again */
    if (listed && exchange_retry(x, REASON_NONE, as, retry_after_of(x, response)))
        return false;
    x->a.status = (uint16_t)status;
    if (freshness_error_status(status) && exchange_serve_stale(x))
        return false;
    exchange_set_phase(x, PHASE_RELAY);
    x->deadline = TICK_NEVER; /* from here on the stream's own clock counts */
    x->plain = plain_text(response) && metrics_measuring(x->w->metrics);
    if (x->plain)
        metric_add(x->w->metrics, METRIC_PLAIN_BODIES, 1);
    keep_location_here(x, response);
    tell_cache(x, response);
    if (!is_news(x, status))
        exchange_abandon_fill(x, REASON_FILL_FAILED, true);
    offer_to_cache(x, response);
    if (x->call && exchange_call_answered(x, response))
        ; /* its body is wanted, and nothing is relayed */
    else if (x->down)
        send_reply(x, response);
    else if (!x->fill) { /* nobody wants it any more */
        exchange_attempt_done(x, REASON_NONE, status);
        exchange_leave_upstream(x, true);
        exchange_over(x, true);
        return false;
    }
    exchange_arm_stream(x);
    return true;
}

static void fill_drained(void *arg)
{
    struct exchange *x = arg;
    if (!atomic_exchange(&x->drained.posted, true))
        mailbox_post(&x->w->box, &x->drained.letter);
}

void exchange_response_data(struct exchange *x, struct slice data, void *owner,
                            const struct out_owner_ops *ops)
{
    if (x->doubt) {
        exchange_doubt_data(x, data);
        return;
    }
    if (x->plain)
        note_plain(x, data);
    if (x->call && exchange_call_data(x, data))
        return;
    if (x->fill && !x->fill_full && fill_append(x->fill, data.p, data.n) != FILL_MORE)
        x->fill_full = true;
    if (x->down)
        x->down->ops->body(x->down, data, owner, ops);
}

/* The client of this exchange, or one who reads along, has so many bytes before it that no more should come.
 * The queue of one's own client is bounded by the stored body until the answer has outgrown that. */
static bool held_up(struct exchange *x)
{
    bool kept = x->fill && !x->fill_full && !fill_outgrown(x->fill);
    if (x->down && !kept && x->down->ops->backlog(x->down) > HIGH_MARK)
        return true;
    return x->fill && !x->fill_full && fill_backlog(x->fill, fill_drained, x) >= FILL_BACKLOG_HIGH;
}

void exchange_response_flush(struct exchange *x)
{
    if (x->down)
        x->down->ops->flush(x->down);
    if (x->doubt)
        return; /* its own clock runs */
    bool held = held_up(x);
    if (held && x->up)
        x->up->ops->pause(x->up, true);
    if (held && !x->held && x->fill && !x->fill_full)
        x->held = worker_now(x->w);
    exchange_arm_stream(x);
}

void exchange_held_drained(struct exchange *x)
{
    if (held_up(x))
        return;
    x->held = 0;
    if (x->up)
        x->up->ops->pause(x->up, false);
    exchange_arm_stream(x);
}

/* Others wait for this fetch: it goes on without its own client. */
static void leave_own_client(struct exchange *x, enum reason why)
{
    x->down->ops->abort(x->down, why);
    exchange_detach_client(x, why);
}

void exchange_held_too_long(struct exchange *x)
{
    if (x->fill && !x->fill_full) {
        if (x->down && x->down->ops->backlog(x->down) > HIGH_MARK && fill_waiters(x->fill) > 0)
            leave_own_client(x, REASON_CLIENT_STALLED);
        fill_cut_slow(x->fill); /* who is cut lets go of its bytes, which calls fill_drained */
    }
    x->held = 0;
    exchange_held_drained(x);
    exchange_arm_stream(x);
}

void exchange_response_end(struct exchange *x, struct slice trailers)
{
    if (x->doubt && !exchange_doubt_end(x))
        return;
    if (x->phase != PHASE_RELAY)
        return;
    struct fill *fill = x->fill;
    exchange_judge_refusal(x);
    exchange_attempt_done(x, REASON_NONE, x->a.status);
    x->up = NULL;
    x->fill = NULL;
    if (fill && fill_outgrown(fill))
        count_refusal(x, STORABLE_SIZE);
    if (fill && fill_end(fill, worker_now(x->w)) && x->a.status == 200)
        exchange_ahead_stored(x);
    if (x->call && exchange_call_end(x))
        return;
    if (x->down)
        x->down->ops->end(x->down, exchange_last_lines(x, trailers));
    exchange_over(x, true);
}

void exchange_put_together(struct exchange *x, const struct head *response, struct slice body)
{
    send_reply(x, response);
    x->down->ops->body(x->down, body, NULL, NULL);
    x->down->ops->end(x->down, (struct slice){NULL, 0});
    x->down->ops->flush(x->down); /* what it does not take is copied */
    exchange_over(x, true);
}

void exchange_given(struct exchange *x, const struct head *response, struct slice body, tick_t sent)
{
    x->sent_at = sent;
    x->o.cache = VERDICT_BATCHED;
    x->o.upstream = x->o.first_byte = worker_now(x->w) - sent;
    exchange_set_phase(x, PHASE_RELAY);
    x->deadline = TICK_NEVER;
    offer_to_cache(x, response);
    if (x->down)
        send_reply(x, response);
    exchange_response_data(x, body, NULL, NULL);
    exchange_response_end(x, (struct slice){NULL, 0});
}

void exchange_break_off(struct exchange *x, enum reason why)
{
    exchange_judge_refusal(x);
    exchange_leave_upstream(x, false);
    exchange_attempt_done(x, why, x->a.status);
    if (x->call && exchange_call_broken(x))
        return;
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
