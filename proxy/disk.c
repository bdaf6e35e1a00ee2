/*
 * LMDB's room. Invariants: nobody else has the file (frozen.c holds a lock), and one thread uses it, so that
 * LMDB needs no locks of its own; no pointer into the file is kept beyond its transaction; whatever LMDB
 * finds wrong, and whatever it finds missing under its map, ends as DISK_DAMAGED; what it then has in memory
 * is given up rather than touched again, where it may be in the middle of something.
 */
#include "proxy/disk.h"

#include <errno.h>
#include <lmdb.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/disk_check.h"
#include "proxy/sigbus.h"

enum { PAGE = 4096 };

struct disk {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi table[DISK_TABLES];
    MDB_cursor *cursor[DISK_TABLES]; /* of the transaction */
    uint64_t count[DISK_TABLES], bytes;
    bool broken;   /* nothing more is asked of LMDB */
    bool poisoned; /* what LMDB holds in memory may be as wrong as the file: it is not even freed */
    struct disk *next;
    char why[160];
    jmp_buf assertion; /* where LMDB's own checks end up */
};

static const char *const table_names[DISK_TABLES] = {"entries", "order", "purges", "meta"};

/* LMDB's checks abort the process, unless they are left this way. */
static _Thread_local struct disk *in_use;

static void failed_assertion(MDB_env *env, const char *text)
{
    (void)env;
    snprintf(in_use->why, sizeof(in_use->why), "it contradicts itself: %.80s", text);
    longjmp(in_use->assertion, 1);
}

static enum disk_end end_of(struct disk *d, int rc)
{
    if (rc == MDB_SUCCESS)
        return DISK_OK;
    if (rc == MDB_NOTFOUND)
        return DISK_NONE;
    snprintf(d->why, sizeof(d->why), "%s", mdb_strerror(rc));
    switch (rc) {
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return DISK_FULL;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_PANIC:
    case MDB_VERSION_MISMATCH:
    case MDB_INVALID:
    case MDB_CURSOR_FULL:
    case MDB_PAGE_FULL:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_DBI:
    case MDB_BAD_VALSIZE:
    case EIO:
        d->broken = true;
        return DISK_DAMAGED;
    default:
        return DISK_FAILED;
    }
}

/* ---- one call into LMDB ---- */

struct call {
    struct disk *d;
    enum disk_table table;
    MDB_val key, value;
    unsigned flags;
    MDB_cursor_op op;
    const char *path;
};

static enum disk_end run(struct call *call, int (*what)(struct call *call))
{
    struct disk *d = call->d;
    if (d->broken)
        return DISK_DAMAGED;
    in_use = d;
    if (setjmp(d->assertion) != 0) {
        d->broken = d->poisoned = true;
        return DISK_DAMAGED;
    }
    sigbus_guard(true);
    int rc = what(call);
    sigbus_guard(false);
    enum disk_end end = end_of(d, rc);
    if (!sigbus_happened())
        return end;
    d->broken = d->poisoned = true;
    snprintf(d->why, sizeof(d->why), "its bytes cannot be read: it was cut short, or the disk failed");
    return DISK_DAMAGED;
}

static MDB_val val_of(struct slice s)
{
    return (MDB_val){s.n, (void *)(uintptr_t)(const void *)s.p};
}

static struct slice slice_of(MDB_val v)
{
    return (struct slice){v.mv_data, v.mv_size};
}

/* ---- opening ---- */

static int do_open(struct call *c)
{
    return mdb_env_open(c->d->env, c->path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS, 0600);
}

static int do_tables(struct call *c)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(c->d->env, NULL, 0, &txn);
    if (rc != 0)
        return rc;
    for (int i = 0; i < DISK_TABLES && rc == 0; i++)
        rc = mdb_dbi_open(txn, table_names[i], MDB_CREATE, &c->d->table[i]);
    if (rc == 0)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

/* Is the file one that LMDB may walk through? It trusts what it reads. */
static bool is_sound(struct disk *d, const char *path)
{
    struct disk_check check;
    if (disk_check_file(path, &check))
        return true;
    d->broken = true;
    snprintf(d->why, sizeof(d->why), "page %llu: %s", (unsigned long long)check.page, check.what);
    return false;
}

struct disk *disk_open(const char *path, uint64_t max_bytes, enum disk_end *end, char *why, size_t n)
{
    struct disk *d = calloc(1, sizeof(*d));
    struct call call = {.d = d, .path = path};
    *end = DISK_FAILED;
    snprintf(why, n, "out of memory");
    if (!d)
        return NULL;
    *end = end_of(d, mdb_env_create(&d->env));
    if (*end == DISK_OK)
        *end = end_of(d, mdb_env_set_mapsize(d->env, (max_bytes + PAGE - 1) / PAGE * PAGE));
    if (*end == DISK_OK)
        *end = end_of(d, mdb_env_set_maxdbs(d->env, DISK_TABLES));
    if (*end == DISK_OK)
        *end = end_of(d, mdb_env_set_assert(d->env, failed_assertion));
    if (*end == DISK_OK && !is_sound(d, path))
        *end = DISK_DAMAGED;
    if (*end == DISK_OK)
        *end = run(&call, do_open);
    if (*end == DISK_OK)
        *end = run(&call, do_tables);
    if (*end == DISK_OK)
        return d;
    if (*end == DISK_NONE) /* no name of a table is missing when they are made: it is none of ours */
        *end = DISK_DAMAGED;
    snprintf(why, n, "%s", d->why);
    disk_close(d);
    return NULL;
}

/* What was given up, so that it is known to be. */
static struct disk *given_up;

void disk_close(struct disk *d)
{
    int fd = -1;
    if (!d)
        return;
    disk_abort(d);
    if (!d->poisoned) {
        if (d->env)
            mdb_env_close(d->env);
        free(d);
        return;
    }
    if (mdb_env_get_fd(d->env, &fd) == 0 && fd >= 0)
        close(fd);
    d->next = given_up;
    given_up = d;
}

const char *disk_why(const struct disk *d)
{
    return d->why;
}

/* ---- transactions ---- */

static int do_count(struct call *c)
{
    struct disk *d = c->d;
    uint64_t bytes = 0;
    int rc = 0;
    for (int i = 0; i < DISK_TABLES && rc == 0; i++) {
        MDB_stat s = {0};
        rc = mdb_stat(d->txn, d->table[i], &s);
        d->count[i] = s.ms_entries;
        bytes += (uint64_t)s.ms_psize * (s.ms_branch_pages + s.ms_leaf_pages + s.ms_overflow_pages);
    }
    d->bytes = bytes;
    return rc;
}

static int do_begin(struct call *c)
{
    struct disk *d = c->d;
    int rc = mdb_txn_begin(d->env, NULL, c->flags, &d->txn);
    if (rc != 0)
        d->txn = NULL;
    for (int i = 0; i < DISK_TABLES && rc == 0; i++)
        rc = mdb_cursor_open(d->txn, d->table[i], &d->cursor[i]);
    return rc ? rc : do_count(c);
}

static void close_cursors(struct disk *d)
{
    for (int i = 0; i < DISK_TABLES; i++) {
        if (d->poisoned)
            continue;
        if (d->cursor[i])
            mdb_cursor_close(d->cursor[i]);
        d->cursor[i] = NULL;
    }
}

enum disk_end disk_begin(struct disk *d, bool write)
{
    struct call call = {.d = d, .flags = write ? 0 : MDB_RDONLY};
    enum disk_end end = run(&call, do_begin);
    if (end != DISK_OK)
        disk_abort(d);
    return end;
}

/* LMDB says EIO where not all bytes could be written, which is how a full disk begins. */
static int do_commit(struct call *c)
{
    MDB_txn *txn = c->d->txn;
    c->d->txn = NULL;
    int rc = mdb_txn_commit(txn);
    return rc == EIO ? ENOSPC : rc;
}

enum disk_end disk_commit(struct disk *d)
{
    struct call call = {.d = d};
    close_cursors(d);
    return run(&call, do_commit);
}

void disk_abort(struct disk *d)
{
    close_cursors(d);
    if (d->poisoned)
        return;
    if (d->txn)
        mdb_txn_abort(d->txn);
    d->txn = NULL;
}

/* ---- records ---- */

static int do_get(struct call *c)
{
    return mdb_get(c->d->txn, c->d->table[c->table], &c->key, &c->value);
}

static int do_cursor(struct call *c)
{
    MDB_val behind = c->key;
    int rc = mdb_cursor_get(c->d->cursor[c->table], &c->key, &c->value, c->op);
    if (rc == 0 && c->op == MDB_SET_RANGE && c->key.mv_size == behind.mv_size &&
        memcmp(c->key.mv_data, behind.mv_data, behind.mv_size) == 0)
        rc = mdb_cursor_get(c->d->cursor[c->table], &c->key, &c->value, MDB_NEXT);
    return rc;
}

static int do_put(struct call *c)
{
    return mdb_put(c->d->txn, c->d->table[c->table], &c->key, &c->value, 0);
}

static int do_delete(struct call *c)
{
    return mdb_del(c->d->txn, c->d->table[c->table], &c->key, NULL);
}

static int do_clear(struct call *c)
{
    return mdb_drop(c->d->txn, c->d->table[c->table], 0);
}

enum disk_end disk_get(struct disk *d, enum disk_table t, struct slice key, struct slice *value)
{
    struct call call = {.d = d, .table = t, .key = val_of(key)};
    enum disk_end end = run(&call, do_get);
    *value = end == DISK_OK ? slice_of(call.value) : (struct slice){NULL, 0};
    return end;
}

enum disk_end disk_next(struct disk *d, enum disk_table t, struct slice behind, struct slice *key,
                        struct slice *value)
{
    struct call call = {
        .d = d, .table = t, .key = val_of(behind), .op = behind.n ? MDB_SET_RANGE : MDB_FIRST};
    enum disk_end end = run(&call, do_cursor);
    *key = slice_of(call.key);
    *value = slice_of(call.value);
    return end;
}

enum disk_end disk_last(struct disk *d, enum disk_table t, struct slice *key, struct slice *value)
{
    struct call call = {.d = d, .table = t, .op = MDB_LAST};
    enum disk_end end = run(&call, do_cursor);
    *key = slice_of(call.key);
    *value = slice_of(call.value);
    return end;
}

enum disk_end disk_put(struct disk *d, enum disk_table t, struct slice key, struct slice value)
{
    struct call call = {.d = d, .table = t, .key = val_of(key), .value = val_of(value)};
    return run(&call, do_put);
}

enum disk_end disk_delete(struct disk *d, enum disk_table t, struct slice key)
{
    struct call call = {.d = d, .table = t, .key = val_of(key)};
    return run(&call, do_delete);
}

enum disk_end disk_clear(struct disk *d, enum disk_table t)
{
    struct call call = {.d = d, .table = t};
    return run(&call, do_clear);
}

uint64_t disk_recount(struct disk *d)
{
    struct call call = {.d = d};
    enum disk_end end = run(&call, do_count);
    return end == DISK_OK ? d->bytes : 0;
}

uint64_t disk_count(struct disk *d, enum disk_table t)
{
    return d->count[t];
}

uint64_t disk_bytes(struct disk *d)
{
    return d->bytes;
}
