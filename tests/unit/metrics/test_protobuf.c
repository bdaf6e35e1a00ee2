/* metrics/protobuf.c: the wire format byte by byte, and a reader that trusts nothing. */
#include "metrics/protobuf.h"

#include <stdint.h>
#include <string.h>

#include "main.h"

static void expect(struct text *t, const char *bytes, size_t n)
{
    ck_assert(!t->failed);
    ck_assert_uint_eq(t->n, n);
    ck_assert_mem_eq(t->p, bytes, n);
    text_dispose(t);
}
#define EXPECT(t, bytes) expect(t, bytes, sizeof bytes - 1)

START_TEST(fields)
{
    struct text t = {0};
    pb_uint(&t, 1, 150); /* the example of the specification */
    EXPECT(&t, "\x08\x96\x01");
    pb_uint(&t, 2, UINT64_MAX);
    EXPECT(&t, "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    pb_sint(&t, 6, -1);
    pb_sint(&t, 6, 1);
    EXPECT(&t, "\x30\x01\x30\x02");
    pb_sint(&t, 1, INT64_MIN);
    EXPECT(&t, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    pb_string(&t, 2, "testing");
    EXPECT(&t, "\x12\x07testing");
    pb_fixed64(&t, 4, 258);
    EXPECT(&t, "\x21\x02\x01\0\0\0\0\0\0");
    pb_fixed32(&t, 16, 257);
    EXPECT(&t, "\x85\x01\x01\x01\0\0");
    pb_double(&t, 5, 1);
    EXPECT(&t, "\x29\0\0\0\0\0\0\xf0\x3f");
}
END_TEST

START_TEST(messages_inside_of_any_length)
{
    static const size_t sizes[] = {0, 1, 127, 128, 16383, 16384, 2097151, 2097152};
    char *content = calloc(1, 1 << 22);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct text t = {0};
        struct pb_field f;
        bool bad = false;
        size_t outer = pb_open(&t, 1), inner = pb_open(&t, 2);
        text_bytes(&t, content, sizes[i]);
        pb_close(&t, inner);
        pb_uint(&t, 3, 7);
        pb_close(&t, outer);
        struct pb_reader r = {(uint8_t *)t.p, (uint8_t *)t.p + t.n};
        ck_assert(pb_next(&r, &f, &bad) && f.number == 1 && f.kind == PB_LENGTH && r.p == r.end);
        struct pb_reader in = f.content;
        ck_assert(pb_next(&in, &f, &bad) && f.number == 2);
        ck_assert_uint_eq((size_t)(f.content.end - f.content.p), sizes[i]);
        ck_assert(pb_next(&in, &f, &bad) && f.number == 3 && f.value == 7);
        ck_assert(!pb_next(&in, &f, &bad) && !bad);
        text_dispose(&t);
    }
    free(content);
}
END_TEST

static bool is_bad(const char *bytes, size_t n)
{
    struct pb_reader r = {(const uint8_t *)bytes, (const uint8_t *)bytes + n};
    struct pb_field f;
    bool bad = false;
    while (pb_next(&r, &f, &bad))
        ck_assert(f.number > 0);
    return bad;
}
#define BAD(bytes) ck_assert(is_bad(bytes, sizeof bytes - 1))

START_TEST(what_is_malformed)
{
    BAD("\x08");                                             /* no value */
    BAD("\x08\x80");                                         /* half a number */
    BAD("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02");     /* more than 64 bits */
    BAD("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"); /* ten bytes and more */
    BAD("\x00\x01");                                         /* field 0 */
    BAD("\x0b");                                             /* a group */
    BAD("\x0f\x01");                                         /* no such kind */
    BAD("\x12\x02x");                                        /* longer than what is there */
    BAD("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x");    /* far longer */
    BAD("\x21\0\0\0\0\0\0\0");                               /* 7 of 8 bytes */
    BAD("\x25\0\0\0");                                       /* 3 of 4 bytes */
    ck_assert(!is_bad("", 0));
    ck_assert(!is_bad("\x25\0\0\0\0\x12\0", 7));
}
END_TEST

SUITE("metrics/protobuf", fields, messages_inside_of_any_length, what_is_malformed)
