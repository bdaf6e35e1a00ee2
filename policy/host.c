/*
 * Checks an authority. Invariant: what is let through reads the same for every parser of RFC 3986.
 */
#include "policy/host.h"
#include "policy/octet.h"

/* Gives the bytes looked at in *used. A dec-octet has no leading zero and is at most 255. */
static bool dec_octet(const char *p, size_t n, size_t *used)
{
    unsigned value = 0;
    size_t i = 0;
    while (i < n && i < 4 && octet_is_digit(p[i]))
        value = value * 10 + (unsigned)(p[i++] - '0');
    *used = i;
    return i > 0 && i < 4 && value <= 255 && (i == 1 || p[0] != '0');
}

static bool ipv4_valid(const char *p, size_t n)
{
    size_t at = 0;
    for (int part = 0; part < 4; part++) {
        size_t used;
        if (part > 0 && (at >= n || p[at++] != '.'))
            return false;
        if (!dec_octet(p + at, n - at, &used))
            return false;
        at += used;
    }
    return at == n;
}

static size_t hex_run(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n && octet_is(p[i], OCTET_HEX))
        i++;
    return i;
}

/* Eight groups of one to four digits, the last two perhaps as IPv4; one `::` stands for at least one group.
 */
static bool ipv6_valid(const char *p, size_t n)
{
    int groups = 0;
    bool gap = n >= 2 && p[0] == ':' && p[1] == ':';
    size_t at = gap ? 2 : 0;
    while (at < n) {
        size_t digits = hex_run(p + at, n - at);
        if (at + digits < n && p[at + digits] == '.') {
            groups += 2;
            return ipv4_valid(p + at, n - at) && (gap ? groups <= 7 : groups == 8);
        }
        if (digits == 0 || digits > 4 || ++groups > 8)
            return false;
        at += digits;
        if (at == n)
            break;
        if (p[at++] != ':' || at == n)
            return false;
        if (p[at] == ':') {
            if (gap)
                return false;
            gap = true;
            at++;
        }
    }
    return gap ? groups <= 7 : groups == 8;
}

static bool port_valid(const char *p, size_t n)
{
    unsigned value = 0;
    if (n > 5)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!octet_is_digit(p[i]))
            return false;
        value = value * 10 + (unsigned)(p[i] - '0');
    }
    return value <= 65535;
}

/* The bytes of a registered name at the start of p[0..n). */
static size_t name_run(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        if (octet_is(p[i], OCTET_HOST))
            i++;
        else if (p[i] == '%' && n - i >= 3 && octet_is(p[i + 1], OCTET_HEX) && octet_is(p[i + 2], OCTET_HEX))
            i += 3;
        else
            break;
    }
    return i;
}

/* The bytes of a literal in brackets at the start of p[0..n), or 0. */
static size_t literal_run(const char *p, size_t n)
{
    size_t end = 1;
    while (end < n && p[end] != ']')
        end++;
    return end < n && ipv6_valid(p + 1, end - 1) ? end + 1 : 0;
}

bool authority_valid(struct slice a)
{
    if (a.n == 0)
        return false;
    size_t host = a.p[0] == '[' ? literal_run(a.p, a.n) : name_run(a.p, a.n);
    if (host == 0)
        return false;
    return host == a.n || (a.p[host] == ':' && port_valid(a.p + host + 1, a.n - host - 1));
}
