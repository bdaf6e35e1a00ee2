/*
 * Dialling real listeners on the loopback. A black hole is a listener whose queue is full: the
 * kernel then drops further SYNs, as a firewall would.
 */
#include "proxy/dial.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/un.h>
#include <time.h>

#include "proxy/tls.h"
#include "tests/unit/proxy/certificates.h"

/* libevent reads the coarse clock of the kernel: its timers may be early by a tick of that. */
#define COARSE (12 * TICK_MS)

static char dir[64];
static struct event_base *base;
static int fds_before;

static void setup(void)
{
    scratch_make(dir);
    fds_before = open_fds();
    base = event_base_new();
}

/* Whatever happened, no socket is left behind. */
static void teardown(void)
{
    event_base_free(base);
    ck_assert_int_eq(open_fds(), fds_before);
    scratch_remove(dir);
}

static struct address local4(const char *ip, uint16_t port)
{
    struct address a = {.len = sizeof(struct sockaddr_in)};
    struct sockaddr_in *sin = (struct sockaddr_in *)&a.sa;
    sin->sin_family = AF_INET;
    sin->sin_port = htons(port);
    ck_assert_int_eq(inet_pton(AF_INET, ip, &sin->sin_addr), 1);
    return a;
}

static struct address local6(uint16_t port)
{
    struct address a = {.len = sizeof(struct sockaddr_in6)};
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&a.sa;
    sin6->sin6_family = AF_INET6;
    sin6->sin6_port = htons(port);
    sin6->sin6_addr = in6addr_loopback;
    return a;
}

/* Binds to *a, whose port may be 0 and is then filled in. Listens when backlog >= 0. */
static int listener(struct address *a, int backlog)
{
    int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a->sa, a->len), 0);
    if (a->sa.ss_family != AF_UNIX)
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a->sa, &a->len), 0);
    if (backlog >= 0)
        ck_assert_int_eq(listen(fd, backlog), 0);
    return fd;
}

struct hole {
    int fd[4];
    struct address address;
};

/* A listener that has room for one and a connection that takes it, with more that wait for ever. */
static void hole_open(struct hole *h)
{
    h->address = local4("127.0.0.1", 0);
    h->fd[0] = listener(&h->address, 0);
    for (int i = 1; i < 4; i++) {
        h->fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(h->fd[i], (struct sockaddr *)&h->address.sa, h->address.len);
    }
}

static void hole_close(struct hole *h)
{
    for (int i = 0; i < 4; i++)
        close(h->fd[i]);
}

struct outcome {
    int calls;
    struct dial_result result;
    char text[512];
};

static void done(void *arg, const struct dial_result *result)
{
    struct outcome *o = arg;
    o->calls++;
    o->result = *result;
    snprintf(o->text, sizeof(o->text), "%s", result->text);
    event_base_loopbreak(base);
}

static tick_t monotonic(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * TICK_S + t.tv_nsec;
}

struct plan {
    struct address at[6];
    uint32_t count, first;
    struct tls_context *tls;
    tick_t timeout, stagger;
};

static struct dial *begin(const struct plan *plan, struct outcome *o)
{
    struct address_list *list = address_list_new(plan->at, plan->count);
    struct dial_request r = {.base = base,
                             .addresses = list,
                             .first = plan->first,
                             .tls = plan->tls,
                             .timeout = plan->timeout ? plan->timeout : 5 * TICK_S,
                             .stagger = plan->stagger};
    memset(o, 0, sizeof(*o));
    struct dial *d = dial_start(&r, done, o);
    ck_assert_ptr_nonnull(d);
    ck_assert_int_eq(o->calls, 0); /* never from inside */
    address_list_unref(list);      /* the dial has its own reference */
    return d;
}

/* Dials to the end. Returns the time that it took. */
static tick_t dial(const struct plan *plan, struct outcome *o)
{
    tick_t began = monotonic();
    begin(plan, o);
    event_base_dispatch(base);
    ck_assert_int_eq(o->calls, 1);
    event_base_loop(base, EVLOOP_NONBLOCK);
    ck_assert_int_eq(o->calls, 1);
    ck_assert_int_eq(event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED), 0);
    return monotonic() - began;
}

static void expect_stream(struct outcome *o, const struct address *where)
{
    struct address peer = {.len = sizeof(peer.sa)};
    int one = 0;
    socklen_t n = sizeof(one);
    ck_assert_msg(o->result.reason == REASON_NONE, "%s", o->text);
    ck_assert_int_ge(o->result.stream.fd, 0);
    ck_assert(address_equal(&o->result.address, where));
    ck_assert_int_ge(o->result.tcp, 0);
    ck_assert_int_ne(fcntl(o->result.stream.fd, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_ne(fcntl(o->result.stream.fd, F_GETFD) & FD_CLOEXEC, 0);
    if (where->sa.ss_family == AF_UNIX)
        return;
    ck_assert_int_eq(getpeername(o->result.stream.fd, (struct sockaddr *)&peer.sa, &peer.len), 0);
    ck_assert(address_equal(&peer, where));
    getsockopt(o->result.stream.fd, IPPROTO_TCP, TCP_NODELAY, &one, &n);
    ck_assert_int_eq(one != 0, 1);
}

static void expect_failure(const struct outcome *o, enum reason reason, const char *says)
{
    ck_assert_str_eq(reason_row(o->result.reason)->name, reason_row(reason)->name);
    ck_assert_msg(strstr(o->text, says) != NULL, "\"%s\" does not say \"%s\"", o->text, says);
    ck_assert_int_eq(o->result.stream.fd, -1);
    ck_assert_ptr_null(o->result.stream.tls);
}

START_TEST(plain)
{
    struct outcome o;
    struct plan p = {.at = {local4("127.0.0.1", 0)}, .count = 1};
    int fd = listener(&p.at[0], 8);
    dial(&p, &o);
    expect_stream(&o, &p.at[0]);
    ck_assert_int_eq(o.result.tls, -1);
    ck_assert_uint_eq(o.result.index, 0);
    ck_assert_str_eq(o.text, "");
    int peer = accept(fd, NULL, NULL);
    ck_assert_int_eq(send(peer, "hi", 2, 0), 2);
    char buf[8];
    struct pollfd w = {.fd = o.result.stream.fd, .events = POLLIN};
    ck_assert_int_eq(poll(&w, 1, 5000), 1);
    ck_assert_int_eq(stream_read(&o.result.stream, buf, sizeof(buf)), 2);
    stream_close(&o.result.stream);
    close(peer);
    close(fd);
}
END_TEST

START_TEST(unix_socket)
{
    struct outcome o;
    struct plan p = {.count = 1};
    struct endpoint e;
    char text[128], err[128];
    snprintf(text, sizeof(text), "unix:%s/socket", dir);
    ck_assert(endpoint_parse(text, &e, err, sizeof(err)) && endpoint_literal(&e, &p.at[0]));
    dial(&p, &o);
    expect_failure(&o, REASON_CONNECT_FAILED, "No such file");
    int fd = listener(&p.at[0], 8);
    dial(&p, &o);
    expect_stream(&o, &p.at[0]);
    stream_close(&o.result.stream);
    close(fd);
    dial(&p, &o);
    expect_failure(&o, REASON_CONNECT_FAILED, "refused");
}
END_TEST

START_TEST(refused)
{
    struct outcome o;
    struct plan p = {.at = {local4("127.0.0.1", 0), local4("127.0.0.2", 0)}, .count = 2};
    int a = listener(&p.at[0], -1), b = listener(&p.at[1], -1); /* bound, so nobody else takes the ports */
    ck_assert_int_lt(dial(&p, &o), TICK_S);
    expect_failure(&o, REASON_CONNECT_FAILED, "connect to 127.0.0.2:");
    ck_assert_ptr_nonnull(strstr(o.text, "refused"));
    ck_assert_uint_eq(o.result.index, 1);
    close(a);
    close(b);
}
END_TEST

/* A refusal starts the next attempt at once, without the quarter of a second. */
START_TEST(refused_then_good)
{
    struct outcome o;
    struct plan p = {.at = {local4("127.0.0.1", 0), local4("127.0.0.2", 0), local4("127.0.0.3", 0)},
                     .count = 3,
                     .stagger = 4 * TICK_S};
    int a = listener(&p.at[0], -1), b = listener(&p.at[1], -1), c = listener(&p.at[2], 8);
    ck_assert_int_lt(dial(&p, &o), 2 * TICK_S);
    expect_stream(&o, &p.at[2]);
    ck_assert_uint_eq(o.result.index, 2);
    stream_close(&o.result.stream);
    close(a);
    close(b);
    close(c);
}
END_TEST

START_TEST(black_hole_then_good)
{
    struct hole h;
    struct outcome o;
    hole_open(&h);
    struct plan p = {.at = {h.address, local4("127.0.0.2", 0)}, .count = 2, .stagger = 100 * TICK_MS};
    int fd = listener(&p.at[1], 8);
    tick_t took = dial(&p, &o);
    expect_stream(&o, &p.at[1]);
    ck_assert_int_ge(took, 100 * TICK_MS - COARSE);
    ck_assert_int_lt(took, 3 * TICK_S);
    ck_assert_int_lt(o.result.tcp, 95 * TICK_MS); /* of the attempt that won, not of the wait before it */
    stream_close(&o.result.stream);
    p.first = 1; /* who remembers what worked does not wait */
    p.stagger = 4 * TICK_S;
    ck_assert_int_lt(dial(&p, &o), 2 * TICK_S);
    expect_stream(&o, &p.at[1]);
    ck_assert_uint_eq(o.result.index, 1);
    stream_close(&o.result.stream);
    close(fd);
    hole_close(&h);
}
END_TEST

START_TEST(black_hole_alone)
{
    struct hole h;
    struct outcome o;
    hole_open(&h);
    struct plan p = {.at = {h.address}, .count = 1, .timeout = 150 * TICK_MS};
    tick_t took = dial(&p, &o);
    expect_failure(&o, REASON_CONNECT_TIMEOUT, "not done within 150 ms");
    ck_assert_int_ge(took, 150 * TICK_MS - COARSE);
    ck_assert_int_lt(took, 3 * TICK_S);
    hole_close(&h);
}
END_TEST

static bool has_ipv6(void)
{
    struct address a = local6(0);
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool well = fd >= 0 && bind(fd, (struct sockaddr *)&a.sa, a.len) == 0;
    if (fd >= 0)
        close(fd);
    return well;
}

/* Three dead addresses of one family must not come before the first of the other: it is tried second. */
START_TEST(families_take_turns)
{
    struct hole h;
    struct outcome o;
    if (!has_ipv6())
        return;
    hole_open(&h);
    struct plan p = {
        .at = {h.address, h.address, h.address, local6(0)}, .count = 4, .stagger = 300 * TICK_MS};
    int fd = listener(&p.at[3], 8);
    tick_t took = dial(&p, &o);
    expect_stream(&o, &p.at[3]);
    ck_assert_uint_eq(o.result.index, 3);
    ck_assert_int_ge(took, 300 * TICK_MS - COARSE);
    ck_assert_int_lt(took, 850 * TICK_MS); /* the second attempt, not the fourth at 900 ms */
    stream_close(&o.result.stream);
    close(fd);
    hole_close(&h);
}
END_TEST

/* ---- with TLS ---- */

struct tls_peer {
    int listener;
    int rounds;
    struct tls_context *context;
    pthread_t thread;
};

/* Serves handshakes, then a line, then waits for the end of each connection. */
static void *tls_peer_run(void *arg)
{
    struct tls_peer *peer = arg;
    for (int i = 0; i < peer->rounds; i++) {
        struct stream s = {.fd = accept4(peer->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)};
        struct pollfd w = {.fd = s.fd, .events = POLLIN};
        char buf[16];
        s.tls = tls_session_new_server(peer->context, s.fd);
        enum tls_result r;
        while ((r = tls_handshake(s.tls)) == TLS_WANT_READ && poll(&w, 1, 5000) == 1)
            continue;
        struct iovec iov = {.iov_base = "hello", .iov_len = 5};
        ssize_t n = r == TLS_DONE ? stream_writev(&s, &iov, 1, false) : STREAM_EOF;
        while (n > 0 || n == STREAM_AGAIN) {
            n = stream_read(&s, buf, sizeof(buf));
            if (n == STREAM_AGAIN && poll(&w, 1, 5000) != 1)
                break;
        }
        stream_close(&s);
    }
    return NULL;
}

struct tls_world {
    struct identity ca, id;
    struct tls_context *client, *stranger, *server;
};

static struct tls_context *make_client(const char *name, const char *ca_file)
{
    char err[256];
    struct tls_client_options o = {.server_name = name, .ca_file = ca_file, .verify = true};
    struct tls_context *c = tls_context_client(&o, err, sizeof(err));
    ck_assert_msg(c != NULL, "%s", err);
    return c;
}

static void world_open(struct tls_world *w)
{
    char err[256];
    identity_make(&w->ca, NULL, dir, &(struct identity_wish){.name = "ca"});
    identity_make(&w->id, &w->ca, dir, &(struct identity_wish){.name = "server", .san = "DNS:localhost"});
    struct tls_server_options o = {.certificate_file = w->id.certificate_file, .key_file = w->id.key_file};
    w->server = tls_context_server(&o, err, sizeof(err));
    w->client = make_client("localhost", w->ca.certificate_file);
    w->stranger = make_client("example.com", w->ca.certificate_file);
    ck_assert_ptr_nonnull(w->server);
}

static void world_close(struct tls_world *w)
{
    tls_context_unref(w->client);
    tls_context_unref(w->stranger);
    tls_context_unref(w->server);
    identity_free(&w->ca);
    identity_free(&w->id);
}

static void tls_peer_start(struct tls_peer *peer, struct tls_world *w, int fd, int rounds)
{
    *peer = (struct tls_peer){.listener = fd, .rounds = rounds, .context = w->server};
    ck_assert_int_eq(pthread_create(&peer->thread, NULL, tls_peer_run, peer), 0);
}

START_TEST(tls)
{
    struct tls_world w;
    struct tls_peer peer;
    struct outcome o;
    struct plan p = {.at = {local4("127.0.0.1", 0), local4("127.0.0.2", 0)}, .count = 2};
    world_open(&w);
    int dead = listener(&p.at[0], -1), fd = listener(&p.at[1], 8);
    tls_peer_start(&peer, &w, fd, 3);
    p.tls = w.client;
    for (int i = 0; i < 2; i++) {
        char buf[16];
        dial(&p, &o);
        expect_stream(&o, &p.at[1]);
        ck_assert_ptr_nonnull(o.result.stream.tls);
        ck_assert_int_ge(o.result.tls, 0);
        ck_assert_int_eq(o.result.tls_resumed, i > 0);
        struct pollfd wait = {.fd = o.result.stream.fd, .events = POLLIN};
        ssize_t n;
        while ((n = stream_read(&o.result.stream, buf, sizeof(buf))) == STREAM_AGAIN)
            ck_assert_int_eq(poll(&wait, 1, 5000), 1);
        ck_assert_int_eq(n, 5);
        stream_close(&o.result.stream);
    }
    p.tls = w.stranger;
    dial(&p, &o);
    expect_failure(&o, REASON_TLS_CERTIFICATE, "hostname mismatch");
    ck_assert_ptr_nonnull(strstr(o.text, "TLS with 127.0.0.2:"));
    pthread_join(peer.thread, NULL);
    close(dead);
    close(fd);
    world_close(&w);
}
END_TEST

/* The first address takes the connection and says nothing of TLS: the time is one for both phases. */
START_TEST(tls_that_never_answers)
{
    struct tls_world w;
    struct outcome o;
    struct plan p = {.at = {local4("127.0.0.1", 0)}, .count = 1, .timeout = 150 * TICK_MS};
    world_open(&w);
    int fd = listener(&p.at[0], 8);
    p.tls = w.client;
    tick_t took = dial(&p, &o);
    expect_failure(&o, REASON_CONNECT_TIMEOUT, "TLS with 127.0.0.1:");
    ck_assert_int_ge(took, 150 * TICK_MS - COARSE);
    ck_assert_int_lt(took, 3 * TICK_S);
    close(fd);
    world_close(&w);
}
END_TEST

static void *hang_up(void *arg)
{
    int fd = accept(*(int *)arg, NULL, NULL);
    char buf[1024];
    ssize_t n = recv(fd, buf, sizeof(buf), 0); /* the ClientHello, so that no reset is sent */
    (void)n;
    close(fd);
    return NULL;
}

/* A broken TLS peer is passed over for the next address; alone it is TLS_FAILED. */
START_TEST(tls_that_hangs_up)
{
    struct tls_world w;
    struct tls_peer peer;
    struct outcome o;
    pthread_t thread;
    struct plan p = {.at = {local4("127.0.0.1", 0), local4("127.0.0.2", 0)}, .count = 1};
    world_open(&w);
    int bad = listener(&p.at[0], 8), good = listener(&p.at[1], 8);
    p.tls = w.client;
    ck_assert_int_eq(pthread_create(&thread, NULL, hang_up, &bad), 0);
    dial(&p, &o);
    expect_failure(&o, REASON_TLS_FAILED, "closed the connection during the handshake");
    pthread_join(thread, NULL);
    p.count = 2;
    ck_assert_int_eq(pthread_create(&thread, NULL, hang_up, &bad), 0);
    tls_peer_start(&peer, &w, good, 1);
    dial(&p, &o);
    expect_stream(&o, &p.at[1]);
    stream_close(&o.result.stream);
    pthread_join(thread, NULL);
    pthread_join(peer.thread, NULL);
    close(bad);
    close(good);
    world_close(&w);
}
END_TEST

static void loop_for(tick_t t)
{
    struct timeval tv = {.tv_usec = t / TICK_US};
    event_base_loopexit(base, &tv);
    event_base_dispatch(base);
}

/* While the winner shakes hands the losers are gone: none may come in later and win again. */
START_TEST(one_winner)
{
    struct hole h;
    struct tls_world w;
    struct outcome o;
    hole_open(&h);
    world_open(&w);
    struct plan p = {
        .at = {h.address, local4("127.0.0.1", 0)}, .count = 2, .stagger = 5 * TICK_MS, .tls = w.client};
    int fd = listener(&p.at[1], 8), before = open_fds();
    struct dial *d = begin(&p, &o);
    ck_assert_int_eq(open_fds(), before + 1);
    loop_for(100 * TICK_MS);
    int peer = accept(fd, NULL, NULL); /* the second was begun, and has won */
    ck_assert_int_eq(open_fds(), before + 2);
    ck_assert_int_eq(o.calls, 0);
    dial_cancel(d);
    close(peer);
    close(fd);
    hole_close(&h);
    world_close(&w);
}
END_TEST

/* At each stage: just begun, racing two holes, shaking hands. The fixture looks for sockets left open. */
START_TEST(cancel)
{
    struct hole h;
    struct tls_world w;
    struct outcome o;
    hole_open(&h);
    world_open(&w);
    struct plan p = {
        .at = {h.address, h.address, local4("127.0.0.1", 0)}, .count = 2, .stagger = 5 * TICK_MS};
    int fd = listener(&p.at[2], 8);
    dial_cancel(begin(&p, &o));
    struct dial *d = begin(&p, &o);
    loop_for(30 * TICK_MS);
    dial_cancel(d);
    p.first = 2;
    p.count = 3;
    p.tls = w.client;
    d = begin(&p, &o);
    loop_for(30 * TICK_MS); /* connected, ClientHello sent, and no answer */
    int peer = accept(fd, NULL, NULL);
    ck_assert_int_ge(peer, 0);
    dial_cancel(d);
    dial_cancel(NULL);
    event_base_loop(base, EVLOOP_NONBLOCK);
    ck_assert_int_eq(o.calls, 0);
    /* A failure that waits to be reported can still be cancelled. */
    struct plan dead_end = {.at = {local4("127.0.0.1", 0)}, .count = 1};
    int bound = listener(&dead_end.at[0], -1);
    dial_cancel(begin(&dead_end, &o));
    event_base_loop(base, EVLOOP_NONBLOCK);
    ck_assert_int_eq(o.calls, 0);
    close(bound);
    close(peer);
    close(fd);
    hole_close(&h);
    world_close(&w);
}
END_TEST

static void again(void *arg, const struct dial_result *result)
{
    struct plan *p = arg;
    if (result->reason == REASON_NONE)
        close(result->stream.fd);
    if (p->first++ < 5) {
        struct address_list *list = address_list_new(p->at, p->count);
        struct dial_request r = {.base = base, .addresses = list, .timeout = TICK_S};
        ck_assert_ptr_nonnull(dial_start(&r, again, p));
        address_list_unref(list);
    }
}

START_TEST(a_dial_from_the_callback)
{
    struct plan p = {.at = {local4("127.0.0.1", 0)}, .count = 1};
    int fd = listener(&p.at[0], _i ? 8 : -1);
    struct address_list *list = address_list_new(p.at, 1);
    struct dial_request r = {.base = base, .addresses = list, .timeout = TICK_S};
    ck_assert_ptr_nonnull(dial_start(&r, again, &p));
    address_list_unref(list);
    event_base_dispatch(base);
    ck_assert_uint_eq(p.first, 6);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dial");
    TCase *t = tcase_create("dial");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, plain);
    tcase_add_test(t, unix_socket);
    tcase_add_test(t, refused);
    tcase_add_test(t, refused_then_good);
    tcase_add_test(t, black_hole_then_good);
    tcase_add_test(t, black_hole_alone);
    tcase_add_test(t, families_take_turns);
    tcase_add_test(t, tls);
    tcase_add_test(t, tls_that_never_answers);
    tcase_add_test(t, tls_that_hangs_up);
    tcase_add_test(t, one_winner);
    tcase_add_test(t, cancel);
    tcase_add_loop_test(t, a_dial_from_the_callback, 0, 2);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
