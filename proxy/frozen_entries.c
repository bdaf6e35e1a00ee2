/*
 * Entries in the frozen tier: looking one up, writing one, making room. Invariants:
 * - a look that was taken is answered exactly once;
 * - what is given out was sealed for the place that it was found in, fits the request, and is named by no
 *   purge since it was kept;
 * - an entry and its record in the order of writing come and go in one transaction.
 *
 * A record: version u8, seven zeros, its number in the order u64, a sealed box. In the box: form u8, size u32
 * before compression, what it selects by Vary (two hashes and a number each), the packed entry.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/tier.h"
#include "proxy/frozen_inner.h"
#include "proxy/pack_entry.h"
#include "proxy/squeeze.h"
#include "proxy/store_inner.h"

enum {
    RECORD_VERSION = 1,
    RECORD_HEAD = 16,
    BOX_HEAD = 5 + sizeof(struct vary_key),
    FORM_PLAIN = 0,
    FORM_SQUEEZED = 1,
    HEADS_MAX = 4 << 20, /* bytes of a packed entry beside its body */
    ROOM_LEAST = 256 << 10
};

_Static_assert(sizeof(struct vary_key) == 32, "without padding: it goes to the disk");

/* ---- names ---- */

void frozen_name_of(void *self, const struct store_request *request, struct hash128 *name)
{
    struct frozen *f = self;
    persons_name_of(f->persons, request, name);
}

bool frozen_place_of(struct frozen *f, const struct person *person, struct hash128 name,
                     char place[FROZEN_PLACE], struct seal_key *seal)
{
    struct seal_key key = {{0}}, id;
    if (name.lo == 0 && name.hi == 0)
        return false;
    memcpy(key.bytes, &name, sizeof(name));
    bool ok = seal_derive(f->sealer, &key, "disk key", NULL, 0, &id) &&
              (!seal || seal_derive(f->sealer, &key, "disk value", NULL, 0, seal));
    memcpy(place, &person->id, FROZEN_WHO);
    memcpy(place + FROZEN_WHO, id.bytes, FROZEN_PLACE - FROZEN_WHO);
    explicit_bzero(&key, sizeof(key));
    return ok;
}

/* Behind the place: which variant. */
static bool variant_of(struct frozen *f, const struct seal_key *seal, const struct entry *e, char *out)
{
    const struct slice parts[] = {entry_span(e, e->names), {(const char *)&e->vary, sizeof(e->vary)}};
    struct seal_key id = {{0}};
    if (e->names.n > 0 && !seal_derive(f->sealer, seal, "variant", parts, ARRAY_LEN(parts), &id))
        return false;
    memcpy(out, id.bytes, FROZEN_KEY - FROZEN_PLACE);
    return true;
}

/* ---- looking ---- */

/* May it be on the disk? */
static bool may_have(struct frozen *f, struct hash128 partition, struct hash128 name)
{
    struct person person;
    char place[FROZEN_PLACE];
    bool has = persons_in(f->persons, partition, &person) && frozen_place_of(f, &person, name, place, NULL) &&
               frozen_filter_has(f, place);
    explicit_bzero(&person, sizeof(person));
    return has;
}

bool frozen_look(void *self, struct level_look *look)
{
    struct frozen *f = self;
    if ((look->name.lo | look->name.hi) == 0 || !atomic_load_explicit(&f->active, memory_order_relaxed))
        return false;
    if (!may_have(f, look->key.partition, look->name)) {
        frozen_count(&f->counts.misses, 1);
        return false;
    }
    tick_t busy = atomic_load_explicit(&f->busy_since, memory_order_relaxed);
    look->next = NULL;
    pthread_mutex_lock(&f->lock);
    bool takes = (busy == 0 || look->asked - busy < FROZEN_STUCK) &&
                 atomic_load_explicit(&f->usable, memory_order_relaxed) && f->look_count < FROZEN_LOOKS_MAX;
    if (takes) {
        *(f->last_look ? &f->last_look->next : &f->looks) = look;
        f->last_look = look;
        f->look_count++;
        pthread_cond_signal(&f->bell);
    }
    pthread_mutex_unlock(&f->lock);
    frozen_count(&f->counts.skipped, !takes);
    return takes;
}

struct candidate {
    uint64_t seq;
    struct slice key, value;
};

static bool begins_with(struct slice s, const char *place, size_t n)
{
    return s.n >= n && memcmp(s.p, place, n) == 0;
}

static uint64_t seq_of(struct slice value)
{
    uint64_t seq = 0;
    if (value.n >= RECORD_HEAD)
        memcpy(&seq, value.p + 8, sizeof(seq));
    return seq;
}

/* All that lies in a place, the newest first. */
static unsigned candidates(struct frozen *f, const char place[FROZEN_PLACE],
                           struct candidate out[FROZEN_VARIANTS + 1], enum disk_end *end)
{
    struct slice key = {place, FROZEN_PLACE}, value;
    unsigned count = 0;
    while (count <= FROZEN_VARIANTS &&
           (*end = disk_next(f->disk, DISK_ENTRIES, key, &key, &value)) == DISK_OK) {
        if (!begins_with(key, place, FROZEN_PLACE))
            break;
        unsigned at = count++;
        for (; at > 0 && out[at - 1].seq < seq_of(value); at--)
            out[at] = out[at - 1];
        out[at] = (struct candidate){seq_of(value), key, value};
    }
    if (*end == DISK_NONE)
        *end = DISK_OK;
    return count;
}

/* A record opened; the packed entry in it is *text, to be freed. NULL: it is not what was written. */
static char *open_box(struct frozen *f, const struct seal_key *seal, const struct candidate *c,
                      struct vary_key *vary, struct slice *text)
{
    uint32_t size;
    char *squeezed, *plain = NULL;
    if (c->key.n != FROZEN_KEY || c->value.n < RECORD_HEAD + SEAL_MORE + BOX_HEAD ||
        c->value.p[0] != RECORD_VERSION)
        return NULL;
    struct slice box = {c->value.p + RECORD_HEAD, c->value.n - RECORD_HEAD};
    size_t n = box.n - SEAL_MORE;
    squeezed = malloc(n);
    if (!squeezed || !seal_open(f->sealer, seal, c->key, box, squeezed)) {
        free(squeezed);
        return NULL;
    }
    memcpy(&size, squeezed + 1, sizeof(size));
    memcpy(vary, squeezed + 5, sizeof(*vary));
    if (squeezed[0] == FORM_PLAIN && size == n - BOX_HEAD) {
        *text = (struct slice){squeezed + BOX_HEAD, size};
        return squeezed;
    }
    if (squeezed[0] == FORM_SQUEEZED && size <= (uint32_t)FROZEN_OBJECT_MAX + HEADS_MAX)
        plain = malloc(size);
    if (plain && !unsqueeze(f->squeezer, (struct slice){squeezed + BOX_HEAD, n - BOX_HEAD}, plain, size)) {
        free(plain);
        plain = NULL;
    }
    free(squeezed);
    *text = (struct slice){plain, size};
    return plain;
}

enum found { FOUND_NOTHING, FOUND_DAMAGED, FOUND_PURGED, FOUND_ENTRY };

/* Is this the answer? */
static enum found try_candidate(struct frozen *f, const struct seal_key *seal, const struct candidate *c,
                                const struct level_look *look, struct entry **entry)
{
    struct vary_key vary;
    struct packed packed;
    struct slice text;
    enum found found = FOUND_DAMAGED;
    char *room = open_box(f, seal, c, &vary, &text);
    if (!room)
        return FOUND_DAMAGED;
    packed_read(text, &packed);
    if (packed.kind == PACK_ENTRY && frozen_was_purged(f, c->key, packed.note.stamps[0], &packed))
        found = FOUND_PURGED;
    else if (packed.kind == PACK_ENTRY)
        *entry = packed_entry(f->store, &packed, &look->head, frozen_now(), frozen_wall());
    if (*entry) {
        struct vary_content content = entry_content(*entry);
        found = level_fits(look, f->store->seed_vary, packed.names, &vary, &content) ? FOUND_ENTRY
                                                                                     : FOUND_NOTHING;
        (*entry)->vary = vary;
    }
    if (found != FOUND_ENTRY) {
        entry_release(*entry);
        *entry = NULL;
    }
    free(room);
    return found;
}

/* What is damaged or purged goes at the next chance. */
static void drop_later(struct frozen *f, const char place[FROZEN_PLACE])
{
    struct frozen_job *job = calloc(1, sizeof(*job));
    if (!job)
        return; /* it is found again, and again not used */
    job->drop.kind = LEVEL_DROP_PLACE;
    memcpy(job->drop.place, place, FROZEN_PLACE);
    *(f->last_undone ? &f->last_undone->next : &f->undone) = job;
    f->last_undone = job;
    pthread_mutex_lock(&f->lock);
    f->drop_count++;
    pthread_mutex_unlock(&f->lock);
}

static struct entry *find(struct frozen *f, const struct level_look *look)
{
    struct candidate all[FROZEN_VARIANTS + 1];
    struct person person;
    struct seal_key seal;
    char place[FROZEN_PLACE];
    struct entry *entry = NULL;
    enum found found = FOUND_NOTHING;
    if (!persons_in(f->persons, look->key.partition, &person) ||
        !frozen_place_of(f, &person, look->name, place, &seal))
        return NULL;
    enum disk_end end = disk_begin(f->disk, false);
    unsigned count = end == DISK_OK ? candidates(f, place, all, &end) : 0;
    for (unsigned i = 0; i < count && end == DISK_OK && found != FOUND_ENTRY; i++) {
        found = try_candidate(f, &seal, &all[i], look, &entry);
        frozen_count(&f->counts.damaged, found == FOUND_DAMAGED);
        frozen_count(&f->counts.purged, found == FOUND_PURGED);
        if (found == FOUND_DAMAGED || found == FOUND_PURGED)
            drop_later(f, place);
    }
    explicit_bzero(&person, sizeof(person));
    explicit_bzero(&seal, sizeof(seal));
    if (found == FOUND_ENTRY)
        f->used[(unsigned char)place[FROZEN_WHO] | ((unsigned)(unsigned char)place[FROZEN_WHO + 1] & 31)
                                                       << 8] |=
            (unsigned char)(1 << ((unsigned char)place[FROZEN_WHO + 2] & 7));
    if (end != DISK_OK)
        frozen_failed(f, end, f->file);
    else
        disk_abort(f->disk);
    return entry;
}

void frozen_answer(struct frozen *f, struct level_look *look)
{
    if (!f->disk) {
        frozen_count(&f->counts.skipped, 1);
        level_answer(look, NULL);
        return;
    }
    struct entry *entry = find(f, look);
    frozen_count(entry ? &f->counts.hits : &f->counts.misses, 1);
    level_answer(look, entry);
}

/* ---- keeping ---- */

/* Instead of what is kept nowhere: what lies there is older, and goes. */
static void keep_nothing(struct frozen *f, const struct store_key *key, struct hash128 name)
{
    struct level_drop drop = {
        .kind = LEVEL_DROP_PLACE, .place = key->place, .partition = key->partition, .name = name};
    frozen_drop(f, &drop);
}

void frozen_keep(void *self, struct entry *entry, const struct store_key *key, struct hash128 name)
{
    struct frozen *f = self;
    uint64_t size = entry_length(entry);
    if ((name.lo | name.hi) == 0 || !atomic_load_explicit(&f->active, memory_order_relaxed))
        return;
    if (size > FROZEN_OBJECT_MAX || size > f->max_bytes / 8) {
        frozen_count(&f->counts.too_large, 1);
        keep_nothing(f, key, name);
        return;
    }
    struct frozen_job *job = calloc(1, sizeof(*job));
    pthread_mutex_lock(&f->lock);
    bool usable = atomic_load_explicit(&f->usable, memory_order_relaxed);
    bool takes =
        job && usable && f->keep_count < FROZEN_KEEPS_MAX && f->keep_bytes + size <= FROZEN_KEEP_BYTES;
    if (takes) {
        job->entry = entry_ref(entry);
        job->partition = key->partition;
        job->name = name;
        *(f->last_job ? &f->last_job->next : &f->jobs) = job;
        f->last_job = job;
        f->keep_count++;
        f->keep_bytes += size;
        if (f->keep_count % FROZEN_BATCH ==
            0) /* else it looks by itself soon: no system call under the lock */
            pthread_cond_signal(&f->bell);
    }
    pthread_mutex_unlock(&f->lock);
    if (takes)
        return;
    free(job);
    frozen_count(&f->counts.store_failures, 1);
    if (usable)
        keep_nothing(f, key, name);
}

static void put_seq(char out[FROZEN_SEQ], uint64_t seq)
{
    for (int i = 0; i < FROZEN_SEQ; i++)
        out[i] = (char)(seq >> (56 - 8 * i));
}

enum disk_end frozen_remove(struct frozen *f, struct slice key, struct slice value)
{
    char seq[FROZEN_SEQ], copy[FROZEN_KEY];
    put_seq(seq, seq_of(value)); /* before the change that moves it */
    if (key.n > sizeof(copy))
        return DISK_DAMAGED;
    memcpy(copy, key.p, key.n);
    enum disk_end end = disk_delete(f->disk, DISK_ORDER, frozen_text(seq, sizeof(seq)));
    if (end == DISK_OK || end == DISK_NONE)
        end = disk_delete(f->disk, DISK_ENTRIES, frozen_text(copy, key.n));
    return end == DISK_NONE ? DISK_OK : end;
}

/* The form on disk, without its number. False: no memory. */
static bool make_record(struct frozen *f, const struct frozen_job *job, struct slice key,
                        const struct person *person, const struct seal_key *seal, struct text *out)
{
    struct pack_note note = {{f->serial, 0}, person->id};
    struct text packed = {0};
    const struct entry *e = job->entry;
    bool good = pack_entry(e, &note, frozen_now(), frozen_wall(), &packed) && packed.n < UINT32_MAX;
    uint32_t size = (uint32_t)packed.n;
    char *plain = good ? malloc(BOX_HEAD + packed.n) : NULL;
    size_t n = 0;
    if (plain && e->length >= atomic_load_explicit(&f->compress_from, memory_order_relaxed) &&
        e->coding.n == 0)
        n = squeeze(f->squeezer, (struct slice){packed.p, packed.n}, plain + BOX_HEAD, packed.n);
    if (n > 0) {
        frozen_count(&f->counts.compressed_from, packed.n);
        frozen_count(&f->counts.compressed_to, n);
    }
    if (plain) {
        plain[0] = n > 0 ? FORM_SQUEEZED : FORM_PLAIN;
        memcpy(plain + 1, &size, sizeof(size));
        memcpy(plain + 5, &e->vary, sizeof(e->vary));
        if (n == 0)
            memcpy(plain + BOX_HEAD, packed.p, n = packed.n);
        char head[RECORD_HEAD] = {RECORD_VERSION};
        text_bytes(out, head, sizeof(head));
        char *box = malloc(BOX_HEAD + n + SEAL_MORE);
        good = box && seal_close(f->sealer, seal, key, (struct slice){plain, BOX_HEAD + n}, box);
        if (good)
            text_bytes(out, box, BOX_HEAD + n + SEAL_MORE);
        free(box);
    }
    good = good && plain && !out->failed;
    free(plain);
    text_dispose(&packed);
    return good;
}

/* The older version goes, and the oldest variant when there are too many. */
static enum disk_end make_place(struct frozen *f, struct slice key)
{
    struct slice old;
    struct candidate all[FROZEN_VARIANTS + 1];
    enum disk_end end = disk_get(f->disk, DISK_ENTRIES, key, &old);
    if (end == DISK_OK)
        return frozen_remove(f, key, old);
    if (end != DISK_NONE)
        return end;
    unsigned count = candidates(f, key.p, all, &end);
    if (end != DISK_OK || count < FROZEN_VARIANTS)
        return end;
    return frozen_remove(f, all[count - 1].key, all[count - 1].value);
}

static enum disk_end put_record(struct frozen *f, struct slice key, struct text *record)
{
    char seq[FROZEN_SEQ];
    uint64_t number = f->next_seq++;
    enum disk_end end = make_place(f, key);
    frozen_filter_add(f, key.p);
    memcpy(record->p + 8, &number, sizeof(number));
    put_seq(seq, number);
    if (end == DISK_OK)
        end = disk_put(f->disk, DISK_ORDER, frozen_text(seq, sizeof(seq)), key);
    if (end == DISK_OK)
        end = disk_put(f->disk, DISK_ENTRIES, key, frozen_text(record->p, record->n));
    return end;
}

enum disk_end frozen_write(struct frozen *f, const struct frozen_job *job)
{
    struct person person;
    struct seal_key seal;
    struct text record = {0};
    char key[FROZEN_KEY];
    enum disk_end end = DISK_NONE;
    if (persons_in(f->persons, job->partition, &person) &&
        frozen_place_of(f, &person, job->name, key, &seal) &&
        variant_of(f, &seal, job->entry, key + FROZEN_PLACE) &&
        make_record(f, job, frozen_text(key, sizeof(key)), &person, &seal, &record))
        end = put_record(f, frozen_text(key, sizeof(key)), &record);
    frozen_count(&f->counts.store_failures, end == DISK_NONE);
    text_dispose(&record);
    explicit_bzero(&person, sizeof(person));
    explicit_bzero(&seal, sizeof(seal));
    return end;
}

/* ---- room ---- */

/* What all tables may take, so that LMDB has pages to change others with. */
static uint64_t limit_of(const struct frozen *f)
{
    uint64_t rest = f->max_bytes / 8 > ROOM_LEAST ? f->max_bytes / 8 : ROOM_LEAST;
    return f->max_bytes > 2 * rest ? f->max_bytes - rest : f->max_bytes / 2;
}

/* Was looked up since it was last spared; forgets it. */
static bool take_use(struct frozen *f, struct slice key)
{
    const unsigned char *at = (const unsigned char *)key.p + FROZEN_WHO;
    unsigned char *byte = &f->used[at[0] | (at[1] & 31u) << 8], bit = (unsigned char)(1 << (at[2] & 7));
    bool was = *byte & bit;
    *byte &= (unsigned char)~bit;
    return was;
}

/* The oldest one goes, or is written anew when it was of use. `freed` in bytes. */
static enum disk_end evict_oldest(struct frozen *f, unsigned *spared, uint64_t *freed)
{
    struct slice seq, key, value;
    char copy[FROZEN_KEY], number[FROZEN_SEQ];
    enum disk_end end = disk_next(f->disk, DISK_ORDER, (struct slice){NULL, 0}, &seq, &key);
    if (end != DISK_OK)
        return end;
    if (key.n != FROZEN_KEY || seq.n != FROZEN_SEQ)
        return DISK_DAMAGED;
    memcpy(copy, key.p, sizeof(copy));
    memcpy(number, seq.p, sizeof(number));
    key = frozen_text(copy, sizeof(copy));
    end = disk_get(f->disk, DISK_ENTRIES, key, &value);
    if (end == DISK_NONE)
        return disk_delete(f->disk, DISK_ORDER, frozen_text(number, sizeof(number)));
    if (end != DISK_OK)
        return end;
    if (take_use(f, key) && tier_spares(*spared, value.n, limit_of(f))) {
        struct text record = {0};
        ++*spared;
        text_bytes(&record, value.p, value.n);
        end = record.failed ? DISK_FAILED : put_record(f, key, &record);
        text_dispose(&record);
        return end;
    }
    *freed += value.n;
    frozen_count(&f->counts.evictions, 1);
    return frozen_remove(f, key, value);
}

enum disk_end frozen_make_room(struct frozen *f)
{
    unsigned spared = 0;
    uint64_t freed = 0, limit = limit_of(f), bytes = disk_recount(f->disk);
    enum disk_end end = DISK_OK;
    while (end == DISK_OK && bytes > limit) {
        for (unsigned i = 0; i < 16 && end == DISK_OK; i++)
            end = evict_oldest(f, &spared, &freed);
        bytes = disk_recount(f->disk);
    }
    return end == DISK_NONE ? DISK_OK : end;
}

enum disk_end frozen_evict(struct frozen *f, uint64_t bytes)
{
    unsigned spared = UINT32_MAX;
    uint64_t freed = 0;
    enum disk_end end = disk_begin(f->disk, true);
    while (end == DISK_OK && freed < bytes)
        end = evict_oldest(f, &spared, &freed);
    if (end == DISK_OK || (end == DISK_NONE && freed > 0))
        return disk_commit(f->disk);
    disk_abort(f->disk);
    return end;
}
