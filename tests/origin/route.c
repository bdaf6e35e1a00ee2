/*
 * Matches paths against operations.def. Invariants: the first row that fits wins, but a literal row wins over
 * one with {} at the same place only by coming first or by its method; %2F in a segment never splits it.
 */
#include "tests/origin/route.h"

#include <string.h>

enum methods { READ, POST, PUT, DELETE, WRITE, ANY };
enum needs { OPEN, KEY };

struct row {
    const char *pattern;
    uint8_t methods, op, needs;
};

static const struct row rows[] = {
#define ROUTE(methods, pattern, op, needs) {pattern, methods, OP_##op, needs},
#include "tests/origin/operations.def"
#undef ROUTE
};

static const char *const names[] = {
#define OP(id, name) name,
#include "tests/origin/operations.def"
#undef OP
};

const char *op_name(enum op op)
{
    return (unsigned)op < OP_COUNT ? names[op] : "unknown";
}

enum op op_lookup(const char *name)
{
    for (int i = 0; i < OP_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            return (enum op)i;
    return OP_COUNT;
}

static bool method_fits(enum methods want, enum method got)
{
    switch (want) {
    case READ:
        return got == METHOD_GET || got == METHOD_HEAD;
    case POST:
        return got == METHOD_POST;
    case PUT:
        return got == METHOD_PUT;
    case DELETE:
        return got == METHOD_DELETE;
    case WRITE:
        return got == METHOD_POST || got == METHOD_PUT || got == METHOD_PATCH;
    default:
        return true;
    }
}

/* Fits `path` to a pattern, segment by segment; the {} ones go to params as they came. */
static bool pattern_fits(const char *pattern, struct slice path, struct slice params[ROUTE_PARAMS])
{
    size_t at = 0;
    int count = 0;
    while (*pattern) {
        if (pattern[0] == '{') {
            size_t from = at;
            while (at < path.n && path.p[at] != '/')
                at++;
            if (at == from || count == ROUTE_PARAMS)
                return false;
            params[count++] = (struct slice){path.p + from, at - from};
            pattern += 2;
        } else if (at < path.n && path.p[at] == *pattern) {
            at++;
            pattern++;
        } else {
            return false;
        }
    }
    return at == path.n;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Adds s decoded. A % that opens no pair of digits stays as it is. */
static void add_decoded(struct text *out, struct slice s, bool plus_is_space)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%' && i + 2 < s.n && hex_digit(s.p[i + 1]) >= 0 && hex_digit(s.p[i + 2]) >= 0) {
            c = (char)(hex_digit(s.p[i + 1]) * 16 + hex_digit(s.p[i + 2]));
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        text_add(out, &c, 1);
    }
}

static void decode_params(struct route_match *match, struct slice path, struct text *decoded)
{
    decoded->n = 0;
    /* All of them together are no longer than the path: after this the text does not move. */
    if (!memchr(path.p, '%', path.n) || !text_reserve(decoded, path.n))
        return;
    for (int i = 0; i < ROUTE_PARAMS; i++) {
        struct slice *s = &match->params[i];
        size_t from = decoded->n;
        if (!s->n || !memchr(s->p, '%', s->n))
            continue;
        add_decoded(decoded, *s, false);
        *s = (struct slice){decoded->p + from, decoded->n - from};
    }
}

void route_find(enum method method, struct slice path, struct text *decoded, struct route_match *match)
{
    *match = (struct route_match){.op = OP_UNKNOWN};
    if (path.n == 0 || path.p[0] != '/')
        return;
    struct slice rest = {path.p + 1, path.n - 1};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice params[ROUTE_PARAMS] = {{NULL, 0}};
        const struct row *row = &rows[i];
        if (!pattern_fits(row->pattern, rest, params))
            continue;
        if (!method_fits(row->methods, method)) {
            match->other_method = true;
            continue;
        }
        match->op = row->op;
        match->needs_key = row->needs == KEY;
        match->other_method = false;
        memcpy(match->params, params, sizeof(params));
        decode_params(match, path, decoded);
        return;
    }
}

bool query_get(struct slice query, const char *name, struct text *out)
{
    size_t want = strlen(name), at = 0;
    out->n = 0;
    while (at < query.n) {
        const char *p = query.p + at;
        const char *end = memchr(p, '&', query.n - at);
        size_t n = end ? (size_t)(end - p) : query.n - at;
        if (n > want && p[want] == '=' && memcmp(p, name, want) == 0) {
            add_decoded(out, (struct slice){p + want + 1, n - want - 1}, true);
            return true;
        }
        at += n + 1;
    }
    return false;
}
