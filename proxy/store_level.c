/*
 * Memory and the levels below it. Invariants: what a level had is served or put into memory only in the name
 * of a fill that stood in the table since before the level was asked, so that a purge meanwhile dooms it; an
 * entry is offered to the levels under the shard's lock, so that a purge comes before or after it whole.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/store_inner.h"

void store_set_levels(struct store *store, const struct level *levels, unsigned count)
{
    count = count < LEVELS_MAX ? count : LEVELS_MAX;
    if (count > 0)
        memcpy(store->levels, levels, count * sizeof *levels);
    store->level_count = count;
}

unsigned store_level_count(const struct store *store)
{
    return store->level_count;
}

const struct level *store_level(const struct store *store, unsigned index)
{
    return &store->levels[index];
}

void levels_name(struct store *store, const struct store_request *request, struct home *home)
{
    for (unsigned i = 0; i < store->level_count; i++) {
        const struct level *level = &store->levels[i];
        home->names[i] = home->place;
        if (level->name_of)
            level->name_of(level->self, request, &home->names[i]);
    }
}

void levels_keep(struct store *store, struct entry *entry, const struct home *home)
{
    struct store_key key = {home->place, home->partition};
    if (entry->partial)
        return;
    for (unsigned i = 0; i < store->level_count; i++)
        if (entry->level == 0 || i + 1 < entry->level)
            store->levels[i].keep(store->levels[i].self, entry, &key, home->names[i]);
}

void levels_drop(struct store *store, const struct level_drop *drop)
{
    for (unsigned i = 0; i < store->level_count; i++)
        store->levels[i].drop(store->levels[i].self, drop);
}

void levels_drop_home(struct store *store, const struct home *home)
{
    for (unsigned i = 0; i < store->level_count; i++) {
        struct level_drop drop = {.kind = LEVEL_DROP_PLACE,
                                  .place = home->place,
                                  .partition = home->partition,
                                  .name = home->names[i]};
        store->levels[i].drop(store->levels[i].self, &drop);
    }
}

void store_share_vary(struct store *store, struct hash_key seed)
{
    store->seed_vary = seed;
}

/* ---- looks ---- */

bool level_fits(const struct level_look *look, struct hash_key seed_vary, struct slice names,
                const struct vary_key *vary, const struct vary_content *content)
{
    struct vary_key asked;
    if (names.n == 0)
        return true;
    vary_select(names, &look->head, seed_vary, &asked);
    return vary_match(vary, &asked, content, &look->head);
}

void level_answer(struct level_look *look, struct entry *found)
{
    look->found = found;
    mailbox_post(look->to, &look->letter);
}

/* Takes the fill off its table. False: it was doomed. */
static bool take_off(struct store *store, struct fill *fill, bool was_a_miss)
{
    struct shard *shard = shard_lock(store, fill->home.place);
    table_remove(&shard->fills, &fill->link);
    fill->joinable = false;
    bool good = !fill->doomed;
    if (was_a_miss && shard->stats.misses > 0)
        shard->stats.misses--; /* the lookup that follows counts it as what it turned out to be */
    shard_unlock(shard);
    return good;
}

/* The entry is in memory, and not to be used without asking the origin. */
static bool validate(struct fill *fill, tick_t now, struct entry *entry, struct store_result *result)
{
    if (!entry->fresh.has_validator || fill->base) {
        entry_release(entry);
        return false;
    }
    fill->base = entry;
    result->entry = entry_ref(entry);
    result->fill = fill;
    result->age = freshness_age(&entry->fresh, now);
    result->ttl = entry->fresh.lifetime - result->age;
    return true;
}

bool store_take_up(struct store *store, const struct store_request *request, struct fill *fill, bool leads,
                   struct entry *entry, unsigned level, enum store_verdict *verdict,
                   struct store_result *result)
{
    struct cache_ask ask;
    enum cache_fwd fwd;
    entry->level = (uint8_t)(level + 1);
    if (entry->partial || !entry_fits(entry, request->head, store->seed_vary)) {
        entry_release(entry);
        return false;
    }
    cache_ask_read(request->head, &ask);
    enum reuse reuse = freshness_reuse(&entry->fresh, &ask, request->now, &fwd);
    fill_settle_tags(fill, request, entry);
    if (!store_insert_behind(store, entry_ref(entry), fill)) {
        entry_release(entry); /* purged meanwhile, or memory has a newer one by now, or no room at all */
        return false;
    }
    if (reuse == REUSE_VALIDATE && leads) {
        result->fwd = fwd;
        *verdict = STORE_REVALIDATE;
        return validate(fill, request->now, entry, result);
    }
    bool good = take_off(store, fill, leads && request->ahead == STORE_ASKED);
    bool for_all = good && (reuse == REUSE_FRESH || reuse == REUSE_REFRESH);
    fill_found(fill, for_all ? entry : NULL);
    if (!for_all)
        entry_release(entry);
    *verdict = store_lookup(store, request, result);
    return true;
}
