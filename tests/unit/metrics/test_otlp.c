/* metrics/otlp.c: text that is not UTF-8. Whole messages are read by independent decoders in
 * tests/wire/test_64. */
#include "metrics/otlp.h"

#include <string.h>

#include "main.h"

static void shown(const char *in, size_t n, const char *out)
{
    struct text t = {0};
    size_t k = strlen(out);
    otlp_bytes(&t, 1, "k", in, n);
    ck_assert(!t.failed && t.n == k + 9);
    ck_assert_mem_eq(t.p + 9, out, k);
    text_dispose(&t);
}
#define SHOWN(in, out) shown(in, sizeof in - 1, out)

START_TEST(text_is_utf8)
{
    SHOWN("plain", "plain");
    SHOWN("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    SHOWN("a\xff\x80z", "a%FF%80z");
    SHOWN("\xc0\xaf", "%C0%AF");               /* overlong */
    SHOWN("\xe0\x80\xaf", "%E0%80%AF");        /* likewise */
    SHOWN("\xed\xa0\x80", "%ED%A0%80");        /* a surrogate */
    SHOWN("\xf4\x90\x80\x80", "%F4%90%80%80"); /* beyond Unicode */
    SHOWN("\xe2\x82", "%E2%82");               /* cut */
}
END_TEST

SUITE("metrics/otlp", text_is_utf8)
