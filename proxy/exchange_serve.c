/*
 * Answers that need no upstream of their own: stored ones, those of another's fetch, and those that
 * the sidecar makes itself. Invariant: a waiter's bytes are given to the socket, or copied, before they
 * are let go (fill_advance).
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proxy/compose.h"
#include "proxy/exchange_internal.h"
#include "proxy/level.h"
#include "proxy/log.h"
#include "proxy/service.h"

enum { RUNS_MAX = 8, SERVE_HIGH = 128 * 1024 };

static void hold_entry(void *owner)
{
    entry_ref(owner);
}

static void drop_entry(void *owner)
{
    entry_release(owner);
}

static const struct out_owner_ops ENTRY_OWNER = {hold_entry, drop_entry};

/* In milliseconds. */
static void duration(struct compose *c, tick_t t)
{
    COMPOSE(c, ";dur=");
    compose_number(c, (uint64_t)(t / TICK_MS));
    COMPOSE(c, ".");
    uint64_t us = (uint64_t)(t % TICK_MS / TICK_US);
    char digits[3] = {(char)('0' + us / 100), (char)('0' + us / 10 % 10), (char)('0' + us % 10)};
    compose_add(c, digits, sizeof(digits));
}

static void timing(struct compose *c, const char *name, tick_t t)
{
    if (t <= 0)
        return;
    COMPOSE(c, ", ");
    compose_add(c, name, strlen(name));
    duration(c, t);
}

/* Server-Timing (W3C): where the time went until this head was written, in milliseconds. */
static void server_timing(struct exchange *x, struct compose *c)
{
    COMPOSE(c, "Server-Timing: cache;desc=");
    const char *word = cache_word_name(x->o.cache);
    compose_add(c, word, strlen(word));
    timing(c, "held", exchange_spent(x, PHASE_HOLDING));
    timing(c, "second", exchange_spent(x, PHASE_SECOND));
    timing(c, "join",
           exchange_spent(x, PHASE_JOINED) + exchange_spent(x, PHASE_SERVING) +
               exchange_spent(x, PHASE_GATHER));
    timing(c, "queue", exchange_spent(x, PHASE_ADMIT));
    timing(c, "pool", exchange_spent(x, PHASE_QUEUED));
    bool open = x->attempt_began != 0; /* the attempt is not in the sums yet */
    timing(c, "dns", x->o.dns + (open ? x->a.dns : 0));
    timing(c, "tcp", x->o.tcp + (open ? x->a.tcp : 0));
    timing(c, "tls", x->o.tls + (open ? x->a.tls : 0));
    timing(c, "retry", exchange_spent(x, PHASE_BACKOFF));
    timing(c, "upstream", x->a.first_byte);
    timing(c, "total", worker_now(x->w) - x->began);
    COMPOSE(c, "\r\n");
}

struct slice exchange_last_lines(struct exchange *x, struct slice trailers)
{
    if (!x->req.te_trailers || !x_config(x)->server_timing)
        return trailers;
    struct compose c = compose_into(x->w->lines, x->w->head_size);
    compose_add(&c, trailers.p, trailers.n);
    COMPOSE(&c, "Server-Timing: total");
    duration(&c, worker_now(x->w) - x->began);
    timing(&c, "body", exchange_spent(x, PHASE_RELAY));
    COMPOSE(&c, "\r\n");
    return c.full ? trailers : (struct slice){x->w->lines, compose_size(&c)};
}

size_t exchange_own_lines(struct exchange *x, const struct cache_status *status, char *out, size_t cap)
{
    struct compose c = compose_into(out, cap);
    if (status) {
        COMPOSE(&c, "Cache-Status: ");
        c.full |= c.end - c.p < CACHE_STATUS_MAX;
        if (!c.full)
            c.p += cache_status_write(c.p, CACHE_STATUS_MAX, status);
        COMPOSE(&c, "\r\n");
    }
    if (x_config(x)->server_timing)
        server_timing(x, &c);
    COMPOSE(&c, "Via: 1.1 " VIA_PSEUDONYM "\r\nX-Request-Id: ");
    compose_slice(&c, x->request_id);
    COMPOSE(&c, "\r\n");
    return c.full ? 0 : compose_size(&c);
}

/* Cuts a stored head behind its status line, "HTTP/1.1 200 OK". Returns the field lines, and the reason
 * phrase. */
static struct slice fields_of(struct slice head, struct slice *reason)
{
    enum { PHRASE_AT = sizeof("HTTP/1.1 200 ") - 1 };
    const char *end = memchr(head.p, '\r', head.n);
    size_t n = end ? (size_t)(end - head.p) : head.n;
    *reason = n > PHRASE_AT ? (struct slice){head.p + PHRASE_AT, n - PHRASE_AT} : (struct slice){"", 0};
    return head.n - n > 2 ? (struct slice){end + 2, head.n - n - 2} : (struct slice){"", 0};
}

/* Rounds down below 0 too: what is stale by half a second must not look fresh. */
static int64_t floor_seconds(tick_t t)
{
    return t / TICK_S - (t % TICK_S < 0);
}

static void age_and_own(struct exchange *x, struct entry *entry, struct cache_status *status,
                        struct compose *c)
{
    const struct freshness *fresh = entry_freshness(entry);
    tick_t age = freshness_age(fresh, worker_now(x->w));
    status->has_ttl = true;
    status->ttl = floor_seconds(fresh->lifetime - age);
    COMPOSE(c, "Age: ");
    compose_number(c, (uint64_t)(age / TICK_S));
    COMPOSE(c, "\r\n");
    c->p += exchange_own_lines(x, status, c->p, (size_t)(c->end - c->p));
}

static void serve_body(struct exchange *x, struct entry *entry, const struct answer *answer)
{
    struct downstream *d = x->down;
    uint64_t at = answer->first, left = answer->length;
    if (entry_fd(entry) >= 0 && !d->tls) {
        d->ops->file(d, entry_fd(entry), (off_t)at, (size_t)left, entry, &ENTRY_OWNER);
        return;
    }
    while (left > 0) {
        struct iovec iov[RUNS_MAX];
        int n = entry_body_iov(entry, at, left, iov, RUNS_MAX);
        if (n <= 0)
            return;
        for (int i = 0; i < n; i++) {
            d->ops->body(d, (struct slice){iov[i].iov_base, iov[i].iov_len}, entry, &ENTRY_OWNER);
            at += iov[i].iov_len;
            left -= iov[i].iov_len;
        }
    }
}

/* Takes over the reference on `entry`. */
void exchange_serve_entry(struct exchange *x, struct entry *entry, struct cache_status status,
                          enum cache_word word)
{
    struct worker *w = x->w;
    struct answer answer;
    struct compose c = compose_into(w->lines, w->head_size);
    struct slice runs[2];
    entry_release(x->entry);
    x->entry = entry;
    x->o.cache = (uint8_t)word;
    x->o.saved = word == VERDICT_REVALIDATED || x->attempts > 0 ? 0 : entry_fetch_time(entry);
    x->why = REASON_NONE;
    if (!x->down) {
        x->brought = true;
        exchange_over(x, true);
        return;
    }
    entry_answer(entry, &x->req, worker_wall(w), &answer);
    struct reply reply = {
        .status = (uint16_t)answer.status, .runs = runs, .run_count = 2, .length_given = true};
    if (answer.kind == ANSWER_WHOLE) {
        runs[0] = entry_head_with_length(entry);
        bool no_body = x->req.method == METHOD_HEAD || answer.status == 204 || answer.status == 304;
        reply.line_given = true;
        reply.framing = no_body ? BODY_NONE : BODY_LENGTH; /* an empty body has a length too */
    } else {
        size_t n = entry_answer_head(entry, &answer, c.p, (size_t)(c.end - c.p));
        struct slice usual; /* the phrase is the codec's own */
        runs[0] = fields_of((struct slice){c.p, n}, &usual);
        c.p += n;
        reply.framing = answer.has_body ? BODY_LENGTH : BODY_NONE;
    }
    char *own = c.p;
    age_and_own(x, entry, &status, &c);
    runs[1] = (struct slice){own, (size_t)(c.p - own)};
    x->replied = true;
    x->o.status = (uint16_t)answer.status;
    x->down->ops->reply(x->down, &reply);
    if (answer.has_body && x->req.method != METHOD_HEAD)
        serve_body(x, entry, &answer);
    x->down->ops->end(x->down, (struct slice){NULL, 0});
    exchange_over(x, true);
}

void exchange_serve_made(struct exchange *x, struct entry *entry, struct slice body)
{
    struct compose c = compose_into(x->w->lines, x->w->head_size);
    struct cache_status status = {.fwd = CACHE_FWD_NONE, .detail = SLICE("put-together")};
    struct slice reason;
    struct slice runs[2] = {fields_of(entry_head(entry), &reason), {x->w->lines, 0}};
    age_and_own(x, entry, &status, &c);
    runs[1].n = compose_size(&c);
    struct reply reply = {.status = 200,
                          .reason = reason,
                          .runs = runs,
                          .run_count = 2,
                          .framing = BODY_LENGTH,
                          .length = body.n};
    x->replied = true;
    x->o.status = 200;
    x->o.cache = VERDICT_HIT;
    x->down->ops->reply(x->down, &reply);
    x->down->ops->body(x->down, body, NULL, NULL);
    x->down->ops->end(x->down, (struct slice){NULL, 0});
    x->down->ops->flush(x->down); /* what it does not take is copied */
    exchange_over(x, true);
}

void exchange_serve_completed(struct exchange *x, struct entry *whole)
{
    struct compose c = compose_into(x->w->lines, x->w->head_size);
    struct cache_status status = {.fwd = CACHE_FWD_PARTIAL, .fwd_status = 206, .stored = true};
    struct slice reason;
    struct slice runs[2] = {fields_of(entry_head(whole), &reason), {x->w->lines, 0}};
    struct answer beginning = {ANSWER_WHOLE, 200, true, 0, entry_length(x->entry)};
    age_and_own(x, whole, &status, &c);
    runs[1].n = compose_size(&c);
    struct reply reply = {
        .status = 200,
        .reason = reason,
        .runs = runs,
        .run_count = 2,
        .framing = BODY_LENGTH,
        .length = entry_total(x->entry),
    };
    x->replied = true;
    x->o.status = 200;
    x->down->ops->reply(x->down, &reply);
    serve_body(x, x->entry, &beginning);
}

bool exchange_serve_stale(struct exchange *x)
{
    struct store_request ask;
    struct store_result result;
    if (!x->looked || !x->down || x->replied)
        return false;
    exchange_store_request(x, &ask, NULL, NULL, 0);
    if (!store_stale_for_error(x->w->service->store, &ask, &result))
        return false;
    enum reason why = x->why;
    exchange_attempt_done(x, REASON_NONE, x->a.status);
    exchange_leave_upstream(x, true);
    exchange_abandon_fill(x, why == REASON_NONE ? REASON_FILL_FAILED : why, false);
    /* RFC 9211 2.1: a hit is what was not forwarded, which this may have been, in vain. */
    struct cache_status status = {.fwd = x->attempts > 0 ? x->look.fwd : CACHE_FWD_NONE,
                                  .fwd_status = x->attempts > 0 ? x->a.status : 0,
                                  .detail = SLICE("stale-if-error")};
    exchange_serve_entry(x, result.entry, status, VERDICT_STALE);
    return true;
}

/* ---- verdicts ---------------------------------------------------------------------------------------- */

/* A second exchange that fetches what the first serves stale. NULL: no memory; the role is given back. */
static struct exchange *refresher(struct exchange *x)
{
    struct exchange *y = exchange_new(x->w);
    if (!y) {
        fill_abort(x->look.fill, REASON_OUT_OF_MEMORY, true);
        return NULL;
    }
    y->refresh = true;
    y->req = x->req;
    y->route = x->route;
    y->trace = x->trace;
    y->trace_valid = x->trace_valid;
    y->trace_begun = x->trace_begun;
    tracing_begin_behind(y, x);
    y->idempotent = true;
    y->body_whole = true;
    y->looked = true;
    y->look = x->look;
    y->o.operation = x->o.operation;
    y->o.route = x->o.route;
    y->o.method = x->o.method;
    y->fill = x->look.fill;
    y->entry = entry_ref(x->look.entry);
    exchange_inherit_credential(y, x);
    memcpy(y->id, x->request_id.p, x->request_id.n);
    y->request_id = (struct slice){y->id, x->request_id.n};
    return y;
}

static void serve_while_refreshing(struct exchange *x)
{
    struct exchange *y = x->look.fill ? refresher(x) : NULL;
    struct cache_status status = {.fwd = CACHE_FWD_NONE, .detail = x->found_in};
    if (y && !exchange_keep_head(y)) {
        exchange_over(y, false);
        y = NULL;
    }
    exchange_serve_entry(x, x->look.entry, status, VERDICT_STALE);
    if (y)
        exchange_forward(y);
}

static void woken(struct fill_waiter *waiter)
{
    struct exchange *x = (struct exchange *)((char *)waiter - offsetof(struct exchange, waiter));
    if (!atomic_exchange(&x->news.posted, true))
        mailbox_post(&x->w->box, &x->news.letter);
}

/* Requests whose answer depends on more than the fetched bytes do not read along. */
bool exchange_plain_request(const struct exchange *x)
{
    return x->req.method == METHOD_GET && !head_has(&x->req, FIELD_RANGE) &&
           !head_has(&x->req, FIELD_IF_NONE_MATCH) && !head_has(&x->req, FIELD_IF_MODIFIED_SINCE) &&
           !head_has(&x->req, FIELD_IF_MATCH) && !head_has(&x->req, FIELD_IF_UNMODIFIED_SINCE);
}

static void join(struct exchange *x)
{
    const struct config *cfg = x_config(x);
    if (!exchange_plain_request(x) || x->went_loose || !exchange_keep_head(x)) {
        fill_drop(x->look.fill);
        exchange_forward(x);
        return;
    }
    exchange_set_phase(x, PHASE_JOINED);
    x->waiter.wake = woken;
    fill_join(x->look.fill, &x->waiter);
    exchange_arm(x, worker_now(x->w) + cfg->pool_acquire_timeout + cfg->upstream_response_timeout);
    exchange_poll_fill(x);
}

void exchange_act(struct exchange *x, enum store_verdict verdict)
{
    struct cache_status hit = {.fwd = CACHE_FWD_NONE, .detail = x->found_in};
    switch (verdict) {
    case STORE_HIT:
        exchange_serve_entry(x, x->look.entry, hit, VERDICT_HIT);
        return;
    case STORE_HIT_STALE:
        serve_while_refreshing(x);
        return;
    case STORE_REVALIDATE:
        x->entry = x->look.entry;
        x->fill = x->look.fill;
        exchange_forward(x);
        return;
    case STORE_COMPLETE:
        x->entry = x->look.entry;
        x->fill = x->look.fill;
        x->completing = true;
        exchange_forward(x);
        return;
    case STORE_LEAD:
        x->fill = x->look.fill;
        if (!x_config(x)->batching_enabled || !exchange_batch(x))
            exchange_forward(x);
        return;
    case STORE_JOIN:
        join(x);
        return;
    case STORE_REFUSE:
        exchange_answer(x, REASON_ONLY_IF_CACHED, 0);
        return;
    case STORE_PASS:
        exchange_forward(x);
        return;
    }
}

/* ---- another's fetch ----------------------------------------------------------------------------------- */

static void begin_serving(struct exchange *x, const struct fill_news *news)
{
    struct compose c = compose_into(x->w->lines, x->w->head_size);
    struct cache_status status = {.fwd = x->look.fwd == CACHE_FWD_NONE ? CACHE_FWD_URI_MISS : x->look.fwd,
                                  .collapsed = true};
    struct slice head = entry_head(news->entry);
    struct slice reason;
    struct slice runs[2] = {fields_of(head, &reason), {x->w->lines, 0}};
    age_and_own(x, news->entry, &status, &c);
    runs[1].n = compose_size(&c);
    struct reply reply = {
        .status = (uint16_t)entry_status(news->entry),
        .reason = reason,
        .runs = runs,
        .run_count = 2,
        .framing = news->has_length ? BODY_LENGTH : BODY_CHUNKED,
        .length = news->length,
    };
    exchange_set_phase(x, PHASE_SERVING);
    x->replied = true;
    x->o.status = reply.status;
    x->o.cache = VERDICT_COLLAPSED;
    x->down->ops->reply(x->down, &reply);
    entry_release(x->entry);
    x->entry = news->entry; /* tells in the end what the fetch took */
}

/* Passes on what the fetch has brought so far. */
static void pump(struct exchange *x)
{
    struct downstream *d = x->down;
    enum reason slow = REASON_NONE;
    if (d->ops->backlog(d) >= SERVE_HIGH && fill_read(&x->waiter, NULL, 0, &slow) == FILL_READ_BROKEN &&
        slow == REASON_CLIENT_STALLED) {
        x->why = slow; /* too slow for the others: cut */
        d->ops->abort(d, slow);
        exchange_over(x, false);
        return;
    }
    while (d->ops->backlog(d) < SERVE_HIGH) {
        struct iovec iov[RUNS_MAX];
        enum reason why = REASON_NONE;
        uint64_t n = 0;
        int count = fill_read(&x->waiter, iov, RUNS_MAX, &why);
        if (count == FILL_READ_END) {
            x->o.saved = entry_fetch_time(x->entry);
            d->ops->end(d, (struct slice){NULL, 0});
            exchange_over(x, true);
            return;
        }
        if (count == FILL_READ_BROKEN) {
            x->why = why;
            d->ops->abort(d, why);
            exchange_over(x, false);
            return;
        }
        for (int i = 0; i < count; i++) {
            d->ops->body(d, (struct slice){iov[i].iov_base, iov[i].iov_len}, NULL, NULL);
            n += iov[i].iov_len;
        }
        d->ops->flush(d); /* the bytes are the fill's: sent or copied before they are let go */
        fill_advance(&x->waiter, n);
        if (count == FILL_READ_WAIT)
            break;
    }
    exchange_arm_stream(x);
}

static void look_again(struct exchange *x)
{
    x->went_loose = true; /* once: then it goes alone */
    exchange_look(x);
}

static struct slice level_name(struct exchange *x, unsigned level)
{
    const char *name = store_level(x->w->service->store, level)->name;
    return (struct slice){name, strlen(name)};
}

static void fetch_failed(struct exchange *x, enum reason why)
{
    x->why = why;
    if (!exchange_serve_stale(x))
        exchange_answer(x, why, 0);
}

void exchange_poll_fill(struct exchange *x)
{
    struct fill_news news = {0};
    struct store_request ask;
    if (x->phase == PHASE_SERVING) {
        pump(x);
        return;
    }
    if (x->phase != PHASE_JOINED)
        return;
    exchange_store_request(x, &ask, NULL, NULL, 0);
    struct cache_status collapsed = {.fwd = x->look.fwd, .collapsed = true};
    switch (fill_poll(&x->waiter, &ask, &news)) {
    case FILL_WAIT:
        return;
    case FILL_HEAD:
        begin_serving(x, &news);
        pump(x);
        return;
    case FILL_DONE:
        if (entry_level(news.entry) > 0) { /* nobody asked the upstream */
            collapsed.fwd = CACHE_FWD_NONE;
            collapsed.detail = level_name(x, entry_level(news.entry) - 1);
        }
        exchange_serve_entry(x, news.entry, collapsed, VERDICT_COLLAPSED);
        return;
    case FILL_LOOSE:
        look_again(x);
        return;
    case FILL_LEAD:;
        x->look.fill = news.fill;
        x->look.entry = fill_validates(news.fill);
        if (x->look.entry)
            entry_ref(x->look.entry);
        enum store_verdict verdict = x->look.entry ? STORE_REVALIDATE : STORE_LEAD;
        if (!exchange_second(x, verdict))
            exchange_act(x, verdict);
        return;
    case FILL_FAILED:
        fetch_failed(x, news.why);
        return;
    }
}

/* ---- answers of our own -----------------------------------------------------------------------------------
 */

static size_t error_body(struct exchange *x, const struct reason_row *row, char *out, size_t cap)
{
    char stamp[32];
    char id[2 * ID_MAX];
    struct tm tm;
    time_t wall = (time_t)worker_wall(x->w);
    gmtime_r(&wall, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
    size_t n = log_escape(x->request_id, id, sizeof(id) - 1);
    id[n] = '\0';
    int len =
        snprintf(out, cap,
                 "{\"success\":false,\"error\":\"%s\",\"status_code\":%d,\"timestamp\":\"%s\","
                 "\"details\":{\"reason\":\"%s\",\"source\":\"promptops-sidecar\",\"request_id\":\"%s\"}}\n",
                 row->sentence, row->status, stamp, row->name, id);
    return len < 0 || (size_t)len >= cap ? 0 : (size_t)len;
}

static size_t error_lines(struct exchange *x, enum reason why, tick_t retry_after)
{
    const struct reason_row *row = reason_row(why);
    struct compose c = compose_into(x->w->lines, x->w->head_size);
    struct cache_status status = {.fwd = x->look.fwd == CACHE_FWD_NONE ? CACHE_FWD_BYPASS : x->look.fwd};
    COMPOSE(&c, "Content-Type: application/json\r\nCache-Control: no-store\r\n");
    compose_line(&c, SLICE("Date"), worker_date(x->w));
    if (row->proxy_status[0]) {
        COMPOSE(&c, "Proxy-Status: promptops-sidecar; error=");
        compose_add(&c, row->proxy_status, strlen(row->proxy_status));
        COMPOSE(&c, "\r\n");
    }
    if (row->status == 405)
        COMPOSE(&c, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n");
    if (row->status == 503 || row->status == 429) {
        COMPOSE(&c, "Retry-After: ");
        compose_number(&c, retry_after > 0 ? (uint64_t)((retry_after + TICK_S - 1) / TICK_S) : 1);
        COMPOSE(&c, "\r\n");
    }
    c.p += exchange_own_lines(x, &status, c.p, (size_t)(c.end - c.p));
    return compose_size(&c);
}

void exchange_answer(struct exchange *x, enum reason why, tick_t retry_after)
{
    const struct reason_row *row = reason_row(why);
    char body[1024];
    x->why = why;
    if (!x->down || x->replied || row->status == 0) {
        if (x->down && x->replied)
            x->down->ops->abort(x->down, why);
        exchange_over(x, false);
        return;
    }
    size_t n = error_body(x, row, body, sizeof(body));
    struct slice run = {x->w->lines, error_lines(x, why, retry_after)};
    bool head_only = x->req.method == METHOD_HEAD;
    struct reply reply = {
        .status = (uint16_t)row->status,
        .runs = &run,
        .run_count = 1,
        .framing = head_only ? BODY_NONE : BODY_LENGTH,
        .length = n,
        .show_length = head_only,
        /* Who sends what is refused will send more of it. That nothing is stored is no fault. */
        .close = row->fault == FAULT_CLIENT && why != REASON_ONLY_IF_CACHED,
    };
    x->replied = true;
    x->o.status = (uint16_t)row->status;
    x->o.flags |= OBSERVED_OWN;
    x->down->ops->reply(x->down, &reply);
    if (!head_only)
        x->down->ops->body(x->down, (struct slice){body, n}, NULL, NULL);
    x->down->ops->end(x->down, (struct slice){NULL, 0});
    x->down->ops->flush(x->down);
    exchange_over(x, true);
}
