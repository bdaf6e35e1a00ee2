/*
 * Stored answers. Invariants: an entry's text is its place when it is a part, URI, names of Vary, tags, head,
 * and room for one Content-Length line, in one piece of memory with the entry; every line of the head is
 * `name: value CRLF` with nothing else in it; a head holds no hop-by-hop field, no Age, no Content-Length,
 * and at least one Date.
 */
#include "proxy/store_entry.h"

#include <stdlib.h>
#include <string.h>

#include "policy/http_date.h"
#include "proxy/store_inner.h"

enum {
    LENGTH_ROOM = 48, /* "Content-Length: 18446744073709551615 CRLF", and some */
    DATE_LINE = 6 + HTTP_DATE_LEN + 2,
    STATUS_LINE_REST = 15, /* "HTTP/1.1 200 " and CRLF */
    MAX_UNSTORED = 32,     /* names in no-cache="..." */
    HEAD_MAX = 16 << 20
};

struct entry *entry_ref(struct entry *entry)
{
    atomic_fetch_add_explicit(&entry->refs, 1, memory_order_relaxed);
    return entry;
}

void entry_release(struct entry *entry)
{
    if (!entry || atomic_fetch_sub_explicit(&entry->refs, 1, memory_order_acq_rel) != 1)
        return;
    body_unref(entry->body);
    free(entry);
}

/* ---- which fields are kept ---- */

/* Names that the origin does not want stored. */
struct unstored {
    struct slice names[MAX_UNSTORED];
    unsigned count;
};

/* False: too many to check for each field. */
static bool unstored_read(const struct head *response, bool shared, struct unstored *out)
{
    struct cc_name_cursor cursor = {{0, 0}, {NULL, 0}};
    uint32_t which = CC_NO_CACHE_FIELDS | (shared ? CC_PRIVATE_FIELDS : 0);
    struct slice name;
    out->count = 0;
    while (cache_control_next_name(response, which, &cursor, &name)) {
        if (out->count == MAX_UNSTORED)
            return false;
        out->names[out->count++] = name;
    }
    return true;
}

/* Bytes that the fields of a head may need at most. */
static uint64_t fields_size(const struct head *head)
{
    uint64_t n = 0;
    for (int i = 0; i < head->field_count; i++)
        n += (uint64_t)head->fields[i].name_len + head->fields[i].value_len + 4;
    return n;
}

bool entry_can_hold(const struct head *response, bool shared)
{
    struct unstored unstored;
    return unstored_read(response, shared, &unstored) && fields_size(response) < HEAD_MAX / 2;
}

static bool is_unstored(const struct unstored *unstored, struct slice name)
{
    for (unsigned i = 0; i < unstored->count; i++)
        if (slice_equal_nocase(name, unstored->names[i]))
            return true;
    return false;
}

/* Is this field of a response part of a stored head (RFC 9111 3.1)? */
static bool stored_field(const struct head *response, int index, const struct unstored *unstored)
{
    const struct field *f = &response->fields[index];
    if (f->hop || f->id == FIELD_AGE || f->id == FIELD_CONTENT_LENGTH)
        return false;
    struct slice name = head_name(response, index);
    if (f->id == FIELD_OTHER && slice_equal_nocase(name, SLICE("proxy-authentication-info")))
        return false;
    return !is_unstored(unstored, name);
}

/* Content-Range is written for each answer from a part. */
static bool made_field(const struct entry *entry, const struct head *response, int index)
{
    return entry->partial && response->fields[index].id == FIELD_CONTENT_RANGE;
}

/* Does a 304's field take the place of the stored one (RFC 9111 3.2)? Not when it describes the stored body.
 */
static bool updating_field(const struct head *response, int index, const struct unstored *unstored)
{
    uint8_t id = response->fields[index].id;
    if (id == FIELD_CONTENT_ENCODING || id == FIELD_CONTENT_TYPE || id == FIELD_CONTENT_RANGE)
        return false;
    return stored_field(response, index, unstored);
}

/* ---- writing ---- */

struct writer {
    struct entry *entry;
    uint32_t at; /* in entry->text */
    bool dated;  /* a Date was written */
};

static struct span put_text(struct writer *w, struct slice text)
{
    struct span span = {w->at, (uint32_t)text.n};
    if (text.n > 0)
        memcpy(w->entry->text + w->at, text.p, text.n);
    w->at += (uint32_t)text.n;
    return span;
}

static void put_line(struct writer *w, struct slice name, struct slice value, uint8_t id)
{
    struct entry *e = w->entry;
    put_text(w, name);
    put_text(w, SLICE(": "));
    struct span span = put_text(w, value);
    put_text(w, SLICE("\r\n"));
    e->field_count++;
    w->dated = w->dated || id == FIELD_DATE;
    if (id == FIELD_ETAG && e->etag.n == 0)
        e->etag = span;
    else if (id == FIELD_LAST_MODIFIED && e->last_modified.n == 0)
        e->last_modified = span;
    else if (id == FIELD_CONTENT_LANGUAGE)
        e->language = e->language.n == 0 ? span : (struct span){0, 0};
    else if (id == FIELD_CONTENT_ENCODING)
        e->coding = e->coding.n == 0 ? span : (struct span){0, 0};
}

static void put_date(struct writer *w, int64_t wall)
{
    char date[HTTP_DATE_LEN];
    http_date_write(date, wall);
    put_line(w, SLICE("Date"), (struct slice){date, sizeof date}, FIELD_DATE);
}

static void put_status_line(struct writer *w, int status, struct slice reason)
{
    char line[] = "HTTP/1.1 000 ";
    line[9] = (char)('0' + status / 100 % 10);
    line[10] = (char)('0' + status / 10 % 10);
    line[11] = (char)('0' + status % 10);
    put_text(w, (struct slice){line, sizeof line - 1});
    put_text(w, reason);
    put_text(w, SLICE("\r\n"));
}

struct entry *entry_alloc(unsigned tag_count, uint64_t text)
{
    size_t links = tag_count * sizeof(struct tag_link);
    if (text > HEAD_MAX)
        return NULL;
    struct entry *e = calloc(1, sizeof *e + links);
    struct entry *whole = e ? realloc(e, sizeof *e + links + text) : NULL;
    if (!whole) {
        free(e);
        return NULL;
    }
    atomic_init(&whole->refs, 1);
    whole->tag_count = (uint8_t)tag_count;
    whole->text = (char *)(whole->tags + tag_count);
    whole->footprint = sizeof *whole + links + text;
    return whole;
}

static uint64_t tags_size(const struct entry_recipe *recipe)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < recipe->tag_count; i++)
        n += (uint64_t)recipe->tags[i].n + 1;
    return n;
}

static void put_tags(struct writer *w, const struct entry_recipe *recipe)
{
    w->entry->tag_text.at = w->at;
    for (unsigned i = 0; i < recipe->tag_count; i++) {
        put_text(w, recipe->tags[i]);
        put_text(w, SLICE("\n"));
    }
    w->entry->tag_text.n = w->at - w->entry->tag_text.at;
}

/* The first thing in the text: this is a part. */
static void put_place(struct writer *w, struct part_place place)
{
    w->entry->partial = true;
    put_text(w, (struct slice){(const char *)&place, sizeof place});
}

struct entry *entry_make(const struct entry_recipe *recipe, const struct head *response)
{
    struct unstored unstored;
    if (!unstored_read(response, recipe->shared, &unstored))
        return NULL;
    uint64_t size = recipe->uri.n + recipe->names.n + tags_size(recipe) + STATUS_LINE_REST +
                    (uint64_t)response->reason_len + fields_size(response) + DATE_LINE + LENGTH_ROOM +
                    (recipe->part ? sizeof(struct part_place) : 0);
    struct entry *e = entry_alloc(1 + recipe->tag_count, size);
    if (!e)
        return NULL;
    struct writer w = {e, 0, false};
    e->status = response->status;
    if (recipe->part)
        put_place(&w, (struct part_place){recipe->part->first, recipe->part->total});
    e->fresh = *recipe->fresh;
    e->vary = *recipe->vary;
    e->uri = put_text(&w, recipe->uri);
    e->names = put_text(&w, recipe->names);
    put_tags(&w, recipe);
    e->head.at = w.at;
    put_status_line(&w, e->status,
                    (struct slice){response->base + response->reason_at, response->reason_len});
    for (int i = 0; i < response->field_count; i++)
        if (stored_field(response, i, &unstored) && !made_field(e, response, i))
            put_line(&w, head_name(response, i), head_value(response, i), response->fields[i].id);
    if (!w.dated) /* none came, or it was not to be stored */
        put_date(&w, recipe->wall);
    e->head.n = w.at - e->head.at;
    return e;
}

/* ---- reading back ---- */

void entry_head_view(const struct entry *entry, struct field *fields, struct head *out)
{
    struct slice head = entry_span(entry, entry->head);
    const char *end = head.p + head.n;
    const char *line = (const char *)memchr(head.p, '\n', head.n) + 1;
    *out = (struct head){.base = head.p,
                         .len = (uint32_t)head.n,
                         .fields = fields,
                         .field_max = (uint16_t)entry->field_count,
                         .status = entry->status,
                         .reason_at = 13,
                         .reason_len = (uint32_t)(line - head.p - 15),
                         .minor = 1};
    while (line < end) {
        const char *colon = memchr(line, ':', (size_t)(end - line));
        const char *stop = memchr(colon, '\r', (size_t)(end - colon));
        size_t name_len = (size_t)(colon - line);
        uint8_t id = (uint8_t)field_lookup(line, name_len);
        fields[out->field_count++] = (struct field){.name = (uint32_t)(line - head.p),
                                                    .value = (uint32_t)(colon + 2 - head.p),
                                                    .value_len = (uint32_t)(stop - colon - 2),
                                                    .name_len = (uint16_t)name_len,
                                                    .id = id};
        if (id != FIELD_OTHER)
            out->present |= (uint64_t)1 << id;
        line = stop + 2;
    }
}

/* Does a field of the stored head go: replaced by one that the 304 carries, or named now as not to be stored?
 */
static bool replaced(const struct head *stored, int index, const struct head *news,
                     const struct unstored *unstored)
{
    uint8_t id = stored->fields[index].id;
    if (id == FIELD_DATE)
        return true; /* by the 304's, or by the time of its receipt */
    struct slice name = head_name(stored, index);
    if (is_unstored(unstored, name))
        return true;
    if (id != FIELD_OTHER && !head_has(news, id))
        return false;
    for (int i = 0; i < news->field_count; i++)
        if (news->fields[i].id == id && slice_equal_nocase(head_name(news, i), name) &&
            updating_field(news, i, unstored))
            return true;
    return false;
}

static void put_merged(struct writer *w, const struct head *stored, const struct head *news,
                       const struct unstored *unstored, int64_t wall)
{
    struct slice age = head_first(news, FIELD_AGE);
    for (int i = 0; i < stored->field_count; i++)
        if (!replaced(stored, i, news, unstored))
            put_line(w, head_name(stored, i), head_value(stored, i), stored->fields[i].id);
    for (int i = 0; i < news->field_count; i++)
        if (updating_field(news, i, unstored))
            put_line(w, head_name(news, i), head_value(news, i), news->fields[i].id);
    if (!w->dated)
        put_date(w, wall);
    if (!age.p)
        return;
    uint32_t before = w->at;
    put_line(w, SLICE("Age"), age, FIELD_AGE);
    w->entry->age_n = w->at - before;
}

/* An entry with room for `more` bytes beside what `old` has, and all of its text in front of the head. */
static struct entry *begin_copy(struct writer *w, const struct entry *old, const struct part_place *place,
                                uint64_t more)
{
    uint64_t size = (uint64_t)old->head.at + old->head.n + more + STATUS_LINE_REST + DATE_LINE + LENGTH_ROOM +
                    sizeof *place;
    struct entry *e = entry_alloc(old->tag_count, size);
    if (!e)
        return NULL;
    *w = (struct writer){e, 0, false};
    if (place)
        put_place(w, *place);
    e->vary = old->vary;
    e->fetch_us = old->fetch_us;
    e->uri = put_text(w, entry_span(old, old->uri));
    e->names = put_text(w, entry_span(old, old->names));
    e->tag_text = put_text(w, entry_span(old, old->tag_text));
    e->head.at = w->at;
    return e;
}

static struct entry *merge(const struct entry *old, const struct head *response, int64_t wall, bool shared,
                           bool as_whole)
{
    struct unstored unstored;
    struct head stored;
    struct writer w;
    struct part_place place = entry_place(old);
    struct field *fields = calloc(old->field_count + 1, sizeof *fields);
    if (!fields)
        return NULL;
    entry_head_view(old, fields, &stored);
    /* A 304 without Cache-Control leaves the stored one in force, with the names in it. */
    struct entry *e = NULL;
    if (unstored_read(head_has(response, FIELD_CACHE_CONTROL) ? response : &stored, shared, &unstored))
        e = begin_copy(&w, old, old->partial && !as_whole ? &place : NULL, fields_size(response));
    if (!e) {
        free(fields);
        return NULL;
    }
    e->status = as_whole ? 200 : old->status;
    put_status_line(&w, e->status,
                    as_whole ? SLICE("OK")
                             : (struct slice){stored.base + stored.reason_at, stored.reason_len});
    put_merged(&w, &stored, response, &unstored, wall);
    e->head.n = w.at - e->head.at;
    free(fields);
    return e;
}

struct entry *entry_merge(const struct entry *old, const struct head *response, int64_t wall, bool shared)
{
    return merge(old, response, wall, shared, false);
}

struct entry *entry_merge_whole(const struct entry *part, const struct head *response, int64_t wall,
                                bool shared)
{
    return merge(part, response, wall, shared, true);
}

struct entry *entry_restate(const struct entry *old, uint64_t first, uint64_t total)
{
    struct head stored;
    struct writer w;
    struct part_place place = {first, total};
    struct field *fields = calloc(old->field_count + 1, sizeof *fields);
    struct entry *e =
        fields ? begin_copy(&w, old, total > 0 ? &place : NULL, sizeof "Partial Content") : NULL;
    if (!e) {
        free(fields);
        return NULL;
    }
    entry_head_view(old, fields, &stored);
    e->fresh = old->fresh;
    e->status = e->partial ? 206 : 200;
    put_status_line(&w, e->status, e->partial ? SLICE("Partial Content") : SLICE("OK"));
    for (int i = 0; i < stored.field_count; i++)
        put_line(&w, head_name(&stored, i), head_value(&stored, i), stored.fields[i].id);
    e->head.n = w.at - e->head.at;
    free(fields);
    return e;
}

bool entry_judge(const struct store_request *request, struct entry *entry, tick_t sent)
{
    struct freshness_times times = {sent, request->now, request->wall};
    struct head merged;
    char names[VARY_NAMES_CAP];
    struct field *fields = calloc(entry->field_count, sizeof *fields);
    if (!fields)
        return false;
    entry_head_view(entry, fields, &merged);
    enum storable storable =
        freshness_judge(request->rules, &request->route, request->head, &merged, &times, &entry->fresh);
    int n = vary_names(&merged, names, sizeof names);
    free(fields);
    entry_drop_age(entry);
    return storable == STORABLE_YES && n >= 0 &&
           slice_equal((struct slice){names, (size_t)n}, entry_span(entry, entry->names));
}

void entry_drop_age(struct entry *entry)
{
    if (entry->age_n == 0)
        return;
    entry->head.n -= entry->age_n;
    entry->field_count--;
    entry->age_n = 0;
}

static size_t write_number(char *out, uint64_t value)
{
    char digits[20];
    size_t n = 0, count;
    do
        digits[n++] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    for (count = 0; n > 0; count++)
        out[count] = digits[--n];
    return count;
}

void entry_complete(struct entry *entry, struct body *body)
{
    static const char name[] = "Content-Length: ";
    char *p = entry->text + entry->head.at + entry->head.n;
    entry->body = body;
    entry->length = body_length(body);
    entry->footprint += body_footprint(body);
    entry->head_full_n = entry->head.n;
    if (entry->status != 204) { /* which has none (RFC 9110 8.6) */
        memcpy(p, name, sizeof name - 1);
        size_t n = sizeof name - 1;
        n += write_number(p + n, entry->length);
        memcpy(p + n, "\r\n", 2);
        entry->head_full_n += (uint32_t)n + 2;
    }
    entry->complete = true;
}

bool entry_fits(const struct entry *entry, const struct head *request, struct hash_key seed)
{
    struct vary_key asked;
    if (entry->names.n == 0)
        return true;
    vary_select(entry_span(entry, entry->names), request, seed, &asked);
    struct vary_content content = entry_content(entry);
    return vary_match(&entry->vary, &asked, &content, request);
}

/* ---- what the exchange sees ---- */

int entry_status(const struct entry *entry)
{
    return entry->status;
}

unsigned entry_level(const struct entry *entry)
{
    return entry->level;
}

struct slice entry_head(const struct entry *entry)
{
    return entry_span(entry, entry->head);
}

struct slice entry_head_with_length(const struct entry *entry)
{
    return (struct slice){entry->text + entry->head.at, entry->head_full_n};
}

struct slice entry_etag(const struct entry *entry)
{
    return entry_span(entry, entry->etag);
}

struct slice entry_last_modified(const struct entry *entry)
{
    return entry_span(entry, entry->last_modified);
}

const struct freshness *entry_freshness(const struct entry *entry)
{
    return &entry->fresh;
}

uint64_t entry_length(const struct entry *entry)
{
    return entry->length;
}

tick_t entry_fetch_time(const struct entry *entry)
{
    return (tick_t)entry->fetch_us * TICK_US;
}

uint64_t entry_total(const struct entry *entry)
{
    return entry_place(entry).total;
}

int entry_fd(const struct entry *entry)
{
    return body_fd(entry->body);
}

int entry_body_iov(const struct entry *entry, uint64_t at, uint64_t n, struct iovec *iov, int max)
{
    if (at >= entry->length)
        return 0;
    return body_iov(entry->body, at, n < entry->length - at ? n : entry->length - at, iov, max);
}

/* Conditions and ranges: only a 200, or a part of one, has them answered here (RFC 9111 4.3.2). */
static void answer_conditions(const struct entry *entry, const struct head *request, int64_t wall,
                              struct answer *out)
{
    struct validators stored = {entry_etag(entry), entry->fresh.last_modified, entry->fresh.date};
    uint64_t last;
    if (condition_not_modified(request, &stored, wall)) {
        *out = (struct answer){ANSWER_NOT_MODIFIED, 304, false, 0, 0};
        return;
    }
    struct part_place place = entry_place(entry);
    switch (condition_range(request, &stored, place.total, &out->first, &last)) {
    case RANGE_PART: /* which lies in the part, or it would not have been chosen */
        *out = (struct answer){ANSWER_PART, 206, true, out->first - place.first, last - out->first + 1};
        break;
    case RANGE_UNSATISFIABLE:
        *out = (struct answer){ANSWER_UNSATISFIABLE, 416, false, 0, 0};
        break;
    case RANGE_WHOLE:
        break;
    }
}

void entry_answer(const struct entry *entry, const struct head *request, int64_t wall, struct answer *out)
{
    const uint64_t conditional = (uint64_t)1 << FIELD_IF_NONE_MATCH | (uint64_t)1 << FIELD_IF_MODIFIED_SINCE |
                                 (uint64_t)1 << FIELD_RANGE;
    *out = (struct answer){ANSWER_WHOLE, entry->status, request->method != METHOD_HEAD && entry->length > 0,
                           0, entry->length};
    if ((request->present & conditional) && (entry->status == 200 || entry->partial))
        answer_conditions(entry, request, wall, out);
}

/* ---- heads that are not the stored one ---- */

struct output {
    char *out;
    size_t n, cap;
    bool full;
};

static void emit(struct output *o, struct slice text)
{
    if (text.n > o->cap - o->n) {
        o->full = true;
        return;
    }
    memcpy(o->out + o->n, text.p, text.n);
    o->n += text.n;
}

static void emit_number(struct output *o, uint64_t value)
{
    char digits[20];
    emit(o, (struct slice){digits, write_number(digits, value)});
}

/* Does a stored field go into a 304 (RFC 9110 15.4.5) or a 416? */
static bool field_wanted(const struct entry *entry, enum answer_kind kind, enum field_id id)
{
    if (kind == ANSWER_UNSATISFIABLE)
        return id == FIELD_DATE;
    if (kind == ANSWER_PART)
        return id != FIELD_CONTENT_RANGE;
    switch (id) {
    case FIELD_CONTENT_TYPE:
    case FIELD_CONTENT_ENCODING:
    case FIELD_CONTENT_LANGUAGE:
    case FIELD_CONTENT_RANGE:
        return false;
    case FIELD_LAST_MODIFIED:
        return entry->etag.n == 0;
    default:
        return true;
    }
}

static void emit_fields(struct output *o, const struct entry *entry, enum answer_kind kind)
{
    struct slice head = entry_span(entry, entry->head);
    const char *end = head.p + head.n;
    const char *line = (const char *)memchr(head.p, '\n', head.n) + 1;
    while (line < end) {
        const char *next = (const char *)memchr(line, '\n', (size_t)(end - line)) + 1;
        const char *colon = memchr(line, ':', (size_t)(end - line));
        if (field_wanted(entry, kind, field_lookup(line, (size_t)(colon - line))))
            emit(o, (struct slice){line, (size_t)(next - line)});
        line = next;
    }
}

static void emit_content_range(struct output *o, const struct entry *entry, const struct answer *answer)
{
    struct part_place place = entry_place(entry);
    emit(o, SLICE("Content-Range: bytes "));
    if (answer->kind == ANSWER_PART) {
        emit_number(o, place.first + answer->first);
        emit(o, SLICE("-"));
        emit_number(o, place.first + answer->first + answer->length - 1);
    } else {
        emit(o, SLICE("*"));
    }
    emit(o, SLICE("/"));
    emit_number(o, place.total);
    emit(o, SLICE("\r\nContent-Length: "));
    emit_number(o, answer->length);
    emit(o, SLICE("\r\n"));
}

size_t entry_answer_head(const struct entry *entry, const struct answer *answer, char *out, size_t cap)
{
    struct output o = {out, 0, cap, false};
    switch (answer->kind) {
    case ANSWER_WHOLE:
        emit(&o, entry_head_with_length(entry));
        return o.full ? 0 : o.n;
    case ANSWER_NOT_MODIFIED:
        emit(&o, SLICE("HTTP/1.1 304 Not Modified\r\n"));
        break;
    case ANSWER_PART:
        emit(&o, SLICE("HTTP/1.1 206 Partial Content\r\n"));
        break;
    case ANSWER_UNSATISFIABLE:
        emit(&o, SLICE("HTTP/1.1 416 Range Not Satisfiable\r\n"));
        break;
    }
    emit_fields(&o, entry, answer->kind);
    if (answer->kind != ANSWER_NOT_MODIFIED)
        emit_content_range(&o, entry, answer);
    return o.full ? 0 : o.n;
}
