/*
 * The concurrency limit. Invariants: in_flight is the number of GOs and grants without an end; the limit
 * stays within [min, max] and, once health is known, below 3 h + 20; a waiter leaves the queue exactly once.
 *
 * A window of half a second with fifty answers, or of longer with fewer, is judged by its share of drops f,
 * the mean latency W of what was answered and its throughput X. A healthy one (few drops, W near the fastest
 * seen) raises what health has proved, h = X.W. A slow server still has as many workers, so drops must not
 * push the limit below h: that is the floor, which shrinks only while most calls are dropped.
 */
#include "policy/concurrency.h"

#include <math.h>
#include <string.h>

#define WINDOW         (TICK_S / 2)
#define MANY           50 /* answers: means of fewer make the limit creep down */
#define ENOUGH         10 /* of a longer window */
#define STANDING_DELAY (5 * TICK_MS)
#define STANDING_FOR   (100 * TICK_MS)
#define FIRST_LIMIT    20

static double clamped(double v, double lo, double hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

static void bound(struct concurrency *c)
{
    double most = c->rules->max;
    if (c->healthy > 0 && 3 * c->healthy + 20 < most)
        most = 3 * c->healthy + 20;
    c->limit = clamped(c->limit, c->rules->min, most < c->rules->min ? c->rules->min : most);
}

void concurrency_init(struct concurrency *c, const struct concurrency_rules *rules, tick_t now)
{
    memset(c, 0, sizeof *c);
    c->rules = rules;
    c->trust = 1;
    c->window.began = now;
    c->limit = rules->max; /* nothing is known: nobody is held back before there is a reason */
    bound(c);
}

void concurrency_tune(struct concurrency *c, const struct concurrency_rules *rules)
{
    c->rules = rules;
    bound(c);
}

int concurrency_limit(const struct concurrency *c)
{
    if (c->rules->mode == CONCURRENCY_FIXED)
        return c->rules->max;
    return c->limit >= 1 ? (int)c->limit : 1;
}

static bool holds(const struct concurrency *c)
{
    return c->rules->mode == CONCURRENCY_ADAPTIVE || c->rules->mode == CONCURRENCY_FIXED;
}

tick_t concurrency_retry_after(const struct concurrency *c)
{
    double turn = c->usual * (1 + (double)c->waiting / concurrency_limit(c));
    return turn > 1 && turn < 3600 ? (tick_t)(turn * (double)TICK_S) : TICK_S;
}

/* --- Learning. --- */

static double floor_of(const struct concurrency *c)
{
    double f = c->trust * c->healthy;
    return f > c->rules->min ? f : c->rules->min;
}

static uint32_t answers(const struct concurrency *c)
{
    return c->window.good + c->window.dropped + c->window.shed + c->window.other;
}

static void learn_health(struct concurrency *c, double f, double w, double x, double seconds)
{
    double late = (double)c->window.dropped / answers(c), steps = seconds / ((double)WINDOW / (double)TICK_S);
    if (w > 0) {
        c->usual = w;
        c->fastest = c->fastest > 0 && c->fastest * 1.001 < w ? c->fastest * 1.001 : w;
    }
    if (late < 0.01 && w > 0 &&
        w <= 1.25 * c->fastest) { /* what is answered well at full speed proves so much */
        double busy = f < 0.01 ? (2 * x * w + c->peak) / 3 : x * w, now = busy < c->limit ? busy : c->limit;
        c->healthy = c->healthy * 0.998 > now ? c->healthy * 0.998 : now;
    }
    if (f > 0.5 && c->limit <= 1.1 * floor_of(c)) /* even so many are too many now */
        c->trust = clamped(c->trust * 0.85, 0.05, 1);
    else if (f < 0.4) /* quickly when all is well, slowly when some are lost: at a slow upstream some always
                          are */
        c->trust = clamped(c->trust * pow(f < 0.05 ? 1.1 : 1.03, steps), 0.05, 1);
}

static void judge(struct concurrency *c, tick_t now)
{
    double all = answers(c), seconds = (double)(now - c->window.began) / (double)TICK_S;
    double f = (c->window.dropped + c->window.shed) / all;
    double w = c->window.good ? c->window.sum / c->window.good : 0, x = c->window.good / seconds;
    learn_health(c, f, w, x, seconds);
    double least = floor_of(c), busy = x * w, served = w <= 1.6 * c->fastest ? busy + 3 * sqrt(busy) + 1 : 0;
    if (served > least)
        least = served; /* errors that come as fast as ever are no sign of too much work: what is served well
                           may go on */
    if (f > 0.05)
        c->limit = c->limit * 0.7 > least ? c->limit * 0.7 : least;
    else if (w <= 1.6 * c->fastest) {
        if (c->peak >= 0.8 * c->limit)
            c->limit = 1.1 * c->limit + 1;
    } else {
        c->limit = c->limit * 0.9 > least ? c->limit * 0.9 : least;
    }
    bound(c);
}

static void close_window(struct concurrency *c, tick_t now)
{
    tick_t age = now - c->window.began;
    uint32_t all = answers(c);
    if (age < WINDOW)
        return;
    if (all >= MANY || (all >= ENOUGH && (age >= 5 * WINDOW || c->window.dropped * 2 > all)))
        judge(c, now);
    else if (age < 20 * WINDOW && all > 0)
        return; /* few calls: gathered for up to ten seconds */
    memset(&c->window, 0, sizeof c->window);
    c->window.began = now;
    c->peak = c->in_flight;
}

void concurrency_end(struct concurrency *c, enum outcome outcome, tick_t took, tick_t now)
{
    const struct outcome_row *row = outcome_row(outcome);
    if (c->in_flight > 0)
        c->in_flight--;
    if (row->load == OUTCOME_LOAD_GOOD) {
        c->window.good++;
        c->window.sum += (double)took / (double)TICK_S;
    } else if (row->load == OUTCOME_LOAD_DROPPED) {
        c->window.dropped++;
    } else if (row->load == OUTCOME_LOAD_SHED) {
        c->window.shed++;
    } else if (row->breaker != BREAKER_IGNORED) {
        c->window.other++;
    }
    close_window(c, now);
}

void concurrency_gathered(struct concurrency *c, uint32_t let_go, uint32_t good, int64_t sum, tick_t now)
{
    c->let_go += let_go;
    c->window.good += good;
    c->window.sum += (double)sum / (double)TICK_S;
    close_window(c, now);
}

/* --- The queue. --- */

static void take_out(struct concurrency *c, struct concurrency_waiter *w)
{
    *(w->prev ? &w->prev->next : &c->first) = w->next;
    *(w->next ? &w->next->prev : &c->last) = w->prev;
    w->prev = w->next = NULL;
    w->queued = false;
    c->waiting--;
}

void concurrency_leave(struct concurrency *c, struct concurrency_waiter *w)
{
    if (w->queued)
        take_out(c, w);
}

static void append(struct concurrency *c, struct concurrency_waiter *w)
{
    w->prev = c->last;
    w->next = NULL;
    *(c->last ? &c->last->next : &c->first) = w;
    c->last = w;
    w->queued = true;
    c->waiting++;
}

static void let_go(struct concurrency *c)
{
    c->in_flight++;
    c->let_go++;
    if (c->in_flight > c->peak)
        c->peak = c->in_flight;
}

static void refuse(struct concurrency *c, struct concurrency_waiter *w, concurrency_wake wake, void *arg)
{
    take_out(c, w);
    c->refused++;
    wake(w, false, arg);
}

static bool overloaded(const struct concurrency *c, tick_t now)
{
    return c->standing && now - c->standing >= STANDING_FOR;
}

/* CoDel's question, asked whenever the queue is touched: has the oldest waited for longer than it should, all
 * along? */
static void look_at_queue(struct concurrency *c, tick_t now)
{
    if (!c->first || now - c->first->since <= STANDING_DELAY)
        c->standing = 0;
    else if (!c->standing)
        c->standing = c->first->since + STANDING_DELAY;
}

/* No more wait than can be worked off before the time of those who wait is over. */
static uint32_t room(const struct concurrency *c)
{
    double limit = concurrency_limit(c), patience = (double)c->rules->queue_timeout / (double)TICK_S;
    double turns = c->usual > 0 ? patience / c->usual : patience * 10;
    return (uint32_t)clamped(limit * (turns < 1 ? 1 : turns), 16, 100000);
}

enum concurrency_verdict concurrency_ask(struct concurrency *c, struct concurrency_waiter *w, tick_t deadline,
                                         concurrency_wake wake, void *arg, tick_t now)
{
    bool full = c->in_flight >= concurrency_limit(c);
    if (c->rules->mode != CONCURRENCY_OFF && full)
        c->would_refuse++;
    if (!holds(c) || (!full && !c->first)) {
        let_go(c);
        return CONCURRENCY_GO;
    }
    tick_t answer = (tick_t)(c->usual * (double)TICK_S), until = now + c->rules->queue_timeout;
    if (until > deadline - answer)
        until = deadline - answer;
    if (until <= now) {
        c->refused++;
        return CONCURRENCY_REFUSED;
    }
    *w = (struct concurrency_waiter){.since = now, .until = until};
    append(c, w);
    c->waited++;
    while (c->waiting > room(c))
        refuse(c, c->first, wake, arg); /* the oldest has the least time left */
    look_at_queue(c, now);
    return CONCURRENCY_WAIT; /* the newcomer itself stays: there is room for more than one */
}

tick_t concurrency_turn(struct concurrency *c, concurrency_wake wake, void *arg, tick_t now)
{
    while (c->first && c->first->until <= now)
        refuse(c, c->first, wake, arg);
    look_at_queue(c, now);
    bool newest = overloaded(c, now);
    while (c->first && (!holds(c) || c->in_flight < concurrency_limit(c))) {
        struct concurrency_waiter *w = newest ? c->last : c->first;
        if (w->until <= now) { /* its deadline came before those of its neighbours */
            refuse(c, w, wake, arg);
            continue;
        }
        take_out(c, w);
        let_go(c);
        wake(w, true, arg);
    }
    look_at_queue(c, now);
    return c->first ? c->first->until : TICK_NEVER;
}
