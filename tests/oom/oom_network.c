/* TLS, dialling, resolving and queues of bytes while memory runs out at every place. */
#include <arpa/inet.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <time.h>

#include "proxy/dial.h"
#include "proxy/file_watch.h"
#include "proxy/out.h"
#include "proxy/resolve.h"
#include "proxy/signer.h"
#include "proxy/tls.h"
#include "tests/oom/inject.h"
#include "tests/unit/proxy/certificates.h"

static char dir[64], secret_file[96];
static struct identity ca, server_id;
static struct event_base *base;

static struct tls_context *client_context(void)
{
    char err[256];
    struct tls_client_options o = {
        .server_name = "localhost", .verify = true, .ca_file = ca.certificate_file};
    return tls_context_client(&o, err, sizeof(err));
}

static struct tls_context *server_context(void)
{
    char err[256];
    struct tls_server_options o = {.certificate_file = server_id.certificate_file,
                                   .key_file = server_id.key_file};
    return tls_context_server(&o, err, sizeof(err));
}

/* Both ends of one handshake and a record. True when it came through. */
static bool shake(struct stream *client, struct stream *server)
{
    enum tls_result c = TLS_WANT_READ, s = TLS_WANT_READ;
    char buf[8];
    for (int i = 0; i < 100 && (c != TLS_DONE || s != TLS_DONE); i++) {
        c = c == TLS_DONE ? c : tls_handshake(client->tls);
        s = s == TLS_DONE ? s : tls_handshake(server->tls);
        if (c == TLS_FAILED || s == TLS_FAILED)
            return false;
        struct pollfd p[2] = {{.fd = client->fd, .events = POLLIN}, {.fd = server->fd, .events = POLLIN}};
        poll(p, 2, 20);
    }
    struct iovec iov = {.iov_base = "hello", .iov_len = 5};
    return c == TLS_DONE && s == TLS_DONE && stream_writev(server, &iov, 1, false) == 5 &&
           stream_read(client, buf, 8) == 5;
}

static bool tls_scenario(void)
{
    int fd[2];
    bool well = false;
    struct tls_context *c = client_context(), *s = server_context();
    if (c && s && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0) {
        struct stream a = {fd[0], tls_session_new_client(c, fd[0])},
                      b = {fd[1], tls_session_new_server(s, fd[1])};
        well = a.tls && b.tls && shake(&a, &b);
        stream_close(&a);
        stream_close(&b);
    }
    tls_context_unref(c);
    tls_context_unref(s);
    return well;
}

/* A handshake that must fail: the words for it need memory too, and may be missing. */
static bool tls_refusal_scenario(void)
{
    int fd[2];
    const char *text = NULL;
    bool well = false;
    struct tls_context *c = client_context();
    if (c && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0) {
        struct stream a = {fd[0], tls_session_new_client(c, fd[0])};
        if (a.tls && tls_handshake(a.tls) == TLS_WANT_READ &&
            send(fd[1], "HTTP/1.1 400\r\n\r\n", 16, 0) == 16 && tls_handshake(a.tls) == TLS_FAILED)
            well = tls_failure(a.tls, &text) == REASON_TLS_FAILED && text && *text;
        stream_close(&a);
        close(fd[1]);
    }
    tls_context_unref(c);
    return well;
}

static struct address local(uint16_t port)
{
    struct address a = {.len = sizeof(struct sockaddr_in)};
    struct sockaddr_in *sin = (struct sockaddr_in *)&a.sa;
    sin->sin_family = AF_INET;
    sin->sin_port = htons(port);
    sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

struct outcome {
    int calls;
    enum reason reason;
};

static void dialled(void *arg, const struct dial_result *result)
{
    struct outcome *o = arg;
    struct stream s = result->stream;
    o->calls++;
    o->reason = result->reason;
    if (result->reason == REASON_NONE)
        stream_close(&s);
    event_base_loopbreak(base);
}

/* One address that refuses, one that takes; with a TLS context, the second is silent until the time is over.
 */
static bool dial_to(struct tls_context *tls, enum reason want)
{
    struct address at[2] = {local(0), local(0)};
    struct outcome o = {0};
    int fd[2];
    for (int i = 0; i < 2; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(fd[i], (struct sockaddr *)&at[i].sa, at[i].len) != 0 || (i == 1 && listen(fd[i], 4) != 0) ||
            getsockname(fd[i], (struct sockaddr *)&at[i].sa, &at[i].len) != 0)
            abort();
    }
    struct address_list *list = address_list_new(at, 2);
    struct dial_request r = {
        .base = base, .addresses = list, .tls = tls, .timeout = tls ? 20 * TICK_MS : 5 * TICK_S};
    if (list && dial_start(&r, dialled, &o))
        event_base_dispatch(base);
    address_list_unref(list);
    close(fd[0]);
    close(fd[1]);
    return o.calls == 1 && o.reason == want;
}

static bool dial_scenario(void)
{
    return dial_to(NULL, REASON_NONE);
}

static bool dial_tls_scenario(void)
{
    struct tls_context *c = client_context();
    bool well = c && dial_to(c, REASON_CONNECT_TIMEOUT);
    tls_context_unref(c);
    return well;
}

static bool resolver_literal_scenario(void)
{
    struct endpoint e;
    char err[128];
    struct resolver_options o = {.refresh = TICK_S};
    if (!endpoint_parse_url("http://127.0.0.1:80", &e, err, sizeof(err)))
        abort();
    struct resolver *r = resolver_start(&e, &o, err, sizeof(err));
    if (!r)
        return false;
    struct address_list *list = resolver_get(r);
    address_list_unref(list);
    resolver_stop(r);
    return list != NULL;
}

/* With its thread and the real lookup of a name that needs no name server. */
static bool resolver_scenario(void)
{
    struct endpoint e;
    char err[128];
    struct resolver_options o = {.refresh = TICK_S};
    struct resolver_status s = {0};
    if (!endpoint_parse_url("http://localhost:80", &e, err, sizeof(err)))
        abort();
    struct resolver *r = resolver_start(&e, &o, err, sizeof(err));
    if (!r)
        return false;
    for (int i = 0; i < 2000 && s.lookups == 0; i++) {
        resolver_status(r, &s);
        poll(NULL, 0, 1);
    }
    struct address_list *list = resolver_get(r);
    address_list_unref(list);
    resolver_stop(r);
    return list != NULL;
}

/* More than a socket takes, so that bytes are queued: copies of runs, and a block held. */
static bool out_scenario(void)
{
    static char text[400000];
    int fd[2], small = 8192;
    struct block_pool pool = {0};
    struct out out = {0};
    struct gather g;
    uint64_t sent = 0;
    bool well = false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) != 0)
        abort();
    setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    struct stream s = {.fd = fd[0]};
    struct block *b = block_get(&pool);
    gather_clear(&g);
    if (b) {
        memset(b->data, 'b', BLOCK_SIZE);
        g.out = &out;
        well = gather_add(&g, text, sizeof(text), NULL, NULL) &&
               gather_add(&g, b->data, BLOCK_SIZE, b, &OUT_BLOCK) &&
               out_flush(&out, &g, &s, &sent) == OUT_QUEUED && out.bytes + sent == sizeof(text) + BLOCK_SIZE;
        block_unref(b);
    }
    out_dispose(&out);
    block_pool_dispose(&pool);
    close(fd[0]);
    close(fd[1]);
    return well;
}

static bool file_watch_scenario(void)
{
    struct file_watch w;
    file_watch_init(&w);
    bool well =
        file_watch_add(&w, "/etc/passwd") && file_watch_add(&w, "/etc/group") && !file_watch_changed(&w);
    file_watch_dispose(&w);
    return well;
}

/* Keys from files, a signature with a body's digest. */
static bool signer_scenario(void)
{
    char err[512], lines[SIGNED_LINES_MAX], hex[SHA256_HEX_LEN];
    size_t n = 0;
    struct rng rng;
    struct signer_options o = {SIGNER_SIGNED, TIMESTAMP_ZULU, true, secret_file, secret_file};
    struct signed_request request = {
        .method = SLICE("GET"), .path = SLICE("/x?y"), .body_sha256 = {hex, sizeof(hex)}};
    rng_seed(&rng, 1);
    struct signer *s = signer_new(&o, err, sizeof(err));
    struct body_digest *d = s ? body_digest_new(s) : NULL;
    bool well = d && body_digest_add(d, SLICE("body")) && body_digest_end(d, hex) &&
                signer_lines(s, &request, &rng, lines, &n);
    body_digest_free(d);
    signer_free(s);
    return well && n > 0;
}

static void write_secret(void)
{
    snprintf(secret_file, sizeof(secret_file), "%s/secret", dir);
    FILE *f = fopen(secret_file, "w");
    if (!f || fputs("po_1\n", f) < 0 || fclose(f) != 0)
        abort();
}

static void set_up(void)
{
    scratch_make(dir);
    identity_make(&ca, NULL, dir, &(struct identity_wish){.name = "ca"});
    identity_make(&server_id, &ca, dir, &(struct identity_wish){.name = "server", .san = "DNS:localhost"});
    base = event_base_new();
    write_secret();
}

static void tear_down(void)
{
    event_base_free(base);
    identity_free(&ca);
    identity_free(&server_id);
    scratch_remove(dir);
}

int main(void)
{
    static const struct scenario scenarios[] = {
        {"tls", tls_scenario},
        {"tls that fails", tls_refusal_scenario},
        {"dial", dial_scenario},
        {"dial with tls", dial_tls_scenario},
        {"resolver of a literal", resolver_literal_scenario},
        {"resolver", resolver_scenario},
        {"out", out_scenario},
        {"file watch", file_watch_scenario},
        {"signer", signer_scenario},
    };
    return inject_main("network without memory", scenarios, (int)ARRAY_LEN(scenarios), set_up, tear_down);
}
