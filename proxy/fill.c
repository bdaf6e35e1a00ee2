/*
 * Fills. Invariants: a fill is in its shard's table exactly while somebody has the leader's role (or was
 * chosen for it); the role and every attached waiter own a reference; the phase only goes forward, WAIT ->
 * BODY -> an end, or WAIT -> an end; bytes below `published` are never changed; a waiter's bytes stay until
 * its `at` is behind them, be it cut or not, because its thread may be sending them just now.
 *
 * The leader copies bytes into the body outside of the lock (it is the only writer) and publishes them under
 * it.
 */
#include "proxy/fill.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/store_inner.h"

enum { CHUNK_MIN = 16 * 1024 };

/* Where no limit is set: more than any answer, and little enough to reserve addresses for. */
#define BODY_LIMIT ((uint64_t)1 << 36)

/* ---- life ---- */

static uint64_t object_limit(struct store *store)
{
    uint64_t object = atomic_load_explicit(&store->max_object, memory_order_relaxed);
    uint64_t all = atomic_load_explicit(&store->max_bytes, memory_order_relaxed);
    uint64_t limit = object ? object : BODY_LIMIT;
    return all && all < limit ? all : limit;
}

struct fill *fill_new(struct store *store, const struct store_request *request, const struct store_key *key)
{
    struct fill *fill = calloc(1, sizeof *fill);
    if (!fill)
        return NULL;
    if (pthread_mutex_init(&fill->lock, NULL) != 0) {
        free(fill);
        return NULL;
    }
    atomic_init(&fill->refs, 1);
    home_init(&fill->home, key);
    home_add_tags(&fill->home, store, request->tags, request->tag_count);
    levels_name(store, request, &fill->home);
    fill->tags_known = request->tag_count > 0;
    fill->store = store;
    fill->joinable = true;
    fill->limit = object_limit(store);
    fill->expected = UINT64_MAX;
    atomic_fetch_add_explicit(&store->fills, 1, memory_order_relaxed);
    return fill;
}

void fill_unref(struct fill *fill)
{
    if (!fill || atomic_fetch_sub_explicit(&fill->refs, 1, memory_order_acq_rel) != 1)
        return;
    while (fill->chunks) {
        struct fill_chunk *next = fill->chunks->next;
        free(fill->chunks);
        fill->chunks = next;
    }
    body_unref(fill->body);
    entry_release(fill->entry);
    entry_release(fill->base);
    entry_release(fill->part);
    entry_release(fill->sibling);
    pthread_mutex_destroy(&fill->lock);
    atomic_fetch_sub_explicit(&fill->store->fill_bytes, fill->counted, memory_order_relaxed);
    atomic_fetch_sub_explicit(&fill->store->fills, 1, memory_order_relaxed);
    free(fill);
}

/* Nobody finds it any more. */
static void take_off(struct fill *fill)
{
    struct shard *shard = shard_lock(fill->store, fill->home.place);
    table_remove(&shard->fills, &fill->link);
    fill->joinable = false;
    shard_unlock(shard);
}

static void hide(struct fill *fill)
{
    struct shard *shard = shard_lock(fill->store, fill->home.place);
    fill->joinable = false;
    shard_unlock(shard);
}

/* ---- waiters, under the fill's lock ---- */

static void wake(struct fill_waiter *waiter)
{
    if (!waiter->asleep)
        return;
    waiter->asleep = false;
    waiter->wake(waiter);
}

static void wake_all(struct fill *fill)
{
    for (struct fill_waiter *w = fill->first; w; w = w->next)
        wake(w);
}

static void attach(struct fill *fill, struct fill_waiter *waiter)
{
    waiter->fill = fill;
    waiter->at = 0;
    waiter->asleep = waiter->reading = waiter->cut = waiter->lead = false;
    waiter->next = NULL;
    waiter->prev = fill->last;
    *(fill->last ? &fill->last->next : &fill->first) = waiter;
    fill->last = waiter;
    atomic_fetch_add_explicit(&fill->waiter_count, 1, memory_order_relaxed);
}

static void detach(struct fill *fill, struct fill_waiter *waiter)
{
    *(waiter->prev ? &waiter->prev->next : &fill->first) = waiter->next;
    *(waiter->next ? &waiter->next->prev : &fill->last) = waiter->prev;
    waiter->prev = waiter->next = NULL;
    waiter->fill = NULL;
    atomic_fetch_sub_explicit(&fill->waiter_count, 1, memory_order_relaxed);
}

static void finish(struct fill *fill, enum fill_phase phase, enum reason why)
{
    fill->phase = phase;
    fill->why = why;
    wake_all(fill);
}

/* ---- bytes beyond the limit, under the fill's lock ---- */

/* The first byte that some waiter may still want; `published` when there is none. */
static uint64_t slowest(const struct fill *fill)
{
    uint64_t at = fill->published;
    for (const struct fill_waiter *w = fill->first; w; w = w->next)
        if (w->at < at)
            at = w->at;
    return at;
}

static uint64_t backlog(const struct fill *fill)
{
    uint64_t at = slowest(fill);
    if (!fill->overflowed || !fill->first)
        return 0;
    uint64_t kept = body_length(fill->body);
    return fill->published - (at > kept ? at : kept);
}

/* Frees what all waiters have passed, and tells the leader when that was what it waited for. */
static void trim(struct fill *fill)
{
    if (!fill->overflowed)
        return;
    uint64_t at = slowest(fill);
    while (fill->chunks && fill->chunks->start + fill->chunks->used <= at &&
           fill->chunks != fill->last_chunk) {
        struct fill_chunk *next = fill->chunks->next;
        free(fill->chunks);
        fill->chunks = next;
    }
    if (fill->drained && backlog(fill) <= FILL_BACKLOG_LOW) {
        void (*drained)(void *) = fill->drained;
        fill->drained = NULL;
        drained(fill->drained_arg);
    }
}

static bool add_chunk(struct fill *fill, size_t n)
{
    size_t room = n > CHUNK_MIN ? n : CHUNK_MIN;
    struct fill_chunk *chunk = malloc(sizeof *chunk + room);
    if (!chunk)
        return false;
    *chunk = (struct fill_chunk){NULL, fill->published, 0, (uint32_t)room};
    *(fill->last_chunk ? &fill->last_chunk->next : &fill->chunks) = chunk;
    fill->last_chunk = chunk;
    return true;
}

static bool append_chunk(struct fill *fill, const char *bytes, size_t n)
{
    struct fill_chunk *last = fill->last_chunk;
    if (!last || last->room - last->used < n) {
        if (n > UINT32_MAX || !add_chunk(fill, n))
            return false;
        last = fill->last_chunk;
    }
    memcpy(last->bytes + last->used, bytes, n);
    last->used += (uint32_t)n;
    fill->published += n;
    return true;
}

static int chunk_iov(const struct fill *fill, uint64_t at, struct iovec *iov, int max)
{
    int count = 0;
    for (struct fill_chunk *c = fill->chunks; c && count < max; c = c->next) {
        if (at >= c->start + c->used)
            continue;
        uint64_t skip = at - c->start;
        iov[count++] = (struct iovec){c->bytes + skip, c->used - skip};
        at = c->start + c->used;
    }
    return count;
}

/* ---- the leader: heads ---- */

/* What is known of an answer when its head has come. */
struct judgement {
    enum storable storable;
    bool partial;
    struct content_range part;
    struct freshness fresh;
    struct change_rate learnt;
    uint64_t expected;
    char names[VARY_NAMES_CAP];
    struct slice vary;
};

/* Is the 206 one to our single Range, and is it clear which bytes it brings (RFC 9110 15.3.7)? */
static bool clear_part(const struct head *response, struct content_range *part)
{
    if (!content_range_read(response, part))
        return false;
    return response->body == BODY_LENGTH ? response->content_length == part->last - part->first + 1
                                         : response->body == BODY_CHUNKED;
}

/*
 * Another look at a document whose lifetime nobody gave: was it changed since the last one? Puts what is
 * known of it now into *learnt, and the lifetime that follows into *route. Only looks that can be compared
 * count: a 304, or a 200 after a 200 of the same variant, told apart by its validators.
 */
static void learn(const struct fill *fill, const struct store_request *request, bool changed,
                  struct cache_route *route, struct change_rate *learnt)
{
    const struct entry *base = fill->base;
    struct rng rng;
    *route = request->route;
    if (!base || base->status != 200 || !request->rules->adaptive_ttl)
        return;
    *learnt = base->learnt;
    /* What comes from a level below may be from before a restart. */
    tick_t since =
        base->level ? freshness_age(&base->fresh, request->now) : request->now - base->fresh.received;
    change_rate_poll(learnt, since, changed);
    rng_seed(&rng, fill->home.place.lo ^ (uint64_t)request->now);
    tick_t ttl = adaptive_ttl(&ADAPTIVE_TTL_DEFAULT, learnt, -1, &rng),
           left = freshness_left(&base->fresh, request->now);
    if (ttl <= ADAPTIVE_TTL_DEFAULT.least)
        ttl = 0; /* too little is known, or it changes all the time: ask each time */
    route->has_learnt = true;
    route->learnt = !changed && ttl < left ? left : ttl; /* a look that came early takes nothing away */
}

/* Has the document changed, by its validators? */
static bool has_changed(const struct entry *base, const struct head *response)
{
    struct slice etag = head_first(response, FIELD_ETAG);
    if (etag.n > 0 && base->etag.n > 0)
        return !etag_equal_weak(etag, entry_etag(base));
    struct slice modified = head_first(response, FIELD_LAST_MODIFIED);
    return modified.n == 0 || !slice_equal(modified, entry_last_modified(base));
}

static void judge(const struct fill *fill, const struct store_request *request, const struct head *response,
                  tick_t sent, struct judgement *out)
{
    struct freshness_times times = {sent, request->now, request->wall};
    struct cache_route route;
    out->learnt = (struct change_rate){0};
    learn(fill, request, fill->base && has_changed(fill->base, response), &route, &out->learnt);
    out->storable = freshness_judge(request->rules, &route, request->head, response, &times, &out->fresh);
    int n = vary_names(response, out->names, sizeof out->names);
    out->vary = (struct slice){out->names, n > 0 ? (size_t)n : 0};
    out->expected = response->body == BODY_NONE     ? 0
                    : response->body == BODY_LENGTH ? response->content_length
                                                    : UINT64_MAX;
    if (out->storable != STORABLE_YES)
        return;
    out->partial = response->status == 206;
    if (out->partial && !clear_part(response, &out->part)) {
        out->storable = STORABLE_STATUS;
        return;
    }
    if (out->partial)
        out->expected = out->part.last - out->part.first + 1;
    if (n < 0)
        out->storable = STORABLE_VARY;
    else if (!entry_can_hold(response, request->rules->shared))
        out->storable = STORABLE_NAMES;
    else if (out->expected != UINT64_MAX && out->expected > fill->limit)
        out->storable = STORABLE_SIZE;
}

void fill_settle_tags(struct fill *fill, const struct store_request *request, const struct entry *base)
{
    struct shard *shard = shard_lock(fill->store, fill->home.place);
    fill->home.tag_count = 1;
    if (base)
        home_copy_tags(&fill->home, fill->store, base);
    else
        home_add_tags(&fill->home, fill->store, request->tags, request->tag_count);
    fill->tags_known = true;
    shard_unlock(shard);
}

/* Makes the entry and its body, not yet published. */
static bool prepare(struct fill *fill, const struct store_request *request, const struct head *response,
                    const struct judgement *judged, struct entry **entry)
{
    struct vary_key vary;
    fill_settle_tags(fill, request, NULL);
    vary_select(judged->vary, request->head, fill->store->seed_vary, &vary);
    struct entry_recipe recipe = {.uri = head_path(request->head),
                                  .names = judged->vary,
                                  .vary = &vary,
                                  .fresh = &judged->fresh,
                                  .tags = request->tags,
                                  .tag_count = fill->home.tag_count - 1,
                                  .shared = request->rules->shared,
                                  .wall = request->wall,
                                  .part = judged->partial ? &judged->part : NULL};
    *entry = entry_make(&recipe, response);
    if (!*entry)
        return false;
    if (judged->fresh.learnable)
        (*entry)->learnt = judged->learnt;
    fill->body = body_new(&fill->store->budget, judged->expected, fill->limit);
    if (fill->body)
        return true;
    entry_release(*entry);
    return false;
}

/* Will the next request for this meet the same verdict, so that waiting for one another is of no use? */
static bool lasting(int status, enum storable why)
{
    if (status >= 500 || status == 206 || status == 304 || status == 401 || status == 403 || status == 408 ||
        status == 429)
        return false;
    return why != STORABLE_YES && why != STORABLE_METHOD && why != STORABLE_STATUS && why != STORABLE_MEMORY;
}

/* Does this answer say that what is stored is no longer true, although it is not stored itself? */
static bool supersedes(int status)
{
    return (status >= 200 && status < 400 && status != 304 && status != 206) || status == 404 ||
           status == 410 || status == 451;
}

static tick_t pass_until(const struct store_request *request)
{
    tick_t life = request->rules->pass_life > 0 ? request->rules->pass_life : STORE_PASS_LIFE;
    return request->now > TICK_NEVER - life ? TICK_NEVER : request->now + life;
}

/* The answer is not stored: leaves the table, and what the table should know instead. */
static void leave_table(struct fill *fill, const struct store_request *request, int status, enum storable why)
{
    struct find find = {NULL, NULL, NULL};
    struct shard *shard = shard_lock(fill->store, fill->home.place);
    table_remove(&shard->fills, &fill->link);
    fill->joinable = false;
    if (supersedes(status))
        shard_find(fill->store, shard, fill->home.place, request->head, &find);
    if (find.best) {
        shard_unlink(fill->store, shard, find.best);
        shard->stats.invalidated++;
    }
    if (find.part) {
        shard_unlink(fill->store, shard, find.part);
        shard->stats.invalidated++;
    }
    if (lasting(status, why) && !fill->doomed && request->head->method == METHOD_GET)
        marker_set(shard, fill->home.place, pass_until(request));
    if (why == STORABLE_MEMORY)
        shard->stats.oom++;
    shard_unlock(shard);
    if (supersedes(status))
        levels_drop_home(fill->store, &fill->home);
    entry_release(find.best);
    entry_release(find.part);
}

enum fill_verdict fill_response(struct fill *fill, const struct store_request *request,
                                const struct head *response, tick_t sent, enum storable *why)
{
    struct judgement judged;
    struct entry *entry = NULL;
    judge(fill, request, response, sent, &judged);
    if (judged.storable == STORABLE_YES && !prepare(fill, request, response, &judged, &entry))
        judged.storable = STORABLE_MEMORY;
    if (why)
        *why = judged.storable;
    if (judged.storable != STORABLE_YES) {
        leave_table(fill, request, response->status, judged.storable);
        pthread_mutex_lock(&fill->lock);
        finish(fill, PHASE_LOOSE, REASON_NONE);
        pthread_mutex_unlock(&fill->lock);
        fill_unref(fill);
        return FILL_PASSED;
    }
    pthread_mutex_lock(&fill->lock);
    fill->entry = entry;
    fill->sent = sent;
    fill->expected = judged.expected;
    fill->phase = PHASE_BODY;
    wake_all(fill);
    pthread_mutex_unlock(&fill->lock);
    return FILL_STORED;
}

static void count_bytes(struct fill *fill, size_t n)
{
    fill->counted += n;
    atomic_fetch_add_explicit(&fill->store->fill_bytes, n, memory_order_relaxed);
}

/* Is the 304 about the stored answer (RFC 9111 4.3.4)? */
static bool is_about(const struct entry *base, const struct head *response)
{
    struct slice etag = head_first(response, FIELD_ETAG),
                 modified = head_first(response, FIELD_LAST_MODIFIED);
    if (etag.n > 0)
        return etag.p[0] == '"' ? etag_equal_strong(etag, entry_etag(base))
                                : etag_equal_weak(etag, entry_etag(base));
    return modified.n == 0 || base->last_modified.n == 0 || slice_equal(modified, entry_last_modified(base));
}

/* Takes the validated entry out of the store, if it is still there. */
static void drop_base(struct fill *fill)
{
    struct store *store = fill->store;
    struct shard *shard = shard_lock(store, fill->home.place);
    struct entry *stored = shard_same_variant(shard, fill->base, fill->home.place);
    if (stored && entry_same_version(stored, fill->base))
        shard_unlink(store, shard, stored);
    else
        stored = NULL;
    shard_unlock(shard);
    if (stored)
        levels_drop_home(store, &fill->home);
    entry_release(stored);
}

static void count_revalidated(struct fill *fill)
{
    struct shard *shard = shard_lock(fill->store, fill->home.place);
    shard->stats.revalidated++;
    shard_unlock(shard);
}

struct entry *fill_not_modified(struct fill *fill, const struct store_request *request,
                                const struct head *response, tick_t sent)
{
    if (!fill->base)
        return NULL;
    struct entry *merged = NULL;
    if (is_about(fill->base, response))
        merged = entry_merge(fill->base, response, request->wall, request->rules->shared);
    if (!merged) {
        drop_base(fill);
        entry_release(fill->base);
        fill->base = NULL;
        return NULL;
    }
    fill_settle_tags(fill, request, fill->base);
    struct store_request again = *request;
    learn(fill, request, false, &again.route, &merged->learnt);
    whatif_same(fill->store->whatif);
    bool keep = entry_judge(&again, merged, sent);
    entry_complete(merged, body_ref(fill->base->body));
    if (keep) {
        store_insert(fill->store, entry_ref(merged), &fill->home, fill);
    } else {
        drop_base(fill);
        take_off(fill);
    }
    count_revalidated(fill);
    pthread_mutex_lock(&fill->lock);
    fill->entry = entry_ref(merged);
    finish(fill, PHASE_DONE, REASON_NONE);
    pthread_mutex_unlock(&fill->lock);
    fill_unref(fill);
    return merged;
}

bool fill_complete_part(struct fill *fill, const struct store_request *request, const struct head *response,
                        tick_t sent, struct entry **entry)
{
    struct entry *part = fill->part;
    struct body *body;
    struct entry *whole =
        part ? part_whole(fill->store, part, request, response, sent, fill->limit, &body) : NULL;
    if (!whole)
        return false;
    fill_settle_tags(fill, request, part);
    count_bytes(fill, part->length);
    pthread_mutex_lock(&fill->lock);
    fill->entry = whole;
    fill->body = body;
    fill->expected = entry_total(part);
    fill->published = part->length;
    fill->phase = PHASE_BODY;
    wake_all(fill);
    pthread_mutex_unlock(&fill->lock);
    *entry = entry_ref(whole);
    return true;
}

/* ---- the leader: bytes ---- */

/* Too large to store: from now on only those who are here are served, and the next ones need not wait for one
 * another. */
static void outgrow(struct fill *fill)
{
    pthread_mutex_lock(&fill->lock);
    fill->overflowed = true;
    pthread_mutex_unlock(&fill->lock);
    hide(fill);
}

static enum fill_more append_overflow(struct fill *fill, const void *bytes, size_t n)
{
    enum fill_more more = FILL_MORE;
    if (!fill->overflowed)
        outgrow(fill);
    pthread_mutex_lock(&fill->lock);
    if (!fill->first) {
        fill->useless = true;
        more = FILL_USELESS;
    } else if (!append_chunk(fill, bytes, n)) {
        fill->useless = true;
        finish(fill, PHASE_FAILED, REASON_OUT_OF_MEMORY);
        more = FILL_NO_MEMORY;
    } else {
        trim(fill);
        wake_all(fill);
    }
    pthread_mutex_unlock(&fill->lock);
    return more;
}

enum fill_more fill_append(struct fill *fill, const void *bytes, size_t n)
{
    if (fill->useless)
        return FILL_USELESS;
    if (fill->overflowed || n > fill->limit - body_length(fill->body))
        return append_overflow(fill, bytes, n);
    if (!body_append(fill->body, bytes, n)) {
        hide(fill);
        pthread_mutex_lock(&fill->lock);
        fill->useless = true;
        finish(fill, PHASE_FAILED, REASON_OUT_OF_MEMORY);
        pthread_mutex_unlock(&fill->lock);
        return FILL_NO_MEMORY;
    }
    count_bytes(fill, n);
    pthread_mutex_lock(&fill->lock);
    fill->published += n;
    wake_all(fill);
    pthread_mutex_unlock(&fill->lock);
    return FILL_MORE;
}

/* An answer that broke off is kept as a part when the rest can be asked for later (RFC 9111 3.3). False: it
 * is not, and the fill is still in the table. */
static bool keep_beginning(struct fill *fill)
{
    if (fill->phase != PHASE_BODY || fill->overflowed || fill->useless)
        return false;
    struct entry *part = part_rescue(fill->entry, fill->body, fill->expected);
    if (part)
        store_insert(fill->store, part, &fill->home, fill);
    return part != NULL;
}

/* The leader's role is over, with this end for the waiters. */
static void close_fill(struct fill *fill, enum fill_phase phase, enum reason why)
{
    if (!keep_beginning(fill))
        take_off(fill);
    pthread_mutex_lock(&fill->lock);
    fill->drained = NULL;
    if (fill->phase != PHASE_FAILED)
        finish(fill, phase, why);
    pthread_mutex_unlock(&fill->lock);
    fill_unref(fill);
}

/* The oversize mark is left when the size is known for sure, so that a single odd answer does not linger. */
static void mark_oversize(struct fill *fill, tick_t now)
{
    struct shard *shard = shard_lock(fill->store, fill->home.place);
    marker_set(shard, fill->home.place,
               now > TICK_NEVER - STORE_PASS_LIFE ? TICK_NEVER : now + STORE_PASS_LIFE);
    shard_unlock(shard);
}

/* How long the fetch took, for the entry: at least a microsecond. A part took less than the whole would. */
static uint32_t fetch_time(const struct fill *fill, tick_t now)
{
    tick_t took = (now - fill->sent) / TICK_US;
    if (fill->sent == 0 || fill->entry->partial)
        return 0;
    return took < 1 ? 1 : took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
}

bool fill_end(struct fill *fill, tick_t now)
{
    bool whole = fill->expected == UINT64_MAX || fill->published == fill->expected;
    if (!fill->useless && !whole) {
        close_fill(fill, PHASE_FAILED, REASON_RESET_IN_ANSWER);
        return false;
    }
    if (fill->useless || fill->overflowed) {
        if (fill->overflowed)
            mark_oversize(fill, now);
        close_fill(fill, PHASE_ENDED, REASON_NONE);
        return false;
    }
    fill->entry->fetch_us = fetch_time(fill, now);
    /* The waiters read on from the body as it came; the entry may get a tidier one. */
    entry_complete(fill->entry, body_finish(body_ref(fill->body)));
    struct entry *entry = fill->entry->partial
                              ? part_combine(fill->store, fill->entry, fill->home.place, fill->limit)
                              : entry_ref(fill->entry);
    bool in = store_insert(fill->store, entry, &fill->home, fill);
    pthread_mutex_lock(&fill->lock);
    finish(fill, PHASE_DONE, REASON_NONE);
    pthread_mutex_unlock(&fill->lock);
    fill_unref(fill);
    return in;
}

/* Chooses who leads next. Under the fill's lock. False: there is nobody. */
static bool choose_leader(struct fill *fill)
{
    struct fill_waiter *next = fill->first;
    if (!next)
        return false;
    next->lead = true;
    wake(next);
    return true;
}

void fill_abort(struct fill *fill, enum reason why, bool hand_over)
{
    pthread_mutex_lock(&fill->lock);
    bool early = fill->phase == PHASE_WAIT;
    fill->rest_loose = hand_over;
    fill->drained = NULL;
    if (early && hand_over && fill->handovers < FILL_MAX_HANDOVERS && choose_leader(fill)) {
        fill->handovers++;
        pthread_mutex_unlock(&fill->lock);
        fill_unref(fill);
        return;
    }
    pthread_mutex_unlock(&fill->lock);
    /* Who was given nothing yet, or has found the fill but not joined, may try for itself. */
    close_fill(fill, early && hand_over ? PHASE_LOOSE : PHASE_FAILED, why);
}

struct entry *fill_validates(struct fill *fill)
{
    return fill->base;
}

const struct hash128 *fill_names(const struct fill *fill)
{
    return fill->home.names;
}

void fill_found(struct fill *fill, struct entry *entry)
{
    pthread_mutex_lock(&fill->lock);
    fill->entry = entry;
    finish(fill, entry ? PHASE_DONE : PHASE_LOOSE, REASON_NONE);
    pthread_mutex_unlock(&fill->lock);
    fill_unref(fill);
}

unsigned fill_waiters(struct fill *fill)
{
    return atomic_load_explicit(&fill->waiter_count, memory_order_relaxed);
}

uint64_t fill_backlog(struct fill *fill, void (*drained)(void *arg), void *arg)
{
    if (!fill->overflowed)
        return 0;
    pthread_mutex_lock(&fill->lock);
    uint64_t n = backlog(fill);
    fill->drained = n >= FILL_BACKLOG_HIGH ? drained : NULL;
    fill->drained_arg = arg;
    pthread_mutex_unlock(&fill->lock);
    return n;
}

bool fill_outgrown(struct fill *fill)
{
    return fill->overflowed; /* written by the leader alone */
}

unsigned fill_cut_slow(struct fill *fill)
{
    unsigned count = 0;
    pthread_mutex_lock(&fill->lock);
    for (struct fill_waiter *w = fill->first; w; w = w->next) {
        if (w->cut || !fill->overflowed || w->at > fill->published ||
            fill->published - w->at <= FILL_BACKLOG_LOW)
            continue;
        w->cut = true;
        count++;
        w->asleep = false;
        w->wake(w); /* also when it is not asleep: it waits for its own client, not for us */
    }
    pthread_mutex_unlock(&fill->lock);
    return count;
}

/* ---- the waiters ---- */

void fill_join(struct fill *fill, struct fill_waiter *waiter)
{
    pthread_mutex_lock(&fill->lock);
    attach(fill, waiter);
    pthread_mutex_unlock(&fill->lock);
}

void fill_drop(struct fill *fill)
{
    fill_unref(fill);
}

void fill_watch(struct fill *fill, struct fill_waiter *waiter)
{
    atomic_fetch_add_explicit(&fill->refs, 1, memory_order_relaxed);
    pthread_mutex_lock(&fill->lock);
    attach(fill, waiter);
    waiter->reading = true;
    pthread_mutex_unlock(&fill->lock);
}

/* The head is there. Is this waiter's request one that it answers? */
static enum fill_state offer(struct fill *fill, struct fill_waiter *waiter,
                             const struct store_request *request, struct fill_news *news)
{
    if (!waiter->reading && !entry_fits(fill->entry, request->head, fill->store->seed_vary))
        return FILL_LOOSE;
    news->entry = entry_ref(fill->entry);
    if (fill->phase == PHASE_DONE && !waiter->reading)
        return FILL_DONE;
    waiter->reading = true;
    news->has_length = fill->expected != UINT64_MAX;
    news->length = news->has_length ? fill->expected : 0;
    return FILL_HEAD;
}

static enum fill_state state_of(struct fill *fill, struct fill_waiter *waiter,
                                const struct store_request *request, struct fill_news *news)
{
    if (waiter->lead) {
        news->fill = fill;
        return FILL_LEAD;
    }
    if (waiter->cut) {
        news->why = REASON_CLIENT_STALLED;
        return FILL_FAILED;
    }
    switch (fill->phase) {
    case PHASE_WAIT:
        waiter->asleep = true;
        return FILL_WAIT;
    case PHASE_BODY:
    case PHASE_DONE:
    case PHASE_ENDED:
        return offer(fill, waiter, request, news);
    case PHASE_LOOSE:
        return FILL_LOOSE;
    case PHASE_FAILED:
        break;
    }
    if (fill->rest_loose && !waiter->reading)
        return FILL_LOOSE;
    news->why = fill->why;
    return FILL_FAILED;
}

enum fill_state fill_poll(struct fill_waiter *waiter, const struct store_request *request,
                          struct fill_news *news)
{
    struct fill *fill = waiter->fill;
    *news = (struct fill_news){.why = REASON_NONE};
    pthread_mutex_lock(&fill->lock);
    waiter->asleep = false;
    enum fill_state state = state_of(fill, waiter, request, news);
    bool leaves = state != FILL_WAIT && state != FILL_HEAD;
    if (leaves) {
        detach(fill, waiter);
        trim(fill);
    }
    pthread_mutex_unlock(&fill->lock);
    if (leaves && state != FILL_LEAD) /* whose reference becomes the leader's */
        fill_unref(fill);
    return state;
}

/* No bytes wait for this reader: why? */
static int read_nothing(struct fill *fill, struct fill_waiter *waiter, enum reason *why)
{
    switch (fill->phase) {
    case PHASE_DONE:
    case PHASE_ENDED:
        return FILL_READ_END;
    case PHASE_FAILED:
        *why = fill->why;
        return FILL_READ_BROKEN;
    default:
        waiter->asleep = true;
        return FILL_READ_WAIT;
    }
}

int fill_read(struct fill_waiter *waiter, struct iovec *iov, int max, enum reason *why)
{
    struct fill *fill = waiter->fill;
    int count;
    pthread_mutex_lock(&fill->lock);
    waiter->asleep = false;
    if (waiter->cut) {
        waiter->at = UINT64_MAX; /* it has let go of its bytes */
        trim(fill);
        *why = REASON_CLIENT_STALLED;
        count = FILL_READ_BROKEN;
    } else if (waiter->at >= fill->published) {
        count = read_nothing(fill, waiter, why);
    } else {
        uint64_t kept = fill->overflowed && fill->published > body_length(fill->body)
                            ? body_length(fill->body)
                            : fill->published;
        count = waiter->at < kept ? body_iov(fill->body, waiter->at, kept - waiter->at, iov, max)
                                  : chunk_iov(fill, waiter->at, iov, max);
    }
    pthread_mutex_unlock(&fill->lock);
    return count;
}

void fill_advance(struct fill_waiter *waiter, uint64_t n)
{
    struct fill *fill = waiter->fill;
    pthread_mutex_lock(&fill->lock);
    if (waiter->at <= fill->published)
        waiter->at += n < fill->published - waiter->at ? n : fill->published - waiter->at;
    trim(fill);
    pthread_mutex_unlock(&fill->lock);
}

void fill_leave(struct fill_waiter *waiter)
{
    struct fill *fill = waiter->fill;
    if (!fill)
        return;
    pthread_mutex_lock(&fill->lock);
    bool was_chosen = waiter->lead;
    detach(fill, waiter);
    waiter->asleep = false;
    trim(fill);
    bool orphan = was_chosen && !choose_leader(fill);
    pthread_mutex_unlock(&fill->lock);
    if (!orphan)
        fill_unref(fill);
    else /* the reference of the leader that it never became */
        close_fill(fill, PHASE_LOOSE, REASON_NONE);
}
