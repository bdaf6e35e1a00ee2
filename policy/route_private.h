/*
 * The compiled form of the routes, shared by route_compile.c, which makes it, and route.c, which reads it.
 *
 * Row i is bit i of every set. For a path of n segments the rows that match are
 *   method[m] AND count[n] AND, for every position p, (literal[p, text] OR wild[p] OR numbered[p] OR any[p]),
 * and the lowest bit is the first row. So the cost is by segments, not by rows.
 */
#ifndef POLICY_ROUTE_PRIVATE_H
#define POLICY_ROUTE_PRIVATE_H

#include "policy/route.h"

#include <string.h>

#define ROUTE_MAX_WORDS (ROUTE_MAX_ROWS / 64)
#define ROUTE_COUNTS    (ROUTE_MAX_SEGMENTS + 2) /* 0 ... 16 segments, and more than 16 */

enum segment_kind {
    SEGMENT_WILD,     /* {name}: anything but nothing */
    SEGMENT_NUMBERED, /* {name#} */
    SEGMENT_ANY,      /* {name...}, and all behind it */
    SEGMENT_WILDCARDS,
    SEGMENT_LITERAL = SEGMENT_WILDCARDS
};

struct route_literal { /* a text at a position, and the rows that have it there */
    const char *p;     /* NULL: an empty place of the table */
    uint32_t hash;
    uint16_t n;
    uint16_t position;
    uint64_t *rows;
};

struct route_part { /* of a tag: literal text, then (capture >= 0) a capture */
    const char *p;
    uint16_t n;
    int16_t capture;
    bool base; /* {name~}: the capture without what names a version at its end */
};

struct route_program {
    uint16_t parts;
    bool prefix; /* ended in `*` */
    struct route_part part[];
};

struct route_block {
    struct route_block *next;
    _Alignas(max_align_t) char bytes[];
};

struct routes {
    size_t rows;
    size_t words;     /* of a set */
    uint64_t *method; /* [METHOD_COUNT][words] */
    uint64_t *count;  /* [ROUTE_COUNTS][words] */
    uint64_t *wild;   /* [ROUTE_MAX_SEGMENTS][SEGMENT_WILDCARDS][words] */
    struct route_literal *table;
    size_t table_mask;
    struct route *row;
    int operations;
    char name[ROUTE_MAX_OPERATIONS][ROUTE_MAX_NAME];
    struct route_block *blocks; /* all memory but this struct's own */
};

/*
 * A number for a short text at a position: its length, first and last eight bytes. Equal texts have equal
 * numbers.
 */
static inline uint32_t route_hash(const char *p, size_t n, size_t position)
{
    uint64_t a = 0, b = 0;
    if (n >= 8) {
        memcpy(&a, p, 8);
        memcpy(&b, p + n - 8, 8);
    } else if (n >= 4) {
        uint32_t x, y;
        memcpy(&x, p, 4);
        memcpy(&y, p + n - 4, 4);
        a = x;
        b = y;
    } else if (n) {
        a = (uint64_t)(unsigned char)p[0] << 16 | (uint64_t)(unsigned char)p[n / 2] << 8 |
            (unsigned char)p[n - 1];
    }
    a = (a ^ (n << 5 | position)) * UINT64_C(0x9E3779B97F4A7C15);
    a = (a ^ b ^ (a >> 29)) * UINT64_C(0xBF58476D1CE4E5B9);
    return (uint32_t)(a >> 32);
}

/* "." or "..", also percent-encoded (RFC 3986 5.2.4 removes them, and some servers do so after decoding). */
bool route_is_dot_segment(const char *p, size_t n);

#endif
