/*
 * Invariants: every candidate saw the same requests; `chosen` is the candidate that the advice names; scores
 * are what the candidates' hits saved, faded each period, and so are hits and requests, the `lately` ones
 * sooner. Where costs differ, saving most may mean to hit less often: who hits less often than lru (RECENT)
 * would is not followed.
 */
#include "policy/tuner.h"

#include "policy/mini.h"

#include <stdlib.h>
#include <string.h>

/* The first is where a cache starts; the last is where it starts when sizes differ widely. */
static const struct candidate {
    struct evict_rule rule;
    bool fine; /* a share between two others: not tried for a cache that is not there */
} candidates[] = {
    {{EVICT_RECENT, 10, 0}, false}, {{EVICT_S3, 10, 0}, false},     {{EVICT_S3, 2, 0}, true},
    {{EVICT_S3, 30, 0}, true},      {{EVICT_S3, 60, 0}, false},     {{EVICT_S3, 90, 0}, true},
    {{EVICT_S3, 0, 0}, false},      {{EVICT_DUEL, 1, 1}, false},    {{EVICT_DUEL, 10, 1}, false},
    {{EVICT_DUEL, 40, 1}, true},    {{EVICT_VALUE, 100, 0}, false}, {{EVICT_VALUE, 50, 0}, false}};

enum {
    CANDIDATES = ARRAY_LEN(candidates),
    MINI_ENTRIES = 512,   /* at most in a miniature, while more than one key in MIN_RATE is sampled */
    COARSE_ENTRIES = 256, /* the same for a cache that is not there */
    MIN_RATE = 64,
    GUESS_AFTER = 50,  /* sampled requests */
    PERIOD_MIN = 1000, /* requests between two decisions */
    PERIOD_FILLS = 1,  /* or so many for each entry of a miniature */
    QUICK = 12,        /* decisions at first that come sooner, */
    QUICKER = 8        /* after a part of that */
};

#define MEMORY    0.985 /* of the scores, from one period to the next */
#define BRIEF     0.8   /* the same of what tells the last few periods */
#define LAG       0.003 /* of the requests: so many hits may who is followed stay behind lru, */
#define LAG_BRIEF 0.01  /* and so many lately */
#define LEAD      0.005 /* by which a candidate must be better to be followed: another share, */
#define LEAD_KIND 0.03  /* another way to let in, */
#define LEAD_MOVE 0.02  /* or one for which entries are moved */

struct tuner {
    double most;                    /* entries of a miniature */
    bool coarse;                    /* without the fine candidates: */
    struct mini *minis[CANDIDATES]; /* theirs are NULL, and their scores 0 */
    double saved[CANDIDATES];       /* by their hits, */
    double costs;                   /* of all requests; */
    double requests;
    double hits[CANDIDATES];
    double requests_lately;
    double hits_lately[CANDIDATES];
    struct evict_sketch sketch;
    uint64_t max_entries, max_bytes;
    uint64_t threshold; /* of the sample; read by any thread */
    uint64_t seen;      /* requests of this period */
    unsigned chosen;
    unsigned decisions;    /* since the limits were set, as far as QUICK */
    bool settled;          /* something was decided since the limits were set */
    double sizes, squares; /* of the first items: sums of their bytes, and of the squares */
    uint64_t changes;
    evict_advice advice;
};

double tuner_rate(const struct tuner *tuner)
{
    return ((double)tuner->threshold + 1) / 18446744073709551616.0;
}

static struct mini_limits limits_of(const struct tuner *tuner)
{
    double rate = tuner_rate(tuner);
    struct mini_limits limits = {(double)tuner->max_entries * rate, (double)tuner->max_bytes * rate};
    if (limits.entries > 0 && limits.entries < 1)
        limits.entries = 1;
    return limits;
}

static void free_minis(struct mini **minis)
{
    for (size_t i = 0; i < CANDIDATES; i++)
        mini_free(minis[i]);
}

static bool begin(struct tuner *tuner, uint64_t max_entries, uint64_t max_bytes, uint64_t threshold)
{
    struct tuner next = {.max_entries = max_entries, .max_bytes = max_bytes, .threshold = threshold};
    for (double n = (double)max_entries * tuner_rate(&next);
         n > tuner->most && next.threshold > UINT64_MAX / MIN_RATE; n /= 2)
        next.threshold /= 2;
    bool ok = true;
    for (size_t i = 0; i < CANDIDATES; i++) {
        if (tuner->coarse && candidates[i].fine)
            continue;
        next.minis[i] = mini_new(&(struct mini_recipe){.strategy = EVICT_ADAPTIVE,
                                                       .rule = candidates[i].rule,
                                                       .sketch = &tuner->sketch},
                                 limits_of(&next));
        ok = ok && next.minis[i];
    }
    free_minis(ok ? tuner->minis : next.minis);
    if (!ok)
        return false;
    /* Any thread reads the advice, which stays, and the threshold: neither may be written as a plain part of
     * the whole. */
    memcpy(tuner->minis, next.minis, sizeof tuner->minis);
    memset(tuner->saved, 0, sizeof tuner->saved);
    memset(tuner->hits, 0, sizeof tuner->hits);
    memset(tuner->hits_lately, 0, sizeof tuner->hits_lately);
    tuner->costs = tuner->requests = tuner->requests_lately = 0;
    tuner->max_entries = max_entries;
    tuner->max_bytes = max_bytes;
    tuner->seen = 0;
    tuner->settled = false;
    tuner->decisions = 0;
    tuner->sizes = tuner->squares = 0;
    __atomic_store_n(&tuner->threshold, next.threshold, __ATOMIC_RELAXED);
    return true;
}

bool tuner_set_limits(struct tuner *tuner, uint64_t max_entries, uint64_t max_bytes)
{
    return begin(tuner, max_entries, max_bytes, UINT64_MAX);
}

static struct tuner *make(uint64_t max_entries, uint64_t max_bytes, uint64_t threshold, bool coarse)
{
    struct tuner *tuner = calloc(1, sizeof *tuner);
    if (tuner) {
        tuner->coarse = coarse;
        tuner->most = coarse ? COARSE_ENTRIES : MINI_ENTRIES;
    }
    if (tuner && begin(tuner, max_entries, max_bytes, threshold)) {
        tuner->advice = evict_advice_of(candidates[0].rule);
        return tuner;
    }
    free(tuner);
    return NULL;
}

struct tuner *tuner_new(uint64_t max_entries, uint64_t max_bytes)
{
    return make(max_entries, max_bytes, UINT64_MAX, false);
}

struct tuner *tuner_new_within(uint64_t max_entries, uint64_t max_bytes, uint64_t threshold)
{
    return make(max_entries, max_bytes, threshold, true);
}

void tuner_free(struct tuner *tuner)
{
    if (!tuner)
        return;
    free_minis(tuner->minis);
    free(tuner->sketch.words);
    free(tuner);
}

bool tuner_wants(const struct tuner *tuner, uint64_t hash)
{
    return mini_sampled(hash, __atomic_load_n(&tuner->threshold, __ATOMIC_RELAXED));
}

static void fade(struct tuner *tuner, double by, double lately_by)
{
    for (size_t i = 0; i < CANDIDATES; i++) {
        tuner->saved[i] *= by;
        tuner->hits[i] *= by;
        tuner->hits_lately[i] *= lately_by;
    }
    tuner->costs *= by;
    tuner->requests *= by;
    tuner->requests_lately *= lately_by;
}

void tuner_narrow(struct tuner *tuner, uint64_t threshold)
{
    double before = tuner_rate(tuner);
    if (threshold >= tuner->threshold)
        return;
    __atomic_store_n(&tuner->threshold, threshold, __ATOMIC_RELAXED);
    for (size_t i = 0; i < CANDIDATES; i++)
        if (tuner->minis[i])
            mini_shrink(tuner->minis[i], threshold, limits_of(tuner));
    fade(tuner, tuner_rate(tuner) / before, tuner_rate(tuner) / before);
}

static void choose(struct tuner *tuner, unsigned candidate)
{
    tuner->chosen = candidate;
    tuner->changes++;
    __atomic_store_n(&tuner->advice, evict_advice_of(candidates[candidate].rule), __ATOMIC_RELAXED);
}

/* By how much must a candidate be better before it is followed? More where entries would have to be moved. */
static double lead_wanted(const struct tuner *tuner, unsigned to)
{
    enum evict_kind now = candidates[tuner->chosen].rule.kind, then = candidates[to].rule.kind;
    if (now == then || (now != EVICT_DUEL && then != EVICT_DUEL && now != EVICT_VALUE && then != EVICT_VALUE))
        return LEAD; /* S3 and RECENT let in all alike */
    return now == EVICT_VALUE || then == EVICT_VALUE ? LEAD_MOVE : LEAD_KIND;
}

/* Does it hit as often as lru would? The one that is followed may stay behind a little. */
static bool keeps_up(const struct tuner *tuner, unsigned candidate)
{
    bool followed = candidate == tuner->chosen;
    double allowed = followed ? LAG * tuner->requests : 0;
    double allowed_lately = followed ? LAG_BRIEF * tuner->requests_lately : 0;
    return tuner->hits[candidate] >= tuner->hits[0] - allowed &&
           tuner->hits_lately[candidate] >= tuner->hits_lately[0] - allowed_lately;
}

/* Half for what is saved, half for hits: of two that save about as much, the one that hits more. */
static double score(const struct tuner *tuner, unsigned candidate)
{
    return (tuner->saved[candidate] / tuner->costs + tuner->hits[candidate] / tuner->requests) / 2;
}

static void decide(struct tuner *tuner)
{
    bool stays = keeps_up(tuner, tuner->chosen);
    unsigned best = stays ? tuner->chosen : 0;
    double most = stays ? 0 : score(tuner, 0);
    for (unsigned i = 0; i < CANDIDATES; i++) {
        double wanted = stays ? score(tuner, tuner->chosen) * (1 + lead_wanted(tuner, i)) : 0;
        double lead = score(tuner, i) - wanted;
        if (i != tuner->chosen && lead > most && keeps_up(tuner, i)) {
            best = i;
            most = lead;
        }
    }
    if (best != tuner->chosen)
        choose(tuner, best);
    fade(tuner, MEMORY, BRIEF);
    tuner->seen = 0;
    tuner->decisions += tuner->decisions < QUICK;
    tuner->settled = true;
}

/* Before anything can be learnt: where sizes differ widely and bytes are what is short, value is the better
 * guess. */
static void guess(struct tuner *tuner, const struct evict_item *item)
{
    double bytes = (double)item->bytes;
    tuner->sizes += bytes;
    tuner->squares += bytes * bytes;
    if (tuner->seen != GUESS_AFTER || tuner->max_bytes == 0 || tuner->chosen != 0)
        return;
    double mean = tuner->sizes / GUESS_AFTER, variance = tuner->squares / GUESS_AFTER - mean * mean;
    bool bytes_short =
        tuner->max_entries == 0 || mean * (double)tuner->max_entries > (double)tuner->max_bytes;
    if (bytes_short && variance > mean * mean)
        choose(tuner, CANDIDATES - 1);
}

void tuner_note(struct tuner *tuner, const struct evict_item *item)
{
    size_t most = 0;
    float cost = item->cost > 0 ? item->cost : 1;
    sketch_add(&tuner->sketch, item->hash, 1);
    tuner->costs += (double)cost;
    tuner->requests++;
    tuner->requests_lately++;
    for (size_t i = 0; i < CANDIDATES; i++) {
        if (!tuner->minis[i])
            continue;
        if (mini_request(tuner->minis[i], item, 0, 1)) {
            tuner->saved[i] += (double)cost;
            tuner->hits[i]++;
            tuner->hits_lately[i]++;
        }
        size_t count = mini_count(tuner->minis[i]);
        most = count > most ? count : most;
    }
    sketch_reserve(&tuner->sketch, most);
    if ((double)most > tuner->most && tuner->threshold > UINT64_MAX / MIN_RATE)
        tuner_narrow(tuner, tuner->threshold / 2); /* the miniatures become large */
    uint64_t period = PERIOD_FILLS * (uint64_t)most;
    double least = PERIOD_MIN * tuner_rate(tuner);
    tuner->seen++;
    if (!tuner->settled && tuner->seen <= GUESS_AFTER)
        guess(tuner, item);
    if (tuner->decisions < QUICK) { /* at first little is known, and much to be gained */
        period /= QUICKER;
        least /= QUICKER;
    }
    if (tuner->seen >= period && (double)tuner->seen >= least)
        decide(tuner);
}

const evict_advice *tuner_advice(const struct tuner *tuner)
{
    return &tuner->advice;
}

struct evict_rule tuner_rule(const struct tuner *tuner)
{
    return candidates[tuner->chosen].rule;
}

uint64_t tuner_changes(const struct tuner *tuner)
{
    return tuner->changes;
}

size_t tuner_memory(const struct tuner *tuner)
{
    size_t n = sizeof *tuner + tuner->sketch.size * sizeof *tuner->sketch.words;
    for (size_t i = 0; i < CANDIDATES; i++)
        n += tuner->minis[i] ? mini_memory(tuner->minis[i]) : 0;
    return n;
}
