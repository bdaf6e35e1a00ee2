/*
 * The concurrency limit. Invariants: in_flight is the number of GOs and grants without an end; the limit
 * stays within [min, max], and, once health is known, comes down to 1.5 h + 5 or what is in use; a waiter
 * leaves the queue exactly once.
 *
 * A window of half a second with thirty answers, or of longer with fewer, is judged by its share of drops f,
 * the mean latency W of what was answered and its throughput X. A healthy one (few drops, W near the fastest
 * seen) raises what health has proved, h = X.W.
 *
 * When latencies grow, a server that has become slow still works on as many calls at once, and one that has
 * lost workers makes them wait: the limit must stay in the first case and come down in the second. The
 * distance between the shortest and the mean latency tells one from the other (upstream_wait); where a server
 * takes the same time for all calls it says nothing, and the limit stays at h. Is next to nothing answered in
 * time, then what was sent already has to be worked off first: a few calls find out how it goes on, and the
 * limit doubles for as long as each step brings more.
 */
#include "policy/concurrency.h"

#include <math.h>
#include <string.h>

#define WINDOW         (TICK_S / 2)
#define MANY           30 /* answers: means of fewer say little */
#define ENOUGH         10 /* of a longer window */
#define FEW            5  /* of a probe */
#define STANDING_DELAY (5 * TICK_MS)
#define STANDING_FOR   (100 * TICK_MS)
#define HEADROOM       1.5
#define LIMIT_LEAST    20   /* of what is known to be well: no limit below it */
#define PROBE_SHARE    0.25 /* of what was healthy, to find out whether it is over */
#define RAMP_BEGINS    1e-9
#define QUEUES         0.25 /* more wait than this, in service times: too many calls are there */
#define FREE           0.1  /* less: more may come */

static double clamped(double v, double lo, double hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

static void bound(struct concurrency *c)
{
    double most = c->rules->max, known = HEADROOM * c->healthy + 5;
    if (known < LIMIT_LEAST)
        known = LIMIT_LEAST;
    if (known < 0.8 * c->limit) /* by and by: what is learnt first may be much too low */
        known = 0.8 * c->limit;
    if (c->healthy > 0 && known < most)
        most = known;
    c->limit = clamped(c->limit, c->rules->min, most < c->rules->min ? c->rules->min : most);
}

void concurrency_init(struct concurrency *c, const struct concurrency_rules *rules, tick_t now)
{
    memset(c, 0, sizeof *c);
    c->rules = rules;
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

static uint32_t answers(const struct concurrency *c)
{
    return c->window.good + c->window.dropped + c->window.shed + c->window.other;
}

struct look {          /* at a window */
    double failed;     /* share that was dropped or shed */
    double latency;    /* mean of what was answered well, seconds; 0: nothing was */
    double all;        /* with those that were dropped, for as long as they lasted */
    double low;        /* of the shortest in ten; 0: too few */
    double throughput; /* of good answers, a second */
    double ends;       /* of all calls, a second */
    double steps;      /* its length in WINDOWs */
};

static struct look look_at_window(const struct concurrency *c, tick_t now)
{
    double all = answers(c), seconds = (double)(now - c->window.began) / (double)TICK_S;
    return (struct look){
        .failed = (c->window.dropped + c->window.shed) / all,
        .latency = c->window.good ? c->window.sum / c->window.good : 0,
        .all = c->window.good + c->window.dropped
                   ? (c->window.sum + c->window.lost) / (c->window.good + c->window.dropped)
                   : 0,
        .low = c->window.batches >= 2 ? c->window.lows / c->window.batches : 0,
        .throughput = c->window.good / seconds,
        .ends = all / seconds,
        .steps = seconds * (double)TICK_S / (double)WINDOW,
    };
}

static double mixed(double old, double news)
{
    return old > 0 ? old + (news - old) / 8 : news;
}

static void learn_health(struct concurrency *c, const struct look *l)
{
    double late = (double)c->window.dropped / answers(c), w = l->latency;
    if (w <= 0)
        return;
    c->usual = w;
    /* No call waits at the upstream for longer than the shortest takes: the rest is work. */
    bool whole = c->window.good >= 2 * (uint32_t)c->in_flight; /* else the long ones are not in it yet */
    double work = whole && l->low > 0 && w - l->low > c->fastest ? w - l->low : 0;
    /* Is most of what was begun still under way, then what is over are the short ones. */
    if (c->fastest <= 0)
        c->vague = c->in_flight - c->window.under_way > (int)c->window.good;
    if (c->fastest <= 0 || c->fastest > w)
        c->fastest = c->fastest > 0 && !whole ? c->fastest : w;
    else
        c->fastest = work <= 0 ? 1.001 * c->fastest : c->vague ? work : mixed(c->fastest, work);
    c->vague = c->vague && !whole;
    if (late >= 0.05 || w > 1.25 * c->fastest)
        return;
    /* What is answered well at full speed proves so much. */
    bool all = l->failed < 0.01 && c->window.good >= (uint32_t)c->peak; /* and those at once as well */
    double busy = l->throughput * w, now = all ? (2 * busy + c->peak) / 3 : busy;
    now = now < c->limit ? now : c->limit;
    c->healthy = c->healthy * 0.998 > now ? c->healthy * 0.998 : now;
    if (l->low > 0 && whole) {
        c->mean = mixed(c->mean, l->all);
        c->low = mixed(c->low, l->low);
    }
}

/*
 * How long calls wait at the upstream before it works on them, seconds; < 0: cannot be told. A slower server
 * stretches all latencies, a queue in front of it adds the same to all: the distance from the shortest to the
 * mean tells the factor, and what it leaves of the shortest is the wait.
 */
static double upstream_wait(const struct concurrency *c, const struct look *l)
{
    double distance = c->mean - c->low;
    if (l->low <= 0 || distance < 0.3 * c->mean || distance <= 0)
        return -1;
    double factor = (l->all - l->low) / distance, wait = l->low - factor * c->low;
    return wait > 0 ? wait : 0;
}

/* Next to nothing is answered: whatever is sent only lengthens the queue that has to be worked off first. */
static void collapse(struct concurrency *c)
{
    double probe = c->healthy * PROBE_SHARE;
    if (c->reached <= 0)
        c->top = 0.6 * c->limit;
    c->limit = c->limit * 0.5 < probe || c->reached > 0 ? c->limit * 0.5 : probe;
    c->reached = RAMP_BEGINS;
    c->stale = (uint32_t)c->in_flight; /* their ends say nothing about how few fare */
}

/* Back up in doubling steps, for as long as each step brings more. */
static bool ramp(struct concurrency *c, const struct look *l, double wait)
{
    bool queues = wait >= 0 && wait > QUEUES * (l->latency - wait);
    if (c->reached <= 0)
        return false;
    if (l->failed > 0.5)
        return true; /* wait and see */
    bool no_more = wait < 0 && l->throughput < 1.2 * c->reached && c->window.good >= 2 * CONCURRENCY_BATCH;
    double most = wait < 0 && c->top > 0 && c->top < c->healthy ? c->top : c->healthy;
    if (queues || no_more || c->limit >= most) {
        c->reached = 0;
        return false;
    }
    c->reached = l->throughput > RAMP_BEGINS ? l->throughput : RAMP_BEGINS;
    c->limit = 2 * c->limit < most ? 2 * c->limit : most;
    return true;
}

static void down_to(struct concurrency *c, double to, double least)
{
    to = to > least ? to : least;
    c->limit = c->limit < to ? c->limit : to;
}

/* The latency's shape tells whether calls queue at the upstream. */
static void follow_queue(struct concurrency *c, const struct look *l, double wait)
{
    double service = l->latency - wait;
    if (wait > QUEUES * service) {
        down_to(c, c->limit - 0.5 * l->ends * (wait - FREE * service), 0.7 * c->limit);
    } else if (wait < FREE * service && c->peak >= 0.8 * c->limit) {
        c->limit = (c->limit < c->healthy ? 1.25 : 1.1) * c->limit + 1;
    }
}

static void judge(struct concurrency *c, tick_t now)
{
    struct look l = look_at_window(c, now);
    learn_health(c, &l);
    double busy = l.ends * l.latency, wait = upstream_wait(c, &l);
    bool quick = l.latency > 0 && l.latency <= 1.6 * c->fastest;
    /* Errors that come as fast as ever are no sign of too much work: what is served well may go on. */
    double least = quick ? busy + 3 * sqrt(busy) + 1 : 0;
    if (!c->window.good && l.failed <= 0.9)
        return; /* it tells nothing about load */
    if (l.failed > 0.9) {
        collapse(c);
    } else if (ramp(c, &l, wait)) {
        ;
    } else if (quick && l.failed <= 0.05) {
        bool room = c->first && wait >= 0 && wait < FREE * l.latency;
        if (c->peak >= 0.8 * c->limit)
            c->limit = (room ? 1.5 : 1.1) * c->limit + 1;
    } else if (l.failed > 0.5) {
        down_to(c, 0.7 * c->limit, least);
    } else if (wait >= 0 && !quick) {
        follow_queue(c, &l, wait);
    } else {
        down_to(c, (l.failed > 0.05 ? 0.7 : 0.9) * c->limit, least > c->healthy ? least : c->healthy);
    }
    if (quick && c->limit < least)
        c->limit = least;
    bound(c);
}

static void begin_window(struct concurrency *c, tick_t now)
{
    memset(&c->window, 0, sizeof c->window);
    c->window.began = now;
    c->window.under_way = c->in_flight;
}

static void close_window(struct concurrency *c, tick_t now)
{
    tick_t age = now - c->window.began;
    uint32_t all = answers(c);
    bool probing = c->reached > 0 && all >= FEW && 2 * all >= c->limit;
    bool awaited = c->first && all >= MANY && c->window.good == all &&
                   c->window.sum <= 1.25 * c->fastest * all; /* all is well: more may come, and soon */
    if (age < (awaited ? WINDOW / 4 : probing ? WINDOW / 2 : WINDOW))
        return;
    if (all >= MANY || probing || (all >= ENOUGH && (age >= 5 * WINDOW || c->window.dropped * 2 > all)))
        judge(c, now);
    else if (age < 20 * WINDOW && all > 0)
        return; /* few calls: gathered for up to ten seconds */
    begin_window(c, now);
    c->peak = c->in_flight;
}

/* True: these ends are of calls sent before a collapse. Behind the last of them a window begins. */
static bool pass_stale(struct concurrency *c, uint32_t ends, tick_t now)
{
    if (!c->stale)
        return false;
    c->stale -= ends < c->stale ? ends : c->stale;
    begin_window(c, now);
    return true;
}

static void note_low(struct concurrency *c, double took)
{
    c->batch.low = !c->batch.n || took < c->batch.low ? took : c->batch.low;
    if (++c->batch.n < CONCURRENCY_BATCH)
        return;
    c->window.lows += c->batch.low;
    c->window.batches++;
    c->batch.n = 0;
}

void concurrency_end(struct concurrency *c, enum outcome outcome, tick_t took, tick_t now)
{
    const struct outcome_row *row = outcome_row(outcome);
    if (c->in_flight > 0)
        c->in_flight--;
    if (pass_stale(c, 1, now))
        return;
    if (row->load == OUTCOME_LOAD_GOOD) {
        c->window.good++;
        c->window.sum += (double)took / (double)TICK_S;
        note_low(c, (double)took / (double)TICK_S);
    } else if (row->load == OUTCOME_LOAD_DROPPED) {
        c->window.dropped++;
        c->window.lost += (double)took / (double)TICK_S;
    } else if (row->load == OUTCOME_LOAD_SHED) {
        c->window.shed++;
    } else if (row->breaker != BREAKER_IGNORED) {
        c->window.other++;
    }
    close_window(c, now);
}

void concurrency_gathered(struct concurrency *c, const struct concurrency_gathering *g, tick_t now)
{
    c->let_go += g->let_go;
    if (pass_stale(c, g->good, now))
        return;
    c->window.good += g->good;
    c->window.sum += (double)g->sum / (double)TICK_S;
    c->window.batches += g->batches;
    c->window.lows += (double)g->lows / (double)TICK_S;
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
