/*
 * Guessing a limit. Invariants: runs are in order of time, a run of accepted calls and a refusal are never
 * joined; of each candidate two bounds are found in one pass over the log: what it must allow because that
 * many were accepted, and what it cannot allow because one more was refused. A candidate whose bounds cross
 * is refuted. What lies so near a bound of its window that either side may have counted it argues for
 * neither.
 */
#include "policy/limit_guess.h"

#include <math.h>
#include <string.h>

#define JOINED     (20 * TICK_MS) /* calls so near each other are one run */
#define LEAST      (10 * TICK_MS) /* of doubt */
#define NEVER_BACK INT64_C(1000000000000)
#define RATE_STEP  1.005
#define WIDE       1.02

/* How usual each length is. What is not here is met by a longer one, and then by trying for more. */
static const struct {
    int seconds;
    double weight;
} usual[] = {{1, 0.5},    {2, 0.05},   {5, 0.1},     {10, 0.3},   {15, 0.1},   {20, 0.05},
             {30, 0.2},   {60, 1},     {120, 0.05},  {300, 0.2},  {600, 0.15}, {900, 0.2},
             {1800, 0.1}, {3600, 0.5}, {10800, 0.1}, {86400, 0.3}};
#define USUAL (int)(sizeof usual / sizeof usual[0])

static const int tried[] = {1,   10,  30,   60,
                            300, 900, 3600, 86400}; /* seconds after which a call is worth it */
#define TRIED (int)(sizeof tried / sizeof tried[0])

/* --- The log. --- */

static void drop_first(struct limit_log *l, int n)
{
    memmove(l->run, l->run + n, (size_t)(l->count - n) * sizeof l->run[0]);
    l->count -= n;
}

/* Joins neighbours in the older half; when that frees nothing, the oldest are forgotten. */
static void make_room(struct limit_log *l)
{
    int kept = 0, half = l->count / 2;
    for (int i = 0; i < l->count; i++) {
        struct limit_run *into = kept ? &l->run[kept - 1] : NULL;
        if (i < half && i % 2 && into->calls && l->run[i].calls) {
            into->last = l->run[i].last;
            into->calls += l->run[i].calls;
        } else {
            l->run[kept++] = l->run[i];
        }
    }
    l->count = kept;
    if (l->count == LIMIT_RUNS)
        drop_first(l, LIMIT_RUNS / 8);
}

static void insert(struct limit_log *l, tick_t at, uint32_t calls)
{
    int i = l->count;
    while (i > 0 && l->run[i - 1].first > at)
        i--;
    struct limit_run *before = i > 0 ? &l->run[i - 1] : NULL;
    if (before && (before->calls > 0) == (calls > 0) &&
        (at <= before->last || at - before->first <= JOINED)) {
        before->last = at > before->last ? at : before->last;
        before->calls += calls;
        return;
    }
    if (l->count == LIMIT_RUNS) {
        make_room(l);
        insert(l, at, calls);
        return;
    }
    if (before && at < before->last)
        at = before->last; /* a refusal within a long run: behind it */
    memmove(&l->run[i + 1], &l->run[i], (size_t)(l->count - i) * sizeof l->run[0]);
    l->run[i] = (struct limit_run){at, at, calls};
    l->count++;
}

/* The server counts a call when it comes: half of the shortest time there and back after it was sent. */
static tick_t counted_at(struct limit_log *l, tick_t sent, tick_t answered)
{
    tick_t half = (answered - sent) / 2;
    half = half < 0 ? 0 : half < TICK_S / 2 ? half : TICK_S / 2;
    l->doubt = l->count && l->doubt < half ? l->doubt + l->doubt / 1024 : half;
    return sent + l->doubt;
}

static void append(struct limit_log *l, tick_t sent, tick_t answered, uint32_t calls)
{
    tick_t at = counted_at(l, sent, answered), then = l->would_refuse;
    if (then && at > then) {
        l->would_refuse = 0;
        insert(l, then, 0);
    }
    insert(l, at, calls);
}

void limit_log_accepted(struct limit_log *l, tick_t sent, tick_t answered)
{
    append(l, sent, answered, 1);
}

void limit_log_refused(struct limit_log *l, tick_t sent, tick_t answered)
{
    append(l, sent, answered, 0);
}

void limit_log_would_refuse(struct limit_log *l, tick_t at)
{
    l->would_refuse = at;
}

void limit_log_forget_refusals(struct limit_log *l)
{
    int kept = 0;
    for (int i = 0; i < l->count; i++)
        if (l->run[i].calls)
            l->run[kept++] = l->run[i];
    l->count = kept;
}

void limit_log_forget(struct limit_log *l, tick_t before)
{
    int n = 0;
    while (n < l->count && l->run[n].last < before)
        n++;
    drop_first(l, n);
}

int64_t limit_accepted_since(const struct limit_log *l, tick_t since)
{
    int64_t n = 0;
    for (int i = l->count - 1; i >= 0 && l->run[i].last >= since; i--)
        n += l->run[i].calls;
    return n;
}

int64_t limit_accepted_before_refusal(const struct limit_log *l)
{
    int64_t n = 0;
    int i = l->count - 1;
    while (i >= 0 && l->run[i].calls)
        i--;
    for (; i >= 0; i--)
        n += l->run[i].calls;
    return n;
}

tick_t limit_room(const struct limit_log *l, tick_t length, int64_t limit)
{
    int64_t n = 0;
    for (int i = l->count - 1; i >= 0; i--)
        if ((n += l->run[i].calls) >= limit)
            return l->run[i].last + length + l->doubt + LEAST;
    return 0;
}

/* --- Bounds of one candidate. --- */

struct bounds {
    double least, most; /* it must allow so many, and cannot allow more */
};

static int64_t floor_div(int64_t a, int64_t b)
{
    int64_t d = a / b;
    return a % b < 0 ? d - 1 : d;
}

/* One window while the log is walked through. */
struct tally {
    int64_t window;
    double calls, perhaps; /* surely and perhaps in it */
    double refused_at;     /* what it had when one was refused */
    bool whole;            /* all of it was seen */
};

static struct tally tally_of(int64_t window, double perhaps, bool whole)
{
    return (struct tally){window, 0, perhaps, INFINITY, whole};
}

static void weigh(struct bounds *b, struct tally *t, uint32_t calls)
{
    t->calls += calls;
    if (calls && t->calls > b->least)
        b->least = t->calls;
    if (calls && t->calls > t->refused_at)
        b->most = 0; /* a window that is spent stays so, whoever else spent from it */
    if (!calls && t->calls + t->perhaps < t->refused_at)
        t->refused_at = t->calls + t->perhaps;
    if (!calls && t->whole && t->refused_at < b->most)
        b->most = t->refused_at;
}

static struct bounds fixed_bounds(const struct limit_log *l, tick_t length, struct limit_clock clock,
                                  bool alone)
{
    struct bounds b = {0, INFINITY};
    struct tally t = tally_of(INT64_MIN, 0, false);
    int64_t next_window = INT64_MIN;
    double next = 0; /* may be of that one */
    tick_t doubt = l->doubt + LEAST;
    for (int i = 0; i < l->count; i++) {
        const struct limit_run *r = &l->run[i];
        int64_t in = floor_div(r->first + clock.lo - doubt, length),
                out = floor_div(r->last + clock.hi + doubt, length);
        if (in != out) { /* it may belong to either */
            t.perhaps += t.window == in || t.window == out ? r->calls : 0;
            next = next_window == out ? next + r->calls : r->calls;
            next_window = out;
            continue;
        }
        if (in > t.window)
            t = tally_of(in, next_window == in ? next : 0, alone || i > 0);
        weigh(&b, &t, r->calls);
    }
    return b;
}

static struct bounds begun_bounds(const struct limit_log *l, tick_t length, bool alone)
{
    struct bounds b = {0, INFINITY};
    struct tally t = tally_of(0, 0, false);
    tick_t doubt = 2 * (l->doubt + LEAST), begin = l->run[0].first - length - doubt;
    for (int i = 0; i < l->count; i++) {
        const struct limit_run *r = &l->run[i];
        if (r->first < begin + length - doubt) {
            weigh(&b, &t, r->calls);
        } else if (r->calls) {
            bool sure = r->first >= begin + length + doubt;
            t = tally_of(0, sure ? 0 : t.calls + t.perhaps, sure && (alone || i > 0));
            begin = r->first;
            weigh(&b, &t, r->calls);
        } else if (r->first >= begin + length + doubt && (alone || i > 0)) {
            b.most = 0; /* it would have been the first of a window */
        }
    }
    return b;
}

static struct bounds sliding_bounds(const struct limit_log *l, tick_t length, bool alone)
{
    struct bounds b = {0, INFINITY};
    tick_t doubt = 2 * (l->doubt + LEAST);
    int sure = 0, perhaps = 0; /* the first run that is still in the window */
    double calls = 0, wide = 0;
    for (int i = 0; i < l->count; i++) {
        const struct limit_run *r = &l->run[i];
        /* Not behind this one, which is in no window surely that is shorter than the doubt. */
        for (; sure <= i && l->run[sure].first < r->last - length + doubt; sure++)
            calls -= l->run[sure].calls;
        for (; perhaps < i && l->run[perhaps].last < r->first - length - doubt; perhaps++)
            wide -= l->run[perhaps].calls;
        bool whole = alone || l->run[0].first < r->first - length;
        if (!r->calls && whole && wide < b.most)
            b.most = wide;
        calls += r->calls;
        wide += r->calls;
        if (r->calls && calls > b.least)
            b.least = calls;
    }
    return b;
}

/* Of the bucket's size, at this rate (calls a tick): the level is the size less what was taken and has not
 * flowed in again, whatever the size is. */
static struct bounds bucket_bounds(const struct limit_log *l, double rate)
{
    struct bounds b = {0, INFINITY};
    double taken = 0, slack = 0.2 + rate * (double)(2 * l->doubt + LEAST);
    for (int i = 0; i < l->count; i++) {
        const struct limit_run *r = &l->run[i];
        taken -= i ? rate * (double)(r->first - l->run[i - 1].last) : 0;
        taken = taken > 0 ? taken : 0;
        if (!r->calls) {
            b.most = taken + 1 + slack < b.most ? taken + 1 + slack : b.most;
            if (b.least > b.most)
                break;
            continue;
        }
        taken += r->calls - rate * (double)(r->last - r->first);
        taken = taken > 1 ? taken : 1;
        b.least = taken - slack > b.least ? taken - slack : b.least;
        if (b.least > b.most)
            break; /* refuted */
    }
    return b;
}

/* --- The choice. --- */

static double roundness(double n)
{
    if (n < 10)
        return 1;
    double tens = fmod(n, 10);
    return tens < 1e-6 ? 1.5 : fmod(n, 5) < 1e-6 ? 1.2 : 0.8;
}

struct best {
    struct limit_guess guess;
    double weight;
    double faster; /* calls a tick: slower ones do not count */
};

static void consider(struct best *best, struct limit_guess g, struct bounds b, double weight)
{
    if (b.least > b.most || b.least < 1)
        return;
    g.limit = b.most < 1.05 * b.least + 3 ? b.most : b.least;
    weight *= roundness(g.limit);
    double step = best->faster > 0 ? g.limit / (best->faster * (double)g.length) : 1;
    if (step < 1)
        return;
    weight /= step; /* the nearest of those that are faster */
    if (weight > best->weight) {
        best->guess = g;
        best->weight = weight;
    }
}

/* The number with the fewest digits in this range. */
static double plainest(double lo, double hi)
{
    double step = 1e-6;
    while (step < hi)
        step *= 10;
    for (; step > (hi - lo) / 20; step /= 10) {
        double multiple[] = {step, step / 2, step / 4};
        for (int i = 0; i < 3; i++) {
            double n = ceil(lo / multiple[i] - 1e-9) * multiple[i];
            if (n <= hi && n > 0)
                return n;
        }
    }
    return (lo + hi) / 2;
}

struct rates {
    double lo, hi; /* calls a tick; lo 0: there are none */
    double size;   /* of the bucket, at hi */
};

/* The slowest rates, all beside each other, at which a bucket could have answered so, up to one above
 * `faster`. */
static struct rates bucket_rates(const struct limit_log *l, double faster)
{
    int64_t calls = limit_accepted_since(l, INT64_MIN);
    double span = (double)(l->run[l->count - 1].last - l->run[0].first), even = (double)calls / span;
    struct rates found = {0};
    if (span < (double)TICK_MS || calls < 2)
        return found;
    double step = RATE_STEP;
    for (double rate = even / 30; rate < even * 3; rate *= step) {
        struct bounds b = bucket_bounds(l, rate);
        if (b.most < INFINITY && b.least <= b.most)
            found = (struct rates){found.lo > 0 ? found.lo : rate, rate, b.least};
        else if (found.hi > faster)
            break;
        else
            found = (struct rates){0};
        step =
            found.hi > WIDE * found.lo ? WIDE : RATE_STEP; /* where the end of a wide range is matters less */
    }
    found.lo /= sqrt(RATE_STEP); /* half a step on either side: a rate may be known to less than one */
    found.hi *= sqrt(RATE_STEP);
    return found;
}

static void consider_buckets(struct best *best, const struct limit_log *l)
{
    struct rates fit = bucket_rates(l, best->faster);
    double lo = best->faster > fit.lo ? best->faster : fit.lo, hi = fit.hi, size = fit.size;
    double second = (double)TICK_S, minute = 60 * second;
    if (fit.lo <= 0 || lo >= hi)
        return;
    double from = hi / lo < 1.02 ? lo : sqrt(lo * hi);
    double rate = plainest(from * minute, hi * minute) / minute;
    double by_second = plainest(from * second, hi * second) / second;
    if (by_second * second >= 2 && fabs(by_second * second - round(by_second * second)) < 1e-6)
        rate = by_second;
    double seconds = size / rate / second; /* until it is full again */
    double weight = seconds < 65 ? 0.5 : seconds < 130 ? 0.15 : seconds < 4000 ? 0.03 : 0.01;
    if (weight > best->weight) {
        best->guess =
            (struct limit_guess){LIMIT_SHAPE_BUCKET, 60 * TICK_S, rate * minute, size, hi / lo < 1.02};
        best->weight = weight;
    }
}

static struct limit_guess guess(const struct limit_log *l, struct limit_clock clock, double faster,
                                bool alone)
{
    struct best best = {.faster = faster};
    tick_t span = l->run[l->count - 1].last - l->run[0].first;
    for (int i = 0; i < USUAL; i++) {
        tick_t length = usual[i].seconds * TICK_S;
        struct limit_guess g = {.length = length};
        g.shape = LIMIT_SHAPE_FIXED;
        consider(&best, g, fixed_bounds(l, length, clock, alone), usual[i].weight);
        if (!alone && length > span)
            continue; /* it cannot be refuted, nor be told from any other */
        g.shape = LIMIT_SHAPE_BEGUN;
        consider(&best, g, begun_bounds(l, length, alone), 0.4 * usual[i].weight);
        g.shape = LIMIT_SHAPE_SLIDING;
        consider(&best, g, sliding_bounds(l, length, alone), 0.5 * usual[i].weight);
    }
    if (alone) /* or none that fits was found before */
        consider_buckets(&best, l);
    return best.guess;
}

struct limit_guess limit_guess(const struct limit_log *l, struct limit_clock clock, double faster)
{
    bool refused = false;
    for (int i = 0; i < l->count; i++)
        refused = refused || !l->run[i].calls;
    if (!refused || l->count < 2)
        return (struct limit_guess){0};
    struct limit_guess g = guess(l, clock, faster, true);
    return g.shape != LIMIT_SHAPE_NONE ? g : guess(l, clock, faster, false);
}

enum limit_fit limit_fits(const struct limit_log *l, struct limit_clock clock, tick_t length, int64_t limit,
                          int64_t unheard)
{
    struct bounds b = fixed_bounds(l, length, clock, false);
    if (b.least > (double)limit)
        return LIMIT_FIT_REFUTED;
    return (double)limit <= b.most + (double)unheard ? LIMIT_FIT_EXPLAINS : LIMIT_FIT_MERELY;
}

/* --- When to try. --- */

/* The newest refusals in a row, and the accepted calls before them. */
static void newest_spell(const struct limit_log *l, tick_t *began, tick_t *refused)
{
    int i = l->count - 1;
    *refused = l->run[i].first;
    while (i >= 0 && !l->run[i].calls)
        *refused = l->run[i--].first;
    *began = *refused;
    while (i >= 0 && l->run[i].calls)
        *began = l->run[i--].first;
}

tick_t limit_probe(const struct limit_log *l, struct limit_clock clock, tick_t now)
{
    tick_t began, refused, best = TICK_NEVER, doubt = l->doubt + LEAST, at[2 * TRIED];
    if (!l->count)
        return now;
    newest_spell(l, &began, &refused);
    tick_t least = now + (now - refused) / 16 + doubt;
    for (int i = 0; i < TRIED; i++) {
        tick_t length = tried[i] * TICK_S;
        at[2 * i] = (floor_div(refused + clock.lo, length) + 1) * length - clock.lo + doubt;
        at[2 * i + 1] = began + length + 2 * doubt;
    }
    for (int i = 0; i < 2 * TRIED; i++)
        if (at[i] >= least && at[i] < best)
            best = at[i];
    if (best == TICK_NEVER)
        return now + 3600 * TICK_S;
    tick_t later = best;
    for (int i = 0; i < 2 * TRIED; i++) /* of two that are near each other the later one finds both */
        if (at[i] > later && at[i] <= best + (best - refused) / 8)
            later = at[i];
    return later;
}
