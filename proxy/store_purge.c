/*
 * What is taken out of the store before its time, and looking through it. Invariants: whatever is dropped,
 * fetches under way for it are doomed first, so that an answer that was made before the change cannot come in
 * behind it; a shard's lock is held for BATCH entries or buckets at a time.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/uri.h"
#include "proxy/store_inner.h"

enum { BATCH = 64, PATH_CAP = 8192 };

/* Releases a chain of entries that were unlinked. No lock held. */
static void release_chain(struct entry *chain)
{
    while (chain) {
        struct table_link *next = chain->link.next;
        struct entry *entry = chain;
        chain = next ? CONTAINER(struct entry, link, next) : NULL;
        entry_release(entry);
    }
}

/* ---- one place ---- */

static size_t drop_place(struct store *store, const struct level_drop *drop)
{
    struct entry *chain = NULL, *entry;
    size_t count = 0;
    levels_drop(store, drop);
    struct shard *shard = shard_lock(store, drop->place);
    shard_doom_place(shard, drop->place);
    while ((entry = shard_first_variant(shard, drop->place)) != NULL) {
        shard_unlink(store, shard, entry);
        entry->link.next = chain ? &chain->link : NULL;
        chain = entry;
        count++;
    }
    shard->stats.invalidated += count;
    shard_unlock(shard);
    release_chain(chain);
    levels_drop(store, drop);
    return count;
}

/* The path and query `text` of the request's origin. */
static size_t drop_path(struct store *store, const struct store_request *request, struct hash128 place,
                        struct slice text)
{
    struct level_drop drop = {.kind = LEVEL_DROP_PLACE, .place = place, .text = text, .request = request};
    return drop_place(store, &drop);
}

size_t store_forget_place(struct store *store, struct hash128 partition, struct slice origin,
                          struct slice path)
{
    struct hash128 place = store_place(store, partition, origin, path);
    struct level_drop drop = {
        .kind = LEVEL_DROP_PLACE, .place = place, .partition = partition, .text = path, .name = place};
    return drop_place(store, &drop);
}

static bool unsafe(enum method method)
{
    return method != METHOD_GET && method != METHOD_HEAD && method != METHOD_OPTIONS &&
           method != METHOD_TRACE;
}

/* Drops what a field of the response refers to, when that is ours. */
static void drop_referred(struct store *store, const struct store_request *request, struct hash128 partition,
                          struct slice reference)
{
    const struct head *head = request->head;
    struct uri_base base = {
        request->origin, {head->base + head->authority_at, head->authority_len}, head_path(head)};
    char path[PATH_CAP];
    if (!reference.p)
        return;
    size_t n = uri_local(reference, &base, path, sizeof path);
    if (n > 0)
        drop_path(store, request, store_place(store, partition, request->origin, (struct slice){path, n}),
                  (struct slice){path, n});
}

void store_invalidate(struct store *store, const struct store_request *request, const struct head *response)
{
    struct store_key key;
    if (!unsafe(request->head->method) || response->status < 200 || response->status >= 400)
        return;
    store_key_of(store, request, &key);
    drop_path(store, request, key.place, head_path(request->head));
    drop_referred(store, request, key.partition, head_first(response, FIELD_LOCATION));
    drop_referred(store, request, key.partition, head_first(response, FIELD_CONTENT_LOCATION));
}

/* ---- by tag and by partition ---- */

static size_t drop_tagged(struct store *store, uint64_t tag, bool unknown_too)
{
    size_t count = 0;
    for (unsigned i = 0; i <= store->shard_mask; i++) {
        struct shard *shard = &store->shards[i];
        unsigned n;
        do {
            struct entry *chain = NULL;
            pthread_mutex_lock(&shard->lock);
            shard_doom_tag(shard, tag, unknown_too);
            n = shard_unlink_tagged(store, shard, tag, BATCH, &chain);
            shard->stats.invalidated += n;
            pthread_mutex_unlock(&shard->lock);
            release_chain(chain);
            count += n;
        } while (n == BATCH);
    }
    return count;
}

static size_t drop_partition(struct store *store, const struct level_drop *drop)
{
    levels_drop(store, drop);
    /* Whose fetch it is is always known: a refused credential must not touch those of others. */
    size_t count = drop_tagged(store, store_partition_tag(drop->partition), false);
    levels_drop(store, drop);
    return count;
}

size_t store_drop_partition(struct store *store, const struct store_key *key)
{
    struct level_drop drop = {.kind = LEVEL_DROP_PARTITION, .partition = key->partition};
    return drop_partition(store, &drop);
}

size_t store_drop_asker(struct store *store, const struct store_request *request)
{
    struct store_key key;
    store_key_of(store, request, &key);
    struct level_drop drop = {.kind = LEVEL_DROP_PARTITION, .partition = key.partition, .request = request};
    return drop_partition(store, &drop);
}

/* ---- by path: a walk over everything ---- */

struct walk {
    struct store *store;
    struct shard *shard;
    enum store_purge_kind kind;
    struct slice text;
    size_t count;
    struct entry *chain;                                   /* purges: what was unlinked */
    bool (*see)(void *arg, const struct store_view *view); /* walks */
    void *arg;
    tick_t now;
    bool stopped;
};

static bool has_tag_prefix(const struct entry *entry, struct slice prefix)
{
    struct slice text = entry_span(entry, entry->tag_text);
    const char *end;
    while (text.n > 0 && (end = memchr(text.p, '\n', text.n)) != NULL) {
        size_t n = (size_t)(end - text.p);
        if (n >= prefix.n && (prefix.n == 0 || memcmp(text.p, prefix.p, prefix.n) == 0))
            return true;
        text = (struct slice){end + 1, text.n - n - 1};
    }
    return false;
}

static bool chosen(const struct walk *walk, const struct entry *entry)
{
    struct slice uri = entry_span(entry, entry->uri);
    switch (walk->kind) {
    case STORE_PURGE_KEY:
        return slice_equal(uri, walk->text);
    case STORE_PURGE_PREFIX:
        return uri.n >= walk->text.n && (walk->text.n == 0 || memcmp(uri.p, walk->text.p, walk->text.n) == 0);
    case STORE_PURGE_ALL:
        return true;
    case STORE_PURGE_TAG_PREFIX:
        return has_tag_prefix(entry, walk->text);
    case STORE_PURGE_TAG:
        break;
    }
    return false;
}

static void purge_visit(void *arg, struct table_link *link)
{
    struct walk *walk = arg;
    struct entry *entry = CONTAINER(struct entry, link, link);
    if (!chosen(walk, entry))
        return;
    shard_unlink(walk->store, walk->shard, entry);
    entry->link.next = walk->chain ? &walk->chain->link : NULL;
    walk->chain = entry;
    walk->shard->stats.invalidated++;
    walk->count++;
}

/* Walks one shard's entries, BATCH buckets for each taking of its lock. */
static void walk_shard(struct walk *walk, struct shard *shard,
                       void (*visit)(void *arg, struct table_link *link))
{
    size_t cursor = 0;
    bool more;
    walk->shard = shard;
    pthread_mutex_lock(&shard->lock);
    shard->entries.pins++;
    do {
        more = table_scan(&shard->entries, &cursor, BATCH, visit, walk) && !walk->stopped;
        if (!more)
            shard->entries.pins--;
        pthread_mutex_unlock(&shard->lock);
        release_chain(walk->chain);
        walk->chain = NULL;
        if (more)
            pthread_mutex_lock(&shard->lock);
    } while (more);
}

static size_t purge_walk(struct store *store, enum store_purge_kind kind, struct slice text)
{
    struct walk walk = {.store = store, .kind = kind, .text = text};
    for (unsigned i = 0; i <= store->shard_mask; i++) {
        struct shard *shard = &store->shards[i];
        pthread_mutex_lock(&shard->lock);
        shard_doom_tag(shard, 0,
                       true); /* their paths are not kept: what is being fetched now is not stored, no more */
        pthread_mutex_unlock(&shard->lock);
        walk_shard(&walk, shard, purge_visit);
    }
    return walk.count;
}

size_t store_purge(struct store *store, enum store_purge_kind kind, struct slice text)
{
    static const enum level_drop_kind kinds[] = {
        [STORE_PURGE_KEY] = LEVEL_DROP_KEY, [STORE_PURGE_PREFIX] = LEVEL_DROP_PREFIX,
        [STORE_PURGE_TAG] = LEVEL_DROP_TAG, [STORE_PURGE_TAG_PREFIX] = LEVEL_DROP_TAG_PREFIX,
        [STORE_PURGE_ALL] = LEVEL_DROP_ALL,
    };
    struct level_drop drop = {.kind = kinds[kind], .text = text};
    levels_drop(store, &drop);
    size_t count = kind == STORE_PURGE_TAG ? drop_tagged(store, store_tag_hash(store, text), true)
                                           : purge_walk(store, kind, text);
    levels_drop(store, &drop);
    return count;
}

static void see_visit(void *arg, struct table_link *link)
{
    struct walk *walk = arg;
    const struct entry *entry = CONTAINER(struct entry, link, link);
    if (walk->stopped)
        return;
    tick_t age = freshness_age(&entry->fresh, walk->now);
    struct store_view view = {.uri = entry_span(entry, entry->uri),
                              .status = entry->status,
                              .bytes = entry->footprint,
                              .hits = entry->hits,
                              .age = age,
                              .ttl = entry->fresh.lifetime - age,
                              .fetch = entry_fetch_time(entry),
                              .tier = tier_name((enum tier)entry->tier)};
    walk->stopped = !walk->see(walk->arg, &view);
}

void store_walk(struct store *store, tick_t now, bool (*see)(void *arg, const struct store_view *view),
                void *arg)
{
    struct walk walk = {.store = store, .see = see, .arg = arg, .now = now};
    for (unsigned i = 0; i <= store->shard_mask && !walk.stopped; i++)
        walk_shard(&walk, &store->shards[i], see_visit);
}
