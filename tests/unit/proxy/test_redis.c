/*
 * redis.c against a real redis-server that goes away, stands still, is refused a password, speaks TLS; and
 * against one that lies, which the test plays itself.
 */
#include <event2/event.h>

#include "proxy/redis.h"
#include "proxy/redis_reply.h"
#include "proxy/redis_url.h"
#include "proxy/resolve.h"
#include "proxy/tls.h"
#include "tests/unit/message.h"
#include "tests/unit/proxy/certificates.h"
#include "tests/unit/proxy/redis_server.h"

struct world {
    struct event_base *base;
    struct redis_address address;
    struct resolver *resolver;
    struct tls_context *tls;
    struct redis *redis;
    int ups, downs;
};

struct heard {
    int answers, failures;
    enum redis_kind kind;
    char text[64];
    int64_t number;
    tick_t at;
};

static tick_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (tick_t)t.tv_sec * TICK_S + t.tv_nsec;
}

static void changed(void *arg, bool up)
{
    struct world *w = arg;
    *(up ? &w->ups : &w->downs) += 1;
}

static void begin(struct world *w, const char *url)
{
    struct resolver_options ro = {.refresh = 60 * TICK_S};
    char err[256] = "";
    memset(w, 0, sizeof(*w));
    ck_assert_msg(redis_url_parse(url, &w->address, err, sizeof(err)), "%s", err);
    w->base = event_base_new();
    w->resolver = resolver_start(&w->address.endpoint, &ro, err, sizeof(err));
    ck_assert_msg(w->resolver != NULL, "%s", err);
    if (w->address.endpoint.tls) {
        struct tls_client_options to = {.server_name = w->address.endpoint.host,
                                        .ca_file = w->address.ca_file,
                                        .verify = w->address.verify};
        w->tls = tls_context_client(&to, err, sizeof(err));
        ck_assert_msg(w->tls != NULL, "%s", err);
    }
    struct redis_options o = {.base = w->base,
                              .resolver = w->resolver,
                              .address = &w->address,
                              .tls = w->tls,
                              .seed = 1,
                              .changed = changed,
                              .arg = w};
    w->redis = redis_new(&o);
    ck_assert_ptr_nonnull(w->redis);
}

static void end(struct world *w)
{
    redis_free(w->redis);
    resolver_stop(w->resolver);
    tls_context_unref(w->tls);
    event_base_free(w->base);
}

/* Turns the loop until *value has reached `least`; fails after ten seconds. */
static void until(struct world *w, const int *value, int least)
{
    tick_t stop = now() + 10 * TICK_S;
    while (*value < least && now() < stop) {
        struct timeval tv = {0, 5000};
        event_base_loopexit(w->base, &tv);
        event_base_dispatch(w->base);
    }
    ck_assert_msg(*value >= least, "%d of %d: %s", *value, least, redis_trouble(w->redis));
}

static void hear(void *arg, const struct redis_reply *reply)
{
    struct heard *h = arg;
    h->at = now();
    if (!reply) {
        h->failures++;
        return;
    }
    h->answers++;
    h->kind = reply->kind;
    h->number = reply->number;
    snprintf(h->text, sizeof(h->text), "%.*s", (int)reply->text.n, reply->text.n ? reply->text.p : "");
}

static bool say(struct world *w, struct heard *h, tick_t timeout, const char *a, const char *b, const char *c)
{
    struct slice words[3] = {{a, strlen(a)}};
    size_t n = 1;
    if (b)
        words[n++] = (struct slice){b, strlen(b)};
    if (c)
        words[n++] = (struct slice){c, strlen(c)};
    return redis_send(w->redis, words, n, timeout, hear, h);
}

static void over_socket(struct world *w, struct redis_server *s)
{
    char url[256];
    redis_server_start(s);
    snprintf(url, sizeof(url), "redis+unix://%s?db=2", s->socket);
    begin(w, url);
    until(w, &w->ups, 1);
}

START_TEST(commands_are_answered_in_order)
{
    struct redis_server s;
    struct world w;
    struct heard set = {0}, get = {0}, none = {0}, bad = {0}, count[50] = {{0}};
    over_socket(&w, &s);
    ck_assert(say(&w, &set, TICK_S, "SET", "a", "one"));
    ck_assert(say(&w, &get, TICK_S, "GET", "a", NULL));
    ck_assert(say(&w, &none, TICK_S, "GET", "b", NULL));
    ck_assert(say(&w, &bad, TICK_S, "NOSUCH", NULL, NULL));
    for (int i = 0; i < 50; i++)
        ck_assert(say(&w, &count[i], TICK_S, "INCR", "n", NULL));
    until(&w, &count[49].answers, 1);
    ck_assert_str_eq(set.text, "OK");
    ck_assert_str_eq(get.text, "one");
    ck_assert_int_eq(none.kind, REDIS_NIL);
    ck_assert_int_eq(bad.kind, REDIS_ERROR);
    for (int i = 0; i < 50; i++)
        ck_assert_int_eq(count[i].number, i + 1);
    end(&w);
    redis_server_stop(&s);
}
END_TEST

START_TEST(over_tcp_by_a_name)
{
    struct redis_server s;
    struct world w;
    struct heard h = {0};
    char url[64];
    redis_server_start(&s);
    snprintf(url, sizeof(url), "redis://localhost:%d/3", s.port);
    begin(&w, url);
    until(&w, &w.ups, 1);
    ck_assert(say(&w, &h, TICK_S, "PING", NULL, NULL));
    until(&w, &h.answers, 1);
    end(&w);
    redis_server_stop(&s);
}
END_TEST

START_TEST(a_large_value_goes_both_ways)
{
    struct redis_server s;
    struct world w;
    struct heard set = {0}, get = {0};
    const size_t n = 3 << 20;
    char *text = malloc(n + 1);
    over_socket(&w, &s);
    memset(text, 'v', n);
    text[n] = '\0';
    ck_assert(say(&w, &set, 5 * TICK_S, "SET", "big", text));
    ck_assert(say(&w, &get, 5 * TICK_S, "STRLEN", "big", NULL));
    until(&w, &get.answers, 1);
    ck_assert_int_eq(get.number, (int64_t)n);
    ck_assert(say(&w, &set, 5 * TICK_S, "GET", "big", NULL));
    until(&w, &set.answers, 2);
    ck_assert(!say(&w, &set, 5 * TICK_S, "MSET", text, text) || redis_backlog(w.redis) <= REDIS_OUT_MAX);
    free(text);
    end(&w);
    redis_server_stop(&s);
}
END_TEST

START_TEST(a_server_that_stands_still_costs_its_callers_the_timeout)
{
    struct redis_server s;
    struct world w;
    struct heard a = {0}, b = {0};
    over_socket(&w, &s);
    kill(s.pid, SIGSTOP);
    tick_t began = now();
    ck_assert(say(&w, &a, 50 * TICK_MS, "PING", NULL, NULL));
    until(&w, &a.failures, 1);
    ck_assert_int_ge(a.at - began, 50 * TICK_MS);
    ck_assert_int_lt(a.at - began, TICK_S);
    ck_assert(say(&w, &b, 50 * TICK_MS, "PING", NULL, NULL)); /* the connection stays for a while */
    kill(s.pid, SIGCONT);
    until(&w, &b.answers, 1);
    ck_assert_int_eq(a.answers, 0); /* its late answer found nobody */
    ck_assert_int_eq(w.downs, 0);
    kill(s.pid, SIGSTOP);
    ck_assert(say(&w, &a, 50 * TICK_MS, "PING", NULL, NULL));
    until(&w, &w.downs, 1); /* given up */
    ck_assert(!say(&w, &a, 50 * TICK_MS, "PING", NULL, NULL));
    ck_assert_int_eq(a.failures, 2);
    kill(s.pid, SIGCONT);
    until(&w, &w.ups, 2);
    end(&w);
    redis_server_stop(&s);
}
END_TEST

START_TEST(a_server_that_dies_is_found_again)
{
    struct redis_server s;
    struct world w;
    struct heard a = {0};
    over_socket(&w, &s);
    redis_server_kill(&s);
    until(&w, &w.downs, 1);
    ck_assert(!redis_up(w.redis));
    ck_assert(!say(&w, &a, TICK_S, "PING", NULL, NULL));
    redis_server_run(&s, NULL);
    until(&w, &w.ups, 2);
    ck_assert(say(&w, &a, TICK_S, "PING", NULL, NULL));
    until(&w, &a.answers, 1);
    ck_assert_uint_eq(redis_connects(w.redis), 2);
    end(&w);
    redis_server_stop(&s);
}
END_TEST

START_TEST(callers_are_told_when_it_ends)
{
    struct redis_server s;
    struct world w;
    struct heard a = {0};
    over_socket(&w, &s);
    kill(s.pid, SIGSTOP);
    for (int i = 0; i < REDIS_QUEUE_MAX; i++)
        ck_assert(say(&w, &a, 60 * TICK_S, "PING", NULL, NULL));
    ck_assert(!say(&w, &a, 60 * TICK_S, "PING", NULL, NULL)); /* full */
    end(&w);
    ck_assert_int_eq(a.failures, REDIS_QUEUE_MAX);
    ck_assert_int_eq(w.downs, 0);
    redis_server_stop(&s);
}
END_TEST

START_TEST(passwords)
{
    struct redis_server s;
    struct world w;
    char url[256];
    redis_server_start(&s);
    redis_server_kill(&s);
    redis_server_run(&s, (const char *const[]){"--port", "0", "--requirepass", "open sesame", NULL});
    snprintf(url, sizeof(url), "redis+unix://:open%%20sesame@%s", s.socket);
    begin(&w, url);
    until(&w, &w.ups, 1);
    end(&w);
    snprintf(url, sizeof(url), "redis+unix://:hunter2@%s", s.socket);
    begin(&w, url);
    int refused = 0;
    for (int i = 0; i < 1000 && !refused; i++) {
        struct timeval tv = {0, 5000};
        event_base_loopexit(w.base, &tv);
        event_base_dispatch(w.base);
        refused = strstr(redis_trouble(w.redis), "WRONGPASS") != NULL;
    }
    ck_assert(refused);
    ck_assert_ptr_null(strstr(redis_trouble(w.redis), "hunter2"));
    ck_assert_int_eq(w.ups, 0);
    end(&w);
    redis_server_stop(&s);
}
END_TEST

START_TEST(tls_with_and_without_trust)
{
    struct redis_server s;
    struct world w;
    struct identity authority, leaf;
    char url[512], port[16], scratch[64];
    struct identity_wish ca = {.name = "ca"}, wish = {.name = "redis", .san = "IP:127.0.0.1"};
    scratch_make(scratch);
    identity_make(&authority, NULL, scratch, &ca);
    identity_make(&leaf, &authority, scratch, &wish);
    redis_server_start(&s);
    redis_server_kill(&s);
    s.port = free_port();
    snprintf(port, sizeof(port), "%d", s.port);
    redis_server_run(&s, (const char *const[]){"--port", "0", "--tls-port", port, "--tls-cert-file",
                                               leaf.certificate_file, "--tls-key-file", leaf.key_file,
                                               "--tls-ca-cert-file", authority.certificate_file,
                                               "--tls-auth-clients", "no", NULL});
    snprintf(url, sizeof(url), "rediss://127.0.0.1:%d?ca_file=%s", s.port, authority.certificate_file);
    struct heard a = {0};
    begin(&w, url);
    until(&w, &w.ups, 1);
    char *text = calloc(1, 300001);
    memset(text, 'v', 300000);
    ck_assert(say(&w, &a, TICK_S, "SET", "x", text));
    ck_assert(say(&w, &a, TICK_S, "GET", "x", NULL));
    until(&w, &a.answers, 2);
    free(text);
    end(&w);
    snprintf(url, sizeof(url), "rediss://127.0.0.1:%d", s.port);
    begin(&w, url);
    int refused = 0;
    for (int i = 0; i < 1000 && !refused; i++) {
        struct timeval tv = {0, 5000};
        event_base_loopexit(w.base, &tv);
        event_base_dispatch(w.base);
        refused = strstr(redis_trouble(w.redis), "certificate") != NULL;
    }
    ck_assert(refused);
    end(&w);
    redis_server_stop(&s);
    identity_free(&leaf);
    identity_free(&authority);
    scratch_remove(scratch);
}
END_TEST

/* ---- a server that lies ---- */

static bool reads(const char *text, size_t n, unsigned wanted)
{
    struct redis_parser *p = redis_parser_new();
    struct redis_reply *reply;
    unsigned got = 0;
    for (size_t i = 0; i < n && !redis_parser_error(p)[0]; i++) {
        if (!redis_parser_feed(p, text + i, 1))
            break;
        while ((reply = redis_parser_next(p)) != NULL) {
            got++;
            redis_reply_free(reply);
        }
    }
    bool good = !redis_parser_error(p)[0];
    redis_parser_free(p);
    ck_assert_msg(got == wanted, "%s: %u", text, got);
    return good;
}

START_TEST(hostile_replies_end_it)
{
    ck_assert(reads("+OK\r\n:12\r\n$-1\r\n*2\r\n$1\r\na\r\n*0\r\n-ERR x\r\n",
                    strlen("+OK\r\n:12\r\n$-1\r\n*2\r\n$1\r\na\r\n*0\r\n-ERR x\r\n"), 5));
    static const char *const bad[] = {"HTTP/1.1 200 OK\r\n",
                                      "*2000000000\r\n",
                                      "*65537\r\n",
                                      "*2\r\n*40000\r\n*40000\r\n",
                                      "*60000\r\n*60000\r\n",
                                      "*4294967297\r\n",
                                      "*-7\r\n",
                                      "$-5\r\n",
                                      ":x\r\n",
                                      "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!reads(bad[i], strlen(bad[i]), 0), "%s", bad[i]);
}
END_TEST

START_TEST(an_endless_reply_ends_it)
{
    struct redis_parser *p = redis_parser_new();
    char block[64 * 1024];
    size_t fed = 0;
    memset(block, 'x', sizeof(block));
    ck_assert(redis_parser_feed(p, "$500000000\r\n", 12));
    while (redis_parser_feed(p, block, sizeof(block)) && !redis_parser_next(p))
        fed += sizeof(block);
    ck_assert_uint_le(fed, REDIS_REPLY_MAX);
    ck_assert(redis_parser_error(p)[0]);
    redis_parser_free(p);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("redis");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, commands_are_answered_in_order);
    tcase_add_test(t, over_tcp_by_a_name);
    tcase_add_test(t, a_large_value_goes_both_ways);
    tcase_add_test(t, a_server_that_stands_still_costs_its_callers_the_timeout);
    tcase_add_test(t, a_server_that_dies_is_found_again);
    tcase_add_test(t, callers_are_told_when_it_ends);
    tcase_add_test(t, passwords);
    tcase_add_test(t, tls_with_and_without_trust);
    tcase_add_test(t, hostile_replies_end_it);
    tcase_add_test(t, an_endless_reply_ends_it);
    return run_case("redis", t);
}
