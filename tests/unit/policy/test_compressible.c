/*
 * policy/compressible.c against what zlib makes of the same bytes (sizes by zlib 1.2.13, level 6).
 */
#include "policy/compressible.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

enum { ZLIB_ROWS = 642 }; /* of 4006 */

static size_t size_of(const char *p, size_t n)
{
    return compressible_size((struct slice){p, n});
}

/* The same rows that the python beside the figures was given. */
static size_t rows(char *out, size_t room)
{
    size_t n = 0;
    for (unsigned i = 0; n + 160 < room; i++)
        n += (size_t)snprintf(
            out + n, room - n,
            "{\"id\":%u,\"name\":\"prompt-%u\",\"version\":\"1.%u.0\",\"tags\":[\"a\",\"b\"],"
            "\"active\":%s,\"score\":%u}",
            i * 7919u % 10007u, i, i % 13, i % 3 ? "true" : "false", i * 104729u % 1000u);
    return n;
}

START_TEST(rows_of_json)
{
    char text[4096];
    size_t n = rows(text, sizeof text), size = size_of(text, n);
    printf("rows: %zu of %zu\n", size, n);
    ck_assert_uint_ge(size, ZLIB_ROWS * 9 / 10);
    ck_assert_uint_le(size, ZLIB_ROWS * 11 / 10);
}
END_TEST

START_TEST(noise_does_not_get_smaller)
{
    char noise[4096];
    uint32_t state = 1;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)((state = state * 1664525u + 1013904223u) >> 24);
    ck_assert_uint_ge(size_of(noise, sizeof noise), 4000);
    ck_assert_uint_eq(size_of("abc", 3), 3);
    ck_assert_uint_eq(size_of(NULL, 0), 0);
}
END_TEST

START_TEST(one_letter)
{
    char text[8000];
    memset(text, 'x', sizeof text);
    ck_assert_uint_le(size_of(text, sizeof text), 150);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("compressible");
    tcase_add_test(t, rows_of_json);
    tcase_add_test(t, noise_does_not_get_smaller);
    tcase_add_test(t, one_letter);
    return run_case("compressible", t);
}
