/*
 * What the tests of the store share: messages written as text and parsed by the real parser, a store with a clock that the
 * test moves, and a request with the rules that it is made under.
 */
#ifndef TESTS_UNIT_PROXY_CACHE_CASE_H
#define TESTS_UNIT_PROXY_CACHE_CASE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/http_date.h"
#include "proxy/h1.h"
#include "proxy/store.h"

#define must(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            ck_abort_msg("%s", #condition);                                                                  \
    } while (0)

enum { MESSAGE_MAX = 8192, FIELDS_MAX = 128 };

#define WALL ((int64_t)1700000000) /* Tue, 14 Nov 2023 22:13:20 GMT */
#define NOW (1000 * TICK_S)

/* A parsed message and the memory behind it. */
struct message {
    char text[MESSAGE_MAX];
    struct field fields[FIELDS_MAX];
    struct head head;
};

static const struct h1_limits limits_of_h1 = {.max_head = MESSAGE_MAX, .max_target = 4096, .max_trailer = 1024};

/* "GET /x | Accept: a | ..." : a request line without its version, then fields, separated by " | ". */
static inline void request_text(struct message *m, const char *text)
{
    struct h1_scan scan = {0};
    size_t used, n = 0;
    const char *bar = strstr(text, " | ");
    n += (size_t)snprintf(m->text, sizeof m->text, "%.*s HTTP/1.1\r\nHost: h\r\n", (int)(bar ? bar - text : (long)strlen(text)), text);
    while (bar) {
        text = bar + 3;
        bar = strstr(text, " | ");
        n += (size_t)snprintf(m->text + n, sizeof m->text - n, "%.*s\r\n", (int)(bar ? bar - text : (long)strlen(text)), text);
    }
    n += (size_t)snprintf(m->text + n, sizeof m->text - n, "\r\n");
    m->head = (struct head){.fields = m->fields, .field_max = FIELDS_MAX};
    enum reason why = h1_parse_request(&scan, &limits_of_h1, m->text, n, &m->head, &used);
    if (why != REASON_NONE)
        ck_abort_msg("request %s: %s", m->text, reason_row(why)->name);
}

/* "200 | Cache-Control: max-age=5 | ..." Text @N becomes the date N seconds after WALL. */
static inline void response_text(struct message *m, const char *text)
{
    struct h1_scan scan = {0};
    char line[MESSAGE_MAX];
    size_t used, n = 0;
    const char *bar = strstr(text, " | ");
    n += (size_t)snprintf(m->text, sizeof m->text, "HTTP/1.1 %.*s OK\r\n", (int)(bar ? bar - text : (long)strlen(text)), text);
    while (bar) {
        text = bar + 3;
        bar = strstr(text, " | ");
        snprintf(line, sizeof line, "%.*s", (int)(bar ? bar - text : (long)strlen(text)), text);
        char *at = strchr(line, '@');
        if (at) {
            char date[HTTP_DATE_LEN + 1] = {0};
            http_date_write(date, WALL + atol(at + 1));
            strcpy(at, date);
        }
        n += (size_t)snprintf(m->text + n, sizeof m->text - n, "%s\r\n", line);
    }
    n += (size_t)snprintf(m->text + n, sizeof m->text - n, "\r\n");
    m->head = (struct head){.fields = m->fields, .field_max = FIELDS_MAX};
    enum reason why = h1_parse_response(&scan, &limits_of_h1, METHOD_GET, m->text, n, &m->head, &used);
    if (why != REASON_NONE)
        ck_abort_msg("response %s: %s", m->text, reason_row(why)->name);
}

/* A store, and the time in it. */
struct world {
    struct store *store;
    struct cache_rules rules;
    tick_t now;
    int64_t wall;
    struct cache_route route;
    struct slice tags[STORE_MAX_TAGS];
    unsigned tag_count;
};

static inline void world_init(struct world *w, const struct store_limits *limits)
{
    static const struct store_limits usual = {.max_entries = 1000, .max_bytes = 64 << 20, .max_object_bytes = 1 << 20, .strategy = EVICT_LRU};
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
static inline enum storable fetch(struct world *w, const char *request, const char *response, const char *body)
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

static inline int run_case(const char *name, TCase *t)
{
    Suite *s = suite_create(name);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}

#endif
