/*
 * Reads the bodies of HTTP/1 messages: of a known length, in chunks with trailers, or until the connection
 * closes (RFC 9112 6, 7).
 *
 * Invariants:
 * - Nothing of `in` is kept but trailer lines, which are copied; payload is given as ranges of `in`.
 * - The work is one step a byte of framing, none a byte of payload, however the bytes were cut up.
 * - A fault is final: every call after it fails.
 * - In the trailer section `left` counts its bytes, `count` those of the present line, which lies, not judged
 * yet, behind trailers[0..trailers_len).
 */
#include <stdlib.h>
#include <string.h>

#include "policy/octet.h"
#include "proxy/h1.h"

enum {
    MAX_SIZE_DIGITS = 16,
    MAX_EXTENSION = 1024, /* bytes behind the size of a chunk */
    TRAILER_SPARE = 4     /* what a trailer line can grow by when it is written anew: SP CR LF */
};

enum state {
    SIZE_FIRST, /* a digit must come */
    SIZE,       /* more digits, an extension, or CR */
    EXTENSION,  /* behind `;` */
    QUOTED,     /* in a quoted string there */
    ESCAPED,    /* behind a backslash there */
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_FIRST, /* a trailer line or the last CR may come */
    TRAILER_LINE,
    TRAILER_LF,
    LAST_LF,
    BROKEN_CHUNK,
    BROKEN_TRAILER
};

static enum reason bad_chunk(struct h1_body *b)
{
    b->state = BROKEN_CHUNK;
    return b->response ? REASON_BAD_RESPONSE_CHUNK : REASON_BAD_CHUNK;
}

static enum reason bad_trailer(struct h1_body *b)
{
    b->state = BROKEN_TRAILER;
    return b->response ? REASON_BAD_RESPONSE_TRAILER : REASON_BAD_TRAILER;
}

/* FNV-1a of a field name, whatever its case. Two names of one hash cost a trailer that might have passed,
 * which any recipient may drop (RFC 9110 6.5.1). */
static uint32_t name_hash(struct slice name)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        hash = (hash ^ (c >= 'A' && c <= 'Z' ? c | 0x20u : c)) * 16777619u;
    }
    return hash;
}

/* Notes what the head's Connection names: such fields go no further, in the trailers neither (RFC
 * 9110 7.6.1). */
static void note_named(struct h1_body *b, const struct head *head)
{
    struct list_cursor cursor = {0};
    struct slice member;
    while (head_list_next(head, FIELD_CONNECTION, &cursor, &member)) {
        if (field_is_hop(field_lookup(member.p, member.n)))
            continue; /* never a trailer of ours anyway */
        if (b->named_count == H1_NAMED_TRAILERS) {
            b->drop_trailers = true;
            return;
        }
        b->named[b->named_count++] = name_hash(member);
    }
}

void h1_body_init(struct h1_body *body, const struct head *head, bool response,
                  const struct h1_limits *limits)
{
    *body = (struct h1_body){.kind = head->body, .response = response, .max_trailer = limits->max_trailer};
    body->state = SIZE_FIRST;
    if (body->kind == BODY_LENGTH)
        body->left = head->content_length;
    if (body->kind == BODY_CHUNKED && head_has(head, FIELD_CONNECTION))
        note_named(body, head);
    body->done = body->kind == BODY_NONE || (body->kind == BODY_LENGTH && body->left == 0);
}

bool h1_body_eof(struct h1_body *body)
{
    if (body->kind == BODY_UNTIL_CLOSE)
        body->done = true;
    return body->done;
}

void h1_body_dispose(struct h1_body *body)
{
    free(body->trailers);
    body->trailers = NULL;
    body->trailers_len = body->trailers_cap = 0;
}

/* ---- The trailer section (RFC 9112 7.1.2) ---- */

static bool reserve(struct h1_body *b, size_t n)
{
    if (n <= b->trailers_cap)
        return true;
    size_t cap = b->trailers_cap ? (size_t)b->trailers_cap * 2 : 128;
    if (cap < n)
        cap = n;
    if (cap > UINT32_MAX)
        return false;
    char *p = realloc(b->trailers, cap);
    if (!p)
        return false;
    b->trailers = p;
    b->trailers_cap = (uint32_t)cap;
    return true;
}

static bool starts_nocase(struct slice s, struct slice prefix)
{
    return s.n >= prefix.n && slice_equal_nocase((struct slice){s.p, prefix.n}, prefix);
}

/*
 * May this name be a trailer that we pass on? Not when it frames, routes, authenticates, steers the answer or
 * describes the content (RFC 9110 6.5.1): the receiver may merge trailers into the head.
 */
static bool trailer_allowed(const struct h1_body *b, struct slice name)
{
    static const char *const refused[] = {
        "accept",      "access-control-", "content-",  "forwarded",  "if-",         "proxy-",
        "sec-",        "transfer-",       "warning",   "www-",       "x-forwarded", "x-http-method",
        "x-original-", "x-promptops-",    "x-real-ip", "x-rewrite-",
    };
    enum field_id id = field_lookup(name.p, name.n);
    if (field_is_hop(id) || field_is_kept(id))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (starts_nocase(name, (struct slice){refused[i], strlen(refused[i])}))
            return false;
    if (b->drop_trailers)
        return false;
    uint32_t hash = b->named_count ? name_hash(name) : 0;
    for (size_t i = 0; i < b->named_count; i++)
        if (b->named[i] == hash)
            return false;
    return true;
}

/* The line behind trailers_len is whole, without its CRLF: keeps it as `name: value CRLF`, or drops it. */
static enum reason end_trailer_line(struct h1_body *b)
{
    char *line = b->trailers + b->trailers_len;
    size_t n = b->count, colon = 0;
    while (colon < n && octet_is(line[colon], OCTET_TOKEN))
        colon++;
    if (colon == 0 || colon == n || line[colon] != ':')
        return bad_trailer(b);
    size_t value = colon + 1;
    while (value < n && octet_is_blank(line[value]))
        value++;
    while (n > value && octet_is_blank(line[n - 1]))
        n--;
    b->count = 0;
    if (!trailer_allowed(b, (struct slice){line, colon}))
        return REASON_NONE;
    memmove(line + colon + 2, line + value, n - value);
    line[colon + 1] = ' ';
    n = colon + 2 + (n - value);
    line[n] = '\r';
    line[n + 1] = '\n';
    b->trailers_len += (uint32_t)n + 2;
    return REASON_NONE;
}

/* Counts n bytes of the section. */
static bool trailer_room(struct h1_body *b, size_t n)
{
    if (n > b->max_trailer - b->left)
        return false;
    b->left += n;
    return true;
}

/* Takes the bytes of a trailer line up to its CR. *used may be fewer than n. */
static enum reason trailer_bytes(struct h1_body *b, const char *in, size_t n, size_t *used)
{
    size_t run = 0, most = b->max_trailer - b->left;
    while (run < n && run <= most && !octet_is(in[run], OCTET_CONTROL))
        run++;
    if (!trailer_room(b, run))
        return bad_trailer(b);
    if (!reserve(b, (size_t)b->trailers_len + b->count + run + TRAILER_SPARE)) {
        b->state = BROKEN_TRAILER;
        return REASON_OUT_OF_MEMORY;
    }
    memcpy(b->trailers + b->trailers_len + b->count, in, run);
    b->count += (uint32_t)run;
    *used = run;
    if (run == n)
        return REASON_NONE;
    *used = run + 1;
    if (in[run] != '\r' || !trailer_room(b, 2)) /* the LF that must follow is counted with the CR */
        return bad_trailer(b);
    b->state = TRAILER_LF;
    return end_trailer_line(b);
}

/* The message ends here. */
static void finish(struct h1_body *b)
{
    b->done = true;
    if (b->trailers_len == 0)
        h1_body_dispose(b);
}

/* One step of the trailer section. */
static enum reason read_trailer(struct h1_body *b, const char *in, size_t n, size_t *used)
{
    *used = 1;
    switch ((enum state)b->state) {
    case TRAILER_FIRST:
        if (in[0] == '\r') {
            b->state = LAST_LF;
            return REASON_NONE;
        }
        if (octet_is_blank(in[0]))
            return bad_trailer(b);
        b->state = TRAILER_LINE;
        b->count = 0;
        return trailer_bytes(b, in, n, used);
    case TRAILER_LINE:
        return trailer_bytes(b, in, n, used);
    case TRAILER_LF:
        b->state = TRAILER_FIRST;
        return in[0] == '\n' ? REASON_NONE : bad_trailer(b);
    case LAST_LF:
        if (in[0] != '\n')
            return bad_trailer(b);
        finish(b);
        return REASON_NONE;
    default:
        return bad_trailer(b);
    }
}

/* ---- Chunks (RFC 9112 7.1) ---- */

static int hex_value(char c)
{
    if (octet_is_digit(c))
        return c - '0';
    return octet_is(c, OCTET_HEX) ? (c | 0x20) - 'a' + 10 : -1;
}

/* A digit more. The size fits in 63 bits, so that sums of sizes do not wrap unseen. */
static bool add_digit(struct h1_body *b, int digit)
{
    if (digit < 0 || b->count == MAX_SIZE_DIGITS || b->left > (uint64_t)INT64_MAX >> 4)
        return false;
    b->left = b->left << 4 | (uint64_t)digit;
    b->count++;
    b->state = SIZE;
    return true;
}

/* The state behind the byte c of a chunk extension; BROKEN_CHUNK when it may not stand there. */
static enum state extension_byte(enum state state, char c)
{
    if (octet_is(c, OCTET_CONTROL))
        return state == EXTENSION && c == '\r' ? SIZE_LF : BROKEN_CHUNK;
    if (state == ESCAPED)
        return QUOTED;
    if (state == QUOTED)
        return c == '"' ? EXTENSION : c == '\\' ? ESCAPED : QUOTED;
    if (c == '"')
        return QUOTED;
    bool plain = octet_is(c, OCTET_TOKEN) || octet_is_blank(c) || c == ';' || c == '=';
    return plain ? EXTENSION : BROKEN_CHUNK;
}

static bool size_byte(struct h1_body *b, char c)
{
    if (c == '\r') {
        b->state = SIZE_LF;
    } else if (c == ';') {
        b->state = EXTENSION;
        b->count = 1;
    } else {
        return add_digit(b, hex_value(c));
    }
    return true;
}

/* One byte of framing; false when it may not come here. */
static bool frame_byte(struct h1_body *b, char c)
{
    switch ((enum state)b->state) {
    case SIZE_FIRST:
        b->count = 0;
        b->left = 0;
        return add_digit(b, hex_value(c));
    case SIZE:
        return size_byte(b, c);
    case EXTENSION:
    case QUOTED:
    case ESCAPED:
        b->state = extension_byte((enum state)b->state, c);
        return b->state != BROKEN_CHUNK && (b->state == SIZE_LF || ++b->count <= MAX_EXTENSION);
    case SIZE_LF:
        b->state = b->left > 0 ? DATA : TRAILER_FIRST;
        return c == '\n';
    case DATA_CR:
        b->state = DATA_LF;
        return c == '\r';
    case DATA_LF:
        b->state = SIZE_FIRST;
        return c == '\n';
    default:
        return false;
    }
}

/* A run of payload from the start of in[0..n). */
static void take(struct h1_body *b, const char *in, size_t n, struct slice *data)
{
    size_t run = n < b->left ? n : (size_t)b->left;
    *data = (struct slice){in, run};
    b->left -= run;
}

static enum reason read_chunked(struct h1_body *b, const char *in, size_t n, size_t *used, struct slice *data)
{
    size_t at = 0;
    enum reason reason = REASON_NONE;
    while (at < n && !b->done && reason == REASON_NONE && data->n == 0) {
        if (b->state == DATA) {
            take(b, in + at, n - at, data);
            at += data->n;
            b->state = b->left > 0 ? DATA : DATA_CR;
        } else if (b->state >= TRAILER_FIRST && b->state != BROKEN_CHUNK) {
            size_t step = 0;
            reason = read_trailer(b, in + at, n - at, &step);
            at += step;
        } else if (frame_byte(b, in[at])) {
            at++;
        } else {
            reason = bad_chunk(b);
        }
    }
    *used = at;
    return reason;
}

enum reason h1_body_next(struct h1_body *body, const char *in, size_t n, size_t *used, struct slice *data)
{
    *used = 0;
    *data = (struct slice){in, 0};
    if (body->done || n == 0)
        return REASON_NONE;
    if (body->kind == BODY_CHUNKED)
        return read_chunked(body, in, n, used, data);
    if (body->kind == BODY_UNTIL_CLOSE) {
        *data = (struct slice){in, n};
    } else {
        take(body, in, n, data);
        body->done = body->left == 0;
    }
    *used = data->n;
    return REASON_NONE;
}

size_t h1_chunk_open(char out[20], size_t n)
{
    static const char digits[] = "0123456789abcdef";
    size_t len = n ? (size_t)(67 - __builtin_clzll((unsigned long long)n)) / 4 : 1;
    for (size_t i = len; i > 0; i--, n >>= 4)
        out[i - 1] = digits[n & 15];
    out[len] = '\r';
    out[len + 1] = '\n';
    return len + 2;
}
