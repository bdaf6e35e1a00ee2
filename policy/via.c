/*
 * Our member of Via, written and recognised. Invariant: only a member that we wrote ourselves, with our own
 * instance in its comment, is a loop; another sidecar in the chain, with the same pseudonym, is not.
 */
#include "policy/via.h"

#include <string.h>

static char *add(char *out, const char *p, size_t n)
{
    memcpy(out, p, n);
    return out + n;
}

size_t via_format(char out[VIA_MAX], int minor, const char *instance)
{
    char *p = add(out, minor ? "1.1 " : "1.0 ", 4);
    p = add(p, VIA_PSEUDONYM, sizeof VIA_PSEUDONYM - 1);
    if (instance) {
        p = add(p, " (", 2);
        p = add(p, instance, VIA_INSTANCE_LEN);
        p = add(p, ")", 1);
    }
    return (size_t)(p - out);
}

/* Whether `text` is somewhere in the value. */
static bool contains(struct slice value, const char *text, size_t n)
{
    for (size_t i = 0; i + n <= value.n; i++)
        if (value.p[i] == text[0] && memcmp(value.p + i, text, n) == 0)
            return true;
    return false;
}

bool via_is_loop(const struct head *h, const char *instance)
{
    /* Pseudonym and comment exactly as we write them: next hops pass members on as they are (RFC 9110 7.6.3).
     */
    char own[VIA_MAX];
    size_t n = via_format(own, 1, instance) - 4;
    for (int i = head_find(h, FIELD_VIA, 0); i >= 0; i = head_find(h, FIELD_VIA, i + 1))
        if (contains(head_value(h, i), own + 4, n))
            return true;
    return false;
}
