/*
 * The level that sidecars share, against a real redis-server: two stores as two processes. Names of a
 * credential, values that come over, purges that are heard, values that are not what they should be, Redis
 * gone and back.
 */
#include <event2/event.h>

#include "proxy/level.h"
#include "proxy/shared.h"
#include "proxy/store_inner.h"
#include "tests/unit/proxy/cache_case.h"
#include "tests/unit/proxy/redis_server.h"

#define ME    "GET /p | Authorization: Bearer me"
#define YOU   "GET /p | Authorization: Bearer you"
#define FRESH "200 | Cache-Control: max-age=600 | ETag: \"a\" | Content-Length: 5"

struct side { /* a process */
    struct world w;
    struct shared *shared;
    struct level level;
    struct event_base *base; /* of who looks */
    struct mailbox box;
    struct entry *found;
    bool answered;
};

static struct redis_server redis;
static struct side a, b;

static tick_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (tick_t)t.tv_sec * TICK_S + t.tv_nsec;
}

#define wait_until(condition)                                                                                \
    do {                                                                                                     \
        tick_t until_ = now() + 20 * TICK_S;                                                                 \
        while (!(condition)) {                                                                               \
            struct timespec t_ = {0, 2000000};                                                               \
            ck_assert_msg(now() < until_, "waited in vain for %s", #condition);                              \
            nanosleep(&t_, NULL);                                                                            \
        }                                                                                                    \
    } while (0)

static struct shared_stats stats(struct side *s)
{
    struct shared_stats out;
    shared_stats(s->shared, &out);
    return out;
}

static void side_start(struct side *s, uint64_t seed, const char *origin)
{
    char url[200], err[256] = "";
    snprintf(url, sizeof(url), "redis+unix://%s", redis.socket);
    world_init(&s->w, NULL);
    s->w.now = now();
    s->w.wall = time(NULL);
    struct shared_options o = {
        .url = url, .origin = {origin, strlen(origin)}, .store = s->w.store, .seed = seed};
    s->shared = shared_new(&o, err, sizeof(err));
    ck_assert_msg(s->shared != NULL, "%s", err);
    shared_level(s->shared, &s->level);
    store_set_levels(s->w.store, &s->level, 1);
    ck_assert(shared_start(s->shared));
    s->base = event_base_new();
    ck_assert(s->base && mailbox_init(&s->box, s->base, s));
    wait_until(shared_usable(s->shared));
}

static void side_stop(struct side *s)
{
    store_set_levels(s->w.store, NULL, 0);
    shared_stop(s->shared);
    mailbox_dispose(&s->box);
    event_base_free(s->base);
    world_dispose(&s->w);
}

static void setup(void)
{
    redis_server_start(&redis);
    side_start(&a, 1, "http://origin:80");
    side_start(&b, 2, "http://origin:80");
}

static void teardown(void)
{
    side_stop(&a);
    side_stop(&b);
    redis_server_stop(&redis);
}

static void answered(struct letter *letter, void *owner)
{
    struct side *s = owner;
    s->found = ((struct level_look *)letter)->found;
    s->answered = true;
}

/* What the level has for this request: a reference, or NULL. *asked: an answer was to come. */
static struct entry *look_up(struct side *s, const char *request, bool *asked)
{
    struct message m;
    request_text(&m, request);
    struct store_request ask = ask_of(&s->w, &m);
    struct level_look *look = calloc(1, sizeof(*look));
    must(look);
    look->letter.deliver = answered;
    look->to = &s->box;
    look->head = m.head;
    store_key_of(s->w.store, &ask, &look->key);
    s->level.name_of(s->level.self, &ask, &look->name);
    s->found = NULL;
    s->answered = false;
    *asked = s->level.look(s->level.self, look);
    tick_t until = now() + 20 * TICK_S;
    while (*asked && !s->answered && now() < until)
        event_base_loop(s->base, EVLOOP_ONCE);
    must(!*asked || s->answered);
    free(look);
    return s->found;
}

static bool has(struct side *s, const char *request, const char *body)
{
    bool asked;
    struct entry *e = look_up(s, request, &asked);
    bool same = e && strcmp(body_text(e), body) == 0;
    entry_release(e);
    return asked && same;
}

static struct hash128 name_of(struct side *s, const char *request)
{
    struct message m;
    struct hash128 name = {0, 0};
    request_text(&m, request);
    struct store_request ask = ask_of(&s->w, &m);
    s->level.name_of(s->level.self, &ask, &name);
    return name;
}

static void stored_by_a(const char *request, const char *body)
{
    uint64_t before = stats(&a).stores;
    ck_assert_int_eq(fetch(&a.w, request, FRESH, body), STORABLE_YES);
    wait_until(stats(&a).stores > before);
}

/* One command to the server; what it says. */
static const char *say(const char *command, size_t n)
{
    static char said[65536];
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t got = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(un.sun_path, sizeof(un.sun_path), "%.100s", redis.socket);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    ck_assert_int_eq(write(fd, command, n), (ssize_t)n);
    ck_assert_int_eq(write(fd, "QUIT\r\n", 6), 6);
    for (ssize_t r; (r = read(fd, said + got, sizeof(said) - 1 - got)) > 0;)
        got += (size_t)r;
    close(fd);
    said[got] = '\0';
    return said;
}

START_TEST(names_are_of_a_credential_and_a_place)
{
    struct hash128 mine = name_of(&a, ME);
    ck_assert(mine.lo | mine.hi);
    ck_assert(hash_equal(mine, name_of(&b, ME)));
    ck_assert(!hash_equal(mine, name_of(&b, YOU)));
    ck_assert(!hash_equal(mine, name_of(&b, "GET /q | Authorization: Bearer me")));
    ck_assert(!hash_equal(mine, name_of(&b, "GET /p")));
    struct side other;
    side_start(&other, 3, "http://elsewhere:80");
    other.w.credential = SLICE("");
    ck_assert(hash_equal(name_of(&other, ME), name_of(&other, ME)));
    side_stop(&other);
}
END_TEST

START_TEST(a_value_comes_over_to_who_has_the_credential)
{
    stored_by_a(ME, "hello");
    ck_assert(has(&b, ME, "hello"));
    ck_assert(!has(&b, YOU, "hello"));
    ck_assert_uint_eq(stats(&b).hits, 1);
    ck_assert_uint_eq(stats(&b).misses, 1);
    ck_assert_uint_eq(stats(&b).damaged, 0);
    const char *keys = say("KEYS *\r\n", 8);
    ck_assert_ptr_null(strstr(keys, "Bearer"));
    ck_assert_ptr_null(strstr(keys, "/p"));
}
END_TEST

START_TEST(purges_are_heard)
{
    struct slice tag = SLICE("t");
    a.w.tags[0] = tag;
    a.w.tag_count = 1;
    static const enum store_purge_kind ways[] = {STORE_PURGE_ALL, STORE_PURGE_TAG, STORE_PURGE_KEY};
    static const char *const what[] = {"", "t", "/p"};
    for (int i = 0; i < 3; i++) {
        stored_by_a(ME, "hello");
        wait_until(has(&b, ME, "hello")); /* a busy machine may miss the time that Redis is given */
        uint64_t heard = stats(&b).purges_heard;
        store_purge(a.w.store, ways[i], (struct slice){what[i], strlen(what[i])});
        wait_until(stats(&b).purges_heard > heard);
        ck_assert_msg(!has(&b, ME, "hello"), "way %d", i);
    }
}
END_TEST

START_TEST(what_redis_gives_back_is_not_believed)
{
    char key[200] = "", command[512];
    stored_by_a(ME, "hello");
    const char *list = say("KEYS *\r\n", 8);
    for (const char *p = list; (p = strstr(p, "promptops:")); p++) { /* the one that is no stream */
        size_t n = strcspn(p, "\r\n");
        bool stream = (n > 7 && strncmp(p + n - 7, ":purges", 7) == 0) ||
                      (n > 7 && strncmp(p + n - 7, ":places", 7) == 0);
        if (!stream)
            snprintf(key, sizeof(key), "%.*s", (int)n, p);
    }
    ck_assert(*key);
    int n = snprintf(command, sizeof(command), "SETRANGE %s 20 XXXX\r\n", key);
    say(command, (size_t)n);
    ck_assert(!has(&b, ME, "hello"));
    ck_assert_uint_eq(stats(&b).damaged, 1);
    n = snprintf(command, sizeof(command), "SET %s short\r\n", key);
    say(command, (size_t)n);
    ck_assert(!has(&b, ME, "hello"));
    ck_assert_uint_eq(stats(&b).damaged, 2);
}
END_TEST

START_TEST(redis_gone_and_back)
{
    bool asked;
    stored_by_a(ME, "hello");
    redis_server_kill(&redis);
    wait_until(!shared_usable(b.shared) && !shared_usable(a.shared));
    ck_assert_ptr_null(look_up(&b, ME, &asked));
    ck_assert(!asked);
    ck_assert_uint_eq(stats(&b).skipped, 1);
    uint64_t lost = stats(&a).store_failures;
    ck_assert_int_eq(fetch(&a.w, YOU, FRESH, "hello"), STORABLE_YES);
    ck_assert_uint_eq(stats(&a).store_failures, lost + 1);
    redis_server_run(&redis, NULL);
    wait_until(shared_usable(b.shared) && shared_usable(a.shared));
    ck_assert(!has(&b, ME, "hello")); /* it lost all */
    a.w.now = now();
    stored_by_a("GET /again | Authorization: Bearer me", "hello");
    ck_assert(has(&b, "GET /again | Authorization: Bearer me", "hello"));
    ck_assert_uint_ge(stats(&b).connects, 6); /* three connections, twice */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy/shared");
    TCase *t = tcase_create("shared");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, names_are_of_a_credential_and_a_place);
    tcase_add_test(t, a_value_comes_over_to_who_has_the_credential);
    tcase_add_test(t, purges_are_heard);
    tcase_add_test(t, what_redis_gives_back_is_not_believed);
    tcase_add_test(t, redis_gone_and_back);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
