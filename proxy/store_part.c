/*
 * Parts of answers (RFC 9111 3.3, 3.4; RFC 9110 14, 15.3.7). Invariants: a part answers only ranges that lie
 * in it; bytes of two answers come together only when both have the same strong ETag and the same total
 * length.
 */
#include "proxy/store_inner.h"

enum { COPY_RUNS = 8 };

static uint64_t part_first(const struct entry *part)
{
    return entry_place(part).first;
}

static uint64_t part_end(const struct entry *part)
{
    return part_first(part) + part->length;
}

bool part_covers(const struct entry *part, const struct head *request)
{
    struct validators stored = {entry_etag(part), part->fresh.last_modified, part->fresh.date};
    uint64_t first, last;
    return condition_range(request, &stored, entry_total(part), &first, &last) == RANGE_PART &&
           first >= part_first(part) && last < part_end(part);
}

static bool has_strong_etag(const struct entry *entry)
{
    struct slice etag = entry_etag(entry);
    return etag_equal_strong(etag, etag);
}

bool part_is_beginning(const struct entry *part)
{
    return part_first(part) == 0 && part->length > 0 && has_strong_etag(part);
}

/* ---- putting bytes together ---- */

/* Appends the bytes [at, end) of `from`. */
static bool copy_bytes(struct body *to, const struct body *from, uint64_t at, uint64_t end)
{
    struct iovec iov[COPY_RUNS];
    while (at < end) {
        int n = body_iov(from, at, end - at, iov, COPY_RUNS);
        if (n <= 0)
            return false;
        for (int i = 0; i < n; i++) {
            if (!body_append(to, iov[i].iov_base, iov[i].iov_len))
                return false;
            at += iov[i].iov_len;
        }
    }
    return true;
}

static bool same_document(const struct entry *a, const struct entry *b)
{
    return entry_total(a) == entry_total(b) && etag_equal_strong(entry_etag(a), entry_etag(b));
}

/* Do they make one run of bytes, not longer than `limit`, that the newer one is not already? */
static bool worth_joining(const struct entry *newer, const struct entry *older, uint64_t limit)
{
    uint64_t first = part_first(newer) < part_first(older) ? part_first(newer) : part_first(older);
    uint64_t end = part_end(newer) > part_end(older) ? part_end(newer) : part_end(older);
    bool meet = part_first(newer) <= part_end(older) && part_first(older) <= part_end(newer);
    return meet && end - first > newer->length && end - first <= limit;
}

/* The bytes of both, one reference. NULL: out of memory. */
static struct body *join_bodies(struct store *store, const struct entry *low, const struct entry *high)
{
    if (part_end(high) <= part_end(low))
        return body_ref(low->body);
    uint64_t length = part_end(high) - part_first(low);
    struct body *body = body_new(&store->budget, length, length);
    if (body && copy_bytes(body, low->body, 0, low->length) &&
        copy_bytes(body, high->body, part_end(low) - part_first(high), high->length))
        return body_finish(body);
    body_unref(body);
    return NULL;
}

/* The head of the newer one, the bytes of both. NULL: out of memory. */
static struct entry *join_parts(struct store *store, const struct entry *newer, const struct entry *older)
{
    const struct entry *low = part_first(newer) < part_first(older) ? newer : older;
    struct body *body = join_bodies(store, low, low == newer ? older : newer);
    if (!body)
        return NULL;
    bool whole = body_length(body) == entry_total(newer);
    struct entry *joined = entry_restate(newer, part_first(low), whole ? 0 : entry_total(newer));
    if (!joined) {
        body_unref(body);
        return NULL;
    }
    entry_complete(joined, body);
    return joined;
}

struct entry *part_combine(struct store *store, struct entry *part, struct hash128 place, uint64_t limit)
{
    struct entry *joined = NULL;
    struct shard *shard = shard_lock(store, place);
    struct entry *stored = shard_same_part(shard, part, place);
    if (stored)
        entry_ref(stored);
    shard_unlock(shard);
    if (stored && same_document(part, stored) && worth_joining(part, stored, limit))
        joined = join_parts(store, part, stored);
    entry_release(stored);
    return joined ? joined : entry_ref(part);
}

struct entry *part_rescue(const struct entry *entry, struct body *body, uint64_t expected)
{
    if (entry->partial || entry->status != 200 || !has_strong_etag(entry) || expected == UINT64_MAX ||
        body_length(body) == 0 || body_length(body) >= expected)
        return NULL;
    struct entry *part = entry_restate(entry, 0, expected);
    if (part)
        entry_complete(part, body_finish(body_ref(body)));
    return part;
}

/* ---- making a beginning whole ---- */

/* Are these the missing bytes of the same document, and all of them? Their number must be told: the client
 * has been promised the length of the whole. */
static bool is_the_rest(const struct entry *part, const struct head *response)
{
    struct content_range range;
    return content_range_read(response, &range) && range.first == part->length &&
           range.total == entry_total(part) && range.last == range.total - 1 &&
           etag_equal_strong(head_first(response, FIELD_ETAG), entry_etag(part)) &&
           response->body == BODY_LENGTH && response->content_length == range.total - range.first;
}

struct entry *part_whole(struct store *store, const struct entry *part, const struct store_request *request,
                         const struct head *response, tick_t sent, uint64_t limit, struct body **body)
{
    struct entry *whole = NULL;
    *body = NULL;
    if (is_the_rest(part, response) && entry_total(part) <= limit)
        whole = entry_merge_whole(part, response, request->wall, request->rules->shared);
    if (!whole || !entry_judge(request, whole, sent)) {
        entry_release(whole);
        return NULL;
    }
    *body = body_new(&store->budget, entry_total(part), limit);
    if (*body && copy_bytes(*body, part->body, 0, part->length))
        return whole;
    body_unref(*body);
    *body = NULL;
    entry_release(whole);
    return NULL;
}
