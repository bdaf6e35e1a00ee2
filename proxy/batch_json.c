/*
 * JSON of batches. Invariants: a text is looked over for size and depth before jansson sees it; jansson alone
 * says where a value ends, and here only the punctuation between values is stepped over; nothing is written
 * but bytes that were read, names that were asked for, and numbers that were counted.
 */
#include "proxy/batch_json.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "policy/decimal.h"
#include "policy/head.h"

struct reader {
    const char *p, *end;
};

/* ---- limits ---- */

/* Neither too long nor too deep for a reader that calls itself. */
static bool bounded(struct slice text)
{
    unsigned depth = 0;
    bool quoted = false;
    if (text.n > BATCH_TEXT_MAX)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > BATCH_DEPTH_MAX)
                return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

/* ---- values and punctuation ---- */

static void blanks(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
}

static bool step(struct reader *r, char c)
{
    blanks(r);
    if (r->p == r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

/* One value, as jansson reads it. NULL: there is none. The caller owns it. */
static json_t *parse(struct reader *r, struct slice *text)
{
    const size_t flags = JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
    json_error_t error;
    blanks(r);
    json_t *v = json_loadb(r->p, (size_t)(r->end - r->p), flags, &error);
    if (!v)
        return NULL;
    *text = (struct slice){r->p, (size_t)error.position};
    r->p += error.position;
    return v;
}

static bool value(struct reader *r, struct slice *text)
{
    json_t *v = parse(r, text);
    json_decref(v);
    return v != NULL;
}

/* A name and its colon. */
static bool name(struct reader *r, struct slice *text)
{
    blanks(r);
    return r->p < r->end && *r->p == '"' && value(r, text) && step(r, ':');
}

enum more { MORE, END, BAD };

/* Begins with the brace, or the comma, and reads as far as the next value. */
static enum more next_name(struct reader *r, bool first, struct slice *out)
{
    if (first) {
        if (!step(r, '{'))
            return BAD;
        if (step(r, '}'))
            return END;
    } else {
        if (step(r, '}'))
            return END;
        if (!step(r, ','))
            return BAD;
    }
    if (!name(r, out))
        return BAD;
    blanks(r);
    return MORE;
}

static bool at_end(struct reader *r)
{
    blanks(r);
    return r->p == r->end;
}

/* ---- objects ---- */

static bool known(const struct batch_object *o, struct slice text)
{
    for (unsigned i = 0; i < o->count; i++)
        if (slice_equal(o->members[i].name, text))
            return true;
    return false;
}

bool batch_object_read(struct slice text, struct batch_object *out)
{
    struct reader r = {text.p, text.p + text.n};
    const char *from = text.p;
    enum more more;
    struct slice n;
    out->count = 0;
    if (!bounded(text))
        return false;
    while ((more = next_name(&r, out->count == 0, &n)) == MORE) {
        if (out->count == BATCH_MEMBERS_MAX || known(out, n))
            return false;
        struct batch_member *m = &out->members[out->count++];
        *m = (struct batch_member){.lead = {from, (size_t)(r.p - from)}, .name = n};
        if (!value(&r, &m->value))
            return false;
        from = r.p;
    }
    if (more == BAD || !at_end(&r))
        return false;
    out->tail = (struct slice){from, (size_t)(r.p - from)};
    return true;
}

struct batch_shape {
    _Atomic unsigned refs;
    unsigned count;
    struct slice lead[BATCH_MEMBERS_MAX], name[BATCH_MEMBERS_MAX], tail;
    char bytes[];
};

static struct slice keep(char **at, struct slice s)
{
    struct slice kept = {*at, s.n};
    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return kept;
}

struct batch_shape *batch_shape_new(const struct batch_object *o)
{
    size_t n = o->tail.n;
    for (unsigned i = 0; i < o->count; i++)
        n += o->members[i].lead.n + o->members[i].name.n;
    struct batch_shape *s = malloc(sizeof *s + n);
    if (!s)
        return NULL;
    char *at = s->bytes;
    atomic_init(&s->refs, 1);
    s->count = o->count;
    for (unsigned i = 0; i < o->count; i++) {
        s->lead[i] = keep(&at, o->members[i].lead);
        s->name[i] = keep(&at, o->members[i].name);
    }
    s->tail = keep(&at, o->tail);
    return s;
}

struct batch_shape *batch_shape_ref(struct batch_shape *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void batch_shape_unref(struct batch_shape *s)
{
    if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
        free(s);
}

bool batch_shape_fits(const struct batch_shape *s, const struct batch_object *o)
{
    if (s->count != o->count || !slice_equal(s->tail, o->tail))
        return false;
    for (unsigned i = 0; i < s->count; i++)
        if (!slice_equal(s->lead[i], o->members[i].lead)) /* the name is in it */
            return false;
    return true;
}

static bool add(struct text *out, struct slice s)
{
    text_bytes(out, s.p, s.n);
    return !out->failed;
}

static const struct batch_member *find(const struct batch_object *o, struct slice named)
{
    for (unsigned i = 0; i < o->count; i++)
        if (slice_equal(o->members[i].name, named))
            return &o->members[i];
    return NULL;
}

bool batch_shape_write(const struct batch_shape *s, const struct batch_object *o, struct text *out)
{
    for (unsigned i = 0; i < s->count; i++) {
        const struct batch_member *m = find(o, s->name[i]);
        if (!m || !add(out, s->lead[i]) || !add(out, m->value))
            return false;
    }
    return add(out, s->tail);
}

/* ---- answers ---- */

enum { PROMPTS, ERRORS, REQUESTED, FOUND, PARTS };

static const struct slice part_names[PARTS] = {
    {"\"prompts\"", 9}, {"\"errors\"", 8}, {"\"total_requested\"", 17}, {"\"total_found\"", 13}};

static int part_of(struct slice n)
{
    for (int i = 0; i < PARTS; i++)
        if (slice_equal(n, part_names[i]))
            return i;
    return -1;
}

/* The next of the wanted with this name, looked for from `*hint` on: answers mostly keep the order. */
static struct batch_wanted *wanted_of(struct batch_wanted *wanted, unsigned count, struct slice quoted,
                                      unsigned *hint)
{
    struct slice id = {quoted.p + 1, quoted.n - 2};
    for (unsigned i = 0; i < count; i++) {
        unsigned at = (*hint + i) % count;
        if (!slice_equal(wanted[at].id, id))
            continue;
        *hint = at + 1;
        return &wanted[at];
    }
    return NULL;
}

/* Does the item say of itself that it is another one of those that were asked for? A version of a prompt,
 * whose id goes on behind the prompt's, is that prompt. */
static bool is_another(const json_t *item, const struct batch_wanted *own, const struct batch_wanted *wanted,
                       unsigned count)
{
    const json_t *v = json_object_get(item, "id");
    struct slice id = {json_string_value(v), json_string_length(v)};
    if (!id.p || (id.n >= own->id.n && memcmp(id.p, own->id.p, own->id.n) == 0))
        return false;
    for (unsigned i = 0; i < count; i++)
        if (slice_equal(wanted[i].id, id))
            return true;
    return false;
}

static bool read_item(struct reader *r, struct batch_wanted *own, const struct batch_wanted *wanted,
                      unsigned count)
{
    json_t *v = parse(r, &own->item);
    bool good = json_is_object(v) && !is_another(v, own, wanted, count);
    json_decref(v);
    return good;
}

static bool read_prompts(struct reader *r, struct batch_wanted *wanted, unsigned count)
{
    enum more more;
    struct slice n;
    unsigned hint = 0;
    bool first = true;
    for (; (more = next_name(r, first, &n)) == MORE; first = false) {
        struct batch_wanted *w = wanted_of(wanted, count, n, &hint);
        if (!w || w->item.p || r->p == r->end || *r->p != '{' || !read_item(r, w, wanted, count))
            return false;
    }
    return more == END;
}

static bool read_number(struct reader *r, int64_t *out)
{
    struct slice text;
    json_t *v = parse(r, &text);
    bool good = json_is_integer(v);
    *out = good ? (int64_t)json_integer_value(v) : 0;
    json_decref(v);
    return good;
}

static bool read_errors(struct reader *r, struct slice *out)
{
    json_t *v = parse(r, out);
    bool good = json_is_array(v);
    json_decref(v);
    return good;
}

static bool read_part(struct reader *r, int part, struct batch_wanted *wanted, unsigned count,
                      struct batch_answer *out)
{
    switch (part) {
    case PROMPTS:
        return read_prompts(r, wanted, count);
    case ERRORS:
        return read_errors(r, &out->errors);
    case REQUESTED:
        return read_number(r, &out->total_requested);
    case FOUND:
        return read_number(r, &out->total_found);
    default:
        return false;
    }
}

bool batch_answer_read(struct slice text, struct batch_wanted *wanted, unsigned count,
                       struct batch_answer *out)
{
    struct reader r = {text.p, text.p + text.n};
    enum more more;
    struct slice n;
    unsigned seen = 0;
    bool first = true;
    for (unsigned i = 0; i < count; i++)
        wanted[i].item = (struct slice){NULL, 0};
    if (!bounded(text) || count == 0)
        return false;
    for (; (more = next_name(&r, first, &n)) == MORE; first = false) {
        int part = part_of(n);
        if (part < 0 || (seen >> part & 1) || r.p == r.end || !read_part(&r, part, wanted, count, out))
            return false;
        seen |= 1u << part;
    }
    return more == END && at_end(&r) && seen == (1u << PARTS) - 1;
}

/* ---- the rest of an answer ---- */

static bool add_text(struct text *out, const char *s)
{
    return add(out, (struct slice){s, strlen(s)});
}

static bool add_number(struct text *out, uint64_t v)
{
    char digits[DECIMAL_MAX];
    return add(out, (struct slice){digits, decimal_write(digits, v)});
}

static bool add_items(const struct batch_envelope *e, const struct batch_wanted *wanted, unsigned count,
                      struct text *out)
{
    bool first = true, good = add_text(out, "{");
    for (unsigned i = 0; i < count && good; i++) {
        if (!wanted[i].item.p)
            continue;
        good = (first || add_text(out, e->comma)) && add_text(out, "\"") && add(out, wanted[i].id) &&
               add_text(out, "\"") && add_text(out, e->colon) && add(out, wanted[i].item);
        first = false;
    }
    return good && add_text(out, "}");
}

bool batch_envelope_write(const struct batch_envelope *e, const struct batch_wanted *wanted, unsigned count,
                          struct slice errors, struct text *out)
{
    unsigned found = 0;
    for (unsigned i = 0; i < count; i++)
        found += wanted[i].item.p != NULL;
    for (int i = 0; i < PARTS; i++) {
        uint8_t part = e->order[i];
        if (!add_text(out, i ? e->comma : "{") || !add(out, part_names[part]) || !add_text(out, e->colon))
            return false;
        bool good = part == PROMPTS  ? add_items(e, wanted, count, out)
                    : part == ERRORS ? add(out, errors)
                                     : add_number(out, part == REQUESTED ? count : found);
        if (!good)
            return false;
    }
    return add_text(out, "}");
}

static bool learn_gap(char to[8], const char *from, const char *end)
{
    size_t n = (size_t)(end - from);
    if (n >= 8)
        return false;
    memcpy(to, from, n);
    to[n] = '\0';
    return true;
}

bool batch_envelope_learn(struct slice text, const struct batch_wanted *wanted, unsigned count,
                          const struct batch_answer *answer, struct batch_envelope *out)
{
    struct batch_object o;
    struct text again = {0};
    *out = (struct batch_envelope){0};
    if (!batch_object_read(text, &o) || o.count != PARTS)
        return false;
    for (unsigned i = 0; i < PARTS; i++) {
        int part = part_of(o.members[i].name);
        if (part < 0)
            return false;
        out->order[i] = (uint8_t)part;
    }
    const struct batch_member *second = &o.members[1];
    bool good = learn_gap(out->comma, second->lead.p, second->name.p) &&
                learn_gap(out->colon, second->name.p + second->name.n, second->value.p) &&
                batch_envelope_write(out, wanted, count, answer->errors, &again) && again.n == text.n &&
                memcmp(again.p, text.p, text.n) == 0;
    text_dispose(&again);
    return good;
}

/* ---- requests ---- */

static bool read_say(const json_t *v, enum batch_say *out)
{
    *out = !v ? BATCH_UNSAID : json_is_true(v) ? BATCH_TRUE : BATCH_FALSE;
    return !v || json_is_boolean(v);
}

/* The texts of an array of strings, as one block: the slices, then their bytes. */
static bool read_ids(const json_t *list, struct batch_request *out)
{
    size_t i, count = json_array_size(list), bytes = 0;
    const json_t *v;
    if (!json_is_array(list) || count == 0 || count > BATCH_IDS_MAX)
        return false;
    json_array_foreach((json_t *)list, i, v)
    {
        if (!json_is_string(v))
            return false;
        bytes += json_string_length(v);
    }
    out->ids = malloc(count * sizeof *out->ids + bytes);
    if (!out->ids)
        return false;
    char *at = (char *)(out->ids + count);
    json_array_foreach((json_t *)list, i, v)
    {
        out->ids[i] = keep(&at, (struct slice){json_string_value(v), json_string_length(v)});
    }
    out->count = (unsigned)count;
    return true;
}

static int by_bytes(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    int c = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    return c ? c : x->n < y->n ? -1 : x->n > y->n;
}

/* False also when there is no memory to find out. */
static bool all_different(const struct batch_request *r)
{
    struct slice *sorted = malloc(r->count * sizeof *sorted);
    bool good = sorted != NULL;
    if (!good)
        return false;
    memcpy(sorted, r->ids, r->count * sizeof *sorted);
    qsort(sorted, r->count, sizeof *sorted, by_bytes);
    for (unsigned i = 1; i < r->count && good; i++)
        good = by_bytes(&sorted[i - 1], &sorted[i]) != 0;
    free(sorted);
    return good;
}

static bool read_project(const json_t *v, struct batch_request *out)
{
    out->null_project = json_is_null(v);
    out->has_project = json_is_string(v);
    if (!out->has_project)
        return !v || out->null_project;
    char *copy = malloc(json_string_length(v) + 1);
    if (!copy)
        return false;
    out->project = (struct slice){copy, json_string_length(v)};
    memcpy(copy, json_string_value(v), out->project.n);
    return true;
}

static bool read_members(const json_t *o, struct batch_request *out)
{
    static const char *const names[] = {"prompt_ids", "project_id", "include_versions", "include_metadata"};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)o, key, v)
    {
        bool is_known = false;
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
            is_known = is_known || strcmp(key, names[i]) == 0;
        if (!is_known)
            return false;
    }
    return read_say(json_object_get(o, names[2]), &out->versions) &&
           read_say(json_object_get(o, names[3]), &out->metadata) &&
           read_project(json_object_get(o, names[1]), out) && read_ids(json_object_get(o, names[0]), out) &&
           all_different(out);
}

bool batch_request_read(struct slice text, struct batch_request *out)
{
    *out = (struct batch_request){0};
    if (!bounded(text))
        return false;
    json_t *o = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
    bool good = json_is_object(o) && read_members(o, out);
    json_decref(o);
    if (!good)
        batch_request_free(out);
    return good;
}

void batch_request_free(struct batch_request *r)
{
    free(r->ids);
    free((char *)r->project.p);
    *r = (struct batch_request){0};
}

static bool add_say(struct text *out, const char *named, enum batch_say say)
{
    return say == BATCH_UNSAID ||
           (add_text(out, named) && add_text(out, say == BATCH_TRUE ? "true" : "false"));
}

bool batch_request_write(const struct batch_request *like, const struct batch_wanted *wanted, unsigned count,
                         struct text *out)
{
    bool good = add_text(out, "{\"prompt_ids\":[");
    for (unsigned i = 0; i < count && good; i++)
        good = add_text(out, i ? ",\"" : "\"") && add(out, wanted[i].id) && add_text(out, "\"");
    good = good && add_text(out, "]");
    if (like->has_project)
        good = good && add_text(out, ",\"project_id\":\"") && add(out, like->project) && add_text(out, "\"");
    else if (like->null_project)
        good = good && add_text(out, ",\"project_id\":null");
    return good && add_say(out, ",\"include_versions\":", like->versions) &&
           add_say(out, ",\"include_metadata\":", like->metadata) && add_text(out, "}");
}
