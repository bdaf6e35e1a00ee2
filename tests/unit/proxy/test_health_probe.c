/*
 * Tests of proxy/health_probe.c: a server on a thread that answers as it is told; what is printed where, and
 * the exit code.
 */
#include "proxy/health_probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/unit/policy/config_fixture.h"
#include "tests/unit/policy/harness.h"
#include "tests/unit/proxy/scratch.h"

static char dir[64], asked[512];

struct server {
    pthread_t thread;
    int fd;
    const char *answer; /* NULL: none, but the end of the connection */
    bool drips;
    char url[160];
};

static void *serve(void *arg)
{
    struct server *s = arg;
    int fd = accept(s->fd, NULL, NULL);
    ssize_t n = recv(fd, asked, sizeof(asked) - 1, 0);
    asked[n > 0 ? n : 0] = '\0';
    for (const char *p = s->answer; p && *p; p += s->drips ? 1 : (ptrdiff_t)strlen(p))
        (void)send(fd, p, s->drips ? 1 : strlen(p), MSG_NOSIGNAL);
    close(fd);
    return NULL;
}

static void start(struct server *s, const char *unix_path)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_un un;
    } sa = {.in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}};
    socklen_t n = sizeof(sa.in);
    if (unix_path) {
        sa.un.sun_family = AF_UNIX;
        snprintf(sa.un.sun_path, sizeof(sa.un.sun_path), "%s", unix_path);
        n = sizeof(sa.un);
    }
    s->fd = socket(sa.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert(bind(s->fd, &sa.any, n) == 0 && listen(s->fd, 4) == 0);
    if (unix_path) {
        snprintf(s->url, sizeof(s->url), "unix:%s", unix_path);
    } else {
        ck_assert_int_eq(getsockname(s->fd, &sa.any, &n), 0);
        snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%u", ntohs(sa.in.sin_port));
    }
    ck_assert_int_eq(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop(struct server *s)
{
    pthread_join(s->thread, NULL);
    close(s->fd);
}

static char *out, *err;

/* The exit code; what was printed is in out and err. */
static int probe(const char *url, const struct config *cfg)
{
    size_t out_n, err_n;
    free(out);
    free(err);
    FILE *o = open_memstream(&out, &out_n), *e = open_memstream(&err, &err_n);
    int code = health_probe(url, cfg, o, e);
    fclose(o);
    fclose(e);
    return code;
}

static void setup(void)
{
    scratch_make(dir);
}

static void teardown(void)
{
    scratch_remove(dir);
    free(out);
    free(err);
    out = err = NULL;
}

static const struct {
    const char *answer;
    int code;
    const char *out, *err; /* printed there; NULL: nothing */
} rows[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 0, "{}", NULL},
    {"HTTP/1.1 503 Service Unavailable\r\n\r\n{\"why\":1}", 1, NULL, "{\"why\":1}"},
    {"HTTP/1.1 204 No Content\r\n\r\n", 1, NULL, "HTTP/1.1 204"},
    {"HTTP/1.1 2000 OK\r\n\r\n{}", 1, NULL, "{}"},
    {"HTTP/1.1 20", 1, NULL, "HTTP/1.1 20"},
    {"nonsense", 1, NULL, "nonsense"},
    {NULL, 1, NULL, "the connection ended without an answer"},
};

static void row(int i, bool drips)
{
    struct server s = {.answer = rows[i].answer, .drips = drips};
    start(&s, NULL);
    ck_assert_int_eq(probe(s.url, NULL), rows[i].code);
    stop(&s);
    ck_assert_msg(rows[i].out ? strstr(out, rows[i].out) != NULL : !*out, "out: %s", out);
    ck_assert_msg(rows[i].err ? strstr(err, rows[i].err) != NULL : !*err, "err: %s", err);
}

START_TEST(answers)
{
    row(_i, false);
    row(_i, true);
}
END_TEST

START_TEST(what_is_asked)
{
    struct server s = {.answer = "HTTP/1.1 200 OK\r\n\r\nfine"};
    char url[256], path[128];
    start(&s, NULL);
    ck_assert_int_eq(probe(s.url, NULL), 0);
    stop(&s);
    ck_assert_int_eq(strncmp(asked, "GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1:", 44), 0);
    ck_assert_ptr_nonnull(strstr(asked, "\r\nConnection: close\r\n\r\n"));

    start(&s, NULL);
    snprintf(url, sizeof(url), "%s/health/live", s.url);
    ck_assert_int_eq(probe(url, NULL), 0);
    stop(&s);
    ck_assert_int_eq(strncmp(asked, "GET /health/live HTTP/1.1\r\n", 27), 0);

    snprintf(path, sizeof(path), "%s/socket", dir);
    start(&s, path);
    ck_assert_int_eq(probe(s.url, NULL), 0);
    stop(&s);
    ck_assert_str_eq(out, "fine\n");
}
END_TEST

START_TEST(by_the_configuration)
{
    static const char *const hosts[] = {"127.0.0.1", "0.0.0.0", "*", ""};
    struct server s = {.answer = "HTTP/1.1 200 OK\r\n\r\nfine"};
    struct fixture f;
    char address[64];
    start(&s, NULL);
    fixture_begin(&f);
    snprintf(address, sizeof(address), "%s%s", hosts[_i], strrchr(s.url, ':'));
    fixture_flag(&f, "admin.address", address);
    fixture_build(&f);
    if (f.cfg) {
        ck_assert_msg(probe(NULL, f.cfg) == 0, "%s: %s", address, err);
    } else {
        ck_assert_int_eq(probe(s.url, NULL), 0); /* such an address is refused when it is read */
    }
    stop(&s);
    fixture_end(&f);
}
END_TEST

START_TEST(nobody_there)
{
    struct server s = {.answer = NULL};
    char url[128];
    start(&s, NULL);
    ck_assert_int_eq(probe(s.url, NULL), 1);
    stop(&s); /* from here on nobody listens there */
    ck_assert_int_eq(probe(s.url, NULL), 1);
    ck_assert_msg(strstr(err, "cannot connect: Connection refused") != NULL, "%s", err);
    snprintf(url, sizeof(url), "unix:%s/none", dir);
    ck_assert_int_eq(probe(url, NULL), 1);
    ck_assert_ptr_nonnull(strstr(err, "cannot connect"));
    ck_assert_int_eq(probe("http://no-such-host.invalid:1", NULL), 1);
    ck_assert_ptr_nonnull(strstr(err, "no-such-host.invalid"));
}
END_TEST

START_TEST(a_server_without_tls)
{
    struct server s = {.answer = "HTTP/1.1 200 OK\r\n\r\nfine"};
    char url[256];
    start(&s, NULL);
    snprintf(url, sizeof(url), "https%s", s.url + 4);
    ck_assert_int_eq(probe(url, NULL), 1);
    stop(&s);
    ck_assert_msg(strstr(err, "TLS") != NULL, "%s", err);
    ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(not_a_url)
{
    static const char *const bad[] = {"ftp://a", "http://",        "http://a:b", "nonsense",
                                      "",        "http://a:99999", "http://a b/"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_msg(probe(bad[i], NULL) == 2, "%s", bad[i]);
        ck_assert_ptr_nonnull(strstr(err, "--health: "));
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, answers, 0, ARRAY_LEN(rows));
    tcase_add_test(tc, what_is_asked);
    tcase_add_loop_test(tc, by_the_configuration, 0, 4);
    tcase_add_test(tc, nobody_there);
    tcase_add_test(tc, a_server_without_tls);
    tcase_add_test(tc, not_a_url);
    return run_case("health_probe", tc);
}
