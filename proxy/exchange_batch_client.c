/*
 * A client's own batch_get. Where its form was shown to follow from single answers, it is answered from those
 * that are stored and fresh: whole, or with the rest asked for by a batch_get for what is missing. Else it
 * passes untouched, and its answer is read along: it is compared with what is stored, and fills the entries
 * of its prompts where that is proven. Invariants:
 * - a request is held back only until its body is whole, REQUEST_MAX bytes at most; what is not plainly a
 * batch_get goes up byte by byte as it came;
 * - an answer to a smaller question is never relayed as the answer to the client's: when it cannot be used,
 * the client's own goes up;
 * - an entry is filled only in the name of a fill that stood in the table since before the call, so that a
 * purge meanwhile dooms it.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/exchange_batch.h"
#include "proxy/level.h"

enum { REQUEST_MAX = 64 * 1024 };

struct batch_client {
    struct batch_request request;
    struct batch_known known;
    struct fill **fills; /* one for each prompt that is not stored, else NULL; NULL: none at all */
    struct text made;    /* items out of what is stored */
    unsigned stored;
    unsigned *place; /* REST: of each that is missing, in call->wanted */
    struct batch_wanted *missing;
    unsigned missing_count;
    struct head head; /* REST: the client's, and its body */
    char *body;
    size_t body_len, body_cap;
};

/* ---- the request ---- */

bool exchange_batch_read(struct exchange *x)
{
    const struct config *cfg = x_config(x);
    bool short_enough =
        x->req.body == BODY_CHUNKED ||
        (x->req.body == BODY_LENGTH && x->req.content_length > 0 && x->req.content_length <= REQUEST_MAX);
    if (!cfg->cache_enabled || cfg->preset != CONFIG_PRESET_PROMPTOPS || !x->down ||
        x->req.method != METHOD_POST || !batch_path_is(head_path(&x->req)) || !short_enough)
        return false;
    if (x->client_signed || x->req.expect_continue || x->req.upgrade ||
        head_has(&x->req, FIELD_CACHE_CONTROL) || head_has(&x->req, FIELD_PRAGMA) ||
        head_has(&x->req, FIELD_CONTENT_ENCODING) || !exchange_keep_head(x))
        return false;
    struct batch_call *call = calloc(1, sizeof *call);
    struct batch_client *client = call ? calloc(1, sizeof *client) : NULL;
    if (!client) {
        free(call);
        return false;
    }
    call->purpose = CALL_TEE;
    call->exchange = x;
    call->client = client;
    x->call = call;
    x->reads_batch = true;
    exchange_set_phase(x, PHASE_HOLDING);
    exchange_arm(x, TICK_NEVER);
    return true;
}

/* It passes like any other request. */
static void pass(struct exchange *x)
{
    struct batch_call *call = x->call;
    x->call = NULL;
    x->reads_batch = false;
    batch_call_free(call, batcher_of(x));
    exchange_forward(x);
}

void exchange_batch_read_data(struct exchange *x, struct slice data)
{
    if (!exchange_buffer_body(x, data))
        exchange_request_failed(x, REASON_OUT_OF_MEMORY);
    else if (x->body.len > REQUEST_MAX)
        pass(x);
}

/* ---- what is stored ---- */

/* Everything that has to be known for an answer to be put together. */
static bool knows_items(const struct batch_known *k)
{
    return k->to_item && k->single && k->item && k->has_envelope;
}

/* The item of a prompt out of its stored answer. */
static bool make_item(struct exchange *x, struct batch_client *client, const struct text *single,
                      struct entry *entry)
{
    struct batch_object o;
    struct hash128 fields;
    size_t before = client->made.n;
    if (before <= BATCH_TEXT_MAX && batch_fields_of_entry(batcher_of(x), entry_head(entry), &fields) &&
        hash_equal(fields, client->known.fields) &&
        batch_object_read((struct slice){single->p ? single->p : "", single->n}, &o) &&
        batch_shape_fits(client->known.single, &o) &&
        batch_shape_write(client->known.item, &o, &client->made))
        return true;
    client->made.n = before;
    return false;
}

/* Looks every prompt up. Returns the one with the least time left, of which the caller has a reference; NULL:
 * none is stored. Items are offsets until all are there, as their text may move. */
static struct entry *look_up_all(struct exchange *x)
{
    struct batch_call *call = x->call;
    struct batch_client *client = call->client;
    struct text single = {0};
    struct entry *oldest = NULL;
    tick_t now = worker_now(x->w);
    size_t *at = calloc(call->count + 1, sizeof *at);
    for (unsigned i = 0; at && i < call->count; i++) {
        at[i] = client->made.n;
        text_clear(&single);
        struct entry *e =
            batch_stored(x, batch_head_get(call->head, call->wanted[i].id, call->project), &single);
        if (e && make_item(x, client, &single, e)) {
            call->wanted[i].item.n = client->made.n - at[i];
            client->stored++;
            if (!oldest ||
                freshness_left(entry_freshness(e), now) < freshness_left(entry_freshness(oldest), now)) {
                entry_release(oldest);
                oldest = entry_ref(e);
            }
        }
        entry_release(e);
    }
    for (unsigned i = 0; at && i < call->count; i++)
        if (call->wanted[i].item.n)
            call->wanted[i].item.p = client->made.p + at[i];
    free(at);
    text_dispose(&single);
    return oldest;
}

/* Serves it whole. False: no memory. */
static bool serve(struct exchange *x, struct entry *oldest)
{
    struct batch_call *call = x->call;
    struct text body = {0};
    bool good =
        batch_envelope_write(&call->client->known.envelope, call->wanted, call->count, SLICE("[]"), &body);
    if (good)
        exchange_serve_made(x, oldest, (struct slice){body.p, body.n});
    text_dispose(&body);
    return good;
}

/* ---- filling ---- */

/* What the store asks about one prompt, as if it had been asked for singly. */
static void prompt_request(struct exchange *x, const struct head *get, struct store_request *out,
                           struct slice *tags, char *room)
{
    struct route_match match;
    size_t used = 0;
    exchange_store_request(x, out, tags, NULL, 0);
    out->head = get;
    routes_find(x->settings->p->routes, METHOD_GET, head_path(get), &match);
    out->route.has_ttl = match.route->has_ttl;
    out->route.ttl = match.route->ttl;
    for (int i = 0; i < match.route->tags && out->tag_count < STORE_MAX_TAGS; i++) {
        size_t n = route_tag(&match, i, room + used, TAG_ROOM - used);
        if (n > TAG_ROOM - used)
            break;
        tags[out->tag_count++] = (struct slice){room + used, n};
        used += n;
    }
}

/* From here on a purge of one of them dooms what its answer would bring. */
static void begin_fills(struct exchange *x)
{
    struct batch_call *call = x->call;
    struct batch_client *client = call->client;
    struct slice tags[STORE_MAX_TAGS];
    char room[TAG_ROOM];
    struct store_request ask;
    struct store_key key;
    if (!client->known.to_single || !client->known.single)
        return;
    client->fills = calloc(call->count, sizeof(struct fill *));
    for (unsigned i = 0; client->fills && i < call->count; i++) {
        if (call->wanted[i].item.p)
            continue;
        prompt_request(x, batch_head_get(call->head, call->wanted[i].id, call->project), &ask, tags, room);
        store_key_of(x->w->service->store, &ask, &key);
        client->fills[i] = store_begin_look(x->w->service->store, &ask, &key);
    }
}

static void fill_one(struct exchange *x, unsigned at, struct slice item)
{
    struct batch_call *call = x->call;
    struct batch_client *client = call->client;
    struct fill *fill = client->fills[at];
    struct slice tags[STORE_MAX_TAGS];
    char room[TAG_ROOM];
    struct store_request ask;
    struct text single = {0};
    client->fills[at] = NULL;
    prompt_request(x, batch_head_get(call->head, call->wanted[at].id, call->project), &ask, tags, room);
    struct head head = *batch_result_head(call->result);
    if (!batch_compose(&client->known, item, &single)) {
        text_dispose(&single);
        fill_abort(fill, REASON_FILL_FAILED, false);
        return;
    }
    head.body = BODY_LENGTH;
    head.content_length = single.n;
    head.has_content_length = true;
    if (fill_response(fill, &ask, &head, x->sent_at, NULL) == FILL_STORED) {
        (void)!fill_append(fill, single.p, single.n); /* fill_end sees what is missing */
        (void)fill_end(fill, worker_now(x->w));
    }
    text_dispose(&single);
}

/* Puts what came into the entries, and gives up what did not come. */
static void end_fills(struct exchange *x)
{
    struct batch_call *call = x->call;
    struct batch_client *client = call->client;
    bool good = call->whole && call->result && client->fills && batch_head_is_known(x, &client->known);
    for (unsigned i = 0; client->fills && i < call->count; i++) {
        if (!client->fills[i])
            continue;
        if (good && call->wanted[i].item.p)
            fill_one(x, i, call->wanted[i].item);
        else {
            fill_abort(client->fills[i], REASON_FILL_FAILED, false);
            client->fills[i] = NULL;
        }
    }
}

/* ---- only the rest ---- */

/* The list of what is missing. False: no memory. */
static bool list_missing(struct batch_call *call)
{
    struct batch_client *client = call->client;
    client->missing = calloc(call->count, sizeof *client->missing);
    client->place = calloc(call->count, sizeof *client->place);
    if (!client->missing || !client->place)
        return false;
    for (unsigned i = 0; i < call->count; i++) {
        if (call->wanted[i].item.p)
            continue;
        client->place[client->missing_count] = i;
        client->missing[client->missing_count++].id = call->wanted[i].id;
    }
    return true;
}

/* Puts the smaller request in the place of the client's, which is kept. False: no memory. */
static bool ask_less(struct exchange *x)
{
    struct batch_call *call = x->call;
    struct batch_client *client = call->client;
    struct text body = {0};
    if (!list_missing(call) ||
        !batch_request_write(&client->request, client->missing, client->missing_count, &body)) {
        text_dispose(&body);
        return false;
    }
    client->head = x->req;
    client->body = x->body.p;
    client->body_len = x->body.len;
    client->body_cap = x->body.cap;
    x->req = *batch_head_post(call->head, body.n);
    x->body.p = body.p;
    x->body.len = body.n;
    x->body.cap = body.cap;
    x->look.fwd = CACHE_FWD_PARTIAL;
    x->o.cache = VERDICT_MISS;
    call->purpose = CALL_REST;
    return true;
}

void batch_rest_failed(struct exchange *x)
{
    struct batch_call *call = x->call;
    struct batch_client *client = call->client;
    exchange_attempt_done(x, REASON_NONE, x->a.status);
    exchange_leave_upstream(x, false);
    exchange_drop_body(x);
    x->req = client->head;
    x->body.p = client->body;
    x->body.len = client->body_len;
    x->body.cap = client->body_cap;
    client->body = NULL;
    x->replayable = true;
    x->body_hashed = false;
    x->look.fwd = CACHE_FWD_METHOD;
    if (x->route.route->timeout > 0)
        x->deadline = x->began + x->route.route->timeout;
    batch_result_unref(call->result);
    call->result = NULL;
    call->captured = call->whole = false;
    text_dispose(&call->answer);
    call->purpose = CALL_TEE;
    exchange_set_phase(x, PHASE_BACKOFF);
    exchange_forward(x);
}

/* Takes the answer to the smaller request apart. */
static bool read_rest(struct batch_call *call, struct batch_answer *answer)
{
    struct batch_client *client = call->client;
    unsigned found = 0;
    if (!call->whole || !batch_answer_read((struct slice){call->answer.p, call->answer.n}, client->missing,
                                           client->missing_count, answer))
        return false;
    for (unsigned i = 0; i < client->missing_count; i++) {
        call->wanted[client->place[i]].item = client->missing[i].item;
        found += client->missing[i].item.p != NULL;
    }
    return answer->total_requested == client->missing_count && answer->total_found == found;
}

bool batch_rest_over(struct exchange *x)
{
    struct batch_call *call = x->call;
    struct batch_answer answer;
    struct text body = {0};
    if (!read_rest(call, &answer) || !batch_head_is_known(x, &call->client->known) ||
        !batch_envelope_write(&call->client->known.envelope, call->wanted, call->count, answer.errors,
                              &body)) {
        text_dispose(&body);
        batch_rest_failed(x);
        return true;
    }
    struct head head = *batch_result_head(call->result);
    head.body = BODY_LENGTH;
    head.content_length = body.n;
    head.has_content_length = true;
    exchange_put_together(x, &head, (struct slice){body.p, body.n});
    text_dispose(&body);
    return true;
}

/* ---- the decision ---- */

static bool all_plain(const struct batch_request *r)
{
    for (unsigned i = 0; i < r->count; i++)
        if (!batch_name_is_plain(r->ids[i]))
            return false;
    return !r->has_project || batch_name_is_plain(r->project);
}

/* Reads the request and what is known of its kind and form. False: it passes. */
static bool prepare(struct exchange *x)
{
    struct batch_call *call = x->call;
    struct batch_client *client = call->client;
    struct store_request ask;
    if (!batch_request_read((struct slice){x->body.p, x->body.len}, &client->request) ||
        !all_plain(&client->request))
        return false;
    exchange_store_request(x, &ask, NULL, NULL, 0);
    store_key_of(x->w->service->store, &ask, &x->look.key);
    if (client->request.has_project)
        call->project = client->request.project;
    call->form = batch_form(client->request.versions, client->request.metadata);
    call->kind = batcher_kind(batcher_of(x), batch_kind_id(x, call->project), worker_now(x->w));
    call->head = batch_head_new(&x->req, exchange_dropped_fields(x));
    call->wanted = calloc(client->request.count, sizeof *call->wanted);
    if (!call->kind || !call->head || !call->wanted)
        return false;
    call->count = client->request.count;
    for (unsigned i = 0; i < call->count; i++)
        call->wanted[i].id = client->request.ids[i];
    batcher_known(batcher_of(x), call->kind, call->form, &client->known, worker_now(x->w));
    return true;
}

void exchange_batch_read_end(struct exchange *x)
{
    struct batch_call *call = x->call;
    if (!prepare(x)) {
        pass(x);
        return;
    }
    x->reads_batch = false;
    struct entry *oldest = knows_items(&call->client->known) ? look_up_all(x) : NULL;
    if (oldest && call->client->stored == call->count && serve(x, oldest)) {
        entry_release(oldest);
        return;
    }
    entry_release(oldest);
    begin_fills(x);
    if (call->client->stored == 0 || call->client->stored == call->count || !ask_less(x))
        call->purpose = CALL_TEE;
    exchange_forward(x);
}

/* ---- the end ---- */

/* Compares with what is stored. */
static void learn(struct exchange *x)
{
    struct batch_call *call = x->call;
    struct slice text = {call->answer.p, call->answer.n};
    struct batch_envelope envelope;
    struct batch_answer answer;
    call->whole = batch_answer_read(text, call->wanted, call->count, &answer);
    if (!call->whole)
        return;
    bool learnt = batch_envelope_learn(text, call->wanted, call->count, &answer, &envelope);
    batch_compare(x, call->wanted, call->count, call->form, learnt ? &envelope : NULL);
}

void batch_client_over(struct exchange *x)
{
    struct batch_call *call = x->call;
    if (call->count == 0)
        return; /* it was never read */
    batcher_client_over(batcher_of(x), call->kind, call->count, call->client->stored);
    if (call->whole && call->purpose == CALL_TEE)
        learn(x);
    end_fills(x);
}

void batch_client_free(struct batch_call *call)
{
    struct batch_client *client = call->client;
    if (!client)
        return;
    batch_request_free(&client->request);
    batch_known_drop(&client->known);
    text_dispose(&client->made);
    free(client->fills);
    free(client->place);
    free(client->missing);
    free(client->body);
    free(client);
}
