/*
 * What the cache would have hit with another size or lifetime: miniatures fed with the uses of a sample of
 * the keys, and a count of how often a newer version of an answer was the same as the older. Invariant: no
 * use ever waits for the lock; one that finds it taken is only counted.
 */
#include <pthread.h>
#include <stdlib.h>

#include "policy/curve.h"
#include "proxy/store_inner.h"

enum { SAMPLE_LEAST = 256, NOTES_A_SECOND = 2000, COMPARE_MOST = 65536, PIECES = 16 };

struct whatif {
    pthread_mutex_t lock;
    struct curve *curve;      /* NULL: nothing is followed */
    _Atomic bool on;          /* curve is there */
    _Atomic int64_t lifetime; /* that a setting gives; 0: none */
    _Atomic uint64_t looked, changed;
    _Atomic uint64_t skipped; /* uses that found the lock taken */
    tick_t second;            /* when `notes` began */
    unsigned notes;           /* since then */
    bool pausing;             /* until the second is over */
};

struct whatif *whatif_new(void)
{
    struct whatif *w = calloc(1, sizeof *w);
    if (w)
        pthread_mutex_init(&w->lock, NULL);
    return w;
}

void whatif_free(struct whatif *w)
{
    if (!w)
        return;
    curve_free(w->curve);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

/* May one more use be noted? In dense traffic fewer keys are followed, so that it costs little; where they
 * are few already, all are followed for a part of each second. */
static bool may_note(struct whatif *w, tick_t now)
{
    if (now - w->second >= TICK_S) {
        w->second = now;
        w->notes = 0;
        w->pausing = false;
    }
    if (w->notes < NOTES_A_SECOND) {
        w->notes++;
        return true;
    }
    if (!w->pausing && !curve_thin(w->curve, SAMPLE_LEAST))
        w->pausing = true;
    if (!w->pausing)
        w->notes = 0;
    return !w->pausing;
}

void whatif_note(struct whatif *w, const struct evict_item *item, const struct freshness *fresh, tick_t now,
                 uint32_t again)
{
    if (!atomic_load_explicit(&w->on, memory_order_relaxed))
        return;
    if (pthread_mutex_trylock(&w->lock) != 0) {
        atomic_fetch_add_explicit(&w->skipped, 1, memory_order_relaxed);
        return;
    }
    if (w->curve && curve_wants(w->curve, item->hash)) {
        tick_t given = atomic_load_explicit(&w->lifetime, memory_order_relaxed);
        bool settable = given > 0 && fresh->settable;
        if (may_note(w, now))
            curve_note_life(w->curve, item, now, settable ? given : fresh->lifetime - fresh->initial_age,
                            settable, again);
        else
            curve_pass(w->curve, (uint64_t)again + 1);
    }
    pthread_mutex_unlock(&w->lock);
}

void whatif_same(struct whatif *w)
{
    atomic_fetch_add_explicit(&w->looked, 1, memory_order_relaxed);
}

static bool same_body(const struct entry *a, const struct entry *b)
{
    struct iovec x[PIECES], y[PIECES];
    if (a->length != b->length || a->length > COMPARE_MOST)
        return false;
    int n = body_iov(a->body, 0, a->length, x, PIECES), m = body_iov(b->body, 0, b->length, y, PIECES);
    int i = 0, k = 0;
    uint64_t left = a->length;
    for (size_t from = 0, to = 0; left > 0 && i < n && k < m;) {
        size_t p = x[i].iov_len - from, q = y[k].iov_len - to, step = p < q ? p : q;
        if (memcmp((const char *)x[i].iov_base + from, (const char *)y[k].iov_base + to, step) != 0)
            return false;
        left -= step;
        from += step;
        to += step;
        if (from == x[i].iov_len) {
            i++;
            from = 0;
        }
        if (to == y[k].iov_len) {
            k++;
            to = 0;
        }
    }
    return left == 0;
}

void whatif_compare(struct whatif *w, const struct entry *old, const struct entry *entry)
{
    if (!atomic_load_explicit(&w->on, memory_order_relaxed) || old->partial || entry->partial ||
        old->body == entry->body)
        return;
    if (!(old->etag.n && entry->etag.n) && (!old->body || !entry->body))
        return; /* one lies compressed */
    bool same = old->etag.n && entry->etag.n ? etag_equal_weak(entry_etag(old), entry_etag(entry))
                                             : same_body(old, entry);
    atomic_fetch_add_explicit(&w->looked, 1, memory_order_relaxed);
    if (!same)
        atomic_fetch_add_explicit(&w->changed, 1, memory_order_relaxed);
}

bool store_whatif_begin(struct store *store, uint64_t entries, uint64_t bytes, enum evict_strategy strategy,
                        tick_t lifetime)
{
    static const double sizes[STORE_WHATIF_COUNT] = {0.5, 2, 4, 1, 1},
                        lives[STORE_WHATIF_COUNT] = {1, 1, 1, 2, 4};
    struct whatif *w = store->whatif;
    struct curve_setup setup = {.strategy = strategy,
                                .advice = tuner_advice(store->tuner),
                                .max_entries = entries,
                                .max_bytes = bytes,
                                .factors = sizes,
                                .lifetimes = lives,
                                .count = lifetime > 0 ? STORE_WHATIF_COUNT : STORE_WHATIF_LIFE_TWICE,
                                .whole = true,
                                .entries = CURVE_SAMPLE_ENTRIES};
    bool wanted = entries || bytes;
    struct curve *fresh = wanted ? curve_new(&setup) : NULL, *old;
    pthread_mutex_lock(&w->lock);
    old = w->curve;
    w->curve = fresh;
    atomic_store(&w->lifetime, lifetime);
    atomic_store(&w->on, fresh != NULL);
    atomic_store(&w->looked, 0);
    atomic_store(&w->changed, 0);
    atomic_store(&w->skipped, 0);
    pthread_mutex_unlock(&w->lock);
    curve_free(old);
    return fresh || !wanted;
}

bool store_whatif(struct store *store, struct store_whatif *out)
{
    struct whatif *w = store->whatif;
    struct curve_sums sums;
    *out = (struct store_whatif){.looked = atomic_load(&w->looked),
                                 .changed = atomic_load(&w->changed),
                                 .skipped = (double)atomic_load(&w->skipped)};
    pthread_mutex_lock(&w->lock);
    bool there = w->curve != NULL;
    if (there) {
        curve_sum(w->curve, &sums);
        out->requests = sums.requests;
        out->base = sums.base;
        out->skipped += sums.passed;
        out->rate = curve_rate(w->curve);
        for (unsigned i = 0; i < STORE_WHATIF_COUNT; i++)
            out->hits[i] = i < sums.count ? sums.hits[i] : sums.base;
    }
    pthread_mutex_unlock(&w->lock);
    return there;
}

unsigned store_curve(struct store *store, uint64_t requests, uint64_t hits, struct curve_point *out)
{
    struct whatif *w = store->whatif;
    unsigned n = 0;
    pthread_mutex_lock(&w->lock);
    if (w->curve) {
        curve_window(w->curve, requests, hits);
        n = curve_points(w->curve, out);
    }
    pthread_mutex_unlock(&w->lock);
    return n;
}
