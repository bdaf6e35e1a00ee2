/*
 * The resolver with a name server of the test's own making: it answers, fails, changes its mind and hangs.
 * Waiting is for conditions, with a limit; refresh times are short.
 */
#include "proxy/resolve.h"

#include <arpa/inet.h>
#include <check.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct address v4(uint32_t ip, uint16_t port)
{
    struct address a = {.len = sizeof(struct sockaddr_in)};
    struct sockaddr_in *sin = (struct sockaddr_in *)&a.sa;
    sin->sin_family = AF_INET;
    sin->sin_addr.s_addr = htonl(ip);
    sin->sin_port = htons(port);
    return a;
}

/* A stand-in for getaddrinfo and a witness of what the resolver announces. */
struct names {
    pthread_mutex_t lock;
    pthread_cond_t moved; /* anything below changed */
    int code;             /* what the next lookups give */
    uint32_t ip[3];
    uint32_t count;
    bool hang;   /* lookups wait until this is false */
    int lookups; /* begun */
    int left;    /* returned */
    int announced;
    uint32_t last_version, last_count;
};

static void names_init(struct names *n)
{
    pthread_condattr_t attr;
    memset(n, 0, sizeof(*n));
    pthread_mutex_init(&n->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&n->moved, &attr);
    pthread_condattr_destroy(&attr);
    n->ip[0] = 0x7f000001;
    n->count = 1;
}

static int lookup(void *arg, const char *host, uint16_t port, struct address_list **out)
{
    struct names *n = arg;
    struct address at[3];
    pthread_mutex_lock(&n->lock);
    n->lookups++;
    pthread_cond_broadcast(&n->moved);
    while (n->hang)
        pthread_cond_wait(&n->moved, &n->lock);
    int code = n->code;
    for (uint32_t i = 0; i < n->count; i++)
        at[i] = v4(n->ip[i], port);
    if (code == 0)
        *out = address_list_new(at, n->count);
    if (strcmp(host, "api.example.com") != 0)
        code = EAI_FAIL;
    n->left++;
    pthread_cond_broadcast(&n->moved);
    pthread_mutex_unlock(&n->lock);
    return code;
}

static void changed(void *arg, struct address_list *list)
{
    struct names *n = arg;
    pthread_mutex_lock(&n->lock);
    n->announced++;
    n->last_version = list->version;
    n->last_count = list->count;
    pthread_cond_broadcast(&n->moved);
    pthread_mutex_unlock(&n->lock);
}

/* Waits until *what reaches `least`. */
static void await(struct names *n, const int *what, int least)
{
    struct timespec t;
    int code = 0;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += 10;
    pthread_mutex_lock(&n->lock);
    while (*what < least && code == 0)
        code = pthread_cond_timedwait(&n->moved, &n->lock, &t);
    int reached = *what;
    pthread_mutex_unlock(&n->lock);
    ck_assert_int_ge(reached, least);
}

static void set(struct names *n, int code, uint32_t a, uint32_t b)
{
    pthread_mutex_lock(&n->lock);
    n->code = code;
    n->ip[0] = a;
    n->ip[1] = b;
    n->count = b ? 2 : 1;
    pthread_mutex_unlock(&n->lock);
}

static struct resolver *start(struct names *n, const char *url, tick_t refresh)
{
    struct endpoint e;
    char err[128] = "";
    struct resolver_options o = {.refresh = refresh,
                                 .seed = 1,
                                 .changed = changed,
                                 .changed_arg = n,
                                 .lookup = lookup,
                                 .lookup_arg = n};
    ck_assert(endpoint_parse_url(url, &e, err, sizeof(err)));
    struct resolver *r = resolver_start(&e, &o, err, sizeof(err));
    ck_assert_msg(r != NULL, "%s", err);
    return r;
}

START_TEST(literal_needs_no_thread)
{
    struct names n;
    names_init(&n);
    struct resolver *r = start(&n, "http://127.0.0.1:8080", 10 * TICK_MS);
    ck_assert_int_eq(n.announced, 1);
    struct address_list *list = resolver_get(r);
    ck_assert_uint_eq(list->count, 1);
    ck_assert_uint_eq(list->version, 1);
    struct address want = v4(0x7f000001, 8080);
    ck_assert(address_equal(&list->at[0], &want));
    resolver_kick(r);
    resolver_stop(r);
    ck_assert_int_eq(n.lookups, 0);
    address_list_unref(list); /* outlives the resolver */
}
END_TEST

START_TEST(changes_are_announced)
{
    struct names n;
    names_init(&n);
    struct resolver *r = start(&n, "http://api.example.com", 10 * TICK_MS);
    await(&n, &n.announced, 1);
    ck_assert_uint_eq(n.last_version, 1);
    await(&n, &n.lookups, 4); /* the same answer again is no news */
    ck_assert_int_eq(n.announced, 1);
    set(&n, 0, 0x7f000001, 0x7f000002);
    await(&n, &n.announced, 2);
    ck_assert_uint_eq(n.last_version, 2);
    ck_assert_uint_eq(n.last_count, 2);
    int before = n.left;
    set(&n, 0, 0x7f000002, 0x7f000001); /* only turned round: name servers do that */
    await(&n, &n.left, before + 3);
    ck_assert_int_eq(n.announced, 2);
    struct address first = v4(0x7f000002, 80);
    struct address_list *list = resolver_get(r);
    ck_assert(address_equal(&list->at[0], &first)); /* but the new order is used */
    address_list_unref(list);
    set(&n, 0, 0x7f000003, 0);
    await(&n, &n.announced, 3);
    resolver_stop(r);
}
END_TEST

START_TEST(another_refresh_time_ends_a_long_sleep)
{
    struct names n;
    names_init(&n);
    struct resolver *r = start(&n, "http://api.example.com", 3600 * TICK_S);
    await(&n, &n.left, 1);
    resolver_set_refresh(r, 10 * TICK_MS);
    await(&n, &n.lookups, 3);
    resolver_stop(r);
}
END_TEST

START_TEST(stale_names_are_served)
{
    struct names n;
    struct resolver_status s;
    names_init(&n);
    struct resolver *r = start(&n, "http://api.example.com", 10 * TICK_MS);
    await(&n, &n.announced, 1);
    resolver_status(r, &s);
    ck_assert_uint_eq(s.failing, 0);
    ck_assert_int_gt(s.last_success, 0);
    set(&n, EAI_AGAIN, 0x7f000009, 0);
    int before = n.left;
    await(&n, &n.left, before + 3); /* the second of these has surely seen the failure, and is taken in */
    struct address_list *list = resolver_get(r);
    ck_assert_ptr_nonnull(list);
    ck_assert(!resolver_failed(r));
    resolver_status(r, &s);
    ck_assert_uint_ge(s.failing, 1);
    ck_assert_uint_eq(s.version, 1);
    ck_assert_uint_ge(s.failures, 1);
    ck_assert_str_eq(s.error, gai_strerror(EAI_AGAIN));
    ck_assert_int_eq(n.announced, 1);
    set(&n, 0, 0x7f000009, 0);
    await(&n, &n.announced, 2);
    resolver_status(r, &s);
    ck_assert_uint_eq(s.failing, 0);
    ck_assert_str_eq(s.error, "");
    address_list_unref(list);
    resolver_stop(r);
}
END_TEST

START_TEST(failure_at_the_start)
{
    struct names n;
    names_init(&n);
    set(&n, EAI_NONAME, 1, 0);
    struct resolver *r = start(&n, "http://api.example.com", 60 * TICK_S);
    await(&n, &n.left, 2); /* tried again long before the refresh time */
    ck_assert(resolver_failed(r));
    ck_assert_ptr_null(resolver_get(r));
    set(&n, 0, 0x7f000001, 0);
    await(&n, &n.announced, 1);
    ck_assert(!resolver_failed(r));
    resolver_stop(r);
}
END_TEST

START_TEST(kick)
{
    struct names n;
    names_init(&n);
    struct resolver *r = start(&n, "http://api.example.com", 3600 * TICK_S);
    await(&n, &n.announced, 1);
    set(&n, 0, 0x7f000002, 0);
    for (int i = 0; i < 100; i++)
        resolver_kick(r);
    await(&n, &n.announced, 2);
    ck_assert_int_le(n.lookups, 3); /* one for the start, one for the kicks, and one more at most */
    resolver_stop(r);
}
END_TEST

static tick_t monotonic(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * TICK_S + t.tv_nsec;
}

START_TEST(stop_while_a_lookup_hangs)
{
    static struct names n; /* the thread outlives this function's frame */
    struct resolver_status s;
    names_init(&n);
    n.hang = true;
    struct resolver *r = start(&n, "http://api.example.com", TICK_S);
    await(&n, &n.lookups, 1);
    ck_assert_ptr_null(resolver_get(r)); /* nobody waits */
    ck_assert(!resolver_failed(r));
    resolver_status(r, &s);
    ck_assert_int_gt(s.looking_since, 0);
    tick_t before = monotonic();
    resolver_stop(r);
    ck_assert_int_lt(monotonic() - before, 2 * TICK_S);
    pthread_mutex_lock(&n.lock);
    n.hang = false;
    pthread_cond_broadcast(&n.moved);
    pthread_mutex_unlock(&n.lock);
    await(&n, &n.left, 1);
    ck_assert_int_eq(n.announced, 0);
}
END_TEST

START_TEST(stop_at_any_time)
{
    for (int i = 0; i < 50; i++) {
        struct names n;
        names_init(&n);
        struct resolver *r = start(&n, "http://api.example.com", 10 * TICK_MS);
        if (i % 3 == 1)
            await(&n, &n.lookups, 1);
        else if (i % 3 == 2)
            await(&n, &n.announced, 1);
        resolver_stop(r);
        int announced = n.announced; /* no lock: nobody else is left */
        ck_assert_int_le(announced, 1);
        ck_assert_int_eq(n.left, n.lookups);
        pthread_cond_destroy(&n.moved);
        pthread_mutex_destroy(&n.lock);
    }
}
END_TEST

START_TEST(real_names)
{
    struct endpoint e;
    char err[128] = "";
    struct names n;
    names_init(&n);
    struct resolver_options o = {.refresh = TICK_S, .changed = changed, .changed_arg = &n};
    ck_assert(endpoint_parse_url("https://localhost:8443", &e, err, sizeof(err)));
    struct resolver *r = resolver_start(&e, &o, err, sizeof(err));
    await(&n, &n.announced, 1);
    struct address_list *list = resolver_get(r);
    struct address a4 = v4(0x7f000001, 8443);
    struct address a6 = {.len = sizeof(struct sockaddr_in6)};
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&a6.sa;
    sin6->sin6_family = AF_INET6;
    sin6->sin6_port = htons(8443);
    sin6->sin6_addr = in6addr_loopback;
    ck_assert(address_list_has(list, &a4) || address_list_has(list, &a6));
    for (uint32_t i = 0; i < list->count; i++)
        for (uint32_t j = 0; j < i; j++)
            ck_assert(!address_equal(&list->at[i], &list->at[j]));
    address_list_unref(list);
    resolver_stop(r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resolve");
    TCase *t = tcase_create("resolve");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, literal_needs_no_thread);
    tcase_add_test(t, changes_are_announced);
    tcase_add_test(t, another_refresh_time_ends_a_long_sleep);
    tcase_add_test(t, stale_names_are_served);
    tcase_add_test(t, failure_at_the_start);
    tcase_add_test(t, kick);
    tcase_add_test(t, stop_while_a_lookup_hangs);
    tcase_add_test(t, stop_at_any_time);
    tcase_add_test(t, real_names);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
