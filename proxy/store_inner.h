/*
 * What the files of the store share among themselves; nobody else includes this.
 *
 * Locks: a shard's lock and a fill's lock are never held together. What is behind a shard's lock: its tables,
 * its index, its counts, and of every entry and fill in them the links, `hits`, `joinable` and `doomed`. All
 * else of an entry is written before it is in a table and never changed.
 */
#ifndef PROXY_STORE_INNER_H
#define PROXY_STORE_INNER_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "policy/adaptive_ttl.h"
#include "policy/fetch_cost.h"
#include "policy/table.h"
#include "policy/tier.h"
#include "policy/tuner.h"
#include "policy/vary.h"
#include "proxy/level.h"
#include "proxy/store.h"

#define CONTAINER(type, member, pointer) ((type *)((char *)(pointer)-offsetof(type, member)))

#define STORE_SHARDS            16
#define STORE_ENTRIES_PER_SHARD 500  /* with fewer, one shard: an uneven spread would cost hits */
#define STORE_MAX_VARIANTS      32   /* of one key; a further one takes the oldest one's place */
#define STORE_MAX_MARKERS       1024 /* a shard */
#define STORE_GHOSTS            512  /* a shard */
#define STORE_PASS_LIFE         (10 * TICK_S)
#define VARY_NAMES_CAP          512
#define AHEAD_READ              4   /* of entry.ahead and fill.ahead */
#define STORE_UNREAD            256 /* places remembered for store_unread */

/* An entry's place among all with the same tag, or partition. */
struct tag_link {
    struct tag_link *prev, *next; /* circular, through the head in tag_group */
    struct entry *entry;          /* NULL in the head */
};

struct tag_group {
    struct table_link link; /* hash: of the tag */
    struct tag_link head;
};

/* A part of an entry's text. */
struct span {
    uint32_t at, n;
};

struct entry {
    struct table_link link; /* hash: place.lo */
    uint64_t place_hi;
    struct evict_node node;
    _Atomic int refs;
    uint32_t hits;
    uint32_t unnoted; /* uses since `noted`, too soon behind it to be noted one by one */
    uint32_t judged;  /* `hits` when its tier was judged last */
    tick_t noted;     /* when a use was noted last: store_note_hit */
    uint16_t status;
    uint8_t tag_count; /* links in `tags`, the partition's (the first) included */
    bool complete;
    bool cold;     /* compressed: store_cold.c */
    bool partial;  /* only bytes from `first` on, of `total` (RFC 9111 3.3): entry_place */
    uint8_t level; /* it came from the level with this number, counted from 1; 0: from the origin */
    uint8_t tier;  /* under the lock */
    bool stiff;    /* under the lock: compression gains nothing */
    float heat;    /* under the lock: uses a second */
    uint8_t ahead; /* enum store_ahead; with AHEAD_READ once it was read. Under the shard's lock */
    uint32_t field_count;
    uint32_t head_full_n; /* bytes of the head with the Content-Length line that follows it */
    uint32_t age_n;       /* bytes of an Age line that ends the head, only while a 304 is being judged */
    struct span uri, names, tag_text, head, etag, last_modified, language,
        coding;         /* tag_text: each tag with a newline behind it */
    uint32_t fetch_us;  /* what fetching it whole took, in microseconds; 0: not known */
    uint64_t footprint; /* bytes accounted, once complete */
    uint64_t length;
    struct body *body;
    struct freshness fresh;
    struct change_rate learnt; /* of this document's changes; goes from each version to the next */
    struct vary_key vary;
    char *text; /* behind tags */
    struct tag_link tags[];
};

/* Which bytes a part has. Few entries are parts, so it stands in front of their text. */
struct part_place {
    uint64_t first, total;
};

static inline struct part_place entry_place(const struct entry *e)
{
    struct part_place place = {0, e->length};
    if (e->partial)
        memcpy(&place, e->text, sizeof place);
    return place;
}

static inline struct slice entry_span(const struct entry *e, struct span span)
{
    return (struct slice){e->text + span.at, span.n};
}

/* Where an entry belongs. */
struct home {
    struct hash128 place, partition;
    struct hash128 names[LEVELS_MAX]; /* of the place, in the levels below */
    unsigned tag_count;               /* of `tags`, the partition's (the first) included */
    uint64_t tags[1 + STORE_MAX_TAGS];
};

/* This URI's answer is known not to be storable. */
struct marker {
    struct table_link link;
    uint64_t place_hi;
    tick_t until;
    struct marker *older, *newer;
};

struct shard {
    _Alignas(64) pthread_mutex_t lock;
    struct table entries, tags, fills, markers;
    struct marker *oldest, *newest;
    struct evict_index *index;
    _Atomic uint64_t bytes; /* written under the lock, read by whoever looks for a victim */
    struct store_stats stats;
    struct fetch_cost costs; /* of what is fetched for this shard */
    tick_t swept;            /* when all tiers were judged last: store_cold.c */
    /* What was given up for room lately, by the hash of its place. */
    struct {
        uint64_t hash;
        uint64_t bytes;
    } ghosts[STORE_GHOSTS];
    uint64_t ghost_bytes;
};

struct store {
    struct shard shards[STORE_SHARDS];
    unsigned shard_mask;        /* settled at creation */
    struct tuner *tuner;        /* tells the shards' indexes which rule adaptive follows */
    pthread_mutex_t tuner_lock; /* of it; never waited for but when the limits change: a use that cannot be
                                   noted at once is not */
    _Atomic bool tunes;         /* the strategy follows it */
    struct whatif *whatif;      /* what other settings would hit: store_whatif.c */
    struct hash_key seed, seed_partition, seed_tag, seed_vary;
    struct hash128 nobody; /* the partition of requests that say nothing of who asks */
    struct body_budget budget;
    _Atomic uint64_t max_entries, max_bytes, max_object;
    _Atomic uint64_t entries, bytes; /* of all shards, what is being inserted included */
    _Atomic uint64_t fills, fill_bytes;
    _Atomic uint64_t passed; /* verdicts that needed no shard */
    _Atomic uint64_t tier_entries[TIER_COUNT], tier_bytes[TIER_COUNT];
    _Atomic uint64_t unpack_ns, unpack_bytes;     /* spent on thawing, and bytes that came out */
    _Atomic float price, unpack_rate, pack_ratio; /* tier_market */
    struct level levels[LEVELS_MAX];
    /* Settled before the first request; 0 again at the end, while the threads of the levels still hear
     * purges. */
    _Atomic unsigned level_count;
    _Atomic uint32_t unread_count;
    _Atomic uint64_t unread[STORE_UNREAD]; /* the newest is at (unread_count - 1) % STORE_UNREAD */
};

/* ---- store_table.c: what happens under a shard's lock ---- */

struct shard *shard_lock(struct store *store, struct hash128 place);
void shard_unlock(struct shard *shard);

bool shard_init(struct shard *shard, enum evict_strategy strategy, size_t expected,
                const evict_advice *advice) MUSTCHECK;
void shard_dispose(struct shard *shard);

/* Makes the entry findable; takes the caller's reference. `measured`: it brings a fetch time that was not
 * seen before. Tags for which there is no memory make it fail: false, nothing done. */
bool shard_link(struct store *store, struct shard *shard, struct entry *entry, const struct home *home,
                bool measured) MUSTCHECK;

/* Takes it out of all tables and the index. The table's reference goes to the caller, who drops it after
 * unlocking. */
void shard_unlink(struct store *store, struct shard *shard, struct entry *entry);

/* Is this very entry in the tables? */
bool shard_holds(const struct shard *shard, const struct entry *entry);

/* Puts one form of an entry in place of the other: the caller's reference on `entry` goes to the table, the
 * table's on `old` to the caller, who drops it after unlocking. */
void shard_swap(struct store *store, struct shard *shard, struct entry *old, struct entry *entry);

/* It is in another tier from now on. */
void shard_retier(struct store *store, struct entry *entry, enum tier tier);

/* What a lookup found. */
struct find {
    struct entry *best; /* newest whole variant that fits; NULL: none */
    struct entry *part; /* newest part of one; NULL: none */
    struct entry *any;  /* a variant that does not fit, to learn the names of Vary from; NULL: none */
};
struct entry *shard_first_variant(const struct shard *shard, struct hash128 place);
struct entry *shard_next_variant(const struct entry *entry);
void shard_find(struct store *store, struct shard *shard, struct hash128 place, const struct head *request,
                struct find *out);

/* The stored variant that a new entry takes the place of, or NULL: parts stand beside whole ones. */
struct entry *shard_same_variant(struct shard *shard, const struct entry *entry, struct hash128 place);

/* The stored part of the same variant, or NULL. */
struct entry *shard_same_part(struct shard *shard, const struct entry *entry, struct hash128 place);

/* The oldest variant, when there are too many of this place; else NULL. */
struct entry *shard_surplus_variant(struct shard *shard, struct hash128 place);

/* The fill of this place that the request may join, or NULL. */
struct fill *shard_joinable(struct store *store, struct shard *shard, struct hash128 place,
                            const struct head *request);

/* What is being fetched for this place is not to be stored, and nobody joins it any more. */
void shard_doom_place(struct shard *shard, struct hash128 place);

/* The same for what has a tag, or, if so wished, may turn out to have it; 0: for all. */
void shard_doom_tag(struct shard *shard, uint64_t tag, bool unknown_too);

/* Takes up to `max` entries with this tag out, chained by link.next. Returns how many. */
unsigned shard_unlink_tagged(struct store *store, struct shard *shard, uint64_t tag, unsigned max,
                             struct entry **out);

bool marker_live(struct shard *shard, struct hash128 place, tick_t now);
void marker_set(struct shard *shard, struct hash128 place, tick_t until);
void marker_clear(struct shard *shard, struct hash128 place);

/* Evicts until so much more fits. `from` is looked at first. False when nothing is left to evict. No lock
 * held. */
bool store_make_room(struct store *store, struct shard *from, uint64_t more_entries, uint64_t more_bytes);

/*
 * Puts a complete entry in, in place of its older version, with whatever room it takes. Takes the caller's
 * reference in any case. `fill` (may be NULL) leaves the table in the same moment; when it was doomed,
 * nothing is stored. Returns whether it is in.
 */
bool store_insert(struct store *store, struct entry *entry, const struct home *home, struct fill *fill);

/* The same, but the fill stays in the table, and so does a stored version that is newer. */
bool store_insert_behind(struct store *store, struct entry *entry, struct fill *fill);

/* Tells the tuner and the what-ifs of a use of an entry, if its key is in the sample. Any thread, under any
 * lock or none. `fresh` of the entry. */
void store_note_use(struct store *store, const struct evict_item *item, const struct freshness *fresh,
                    tick_t now, uint32_t again);

/* What the policies see of an entry that is in its tables; under its shard's lock. */
static inline struct evict_item entry_item(const struct entry *entry)
{
    return (struct evict_item){.hash = entry->link.hash, .bytes = entry->footprint, .cost = entry->node.cost};
}

/* A use of an entry that is in memory; under its shard's lock. */
void store_note_hit(struct store *store, struct entry *entry, tick_t now);

/* ---- store_whatif.c ---- */

struct whatif *whatif_new(void);
void whatif_free(struct whatif *w);
void whatif_note(struct whatif *w, const struct evict_item *item, const struct freshness *fresh, tick_t now,
                 uint32_t again);

/* A whole answer has taken the place of another of the same variant: is it the same? */
void whatif_compare(struct whatif *w, const struct entry *old, const struct entry *entry);

/* A 304 said that one is the same. */
void whatif_same(struct whatif *w);

/* ---- store_cold.c ---- */

struct squeezer;

/* The compressed form of a plain, whole entry, one reference. NULL: it gains too little, or no memory. */
struct entry *entry_chill(struct squeezer *squeezer, const struct entry *entry);

/* The plain form again. NULL: no memory, or it is damaged. */
struct entry *entry_thaw(struct store *store, struct squeezer *squeezer, const struct entry *cold);

/* A lookup that meets a cold entry: it unlocks, has it thawed, and looks again. All zero at first. */
struct thaw {
    struct entry *cold, *plain; /* two forms of one; plain NULL: it could not be thawed, and is gone */
    struct entry *next, *swapped_out;
};

/* Under the shard's lock. True: unlock, call thaw_do, lock and look again. */
void thaw_take(struct thaw *thaw, struct entry *found);
static inline bool thaw_wants(struct thaw *thaw, struct entry *found)
{
    if (!found || !found->cold || found == thaw->cold)
        return false;
    thaw_take(thaw, found);
    return true;
}
void thaw_do(struct store *store, struct thaw *thaw);
void thaw_clear(struct store *store, struct thaw *thaw);
static inline void thaw_end(struct store *store, struct thaw *thaw)
{
    if (thaw->cold)
        thaw_clear(store, thaw);
}

/* What is to be given out instead of this. */
static inline struct entry *thaw_plain(const struct thaw *thaw, struct entry *entry)
{
    return entry && entry == thaw->cold ? thaw->plain : entry;
}

/* Under the lock: thaw->cold was used. Puts the plain form in its place where that pays. */
void thaw_used(struct store *store, struct shard *shard, struct thaw *thaw, tick_t now);

/* Two forms of the same version? */
static inline bool entry_same_version(const struct entry *a, const struct entry *b)
{
    return a == b ||
           (a->cold != b->cold && a->length == b->length && a->fresh.received == b->fresh.received &&
            slice_equal(entry_span(a, a->etag), entry_span(b, b->etag)));
}

/* ---- store_entry.c ---- */

/* An empty entry with so much room for text, one reference. NULL: too much, or no memory. */
struct entry *entry_alloc(unsigned tag_count, uint64_t text);

/* What a new entry is made of. */
struct entry_recipe {
    struct slice uri;
    struct slice names; /* of Vary */
    const struct vary_key *vary;
    const struct freshness *fresh;
    const struct slice *tags;
    unsigned tag_count; /* of tags; a link more is reserved for the partition */
    bool shared;
    int64_t wall;
    const struct content_range *part; /* NULL: the response is a whole one */
};

/* May its head be stored at all? Not with more names in no-cache="..." than are checked, nor with an absurd
 * size. */
bool entry_can_hold(const struct head *response, bool shared);

/* An entry without a body, one reference. NULL: out of memory. */
struct entry *entry_make(const struct entry_recipe *recipe, const struct head *response);

/* The head of `old` with a 304's fields put in place of its own (RFC 9111 3.2, 4.3.4), sharing the body.
 * `fresh` is to be judged by entry_judge. Fields that the Cache-Control then in force names in no-cache="..."
 * (`shared`: or private="...") are in it no more, whichever of the two carried them. */
struct entry *entry_merge(const struct entry *old, const struct head *response, int64_t wall, bool shared);

/* The same with the fields of a 206 (3.4), as the head of a 200 without a body yet. */
struct entry *entry_merge_whole(const struct entry *part, const struct head *response, int64_t wall,
                                bool shared);

/* A copy of a head without a body, as that of a part (status 206) or of a whole answer (total = 0: status
 * 200).
 */
struct entry *entry_restate(const struct entry *old, uint64_t first, uint64_t total);

/* Judges the head of a merged entry as if it had come whole. False: it is not to be stored (any more). */
bool entry_judge(const struct store_request *request, struct entry *entry, tick_t sent) MUSTCHECK;

/*
 * Reads an entry's head back into a table of fields. `fields` has room for entry->field_count. With the Age
 * line that entry_merge left at the end, when there is one.
 */
void entry_head_view(const struct entry *entry, struct field *fields, struct head *out);

/* Takes the Age line away again. */
void entry_drop_age(struct entry *entry);

/* The body is whole: sets length, Content-Length line and footprint. Takes the reference to the body. */
void entry_complete(struct entry *entry, struct body *body);

static inline struct vary_content entry_content(const struct entry *e)
{
    return (struct vary_content){entry_span(e, e->language), entry_span(e, e->coding)};
}

/* Does it fit the request, as far as Vary goes? */
bool entry_fits(const struct entry *entry, const struct head *request, struct hash_key seed);

/* ---- store.c ---- */

/*
 * Who asks, as the upstream sees it: gives the values of the fields that say so, each with its number; the
 * sidecar's credential, as number 0, where that takes the place of the client's. False: nobody in particular
 * (always so in the shared scope); nothing was given.
 */
static inline bool store_who(const struct store_request *request,
                             void (*give)(void *arg, uint64_t number, struct slice text), void *arg)
{
    const struct cache_rules *rules = request->rules;
    const struct head *head = request->head;
    uint64_t wanted = 0;
    for (unsigned i = 0; i < rules->partition_count; i++)
        wanted |= (uint64_t)1 << rules->partition_ids[i];
    if (rules->shared || (!request->credential.p && !(wanted & head->present)))
        return false;
    if (request->credential.p)
        give(arg, 0, request->credential);
    for (unsigned i = 0; i < rules->partition_count; i++) {
        uint8_t id = rules->partition_ids[i];
        if (!head_has(head, id))
            continue;
        if (request->credential.p && (id == FIELD_AUTHORIZATION || id == FIELD_X_API_KEY))
            continue; /* does not go up */
        for (int at = 0; at < head->field_count; at++) {
            if (head->fields[at].id != id)
                continue;
            if (id == FIELD_OTHER && !slice_equal_nocase(head_name(head, at), rules->partition_names[i]))
                continue;
            give(arg, i + 1, head_value(head, at));
        }
    }
    return true;
}

/* The place of another path in the partition of a key. */
struct hash128 store_place(struct store *store, struct hash128 partition, struct slice origin,
                           struct slice path);

/* The place without tags but the partition's. */
void home_init(struct home *home, const struct store_key *key);

/* Adds tags, by their text or as an entry has them. */
void home_add_tags(struct home *home, const struct store *store, const struct slice *tags, unsigned count);
void home_copy_tags(struct home *home, const struct store *store, const struct entry *entry);

uint64_t store_tag_hash(const struct store *store, struct slice tag);

/* A partition's members are kept together like those of a tag. */
uint64_t store_partition_tag(struct hash128 partition);

/* ---- store_part.c: parts (RFC 9111 3.3, 3.4) ---- */

/* Does the part hold all bytes that the request's Range asks for? */
bool part_covers(const struct entry *part, const struct head *request);

/* May a fetch of the rest make it whole: is it a beginning, with a strong validator? */
bool part_is_beginning(const struct entry *part);

/* What the new part and the stored one of the same variant make together: a part, or a whole answer. A
 * further reference to `part` when they do not fit, or for want of memory. No lock held. */
struct entry *part_combine(struct store *store, struct entry *part, struct hash128 place, uint64_t limit);

/* The head and the beginning of the body that a 206 with the rest completes, when it does. NULL: it does not,
 * is not to be stored, or there is no memory. *body is the caller's. */
struct entry *part_whole(struct store *store, const struct entry *part, const struct store_request *request,
                         const struct head *response, tick_t sent, uint64_t limit, struct body **body);

/* A broken-off 200 as a part, when it is worth keeping; else NULL. Its body is `body`, as far as it came. */
struct entry *part_rescue(const struct entry *entry, struct body *body, uint64_t expected);

/* ---- store_level.c ---- */

/* Fills in home->names. Only where there are levels is anything done. */
void levels_name(struct store *store, const struct store_request *request, struct home *home);

/* Offers a stored entry to the levels above the one that it came from. Under its shard's lock. */
void levels_keep(struct store *store, struct entry *entry, const struct home *home);

/* Tells the levels to forget. No lock held; before and after memory was searched. */
void levels_drop(struct store *store, const struct level_drop *drop);

/* The same for one place. */
void levels_drop_home(struct store *store, const struct home *home);

/* ---- fill.c ---- */

enum fill_phase {
    PHASE_WAIT,  /* no head yet */
    PHASE_BODY,  /* head is there, bytes are coming */
    PHASE_DONE,  /* entry is complete, and may be served as such */
    PHASE_ENDED, /* all bytes came, but there is no entry to keep: too large */
    PHASE_LOOSE,
    PHASE_FAILED
};

/* Bytes beyond max_object_bytes. */
struct fill_chunk {
    struct fill_chunk *next;
    uint64_t start;
    uint32_t used, room;
    char bytes[];
};

struct fill {
    struct table_link link; /* in the shard's table from creation until the leader's role ends */
    struct home home;
    bool joinable, doomed; /* under the shard's lock */
    uint8_t ahead;         /* likewise; as entry.ahead */
    bool tags_known;       /* likewise, as are the tags in home; if not, any purge of tags dooms it */
    struct store *store;
    struct entry *base;    /* is being validated */
    struct entry *part;    /* is being made whole */
    struct entry *sibling; /* another variant: its names of Vary tell whose requests may join */
    struct vary_key vary;  /* what the leader selects under those names */
    _Atomic int refs;
    _Atomic unsigned waiter_count;

    pthread_mutex_t lock; /* of what follows */
    enum fill_phase phase;
    struct fill_waiter *first, *last;
    struct entry *entry;
    struct body *body;
    uint64_t published; /* bytes that may be read */
    uint64_t limit;     /* of the body; beyond it bytes go to chunks */
    uint64_t expected;  /* length of the body, UINT64_MAX when unknown */
    struct fill_chunk *chunks, *last_chunk;
    uint64_t counted; /* bytes in store->fill_bytes */
    tick_t sent;      /* when the request left whose answer this is; 0: it is not known */
    bool overflowed, useless;
    bool rest_loose; /* FAILED: but who was given nothing may go and try again */
    unsigned handovers;
    enum reason why;
    void (*drained)(void *arg);
    void *drained_arg;
};

/* A fill with the leader's reference, in no table yet. NULL: out of memory. */
struct fill *fill_new(struct store *store, const struct store_request *request, const struct store_key *key);
void fill_unref(struct fill *fill);

/* The tags that the entry will have: the request's, or those of the entry that was validated or found. */
void fill_settle_tags(struct fill *fill, const struct store_request *request, const struct entry *base);

/* The role of the leader ends: the waiters have `entry` (the caller's reference), or NULL: look again. The
 * fill must have left the table. */
void fill_found(struct fill *fill, struct entry *entry);

#endif
