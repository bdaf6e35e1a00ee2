/*
 * Feeds any fields to everything that reads directives, dates, ages, variants, conditions and ranges. The
 * input is a list of lines, the first byte of each saying which field it is; half of them go into a request,
 * half into a response. Whatever they hold: numbers stay within their bounds, slices within the input, time
 * never makes anything fresher, the same request selects the same variant, and a range lies inside the body.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/condition.h"
#include "policy/freshness.h"
#include "policy/vary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINES_MAX = 24 };

/* A head whose fields lie in the input; the names come from a table behind it. */
struct made {
    struct head head;
    struct field fields[LINES_MAX];
};

static const enum field_id known[] = {FIELD_CACHE_CONTROL,
                                      FIELD_PRAGMA,
                                      FIELD_AGE,
                                      FIELD_DATE,
                                      FIELD_EXPIRES,
                                      FIELD_ETAG,
                                      FIELD_LAST_MODIFIED,
                                      FIELD_VARY,
                                      FIELD_CONTENT_LANGUAGE,
                                      FIELD_RANGE,
                                      FIELD_IF_RANGE,
                                      FIELD_IF_NONE_MATCH,
                                      FIELD_IF_MODIFIED_SINCE,
                                      FIELD_ACCEPT_LANGUAGE,
                                      FIELD_CDN_CACHE_CONTROL,
                                      FIELD_AUTHORIZATION,
                                      FIELD_CONTENT_RANGE,
                                      FIELD_CONTENT_ENCODING,
                                      FIELD_ACCEPT_ENCODING};

/* Which of `known` a line is: the first sixteen, but where these say nothing on their side the other three.
 */
static unsigned field_of(unsigned which)
{
    bool in_request = which < 16;
    enum field_id id = known[which % 16];
    if (!in_request && id == FIELD_RANGE)
        return 16;
    if (!in_request && id == FIELD_IF_RANGE)
        return 17;
    return in_request && id == FIELD_CDN_CACHE_CONTROL ? 18 : which % 16;
}

static void trim(const char *base, uint32_t *at, uint32_t *n)
{
    while (*n > 0 && (base[*at] == ' ' || base[*at] == '\t'))
        ++*at, --*n;
    while (*n > 0 && (base[*at + *n - 1] == ' ' || base[*at + *n - 1] == '\t'))
        --*n;
}

static void add_field(struct made *m, enum field_id id, uint32_t name_at, struct slice value)
{
    uint32_t at = (uint32_t)(value.p - m->head.base), n = (uint32_t)value.n;
    if (m->head.field_count == LINES_MAX)
        return;
    trim(m->head.base, &at, &n);
    m->fields[m->head.field_count++] = (struct field){.name = name_at,
                                                      .name_len = (uint16_t)field_name(id).n,
                                                      .value = at,
                                                      .value_len = n,
                                                      .id = (uint8_t)id};
    m->head.present |= (uint64_t)1 << id;
}

static void make(struct made *request, struct made *response, const char *text, size_t size, size_t names_at)
{
    const char *end = text + size;
    for (const char *p = text; p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        stop = stop ? stop : end;
        if (stop > p) {
            unsigned which = (unsigned char)*p % 32;
            unsigned field = field_of(which);
            enum field_id id = known[field];
            uint32_t name_at = (uint32_t)names_at;
            for (unsigned i = 0; i < field; i++)
                name_at += (uint32_t)field_name(known[i]).n;
            add_field(which < 16 ? request : response, id, name_at,
                      (struct slice){p + 1, (size_t)(stop - p - 1)});
        }
        p = stop + 1;
    }
}

static void check_seconds(int64_t n)
{
    assert(n == CC_ABSENT || n == CC_INVALID || (n >= 0 && n <= CC_SECONDS_MAX));
}

static void check_directives(const struct cache_control *cc)
{
    check_seconds(cc->max_age);
    check_seconds(cc->s_maxage);
    check_seconds(cc->min_fresh);
    check_seconds(cc->max_stale);
    check_seconds(cc->stale_while_revalidate);
    check_seconds(cc->stale_if_error);
}

static void check_names(const struct head *head)
{
    struct cc_name_cursor cursor = {{0, 0}, {NULL, 0}};
    struct slice name;
    while (cache_control_next_name(head, CC_NO_CACHE_FIELDS | CC_PRIVATE_FIELDS, &cursor, &name))
        assert(name.n > 0 && name.p >= head->base && name.p + name.n <= head->base + head->len);
}

static void check_freshness(const struct head *request, const struct head *response, bool shared)
{
    struct cache_rules rules = {.shared = shared,
                                .stale_while_revalidate = 30 * TICK_S,
                                .stale_if_error = 3600 * TICK_S,
                                .heuristic_fraction = 0.1};
    struct freshness_times times = {5 * TICK_S, 6 * TICK_S, 1700000000};
    struct freshness f;
    struct cache_ask ask;
    enum cache_fwd fwd;
    rules.targets[0] = SLICE("cdn-cache-control");
    rules.target_count = 1;
    freshness_judge(&rules, NULL, request, response, &times, &f);
    assert(f.lifetime >= 0 && f.initial_age >= TICK_S && f.swr >= 0 && f.sie >= 0);
    assert(f.lifetime <= CC_SECONDS_MAX * TICK_S && f.initial_age <= 3 * CC_SECONDS_MAX * TICK_S);
    cache_ask_read(request, &ask);
    check_directives(&ask.cc);
    enum reuse before = REUSE_FRESH;
    for (tick_t now = 6 * TICK_S; now < INT64_MAX / 4; now *= 4) {
        enum reuse reuse = freshness_reuse(&f, &ask, now, &fwd);
        assert((reuse == REUSE_VALIDATE) == (fwd != CACHE_FWD_NONE));
        assert(reuse >= before || before == REUSE_STALE); /* the windows of client and origin may overlap */
        before = reuse;
        freshness_for_error(&f, &ask, now);
    }
}

static void check_variants(const struct head *request, const struct head *response)
{
    char names[300];
    struct vary_key a, b;
    int n = vary_names(response, names, sizeof names);
    if (n < 0)
        return;
    vary_select((struct slice){names, (size_t)n}, request, (struct hash_key){1, 2}, &a);
    vary_select((struct slice){names, (size_t)n}, request, (struct hash_key){1, 2}, &b);
    struct vary_content content = {{NULL, 0}, {NULL, 0}};
    assert(vary_match(&a, &b, &content, request));
    content.language = head_first(response, FIELD_CONTENT_LANGUAGE);
    content.coding = head_first(response, FIELD_CONTENT_ENCODING);
    b.language++;
    vary_match(&a, &b, &content, request);
    b.coding++;
    vary_match(&a, &b, &content, request);
}

static void check_conditions(const struct head *request, const struct head *response)
{
    struct validators stored = {head_first(response, FIELD_ETAG), 1699999000, 1700000000};
    uint64_t first, last;
    condition_not_modified(request, &stored, 1700000000);
    for (uint64_t length = 0; length < 3000; length = length * 3 + 1)
        if (condition_range(request, &stored, length, &first, &last) == RANGE_PART)
            assert(first <= last && last < length);
    struct content_range part;
    if (content_range_read(response, &part))
        assert(part.first <= part.last && part.last < part.total);
    if (etag_equal_strong(stored.etag, stored.etag))
        assert(etag_equal_weak(stored.etag, stored.etag));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct made request = {.head = {.method = METHOD_GET}}, response = {.head = {.status = 200, .minor = 1}};
    size_t names = 0;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        names += field_name(known[i]).n;
    char *text = malloc(size + names);
    if (!text)
        return 0;
    memcpy(text, data, size);
    size_t at = size;
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        struct slice name = field_name(known[i]);
        memcpy(text + at, name.p, name.n);
        at += name.n;
    }
    request.head.base = response.head.base = text;
    request.head.len = response.head.len = (uint32_t)(size + names);
    request.head.fields = request.fields;
    response.head.fields = response.fields;
    if (size > 0)
        response.head.status = (uint16_t)(200 + data[0] % 128 * 3);
    make(&request, &response, text, size, size);
    struct cache_control cc;
    cache_control_read(&response.head, &cc);
    check_directives(&cc);
    if (cache_control_read_targeted(&response.head, SLICE("CDN-Cache-Control"), &cc))
        check_directives(&cc);
    check_names(&response.head);
    check_freshness(&request.head, &response.head, false);
    check_freshness(&request.head, &response.head, true);
    check_variants(&request.head, &response.head);
    check_conditions(&request.head, &response.head);
    free(text);
    return 0;
}
