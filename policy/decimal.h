/*
 * Numbers as decimal digits, for heads that are written for every answer: snprintf costs many times more.
 */
#ifndef POLICY_DECIMAL_H
#define POLICY_DECIMAL_H

#include "policy/base.h"

enum { DECIMAL_MAX = 20 }; /* digits of the largest number */

/* Writes v without leading zeros and without a NUL; out has room for DECIMAL_MAX bytes. Returns the digits.
 */
static inline size_t decimal_write(char *out, uint64_t v)
{
    size_t n = 1;
    for (uint64_t limit = 10; v >= limit && ++n < DECIMAL_MAX;)
        limit *= 10;
    for (size_t at = n; at-- > 0; v /= 10)
        out[at] = (char)('0' + v % 10);
    return n;
}

#endif
