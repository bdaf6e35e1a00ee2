/*
 * Reads the URL of a Redis server. Invariants: nothing of the user information gets into an error; every part
 * is bounded by its place in struct redis_address, and a longer one is refused, never cut.
 */
#include "proxy/redis_url.h"

#include <stdio.h>
#include <string.h>

enum { REDIS_PORT = 6379, SENTINEL_PORT = 26379, MAX_DB = 65535 };

enum form { SERVER, SOCKET, SENTINEL };

struct parse {
    struct redis_address *out;
    const char *wrong;
};

static bool wrong(struct parse *p, const char *what)
{
    p->wrong = what;
    return false;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Copies text[0..n), percent signs decoded; no control characters come out. */
static bool decode(const char *text, size_t n, char *out, size_t cap)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        int c = (unsigned char)text[i];
        if (c == '%') {
            int high = i + 2 < n ? hex(text[i + 1]) : -1;
            int low = high >= 0 ? hex(text[i + 2]) : -1;
            if (low < 0)
                return false;
            c = high * 16 + low;
            i += 2;
        }
        if (c < 0x20 || c == 0x7f || used + 1 >= cap)
            return false;
        out[used++] = (char)c;
    }
    out[used] = '\0';
    return true;
}

static bool number(const char *text, size_t n, unsigned max, unsigned *out)
{
    unsigned value = 0;
    if (n == 0 || n > 5)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    *out = value;
    return value <= max;
}

static bool read_user(struct parse *p, const char *text, size_t n)
{
    const char *colon = memchr(text, ':', n);
    size_t user = colon ? (size_t)(colon - text) : n;
    if (!decode(text, user, p->out->user, sizeof(p->out->user)) ||
        (colon && !decode(colon + 1, n - user - 1, p->out->password, sizeof(p->out->password))))
        return wrong(p, "its user or password is too long or badly encoded");
    return true;
}

static bool read_option(struct parse *p, const char *text, size_t n)
{
    if (n > 3 && strncmp(text, "db=", 3) == 0)
        return number(text + 3, n - 3, MAX_DB, &p->out->db) || wrong(p, "db is no number from 0 to 65535");
    if (n > 8 && strncmp(text, "ca_file=", 8) == 0)
        return decode(text + 8, n - 8, p->out->ca_file, sizeof(p->out->ca_file)) ||
               wrong(p, "ca_file is too long");
    if (n == 9 && strncmp(text, "verify=no", 9) == 0) {
        p->out->verify = false;
        return true;
    }
    if (n > 18 && strncmp(text, "sentinel_password=", 18) == 0)
        return decode(text + 18, n - 18, p->out->sentinel_password, sizeof(p->out->sentinel_password)) ||
               wrong(p, "sentinel_password is too long or badly encoded");
    return wrong(p, "behind the ? only db=N, ca_file=PATH, verify=no and sentinel_password=P are known");
}

static bool read_options(struct parse *p, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "&");
        if (!read_option(p, text, n))
            return false;
        text += n + (text[n] == '&');
    }
    return true;
}

static bool read_host(struct parse *p, const char *text, size_t n, unsigned port)
{
    struct endpoint *e = &p->out->endpoint;
    const char *host = text, *end = text + n, *stop;
    if (memchr(text, ',', n))
        return wrong(
            p, "it names several hosts: name one, whose name may lead to several addresses; Redis Cluster "
               "is not supported");
    if (n > 0 && *text == '[') {
        host = text + 1;
        stop = memchr(host, ']', n - 1);
        if (!stop)
            return wrong(p, "its address lacks a ]");
        end = stop;
        stop++;
    } else {
        stop = memchr(text, ':', n);
        if (!stop)
            stop = end;
        end = stop;
    }
    size_t rest = (size_t)(text + n - stop);
    if (rest > 0 && (*stop != ':' || !number(stop + 1, rest - 1, 65535, &port) || port == 0))
        return wrong(p, "its port is no number from 1 to 65535");
    if (end == host || (size_t)(end - host) >= sizeof(e->host) || memchr(host, ' ', (size_t)(end - host)))
        return wrong(p, "it names no host");
    memcpy(e->host, host, (size_t)(end - host));
    e->kind = ENDPOINT_TCP;
    e->port = (uint16_t)port;
    return true;
}

/* What the master is called among the Sentinels. */
static bool read_master(struct parse *p, const char *text, size_t n)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (n == 0 || n >= sizeof(p->out->master) || strspn(text, allowed) < n)
        return wrong(
            p, "it names no master: redis+sentinel://host:port/MASTER, of letters, digits and ._- (63 at "
               "most)");
    memcpy(p->out->master, text, n);
    return true;
}

static bool read_place(struct parse *p, const char *text, enum form form)
{
    size_t all = strcspn(text, "?#"), n;
    const char *at = memrchr(text, '@', all);
    if (text[all] == '#')
        return wrong(p, "it has a fragment");
    if (!read_options(p, text[all] ? text + all + 1 : ""))
        return false;
    if (at && !read_user(p, text, (size_t)(at - text)))
        return false;
    if (at) {
        all -= (size_t)(at + 1 - text);
        text = at + 1;
    }
    if (form == SOCKET) {
        p->out->endpoint.kind = ENDPOINT_UNIX;
        if (all < 2 || *text != '/' || all >= 108 ||
            !decode(text, all, p->out->endpoint.host, sizeof(p->out->endpoint.host)))
            return wrong(p, "it names no path of a socket, or one of more than 107 bytes");
        return true;
    }
    const char *slash = memchr(text, '/', all);
    n = slash ? (size_t)(slash - text) : all;
    if (form == SENTINEL)
        return read_master(p, slash ? slash + 1 : "", slash ? all - n - 1 : 0) &&
               read_host(p, text, n, SENTINEL_PORT);
    if (slash && all > n + 1 && !number(slash + 1, all - n - 1, MAX_DB, &p->out->db))
        return wrong(p, "its database is no number from 0 to 65535");
    return read_host(p, text, n, REDIS_PORT);
}

static bool read_all(struct parse *p, const char *text)
{
    if (strncmp(text, "redis://", 8) == 0)
        return read_place(p, text + 8, SERVER);
    if (strncmp(text, "redis+unix://", 13) == 0)
        return read_place(p, text + 13, SOCKET);
    if (strncmp(text, "redis+sentinel://", 17) == 0)
        return read_place(p, text + 17, SENTINEL);
    if (strncmp(text, "rediss://", 9) == 0) {
        p->out->endpoint.tls = true;
        return read_place(p, text + 9, SERVER);
    }
    if (strncmp(text, "redis-sentinel://", 17) == 0 || strncmp(text, "rediss+sentinel://", 18) == 0)
        return wrong(p, "Sentinels are named by redis+sentinel://host[:port]/MASTER, without TLS");
    if (strstr(text, "cluster") == text + 6 || strncmp(text, "rediss+", 7) == 0)
        return wrong(p, "Redis Cluster is not supported: name one server by redis://host:port");
    return wrong(p, "it is no URL of a Redis server; allowed: redis://[user:password@]host[:port][/db], "
                    "rediss://..., redis+unix:///path, redis+sentinel://host[:port]/MASTER");
}

bool redis_url_parse(const char *text, struct redis_address *out, char *err, size_t err_size)
{
    struct parse p = {.out = out};
    memset(out, 0, sizeof(*out));
    out->verify = true;
    if (read_all(&p, text))
        return true;
    explicit_bzero(out, sizeof(*out));
    snprintf(err, err_size, "%s", p.wrong);
    return false;
}
