/*
 * Purges, told to all sidecars. Two Redis streams keep them in order: one for purges of many things (tags,
 * paths, prefixes, all, a credential), one for those of single places. A sidecar reads both, from the start
 * when it connects, then as they grow; so a broken connection loses none.
 *
 * Invariants:
 * - an entry carries how far its writer had carried purges out when it stored it. Whoever looks it up
 * compares it with the purges since: what was purged is not used, even when it was written behind the purge;
 * - a purge of our own counts from the moment that drop() returns, before Redis knows of it, and is sent
 * again until it was heard back; nothing is looked up while not everything in the streams was heard;
 * - where it is not known what was purged (a stream trimmed, wiped, begun anew) entries from before are not
 *   used;
 * - what a sidecar cannot keep apart any more it purges in a coarser way, never not at all;
 * - the record of a place is sent behind the deletion of its value, on one connection: once it was heard
 * back, the value is gone, and the record is needed only against one that is being written behind it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/pack_entry.h"
#include "proxy/shared_inner.h"
#include "proxy/store_inner.h"

#define HEAR_BLOCK_MS "2000"
#define HEAR_TIMEOUT  (3 * TICK_S)
#define HEAR_COUNT    "512"

/* Kinds as records name them; BEGIN: an empty stream was found. */
static const char kinds[] = {
    [LEVEL_DROP_PLACE] = 'p',  [LEVEL_DROP_PARTITION] = 'w', [LEVEL_DROP_KEY] = 'k',
    [LEVEL_DROP_PREFIX] = 'x', [LEVEL_DROP_TAG] = 't',       [LEVEL_DROP_TAG_PREFIX] = 'y',
    [LEVEL_DROP_ALL] = 'a',    [LEVEL_DROP_ALL + 1] = 'b'};

enum { KIND_BEGIN = LEVEL_DROP_ALL + 1 };

static struct purge *purge_new(enum level_drop_kind kind, struct hash128 who, struct slice text)
{
    struct purge *p = calloc(1, sizeof(*p) + text.n + 1);
    if (!p)
        return NULL;
    p->kind = kind;
    p->who = who;
    p->n = text.n;
    if (text.n)
        memcpy(p->text, text.p, text.n);
    return p;
}

static struct slice text_of(const struct purge *p)
{
    return (struct slice){p->text, p->n};
}

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

static bool names(const struct purge *p, const struct packed *packed)
{
    bool theirs = hash_equal(p->who, packed->note.who);
    switch ((int)p->kind) {
    case LEVEL_DROP_PLACE:
        return theirs && (p->sealed || slice_equal(text_of(p), packed->uri));
    case LEVEL_DROP_PARTITION:
        return theirs;
    case LEVEL_DROP_KEY:
        return slice_equal(text_of(p), packed->uri);
    case LEVEL_DROP_PREFIX:
        return begins_with(packed->uri, text_of(p));
    case LEVEL_DROP_TAG:
        return any_tag(packed, text_of(p), false);
    case LEVEL_DROP_TAG_PREFIX:
        return any_tag(packed, text_of(p), true);
    default:
        return true;
    }
}

bool shared_was_purged(struct shared *s, const struct packed *packed)
{
    bool found = false;
    for (int i = 0; i < 2 && !found; i++) {
        const struct purge_log *log = &s->logs[i];
        uint64_t stamp = packed->note.stamps[i];
        found = stamp < log->floor;
        for (unsigned j = log->count; j > 0 && !found; j--) {
            const struct purge *p = log->at[(log->first + j - 1) % log->most];
            if (p->stamp <= stamp)
                break;
            found = names(p, packed);
        }
    }
    pthread_mutex_lock(&s->lock);
    for (const struct purge *p = s->pending; p && !found; p = p->next)
        found = names(p, packed);
    pthread_mutex_unlock(&s->lock);
    return found;
}

/* ---- our own ---- */

/* Under the lock. The same one that nobody has sent yet, or NULL. */
static struct purge *same_pending(struct shared *s, const struct purge *like)
{
    for (struct purge *p = s->pending; p; p = p->next)
        if (!p->sent && p->kind == like->kind && hash_equal(p->who, like->who) &&
            slice_equal(text_of(p), text_of(like)))
            return p;
    return NULL;
}

static void clear_pending(struct shared *s)
{
    while (s->pending) {
        struct purge *next = s->pending->next;
        free(s->pending);
        s->pending = next;
    }
    s->last_pending = NULL;
    s->pending_count = 0;
}

/* Under the lock. Takes the purge; NULL (no memory for it) purges all, as too many do. */
static void add_pending(struct shared *s, struct purge *p)
{
    static const struct slice none = {NULL, 0};
    if (p && same_pending(s, p)) {
        free(p);
        return;
    }
    if (!p || s->pending_count >= SHARED_PENDING_MAX) {
        struct purge *all = purge_new(LEVEL_DROP_ALL, (struct hash128){0, 0}, none);
        if (!all && !p)
            return;
        if (all) { /* what it stands for goes; else the list grows by one */
            free(p);
            clear_pending(s);
            p = all;
        }
    }
    p->serial = ++s->serial;
    *(s->last_pending ? &s->last_pending->next : &s->pending) = p;
    s->last_pending = p;
    s->pending_count++;
}

static void add_job(struct shared *s, enum job_kind kind, struct hash128 name)
{
    struct job *job = calloc(1, sizeof(*job));
    if (!job) /* the record of the purge does it alone */
        return;
    job->kind = kind;
    job->name = name;
    *(s->last_job ? &s->last_job->next : &s->jobs) = job;
    s->last_job = job;
    s->job_count++;
}

void shared_drop(void *self, const struct level_drop *drop)
{
    struct shared *s = self;
    struct person person = {0};
    bool tells = true;
    if (shared_is_own(s)) /* it was heard from another */
        return;
    bool exact = drop->text.n <= SHARED_PURGE_TEXT; /* else it is told in a coarser way: all */
    if (drop->kind == LEVEL_DROP_PLACE && drop->request) {
        exact = exact && persons_asking(s->persons, drop->request, &person);
        tells = !person.nameless;                /* who has no name has nothing here */
    } else if (drop->kind == LEVEL_DROP_PLACE) { /* a place of which nothing but its name is known */
        tells = false;
    } else if (drop->kind == LEVEL_DROP_PARTITION) {
        exact = drop->request ? persons_asking(s->persons, drop->request, &person)
                              : persons_in(s->persons, drop->partition, &person);
        tells = exact || persons_forgot(s->persons); /* else they never had anything here */
    }
    struct slice text = drop->kind == LEVEL_DROP_PARTITION ? (struct slice){NULL, 0} : drop->text;
    struct purge *p = tells && exact ? purge_new(drop->kind, person.id, text) : NULL;
    pthread_mutex_lock(&s->lock);
    if (tells)
        add_pending(s, p);
    else if (drop->kind == LEVEL_DROP_PLACE && s->job_count < SHARED_JOBS_MAX)
        add_job(s, JOB_DELETE, drop->name);
    shared_ring(s);
    pthread_mutex_unlock(&s->lock);
    explicit_bzero(&person, sizeof(person));
}

static int log_of(enum level_drop_kind kind)
{
    return kind == LEVEL_DROP_PLACE ? LOG_PLACES : LOG_PURGES;
}

/* Takes what a purge of a place names out of Redis, so that it stays out when the record of it is forgotten.
 * False: it could not be asked for. */
static bool delete_place(struct shared *s, const struct purge *p)
{
    struct person person;
    struct shared_place place;
    struct hash128 name;
    bool ok = persons_by_id(s->persons, p->who, &person) &&
              persons_name_path(s->persons, &person, text_of(p), &name) && shared_place_of(s, name, &place);
    if (ok) {
        struct slice words[2] = {SLICE("DEL"), {place.key, place.key_n}};
        ok = redis_send(s->tell, words, 2, SHARED_WRITE_TIMEOUT, NULL, NULL);
    }
    explicit_bzero(&person, sizeof(person));
    explicit_bzero(&place, sizeof(place));
    return ok;
}

/* What of a record only its person may read and write. */
static bool seal_text(struct shared *s, const struct purge *p, char **out, size_t *n)
{
    struct person person;
    struct seal_key key;
    struct slice who = {(const char *)&p->who, sizeof(p->who)};
    *n = p->n + SEAL_MORE;
    *out = malloc(*n);
    bool ok = *out && persons_by_id(s->persons, p->who, &person) &&
              seal_derive(s->sealer, &person.root, "purge", NULL, 0, &key) &&
              seal_close(s->sealer, &key, who, text_of(p), *out);
    explicit_bzero(&person, sizeof(person));
    explicit_bzero(&key, sizeof(key));
    return ok;
}

static void told(void *arg, const struct redis_reply *reply)
{
    struct shared *s = arg;
    if (reply && reply->kind == REDIS_TEXT) {
        shared_count(&s->counts.purges_sent, 1);
        return; /* it is confirmed when it is heard */
    }
    pthread_mutex_lock(&s->lock);
    for (struct purge *p = s->pending; p; p = p->next)
        p->sent = false; /* again at the next turn; twice does no harm */
    pthread_mutex_unlock(&s->lock);
}

static bool tell(struct shared *s, const struct purge *p)
{
    bool personal = p->kind == LEVEL_DROP_PLACE || p->kind == LEVEL_DROP_PARTITION;
    int which = log_of(p->kind);
    char most[16], me[24], serial[24], *sealed = NULL;
    size_t sealed_n = 0;
    struct slice kind = {&kinds[p->kind], 1}, text = text_of(p);
    bool exact = personal && (p->kind != LEVEL_DROP_PLACE || delete_place(s, p));
    if (exact && seal_text(s, p, &sealed, &sealed_n)) {
        text = (struct slice){sealed, sealed_n};
    } else if (personal) { /* its key is forgotten: coarser */
        kind.p = &kinds[LEVEL_DROP_ALL];
        which = LOG_PURGES;
        text = SLICE("");
    }
    struct slice words[] = {
        SLICE("XADD"),
        {s->logs[which].key, strlen(s->logs[which].key)},
        SLICE("MAXLEN"),
        {most, (size_t)snprintf(most, sizeof(most), "%u", s->logs[which].most)},
        SLICE("*"),
        SLICE("k"),
        kind,
        SLICE("s"),
        {me, (size_t)snprintf(me, sizeof(me), "%" PRIu64, s->me)},
        SLICE("n"),
        {serial, (size_t)snprintf(serial, sizeof(serial), "%" PRIu64, p->serial)},
        SLICE("w"),
        {(const char *)&p->who, sizeof(p->who)},
        SLICE("t"),
        text,
    };
    bool ok = redis_send(s->tell, words, ARRAY_LEN(words), SHARED_WRITE_TIMEOUT, told, s);
    free(sealed);
    return ok;
}

void shared_tell_pending(struct shared *s)
{
    bool good = redis_up(s->tell);
    pthread_mutex_lock(&s->lock);
    for (struct purge *p = s->pending; p && good; p = p->next)
        if (!p->sent)
            good = p->sent = tell(s, p); /* `told` comes later, from the loop */
    pthread_mutex_unlock(&s->lock);
}

/* ---- hearing ---- */

static void log_add(struct purge_log *log, struct purge *p)
{
    if (log->count == log->most) {
        struct purge *gone = log->at[log->first];
        if (log->key[0] && log->floor < gone->stamp && gone->kind != LEVEL_DROP_PLACE)
            log->floor = gone->stamp;
        free(gone);
        log->first = (log->first + 1) % log->most;
        log->count--;
    }
    log->at[(log->first + log->count++) % log->most] = p;
}

static uint64_t number_of(struct slice text)
{
    uint64_t n = 0;
    for (size_t i = 0; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++)
        n = n * 10 + (uint64_t)(text.p[i] - '0');
    return n;
}

/* `ms-seq` as one number that grows with it; 0: it is none. */
static uint64_t stamp_of(struct slice id)
{
    const char *dash = id.n ? memchr(id.p, '-', id.n) : NULL;
    if (!dash || id.n >= 40)
        return 0;
    uint64_t ms = number_of((struct slice){id.p, (size_t)(dash - id.p)});
    uint64_t seq = number_of((struct slice){dash + 1, (size_t)(id.p + id.n - dash - 1)});
    return ms << 20 | (seq < 0xfffff ? seq : 0xfffff);
}

/* Forgets in memory what another sidecar dropped. */
static void carry_out(struct shared *s, const struct purge *p)
{
    struct person person;
    struct slice origin = {s->origin, s->origin_n};
    struct store_key key = {{0, 0}, {0, 0}};
    switch ((int)p->kind) {
    case LEVEL_DROP_PLACE:
    case LEVEL_DROP_PARTITION:
        if (p->sealed || !persons_by_id(s->persons, p->who, &person)) {
            /* Who was never known has nothing here; who was forgotten may be meant. */
            if (persons_forgot(s->persons))
                store_purge(s->store, STORE_PURGE_ALL, (struct slice){NULL, 0});
            return;
        }
        key.partition = person.partition;
        if (p->kind == LEVEL_DROP_PLACE)
            store_forget_place(s->store, person.partition, origin, text_of(p));
        else
            store_drop_partition(s->store, &key);
        explicit_bzero(&person, sizeof(person));
        return;
    case LEVEL_DROP_KEY:
        store_purge(s->store, STORE_PURGE_KEY, text_of(p));
        return;
    case LEVEL_DROP_PREFIX:
        store_purge(s->store, STORE_PURGE_PREFIX, text_of(p));
        return;
    case LEVEL_DROP_TAG:
        store_purge(s->store, STORE_PURGE_TAG, text_of(p));
        return;
    case LEVEL_DROP_TAG_PREFIX:
        store_purge(s->store, STORE_PURGE_TAG_PREFIX, text_of(p));
        return;
    case LEVEL_DROP_ALL:
        store_purge(s->store, STORE_PURGE_ALL, text_of(p));
        return;
    default:
        return;
    }
}

/* A purge of our own came back: Redis has it. */
static void confirmed(struct shared *s, uint64_t serial)
{
    struct purge **at = &s->pending, *last = NULL;
    pthread_mutex_lock(&s->lock);
    while (*at) {
        struct purge *p = *at;
        if (p->serial == serial) {
            *at = p->next;
            s->pending_count--;
            free(p);
            continue;
        }
        last = p;
        at = &p->next;
    }
    s->last_pending = last;
    pthread_mutex_unlock(&s->lock);
}

/* Opens what only the person may read. False: it was not written by who knows the credential. */
static bool unseal(struct shared *s, struct hash128 who, struct slice box, struct slice *text, char *room,
                   bool *unknown)
{
    struct person person;
    struct seal_key key;
    *unknown = !persons_by_id(s->persons, who, &person);
    if (*unknown) {
        *text = (struct slice){NULL, 0};
        return true;
    }
    bool ok = box.n >= SEAL_MORE && box.n <= SHARED_PURGE_TEXT + SEAL_MORE &&
              seal_derive(s->sealer, &person.root, "purge", NULL, 0, &key) &&
              seal_open(s->sealer, &key, (struct slice){(const char *)&who, sizeof(who)}, box, room);
    *text = (struct slice){room, ok ? box.n - SEAL_MORE : 0};
    explicit_bzero(&person, sizeof(person));
    return ok;
}

struct record {
    int kind; /* -1: unknown */
    uint64_t sender, serial;
    struct hash128 who;
    struct slice text;
};

static void read_record(const struct redis_reply *fields, struct record *out)
{
    *out = (struct record){.kind = -1};
    for (size_t i = 0; i + 1 < fields->count; i += 2) {
        const struct slice name = fields->items[i]->text, value = fields->items[i + 1]->text;
        if (name.n != 1 || value.n == 0)
            continue;
        for (size_t k = 0; name.p[0] == 'k' && k < sizeof(kinds); k++)
            if (value.p[0] == kinds[k])
                out->kind = (int)k;
        if (name.p[0] == 's')
            out->sender = number_of(value);
        else if (name.p[0] == 'n')
            out->serial = number_of(value);
        else if (name.p[0] == 'w' && value.n == sizeof(out->who))
            memcpy(&out->who, value.p, sizeof(out->who));
        else if (name.p[0] == 't')
            out->text = value;
    }
}

/* One record of a stream. */
static void hear_record(struct shared *s, int which, struct slice id, const struct redis_reply *fields)
{
    struct purge_log *log = &s->logs[which];
    struct record r;
    char room[SHARED_PURGE_TEXT];
    uint64_t stamp = stamp_of(id);
    bool unknown = false;
    if (stamp == 0)
        return;
    snprintf(log->last, sizeof(log->last), "%.*s", (int)id.n, id.p);
    read_record(fields, &r);
    if (log->floor == 0 && which == LOG_PURGES) /* the first one that is still there */
        log->floor = stamp;
    if ((r.kind == LEVEL_DROP_PLACE || r.kind == LEVEL_DROP_PARTITION) &&
        !unseal(s, r.who, r.text, &r.text, room, &unknown))
        shared_count(&s->counts.damaged, 1); /* made up: nobody is to believe it */
    else if (r.kind == KIND_BEGIN)
        log->floor = stamp;
    else if (r.kind >= 0 && r.text.n <= SHARED_PURGE_TEXT) {
        struct purge *p = purge_new((enum level_drop_kind)r.kind, r.who, r.text);
        if (!p) { /* cannot be remembered: nothing from before is used any more */
            log->floor = stamp;
            return;
        }
        p->stamp = stamp;
        p->sealed = unknown;
        shared_count(&s->counts.purges_heard, r.sender != s->me);
        if (r.sender != s->me)
            carry_out(s, p);
        log_add(log, p);
        if (r.sender == s->me)
            confirmed(s, r.serial);
    }
    atomic_store(&s->stamps[which], stamp);
}

static size_t hear_stream(struct shared *s, const struct redis_reply *stream)
{
    if (stream->kind != REDIS_LIST || stream->count != 2 || stream->items[1]->kind != REDIS_LIST)
        return 0;
    const struct redis_reply *records = stream->items[1];
    struct slice key = stream->items[0]->text;
    int which = slice_equal(key, (struct slice){s->logs[0].key, strlen(s->logs[0].key)}) ? 0 : 1;
    for (size_t i = 0; i < records->count; i++) {
        const struct redis_reply *record = records->items[i];
        if (record->kind == REDIS_LIST && record->count == 2 && record->items[1]->kind == REDIS_LIST)
            hear_record(s, which, record->items[0]->text, record->items[1]);
    }
    return records->count;
}

static void begun(void *arg, const struct redis_reply *reply)
{
    if (reply)
        shared_hear(arg);
}

static void begin_stream(struct shared *s)
{
    char most[16];
    const struct purge_log *log = &s->logs[LOG_PURGES];
    struct slice words[] = {SLICE("XADD"),   {log->key, strlen(log->key)},
                            SLICE("MAXLEN"), {most, (size_t)snprintf(most, sizeof(most), "%u", log->most)},
                            SLICE("*"),      SLICE("k"),
                            SLICE("b")};
    bool sent = redis_send(s->tell, words, ARRAY_LEN(words), SHARED_WRITE_TIMEOUT, begun, s);
    (void)sent; /* else at the next turn */
}

static void heard(void *arg, const struct redis_reply *reply)
{
    struct shared *s = arg;
    size_t count = 0;
    s->hearing = false;
    if (!reply || reply->kind == REDIS_ERROR) {
        s->logs[0].whole = false;
        shared_judge(s);
        return; /* read on when the connection is back, or at the next turn */
    }
    for (size_t i = 0; reply->kind == REDIS_LIST && i < reply->count; i++)
        count += hear_stream(s, reply->items[i]);
    if (reply->kind == REDIS_NIL && s->logs[LOG_PURGES].floor == 0)
        begin_stream(s);
    s->logs[0].whole =
        reply->kind == REDIS_NIL ? s->logs[LOG_PURGES].floor != 0 : s->logs[0].whole || count == 0;
    shared_judge(s);
    shared_hear(s);
}

void shared_hear(struct shared *s)
{
    struct purge_log *a = &s->logs[0], *b = &s->logs[1];
    struct slice words[10] = {SLICE("XREAD"), SLICE("COUNT"), SLICE(HEAR_COUNT)};
    size_t n = 3;
    if (s->hearing)
        return;
    if (a->whole) { /* else it must not wait: it wants to know that there is no more */
        words[n++] = SLICE("BLOCK");
        words[n++] = SLICE(HEAR_BLOCK_MS);
    }
    words[n++] = SLICE("STREAMS");
    words[n++] = (struct slice){a->key, strlen(a->key)};
    words[n++] = (struct slice){b->key, strlen(b->key)};
    words[n++] = (struct slice){a->last, strlen(a->last)};
    words[n++] = (struct slice){b->last, strlen(b->last)};
    s->hearing = redis_send(s->hear, words, n, a->whole ? HEAR_TIMEOUT : TICK_S, heard, s);
    if (!s->hearing)
        a->whole = false;
}

bool shared_hears(const struct shared *s)
{
    return s->logs[0].whole;
}

void shared_purge_dispose(struct shared *s)
{
    clear_pending(s);
    for (int i = 0; i < 2; i++)
        for (unsigned j = 0; j < s->logs[i].count; j++)
            free(s->logs[i].at[(s->logs[i].first + j) % s->logs[i].most]);
}
