/*
 * The thread of the frozen tier. Invariants:
 * - one process has the directory, by a lock on a file in it; another waits until it is free;
 * - jobs are carried out in the order in which they came, many in one transaction; looks go before them, and
 *   leave what a waiting purge names;
 * - a purge that cannot be written is never forgotten: when it cannot be written at all, the file goes;
 * - a file that is damaged is set aside and another made; nothing of it is served.
 */
#include "proxy/frozen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proxy/frozen_inner.h"
#include "proxy/log.h"
#include "proxy/sigbus.h"
#include "proxy/squeeze.h"
#include "proxy/store_inner.h"
#include "proxy/view.h"

static const tick_t OPEN_AGAIN = TICK_S, WRITE_AGAIN = TICK_S;

tick_t frozen_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (tick_t)t.tv_sec * TICK_S + t.tv_nsec;
}

int64_t frozen_wall(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- is it well? ---- */

/* What is wrong is logged when it begins, not each time. */
static void trouble(struct frozen *f, const char *what, const char *why)
{
    char text[sizeof(f->trouble)];
    snprintf(text, sizeof(text), "%s: %s", what, why);
    pthread_mutex_lock(&f->lock);
    bool news = strcmp(text, f->trouble) != 0;
    memcpy(f->trouble, text, sizeof(text));
    pthread_mutex_unlock(&f->lock);
    if (news)
        log_write(f->log, LOG_WARNING, "frozen", "%s; requests go on", text);
}

static void well_again(struct frozen *f)
{
    pthread_mutex_lock(&f->lock);
    bool was = f->trouble[0] != '\0';
    f->trouble[0] = '\0';
    pthread_mutex_unlock(&f->lock);
    if (was)
        log_write(f->log, LOG_INFO, "frozen", "%s is in use again", f->file);
}

static void close_file(struct frozen *f)
{
    disk_close(f->disk);
    f->disk = NULL;
    frozen_forget_purges(f);
    atomic_store(&f->usable, false);
    atomic_store(&f->filter_whole, false); /* another file may hold anything */
    memset(f->filter_at, 0, sizeof(f->filter_at));
    atomic_store(&f->counts.entries, 0);
    atomic_store(&f->counts.bytes, 0);
}

/* What is damaged is kept for whoever wants to look into it, the newest one only. */
static void set_aside(struct frozen *f, const char *why)
{
    char aside[4096 + 16];
    snprintf(aside, sizeof(aside), "%s.damaged", f->file);
    frozen_count(&f->counts.damaged, 1);
    close_file(f);
    if (rename(f->file, aside) != 0 && unlink(f->file) != 0 && errno != ENOENT) {
        trouble(f, f->file, "it is damaged, and can be neither renamed nor removed");
        return;
    }
    log_write(f->log, LOG_ERROR, "frozen", "%s is damaged (%s): it was renamed to %s, and a new one is begun",
              f->file, why, aside);
}

void frozen_failed(struct frozen *f, enum disk_end end, const char *what)
{
    char why[160];
    snprintf(why, sizeof(why), "%s", disk_why(f->disk));
    frozen_count(&f->counts.failures, 1);
    disk_abort(f->disk);
    if (end == DISK_DAMAGED)
        set_aside(f, why);
    else
        trouble(f, what, why);
}

/* ---- opening ---- */

static bool lock_directory(struct frozen *f)
{
    char path[4096 + 16];
    if (f->lock_fd >= 0)
        return true;
    if (mkdir(f->directory, 0700) != 0 && errno != EEXIST) {
        trouble(f, f->directory, strerror(errno));
        return false;
    }
    snprintf(path, sizeof(path), "%s/frozen.lock", f->directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        f->lock_fd = fd;
        return true;
    }
    trouble(f, f->directory,
            fd >= 0 && errno == EWOULDBLOCK ? "another process uses this directory" : strerror(errno));
    if (fd >= 0)
        close(fd);
    return false;
}

/* Where the file went on. */
static enum disk_end read_state(struct frozen *f)
{
    struct slice key, value;
    enum disk_end end = disk_begin(f->disk, false);
    if (end != DISK_OK)
        return end;
    f->next_seq = 1;
    end = disk_last(f->disk, DISK_ORDER, &key, &value);
    for (size_t i = 0; end == DISK_OK && i < FROZEN_SEQ && key.n == FROZEN_SEQ; i++)
        f->next_seq = i == 0 ? (unsigned char)key.p[0] : f->next_seq << 8 | (unsigned char)key.p[i];
    f->next_seq++;
    if (end == DISK_OK || end == DISK_NONE)
        end = frozen_read_purges(f);
    atomic_store(&f->counts.entries, disk_count(f->disk, DISK_ENTRIES));
    atomic_store(&f->counts.bytes, disk_bytes(f->disk));
    disk_abort(f->disk);
    return end;
}

/* The file is gone. */
static void forget_distrust(struct frozen *f)
{
    pthread_mutex_lock(&f->lock);
    f->distrusts = false;
    frozen_journal_renew(f);
    pthread_mutex_unlock(&f->lock);
}

static void open_file(struct frozen *f)
{
    char why[160];
    enum disk_end end;
    tick_t began = frozen_now();
    f->open_at = began + OPEN_AGAIN;
    if (!lock_directory(f)) {
        frozen_count(&f->counts.failures, 1);
        return;
    }
    if (!frozen_journal_open(f)) {
        frozen_count(&f->counts.failures, 1);
        log_write(
            f->log, LOG_WARNING, "frozen",
            "%s/frozen.purges cannot be used: %s; a purge may be lost when the process is killed in the "
            "milliseconds behind it",
            f->directory, strerror(errno));
    }
    if (f->distrusts && unlink(f->file) != 0 && errno != ENOENT) {
        trouble(f, f->file, strerror(errno));
        return;
    }
    forget_distrust(f);
    f->disk = disk_open(f->file, f->max_bytes, &end, why, sizeof(why));
    if (!f->disk && end == DISK_DAMAGED) {
        set_aside(f, why);
        f->disk = disk_open(f->file, f->max_bytes, &end, why, sizeof(why));
    }
    if (!f->disk) {
        frozen_count(&f->counts.failures, 1);
        trouble(f, f->file, why);
        return;
    }
    end = read_state(f);
    if (end != DISK_OK) {
        frozen_failed(f, end, f->file);
        if (f->disk)
            close_file(f);
        return;
    }
    well_again(f);
    atomic_store(&f->usable, true);
    log_write(f->log, LOG_INFO, "frozen", "%s is in use: %llu entries, looked through in %lld ms", f->file,
              (unsigned long long)atomic_load(&f->counts.entries),
              (long long)((frozen_now() - began) / TICK_MS));
}

/* Until it was tried for the first time, looks wait for it. */
static void try_open(struct frozen *f)
{
    atomic_store(&f->busy_since, 0);
    open_file(f);
    if (!f->disk)
        atomic_store(&f->usable, false);
}

/* ---- jobs ---- */

/* It waits no more. */
static void free_job(struct frozen *f, struct frozen_job *job)
{
    pthread_mutex_lock(&f->lock);
    if (job->entry) {
        f->keep_count--;
        f->keep_bytes -= entry_length(job->entry);
    } else if (--f->drop_count == 0) {
        pthread_cond_broadcast(&f->settled);
    }
    pthread_mutex_unlock(&f->lock);
    entry_release(job->entry);
    free(job);
}

static enum disk_end do_job(struct frozen *f, const struct frozen_job *job)
{
    return job->entry ? frozen_write(f, job) : frozen_carry_out(f, &job->drop);
}

/* The jobs in front of `end` are done, or given up. */
static void finish_jobs(struct frozen *f, const struct frozen_job *end)
{
    while (f->undone != end) {
        struct frozen_job *job = f->undone;
        f->undone = job->next;
        free_job(f, job);
    }
    if (!f->undone)
        f->last_undone = NULL;
    pthread_mutex_lock(&f->lock);
    frozen_journal_renew(f);
    pthread_mutex_unlock(&f->lock);
}

/* Some jobs in one transaction. */
static enum disk_end do_some(struct frozen *f, unsigned most)
{
    struct frozen_job *job = f->undone;
    uint64_t written = 0, bytes = 0;
    enum disk_end end = disk_begin(f->disk, true);
    for (unsigned i = 0; i < most && job && end == DISK_OK && bytes < f->max_bytes / 16;
         i++, job = job->next) {
        bytes += job->entry ? entry_length(job->entry) : 0;
        end = do_job(f, job);
        written += job->entry && end == DISK_OK;
        if (end == DISK_NONE) /* counted where it was found: it is not for the disk */
            end = DISK_OK;
    }
    if (end == DISK_OK)
        end = frozen_make_room(f);
    if (end != DISK_OK)
        return end;
    uint64_t taken = disk_recount(f->disk), entries = disk_count(f->disk, DISK_ENTRIES);
    end = disk_commit(f->disk);
    if (end != DISK_OK)
        return end;
    atomic_store(&f->counts.entries, entries);
    atomic_store(&f->counts.bytes, taken);
    frozen_count(&f->counts.stores, written);
    f->kept_at = frozen_now();
    finish_jobs(f, job);
    return DISK_OK;
}

/* Entries that wait are given up; purges stay. Those that come while the file is not open become one of all
 * when they are too many (frozen_purge.c): then nothing on the disk is trusted. */
static void give_up_keeps(struct frozen *f)
{
    struct frozen_job **at = &f->undone, *last = NULL;
    bool all = false;
    while (*at) {
        struct frozen_job *job = *at;
        if (!job->entry) {
            last = job;
            all = all || job->drop.kind == LEVEL_DROP_ALL;
            at = &job->next;
            continue;
        }
        *at = job->next;
        frozen_count(&f->counts.store_failures, 1);
        free_job(f, job);
    }
    f->last_undone = last;
    if (!all || f->disk)
        return;
    f->distrusts = true;
    finish_jobs(f, NULL);
}

/* The file may grow no more, or the disk has no room. */
static void without_room(struct frozen *f)
{
    frozen_failed(f, DISK_FULL, "no room for the frozen tier");
    give_up_keeps(f);
    f->write_at = frozen_now() + WRITE_AGAIN;
    if (!f->undone)
        return;
    /* A purge that cannot be written: what it names would come up again after a restart. */
    close_file(f);
    f->distrusts = true;
    if (unlink(f->file) == 0 || errno == ENOENT) {
        forget_distrust(f);
        finish_jobs(f, NULL); /* all is gone that they name */
        log_write(f->log, LOG_WARNING, "frozen",
                  "%s was removed: a purge could not be written to it for want of room", f->file);
    }
}

/* Entries wait for others to be written with, purges for nothing. */
static bool may_wait(struct frozen *f)
{
    pthread_mutex_lock(&f->lock);
    bool waits = f->drop_count == 0 && f->keep_count < FROZEN_BATCH && !f->stopping;
    pthread_mutex_unlock(&f->lock);
    return waits && frozen_now() < f->kept_at + FROZEN_GATHER;
}

static void do_jobs(struct frozen *f)
{
    unsigned most = FROZEN_BATCH;
    bool evicted = false;
    while (f->undone && f->disk && frozen_now() >= f->write_at && !may_wait(f)) {
        enum disk_end end = do_some(f, most);
        if (end == DISK_OK) {
            if (f->trouble[0])
                well_again(f);
            continue;
        }
        disk_abort(f->disk);
        if (end == DISK_FULL && most > 1) { /* fewer pages are changed at once by fewer */
            most = 1;
            continue;
        }
        if (end == DISK_FULL && !evicted) { /* room, but not in one piece */
            evicted = true;
            if (frozen_evict(f, f->max_bytes / 8) == DISK_OK)
                continue;
        }
        if (end == DISK_FULL) {
            without_room(f);
            continue;
        }
        frozen_failed(f, end, f->file);
        give_up_keeps(f);
        f->write_at = frozen_now() + WRITE_AGAIN;
    }
}

/* ---- the thread ---- */

static bool has_something(const struct frozen *f)
{
    return f->looks || f->jobs || f->stopping;
}

static struct timespec after(tick_t time)
{
    tick_t then = frozen_now() + time;
    return (struct timespec){.tv_sec = then / TICK_S, .tv_nsec = then % TICK_S};
}

static void wait_for_bell(struct frozen *f)
{
    struct timespec until = after(f->undone ? 10 * TICK_MS : FROZEN_GATHER);
    atomic_store(&f->busy_since, 0);
    if (!has_something(f))
        pthread_cond_timedwait(&f->bell, &f->lock, &until);
}

/* Takes the inbox over; the lock is held. */
static struct level_look *take_inbox(struct frozen *f)
{
    struct level_look *looks = f->looks;
    f->looks = f->last_look = NULL;
    f->look_count = 0;
    if (f->jobs) {
        *(f->last_undone ? &f->last_undone->next : &f->undone) = f->jobs;
        f->last_undone = f->last_job;
        f->jobs = f->last_job = NULL;
    }
    return looks;
}

static void *run(void *arg)
{
    struct frozen *f = arg;
    bool stopping = false, more = false;
    while (!stopping) {
        pthread_mutex_lock(&f->lock);
        if ((f->disk || frozen_now() < f->open_at) && !more)
            wait_for_bell(f);
        atomic_store(&f->busy_since, frozen_now());
        stopping = f->stopping;
        struct level_look *look = take_inbox(f);
        f->distrusts = f->distrusts || f->forgot_purge;
        f->forgot_purge = false;
        pthread_mutex_unlock(&f->lock);
        if (f->distrusts && f->disk) {
            close_file(f);
            f->open_at = 0;
        }
        if (!f->disk && frozen_now() >= f->open_at && !stopping)
            try_open(f);
        while (look) {
            struct level_look *next = look->next;
            frozen_answer(f, look);
            look = next;
        }
        do_jobs(f);
        more = frozen_filter_read(f);
        if (!f->disk)
            give_up_keeps(f);
    }
    return NULL;
}

/* ---- life ---- */

static bool set_up(struct frozen *f, const struct frozen_options *o)
{
    struct hash_key vary;
    size_t n = strlen(o->directory) + sizeof("/frozen.mdb");
    f->directory = strdup(o->directory);
    f->file = malloc(n);
    f->purges = calloc(FROZEN_PURGES_KEPT, sizeof(*f->purges));
    f->filter = calloc(FROZEN_FILTER, sizeof(*f->filter));
    f->sealer = sealer_new();
    f->squeezer = squeezer_new();
    if (!f->directory || !f->file || !f->purges || !f->filter || !f->sealer || !f->squeezer || n > 4096)
        return false;
    snprintf(f->file, n, "%s/frozen.mdb", o->directory);
    f->persons = persons_new(f->sealer, o->store, o->origin);
    if (!f->persons || !persons_vary_key(f->sealer, o->origin, &vary) || !sigbus_init())
        return false;
    store_share_vary(o->store, vary);
    return true;
}

struct frozen *frozen_new(const struct frozen_options *o)
{
    pthread_condattr_t attributes;
    struct frozen *f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    f->store = o->store;
    f->log = o->log;
    f->max_bytes = o->max_bytes;
    f->lock_fd = -1;
    atomic_init(&f->active, true);
    atomic_init(&f->usable, true); /* until the file was tried, looks wait for it */
    atomic_init(&f->compress_from, UINT64_MAX);
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&f->bell, &attributes);
    pthread_cond_init(&f->settled, &attributes);
    pthread_condattr_destroy(&attributes);
    if (set_up(f, o))
        return f;
    frozen_stop(f);
    return NULL;
}

bool frozen_start(struct frozen *f)
{
    /* Before anybody can purge, so that no purge comes too early to be written down. What fails here is tried
     * again, and told, with the file. */
    bool early = lock_directory(f) && frozen_journal_open(f);
    (void)early;
    f->running = pthread_create(&f->thread, NULL, run, f) == 0;
    return f->running;
}

void frozen_level(struct frozen *f, struct level *out)
{
    *out = (struct level){.name = "frozen",
                          .self = f,
                          .patience = FROZEN_PATIENCE,
                          .name_of = frozen_name_of,
                          .look = frozen_look,
                          .keep = frozen_keep,
                          .drop = frozen_drop};
}

void frozen_tune(struct frozen *f, bool active, uint64_t compress_from)
{
    atomic_store(&f->active, active);
    atomic_store(&f->compress_from, compress_from);
}

bool frozen_settle(struct frozen *f, tick_t patience)
{
    struct timespec until = after(patience);
    int rc = 0;
    pthread_mutex_lock(&f->lock);
    while (f->drop_count > 0 && rc == 0)
        rc = pthread_cond_timedwait(&f->settled, &f->lock, &until);
    bool settled = f->drop_count == 0;
    pthread_mutex_unlock(&f->lock);
    return settled;
}

static void stop_thread(struct frozen *f)
{
    if (!f->running)
        return;
    pthread_mutex_lock(&f->lock);
    f->stopping = true;
    pthread_cond_signal(&f->bell);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    f->running = false;
}

void frozen_stop(struct frozen *f)
{
    if (!f)
        return;
    stop_thread(f);
    for (struct level_look *look = take_inbox(f), *next; look; look = next) { /* came behind its last turn */
        next = look->next;
        level_answer(look, NULL);
    }
    finish_jobs(f, NULL);
    if (f->disk)
        close_file(f);
    frozen_journal_close(f);
    if (f->lock_fd >= 0)
        close(f->lock_fd);
    persons_free(f->persons);
    squeezer_free(f->squeezer);
    sealer_free(f->sealer);
    pthread_cond_destroy(&f->bell);
    pthread_cond_destroy(&f->settled);
    pthread_mutex_destroy(&f->lock);
    free(f->purges);
    free((void *)f->filter);
    free(f->directory);
    free(f->file);
    free(f);
}

/* ---- showing ---- */

void frozen_stats(struct frozen *f, struct frozen_stats *out)
{
    const struct frozen_counts *c = &f->counts;
    *out = (struct frozen_stats){.hits = atomic_load(&c->hits),
                                 .misses = atomic_load(&c->misses),
                                 .skipped = atomic_load(&c->skipped),
                                 .stores = atomic_load(&c->stores),
                                 .store_failures = atomic_load(&c->store_failures),
                                 .too_large = atomic_load(&c->too_large),
                                 .damaged = atomic_load(&c->damaged),
                                 .purged = atomic_load(&c->purged),
                                 .evictions = atomic_load(&c->evictions),
                                 .failures = atomic_load(&c->failures),
                                 .compressed_from = atomic_load(&c->compressed_from),
                                 .compressed_to = atomic_load(&c->compressed_to),
                                 .entries = atomic_load(&c->entries),
                                 .bytes = atomic_load(&c->bytes),
                                 .usable = atomic_load(&f->usable)};
}

void frozen_show(struct frozen *f, struct view *v)
{
    struct frozen_stats s;
    char why[sizeof(f->trouble)];
    pthread_mutex_lock(&f->lock);
    memcpy(why, f->trouble, sizeof(why));
    unsigned waiting = f->keep_count, purges = f->drop_count;
    pthread_mutex_unlock(&f->lock);
    frozen_stats(f, &s);
    view_bool(v, "in_use", s.usable && atomic_load(&f->active));
    view_text(v, "why_not", why[0] ? why : NULL);
    view_uint(v, "entries", s.entries);
    view_uint(v, "bytes", s.bytes);
    view_uint(v, "max_bytes", f->max_bytes);
    view_uint(v, "hits", s.hits);
    view_uint(v, "misses", s.misses);
    view_uint(v, "skipped", s.skipped);
    view_uint(v, "stores", s.stores);
    view_uint(v, "store_failures", s.store_failures);
    view_uint(v, "too_large", s.too_large);
    view_uint(v, "damaged", s.damaged);
    view_uint(v, "purged", s.purged);
    view_uint(v, "evictions", s.evictions);
    view_uint(v, "failures", s.failures);
    view_uint(v, "stores_waiting", waiting);
    view_uint(v, "purges_waiting", purges);
}
