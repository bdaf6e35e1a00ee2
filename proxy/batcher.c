/*
 * Kinds, gathers and proofs. Invariants: all of it is behind one lock, under which nothing is sent, parsed or
 * waited for; a gather is joined only while its kind points to it, which its close ends; a kind with a
 * reference is never forgotten.
 */
#include "proxy/batcher.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/log.h"
#include "proxy/view.h"

struct form {
    struct batch_proof to_single, to_item;
    struct batch_shape *single, *item;
    struct hash128 fields;
    struct batch_envelope envelope;
    bool has_envelope;
};

struct batch_kind {
    struct hash128 id;
    unsigned refs;
    tick_t used;
    struct batch_gather *open;
    unsigned alone;
    bool comparing;
    bool in_use;                    /* answers rested on a proof since they were compared */
    unsigned suspect, suspect_item; /* differences that are being looked at */
    struct batch_pause pause, compare_pause;
    struct batch_candidates candidates;
    struct form forms[BATCH_FORMS];
    uint64_t batches, asked, answered;
    char why[96]; /* of the last difference */
};

struct batcher {
    pthread_mutex_t lock;
    struct hash_key key;
    struct log *log;
    struct batch_kind *kinds[BATCH_KINDS];
    unsigned count;
    uint64_t batches, asked, answered, alone, equal, differed, client_batches, client_asked, client_stored;
};

/* ---- life ---- */

struct batcher *batcher_new(struct hash_key key, struct log *log)
{
    struct batcher *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    if (pthread_mutex_init(&b->lock, NULL) != 0) {
        free(b);
        return NULL;
    }
    b->key = key;
    b->log = log;
    return b;
}

static void forget_form(struct form *f)
{
    batch_shape_unref(f->single);
    batch_shape_unref(f->item);
    f->single = f->item = NULL;
    f->has_envelope = false;
}

static void kind_free(struct batch_kind *k)
{
    for (int i = 0; k && i < BATCH_FORMS; i++)
        forget_form(&k->forms[i]);
    free(k);
}

void batcher_free(struct batcher *b)
{
    if (!b)
        return;
    for (unsigned i = 0; i < b->count; i++)
        kind_free(b->kinds[i]);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

void batcher_hash(const struct batcher *b, struct hash_state *out)
{
    hash_init(out, b->key);
}

/* A place for one more: a free one, or that of the least recently used that nobody holds. */
static struct batch_kind **place(struct batcher *b)
{
    struct batch_kind **oldest = NULL;
    if (b->count < BATCH_KINDS)
        return &b->kinds[b->count];
    for (unsigned i = 0; i < b->count; i++)
        if (b->kinds[i]->refs == 0 && (!oldest || b->kinds[i]->used < (*oldest)->used))
            oldest = &b->kinds[i];
    return oldest;
}

struct batch_kind *batcher_kind(struct batcher *b, struct hash128 id, tick_t now)
{
    struct batch_kind *k = NULL;
    pthread_mutex_lock(&b->lock);
    for (unsigned i = 0; i < b->count && !k; i++)
        if (hash_equal(b->kinds[i]->id, id))
            k = b->kinds[i];
    struct batch_kind **at = k ? NULL : place(b);
    struct batch_kind *fresh = at ? calloc(1, sizeof *fresh) : NULL;
    if (fresh) {
        if (at == &b->kinds[b->count])
            b->count++;
        else
            kind_free(*at);
        fresh->id = id;
        *at = k = fresh;
    }
    if (k) {
        k->refs++;
        k->used = now;
    }
    pthread_mutex_unlock(&b->lock);
    return k;
}

void batcher_leave(struct batcher *b, struct batch_kind *k)
{
    if (!k)
        return;
    pthread_mutex_lock(&b->lock);
    k->refs--;
    pthread_mutex_unlock(&b->lock);
}

/* ---- misses that wait ---- */

static bool proven(const struct batch_kind *k)
{
    return k->forms[BATCH_FORM_OWN].to_single.state == BATCH_PROVEN && !k->suspect;
}

static void seat(struct batch_gather *g, const struct batch_miss *miss)
{
    miss->seat->next = NULL;
    *g->last = miss->seat;
    g->last = &miss->seat->next;
    g->count++;
    g->tight = g->tight || miss->tight;
}

enum batch_choice batcher_miss(struct batcher *b, struct batch_kind *k, const struct batch_miss *miss,
                               struct batch_gather **gather, tick_t now)
{
    enum batch_choice choice = BATCH_ALONE;
    pthread_mutex_lock(&b->lock);
    struct batch_gather *open = k->open;
    struct batch_facts facts = {
        .proven = proven(k),
        .tight = miss->tight,
        .paused = now < k->pause.until,
        .gathered = open ? open->count : 0,
        .alone = k->alone,
    };
    bool sample = batch_proof_wants_sample(&k->forms[BATCH_FORM_OWN].to_single, now) && k->alone == 0;
    if (!sample && batch_worth_waiting(&facts))
        choice = open ? BATCH_WAITS : BATCH_OPENS;
    if (choice == BATCH_WAITS) {
        seat(open, miss);
        if (open->count == open->most) {
            k->open = NULL;
            choice = open->host == miss->host ? BATCH_FILLED : BATCH_WAITS;
            *gather = open;
        }
    }
    if (choice == BATCH_ALONE) {
        k->alone++;
        b->alone++;
    }
    pthread_mutex_unlock(&b->lock);
    return choice;
}

void batcher_open(struct batcher *b, struct batch_kind *k, struct batch_gather *gather,
                  const struct batch_miss *first)
{
    pthread_mutex_lock(&b->lock);
    gather->kind = k;
    gather->last = &gather->first;
    seat(gather, first);
    k->refs++;
    k->open = gather; /* another that two opened at the same time goes on by itself */
    pthread_mutex_unlock(&b->lock);
}

unsigned batcher_gathered(struct batcher *b, struct batch_gather *gather, bool *tight)
{
    pthread_mutex_lock(&b->lock);
    unsigned count = gather->count;
    *tight = gather->tight;
    pthread_mutex_unlock(&b->lock);
    return count;
}

void batcher_close(struct batcher *b, struct batch_gather *gather)
{
    pthread_mutex_lock(&b->lock);
    if (gather->kind->open == gather)
        gather->kind->open = NULL;
    pthread_mutex_unlock(&b->lock);
}

void batcher_alone(struct batcher *b, struct batch_kind *k)
{
    pthread_mutex_lock(&b->lock);
    k->alone++;
    b->alone++;
    pthread_mutex_unlock(&b->lock);
}

static bool have(const struct batch_candidates *c, struct slice id)
{
    for (unsigned i = 0; i < c->count; i++)
        if (slice_equal((struct slice){c->ids[i], c->lengths[i]}, id))
            return true;
    return false;
}

/* The newest few. */
static void remember(struct batch_candidates *c, struct slice id)
{
    if (id.n > BATCH_ID_MAX || have(c, id))
        return;
    if (c->count == BATCH_CANDIDATES) {
        memmove(c->ids[0], c->ids[1], sizeof c->ids - sizeof c->ids[0]);
        memmove(c->lengths, c->lengths + 1, sizeof c->lengths - 1);
        c->count--;
    }
    memcpy(c->ids[c->count], id.p, id.n);
    c->lengths[c->count++] = (uint8_t)id.n;
}

void batcher_alone_over(struct batcher *b, struct batch_kind *k, struct slice id, bool stored)
{
    pthread_mutex_lock(&b->lock);
    k->alone--;
    if (stored)
        remember(&k->candidates, id);
    pthread_mutex_unlock(&b->lock);
}

/* ---- proofs ---- */

void batcher_known(struct batcher *b, struct batch_kind *k, unsigned form, struct batch_known *out,
                   tick_t now)
{
    pthread_mutex_lock(&b->lock);
    struct form *f = &k->forms[form];
    *out = (struct batch_known){
        .single = f->single ? batch_shape_ref(f->single) : NULL,
        .item = f->item ? batch_shape_ref(f->item) : NULL,
        .fields = f->fields,
        .envelope = f->envelope,
        .has_envelope = f->has_envelope,
        .to_single = f->to_single.state == BATCH_PROVEN && !k->suspect,
        .refuted = f->to_single.state == BATCH_REFUTED && now < f->to_single.again_at,
        .to_item = f->to_item.state == BATCH_PROVEN && !k->suspect_item &&
                   !batch_proof_wants_sample(&f->to_item, now),
    };
    pthread_mutex_unlock(&b->lock);
}

void batch_known_drop(struct batch_known *known)
{
    batch_shape_unref(known->single);
    batch_shape_unref(known->item);
    known->single = known->item = NULL;
}

unsigned batcher_candidates(struct batcher *b, struct batch_kind *k, struct batch_candidates *out, tick_t now)
{
    out->count = 0;
    pthread_mutex_lock(&b->lock);
    const struct batch_proof *p = &k->forms[BATCH_FORM_OWN].to_single;
    bool idle = p->state == BATCH_PROVEN && !k->in_use;
    if (!k->comparing && !idle && now >= k->compare_pause.until &&
        batch_proof_due(p, k->candidates.count, now)) {
        *out = k->candidates;
        out->urgent = p->state == BATCH_UNPROVEN;
        k->candidates.count = 0;
        k->comparing = true;
        k->in_use = false;
        k->refs++;
    }
    pthread_mutex_unlock(&b->lock);
    return out->count;
}

void batcher_compared_all(struct batcher *b, struct batch_kind *k, bool answered, tick_t now)
{
    pthread_mutex_lock(&b->lock);
    k->comparing = false;
    if (answered)
        batch_pause_worked(&k->compare_pause);
    else
        batch_pause_failed(&k->compare_pause, now);
    pthread_mutex_unlock(&b->lock);
}

void batcher_suspect(struct batcher *b, struct batch_kind *k, bool item)
{
    pthread_mutex_lock(&b->lock);
    k->suspect++;
    k->suspect_item += item;
    k->refs++;
    pthread_mutex_unlock(&b->lock);
}

void batcher_trust(struct batcher *b, struct batch_kind *k, bool item)
{
    pthread_mutex_lock(&b->lock);
    k->suspect--;
    k->suspect_item -= item;
    pthread_mutex_unlock(&b->lock);
}

static void learn(struct form *f, const struct batch_comparison *c)
{
    if (!f->single && c->single && c->item) {
        f->single = batch_shape_ref(c->single);
        f->item = batch_shape_ref(c->item);
        f->fields = c->fields;
    }
    if (c->envelope && !f->has_envelope) {
        f->envelope = *c->envelope;
        f->has_envelope = true;
    }
}

/* Returns what is worth a line in the log: 1 proven now, -1 refuted now. */
static int judge(struct batch_proof *p, bool equal, tick_t now)
{
    enum batch_proof_state before = p->state;
    if (!equal)
        return batch_proof_differs(p, now) ? -1 : 0;
    batch_proof_equal(p, now);
    return before != BATCH_PROVEN && p->state == BATCH_PROVEN;
}

void batcher_compared(struct batcher *b, struct batch_kind *k, const struct batch_comparison *c, tick_t now)
{
    pthread_mutex_lock(&b->lock);
    struct form *f = &k->forms[c->form];
    learn(f, c);
    int news = c->item_only ? 0 : judge(&f->to_single, c->to_single, now);
    (void)judge(&f->to_item, c->to_item, now);
    if (!c->item_only) {
        b->equal += c->to_single;
        b->differed += !c->to_single;
    }
    if (!c->to_single && !c->item_only)
        snprintf(k->why, sizeof k->why, "%s", c->why ? c->why : "");
    if (!c->to_single && !c->to_item)
        forget_form(f); /* what comes after may look otherwise */
    unsigned name = (unsigned)(k->id.hi & 0xffffffff);
    pthread_mutex_unlock(&b->lock);
    if (!news || !b->log || c->form != BATCH_FORM_OWN)
        return;
    if (news > 0)
        log_write(
            b->log, LOG_INFO, "batching",
            "kind %08x: batch_get was shown to answer as get_prompt does; misses go together from now on",
            name);
    else
        log_write(b->log, LOG_WARNING, "batching",
                  "kind %08x: batch_get does not answer as get_prompt does (%s); misses go singly", name,
                  c->why ? c->why : "they differ");
}

void batcher_unlike(struct batcher *b, struct batch_kind *k, unsigned form)
{
    pthread_mutex_lock(&b->lock);
    struct form *f = &k->forms[form];
    forget_form(f);
    f->to_single = f->to_item = (struct batch_proof){.compared = f->to_single.compared};
    pthread_mutex_unlock(&b->lock);
}

/* ---- batches ---- */

void batcher_batch_over(struct batcher *b, struct batch_kind *k, unsigned asked, unsigned answered,
                        tick_t now)
{
    pthread_mutex_lock(&b->lock);
    k->in_use = true;
    k->batches++;
    k->asked += asked;
    k->answered += answered;
    b->batches++;
    b->asked += asked;
    b->answered += answered;
    if (answered > 0)
        batch_pause_worked(&k->pause);
    else
        batch_pause_failed(&k->pause, now);
    pthread_mutex_unlock(&b->lock);
}

void batcher_client_over(struct batcher *b, struct batch_kind *k, unsigned asked, unsigned stored)
{
    pthread_mutex_lock(&b->lock);
    k->in_use = k->in_use || stored > 0;
    b->client_batches++;
    b->client_asked += asked;
    b->client_stored += stored;
    pthread_mutex_unlock(&b->lock);
}

unsigned batcher_refuted(struct batcher *b)
{
    unsigned n = 0;
    pthread_mutex_lock(&b->lock);
    for (unsigned i = 0; i < b->count; i++)
        n += b->kinds[i]->forms[BATCH_FORM_OWN].to_single.state == BATCH_REFUTED;
    pthread_mutex_unlock(&b->lock);
    return n;
}

static void show_kind(const struct batch_kind *k, struct view *v, tick_t now)
{
    const struct form *own = &k->forms[BATCH_FORM_OWN];
    char name[20];
    snprintf(name, sizeof name, "%08x", (unsigned)(k->id.hi & 0xffffffff));
    view_object(v, NULL);
    view_text(v, "kind", name);
    view_text(v, "state", batch_proof_name(own->to_single.state));
    view_text(v, "batches_from_cache", batch_proof_name(own->to_item.state));
    view_uint(v, "compared", own->to_single.compared);
    view_text(v, "difference", own->to_single.state == BATCH_REFUTED ? k->why : NULL);
    view_uint(v, "batches", k->batches);
    view_uint(v, "prompts", k->asked);
    view_uint(v, "answered", k->answered);
    view_bool(v, "paused", now < k->pause.until);
    view_end(v);
}

void batcher_show(struct batcher *b, struct view *v, tick_t now)
{
    pthread_mutex_lock(&b->lock);
    view_uint(v, "batches", b->batches);
    view_uint(v, "prompts", b->asked);
    view_uint(v, "answered", b->answered);
    view_uint(v, "alone", b->alone);
    view_uint(v, "equal", b->equal);
    view_uint(v, "different", b->differed);
    view_uint(v, "client_batches", b->client_batches);
    view_uint(v, "client_prompts", b->client_asked);
    view_uint(v, "client_prompts_stored", b->client_stored);
    view_array(v, "kinds");
    for (unsigned i = 0; i < b->count; i++)
        show_kind(b->kinds[i], v, now);
    view_end(v);
    pthread_mutex_unlock(&b->lock);
}
