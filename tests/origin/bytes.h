/*
 * Bytes that grow (text) and bytes that are shared and never change (blob).
 */
#ifndef ORIGIN_BYTES_H
#define ORIGIN_BYTES_H

#include <stdarg.h>
#include <stdatomic.h>

#include "policy/base.h"

/* All zero is an empty text. Once an allocation failed, `failed` stays set and every addition is a no-op. */
struct text {
    char *p; /* owned; not terminated by a NUL, but see text_cstr */
    size_t n;
    size_t cap;
    bool failed;
};

/* Makes room for `more` bytes behind the present end. False when out of memory. */
bool text_reserve(struct text *t, size_t more);
void text_add(struct text *t, const char *p, size_t n);
void text_puts(struct text *t, const char *s);
void text_printf(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Adds s as a JSON string, quotes included. */
void text_json(struct text *t, struct slice s);
/* Ends the text with a NUL (not counted) and gives it; "" when that failed. */
const char *text_cstr(struct text *t);
void text_free(struct text *t);

/* Shared bytes. Whoever holds a reference may read from any thread. */
struct blob {
    atomic_uint refs;
    size_t n;
    char p[];
};

/* A copy with one reference, or NULL when out of memory. */
struct blob *blob_new(const char *p, size_t n);
/* The same from a text, which becomes empty. NULL when the text had failed. */
struct blob *blob_take(struct text *t);
struct blob *blob_ref(struct blob *b);
void blob_unref(struct blob *b); /* NULL is fine */

/* Decimal digits only, at most `max`. False for anything else. */
bool parse_number(struct slice s, uint64_t max, uint64_t *out);

bool slice_is(struct slice s, const char *literal);
bool slice_is_nocase(struct slice s, const char *literal);

#endif
