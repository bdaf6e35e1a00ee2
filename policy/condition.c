/*
 * Conditions and ranges. Invariant: whatever cannot be read makes the answer the whole one, which is never
 * wrong.
 */
#include "policy/condition.h"

#include "policy/http_date.h"

/* Splits `W/"opaque"`. False when it is no entity tag. `opaque` keeps its quotes. */
static bool etag_read(struct slice tag, bool *weak, struct slice *opaque)
{
    *weak = tag.n >= 2 && tag.p[0] == 'W' && tag.p[1] == '/';
    if (*weak)
        tag = (struct slice){tag.p + 2, tag.n - 2};
    if (tag.n < 2 || tag.p[0] != '"' || tag.p[tag.n - 1] != '"')
        return false;
    for (size_t i = 1; i + 1 < tag.n; i++)
        if (tag.p[i] == '"')
            return false;
    *opaque = tag;
    return true;
}

bool etag_equal_weak(struct slice a, struct slice b)
{
    bool weak_a, weak_b;
    struct slice opaque_a, opaque_b;
    return etag_read(a, &weak_a, &opaque_a) && etag_read(b, &weak_b, &opaque_b) &&
           slice_equal(opaque_a, opaque_b);
}

bool etag_equal_strong(struct slice a, struct slice b)
{
    bool weak_a, weak_b;
    struct slice opaque_a, opaque_b;
    return etag_read(a, &weak_a, &opaque_a) && etag_read(b, &weak_b, &opaque_b) && !weak_a && !weak_b &&
           slice_equal(opaque_a, opaque_b);
}

/* Takes the next entity tag off a list. A backslash is an ordinary byte in it, so the list walker for quoted
 * strings does not do. */
static bool next_etag(struct slice *list, struct slice *tag)
{
    const char *p = list->p, *end = list->p + list->n;
    while (p < end && (*p == ',' || *p == ' ' || *p == '\t'))
        p++;
    const char *start = p;
    if (end - p >= 2 && p[0] == 'W' && p[1] == '/')
        p += 2;
    if (p < end && *p == '"') {
        for (p++; p < end && *p != '"'; p++)
            ;
        p += p < end;
    }
    while (p < end && *p != ',')
        p++;
    const char *stop = p;
    while (stop > start && (stop[-1] == ' ' || stop[-1] == '\t'))
        stop--;
    *tag = (struct slice){start, (size_t)(stop - start)};
    *list = (struct slice){p, (size_t)(end - p)};
    return tag->n > 0;
}

static bool none_match_hits(const struct head *request, struct slice etag)
{
    for (int i = head_find(request, FIELD_IF_NONE_MATCH, 0); i >= 0;
         i = head_find(request, FIELD_IF_NONE_MATCH, i + 1)) {
        struct slice list = head_value(request, i), tag;
        if (slice_equal(list, SLICE("*")))
            return true;
        while (next_etag(&list, &tag))
            if (etag_equal_weak(tag, etag))
                return true;
    }
    return false;
}

bool condition_not_modified(const struct head *request, const struct validators *stored, int64_t now)
{
    int64_t since;
    if (head_has(request, FIELD_IF_NONE_MATCH))
        return none_match_hits(request, stored->etag);
    int at = head_find(request, FIELD_IF_MODIFIED_SINCE, 0);
    if (at < 0 || head_find(request, FIELD_IF_MODIFIED_SINCE, at + 1) >= 0)
        return false;
    if (!http_date_parse(head_value(request, at), now, &since))
        return false;
    /* Without Last-Modified, Date stands for it (RFC 9111 4.3.2). */
    return (stored->last_modified != INT64_MIN ? stored->last_modified : stored->date) <= since;
}

/* Digits into a number that saturates. False when there are none. */
static bool read_position(struct slice *text, uint64_t *value)
{
    size_t n = 0;
    *value = 0;
    for (; n < text->n && text->p[n] >= '0' && text->p[n] <= '9'; n++) {
        uint64_t digit = (uint64_t)(text->p[n] - '0');
        *value = *value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *value * 10 + digit;
    }
    *text = (struct slice){text->p + n, text->n - n};
    return n > 0;
}

enum range_verdict range_parse(struct slice value, uint64_t size, uint64_t *first, uint64_t *last)
{
    const struct slice unit = SLICE("bytes=");
    uint64_t from = 0, to = UINT64_MAX;
    if (value.n < unit.n || !slice_equal_nocase((struct slice){value.p, unit.n}, unit))
        return RANGE_WHOLE;
    value = (struct slice){value.p + unit.n, value.n - unit.n};
    bool has_from = read_position(&value, &from);
    if (value.n == 0 || value.p[0] != '-')
        return RANGE_WHOLE;
    value = (struct slice){value.p + 1, value.n - 1};
    bool has_to = read_position(&value, &to);
    if (value.n != 0 || (!has_from && !has_to) || (has_from && has_to && to < from))
        return RANGE_WHOLE;
    if (!has_from) { /* the last `to` bytes */
        if (to == 0 || size == 0)
            return RANGE_UNSATISFIABLE;
        *first = to >= size ? 0 : size - to;
        *last = size - 1;
        return RANGE_PART;
    }
    if (from >= size)
        return RANGE_UNSATISFIABLE;
    *first = from;
    *last = !has_to || to >= size ? size - 1 : to;
    return RANGE_PART;
}

/* Does If-Range allow the Range to be acted on (RFC 9110 13.1.5)? */
static bool if_range_holds(const struct head *request, const struct validators *stored)
{
    int at = head_find(request, FIELD_IF_RANGE, 0);
    int64_t when;
    if (at < 0)
        return true;
    if (head_find(request, FIELD_IF_RANGE, at + 1) >= 0)
        return false;
    struct slice value = head_value(request, at);
    if (value.n > 0 && (value.p[0] == '"' || value.p[0] == 'W'))
        if (value.p[0] == '"' || (value.n > 1 && value.p[1] == '/'))
            return etag_equal_strong(value, stored->etag);
    /* A date is strong only when it was a minute old, or older, when the answer was made (8.8.2.2). */
    return http_date_parse(value, stored->date, &when) && when == stored->last_modified &&
           stored->date - when >= 60;
}

enum range_verdict condition_range(const struct head *request, const struct validators *stored, uint64_t size,
                                   uint64_t *first, uint64_t *last)
{
    int at = head_find(request, FIELD_RANGE, 0);
    if (at < 0 || head_find(request, FIELD_RANGE, at + 1) >= 0 || request->method != METHOD_GET)
        return RANGE_WHOLE;
    if (!if_range_holds(request, stored))
        return RANGE_WHOLE;
    return range_parse(head_value(request, at), size, first, last);
}

bool content_range_read(const struct head *response, struct content_range *out)
{
    const struct slice unit = SLICE("bytes ");
    int at = head_find(response, FIELD_CONTENT_RANGE, 0);
    if (at < 0 || head_find(response, FIELD_CONTENT_RANGE, at + 1) >= 0)
        return false;
    struct slice value = head_value(response, at);
    if (value.n < unit.n || !slice_equal_nocase((struct slice){value.p, unit.n}, unit))
        return false;
    value = (struct slice){value.p + unit.n, value.n - unit.n};
    if (!read_position(&value, &out->first) || value.n == 0 || value.p[0] != '-')
        return false;
    value = (struct slice){value.p + 1, value.n - 1};
    if (!read_position(&value, &out->last) || value.n == 0 || value.p[0] != '/')
        return false;
    value = (struct slice){value.p + 1, value.n - 1};
    return read_position(&value, &out->total) && value.n == 0 && out->first <= out->last &&
           out->last < out->total && out->total != UINT64_MAX;
}
