/*
 * Misses of get_prompt that go to the upstream as one batch_get. A miss that leads a fill takes a seat in the
 * gather of its kind and waits in PHASE_GATHER; the gather's host is an exchange without a client on the
 * worker where it was opened, which sends the batch when the window is over and then answers every seat by
 * letter: with what the single call would have given, or with nothing, and then the miss goes singly.
 * Invariants:
 * - a seat is answered once, whatever becomes of its client, the host or the upstream;
 * - only what was written by shapes that are proven, from an item that looks like those compared, under the
 * same head fields, is ever given to a client or to the cache;
 * - a batch is one call for admission, breaker, pool and metrics; who waits keeps its own deadline.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/exchange_batch.h"

/* ---- kinds ---- */

struct hash128 batch_kind_id(struct exchange *x, struct slice project)
{
    struct hash_state h;
    uint64_t drop = exchange_dropped_fields(x);
    batcher_hash(batcher_of(x), &h);
    hash_feed_u64(&h, x->look.key.partition.lo);
    hash_feed_u64(&h, x->look.key.partition.hi);
    hash_feed_u64(&h, project.p != NULL);
    hash_feed_text(&h, project);
    for (int i = 0; i < x->req.field_count; i++) {
        if (!batch_field_counts(&x->req, i) || ((drop >> x->req.fields[i].id) & 1))
            continue;
        hash_feed_text_nocase(&h, head_name(&x->req, i));
        hash_feed_text(&h, head_value(&x->req, i));
    }
    return hash_end(&h);
}

/* ---- calls ---- */

struct exchange *batch_call_new(struct exchange *x, const struct head *from, struct batch_kind *kind,
                                struct slice project, enum batch_purpose purpose)
{
    struct batch_call *call = calloc(1, sizeof *call);
    struct batch_head *head = call ? batch_head_new(from, exchange_dropped_fields(x)) : NULL;
    struct exchange *c = head ? exchange_new(x->w) : NULL;
    if (!c) {
        batch_head_free(head);
        free(call);
        return NULL;
    }
    settings_unref(c->settings);
    c->settings = settings_ref(x->settings);
    call->purpose = purpose;
    call->exchange = c;
    call->kind = kind;
    call->head = head;
    call->form = BATCH_FORM_OWN;
    if (project.p) {
        memcpy(call->project_bytes, project.p, project.n);
        call->project = (struct slice){call->project_bytes, project.n};
    }
    c->call = call;
    c->refresh = c->kept = c->idempotent = c->body_whole = true;
    exchange_inherit_credential(c, x);
    tracing_begin_behind(c, x);
    request_id_make(c->id, &x->w->rng);
    c->request_id = (struct slice){c->id, REQUEST_ID_LEN};
    return c;
}

void batch_call_free(struct batch_call *call, struct batcher *b)
{
    batcher_leave(b, call->kind);
    batch_head_free(call->head);
    free(call->wanted);
    batch_client_free(call);
    batch_result_unref(call->result);
    text_dispose(&call->answer);
    text_dispose(&call->single);
    free(call);
}

static void set_route(struct exchange *c)
{
    routes_find(c->settings->p->routes, (enum method)c->req.method, head_path(&c->req), &c->route);
    c->o.operation = c->settings->p->operations[c->route.route->operation];
    c->o.route = c->settings->p->templates[c->route.route->number];
    c->o.method = c->req.method;
    if (c->route.route->timeout > 0)
        c->deadline = worker_now(c->w) + c->route.route->timeout;
}

/* The request for call->wanted. False: no memory. */
static bool write_request(struct exchange *c)
{
    struct batch_call *call = c->call;
    struct batch_request like = {.project = call->project,
                                 .has_project = call->project.p != NULL,
                                 .versions = BATCH_FALSE,
                                 .metadata = BATCH_TRUE};
    struct text body = {0};
    bool good = batch_request_write(&like, call->wanted, call->count, &body);
    c->body.p = body.p;
    c->body.len = body.n;
    c->body.cap = body.cap;
    c->req = *batch_head_post(call->head, body.n);
    return good;
}

void batch_call_send(struct exchange *c)
{
    bool good = write_request(c);
    set_route(c);
    if (good)
        exchange_forward(c);
    else
        exchange_over(c, false);
}

void batch_call_get(struct exchange *c, struct slice id)
{
    c->req = *batch_head_get(c->call->head, id, c->call->project);
    set_route(c);
    exchange_forward(c);
}

/* ---- the call's answer: hooks of exchange_relay.c ---- */

bool exchange_call_answered(struct exchange *c, const struct head *response)
{
    struct batch_call *call = c->call;
    bool usable =
        response->status == 200 && !head_has(response, FIELD_CONTENT_ENCODING) && response->body != BODY_NONE;
    call->result = usable ? batch_result_new(response) : NULL;
    /* A success that cannot be used is no answer to a question that was not the client's. */
    call->captured = call->result || (call->purpose == CALL_REST && response->status < 300);
    return call->captured && call->purpose != CALL_TEE;
}

bool exchange_call_data(struct exchange *c, struct slice data)
{
    struct batch_call *call = c->call;
    if (!call->captured)
        return false;
    if (call->result && data.n <= BATCH_TEXT_MAX - call->answer.n)
        text_bytes(&call->answer, data.p, data.n);
    else
        call->answer.failed = true;
    if (call->purpose == CALL_TEE)
        return false;
    if (call->answer.failed && !exchange_call_broken(c))
        exchange_over(c, false);
    return true;
}

bool exchange_call_end(struct exchange *c)
{
    c->call->whole = c->call->result && !c->call->answer.failed;
    return c->call->purpose == CALL_REST && c->call->captured && batch_rest_over(c);
}

bool exchange_call_broken(struct exchange *c)
{
    if (c->call->purpose != CALL_REST || !c->call->captured || !c->down || c->replied)
        return false;
    batch_rest_failed(c);
    return true;
}

/* ---- seats ---- */

static void seat_free(struct batch_seat *s)
{
    batch_result_unref(s->result);
    text_dispose(&s->body);
    free(s);
}

/* The answer, as if the upstream had given it to this request alone. */
static void give(struct exchange *x, const struct batch_seat *s)
{
    struct head head = *batch_result_head(s->result);
    head.body = BODY_LENGTH;
    head.content_length = s->body.n;
    head.has_content_length = true;
    exchange_given(x, &head, (struct slice){s->body.p, s->body.n}, s->sent);
}

static void go_alone(struct exchange *x, struct batch_kind *k)
{
    batcher_alone(batcher_of(x), k);
    x->batch_alone = k;
    exchange_forward(x);
}

static void seat_delivered(struct letter *letter, void *owner)
{
    struct batch_seat *s = (struct batch_seat *)letter;
    struct exchange *x = s->x;
    (void)owner;
    if (x) {
        struct batch_kind *k = x->batch_alone;
        x->seat = NULL;
        x->batch_alone = NULL;
        if (s->result) {
            batcher_leave(batcher_of(x), k);
            give(x, s);
        } else {
            go_alone(x, k);
        }
    }
    seat_free(s);
}

static struct batch_seat *seat_new(struct exchange *x, struct slice id)
{
    struct batch_seat *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->letter.deliver = seat_delivered;
    s->to = &x->w->box;
    s->x = x;
    memcpy(s->id_bytes, id.p, id.n);
    s->id = (struct slice){s->id_bytes, id.n};
    return s;
}

/* Nobody waits in it any more; its letter still comes. */
static void leave_seat(struct exchange *x)
{
    atomic_store(&x->seat->left, true);
    x->seat->x = NULL;
    x->seat = NULL;
}

/* ---- the host ---- */

static void post(struct batch_seat *s)
{
    mailbox_post(s->to, &s->letter);
}

bool batch_compose(const struct batch_known *known, struct slice item, struct text *out)
{
    struct batch_object o;
    return batch_object_read(item, &o) && batch_shape_fits(known->item, &o) &&
           batch_shape_write(known->single, &o, out);
}

/* Gives each seat its part. Returns how many got one. */
static unsigned split(struct exchange *c, const struct batch_known *known)
{
    struct batch_call *call = c->call;
    unsigned given = 0;
    for (struct batch_seat *s = call->gather.first; s; s = s->next) {
        if (!s->wanted || atomic_load(&s->left))
            continue;
        struct slice item = s->wanted->item;
        if (!item.p || !batch_compose(known, item, &s->body)) {
            text_clear(&s->body);
            continue;
        }
        s->result = batch_result_ref(call->result);
        s->sent = c->sent_at;
        given++;
    }
    return given;
}

bool batch_head_is_known(struct exchange *c, const struct batch_known *known)
{
    struct hash128 fields;
    return batch_fields_of_head(batcher_of(c), batch_result_head(c->call->result), &fields) &&
           hash_equal(fields, known->fields);
}

static unsigned answer_seats(struct exchange *c)
{
    struct batch_call *call = c->call;
    struct batch_known known;
    struct batch_answer answer;
    unsigned given = 0;
    if (!call->whole || !batch_answer_read((struct slice){call->answer.p, call->answer.n}, call->wanted,
                                           call->count, &answer))
        return 0;
    batcher_known(batcher_of(c), call->kind, call->form, &known, worker_now(c->w));
    bool looks_so = known.to_single && known.single && known.item && batch_head_is_known(c, &known);
    if (looks_so)
        given = split(c, &known);
    else if (known.to_single)
        batcher_unlike(batcher_of(c), call->kind, call->form);
    batch_known_drop(&known);
    return given;
}

/* The seats are all that is left of the batch: each gets its letter, and may be gone then. */
static void release_seats(struct batch_call *call)
{
    for (struct batch_seat *s = call->gather.first, *next; s; s = next) {
        next = s->next;
        post(s);
    }
    call->gather.first = NULL;
}

static void batch_over(struct exchange *c)
{
    struct batch_call *call = c->call;
    if (!call->closed) /* it never came to sending */
        batcher_close(batcher_of(c), &call->gather);
    if (call->count > 0)
        batcher_batch_over(batcher_of(c), call->kind, call->count, answer_seats(c), worker_now(c->w));
    release_seats(call);
}

/* Those who are still there, as a list of prompts. False: no memory. */
static bool list_seats(struct batch_call *call)
{
    unsigned n = 0;
    call->wanted = calloc(call->gather.count, sizeof *call->wanted);
    if (!call->wanted)
        return false;
    for (struct batch_seat *s = call->gather.first; s; s = s->next)
        if (!atomic_load(&s->left)) {
            s->wanted = &call->wanted[n++];
            s->wanted->id = s->id;
        }
    call->count = n;
    return true;
}

/* The window is over. Whoever comes while the batch waits for its turn at the upstream still joins it. */
static void window_over(struct exchange *c)
{
    struct batch_call *call = c->call;
    bool tight;
    if (batcher_gathered(batcher_of(c), &call->gather, &tight) < 2 && !tight) {
        exchange_over(c, true); /* who is alone goes alone */
        return;
    }
    c->for_clients = true;
    c->req = *batch_head_post(call->head, 0);
    set_route(c);
    exchange_forward(c);
}

bool exchange_batch_close(struct exchange *c)
{
    struct batch_call *call = c->call;
    if (call->purpose != CALL_BATCH || call->closed)
        return true;
    call->closed = true;
    batcher_close(batcher_of(c), &call->gather);
    bool good = list_seats(call) && call->count > 0 && write_request(c) && exchange_hash_body(c);
    if (!good) {
        exchange_over(c, call->count == 0);
        return false;
    }
    c->batch = (uint16_t)call->count;
    return true;
}

void exchange_batch_turn(struct exchange *x)
{
    if (x->call) {
        window_over(x);
        return;
    }
    struct batch_kind *k = x->batch_alone;
    x->batch_alone = NULL;
    leave_seat(x); /* it takes too long */
    go_alone(x, k);
}

/* ---- a miss ---- */

static bool eligible(const struct exchange *x, struct batch_target *target)
{
    return x->down && exchange_plain_request(x) && x->req.body == BODY_NONE && !x->req.upgrade &&
           !x->client_signed && x_config(x)->preset == CONFIG_PRESET_PROMPTOPS && x->fill && !x->entry &&
           !head_has(&x->req, FIELD_CACHE_CONTROL) && !head_has(&x->req, FIELD_PRAGMA) &&
           batch_target_read(head_path(&x->req), target);
}

/* How long a miss waits for its batch: half of what time it has, so that it can still go singly. */
static tick_t patience(const struct exchange *x)
{
    const struct config *cfg = x_config(x);
    tick_t now = worker_now(((struct exchange *)x)->w);
    tick_t wait = cfg->batching_window + cfg->pool_acquire_timeout + cfg->upstream_response_timeout;
    if (x->deadline != TICK_NEVER && (x->deadline - now) / 2 < wait)
        wait = (x->deadline - now) / 2;
    return now + wait;
}

static void wait_seated(struct exchange *x, struct batch_seat *s, struct batch_kind *k)
{
    x->seat = s;
    x->batch_alone = k; /* its reference is kept here meanwhile */
    exchange_set_phase(x, PHASE_GATHER);
    exchange_arm(x, patience(x));
}

/* False: no memory. */
static bool open_gather(struct exchange *x, struct batch_kind *k, const struct batch_miss *miss,
                        struct slice project)
{
    struct exchange *c = batch_call_new(x, &x->req, k, project, CALL_BATCH);
    if (!c)
        return false;
    struct batch_gather *g = &c->call->gather;
    g->host = x->w;
    g->most = (unsigned)x_config(x)->batching_max_batch;
    exchange_set_phase(c, PHASE_GATHER);
    batcher_open(batcher_of(x), k, g, miss); /* takes a reference of its own, the call's */
    exchange_arm(c, worker_now(x->w) + x_config(x)->batching_window);
    return true;
}

static struct exchange *host_of(struct batch_gather *g)
{
    struct batch_call *call = (struct batch_call *)((char *)g - offsetof(struct batch_call, gather));
    return call->exchange;
}

/* Settles what becomes of the miss. True: it waits. */
static bool settle(struct exchange *x, struct batch_kind *k, const struct batch_target *target)
{
    struct batcher *b = batcher_of(x);
    tick_t now = worker_now(x->w);
    struct batch_gather *full = NULL;
    struct batch_seat *s = seat_new(x, target->id);
    struct batch_miss miss = {
        .tight = !admit_background_allowed(x->w->service->admit, exchange_quota_credential(x), now),
        .host = x->w,
        .seat = s,
    };
    enum batch_choice choice = s ? batcher_miss(b, k, &miss, &full, now) : BATCH_OPENS;
    if (choice == BATCH_OPENS && (!s || !open_gather(x, k, &miss, target->project))) {
        batcher_alone(b, k);
        choice = BATCH_ALONE;
    }
    if (choice == BATCH_ALONE) {
        free(s);
        x->batch_alone = k;
        return false;
    }
    wait_seated(x, s, k);
    if (choice == BATCH_FILLED && host_of(full)->phase == PHASE_GATHER)
        window_over(host_of(full));
    return true;
}

bool exchange_batch(struct exchange *x)
{
    struct batch_target target;
    if (x->batch_alone || !eligible(x, &target) || !exchange_keep_head(x) ||
        !batch_target_read(head_path(&x->req), &target))
        return false;
    struct batch_kind *k = batcher_kind(batcher_of(x), batch_kind_id(x, target.project), worker_now(x->w));
    return k && settle(x, k, &target);
}

/* ---- ends ---- */

/* Starts a call that compares what single calls brought, when it is time. */
static void compare_when_due(struct exchange *x, struct batch_kind *k, struct slice project)
{
    struct batcher *b = batcher_of(x);
    tick_t now = worker_now(x->w);
    struct batch_candidates found;
    if (x->w->stopping || !x_config(x)->batching_enabled || !batcher_candidates(b, k, &found, now))
        return;
    struct exchange *c = batch_call_new(x, &x->req, k, project, CALL_COMPARE);
    if (!c) {
        batcher_compared_all(b, k, false, now);
        batcher_leave(b, k);
        return;
    }
    struct batch_call *call = c->call;
    call->candidates = found;
    c->for_clients = found.urgent; /* one call that may save many */
    call->wanted = calloc(found.count, sizeof *call->wanted);
    call->count = call->wanted ? found.count : 0;
    for (unsigned i = 0; i < call->count; i++)
        call->wanted[i].id = (struct slice){call->candidates.ids[i], call->candidates.lengths[i]};
    if (call->count)
        batch_call_send(c);
    else
        exchange_over(c, false);
}

static void alone_over(struct exchange *x, bool whole)
{
    struct batch_kind *k = x->batch_alone;
    struct batch_target target;
    bool good = whole && x->stored && x->o.status == 200 && batch_target_read(head_path(&x->req), &target);
    x->batch_alone = NULL;
    batcher_alone_over(batcher_of(x), k, good ? target.id : (struct slice){NULL, 0}, good);
    if (good)
        compare_when_due(x, k, target.project);
    batcher_leave(batcher_of(x), k);
}

void exchange_batch_over(struct exchange *x, bool whole)
{
    struct batch_kind *k = x->batch_alone;
    if (x->seat) {
        leave_seat(x);
        x->batch_alone = NULL;
        batcher_leave(batcher_of(x), k);
    } else if (k) {
        alone_over(x, whole);
    }
    if (!x->call)
        return;
    switch (x->call->purpose) {
    case CALL_BATCH:
        batch_over(x);
        break;
    case CALL_COMPARE:
        batch_compare_over(x);
        break;
    case CALL_AGAIN:
        batch_again_over(x);
        break;
    case CALL_TEE:
    case CALL_REST:
        batch_client_over(x);
        break;
    }
    batch_call_free(x->call, batcher_of(x));
    x->call = NULL;
}
