/* The cache, bodies with trailers, the counters and the admin port's trees while memory runs out at every
 * place. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/observe.h"
#include "metrics/recent.h"
#include "metrics/render.h"
#include "proxy/batch_json.h"
#include "proxy/pack.h"
#include "proxy/permits.h"
#include "proxy/view.h"
#include "tests/oom/inject.h"
#include "tests/unit/proxy/cache_case.h"

static const struct store_limits limits = {
    .max_entries = 100, .max_bytes = 8 << 20, .max_object_bytes = 1 << 20, .strategy = EVICT_ADAPTIVE};

/* A store with memory of its own: what it refuses must leave it in order. False: no store. */
static bool open_world(struct world *w)
{
    *w = (struct world){.now = NOW, .wall = WALL, .tags = {SLICE("a:1"), SLICE("all")}, .tag_count = 2};
    w->store = store_new(&limits, (struct hash_key){1, 2});
    w->rules.partition_names[0] = SLICE("Authorization");
    w->rules.partition_ids[0] = FIELD_AUTHORIZATION;
    w->rules.partition_count = 1;
    return w->store != NULL;
}

/*
 * The request leads and the answer has `n` bytes; then it is asked for again. True when it was stored and is
 * whole. A hit that is not what was fetched is worse than none.
 */
static bool fetch_and_hit(struct world *w, const char *request, const char *response, const char *body,
                          size_t n)
{
    struct message q, a;
    struct store_result r;
    struct iovec iov[64];
    request_text(&q, request);
    response_text(&a, response);
    struct store_request ask = ask_of(w, &q);
    enum store_verdict v = store_lookup(w->store, &ask, &r);
    if (v != STORE_LEAD) {
        let_go(&r, v);
        return false; /* PASS, for want of memory */
    }
    if (fill_response(r.fill, &ask, &a.head, w->now, NULL) == FILL_PASSED)
        return false;
    bool kept = true;
    for (size_t at = 0; at < n && kept; at += 50000)
        kept = fill_append(r.fill, body + at, n - at < 50000 ? n - at : 50000) == FILL_MORE;
    if (kept)
        kept = fill_end(r.fill, w->now);
    else
        fill_abort(r.fill, REASON_OUT_OF_MEMORY, false);
    v = store_lookup(w->store, &ask, &r);
    if (v == STORE_HIT) {
        size_t at = 0;
        for (int runs = 1; at < n && runs > 0;) {
            runs = entry_body_iov(r.entry, at, n - at, iov, 64);
            for (int i = 0; i < runs; at += iov[i++].iov_len)
                if (memcmp(iov[i].iov_base, body + at, iov[i].iov_len) != 0)
                    abort();
        }
        if (entry_length(r.entry) != n || at != n)
            abort();
    }
    let_go(&r, v);
    return kept && v == STORE_HIT;
}

static bool store_scenario(void)
{
    static char body[300000];
    struct world w;
    memset(body, 'b', sizeof(body));
    if (!open_world(&w))
        return false;
    bool well =
        fetch_and_hit(&w, "GET /small | Authorization: x", "200 | Cache-Control: max-age=60", "tiny", 4);
    well = fetch_and_hit(&w, "GET /large", "200 | Cache-Control: max-age=60 | Vary: Accept", body,
                         sizeof(body)) &&
           well;
    well = fetch_and_hit(&w, "GET /large | Accept: b", "200 | Cache-Control: max-age=60 | Vary: Accept", body,
                         9) &&
           well;
    store_purge(w.store, STORE_PURGE_TAG, SLICE("a:1"));
    store_free(w.store);
    return well;
}

static bool revalidate_scenario(void)
{
    struct world w;
    struct message q, a;
    struct store_result r;
    if (!open_world(&w))
        return false;
    bool well = fetch_and_hit(&w, "GET /x", "200 | Cache-Control: max-age=5 | ETag: \"1\"", "body", 4);
    pass_time(&w, 10 * TICK_S);
    request_text(&q, "GET /x");
    response_text(&a, "304 | ETag: \"1\" | Cache-Control: max-age=50 | X-New: yes");
    struct store_request ask = ask_of(&w, &q);
    enum store_verdict v = store_lookup(w.store, &ask, &r);
    if (v == STORE_REVALIDATE) {
        struct entry *merged = fill_not_modified(r.fill, &ask, &a.head, w.now);
        if (merged)
            r.fill = NULL; /* the role is over */
        well = well && merged;
        entry_release(merged);
    } else {
        well = false;
    }
    let_go(&r, v);
    store_free(w.store);
    return well;
}

static void no_wake(struct fill_waiter *waiter)
{
    (void)waiter;
}

/* One leads, one waits. Whatever runs out, the waiter learns how it ends. */
static bool waiter_scenario(void)
{
    struct world w;
    struct message q, a;
    struct store_result lead, join;
    struct fill_waiter waiter = {.wake = no_wake};
    struct fill_news news = {0};
    if (!open_world(&w))
        return false;
    request_text(&q, "GET /x");
    response_text(&a, "200 | Cache-Control: max-age=5 | Content-Length: 5");
    struct store_request ask = ask_of(&w, &q);
    enum store_verdict v = store_lookup(w.store, &ask, &lead), second = STORE_PASS;
    bool well = false;
    if (v == STORE_LEAD)
        second = store_lookup(w.store, &ask, &join);
    if (second == STORE_JOIN) {
        fill_join(join.fill, &waiter);
        if (fill_poll(&waiter, &ask, &news) != FILL_WAIT)
            abort();
        if (fill_response(lead.fill, &ask, &a.head, w.now, NULL) == FILL_STORED) {
            if (fill_append(lead.fill, "hello", 5) == FILL_MORE)
                well = fill_end(lead.fill, w.now);
            else
                fill_abort(lead.fill, REASON_OUT_OF_MEMORY, false);
        }
        enum fill_state s = fill_poll(&waiter, &ask, &news);
        if (s == FILL_WAIT || (well && s != FILL_DONE))
            abort();
        if (s == FILL_DONE || s == FILL_HEAD)
            entry_release(news.entry);
        fill_leave(&waiter);
    } else if (v == STORE_LEAD) {
        let_go(&join, second);
        fill_abort(lead.fill, REASON_OUT_OF_MEMORY, false);
    } else {
        let_go(&lead, v);
    }
    store_free(w.store);
    return well;
}

static bool trailer_scenario(void)
{
    static const char head_text[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    static const char wire[] = "5\r\nhello\r\n0\r\nX-First: 1\r\nX-Second: 2\r\n\r\n";
    struct field fields[8];
    struct head head = {.fields = fields, .field_max = 8};
    struct h1_scan scan = {0};
    struct h1_body body;
    struct slice data;
    size_t used, at = 0;
    if (h1_parse_response(&scan, &limits_of_h1, METHOD_GET, head_text, sizeof(head_text) - 1, &head, &used) !=
        REASON_NONE)
        abort();
    h1_body_init(&body, &head, true, &limits_of_h1);
    enum reason why = REASON_NONE;
    while (why == REASON_NONE && !body.done && at < sizeof(wire) - 1) {
        why = h1_body_next(&body, wire + at, sizeof(wire) - 1 - at, &used, &data);
        at += used;
    }
    bool well = why == REASON_NONE && body.done && body.trailers_len > 20;
    if (!well && why != REASON_OUT_OF_MEMORY)
        abort();
    h1_body_dispose(&body);
    return well;
}

static bool metrics_scenario(void)
{
    static const char *const methods[] = {"other", "GET"}, *const reasons[] = {"NONE", "RESET"},
                             *const outcomes[] = {"ok", "throttled"};
    struct metrics_config config = {2, methods, 2, reasons, 2, outcomes, 2};
    struct metrics *m = metrics_new(&config);
    struct recent *recent = m ? recent_new(m, 0) : NULL;
    struct text out = {0};
    bool well = recent != NULL;
    if (well) {
        uint16_t op = metrics_operation(m, "get_prompt");
        well = op != OPERATION_OTHER;
        struct observation o = {.operation = op,
                                .method = 1,
                                .cache = VERDICT_MISS,
                                .status = 200,
                                .total = 5000000,
                                .tcp = 1000};
        struct attempt a = {.operation = op, .status = 200, .tcp = 1000, .tls = 1000, .total = 4000000};
        metrics_observe(metrics_block(m, 0), &o);
        metrics_upstream(metrics_block(m, 1), &a);
        metrics_retry(metrics_block(m, 1), op, 1, 0);
        if (metrics_sum(m, METRIC_RETRIES_DONE) != 1)
            abort(); /* counters themselves need no memory */
        well = recent_tick(recent, 10000000000) && well;
        struct render_input in = {.metrics = m, .open_metrics = true};
        well = render_metrics(&in, &out) && well;
    }
    text_dispose(&out);
    recent_free(recent);
    metrics_free(m);
    return well;
}

static bool view_scenario(void)
{
    struct text out = {0};
    struct view *v = view_new();
    if (!v)
        return false;
    view_text(v, "bad text", "a\xff z");
    view_array(v, "list");
    for (int i = 0; i < 50; i++)
        view_uint(v, NULL, (uint64_t)i * 1000);
    view_end(v);
    struct json_t *tree = view_take(v);
    bool well = tree && pack_tree(tree, &out);
    json_decref(tree);
    text_dispose(&out);
    return well;
}

static bool permits_scenario(void)
{
    struct permits *p = permits_new(2);
    bool well = p && permits_take(p) && permits_take(p) && !permits_take(p);
    if (p)
        permits_free(p);
    return well;
}

static bool batch_scenario(void)
{
    static const char ask[] = "{\"prompt_ids\":[\"a\",\"b\"],\"project_id\":\"q\"}",
                      single[] = "{\"id\":\"a\",\"n\":1}",
                      answer[] = "{\"prompts\":{\"a\":{\"n\":1,\"id\":\"a\"}},\"errors\":[],"
                                 "\"total_requested\":2,\"total_found\":1}";
    struct batch_request r;
    struct batch_wanted wanted[] = {{.id = {"a", 1}}, {.id = {"b", 1}}};
    struct batch_answer a;
    struct batch_object s, item;
    struct text out = {0};
    if (!batch_request_read((struct slice){ask, sizeof(ask) - 1}, &r))
        return false;
    batch_request_free(&r);
    if (!batch_answer_read((struct slice){answer, sizeof(answer) - 1}, wanted, 2, &a) ||
        !batch_object_read((struct slice){single, sizeof(single) - 1}, &s) ||
        !batch_object_read(wanted[0].item, &item))
        abort(); /* only the library allocates for these */
    struct batch_shape *shape = batch_shape_new(&s);
    bool well = shape && batch_shape_write(shape, &item, &out);
    if (well && (out.n != sizeof(single) - 1 || memcmp(out.p, single, out.n) != 0))
        abort();
    batch_shape_unref(shape);
    text_dispose(&out);
    return well;
}

int main(void)
{
    static const struct scenario scenarios[] = {
        {"store", store_scenario},
        {"revalidation", revalidate_scenario},
        {"a fill with a waiter", waiter_scenario},
        {"trailers", trailer_scenario},
        {"metrics", metrics_scenario},
        {"views", view_scenario},
        {"permits", permits_scenario},
        {"batches", batch_scenario},
    };
    return inject_main("data without memory", scenarios, (int)ARRAY_LEN(scenarios), NULL, NULL);
}
