/*
 * Reads cache directives. Invariants: a directive that we do not know changes nothing; a number once read is
 * not overwritten by a later duplicate (in Cache-Control; in a dictionary of RFC 8941 the last one counts);
 * flags only add up, so that of two contradicting directives the stricter holds.
 */
#include "policy/cache_control.h"

#include "policy/octet.h"

enum directive {
    DIRECTIVE_UNKNOWN,
    DIRECTIVE_FLAG,  /* sets a flag, whatever argument it has */
    DIRECTIVE_NAMES, /* sets a flag, or with field names another */
    DIRECTIVE_SECONDS
};

struct directive_row {
    struct slice name;
    enum directive kind;
    uint32_t flag;       /* FLAG, NAMES; SECONDS: the flag for "without a value" */
    uint32_t named_flag; /* NAMES */
    size_t place;        /* SECONDS: offset in struct cache_control */
};

#define AT(member) offsetof(struct cache_control, member)

static const struct directive_row rows[] = {
    {{"max-age", 7}, DIRECTIVE_SECONDS, 0, 0, AT(max_age)},
    {{"s-maxage", 8}, DIRECTIVE_SECONDS, 0, 0, AT(s_maxage)},
    {{"min-fresh", 9}, DIRECTIVE_SECONDS, 0, 0, AT(min_fresh)},
    {{"max-stale", 9}, DIRECTIVE_SECONDS, CC_MAX_STALE_ANY, 0, AT(max_stale)},
    {{"stale-while-revalidate", 22}, DIRECTIVE_SECONDS, 0, 0, AT(stale_while_revalidate)},
    {{"stale-if-error", 14}, DIRECTIVE_SECONDS, 0, 0, AT(stale_if_error)},
    {{"no-store", 8}, DIRECTIVE_FLAG, CC_NO_STORE, 0, 0},
    {{"no-cache", 8}, DIRECTIVE_NAMES, CC_NO_CACHE, CC_NO_CACHE_FIELDS, 0},
    {{"private", 7}, DIRECTIVE_NAMES, CC_PRIVATE, CC_PRIVATE_FIELDS, 0},
    {{"public", 6}, DIRECTIVE_FLAG, CC_PUBLIC, 0, 0},
    {{"must-revalidate", 15}, DIRECTIVE_FLAG, CC_MUST_REVALIDATE, 0, 0},
    {{"proxy-revalidate", 16}, DIRECTIVE_FLAG, CC_PROXY_REVALIDATE, 0, 0},
    {{"must-understand", 15}, DIRECTIVE_FLAG, CC_MUST_UNDERSTAND, 0, 0},
    {{"no-transform", 12}, DIRECTIVE_FLAG, CC_NO_TRANSFORM, 0, 0},
    {{"immutable", 9}, DIRECTIVE_FLAG, CC_IMMUTABLE, 0, 0},
    {{"only-if-cached", 14}, DIRECTIVE_FLAG, CC_ONLY_IF_CACHED, 0, 0},
};

static const struct directive_row unknown_row = {{"", 0}, DIRECTIVE_UNKNOWN, 0, 0, 0};

static const struct directive_row *row_of(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (slice_equal_nocase(rows[i].name, name))
            return &rows[i];
    return &unknown_row;
}

static bool token_char(char c)
{
    return octet_is(c, OCTET_TOKEN);
}

static int64_t *seconds_of(struct cache_control *cc, const struct directive_row *row)
{
    return (int64_t *)((char *)cc + row->place);
}

/* Digits only, clamped; else CC_INVALID. */
static int64_t read_seconds(struct slice text)
{
    int64_t value = 0;
    if (text.n == 0)
        return CC_INVALID;
    for (size_t i = 0; i < text.n; i++) {
        if (!octet_is_digit(text.p[i]))
            return CC_INVALID;
        value = value * 10 + (text.p[i] - '0');
        if (value > CC_SECONDS_MAX)
            value = CC_SECONDS_MAX;
    }
    return value;
}

/* An argument: a token, or what is inside a quoted string. `whole` is false when a quote is missing. */
struct argument {
    struct slice text;
    bool there;
    bool whole;
};

/* Splits `name[=argument]`. Returns false when the name is followed by something else. */
static bool split_member(struct slice member, struct slice *name, struct argument *argument)
{
    size_t n = 0;
    while (n < member.n && token_char(member.p[n]))
        n++;
    *name = (struct slice){member.p, n};
    *argument = (struct argument){.whole = true};
    if (n == 0 || (n < member.n && member.p[n] != '='))
        return false;
    if (n == member.n)
        return true;
    struct slice rest = {member.p + n + 1, member.n - n - 1};
    argument->there = true;
    if (rest.n > 0 && rest.p[0] == '"') {
        argument->whole = rest.n >= 2 && rest.p[rest.n - 1] == '"';
        rest = (struct slice){rest.p + 1, rest.n - 1 - (argument->whole ? 1 : 0)};
    }
    argument->text = rest;
    return true;
}

static void take(struct cache_control *cc, const struct directive_row *row, const struct argument *argument)
{
    int64_t *seconds;
    switch (row->kind) {
    case DIRECTIVE_FLAG:
        cc->flags |= row->flag;
        break;
    case DIRECTIVE_NAMES:
        /* A list that is empty or broken off may have meant everything. */
        cc->flags |= argument->there && argument->whole && argument->text.n > 0 ? row->named_flag : row->flag;
        break;
    case DIRECTIVE_SECONDS:
        seconds = seconds_of(cc, row);
        if (*seconds != CC_ABSENT)
            break;
        *seconds = argument->whole ? read_seconds(argument->text) : CC_INVALID;
        if (!argument->there)
            cc->flags |= row->flag;
        break;
    case DIRECTIVE_UNKNOWN:
        break;
    }
}

void cache_control_read(const struct head *head, struct cache_control *out)
{
    struct list_cursor cursor = {0};
    struct slice member, name;
    struct argument argument;
    *out = CACHE_CONTROL_ABSENT;
    while (head_list_next(head, FIELD_CACHE_CONTROL, &cursor, &member)) {
        out->seen = true;
        if (split_member(member, &name, &argument))
            take(out, row_of(name), &argument);
    }
}

/* Takes the next name off a list of field names. */
static bool next_name(struct slice *list, struct slice *name)
{
    size_t i = 0;
    while (i < list->n && !token_char(list->p[i]))
        i++;
    size_t start = i;
    while (i < list->n && token_char(list->p[i]))
        i++;
    *name = (struct slice){list->p + start, i - start};
    *list = (struct slice){list->p + i, list->n - i};
    return name->n > 0;
}

bool cache_control_next_name(const struct head *head, uint32_t which, struct cc_name_cursor *cursor,
                             struct slice *name)
{
    struct slice member, directive;
    struct argument argument;
    while (!(cursor->rest.n > 0 && next_name(&cursor->rest, name))) {
        if (!head_list_next(head, FIELD_CACHE_CONTROL, &cursor->list, &member))
            return false;
        cursor->rest = (struct slice){NULL, 0};
        if (!split_member(member, &directive, &argument))
            continue;
        const struct directive_row *row = row_of(directive);
        if (row->kind == DIRECTIVE_NAMES && (row->named_flag & which))
            cursor->rest = argument.text;
    }
    return true;
}

/* ---- Dictionaries of RFC 8941, 3.2 and 4.2, as far as directives need them ---- */

enum sf_type { SF_BOOLEAN, SF_INTEGER, SF_OTHER };

struct sf_value {
    enum sf_type type;
    int64_t number; /* BOOLEAN, INTEGER */
};

/* What is left of one field line. */
struct sf {
    const char *p, *end;
};

static bool sf_is(const struct sf *s, char c)
{
    return s->p < s->end && *s->p == c;
}

static bool sf_take(struct sf *s, char c)
{
    if (!sf_is(s, c))
        return false;
    s->p++;
    return true;
}

static void sf_blanks(struct sf *s, bool tabs)
{
    while (sf_is(s, ' ') || (tabs && sf_is(s, '\t')))
        s->p++;
}

static bool sf_digit(const struct sf *s)
{
    return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}

static bool sf_key(struct sf *s, struct slice *key)
{
    const char *start = s->p;
    if (!(s->p < s->end && ((*s->p >= 'a' && *s->p <= 'z') || *s->p == '*')))
        return false;
    while (s->p < s->end && ((*s->p >= 'a' && *s->p <= 'z') || sf_digit(s) || *s->p == '_' || *s->p == '-' ||
                             *s->p == '.' || *s->p == '*'))
        s->p++;
    *key = (struct slice){start, (size_t)(s->p - start)};
    return true;
}

static bool sf_number(struct sf *s, struct sf_value *value)
{
    bool negative = sf_take(s, '-');
    int count = 0;
    value->type = SF_INTEGER;
    for (value->number = 0; sf_digit(s); s->p++, count++) {
        if (count == 15)
            return false;
        value->number = value->number * 10 + (*s->p - '0');
    }
    if (count == 0)
        return false;
    if (negative)
        value->number = -value->number;
    if (!sf_take(s, '.'))
        return true;
    value->type = SF_OTHER;
    int fraction = 0;
    for (; sf_digit(s); s->p++)
        fraction++;
    return count <= 12 && fraction >= 1 && fraction <= 3;
}

static bool sf_string(struct sf *s)
{
    s->p++;
    while (s->p < s->end && *s->p != '"') {
        if (*s->p == '\\') {
            s->p++;
            if (!sf_is(s, '"') && !sf_is(s, '\\'))
                return false;
        } else if (*s->p < 0x20 || *s->p > 0x7e) {
            return false;
        }
        s->p++;
    }
    return sf_take(s, '"');
}

static bool sf_bytes(struct sf *s)
{
    s->p++;
    while (s->p < s->end && *s->p != ':') {
        char c = *s->p;
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || sf_digit(s) || c == '+' || c == '/' ||
              c == '='))
            return false;
        s->p++;
    }
    return sf_take(s, ':');
}

static bool sf_token(struct sf *s)
{
    while (s->p < s->end && (token_char(*s->p) || *s->p == ':' || *s->p == '/'))
        s->p++;
    return true;
}

static bool sf_bare_item(struct sf *s, struct sf_value *value)
{
    value->type = SF_OTHER;
    if (s->p == s->end)
        return false;
    char c = *s->p;
    if (c == '-' || (c >= '0' && c <= '9'))
        return sf_number(s, value);
    if (c == '"')
        return sf_string(s);
    if (c == ':')
        return sf_bytes(s);
    if (c == '?') {
        s->p++;
        *value = (struct sf_value){SF_BOOLEAN, sf_is(s, '1')};
        return sf_take(s, '0') || sf_take(s, '1');
    }
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '*')
        return sf_token(s);
    return false;
}

static bool sf_parameters(struct sf *s)
{
    struct slice key;
    struct sf_value value;
    while (sf_take(s, ';')) {
        sf_blanks(s, false);
        if (!sf_key(s, &key))
            return false;
        if (sf_take(s, '=') && !sf_bare_item(s, &value))
            return false;
    }
    return true;
}

static bool sf_inner_list(struct sf *s)
{
    struct sf_value value;
    s->p++;
    for (;;) {
        sf_blanks(s, false);
        if (sf_take(s, ')'))
            return true;
        if (!sf_bare_item(s, &value) || !sf_parameters(s))
            return false;
        if (!sf_is(s, ' ') && !sf_is(s, ')'))
            return false;
    }
}

/* The part of a member behind its key. */
static bool sf_member_value(struct sf *s, struct sf_value *value)
{
    *value = (struct sf_value){SF_BOOLEAN, 1};
    if (sf_take(s, '=')) {
        if (sf_is(s, '(')) {
            value->type = SF_OTHER;
            if (!sf_inner_list(s))
                return false;
        } else if (!sf_bare_item(s, value)) {
            return false;
        }
    }
    return sf_parameters(s);
}

/* One member of a dictionary. A value of the wrong type leaves the directive out; but a qualified no-cache or
 * private may only be read as the whole one. */
static void take_typed(struct cache_control *cc, struct slice key, const struct sf_value *value)
{
    const struct directive_row *row = &unknown_row;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (slice_equal(rows[i].name, key))
            row = &rows[i];
    if (row->kind == DIRECTIVE_SECONDS) {
        int64_t seconds = value->number < 0 ? CC_INVALID : value->number;
        /* The last one counts, and one of a wrong type is as if it were not there. */
        if (value->type != SF_INTEGER)
            seconds = CC_ABSENT;
        *seconds_of(cc, row) = seconds > CC_SECONDS_MAX ? CC_SECONDS_MAX : seconds;
        return;
    }
    if (value->type == SF_BOOLEAN && value->number == 0)
        cc->flags &= ~row->flag;
    else if (value->type == SF_BOOLEAN || (row->kind == DIRECTIVE_NAMES && value->type == SF_OTHER))
        cc->flags |= row->flag;
}

static bool read_dictionary_line(struct slice line, struct cache_control *out)
{
    struct sf s = {line.p, line.p + line.n};
    struct slice key;
    struct sf_value value;
    sf_blanks(&s, false);
    for (;;) {
        if (!sf_key(&s, &key) || !sf_member_value(&s, &value))
            return false;
        take_typed(out, key, &value);
        sf_blanks(&s, true);
        if (s.p == s.end)
            return true;
        if (!sf_take(&s, ','))
            return false;
        sf_blanks(&s, true);
    }
}

bool cache_control_read_targeted(const struct head *head, struct slice name, struct cache_control *out)
{
    bool there = false;
    *out = CACHE_CONTROL_ABSENT;
    for (int i = 0; i < head->field_count; i++) {
        if (!slice_equal_nocase(head_name(head, i), name))
            continue;
        there = true;
        if (!read_dictionary_line(head_value(head, i), out)) {
            *out = CACHE_CONTROL_ABSENT;
            return false;
        }
    }
    out->seen = there;
    return there;
}
