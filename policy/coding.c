/*
 * Content codings. Invariant: what cannot be read is not accepted, which costs a fetch and never a broken
 * client.
 */
#include "policy/coding.h"

#include "policy/octet.h"

/* Takes the next member off a comma-separated list of tokens, blanks trimmed. */
static bool next_member(struct slice *list, struct slice *member)
{
    for (;;) {
        while (list->n > 0 && (octet_is_blank(*list->p) || *list->p == ','))
            *list = (struct slice){list->p + 1, list->n - 1};
        if (list->n == 0)
            return false;
        size_t n = 0;
        while (n < list->n && list->p[n] != ',')
            n++;
        *member = (struct slice){list->p, n};
        *list = (struct slice){list->p + n, list->n - n};
        while (member->n > 0 && octet_is_blank(member->p[member->n - 1]))
            member->n--;
        return true;
    }
}

bool coding_encoded(const struct head *response)
{
    for (int i = head_find(response, FIELD_CONTENT_ENCODING, 0); i >= 0;
         i = head_find(response, FIELD_CONTENT_ENCODING, i + 1)) {
        struct slice list = head_value(response, i), member;
        while (next_member(&list, &member))
            if (!slice_equal_nocase(member, SLICE("identity")))
                return true;
    }
    return false;
}

/* RFC 9110 8.4.1.3: x-gzip and x-compress are other names of the same. */
static struct slice plain_name(struct slice name)
{
    if (slice_equal_nocase(name, SLICE("x-gzip")) || slice_equal_nocase(name, SLICE("x-compress")))
        return (struct slice){name.p + 2, name.n - 2};
    return name;
}

/* Is the weight of `gzip;q=0.5` above 0? A weight that cannot be read is none. Gives the name. */
static bool wanted(struct slice member, struct slice *name)
{
    size_t n = 0;
    while (n < member.n && octet_is(member.p[n], OCTET_TOKEN))
        n++;
    *name = (struct slice){member.p, n};
    while (n < member.n && octet_is_blank(member.p[n]))
        n++;
    if (n == member.n)
        return true;
    if (member.p[n++] != ';')
        return false;
    while (n < member.n && octet_is_blank(member.p[n]))
        n++;
    if (member.n - n < 3 || (member.p[n] | 0x20) != 'q' || member.p[n + 1] != '=')
        return false;
    for (n += 2; n < member.n; n++)
        if (octet_is_digit(member.p[n]) ? member.p[n] != '0' : member.p[n] != '.')
            return octet_is_digit(member.p[n]);
    return false;
}

/* What Accept-Encoding says of one coding; by `*` when it is not named. */
static bool accepts(const struct head *request, struct slice coding)
{
    bool star = false;
    for (int i = head_find(request, FIELD_ACCEPT_ENCODING, 0); i >= 0;
         i = head_find(request, FIELD_ACCEPT_ENCODING, i + 1)) {
        struct slice list = head_value(request, i), member, name;
        while (next_member(&list, &member)) {
            bool yes = wanted(member, &name);
            if (slice_equal_nocase(plain_name(name), plain_name(coding)))
                return yes;
            if (slice_equal(name, SLICE("*")))
                star = yes;
        }
    }
    return star;
}

bool coding_accepted(const struct head *request, struct slice codings)
{
    struct slice member;
    if (codings.n == 0)
        return false;
    while (next_member(&codings, &member))
        if (!slice_equal_nocase(member, SLICE("identity")) && !accepts(request, member))
            return false;
    return true;
}
