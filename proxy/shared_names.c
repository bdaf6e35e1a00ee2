/*
 * Names. Invariants: the credential goes into one key derivation and is kept nowhere; what Redis sees of a
 * place (`promptops:1:SPACE:ID`) and the key of its value are both derived from the secret name, so that
 * neither tells the other; two sidecars with the same upstream and the same credential fields find the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/secret.h"
#include "proxy/shared_inner.h"
#include "proxy/store_inner.h"

enum { PARTS_MAX = 64, WAYS = 8 };

bool shared_names_init(struct shared *s)
{
    pthread_mutex_init(&s->names_lock, NULL);
    s->persons = secret_room(SHARED_PERSONS * sizeof(*s->persons));
    return s->persons != NULL;
}

void shared_names_dispose(struct shared *s)
{
    pthread_mutex_destroy(&s->names_lock);
    secret_room_free(s->persons, SHARED_PERSONS * sizeof(*s->persons));
}

/* ---- persons ---- */

struct parts {
    struct slice part[PARTS_MAX];
    uint64_t number[PARTS_MAX / 2];
    size_t count;
    bool too_many;
};

static void gather(void *arg, uint64_t number, struct slice text)
{
    struct parts *p = arg;
    if (p->count + 2 > PARTS_MAX) {
        p->too_many = true;
        return;
    }
    uint64_t *place = &p->number[p->count / 2];
    *place = number;
    p->part[p->count++] = (struct slice){(const char *)place, sizeof(*place)};
    p->part[p->count++] = text;
}

static bool derive_person(struct shared *s, const struct store_request *request, struct person *out)
{
    struct parts parts;
    struct seal_key id;
    parts.count = 0;
    parts.too_many = false;
    bool somebody = store_who(request, gather, &parts);
    struct slice none[1] = {{s->origin, s->origin_n}};
    out->nameless = parts.too_many;
    if (parts.too_many)
        return false;
    bool ok = somebody ? seal_derive(s->sealer, NULL, "promptops level 2: somebody", parts.part, parts.count,
                                     &out->root)
                       : seal_derive(s->sealer, NULL, "promptops level 2: nobody", none, 1, &out->root);
    if (!ok || !seal_derive(s->sealer, &out->root, "who", NULL, 0, &id))
        return false;
    memcpy(&out->id, id.bytes, sizeof(out->id));
    return true;
}

/* The place of a partition's person, or the one to be given up for it. */
static struct person *slot_of(struct shared *s, struct hash128 partition, bool *found)
{
    struct person *set = &s->persons[partition.hi % (SHARED_PERSONS / WAYS) * WAYS], *oldest = set;
    for (int i = 0; i < WAYS; i++) {
        if (set[i].used && hash_equal(set[i].partition, partition)) {
            *found = true;
            return &set[i];
        }
        if (set[i].used < oldest->used)
            oldest = &set[i];
    }
    *found = false;
    return oldest;
}

bool shared_person_in(struct shared *s, struct hash128 partition, struct person *out)
{
    bool found;
    pthread_mutex_lock(&s->names_lock);
    struct person *p = slot_of(s, partition, &found);
    if (found) {
        p->used = ++s->uses;
        *out = *p;
    }
    pthread_mutex_unlock(&s->names_lock);
    return found;
}

bool shared_person_by_id(struct shared *s, struct hash128 id, struct person *out)
{
    bool found = false;
    pthread_mutex_lock(&s->names_lock);
    for (int i = 0; i < SHARED_PERSONS && !found; i++) {
        found = s->persons[i].used && hash_equal(s->persons[i].id, id);
        if (found)
            *out = s->persons[i];
    }
    pthread_mutex_unlock(&s->names_lock);
    return found;
}

bool shared_person_asking(struct shared *s, const struct store_request *request, struct person *out)
{
    struct store_key key;
    bool found;
    store_key_of(s->store, request, &key);
    if (shared_person_in(s, key.partition, out))
        return true;
    memset(out, 0, sizeof(*out));
    out->partition = key.partition;
    if (!derive_person(s, request, out))
        return false;
    pthread_mutex_lock(&s->names_lock);
    struct person *p = slot_of(s, key.partition, &found);
    if (!found && p->used)
        atomic_store(&s->forgot, true); /* memory may still have what was theirs: carry_out */
    out->used = ++s->uses;
    *p = *out;
    pthread_mutex_unlock(&s->names_lock);
    return true;
}

/* ---- names of places ---- */

bool shared_name_path(struct shared *s, const struct person *person, struct slice path, struct hash128 *name)
{
    struct slice parts[2] = {{s->origin, s->origin_n}, path};
    struct seal_key key;
    if (!seal_derive(s->sealer, &person->root, "name", parts, 2, &key))
        return false;
    memcpy(name, key.bytes, sizeof(*name));
    if (name->lo == 0 && name->hi == 0)
        name->lo = 1; /* which means: none */
    return true;
}

void shared_name_of(void *self, const struct store_request *request, struct hash128 *name)
{
    struct shared *s = self;
    struct person person;
    if (!shared_person_asking(s, request, &person) ||
        !shared_name_path(s, &person, head_path(request->head), name))
        *name = (struct hash128){0, 0};
    explicit_bzero(&person, sizeof(person));
}

static size_t write_key(char out[SHARED_KEY_MAX], const char *space, const struct seal_key *id)
{
    size_t n = strlen(space);
    memcpy(out, space, n);
    for (int i = 0; i < 16; i++) {
        out[n++] = "0123456789abcdef"[id->bytes[i] >> 4];
        out[n++] = "0123456789abcdef"[id->bytes[i] & 15];
    }
    out[n] = '\0';
    return n;
}

bool shared_place_of(struct shared *s, struct hash128 name, struct shared_place *out)
{
    struct seal_key key = {{0}}, id;
    if (name.lo == 0 && name.hi == 0)
        return false;
    memcpy(key.bytes, &name, sizeof(name));
    if (!seal_derive(s->sealer, &key, "key", NULL, 0, &id) ||
        !seal_derive(s->sealer, &key, "value", NULL, 0, &out->seal))
        return false;
    out->key_n = write_key(out->key, s->space, &id);
    return true;
}

bool shared_variant_of(struct shared *s, const struct shared_place *place, uint64_t generation,
                       const struct vary_key *vary, struct shared_place *out)
{
    const struct slice parts[] = {{(const char *)&generation, sizeof(generation)},
                                  {(const char *)&vary->fields, sizeof(vary->fields)},
                                  {(const char *)&vary->language, sizeof(vary->language)},
                                  {(const char *)&vary->coding, sizeof(vary->coding)}};
    struct seal_key id;
    if (!seal_derive(s->sealer, &place->seal, "variant", parts, ARRAY_LEN(parts), &id) ||
        !seal_derive(s->sealer, &id, "value", NULL, 0, &out->seal))
        return false;
    out->key_n = write_key(out->key, s->space, &id);
    return true;
}
