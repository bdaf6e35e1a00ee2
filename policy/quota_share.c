/*
 * The governor's side of a budget that several sidecars share. Invariants: of a window's calls no more are
 * let go than are granted; out of touch a new window's grant is its even part, so that all together stay
 * within the limit; a window that is only assumed and holds nobody back is not shared.
 */
#include "policy/budget.h"
#include "policy/quota.h"

#define WANTS_MOST 1e6

static bool shared(const struct quota *q, const struct quota_window *w)
{
    return q->sidecars > 0 && w->limit >= 0 && !w->soft && w->key != RATE_KEY_LEARNT;
}

int64_t quota_window_ours(const struct quota *q, const struct quota_window *w)
{
    if (!shared(q, w))
        return -1;
    return w->grant >= 0 ? w->grant : budget_alone(w->limit, q->sidecars);
}

void quota_share(struct quota *q, int count, bool in_touch, tick_t now)
{
    bool changed = (q->sidecars > 0) != (count > 0);
    q->sidecars = count;
    q->in_touch = in_touch && count > 0;
    for (int i = 0; changed && i < q->count; i++)
        q->window[i].grant = -1;
    quota_windows_turn(q, now);
}

int quota_parts(struct quota *q, struct quota_part *out, tick_t now)
{
    int n = 0;
    quota_windows_turn(q, now);
    for (int i = 0; i < q->count; i++) {
        const struct quota_window *w = &q->window[i];
        if (!shared(q, w) || w->length <= 0)
            continue;
        bool rate = budget_kind_of(w->length) == BUDGET_RATE; /* its part of every such time */
        double ahead = rate              ? (double)w->length / (double)TICK_S
                       : w->end_hi > now ? (double)(w->end_hi - now) / (double)TICK_S
                                         : 0;
        double wants = (double)q->waiting + quota_demand(q, now) * ahead;
        out[n++] = (struct quota_part){
            .key = w->key,
            .limit = w->share >= 0 && w->share < w->limit ? w->share : w->limit,
            .left = w->told_at && !rate ? w->left - (int64_t)q->in_flight : -1,
            .used = rate ? 0 : w->mine + (int64_t)q->in_flight,
            .held = quota_window_ours(q, w),
            .wants = wants < WANTS_MOST ? wants : WANTS_MOST,
            .length = w->length,
            .ends = w->end_hi,
        };
    }
    return n;
}

void quota_granted(struct quota *q, const struct quota_part *part, int64_t grant, int64_t rest, tick_t now)
{
    quota_windows_turn(q, now);
    for (int i = 0; i < q->count; i++) {
        struct quota_window *w = &q->window[i];
        tick_t off = w->end_hi > part->ends ? w->end_hi - part->ends : part->ends - w->end_hi;
        if (w->key != part->key || !shared(q, w) || off > w->length / 2)
            continue;
        w->grant = grant < 0 ? 0 : grant;
        w->common = rest;
    }
}

void quota_heard_refusal(struct quota *q, tick_t until, bool disguised, tick_t now)
{
    if (until > now && (until > q->gate + TICK_MS || (disguised && !q->refusal_disguised))) {
        q->refusal_disguised = q->refusal_disguised || disguised;
        quota_windows_heard(q, until, disguised, now);
    }
}
