/*
 * What the store learns from answers that no lookup led to: the 200 to a HEAD, and the answer to a POST that
 * later GETs may have. Invariant: both go by a fill in the shard's table, which joins nobody, so that a purge
 * meanwhile dooms them like any fetch.
 */
#include "policy/uri.h"
#include "proxy/squeeze.h"
#include "proxy/store_inner.h"

enum { PATH_CAP = 8192 };

struct fill *store_begin_look(struct store *store, const struct store_request *request,
                              const struct store_key *key)
{
    struct fill *fill = fill_new(store, request, key);
    if (!fill)
        return NULL;
    fill->joinable = false;
    struct shard *shard = shard_lock(store, key->place);
    table_insert(&shard->fills, &fill->link, key->place.lo);
    shard_unlock(shard);
    return fill;
}

/* ---- HEAD (RFC 9111 4.3.5) ---- */

/* Does what a 200 to HEAD says contradict what is stored? */
static bool contradicts(const struct head *response, const struct entry *entry)
{
    struct slice etag = head_first(response, FIELD_ETAG),
                 modified = head_first(response, FIELD_LAST_MODIFIED);
    if (etag.p && !slice_equal(etag, entry_etag(entry)))
        return true;
    if (modified.p && !slice_equal(modified, entry_last_modified(entry)))
        return true;
    return response->has_content_length && response->content_length != entry_total(entry);
}

/* Is there a validator in both? As they do not contradict, it says that the body is the same. */
static bool confirms(const struct head *response, const struct entry *entry)
{
    return (head_first(response, FIELD_ETAG).n > 0 && entry->etag.n > 0) ||
           (head_first(response, FIELD_LAST_MODIFIED).n > 0 && entry->last_modified.n > 0);
}

/* Takes it out of the store when it is contradicted. The table's reference is the caller's then; else NULL.
 */
static struct entry *drop_contradicted(struct store *store, struct shard *shard, const struct head *response,
                                       struct entry *entry)
{
    if (!entry || (entry->status != 200 && !entry->partial) || !contradicts(response, entry))
        return NULL;
    shard_unlink(store, shard, entry);
    shard->stats.invalidated++;
    return entry;
}

/* Finds what the HEAD is about: out of the store with it when contradicted, into fill->base when confirmed.
 */
static void compare(struct store *store, const struct store_request *request, const struct store_key *key,
                    const struct head *response, struct fill *fill)
{
    struct find find;
    struct shard *shard = shard_lock(store, key->place);
    shard_find(store, shard, key->place, request->head, &find);
    struct entry *whole = drop_contradicted(store, shard, response, find.best);
    struct entry *part = drop_contradicted(store, shard, response, find.part);
    if (find.best && !whole && find.best->status == 200 && confirms(response, find.best))
        fill->base = entry_ref(find.best);
    shard_unlock(shard);
    if (fill->base && fill->base->cold) {
        struct entry *plain = entry_thaw(store, squeezer_here(), fill->base);
        entry_release(fill->base);
        fill->base = plain;
    }
    if (whole || part)
        levels_drop_home(store, &fill->home);
    entry_release(whole);
    entry_release(part);
}

void store_heard(struct store *store, const struct store_request *request, const struct head *response,
                 tick_t sent)
{
    struct store_request get = *request;
    struct head head = *request->head;
    struct store_key key;
    struct entry *merged = NULL;
    if (head.method != METHOD_HEAD || response->status != 200)
        return;
    store_key_of(store, request, &key);
    struct fill *fill = store_begin_look(store, request, &key);
    if (!fill)
        return;
    compare(store, request, &key, response, fill);
    head.method = METHOD_GET; /* it is the answer to a GET that is freshened */
    get.head = &head;
    if (fill->base)
        merged = fill_not_modified(fill, &get, response, sent);
    if (!merged)
        fill_abort(fill, REASON_FILL_FAILED, false);
    entry_release(merged);
}

/* ---- POST (RFC 9110 9.3.3) ---- */

/* Is Content-Location there once, and the URI of the request? */
static bool located_here(const struct store_request *request, const struct head *response)
{
    const struct head *head = request->head;
    struct slice path = head_path(head);
    struct uri_base base = {request->origin, {head->base + head->authority_at, head->authority_len}, path};
    char local[PATH_CAP];
    int at = head_find(response, FIELD_CONTENT_LOCATION, 0);
    if (at < 0 || head_find(response, FIELD_CONTENT_LOCATION, at + 1) >= 0)
        return false;
    size_t n = uri_local(head_value(response, at), &base, local, sizeof local);
    return n > 0 && slice_equal((struct slice){local, n}, path);
}

struct fill *store_adopt(struct store *store, const struct store_request *request,
                         const struct head *response)
{
    struct freshness_times times = {request->now, request->now, request->wall};
    struct freshness fresh;
    struct store_key key;
    if (request->head->method != METHOD_POST || !located_here(request, response))
        return NULL;
    if (freshness_judge(request->rules, &request->route, request->head, response, &times, &fresh) !=
        STORABLE_YES)
        return NULL;
    store_key_of(store, request, &key);
    return store_begin_look(store, request, &key);
}
