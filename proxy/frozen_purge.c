/*
 * Purges of the frozen tier. Invariants:
 * - from the return of frozen_drop on no look is answered with what it names: looks compare what they find
 *   with the purges that wait, and with those that were written down;
 * - what is named by a place or a person is taken off the disk. What is named by its path or a tag cannot be
 *   found there, being sealed: such a purge is written down with a serial, and compared with every entry that
 *   was kept before it;
 * - what cannot be remembered purges in a coarser way, never not at all: of more purges than are kept the
 *   oldest becomes the floor, and nothing kept before it is used.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/frozen_inner.h"
#include "proxy/pack_entry.h"
#include "proxy/store_inner.h"

static const char floor_key[] = "floor";

static bool begins_with(struct slice text, struct slice prefix)
{
    return text.n >= prefix.n && (prefix.n == 0 || memcmp(text.p, prefix.p, prefix.n) == 0);
}

static bool any_tag(const struct packed *packed, struct slice text, bool prefix)
{
    for (unsigned i = 0; i < packed->tag_count; i++)
        if (prefix ? begins_with(packed->tags[i], text) : slice_equal(packed->tags[i], text))
            return true;
    return false;
}

/* Does a purge by path or tag name this? */
static bool names_text(enum level_drop_kind kind, struct slice text, const struct packed *packed)
{
    switch (kind) {
    case LEVEL_DROP_KEY:
        return slice_equal(text, packed->uri);
    case LEVEL_DROP_PREFIX:
        return begins_with(packed->uri, text);
    case LEVEL_DROP_TAG:
        return any_tag(packed, text, false);
    case LEVEL_DROP_TAG_PREFIX:
        return any_tag(packed, text, true);
    default:
        return true;
    }
}

static bool names(const struct frozen_drop *drop, struct slice key, const struct packed *packed)
{
    if (drop->kind == LEVEL_DROP_PLACE)
        return begins_with(key, (struct slice){drop->place, FROZEN_PLACE});
    if (drop->kind == LEVEL_DROP_PARTITION)
        return begins_with(key, (struct slice){drop->place, FROZEN_WHO});
    return names_text(drop->kind, (struct slice){drop->text, drop->n}, packed);
}

static bool any_names(const struct frozen_job *job, struct slice key, const struct packed *packed)
{
    for (; job; job = job->next)
        if (!job->entry && names(&job->drop, key, packed))
            return true;
    return false;
}

bool frozen_was_purged(struct frozen *f, struct slice key, uint64_t serial, const struct packed *packed)
{
    if (serial < f->floor)
        return true;
    for (unsigned i = f->purge_count; i > 0 && f->purges[i - 1]->serial > serial; i--) {
        const struct frozen_purge *p = f->purges[i - 1];
        if (names_text(p->kind, (struct slice){p->text, p->n}, packed))
            return true;
    }
    pthread_mutex_lock(&f->lock);
    bool found = f->forgot_purge;
    if (!found && f->drop_count > 0)
        found = any_names(f->jobs, key, packed) || any_names(f->undone, key, packed);
    pthread_mutex_unlock(&f->lock);
    return found;
}

/* ---- asked for ---- */

/* The place or the person that a drop names, as the disk has them. False: not known here; `all` says whether
 * they may have something there nevertheless. */
static bool key_of(struct frozen *f, const struct level_drop *drop, char place[FROZEN_PLACE], bool *all)
{
    struct person person = {0};
    struct hash128 name = drop->name;
    bool known = drop->request ? persons_asking(f->persons, drop->request, &person)
                               : persons_in(f->persons, drop->partition, &person);
    *all = !known && !person.nameless && (drop->request || persons_forgot(f->persons));
    memcpy(place, &person.id, FROZEN_WHO);
    if (known && drop->kind == LEVEL_DROP_PLACE) {
        if (drop->text.n > 0)
            known = persons_name_path(f->persons, &person, drop->text, &name);
        known = known && frozen_place_of(f, &person, name, place, NULL);
        *all = !known && (name.lo | name.hi) != 0;
    }
    explicit_bzero(&person, sizeof(person));
    return known;
}

/* Under the lock. One purge of all in place of all that wait. */
static void become_all(struct frozen_job *job)
{
    job->drop.kind = LEVEL_DROP_ALL;
    job->drop.n = 0;
}

/* Under the lock: the same one waits already, and nothing was kept since. */
static bool is_last(const struct frozen *f, const struct frozen_job *job)
{
    const struct frozen_job *last = f->last_job;
    return last && !last->entry && last->drop.kind == job->drop.kind && last->drop.n == job->drop.n &&
           memcmp(last->drop.place, job->drop.place, FROZEN_PLACE) == 0 &&
           memcmp(last->text, job->text, job->drop.n) == 0;
}

void frozen_drop(void *self, const struct level_drop *drop)
{
    struct frozen *f = self;
    bool personal = drop->kind == LEVEL_DROP_PLACE || drop->kind == LEVEL_DROP_PARTITION, all = false;
    size_t n = personal || drop->text.n > FROZEN_PURGE_TEXT ? 0 : drop->text.n;
    struct frozen_job *job = calloc(1, sizeof(*job) + n + 1);
    if (!job) {
        pthread_mutex_lock(&f->lock);
        f->forgot_purge = true;
        frozen_journal_add_all(f);
        pthread_cond_signal(&f->bell);
        pthread_mutex_unlock(&f->lock);
        return;
    }
    job->drop.kind = drop->kind;
    job->drop.text = job->text;
    job->drop.n = n;
    if (n)
        memcpy(job->text, drop->text.p, n);
    if (personal && !key_of(f, drop, job->drop.place, &all) && !all) {
        free(job); /* nothing of theirs was ever kept */
        return;
    }
    if (all || (!personal && drop->text.n > FROZEN_PURGE_TEXT))
        become_all(job);
    pthread_mutex_lock(&f->lock);
    if (f->drop_count >= FROZEN_DROPS_MAX)
        become_all(job);
    bool absent =
        job->drop.kind == LEVEL_DROP_PLACE && f->keep_count == 0 && !frozen_filter_has(f, job->drop.place);
    if (absent || is_last(f, job)) {
        pthread_mutex_unlock(&f->lock);
        free(job);
        return;
    }
    *(f->last_job ? &f->last_job->next : &f->jobs) = job;
    f->last_job = job;
    f->drop_count++;
    frozen_journal_add(f, &job->drop);
    pthread_cond_signal(&f->bell);
    pthread_mutex_unlock(&f->lock);
}

/* ---- carried out ---- */

static enum disk_end remove_all_of(struct frozen *f, const char *prefix, size_t n)
{
    struct slice key, value;
    enum disk_end end;
    while ((end = disk_next(f->disk, DISK_ENTRIES, frozen_text(prefix, n), &key, &value)) == DISK_OK &&
           begins_with(key, frozen_text(prefix, n))) {
        end = frozen_remove(f, key, value);
        if (end != DISK_OK)
            return end;
    }
    return end == DISK_NONE ? DISK_OK : end;
}

static void key_of_serial(char out[8], uint64_t serial)
{
    for (int i = 0; i < 8; i++)
        out[i] = (char)(serial >> (56 - 8 * i));
}

static enum disk_end set_floor(struct frozen *f, uint64_t floor)
{
    f->floor = floor;
    return disk_put(f->disk, DISK_META, frozen_text(floor_key, sizeof(floor_key)),
                    frozen_text((const char *)&floor, sizeof(floor)));
}

static enum disk_end forget_purge(struct frozen *f, unsigned at)
{
    char key[8];
    key_of_serial(key, f->purges[at]->serial);
    free(f->purges[at]);
    f->purge_count--;
    memmove(&f->purges[at], &f->purges[at + 1], (f->purge_count - at) * sizeof(*f->purges));
    enum disk_end end = disk_delete(f->disk, DISK_PURGES, frozen_text(key, sizeof(key)));
    return end == DISK_NONE ? DISK_OK : end;
}

static enum disk_end remove_all(struct frozen *f)
{
    enum disk_end end = DISK_OK;
    static const enum disk_table all[] = {DISK_ENTRIES, DISK_ORDER, DISK_PURGES};
    for (size_t i = 0; i < ARRAY_LEN(all) && end == DISK_OK; i++)
        end = disk_clear(f->disk, all[i]);
    frozen_forget_purges(f);
    return end == DISK_OK ? set_floor(f, ++f->serial) : end;
}

/* An older one of the same is told by the newer. */
static enum disk_end forget_same(struct frozen *f, const struct frozen_drop *drop)
{
    for (unsigned i = 0; i < f->purge_count; i++) {
        const struct frozen_purge *p = f->purges[i];
        if (p->kind == drop->kind && p->n == drop->n && memcmp(p->text, drop->text, p->n) == 0)
            return forget_purge(f, i);
    }
    if (f->purge_count < FROZEN_PURGES_KEPT)
        return DISK_OK;
    enum disk_end end = set_floor(f, f->purges[0]->serial);
    return end == DISK_OK ? forget_purge(f, 0) : end;
}

static enum disk_end write_down(struct frozen *f, const struct frozen_drop *drop)
{
    char key[8], value[1 + FROZEN_PURGE_TEXT];
    struct frozen_purge *p = calloc(1, sizeof(*p) + drop->n + 1);
    if (!p)
        return remove_all(f);
    *p = (struct frozen_purge){++f->serial, drop->kind, drop->n};
    memcpy(p->text, drop->text, drop->n);
    enum disk_end end = forget_same(f, drop);
    f->purges[f->purge_count++] = p;
    key_of_serial(key, p->serial);
    value[0] = (char)drop->kind;
    memcpy(value + 1, drop->text, drop->n);
    if (end == DISK_OK)
        end = disk_put(f->disk, DISK_PURGES, frozen_text(key, sizeof(key)), frozen_text(value, 1 + drop->n));
    return end;
}

enum disk_end frozen_carry_out(struct frozen *f, const struct frozen_drop *drop)
{
    switch (drop->kind) {
    case LEVEL_DROP_PLACE:
        return remove_all_of(f, drop->place, FROZEN_PLACE);
    case LEVEL_DROP_PARTITION:
        return remove_all_of(f, drop->place, FROZEN_WHO);
    case LEVEL_DROP_ALL:
        return remove_all(f);
    default:
        return write_down(f, drop);
    }
}

/* ---- read back ---- */

void frozen_forget_purges(struct frozen *f)
{
    while (f->purge_count > 0)
        free(f->purges[--f->purge_count]);
}

static bool read_purge(struct frozen *f, struct slice key, struct slice value)
{
    if (key.n != 8 || value.n < 1 || value.n > 1 + FROZEN_PURGE_TEXT ||
        f->purge_count == FROZEN_PURGES_KEPT || (unsigned char)value.p[0] > LEVEL_DROP_ALL)
        return false;
    struct frozen_purge *p = calloc(1, sizeof(*p) + value.n);
    if (!p)
        return false;
    for (int i = 0; i < 8; i++)
        p->serial = p->serial << 8 | (unsigned char)key.p[i];
    p->kind = (enum level_drop_kind)(unsigned char)value.p[0];
    p->n = value.n - 1;
    memcpy(p->text, value.p + 1, p->n);
    f->purges[f->purge_count++] = p;
    if (p->serial > f->serial)
        f->serial = p->serial;
    return true;
}

enum disk_end frozen_read_purges(struct frozen *f)
{
    struct slice key = {NULL, 0}, value;
    frozen_forget_purges(f);
    f->floor = f->serial = 0;
    enum disk_end end = disk_get(f->disk, DISK_META, frozen_text(floor_key, sizeof(floor_key)), &value);
    if (end == DISK_OK && value.n == sizeof(f->floor))
        memcpy(&f->floor, value.p, sizeof(f->floor));
    f->serial = f->floor;
    while ((end == DISK_OK || end == DISK_NONE) &&
           (end = disk_next(f->disk, DISK_PURGES, key, &key, &value)) == DISK_OK)
        if (!read_purge(f, key, value))
            return DISK_DAMAGED;
    return end == DISK_NONE ? DISK_OK : end;
}
