/*
 * Admission of one attempt: the API key's rate limit, then a place at the upstream. Invariants:
 * - what admit.c lets go is ended once: by the answer's head, by the attempt's failure, or at the latest by
 *   exchange_report(), through which every end of an attempt and of an exchange goes;
 * - a stale answer that may be served is served instead of waiting;
 * - health checks ask nobody: they carry no key, and they tell whether the upstream lives.
 */
#include <string.h>

#include "policy/outcome.h"
#include "proxy/admit.h"
#include "proxy/exchange_internal.h"
#include "proxy/guard.h"
#include "proxy/service.h"

enum { STEP_NONE, STEP_QUOTA, STEP_BOTH };

static struct admit *admit_of(const struct exchange *x)
{
    return x->w->service->admit;
}

/* Under a lock of admit.c, from any thread. */
static void woken(struct admit_ticket *t)
{
    struct exchange *x = (struct exchange *)((char *)t - offsetof(struct exchange, ticket));
    if (!atomic_exchange(&x->admitted_news.posted, true))
        mailbox_post(&x->w->box, &x->admitted_news.letter);
}

/* ---- who asks -------------------------------------------------------------------------------------------
 */

struct slice exchange_quota_credential(const struct exchange *x)
{
    struct slice held = exchange_held_credential(x), v = head_first(&x->req, FIELD_AUTHORIZATION);
    if (held.n)
        return held;
    return v.n ? v : head_first(&x->req, FIELD_X_API_KEY);
}

static uint64_t flow_of(const struct exchange *x)
{
    return x->down ? (uint64_t)(uintptr_t)x->down : 1; /* one client connection, one flow */
}

/* ---- asking ---------------------------------------------------------------------------------------------
 */

/* True: end of the matter for this exchange, it was answered. */
static bool stale_instead(struct exchange *x, enum reason why)
{
    x->why = why;
    if (exchange_serve_stale(x))
        return true;
    x->why = REASON_NONE;
    return false;
}

static void refused(struct exchange *x, enum reason why, tick_t at)
{
    tick_t now = worker_now(x->w);
    if (!x->original && !x->ahead)
        metric_add(x->w->metrics, why == REASON_RATE_LIMITED ? METRIC_QUOTA_REFUSED : METRIC_LIMIT_SHED, 1);
    exchange_attempt_failed(x, why, 0, at > now ? at - now : 0);
}

/* Acts on a verdict. True: go on. */
static bool act(struct exchange *x, enum admit_verdict v, tick_t at, enum reason why, bool asked_now)
{
    if (v == ADMIT_GO) {
        x->admit_step = why == REASON_RATE_LIMITED ? STEP_QUOTA : STEP_BOTH;
        return true;
    }
    if (v == ADMIT_REFUSED) {
        refused(x, why, at);
        return false;
    }
    x->admit_waited = true;
    if (x->original || x->ahead) { /* a second copy waits for nothing, nor does what nobody asked for */
        refused(x, why, 0);
        return false;
    }
    if (asked_now) {
        if (stale_instead(x, why))
            return false;
        if (why == REASON_RATE_LIMITED)
            metric_add(x->w->metrics, METRIC_QUOTA_PACED, 1);
        exchange_set_phase(x, PHASE_ADMIT);
    }
    exchange_arm(x, at);
    return false;
}

static bool ask_quota(struct exchange *x)
{
    tick_t at = 0, now = worker_now(x->w);
    struct slice credential = exchange_quota_credential(x);
    struct admit_call call = {
        .credential = credential,
        .flow = flow_of(x),
        .deadline = x->deadline,
        .background = x->refresh && !x->down && !x->for_clients,
        .wall = worker_wall(x->w) * TICK_S,
        .memo = x->held_key ? NULL : &x->w->credential,
    };
    x->ticket.wake = woken;
    enum admit_verdict v = admit_quota(admit_of(x), &x->ticket, &call, &at, now);
    return act(x, v, at, REASON_RATE_LIMITED, true);
}

static bool ask_limit(struct exchange *x)
{
    tick_t at = 0;
    enum admit_verdict v = admit_limit(admit_of(x), &x->ticket, x->deadline, &at, worker_now(x->w));
    return act(x, v, at, REASON_LIMITER_FULL, true);
}

bool exchange_admit(struct exchange *x)
{
    if (x->health ||
        (x->admit_step == STEP_NONE && guard_is_open(x->w->service->guard, x->o.operation, worker_now(x->w))))
        return true; /* the breaker will say no: nothing is spent */
    if (x->admit_step == STEP_NONE && !ask_quota(x))
        return false;
    return x->admit_step == STEP_BOTH || ask_limit(x);
}

/* Its time is over, or somebody woke it. */
void exchange_admit_turn(struct exchange *x)
{
    tick_t at = 0;
    enum reason why = x->admit_step == STEP_NONE ? REASON_RATE_LIMITED : REASON_LIMITER_FULL;
    if (x->phase != PHASE_ADMIT)
        return; /* a letter that came late */
    enum admit_verdict v =
        admit_turn(admit_of(x), &x->ticket, why == REASON_LIMITER_FULL, &at, worker_now(x->w));
    if (act(x, v, at, why, false))
        exchange_attempt(x);
}

/* ---- ends -----------------------------------------------------------------------------------------------
 */

static void ended(struct exchange *x, enum outcome outcome, const struct rate_reading *reading, int status)
{
    tick_t now = worker_now(x->w);
    struct quota_answer answer = {
        .charged = outcome_row(outcome)->charged && x->sent_at > 0,
        .throttled = outcome == OUTCOME_THROTTLED,
        .disguised = outcome == OUTCOME_THROTTLED && status != 429,
        .sent_at = x->sent_at > 0 ? x->sent_at : now,
        .reading = reading,
    };
    if (x->admit_step == STEP_NONE)
        return;
    x->admit_step = STEP_NONE;
    admit_end(admit_of(x), &x->ticket, outcome, &answer, now - answer.sent_at, now);
}

void exchange_admit_answered(struct exchange *x, const struct head *response, enum outcome outcome)
{
    static const struct rate_reading silent = {.retry_after = -1, .date = -1};
    struct rate_reading reading;
    if (x->admit_step == STEP_NONE)
        return;
    bool speaks = rate_header_in(response);
    if (speaks)
        (void)rate_reading_head(&reading, response, worker_wall(x->w));
    if (speaks)
        exchange_note_quota(x, &reading);
    ended(x, outcome, speaks ? &reading : &silent, response->status);
}

void exchange_admit_failed(struct exchange *x, enum outcome outcome)
{
    ended(x, outcome, NULL, 0);
}

void exchange_admit_leave_slow(struct exchange *x)
{
    admit_leave(admit_of(x), &x->ticket, x->admit_step == STEP_BOTH ? x->sent_at : 0, worker_now(x->w));
    x->admit_step = STEP_NONE;
}
