/*
 * Texts and blobs. Invariants: n <= cap; a text that failed keeps what it had, and says so; a blob's bytes
 * never change after blob_new.
 */
#include "tests/origin/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool text_reserve(struct text *t, size_t more)
{
    if (t->failed)
        return false;
    if (t->cap - t->n >= more)
        return true;
    size_t cap = t->cap ? t->cap : 256;
    while (cap - t->n < more) {
        if (cap > SIZE_MAX / 2) {
            t->failed = true;
            return false;
        }
        cap *= 2;
    }
    char *p = realloc(t->p, cap);
    if (!p) {
        t->failed = true;
        return false;
    }
    t->p = p;
    t->cap = cap;
    return true;
}

void text_add(struct text *t, const char *p, size_t n)
{
    if (!n || !text_reserve(t, n))
        return;
    memcpy(t->p + t->n, p, n);
    t->n += n;
}

void text_puts(struct text *t, const char *s)
{
    text_add(t, s, strlen(s));
}

void text_printf(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0 || !text_reserve(t, (size_t)n + 1)) {
        t->failed = true;
        return;
    }
    va_start(args, format);
    vsnprintf(t->p + t->n, (size_t)n + 1, format, args);
    va_end(args);
    t->n += (size_t)n;
}

void text_json(struct text *t, struct slice s)
{
    text_puts(t, "\"");
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\') {
            char two[2] = {'\\', (char)c};
            text_add(t, two, 2);
        } else if (c == '\n') {
            text_puts(t, "\\n");
        } else if (c < 0x20 || c >= 0x7f) {
            /* Bytes beyond ASCII are written one by one, as Latin-1: what came in need not be UTF-8. */
            text_printf(t, "\\u%04x", c);
        } else {
            text_add(t, (const char *)&s.p[i], 1);
        }
    }
    text_puts(t, "\"");
}

const char *text_cstr(struct text *t)
{
    if (!text_reserve(t, 1))
        return "";
    t->p[t->n] = 0;
    return t->p;
}

void text_free(struct text *t)
{
    free(t->p);
    *t = (struct text){0};
}

struct blob *blob_new(const char *p, size_t n)
{
    struct blob *b = malloc(sizeof(*b) + n);
    if (!b)
        return NULL;
    atomic_init(&b->refs, 1);
    b->n = n;
    if (n)
        memcpy(b->p, p, n);
    return b;
}

struct blob *blob_take(struct text *t)
{
    struct blob *b = t->failed ? NULL : blob_new(t->p, t->n);
    text_free(t);
    return b;
}

struct blob *blob_ref(struct blob *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void blob_unref(struct blob *b)
{
    if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
        free(b);
}

bool parse_number(struct slice s, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (s.n == 0 || s.n > 19)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(s.p[i] - '0');
    }
    if (v > max)
        return false;
    *out = v;
    return true;
}

bool slice_is(struct slice s, const char *literal)
{
    return s.n == strlen(literal) && memcmp(s.p, literal, s.n) == 0;
}

bool slice_is_nocase(struct slice s, const char *literal)
{
    return s.n == strlen(literal) && strncasecmp(s.p, literal, s.n) == 0;
}
