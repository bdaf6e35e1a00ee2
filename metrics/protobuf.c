/*
 * Encoder and reader. Invariants: lengths are written in their shortest form, once their content is known;
 * the reader never looks behind `end`, and a field number is 1 ... 2^29 - 1.
 */
#include "metrics/protobuf.h"

#include <string.h>

enum { VARINT_MOST = 10 };

static size_t put_varint(uint8_t out[VARINT_MOST], uint64_t v)
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

void pb_element(struct text *t, uint64_t v)
{
    uint8_t room[VARINT_MOST];
    text_bytes(t, (const char *)room, put_varint(room, v));
}

static void put_tag(struct text *t, unsigned field, enum pb_kind kind)
{
    pb_element(t, (uint64_t)field << 3 | (uint64_t)kind);
}

static void put_little(struct text *t, uint64_t v, size_t n)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(v >> 8 * i);
    text_bytes(t, (const char *)bytes, n);
}

void pb_uint(struct text *t, unsigned field, uint64_t v)
{
    put_tag(t, field, PB_VARINT);
    pb_element(t, v);
}

void pb_sint(struct text *t, unsigned field, int64_t v)
{
    pb_uint(t, field, ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0));
}

void pb_fixed64(struct text *t, unsigned field, uint64_t v)
{
    put_tag(t, field, PB_FIXED64);
    put_little(t, v, 8);
}

void pb_fixed32(struct text *t, unsigned field, uint32_t v)
{
    put_tag(t, field, PB_FIXED32);
    put_little(t, v, 4);
}

void pb_double(struct text *t, unsigned field, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    pb_fixed64(t, field, bits);
}

void pb_bytes(struct text *t, unsigned field, const void *p, size_t n)
{
    put_tag(t, field, PB_LENGTH);
    pb_element(t, n);
    text_bytes(t, p, n);
}

void pb_string(struct text *t, unsigned field, const char *s)
{
    pb_bytes(t, field, s, strlen(s));
}

size_t pb_open(struct text *t, unsigned field)
{
    put_tag(t, field, PB_LENGTH);
    text_bytes(t, "", 1); /* most are shorter than 128 bytes */
    return t->n;
}

void pb_close(struct text *t, size_t mark)
{
    uint8_t length[VARINT_MOST];
    if (t->failed)
        return;
    size_t size = t->n - mark, n = put_varint(length, size);
    text_bytes(t, (const char *)length, n - 1); /* makes room */
    if (t->failed)
        return;
    memmove(t->p + mark + n - 1, t->p + mark, size);
    memcpy(t->p + mark - 1, length, n);
}

/* ---- reading ---- */

static bool get_varint(struct pb_reader *r, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 64 && r->p < r->end; shift += 7) {
        uint8_t byte = *r->p++;
        *v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return shift < 63 || byte <= 1;
    }
    return false;
}

static bool get_little(struct pb_reader *r, size_t n, uint64_t *v)
{
    *v = 0;
    if ((size_t)(r->end - r->p) < n)
        return false;
    for (size_t i = 0; i < n; i++)
        *v |= (uint64_t)*r->p++ << 8 * i;
    return true;
}

static bool get_content(struct pb_reader *r, struct pb_field *out)
{
    if (!get_varint(r, &out->value) || out->value > (size_t)(r->end - r->p))
        return false;
    out->content = (struct pb_reader){r->p, r->p + out->value};
    r->p += out->value;
    return true;
}

bool pb_next(struct pb_reader *r, struct pb_field *out, bool *bad)
{
    uint64_t tag;
    if (*bad || r->p == r->end)
        return false;
    *bad = true;
    *out = (struct pb_field){0};
    if (!get_varint(r, &tag) || tag >> 3 == 0 || tag >> 32)
        return false;
    out->number = (unsigned)(tag >> 3);
    out->kind = (enum pb_kind)(tag & 7);
    *bad = !(out->kind == PB_VARINT    ? get_varint(r, &out->value)
             : out->kind == PB_FIXED64 ? get_little(r, 8, &out->value)
             : out->kind == PB_FIXED32 ? get_little(r, 4, &out->value)
             : out->kind == PB_LENGTH  ? get_content(r, out)
                                       : false); /* groups are of old */
    return !*bad;
}
