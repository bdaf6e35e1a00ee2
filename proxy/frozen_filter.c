/*
 * Which places may be on the disk. Invariants: a place that is there has its bit, from before it was written;
 * bits are never taken away; until the whole file was looked through every place may be there.
 */
#include <string.h>

#include "proxy/frozen_inner.h"

enum { SOME = 4096 };

/* The place's id is as good as random. */
static _Atomic uint64_t *word_of(const struct frozen *f, const char *place, uint64_t *bit)
{
    uint32_t hash;
    memcpy(&hash, place + FROZEN_WHO + 4, sizeof(hash));
    *bit = UINT64_C(1) << (hash & 63);
    return &f->filter[hash / 64 % FROZEN_FILTER];
}

void frozen_filter_add(struct frozen *f, const char place[FROZEN_PLACE])
{
    uint64_t bit;
    _Atomic uint64_t *word = word_of(f, place, &bit);
    atomic_fetch_or(word, bit);
}

bool frozen_filter_has(const struct frozen *f, const char place[FROZEN_PLACE])
{
    uint64_t bit;
    _Atomic uint64_t *word = word_of(f, place, &bit);
    return !atomic_load(&f->filter_whole) || (atomic_load(word) & bit);
}

bool frozen_filter_read(struct frozen *f)
{
    struct slice behind = {f->filter_at, FROZEN_SEQ}, key, place;
    enum disk_end end;
    if (atomic_load(&f->filter_whole) || !f->disk)
        return false;
    end = disk_begin(f->disk, false);
    for (int i = 0; i < SOME && end == DISK_OK; i++) {
        end = disk_next(f->disk, DISK_ORDER, behind, &key, &place);
        if (end == DISK_OK && (key.n != FROZEN_SEQ || place.n != FROZEN_KEY))
            end = DISK_DAMAGED;
        if (end != DISK_OK)
            break;
        memcpy(f->filter_at, key.p, FROZEN_SEQ);
        frozen_filter_add(f, place.p);
    }
    if (end == DISK_OK || end == DISK_NONE)
        disk_abort(f->disk);
    else
        frozen_failed(f, end, f->file);
    atomic_store(&f->filter_whole, end == DISK_NONE);
    return end == DISK_OK;
}
