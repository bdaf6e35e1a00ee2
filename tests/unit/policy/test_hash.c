/*
 * SipHash: the published vectors of the 2-4 variant on the same code, its independence of how the bytes are
 * cut, and what feeding texts must keep apart.
 */
#include "policy/hash.c"

#include "tests/unit/message.h"

static const struct hash_key counting = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};

static struct hash128 sip24(const unsigned char *bytes, size_t n)
{
    struct hash_state s;
    init(&s, counting);
    feed(&s, bytes, n, 2);
    return end(&s, 2, 4);
}

/* Some rows of the reference implementation's vectors (bytes 00 01 02 ...). */
START_TEST(siphash_2_4_128_vectors)
{
    static const struct {
        size_t n;
        unsigned char out[16];
    } rows[] = {
        {0, {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93}},
        {1, {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45}},
        {2, {0x81, 0x77, 0x22, 0x8d, 0xa4, 0xa4, 0x5d, 0xc7, 0xfc, 0xa3, 0x8b, 0xde, 0xf6, 0x0a, 0xff, 0xe4}},
        {3, {0x9c, 0x70, 0xb6, 0x0c, 0x52, 0x67, 0xa9, 0x4e, 0x5f, 0x33, 0xb6, 0xb0, 0x29, 0x85, 0xed, 0x51}},
        {8, {0x3b, 0x62, 0xa9, 0xba, 0x62, 0x58, 0xf5, 0x61, 0x0f, 0x83, 0xe2, 0x64, 0xf3, 0x14, 0x97, 0xb4}},
    };
    unsigned char in[16];
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (unsigned char)i;
    for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
        struct hash128 h = sip24(in, rows[r].n);
        must(h.lo == load_word(rows[r].out));
        must(h.hi == load_word(rows[r].out + 8));
    }
}
END_TEST

START_TEST(the_cut_does_not_matter)
{
    char bytes[70];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 37);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        struct hash128 whole = hash_bytes(counting, bytes, n);
        for (size_t a = 0; a <= n; a++) {
            struct hash_state s;
            hash_init(&s, counting);
            hash_feed(&s, bytes, a);
            hash_feed(&s, bytes + a, (n - a) / 2);
            hash_feed(&s, bytes + a + (n - a) / 2, n - a - (n - a) / 2);
            must(hash_equal(hash_end(&s), whole));
        }
    }
}
END_TEST

START_TEST(every_bit_of_key_and_text_counts)
{
    char bytes[24] = "a text of some 24 bytes";
    struct hash128 h = hash_bytes(counting, bytes, sizeof bytes);
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        struct hash128 other = hash_bytes(counting, bytes, sizeof bytes);
        must(other.lo != h.lo && other.hi != h.hi);
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (int bit = 0; bit < 128; bit++) {
        struct hash_key key = counting;
        *(bit < 64 ? &key.k0 : &key.k1) ^= (uint64_t)1 << bit % 64;
        must(!hash_equal(hash_bytes(key, bytes, sizeof bytes), h));
    }
}
END_TEST

static struct hash128 two_texts(struct slice a, struct slice b)
{
    struct hash_state s;
    hash_init(&s, counting);
    hash_feed_text(&s, a);
    hash_feed_text(&s, b);
    return hash_end(&s);
}

START_TEST(texts_do_not_run_into_each_other)
{
    must(!hash_equal(two_texts(SLICE("ab"), SLICE("c")), two_texts(SLICE("a"), SLICE("bc"))));
    must(!hash_equal(two_texts(SLICE(""), SLICE("abc")), two_texts(SLICE("abc"), SLICE(""))));
}
END_TEST

START_TEST(case_can_be_ignored)
{
    struct hash_state a, b, c;
    const struct slice upper =
        SLICE("Quite-A-Long-Header-Name-That-Needs-More-Than-One-Round-Of-The-Buffer-In-It [@`{]");
    const struct slice lower =
        SLICE("quite-a-long-header-name-that-needs-more-than-one-round-of-the-buffer-in-it [@`{]");
    hash_init(&a, counting);
    hash_init(&b, counting);
    hash_init(&c, counting);
    hash_feed_text_nocase(&a, upper);
    hash_feed_text_nocase(&b, lower);
    hash_feed_text(&c, lower);
    struct hash128 ha = hash_end(&a);
    must(hash_equal(ha, hash_end(&b)));
    must(hash_equal(ha, hash_end(&c)));
}
END_TEST

/* As the same words fed one by one, without the count of bytes at the end. */
static struct hash128 two_in_words(struct hash128 number, struct slice a, struct slice b)
{
    static const char zeros[8];
    struct hash_state s;
    hash_init(&s, counting);
    hash_feed_u64(&s, number.lo);
    hash_feed_u64(&s, number.hi);
    hash_feed_u64(&s, (uint64_t)a.n << 32 | b.n);
    hash_feed(&s, a.p, a.n);
    hash_feed(&s, zeros, (8 - a.n % 8) % 8);
    hash_feed(&s, b.p, b.n);
    hash_feed(&s, zeros, (8 - b.n % 8) % 8);
    must(s.tail == 0);
    s.total = 0;
    return hash_end(&s);
}

START_TEST(two_texts_in_one_go)
{
    char text[40];
    const struct hash128 number = {1, 2}, other = {2, 1};
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 29 + 1);
    for (size_t n = 0; n <= sizeof text; n++) {
        for (size_t m = 0; n + m <= sizeof text; m++) {
            struct slice a = {text, n}, b = {text + n, m};
            struct hash128 h = hash_of_two(counting, number, a, b);
            must(hash_equal(h, two_in_words(number, a, b)));
            must(!hash_equal(h, hash_of_two(counting, other, a, b)));
            if (m > 0) { /* the border between them counts */
                struct slice longer = {text, n + 1}, shorter = {text + n + 1, m - 1};
                must(!hash_equal(h, hash_of_two(counting, number, longer, shorter)));
            }
        }
    }
    static const char zero[2];
    must(!hash_equal(hash_of_two(counting, number, SLICE("a"), (struct slice){zero, 1}),
                     hash_of_two(counting, number, SLICE("a"), (struct slice){zero, 2})));
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("hash");
    tcase_add_test(t, two_texts_in_one_go);
    tcase_add_test(t, siphash_2_4_128_vectors);
    tcase_add_test(t, the_cut_does_not_matter);
    tcase_add_test(t, every_bit_of_key_and_text_counts);
    tcase_add_test(t, texts_do_not_run_into_each_other);
    tcase_add_test(t, case_can_be_ignored);
    return run_case("hash", t);
}
