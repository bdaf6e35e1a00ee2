/*
 * Reading a parsed head: comparing names and values, and walking list fields.
 * Invariant: nothing outside the value of the field at hand is ever looked at.
 */
#include <string.h>

#include "policy/head.h"
#include "policy/octet.h"

static inline char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool slice_equal_nocase(struct slice a, struct slice b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (a.p[i] != b.p[i] && lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

bool slice_equal(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* The place of the comma that ends the member beginning at `at`, or v.n. Commas in quoted strings end
 * nothing; a quoted string that is never closed reaches to the end of its line (RFC 9110 5.6.4). */
static size_t member_end(struct slice v, size_t at)
{
    bool quoted = false;
    for (; at < v.n; at++) {
        char c = v.p[at];
        if (c == '"')
            quoted = !quoted;
        else if (quoted && c == '\\')
            at++;
        else if (!quoted && c == ',')
            break;
    }
    return at < v.n ? at : v.n;
}

/* The next member that is not empty on this line. */
static bool line_next(struct slice v, size_t *at, struct slice *member)
{
    size_t i = *at;
    while (i < v.n && (octet_is_blank(v.p[i]) || v.p[i] == ','))
        i++;
    if (i >= v.n) {
        *at = v.n;
        return false;
    }
    size_t end = member_end(v, i);
    *at = end;
    while (end > i && octet_is_blank(v.p[end - 1]))
        end--;
    *member = (struct slice){v.p + i, end - i};
    return true;
}

bool head_list_next(const struct head *h, enum field_id id, struct list_cursor *cursor, struct slice *member)
{
    if (cursor->field > 0 && line_next(head_value(h, cursor->field - 1), &cursor->at, member))
        return true;
    for (;;) {
        int i = head_find(h, id, cursor->field);
        if (i < 0)
            break;
        *cursor = (struct list_cursor){i + 1, 0};
        if (line_next(head_value(h, i), &cursor->at, member))
            return true;
    }
    cursor->field = h->field_count; /* the end stays the end */
    cursor->at = SIZE_MAX;
    return false;
}
