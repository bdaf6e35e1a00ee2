/*
 * `promptops-perf monitor --web`: the admin port, and with it the dashboard, on a port of this machine. The
 * token, where one is given, is added on the way, so that a browser needs none.
 *
 * Invariants: it listens on 127.0.0.1 only, and answers only requests that name this very place and do not
 * come from a page of another: whoever is let in acts with the token. One request a connection (or one
 * WebSocket), one thread a connection, CONNECTIONS of them at most; nothing is kept but a buffer each way.
 */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "metrics/cli/cli.h"
#include "metrics/text.h"

enum { CONNECTIONS = 64, HEAD_MAX = 16 * 1024, HEAD_SECONDS = 10, PIECE = 16 * 1024, IDLE_SECONDS = 120 };

struct web {
    const struct args *args;
    unsigned port;
    _Atomic int open;
};

struct passage {
    struct web *web;
    int fd;
    CURL *curl;
    curl_socket_t up;
};

static bool say(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

static void refuse(int fd, const char *status, const char *why)
{
    char text[512];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
                     "Connection: close\r\n\r\n%s\n",
                     status, strlen(why) + 1, why);
    (void)say(fd, text, (size_t)n);
}

/* ---- the head ---- */

/* Reads until the head is whole: *n bytes of which *head are it. False: it did not come, or is too long. */
static bool read_head(int fd, char room[HEAD_MAX + 1], size_t *n, size_t *head)
{
    *n = 0;
    while (*n < HEAD_MAX) {
        struct pollfd p = {fd, POLLIN, 0};
        if (poll(&p, 1, HEAD_SECONDS * 1000) <= 0)
            return false;
        ssize_t got = recv(fd, room + *n, HEAD_MAX - *n, 0);
        if (got <= 0)
            return false;
        *n += (size_t)got;
        room[*n] = '\0';
        const char *end = memmem(room, *n, "\r\n\r\n", 4);
        if (end) {
            *head = (size_t)(end - room) + 4;
            return !memchr(room, '\0', *head);
        }
    }
    return false;
}

/* The value of a field line when it has this name; NULL else. */
static const char *value_of(const char *line, const char *name)
{
    size_t n = strlen(name);
    if (strncasecmp(line, name, n) != 0 || line[n] != ':')
        return NULL;
    return line + n + 1 + strspn(line + n + 1, " \t");
}

/* `host[:port]` is this place. */
static bool own_place(const struct web *w, const char *host, size_t n)
{
    static const char *const names[] = {"127.0.0.1", "localhost"};
    char wanted[64];
    for (size_t i = 0; i < 2; i++) {
        int length = snprintf(wanted, sizeof wanted, "%s:%u", names[i], w->port);
        if ((size_t)length == n && strncasecmp(host, wanted, n) == 0)
            return true;
    }
    return false;
}

struct head_facts {
    bool host, foreign, upgrade;
};

static bool dropped(const char *line)
{
    static const char *const names[] = {"Host",           "Origin",         "Authorization",    "Cookie",
                                        "Sec-Fetch-Site", "Sec-Fetch-Mode", "X-Requested-With", "Connection",
                                        "Keep-Alive",     "Referer"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (value_of(line, names[i]))
            return true;
    return false;
}

static void look(const struct web *w, const char *line, struct head_facts *f)
{
    const char *v;
    size_t end = strcspn(line, "\r");
    if ((v = value_of(line, "Host")))
        f->host = own_place(w, v, end - (size_t)(v - line));
    if ((v = value_of(line, "Origin")))
        f->foreign |= strncmp(v, "http://", 7) != 0 || !own_place(w, v + 7, end - (size_t)(v + 7 - line));
    if ((v = value_of(line, "Sec-Fetch-Site")))
        f->foreign |= strncmp(v, "same-origin", 11) != 0 && strncmp(v, "none", 4) != 0;
    if ((v = value_of(line, "Upgrade")))
        f->upgrade = strncasecmp(v, "websocket", 9) == 0;
}

/* The admin port's URL in two: `authority` and the path that stands before every path. */
static void split_admin(const char *admin, char authority[256], const char **prefix)
{
    const char *at = strstr(admin, "://");
    at = at ? at + 3 : admin;
    size_t n = strcspn(at, "/");
    snprintf(authority, 256, "%.*s", (int)n, at);
    *prefix = at + n;
    if (strncmp(admin, "unix:", 5) == 0) {
        snprintf(authority, 256, "localhost");
        *prefix = "";
    }
}

/* The head as it goes on. False: refused, and said. */
static bool rewrite(const struct passage *p, char *head, size_t n, struct text *out)
{
    struct head_facts f = {0};
    char authority[256], token[TOKEN_FIELD_MAX] = "";
    const char *prefix, *end = head + n - 2;
    split_admin(p->web->args->admin, authority, &prefix);
    char *line = memmem(head, n, "\r\n", 2), *path = memchr(head, ' ', n);
    for (char *l = line + 2; l < end; l = (char *)memmem(l, (size_t)(end + 2 - l), "\r\n", 2) + 2)
        look(p->web, l, &f);
    if (!path || path > line || path[1] != '/') {
        refuse(p->fd, "400 Bad Request", "This is no request of a browser.");
        return false;
    }
    if (!f.host || f.foreign) {
        refuse(p->fd, "403 Forbidden",
               "Open this page itself: what another page or name asks for is not passed on.");
        return false;
    }
    if (p->web->args->token_file && !read_token(p->web->args->token_file, token)) {
        refuse(p->fd, "502 Bad Gateway", "The token's file cannot be read; see where promptops-perf runs.");
        return false;
    }
    size_t prefix_length = strlen(prefix);
    while (prefix_length && prefix[prefix_length - 1] == '/')
        prefix_length--;
    text_bytes(out, head, (size_t)(path + 1 - head));
    text_bytes(out, prefix, prefix_length);
    text_bytes(out, path + 1, (size_t)(line + 2 - path - 1));
    for (char *l = line + 2; l < end; l = (char *)memmem(l, (size_t)(end + 2 - l), "\r\n", 2) + 2)
        if (!dropped(l))
            text_bytes(out, l, strcspn(l, "\r") + 2);
    text_string(out, "Host: ");
    text_string(out, authority);
    text_string(out, f.upgrade ? "\r\nConnection: Upgrade\r\n" : "\r\nConnection: close\r\n");
    text_string(out, "X-Requested-With: promptops-perf\r\n");
    if (*token) {
        text_string(out, token);
        text_string(out, "\r\n");
    }
    text_string(out, "\r\n");
    explicit_bzero(token, sizeof token);
    return !out->failed;
}

/* ---- passing on ---- */

static bool send_up(struct passage *p, const char *bytes, size_t n)
{
    while (n) {
        size_t sent = 0;
        CURLcode code = curl_easy_send(p->curl, bytes, n, &sent);
        if (code == CURLE_AGAIN) {
            struct pollfd wait = {p->up, POLLOUT, 0};
            if (poll(&wait, 1, IDLE_SECONDS * 1000) <= 0)
                return false;
        } else if (code != CURLE_OK) {
            return false;
        }
        bytes += sent;
        n -= sent;
    }
    return true;
}

/* All that is there from above; false at the end. */
static bool pass_down(struct passage *p, char room[PIECE])
{
    for (;;) {
        size_t got = 0;
        CURLcode code = curl_easy_recv(p->curl, room, PIECE, &got);
        if (code == CURLE_AGAIN)
            return true;
        if (code != CURLE_OK || !got || !say(p->fd, room, got))
            return false;
    }
}

static void pass(struct passage *p)
{
    char room[PIECE];
    bool down_open = true;
    while (pass_down(p, room)) {
        struct pollfd both[2] = {{p->up, POLLIN, 0}, {down_open ? p->fd : -1, POLLIN, 0}};
        if (poll(both, 2, IDLE_SECONDS * 1000) <= 0)
            return;
        if (!both[1].revents)
            continue;
        ssize_t got = recv(p->fd, room, sizeof room, 0);
        if (got < 0 || (got > 0 && !send_up(p, room, (size_t)got)))
            return;
        down_open = got > 0;
    }
}

static bool connect_up(struct passage *p)
{
    p->curl = curl_easy_init();
    if (!p->curl)
        return false;
    ask_set_url(p->curl, p->web->args->admin, "/");
    curl_easy_setopt(p->curl, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(p->curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(p->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(p->curl, CURLOPT_CONNECTTIMEOUT, (long)HEAD_SECONDS);
    return curl_easy_perform(p->curl) == CURLE_OK &&
           curl_easy_getinfo(p->curl, CURLINFO_ACTIVESOCKET, &p->up) == CURLE_OK;
}

static void *serve_one(void *arg)
{
    struct passage *p = arg;
    char head[HEAD_MAX + 1];
    size_t n = 0, length = 0;
    struct text out = {0};
    if (read_head(p->fd, head, &n, &length) && rewrite(p, head, length, &out)) {
        text_bytes(&out, head + length, n - length);
        if (out.failed || !connect_up(p))
            refuse(p->fd, "502 Bad Gateway",
                   "The sidecar's admin port does not answer; is it running, and --admin right?");
        else if (send_up(p, out.p, out.n))
            pass(p);
    }
    if (out.p)
        explicit_bzero(out.p, out.n); /* the token passed through it */
    text_dispose(&out);
    curl_easy_cleanup(p->curl);
    shutdown(p->fd, SHUT_WR);
    close(p->fd);
    atomic_fetch_sub(&p->web->open, 1);
    free(p);
    return NULL;
}

static void take(struct web *w, int fd)
{
    pthread_t thread;
    struct passage *p = atomic_load(&w->open) < CONNECTIONS ? calloc(1, sizeof *p) : NULL;
    if (p) {
        *p = (struct passage){.web = w, .fd = fd};
        atomic_fetch_add(&w->open, 1);
        if (pthread_create(&thread, NULL, serve_one, p) == 0) {
            pthread_detach(thread);
            return;
        }
        atomic_fetch_sub(&w->open, 1);
        free(p);
    }
    refuse(fd, "503 Service Unavailable", "Too many connections; close some pages.");
    close(fd);
}

static int listen_here(struct web *w, unsigned port)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t n = sizeof sin;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&sin, sizeof sin) != 0 || listen(fd, 64) != 0 ||
        getsockname(fd, (struct sockaddr *)&sin, &n) != 0) {
        complain("127.0.0.1:%u: %s; take another --port, or 0 for a free one", port, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    w->port = ntohs(sin.sin_port);
    return fd;
}

enum exit_code serve_web(const struct args *a, unsigned port, const volatile sig_atomic_t *ended)
{
    static struct web w; /* threads may outlive this call by a moment */
    json_t *told = ask(a, "GET", "/api/v1", NULL);
    if (!told)
        return EXIT_REFUSED;
    json_decref(told);
    w.args = a;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int fd = listen_here(&w, port);
    if (fd < 0)
        return EXIT_REFUSED;
    printf("http://127.0.0.1:%u/\n", w.port);
    fflush(stdout);
    while (!*ended) {
        struct pollfd p = {fd, POLLIN, 0};
        if (poll(&p, 1, 500) <= 0)
            continue;
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (client >= 0)
            take(&w, client);
    }
    close(fd);
    return EXIT_GOOD;
}
