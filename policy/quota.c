/*
 * Who is let go, who waits and who is refused under a rate limit.
 *
 * Invariants. The queue is in order of tags, and nobody goes before a waiter with a smaller tag. A waiter
 * leaves the queue exactly once: woken, or by quota_leave. in_flight is the number of GOs and grants without
 * a quota_end.
 */
#include "policy/quota.h"

#include <math.h>
#include <string.h>

#define DEMAND_MEMORY (30 * TICK_S)
#define DEMAND_STEP   (100 * TICK_MS)
#define REMEMBERED    16 /* calls of a flow */

void quota_init(struct quota *q, const struct quota_rules *rules, tick_t now, int64_t wall)
{
    memset(q, 0, sizeof *q);
    q->rules = rules;
    q->offset_lo = wall - now - TICK_S;
    q->offset_hi = wall - now + TICK_S;
    q->demand.at = now;
    q->used_at = now;
    if (rules->enabled && rules->assume)
        quota_windows_assume(q, now);
}

void quota_tune(struct quota *q, const struct quota_rules *rules, tick_t now)
{
    int kept = 0;
    q->rules = rules;
    for (int i = 0; i < q->count; i++)
        if (q->window[i].told_at)
            q->window[kept++] = q->window[i];
    q->count = kept;
    q->turn_due = 0;
    if (rules->enabled && (rules->assume || q->upstream_refused))
        quota_windows_assume(q, now);
}

/* --- Fair queueing: a flow's tag is where its share stands. --- */

static struct quota_flow *flow_of(struct quota *q, uint64_t flow)
{
    struct quota_flow *oldest = &q->flow[0];
    for (int i = 0; i < QUOTA_FLOWS; i++) {
        struct quota_flow *f = &q->flow[i];
        if (f->flow == flow && f->finish > 0)
            return f;
        if (f->finish < oldest->finish)
            oldest = f;
    }
    /* Whose finish lies behind virtual time starts at virtual time anyway: forgetting it changes nothing. */
    *oldest = (struct quota_flow){flow, q->virtual_time > 0 ? q->virtual_time : 1e-9};
    return oldest;
}

static double tag_next(struct quota *q, uint64_t flow)
{
    struct quota_flow *f = flow_of(q, flow);
    double start = f->finish > q->virtual_time ? f->finish : q->virtual_time;
    f->finish = start + 1;
    return start;
}

static void tag_undo(struct quota *q, uint64_t flow)
{
    struct quota_flow *f = flow_of(q, flow);
    if (f->finish >= 1)
        f->finish -= 1;
}

/* --- The queue. --- */

static void insert(struct quota *q, struct quota_waiter *w)
{
    struct quota_waiter *after = q->last;
    while (after && after->tag > w->tag)
        after = after->prev;
    w->prev = after;
    w->next = after ? after->next : q->first;
    *(w->next ? &w->next->prev : &q->last) = w;
    *(after ? &after->next : &q->first) = w;
    w->queued = true;
    q->waiting++;
}

static void take_out(struct quota *q, struct quota_waiter *w)
{
    *(w->prev ? &w->prev->next : &q->first) = w->next;
    *(w->next ? &w->next->prev : &q->last) = w->prev;
    w->prev = w->next = NULL;
    w->queued = false;
    q->waiting--;
}

void quota_leave(struct quota *q, struct quota_waiter *w)
{
    if (!w->queued)
        return;
    take_out(q, w);
    tag_undo(q, w->flow);
}

static uint32_t rank_of(const struct quota *q, double tag)
{
    uint32_t behind = 0;
    for (const struct quota_waiter *w = q->last; w && w->tag > tag; w = w->prev)
        behind++;
    return q->waiting - behind;
}

static void refuse(struct quota *q, struct quota_waiter *w, quota_wake wake, void *arg, tick_t at)
{
    quota_leave(q, w);
    q->refused++;
    wake(w, false, at, arg);
}

/* --- Demand of the foreground, for what is to spare. --- */

double quota_demand(const struct quota *q, tick_t now)
{
    return q->demand.rate * exp(-(double)(now - q->demand.at) / (double)DEMAND_MEMORY);
}

static void note_demand(struct quota *q, tick_t now)
{
    double one = 1.0 / ((double)DEMAND_MEMORY / (double)TICK_S);
    if (now - q->demand.at < DEMAND_STEP) { /* it decays by steps: a power for each call is dear */
        q->demand.rate += one;
        return;
    }
    q->demand.rate = quota_demand(q, now) + one;
    q->demand.at = now;
}

static bool paced(const struct quota *q)
{
    return q->rules->enabled && q->rules->mode != QUOTA_OBSERVE;
}

static void let_go(struct quota *q, tick_t now)
{
    if (q->rules->enabled)
        quota_windows_spend(q, now);
    q->in_flight++;
    q->let_go++;
    q->used_at = now;
}

bool quota_spare(struct quota *q, tick_t now)
{
    if (!paced(q))
        return true;
    quota_windows_turn(q, now);
    if (q->waiting || quota_windows_when(q, 0, now) > now)
        return false;
    double rate = quota_demand(q, now); /* calls a second */
    for (int i = 0; i < q->count; i++) {
        const struct quota_window *w = &q->window[i];
        if (w->limit < 0 || w->soft)
            continue;
        double ahead = (double)(w->end_hi - now) / (double)TICK_S;
        int64_t ours = quota_window_ours(q, w) >= 0 ? quota_window_ours(q, w) : w->limit;
        double left = (double)quota_window_left(q, w) - 0.1 * (double)ours;
        if (left < 1 + rate * (ahead > 0 ? ahead : 0))
            return false;
    }
    return true;
}

/* --- Asking. --- */

static void want(struct quota *q)
{
    for (int i = 0; i < q->count; i++)
        q->window[i].wanted = true;
}

static struct quota_verdict refused(struct quota *q, tick_t at)
{
    q->refused++;
    return (struct quota_verdict){QUOTA_REFUSED, at};
}

/* A newcomer has pushed the last one beyond its time. */
static void push_out(struct quota *q, quota_wake wake, void *arg, tick_t now)
{
    while (q->last && q->waiting > 1) {
        tick_t at = quota_windows_when(q, (int64_t)q->waiting - 1, now);
        if (q->waiting <= QUOTA_QUEUE && at <= q->last->until)
            return;
        refuse(q, q->last, wake, arg, at);
    }
}

static struct quota_verdict queue_up(struct quota *q, const struct quota_call *call, struct quota_waiter *w,
                                     quota_wake wake, void *arg, tick_t now)
{
    tick_t until = now + q->rules->max_wait;
    if (until > call->deadline)
        until = call->deadline;
    double tag = tag_next(q, call->flow);
    uint32_t rank = rank_of(q, tag);
    tick_t at = quota_windows_when(q, rank, now);
    if (q->rules->mode == QUOTA_REJECT || at > until || (rank >= QUOTA_QUEUE)) {
        tag_undo(q, call->flow);
        return refused(q, at);
    }
    *w = (struct quota_waiter){.tag = tag, .flow = call->flow, .since = now, .until = until};
    insert(q, w);
    q->waited++;
    push_out(q, wake, arg, now);
    return (struct quota_verdict){QUOTA_WAIT, at};
}

struct quota_verdict quota_ask(struct quota *q, const struct quota_call *call, struct quota_waiter *w,
                               quota_wake wake, void *arg, tick_t now)
{
    if (!call->background)
        note_demand(q, now);
    if (q->rules->enabled)
        quota_windows_turn(q, now);
    if (!paced(q)) {
        let_go(q, now);
        return (struct quota_verdict){QUOTA_GO, now};
    }
    tick_t next = quota_windows_when(q, 0, now);
    if (call->background) {
        if (!quota_spare(q, now))
            return refused(q, next > now ? next : now + TICK_S);
        let_go(q, now);
        return (struct quota_verdict){QUOTA_GO, now};
    }
    if (!q->first && next <= now) {
        /* Nobody was passed over; but who has had many without asking others is remembered for a while. */
        double tag = tag_next(q, call->flow) - REMEMBERED;
        q->virtual_time = tag > q->virtual_time ? tag : q->virtual_time;
        let_go(q, now);
        return (struct quota_verdict){QUOTA_GO, now};
    }
    want(q);
    return queue_up(q, call, w, wake, arg, now);
}

tick_t quota_turn(struct quota *q, quota_wake wake, void *arg, tick_t now)
{
    if (!q->first)
        return TICK_NEVER;
    if (q->rules->enabled)
        quota_windows_turn(q, now);
    while (q->first) {
        struct quota_waiter *w = q->first;
        tick_t at = paced(q) ? quota_windows_when(q, 0, now) : now;
        if (at <= now) {
            take_out(q, w);
            q->virtual_time = w->tag > q->virtual_time ? w->tag : q->virtual_time;
            let_go(q, now);
            wake(w, true, now, arg);
        } else if (at > w->until) { /* news came in: it takes longer than was thought */
            refuse(q, w, wake, arg, at);
        } else {
            return at;
        }
    }
    return TICK_NEVER;
}

void quota_end(struct quota *q, const struct quota_answer *a, tick_t now)
{
    if (q->in_flight)
        q->in_flight--;
    if (!q->rules->enabled)
        return;
    quota_windows_turn(q, now);
    quota_windows_hear(q, a, now);
    if (q->unsettled && !q->in_flight)
        quota_learnt_settle(q, now);
}

tick_t quota_next(struct quota *q, tick_t now)
{
    if (!paced(q))
        return now;
    quota_windows_turn(q, now);
    return quota_windows_when(q, 0, now);
}

struct quota_look quota_look(struct quota *q, int i, tick_t now)
{
    if (q->rules->enabled)
        quota_windows_turn(q, now);
    if (i < 0 || i >= q->count)
        return (struct quota_look){.limit = -1};
    const struct quota_window *w = &q->window[i];
    int64_t left = quota_window_left(q, w);
    bool told = w->told_at != 0, assumed = !told && (w->soft || q->upstream_refused == 0);
    return (struct quota_look){w->key, w->limit, left > 0 ? left : 0, w->length, w->end_hi, told, assumed};
}
