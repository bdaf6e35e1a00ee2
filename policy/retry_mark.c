/*
 * Reads the fields by which layers tell each other of retries: asked only once an attempt has failed.
 */
#include "policy/retry_mark.h"

static const struct mark {
    struct slice name;
    struct slice before; /* what stands in front of the number */
    uint64_t first;      /* the number that a first attempt has */
} marks[] = {
    {SLICE(RETRY_COUNT_FIELD), SLICE(""), 0},         {SLICE("X-Retry-Attempt"), SLICE(""), 0},
    {SLICE("X-Stainless-Retry-Count"), SLICE(""), 0}, {SLICE("Grpc-Previous-Rpc-Attempts"), SLICE(""), 0},
    {SLICE("X-Envoy-Attempt-Count"), SLICE(""), 1},   {SLICE("Amz-Sdk-Request"), SLICE("attempt="), 1},
};

/* The number at the beginning of `s`, up to its end or a ';'; 0 when there is none. Large ones stay large. */
static uint64_t number(struct slice s)
{
    uint64_t n = 0;
    size_t i = 0;
    while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9') {
        n = n < 1000000 ? n * 10 + (uint64_t)(s.p[i] - '0') : n;
        i++;
    }
    return i == s.n || s.p[i] == ';' ? n : 0;
}

static bool says_retry(const struct mark *mark, struct slice value)
{
    if (value.n < mark->before.n ||
        !slice_equal_nocase((struct slice){value.p, mark->before.n}, mark->before))
        return false;
    return number((struct slice){value.p + mark->before.n, value.n - mark->before.n}) > mark->first;
}

bool retry_marked(const struct head *request)
{
    for (int i = 0; i < request->field_count; i++) {
        uint8_t id = request->fields[i].id;
        if (id != FIELD_OTHER && id != FIELD_X_RETRY_COUNT)
            continue;
        for (size_t m = 0; m < ARRAY_LEN(marks); m++)
            if (slice_equal_nocase(head_name(request, i), marks[m].name) &&
                says_retry(&marks[m], head_value(request, i)))
                return true;
    }
    return false;
}

enum retry_hint retry_hint_of(const struct head *response)
{
    for (int i = 0; i < response->field_count; i++) {
        if (response->fields[i].id != FIELD_OTHER ||
            !slice_equal_nocase(head_name(response, i), SLICE("X-Should-Retry")))
            continue;
        struct slice v = head_value(response, i);
        return slice_equal_nocase(v, SLICE("true"))    ? RETRY_HINT_YES
               : slice_equal_nocase(v, SLICE("false")) ? RETRY_HINT_NO
                                                       : RETRY_HINT_NONE;
    }
    return RETRY_HINT_NONE;
}
