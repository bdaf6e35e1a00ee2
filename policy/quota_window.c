/*
 * The windows of a rate limit: what is left in each, when it ends, and the pace that this allows.
 *
 * Invariants. `left` never grows within a window, except by the word of a server to a call that was sent
 * after the newest word before. A window is renewed only when it is surely over (end_hi), and the pace aims
 * at its earliest end (end_lo): all of it is spent before the doubt begins. Calls in flight are always taken
 * off.
 */
#include <string.h>

#include "policy/quota.h"

#define CLOCK_DOUBT TICK_S /* of the sidecar's own clock, before the first Date */
#define SHORT_WINDOW                                                                                         \
    (10 * TICK_S) /* up to here a window is a rate: resets in whole seconds say too little                   \
                   */
#define REFUSED_LATELY (20 * TICK_S)
#define UNTOLD         (2 * TICK_S) /* of so short a window what is left is out of date when it is heard */
#define FORGET         (3600 * TICK_S)
#define GATE_FIRST     (100 * TICK_MS)
#define GATE_MOST      (60 * TICK_S)
#define SLACK          1.005           /* of the pace in short windows */
#define SHARE_PATIENCE (250 * TICK_MS) /* until others have given back what they do not need */
#define PROBE_PATIENCE TICK_S          /* the others wait no longer for what becomes of a call beyond it */
#define PROBE_WINDOWS  5               /* so many hungry windows, then an assumed limit is tried */
#define REST_WINDOWS   60              /* so many more before it is tried again */

static const tick_t assumed_length[QUOTA_ASSUMED] = {60 * TICK_S, 3600 * TICK_S, 86400 * TICK_S};
static const uint32_t assumed_key[QUOTA_ASSUMED] = {RATE_KEY_MINUTE, RATE_KEY_HOUR, RATE_KEY_DAY};

static int64_t cap(const struct quota_window *w)
{
    return w->share >= 0 && w->share < w->limit ? w->share : w->limit;
}

static bool is_rate(const struct quota_window *w)
{
    return w->learnt.each > 0 || (w->length > 0 && w->length <= SHORT_WINDOW && w->limit > 0);
}

/* What others share with us and left to us. */
static int64_t ours(const struct quota *q, const struct quota_window *w)
{
    int64_t part = quota_window_ours(q, w), all = cap(w);
    return part >= 0 && part < all ? part : all;
}

int64_t quota_window_left(const struct quota *q, const struct quota_window *w)
{
    int64_t part = quota_window_ours(q, w) - w->mine, left = w->left;
    if (quota_window_ours(q, w) >= 0 && part < left && !is_rate(w))
        left = part;
    return left - (int64_t)q->in_flight;
}

static int64_t available(const struct quota *q, const struct quota_window *w)
{
    return quota_window_left(q, w);
}

static double burst(const struct quota *q, const struct quota_window *w)
{
    int64_t most = ours(q, w);
    if (w->learnt.each > 0)
        return w->learnt.size > 1 ? w->learnt.size : 1;
    if (is_rate(w) || most <= 1)
        return 1;
    return (
        double)(most /
                2); /* an application that starts, or wakes up, is not made to wait for what it may have */
}

/* --- Ends. --- */

static int64_t floor_div(int64_t a, int64_t b)
{
    int64_t d = a / b;
    return a % b < 0 ? d - 1 : d;
}

/* The window of our own count, by the server's clock, that `now` surely has reached. */
void quota_window_align(const struct quota *q, struct quota_window *w, tick_t now)
{
    int64_t n = floor_div(now + q->offset_lo, w->length);
    w->begin = n * w->length - q->offset_hi;
    w->end_lo = (n + 1) * w->length - q->offset_hi;
    w->end_hi = (n + 1) * w->length - q->offset_lo;
}

static struct quota_window *find(struct quota *q, uint32_t key)
{
    for (int i = 0; i < q->count; i++)
        if (q->window[i].key == key)
            return &q->window[i];
    return NULL;
}

static struct quota_window *add(struct quota *q, uint32_t key)
{
    if (q->count == QUOTA_WINDOWS)
        return NULL;
    struct quota_window *w = &q->window[q->count++];
    *w = (struct quota_window){.key = key, .limit = -1, .share = -1, .grant = -1, .partial = true};
    return w;
}

static void drop(struct quota *q, int i)
{
    q->window[i] = q->window[--q->count];
}

/* Nobody knows what was spent before we came: as much as an even pace would have. */
static void as_if_even(struct quota_window *w, tick_t now)
{
    int64_t left = (int64_t)((double)w->limit * (double)(w->end_hi - now) / (double)w->length + 0.5);
    left = left < 1 ? 1 : left;
    w->left = left < w->left ? left : w->left;
}

void quota_windows_assume(struct quota *q, tick_t now)
{
    q->turn_due = 0;
    for (int i = 0; i < q->count; i++)
        if (q->window[i].told_at)
            return; /* the server speaks for itself */
    for (int i = 0; i < QUOTA_ASSUMED; i++) {
        if (q->rules->assumed[i] <= 0 || find(q, assumed_key[i]))
            continue;
        struct quota_window *w = add(q, assumed_key[i]);
        if (!w)
            return;
        w->length = assumed_length[i];
        w->limit = q->rules->assumed[i];
        quota_window_align(q, w, now);
        w->left = w->limit;
        w->soft = !q->rules->believe;
        if (!w->soft)
            as_if_even(w, now);
        w->credit = burst(q, w);
    }
}

static int64_t assumed_of(const struct quota *q, uint32_t key)
{
    for (int i = 0; i < QUOTA_ASSUMED; i++)
        if (assumed_key[i] == key)
            return q->rules->assumed[i];
    return 0;
}

/* An assumed limit that held somebody back for long is tried with one call more; when that goes well, with
 * more. */
static void review_assumed(const struct quota *q, struct quota_window *w, bool spent)
{
    int64_t assumed = assumed_of(q, w->key);
    if (assumed <= 0)
        return;
    if (w->limit > assumed && w->refused) {
        w->limit = assumed;
        w->rest = REST_WINDOWS;
    } else if (w->limit > assumed && spent) {
        w->limit += w->limit / 2;
    } else if (w->rest) {
        w->rest--;
    } else if (w->hungry >= PROBE_WINDOWS && w->share < 0 && q->sidecars < 2) {
        w->hungry = 0;
        w->limit++;
    }
}

static void review(const struct quota *q, struct quota_window *w)
{
    w->probe_at = 0;
    if (w->soft)
        return;
    bool spent = w->left <= 0;
    w->hungry = spent && w->wanted ? w->hungry + 1 : 0;
    w->wanted = false;
    if (w->share >= 0 && spent && !w->refused)
        w->share += w->share / 20 + 1;
    if (w->share >= w->limit)
        w->share = -1;
    if (!w->told_at)
        review_assumed(q, w, spent);
}

/* Our own count goes by the server's clock. */
static bool aligned(const struct quota_window *w)
{
    return !w->told_at && w->learnt.each == 0 && (w->length >= 60 * TICK_S || w->key == RATE_KEY_LEARNT);
}

static void renew(struct quota *q, struct quota_window *w, tick_t now)
{
    tick_t lo = w->end_lo;
    bool spent = w->left <= 0;
    if (w->key == RATE_KEY_LEARNT && quota_learnt_review(q, w, spent, now))
        return; /* it is another one now */
    review(q, w);
    w->refused = false;
    w->partial = false;
    w->left = cap(w) - w->edge;
    w->mine = w->edge;
    w->grant = -1;
    w->common = 0;
    w->edge = 0;
    if (aligned(w)) {
        quota_window_align(q, w, now);
        return;
    }
    tick_t length = w->length > 0 ? w->length : FORGET, gone = now - w->end_hi;
    tick_t whole = (gone / length + 1) * length;
    w->begin = lo + whole - length;
    w->end_lo = lo + whole;
    w->end_hi += whole;
}

void quota_windows_turn(struct quota *q, tick_t now)
{
    if (now < q->turn_due)
        return;
    q->turn_due = TICK_NEVER;
    for (int i = 0; i < q->count; i++) {
        struct quota_window *w = &q->window[i];
        if (w->told_at && now - w->told_at > FORGET && now - w->told_at > 2 * w->length) {
            drop(q, i--);
            continue;
        }
        if (now >= w->end_hi)
            renew(q, w, now);
        q->turn_due = w->end_hi < q->turn_due ? w->end_hi : q->turn_due;
        if (w->told_at && w->told_at + FORGET < q->turn_due)
            q->turn_due = w->told_at + FORGET + 1 > now ? w->told_at + FORGET + 1 : 0;
    }
}

/* --- The pace. --- */

/* What the pace counts from: the newest call, or the window's beginning. A learnt rate may be slower than a
 * call a window: its beginnings say nothing. */
static tick_t base_of(const struct quota_window *w)
{
    if (w->learnt.each > 0)
        return w->last;
    return w->last > w->begin ? w->last : w->begin;
}

/* Between two calls, `left` of them being available: the last one goes an interval before the end. */
static double interval(const struct quota *q, const struct quota_window *w, int64_t left)
{
    if (w->learnt.each > 0)
        return (double)w->learnt.each;
    if (is_rate(w))
        return (double)w->length / (double)(ours(q, w) > 0 ? ours(q, w) : 1) * SLACK;
    double time = (double)(w->end_lo - base_of(w));
    return time > 0 && left > 0 ? time / (double)(left + 1) : 0;
}

void quota_windows_spend(struct quota *q, tick_t now)
{
    for (int i = 0; i < q->count; i++) {
        struct quota_window *w = &q->window[i];
        if (w->soft) { /* whoever believes in it begins without credit */
            if (available(q, w) <= 0)
                w->probe_at = now;
            w->last = now;
            continue;
        }
        double iv = interval(q, w, available(q, w)), ahead = (double)base_of(w) + iv - (double)now,
               most = burst(q, w);
        if (w->limit < 0)
            continue;
        if (ahead > 0)
            w->credit -= 1;
        else if (iv > 0)
            w->credit += -ahead / iv;
        w->credit = w->credit < 0 ? 0 : w->credit > most ? most : w->credit;
        w->last = now;
    }
}

/*
 * A limit that is assumed and not confirmed holds nobody back; but beyond it one call goes first and the
 * others hear how it fared, so that if it is true the upstream has to refuse only one.
 */
static tick_t soft_when(const struct quota *q, const struct quota_window *w, tick_t now)
{
    bool heard = !w->probe_at || now - w->probe_at >= PROBE_PATIENCE;
    return w->open || heard || available(q, w) > 0 ? now : w->probe_at + PROBE_PATIENCE;
}

/* Somebody else may spend from the same limit. */
static bool lately_refused(const struct quota *q, tick_t now)
{
    return q->upstream_refused && now - q->throttled_at < REFUSED_LATELY;
}

/* When one window lets the call at this rank go. */
static tick_t window_when(const struct quota *q, const struct quota_window *w, int64_t rank, tick_t now)
{
    int64_t left = available(q, w);
    if (w->limit < 0)
        return now;
    if (w->soft)
        return soft_when(q, w, now);
    if (w->learnt.each > 0 || (is_rate(w) && w->length <= UNTOLD && w->limit > 0 && !lately_refused(q, now)))
        left = rank + 1; /* the pace alone holds */
    if (left <= rank && q->in_touch && left + w->common > rank && w->left - (int64_t)q->in_flight > rank)
        return now + SHARE_PATIENCE; /* others have some of it left */
    if (left <= rank) {              /* in a later window */
        int64_t most = ours(q, w) > 0 ? ours(q, w) : 1;
        double each = (double)(w->length > 0 ? w->length : 60 * TICK_S) / (double)most;
        double behind = (double)(rank - (left > 0 ? left : 0)) * each;
        return w->end_hi + (behind < (double)FORGET * 24 ? (tick_t)behind : FORGET * 24);
    }
    double at = (double)base_of(w) + (double)(rank + 1 - (int64_t)w->credit) * interval(q, w, left);
    tick_t room =
        w->learnt.slides ? limit_room(&q->log, w->learnt.span, w->learnt.calls - (int64_t)q->in_flight) : now;
    now = room > now ? room : now;
    return at > (double)now ? (tick_t)at : now;
}

tick_t quota_windows_when(const struct quota *q, int64_t rank, tick_t now)
{
    tick_t at = q->gate > now ? q->gate : now;
    if (q->streak && q->in_flight && at < now + GATE_FIRST)
        at = now + GATE_FIRST; /* behind a gate one goes first, and the others hear how it fared */
    for (int i = 0; i < q->count; i++) {
        tick_t t = window_when(q, &q->window[i], rank, now);
        if (t > at)
            at = t;
    }
    return at;
}

/* --- News. --- */

/* The server's clock at a moment between sending and hearing, in whole seconds. */
static void hear_date(struct quota *q, int64_t date, tick_t sent, tick_t now)
{
    if (date < 0 || date > INT64_C(8000000000))
        return;
    tick_t lo = date * TICK_S - now, hi = (date + 1) * TICK_S - sent;
    bool jumped = lo > q->offset_hi || hi < q->offset_lo; /* a clock was set, or ours was wrong */
    if (jumped) {
        q->offset_lo = lo;
        q->offset_hi = hi;
    } else {
        q->offset_lo = lo > q->offset_lo ? lo : q->offset_lo;
        q->offset_hi = hi < q->offset_hi ? hi : q->offset_hi;
    }
    for (int i = 0; i < q->count; i++) {
        struct quota_window *w = &q->window[i];
        if (!aligned(w) || now >= w->end_hi)
            continue;
        if (jumped) {
            quota_window_align(q, w, now);
            as_if_even(w, now);
            continue;
        }
        /* The same window, its ends known better. */
        int64_t n = floor_div((w->end_lo + w->end_hi) / 2 + (q->offset_lo + q->offset_hi) / 2 + w->length / 2,
                              w->length);
        w->end_lo = n * w->length - q->offset_hi;
        w->end_hi = n * w->length - q->offset_lo;
    }
}

/* Resets are in whole seconds, and servers round them up, down or to the nearest. */
static void hear_end(struct quota *q, struct quota_window *w, const struct rate_window *said,
                     const struct quota_answer *a, tick_t now)
{
    tick_t doubt = said->exact ? 10 * TICK_MS : TICK_S;
    tick_t lo = a->sent_at + said->reset - doubt, hi = now + said->reset + doubt;
    tick_t slack = w->length > 0 && w->length / 2 < 2 * TICK_S ? w->length / 2 : 2 * TICK_S;
    (void)q;
    if (!w->told_at || lo > w->end_hi + slack || hi < w->end_lo) {
        w->end_lo = lo;
        w->end_hi = hi;
        w->begin = w->length > 0 ? lo - w->length : a->sent_at;
    } else {
        w->end_lo = lo > w->end_lo ? lo : w->end_lo;
        w->end_hi = hi < w->end_hi ? hi : w->end_hi;
        if (w->end_lo > w->end_hi)
            w->end_lo = w->end_hi;
    }
    if (w->length <= 0 || (said->length == 0 && said->reset > w->length))
        w->length = said->reset > TICK_S ? said->reset : TICK_S;
}

static bool begin_anew(struct quota_window *w, const struct quota_answer *a)
{
    w->mine = a->charged;
    w->grant = -1;
    w->common = 0;
    return true;
}

static void hear_window(struct quota *q, const struct rate_window *said, const struct quota_answer *a,
                        tick_t now)
{
    struct quota_window *w = find(q, said->key);
    if (said->limit >= RATE_MANY || (said->limit < 0 && said->remaining < 0))
        return;
    if (said->limit == 0 && !a->throttled)
        return; /* a limit of no call at all beside one that was taken: it means that there is none */
    if (!w) {
        if (!(w = add(q, said->key)))
            return;
        w->mine = a->charged;
    }
    bool newest = a->sent_at >= w->told_at;
    bool fresh = w->limit < 0 || !w->told_at;
    if (said->length > 0)
        w->length = said->length;
    if (said->limit >= 0 && newest)
        w->limit = said->limit;
    if (w->limit < 0)
        w->limit = said->remaining + 1; /* the most that is known of */
    if (said->reset >= 0) {
        tick_t slack = 2 * TICK_S < w->length / 2 ? 2 * TICK_S : w->length / 2;
        if (!fresh && a->sent_at + said->reset - TICK_S > w->end_hi + slack)
            fresh = begin_anew(w, a); /* it speaks of the next window already */
        else if (!fresh && now + said->reset + TICK_S < w->end_lo - slack && !newest)
            return; /* an old answer about the window before */
        hear_end(q, w, said, a, now);
    } else if (fresh && w->end_hi <= now) {
        tick_t length = w->length > 0 ? w->length : 60 * TICK_S;
        w->length = length;
        quota_window_align(q, w, now);
    }
    if (said->remaining >= 0 && (fresh || newest || said->remaining < w->left))
        w->left = said->remaining;
    else if (said->remaining < 0 && fresh)
        w->left = w->limit;
    else if (said->remaining < 0 && a->charged && w->left > 0)
        w->left--;
    if (w->limit >= 0 && !w->told_at)
        w->credit = burst(q, w);
    if (fresh)
        w->share = -1;
    w->told_at = now;
    w->soft = false;
}

static const struct rate_window *said_of(const struct rate_reading *r, uint32_t key)
{
    for (int i = 0; r && i < r->count; i++)
        if (r->window[i].key == key)
            return &r->window[i];
    return NULL;
}

/* Windows that the answer said nothing of: our own count. */
static void count_call(struct quota *q, const struct quota_answer *a, tick_t now)
{
    tick_t counted = a->sent_at + (now - a->sent_at) / 2; /* at the server, about */
    bool disproved = false;
    for (int i = 0; i < q->count; i++) {
        struct quota_window *w = &q->window[i];
        bool here = a->charged && counted >= w->begin;
        w->mine += here;
        if (said_of(a->reading, w->key) || !here || w->learnt.each > 0)
            continue;
        w->left--;
        w->edge += counted >= w->end_lo;
        /* By the count, not by which call it was: answers overtake each other. */
        disproved = disproved || (w->soft && w->left < 0 && a->reading && !a->throttled);
    }
    for (int i = 0; disproved && i < q->count; i++)
        q->window[i].open = q->window[i].soft;
}

/* The first window that can explain a refusal: the shortest. */
static struct quota_window *shortest(struct quota *q)
{
    struct quota_window *best = NULL;
    for (int i = 0; i < q->count; i++)
        if (q->window[i].limit >= 0 && (!best || q->window[i].length < best->length))
            best = &q->window[i];
    return best;
}

static bool says_none_left(const struct rate_reading *r)
{
    for (int i = 0; r && i < r->count; i++)
        if (r->window[i].remaining == 0 && r->window[i].reset >= 0)
            return true;
    return false;
}

void quota_close_gate(struct quota *q, tick_t until)
{
    q->gate = until > q->gate ? until : q->gate;
    /* After it at the even pace: who all come back at once would be refused at once. */
    for (int i = 0; i < q->count; i++) {
        struct quota_window *w = &q->window[i];
        w->last = q->gate;
        w->credit = 0;
    }
}

/* It is true, then. What was accepted beyond what is assumed is so much more that may be had. */
static bool believe(struct quota *q)
{
    bool fresh = false;
    for (int i = 0; i < q->count; i++) {
        struct quota_window *w = &q->window[i];
        int64_t assumed = assumed_of(q, w->key), accepted = w->limit - w->left - 1;
        if (!w->soft)
            continue;
        fresh = true;
        w->soft = w->open = false;
        w->limit = accepted > assumed ? accepted : assumed;
        w->left = 0 < w->limit - accepted ? w->limit - accepted : 0;
        w->credit = 0;
    }
    return fresh;
}

/* One of the limits that are assumed explains the refusals, and more than they allow was not accepted. */
static bool assumption_fits(const struct quota *q)
{
    bool explains = false;
    struct limit_clock clock = {q->offset_lo, q->offset_hi};
    for (int i = 0; i < q->count; i++) {
        const struct quota_window *w = &q->window[i];
        if (assumed_of(q, w->key) <= 0)
            return false;
        enum limit_fit fit = limit_fits(&q->log, clock, w->length, w->limit, q->in_flight);
        if (fit == LIMIT_FIT_REFUTED)
            return false;
        explains = explains || fit == LIMIT_FIT_EXPLAINS;
    }
    return explains;
}

/* A share of an assumed limit is ours, when others spend from it too or it is smaller than is assumed. */
static void take_share(const struct quota *q, struct quota_window *w)
{
    int64_t accepted = cap(w) - w->left - 1;
    if (q->sidecars < 2 && accepted < assumed_of(q, w->key))
        w->share = accepted > 1 ? accepted - accepted / 10 : 1;
}

/* It said when, and no window that is assumed ends then: it is something else. */
static bool says_otherwise(const struct quota *q, tick_t after, tick_t now)
{
    if (after <= 10 * TICK_MS)
        return false;
    for (int i = 0; i < q->count; i++) {
        tick_t off = now + after - q->window[i].end_hi;
        if (off >= -2 * TICK_S && off <= 3 * TICK_S) /* its clock, and whole seconds */
            return false;
    }
    return true;
}

/* Nothing is stated. */
static void refused_unsaid(struct quota *q, const struct quota_answer *a, tick_t after, tick_t now)
{
    if (a->disguised)
        quota_windows_assume(q, now);
    if (says_otherwise(q, after, now) || (!assumption_fits(q) && q->sidecars < 2)) {
        quota_learnt_refused(q, a->sent_at, after, now);
        return;
    }
    limit_log_refused(&q->log, a->sent_at, now);
    bool fresh = believe(q); /* only now: its count says nothing about others */
    struct quota_window *w = shortest(q);
    if (!w) {
        quota_close_gate(q, now + GATE_FIRST);
        return;
    }
    if (!fresh && !w->partial && !w->refused)
        take_share(q, w);
    w->refused = true;
    w->left = 0;
    tick_t longer = q->streak > 2 ? GATE_MOST << (q->streak < 8 ? q->streak - 2 : 6) : 0;
    quota_close_gate(q, after > 10 * TICK_MS       ? now + after
                        : longer > w->end_hi - now ? now + longer
                                                   : w->end_hi);
}

void quota_windows_refused(struct quota *q, const struct quota_answer *a, tick_t now)
{
    tick_t after = a->reading ? a->reading->retry_after : -1;
    q->turn_due = 0;
    bool again = a->sent_at >= q->throttled_at; /* not one of those that were under way together */
    q->upstream_refused++;
    if (!again && after < 0)
        return;
    q->streak += again;
    q->throttled_at = now;
    q->refusal_disguised = a->disguised;
    if (!quota_stated(q)) {
        refused_unsaid(q, a, after, now);
        return;
    }
    struct quota_window *w = shortest(q);
    if (w)
        w->refused = true;
    tick_t backoff = GATE_FIRST << (q->streak < 11 ? q->streak - (q->streak > 0) : 10);
    if (backoff > GATE_MOST)
        backoff = GATE_MOST;
    if (after >= 0) {
        quota_close_gate(q, now + (after > 10 * TICK_MS ? after : backoff));
    } else if (says_none_left(a->reading)) {
        return; /* its window is empty now, and says when it begins anew */
    } else if (!w) {
        quota_close_gate(q, now + backoff);
    } else {
        w->left = 0;
        tick_t longer = q->streak > 2 ? GATE_MOST << (q->streak < 8 ? q->streak - 2 : 6) : 0;
        quota_close_gate(q, longer > w->end_hi - now ? now + longer : w->end_hi);
    }
}

void quota_windows_heard(struct quota *q, tick_t until, bool disguised, tick_t now)
{
    q->turn_due = 0;
    if (disguised) {
        quota_windows_assume(q, now);
        (void)believe(q);
    }
    quota_close_gate(q, until);
}

void quota_windows_hear(struct quota *q, const struct quota_answer *a, tick_t now)
{
    const struct rate_reading *r = a->reading;
    if (r && (r->count || r->date >= 0 || q->streak))
        q->turn_due = 0; /* windows may move */
    if (r && r->date >= 0)
        hear_date(q, r->date, a->sent_at, now);
    count_call(q, a, now);
    bool spoke = false;
    for (int i = 0; r && i < r->count; i++) {
        hear_window(q, &r->window[i], a, now);
        spoke = true;
    }
    for (int i = 0; spoke && i < q->count;
         i++) /* the server speaks: what was only assumed or learnt is dropped */
        if (!q->window[i].told_at)
            drop(q, i--);
    if (a->throttled) {
        quota_windows_refused(q, a, now);
    } else if (r) {
        bool stated = quota_stated(q), behind = q->streak > 0;
        if (!stated && a->charged)
            limit_log_accepted(&q->log, a->sent_at, now);
        if (a->sent_at < q->throttled_at)
            return;
        q->streak = 0;
        if (stated)
            return;
        if (behind && (quota_learnt(q) || !q->count || !assumption_fits(q)))
            (void)quota_learn(q, now);
    }
}
