/*
 * Rows of routes as written into the sets of route_private.h.
 *
 * Invariants: rows keep their order, user's before preset's; every text that the result needs is copied
 * into its own blocks; after a failure nothing is left behind and the error names the row.
 */
#include "policy/route_private.h"

#include <stdlib.h>

struct template
{ /* a path template, taken apart */
    int n;
    int captures;
    bool rest;
    struct {
        enum segment_kind kind;
        struct slice text; /* of a literal */
    } segment[ROUTE_MAX_SEGMENTS];
    struct slice name[ROUTE_MAX_CAPTURES];
    uint8_t at[ROUTE_MAX_CAPTURES];
};

struct build {
    struct routes *r;
    struct route_error *error;
    int row;                  /* index into the caller's specs; the preset's rows are all -1 */
    struct template template; /* of the present row */
};

/* --- Errors and memory. --- */

static size_t add_text(char *out, size_t room, size_t n, struct slice s)
{
    for (size_t i = 0; i < s.n && n + 1 < room; i++)
        out[n++] = s.p[i];
    out[n] = 0;
    return n;
}

static struct slice text(const char *s)
{
    return (struct slice){s, strlen(s)};
}

/* Notes what is wrong: before, `name`, after. Always false, so that a caller can return it. */
static bool fail(const struct build *b, const char *before, struct slice name, const char *after)
{
    struct route_error *e = b->error;
    e->row = b->row;
    size_t n = add_text(e->message, sizeof e->message, 0, text(before));
    if (name.n > 80)
        name.n = 80;
    n = add_text(e->message, sizeof e->message, n, name);
    add_text(e->message, sizeof e->message, n, text(after));
    return false;
}

static bool fail_plain(const struct build *b, const char *what)
{
    return fail(b, what, SLICE(""), "");
}

/* Zeroed memory that lives as long as the routes; NULL with the error noted. */
static void *grab(const struct build *b, size_t n)
{
    struct route_block *block = calloc(1, sizeof *block + n);
    if (!block) {
        b->error->row = -1;
        add_text(b->error->message, sizeof b->error->message, 0, SLICE("out of memory"));
        return NULL;
    }
    block->next = b->r->blocks;
    b->r->blocks = block;
    return block->bytes;
}

static const char *grab_text(const struct build *b, struct slice s)
{
    char *p = grab(b, s.n + 1);
    if (p && s.n)
        memcpy(p, s.p, s.n);
    return p;
}

/* --- Names. --- */

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static bool is_name(struct slice s)
{
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!is_alnum(s.p[i]) && s.p[i] != '_' && s.p[i] != '-' && s.p[i] != '.')
            return false;
    return true;
}

static bool slices_equal(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* --- Templates. --- */

static int find_capture(const struct template *t, struct slice name)
{
    for (int i = 0; i < t->captures; i++)
        if (slices_equal(t->name[i], name))
            return i;
    return -1;
}

static bool ends_with(struct slice s, const char *end, size_t n)
{
    return s.n >= n && memcmp(s.p + s.n - n, end, n) == 0;
}

/* A segment in braces. */
static bool parse_capture(struct build *b, struct slice s, bool last)
{
    struct template *t = &b->template;
    struct slice name = {s.p + 1, s.n - 2};
    enum segment_kind kind = SEGMENT_WILD;
    if (ends_with(name, "...", 3)) {
        kind = SEGMENT_ANY;
        name.n -= 3;
        if (!last)
            return fail(b, "path: only the last segment may be a {name...}, not ", s, "");
        t->rest = true;
    } else if (ends_with(name, "#", 1)) {
        kind = SEGMENT_NUMBERED;
        name.n--;
    }
    if (!is_name(name))
        return fail(b, "path: ", s, " is not a {name} of letters, digits, '_', '-' and '.'");
    if (find_capture(t, name) >= 0)
        return fail(b, "path: ", s, " comes twice");
    if (t->captures == ROUTE_MAX_CAPTURES)
        return fail_plain(b, "path: more than 8 {names}");
    t->name[t->captures] = name;
    t->at[t->captures++] = (uint8_t)t->n;
    t->segment[t->n++].kind = kind;
    return true;
}

static bool parse_segment(struct build *b, struct slice s, bool last)
{
    struct template *t = &b->template;
    if (t->n == ROUTE_MAX_SEGMENTS)
        return fail_plain(b, "path: more than 16 segments");
    if (s.n >= 2 && s.p[0] == '{' && s.p[s.n - 1] == '}')
        return parse_capture(b, s, last);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '{' || s.p[i] == '}')
            return fail(b, "path: a {name} must be a whole segment, not a part of ", s, "");
        if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] >= 0x7f || s.p[i] == '?' || s.p[i] == '#')
            return fail(b, "path: no path can have a space, control byte, '?', '#' or a byte above 127: ", s,
                        "");
    }
    if (s.n == 0 && !last)
        return fail_plain(b, "path: an empty segment (two slashes in a row)");
    if (route_is_dot_segment(s.p, s.n))
        return fail_plain(b, "path: \".\" and \"..\" are never matched");
    t->segment[t->n].kind = SEGMENT_LITERAL;
    t->segment[t->n++].text = s;
    return true;
}

static bool parse_template(struct build *b, const char *path)
{
    memset(&b->template, 0, sizeof b->template);
    if (!path || path[0] != '/')
        return fail(b, "path: must begin with a slash: ", text(path ? path : ""), "");
    for (const char *p = path + 1;;) {
        const char *slash = strchr(p, '/');
        struct slice s = {p, slash ? (size_t)(slash - p) : strlen(p)};
        if (!parse_segment(b, s, !slash))
            return false;
        if (!slash)
            return true;
        p = slash + 1;
    }
}

/* --- Tags. --- */

/* How many parts a tag has at most. */
static size_t count_parts(const char *tag)
{
    size_t n = 1;
    for (; *tag; tag++)
        n += *tag == '{';
    return n;
}

/* Reads one part: text up to a brace, and the name in it. Moves *p behind it. */
static bool parse_part(const struct build *b, const char **p, struct route_part *part)
{
    size_t n = strcspn(*p, "{}");
    part->p = grab_text(b, (struct slice){*p, n});
    if (!part->p)
        return false;
    if (n > UINT16_MAX)
        return fail_plain(b, "tags: one is too long");
    part->n = (uint16_t)n;
    part->capture = -1;
    const char *open = *p + n;
    *p = open;
    if (!*open)
        return true;
    const char *close = *open == '{' ? strchr(open, '}') : NULL;
    if (!close)
        return fail(b, "tags: unbalanced brace in ", text(open), "");
    struct slice name = {open + 1, (size_t)(close - open - 1)};
    part->base = ends_with(name, "~", 1);
    if (part->base)
        name.n--;
    part->capture = (int16_t)find_capture(&b->template, name);
    if (part->capture < 0)
        return fail(b, "tags: the path has no {", name, "}");
    *p = close + 1;
    return true;
}

/* NULL with the error noted. */
static const struct route_program *compile_tag(const struct build *b, const char *tag, bool purge)
{
    struct slice all = text(tag);
    bool prefix = purge && ends_with(all, "*", 1);
    const char *star = strchr(tag, '*');
    if (all.n == 0 || (star && !(prefix && star == tag + all.n - 1))) {
        fail(b,
             purge ? "invalidates: '*' may only end a tag, and no tag is empty: "
                   : "tags: a tag is not empty and has no '*': ",
             all, "");
        return NULL;
    }
    struct route_program *program = grab(b, sizeof *program + count_parts(tag) * sizeof program->part[0]);
    if (!program)
        return NULL;
    program->prefix = prefix;
    for (const char *p = tag; *p;)
        if (!parse_part(b, &p, &program->part[program->parts++]))
            return NULL;
    struct route_part *last = &program->part[program->parts - 1];
    if (prefix)
        last->n--; /* the star is the last byte of the last text: nothing but text can hold it */
    return program;
}

static bool compile_tags(const struct build *b, const struct route_spec *spec, struct route *row)
{
    for (int i = 0; i < ROUTE_MAX_TAGS && spec->tags[i]; i++) {
        row->tag[i] = compile_tag(b, spec->tags[i], false);
        if (!row->tag[i])
            return false;
        row->tags++;
    }
    for (int i = 0; i < ROUTE_MAX_TAGS && spec->invalidates[i]; i++) {
        row->purge[i] = compile_tag(b, spec->invalidates[i], true);
        if (!row->purge[i])
            return false;
        row->invalidates++;
    }
    return true;
}

/* --- Operations. --- */

/* "/v1/keys/{id}" is v1_keys_id. 0: too long. */
static size_t name_from_path(const struct template *t, char out[ROUTE_MAX_NAME])
{
    size_t n = 0;
    int capture = 0;
    for (int i = 0; i < t->n; i++) {
        bool literal = t->segment[i].kind == SEGMENT_LITERAL;
        struct slice s = literal ? t->segment[i].text : t->name[capture++];
        if (n + s.n + 2 > ROUTE_MAX_NAME)
            return 0;
        if (n && s.n)
            out[n++] = '_';
        for (size_t k = 0; k < s.n; k++)
            out[n++] = is_alnum(s.p[k]) ? s.p[k] : '_';
    }
    if (n == 0)
        return add_text(out, ROUTE_MAX_NAME, 0, SLICE("root"));
    out[n] = 0;
    return n;
}

/* The number of a name, a new one when it has none yet. -1: no more room. */
static int number_operation(struct routes *r, struct slice name)
{
    for (int i = 0; i < r->operations; i++)
        if (slices_equal(text(r->name[i]), name))
            return i;
    if (r->operations == ROUTE_MAX_OPERATIONS)
        return -1;
    add_text(r->name[r->operations], ROUTE_MAX_NAME, 0, name);
    return r->operations++;
}

static bool set_operation(const struct build *b, const struct route_spec *spec, struct route *row)
{
    char made[ROUTE_MAX_NAME];
    struct slice name;
    if (spec->operation) {
        name = text(spec->operation);
        if (!is_name(name) || name.n >= ROUTE_MAX_NAME)
            return fail(b, "operation: must be 1 to 47 letters, digits, '_', '-' and '.': ", name, "");
    } else {
        name = (struct slice){made, name_from_path(&b->template, made)};
        if (name.n == 0)
            return fail_plain(b, "operation: the path is too long to make a name from it: give one");
    }
    int n = number_operation(b->r, name);
    if (n < 0)
        return fail(b, "operation: more than 63 different ones (those before a reload included) at ", name,
                    "");
    row->operation = (uint8_t)n;
    return true;
}

/* --- Sets. --- */

static void set_bit(uint64_t *set, size_t row)
{
    set[row / 64] |= UINT64_C(1) << (row % 64);
}

static bool set_literal(const struct build *b, struct slice s, size_t position, size_t row)
{
    struct routes *r = b->r;
    uint32_t hash = route_hash(s.p, s.n, position);
    size_t i = hash & r->table_mask;
    for (; r->table[i].p; i = (i + 1) & r->table_mask) {
        struct route_literal *l = &r->table[i];
        if (l->position == position && slices_equal((struct slice){l->p, l->n}, s))
            break;
    }
    struct route_literal *l = &r->table[i];
    if (!l->p) {
        uint64_t *rows = grab(b, r->words * sizeof *rows);
        const char *copy = rows ? grab_text(b, s) : NULL;
        if (!copy)
            return false;
        *l = (struct route_literal){copy, hash, (uint16_t)s.n, (uint16_t)position, rows};
    }
    set_bit(l->rows, row);
    return true;
}

static bool set_path(const struct build *b, size_t row)
{
    struct routes *r = b->r;
    const struct template *t = &b->template;
    int fixed = t->rest ? t->n - 1 : t->n;
    for (int i = 0; i < fixed; i++) {
        enum segment_kind kind = t->segment[i].kind;
        if (kind == SEGMENT_LITERAL) {
            if (t->segment[i].text.n > UINT16_MAX)
                return fail_plain(b, "path: a segment is too long");
            if (!set_literal(b, t->segment[i].text, (size_t)i, row))
                return false;
        } else {
            set_bit(r->wild + ((size_t)i * SEGMENT_WILDCARDS + kind) * r->words, row);
        }
    }
    for (int i = fixed; t->rest && i < ROUTE_MAX_SEGMENTS; i++)
        set_bit(r->wild + ((size_t)i * SEGMENT_WILDCARDS + SEGMENT_ANY) * r->words, row);
    for (int n = t->n; n < (t->rest ? ROUTE_COUNTS : t->n + 1); n++)
        set_bit(r->count + (size_t)n * r->words, row);
    return true;
}

static bool set_methods(const struct build *b, uint32_t methods, size_t row)
{
    if (methods >> METHOD_COUNT)
        return fail_plain(b, "methods: unknown method");
    if (methods & (UINT32_C(1) << METHOD_GET))
        methods |= UINT32_C(1) << METHOD_HEAD;
    for (size_t m = 0; m < METHOD_COUNT; m++)
        if (!methods || (methods >> m & 1))
            set_bit(b->r->method + m * b->r->words, row);
    return true;
}

/* --- Rows. --- */

static bool compile_row(struct build *b, const struct route_spec *spec, size_t at)
{
    const struct template *t = &b->template;
    struct route *row = &b->r->row[at];
    if (!parse_template(b, spec->path))
        return false;
    if (spec->ttl < 0 || spec->timeout < 0 || spec->max_attempts < 0)
        return fail_plain(b, "ttl, timeout and max_attempts may not be negative");
    row->number = (uint16_t)(at + 1);
    row->path = grab_text(b, text(spec->path));
    if (!row->path)
        return false;
    row->no_store = spec->no_store;
    row->safe = spec->safe;
    row->has_ttl = spec->has_ttl;
    row->ttl = spec->ttl;
    row->max_attempts = spec->max_attempts;
    row->timeout = spec->timeout;
    row->captures = (uint8_t)t->captures;
    row->rest = t->rest;
    memcpy(row->capture_at, t->at, sizeof row->capture_at);
    return set_operation(b, spec, row) && compile_tags(b, spec, row) && set_methods(b, spec->methods, at) &&
           set_path(b, at);
}

static size_t count_literals(const struct route_spec *specs, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        for (const char *p = specs[i].path; p && *p; p++)
            n += *p == '/';
    return n;
}

static bool make_room(const struct build *b, size_t rows, size_t literals)
{
    struct routes *r = b->r;
    r->rows = rows;
    r->words = rows / 64 + (rows % 64 != 0);
    size_t table = 16;
    while (table < 2 * literals) /* half empty at least: a search ends soon */
        table *= 2;
    r->table_mask = table - 1;
    r->table = grab(b, table * sizeof r->table[0]);
    r->row = grab(b, rows * sizeof r->row[0]);
    r->method = grab(b, METHOD_COUNT * r->words * sizeof(uint64_t));
    r->count = grab(b, ROUTE_COUNTS * r->words * sizeof(uint64_t));
    r->wild = grab(b, (size_t)ROUTE_MAX_SEGMENTS * SEGMENT_WILDCARDS * r->words * sizeof(uint64_t));
    return r->table && r->row && r->method && r->count && r->wild;
}

static bool compile_rows(struct build *b, const struct route_spec *specs, size_t count, bool preset)
{
    size_t more = 0;
    const struct route_spec *built_in = route_preset(&more);
    if (!preset)
        more = 0;
    if (count > ROUTE_MAX_ROWS - more)
        return fail_plain(b, "more than 1024 routes, the preset's included");
    if (!make_room(b, count + more, count_literals(specs, count) + count_literals(built_in, more)))
        return false;
    for (size_t i = 0; i < count; i++) {
        b->row = (int)i;
        if (!compile_row(b, &specs[i], i))
            return false;
    }
    b->row = -1;
    for (size_t i = 0; i < more; i++) {
        if (!compile_row(b, &built_in[i], count + i))
            return false;
        b->r->row[count + i].one_slash = built_in[i].has_ttl;
    }
    return true;
}

struct routes *routes_compile(const struct route_spec *specs, size_t count, bool preset,
                              const struct routes *previous, struct route_error *error)
{
    *error = (struct route_error){.row = -1};
    struct routes *r = calloc(1, sizeof *r);
    if (!r) {
        add_text(error->message, sizeof error->message, 0, SLICE("out of memory"));
        return NULL;
    }
    if (previous) {
        memcpy(r->name, previous->name, sizeof r->name);
        r->operations = previous->operations;
    } else {
        number_operation(r, SLICE("other"));
    }
    struct build b = {.r = r, .error = error, .row = -1};
    if (compile_rows(&b, specs, count, preset))
        return r;
    routes_free(r);
    return NULL;
}

void routes_free(struct routes *r)
{
    if (!r)
        return;
    for (struct route_block *block = r->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    free(r);
}
