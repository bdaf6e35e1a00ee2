/*
 * The store's doors. Invariants: a request reads and writes the places of its own partition only, as the
 * partition is part of every place; a credential is fed to the keyed hash and kept nowhere; nothing is
 * allocated, and nobody waited for, under a shard's lock.
 */
#include "proxy/store.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/store_inner.h"

enum { FEW_BUCKETS = 1024 };

/* A verdict of the inside: a fill is needed, and must be allocated first. */
#define NEEDS_FILL ((enum store_verdict) - 1)

/* What was found is compressed, and must be thawed first. */
#define NEEDS_THAW ((enum store_verdict) - 2)

/* ---- life ---- */

static unsigned shards_for(uint64_t max_entries)
{
    unsigned shards = STORE_SHARDS;
    while (max_entries > 0 && shards > 1 && max_entries / shards < STORE_ENTRIES_PER_SHARD)
        shards /= 2;
    return shards;
}

static void set_numbers(struct store *store, const struct store_limits *limits)
{
    atomic_store_explicit(&store->max_entries, limits->max_entries, memory_order_relaxed);
    atomic_store_explicit(&store->max_bytes, limits->max_bytes, memory_order_relaxed);
    atomic_store_explicit(&store->max_object, limits->max_object_bytes, memory_order_relaxed);
    atomic_store_explicit(&store->tunes,
                          limits->strategy == EVICT_ADAPTIVE || limits->strategy == EVICT_PREDICTIVE,
                          memory_order_relaxed);
}

/* Several keys from one, so that the same bytes in different roles have different hashes. */
static struct hash_key derive(struct hash_key seed, const char *role)
{
    struct hash128 hash = hash_bytes(seed, role, strlen(role));
    return (struct hash_key){hash.lo, hash.hi};
}

struct store *store_new(const struct store_limits *limits, struct hash_key seed)
{
    void *memory = NULL;
    if (posix_memalign(&memory, _Alignof(struct store), sizeof(struct store)) != 0)
        return NULL;
    struct store *store = memset(memory, 0, sizeof *store);
    unsigned shards = shards_for(limits->max_entries);
    uint64_t expected = limits->max_entries ? limits->max_entries / shards : FEW_BUCKETS;
    pthread_mutex_init(&store->tuner_lock, NULL);
    store->tuner = tuner_new(limits->max_entries, limits->max_bytes);
    store->whatif = whatif_new();
    if (!store->tuner || !store->whatif) {
        store_free(store);
        return NULL;
    }
    bool ok = true;
    store->shard_mask = shards - 1;
    for (unsigned i = 0; i < STORE_SHARDS; i++)
        if (!shard_init(&store->shards[i], limits->strategy,
                        expected < FEW_BUCKETS ? (size_t)expected : FEW_BUCKETS, tuner_advice(store->tuner)))
            ok = false;
    store->seed = derive(seed, "place");
    store->seed_partition = derive(seed, "partition");
    store->seed_tag = derive(seed, "tag");
    store->seed_vary = derive(seed, "vary");
    store->nobody = hash_bytes(store->seed_partition, "", 0);
    store->budget.max = BODY_FD_MAX;
    set_numbers(store, limits);
    if (ok)
        return store;
    store_free(store);
    return NULL;
}

void store_free(struct store *store)
{
    if (!store)
        return;
    for (unsigned i = 0; store->tuner && store->whatif && i < STORE_SHARDS; i++)
        shard_dispose(&store->shards[i]);
    whatif_free(store->whatif);
    tuner_free(store->tuner);
    pthread_mutex_destroy(&store->tuner_lock);
    free(store);
}

void store_set_limits(struct store *store, const struct store_limits *limits)
{
    if (atomic_load_explicit(&store->max_entries, memory_order_relaxed) != limits->max_entries ||
        atomic_load_explicit(&store->max_bytes, memory_order_relaxed) != limits->max_bytes) {
        pthread_mutex_lock(&store->tuner_lock);
        bool ok = tuner_set_limits(store->tuner, limits->max_entries, limits->max_bytes);
        (void)ok; /* without memory it goes on by the old limits: worse advice, nothing else */
        pthread_mutex_unlock(&store->tuner_lock);
    }
    set_numbers(store, limits);
    for (unsigned i = 0; i < STORE_SHARDS; i++) {
        pthread_mutex_lock(&store->shards[i].lock);
        evict_set_strategy(store->shards[i].index, limits->strategy);
        pthread_mutex_unlock(&store->shards[i].lock);
    }
    store_make_room(store, &store->shards[0], 0, 0);
}

/* ---- places ---- */

static void feed_who(void *arg, uint64_t number, struct slice text)
{
    hash_feed_u64(arg, number);
    hash_feed_text(arg, text);
}

static struct hash128 partition_of(struct store *store, const struct store_request *request)
{
    struct hash_state hash;
    hash_init(&hash, store->seed_partition);
    return store_who(request, feed_who, &hash) ? hash_end(&hash) : store->nobody;
}

struct hash128 store_place(struct store *store, struct hash128 partition, struct slice origin,
                           struct slice path)
{
    return hash_of_two(store->seed, partition, origin, path);
}

void store_key_of(struct store *store, const struct store_request *request, struct store_key *out)
{
    out->partition = partition_of(store, request);
    out->place = store_place(store, out->partition, request->origin, head_path(request->head));
}

uint64_t store_tag_hash(const struct store *store, struct slice tag)
{
    uint64_t hash = hash_bytes(store->seed_tag, tag.p, tag.n).lo;
    return hash ? hash : 1;
}

uint64_t store_partition_tag(struct hash128 partition)
{
    return partition.lo ? partition.lo : 1;
}

void home_init(struct home *home, const struct store_key *key)
{
    *home = (struct home){.place = key->place, .partition = key->partition, .tag_count = 1};
    home->tags[0] = store_partition_tag(key->partition);
}

void home_add_tags(struct home *home, const struct store *store, const struct slice *tags, unsigned count)
{
    for (unsigned i = 0; i < count && home->tag_count <= STORE_MAX_TAGS; i++)
        home->tags[home->tag_count++] = store_tag_hash(store, tags[i]);
}

void home_copy_tags(struct home *home, const struct store *store, const struct entry *entry)
{
    struct slice text = entry_span(entry, entry->tag_text);
    const char *end;
    while (text.n > 0 && (end = memchr(text.p, '\n', text.n)) != NULL) {
        struct slice tag = {text.p, (size_t)(end - text.p)};
        home_add_tags(home, store, &tag, 1);
        text = (struct slice){end + 1, text.n - tag.n - 1};
    }
}

/* ---- lookup ---- */

struct lookup {
    struct store *store;
    const struct store_request *request;
    struct store_result *result;
    struct cache_ask ask;
    bool picky; /* wants an answer that was asked for now: joins nobody */
    bool conditional;
    bool one_range;     /* it asks for one range of bytes */
    struct fill *spare; /* for when this request is to lead */
    struct thaw thaw;   /* of what was found compressed */
    bool no_memory;
};

static bool field_there(const struct head *head, enum field_id a, enum field_id b)
{
    return head_has(head, a) || head_has(head, b);
}

/* Does the request need the upstream whatever is stored? CACHE_FWD_NONE: no. */
static enum cache_fwd must_forward(const struct lookup *l)
{
    const struct head *head = l->request->head;
    if (head->method != METHOD_GET && head->method != METHOD_HEAD)
        return CACHE_FWD_METHOD;
    if (head->upgrade ||
        (head->body != BODY_NONE && !(head->body == BODY_LENGTH && head->content_length == 0)))
        return CACHE_FWD_BYPASS;
    /* If-Match and If-Unmodified-Since are for the origin to judge (RFC 9111 4.3.2). */
    if ((l->ask.cc.flags & CC_NO_STORE) || field_there(head, FIELD_IF_MATCH, FIELD_IF_UNMODIFIED_SINCE))
        return CACHE_FWD_REQUEST;
    return CACHE_FWD_NONE;
}

/* A request for an entry counts as its use, also when it has to be fetched anew. */
static void count_use(struct store *store, struct shard *shard, const struct find *find, tick_t now)
{
    struct entry *entry = find->best ? find->best : find->part;
    if (!entry)
        return;
    evict_hit(shard->index, &entry->node);
    struct evict_item item = entry_item(entry);
    store_note_use(store, &item, &entry->fresh, now, entry->unnoted);
    entry->noted = now;
    entry->unnoted = 0;
}

static void count_hit(struct store *store, struct shard *shard, struct entry *entry, tick_t now)
{
    evict_hit(shard->index, &entry->node);
    store_note_hit(store, entry, now);
    entry->hits += entry->hits < UINT32_MAX;
}

/* Makes this request the leader of a fill. */
static void lead(struct lookup *l, struct shard *shard, const struct find *find, bool joinable)
{
    struct fill *fill = l->spare;
    const struct head *head = l->request->head;
    struct entry *sibling = find->best && find->best->names.n > 0 ? find->best : find->any;
    l->spare = NULL;
    fill->joinable = joinable;
    if (find->best && find->best->fresh.has_validator)
        fill->base = entry_ref(thaw_plain(&l->thaw, find->best));
    if (sibling) {
        fill->sibling = entry_ref(sibling);
        vary_select(entry_span(sibling, sibling->names), head, l->store->seed_vary, &fill->vary);
    }
    table_insert(&shard->fills, &fill->link, fill->home.place.lo);
    l->result->fill = fill;
}

static enum store_verdict count(uint64_t *counter, enum store_verdict verdict)
{
    ++*counter;
    return verdict;
}

/* What is served or joined may have been fetched ahead: is this its first use? */
static void note_ahead(uint8_t *ahead, struct store_result *result)
{
    result->ahead = *ahead & (AHEAD_READ - 1);
    result->ahead_first = result->ahead && !(*ahead & AHEAD_READ);
    *ahead |= AHEAD_READ;
}

/* May the rest of a stored beginning be asked for, instead of all (RFC 9111 3.3)? */
static bool completes(const struct lookup *l, const struct find *find)
{
    return find->part && !l->conditional && !head_has(l->request->head, FIELD_RANGE) &&
           part_is_beginning(find->part);
}

/* A fresh part that holds all that the request wants, or NULL. */
static struct entry *part_that_will_do(const struct lookup *l, const struct find *find)
{
    enum cache_fwd fwd;
    if (!find->part || !l->one_range || !part_covers(find->part, l->request->head))
        return NULL;
    enum reuse reuse = freshness_reuse(&find->part->fresh, &l->ask, l->request->now, &fwd);
    return reuse == REUSE_FRESH || reuse == REUSE_STALE ? find->part : NULL;
}

/* Nothing stored will do as it is: who asks the upstream? */
static enum store_verdict miss(struct lookup *l, struct shard *shard, const struct find *find)
{
    struct store_result *result = l->result;
    const struct head *head = l->request->head;
    struct hash128 place = result->key.place;
    bool validate = find->best && find->best->fresh.has_validator;
    if (l->ask.cc.flags & CC_ONLY_IF_CACHED)
        return count(&shard->stats.refused, STORE_REFUSE);
    bool ranged = head_has(head, FIELD_RANGE) && !validate;
    if (head->method == METHOD_HEAD || (ranged && !l->one_range))
        return count(&shard->stats.passed, STORE_PASS);
    struct fill *running = shard_joinable(l->store, shard, place, head);
    if (running && !l->picky && !ranged) {
        if (fill_waiters(running) >= FILL_MAX_WAITERS)
            return count(&shard->stats.passed, STORE_PASS);
        count_use(l->store, shard, find, l->request->now);
        atomic_fetch_add_explicit(&running->refs, 1, memory_order_relaxed);
        note_ahead(&running->ahead, result);
        result->fill = running;
        return count(&shard->stats.coalesced, STORE_JOIN);
    }
    if (!validate && marker_live(shard, place, l->request->now)) {
        result->fwd = CACHE_FWD_BYPASS;
        return count(&shard->stats.passed, STORE_PASS);
    }
    if (!l->spare)
        return l->no_memory ? count(&shard->stats.passed, STORE_PASS) : NEEDS_FILL;
    /* With nothing to validate by, the client's own condition goes upstream: its 304 would help nobody else.
     */
    count_use(l->store, shard, find, l->request->now);
    lead(l, shard, find, !running && !ranged && (validate || !l->conditional));
    if (find->best && freshness_left(&find->best->fresh, l->request->now) <= 0)
        shard->stats.expired++;
    if (!validate && completes(l, find)) {
        result->fwd = CACHE_FWD_PARTIAL;
        result->fill->part = entry_ref(find->part);
        result->entry = entry_ref(find->part);
        return count(&shard->stats.misses, STORE_COMPLETE);
    }
    if (!validate)
        return count(&shard->stats.misses, STORE_LEAD);
    result->entry = entry_ref(thaw_plain(&l->thaw, find->best));
    return count(&shard->stats.misses, STORE_REVALIDATE);
}

/* A stale answer is served; is this the one to refresh it? */
static enum store_verdict refresh(struct lookup *l, struct shard *shard, const struct find *find)
{
    const struct head *head = l->request->head;
    bool wanted = head->method == METHOD_GET && !l->no_memory &&
                  !shard_joinable(l->store, shard, l->result->key.place, head);
    if (wanted && !l->spare)
        return NEEDS_FILL;
    if (wanted)
        lead(l, shard, find, true);
    return STORE_HIT_STALE;
}

/* What was found is the answer. */
static enum store_verdict serve(struct lookup *l, struct shard *shard, struct entry *entry,
                                enum store_verdict verdict)
{
    l->result->first = entry->noted == 0;
    l->result->hits = entry->hits;
    note_ahead(&entry->ahead, l->result);
    count_hit(l->store, shard, entry, l->request->now);
    l->result->entry = entry_ref(thaw_plain(&l->thaw, entry));
    if (l->result->entry != entry)
        thaw_used(l->store, shard, &l->thaw, l->request->now);
    return count(verdict == STORE_HIT ? &shard->stats.hits : &shard->stats.stale, verdict);
}

/* No whole answer will do; a part of one may. */
static enum store_verdict part_or_miss(struct lookup *l, struct shard *shard, const struct find *find)
{
    struct entry *part = part_that_will_do(l, find);
    if (!part)
        return miss(l, shard, find);
    l->result->fwd = CACHE_FWD_NONE;
    return serve(l, shard, part, STORE_HIT);
}

/* Nobody asks: is there something to fetch ahead, and nobody who does? */
static enum store_verdict decide_ahead(struct lookup *l, struct shard *shard)
{
    const struct store_request *request = l->request;
    struct hash128 place = l->result->key.place;
    struct find find;
    shard_find(l->store, shard, place, request->head, &find);
    tick_t left = find.best ? freshness_left(&find.best->fresh, request->now) : 0;
    bool renews = request->ahead == STORE_RENEWED;
    if (find.best && left > (renews ? request->renew : 0)) {
        l->result->entry = entry_ref(find.best);
        return STORE_HIT;
    }
    if ((renews && !find.best) || shard_joinable(l->store, shard, place, request->head) ||
        marker_live(shard, place, request->now) || l->no_memory)
        return STORE_PASS;
    if (thaw_wants(&l->thaw, find.best))
        return NEEDS_THAW;
    if (!l->spare)
        return NEEDS_FILL;
    lead(l, shard, &find, true);
    l->result->fill->ahead = (uint8_t)request->ahead;
    if (!l->result->fill->base)
        return STORE_LEAD;
    l->result->entry = entry_ref(thaw_plain(&l->thaw, find.best));
    return STORE_REVALIDATE;
}

/* The whole decision, under the shard's lock. */
static enum store_verdict decide(struct lookup *l, struct shard *shard)
{
    struct store_result *result = l->result;
    struct find find;
    shard_find(l->store, shard, result->key.place, l->request->head, &find);
    if (!find.best) {
        result->fwd = find.part ? CACHE_FWD_PARTIAL : find.any ? CACHE_FWD_VARY_MISS : CACHE_FWD_URI_MISS;
        return part_or_miss(l, shard, &find);
    }
    if (thaw_wants(&l->thaw, find.best))
        return NEEDS_THAW;
    enum store_verdict verdict = STORE_HIT_STALE;
    switch (freshness_reuse(&find.best->fresh, &l->ask, l->request->now, &result->fwd)) {
    case REUSE_FRESH:
        verdict = STORE_HIT;
        break;
    case REUSE_STALE:
        break;
    case REUSE_REFRESH:
        verdict = refresh(l, shard, &find);
        break;
    case REUSE_VALIDATE:
        return part_or_miss(l, shard, &find);
    }
    return verdict == NEEDS_FILL ? verdict : serve(l, shard, find.best, verdict);
}

/* `bytes=` and one range, once. */
static bool asks_for_one_range(const struct head *head)
{
    uint64_t first, last;
    int at = head_find(head, FIELD_RANGE, 0);
    return at >= 0 && head->method == METHOD_GET && head_find(head, FIELD_RANGE, at + 1) < 0 &&
           range_parse(head_value(head, at), UINT64_MAX, &first, &last) != RANGE_WHOLE;
}

/* Writes the tags when that was left until they are needed: only a fill carries them. */
static struct fill *begin_fill(struct store *store, const struct store_request *request,
                               const struct store_key *key)
{
    struct store_request tagged = *request;
    if (request->write_tags)
        tagged.tag_count = request->write_tags(request->writer);
    return fill_new(store, &tagged, key);
}

static enum store_verdict refuse(struct store *store, struct hash128 place)
{
    struct shard *shard = shard_lock(store, place);
    shard->stats.refused++;
    shard_unlock(shard);
    return STORE_REFUSE;
}

enum store_verdict store_lookup(struct store *store, const struct store_request *request,
                                struct store_result *result)
{
    const struct head *head = request->head;
    struct lookup l; /* member by member: the rest is set below, and this is on the way of each hit */
    l.store = store;
    l.request = request;
    l.result = result;
    l.picky = l.conditional = l.one_range = l.no_memory = false;
    l.spare = NULL;
    l.thaw = (struct thaw){NULL, NULL, NULL, NULL};
    enum store_verdict verdict;
    *result = (struct store_result){0};
    store_key_of(store, request, &result->key);
    cache_ask_read(head, &l.ask);
    result->fwd = must_forward(&l);
    if (result->fwd != CACHE_FWD_NONE) {
        /* What no stored answer may serve is refused who wants a stored one only (RFC 9111 5.2.1.7). */
        if (result->fwd == CACHE_FWD_REQUEST && (l.ask.cc.flags & CC_ONLY_IF_CACHED))
            return refuse(store, result->key.place);
        atomic_fetch_add_explicit(&store->passed, 1, memory_order_relaxed);
        return STORE_PASS;
    }
    l.picky = !l.ask.plain &&
              ((l.ask.cc.flags & CC_NO_CACHE) || l.ask.cc.max_age != CC_ABSENT || l.ask.cc.min_fresh > 0);
    l.conditional = field_there(head, FIELD_IF_NONE_MATCH, FIELD_IF_MODIFIED_SINCE);
    l.one_range = head_has(head, FIELD_RANGE) && asks_for_one_range(head);
    for (;;) {
        struct shard *shard = shard_lock(store, result->key.place);
        verdict = request->ahead ? decide_ahead(&l, shard) : decide(&l, shard);
        shard_unlock(shard);
        if (verdict == NEEDS_THAW) {
            thaw_do(store, &l.thaw);
            continue;
        }
        if (verdict != NEEDS_FILL)
            break;
        l.spare = begin_fill(store, request, &result->key);
        l.no_memory = !l.spare;
    }
    fill_unref(l.spare);
    thaw_end(store, &l.thaw);
    if (result->entry) {
        result->age = freshness_age(&result->entry->fresh, request->now);
        result->ttl = result->entry->fresh.lifetime - result->age;
    }
    return verdict;
}

bool store_stale_for_error(struct store *store, const struct store_request *request,
                           struct store_result *result)
{
    struct cache_ask ask;
    struct find find;
    *result = (struct store_result){0};
    if (request->head->method != METHOD_GET && request->head->method != METHOD_HEAD)
        return false;
    store_key_of(store, request, &result->key);
    cache_ask_read(request->head, &ask);
    struct thaw thaw = {NULL, NULL, NULL, NULL};
    struct shard *shard = shard_lock(store, result->key.place);
    shard_find(store, shard, result->key.place, request->head, &find);
    while (thaw_wants(&thaw, find.best)) {
        shard_unlock(shard);
        thaw_do(store, &thaw);
        shard = shard_lock(store, result->key.place);
        shard_find(store, shard, result->key.place, request->head, &find);
    }
    struct entry *entry = find.best;
    if (!entry && find.part && part_covers(find.part, request->head))
        entry = find.part;
    if (entry && freshness_for_error(&entry->fresh, &ask, request->now)) {
        count_hit(store, shard, entry, request->now);
        shard->stats.stale++;
        result->entry = entry_ref(thaw_plain(&thaw, entry));
        shard->stats.cold_hits += result->entry != entry;
    }
    shard_unlock(shard);
    thaw_end(store, &thaw);
    if (!result->entry)
        return false;
    result->age = freshness_age(&result->entry->fresh, request->now);
    result->ttl = result->entry->fresh.lifetime - result->age;
    return true;
}

struct entry *store_fresh(struct store *store, const struct store_request *request, bool use)
{
    struct cache_ask ask;
    struct find find;
    struct store_key key;
    struct entry *entry = NULL;
    enum cache_fwd fwd;
    store_key_of(store, request, &key);
    cache_ask_read(request->head, &ask);
    struct shard *shard = shard_lock(store, key.place);
    shard_find(store, shard, key.place, request->head, &find);
    if (find.best && freshness_reuse(&find.best->fresh, &ask, request->now, &fwd) == REUSE_FRESH) {
        entry = entry_ref(find.best);
        if (use)
            count_hit(store, shard, entry, request->now);
    }
    shard_unlock(shard);
    return entry;
}

/* ---- statistics ---- */

static void add_stats(struct store_stats *to, const struct store_stats *from)
{
    to->hits += from->hits;
    to->misses += from->misses;
    to->stale += from->stale;
    to->coalesced += from->coalesced;
    to->revalidated += from->revalidated;
    to->passed += from->passed;
    to->refused += from->refused;
    to->stored += from->stored;
    to->evictions += from->evictions;
    to->expired += from->expired;
    to->invalidated += from->invalidated;
    to->oom += from->oom;
    to->regrets += from->regrets;
    to->cold_hits += from->cold_hits;
    to->ahead += from->ahead;
    for (size_t i = 0; i < ARRAY_LEN(to->unread); i++)
        to->unread[i] += from->unread[i];
}

void store_stats(struct store *store, struct store_stats *out)
{
    *out = (struct store_stats){
        .entries = atomic_load_explicit(&store->entries, memory_order_relaxed),
        .bytes = atomic_load_explicit(&store->bytes, memory_order_relaxed),
        .fills = atomic_load_explicit(&store->fills, memory_order_relaxed),
        .fill_bytes = atomic_load_explicit(&store->fill_bytes, memory_order_relaxed),
        .passed = atomic_load_explicit(&store->passed, memory_order_relaxed),
    };
    for (unsigned i = 0; i < TIER_COUNT; i++) {
        out->tier_entries[i] = atomic_load_explicit(&store->tier_entries[i], memory_order_relaxed);
        out->tier_bytes[i] = atomic_load_explicit(&store->tier_bytes[i], memory_order_relaxed);
    }
    for (unsigned i = 0; i <= store->shard_mask; i++) {
        pthread_mutex_lock(&store->shards[i].lock);
        add_stats(out, &store->shards[i].stats);
        out->ghost_bytes += store->shards[i].ghost_bytes;
        pthread_mutex_unlock(&store->shards[i].lock);
    }
}
