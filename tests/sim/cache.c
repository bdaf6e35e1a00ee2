/*
 * Invariants: an entry is in the table and in the index, or in the free list; count and bytes are sums over
 * the table.
 */
#include "tests/sim/cache.h"

#include "policy/curve.h"
#include "policy/fetch_cost.h"
#include "policy/table.h"
#include "policy/tuner.h"

#include <stdlib.h>
#include <string.h>

#define CONTAINER(type, member, pointer) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

enum { PREDICT_ENTRIES = 10000 /* of the present size: up to here every key is looked at */ };

struct entry {
    struct table_link link;
    struct evict_node node;
    uint64_t bytes;
    bool ahead; /* prefetched, and not asked for yet */
};

/* What the origin would send for a key, as it did last. */
struct document {
    struct table_link link;
    struct document *next;
    uint64_t bytes;
    float cost;
};

struct block {
    struct block *next;
    struct entry entries[512];
};

struct cache {
    const struct cache_setup *setup;
    struct cache_result *result;
    struct table table;
    struct evict_index *index;
    struct tuner *tuner;
    struct curve *curve;
    struct fetch_cost costs;
    struct prefetch *prefetch; /* NULL: none */
    struct table origin;       /* of documents, when there is prefetching */
    struct document *documents;
    struct block *blocks;
    struct table_link *spare;
    uint64_t count, bytes;
    uint64_t window_hits; /* before this window */
    struct curve_sums sums;
};

static struct entry *take_spare(struct cache *c)
{
    if (!c->spare) {
        struct block *block = calloc(1, sizeof *block);
        if (!block)
            return NULL;
        block->next = c->blocks;
        c->blocks = block;
        for (size_t i = 0; i < sizeof block->entries / sizeof block->entries[0]; i++) {
            block->entries[i].link.next = c->spare;
            c->spare = &block->entries[i].link;
        }
    }
    struct entry *entry = CONTAINER(struct entry, link, c->spare);
    c->spare = entry->link.next;
    return entry;
}

static void make_room(struct cache *c, uint64_t bytes)
{
    const struct cache_setup *setup = c->setup;
    for (;;) {
        bool over_entries = setup->max_entries > 0 && c->count + 1 > setup->max_entries;
        bool over_bytes = setup->max_bytes > 0 && c->bytes + bytes > setup->max_bytes;
        if (!over_entries && !over_bytes)
            return;
        struct evict_node *node = evict_pop(c->index, over_entries ? EVICT_NEED_ENTRIES : EVICT_NEED_BYTES);
        if (!node)
            return;
        struct entry *victim = CONTAINER(struct entry, node, node);
        if (victim->ahead)
            prefetch_evicted(c->prefetch, victim->link.hash);
        table_remove(&c->table, &victim->link);
        c->bytes -= victim->bytes;
        c->count--;
        c->result->evictions++;
        victim->link.next = c->spare;
        c->spare = &victim->link;
    }
}

static bool add(struct cache *c, const struct evict_item *item)
{
    if (c->setup->max_bytes > 0 && item->bytes > c->setup->max_bytes)
        return true;
    make_room(c, item->bytes);
    struct entry *entry = take_spare(c);
    if (!entry)
        return false;
    entry->bytes = item->bytes;
    entry->ahead = item->guessed;
    table_insert(&c->table, &entry->link, item->hash);
    evict_insert(c->index, &entry->node, item);
    c->bytes += item->bytes;
    c->count++;
    if (c->count > c->result->most_entries)
        c->result->most_entries = c->count;
    return true;
}

/* Notes what the origin sent. False: out of memory. */
static bool learn_document(struct cache *c, const struct cache_record *record)
{
    struct table_link *link = table_first(&c->origin, record->hash);
    struct document *document = link ? CONTAINER(struct document, link, link) : calloc(1, sizeof *document);
    if (!document)
        return false;
    if (!link) {
        table_insert(&c->origin, &document->link, record->hash);
        document->next = c->documents;
        c->documents = document;
    }
    document->bytes = record->bytes;
    document->cost = record->cost;
    return true;
}

/* Learns from a request, and fetches what is likely to come next. False: out of memory. */
static bool look_ahead(struct cache *c, const struct cache_record *record, bool missed)
{
    struct successor_guess guess[PREFETCH_MAX_GUESSES];
    struct prefetch_event event = {0, record->hash, record->time, missed};
    unsigned n = prefetch_request(c->prefetch, &event, guess, PREFETCH_MAX_GUESSES);
    bool ok = learn_document(c, record);
    for (unsigned i = 0; ok && i < n; i++) {
        struct table_link *known = table_first(&c->origin, guess[i].key);
        if (!known || table_first(&c->table, guess[i].key) ||
            !prefetch_issue(c->prefetch, &guess[i], record->time))
            continue;
        const struct document *document = CONTAINER(struct document, link, known);
        struct evict_item item = {guess[i].key, document->bytes, document->cost, true};
        c->result->prefetched++;
        ok = add(c, &item);
    }
    return ok;
}

static bool request(struct cache *c, const struct cache_record *record)
{
    struct cache_result *r = c->result;
    struct evict_item item = {record->hash, record->bytes, record->cost, false};
    struct table_link *link = table_first(&c->table, record->hash);
    bool ok = true;
    item.cost = link ? CONTAINER(struct entry, link, link)->node.cost
                     : fetch_cost_note(&c->costs, record->hash, (double)record->cost);
    r->requests++;
    r->bytes += (double)record->bytes;
    r->cost += (double)record->cost;
    if (link) {
        struct entry *entry = CONTAINER(struct entry, link, link);
        evict_hit(c->index, &entry->node);
        r->prefetch_used += entry->ahead;
        entry->ahead = false;
        r->hits++;
        r->hit_bytes += (double)record->bytes;
        r->hit_cost += (double)record->cost;
    } else {
        ok = add(c, &item);
    }
    if (c->tuner && tuner_wants(c->tuner, record->hash))
        tuner_note(c->tuner, &item);
    if (c->curve && curve_wants(c->curve, record->hash))
        curve_note(c->curve, &item, 0, 1);
    return ok && (!c->prefetch || look_ahead(c, record, !link));
}

/* With the sidecar's defaults; remembers more contexts for a larger cache. False: out of memory. */
static bool open_prefetch(struct cache *c)
{
    enum { LEAST = 16384, MOST = 262144, A_KEY = 4 };
    uint64_t keys = c->setup->max_entries * A_KEY;
    struct prefetch_settings settings = {.strategy = c->setup->prefetch,
                                         .max_load = 0.1,
                                         .accuracy = 0.7,
                                         .keys = keys < LEAST  ? LEAST
                                                 : keys > MOST ? MOST
                                                               : (size_t)keys};
    if (settings.strategy == PREFETCH_NONE)
        return true;
    c->prefetch = prefetch_new(&settings);
    return c->prefetch && table_init(&c->origin, LEAST);
}

static bool open_cache(struct cache *c)
{
    const struct cache_setup *s = c->setup;
    bool adapts = s->strategy == EVICT_ADAPTIVE || s->strategy == EVICT_PREDICTIVE;
    if (adapts && !(c->tuner = tuner_new(s->max_entries, s->max_bytes)))
        return false;
    const evict_advice *advice = adapts ? tuner_advice(c->tuner) : NULL;
    size_t expected = s->max_entries && s->max_entries < 1024 ? (size_t)s->max_entries : 1024;
    c->index = evict_new(s->strategy, expected, advice);
    if (!c->index || !table_init(&c->table, expected) || !open_prefetch(c))
        return false;
    if (s->predict <= 0 && !s->looks)
        return true;
    struct curve_setup setup = {.strategy = s->strategy,
                                .advice = advice,
                                .max_entries = s->max_entries,
                                .max_bytes = s->max_bytes,
                                .factors = &s->predict,
                                .count = 1,
                                .entries = PREDICT_ENTRIES};
    if (s->looks) {
        setup.factors = s->looks;
        setup.count = CACHE_LOOKS;
        setup.whole = true;
        setup.entries = CURVE_SAMPLE_ENTRIES;
    }
    c->curve = curve_new(&setup);
    return c->curve != NULL;
}

static void end_window(struct cache *c, struct cache_window *window)
{
    struct cache_result *r = c->result;
    struct curve_sums now = {0};
    *window = (struct cache_window){.hits = (double)(r->hits - c->window_hits) / (double)c->setup->window};
    c->window_hits = r->hits;
    if (!c->curve)
        return;
    curve_sum(c->curve, &now);
    double all = now.requests - c->sums.requests;
    window->predicted_base = all > 0 ? (now.base - c->sums.base) / all : 0;
    for (unsigned i = 0; i < CACHE_LOOKS && i < now.count; i++)
        window->predicted[i] = all > 0 ? (now.hits[i] - c->sums.hits[i]) / all : 0;
    c->sums = now;
    r->curve_memory = curve_memory(c->curve);
}

static void measure(struct cache *c)
{
    struct cache_result *r = c->result;
    size_t buckets = c->table.now_size + (c->table.old ? c->table.old_size : 0);
    r->memory = (size_t)r->most_entries * (sizeof(struct table_link) + sizeof(struct evict_node)) +
                buckets * sizeof(struct table_link *) + evict_memory(c->index);
    if (c->tuner) {
        r->memory += tuner_memory(c->tuner);
        r->rule = tuner_rule(c->tuner);
        r->rule_changes = tuner_changes(c->tuner);
    }
    struct curve_point points[CURVE_MAX_SIZES];
    if (c->curve) {
        curve_window(c->curve, r->requests, r->hits);
        r->predicted = curve_points(c->curve, points) > 0
                           ? points[0].hit_ratio
                           : (double)r->hits / (double)(r->requests + !r->requests);
    }
}

static void close_cache(struct cache *c)
{
    curve_free(c->curve);
    tuner_free(c->tuner);
    evict_free(c->index);
    prefetch_free(c->prefetch);
    table_dispose(&c->table);
    table_dispose(&c->origin);
    while (c->documents) {
        struct document *document = c->documents;
        c->documents = document->next;
        free(document);
    }
    while (c->blocks) {
        struct block *block = c->blocks;
        c->blocks = block->next;
        free(block);
    }
}

bool cache_run(const struct cache_setup *setup, const struct cache_record *records, size_t count,
               struct cache_result *out)
{
    struct cache c = {.setup = setup, .result = out};
    memset(out, 0, sizeof *out);
    bool ok = open_cache(&c);
    for (size_t i = 0; ok && i < count; i++) {
        ok = request(&c, &records[i]);
        if (ok && setup->window > 0 && (i + 1) % setup->window == 0)
            end_window(&c, &setup->windows[i / setup->window]);
    }
    if (ok)
        measure(&c);
    close_cache(&c);
    return ok;
}
