/*
 * Addresses to listen on and URLs to connect to (RFC 3986), taken apart once. Invariants: a port is
 * within 0 to 65535; a host is a name, an IPv4 or an IPv6 address and nothing else; no user
 * information ever gets into a URL, because it would be shown in logs.
 */
#include "policy/config_private.h"
#include "policy/units.h"

#include <stdio.h>
#include <string.h>

#define ADDRESS_FORM "allowed: host:port, [v6]:port or unix:/path"
#define URL_FORM     "allowed: http://host[:port][/path] or https://..."
#define MAX_HOST     253u
#define MAX_UNIX     107u /* sun_path, its NUL left out */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Four numbers up to 255, without leading zeros (RFC 3986 3.2.2). */
static bool is_ipv4(const char *p, size_t n)
{
    int parts = 0;
    size_t i = 0;
    while (i < n) {
        size_t start = i;
        unsigned value = 0;
        for (; i < n && is_digit(p[i]) && i - start < 4; i++)
            value = value * 10 + (unsigned)(p[i] - '0');
        if (i == start || value > 255 || (i - start > 1 && p[start] == '0'))
            return false;
        parts++;
        if (i < n && (p[i] != '.' || ++i == n))
            return false;
    }
    return parts == 4;
}

/* Groups of up to four hexadecimal digits, one `::` at most, perhaps an IPv4 address at the end (RFC
 * 4291 2.2). */
static bool is_ipv6(const char *p, size_t n)
{
    int groups = 0;
    bool gap = false;
    size_t i = 0;
    if (n >= 2 && p[0] == ':' && p[1] == ':') {
        gap = true;
        i = 2;
    }
    while (i < n) {
        size_t digits = strspn(p + i, "0123456789abcdefABCDEF");
        if (groups <= 6 && i + digits < n && p[i + digits] == '.')
            return is_ipv4(p + i, n - i) && (gap || groups == 6);
        if (digits == 0 || digits > 4 || ++groups > 8)
            return false;
        i += digits;
        if (i == n)
            break;
        if (p[i++] != ':' || i == n)
            return false;
        if (p[i] == ':') {
            if (gap)
                return false;
            gap = true;
            i++;
        }
    }
    return gap ? groups < 8 : groups == 8;
}

/* Labels of letters, digits and hyphens; underscores too, which container networks use. */
static bool is_name(const char *p, size_t n)
{
    bool letter = false;
    size_t label = 0;
    if (n == 0 || n > MAX_HOST)
        return false;
    for (size_t i = 0; i < n; i++) {
        bool hyphen = p[i] == '-' || p[i] == '_';
        if (p[i] == '.') {
            if (label == 0)
                return false;
            label = 0;
            continue;
        }
        if (!is_letter(p[i]) && !is_digit(p[i]) && !hyphen)
            return false;
        letter = letter || is_letter(p[i]) || hyphen;
        if (++label > 63)
            return false;
    }
    /* All digits and dots, but no IPv4 address: a mistyped one. */
    return letter;
}

struct authority {
    const char *host; /* without brackets */
    size_t host_length;
    bool bracketed;
    const char *port; /* NULL: none */
    size_t port_length;
};

/* "host", "host:port", "[v6]", "[v6]:port" over n bytes. False when the host is none. */
static bool split_authority(const char *p, size_t n, struct authority *out)
{
    *out = (struct authority){0};
    const char *end = p + n;
    if (n && *p == '[') {
        const char *close = memchr(p, ']', n);
        if (!close)
            return false;
        out->bracketed = true;
        out->host = p + 1;
        out->host_length = (size_t)(close - p) - 1;
        p = close + 1;
        if (!is_ipv6(out->host, out->host_length))
            return false;
    } else {
        const char *colon = memchr(p, ':', n);
        out->host = p;
        out->host_length = colon ? (size_t)(colon - p) : n;
        p += out->host_length;
        if (!is_ipv4(out->host, out->host_length) && !is_name(out->host, out->host_length))
            return false;
    }
    if (p == end)
        return true;
    if (*p != ':')
        return false;
    out->port = p + 1;
    out->port_length = (size_t)(end - out->port);
    return true;
}

static bool parse_port(const char *p, size_t n, uint16_t *port)
{
    unsigned value = 0;
    if (n == 0 || n > 5)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!is_digit(p[i]))
            return false;
        value = value * 10 + (unsigned)(p[i] - '0');
    }
    if (value > 65535)
        return false;
    *port = (uint16_t)value;
    return true;
}

static bool is_loopback(const char *host)
{
    if (is_ipv4(host, strlen(host)))
        return strncmp(host, "127.", 4) == 0;
    return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0;
}

static bool parse_unix(struct config_parse *parse, const char *text, struct config_address *out)
{
    char shown[CONFIG_SHOWN];
    const char *path = text + strlen("unix:");
    if (*path != '/' || strlen(path) > MAX_UNIX)
        return config_refuse(parse,
                             "%s is not an address: the path of a socket begins with / and has at most %u "
                             "bytes, " ADDRESS_FORM,
                             config_shown(text, shown), MAX_UNIX);
    out->path = config_arena_copy(parse->arena, path, strlen(path));
    out->host = "";
    out->loopback = true;
    return true;
}

bool config_address_parse(struct config_parse *parse, const char *text, struct config_address *value)
{
    char shown[CONFIG_SHOWN];
    struct authority a;
    struct config_address out = {.path = ""};
    if (strncmp(text, "unix:", 5) == 0) {
        if (!parse_unix(parse, text, &out))
            return false;
    } else if ((*text == ':' && text[1] != ':') || *text == '*') {
        return config_refuse(
            parse, "%s names no host; for every interface write 0.0.0.0:port or [::]:port, " ADDRESS_FORM,
            config_shown(text, shown));
    } else {
        if (!split_authority(text, strlen(text), &a) || !a.port)
            return config_refuse(parse, "%s is not an address, " ADDRESS_FORM, config_shown(text, shown));
        if (!parse_port(a.port, a.port_length, &out.port))
            return config_refuse(parse, "%s has no port from 0 to 65535, " ADDRESS_FORM,
                                 config_shown(text, shown));
        out.host = config_arena_copy(parse->arena, a.host, a.host_length);
        out.loopback = out.host && is_loopback(out.host);
    }
    out.text = config_arena_copy(parse->arena, text, strlen(text));
    if (parse->arena->failed)
        return config_refuse(parse, "out of memory");
    *value = out;
    return true;
}

/* Path of a URL: characters of RFC 3986 3.3, percent signs followed by two hexadecimal digits. */
static bool is_path(const char *p)
{
    static const char allowed[] =
        "/-._~!$&'()*+,;=:@0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (; *p; p++) {
        if (*p == '%' && strspn(p + 1, "0123456789abcdefABCDEF") < 2)
            return false;
        if (*p != '%' && !strchr(allowed, *p))
            return false;
    }
    return true;
}

/* Fills host, port and authority. */
static bool set_authority(struct config_parse *parse, const char *text, const struct authority *a,
                          struct config_url *out)
{
    char shown[CONFIG_SHOWN], authority[MAX_HOST + 16];
    uint16_t usual = out->tls ? 443 : 80;
    out->port = usual;
    if (a->port && (!parse_port(a->port, a->port_length, &out->port) || out->port == 0))
        return config_refuse(parse, "%s has no port from 1 to 65535, " URL_FORM, config_shown(text, shown));
    int n =
        snprintf(authority, sizeof authority, a->bracketed ? "[%.*s]" : "%.*s", (int)a->host_length, a->host);
    if (out->port != usual)
        snprintf(authority + n, sizeof authority - (size_t)n, ":%u", (unsigned)out->port);
    out->host = config_arena_copy(parse->arena, a->host, a->host_length);
    out->authority = config_arena_copy(parse->arena, authority, strlen(authority));
    out->loopback = out->host && is_loopback(out->host);
    return true;
}

bool config_url_parse(struct config_parse *parse, const char *text, struct config_url *value)
{
    char shown[CONFIG_SHOWN];
    struct config_url out = {.text = "", .host = "", .authority = "", .path = ""};
    struct authority a;
    if (*text == '\0') {
        *value = out;
        return true;
    }
    out.tls = strncmp(text, "https://", 8) == 0;
    if (!out.tls && strncmp(text, "http://", 7) != 0)
        return config_refuse(parse, "%s is not a URL, " URL_FORM, config_shown(text, shown));
    const char *p = text + (out.tls ? 8 : 7);
    size_t n = strcspn(p, "/?#");
    /* Not shown: what stands before the @ may be a password. */
    if (memchr(p, '@', n))
        return config_refuse(parse, "a URL with a user name or password is refused, " URL_FORM);
    if (!split_authority(p, n, &a))
        return config_refuse(parse, "%s names no host, " URL_FORM, config_shown(text, shown));
    if (strpbrk(p + n, "?#") || !is_path(p + n))
        return config_refuse(parse,
                             "%s has a query, a fragment or a character that no path may have, " URL_FORM,
                             config_shown(text, shown));
    if (!set_authority(parse, text, &a, &out))
        return false;
    size_t path = strlen(p + n);
    while (path > 0 && p[n + path - 1] == '/')
        path--;
    out.path = config_arena_copy(parse->arena, p + n, path);
    out.text = config_arena_copy(parse->arena, text, strlen(text));
    if (parse->arena->failed)
        return config_refuse(parse, "out of memory");
    *value = out;
    return true;
}
