/*
 * A growing buffer of bytes. A failed allocation is remembered and later calls do nothing,
 * so that a writer checks once, at the end.
 */
#ifndef METRICS_TEXT_H
#define METRICS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is an empty text. */
struct text {
    char *p;
    size_t n;
    size_t cap;
    bool failed;
};

void text_bytes(struct text *t, const char *p, size_t n);
void text_string(struct text *t, const char *s);
void text_uint(struct text *t, uint64_t v);
void text_int(struct text *t, int64_t v);
void text_real(
    struct text *t,
    double v); /* shortest form that reads back the same; NaN, +Inf, -Inf as Prometheus writes them */
void text_clear(struct text *t); /* keeps the memory */
void text_dispose(struct text *t);

#endif
