/*
 * Invariants: each byte is part of one match, or a literal; a byte is looked up in at most WAYS places, so
 * that the time is proportional to the bytes.
 */
#include "policy/compressible.h"

#include <math.h>
#include <string.h>

#define HEADER 60 /* bytes: of the stream and its code tables */
#define MATCH_BITS                                                                                           \
    15.5 /* length and distance together, as deflate's dynamic codes have it on JSON, prose and source */

/* NEAR: a match of three bytes from further back costs as much as three literals (zlib's TOO_FAR). */
enum { SLOTS = 4096, SLOT_SHIFT = 20, WAYS = 4, LEAST = 3, LONGEST = 258, NEAR = 4096 };

struct finder {
    const unsigned char *p;
    size_t n;
    uint16_t last[SLOTS][WAYS]; /* one past where three such bytes stood, the newest first */
};

static size_t match_length(const unsigned char *a, const unsigned char *b, size_t room)
{
    size_t n = 0;
    while (n < room && n < LONGEST && a[n] == b[n])
        n++;
    return n;
}

/* Where the three bytes at place i have stood before; NULL when there are no three left. */
static uint16_t *ways_of(struct finder *f, size_t i)
{
    const unsigned char *at = f->p + i;
    if (i + LEAST > f->n)
        return NULL;
    uint32_t three = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16;
    return f->last[three * UINT32_C(2654435761) >> SLOT_SHIFT];
}

static void remember(uint16_t *ways, size_t i)
{
    memmove(ways + 1, ways, (WAYS - 1) * sizeof *ways);
    ways[0] = (uint16_t)(i + 1);
}

/* The longest match at place i with what stands before it, 0 for none; and i is known from now on. */
static size_t longest_match(struct finder *f, size_t i)
{
    size_t best = 0;
    const unsigned char *at = f->p + i;
    uint16_t *ways = ways_of(f, i);
    if (!ways)
        return 0;
    for (int k = 0; k < WAYS && ways[k]; k++) {
        const unsigned char *before = f->p + ways[k] - 1;
        size_t n = match_length(before, at, f->n - i);
        if (n > best && (n > LEAST || at - before < NEAR))
            best = n;
    }
    remember(ways, i);
    return best >= LEAST ? best : 0;
}

size_t compressible_size(struct slice bytes)
{
    struct finder f = {.p = (const unsigned char *)bytes.p,
                       .n = bytes.n < COMPRESSIBLE_MOST ? bytes.n : COMPRESSIBLE_MOST};
    uint32_t count[256] = {0};
    size_t matches = 0, literals = 0, length = longest_match(&f, 0);
    double bits = 0;
    for (size_t i = 0; i < f.n;) {
        size_t next = longest_match(&f, i + 1);
        if (length && next <= length) { /* else a literal first: the match after it is longer */
            matches++;
            for (size_t k = i + 2; k < i + length; k++) {
                uint16_t *ways = ways_of(&f, k);
                if (ways)
                    remember(ways, k);
            }
            i += length;
            length = longest_match(&f, i);
        } else {
            count[f.p[i++]]++;
            literals++;
            length = next;
        }
    }
    for (int i = 0; i < 256; i++) /* lengths are symbols of the same code */
        if (count[i])
            bits -= count[i] * log2((double)count[i] / (double)(literals + matches));
    double size = (bits + (double)matches * MATCH_BITS) / 8 + HEADER;
    return size < (double)f.n ? (size_t)size : f.n;
}
