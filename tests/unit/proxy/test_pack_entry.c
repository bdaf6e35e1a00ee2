/*
 * pack_entry.c: an entry comes back as it went, older by the time between; and whatever is damaged, cut,
 * foreign or made up is known as such.
 */
#include "proxy/pack_entry.h"
#include "proxy/store_inner.h"
#include "tests/unit/proxy/cache_case.h"

enum { WALL_MS_SHIFT = 1000 };

static const struct pack_note note = {{77, 78}, {1, 2}};

/* An entry as a store makes it. */
static struct entry *entry_of(struct world *w, const char *response, const char *names, size_t body_size)
{
    struct message q, a;
    struct vary_key vary = {{0, 0}, 0, 0};
    struct slice tags[2] = {SLICE("prompt:1"), SLICE("x")};
    struct freshness fresh = {.lifetime = 60 * TICK_S,
                              .initial_age = 5 * TICK_S,
                              .received = w->now,
                              .swr = 30 * TICK_S,
                              .sie = 3600 * TICK_S,
                              .date = w->wall,
                              .last_modified = INT64_MIN,
                              .must_revalidate = true};
    struct entry_recipe recipe = {.uri = SLICE("/p?x=1"),
                                  .names = {names, strlen(names)},
                                  .vary = &vary,
                                  .fresh = &fresh,
                                  .tags = tags,
                                  .tag_count = 2,
                                  .wall = w->wall};
    request_text(&q, "GET /p?x=1 | X-A: 1");
    response_text(&a, response);
    if (*names)
        vary_select(recipe.names, &q.head, w->store->seed_vary, &vary);
    struct entry *e = entry_make(&recipe, &a.head);
    struct body *b = body_new(&w->store->budget, body_size, body_size);
    must(e && b);
    char *bytes = malloc(body_size + 1);
    memset(bytes, 'b', body_size);
    must(body_size == 0 || body_append(b, bytes, body_size));
    free(bytes);
    entry_complete(e, body_finish(b));
    e->fetch_us = 123456;
    change_rate_poll(&e->learnt, 60 * TICK_S, true);
    change_rate_poll(&e->learnt, 30 * TICK_S, false);
    return e;
}

static struct text packed_of(struct world *w, struct entry *e)
{
    struct text out = {0};
    must(pack_entry(e, &note, w->now, w->wall * WALL_MS_SHIFT, &out));
    entry_release(e);
    return out;
}

static struct entry *back(struct world *w, const struct text *t, const char *request, tick_t later)
{
    struct packed p;
    struct message q;
    request_text(&q, request);
    packed_read((struct slice){t->p, t->n}, &p);
    if (p.kind != PACK_ENTRY)
        return NULL;
    return packed_entry(w->store, &p, &q.head, w->now + later, (w->wall + later / TICK_S) * WALL_MS_SHIFT);
}

START_TEST(it_comes_back_as_it_went_and_older)
{
    static const size_t sizes[] = {0, 5, 4096, 300000};
    struct world w;
    world_init(&w, NULL);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct entry *e = entry_of(&w, "200 | ETag: \"a\" | Vary: X-A | X-Other: 7", "x-a", sizes[i]);
        struct entry *kept = entry_ref(e);
        struct text t = packed_of(&w, e);
        struct entry *b = back(&w, &t, "GET /p?x=1 | X-A: 1", 10 * TICK_S);
        must(b);
        must(slice_equal(entry_head_with_length(b), entry_head_with_length(kept)));
        must(slice_equal(entry_span(b, b->tag_text), SLICE("prompt:1\nx\n")));
        must(slice_equal(entry_etag(b), SLICE("\"a\"")));
        ck_assert_uint_eq(entry_length(b), sizes[i]);
        ck_assert_int_eq(freshness_age(&b->fresh, w.now + 10 * TICK_S), 15 * TICK_S);
        ck_assert_int_eq(b->fresh.lifetime, 60 * TICK_S);
        ck_assert_int_eq(b->fresh.sie, 3600 * TICK_S);
        must(b->fresh.must_revalidate && !b->fresh.no_cache && b->fresh.has_validator);
        must(memcmp(&b->vary, &kept->vary, sizeof b->vary) == 0);
        must(memcmp(&b->learnt, &kept->learnt, sizeof b->learnt) == 0 && b->fetch_us == 123456);
        entry_release(b);
        entry_release(kept);
        text_dispose(&t);
    }
    world_dispose(&w);
}
END_TEST

START_TEST(a_clock_that_lags_makes_nothing_younger)
{
    struct world w;
    world_init(&w, NULL);
    struct text t = packed_of(&w, entry_of(&w, "200 | X-Other: 7", "", 5));
    struct entry *b = back(&w, &t, "GET /p?x=1", -30 * TICK_S);
    must(b);
    ck_assert_int_eq(freshness_age(&b->fresh, w.now - 30 * TICK_S), 5 * TICK_S);
    entry_release(b);
    must(!back(&w, &t, "GET /p?x=1", -61 * TICK_S)); /* that far apart, nothing can be said */
    text_dispose(&t);
    world_dispose(&w);
}
END_TEST

START_TEST(the_note_and_an_index)
{
    struct world w;
    struct packed p;
    struct text t = {0};
    world_init(&w, NULL);
    must(pack_index(SLICE("x-a,x-b"), &note, 1234567890123, &t));
    packed_read((struct slice){t.p, t.n}, &p);
    ck_assert_int_eq(p.kind, PACK_INDEX);
    ck_assert_uint_eq(p.generation, 1234567890123);
    ck_assert_uint_eq(p.note.stamps[0], 77);
    ck_assert_uint_eq(p.note.stamps[1], 78);
    must(hash_equal(p.note.who, note.who));
    must(slice_equal(p.names, SLICE("x-a,x-b")));
    text_dispose(&t);
    world_dispose(&w);
}
END_TEST

START_TEST(another_place_or_a_head_that_no_answer_has_is_refused)
{
    struct world w;
    struct packed p;
    struct message q;
    static const char *const heads[] = {"HTTP/1.1 200 OK\r\nX: a\nb\r\n",
                                        "HTTP/1.1 304 Not Modified\r\n",
                                        "HTTP/1.1 200 OK\r\n\r\nX: y\r\n",
                                        "GET / HTTP/1.1\r\n",
                                        "HTTP/1.1 206 Partial\r\n",
                                        "HTTP/1.1 200 OK\r\nVary: X-A\r\n",
                                        ""};
    world_init(&w, NULL);
    struct text t = packed_of(&w, entry_of(&w, "200 | X-Other: 7", "", 5));
    must(!back(&w, &t, "GET /other", 0));
    request_text(&q, "GET /p?x=1");
    packed_read((struct slice){t.p, t.n}, &p);
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        p.head = (struct slice){heads[i], strlen(heads[i])};
        ck_assert_msg(!packed_entry(w.store, &p, &q.head, w.now, w.wall * WALL_MS_SHIFT), "%s", heads[i]);
    }
    p.head = SLICE("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x\r\nX: 1\r\nAge: 7\r\n");
    struct entry *e = packed_entry(w.store, &p, &q.head, w.now, w.wall * WALL_MS_SHIFT);
    if (e) /* fields of the connection and of the cache are left out */
        ck_assert_ptr_null(memmem(entry_head(e).p, entry_head(e).n, "chunked", 7));
    entry_release(e);
    text_dispose(&t);
    world_dispose(&w);
}
END_TEST

START_TEST(damage_is_known)
{
    struct world w;
    struct packed p;
    world_init(&w, NULL);
    struct text t = packed_of(&w, entry_of(&w, "200 | ETag: \"a\"", "", 5));
    for (size_t n = 0; n < t.n; n++) {
        packed_read((struct slice){t.p, n}, &p);
        ck_assert_int_eq(p.kind, PACK_DAMAGED);
    }
    char *longer = malloc(t.n + 1);
    memcpy(longer, t.p, t.n);
    longer[t.n] = 1;
    packed_read((struct slice){longer, t.n + 1}, &p);
    ck_assert_int_eq(p.kind, PACK_DAMAGED);
    longer[3] = PACK_VERSION + 1; /* behind the array's header: the version */
    packed_read((struct slice){longer, t.n}, &p);
    ck_assert_int_eq(p.kind, PACK_FOREIGN);
    free(longer);
    static const char *const rows[] = {"\xdd\xff\xff\xff\xff",
                                       "\xdc\xff\xff",
                                       "\x91\xdd\x7f\xff\xff\xff",
                                       "\x80",
                                       "\xc6\xff\xff\xff\xff",
                                       "\x96\x01\x00\x00\x00\x00\x00",
                                       "text"};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        packed_read((struct slice){rows[i], strlen(rows[i]) + (i == 5 ? 6 : 0)}, &p);
        ck_assert_int_eq(p.kind, PACK_DAMAGED);
    }
    text_dispose(&t);
    world_dispose(&w);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("pack_entry");
    tcase_add_test(t, it_comes_back_as_it_went_and_older);
    tcase_add_test(t, a_clock_that_lags_makes_nothing_younger);
    tcase_add_test(t, the_note_and_an_index);
    tcase_add_test(t, another_place_or_a_head_that_no_answer_has_is_refused);
    tcase_add_test(t, damage_is_known);
    return run_case("pack_entry", t);
}
