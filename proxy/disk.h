/*
 * A file of sorted tables on disk, with transactions that survive a crash. The room of LMDB. One thread.
 *
 * What lies in the file is not trusted: it is checked when it is opened, and what turns out damaged later, or
 * is taken away under us (a file cut short, a disk that does not answer), ends as DISK_DAMAGED and crashes
 * nothing.
 */
#ifndef PROXY_DISK_H
#define PROXY_DISK_H

#include "policy/base.h"

struct disk;

enum disk_end {
    DISK_OK,
    DISK_NONE,    /* there is no such record */
    DISK_FULL,    /* no room: in the file as far as it may grow, or on the disk */
    DISK_DAMAGED, /* the file is not what it should be: to be closed and set aside */
    DISK_FAILED   /* all else: no permission, no memory */
};

enum disk_table { DISK_ENTRIES, DISK_ORDER, DISK_PURGES, DISK_META, DISK_TABLES };

/* Opens or makes the file, which may grow to max_bytes. NULL: *end says why not, and `why` in words. */
struct disk *disk_open(const char *path, uint64_t max_bytes, enum disk_end *end, char *why,
                       size_t n) MUSTCHECK;
void disk_close(struct disk *disk); /* NULL is fine */

/* The last failure, in words. */
const char *disk_why(const struct disk *disk);

/* A transaction, one at a time. What a reading one gave stays until it ends, what a writing one gave until
 * the next change. */
enum disk_end disk_begin(struct disk *disk, bool write) MUSTCHECK;
enum disk_end
disk_commit(struct disk *disk) MUSTCHECK; /* it is on the disk when it is OK; over in any case */
void disk_abort(struct disk *disk);       /* harmless where there is none */

/* A key has 1 to 511 bytes. `next`: the first record behind this key, in the order of bytes; `last`: the
 * greatest. */
enum disk_end disk_get(struct disk *disk, enum disk_table t, struct slice key, struct slice *value) MUSTCHECK;
enum disk_end disk_next(struct disk *disk, enum disk_table t, struct slice behind, struct slice *key,
                        struct slice *value) MUSTCHECK;
enum disk_end disk_last(struct disk *disk, enum disk_table t, struct slice *key,
                        struct slice *value) MUSTCHECK;
enum disk_end disk_put(struct disk *disk, enum disk_table t, struct slice key, struct slice value) MUSTCHECK;
enum disk_end disk_delete(struct disk *disk, enum disk_table t, struct slice key) MUSTCHECK;
enum disk_end disk_clear(struct disk *disk, enum disk_table t) MUSTCHECK;

/* Bytes that all tables take, with what the transaction under way has changed. */
uint64_t disk_recount(struct disk *disk);

/* Records of a table, and bytes that all tables take, as of the last transaction that was begun. */
uint64_t disk_count(struct disk *disk, enum disk_table t);
uint64_t disk_bytes(struct disk *disk);

#endif
