/*
 * What the store tells those who fetch ahead. Nothing here counts as a use of anything.
 */
#include "proxy/store_inner.h"

bool store_peek(struct store *store, struct hash128 place, tick_t received, tick_t now,
                struct store_peek *out)
{
    const struct entry *found = NULL;
    struct shard *shard = shard_lock(store, place);
    for (struct entry *e = shard_first_variant(shard, place); e; e = shard_next_variant(e)) {
        if (e->partial || (received && e->fresh.received != received))
            continue;
        if (!found || freshness_left(&e->fresh, now) > freshness_left(&found->fresh, now))
            found = e;
    }
    if (found)
        *out = (struct store_peek){
            .left = freshness_left(&found->fresh, now),
            .received = found->fresh.received,
            .lifetime = found->fresh.lifetime - found->fresh.initial_age,
            .fetch_time = entry_fetch_time(found),
            .read_at = found->noted,
            .hits = found->hits,
        };
    shard_unlock(shard);
    return found != NULL;
}

unsigned store_unread(struct store *store, uint32_t *seen, uint64_t *out, unsigned max)
{
    unsigned n = 0;
    uint32_t count = atomic_load_explicit(&store->unread_count, memory_order_relaxed);
    if (count - *seen > STORE_UNREAD)
        *seen = count - STORE_UNREAD;
    for (; *seen != count && n < max; ++*seen)
        out[n++] = atomic_load_explicit(&store->unread[*seen % STORE_UNREAD], memory_order_relaxed);
    return n;
}
