/*
 * The cold tier: entries that lie compressed in memory. Invariants:
 * - a cold entry is found like any other, and keeps in the plain what finding, purging and comparing it need:
 *   URI, names of Vary, tags, validators, language, coding, freshness. Head and body are one compressed
 *   piece, its `head`; it has no body;
 * - nobody outside the store ever holds one: whoever is to have it gets a plain copy, made under no lock;
 * - cold and plain take each other's place in all tables in one step, under the shard's lock;
 * - an entry is never changed, in either form.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/squeeze.h"
#include "proxy/store_inner.h"

enum { CHILL_MAX = 1 << 20, BATCH = 64, CHILL_BATCH = 32, VERIFY_EACH = 16 };

/* In front of head and body, compressed with them: where things stood in the plain form. */
struct cold_rest {
    struct span head, etag, last_modified, language, coding;
    uint32_t head_full_n;
};

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What both forms have alike. */
static void copy_common(struct entry *to, const struct entry *from)
{
    to->status = from->status;
    to->level = from->level;
    to->complete = true;
    to->field_count = from->field_count;
    to->uri = from->uri;
    to->names = from->names;
    to->tag_text = from->tag_text;
    to->length = from->length;
    to->fresh = from->fresh;
    to->learnt = from->learnt;
    to->vary = from->vary;
    to->fetch_us = from->fetch_us;
    to->place_hi = from->place_hi;
    to->link.hash = from->link.hash;
}

/* ---- chilling ---- */

/* Head and body in one piece, to be freed. NULL: no memory. */
static char *gather(const struct entry *e, size_t *n)
{
    struct cold_rest rest = {e->head, e->etag, e->last_modified, e->language, e->coding, e->head_full_n};
    *n = sizeof(rest) + e->head_full_n + e->length;
    char *all = malloc(*n);
    if (!all)
        return NULL;
    memcpy(all, &rest, sizeof(rest));
    memcpy(all + sizeof(rest), e->text + e->head.at, e->head_full_n);
    uint64_t at = 0;
    while (at < e->length) {
        struct iovec iov[8];
        int count = entry_body_iov(e, at, e->length - at, iov, 8);
        for (int i = 0; i < count; i++) {
            memcpy(all + sizeof(rest) + e->head_full_n + at, iov[i].iov_base, iov[i].iov_len);
            at += iov[i].iov_len;
        }
        if (count == 0) {
            free(all);
            return NULL;
        }
    }
    return all;
}

static struct span keep_span(struct entry *cold, uint32_t *at, const struct entry *e, struct span span)
{
    struct span kept = {*at, span.n};
    if (span.n > 0)
        memcpy(cold->text + *at, e->text + span.at, span.n);
    *at += span.n;
    return span.n > 0 ? kept : (struct span){0, 0};
}

struct entry *entry_chill(struct squeezer *squeezer, const struct entry *e)
{
    size_t n, most;
    char *all = gather(e, &n), *packed = NULL;
    struct entry *cold = NULL;
    uint32_t at = e->head.at;
    uint64_t kept = (uint64_t)at + e->etag.n + e->last_modified.n + e->language.n + e->coding.n;
    most = n - n / 8; /* less gain than an eighth is none */
    if (all)
        packed = malloc(most);
    size_t packed_n = packed ? squeeze(squeezer, (struct slice){all, n}, packed, most) : 0;
    if (packed_n > 0)
        cold = entry_alloc(e->tag_count, kept + packed_n);
    if (cold) {
        copy_common(cold, e);
        memcpy(cold->text, e->text, at);
        cold->etag = keep_span(cold, &at, e, e->etag);
        cold->last_modified = keep_span(cold, &at, e, e->last_modified);
        cold->language = keep_span(cold, &at, e, e->language);
        cold->coding = keep_span(cold, &at, e, e->coding);
        memcpy(cold->text + at, packed, packed_n);
        cold->head = (struct span){at, (uint32_t)packed_n};
        cold->head_full_n = (uint32_t)n; /* before compression */
        cold->cold = true;
        cold->tier = TIER_COLD;
    }
    free(all);
    free(packed);
    return cold;
}

/* ---- thawing ---- */

struct entry *entry_thaw(struct store *store, struct squeezer *squeezer, const struct entry *cold)
{
    struct cold_rest rest;
    size_t n = cold->head_full_n;
    char *all = malloc(n);
    struct entry *e = NULL;
    struct body *body = NULL;
    uint64_t began = clock_ns();
    if (!all || !squeezer || !unsqueeze(squeezer, entry_span(cold, cold->head), all, n)) {
        free(all);
        return NULL;
    }
    memcpy(&rest, all, sizeof(rest));
    e = entry_alloc(cold->tag_count, (uint64_t)rest.head.at + rest.head_full_n);
    if (e)
        body = body_new(&store->budget, cold->length, cold->length);
    bool good = body && (cold->length == 0 ||
                         body_append(body, all + sizeof(rest) + rest.head_full_n, (size_t)cold->length));
    if (good) {
        copy_common(e, cold);
        memcpy(e->text, cold->text, rest.head.at);
        memcpy(e->text + rest.head.at, all + sizeof(rest), rest.head_full_n);
        e->head = rest.head;
        e->head_full_n = rest.head_full_n;
        e->etag = rest.etag;
        e->last_modified = rest.last_modified;
        e->language = rest.language;
        e->coding = rest.coding;
        e->body = body_finish(body);
        e->footprint += body_footprint(e->body);
        atomic_fetch_add_explicit(&store->unpack_ns, clock_ns() - began, memory_order_relaxed);
        atomic_fetch_add_explicit(&store->unpack_bytes, n, memory_order_relaxed);
    } else {
        body_unref(body);
        entry_release(e);
        e = NULL;
    }
    free(all);
    return e;
}

void thaw_take(struct thaw *t, struct entry *found)
{
    t->next = entry_ref(found);
}

void thaw_do(struct store *store, struct thaw *t)
{
    entry_release(t->cold);
    entry_release(t->plain);
    t->cold = t->next;
    t->next = NULL;
    t->plain = entry_thaw(store, squeezer_here(), t->cold);
    if (t->plain)
        return;
    /* No memory, or it is damaged: as if it were not there. */
    struct hash128 place = {t->cold->link.hash, t->cold->place_hi};
    struct shard *shard = shard_lock(store, place);
    bool in = shard_holds(shard, t->cold);
    if (in)
        shard_unlink(store, shard, t->cold);
    shard->stats.oom += in;
    shard_unlock(shard);
    if (in)
        entry_release(t->cold);
}

void thaw_clear(struct store *store, struct thaw *t)
{
    bool grown = t->swapped_out;
    entry_release(t->cold);
    entry_release(t->plain);
    entry_release(t->swapped_out);
    if (grown)
        store_make_room(store, &store->shards[0], 0, 0);
}

static struct tier_market market_of(struct store *store)
{
    return (struct tier_market){atomic_load_explicit(&store->price, memory_order_relaxed),
                                atomic_load_explicit(&store->unpack_rate, memory_order_relaxed),
                                atomic_load_explicit(&store->pack_ratio, memory_order_relaxed)};
}

void thaw_used(struct store *store, struct shard *shard, struct thaw *t, tick_t now)
{
    struct entry *cold = t->cold;
    struct tier_market market = market_of(store);
    double seconds = now > shard->swept ? (double)(now - shard->swept) / (double)TICK_S : 0;
    struct tier_facts facts = {
        .now = TIER_COLD,
        .plain = (double)t->plain->footprint,
        .packed = (double)cold->footprint,
        .rate = tier_rate(cold->heat, cold->hits - cold->judged, seconds < 1 ? 1 : seconds)};
    shard->stats.cold_hits++;
    if (t->swapped_out || !t->plain || tier_judge(&market, &facts) == TIER_COLD)
        return;
    entry_ref(t->plain);
    shard_swap(store, shard, cold, t->plain);
    t->swapped_out = cold; /* the table's reference */
}

/* ---- the sweep ---- */

struct sweep {
    struct store *store;
    struct shard *shard;
    struct squeezer *squeezer;
    struct tier_market market;
    uint64_t threshold, watermark;
    double seconds;
    bool active, eager, wanted;
    struct entry *chosen[CHILL_BATCH];
    unsigned count;
    struct store_swept *out;
};

static bool squeezable(const struct sweep *s, const struct entry *e)
{
    return s->active && !e->partial && !e->stiff && e->length >= s->threshold && e->length <= CHILL_MAX &&
           e->coding.n == 0 && e->body;
}

/* Things are given up for room, or soon will be. */
static bool is_pressed(const struct sweep *s)
{
    return s->watermark > 0 &&
           (s->wanted || atomic_load_explicit(&s->store->bytes, memory_order_relaxed) > s->watermark);
}

static void visit(void *arg, struct table_link *link)
{
    struct sweep *s = arg;
    struct entry *e = CONTAINER(struct entry, link, link);
    double uses = e->hits - e->judged;
    if (s->seconds > 0) {
        e->heat = (float)tier_rate(e->heat, uses, s->seconds);
        e->judged = e->hits;
    }
    struct tier_facts facts = {.now = (enum tier)e->tier,
                               .plain = (double)e->footprint,
                               .rate = e->heat,
                               .squeezable = squeezable(s, e),
                               .pressed = is_pressed(s) && (s->eager || uses <= 0)};
    if (e->cold)
        return; /* it is thawed when somebody wants it */
    enum tier tier = tier_judge(&s->market, &facts);
    if (tier != TIER_COLD)
        shard_retier(s->store, e, tier);
    else if (s->count < CHILL_BATCH)
        s->chosen[s->count++] = entry_ref(e);
}

/* Compresses one that was chosen, if it is still there. */
static void chill(struct sweep *s, struct entry *e)
{
    struct hash128 place = {e->link.hash, e->place_hi};
    struct entry *cold = is_pressed(s) ? entry_chill(s->squeezer, e) : NULL;
    bool tried = is_pressed(s) || cold;
    if (cold && s->out->chilled++ % VERIFY_EACH == 0) { /* also to know what thawing costs */
        struct entry *again = entry_thaw(s->store, s->squeezer, cold);
        if (!again || again->length != e->length || !slice_equal(entry_head(again), entry_head(e))) {
            entry_release(cold);
            cold = NULL;
        }
        entry_release(again);
    }
    struct shard *shard = shard_lock(s->store, place);
    bool swaps = cold && shard_holds(shard, e);
    if (swaps)
        shard_swap(s->store, shard, e, cold);
    else if (tried && !cold)
        e->stiff = true;
    shard_unlock(shard);
    if (swaps) {
        s->out->from += cold->head_full_n;
        s->out->to += cold->head.n;
        entry_release(e); /* the table's */
    } else {
        entry_release(cold);
    }
    entry_release(e);
}

static void walk(struct sweep *s, tick_t now)
{
    size_t cursor = 0;
    bool more = true;
    pthread_mutex_lock(&s->shard->lock);
    tick_t since = s->shard->swept;
    s->seconds = since > 0 && now > since ? (double)(now - since) / (double)TICK_S : 0;
    if (s->shard->entries.count == 0 || since == 0) {
        s->shard->swept = now;
        more = s->shard->entries.count > 0;
    }
    if (!more)
        pthread_mutex_unlock(&s->shard->lock);
    else
        s->shard->entries.pins++;
    while (more) {
        more = table_scan(&s->shard->entries, &cursor, BATCH, visit, s);
        if (!more) {
            s->shard->entries.pins--;
            s->shard->swept = now;
        }
        pthread_mutex_unlock(&s->shard->lock);
        for (; s->count > 0; s->count--)
            chill(s, s->chosen[s->count - 1]);
        if (more)
            pthread_mutex_lock(&s->shard->lock);
    }
}

void store_sweep(struct store *store, struct squeezer *squeezer, const struct store_sweep *how,
                 struct store_swept *out)
{
    uint64_t max = atomic_load_explicit(&store->max_bytes, memory_order_relaxed);
    *out = (struct store_swept){0};
    struct sweep s = {.store = store,
                      .squeezer = squeezer,
                      .market = how->market,
                      .threshold = how->threshold,
                      .wanted = how->wanted,
                      .watermark = max - max / 16,
                      .active = how->active,
                      .eager = how->eager,
                      .out = out};
    atomic_store_explicit(&store->price, (float)how->market.price, memory_order_relaxed);
    atomic_store_explicit(&store->unpack_rate, (float)how->market.unpack_ns, memory_order_relaxed);
    atomic_store_explicit(&store->pack_ratio, (float)how->market.ratio, memory_order_relaxed);
    for (unsigned i = 0; i <= store->shard_mask; i++) {
        s.shard = &store->shards[i];
        walk(&s, how->now);
    }
    out->pressed = is_pressed(&s);
    out->unpack_ns = atomic_load_explicit(&store->unpack_ns, memory_order_relaxed);
    out->unpack_bytes = atomic_load_explicit(&store->unpack_bytes, memory_order_relaxed);
}
