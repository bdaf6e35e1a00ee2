/*
 * Entries in the second level: looking one up, writing one. Invariants:
 * - a look that was taken is answered exactly once, whatever Redis says;
 * - what is given out was sealed under the name that it was found under, fits the request, and is not named
 * by a purge that this sidecar has heard of or has itself sent;
 * - a place whose answers have Vary holds an index: the names, and a generation that is new whenever the
 * place begins anew, so that variants of before a purge are not found again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/pack_entry.h"
#include "proxy/shared_inner.h"
#include "proxy/store_inner.h"

enum { MOST_LIFE_S = 30 * 86400, INDEX_LIFE_S = 3600 };

/* ---- looking ---- */

struct asking {
    struct shared *s;
    struct level_look *look;
    struct shared_place place;
    struct breaker_permit permit;
    tick_t asked;
    bool variant; /* the index was read, this is the second step */
    struct vary_key vary;
};

bool shared_look(void *self, struct level_look *look)
{
    struct shared *s = self;
    if ((look->name.lo | look->name.hi) == 0)
        return false;
    if (!atomic_load_explicit(&s->usable, memory_order_relaxed) ||
        atomic_load_explicit(&s->looking, memory_order_relaxed) >= SHARED_LOOKS_MAX) {
        shared_count(&s->counts.skipped, 1);
        return false;
    }
    atomic_fetch_add_explicit(&s->looking, 1, memory_order_relaxed);
    look->next = NULL;
    pthread_mutex_lock(&s->lock);
    *(s->last_look ? &s->last_look->next : &s->looks) = look;
    s->last_look = look;
    shared_ring(s);
    pthread_mutex_unlock(&s->lock);
    return true;
}

static void answer(struct asking *a, struct entry *found)
{
    struct shared *s = a->s;
    shared_count(found ? &s->counts.hits : &s->counts.misses, 1);
    atomic_fetch_sub_explicit(&s->looking, 1, memory_order_relaxed);
    level_answer(a->look, found);
    explicit_bzero(a, sizeof(*a));
    free(a);
}

static void heard(void *arg, const struct redis_reply *reply);

/* Asks for the place. False: it could not. */
static bool get(struct asking *a)
{
    struct shared *s = a->s;
    struct slice words[2] = {SLICE("GET"), {a->place.key, a->place.key_n}};
    a->asked = shared_now();
    return redis_send(s->ask, words, 2, SHARED_LOOK_TIMEOUT, heard, a);
}

/* The place has variants: which would this request's be? */
static void ask_variant(struct asking *a, const struct packed *index)
{
    struct shared *s = a->s;
    struct shared_place place;
    vary_select(index->names, &a->look->head, s->store->seed_vary, &a->vary);
    if (a->variant || !shared_variant_of(s, &a->place, index->generation, &a->vary, &place)) {
        answer(a, NULL);
        return;
    }
    a->place = place;
    a->variant = true;
    a->permit = breaker_admit(&s->breaker, &s->rng, shared_now());
    if (a->permit.verdict != BREAKER_PASS || !get(a)) {
        shared_report(s, a->permit, false, 0);
        answer(a, NULL);
    }
}

static void take(struct asking *a, const struct packed *packed)
{
    struct shared *s = a->s;
    struct entry *entry = NULL;
    switch (packed->kind) {
    case PACK_INDEX:
        ask_variant(a, packed);
        return;
    case PACK_ENTRY:
        if (shared_was_purged(s, packed)) {
            shared_count(&s->counts.purged, 1);
            break;
        }
        entry = packed_entry(s->store, packed, &a->look->head, shared_now(), shared_wall());
        if (!entry)
            shared_count(&s->counts.damaged, 1);
        break;
    case PACK_FOREIGN:
    case PACK_DAMAGED:
        shared_count(&s->counts.damaged, 1);
        break;
    }
    answer(a, entry);
}

static void heard(void *arg, const struct redis_reply *reply)
{
    struct asking *a = arg;
    struct shared *s = a->s;
    struct packed packed;
    bool good = reply && (reply->kind == REDIS_TEXT || reply->kind == REDIS_NIL);
    shared_report(s, a->permit, good, shared_now() - a->asked);
    if (!good)
        shared_count(&s->counts.failures, 1);
    if (!good || reply->kind == REDIS_NIL) {
        answer(a, NULL);
        return;
    }
    char *plain = malloc(reply->text.n + 1);
    struct slice place = {a->place.key, a->place.key_n};
    if (plain && seal_open(s->sealer, &a->place.seal, place, reply->text, plain)) {
        packed_read((struct slice){plain, reply->text.n - SEAL_MORE}, &packed);
        take(a, &packed);
    } else {
        shared_count(&s->counts.damaged, 1);
        answer(a, NULL);
    }
    free(plain);
}

void shared_ask_for(struct shared *s, struct level_look *look)
{
    struct asking *a = calloc(1, sizeof(*a));
    if (!a) {
        atomic_fetch_sub_explicit(&s->looking, 1, memory_order_relaxed);
        level_answer(look, NULL);
        return;
    }
    a->s = s;
    a->look = look;
    a->permit = breaker_admit(&s->breaker, &s->rng, shared_now());
    if (a->permit.verdict == BREAKER_PASS && shared_place_of(s, look->name, &a->place) && get(a))
        return;
    if (a->permit.verdict != BREAKER_SHED)
        breaker_report(&s->breaker, a->permit, (struct breaker_report){BREAKER_IGNORED, 0, false}, &s->rng,
                       shared_now());
    shared_count(&s->counts.failures, 1);
    answer(a, NULL);
}

/* ---- writing ---- */

void shared_keep(void *self, struct entry *entry, const struct store_key *key, struct hash128 name)
{
    struct shared *s = self;
    uint64_t size = entry_length(entry);
    if ((name.lo | name.hi) == 0)
        return;
    if (size > SHARED_VALUE_MAX) {
        shared_count(&s->counts.too_large, 1);
        return;
    }
    struct job *job = calloc(1, sizeof(*job));
    pthread_mutex_lock(&s->lock);
    if (!job || s->job_count >= SHARED_JOBS_MAX || s->job_bytes + size > SHARED_JOB_BYTES ||
        !atomic_load_explicit(&s->usable, memory_order_relaxed)) {
        pthread_mutex_unlock(&s->lock);
        shared_count(&s->counts.store_failures, 1);
        free(job);
        return;
    }
    *job = (struct job){.kind = JOB_KEEP,
                        .name = name,
                        .entry = entry_ref(entry),
                        .partition = key->partition,
                        .stamps = {atomic_load(&s->stamps[0]), atomic_load(&s->stamps[1])}};
    *(s->last_job ? &s->last_job->next : &s->jobs) = job;
    s->last_job = job;
    s->job_count++;
    s->job_bytes += size;
    shared_ring(s);
    pthread_mutex_unlock(&s->lock);
}

struct writing {
    struct shared *s;
    struct entry *entry;
    struct pack_note note;
    struct shared_place place;
};

static void writing_free(struct writing *w)
{
    entry_release(w->entry);
    explicit_bzero(w, sizeof(*w));
    free(w);
}

static void written(void *arg, const struct redis_reply *reply)
{
    struct shared *s = arg;
    bool good = reply && reply->kind == REDIS_TEXT;
    shared_count(good ? &s->counts.stores : &s->counts.store_failures, 1);
    if (!good && reply && redis_says(reply, "OOM")) /* full: leave it in peace for a while */
        s->full_until = shared_now() + TICK_S;
}

/* Seals and sends it. */
static bool set(struct shared *s, const struct shared_place *place, struct slice plain, int64_t life_ms,
                redis_answered *done)
{
    char life[24];
    char *box = malloc(plain.n + SEAL_MORE);
    struct slice words[5] = {SLICE("SET"),
                             {place->key, place->key_n},
                             {box, plain.n + SEAL_MORE},
                             SLICE("PX"),
                             {life, (size_t)snprintf(life, sizeof(life), "%lld", (long long)life_ms)}};
    bool ok = box && seal_close(s->sealer, &place->seal, words[1], plain, box) &&
              redis_send(s->tell, words, 5, SHARED_WRITE_TIMEOUT, done, s);
    free(box);
    return ok;
}

/* For how long it may be of use to anybody, in ms; 0: it is not. */
static int64_t life_of(const struct entry *e, tick_t now)
{
    tick_t more = e->fresh.swr > e->fresh.sie ? e->fresh.swr : e->fresh.sie;
    int64_t left = (e->fresh.lifetime - freshness_age(&e->fresh, now)) / TICK_MS + more / TICK_MS;
    int64_t most = (int64_t)MOST_LIFE_S * 1000;
    return left <= 0 ? 0 : left < most ? left : most;
}

static bool set_entry(struct writing *w, const struct shared_place *place)
{
    struct text plain = {0};
    tick_t now = shared_now();
    bool ok = pack_entry(w->entry, &w->note, now, shared_wall(), &plain) &&
              set(w->s, place, (struct slice){plain.p, plain.n}, life_of(w->entry, now), written);
    text_dispose(&plain);
    return ok;
}

/* What stood in the place was read: goes on with its generation, when it is an index of the same names. */
static uint64_t generation_of(struct writing *w, const struct redis_reply *reply)
{
    struct shared *s = w->s;
    struct packed packed = {.kind = PACK_DAMAGED};
    struct slice names = entry_span(w->entry, w->entry->names);
    uint64_t generation = rng_next(&s->rng);
    char *plain = reply->kind == REDIS_TEXT ? malloc(reply->text.n + 1) : NULL;
    struct slice place = {w->place.key, w->place.key_n};
    if (plain && seal_open(s->sealer, &w->place.seal, place, reply->text, plain))
        packed_read((struct slice){plain, reply->text.n - SEAL_MORE}, &packed);
    if (packed.kind == PACK_INDEX && slice_equal(packed.names, names))
        generation = packed.generation;
    free(plain);
    return generation;
}

static void index_read(void *arg, const struct redis_reply *reply)
{
    struct writing *w = arg;
    struct shared *s = w->s;
    struct slice names = entry_span(w->entry, w->entry->names);
    struct shared_place variant;
    struct text plain = {0};
    bool ok = reply && (reply->kind == REDIS_TEXT || reply->kind == REDIS_NIL);
    if (ok) {
        uint64_t generation = generation_of(w, reply);
        int64_t life = life_of(w->entry, shared_now()), least = (int64_t)INDEX_LIFE_S * 1000;
        ok = pack_index(names, &w->note, generation, &plain) &&
             shared_variant_of(s, &w->place, generation, &w->entry->vary, &variant) &&
             set(s, &w->place, (struct slice){plain.p, plain.n}, life > least ? life : least, NULL) &&
             set_entry(w, &variant);
    }
    if (!ok)
        shared_count(&s->counts.store_failures, 1);
    text_dispose(&plain);
    writing_free(w);
}

void shared_write(struct shared *s, const struct job *job)
{
    struct person person;
    struct writing *w = calloc(1, sizeof(*w));
    bool ok = w && shared_now() >= s->full_until && redis_up(s->tell) &&
              persons_in(s->persons, job->partition, &person) && shared_place_of(s, job->name, &w->place);
    if (!ok) {
        free(w);
        shared_count(&s->counts.store_failures, 1);
        return;
    }
    w->s = s;
    w->entry = entry_ref(job->entry);
    w->note = (struct pack_note){{job->stamps[0], job->stamps[1]}, person.id};
    explicit_bzero(&person, sizeof(person));
    struct slice words[2] = {SLICE("GET"), {w->place.key, w->place.key_n}};
    if (life_of(w->entry, shared_now()) == 0) {
        writing_free(w);
        return;
    }
    if (w->entry->names.n > 0 && redis_send(s->tell, words, 2, SHARED_WRITE_TIMEOUT, index_read, w))
        return;
    if (w->entry->names.n > 0 || !set_entry(w, &w->place))
        shared_count(&s->counts.store_failures, 1);
    writing_free(w);
}

void shared_delete(struct shared *s, const struct job *job)
{
    struct shared_place place;
    if (!shared_place_of(s, job->name, &place))
        return;
    struct slice words[2] = {SLICE("DEL"), {place.key, place.key_n}};
    bool sent = redis_send(s->tell, words, 2, SHARED_WRITE_TIMEOUT, NULL, NULL);
    (void)sent; /* when not, the record of the purge keeps it from being used */
    explicit_bzero(&place, sizeof(place));
}
