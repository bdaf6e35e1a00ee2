/*
 * What each byte may be in HTTP, as one table, so that a parser asks once a byte.
 */
#ifndef POLICY_OCTET_H
#define POLICY_OCTET_H

#include "policy/base.h"

enum {
    OCTET_TOKEN = 1,   /* tchar (RFC 9110 5.6.2) */
    OCTET_TARGET = 2,  /* may stand in a request target: visible ASCII but `#` */
    OCTET_CONTROL = 4, /* CTL but HTAB: never inside a line of a message */
    OCTET_HOST = 8,    /* unreserved or sub-delim but the comma (RFC 3986 3.2.2) */
    OCTET_HEX = 16     /* HEXDIG of either case */
};

extern const uint8_t octet_class[256];

static inline bool octet_is(char c, unsigned set)
{
    return (octet_class[(unsigned char)c] & set) != 0;
}

/* Optional white space (RFC 9110 5.6.3). */
static inline bool octet_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static inline bool octet_is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

#endif
