/*
 * Recommendations, and experiments with them. Invariants: at most one is tried at a time; while one is, the
 * cache's miniatures keep the setting of before; a setting that somebody else changed meanwhile is left as it
 * is; nothing is changed that cannot be noted for the operator; an experiment is over when its setting is
 * taken back, and not before: what could not be put in force is tried again each second.
 */
#include "proxy/adviser.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/breaker_replay.h"
#include "policy/config.h"
#include "policy/rng.h"
#include "proxy/adviser_facts.h"
#include "proxy/log.h"

#define BACK_OFF     (600 * TICK_S) /* after a change was taken back; doubling to: */
#define BACK_OFF_MAX (24 * 3600 * TICK_S)
#define DISMISSED    (24 * 3600 * TICK_S)
#define LEAST        0.02 /* an improvement below it is not kept */
#define MEMORY_LOSS  0.05
#define AUTO_SURE    0.75
#define SLACK        (TICK_S / 4) /* a second of the timer is not always a whole one */
#define IDLE_TURNS   90           /* turns without enough requests, after which an experiment ends */
#define VALUE        64

struct item {
    struct advise_track track;
    enum adviser_state state;
    struct advise_view advice;
    const char *key;
    char from[VALUE], to[VALUE]; /* as a file would have them */
    char expected[VALUE];        /* what the configuration shows while it is ours */
    bool was_changed;  /* before, by the admin port: then `from` is put back, not the sources' value */
    tick_t not_before; /* hidden until then */
    unsigned reverts;
    uint64_t requests;
    struct experiment experiment;
    double improvement, margin;
    bool measured;
    const char *why;
};

/* The experiment under way. */
struct trial {
    bool on;
    enum advise_kind kind;
    bool new;       /* whose turn it is */
    bool first_new; /* which came first in this pair */
    bool second;    /* of the pair */
    bool settled;
    tick_t turn_began;
    const char *ending; /* it failed, and its setting could not be taken back yet: why; else NULL */
    unsigned idle;
    struct facts_mark mark;        /* where what is measured of this turn began */
    struct experiment_slice other; /* the pair's first */
    uint64_t bytes_before;
    int whatif; /* the miniature with the new setting */
};

struct adviser {
    struct adviser_sources sources;
    struct rng rng;
    struct item items[ADVISE_KINDS];
    struct trial trial;
    struct facts_mark mark, now_mark; /* of the window; scratch */
    struct facts_mark before;         /* where the newest whole window began; it ended at `mark` */
    tick_t window_began;
    unsigned peak;
    uint64_t max_entries, max_bytes; /* that the miniatures were begun with */
    int strategy;
    tick_t default_ttl;
    bool following;
    struct breaker_replay *replay; /* NULL while a breaker is on */
    struct curve_point curve[CURVE_MAX_SIZES];
    unsigned curve_count;
};

static const char *const ids[ADVISE_KINDS] = {
    [ADVISE_CACHE_SIZE] = "cache-size",   [ADVISE_CACHE_TTL] = "cache-ttl",
    [ADVISE_MEMORY] = "memory",           [ADVISE_POOL] = "pool-size",
    [ADVISE_RETRY] = "retry-attempts",    [ADVISE_NETWORK] = "network-idle-time",
    [ADVISE_BREAKER] = "circuit-breaker", [ADVISE_BATCHING] = "batching",
    [ADVISE_DNS] = "network-dns",         [ADVISE_COMPRESSION] = "compression",
};
static const char *const state_names[ADVISER_STATE_COUNT] = {"none",    "proposed", "trying",
                                                             "applied", "reverted", "dismissed"};

const char *adviser_id(enum advise_kind kind)
{
    return ids[kind];
}

const char *adviser_state_name(int state)
{
    return state >= 0 && state < ADVISER_STATE_COUNT ? state_names[state] : "";
}

static const struct config *config_of(const struct adviser *a)
{
    return a->sources.config(a->sources.ctx);
}

/* The value in force, without quotes. */
static void shown(const struct adviser *a, const char *key, char out[VALUE])
{
    char text[VALUE + 2];
    size_t n = config_print_value(config_of(a), config_option_find(key), text, sizeof text);
    bool quoted = n > 1 && text[0] == '"';
    snprintf(out, VALUE, "%.*s", (int)(strlen(text) - 2 * quoted), text + quoted);
}

static void write_value(enum advise_kind kind, double value, char out[VALUE])
{
    if (kind == ADVISE_BREAKER || kind == ADVISE_BATCHING)
        snprintf(out, VALUE, "%s", value > 0 ? "true" : "false");
    else if (kind == ADVISE_CACHE_TTL || kind == ADVISE_NETWORK)
        snprintf(out, VALUE, "%.0fms", value * 1000);
    else
        snprintf(out, VALUE, "%.0f", value);
}

/* ---- what is followed ---- */

static void follow(struct adviser *a)
{
    const struct config *cfg = config_of(a);
    bool wanted = cfg->performance_enabled && cfg->performance_enable_optimization_recommendations &&
                  cfg->cache_enabled;
    uint64_t entries = (uint64_t)cfg->cache_max_size, bytes = cfg->cache_max_memory_bytes;
    if (a->following == wanted &&
        (!wanted || (a->max_entries == entries && a->max_bytes == bytes &&
                     a->default_ttl == cfg->cache_default_ttl && a->strategy == (int)cfg->cache_strategy)))
        return;
    static const enum evict_strategy strategies[] = {
        [CONFIG_CACHE_STRATEGY_LRU] = EVICT_LRU,
        [CONFIG_CACHE_STRATEGY_LFU] = EVICT_LFU,
        [CONFIG_CACHE_STRATEGY_FIFO] = EVICT_FIFO,
        [CONFIG_CACHE_STRATEGY_ADAPTIVE] = EVICT_ADAPTIVE,
        [CONFIG_CACHE_STRATEGY_PREDICTIVE] = EVICT_ADAPTIVE,
    };
    a->following = store_whatif_begin(a->sources.store, wanted ? entries : 0, wanted ? bytes : 0,
                                      strategies[cfg->cache_strategy], cfg->cache_default_ttl) &&
                   wanted;
    a->max_entries = entries;
    a->max_bytes = bytes;
    a->default_ttl = cfg->cache_default_ttl;
    a->strategy = (int)cfg->cache_strategy;
    a->curve_count = 0;
    facts_mark(&a->sources, &a->mark); /* what was estimated with other miniatures is void */
}

/* ---- proposals ---- */

static void propose(struct adviser *a, enum advise_kind kind, uint64_t requests, tick_t now)
{
    struct item *it = &a->items[kind];
    struct advise_view view;
    bool stands = advise_look(&it->track, &view);
    bool hidden = it->state == ADVISER_DISMISSED || it->state == ADVISER_REVERTED;
    if (it->state == ADVISER_TRYING || (hidden && now < it->not_before))
        return;
    if (!stands) {
        if (it->state == ADVISER_PROPOSED || hidden)
            it->state = ADVISER_NONE;
        return;
    }
    if (it->state == ADVISER_APPLIED && view.estimate.current == it->advice.estimate.current)
        return; /* from before it was applied */
    it->state = ADVISER_PROPOSED;
    it->advice = view;
    it->key = view.estimate.key;
    it->measured = false;
    it->why = "";
    it->requests = requests;
    it->from[0] = it->to[0] = '\0';
    if (!*it->key)
        return; /* nothing of ours to set */
    shown(a, it->key, it->from);
    write_value(kind, view.estimate.target, it->to);
}

/* While there is no breaker one is played: it lives on from window to window. */
static struct breaker_replay *replay_of(struct adviser *a)
{
    if (config_of(a)->circuit_breaker_enable_circuit_breaker) {
        free(a->replay);
        a->replay = NULL;
    } else if (!a->replay && (a->replay = calloc(1, sizeof *a->replay))) {
        breaker_replay_init(a->replay, rng_next(&a->rng));
    }
    return a->replay;
}

static void end_window(struct adviser *a, tick_t now)
{
    struct advise_facts facts;
    struct advise_estimate estimate;
    uint64_t lookups, hits;
    facts_mark(&a->sources, &a->now_mark);
    facts_read(&a->sources, &a->mark, &a->now_mark, a->peak, replay_of(a), &facts);
    facts_lookups(&a->mark, &a->now_mark, &lookups, &hits);
    unsigned points = store_curve(a->sources.store, lookups, hits, a->curve);
    a->curve_count = points < 3 ? points : 3;
    for (int kind = 0; kind < ADVISE_KINDS; kind++) {
        bool any = advise_window(&facts, (enum advise_kind)kind, &estimate);
        if (advise_enough(&facts))
            advise_note(&a->items[kind].track, any ? &estimate : NULL);
        else
            advise_idle(&a->items[kind].track);
        propose(a, (enum advise_kind)kind, facts.requests, now);
    }
    a->before = a->mark;
    a->mark = a->now_mark;
    a->window_began = now;
    a->peak = 0;
}

/* ---- putting values in force ---- */

static bool set(struct adviser *a, struct item *it, const char *value)
{
    char err[256] = "";
    if (!a->sources.set(a->sources.ctx, it->key, value, err, sizeof err)) {
        log_write(a->sources.log, LOG_WARNING, "optimizer", "%s could not be changed: %s", it->key, err);
        return false;
    }
    shown(a, it->key, it->expected);
    return true;
}

static bool use_new(struct adviser *a, struct item *it)
{
    return set(a, it, it->to);
}

static bool use_old(struct adviser *a, struct item *it)
{
    return set(a, it, it->was_changed ? it->from : NULL);
}

/* Has somebody else changed it? */
static bool meddled(const struct adviser *a, const struct item *it)
{
    char now_is[VALUE];
    shown(a, it->key, now_is);
    return strcmp(now_is, it->expected) != 0;
}

static bool note(struct adviser *a, const struct item *it, const char *action)
{
    char detail[256];
    snprintf(detail, sizeof detail, "%s from %s to %s", it->key, it->from, it->to);
    log_write(a->sources.log, LOG_INFO, "optimizer", "%s: %s%s%s", action, detail, *it->why ? ". " : "",
              it->why);
    return a->sources.audit(a->sources.ctx, action, detail);
}

/* ---- the experiment ---- */

static void back_off(struct item *it, tick_t now)
{
    tick_t wait = BACK_OFF << (it->reverts < 8 ? it->reverts : 8);
    it->reverts++;
    it->not_before = now + (wait < BACK_OFF_MAX ? wait : BACK_OFF_MAX);
}

/* It ends. What is not kept is taken back; while that cannot be, it does not end. */
static void finish(struct adviser *a, bool keep, const char *why, tick_t now)
{
    struct trial *t = &a->trial;
    struct item *it = &a->items[t->kind];
    bool meddling = meddled(a, it);
    if (!meddling && keep && !t->new) {
        keep = use_new(a, it);
        why = keep ? why : "It could not be put in force again.";
    }
    keep = keep && !meddling;
    if (!meddling && !keep && t->new && !use_old(a, it)) {
        t->ending = why;
        return;
    }
    it->why = meddling ? "Somebody else has changed the setting meanwhile." : why;
    it->measured = it->experiment.pairs > 1;
    experiment_measured(&it->experiment, &it->improvement, &it->margin);
    if (t->kind == ADVISE_MEMORY && it->measured && t->bytes_before)
        it->improvement = 1 - (double)a->now_mark.store.bytes / (double)t->bytes_before;
    t->on = false;
    advise_forget(&it->track);
    it->state = keep ? ADVISER_APPLIED : ADVISER_REVERTED;
    if (keep)
        it->reverts = 0;
    else
        back_off(it, now);
    metric_add(a->sources.block, keep ? METRIC_EXPERIMENTS_KEPT : METRIC_EXPERIMENTS_REVERTED, 1);
    (void)note(a, it,
               keep       ? "a change is kept"
               : meddling ? "a change is given up"
                          : "a change is taken back");
    follow(a);
}

/* A turn of the new setting, or of the old one. One that cannot begin ends the experiment: what is measured
 * in it would be the other's. */
static void begin_turn(struct adviser *a, bool new, tick_t now)
{
    struct trial *t = &a->trial;
    struct item *it = &a->items[t->kind];
    if (t->new != new && !(new ? use_new(a, it) : use_old(a, it))) {
        finish(a, false, "The setting could not be changed.", now);
        return;
    }
    t->new = new;
    t->settled = false;
    t->turn_began = now;
    facts_mark(&a->sources, &t->mark);
}

static void judge(struct adviser *a, tick_t now)
{
    struct item *it = &a->items[a->trial.kind];
    double mean, margin;
    experiment_measured(&it->experiment, &mean, &margin);
    switch (experiment_verdict(&it->experiment)) {
    case EXPERIMENT_RUNNING:
        return;
    case EXPERIMENT_IMPROVED:
        finish(a, true, "It was shown to be better.", now);
        return;
    case EXPERIMENT_NO_BETTER:
        finish(a, a->trial.kind == ADVISE_MEMORY && mean > -MEMORY_LOSS,
               a->trial.kind == ADVISE_MEMORY ? "The cache does as well with less."
                                              : "It was not shown to be better.",
               now);
        return;
    case EXPERIMENT_HARMFUL:
        finish(a,
               a->trial.kind == ADVISE_MEMORY && it->experiment.pairs == EXPERIMENT_PAIRS &&
                   mean > -MEMORY_LOSS,
               "It did harm.", now);
        return;
    }
}

static bool too_idle(struct adviser *a, bool counted, tick_t now)
{
    struct trial *t = &a->trial;
    t->idle = counted ? 0 : t->idle + 1;
    if (t->idle < IDLE_TURNS)
        return false;
    finish(a, false, "There were too few requests.", now);
    return true;
}

static void end_turn(struct adviser *a, tick_t now)
{
    struct trial *t = &a->trial;
    struct item *it = &a->items[t->kind];
    struct experiment_slice before, after;
    bool counted;
    facts_mark(&a->sources, &a->now_mark);
    bool there = facts_slice(t->kind, t->whatif, &t->mark, &a->now_mark, &before, &after);
    if (facts_ghost(t->kind)) {
        counted = there && experiment_pair(&it->experiment, &before, &after);
        if (!too_idle(a, counted, now))
            begin_turn(a, true, now);
    } else if (!t->second) {
        t->other = after;
        t->second = true;
        begin_turn(a, !t->new, now);
        return;
    } else {
        counted = experiment_pair(&it->experiment, t->new ? &t->other : &after, t->new ? &after : &t->other);
        t->second = false;
        if (!too_idle(a, counted, now))
            begin_turn(a, rng_below(&a->rng, 2), now);
    }
    if (t->on && !t->ending)
        judge(a, now);
}

/* Looks whether the new setting does harm, in its turn. */
static bool guard(struct adviser *a, tick_t now)
{
    struct trial *t = &a->trial;
    struct item *it = &a->items[t->kind];
    struct experiment_slice before, after;
    facts_mark(&a->sources, &a->now_mark);
    if (!facts_slice(t->kind, t->whatif, &t->mark, &a->now_mark, &before, &after))
        return false;
    if (!experiment_guard(&it->experiment, &after))
        return false;
    finish(a, false, "It did harm.", now);
    return true;
}

static void step(struct adviser *a, tick_t now)
{
    struct trial *t = &a->trial;
    struct item *it = &a->items[t->kind];
    tick_t slice = config_of(a)->performance_experiment_slice,
           settle = slice / 5 > TICK_S ? slice / 5 : TICK_S;
    if (t->ending || meddled(a, it)) {
        finish(a, false, t->ending ? t->ending : "", now);
        return;
    }
    if (!t->settled && now - t->turn_began + SLACK >= settle) {
        facts_mark(&a->sources, &t->mark);
        t->settled = true;
        return;
    }
    if (t->settled && t->new &&guard(a, now))
        return;
    if (t->settled && now - t->turn_began + SLACK >= slice)
        end_turn(a, now);
}

static int miniature_of(enum advise_kind kind, const struct advise_estimate *e)
{
    if (kind == ADVISE_CACHE_TTL)
        return e->target > 3 * e->current ? STORE_WHATIF_LIFE_FOUR : STORE_WHATIF_LIFE_TWICE;
    return kind == ADVISE_MEMORY ? STORE_WHATIF_HALF : STORE_WHATIF_TWICE;
}

static enum adviser_answer start(struct adviser *a, enum advise_kind kind, tick_t now)
{
    struct trial *t = &a->trial;
    struct item *it = &a->items[kind];
    struct experiment_slice ghost, baseline;
    char now_is[VALUE];
    shown(a, it->key, now_is);
    if (strcmp(now_is, it->from) != 0)
        return ADVISER_NOT_NOW;
    it->was_changed =
        config_place_of(config_of(a), config_option_find(it->key))->source == CONFIG_FROM_CHANGE;
    it->why = "";
    if (!note(a, it, "a change is tried"))
        return ADVISER_REFUSED;
    if (!use_new(a, it))
        return ADVISER_REFUSED;
    it->state = ADVISER_TRYING;
    it->measured = false;
    experiment_begin(&it->experiment, LEAST);
    if (facts_slice(kind, -1, &a->before, &a->mark, &ghost, &baseline))
        experiment_baseline(&it->experiment, &baseline);
    *t = (struct trial){.on = true,
                        .kind = kind,
                        .new = true,
                        .bytes_before = a->now_mark.store.bytes,
                        .whatif = miniature_of(kind, &it->advice.estimate)};
    metric_add(a->sources.block, METRIC_EXPERIMENTS_BEGUN, 1);
    begin_turn(a, true, now);
    return ADVISER_DONE;
}

/* ---- from outside ---- */

static struct item *find(struct adviser *a, const char *id, enum advise_kind *kind)
{
    for (int i = 0; i < ADVISE_KINDS; i++)
        if (strcmp(ids[i], id) == 0 && a->items[i].state != ADVISER_NONE) {
            *kind = (enum advise_kind)i;
            return &a->items[i];
        }
    return NULL;
}

enum adviser_answer adviser_apply(struct adviser *a, const char *id, tick_t now)
{
    enum advise_kind kind;
    const struct item *it = find(a, id, &kind);
    if (!it)
        return ADVISER_UNKNOWN;
    if (it->state != ADVISER_PROPOSED)
        return ADVISER_NOT_NOW;
    if (!*it->key)
        return ADVISER_NO_SETTING;
    return a->trial.on ? ADVISER_BUSY : start(a, kind, now);
}

enum adviser_answer adviser_dismiss(struct adviser *a, const char *id, tick_t now)
{
    enum advise_kind kind;
    struct item *it = find(a, id, &kind);
    if (!it)
        return ADVISER_UNKNOWN;
    if (it->state == ADVISER_TRYING || it->state == ADVISER_APPLIED)
        return ADVISER_NOT_NOW;
    it->state = ADVISER_DISMISSED;
    it->not_before = now + DISMISSED;
    return ADVISER_DONE;
}

enum adviser_answer adviser_revert(struct adviser *a, const char *id, tick_t now)
{
    enum advise_kind kind;
    struct item *it = find(a, id, &kind);
    if (!it)
        return ADVISER_UNKNOWN;
    if (it->state == ADVISER_TRYING) {
        finish(a, false, "It was ended by hand.", now);
        return a->trial.on ? ADVISER_REFUSED : ADVISER_DONE;
    }
    if (it->state != ADVISER_APPLIED || meddled(a, it))
        return ADVISER_NOT_NOW;
    it->why = "It was taken back by hand.";
    if (!note(a, it, "a change is taken back") || !use_old(a, it))
        return ADVISER_REFUSED;
    it->state = ADVISER_REVERTED;
    back_off(it, now);
    follow(a);
    return ADVISER_DONE;
}

bool adviser_look(const struct adviser *a, enum advise_kind kind, struct adviser_view *out)
{
    const struct item *it = &a->items[kind];
    if (it->state == ADVISER_NONE)
        return false;
    *out = (struct adviser_view){.kind = kind,
                                 .state = it->state,
                                 .advice = it->advice,
                                 .key = it->key,
                                 .measured = it->measured,
                                 .improvement = it->improvement,
                                 .margin = it->margin,
                                 .pairs = it->experiment.pairs,
                                 .verdict = (int)experiment_verdict(&it->experiment),
                                 .why = it->why,
                                 .requests = it->requests};
    memcpy(out->from, it->from, sizeof out->from);
    memcpy(out->to, it->to, sizeof out->to);
    return true;
}

unsigned adviser_curve(const struct adviser *a, const struct curve_point **out, double *rate)
{
    *out = a->curve;
    *rate = a->mark.whatif.rate;
    return a->curve_count;
}

/* ---- time ---- */

/* What is surest to save the most. */
static void apply_best(struct adviser *a, tick_t now)
{
    int best = -1;
    double most = 0;
    for (int i = 0; i < ADVISE_KINDS; i++) {
        const struct item *it = &a->items[i];
        double worth = it->advice.confidence * it->advice.estimate.improvement;
        if (it->state == ADVISER_PROPOSED && *it->key && it->advice.confidence >= AUTO_SURE && worth > most) {
            best = i;
            most = worth;
        }
    }
    if (best >= 0)
        (void)!start(a, (enum advise_kind)best, now);
}

static void sample(struct adviser *a)
{
    int64_t n = metric_signed(metrics_sum(a->sources.metrics, METRIC_POOL_ACTIVE) +
                              metrics_sum(a->sources.metrics, METRIC_POOL_CONNECTING) +
                              metrics_sum(a->sources.metrics, METRIC_POOL_WAITING));
    if (n > (int64_t)a->peak)
        a->peak = n < UINT32_MAX ? (unsigned)n : UINT32_MAX;
}

void adviser_second(struct adviser *a, tick_t now)
{
    const struct config *cfg = config_of(a);
    if (a->trial.on) {
        step(a, now);
        a->window_began = now; /* windows of an experiment are no estimate's */
        a->peak = 0;
        if (!a->trial.on)
            facts_mark(&a->sources, &a->mark);
        return;
    }
    follow(a);
    if (!cfg->performance_enabled || !cfg->performance_enable_optimization_recommendations)
        return;
    sample(a);
    if (now - a->window_began + SLACK < cfg->performance_recommendation_interval)
        return;
    end_window(a, now);
    if (cfg->performance_optimization_auto_apply)
        apply_best(a, now);
}

struct adviser *adviser_new(const struct adviser_sources *sources, uint64_t seed, tick_t now)
{
    struct adviser *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->sources = *sources;
    rng_seed(&a->rng, seed);
    for (int i = 0; i < ADVISE_KINDS; i++)
        a->items[i].why = "";
    facts_mark(&a->sources, &a->mark);
    follow(a);
    a->window_began = now;
    return a;
}

void adviser_free(struct adviser *a)
{
    if (a)
        free(a->replay);
    free(a);
}
