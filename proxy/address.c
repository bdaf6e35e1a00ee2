/*
 * Turns what operators write for an endpoint into something to connect to, and back.
 * Invariants: an endpoint that was parsed holds a non-empty host without brackets, blanks and control bytes,
 * and its texts are terminated; an address list never changes once it is shared.
 */
#include "proxy/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static bool fail(char *err, size_t size, const char *what)
{
    snprintf(err, size, "%s", what);
    return false;
}

/* Digits only, 0..65535, at most five of them. */
static bool parse_port(const char *p, size_t n, uint16_t *port)
{
    uint32_t v = 0;
    if (n == 0 || n > 5)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        v = v * 10 + (uint32_t)(p[i] - '0');
    }
    *port = (uint16_t)v;
    return v <= 65535;
}

static bool name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
}

/* Reads `%zone` by name or number. 0 is no zone. */
static bool parse_zone(const char *zone, uint32_t *scope)
{
    char *end;
    if (!*zone)
        return false;
    *scope = if_nametoindex(zone);
    if (*scope)
        return true;
    unsigned long v = strtoul(zone, &end, 10);
    *scope = (uint32_t)v;
    return !*end && v > 0 && v <= UINT32_MAX;
}

static void make_v4(struct address *out, struct in_addr ip, uint16_t port)
{
    struct sockaddr_in *sin = (struct sockaddr_in *)&out->sa;
    memset(out, 0, sizeof(*out));
    sin->sin_family = AF_INET;
    sin->sin_addr = ip;
    sin->sin_port = htons(port);
    out->len = sizeof(*sin);
}

/* True when host is an IP literal; its address with this port is then in *out. */
static bool parse_ip(const char *host, uint16_t port, struct address *out)
{
    char text[INET6_ADDRSTRLEN];
    struct in_addr v4;
    if (inet_pton(AF_INET, host, &v4) == 1) {
        make_v4(out, v4, port);
        return true;
    }
    const char *percent = strchr(host, '%');
    size_t n = percent ? (size_t)(percent - host) : strlen(host);
    if (n == 0 || n >= sizeof(text))
        return false;
    memcpy(text, host, n);
    text[n] = 0;
    memset(out, 0, sizeof(*out));
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&out->sa;
    if (inet_pton(AF_INET6, text, &sin6->sin6_addr) != 1)
        return false;
    if (percent && !parse_zone(percent + 1, &sin6->sin6_scope_id))
        return false;
    sin6->sin6_family = AF_INET6;
    sin6->sin6_port = htons(port);
    out->len = sizeof(*sin6);
    return true;
}

bool address_is_ip(const char *host)
{
    struct address ignored;
    return parse_ip(host, 0, &ignored);
}

static bool parse_unix(const char *path, struct endpoint *out, char *err, size_t err_size)
{
    struct sockaddr_un un;
    size_t n = strlen(path);
    if (n == 0 || path[0] != '/')
        return fail(err, err_size, "a unix socket needs an absolute path: unix:/run/app.sock");
    if (n >= sizeof(un.sun_path) || n >= sizeof(out->host))
        return fail(err, err_size, "the path of a unix socket may have at most 107 bytes");
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)path[i] < 0x20 || path[i] == 0x7f)
            return fail(err, err_size, "the path has a control byte");
    out->kind = ENDPOINT_UNIX;
    memcpy(out->host, path, n + 1);
    return true;
}

/* Reads `host`, `[v6]` into out->host from p[0..n). */
static bool parse_host(const char *p, size_t n, struct endpoint *out, char *err, size_t err_size)
{
    struct address ip;
    bool bracketed = n >= 2 && p[0] == '[' && p[n - 1] == ']';
    if (bracketed) {
        p++;
        n -= 2;
    }
    if (n == 0)
        return fail(err, err_size, "the host is missing");
    if (n >= sizeof(out->host))
        return fail(err, err_size, "the host is longer than 255 bytes");
    memcpy(out->host, p, n);
    out->host[n] = 0;
    if (bracketed)
        return (memchr(p, ':', n) && parse_ip(out->host, 0, &ip)) ||
               fail(err, err_size, "what stands in brackets is not an IPv6 address");
    for (size_t i = 0; i < n; i++)
        if (!name_byte(p[i]))
            return fail(err, err_size,
                        p[i] == ':' ? "an IPv6 address must stand in brackets: [::1]:8080"
                                    : "the host has a byte that no host name may have");
    return true;
}

/* Where the host ends in p[0..n): before the colon of the port, or at n. */
static size_t host_end(const char *p, size_t n)
{
    if (n > 0 && p[0] == '[') {
        const char *close = memchr(p, ']', n);
        return close ? (size_t)(close - p) + 1 : n;
    }
    for (size_t i = n; i > 0; i--)
        if (p[i - 1] == ':')
            return i - 1;
    return n;
}

bool endpoint_parse(const char *text, struct endpoint *out, char *err, size_t err_size)
{
    memset(out, 0, sizeof(*out));
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, out, err, err_size);
    size_t n = strlen(text), host = host_end(text, n);
    if (host == n || text[host] != ':')
        return fail(err, err_size, "the port is missing: host:port, [v6]:port or unix:/path");
    if (!parse_port(text + host + 1, n - host - 1, &out->port))
        return fail(err, err_size, "the port is not a number from 0 to 65535");
    if (host == 0 || (host == 1 && text[0] == '*')) {
        out->host[0] = '*';
        return true;
    }
    return parse_host(text, host, out, err, err_size);
}

/* Reads the path of a URL. Slashes at its end are dropped, so that base and target can be put together. */
static bool parse_base(const char *p, struct endpoint *out, char *err, size_t err_size)
{
    size_t n = strlen(p);
    while (n > 0 && p[n - 1] == '/')
        n--;
    if (n >= sizeof(out->base))
        return fail(err, err_size, "the path of the URL is longer than 1023 bytes");
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '?' || p[i] == '#')
            return fail(err, err_size, "the URL must not have a query or fragment");
        if ((unsigned char)p[i] <= 0x20 || (unsigned char)p[i] >= 0x7f)
            return fail(err, err_size, "the path of the URL has a byte that must be percent-encoded");
    }
    memcpy(out->base, p, n);
    out->base[n] = 0;
    return true;
}

bool endpoint_parse_url(const char *text, struct endpoint *out, char *err, size_t err_size)
{
    memset(out, 0, sizeof(*out));
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, out, err, err_size);
    if (strncmp(text, "https://", 8) == 0)
        out->tls = true;
    else if (strncmp(text, "http://", 7) != 0)
        return fail(err, err_size, "a URL begins with https://, http:// or unix:/");
    const char *authority = text + (out->tls ? 8 : 7);
    size_t n = strcspn(authority, "/?#");
    if (memchr(authority, '@', n))
        return fail(err, err_size, "the URL must not have user information");
    size_t host = host_end(authority, n);
    out->port = out->tls ? 443 : 80;
    if (host < n && (authority[host] != ':' || !parse_port(authority + host + 1, n - host - 1, &out->port) ||
                     out->port == 0))
        return fail(err, err_size, "the port is not a number from 1 to 65535");
    return parse_host(authority, host, out, err, err_size) && parse_base(authority + n, out, err, err_size);
}

/* snprintf's result as the length that is really there. */
static size_t written(int n, size_t size)
{
    if (n < 0 || size == 0)
        return 0;
    return (size_t)n < size ? (size_t)n : size - 1;
}

size_t endpoint_format(const struct endpoint *endpoint, char *out, size_t size)
{
    if (endpoint->kind == ENDPOINT_UNIX)
        return written(snprintf(out, size, "unix:%s", endpoint->host), size);
    bool v6 = strchr(endpoint->host, ':') != NULL;
    return written(snprintf(out, size, v6 ? "[%s]:%u" : "%s:%u", endpoint->host, endpoint->port), size);
}

size_t endpoint_authority(const struct endpoint *endpoint, char *out, size_t size)
{
    if (endpoint->kind == ENDPOINT_UNIX)
        return written(snprintf(out, size, "localhost"), size);
    if (endpoint->port != (endpoint->tls ? 443 : 80))
        return endpoint_format(endpoint, out, size);
    bool v6 = strchr(endpoint->host, ':') != NULL;
    return written(snprintf(out, size, v6 ? "[%s]" : "%s", endpoint->host), size);
}

bool endpoint_literal(const struct endpoint *endpoint, struct address *out)
{
    if (endpoint->kind == ENDPOINT_TCP) {
        if (strcmp(endpoint->host, "*") == 0) {
            make_v4(out, (struct in_addr){htonl(INADDR_ANY)}, endpoint->port);
            return true;
        }
        return parse_ip(endpoint->host, endpoint->port, out);
    }
    struct sockaddr_un *un = (struct sockaddr_un *)&out->sa;
    memset(out, 0, sizeof(*out));
    size_t n = strnlen(endpoint->host, sizeof(un->sun_path) - 1);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, endpoint->host, n);
    out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    return true;
}

static size_t format_v6(const struct sockaddr_in6 *sin6, char *out, size_t size)
{
    char ip[INET6_ADDRSTRLEN] = "?";
    unsigned port = ntohs(sin6->sin6_port);
    inet_ntop(AF_INET6, &sin6->sin6_addr, ip, sizeof(ip));
    if (sin6->sin6_scope_id)
        return written(snprintf(out, size, "[%s%%%u]:%u", ip, (unsigned)sin6->sin6_scope_id, port), size);
    return written(snprintf(out, size, "[%s]:%u", ip, port), size);
}

static char *put_number(char *at, unsigned v)
{
    char digits[5];
    int n = 0;
    do
        digits[n++] = (char)('0' + v % 10);
    while ((v /= 10));
    while (n > 0)
        *at++ = digits[--n];
    return at;
}

/* By hand: the access log shows one for each request. */
static size_t format_v4(const struct sockaddr_in *sin, char out[INET_ADDRSTRLEN + 6])
{
    const uint8_t *ip = (const uint8_t *)&sin->sin_addr;
    char *at = out;
    for (int i = 0; i < 4; i++) {
        at = put_number(at, ip[i]);
        *at++ = i < 3 ? '.' : ':';
    }
    at = put_number(at, ntohs(sin->sin_port));
    return (size_t)(at - out);
}

size_t address_format(const struct address *address, char *out, size_t size)
{
    if (address->sa.ss_family == AF_INET) {
        char text[INET_ADDRSTRLEN + 6];
        size_t n = format_v4((const struct sockaddr_in *)&address->sa, text);
        n = n < size ? n : size ? size - 1 : 0;
        memcpy(out, text, n);
        if (size)
            out[n] = '\0';
        return n;
    }
    if (address->sa.ss_family == AF_INET6)
        return format_v6((const struct sockaddr_in6 *)&address->sa, out, size);
    if (address->sa.ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)&address->sa;
        int n = (int)strnlen(un->sun_path, sizeof(un->sun_path));
        return written(snprintf(out, size, "unix:%.*s", n, un->sun_path), size);
    }
    return written(snprintf(out, size, "unknown"), size);
}

bool address_equal(const struct address *a, const struct address *b)
{
    if (a->sa.ss_family != b->sa.ss_family)
        return false;
    if (a->sa.ss_family == AF_INET) {
        const struct sockaddr_in *x = (const struct sockaddr_in *)&a->sa,
                                 *y = (const struct sockaddr_in *)&b->sa;
        return x->sin_port == y->sin_port && x->sin_addr.s_addr == y->sin_addr.s_addr;
    }
    if (a->sa.ss_family == AF_INET6) {
        const struct sockaddr_in6 *x = (const struct sockaddr_in6 *)&a->sa,
                                  *y = (const struct sockaddr_in6 *)&b->sa;
        return x->sin6_port == y->sin6_port && x->sin6_scope_id == y->sin6_scope_id &&
               memcmp(&x->sin6_addr, &y->sin6_addr, sizeof(x->sin6_addr)) == 0;
    }
    return a->len == b->len && memcmp(&a->sa, &b->sa, a->len) == 0;
}

struct address_list *address_list_new(const struct address *at, uint32_t count)
{
    if (count == 0)
        return NULL;
    struct address_list *list = malloc(sizeof(*list) + count * sizeof(list->at[0]));
    if (!list)
        return NULL;
    atomic_init(&list->refs, 1);
    list->version = 0;
    list->count = count;
    memcpy(list->at, at, count * sizeof(list->at[0]));
    return list;
}

struct address_list *address_list_ref(struct address_list *list)
{
    atomic_fetch_add_explicit(&list->refs, 1, memory_order_relaxed);
    return list;
}

void address_list_unref(struct address_list *list)
{
    if (list && atomic_fetch_sub_explicit(&list->refs, 1, memory_order_acq_rel) == 1)
        free(list);
}

bool address_list_has(const struct address_list *list, const struct address *address)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (address_equal(&list->at[i], address))
            return true;
    return false;
}
