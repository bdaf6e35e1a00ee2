/*
 * The window that is learnt where the server states none: limit_guess.h says which limit can have answered as
 * this one did, and what is left of it, its pace and its tries for more are kept here. Invariants: there is
 * at most one learnt window, and no other beside it.
 *
 * Whoever paces evenly by the right rate is refused by no kind of limit. So what is not a long window on
 * round times is a rate: a call each length / limit, with what idle time has saved.
 */
#include "policy/quota.h"

#define SHORT      (10 * TICK_S)  /* up to here a window is a rate */
#define LOOKED_AT  (10 * TICK_S)  /* how often, at least, a rate is */
#define REST       (600 * TICK_S) /* until more is tried again; doubled each time in vain */
#define REST_MOST  6              /* so many times */
#define SLACK      1.005
#define SAID_ABOUT (1100 * TICK_MS) /* of a Retry-After, which is in whole seconds */
#define SAYS_MUCH  (3 * TICK_S)     /* a shorter one does not */

static struct limit_clock clock_of(const struct quota *q)
{
    return (struct limit_clock){q->offset_lo, q->offset_hi};
}

struct quota_window *quota_learnt(struct quota *q)
{
    for (int i = 0; i < q->count; i++)
        if (q->window[i].key == RATE_KEY_LEARNT)
            return &q->window[i];
    return NULL;
}

bool quota_stated(const struct quota *q)
{
    for (int i = 0; i < q->count; i++)
        if (q->window[i].told_at)
            return true;
    return false;
}

/* One more, or a hundredth, to see whether it is accepted. */
static void try_more(struct quota_window *w)
{
    w->learnt.trying = true;
    w->learnt.from_span = w->learnt.span;
    w->learnt.from_shape = w->learnt.shape;
    if (w->learnt.each == 0) {
        w->limit++;
        w->left++;
        return;
    }
    bool vague = w->learnt.shape == LIMIT_SHAPE_BUCKET && !w->learnt.narrow;
    double more = vague ? 0.25 : w->limit < 20 ? 2.0 / (double)w->limit : 0.1;
    w->learnt.each = (tick_t)((double)w->learnt.each / (1 + more));
    w->limit += (int64_t)(more * (double)w->limit) + 1;
    w->learnt.calls += (int64_t)(more * (double)w->learnt.calls) + 1;
}

static void as_rate(struct quota_window *w, const struct limit_guess *g, tick_t now)
{
    double calls = g->limit > 0 ? g->limit : 1;
    w->learnt.each = (tick_t)((double)g->length / calls * SLACK);
    w->learnt.slides = g->shape != LIMIT_SHAPE_BUCKET && g->length > SHORT;
    w->learnt.calls = (int64_t)calls;
    w->length = 40 * w->learnt.each < LOOKED_AT     ? LOOKED_AT
                : 40 * w->learnt.each < 60 * TICK_S ? 40 * w->learnt.each
                                                    : 60 * TICK_S;
    if (g->shape != LIMIT_SHAPE_BUCKET && w->length < g->length)
        w->length = g->length;
    w->limit = (int64_t)((double)w->length / (double)w->learnt.each + 0.5);
    w->limit = w->limit > 0 ? w->limit : 1;
    w->learnt.size = g->shape == LIMIT_SHAPE_BUCKET ? g->burst : w->learnt.slides ? calls / 10 : 1;
    w->left = w->limit;
    w->begin = now;
    w->end_lo = w->end_hi = now + w->length;
}

static void as_window(struct quota *q, struct quota_window *w, const struct limit_guess *g, tick_t now)
{
    w->learnt.each = 0;
    w->learnt.slides = false;
    w->length = g->length;
    w->limit = (int64_t)(g->limit + 0.5);
    quota_window_align(q, w, now);
    w->left = w->limit - limit_accepted_since(&q->log, w->begin);
}

static bool learn(struct quota *q, double faster, tick_t now)
{
    struct limit_guess g = limit_guess(&q->log, clock_of(q), faster);
    struct quota_window *w = quota_learnt(q);
    if (g.shape == LIMIT_SHAPE_NONE || (!w && limit_accepted_before_refusal(&q->log) < 2))
        return false; /* a refusal out of nothing is no limit of one call */
    if (!w) {
        q->count = 0; /* what was only assumed is refuted */
        w = &q->window[q->count++];
        *w = (struct quota_window){.key = RATE_KEY_LEARNT, .share = -1, .grant = -1, .last = now};
    }
    bool same = w->learnt.span == g.length && w->learnt.shape == g.shape;
    bool refused = w->refused;
    w->learnt.span = g.length;
    w->learnt.shape = g.shape;
    w->learnt.narrow = g.narrow;
    w->learnt.size = 1;
    w->credit = 0;
    w->refused = false;
    if (g.shape != LIMIT_SHAPE_FIXED || g.length <= SHORT)
        as_rate(w, &g, now);
    else
        as_window(q, w, &g, now);
    bool back = w->learnt.from_span == g.length && w->learnt.from_shape == g.shape;
    if (refused && back) { /* more was tried, and in vain */
        w->learnt.rest = now + (REST << (w->learnt.vain < REST_MOST ? w->learnt.vain : REST_MOST));
        w->learnt.vain++;
    } else if (!same && !back) {
        w->learnt.rest = refused ? now + 2 * g.length : 0;
    }
    w->learnt.trying = false;
    if (now >= w->learnt.rest && !q->streak && g.shape != LIMIT_SHAPE_BUCKET)
        try_more(w);
    q->turn_due = 0;
    return true;
}

bool quota_learn(struct quota *q, tick_t now)
{
    return learn(q, 0, now);
}

bool quota_learnt_review(struct quota *q, struct quota_window *w, bool spent, tick_t now)
{
    bool all = w->learnt.each > 0 ? w->wanted : spent;
    if (!all || w->refused)
        return false;
    if (!w->learnt.trying) {
        if (now >= w->learnt.rest || (w->learnt.shape == LIMIT_SHAPE_BUCKET && !w->learnt.narrow))
            try_more(w);
        return false;
    }
    /* It was accepted: it is another limit, or a larger one. */
    struct quota_window before = *w;
    double rate = w->learnt.each > 0 ? 1.0 / (double)w->learnt.each : (double)w->limit / (double)w->length;
    w->learnt.trying = false;
    bool vague = w->learnt.shape == LIMIT_SHAPE_BUCKET && !w->learnt.narrow;
    if (learn(q, vague ? 0 : rate, now))
        return true;
    *w = before;
    limit_log_forget_refusals(&q->log);
    w->limit += w->limit / 4;
    w->learnt.each -= w->learnt.each / 5;
    w->learnt.vain = 0;
    return false;
}

static void gate_of_learnt(struct quota *q, struct quota_window *w, tick_t now)
{
    tick_t until = now + w->learnt.each;
    if (w->learnt.each == 0) {
        w->left = 0;
        until = w->end_hi;
    } else if (w->learnt.shape == LIMIT_SHAPE_FIXED) {
        struct quota_window at = {.length = w->learnt.span};
        quota_window_align(q, &at, now);
        until = at.end_hi + q->log.doubt;
    } else if (w->learnt.shape != LIMIT_SHAPE_BUCKET && !w->learnt.slides) {
        until = limit_probe(&q->log, clock_of(q), now);
    }
    tick_t room = w->learnt.slides ? limit_room(&q->log, w->learnt.span, w->learnt.calls) : 0;
    quota_close_gate(q, room > until ? room : until);
}

void quota_learnt_refused(struct quota *q, tick_t sent, tick_t after, tick_t now)
{
    struct quota_window *w = quota_learnt(q);
    bool first = q->streak <= 1;
    limit_log_refused(&q->log, sent, now);
    if (after >= SAYS_MUCH)
        limit_log_would_refuse(&q->log, now + after - SAID_ABOUT);
    if (w)
        w->refused = true;
    if (after > 10 * TICK_MS)
        quota_close_gate(q, now + after);
    else if (w && first)
        gate_of_learnt(q, w, now);
    else
        quota_close_gate(q, limit_probe(&q->log, clock_of(q), now));
    q->unsettled = w && first;
    q->said_when = after > 10 * TICK_MS;
}

/* Those that were under way with what was refused are over: the log is whole. */
void quota_learnt_settle(struct quota *q, tick_t now)
{
    q->unsettled = false;
    tick_t gate = q->gate;
    bool learnt = quota_learn(q, now);
    struct quota_window *w = quota_learnt(q);
    if (!learnt && w) { /* no limit can have done all that: this is another one */
        limit_log_forget(&q->log, w->begin);
        int64_t accepted = limit_accepted_since(&q->log, w->begin);
        if (w->learnt.each == 0)
            w->limit = accepted > 1 ? accepted - accepted / 20 : 1;
        else
            w->learnt.each += w->learnt.each / 10;
    }
    if (!w)
        return;
    w->refused = true;
    q->gate = now;
    if (q->said_when)
        quota_close_gate(q, gate);
    else
        gate_of_learnt(q, w, now);
}
