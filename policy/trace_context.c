/*
 * traceparent and request ids. Invariant: whatever comes in, what goes out is a valid version 00 traceparent:
 * ids are never all zero, and flags that this version does not define are zero (Trace Context 3.2.2.5).
 */
#include "policy/trace_context.h"

#include <string.h>

/* Lower case only (Trace Context 3.2.2). */
static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_hex(const char *p, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int high = hex(p[2 * i]), low = hex(p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* Octets side by side, for the compiler to work on at once. */
typedef uint8_t octets __attribute__((vector_size(16)));

static octets digits(octets nibbles)
{
    return nibbles + '0' + ((octets)(nibbles > 9) & ('a' - '0' - 10));
}

/* The first eight octets' digits, high nibble first. */
static void write_hex_half(char *out, octets high, octets low)
{
    octets text = __builtin_shufflevector(high, low, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    memcpy(out, &text, sizeof text);
}

static void write_hex_8(char out[16], const uint8_t p[8])
{
    octets x = {0};
    memcpy(&x, p, 8);
    write_hex_half(out, digits(x >> 4), digits(x & 15));
}

static void write_hex_16(char out[32], const uint8_t p[16])
{
    octets x;
    memcpy(&x, p, sizeof x);
    octets high = digits(x >> 4), low = digits(x & 15);
    octets rest =
        __builtin_shufflevector(high, low, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    write_hex_half(out, high, low);
    memcpy(out + 16, &rest, sizeof rest);
}

void trace_id_format(const struct trace_context *t, char out[TRACE_ID_LEN])
{
    write_hex_16(out, t->trace_id);
}

/* n is 8 or 16. */
static inline bool all_zero(const uint8_t *p, size_t n)
{
    uint64_t first, last;
    memcpy(&first, p, 8);
    memcpy(&last, p + n - 8, 8);
    return (first | last) == 0;
}

bool traceparent_parse(struct slice value, struct trace_context *t)
{
    const char *p = value.p;
    struct trace_context got;
    uint8_t version;
    if (value.n < TRACEPARENT_LEN || p[2] != '-' || p[35] != '-' || p[52] != '-')
        return false;
    if (!parse_hex(p, &version, 1) || version == 0xff)
        return false;
    /* A later version may go on behind the flags, after a dash; 00 may not. */
    if (value.n > TRACEPARENT_LEN && (version == 0 || p[TRACEPARENT_LEN] != '-'))
        return false;
    if (!parse_hex(p + 3, got.trace_id, 16) || !parse_hex(p + 36, got.parent_id, 8) ||
        !parse_hex(p + 53, &got.flags, 1))
        return false;
    if (all_zero(got.trace_id, 16) || all_zero(got.parent_id, 8))
        return false;
    got.flags &= TRACE_SAMPLED | TRACE_RANDOM;
    *t = got;
    return true;
}

bool trace_from_head(const struct head *h, struct trace_context *t)
{
    int i = head_find(h, FIELD_TRACEPARENT, 0);
    if (i < 0 || head_find(h, FIELD_TRACEPARENT, i + 1) >= 0)
        return false; /* two of them: which one is meant nobody knows */
    return traceparent_parse(head_value(h, i), t);
}

static void random_bytes(uint8_t *out, size_t n, struct rng *rng)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t x = rng_next(rng);
        memcpy(out + i, &x, n - i < 8 ? n - i : 8);
    }
}

static void random_id(uint8_t *out, size_t n, struct rng *rng)
{
    random_bytes(out, n, rng);
    if (all_zero(out, n))
        out[n - 1] = 1;
}

void trace_start(struct trace_context *t, bool sampled, struct rng *rng)
{
    random_id(t->trace_id, sizeof t->trace_id, rng);
    random_id(t->parent_id, sizeof t->parent_id, rng);
    t->flags = TRACE_RANDOM | (sampled ? TRACE_SAMPLED : 0);
}

void trace_child(struct trace_context *t, struct rng *rng)
{
    random_id(t->parent_id, sizeof t->parent_id, rng);
}

void traceparent_format(const struct trace_context *t, char out[TRACEPARENT_LEN])
{
    memcpy(out, "00-", 3);
    write_hex_16(out + 3, t->trace_id);
    out[35] = '-';
    write_hex_8(out + 36, t->parent_id);
    out[52] = '-';
    out[53] = "0123456789abcdef"[t->flags >> 4];
    out[54] = "0123456789abcdef"[t->flags & 15];
}

static bool is_request_id_byte(char c)
{
    char l = c | 0x20;
    return (c >= '0' && c <= '9') || (l >= 'a' && l <= 'z') || (c && strchr("-._~:/+=@,", c));
}

bool request_id_ok(struct slice value)
{
    if (value.n == 0 || value.n > REQUEST_ID_MAX)
        return false;
    for (size_t i = 0; i < value.n; i++)
        if (!is_request_id_byte(value.p[i]))
            return false;
    return true;
}

void request_id_make(char out[REQUEST_ID_LEN], struct rng *rng)
{
    uint8_t id[16];
    char hex[2 * sizeof id];
    random_bytes(id, sizeof id, rng);
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    write_hex_16(hex, id);
    memcpy(out, hex, 8);
    memcpy(out + 9, hex + 8, 4);
    memcpy(out + 14, hex + 12, 4);
    memcpy(out + 19, hex + 16, 4);
    memcpy(out + 24, hex + 20, 12);
    out[8] = out[13] = out[18] = out[23] = '-';
}
