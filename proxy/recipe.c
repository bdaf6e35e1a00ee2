/*
 * Requests to be repeated. Invariants: a path's set has the partition of the path's place, or the path is not
 * found; a set's bytes are wiped before others take their room; offsets of a set's fields are from the
 * beginning of its bytes, and within them.
 */
#include "proxy/recipe.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/compose.h"
#include "proxy/secret.h"

enum { WAYS = 4 };

/* Fields that belong to one message or one connection, or that are made anew for each request. */
#define OWN_TO_A_MESSAGE                                                                                     \
    (FIELD_BIT(HOST) | FIELD_BIT(CONTENT_LENGTH) | FIELD_BIT(EXPECT) | FIELD_BIT(MAX_FORWARDS) |             \
     FIELD_BIT(VIA) | FIELD_BIT(CACHE_CONTROL) | FIELD_BIT(PRAGMA) | FIELD_BIT(RANGE) |                      \
     FIELD_BIT(IF_RANGE) | FIELD_BIT(IF_MATCH) | FIELD_BIT(IF_NONE_MATCH) | FIELD_BIT(IF_MODIFIED_SINCE) |   \
     FIELD_BIT(IF_UNMODIFIED_SINCE) | FIELD_BIT(TRACEPARENT) | FIELD_BIT(TRACESTATE) |                       \
     FIELD_BIT(X_REQUEST_ID) | FIELD_BIT(X_RETRY_COUNT) | FIELD_BIT(IDEMPOTENCY_KEY) |                       \
     FIELD_BIT(X_PROMPTOPS_TIMESTAMP) | FIELD_BIT(X_PROMPTOPS_NONCE) | FIELD_BIT(X_PROMPTOPS_SIGNATURE))

struct set {
    struct hash128 partition;
    uint64_t names; /* hash of the fields' names */
    uint64_t whole; /* hash of names and values; 0: free */
    uint64_t used;  /* on the clock of `recipes` */
    uint16_t count; /* of fields */
    uint16_t n;     /* of bytes */
    uint64_t present;
    struct field fields[RECIPE_FIELDS];
    char bytes[RECIPE_BYTES];
};

struct path {
    struct hash128 place;
    uint64_t whole, names; /* of the set */
    uint32_t used;
    uint16_t n; /* 0: free */
    uint8_t set;
    char text[RECIPE_PATH];
};

struct recipes {
    struct hash_key key;
    struct set *sets;   /* RECIPE_SETS, in a room that dumps leave out */
    struct path *paths; /* RECIPE_PATHS, in groups of WAYS */
    uint64_t clock;
    size_t count;
};

struct recipes *recipes_new(struct hash_key key)
{
    struct recipes *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->key = key;
    r->sets = secret_room(RECIPE_SETS * sizeof *r->sets);
    r->paths = calloc(RECIPE_PATHS, sizeof *r->paths);
    if (r->sets && r->paths)
        return r;
    recipes_free(r);
    return NULL;
}

void recipes_free(struct recipes *r)
{
    if (!r)
        return;
    secret_room_free(r->sets, RECIPE_SETS * sizeof *r->sets);
    free(r->paths);
    free(r);
}

/* ---- sets ---------------------------------------------------------------------------------------------- */

/* Copies what is kept of the fields. False: too much of it. */
static bool set_read(const struct head *head, uint64_t without, struct set *out)
{
    size_t n = 0;
    uint64_t drop = without | OWN_TO_A_MESSAGE;
    for (int i = 0; i < head->field_count; i++) {
        const struct field *f = &head->fields[i];
        struct slice name = head_name(head, i), value = head_value(head, i);
        if (f->hop || (f->id != FIELD_OTHER && ((drop >> f->id) & 1)))
            continue;
        if (out->count == RECIPE_FIELDS || name.n + value.n > RECIPE_BYTES - n)
            return false;
        out->fields[out->count++] = (struct field){.name = (uint32_t)n,
                                                   .value = (uint32_t)(n + name.n),
                                                   .value_len = (uint32_t)value.n,
                                                   .name_len = (uint16_t)name.n,
                                                   .id = f->id};
        out->present |= (uint64_t)1 << f->id;
        memcpy(out->bytes + n, name.p, name.n);
        if (value.n > 0)
            memcpy(out->bytes + n + name.n, value.p, value.n);
        n += name.n + value.n;
    }
    out->n = (uint16_t)n;
    return true;
}

static void set_name(const struct recipes *r, struct set *set)
{
    struct hash_state names, whole;
    hash_init(&names, r->key);
    hash_feed_u64(&names, set->partition.lo);
    hash_feed_u64(&names, set->partition.hi);
    whole = names;
    for (unsigned i = 0; i < set->count; i++) {
        const struct field *f = &set->fields[i];
        struct slice name = {set->bytes + f->name, f->name_len},
                     value = {set->bytes + f->value, f->value_len};
        hash_feed_text(&names, name);
        hash_feed_text(&whole, name);
        hash_feed_text(&whole, value);
    }
    set->names = hash_end(&names).lo;
    set->whole = hash_end(&whole).lo | 1; /* never 0 */
}

/* The set with these values; else, in a request's place, the newest one with the same names and partition, as
 * of a client that sends another number with each request. NULL: none. */
static struct set *set_find(const struct recipes *r, uint64_t whole, uint64_t names)
{
    struct set *like = NULL;
    for (unsigned i = 0; i < RECIPE_SETS; i++) {
        struct set *set = &r->sets[i];
        if (set->whole == 0)
            continue;
        if (set->whole == whole)
            return set;
        if (set->names == names && (!like || set->used > like->used))
            like = set;
    }
    return like;
}

static struct set *set_keep(struct recipes *r, const struct set *set)
{
    struct set *room = set_find(r, set->whole, 0);
    if (room && room->whole == set->whole)
        return room;
    room = r->sets;
    for (unsigned i = 1; i < RECIPE_SETS && room->whole; i++)
        if (r->sets[i].whole == 0 || r->sets[i].used < room->used)
            room = &r->sets[i];
    explicit_bzero(room, sizeof *room);
    *room = *set;
    return room;
}

/* ---- paths --------------------------------------------------------------------------------------------- */

static struct path *group_of(const struct recipes *r, uint64_t lo)
{
    return &r->paths[(size_t)(lo % (RECIPE_PATHS / WAYS)) * WAYS];
}

static struct path *path_find(const struct recipes *r, uint64_t lo)
{
    struct path *group = group_of(r, lo);
    for (unsigned i = 0; i < WAYS; i++)
        if (group[i].n > 0 && group[i].place.lo == lo)
            return &group[i];
    return NULL;
}

static struct path *path_room(struct recipes *r, uint64_t lo)
{
    struct path *path = path_find(r, lo);
    if (path)
        return path;
    struct path *group = group_of(r, lo);
    path = group;
    for (unsigned i = 1; i < WAYS && path->n > 0; i++)
        if (group[i].n == 0 || (int32_t)(group[i].used - path->used) < 0)
            path = &group[i];
    r->count += path->n == 0;
    return path;
}

/* The set of a path that is recorded; of another partition it cannot be, as that is in both hashes. */
static struct set *set_of(const struct recipes *r, const struct path *path)
{
    struct set *set = &r->sets[path->set];
    return set->whole == path->whole ? set : set_find(r, path->whole, path->names);
}

static bool worth_it(const struct head *head)
{
    return head->method == METHOD_GET && head->body == BODY_NONE && !head->upgrade &&
           head_path(head).n <= RECIPE_PATH && head_path(head).p[0] == '/';
}

void recipes_learn(struct recipes *r, const struct store_key *key, const struct head *head, uint64_t without)
{
    struct slice text = head_path(head);
    struct set fresh;
    if (!worth_it(head))
        return;
    memset(&fresh, 0, offsetof(struct set, fields));
    fresh.partition = key->partition;
    if (set_read(head, without, &fresh)) {
        set_name(r, &fresh);
        fresh.used = ++r->clock;
        struct set *set = set_keep(r, &fresh);
        struct path *path = path_room(r, key->place.lo);
        set->used = r->clock;
        *path = (struct path){.place = key->place,
                              .whole = set->whole,
                              .names = set->names,
                              .used = (uint32_t)r->clock,
                              .n = (uint16_t)text.n,
                              .set = (uint8_t)(set - r->sets)};
        memcpy(path->text, text.p, text.n);
    }
    explicit_bzero(fresh.bytes, sizeof fresh.bytes);
}

const struct hash128 *recipes_place(const struct recipes *r, uint64_t place_lo)
{
    const struct path *path = path_find(r, place_lo);
    return path && set_of(r, path) ? &path->place : NULL;
}

bool recipes_find(struct recipes *r, uint64_t place_lo, struct recipe *out)
{
    struct path *path = path_find(r, place_lo);
    struct set *set = path ? set_of(r, path) : NULL;
    if (!set)
        return false;
    uint32_t at = 3 + path->n;
    path->used = (uint32_t)++r->clock;
    set->used = r->clock;
    out->key = (struct store_key){path->place, set->partition};
    memcpy(out->bytes, "GET", 3);
    memcpy(out->bytes + 3, path->text, path->n);
    memcpy(out->bytes + at, set->bytes, set->n);
    for (unsigned i = 0; i < set->count; i++) {
        out->fields[i] = set->fields[i];
        out->fields[i].name += at;
        out->fields[i].value += at;
    }
    out->head = (struct head){
        .base = out->bytes,
        .len = at + set->n,
        .field_count = set->count,
        .field_max = RECIPE_FIELDS,
        .fields = out->fields,
        .present = set->present,
        .method = METHOD_GET,
        .method_len = 3,
        .path_at = 3,
        .path_len = path->n,
        .minor = 1,
        .keep_alive = true,
    };
    return true;
}

void recipes_forget(struct recipes *r, struct hash128 partition)
{
    for (unsigned i = 0; i < RECIPE_SETS; i++)
        if (r->sets[i].whole && hash_equal(r->sets[i].partition, partition))
            explicit_bzero(&r->sets[i], sizeof r->sets[i]);
}

size_t recipes_bytes(const struct recipes *r)
{
    return sizeof *r + RECIPE_SETS * sizeof *r->sets + RECIPE_PATHS * sizeof *r->paths;
}

size_t recipes_count(const struct recipes *r)
{
    return r->count;
}
