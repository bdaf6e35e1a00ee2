/*
 * Numbers as decimal digits, for heads that are written for every answer: snprintf costs many times more.
 */
#ifndef POLICY_DECIMAL_H
#define POLICY_DECIMAL_H

#include <string.h>

#include "policy/base.h"

enum { DECIMAL_MAX = 20 }; /* digits of the largest number */

/* The two digits of each number below 100. */
static const char decimal_pairs[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

/* Writes v without leading zeros and without a NUL; out has room for DECIMAL_MAX bytes. Returns the digits.
 */
static inline size_t decimal_write(char *out, uint64_t v)
{
    size_t n = 1;
    for (uint64_t limit = 10; v >= limit && ++n < DECIMAL_MAX;)
        limit *= 10;
    size_t at = n;
    for (; v >= 100; v /= 100) {
        at -= 2;
        memcpy(out + at, decimal_pairs + v % 100 * 2, 2);
    }
    if (v >= 10)
        memcpy(out, decimal_pairs + v * 2, 2);
    else
        out[0] = (char)('0' + v);
    return n;
}

#endif
