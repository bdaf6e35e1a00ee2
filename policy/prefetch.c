/*
 * The gates of prefetch. Invariants: tokens never exceed the bucket; every prefetch issued is settled once at
 * most (used or wasted); `window` holds the last settled ones, a bit each, and is what the gates learn from.
 *
 * What is open for long is judged as well: a prefetch that nobody used before OPEN_MAX others were issued, or
 * within OPEN_LIFE, counts against the accuracy (as unused, not as wasted: it may still be used, and is then
 * counted so).
 */
#include "policy/prefetch.h"

#include <stdlib.h>
#include <string.h>

enum {
    WINDOW = 200,    /* settled prefetches that the accuracy is taken from */
    ENOUGH = 20,     /* of them before it says anything */
    PLAIN = 60,      /* of them before a plain failure, less than half of what is asked, switches off */
    OPEN_MAX = 4096, /* prefetches whose use is being watched for */
    OPEN_WAYS = 4,
    SUPPORT = 2,
    DEFAULT_KEYS = 16384,
    DEFAULT_CLIENTS = 1024
};

#define BUCKET 16.0 /* tokens at most: a burst */
/* Switched off for so long, twice as long each time again. */
#define OFF_FIRST  ((tick_t)60 * TICK_S)
#define OFF_MOST   ((tick_t)3600 * TICK_S)
#define OPEN_LIFE  ((tick_t)600 * TICK_S)
#define GATE_LEAST 0.5F /* confidence asked for at first, and where all goes well */
#define GATE_MOST  0.9F
#define GATE_STEP  0.05F

/* A prefetch that was issued and of which nothing was heard yet. */
struct open {
    uint64_t key;
    tick_t at;
    bool taken;
};

struct prefetch {
    struct prefetch_settings set;
    struct successor *successor;
    double tokens;
    float gate;
    uint8_t window[WINDOW]; /* 1: used */
    unsigned settled, at, good, since_gate, gate_good;
    tick_t off_until, off_for;
    tick_t now; /* the latest that was said */
    struct open open[OPEN_MAX];
    size_t sweep; /* of open: where the next look for what is too old begins */
    struct prefetch_stats stats;
};

/* ---- life ---- */

static struct successor *successor_for(const struct prefetch_settings *set)
{
    struct successor_size size = {set->keys ? set->keys : DEFAULT_KEYS,
                                  set->clients ? set->clients : DEFAULT_CLIENTS,
                                  set->strategy == PREFETCH_PREDICTIVE, set->gap};
    return successor_new(&size);
}

/* What was measured belongs to the gates of then. */
static void forget_window(struct prefetch *p)
{
    p->settled = p->at = p->good = p->since_gate = p->gate_good = 0;
    p->gate = GATE_LEAST;
}

struct prefetch *prefetch_new(const struct prefetch_settings *settings)
{
    struct prefetch *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->set = *settings;
    p->off_for = OFF_FIRST;
    p->tokens = 1;
    forget_window(p);
    if (settings->strategy != PREFETCH_NONE)
        p->successor = successor_for(settings);
    if (p->successor || settings->strategy == PREFETCH_NONE)
        return p;
    free(p);
    return NULL;
}

void prefetch_free(struct prefetch *p)
{
    if (!p)
        return;
    successor_free(p->successor);
    free(p);
}

void prefetch_set(struct prefetch *p, const struct prefetch_settings *settings)
{
    size_t keys = p->set.keys, clients = p->set.clients;
    bool other = settings->strategy != p->set.strategy;
    bool had_pairs = p->set.strategy == PREFETCH_PREDICTIVE;
    p->set = *settings;
    p->set.keys = keys;
    p->set.clients = clients;
    if (!other)
        return;
    p->off_until = 0;
    p->off_for = OFF_FIRST;
    forget_window(p);
    /* Pairs are another table; without memory for one the old one, of order 1, goes on. */
    if (settings->strategy != PREFETCH_NONE &&
        (!p->successor || had_pairs != (settings->strategy == PREFETCH_PREDICTIVE))) {
        struct successor *next = successor_for(&p->set);
        if (next) {
            successor_free(p->successor);
            p->successor = next;
        }
    }
}

/* ---- the budget ---- */

static void add_tokens(struct prefetch *p, double n)
{
    p->tokens = p->tokens + n > BUCKET ? BUCKET : p->tokens + n;
}

bool prefetch_has_budget(const struct prefetch *p)
{
    return p->set.max_load > 0 && p->tokens >= 1;
}

static bool take_token(struct prefetch *p)
{
    if (!prefetch_has_budget(p))
        return false;
    p->tokens += p->set.max_load - 1; /* it is a request to the upstream itself */
    return true;
}

/* ---- what became of them ---- */

static bool self_restrained(const struct prefetch *p)
{
    return p->set.strategy == PREFETCH_ADAPTIVE || p->set.strategy == PREFETCH_PREDICTIVE;
}

static double precision(const struct prefetch *p)
{
    return p->settled > 0 ? (double)p->good / p->settled : 1;
}

/* The confidence asked for goes up while the accuracy is too low, and slowly down while it is well above. */
static void move_gate(struct prefetch *p, bool used)
{
    p->gate_good += used;
    if (++p->since_gate < ENOUGH)
        return;
    double lately = (double)p->gate_good / ENOUGH;
    p->since_gate = p->gate_good = 0;
    if (lately < p->set.accuracy)
        p->gate = p->gate + GATE_STEP > GATE_MOST ? GATE_MOST : p->gate + GATE_STEP;
    else
        p->gate = p->gate - GATE_STEP < GATE_LEAST ? GATE_LEAST : p->gate - GATE_STEP;
}

static void settle(struct prefetch *p, bool used, tick_t now)
{
    if (p->settled == WINDOW)
        p->good -= p->window[p->at];
    else
        p->settled++;
    p->window[p->at] = used;
    p->good += used;
    p->at = (p->at + 1) % WINDOW;
    if (!self_restrained(p))
        return;
    move_gate(p, used);
    double asked = p->settled == WINDOW ? p->set.accuracy : p->set.accuracy / 2;
    if (p->settled < PLAIN || precision(p) >= asked) {
        if (p->settled == WINDOW)
            p->off_for = OFF_FIRST;
        return;
    }
    p->off_until = now > TICK_NEVER - p->off_for ? TICK_NEVER : now + p->off_for;
    p->off_for = p->off_for * 2 > OFF_MOST ? OFF_MOST : p->off_for * 2;
    p->stats.switched_off++;
    forget_window(p);
    p->gate = GATE_MOST; /* what comes back must be sure of itself */
}

static size_t open_set(uint64_t key)
{
    return (size_t)(key * 0x9e3779b97f4a7c15u >> 32) % (OPEN_MAX / OPEN_WAYS) * OPEN_WAYS;
}

static struct open *open_find(struct prefetch *p, uint64_t key)
{
    struct open *set = &p->open[open_set(key)];
    for (unsigned i = 0; i < OPEN_WAYS; i++)
        if (set[i].taken && set[i].key == key)
            return &set[i];
    return NULL;
}

static void open_add(struct prefetch *p, uint64_t key, tick_t now)
{
    struct open *set = &p->open[open_set(key)], *place = open_find(p, key);
    for (unsigned i = 0; i < OPEN_WAYS && !place; i++)
        if (!set[i].taken)
            place = &set[i];
    if (!place) {
        place = set;
        for (unsigned i = 1; i < OPEN_WAYS; i++)
            if (set[i].at < place->at)
                place = &set[i];
    }
    if (place->taken)
        settle(p, false, now);
    *place = (struct open){key, now, true};
}

/* A few of them each time: those that nobody asked for in all this while. */
static void sweep(struct prefetch *p, tick_t now)
{
    for (unsigned i = 0; i < 4; i++) {
        struct open *open = &p->open[p->sweep];
        p->sweep = (p->sweep + 1) % OPEN_MAX;
        if (open->taken && now - open->at > OPEN_LIFE) {
            open->taken = false;
            settle(p, false, now);
        }
    }
}

static void note_use(struct prefetch *p, uint64_t key, tick_t now)
{
    struct open *open = open_find(p, key);
    if (!open)
        return;
    open->taken = false;
    p->stats.used++;
    add_tokens(p, 1); /* it was no load: it came instead of a miss */
    settle(p, true, now);
}

static void waste(struct prefetch *p, uint64_t key)
{
    struct open *open = open_find(p, key);
    if (!open)
        return;
    open->taken = false;
    p->stats.wasted++;
    settle(p, false, p->now);
}

void prefetch_failed(struct prefetch *p, uint64_t key)
{
    waste(p, key);
}

void prefetch_evicted(struct prefetch *p, uint64_t key)
{
    waste(p, key);
}

/* ---- requests and gates ---- */

static bool is_off(const struct prefetch *p, tick_t now)
{
    return p->set.strategy == PREFETCH_NONE || !p->successor || now < p->off_until;
}

/* Proven, sure enough, and worth more than it costs. */
static bool passes(const struct prefetch *p, const struct successor_guess *guess)
{
    double cost = p->set.cost_ratio > 0 ? p->set.cost_ratio : 1, sure = (double)guess->confidence;
    if (guess->support < SUPPORT)
        return false;
    if (!self_restrained(p))
        return true;
    return guess->confidence >= p->gate && sure >= (1 - sure) * cost;
}

unsigned prefetch_request(struct prefetch *p, const struct prefetch_event *event, struct successor_guess *out,
                          unsigned max)
{
    unsigned kept = 0;
    p->stats.requests++;
    p->now = event->now;
    if (p->set.strategy == PREFETCH_NONE || !p->successor)
        return 0;
    if (event->missed) {
        add_tokens(p, p->set.max_load);
        waste(p, event->key); /* it was fetched, and was not there */
    } else {
        note_use(p, event->key, event->now);
    }
    sweep(p, event->now);
    successor_see(p->successor, event->client, event->key, event->now);
    if (is_off(p, event->now))
        return 0;
    unsigned n = successor_guess(p->successor, event->client, out, max);
    for (unsigned i = 0; i < n; i++)
        if (passes(p, &out[i]))
            out[kept++] = out[i];
    return kept;
}

void prefetch_stand(struct prefetch *p, uint64_t client, uint64_t key, tick_t now)
{
    if (p->set.strategy != PREFETCH_NONE && p->successor)
        successor_stand(p->successor, client, key, now);
}

bool prefetch_issue(struct prefetch *p, const struct successor_guess *guess, tick_t now)
{
    if (is_off(p, now))
        return false;
    if (!take_token(p)) {
        p->stats.over_budget++;
        return false;
    }
    p->stats.issued++;
    open_add(p, guess->key, now);
    return true;
}

void prefetch_stats(const struct prefetch *p, tick_t now, struct prefetch_stats *out)
{
    *out = p->stats;
    out->precision = p->settled >= ENOUGH ? precision(p) : -1;
    out->confidence = self_restrained(p) ? (double)p->gate : 0;
    out->off = is_off(p, now);
    out->off_until = out->off ? p->off_until : 0;
    out->tokens = p->tokens;
}

size_t prefetch_bytes(const struct prefetch *p)
{
    return sizeof *p + (p->successor ? successor_bytes(p->successor) : 0);
}
