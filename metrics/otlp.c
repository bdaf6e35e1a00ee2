/*
 * Attributes and the envelope that metrics and spans share. Invariant: every string written is UTF-8, as
 * proto3 wants it.
 */
#include "metrics/otlp.h"

#include <string.h>

#define SCOPE "promptops-sidecar"

static size_t open_attribute(struct text *t, unsigned field, const char *key, size_t *value)
{
    size_t mark = pb_open(t, field);
    pb_string(t, 1, key);
    *value = pb_open(t, 2);
    return mark;
}

static void close_attribute(struct text *t, size_t mark, size_t value)
{
    pb_close(t, value);
    pb_close(t, mark);
}

/* Length of the UTF-8 sequence at p; 0: it is none (RFC 3629). */
static size_t utf8(const unsigned char *p, size_t n)
{
    size_t length = p[0] < 0x80   ? 1
                    : p[0] < 0xc2 ? 0
                    : p[0] < 0xe0 ? 2
                    : p[0] < 0xf0 ? 3
                    : p[0] < 0xf5 ? 4
                                  : 0;
    if (length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool bad = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
               (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f);
    return bad ? 0 : length;
}

void otlp_bytes(struct text *t, unsigned field, const char *key, const char *p, size_t n)
{
    size_t value, mark = open_attribute(t, field, key, &value);
    size_t string = pb_open(t, 1);
    for (size_t i = 0, length; i < n; i += length ? length : 1) {
        length = utf8((const unsigned char *)p + i, n - i);
        char hex[3] = {'%', "0123456789ABCDEF"[(unsigned char)p[i] >> 4], "0123456789ABCDEF"[p[i] & 15]};
        text_bytes(t, length ? p + i : hex, length ? length : sizeof hex);
    }
    pb_close(t, string);
    close_attribute(t, mark, value);
}

void otlp_text(struct text *t, unsigned field, const char *key, const char *value)
{
    otlp_bytes(t, field, key, value, strlen(value));
}

void otlp_int(struct text *t, unsigned field, const char *key, int64_t value)
{
    size_t inner, mark = open_attribute(t, field, key, &inner);
    pb_uint(t, 3, (uint64_t)value);
    close_attribute(t, mark, inner);
}

void otlp_bool(struct text *t, unsigned field, const char *key, bool value)
{
    size_t inner, mark = open_attribute(t, field, key, &inner);
    pb_uint(t, 2, value);
    close_attribute(t, mark, inner);
}

static size_t open_scope(struct text *t, const struct otlp_scene *s, const char *name)
{
    size_t mark = pb_open(t, 2);
    size_t scope = pb_open(t, 1);
    pb_string(t, 1, name);
    pb_string(t, 2, s->version);
    pb_close(t, scope);
    return mark;
}

struct otlp_envelope otlp_open(struct text *t, const struct otlp_scene *s)
{
    struct otlp_envelope e = {.request = pb_open(t, 1)};
    pb_bytes(t, 1, s->resource->p, s->resource->n);
    e.scope = open_scope(t, s, SCOPE);
    return e;
}

void otlp_next_scope(struct text *t, struct otlp_envelope *e, const struct otlp_scene *s, const char *name)
{
    pb_close(t, e->scope);
    e->scope = open_scope(t, s, name);
}

void otlp_close(struct text *t, const struct otlp_envelope *e)
{
    pb_close(t, e->scope);
    pb_close(t, e->request);
}
