/*
 * Feeds any answer that the parser accepts to the keeper of stored heads: what is stored must read back as it
 * was, merge with itself as with a 304, and answer every kind of request within the room that is promised.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/h1.h"
#include "proxy/store_inner.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FIELDS_MAX = 64 };

static void check_view(const struct entry *e, struct head *view)
{
    struct slice head = entry_head(e);
    uint32_t fields = 0;
    assert(head.n > 0 && memchr(head.p, '\0', head.n) == NULL);
    assert(memcmp(head.p + head.n - 2, "\r\n", 2) == 0);
    entry_head_view(e, view->fields, view);
    for (int i = 0; i < view->field_count; i++) {
        struct slice name = head_name(view, i), value = head_value(view, i);
        assert(name.n > 0 && memchr(name.p, ':', name.n) == NULL);
        assert(memchr(value.p, '\r', value.n) == NULL && memchr(value.p, '\n', value.n) == NULL);
        assert(view->fields[i].id != FIELD_CONTENT_LENGTH &&
               !field_is_hop((enum field_id)view->fields[i].id));
        fields++;
    }
    assert(fields == e->field_count && head_has(view, FIELD_DATE));
}

static void check_answers(const struct entry *e, const struct head *view)
{
    static const struct answer answers[] = {{ANSWER_WHOLE, 200, true, 0, 5},
                                            {ANSWER_NOT_MODIFIED, 304, false, 0, 0},
                                            {ANSWER_PART, 206, true, 1, 3},
                                            {ANSWER_UNSATISFIABLE, 416, false, 0, 0}};
    size_t room = entry_head(e).n + 256;
    char *out = malloc(room);
    struct answer answer;
    entry_answer(e, view, 1700000000, &answer); /* the answer's own fields as if they were a request's */
    assert(answer.first + answer.length <= e->length || !answer.has_body);
    for (size_t i = 0; out && i < ARRAY_LEN(answers); i++) {
        size_t n = entry_answer_head(e, &answers[i], out, room);
        assert(n > 0 && memcmp(out + n - 2, "\r\n", 2) == 0);
    }
    free(out);
}

static void check_entry(const struct head *response, bool shared)
{
    static struct body_budget budget = {0, 0};
    const struct freshness fresh = {.last_modified = INT64_MIN};
    const struct vary_key vary = {0};
    const struct entry_recipe recipe = {
        .uri = SLICE("/"), .vary = &vary, .fresh = &fresh, .shared = shared, .wall = 1700000000};
    struct field fields[2 * FIELDS_MAX + 2];
    struct head view = {.fields = fields};
    struct entry *e = entry_make(&recipe, response);
    struct body *body = body_new(&budget, 5, 5);
    if (!e || !body || !body_append(body, "hello", 5)) {
        entry_release(e);
        body_unref(body);
        return;
    }
    check_view(e, &view);
    entry_complete(e, body);
    check_answers(e, &view);
    struct entry *merged = entry_merge(e, response, 1700000001, true);
    if (merged) {
        bool has_age = merged->age_n > 0;
        assert(has_age == head_has(response, FIELD_AGE));
        entry_drop_age(merged);
        check_view(merged, &view);
        assert(!head_has(&view, FIELD_AGE));
        entry_complete(merged, body_ref(body));
        entry_release(merged);
    }
    entry_release(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct h1_scan scan = {0};
    struct h1_limits limits = {.max_head = 65536, .max_target = 65536, .max_trailer = 1024};
    struct field fields[FIELDS_MAX];
    struct head head = {.fields = fields, .field_max = FIELDS_MAX};
    size_t used;
    if (size > 8192)
        return 0;
    /* Lines alone: the first and the last are ours, so that most inputs are answers. */
    static const char first[] = "HTTP/1.1 200 OK\r\n", last[] = "\r\n\r\n";
    char *text = malloc(size + sizeof first + sizeof last);
    if (!text)
        return 0;
    memcpy(text, first, sizeof first - 1);
    memcpy(text + sizeof first - 1, data, size);
    memcpy(text + sizeof first - 1 + size, last, sizeof last - 1);
    if (h1_parse_response(&scan, &limits, METHOD_GET, text, sizeof first + sizeof last - 2 + size, &head,
                          &used) == REASON_NONE) {
        check_entry(&head, false);
        check_entry(&head, true);
    }
    free(text);
    return 0;
}
