/*
 * The frozen tier: stored answers on disk, a level below memory that survives a restart and a crash. A thread
 * of its own reads and writes; whoever asks it something waits for a letter, and not longer than it likes. A
 * disk that is slow, full, damaged or away costs hits, never a request.
 *
 * The disk holds no credential, and nothing of what belongs to one that can be read without it: each entry is
 * sealed with a key that only who has the credential can derive (persons.h), under a name that is derived
 * from it too. That seal is the checksum as well: what does not open is not served.
 */
#ifndef PROXY_FROZEN_H
#define PROXY_FROZEN_H

#include "policy/base.h"
#include "proxy/level.h"

struct frozen;
struct log;
struct view;

struct frozen_options {
    const char *directory; /* made when it is missing */
    uint64_t max_bytes;
    struct slice origin; /* of the upstream */
    struct store *store;
    struct log *log;
};

/* Everything but the thread; the disk is not touched. The store hashes Vary the same way after a restart.
 * NULL: no memory. */
struct frozen *frozen_new(const struct frozen_options *options) MUSTCHECK;

/* Opens the file of purges, so that none comes too early for it, and starts the thread, which opens the file
 * of entries by itself. False: no thread (errno). Once. */
bool frozen_start(struct frozen *f) MUSTCHECK;

void frozen_level(struct frozen *f, struct level *out);

/* Live: whether anything is looked up and kept (purges are carried out all the same), and whether bodies from
 * this size on are compressed (UINT64_MAX: none). Any thread. */
void frozen_tune(struct frozen *f, bool active, uint64_t compress_from);

/* Waits until no purge waits for the disk, for `patience` at most. Not on a worker. False: some still do. */
bool frozen_settle(struct frozen *f, tick_t patience);

/* Writes what was offered, ends the thread and answers all looks. When nobody asks any more and mailboxes
 * still stand. NULL is fine. */
void frozen_stop(struct frozen *f);

/* Counts, only growing, but for the last three. Any thread. */
struct frozen_stats {
    uint64_t hits, misses, skipped; /* looks; skipped: not made, the file not being in use */
    uint64_t stores;                /* entries that are safely on the disk */
    uint64_t store_failures;        /* not written: no room, a failure, more than the thread can take */
    uint64_t too_large;
    uint64_t damaged; /* entries and files that were not what they should be: thrown away */
    uint64_t purged;  /* entries not used because of a purge */
    uint64_t evictions;
    uint64_t failures;                       /* of the disk, also of opening the file */
    uint64_t compressed_from, compressed_to; /* bytes */
    uint64_t entries, bytes;
    bool usable;
};
void frozen_stats(struct frozen *f, struct frozen_stats *out);

/* For the admin port. Any thread. */
void frozen_show(struct frozen *f, struct view *v);

#endif
