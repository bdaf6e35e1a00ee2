/*
 * The door to the levels below memory (a tier on disk, a second level over the network). A request that finds
 * nothing in memory asks them one after the other before it goes to the upstream (exchange_second.c); what is
 * stored in memory is offered to them, and what is dropped there is dropped in them. A level never holds a
 * worker up: it answers by a letter, and whoever waits for it stops waiting after its `patience`.
 *
 * One look a key in the process: who leads the fill of a key looks, all others wait for that fill.
 */
#ifndef PROXY_LEVEL_H
#define PROXY_LEVEL_H

#include "policy/head.h"
#include "policy/vary.h"
#include "proxy/mailbox.h"
#include "proxy/store.h"

#define LEVELS_MAX 2

/* What is to be forgotten. */
enum level_drop_kind {
    LEVEL_DROP_PLACE,      /* all variants of `place` */
    LEVEL_DROP_PARTITION,  /* everything in `partition` */
    LEVEL_DROP_KEY,        /* path and query `text`, in all partitions */
    LEVEL_DROP_PREFIX,     /* paths with queries that begin with `text` */
    LEVEL_DROP_TAG,        /* the tag `text` */
    LEVEL_DROP_TAG_PREFIX, /* tags that begin with `text` */
    LEVEL_DROP_ALL
};

struct level_drop {
    enum level_drop_kind kind;
    struct hash128 place, partition;
    struct slice text;
    /* PLACE: the request that made it untrue, with the path and query that it made untrue as `text`; or NULL,
     * and then `partition` with that text, or, without one, with the level's own name of the place.
     * PARTITION: the request of whom it is, or NULL. */
    const struct store_request *request;
    struct hash128 name;
};

/*
 * One question to one level. `letter`, `to` and `x` are the asker's; a level reads key, name and head, uses
 * `next` and `note` as it likes, and ends it by level_answer. Lives until its letter was delivered, whatever
 * becomes of who asked.
 */
struct level_look {
    struct letter letter; /* first */
    struct mailbox *to;
    struct exchange *x; /* the worker's thread only; NULL: nobody waits any more */
    struct entry *found;
    struct store_key key;
    struct hash128 name; /* the level's own name of the place, by `name_of`; else the place */
    struct head head;    /* of the request, a copy: for level_fits */
    struct level_look *next;
    tick_t asked;
    uint64_t note;
    size_t size; /* of all of it, the copy of the head included */
    char copy[];
};

struct level {
    const char *name; /* shown as detail in Cache-Status */
    void *self;
    tick_t patience; /* nobody waits longer for an answer */
    bool fresher;    /* may have something newer than memory: asked as well when what is there is stale */

    /*
     * May be NULL: the place is the name. Else the level's own name of a request's place, for one that other
     * processes share. On a worker, for every miss; the request is there only during the call.
     */
    void (*name_of)(void *self, const struct store_request *request, struct hash128 *name);

    /* On a worker. False: no answer will come (nothing is there, or the level is away). Never blocks. */
    bool (*look)(void *self, struct level_look *look);

    /*
     * On any thread, under a shard's lock: take a reference (entry_ref) and return at once. The entry is
     * complete and whole. It takes the place of any older version.
     */
    void (*keep)(void *self, struct entry *entry, const struct store_key *key, struct hash128 name);

    /*
     * On any thread, under no lock: from the return on no look that has not been answered yet may be answered
     * with what this names, nor may anything that was kept before the call survive. Called twice, before and
     * after memory was searched, so that nothing slips through between: the same drop again is cheap.
     */
    void (*drop)(void *self, const struct level_drop *drop);
};

/* Any thread, once for each look whose `look` returned true. Takes the reference on `found` (may be NULL). */
void level_answer(struct level_look *look, struct entry *found);

/* Does a variant with these names of Vary and this key fit the look's request? `names`, `vary` and `content`
 * as entry_pack wrote them. Any thread. */
bool level_fits(const struct level_look *look, struct hash_key seed_vary, struct slice names,
                const struct vary_key *vary, const struct vary_content *content);

/* ---- the store's side: store_level.c ---- */

/* Before the first request; the levels in the order in which they are asked, at most LEVELS_MAX. They are
 * copied; what they point to outlives the store's use. */
void store_set_levels(struct store *store, const struct level *levels, unsigned count);
unsigned store_level_count(const struct store *store);
const struct level *store_level(const struct store *store, unsigned index);

/* Before the first request: what a request selects by Vary is hashed with this key, the same in all processes
 * that share a level. */
void store_share_vary(struct store *store, struct hash_key seed);

/* Another process had this dropped: forgets the place of a path in a partition, here and in the levels that
 * take the place for a name. Returns how many entries went. */
size_t store_forget_place(struct store *store, struct hash128 partition, struct slice origin,
                          struct slice path);

/* The names that a fill's place has in the levels. Constant. */
const struct hash128 *fill_names(const struct fill *fill);

/* A fill that leads nowhere yet: nobody joins it, but a purge dooms it. For a look by a request that leads no
 * fill. NULL: out of memory. */
struct fill *store_begin_look(struct store *store, const struct store_request *request,
                              const struct store_key *key);

/*
 * A level had `entry` (takes the reference) for the request that has `fill`, which it leads, or got from
 * store_begin_look. It goes into memory, unless it was purged meanwhile. False: it is of no use for this
 * request; the fill and the result stay as they were. True: *verdict and *result are as store_lookup leaves
 * them: STORE_REVALIDATE with result->fill == fill: the fill is still the caller's, and validates
 * result->entry; else the fill is gone, and its waiters have the answer or look again.
 */
bool store_take_up(struct store *store, const struct store_request *request, struct fill *fill, bool leads,
                   struct entry *entry, unsigned level, enum store_verdict *verdict,
                   struct store_result *result) MUSTCHECK;

#endif
