/*
 * What the files of the frozen tier share among themselves; nobody else includes this.
 *
 * Threads: all but what is said otherwise belongs to the thread of the tier. `lock` guards the inbox.
 */
#ifndef PROXY_FROZEN_INNER_H
#define PROXY_FROZEN_INNER_H

#include <pthread.h>
#include <stdatomic.h>

#include "proxy/disk.h"
#include "proxy/frozen.h"
#include "proxy/persons.h"
#include "proxy/seal.h"

enum {
    FROZEN_KEEPS_MAX = 16384,       /* entries waiting to be written */
    FROZEN_KEEP_BYTES = 64 << 20,   /* of bodies in them */
    FROZEN_LOOKS_MAX = 4096,        /* waiting */
    FROZEN_BATCH = 512,             /* jobs of one transaction */
    FROZEN_VARIANTS = 32,           /* of one place; a further one takes the oldest one's place */
    FROZEN_DROPS_MAX = 4096,        /* purges waiting; more become one of all */
    FROZEN_PURGES_KEPT = 4096,      /* purges that entries are compared with */
    FROZEN_PURGE_TEXT = 16 << 10,   /* bytes of a path or a tag; a longer one purges all */
    FROZEN_OBJECT_MAX = 64 << 20,   /* bytes of a body, and never more than an eighth of the file */
    FROZEN_WHO = 16,                /* bytes of a person's id in front of each key */
    FROZEN_PLACE = FROZEN_WHO + 16, /* what all variants of a place begin with */
    FROZEN_KEY = FROZEN_PLACE + 8,
    FROZEN_SEQ = 8,
    FROZEN_FILTER = 1 << 17 /* words: 8 million bits */
};

/* For an answer; also while the file is opened, after a restart. When the thread has been at the disk for
 * longer than STUCK, nobody begins to wait for it. */
#define FROZEN_PATIENCE TICK_S
#define FROZEN_STUCK    (250 * TICK_MS)
#define FROZEN_GATHER   (100 * TICK_MS) /* between two transactions that only keep: each waits for the disk */

/* Of a purge, or what a purge names. */
struct frozen_drop {
    enum level_drop_kind kind;
    char place[FROZEN_PLACE]; /* PLACE all of it, PARTITION the person */
    size_t n;
    char *text; /* behind this struct */
};

struct frozen_job {
    struct frozen_job *next;
    struct entry *entry; /* to be kept: a reference; NULL: something is dropped */
    struct hash128 partition, name;
    struct frozen_drop drop;
    char text[];
};

/* A purge that was written down: what was kept before it, and is named by it, is not used. */
struct frozen_purge {
    uint64_t serial;
    enum level_drop_kind kind;
    size_t n;
    char text[];
};

struct frozen_counts {
    _Atomic uint64_t hits, misses, skipped, stores, store_failures, too_large, damaged, purged, evictions,
        failures, compressed_from, compressed_to, entries, bytes;
};

struct frozen {
    struct store *store;
    struct log *log;
    char *directory, *file;
    uint64_t max_bytes;
    struct sealer *sealer;
    struct persons *persons;
    struct squeezer *squeezer;
    pthread_t thread;
    bool running;
    _Atomic bool active, usable;
    _Atomic tick_t busy_since; /* the thread's turn; 0: it waits, or opens the file */
    _Atomic uint64_t compress_from;

    pthread_mutex_t lock;
    pthread_cond_t bell, settled; /* settled: no purge waits any more */
    bool stopping;
    bool forgot_purge; /* there was no memory for one */
    struct level_look *looks, *last_look;
    struct frozen_job *jobs, *last_job;
    unsigned look_count, keep_count, drop_count; /* the latter two with what was taken and is not done */
    uint64_t keep_bytes;
    char trouble[320]; /* for the admin port; empty: none */

    struct frozen_journal *journal; /* of the purges that wait; NULL: not open. Under the lock */
    struct frozen_job *undone;      /* taken from the inbox, not on the disk yet */
    struct frozen_job *last_undone;
    int lock_fd; /* of the directory; -1: not held */
    struct disk *disk;
    tick_t open_at;  /* when to try again */
    tick_t write_at; /* not before: the disk has no room */
    bool distrusts;  /* a purge could not be written: the file goes before anything is read from it */
    uint64_t next_seq;
    uint64_t serial, floor;       /* of the newest purge; what was kept before `floor` is not used */
    struct frozen_purge **purges; /* FROZEN_PURGES_KEPT, oldest first */
    unsigned purge_count;
    unsigned char used[8192]; /* bits by a hash of keys: looked up since the tier was last swept for room */
    struct frozen_counts counts;
    /* Places that may be on the disk, a bit by a hash: who asks for another need not wait for the thread.
     * Only grows; of use once all that is there was seen. Any thread. */
    _Atomic uint64_t *filter;
    _Atomic bool filter_whole;
    char filter_at[FROZEN_SEQ]; /* seen so far, in the order of writing */
    tick_t kept_at;             /* when a transaction ended last */
};

static inline void frozen_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline struct slice frozen_text(const char *p, size_t n)
{
    return (struct slice){p, n};
}

tick_t frozen_now(void);
int64_t frozen_wall(void); /* unix milliseconds */

/* The disk did not do what was asked. Says so, counts, and closes the file when it is damaged. */
void frozen_failed(struct frozen *f, enum disk_end end, const char *what);

/* ---- frozen_filter.c ---- */

void frozen_filter_add(struct frozen *f, const char place[FROZEN_PLACE]);

/* False: nothing is there. */
bool frozen_filter_has(const struct frozen *f, const char place[FROZEN_PLACE]);

/* Looks through some more of the file. True: there is more to look through. */
bool frozen_filter_read(struct frozen *f);

/* ---- frozen_entries.c ---- */

bool frozen_look(void *self, struct level_look *look);
void frozen_name_of(void *self, const struct store_request *request, struct hash128 *name);
void frozen_keep(void *self, struct entry *entry, const struct store_key *key, struct hash128 name);
void frozen_answer(struct frozen *f, struct level_look *look); /* the thread's part of a look */

/* The thread's part of keeping, in a transaction. */
enum disk_end frozen_write(struct frozen *f, const struct frozen_job *job) MUSTCHECK;

/* What all variants of a place begin with, and the key of their values (may be NULL). False: no memory. */
bool frozen_place_of(struct frozen *f, const struct person *person, struct hash128 name,
                     char place[FROZEN_PLACE], struct seal_key *seal) MUSTCHECK;

/* Takes the oldest entries out until there is room again, in a transaction. */
enum disk_end frozen_make_room(struct frozen *f) MUSTCHECK;

/* The same for about so many bytes, in a transaction of its own. */
enum disk_end frozen_evict(struct frozen *f, uint64_t bytes) MUSTCHECK;
enum disk_end frozen_remove(struct frozen *f, struct slice key, struct slice value) MUSTCHECK;

/* ---- frozen_journal.c ---- */

/* Maps the journal, once the directory is held, and puts what waits in it in front of all jobs. False: it
 * cannot be used (errno); purges are then as lasting as the disk is fast. Again: true. */
bool frozen_journal_open(struct frozen *f) MUSTCHECK;
void frozen_journal_close(struct frozen *f);

/* The lock is held for all of these. A purge waits; all is purged; some wait no more. */
void frozen_journal_add(struct frozen *f, const struct frozen_drop *drop);
void frozen_journal_add_all(struct frozen *f);
void frozen_journal_renew(struct frozen *f);

/* ---- frozen_purge.c ---- */

struct packed;
void frozen_drop(void *self, const struct level_drop *drop);

/* The thread's part, in a transaction. */
enum disk_end frozen_carry_out(struct frozen *f, const struct frozen_drop *drop) MUSTCHECK;

/* Is what lies under this key, was kept at this serial and says this named by a purge since? */
bool frozen_was_purged(struct frozen *f, struct slice key, uint64_t serial, const struct packed *packed);

/* Reads the purges of a file that was opened. */
enum disk_end frozen_read_purges(struct frozen *f) MUSTCHECK;
void frozen_forget_purges(struct frozen *f);

#endif
