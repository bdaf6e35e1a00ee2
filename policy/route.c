/*
 * Finding the row of a request in compiled routes, and writing out tags. Reads only; see route_private.h
 * for how the sets of rows work.
 */
#include "policy/route_private.h"

static const struct route other = {.operation = ROUTE_OTHER};

bool route_is_dot_segment(const char *p, size_t n)
{
    int dots = 0;
    for (size_t i = 0; i < n; dots++) {
        if (p[i] == '.')
            i++;
        else if (n - i >= 3 && p[i] == '%' && p[i + 1] == '2' && (p[i + 2] | 0x20) == 'e')
            i += 3;
        else
            return false;
    }
    return dots == 1 || dots == 2;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_unreserved(char c)
{
    char l = c | 0x20;
    return is_digit(c) || (l >= 'a' && l <= 'z') || c == '-' || c == '.' || c == '_' || c == '~';
}

/* 1, 1.2.0, v3, 2.0.0-rc.1+b: so not `latest`, `versions` or anything else that may move. */
static bool is_numbered(struct slice s)
{
    size_t first = s.n > 1 && (s.p[0] | 0x20) == 'v';
    if (first >= s.n || !is_digit(s.p[first]))
        return false;
    for (size_t i = first; i < s.n; i++)
        if (!is_unreserved(s.p[i]) && s.p[i] != '+')
            return false;
    return true;
}

/*
 * Cuts the path at its slashes. Returns how many segments there are (only the first ROUTE_MAX_SEGMENTS are
 * noted), or -1 for a path that no row may match.
 */
static int split(struct slice path, struct slice *segment)
{
    if (path.n == 0 || path.p[0] != '/')
        return -1;
    int n = 0;
    const char *p = path.p + 1, *end = path.p + path.n;
    for (;;) {
        const char *slash = memchr(p, '/', (size_t)(end - p));
        size_t len = (size_t)((slash ? slash : end) - p);
        if (len && (*p == '.' || *p == '%') && route_is_dot_segment(p, len))
            return -1;
        if (n < ROUTE_MAX_SEGMENTS)
            segment[n] = (struct slice){p, len};
        n++;
        if (!slash)
            return n;
        p = slash + 1;
    }
}

static const uint64_t *literal_rows(const struct routes *r, struct slice s, size_t position)
{
    uint32_t hash = route_hash(s.p, s.n, position);
    for (size_t i = hash & r->table_mask; r->table[i].p; i = (i + 1) & r->table_mask) {
        const struct route_literal *l = &r->table[i];
        if (l->hash == hash && l->n == s.n && l->position == position && memcmp(l->p, s.p, s.n) == 0)
            return l->rows;
    }
    return NULL;
}

/* Strikes the rows that do not take this segment. False when none is left. */
static bool narrow(const struct routes *r, uint64_t *rows, struct slice s, size_t position)
{
    const uint64_t *wild = r->wild + position * SEGMENT_WILDCARDS * r->words;
    const uint64_t *literal = literal_rows(r, s, position);
    uint64_t filled = s.n ? ~UINT64_C(0) : 0, numbered = is_numbered(s) ? ~UINT64_C(0) : 0, left = 0;
    for (size_t w = 0; w < r->words; w++) {
        uint64_t takes = (wild[w] & filled) | (wild[r->words + w] & numbered) | wild[2 * r->words + w];
        if (literal)
            takes |= literal[w];
        rows[w] &= takes;
        left |= rows[w];
    }
    return left != 0;
}

static const struct route *first_row(const struct routes *r, const uint64_t *rows)
{
    for (size_t w = 0; w < r->words; w++)
        if (rows[w])
            return &r->row[w * 64 + (size_t)__builtin_ctzll(rows[w])];
    return &other;
}

/* Where the first %2F is; s.n when there is none. */
static size_t slash_escape(struct slice s)
{
    const char *p = s.n ? memchr(s.p, '%', s.n) : NULL;
    for (size_t i = p ? (size_t)(p - s.p) : s.n; i < s.n; i++)
        if (s.n - i >= 3 && s.p[i] == '%' && s.p[i + 1] == '2' && (s.p[i + 2] | 0x20) == 'f')
            return i;
    return s.n;
}

bool routes_find(const struct routes *r, enum method method, struct slice path, struct route_match *match)
{
    struct slice segment[ROUTE_MAX_SEGMENTS];
    uint64_t rows[ROUTE_MAX_WORDS];
    match->route = &other;
    const char *query = path.n ? memchr(path.p, '?', path.n) : NULL;
    if (query)
        path.n = (size_t)(query - path.p);
    match->path_n = path.n;
    int n = split(path, segment);
    if (n < 0 || (unsigned)method >= METHOD_COUNT || r->rows == 0)
        return false;
    const uint64_t *by_method = r->method + (size_t)method * r->words;
    const uint64_t *by_count =
        r->count + (size_t)(n > ROUTE_MAX_SEGMENTS ? ROUTE_MAX_SEGMENTS + 1 : n) * r->words;
    for (size_t w = 0; w < r->words; w++)
        rows[w] = by_method[w] & by_count[w];
    for (int i = 0; i < n && i < ROUTE_MAX_SEGMENTS; i++)
        if (!narrow(r, rows, segment[i], (size_t)i))
            return false;
    const struct route *route = first_row(r, rows);
    if (route->one_slash && slash_escape(path) < path.n)
        return false;
    for (int i = 0; i < route->captures; i++)
        match->capture[i] = segment[route->capture_at[i]];
    if (route->rest) {
        struct slice *last = &match->capture[route->captures - 1];
        last->n = (size_t)(path.p + path.n - last->p);
    }
    match->route = route;
    return route != &other;
}

int routes_operations(const struct routes *r)
{
    return r->operations;
}

size_t routes_rows(const struct routes *r)
{
    return r->rows;
}

const struct route *routes_row(const struct routes *r, size_t i)
{
    return &r->row[i];
}

const char *routes_operation_name(const struct routes *r, int operation)
{
    return r->name[operation > 0 && operation < r->operations ? operation : ROUTE_OTHER];
}

/* --- Tags. --- */

struct out {
    char *p;
    size_t room;
    size_t n; /* wanted so far, may exceed room */
};

static void put(struct out *o, char c)
{
    if (o->n < o->room)
        o->p[o->n] = c;
    o->n++;
}

static int hex(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 3986 6.2.2.1 and 6.2.2.2; what is no escape stays as it is. */
static void put_normal(struct out *o, struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        int high = s.p[i] == '%' && s.n - i >= 3 ? hex(s.p[i + 1]) : -1;
        int low = high >= 0 ? hex(s.p[i + 2]) : -1;
        if (low < 0) {
            put(o, s.p[i]);
            continue;
        }
        char c = (char)(high << 4 | low);
        if (is_unreserved(c)) {
            put(o, c);
        } else {
            put(o, '%');
            put(o, "0123456789ABCDEF"[high]);
            put(o, "0123456789ABCDEF"[low]);
        }
        i += 2;
    }
}

/* Does this end in -v1.2.0, with digits around two dots? Then how many bytes are before it, otherwise all. */
static size_t before_version(const char *p, size_t n)
{
    size_t at = n, dots = 0;
    while (at > 0 && (is_digit(p[at - 1]) || p[at - 1] == '.')) {
        if (p[--at] == '.' && (++dots > 2 || at + 1 == n || !is_digit(p[at + 1])))
            return n;
    }
    bool named = dots == 2 && is_digit(p[at]) && at > 2 && p[at - 1] == 'v' && p[at - 2] == '-';
    return named ? at - 2 : n;
}

/* What was written from `start` on loses every version at its end. What did not fit is not used: let it be.
 */
static void drop_versions(struct out *o, size_t start)
{
    for (size_t n; o->n <= o->room && o->n > start; o->n = start + n) {
        n = before_version(o->p + start, o->n - start);
        if (n == o->n - start)
            break;
    }
}

/* cut: NULL, or stop before a %2F in what was captured, and say so there. */
static size_t write_out(const struct route_program *program, const struct route_match *match, char *buf,
                        size_t room, bool *cut)
{
    struct out o = {buf, room, 0};
    for (int i = 0; i < program->parts; i++) {
        const struct route_part *part = &program->part[i];
        for (size_t k = 0; k < part->n; k++)
            put(&o, part->p[k]);
        if (part->capture < 0)
            continue;
        struct slice captured = match->capture[part->capture];
        size_t whole = captured.n;
        if (cut)
            captured.n = slash_escape(captured);
        size_t start = o.n;
        put_normal(&o, captured);
        if (part->base)
            drop_versions(&o, start);
        if (captured.n < whole) {
            *cut = true;
            break;
        }
    }
    return o.n;
}

size_t route_tag(const struct route_match *match, int i, char *buf, size_t room)
{
    return write_out(match->route->tag[i], match, buf, room, NULL);
}

size_t route_invalidate(const struct route_match *match, int i, char *buf, size_t room, bool *prefix)
{
    *prefix = match->route->purge[i]->prefix;
    return write_out(match->route->purge[i], match, buf, room, prefix);
}
