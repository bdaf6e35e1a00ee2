/*
 * Keys of persons. Invariants: the credential goes into one key derivation and is kept nowhere; what is kept
 * lies in memory that no core dump shows; two processes with the same upstream and the same credential fields
 * derive the same.
 */
#include "proxy/persons.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/secret.h"
#include "proxy/store_inner.h"

enum { PARTS_MAX = 64, WAYS = 8, PERSONS = 4096 /* whose keys are remembered */ };

struct persons {
    const struct sealer *sealer;
    struct store *store;
    char *origin;
    size_t origin_n;
    pthread_mutex_t lock;
    struct person *all; /* secret room */
    uint64_t uses;
    _Atomic bool forgot;
};

struct persons *persons_new(const struct sealer *sealer, struct store *store, struct slice origin)
{
    struct persons *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    pthread_mutex_init(&p->lock, NULL);
    p->sealer = sealer;
    p->store = store;
    p->origin = malloc(origin.n + 1);
    p->all = secret_room(PERSONS * sizeof(*p->all));
    if (!p->origin || !p->all) {
        persons_free(p);
        return NULL;
    }
    memcpy(p->origin, origin.p, origin.n);
    p->origin_n = origin.n;
    return p;
}

void persons_free(struct persons *p)
{
    if (!p)
        return;
    pthread_mutex_destroy(&p->lock);
    secret_room_free(p->all, PERSONS * sizeof(*p->all));
    free(p->origin);
    free(p);
}

/* ---- from a request ---- */

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

static bool derive_person(struct persons *p, const struct store_request *request, struct person *out)
{
    struct parts parts;
    struct seal_key id;
    parts.count = 0;
    parts.too_many = false;
    bool somebody = store_who(request, gather, &parts);
    struct slice none[1] = {{p->origin, p->origin_n}};
    out->nameless = parts.too_many;
    if (parts.too_many)
        return false;
    bool ok = somebody ? seal_derive(p->sealer, NULL, "promptops level 2: somebody", parts.part, parts.count,
                                     &out->root)
                       : seal_derive(p->sealer, NULL, "promptops level 2: nobody", none, 1, &out->root);
    if (!ok || !seal_derive(p->sealer, &out->root, "who", NULL, 0, &id))
        return false;
    memcpy(&out->id, id.bytes, sizeof(out->id));
    return true;
}

/* ---- the table ---- */

/* The place of a partition's person, or the one to be given up for it. */
static struct person *slot_of(struct persons *p, struct hash128 partition, bool *found)
{
    struct person *set = &p->all[partition.hi % (PERSONS / WAYS) * WAYS], *oldest = set;
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

bool persons_in(struct persons *p, struct hash128 partition, struct person *out)
{
    bool found;
    pthread_mutex_lock(&p->lock);
    struct person *one = slot_of(p, partition, &found);
    if (found) {
        one->used = ++p->uses;
        *out = *one;
    }
    pthread_mutex_unlock(&p->lock);
    return found;
}

bool persons_by_id(struct persons *p, struct hash128 id, struct person *out)
{
    bool found = false;
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < PERSONS && !found; i++) {
        found = p->all[i].used && hash_equal(p->all[i].id, id);
        if (found)
            *out = p->all[i];
    }
    pthread_mutex_unlock(&p->lock);
    return found;
}

bool persons_asking(struct persons *p, const struct store_request *request, struct person *out)
{
    struct store_key key;
    bool found;
    store_key_of(p->store, request, &key);
    if (persons_in(p, key.partition, out))
        return true;
    memset(out, 0, sizeof(*out));
    out->partition = key.partition;
    if (!derive_person(p, request, out))
        return false;
    pthread_mutex_lock(&p->lock);
    struct person *one = slot_of(p, key.partition, &found);
    if (!found && one->used)
        atomic_store(&p->forgot, true);
    out->used = ++p->uses;
    *one = *out;
    pthread_mutex_unlock(&p->lock);
    return true;
}

bool persons_forgot(const struct persons *p)
{
    return atomic_load(&p->forgot);
}

/* ---- names of places ---- */

bool persons_name_path(struct persons *p, const struct person *person, struct slice path,
                       struct hash128 *name)
{
    struct slice parts[2] = {{p->origin, p->origin_n}, path};
    struct seal_key key;
    if (!seal_derive(p->sealer, &person->root, "name", parts, 2, &key))
        return false;
    memcpy(name, key.bytes, sizeof(*name));
    if (name->lo == 0 && name->hi == 0)
        name->lo = 1; /* which means: none */
    return true;
}

void persons_name_of(struct persons *p, const struct store_request *request, struct hash128 *name)
{
    struct person person;
    if (!persons_asking(p, request, &person) ||
        !persons_name_path(p, &person, head_path(request->head), name))
        *name = (struct hash128){0, 0};
    explicit_bzero(&person, sizeof(person));
}

bool persons_vary_key(const struct sealer *sealer, struct slice origin, struct hash_key *out)
{
    struct seal_key key;
    if (!seal_derive(sealer, NULL, "vary", &origin, 1, &key))
        return false;
    memcpy(out, key.bytes, sizeof(*out));
    return true;
}
