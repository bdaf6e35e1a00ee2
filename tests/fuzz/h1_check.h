/*
 * What must hold for the HTTP/1 codec on any bytes at all; shared by the unit tests and the fuzzers.
 * Bytes are always given in memory of their exact size, so that a sanitizer sees any read behind them,
 * and accepted heads are read a second time here, in the slowest and plainest way.
 */
#ifndef TESTS_FUZZ_H1_CHECK_H
#define TESTS_FUZZ_H1_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/h1.h"

#define CLAIM(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                   \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

static inline char *exact_copy(const char *p, size_t n)
{
    char *copy = malloc(n ? n : 1);
    CLAIM(copy != NULL);
    if (n)
        memcpy(copy, p, n);
    return copy;
}

/* ---- Heads ---- */

struct head_case {
    const char *p; /* the bytes; what is behind the head does not matter */
    size_t n;
    struct h1_limits limits;
    uint16_t field_max;
    bool response;
    enum method request_method;
};

/* All that a parse gave, so that two can be compared. */
struct head_result {
    enum reason reason;
    size_t used;
    size_t known_at; /* bytes that were there when it was known; not compared */
    struct head head;
    struct field *fields;
};

static inline enum reason parse_once(const struct head_case *c, struct h1_scan *scan, const char *p, size_t n,
                                     struct head_result *out)
{
    struct head *h = &out->head;
    memset(out->fields, 0xa5, c->field_max * sizeof(struct field));
    memset(h, 0xa5, sizeof(*h));
    h->fields = out->fields;
    h->field_max = c->field_max;
    out->known_at = n;
    out->reason = c->response ? h1_parse_response(scan, &c->limits, c->request_method, p, n, h, &out->used)
                              : h1_parse_request(scan, &c->limits, p, n, h, &out->used);
    return out->reason;
}

/* Feeds the first n1 bytes, then `step` more each time. Free out->fields and out->head.base with
 * head_result_free. */
static inline void parse_cut(const struct head_case *c, size_t n1, size_t step, struct head_result *out)
{
    struct h1_scan scan = {0};
    *out = (struct head_result){.fields = malloc((c->field_max + 1u) * sizeof(struct field))};
    CLAIM(out->fields != NULL);
    for (size_t n = n1 < c->n ? n1 : c->n;; n = n + step < c->n ? n + step : c->n) {
        char *copy = exact_copy(c->p, n);
        if (parse_once(c, &scan, copy, n, out) != REASON_MORE || n == c->n)
            return; /* the head points into the copy */
        free(copy);
    }
}

static inline void head_result_free(struct head_result *r)
{
    free((char *)(uintptr_t)r->head.base);
    free(r->fields);
}

static inline bool same_field(const struct field *a, const struct field *b)
{
    return a->name == b->name && a->value == b->value && a->value_len == b->value_len &&
           a->name_len == b->name_len && a->id == b->id && a->hop == b->hop;
}

static inline void claim_same_head(const struct head *a, const struct head *b)
{
    CLAIM(a->len == b->len && a->field_count == b->field_count && a->present == b->present);
    CLAIM(a->method == b->method && a->target_form == b->target_form && a->method_len == b->method_len);
    CLAIM(a->method_at == b->method_at && a->path_at == b->path_at && a->path_len == b->path_len);
    CLAIM(a->authority_at == b->authority_at && a->authority_len == b->authority_len);
    CLAIM(a->status == b->status && a->reason_at == b->reason_at && a->reason_len == b->reason_len);
    CLAIM(a->minor == b->minor && a->body == b->body && a->keep_alive == b->keep_alive);
    CLAIM(a->expect_continue == b->expect_continue && a->upgrade == b->upgrade &&
          a->te_trailers == b->te_trailers);
    CLAIM(a->content_length == b->content_length && a->has_content_length == b->has_content_length);
    for (int i = 0; i < a->field_count; i++)
        CLAIM(same_field(&a->fields[i], &b->fields[i]));
}

/*
 * A fault in a long line that has not ended may be known later when it came in pieces; but then the line's
 * end makes it known, and nothing else.
 */
static inline void claim_known_later(const struct head_case *c, size_t cut, size_t step, enum reason reason)
{
    struct head_result later;
    struct head_case ended = *c;
    char *text = malloc(c->n + 2);
    CLAIM(text != NULL && reason != REASON_NONE);
    memcpy(text, c->p, c->n);
    memcpy(text + c->n, "\r\n", 2);
    ended.p = text;
    ended.n = c->n + 2;
    parse_cut(&ended, cut, step, &later);
    CLAIM(later.reason == reason);
    head_result_free(&later);
    free(text);
}

static inline void claim_same_result(const struct head_result *a, const struct head_result *b)
{
    CLAIM(a->reason == b->reason);
    CLAIM(a->used == b->used);
    if (a->reason == REASON_NONE)
        claim_same_head(&a->head, &b->head);
}

/* The plain second reading of an accepted head. */

static inline bool plain_token(const char *p, size_t n)
{
    static const char tchar[] =
        "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (size_t i = 0; i < n; i++)
        if (p[i] == 0 || !strchr(tchar, p[i]))
            return false;
    return n > 0;
}

static inline size_t plain_line(const char *p, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) {
        if (p[i] == '\r' && p[i + 1] == '\n')
            return i;
        CLAIM(((unsigned char)p[i] >= 0x20 && p[i] != 0x7f) || p[i] == '\t');
    }
    CLAIM(!"a line of an accepted head does not end");
    return 0;
}

static inline void claim_field(const struct head *h, int index, size_t at, size_t n)
{
    const char *p = h->base + at;
    const struct field *f = &h->fields[index];
    CLAIM(index < h->field_count);
    CLAIM(f->name == at && p[f->name_len] == ':' && plain_token(p, f->name_len));
    size_t start = f->name_len + 1u, end = n;
    while (start < end && (p[start] == ' ' || p[start] == '\t'))
        start++;
    while (end > start && (p[end - 1] == ' ' || p[end - 1] == '\t'))
        end--;
    CLAIM(f->value == at + start && f->value_len == end - start);
    unsigned id = 0;
    for (unsigned i = 1; i < FIELD_COUNT; i++)
        if (field_name((enum field_id)i).n == f->name_len &&
            strncasecmp(field_name((enum field_id)i).p, p, f->name_len) == 0)
            id = i;
    CLAIM(f->id == id && head_has(h, (enum field_id)id));
}

static inline void claim_request_line(const struct head *h, size_t at, size_t n)
{
    const char *p = h->base + at, *end = p + n;
    const char *sp1 = memchr(p, ' ', n);
    CLAIM(sp1 && plain_token(p, (size_t)(sp1 - p)));
    const char *sp2 = memchr(sp1 + 1, ' ', (size_t)(end - sp1 - 1));
    CLAIM(sp2 && sp2 > sp1 + 1 && end - sp2 == 9 && memcmp(sp2, " HTTP/1.", 8) == 0);
    CLAIM(h->minor == (end[-1] > '0') && end[-1] >= '0' && end[-1] <= '9');
    for (const char *t = sp1 + 1; t < sp2; t++)
        CLAIM(*t > ' ' && *t < 0x7f && *t != '#');
    CLAIM(head_method(h).p == p && head_method(h).n == (size_t)(sp1 - p));
    CLAIM(h->method != METHOD_CONNECT && h->target_form != TARGET_AUTHORITY);
    struct slice path = head_path(h);
    CLAIM(h->target_form == TARGET_ASTERISK ? slice_equal(path, SLICE("*")) : path.p[0] == '/');
    CLAIM(h->path_len == 0 || path.p + path.n == sp2);
    if (h->target_form == TARGET_ABSOLUTE)
        CLAIM(h->base + h->authority_at > sp1 && h->base + h->authority_at + h->authority_len <= sp2);
    else
        CLAIM(path.p == sp1 + 1);
}

static inline void claim_status_line(const struct head *h, size_t at, size_t n)
{
    const char *p = h->base + at;
    char status[8];
    CLAIM(n >= 12 && memcmp(p, "HTTP/1.", 7) == 0 && p[8] == ' ' && (n == 12 || p[12] == ' '));
    snprintf(status, sizeof(status), "%03d", h->status);
    CLAIM(memcmp(p + 9, status, 3) == 0 && h->status >= 100);
    CLAIM(h->minor == (p[7] > '0') && p[7] >= '0' && p[7] <= '9');
    CLAIM(h->reason_at + h->reason_len == at + n && h->reason_len == (n > 13 ? n - 13 : 0));
}

static inline int plain_count(const struct head *h, enum field_id id)
{
    int count = 0;
    for (int i = 0; i < h->field_count; i++)
        count += h->fields[i].id == id;
    CLAIM((count > 0) == head_has(h, id));
    return count;
}

static inline void claim_length(const struct head *h)
{
    CLAIM(h->has_content_length && h->content_length <= INT64_MAX);
    for (int i = head_find(h, FIELD_CONTENT_LENGTH, 0); i >= 0;
         i = head_find(h, FIELD_CONTENT_LENGTH, i + 1)) {
        struct slice v = head_value(h, i);
        unsigned __int128 sum =
            0; /* may wrap for very long values, which are then too small: those begin with zeros */
        for (size_t k = 0; k < v.n; k++) {
            CLAIM(v.p[k] >= '0' && v.p[k] <= '9');
            sum = sum * 10 + (unsigned)(v.p[k] - '0');
            CLAIM(sum <= INT64_MAX);
        }
        CLAIM(v.n > 0 && sum == h->content_length);
    }
}

static inline void claim_framing(const struct head *h, const struct head_case *c)
{
    int te = plain_count(h, FIELD_TRANSFER_ENCODING), cl = plain_count(h, FIELD_CONTENT_LENGTH);
    bool never = c->response && (c->request_method == METHOD_HEAD || h->status < 200 || h->status == 204 ||
                                 h->status == 304);
    if (never) {
        CLAIM(h->body == BODY_NONE);
        return;
    }
    if (te > 0) {
        CLAIM(cl == 0 && h->minor == 1);
        bool chunked =
            te == 1 && slice_equal_nocase(head_first(h, FIELD_TRANSFER_ENCODING), SLICE("chunked"));
        CLAIM(chunked ? h->body == BODY_CHUNKED
                      : c->response && c->limits.unknown_coding_until_close && h->body == BODY_UNTIL_CLOSE);
    } else if (cl > 0) {
        CLAIM(h->body == BODY_LENGTH);
        claim_length(h);
    } else {
        CLAIM(h->body == (c->response ? BODY_UNTIL_CLOSE : BODY_NONE));
    }
    CLAIM(h->body != BODY_UNTIL_CLOSE || !h->keep_alive);
}

/* Members of Connection, split at every comma; not used when there are quoted strings. */
static inline bool plain_named(const struct head *h, struct slice name)
{
    for (int i = 0; i < h->field_count; i++) {
        struct slice v = head_value(h, i);
        if (h->fields[i].id != FIELD_CONNECTION)
            continue;
        for (size_t a = 0; a < v.n;) {
            size_t b = a;
            while (b < v.n && v.p[b] != ',')
                b++;
            size_t s = a, e = b;
            while (s < e && (v.p[s] == ' ' || v.p[s] == '\t'))
                s++;
            while (e > s && (v.p[e - 1] == ' ' || v.p[e - 1] == '\t'))
                e--;
            if (e - s == name.n && strncasecmp(v.p + s, name.p, name.n) == 0)
                return true;
            a = b + 1;
        }
    }
    return false;
}

static inline void claim_connection(const struct head *h)
{
    for (int i = 0; i < h->field_count; i++)
        if (h->fields[i].id == FIELD_CONNECTION &&
            memchr(h->base + h->fields[i].value, '"', h->fields[i].value_len))
            return;
    bool close = plain_named(h, SLICE("close")), keep = plain_named(h, SLICE("keep-alive"));
    CLAIM(!h->keep_alive || (!close && (h->minor == 1 || keep)));
    for (int i = 0; i < h->field_count; i++) {
        struct slice name = head_name(h, i);
        enum field_id id = (enum field_id)h->fields[i].id;
        bool option =
            slice_equal_nocase(name, SLICE("close")) || slice_equal_nocase(name, SLICE("keep-alive"));
        if (!option) /* a field may be called `close`; nobody means it */
            CLAIM(h->fields[i].hop == (field_is_hop(id) || (!field_is_kept(id) && plain_named(h, name))));
    }
}

static inline void claim_accepted(const struct head_case *c, const struct head *h, size_t used)
{
    CLAIM(used == h->len && used <= c->n && used <= c->limits.max_head);
    size_t at = !c->response && h->base[0] == '\r' ? 2 : 0, n = plain_line(h->base + at, used - at);
    if (c->response)
        claim_status_line(h, at, n);
    else
        claim_request_line(h, at, n);
    at += n + 2;
    for (int i = 0;; i++) {
        n = plain_line(h->base + at, used - at);
        if (n == 0) {
            CLAIM(i == h->field_count && at + 2 == used);
            break;
        }
        claim_field(h, i, at, n);
        at += n + 2;
    }
    int hosts = plain_count(h, FIELD_HOST);
    CLAIM(c->response || hosts == 1 || (hosts == 0 && h->minor == 0));
    claim_framing(h, c);
    claim_connection(h);
}

/* The same whole, cut once, and in equal pieces; the caller frees the result of the whole. */
static inline void claim_head(const struct head_case *c, size_t cut, size_t step, struct head_result *whole)
{
    struct head_result other;
    parse_cut(c, c->n, 1, whole);
    if (whole->reason == REASON_NONE)
        claim_accepted(c, &whole->head, whole->used);
    else
        CLAIM(whole->used == 0 &&
              (whole->reason == REASON_MORE ||
               reason_row(whole->reason)->fault == (c->response ? FAULT_UPSTREAM : FAULT_CLIENT)));
    const size_t steps[] = {c->n + 1, step ? step : 1};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        parse_cut(c, cut, steps[i], &other);
        if (other.reason == REASON_MORE && whole->reason != REASON_MORE)
            claim_known_later(c, cut, steps[i], whole->reason);
        else
            claim_same_result(whole, &other);
        head_result_free(&other);
    }
}

/* ---- Bodies ---- */

struct body_case {
    const char *p;
    size_t n;
    uint8_t kind;
    uint64_t length; /* when kind is BODY_LENGTH */
    bool response;
    uint32_t max_trailer;
};

struct body_result {
    enum reason reason;
    bool done;
    size_t used;
    char *payload;
    size_t payload_len;
    char *trailers;
    size_t trailers_len;
};

/* Feeds the first n1 bytes, then pieces of `step`, each in exact memory. */
static inline void read_cut(const struct body_case *c, size_t n1, size_t step, struct body_result *out)
{
    struct head head = {.body = c->kind, .content_length = c->length};
    struct h1_limits limits = {.max_trailer = c->max_trailer};
    struct h1_body body;
    *out = (struct body_result){.payload = malloc(c->n + 1)};
    CLAIM(out->payload != NULL);
    h1_body_init(&body, &head, c->response, &limits);
    for (size_t at = 0, end = n1 < c->n ? n1 : c->n; out->reason == REASON_NONE;
         at = end, end = end + step < c->n ? end + step : c->n) {
        char *copy = exact_copy(c->p + at, end - at);
        size_t k = 0;
        while (k < end - at && !body.done && out->reason == REASON_NONE) {
            size_t used;
            struct slice data;
            out->reason = h1_body_next(&body, copy + k, end - at - k, &used, &data);
            CLAIM(used <= end - at - k && (used > 0 || out->reason != REASON_NONE));
            CLAIM(data.n == 0 || (data.p >= copy + k && data.p + data.n <= copy + k + used));
            memcpy(out->payload + out->payload_len, data.p, data.n);
            out->payload_len += data.n;
            if (out->reason == REASON_NONE)
                k += used;
        }
        out->used += k;
        free(copy);
        if (end == c->n)
            break;
    }
    if (out->reason != REASON_NONE) { /* a fault is final */
        size_t used;
        struct slice data;
        CLAIM(h1_body_next(&body, "0\r\n\r\n", 5, &used, &data) == out->reason && !body.done && data.n == 0);
    }
    out->done = body.done;
    CLAIM(h1_body_eof(&body) == (out->done || c->kind == BODY_UNTIL_CLOSE));
    out->trailers = exact_copy(body.trailers, body.trailers_len);
    out->trailers_len = body.trailers_len;
    CLAIM(!out->done || (body.trailers != NULL) == (body.trailers_len > 0));
    h1_body_dispose(&body);
    h1_body_dispose(&body);
}

static inline void body_result_free(struct body_result *r)
{
    free(r->payload);
    free(r->trailers);
}

static inline void claim_same_body(const struct body_result *a, const struct body_result *b)
{
    CLAIM(a->reason == b->reason && a->done == b->done);
    CLAIM(a->payload_len == b->payload_len && memcmp(a->payload, b->payload, a->payload_len) == 0);
    CLAIM(a->trailers_len == b->trailers_len && memcmp(a->trailers, b->trailers, a->trailers_len) == 0);
    CLAIM(a->reason != REASON_NONE || a->used == b->used);
}

/* The same whole, cut once, and in equal pieces; the caller frees the result of the whole. */
static inline void claim_body(const struct body_case *c, size_t cut, size_t step, struct body_result *whole)
{
    struct body_result other;
    read_cut(c, c->n, 1, whole);
    read_cut(c, cut, c->n + 1, &other);
    claim_same_body(whole, &other);
    body_result_free(&other);
    read_cut(c, cut, step ? step : 1, &other);
    claim_same_body(whole, &other);
    body_result_free(&other);
}

#endif
