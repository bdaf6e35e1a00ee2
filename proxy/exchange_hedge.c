/*
 * Hedging: when a read has waited for longer than most do, a second copy of it is sent, and the first good
 * answer counts (policy/hedge.h says when, and within which budget).
 *
 * The second copy is an exchange of its own without a client, which goes through admission, breaker and pool
 * like any attempt, but waits for no limit, is never retried, and never relays. When its answer is the good
 * one, the original takes over its upstream connection and all that was let go for it, and goes on as if it
 * had been its own; its own attempt is given up. Invariants:
 * - x->hedge->original == x while a copy is under way; the copy borrows the original's request head, and ends
 *   before the original does;
 * - the client gets one answer, because only the original has a client;
 * - what either attempt holds (quota, place, permit) is ended once, by the one that holds it.
 */
#include "proxy/admit.h"
#include "proxy/exchange_internal.h"
#include "proxy/guard.h"
#include "proxy/service.h"

/* What was let go for an attempt that nobody waits for any more is given back, and its connection closed. */
static void overtaken(struct exchange *x)
{
    if (!x->attempt_began)
        return;
    exchange_admit_failed(x, OUTCOME_OVERTAKEN);
    exchange_report(x, OUTCOME_OVERTAKEN);
    x->a.outcome = OUTCOME_OVERTAKEN;
    exchange_attempt_done(x, REASON_NONE, 0);
    exchange_leave_upstream(x, false);
}

/* The end of a copy, whose attempt is accounted for. */
static void part(struct exchange *h)
{
    h->original->hedge = NULL;
    h->original = NULL;
    exchange_over(h, false);
}

void exchange_hedge_cancel_slow(struct exchange *x)
{
    struct exchange *h = x->hedge;
    overtaken(h);
    part(h);
}

/* The copy's attempt is the original's from here on, whose own is over. */
static void take_over(struct exchange *x)
{
    struct exchange *h = x->hedge;
    metric_add(x->w->metrics, METRIC_HEDGES_WON, 1);
    x->o.flags |= OBSERVED_HEDGED;
    x->up = h->up;
    x->up->exchange = x;
    x->permit = h->permit;
    x->admitted = h->admitted;
    x->ticket = h->ticket; /* neither waits for anything */
    x->admit_step = h->admit_step;
    x->a = h->a;
    x->attempt_began = h->attempt_began;
    x->wait_began = h->wait_began;
    x->sent_at = h->sent_at;
    x->whole_at = h->whole_at;
    x->sent_until = h->sent_until;
    x->hedge_at = 0;
    x->end_sent = true;
    h->up = NULL;
    h->admitted = h->admit_waited = false;
    h->admit_step = 0;
    h->ticket = (struct admit_ticket){0};
    h->attempt_began = 0;
    part(h);
    exchange_arm_sent(x);
}

/* ---- the first attempt ----------------------------------------------------------------------------------
 */

static bool may_be_hedged(const struct exchange *x)
{
    bool read = x->req.method == METHOD_GET || x->req.method == METHOD_HEAD;
    return read && x->down && !x->original && x->attempts == 1 && x->req.body == BODY_NONE &&
           !x->req.upgrade && exchange_may_resend(x);
}

void exchange_hedge_plan(struct exchange *x)
{
    tick_t now = worker_now(x->w);
    if (x->original)
        metric_add(x->w->metrics, METRIC_HEDGES_SENT, 1);
    if (!may_be_hedged(x))
        return;
    tick_t delay = guard_hedge_request(x->w->service->guard, x->o.operation, now);
    x->hedgeable = true;
    x->hedge_at = delay < TICK_NEVER - now ? now + delay : 0;
}

static struct exchange *copy_of(struct exchange *x)
{
    struct exchange *h = exchange_new(x->w);
    if (!h)
        return NULL;
    settings_unref(h->settings);
    h->settings = settings_ref(x->settings);
    h->req = x->req;
    h->kept = h->refresh = h->body_whole = true;
    h->idempotent = x->idempotent;
    h->route = x->route;
    h->request_id = x->request_id;
    h->trace = x->trace;
    h->trace_valid = x->trace_valid;
    h->trace_begun = true; /* it sends the original's */
    h->o.operation = x->o.operation;
    h->o.method = x->o.method;
    h->deadline = x->deadline;
    exchange_inherit_credential(h, x);
    h->original = x;
    x->hedge = h;
    return h;
}

void exchange_hedge_due(struct exchange *x)
{
    struct guard *guard = x->w->service->guard;
    tick_t now = worker_now(x->w);
    x->hedge_at = 0;
    exchange_arm_sent(x);
    bool wanted = x->down && !x->down->half_closed && !x->w->stopping && now < x->signature_until;
    bool room = wanted && admit_background_allowed(x->w->service->admit, exchange_quota_credential(x), now);
    if (!room || !guard_hedge_take(guard, x->o.operation, room))
        return;
    struct exchange *h = copy_of(x);
    if (h)
        exchange_attempt(h);
}

/* ---- answers --------------------------------------------------------------------------------------------
 */

static enum outcome outcome_of(const struct exchange *x, const struct head *response)
{
    return exchange_outcome_of_answer(x, response, outcome_of_status(response->status));
}

static bool is_failure(const struct exchange *x, const struct head *response)
{
    enum breaker_outcome o = outcome_row(outcome_of(x, response))->breaker;
    return o == BREAKER_FAILURE || o == BREAKER_THROTTLED;
}

/* An answer that is nobody's is reported like any other; its connection is kept when the rest is short. */
static void answered_in_vain(struct exchange *x, const struct head *response)
{
    enum outcome outcome = outcome_of(x, response);
    x->a.first_byte = worker_now(x->w) - x->sent_at;
    x->a.outcome = (uint8_t)outcome;
    exchange_admit_answered(x, response, outcome);
    exchange_report(x, outcome);
    exchange_attempt_done(x, REASON_NONE, response->status);
    exchange_leave_upstream(x, true);
}

struct exchange *exchange_hedge_response(struct exchange *x, const struct head *response)
{
    struct exchange *original = x->original;
    bool bad = is_failure(x, response);
    if (original && bad) {
        answered_in_vain(x, response);
        part(x);
        return NULL;
    }
    if (original) {
        guard_hedge_answered(x->w->service->guard, x->o.operation,
                             worker_now(x->w) - original->sent_at); /* so long at least */
        overtaken(original);
        take_over(original);
        return original;
    }
    if (bad && x->hedge->phase == PHASE_SENT) {
        answered_in_vain(x, response);
        take_over(x);
        return NULL;
    }
    exchange_hedge_cancel(x);
    return x;
}

bool exchange_hedge_failed(struct exchange *x, enum reason why, int status)
{
    enum outcome outcome = exchange_outcome(x, why);
    bool ours = outcome == OUTCOME_LOCAL || outcome == OUTCOME_CLIENT_GONE;
    bool goes_on = !x->original && x->hedge->phase == PHASE_SENT && !ours;
    if (!x->original && !goes_on) {
        exchange_hedge_cancel(x);
        return false;
    }
    exchange_admit_failed(x, outcome);
    exchange_report(x, outcome);
    exchange_attempt_done(x, why, status);
    exchange_leave_upstream(x, false);
    if (x->original)
        part(x);
    else
        take_over(x);
    return true;
}
