/*
 * Edit distance (optimal string alignment: insertion, deletion, change, swap of neighbours) in three
 * rows on the stack. Invariant: work is bounded by SUGGEST_MAX_LENGTH squared.
 */
#include "policy/suggest.h"

#include <string.h>

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t suggest_distance(const char *a, const char *b)
{
    size_t rows[3][SUGGEST_MAX_LENGTH + 1];
    size_t na = strlen(a), nb = strlen(b);
    if (na > SUGGEST_MAX_LENGTH || nb > SUGGEST_MAX_LENGTH)
        return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t *now = rows[i % 3], *before = rows[(i + 2) % 3], *earlier = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            now[j] = least(before[j] + 1, now[j - 1] + 1);
            now[j] = least(now[j], before[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], earlier[j - 2] + 1);
        }
    }
    return rows[na % 3][nb];
}

bool suggest_offer(struct suggestion *s, const char *candidate)
{
    size_t limit = 1 + strlen(s->typed) / 4;
    size_t d = suggest_distance(s->typed, candidate);
    if (d > limit || (s->best && d >= s->distance))
        return false;
    s->best = candidate;
    s->distance = d;
    return true;
}
