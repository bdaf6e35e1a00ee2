/*
 * The growing buffer of text.h. Invariant: n <= cap; after a failure nothing is added any more.
 */
#include "metrics/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool text_room(struct text *t, size_t n)
{
    if (t->failed)
        return false;
    if (n <= t->cap - t->n)
        return true;
    size_t cap = t->cap ? t->cap : 4096;
    while (cap - t->n < n) {
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

void text_bytes(struct text *t, const char *p, size_t n)
{
    if (!n || !text_room(t, n))
        return;
    memcpy(t->p + t->n, p, n);
    t->n += n;
}

void text_string(struct text *t, const char *s)
{
    text_bytes(t, s, strlen(s));
}

void text_uint(struct text *t, uint64_t v)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    text_bytes(t, digits + at, sizeof digits - at);
}

void text_int(struct text *t, int64_t v)
{
    if (v < 0)
        text_bytes(t, "-", 1);
    text_uint(t, v < 0 ? (uint64_t)0 - (uint64_t)v : (uint64_t)v);
}

void text_real(struct text *t, double v)
{
    if (isnan(v)) {
        text_string(t, "NaN");
        return;
    }
    if (isinf(v)) {
        text_string(t, v > 0 ? "+Inf" : "-Inf");
        return;
    }
    char room[40];
    for (int precision = 6; precision <= 17; precision++) {
        snprintf(room, sizeof room, "%.*g", precision, v);
        if (strtod(room, NULL) == v)
            break;
    }
    text_string(t, room);
}

void text_clear(struct text *t)
{
    t->n = 0;
    t->failed = false;
}

void text_dispose(struct text *t)
{
    free(t->p);
    *t = (struct text){0};
}
