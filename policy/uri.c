/*
 * URI references. Invariant: what is written begins with `/`, has no dot segments in its path, and no
 * fragment.
 */
#include "policy/uri.h"

#include <string.h>

#include "policy/head.h"

struct reference {
    struct slice scheme, authority, path, query; /* query with its `?`; p = NULL: part is missing */
};

static size_t until(struct slice text, const char *stops)
{
    size_t n = 0;
    while (n < text.n && text.p[n] != '\0' && !strchr(stops, text.p[n]))
        n++;
    return n;
}

static struct slice cut(struct slice *text, size_t n)
{
    struct slice head = {text->p, n};
    *text = (struct slice){text->p + n, text->n - n};
    return head;
}

static void split(struct slice text, struct reference *out)
{
    *out = (struct reference){{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
    text.n = until(text, "#");
    size_t n = until(text, ":/?");
    if (n > 0 && n < text.n && text.p[n] == ':') {
        out->scheme = cut(&text, n);
        cut(&text, 1);
    }
    if (text.n >= 2 && text.p[0] == '/' && text.p[1] == '/') {
        cut(&text, 2);
        out->authority = cut(&text, until(text, "/?"));
    }
    out->path = cut(&text, until(text, "?"));
    out->query = text;
}

static bool plain_bytes(struct slice text)
{
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] <= 0x20 || text.p[i] >= 0x7f)
            return false;
    return true;
}

static struct slice usual_port(struct slice scheme)
{
    return slice_equal_nocase(scheme, SLICE("https")) ? SLICE("443") : SLICE("80");
}

/* Splits host and port; a missing port is the scheme's. */
static void split_authority(struct slice authority, struct slice scheme, struct slice *host,
                            struct slice *port)
{
    size_t n = authority.n;
    while (n > 0 && authority.p[n - 1] >= '0' && authority.p[n - 1] <= '9')
        n--;
    *host = authority;
    *port = usual_port(scheme);
    if (n == 0 || authority.p[n - 1] != ':')
        return;
    *host = (struct slice){authority.p, n - 1};
    if (n < authority.n)
        *port = (struct slice){authority.p + n, authority.n - n};
}

static bool same_authority(struct slice a, struct slice b, struct slice scheme)
{
    struct slice host_a, port_a, host_b, port_b;
    split_authority(a, scheme, &host_a, &port_a);
    split_authority(b, scheme, &host_b, &port_b);
    return slice_equal_nocase(host_a, host_b) && slice_equal(port_a, port_b);
}

static bool is_web(struct slice scheme)
{
    return slice_equal_nocase(scheme, SLICE("http")) || slice_equal_nocase(scheme, SLICE("https"));
}

static bool same_origin(const struct reference *r, const struct uri_base *base)
{
    struct reference origin;
    split(base->origin, &origin);
    if (!r->authority.p)
        return !r->scheme.p;
    struct slice scheme = r->scheme.p ? r->scheme : origin.scheme;
    if (is_web(scheme) && base->authority.n > 0 && same_authority(r->authority, base->authority, scheme))
        return true;
    return slice_equal_nocase(scheme, origin.scheme) &&
           same_authority(r->authority, origin.authority, scheme);
}

size_t uri_origin_length(struct slice reference, struct slice scheme, struct slice authority)
{
    struct reference r;
    struct slice host, port, own_host, own_port;
    split(reference, &r);
    if (!plain_bytes(reference) || !is_web(r.scheme) || !r.authority.p || r.path.n == 0)
        return 0;
    if (r.path.n > 1 && (r.path.p[1] == '/' || r.path.p[1] == '\\'))
        return 0; /* without the origin it would name a host */
    split_authority(r.authority, r.scheme, &host, &port);
    split_authority(authority, scheme, &own_host, &own_port);
    bool usual = slice_equal(port, usual_port(r.scheme)) && slice_equal(own_port, usual_port(scheme));
    bool same_port = slice_equal(port, own_port) || usual;
    return same_port && slice_equal_nocase(host, own_host) ? (size_t)(r.path.p - reference.p) : 0;
}

struct output {
    char *out;
    size_t n, cap;
    bool full;
};

static void put(struct output *o, struct slice text)
{
    if (text.n > o->cap - o->n) {
        o->full = true;
        return;
    }
    memcpy(o->out + o->n, text.p, text.n);
    o->n += text.n;
}

/* Takes the last segment off again, with its slash. */
static void drop_segment(struct output *o)
{
    while (o->n > 0 && o->out[--o->n] != '/')
        ;
}

/* Appends the segments of a path that is given without its first slash, acting on `.` and `..` (RFC
 * 3986 5.2.4). */
static void put_segments(struct output *o, struct slice path, bool more_follow)
{
    for (bool last = false; !last;) {
        struct slice segment = cut(&path, until(path, "/"));
        last = path.n == 0;
        if (!last)
            cut(&path, 1);
        bool dots = slice_equal(segment, SLICE("..")), dot = slice_equal(segment, SLICE("."));
        if (dots)
            drop_segment(o);
        if ((dots || dot) && (!last || more_follow))
            continue;
        put(o, SLICE("/"));
        if (!dots && !dot)
            put(o, segment);
    }
}

/* The path of a reference, relative to the path `own` (RFC 3986 5.2.2, 5.2.3). */
static void put_path(struct output *o, struct slice path, struct slice own)
{
    if (path.n > 0 && path.p[0] == '/') {
        put_segments(o, (struct slice){path.p + 1, path.n - 1}, false);
        return;
    }
    size_t n = own.n;
    while (n > 0 && own.p[n - 1] != '/')
        n--;
    if (n > 1) /* the folder, without the slashes at its ends */
        put_segments(o, (struct slice){own.p + 1, n - 2}, true);
    put_segments(o, path, false);
}

size_t uri_local(struct slice reference, const struct uri_base *base, char *out, size_t cap)
{
    struct output o = {out, 0, cap, false};
    struct reference r;
    struct slice query = base->path, path = cut(&query, until(base->path, "?"));
    if (!plain_bytes(reference) || path.n == 0 || path.p[0] != '/')
        return 0;
    split(reference, &r);
    if (!same_origin(&r, base))
        return 0;
    if (r.path.n > 0 || r.authority.p) {
        put_path(&o, r.path.n > 0 ? r.path : SLICE("/"), path);
        query = r.query;
    } else {
        put(&o, path);
        if (r.query.n > 0)
            query = r.query;
    }
    put(&o, query);
    return o.full ? 0 : o.n;
}
