/*
 * Is an item of a batch the same as the single answer? Compared are bytes: the values of the members as they
 * came, their names, and every field of both heads that is not about the call. Invariants: what is compared
 * was asked for with the same credential, project and fields; a difference counts only when the single call,
 * asked once more, still gives what it gave before the batch: then the prompt did not change in between.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/exchange_batch.h"

enum { RUNS_MAX = 8 };

/* ---- what is stored ---- */

/* False: too long, or no memory. */
static bool copy_body(struct entry *entry, struct text *body)
{
    uint64_t at = 0, left = entry_length(entry);
    if (left > BATCH_TEXT_MAX - body->n)
        return false;
    while (left > 0) {
        struct iovec iov[RUNS_MAX];
        int n = entry_body_iov(entry, at, left, iov, RUNS_MAX);
        if (n <= 0)
            return false;
        for (int i = 0; i < n; i++) {
            text_bytes(body, iov[i].iov_base, iov[i].iov_len);
            at += iov[i].iov_len;
            left -= iov[i].iov_len;
        }
    }
    return !body->failed;
}

struct entry *batch_stored(struct exchange *c, const struct head *get, struct text *body)
{
    struct store_request ask;
    exchange_store_request(c, &ask, NULL, NULL, 0);
    ask.head = get;
    struct entry *entry = store_fresh(c->w->service->store, &ask, c->down != NULL);
    if (entry && (entry_status(entry) != 200 || !copy_body(entry, body))) {
        entry_release(entry);
        entry = NULL;
    }
    return entry;
}

/* ---- one comparison ---- */

static bool same(const struct text *a, struct slice b)
{
    return !a->failed && slice_equal((struct slice){a->p ? a->p : "", a->n}, b);
}

/* Do the values of `from`, written as `to` is, give the bytes of `to`? */
static bool gives(const struct batch_object *from, const struct batch_shape *shape, struct slice to)
{
    struct text out = {0};
    bool good = batch_shape_write(shape, from, &out) && same(&out, to);
    text_dispose(&out);
    return good;
}

/* Is it written as those that were compared before? */
static bool usual(const struct batch_shape *known, const struct batch_object *o)
{
    return !known || batch_shape_fits(known, o);
}

/* The shapes in the result are the caller's. */
static void compare_texts(const struct batch_known *known, struct slice single, struct slice item,
                          struct batch_comparison *out)
{
    struct batch_object s, i;
    out->why = "they cannot be read";
    if (!batch_object_read(single, &s) || !batch_object_read(item, &i))
        return;
    out->why = "the members vary";
    if (!usual(known->single, &s) || !usual(known->item, &i))
        return;
    out->single = batch_shape_new(&s);
    out->item = batch_shape_new(&i);
    if (!out->single || !out->item)
        return;
    out->to_single = gives(&i, out->single, single);
    out->to_item = gives(&s, out->item, item);
    out->why = i.count < s.count ? "members are missing in the batch" : "the values differ";
}

static void compare_heads(struct exchange *c, const struct batch_known *known, struct entry *entry,
                          struct batch_comparison *out)
{
    struct hash128 stored;
    const struct head *head = batch_result_head(c->call->result);
    bool equal = batch_fields_of_entry(batcher_of(c), entry_head(entry), &stored) &&
                 batch_fields_of_head(batcher_of(c), head, &out->fields) && hash_equal(stored, out->fields) &&
                 (!known->single || hash_equal(known->fields, stored));
    if (equal)
        return;
    if (out->to_single)
        out->why = "the header fields differ";
    out->to_single = out->to_item = false;
}

/* ---- a difference ---- */

/* Asks for the single answer once more. */
static void look_again(struct exchange *c, const struct batch_wanted *w, const struct head *get,
                       struct text *single, const struct batch_comparison *found)
{
    struct batch_kind *k = c->call->kind;
    if (c->w->stopping)
        return;
    batcher_suspect(batcher_of(c), k, !found->to_item); /* with a reference, the call's */
    struct exchange *again = batch_call_new(c, get, k, c->call->project, CALL_AGAIN);
    if (!again) {
        batcher_trust(batcher_of(c), k, !found->to_item);
        batcher_leave(batcher_of(c), k);
        return;
    }
    again->call->comparison = *found;
    again->call->comparison.single = again->call->comparison.item = NULL;
    again->call->comparison.envelope = NULL;
    again->call->single = *single;
    *single = (struct text){0};
    again->for_clients = true;
    batch_call_get(again, w->id);
}

void batch_again_over(struct exchange *c)
{
    struct batch_call *call = c->call;
    tick_t now = worker_now(c->w);
    batcher_trust(batcher_of(c), call->kind, !call->comparison.to_item);
    if (call->whole && same(&call->single, (struct slice){call->answer.p, call->answer.n}))
        batcher_compared(batcher_of(c), call->kind, &call->comparison, now);
}

/* ---- many ---- */

/* `looks`: a difference may be looked into. Returns whether one is. */
static bool compare_one(struct exchange *c, const struct batch_wanted *w, unsigned form,
                        const struct batch_envelope *envelope, bool looks)
{
    struct batch_call *call = c->call;
    struct batch_comparison found = {.form = form, .envelope = envelope};
    struct batch_known known;
    struct text single = {0};
    const struct head *get = batch_head_get(call->head, w->id, call->project);
    struct entry *entry = batch_stored(c, get, &single);
    if (!entry) { /* it is gone: nothing to compare with */
        text_dispose(&single);
        return false;
    }
    batcher_known(batcher_of(c), call->kind, form, &known, worker_now(c->w));
    if (w->item.p)
        compare_texts(&known, (struct slice){single.p ? single.p : "", single.n}, w->item, &found);
    else
        found.why = "the batch does not have it";
    compare_heads(c, &known, entry, &found);
    /* That a form of a client's has fewer members is no surprise; and what is refuted needs no second look.
     */
    bool settled = found.to_single || (found.to_item && (form != BATCH_FORM_OWN || known.refuted));
    found.item_only = !found.to_single && (!settled || known.refuted);
    if (found.to_single || found.to_item)
        batcher_compared(batcher_of(c), call->kind, &found, worker_now(c->w));
    found.item_only = false;
    looks = looks && !settled;
    if (looks)
        look_again(c, w, get, &single, &found);
    batch_shape_unref(found.single);
    batch_shape_unref(found.item);
    batch_known_drop(&known);
    entry_release(entry);
    text_dispose(&single);
    return looks;
}

void batch_compare(struct exchange *c, const struct batch_wanted *wanted, unsigned count, unsigned form,
                   const struct batch_envelope *envelope)
{
    bool looks = true;
    for (unsigned i = 0; i < count; i++)
        if (compare_one(c, &wanted[i], form, envelope, looks))
            looks = false;
}

void batch_compare_over(struct exchange *c)
{
    struct batch_call *call = c->call;
    struct slice text = {call->answer.p, call->answer.n};
    struct batch_envelope envelope;
    struct batch_answer answer;
    bool good = call->whole && batch_answer_read(text, call->wanted, call->count, &answer);
    bool learnt = good && batch_envelope_learn(text, call->wanted, call->count, &answer, &envelope);
    if (good)
        batch_compare(c, call->wanted, call->count, call->form, learnt ? &envelope : NULL);
    batcher_compared_all(batcher_of(c), call->kind, good, worker_now(c->w));
}
