/*
 * What the tests of the store share: a store with a clock that the test moves, and requests under the rules
 * of the test.
 */
#ifndef TESTS_UNIT_PROXY_CACHE_CASE_H
#define TESTS_UNIT_PROXY_CACHE_CASE_H

#include "proxy/store.h"
#include "tests/unit/message.h"

/* A store, and the time in it. */
struct world {
    struct store *store;
    struct cache_rules rules;
    tick_t now;
    int64_t wall;
    struct cache_route route;
    struct slice tags[STORE_MAX_TAGS];
    unsigned tag_count;
    struct slice credential; /* the sidecar's own */
};

static inline void world_init(struct world *w, const struct store_limits *limits)
{
    static const struct store_limits usual = {
        .max_entries = 1000, .max_bytes = 64 << 20, .max_object_bytes = 1 << 20, .strategy = EVICT_LRU};
    *w = (struct world){.now = NOW, .wall = WALL};
    w->store = store_new(limits ? limits : &usual, (struct hash_key){1, 2});
    must(w->store);
    w->rules.partition_names[0] = SLICE("Authorization");
    w->rules.partition_ids[0] = FIELD_AUTHORIZATION;
    w->rules.partition_names[1] = SLICE("X-Tenant");
    w->rules.partition_ids[1] = FIELD_OTHER;
    w->rules.partition_count = 2;
}

static inline void world_dispose(struct world *w)
{
    store_free(w->store);
}

static inline void pass_time(struct world *w, tick_t time)
{
    w->now += time;
    w->wall += time / TICK_S;
}

static inline struct store_request ask_of(struct world *w, const struct message *m)
{
    return (struct store_request){.head = &m->head,
                                  .origin = SLICE("http://origin:80"),
                                  .credential = w->credential,
                                  .rules = &w->rules,
                                  .route = w->route,
                                  .tags = w->tags,
                                  .tag_count = w->tag_count,
                                  .now = w->now,
                                  .wall = w->wall};
}

/* Gives back whatever a lookup gave. */
static inline void let_go(struct store_result *r, enum store_verdict verdict)
{
    entry_release(r->entry);
    if (r->fill && verdict == STORE_JOIN)
        fill_drop(r->fill);
    else if (r->fill)
        fill_abort(r->fill, REASON_CLIENT_GONE, true);
    *r = (struct store_result){0};
}

static inline enum store_verdict look(struct world *w, const char *request, struct store_result *r)
{
    struct message m;
    request_text(&m, request);
    struct store_request ask = ask_of(w, &m);
    return store_lookup(w->store, &ask, r);
}

/* The verdict alone. */
static inline enum store_verdict verdict_of(struct world *w, const char *request)
{
    struct store_result r;
    enum store_verdict v = look(w, request, &r);
    let_go(&r, v);
    return v;
}

/* Fetches: the request must lead; the response comes with this body. Gives why it is not stored, if so. */
static inline enum storable fetch(struct world *w, const char *request, const char *response,
                                  const char *body)
{
    struct message q, a;
    struct store_result r;
    enum storable why;
    request_text(&q, request);
    response_text(&a, response);
    struct store_request ask = ask_of(w, &q);
    enum store_verdict v = store_lookup(w->store, &ask, &r);
    if (v != STORE_LEAD && v != STORE_REVALIDATE)
        ck_abort_msg("%s does not lead but %d", request, (int)v);
    entry_release(r.entry);
    if (fill_response(r.fill, &ask, &a.head, w->now, &why) == FILL_PASSED)
        return why;
    must(fill_append(r.fill, body, strlen(body)) == FILL_MORE);
    if (!fill_end(r.fill, w->now))
        return STORABLE_MEMORY;
    return STORABLE_YES;
}

/* The body of a complete entry, as a string. */
static inline const char *body_text(const struct entry *e)
{
    static _Thread_local char text[65536];
    struct iovec iov[8];
    size_t n = 0;
    while (n < entry_length(e)) {
        int count = entry_body_iov(e, n, entry_length(e) - n, iov, 8);
        must(count > 0);
        for (int i = 0; i < count; i++) {
            memcpy(text + n, iov[i].iov_base, iov[i].iov_len);
            n += iov[i].iov_len;
        }
    }
    text[n] = '\0';
    return text;
}

#endif
