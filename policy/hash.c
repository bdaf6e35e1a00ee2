/*
 * SipHash-1-3, 128 bits. Invariant: `tail` holds the last total % 8 bytes fed, in its low bytes, and zeros
 * above; all whole words before them are in v0 ... v3.
 */
#include "policy/hash.h"

#include <string.h>

enum { ROUNDS_WORD = 1, ROUNDS_END = 3 };

static inline uint64_t rotl(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

static inline uint64_t load_word(const unsigned char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* Up to seven bytes, the first in the lowest byte. */
static inline uint64_t load_part(const unsigned char *p, size_t n)
{
    uint64_t word = 0;
    unsigned at = 0;
    if (n & 4) {
        word = (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24;
        p += 4;
        at = 32;
    }
    if (n & 2) {
        word |= ((uint64_t)p[0] | (uint64_t)p[1] << 8) << at;
        p += 2;
        at += 16;
    }
    if (n & 1)
        word |= (uint64_t)p[0] << at;
    return word;
}

static inline void sip_rounds(struct hash_state *s, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        s->v0 += s->v1;
        s->v2 += s->v3;
        s->v1 = rotl(s->v1, 13) ^ s->v0;
        s->v3 = rotl(s->v3, 16) ^ s->v2;
        s->v0 = rotl(s->v0, 32);
        s->v2 += s->v1;
        s->v0 += s->v3;
        s->v1 = rotl(s->v1, 17) ^ s->v2;
        s->v3 = rotl(s->v3, 21) ^ s->v0;
        s->v2 = rotl(s->v2, 32);
    }
}

static inline void take_word(struct hash_state *s, uint64_t word, int rounds)
{
    s->v3 ^= word;
    sip_rounds(s, rounds);
    s->v0 ^= word;
}

static void init(struct hash_state *s, struct hash_key key)
{
    s->v0 = key.k0 ^ 0x736f6d6570736575u;
    s->v1 = key.k1 ^ 0x646f72616e646f6du ^ 0xee; /* 0xee: the variant of 128 bits */
    s->v2 = key.k0 ^ 0x6c7967656e657261u;
    s->v3 = key.k1 ^ 0x7465646279746573u;
    s->tail = 0;
    s->total = 0;
}

static inline void feed(struct hash_state *state, const unsigned char *p, size_t n, int rounds)
{
    struct hash_state s = *state; /* in registers: stores through the pointer might change the text */
    size_t have = s.total & 7;
    s.total += n;
    if (have + n < 8) {
        state->tail = s.tail | load_part(p, n) << (8 * have);
        state->total = s.total;
        return;
    }
    if (have) {
        take_word(&s, s.tail | load_part(p, 8 - have) << (8 * have), rounds);
        p += 8 - have;
        n -= 8 - have;
    }
    for (; n >= 8; p += 8, n -= 8)
        take_word(&s, load_word(p), rounds);
    s.tail = load_part(p, n);
    *state = s;
}

static inline struct hash128 end(struct hash_state *s, int word_rounds, int end_rounds)
{
    struct hash128 out;
    take_word(s, s->tail | s->total << 56, word_rounds);
    s->v2 ^= 0xee;
    sip_rounds(s, end_rounds);
    out.lo = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
    s->v1 ^= 0xdd;
    sip_rounds(s, end_rounds);
    out.hi = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
    return out;
}

void hash_init(struct hash_state *state, struct hash_key key)
{
    init(state, key);
}

void hash_feed(struct hash_state *state, const void *bytes, size_t n)
{
    feed(state, bytes, n, ROUNDS_WORD);
}

void hash_feed_u64(struct hash_state *state, uint64_t number)
{
    size_t have = state->total & 7;
    take_word(state, have ? state->tail | number << (8 * have) : number, ROUNDS_WORD);
    state->tail = have ? number >> (64 - 8 * have) : 0;
    state->total += 8;
}

void hash_feed_text(struct hash_state *state, struct slice text)
{
    hash_feed_u64(state, text.n);
    hash_feed(state, text.p, text.n);
}

void hash_feed_text_nocase(struct hash_state *state, struct slice text)
{
    char lower[64];
    hash_feed_u64(state, text.n);
    while (text.n > 0) {
        size_t n = text.n < sizeof lower ? text.n : sizeof lower;
        for (size_t i = 0; i < n; i++) {
            char c = text.p[i];
            lower[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
        }
        hash_feed(state, lower, n);
        text.p += n;
        text.n -= n;
    }
}

struct hash128 hash_end(struct hash_state *state)
{
    return end(state, ROUNDS_WORD, ROUNDS_END);
}

struct hash128 hash_bytes(struct hash_key key, const void *bytes, size_t n)
{
    struct hash_state s;
    init(&s, key);
    feed(&s, bytes, n, ROUNDS_WORD);
    return end(&s, ROUNDS_WORD, ROUNDS_END);
}

static inline void take_text(struct hash_state *s, struct slice text)
{
    const unsigned char *p = (const unsigned char *)text.p;
    size_t n = text.n;
    for (; n >= 8; p += 8, n -= 8)
        take_word(s, load_word(p), ROUNDS_WORD);
    if (n == 0)
        return;
    /* Behind other words the last bytes are the end of a whole one. */
    uint64_t rest = text.n > 8 ? load_word(p + n - 8) >> (64 - 8 * n) : load_part(p, n);
    take_word(s, rest, ROUNDS_WORD);
}

struct hash128 hash_of_two(struct hash_key key, struct hash128 number, struct slice first,
                           struct slice second)
{
    struct hash_state s;
    init(&s, key);
    take_word(&s, number.lo, ROUNDS_WORD);
    take_word(&s, number.hi, ROUNDS_WORD);
    take_word(&s, (uint64_t)first.n << 32 | (uint64_t)second.n, ROUNDS_WORD);
    take_text(&s, first);
    take_text(&s, second);
    return end(&s, ROUNDS_WORD, ROUNDS_END);
}
