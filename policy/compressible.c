/*
 * Invariant: each byte is part of one match, or a literal; the time is proportional to the bytes.
 */
#include "policy/compressible.h"

#include <math.h>
#include <string.h>

#define HEADER     20  /* bytes: of the stream and its code tables */
#define MATCH_BITS 18.0 /* length and distance together, as deflate's dynamic codes have it on JSON and prose */

enum { SLOTS = 1024, LEAST = 4, LONGEST = 258 };

static unsigned slot_of(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return (v * UINT32_C(2654435761)) >> 22;
}

static size_t match_length(const unsigned char *a, const unsigned char *b, size_t room)
{
    size_t n = 0;
    while (n < room && n < LONGEST && a[n] == b[n])
        n++;
    return n;
}

size_t compressible_size(struct slice bytes)
{
    const unsigned char *p = (const unsigned char *)bytes.p;
    size_t n = bytes.n < COMPRESSIBLE_MOST ? bytes.n : COMPRESSIBLE_MOST, matches = 0, literals = 0;
    uint16_t last[SLOTS] = {0}; /* one past where these four bytes stood */
    uint32_t count[256] = {0};
    double bits = 0;
    for (size_t i = 0; i < n;) {
        size_t length = 0;
        if (i + LEAST <= n) {
            unsigned slot = slot_of(p + i);
            if (last[slot])
                length = match_length(p + last[slot] - 1, p + i, n - i);
            last[slot] = (uint16_t)(i + 1);
        }
        if (length >= LEAST) {
            matches++;
            i += length;
        } else {
            count[p[i++]]++;
            literals++;
        }
    }
    for (int i = 0; i < 256; i++)
        if (count[i])
            bits -= count[i] * log2((double)count[i] / (double)literals);
    double size = (bits + (double)matches * MATCH_BITS) / 8 + HEADER;
    return size < (double)n ? (size_t)size : n;
}
