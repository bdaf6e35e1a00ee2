/*
 * The shards of the store. Invariants: an entry is in the shard's table, in its eviction index and in the
 * group of each of its tags, or in none of them; the table owns one reference; store->entries and
 * store->bytes are the sums over all shards; a place's marker and its entries may be there together (the
 * entry counts first).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/store_inner.h"

/* ---- locks ---- */

struct shard *shard_lock(struct store *store, struct hash128 place)
{
    struct shard *shard = &store->shards[place.hi & store->shard_mask];
    pthread_mutex_lock(&shard->lock);
    return shard;
}

void shard_unlock(struct shard *shard)
{
    pthread_mutex_unlock(&shard->lock);
}

bool shard_init(struct shard *shard, enum evict_strategy strategy, size_t expected,
                const evict_advice *advice)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&shard->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    shard->index = evict_new(strategy, expected, advice);
    return shard->index && table_init(&shard->entries, expected) && table_init(&shard->tags, 16) &&
           table_init(&shard->fills, 16) && table_init(&shard->markers, 16);
}

/* ---- tags ---- */

static struct tag_group *group_find(struct shard *shard, uint64_t tag)
{
    struct table_link *link = table_first(&shard->tags, tag);
    return link ? CONTAINER(struct tag_group, link, link) : NULL;
}

static struct tag_group *group_get(struct shard *shard, uint64_t tag)
{
    struct tag_group *group = group_find(shard, tag);
    if (group)
        return group;
    group = calloc(1, sizeof *group);
    if (!group)
        return NULL;
    group->head.prev = group->head.next = &group->head;
    table_insert(&shard->tags, &group->link, tag);
    return group;
}

static void group_drop_if_empty(struct shard *shard, struct tag_link *head)
{
    if (head->next != head)
        return;
    struct tag_group *group = CONTAINER(struct tag_group, head, head);
    table_remove(&shard->tags, &group->link);
    free(group);
}

static bool tag_entry(struct shard *shard, struct entry *entry, unsigned slot, uint64_t tag)
{
    struct tag_group *group = group_get(shard, tag);
    if (!group)
        return false;
    struct tag_link *link = &entry->tags[slot];
    *link = (struct tag_link){&group->head, group->head.next, entry};
    link->next->prev = link;
    group->head.next = link;
    return true;
}

static void untag_entry(struct shard *shard, struct entry *entry, unsigned slot)
{
    struct tag_link *link = &entry->tags[slot], *next = link->next;
    link->prev->next = next;
    next->prev = link->prev;
    link->prev = link->next = NULL;
    if (!next->entry)
        group_drop_if_empty(shard, next);
}

/* ---- entries ---- */

bool shard_link(struct store *store, struct shard *shard, struct entry *entry, const struct home *home,
                bool measured)
{
    for (unsigned i = 0; i < entry->tag_count; i++) {
        if (tag_entry(shard, entry, i, home->tags[i]))
            continue;
        while (i-- > 0)
            untag_entry(shard, entry, i);
        return false;
    }
    entry->place_hi = home->place.hi;
    table_insert(&shard->entries, &entry->link, home->place.lo);
    double seconds = (double)entry->fetch_us * 1e-6;
    struct evict_item item = {.hash = home->place.lo,
                              .bytes = entry->footprint,
                              .cost = measured ? fetch_cost_note(&shard->costs, home->place.lo, seconds)
                                               : fetch_cost_of(&shard->costs, seconds),
                              .guessed = entry->ahead == STORE_GUESSED};
    evict_insert(shard->index, &entry->node, &item);
    atomic_fetch_add_explicit(&store->tier_bytes[entry->tier], entry->footprint, memory_order_relaxed);
    atomic_fetch_add_explicit(&store->tier_entries[entry->tier], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&shard->bytes, entry->footprint, memory_order_relaxed);
    atomic_fetch_add_explicit(&store->bytes, entry->footprint, memory_order_relaxed);
    atomic_fetch_add_explicit(&store->entries, 1, memory_order_relaxed);
    return true;
}

/* Who fetched it ahead hears that nobody read it. */
static void note_unread(struct store *store, struct shard *shard, const struct entry *entry)
{
    shard->stats.unread[entry->ahead]++;
    if (entry->ahead != STORE_GUESSED)
        return;
    uint32_t at = atomic_fetch_add_explicit(&store->unread_count, 1, memory_order_relaxed);
    atomic_store_explicit(&store->unread[at % STORE_UNREAD], entry->link.hash, memory_order_relaxed);
}

/* All of unlinking but the index. */
static void forget(struct store *store, struct shard *shard, struct entry *entry)
{
    if (entry->ahead == STORE_GUESSED || entry->ahead == STORE_RENEWED)
        note_unread(store, shard, entry);
    for (unsigned i = 0; i < entry->tag_count; i++)
        untag_entry(shard, entry, i);
    table_remove(&shard->entries, &entry->link);
    atomic_fetch_sub_explicit(&store->tier_bytes[entry->tier], entry->footprint, memory_order_relaxed);
    atomic_fetch_sub_explicit(&store->tier_entries[entry->tier], 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&shard->bytes, entry->footprint, memory_order_relaxed);
    atomic_fetch_sub_explicit(&store->bytes, entry->footprint, memory_order_relaxed);
    atomic_fetch_sub_explicit(&store->entries, 1, memory_order_relaxed);
}

void shard_unlink(struct store *store, struct shard *shard, struct entry *entry)
{
    evict_remove(shard->index, &entry->node);
    forget(store, shard, entry);
}

void shard_retier(struct store *store, struct entry *entry, enum tier tier)
{
    if (entry->tier == tier)
        return;
    atomic_fetch_sub_explicit(&store->tier_bytes[entry->tier], entry->footprint, memory_order_relaxed);
    atomic_fetch_sub_explicit(&store->tier_entries[entry->tier], 1, memory_order_relaxed);
    entry->tier = (uint8_t)tier;
    atomic_fetch_add_explicit(&store->tier_bytes[tier], entry->footprint, memory_order_relaxed);
    atomic_fetch_add_explicit(&store->tier_entries[tier], 1, memory_order_relaxed);
}

bool shard_holds(const struct shard *shard, const struct entry *entry)
{
    struct table_link *link = table_first(&shard->entries, entry->link.hash);
    while (link && link != &entry->link)
        link = table_next(link);
    return link != NULL;
}

static void adjust(_Atomic uint64_t *sum, uint64_t from, uint64_t to)
{
    atomic_fetch_add_explicit(sum, to - from, memory_order_relaxed); /* modulo 2^64 */
}

void shard_swap(struct store *store, struct shard *shard, struct entry *old, struct entry *entry)
{
    for (unsigned i = 0; i < old->tag_count; i++) {
        struct tag_link *link = &entry->tags[i];
        *link = (struct tag_link){old->tags[i].prev, old->tags[i].next, entry};
        link->prev->next = link->next->prev = link;
        old->tags[i].prev = old->tags[i].next = NULL;
    }
    evict_replace(shard->index, &old->node, &entry->node, entry->footprint, 0);
    table_remove(&shard->entries, &old->link);
    table_insert(&shard->entries, &entry->link, old->link.hash);
    entry->place_hi = old->place_hi;
    entry->hits = old->hits;
    entry->judged = old->judged;
    entry->heat = old->heat;
    entry->noted = old->noted;
    entry->unnoted = old->unnoted;
    entry->ahead = old->ahead;
    adjust(&store->tier_bytes[old->tier], old->footprint, 0);
    adjust(&store->tier_entries[old->tier], 1, 0);
    adjust(&store->tier_bytes[entry->tier], 0, entry->footprint);
    adjust(&store->tier_entries[entry->tier], 0, 1);
    adjust(&shard->bytes, old->footprint, entry->footprint);
    adjust(&store->bytes, old->footprint, entry->footprint);
}

/* Walks the variants of a place. Start with the link that table_first gave. */
static struct entry *variant_at(struct table_link *link, uint64_t place_hi)
{
    for (; link; link = table_next(link)) {
        struct entry *entry = CONTAINER(struct entry, link, link);
        if (entry->place_hi == place_hi)
            return entry;
    }
    return NULL;
}

struct entry *shard_first_variant(const struct shard *shard, struct hash128 place)
{
    return variant_at(table_first(&shard->entries, place.lo), place.hi);
}

struct entry *shard_next_variant(const struct entry *entry)
{
    return variant_at(table_next(&entry->link), entry->place_hi);
}

/* The later Date, and of two equal ones the later receipt (RFC 9111 4.1). */
static bool newer(const struct entry *a, const struct entry *b)
{
    if (a->fresh.date != b->fresh.date)
        return a->fresh.date > b->fresh.date;
    return a->fresh.received > b->fresh.received;
}

void shard_find(struct store *store, struct shard *shard, struct hash128 place, const struct head *request,
                struct find *out)
{
    struct vary_key asked = {{0, 0}, 0, 0};
    struct slice names = {NULL, 0}; /* for which `asked` was worked out */
    *out = (struct find){NULL, NULL, NULL};
    for (struct entry *e = shard_first_variant(shard, place); e; e = shard_next_variant(e)) {
        struct slice own = entry_span(e, e->names);
        if (own.n > 0 && !slice_equal(own, names)) {
            vary_select(own, request, store->seed_vary, &asked);
            names = own;
        }
        struct vary_content content = entry_content(e);
        if (own.n > 0 && !vary_match(&e->vary, &asked, &content, request)) {
            out->any = e;
            continue;
        }
        struct entry **best = e->partial ? &out->part : &out->best;
        if (!*best || newer(e, *best))
            *best = e;
    }
}

static bool same_variant(const struct entry *a, const struct entry *b)
{
    return hash_equal(a->vary.fields, b->vary.fields) && a->vary.language == b->vary.language &&
           a->vary.coding == b->vary.coding && slice_equal(entry_span(a, a->names), entry_span(b, b->names));
}

static struct entry *find_variant(struct shard *shard, const struct entry *entry, struct hash128 place,
                                  bool partial)
{
    for (struct entry *e = shard_first_variant(shard, place); e; e = shard_next_variant(e))
        if (e->partial == partial && same_variant(e, entry))
            return e;
    return NULL;
}

struct entry *shard_same_variant(struct shard *shard, const struct entry *entry, struct hash128 place)
{
    return find_variant(shard, entry, place, entry->partial);
}

struct entry *shard_same_part(struct shard *shard, const struct entry *entry, struct hash128 place)
{
    return find_variant(shard, entry, place, true);
}

struct entry *shard_surplus_variant(struct shard *shard, struct hash128 place)
{
    struct entry *oldest = NULL;
    unsigned count = 0;
    for (struct entry *e = shard_first_variant(shard, place); e; e = shard_next_variant(e), count++)
        if (!oldest || newer(oldest, e))
            oldest = e;
    return count > STORE_MAX_VARIANTS ? oldest : NULL;
}

unsigned shard_unlink_tagged(struct store *store, struct shard *shard, uint64_t tag, unsigned max,
                             struct entry **out)
{
    unsigned count = 0;
    struct tag_group *group;
    while (count < max && (group = group_find(shard, tag)) != NULL) {
        struct entry *entry = group->head.next->entry; /* a group is never empty */
        shard_unlink(store, shard, entry);
        entry->link.next = *out ? &(*out)->link : NULL;
        *out = entry;
        count++;
    }
    return count;
}

/* ---- fills ---- */

static struct fill *fill_at(struct table_link *link, uint64_t place_hi)
{
    for (; link; link = table_next(link)) {
        struct fill *fill = CONTAINER(struct fill, link, link);
        if (fill->home.place.hi == place_hi)
            return fill;
    }
    return NULL;
}

/* Would the answer fit the request, as far as can be told from the variants that are known? */
static bool may_fit(struct store *store, const struct fill *fill, const struct head *request)
{
    struct vary_key asked;
    if (!fill->sibling)
        return true;
    vary_select(entry_span(fill->sibling, fill->sibling->names), request, store->seed_vary, &asked);
    return vary_match(&fill->vary, &asked, &(struct vary_content){{NULL, 0}, {NULL, 0}}, request);
}

struct fill *shard_joinable(struct store *store, struct shard *shard, struct hash128 place,
                            const struct head *request)
{
    struct fill *fill = fill_at(table_first(&shard->fills, place.lo), place.hi);
    for (; fill; fill = fill_at(table_next(&fill->link), place.hi))
        if (fill->joinable && may_fit(store, fill, request))
            return fill;
    return NULL;
}

static void doom(struct fill *fill)
{
    fill->doomed = true;
    fill->joinable = false;
}

void shard_doom_place(struct shard *shard, struct hash128 place)
{
    struct fill *fill = fill_at(table_first(&shard->fills, place.lo), place.hi);
    for (; fill; fill = fill_at(table_next(&fill->link), place.hi))
        doom(fill);
}

struct doomsday {
    uint64_t tag;
    bool unknown_too;
};

static void doom_tagged(void *arg, struct table_link *link)
{
    const struct doomsday *day = arg;
    struct fill *fill = CONTAINER(struct fill, link, link);
    if (day->tag == 0 || (day->unknown_too && !fill->tags_known))
        doom(fill);
    for (unsigned i = 0; i < fill->home.tag_count; i++)
        if (fill->home.tags[i] == day->tag)
            doom(fill);
}

void shard_doom_tag(struct shard *shard, uint64_t tag, bool unknown_too)
{
    size_t cursor = 0;
    struct doomsday day = {tag, unknown_too};
    if (shard->fills.count > 0)
        table_scan(&shard->fills, &cursor, SIZE_MAX, doom_tagged, &day);
}

/* ---- markers ---- */

static struct marker *marker_find(struct shard *shard, struct hash128 place)
{
    struct table_link *link = table_first(&shard->markers, place.lo);
    for (; link; link = table_next(link)) {
        struct marker *marker = CONTAINER(struct marker, link, link);
        if (marker->place_hi == place.hi)
            return marker;
    }
    return NULL;
}

static void marker_free(struct shard *shard, struct marker *marker)
{
    *(marker->older ? &marker->older->newer : &shard->oldest) = marker->newer;
    *(marker->newer ? &marker->newer->older : &shard->newest) = marker->older;
    table_remove(&shard->markers, &marker->link);
    free(marker);
}

void marker_clear(struct shard *shard, struct hash128 place)
{
    struct marker *marker = marker_find(shard, place);
    if (marker)
        marker_free(shard, marker);
}

bool marker_live(struct shard *shard, struct hash128 place, tick_t now)
{
    if (shard->markers.count == 0)
        return false;
    struct marker *marker = marker_find(shard, place);
    if (!marker)
        return false;
    if (marker->until > now)
        return true;
    marker_free(shard, marker);
    return false;
}

void marker_set(struct shard *shard, struct hash128 place, tick_t until)
{
    struct marker *marker;
    marker_clear(shard, place);
    if (shard->markers.count >= STORE_MAX_MARKERS)
        marker_free(shard, shard->oldest);
    marker = calloc(1, sizeof *marker);
    if (!marker)
        return; /* the next requests are merely coalesced for nothing */
    marker->place_hi = place.hi;
    marker->until = until;
    marker->older = shard->newest;
    *(shard->newest ? &shard->newest->newer : &shard->oldest) = marker;
    shard->newest = marker;
    table_insert(&shard->markers, &marker->link, place.lo);
}

void shard_dispose(struct shard *shard)
{
    struct evict_node *node;
    while (shard->index && (node = evict_pop(shard->index, EVICT_NEED_BYTES)) != NULL) {
        struct entry *entry = CONTAINER(struct entry, node, node);
        for (unsigned i = 0; i < entry->tag_count; i++)
            untag_entry(shard, entry, i);
        entry_release(entry);
    }
    while (shard->oldest)
        marker_free(shard, shard->oldest);
    evict_free(shard->index);
    table_dispose(&shard->entries);
    table_dispose(&shard->tags);
    table_dispose(&shard->fills);
    table_dispose(&shard->markers);
    pthread_mutex_destroy(&shard->lock);
}

/* ---- room ---- */

static bool over_entries(struct store *store, uint64_t more)
{
    uint64_t max = atomic_load_explicit(&store->max_entries, memory_order_relaxed);
    return max && atomic_load_explicit(&store->entries, memory_order_relaxed) + more > max;
}

static bool over_bytes(struct store *store, uint64_t more)
{
    uint64_t max = atomic_load_explicit(&store->max_bytes, memory_order_relaxed);
    return max && atomic_load_explicit(&store->bytes, memory_order_relaxed) + more > max;
}

/* The shard that holds the most, or `from` when it holds its share. NULL: all are empty. */
static struct shard *victim_shard(struct store *store, struct shard *from)
{
    uint64_t share = atomic_load_explicit(&store->bytes, memory_order_relaxed) / (store->shard_mask + 1) / 2;
    uint64_t own = atomic_load_explicit(&from->bytes, memory_order_relaxed);
    if (own > 0 && own >= share)
        return from;
    struct shard *most = NULL;
    uint64_t most_bytes = 0;
    for (unsigned i = 0; i < STORE_SHARDS; i++) {
        uint64_t bytes = atomic_load_explicit(&store->shards[i].bytes, memory_order_relaxed);
        if (bytes > most_bytes) {
            most = &store->shards[i];
            most_bytes = bytes;
        }
    }
    return most;
}

/* Whether it will be missed tells what a byte of memory is worth (policy/tier.h). */
static void remember(struct shard *shard, const struct entry *entry)
{
    uint64_t slot = entry->link.hash / STORE_SHARDS % STORE_GHOSTS;
    shard->ghost_bytes += entry->footprint - shard->ghosts[slot].bytes;
    shard->ghosts[slot].hash = entry->link.hash;
    shard->ghosts[slot].bytes = entry->footprint;
}

/* It has come again. */
static void recognise(struct shard *shard, uint64_t hash)
{
    uint64_t slot = hash / STORE_SHARDS % STORE_GHOSTS;
    if (shard->ghosts[slot].hash != hash || shard->ghosts[slot].bytes == 0)
        return;
    shard->ghost_bytes -= shard->ghosts[slot].bytes;
    shard->ghosts[slot].bytes = 0;
    shard->stats.regrets++;
}

bool store_make_room(struct store *store, struct shard *from, uint64_t more_entries, uint64_t more_bytes)
{
    for (;;) {
        bool entries = over_entries(store, more_entries);
        if (!entries && !over_bytes(store, more_bytes))
            return true;
        struct shard *shard = victim_shard(store, from);
        if (!shard)
            return false;
        struct entry *victim = NULL;
        pthread_mutex_lock(&shard->lock);
        struct evict_node *node = evict_pop(shard->index, entries ? EVICT_NEED_ENTRIES : EVICT_NEED_BYTES);
        if (node) {
            victim = CONTAINER(struct entry, node, node);
            forget(store, shard, victim);
            remember(shard, victim);
            shard->stats.evictions++;
        }
        pthread_mutex_unlock(&shard->lock);
        entry_release(victim);
    }
}

void store_note_use(struct store *store, const struct evict_item *item, const struct freshness *fresh,
                    tick_t now, uint32_t again)
{
    whatif_note(store->whatif, item, fresh, now, again);
    if (!atomic_load_explicit(&store->tunes, memory_order_relaxed) ||
        !tuner_wants(store->tuner, item->hash) || pthread_mutex_trylock(&store->tuner_lock) != 0)
        return;
    tuner_note(store->tuner, item);
    pthread_mutex_unlock(&store->tuner_lock);
}

/*
 * Whoever asks again within so short a time finds the entry in a cache of any size worth having: what goes
 * out meanwhile makes room for what came from the upstream meanwhile, and that is little. So a key in great
 * demand costs the miniatures no more than twenty notes a second, and the lookups next to nothing. In a small
 * cache much goes out within that time, and the order of uses decides what: there each one is noted.
 */
static const tick_t NOTED_FOR = 50 * TICK_MS;

static bool is_roomy(struct store *store)
{
    uint64_t entries = atomic_load_explicit(&store->max_entries, memory_order_relaxed);
    uint64_t bytes = atomic_load_explicit(&store->max_bytes, memory_order_relaxed);
    return (entries == 0 || entries >= 4096) && (bytes == 0 || bytes >= UINT64_C(16) << 20);
}

void store_note_hit(struct store *store, struct entry *entry, tick_t now)
{
    if (now - entry->noted < NOTED_FOR && entry->unnoted < UINT32_MAX && is_roomy(store)) {
        entry->unnoted++;
        return;
    }
    struct evict_item item = entry_item(entry);
    store_note_use(store, &item, &entry->fresh, now, entry->unnoted);
    entry->noted = now;
    entry->unnoted = 0;
}

/* ---- insertion ---- */

/* What an entry needs beyond what its older version has. */
static bool make_room_for(struct store *store, const struct entry *entry, struct hash128 place)
{
    struct shard *shard = shard_lock(store, place);
    struct entry *old = shard_same_variant(shard, entry, place);
    uint64_t old_bytes = old ? old->footprint : 0;
    shard_unlock(shard);
    return store_make_room(store, shard, old ? 0 : 1,
                           entry->footprint > old_bytes ? entry->footprint - old_bytes : 0);
}

/* The new version stands where the old one stood in the order of eviction. */
static void inherit(struct shard *shard, struct entry *old, struct entry *entry)
{
    evict_remove(shard->index, &entry->node);
    float cost = entry->fetch_us ? sqrtf(old->node.cost * entry->node.cost) : 0; /* two looks know more */
    evict_replace(shard->index, &old->node, &entry->node, entry->footprint, cost);
    entry->hits = old->hits;
}

/* Under the lock. What falls out of the tables is put into out[0..3), to be released behind the lock. */
static bool insert_locked(struct store *store, struct shard *shard, struct entry *entry,
                          const struct home *home, struct entry *out[3])
{
    struct entry *old = shard_same_variant(shard, entry, home->place);
    /* What comes from a level below, or was validated, has the time of an older fetch. */
    bool measured = entry->level == 0 && !(old && old->fetch_us == entry->fetch_us);
    if (!shard_link(store, shard, entry, home, measured)) {
        shard->stats.oom++;
        return false;
    }
    if (old) {
        inherit(shard, old, entry);
        forget(store, shard, old);
        out[0] = old;
    }
    out[2] = entry->partial ? NULL : shard_same_part(shard, entry, home->place);
    if (out[2]) /* the whole has it all */
        shard_unlink(store, shard, out[2]);
    out[1] = shard_surplus_variant(shard, home->place);
    if (out[1]) {
        shard_unlink(store, shard, out[1]);
        shard->stats.evictions++;
    }
    marker_clear(shard, home->place);
    recognise(shard, home->place.lo);
    shard->stats.stored += entry->level == 0;
    levels_keep(store, entry, home);
    return true;
}

/* Under the lock, which it gives back: what is to be done once an entry is in, or is not. */
static void inserted(struct store *store, struct shard *shard, struct entry *entry, bool in,
                     struct entry *out[3])
{
    struct evict_item item = entry_item(entry);
    bool anew = !out[0];
    struct freshness fresh = entry->fresh;
    struct entry *kept = in && out[0] ? entry_ref(entry) : NULL;
    shard_unlock(shard);
    if (in && anew) /* a version that replaces another was counted when it was asked for */
        store_note_use(store, &item, &fresh, fresh.received, 0);
    if (kept)
        whatif_compare(store->whatif, out[0], kept);
    entry_release(kept);
    if (!in)
        entry_release(entry);
    entry_release(out[0]);
    entry_release(out[1]);
    entry_release(out[2]);
    store_make_room(store, shard, 0, 0); /* others may have inserted at the same time */
}

bool store_insert(struct store *store, struct entry *entry, const struct home *home, struct fill *fill)
{
    struct entry *out[3] = {NULL, NULL, NULL};
    bool in = make_room_for(store, entry, home->place);
    struct shard *shard = shard_lock(store, home->place);
    if (fill) {
        table_remove(&shard->fills, &fill->link);
        fill->joinable = false;
        entry->ahead = fill->ahead;
        shard->stats.ahead += fill->ahead != STORE_ASKED;
        in = in && !fill->doomed;
    }
    in = in && insert_locked(store, shard, entry, home, out);
    inserted(store, shard, entry, in, out);
    return in;
}

bool store_insert_behind(struct store *store, struct entry *entry, struct fill *fill)
{
    struct entry *out[3] = {NULL, NULL, NULL};
    const struct home *home = &fill->home;
    bool in = make_room_for(store, entry, home->place);
    struct shard *shard = shard_lock(store, home->place);
    struct entry *old = shard_same_variant(shard, entry, home->place);
    entry->ahead = fill->ahead;
    in = in && !fill->doomed && !(old && newer(old, entry));
    in = in && insert_locked(store, shard, entry, home, out);
    inserted(store, shard, entry, in, out);
    return in;
}
