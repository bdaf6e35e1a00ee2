/*
 * Any bytes as a body. The first four bytes choose the kind, the limit of the trailers and cuts, the rest is
 * the body. Held: the result is the same however the bytes are cut; nothing behind them is read; a chunked
 * body is whole, with the same payload and end, just when a second, plain reading of all its bytes says so.
 */
#include "tests/fuzz/h1_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The line at p[*at ...): false when it does not end in CRLF or has a control byte. */
static bool plain_take_line(const char *p, size_t n, size_t *at, struct slice *line)
{
    for (size_t i = *at; i + 1 < n; i++) {
        if (p[i] == '\r' && p[i + 1] == '\n') {
            *line = (struct slice){p + *at, i - *at};
            *at = i + 2;
            return true;
        }
        if (((unsigned char)p[i] < 0x20 && p[i] != '\t') || p[i] == 0x7f)
            return false;
    }
    return false;
}

static bool plain_extension(struct slice s)
{
    bool quoted = false;
    if (s.n == 0)
        return true;
    if (s.p[0] != ';' || s.n > 1024)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (quoted && s.p[i] == '\\')
            i++;
        else if (s.p[i] == '"')
            quoted = !quoted;
        else if (!quoted && !plain_token(s.p + i, 1) && !strchr(";= \t", s.p[i]))
            return false;
        if (i >= s.n)
            return false; /* a backslash before the CR */
    }
    return !quoted;
}

static bool plain_size(struct slice line, uint64_t *size)
{
    size_t digits = 0;
    *size = 0;
    while (digits < line.n && strchr("0123456789abcdefABCDEF", line.p[digits])) {
        char digit[2] = {line.p[digits++], 0};
        if (*size >> 59 != 0 || digits > 16)
            return false;
        *size = *size * 16 + strtoull(digit, NULL, 16);
    }
    return digits > 0 && plain_extension((struct slice){line.p + digits, line.n - digits});
}

static bool plain_trailers(const char *p, size_t n, size_t *at, size_t max)
{
    struct slice line;
    size_t section = 0;
    while (plain_take_line(p, n, at, &line)) {
        if (line.n == 0)
            return true;
        section += line.n + 2;
        const char *colon = memchr(line.p, ':', line.n);
        if (section > max || !colon || !plain_token(line.p, (size_t)(colon - line.p)))
            return false;
    }
    return false;
}

/* True when the bytes begin with a whole chunked body; *used are its bytes. */
static bool plain_chunked(const struct body_case *c, size_t *used, char *payload, size_t *payload_len)
{
    struct slice line;
    uint64_t size;
    *used = *payload_len = 0;
    while (plain_take_line(c->p, c->n, used, &line) && plain_size(line, &size)) {
        if (size == 0)
            return plain_trailers(c->p, c->n, used, c->max_trailer);
        if (size > c->n - *used || c->n - *used - size < 2)
            return false;
        memcpy(payload + *payload_len, c->p + *used, size);
        *payload_len += size;
        *used += size + 2;
        if (c->p[*used - 2] != '\r' || c->p[*used - 1] != '\n')
            return false;
    }
    return false;
}

static void claim_trailers(const struct body_result *r)
{
    for (size_t at = 0; at < r->trailers_len;) {
        size_t n = plain_line(r->trailers + at, r->trailers_len - at);
        const char *line = r->trailers + at, *colon = memchr(line, ':', n);
        CLAIM(colon && plain_token(line, (size_t)(colon - line)) && colon[1] == ' ');
        enum field_id id = field_lookup(line, (size_t)(colon - line));
        CLAIM(!field_is_hop(id) && !field_is_kept(id) && strncasecmp(line, "content-", 8) != 0);
        at += n + 2;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint8_t kinds[] = {BODY_CHUNKED,     BODY_CHUNKED, BODY_CHUNKED, BODY_LENGTH,
                                    BODY_UNTIL_CLOSE, BODY_NONE,    BODY_CHUNKED, BODY_CHUNKED};
    if (n < 4 || n > 20000)
        return 0;
    struct body_case c = {
        .p = (const char *)data + 4, .n = n - 4, .kind = kinds[data[0] % 8], .length = data[1]};
    c.response = (data[0] & 8) != 0;
    c.max_trailer = data[0] & 16 ? data[1] : 5000;
    struct body_result r;
    claim_body(&c, data[2], data[3], &r);
    if (c.kind == BODY_CHUNKED) {
        char *payload = malloc(n);
        size_t used, payload_len;
        CLAIM(payload != NULL);
        CLAIM(r.done == plain_chunked(&c, &used, payload, &payload_len));
        CLAIM(!r.done || (r.used == used && r.payload_len == payload_len &&
                          memcmp(r.payload, payload, payload_len) == 0));
        claim_trailers(&r);
        free(payload);
    }
    body_result_free(&r);
    return 0;
}
