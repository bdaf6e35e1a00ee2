/*
 * TLS over real loopback connections, both roles in one thread unless a test is about threads.
 * Peers that must misbehave are made of OpenSSL directly.
 */
#include "proxy/tls.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <time.h>

#include "tests/unit/proxy/certificates.h"

static char dir[64];
static struct identity ca, other_ca, server_id, expired_id, ip_id, client_id, stranger_id;

static void setup(void)
{
    scratch_make(dir);
    identity_make(&ca, NULL, dir, &(struct identity_wish){.name = "ca"});
    identity_make(&other_ca, NULL, dir, &(struct identity_wish){.name = "other-ca"});
    identity_make(&server_id, &ca, dir,
                  &(struct identity_wish){.name = "server", .san = "DNS:api.example.com"});
    identity_make(&expired_id, &ca, dir,
                  &(struct identity_wish){
                      .name = "expired", .san = "DNS:api.example.com", .begins = -9 * DAY, .ends = -DAY});
    identity_make(&ip_id, &ca, dir, &(struct identity_wish){.name = "ip", .san = "IP:127.0.0.1"});
    identity_make(&client_id, &ca, dir, &(struct identity_wish){.name = "client"});
    identity_make(&stranger_id, &other_ca, dir, &(struct identity_wish){.name = "stranger"});
}

static void teardown(void)
{
    struct identity *all[] = {&ca, &other_ca, &server_id, &expired_id, &ip_id, &client_id, &stranger_id};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        identity_free(all[i]);
    scratch_remove(dir);
}

/* A connected pair of non-blocking TCP sockets: [0] the connecting side. */
static void tcp_pair(int fd[2])
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(sin);
    int one = 1, segment = 1400, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* As on a network: the loopback's segments of 64 KiB do not fit small buffers and wait for timers. */
    setsockopt(listener, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment));
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&sin, sizeof(sin)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&sin, &n), 0);
    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd[0], (struct sockaddr *)&sin, sizeof(sin)), 0);
    fd[1] = accept(listener, NULL, NULL);
    ck_assert_int_ge(fd[1], 0);
    close(listener);
    for (int i = 0; i < 2; i++) {
        fcntl(fd[i], F_SETFL, fcntl(fd[i], F_GETFL) | O_NONBLOCK);
        setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
}

static bool wait_for(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 5000) == 1;
}

struct pair {
    struct stream client, server;
    enum tls_result client_result, server_result;
};

/* Shakes hands on both ends until both are done or have failed. */
static void shake(struct pair *p)
{
    p->client_result = p->server_result = TLS_WANT_READ;
    for (int turn = 0; turn < 1000; turn++) {
        bool c = p->client_result == TLS_DONE || p->client_result == TLS_FAILED;
        bool s = p->server_result == TLS_DONE || p->server_result == TLS_FAILED;
        if (c && s)
            return;
        if (!c)
            p->client_result = tls_handshake(p->client.tls);
        if (!s)
            p->server_result = tls_handshake(p->server.tls);
        /* A side that failed says no more: the other must see the end. */
        if (p->client_result == TLS_FAILED)
            shutdown(p->client.fd, SHUT_WR);
        if (p->server_result == TLS_FAILED)
            shutdown(p->server.fd, SHUT_WR);
        struct pollfd fds[2] = {{.fd = p->client.fd, .events = POLLIN},
                                {.fd = p->server.fd, .events = POLLIN}};
        poll(fds, 2, 20);
    }
    ck_abort_msg("the handshake never ended");
}

static void pair_open(struct pair *p, struct tls_context *client, struct tls_context *server)
{
    int fd[2];
    tcp_pair(fd);
    p->client = (struct stream){fd[0], tls_session_new_client(client, fd[0])};
    p->server = (struct stream){fd[1], tls_session_new_server(server, fd[1])};
    ck_assert_ptr_nonnull(p->client.tls);
    ck_assert_ptr_nonnull(p->server.tls);
    shake(p);
}

static void pair_close(struct pair *p)
{
    stream_close(&p->client);
    stream_close(&p->server);
}

static ssize_t read_wait(struct stream *s, void *buf, size_t n)
{
    for (;;) {
        ssize_t r = stream_read(s, buf, n);
        if (r != STREAM_AGAIN)
            return r;
        ck_assert_msg(wait_for(s->fd, POLLIN), "nothing came");
    }
}

static void write_all(struct stream *s, const void *data, size_t n)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = n};
    ck_assert_int_eq(stream_writev(s, &iov, 1, false), (ssize_t)n);
}

static struct tls_context *client_context(const struct tls_client_options *given)
{
    char err[256] = "";
    struct tls_client_options o = {
        .server_name = "api.example.com", .verify = true, .ca_file = ca.certificate_file};
    struct tls_context *c = tls_context_client(given ? given : &o, err, sizeof(err));
    ck_assert_msg(c != NULL, "%s", err);
    return c;
}

static struct tls_context *server_context_of(const struct identity *who, const char *client_ca,
                                             const char *min)
{
    char err[256] = "";
    struct tls_server_options o = {.certificate_file = who->certificate_file,
                                   .key_file = who->key_file,
                                   .client_ca_file = client_ca,
                                   .min_version = min};
    struct tls_context *c = tls_context_server(&o, err, sizeof(err));
    ck_assert_msg(c != NULL, "%s", err);
    return c;
}

/* The client's view of a handshake that must fail. */
static void expect_refusal(struct tls_context *client, struct tls_context *server, enum reason reason,
                           const char *says)
{
    struct pair p;
    const char *text;
    pair_open(&p, client, server);
    ck_assert_int_eq(p.client_result, TLS_FAILED);
    ck_assert_int_eq(tls_failure(p.client.tls, &text), reason);
    ck_assert_msg(strstr(text, says) != NULL, "\"%s\" does not say \"%s\"", text, says);
    ck_assert_int_ne(p.server_result, TLS_WANT_WRITE);
    pair_close(&p);
    tls_context_unref(client);
    tls_context_unref(server);
}

START_TEST(handshake_and_data)
{
    struct pair p;
    char buf[64];
    struct tls_context *c = client_context(NULL), *s = server_context_of(&server_id, NULL, NULL);
    pair_open(&p, c, s);
    ck_assert_int_eq(p.client_result, TLS_DONE);
    ck_assert_int_eq(p.server_result, TLS_DONE);
    ck_assert_str_eq(tls_version(p.client.tls), "TLSv1.3");
    ck_assert_str_eq(tls_cipher(p.client.tls), "TLS_AES_128_GCM_SHA256");
    struct slice alpn = tls_alpn(p.client.tls);
    ck_assert_int_eq((int)alpn.n, 8);
    ck_assert_mem_eq(alpn.p, "http/1.1", 8);
    ck_assert_str_eq(tls_peer_name(p.server.tls), "api.example.com");
    ck_assert(!tls_resumed(p.client.tls));
    ck_assert_int_eq(tls_failure(p.client.tls, NULL), REASON_NONE);
    ck_assert_int_eq(stream_read(&p.server, buf, sizeof(buf)), STREAM_AGAIN);
    write_all(&p.client, "ping", 4);
    ck_assert_int_eq(read_wait(&p.server, buf, sizeof(buf)), 4);
    ck_assert_mem_eq(buf, "ping", 4);
    write_all(&p.server, "pong!", 5);
    ck_assert_int_eq(read_wait(&p.client, buf, sizeof(buf)), 5);
    ck_assert_mem_eq(buf, "pong!", 5);
    pair_close(&p);
    tls_context_unref(c);
    tls_context_unref(s);
}
END_TEST

START_TEST(wrong_name)
{
    struct tls_client_options o = {
        .server_name = "www.example.com", .verify = true, .ca_file = ca.certificate_file};
    expect_refusal(client_context(&o), server_context_of(&server_id, NULL, NULL), REASON_TLS_CERTIFICATE,
                   "certificate of www.example.com: hostname mismatch");
}
END_TEST

START_TEST(untrusted_authority)
{
    struct tls_client_options o = {
        .server_name = "api.example.com", .verify = true, .ca_file = other_ca.certificate_file};
    expect_refusal(client_context(&o), server_context_of(&server_id, NULL, NULL), REASON_TLS_CERTIFICATE,
                   "unable to get");
    o.ca_file = NULL; /* the system's do not know our authority either */
    expect_refusal(client_context(&o), server_context_of(&server_id, NULL, NULL), REASON_TLS_CERTIFICATE,
                   "unable to get");
}
END_TEST

START_TEST(expired_certificate)
{
    expect_refusal(client_context(NULL), server_context_of(&expired_id, NULL, NULL), REASON_TLS_CERTIFICATE,
                   "expired");
}
END_TEST

START_TEST(verify_off_takes_anything)
{
    struct pair p;
    struct tls_client_options o = {.server_name = "www.example.com"};
    struct tls_context *c = client_context(&o), *s = server_context_of(&expired_id, NULL, NULL);
    pair_open(&p, c, s);
    ck_assert_int_eq(p.client_result, TLS_DONE);
    pair_close(&p);
    tls_context_unref(c);
    tls_context_unref(s);
}
END_TEST

START_TEST(ip_literals)
{
    struct pair p;
    struct tls_client_options o = {
        .server_name = "127.0.0.1", .verify = true, .ca_file = ca.certificate_file};
    struct tls_context *c = client_context(&o), *s = server_context_of(&ip_id, NULL, NULL);
    pair_open(&p, c, s);
    ck_assert_int_eq(p.client_result, TLS_DONE);
    ck_assert_str_eq(tls_peer_name(p.server.tls), ""); /* RFC 6066 3: no literals in SNI */
    pair_close(&p);
    tls_context_unref(s);
    expect_refusal(c, server_context_of(&server_id, NULL, NULL), REASON_TLS_CERTIFICATE,
                   "IP address mismatch");
}
END_TEST

START_TEST(trailing_dot_of_the_root)
{
    struct pair p;
    struct tls_client_options o = {
        .server_name = "api.example.com.", .verify = true, .ca_file = ca.certificate_file};
    struct tls_context *c = client_context(&o), *s = server_context_of(&server_id, NULL, NULL);
    pair_open(&p, c, s);
    ck_assert_int_eq(p.client_result, TLS_DONE);
    ck_assert_str_eq(tls_peer_name(p.server.tls), "api.example.com");
    pair_close(&p);
    tls_context_unref(c);
    tls_context_unref(s);
}
END_TEST

START_TEST(client_certificates)
{
    struct pair p;
    char buf[8];
    const char *text;
    struct tls_client_options o = {
        .server_name = "api.example.com", .verify = true, .ca_file = ca.certificate_file};
    struct tls_context *s = server_context_of(&server_id, ca.certificate_file, NULL);
    o.certificate_file = client_id.certificate_file;
    o.key_file = client_id.key_file;
    struct tls_context *good = client_context(&o);
    pair_open(&p, good, s);
    ck_assert_int_eq(p.client_result, TLS_DONE);
    ck_assert_int_eq(p.server_result, TLS_DONE);
    pair_close(&p);
    o.certificate_file = stranger_id.certificate_file;
    o.key_file = stranger_id.key_file;
    struct tls_context *stranger = client_context(&o);
    pair_open(&p, stranger, s);
    ck_assert_int_eq(p.server_result, TLS_FAILED);
    ck_assert_int_eq(tls_failure(p.server.tls, NULL), REASON_TLS_CERTIFICATE);
    pair_close(&p);
    struct tls_context *none = client_context(NULL);
    pair_open(&p, none, s);
    ck_assert_int_eq(p.server_result, TLS_FAILED);
    /* In TLS 1.3 the client is done first: it learns of the refusal when it reads. */
    ck_assert_int_eq(p.client_result, TLS_DONE);
    ck_assert_int_eq(read_wait(&p.client, buf, sizeof(buf)), STREAM_ERROR);
    ck_assert_int_eq(tls_failure(p.client.tls, &text), REASON_TLS_FAILED);
    ck_assert_msg(strstr(text, "certificate required") != NULL, "%s", text);
    ck_assert(!tls_truncated(p.client.tls));
    pair_close(&p);
    tls_context_unref(good);
    tls_context_unref(stranger);
    tls_context_unref(none);
    tls_context_unref(s);
}
END_TEST

/* A server of OpenSSL's own that speaks at most `max`. */
static SSL_CTX *raw_server(int max)
{
    SSL_CTX *raw = SSL_CTX_new(TLS_server_method());
    ck_assert_int_eq(SSL_CTX_use_certificate_file(raw, server_id.certificate_file, SSL_FILETYPE_PEM), 1);
    ck_assert_int_eq(SSL_CTX_use_PrivateKey_file(raw, server_id.key_file, SSL_FILETYPE_PEM), 1);
    SSL_CTX_set_security_level(raw, 0);
    SSL_CTX_set_min_proto_version(raw, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(raw, max);
    return raw;
}

/* Our client against a raw server. The caller closes both. */
static enum tls_result shake_raw(struct tls_context *client, SSL_CTX *raw, struct stream *ours, SSL **theirs)
{
    int fd[2];
    enum tls_result r = TLS_WANT_READ;
    tcp_pair(fd);
    *ours = (struct stream){fd[0], tls_session_new_client(client, fd[0])};
    *theirs = SSL_new(raw);
    SSL_set_fd(*theirs, fd[1]);
    SSL_set_accept_state(*theirs);
    int done = 0;
    for (int i = 0; i < 500 && (r == TLS_WANT_READ || r == TLS_WANT_WRITE || (r == TLS_DONE && done != 1));
         i++) {
        if (r != TLS_DONE)
            r = tls_handshake(ours->tls);
        if (done != 1)
            done = SSL_do_handshake(*theirs);
        struct pollfd p[2] = {{.fd = fd[0], .events = POLLIN}, {.fd = fd[1], .events = POLLIN}};
        poll(p, 2, 20);
    }
    ERR_clear_error();
    return r;
}

static void raw_close(SSL *theirs)
{
    close(SSL_get_fd(theirs));
    SSL_free(theirs);
}

START_TEST(minimum_version)
{
    struct stream ours;
    SSL *theirs;
    const char *text;
    struct tls_client_options o = {
        .server_name = "api.example.com", .verify = true, .ca_file = ca.certificate_file};
    SSL_CTX *raw12 = raw_server(TLS1_2_VERSION), *raw11 = raw_server(TLS1_1_VERSION);
    struct tls_context *usual = client_context(&o);
    o.min_version = "1.3";
    struct tls_context *strict = client_context(&o);
    ck_assert_int_eq(shake_raw(usual, raw12, &ours, &theirs), TLS_DONE);
    ck_assert_str_eq(tls_version(ours.tls), "TLSv1.2");
    ck_assert_msg(strncmp(tls_cipher(ours.tls), "ECDHE-", 6) == 0, "%s", tls_cipher(ours.tls));
    stream_close(&ours);
    raw_close(theirs);
    ck_assert_int_eq(shake_raw(strict, raw12, &ours, &theirs), TLS_FAILED);
    ck_assert_int_eq(tls_failure(ours.tls, &text), REASON_TLS_FAILED);
    ck_assert_msg(strstr(text, "version") != NULL, "%s", text);
    stream_close(&ours);
    raw_close(theirs);
    ck_assert_int_eq(shake_raw(usual, raw11, &ours, &theirs), TLS_FAILED);
    stream_close(&ours);
    raw_close(theirs);
    tls_context_unref(usual);
    tls_context_unref(strict);
    SSL_CTX_free(raw12);
    SSL_CTX_free(raw11);
}
END_TEST

/* Tickets come with the first bytes that the client reads. */
static void exchange(struct pair *p)
{
    char buf[8];
    write_all(&p->server, "x", 1);
    ck_assert_int_eq(read_wait(&p->client, buf, sizeof(buf)), 1);
}

START_TEST(resumption)
{
    struct pair p, q;
    struct tls_context *c = client_context(NULL), *s = server_context_of(&server_id, NULL, NULL);
    pair_open(&p, c, s);
    exchange(&p);
    ck_assert(!tls_resumed(p.client.tls));
    pair_close(&p);
    for (int i = 0; i < 5; i++) { /* each resumed connection brings a new ticket */
        pair_open(&p, c, s);
        exchange(&p);
        ck_assert(tls_resumed(p.client.tls));
        ck_assert(tls_resumed(p.server.tls));
        pair_close(&p);
    }
    pair_open(&p, c, s); /* two at a time take two tickets */
    pair_open(&q, c, s);
    ck_assert(tls_resumed(p.client.tls) && tls_resumed(q.client.tls));
    pair_close(&p);
    pair_close(&q);
    struct tls_context *fresh = client_context(NULL); /* a reload forgets them */
    pair_open(&p, fresh, s);
    ck_assert(!tls_resumed(p.client.tls));
    pair_close(&p);
    tls_context_unref(fresh);
    tls_context_unref(c);
    tls_context_unref(s);
}
END_TEST

START_TEST(resumption_with_client_certificate)
{
    struct pair p;
    struct tls_client_options o = {.server_name = "api.example.com",
                                   .verify = true,
                                   .ca_file = ca.certificate_file,
                                   .certificate_file = client_id.certificate_file,
                                   .key_file = client_id.key_file};
    struct tls_context *c = client_context(&o), *s = server_context_of(&server_id, ca.certificate_file, NULL);
    pair_open(&p, c, s);
    exchange(&p);
    pair_close(&p);
    pair_open(&p, c, s);
    ck_assert_int_eq(p.server_result, TLS_DONE);
    ck_assert(tls_resumed(p.client.tls));
    pair_close(&p);
    tls_context_unref(c);
    tls_context_unref(s);
}
END_TEST

START_TEST(resumption_tls12)
{
    struct stream ours;
    SSL *theirs;
    SSL_CTX *raw = raw_server(TLS1_2_VERSION);
    struct tls_context *c = client_context(NULL);
    for (int i = 0; i < 4; i++) { /* one ticket serves again and again */
        ck_assert_int_eq(shake_raw(c, raw, &ours, &theirs), TLS_DONE);
        ck_assert_int_eq(tls_resumed(ours.tls), i > 0);
        stream_close(&ours);
        raw_close(theirs);
    }
    tls_context_unref(c);
    SSL_CTX_free(raw);
}
END_TEST

/* Byte `i` of the test's endless text. */
static unsigned char pattern(size_t i)
{
    return (unsigned char)(i * 2654435761u >> 13);
}

/* What the receiver has read must be the text from *got on. */
static size_t drain(struct stream *s, size_t got, size_t room)
{
    unsigned char buf[40000];
    ck_assert(room <= sizeof(buf));
    for (;;) {
        ssize_t r = stream_read(s, buf, room);
        if (r == STREAM_AGAIN)
            return got;
        ck_assert_int_gt(r, 0);
        ssize_t same = 0;
        while (same < r && buf[same] == pattern(got + (size_t)same))
            same++;
        ck_assert_int_eq(same, r);
        got += (size_t)r;
    }
}

/* 1 MiB in vectors of odd lengths through small buffers: every record waits at some time. */
START_TEST(partial_writes)
{
    enum { TOTAL = 1 << 20 };
    static unsigned char text[TOTAL];
    const size_t lengths[] = {1, 300, 16383, 0, 17, 40000, 16384, 5};
    struct pair p;
    int small = 16384, stops = 0;
    size_t sent = 0, got = 0;
    struct tls_context *c = client_context(NULL), *s = server_context_of(&server_id, NULL, NULL);
    for (size_t i = 0; i < TOTAL; i++)
        text[i] = pattern(i);
    pair_open(&p, c, s);
    setsockopt(p.client.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    setsockopt(p.server.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    while (got < TOTAL) {
        struct iovec iov[8];
        int n = 0;
        for (size_t at = sent; n < 8; n++) {
            size_t k =
                lengths[(size_t)(n + _i) % 8] < TOTAL - at ? lengths[(size_t)(n + _i) % 8] : TOTAL - at;
            iov[n] = (struct iovec){.iov_base = text + at, .iov_len = k};
            at += k;
        }
        ssize_t w = sent < TOTAL ? stream_writev(&p.client, iov, n, false) : 0;
        ck_assert(w >= 0 || w == STREAM_AGAIN);
        sent += w > 0 ? (size_t)w : 0;
        if (w > 0)
            continue; /* until it is full */
        stops += w == STREAM_AGAIN;
        ck_assert(wait_for(p.server.fd, POLLIN));
        got = drain(&p.server, got, _i % 2 ? 1000 : 40000);
    }
    ck_assert_uint_eq(sent, TOTAL);
    ck_assert_uint_eq(got, TOTAL);
    ck_assert_int_gt(stops, 10);
    pair_close(&p);
    tls_context_unref(c);
    tls_context_unref(s);
}
END_TEST

START_TEST(small_pieces_share_a_record)
{
    struct pair p;
    char buf[64];
    struct iovec iov[4] = {{.iov_base = "HTTP/1.1 ", .iov_len = 9},
                           {.iov_base = "", .iov_len = 0},
                           {.iov_base = "200 OK", .iov_len = 6},
                           {.iov_base = "\r\n\r\n", .iov_len = 4}};
    struct tls_context *c = client_context(NULL), *s = server_context_of(&server_id, NULL, NULL);
    pair_open(&p, c, s);
    ck_assert_int_eq(stream_writev(&p.server, iov, 4, false), 19);
    /* Behind the tickets lies one record: its type, version, length, 19 bytes, type byte, tag. */
    ck_assert(wait_for(p.client.fd, POLLIN));
    ck_assert_int_eq(read_wait(&p.client, buf, sizeof(buf)), 19);
    ck_assert_mem_eq(buf, "HTTP/1.1 200 OK\r\n\r\n", 19);
    ck_assert(!tls_pending(p.client.tls));
    ck_assert_int_eq(stream_writev(&p.server, iov, 1, false), 9);
    ck_assert(wait_for(p.client.fd, POLLIN));
    int waiting = 0;
    unsigned char raw[128];
    waiting = (int)recv(p.client.fd, raw, sizeof(raw), MSG_PEEK);
    ck_assert_int_eq(waiting, 5 + 9 + 1 + 16);
    ck_assert_int_eq(stream_writev(&p.server, iov, 0, false), 0);
    pair_close(&p);
    tls_context_unref(c);
    tls_context_unref(s);
}
END_TEST

/* Read-ahead takes several records from the socket at once; none may be forgotten there, nor the end. */
START_TEST(pending_tells_of_all_that_waits)
{
    struct pair p;
    char buf[64];
    int reads = 0;
    struct tls_context *c = client_context(NULL), *s = server_context_of(&server_id, NULL, NULL);
    pair_open(&p, c, s);
    exchange(&p);
    write_all(&p.server, "one", 3);
    write_all(&p.server, "two", 3);
    stream_close(&p.server); /* close_notify and FIN behind them */
    ck_assert(wait_for(p.client.fd, POLLIN));
    size_t got = 0;
    ssize_t r = read_wait(&p.client, buf, 2);
    ck_assert_int_eq(r, 2);
    got = (size_t)r;
    while (tls_pending(p.client.tls) && reads++ < 20) {
        r = stream_read(&p.client, buf + got, 2);
        if (r <= 0)
            break;
        got += (size_t)r;
    }
    if (r > 0) /* FIN and close_notify may come by a second wake-up */
        r = read_wait(&p.client, buf + got, 2);
    ck_assert_uint_eq(got, 6);
    ck_assert_mem_eq(buf, "onetwo", 6);
    ck_assert_int_eq(r, STREAM_EOF);
    ck_assert(!tls_pending(p.client.tls));
    ck_assert(!tls_truncated(p.client.tls));
    pair_close(&p);
    tls_context_unref(c);
    tls_context_unref(s);
}
END_TEST

/* An end that a large read swallowed with the data before it is told by pending: no event will. */
START_TEST(end_behind_data_is_told)
{
    struct pair p;
    char buf[1024];
    struct tls_context *c = client_context(NULL), *s = server_context_of(&server_id, NULL, NULL);
    pair_open(&p, c, s);
    exchange(&p);
    int keep = dup(p.server.fd); /* no FIN: only the close_notify */
    write_all(&p.server, "last", 4);
    stream_close(&p.server);
    ck_assert_int_eq(read_wait(&p.client, buf, sizeof(buf)), 4);
    ck_assert(tls_pending(p.client.tls));
    ck_assert_int_eq(stream_read(&p.client, buf, sizeof(buf)), STREAM_EOF);
    ck_assert(!tls_pending(p.client.tls));
    ck_assert_int_eq(stream_read(&p.client, buf, sizeof(buf)), STREAM_EOF);
    close(keep);
    pair_close(&p);
    tls_context_unref(c);
    tls_context_unref(s);
}
END_TEST

START_TEST(truncation)
{
    struct pair p;
    char buf[64];
    const char *text;
    struct tls_context *c = client_context(NULL), *s = server_context_of(&server_id, NULL, NULL);
    pair_open(&p, c, s);
    write_all(&p.server, "half a body", 11);
    shutdown(p.server.fd, SHUT_WR); /* FIN without close_notify */
    ck_assert_int_eq(read_wait(&p.client, buf, sizeof(buf)), 11);
    ck_assert_int_eq(read_wait(&p.client, buf, sizeof(buf)), STREAM_ERROR);
    ck_assert(tls_truncated(p.client.tls));
    ck_assert_int_eq(tls_failure(p.client.tls, &text), REASON_TLS_FAILED);
    ck_assert_msg(strstr(text, "without close_notify") != NULL, "%s", text);
    ck_assert_int_eq(stream_read(&p.client, buf, sizeof(buf)), STREAM_ERROR);
    pair_close(&p);
    pair_open(&p, c, s);
    stream_close(&p.server);
    ck_assert_int_eq(read_wait(&p.client, buf, sizeof(buf)), STREAM_EOF);
    ck_assert(!tls_truncated(p.client.tls));
    ck_assert_int_eq(tls_failure(p.client.tls, NULL), REASON_NONE);
    pair_close(&p);
    tls_context_unref(c);
    tls_context_unref(s);
}
END_TEST

/* The default action of SIGPIPE would end this process. */
START_TEST(writing_to_the_gone_raises_no_signal)
{
    struct pair p;
    struct iovec iov = {.iov_base = "x", .iov_len = 1};
    ssize_t w = 1;
    struct tls_context *c = client_context(NULL), *s = server_context_of(&server_id, NULL, NULL);
    pair_open(&p, c, s);
    write_all(&p.client, "unread", 6);
    ck_assert(wait_for(p.server.fd, POLLIN));
    close(p.server.fd); /* unread bytes: the kernel sends a reset */
    p.server.fd = -1;
    ck_assert(wait_for(p.client.fd, POLLIN));
    for (int i = 0; i < 5 && w == 1; i++)
        w = stream_writev(&p.client, &iov, 1, false);
    ck_assert_int_eq(w, STREAM_ERROR);
    ck_assert_int_eq(stream_writev(&p.client, &iov, 1, false), STREAM_ERROR);
    ck_assert_int_eq(tls_failure(p.client.tls, NULL), REASON_TLS_FAILED);
    pair_close(&p);
    tls_context_unref(c);
    tls_context_unref(s);
}
END_TEST

/* An early answer is still read when the rest of the request can no longer be written. */
START_TEST(reading_goes_on_after_a_failed_write)
{
    struct pair p;
    char buf[16];
    struct iovec iov = {.iov_base = "x", .iov_len = 1};
    struct tls_context *c = client_context(NULL), *s = server_context_of(&server_id, NULL, NULL);
    pair_open(&p, c, s);
    write_all(&p.server, "413", 3);
    ck_assert(wait_for(p.client.fd, POLLIN));
    shutdown(p.client.fd, SHUT_WR);
    ck_assert_int_eq(stream_writev(&p.client, &iov, 1, false), STREAM_ERROR);
    ck_assert_int_eq(read_wait(&p.client, buf, sizeof(buf)), 3);
    pair_close(&p);
    tls_context_unref(c);
    tls_context_unref(s);
}
END_TEST

START_TEST(reload_while_connected)
{
    struct pair p, q;
    char buf[8], err[256] = "";
    struct identity renewed;
    struct tls_context *c = client_context(NULL), *s = server_context_of(&server_id, NULL, NULL);
    pair_open(&p, c, s);
    int64_t old = tls_certificate_not_after(s);
    identity_make(&renewed, &ca, dir,
                  &(struct identity_wish){
                      .name = "server", .san = "DNS:api.example.com", .begins = -DAY, .ends = 99 * DAY});
    struct tls_context *s2 = server_context_of(&renewed, NULL, NULL);
    tls_context_unref(s); /* swapped: the old connection alone holds it now */
    ck_assert_int_gt(tls_certificate_not_after(s2), old + 80 * DAY);
    ck_assert_int_lt(old - time(NULL), 10 * DAY + 60);
    ck_assert_int_gt(old - time(NULL), 10 * DAY - 60);
    pair_open(&q, c, s2);
    ck_assert_int_eq(q.client_result, TLS_DONE);
    write_all(&p.client, "old", 3);
    ck_assert_int_eq(read_wait(&p.server, buf, sizeof(buf)), 3);
    write_all(&q.client, "new", 3);
    ck_assert_int_eq(read_wait(&q.server, buf, sizeof(buf)), 3);
    /* A bad file makes no context, and the good one goes on. */
    ck_assert_int_eq(truncate(renewed.certificate_file, 20), 0);
    struct tls_server_options bad = {.certificate_file = renewed.certificate_file,
                                     .key_file = renewed.key_file};
    ck_assert_ptr_null(tls_context_server(&bad, err, sizeof(err)));
    ck_assert_msg(strstr(err, renewed.certificate_file) != NULL, "%s", err);
    pair_close(&p);
    pair_close(&q);
    tls_context_unref(c);
    tls_context_unref(s2);
    identity_free(&renewed);
}
END_TEST

START_TEST(many_reloads)
{
    for (int i = 0; i < 300; i++) {
        struct tls_context *s = server_context_of(&server_id, NULL, NULL);
        if (i == 299) {
            struct pair p;
            struct tls_context *c = client_context(NULL);
            pair_open(&p, c, s);
            ck_assert_int_eq(p.client_result, TLS_DONE);
            pair_close(&p);
            tls_context_unref(c);
        }
        tls_context_unref(s);
    }
}
END_TEST

static void expect_bad_client(const struct tls_client_options *o, const char *says)
{
    char err[256] = "";
    ck_assert_ptr_null(tls_context_client(o, err, sizeof(err)));
    ck_assert_msg(strstr(err, says) != NULL, "\"%s\" does not say \"%s\"", err, says);
    ck_assert_uint_eq(ERR_peek_error(), 0);
}

START_TEST(bad_settings)
{
    char err[256] = "", missing[128];
    snprintf(missing, sizeof(missing), "%s/none.pem", dir);
    expect_bad_client(&(struct tls_client_options){.server_name = "a", .verify = true, .ca_file = missing},
                      missing);
    expect_bad_client(&(struct tls_client_options){.server_name = "a", .ca_file = missing}, "ca_file");
    expect_bad_client(&(struct tls_client_options){.server_name = "a", .ca_file = ca.key_file}, ca.key_file);
    expect_bad_client(&(struct tls_client_options){.verify = true}, "server_name");
    expect_bad_client(&(struct tls_client_options){.server_name = "a", .min_version = "1.1"}, "min_version");
    expect_bad_client(&(struct tls_client_options){.server_name = "a", .alpn = "h2,,x"}, "ALPN");
    expect_bad_client(&(struct tls_client_options){.server_name = "a", .key_file = ca.key_file}, "together");
    expect_bad_client(&(struct tls_client_options){.server_name = "a",
                                                   .certificate_file = client_id.certificate_file,
                                                   .key_file = server_id.key_file},
                      server_id.key_file);
    struct tls_server_options o = {.certificate_file = missing, .key_file = server_id.key_file};
    ck_assert_ptr_null(tls_context_server(&o, err, sizeof(err)));
    ck_assert_msg(strstr(err, "No such file") != NULL, "%s", err);
    struct tls_context *without = client_context(NULL);
    ck_assert_int_eq(tls_certificate_not_after(without), INT64_MAX);
    tls_context_unref(without);
}
END_TEST

START_TEST(peer_that_speaks_no_tls)
{
    int fd[2];
    const char *text;
    enum tls_result r = TLS_WANT_READ;
    struct tls_context *c = client_context(NULL);
    tcp_pair(fd);
    struct stream s = {fd[0], tls_session_new_client(c, fd[0])};
    ck_assert_int_eq(tls_handshake(s.tls), TLS_WANT_READ);
    ck_assert_int_gt(send(fd[1], "HTTP/1.1 400 Bad Request\r\n\r\n", 28, 0), 0);
    while (r == TLS_WANT_READ && wait_for(fd[0], POLLIN))
        r = tls_handshake(s.tls);
    ck_assert_int_eq(r, TLS_FAILED);
    ck_assert_int_eq(tls_failure(s.tls, &text), REASON_TLS_FAILED);
    ck_assert_msg(strstr(text, "wrong version number") != NULL, "%s", text);
    ck_assert_int_eq(tls_handshake(s.tls), TLS_FAILED);
    stream_close(&s);
    close(fd[1]);
    tcp_pair(fd);
    s = (struct stream){fd[0], tls_session_new_client(c, fd[0])};
    ck_assert_int_eq(tls_handshake(s.tls), TLS_WANT_READ);
    shutdown(fd[1], SHUT_WR);
    ck_assert(wait_for(fd[0], POLLIN));
    ck_assert_int_eq(tls_handshake(s.tls), TLS_FAILED);
    ck_assert_int_eq(tls_failure(s.tls, &text), REASON_TLS_FAILED);
    ck_assert_msg(strstr(text, "during the handshake") != NULL, "%s", text);
    stream_close(&s);
    close(fd[1]);
    tls_context_unref(c);
}
END_TEST

START_TEST(protocols_without_a_common_one)
{
    struct tls_client_options o = {
        .server_name = "api.example.com", .verify = true, .ca_file = ca.certificate_file, .alpn = "h2"};
    expect_refusal(client_context(&o), server_context_of(&server_id, NULL, NULL), REASON_TLS_FAILED,
                   "no application protocol");
}
END_TEST

struct crowd {
    struct tls_context *client, *server;
    int resumed;
};

static void *crowd_member(void *arg)
{
    struct crowd *crowd = arg;
    for (int i = 0; i < 15; i++) {
        struct pair p;
        pair_open(&p, crowd->client, crowd->server);
        exchange(&p);
        crowd->resumed += tls_resumed(p.client.tls);
        pair_close(&p);
    }
    tls_context_unref(crowd->client);
    tls_context_unref(crowd->server);
    return NULL;
}

START_TEST(threads_share_a_context)
{
    struct tls_context *c = client_context(NULL), *s = server_context_of(&server_id, NULL, NULL);
    struct crowd crowd[3];
    pthread_t threads[3];
    int resumed = 0;
    for (int i = 0; i < 3; i++) {
        crowd[i] = (struct crowd){.client = tls_context_ref(c), .server = tls_context_ref(s)};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, crowd_member, &crowd[i]), 0);
    }
    tls_context_unref(c);
    tls_context_unref(s);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        resumed += crowd[i].resumed;
    }
    ck_assert_int_ge(resumed, 3 * 15 - 3); /* only the very first of each may have found no ticket */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls");
    TCase *t = tcase_create("tls");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, handshake_and_data);
    tcase_add_test(t, wrong_name);
    tcase_add_test(t, untrusted_authority);
    tcase_add_test(t, expired_certificate);
    tcase_add_test(t, verify_off_takes_anything);
    tcase_add_test(t, ip_literals);
    tcase_add_test(t, trailing_dot_of_the_root);
    tcase_add_test(t, client_certificates);
    tcase_add_test(t, minimum_version);
    tcase_add_test(t, resumption);
    tcase_add_test(t, resumption_with_client_certificate);
    tcase_add_test(t, resumption_tls12);
    tcase_add_loop_test(t, partial_writes, 0, 8);
    tcase_add_test(t, small_pieces_share_a_record);
    tcase_add_test(t, pending_tells_of_all_that_waits);
    tcase_add_test(t, end_behind_data_is_told);
    tcase_add_test(t, truncation);
    tcase_add_test(t, writing_to_the_gone_raises_no_signal);
    tcase_add_test(t, reading_goes_on_after_a_failed_write);
    tcase_add_test(t, reload_while_connected);
    tcase_add_test(t, many_reloads);
    tcase_add_test(t, bad_settings);
    tcase_add_test(t, peer_that_speaks_no_tls);
    tcase_add_test(t, protocols_without_a_common_one);
    tcase_add_test(t, threads_share_a_context);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
