/*
 * The purges that wait for the disk, in a mapped file: what was written there outlives the process, whenever
 * it is killed, and costs whoever purges a copy and no system call. (A power cut may lose the last of them.)
 * Invariants: the active half holds every purge that waits, in their order, or says that all is purged; the
 * other half is made anew before it becomes the active one; bytes count once `used` includes them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/frozen_inner.h"
#include "proxy/sigbus.h"

enum { HALF_BYTES = 256 << 10 };

static const char magic[8] = "purges1";

struct half {
    _Atomic uint32_t used;
    _Atomic uint32_t all; /* not 0: more than is said here, so everything */
    char bytes[HALF_BYTES];
};

struct frozen_journal {
    char magic[8];
    _Atomic uint32_t active;
    uint32_t zero;
    struct half halves[2];
};

/* In front of the text. */
struct record {
    uint32_t n; /* of the text */
    uint32_t kind;
    char place[FROZEN_PLACE];
};

static struct half *active(const struct frozen *f)
{
    return &f->journal->halves[atomic_load(&f->journal->active) & 1];
}

static void append(struct half *half, const struct frozen_drop *drop)
{
    struct record record = {.n = (uint32_t)drop->n, .kind = (uint32_t)drop->kind};
    uint32_t used = atomic_load(&half->used);
    if (used > HALF_BYTES || sizeof(record) + drop->n > HALF_BYTES - used) {
        atomic_store(&half->all, 1);
        return;
    }
    memcpy(record.place, drop->place, sizeof(record.place));
    memcpy(half->bytes + used, &record, sizeof(record));
    if (drop->n > 0)
        memcpy(half->bytes + used + sizeof(record), drop->text, drop->n);
    atomic_store(&half->used, used + (uint32_t)(sizeof(record) + drop->n));
}

void frozen_journal_add(struct frozen *f, const struct frozen_drop *drop)
{
    if (!f->journal)
        return;
    sigbus_guard(true);
    append(active(f), drop);
    sigbus_guard(false);
}

void frozen_journal_add_all(struct frozen *f)
{
    if (!f->journal)
        return;
    sigbus_guard(true);
    atomic_store(&active(f)->all, 1);
    sigbus_guard(false);
}

static void append_jobs(struct half *half, const struct frozen_job *job)
{
    for (; job; job = job->next)
        if (!job->entry)
            append(half, &job->drop);
}

void frozen_journal_renew(struct frozen *f)
{
    if (!f->journal)
        return;
    sigbus_guard(true);
    uint32_t next = (atomic_load(&f->journal->active) + 1) & 1;
    struct half *half = &f->journal->halves[next];
    atomic_store(&half->used, 0);
    atomic_store(&half->all, f->distrusts || f->forgot_purge);
    append_jobs(half, f->undone);
    append_jobs(half, f->jobs);
    atomic_store(&f->journal->active, next);
    sigbus_guard(false);
}

/* ---- read back ---- */

static struct frozen_job *job_of(const struct record *record, const char *text)
{
    struct frozen_job *job = calloc(1, sizeof(*job) + record->n + 1);
    if (!job)
        return NULL;
    job->drop.kind = (enum level_drop_kind)record->kind;
    memcpy(job->drop.place, record->place, sizeof(job->drop.place));
    job->drop.n = record->n;
    job->drop.text = job->text;
    memcpy(job->text, text, record->n);
    return job;
}

/* The jobs of a half, in their order. False: it is not what was written, or there is no memory. */
static bool read_half(const struct half *half, struct frozen_job **first, unsigned *count)
{
    struct frozen_job **last = first;
    struct record record;
    uint32_t used = atomic_load(&half->used), at = 0;
    if (used > HALF_BYTES || atomic_load(&half->all) != 0)
        return false;
    while (at < used) {
        if (used - at < sizeof(record))
            return false;
        memcpy(&record, half->bytes + at, sizeof(record));
        at += (uint32_t)sizeof(record);
        if (record.n > used - at || record.n > FROZEN_PURGE_TEXT || record.kind > LEVEL_DROP_ALL)
            return false;
        struct frozen_job *job = job_of(&record, half->bytes + at);
        if (!job)
            return false;
        at += record.n;
        *last = job;
        last = &job->next;
        ++*count;
    }
    return true;
}

static void free_jobs(struct frozen_job *job)
{
    while (job) {
        struct frozen_job *next = job->next;
        free(job);
        job = next;
    }
}

/* What a process before this one did not get to comes before all that waits here. */
static void take_over(struct frozen *f)
{
    struct frozen_job *first = NULL, *last = NULL;
    unsigned count = 0;
    sigbus_guard(true);
    bool good = memcmp(f->journal->magic, magic, sizeof(magic)) == 0 && read_half(active(f), &first, &count);
    bool blank = f->journal->magic[0] == '\0' && f->journal->halves[0].used == 0;
    if (sigbus_happened())
        good = blank = false;
    sigbus_guard(false);
    pthread_mutex_lock(&f->lock);
    if (!good && !blank) {
        free_jobs(first);
        first = NULL;
        f->forgot_purge = true; /* the file is not trusted: it goes */
    }
    for (struct frozen_job *job = first; job; job = job->next)
        last = job;
    if (last) {
        last->next = f->undone;
        f->last_undone = f->undone ? f->last_undone : last;
        f->undone = first;
        f->drop_count += count;
    }
    memcpy(f->journal->magic, magic, sizeof(magic));
    frozen_journal_renew(f);
    pthread_mutex_unlock(&f->lock);
}

bool frozen_journal_open(struct frozen *f)
{
    char path[4096 + 32];
    struct stat st;
    if (f->journal)
        return true;
    snprintf(path, sizeof(path), "%s/frozen.purges", f->directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return false;
    bool sized = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
                 (errno = posix_fallocate(fd, 0, sizeof(struct frozen_journal))) == 0;
    void *map = sized ? mmap(NULL, sizeof(struct frozen_journal), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                      : MAP_FAILED;
    close(fd);
    if (map == MAP_FAILED)
        return false;
    f->journal = map;
    take_over(f);
    return true;
}

void frozen_journal_close(struct frozen *f)
{
    if (f->journal)
        munmap(f->journal, sizeof(struct frozen_journal));
    f->journal = NULL;
}
