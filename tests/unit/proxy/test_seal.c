/* seal.c: known answers, and that nothing but the whole box in its place opens. */
#include "proxy/seal.h"
#include "tests/unit/message.h"

static struct sealer *s;

START_TEST(derived_keys_differ_by_all_that_goes_in)
{
    struct seal_key none, a, b, c, d;
    struct slice ab[] = {SLICE("a"), SLICE("b")}, other[] = {SLICE("ab"), SLICE("")};
    ck_assert(seal_derive(s, NULL, "x", NULL, 0, &none));
    ck_assert(seal_derive(s, NULL, "x", ab, 2, &a));
    ck_assert(seal_derive(s, NULL, "x", other, 2, &b));
    ck_assert(seal_derive(s, NULL, "y", ab, 2, &c));
    ck_assert(seal_derive(s, &a, "x", ab, 2, &d));
    const struct seal_key *keys[] = {&none, &a, &b, &c, &d};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        for (size_t j = i + 1; j < ARRAY_LEN(keys); j++)
            ck_assert_mem_ne(keys[i], keys[j], sizeof(a));
    ck_assert(seal_derive(s, NULL, "x", ab, 2, &b));
    ck_assert_mem_eq(&a, &b, sizeof(a));
}
END_TEST

/* Python: hmac.new(b"", (1).to_bytes(8,"little") + b"x", "sha256") */
START_TEST(it_is_hmac)
{
    static const unsigned char wanted[] = {0x82, 0xc5, 0x4f, 0x4e, 0x62, 0xc7, 0xa8, 0x9d, 0x6d, 0x65, 0x25,
                                           0x43, 0x56, 0xf4, 0xce, 0xfd, 0x66, 0x68, 0xcb, 0xc0, 0xf4, 0xaf,
                                           0x9d, 0x41, 0xd8, 0x9f, 0x21, 0x02, 0x28, 0xd3, 0xe8, 0xfe};
    struct seal_key k;
    ck_assert(seal_derive(s, NULL, "x", NULL, 0, &k));
    ck_assert_mem_eq(k.bytes, wanted, sizeof(wanted));
}
END_TEST

START_TEST(only_the_whole_box_opens)
{
    struct seal_key k, other;
    char box[5 + SEAL_MORE], out[64];
    const struct slice place = SLICE("here"), all = {box, sizeof(box)};
    ck_assert(seal_derive(s, NULL, "x", NULL, 0, &k) && seal_derive(s, NULL, "y", NULL, 0, &other));
    ck_assert(seal_close(s, &k, place, SLICE("hello"), box));
    ck_assert(seal_open(s, &k, place, all, out));
    ck_assert_mem_eq(out, "hello", 5);
    ck_assert(!seal_open(s, &other, place, all, out));
    ck_assert(!seal_open(s, &k, SLICE("there"), all, out));
    for (size_t n = 0; n < sizeof(box); n++)
        ck_assert(!seal_open(s, &k, place, (struct slice){box, n}, out));
    for (size_t i = 0; i < sizeof(box) * 8; i++) {
        box[i / 8] ^= (char)(1 << i % 8);
        ck_assert(!seal_open(s, &k, place, all, out));
        box[i / 8] ^= (char)(1 << i % 8);
    }
    ck_assert(seal_open(s, &k, place, all, out));
}
END_TEST

START_TEST(empty_boxes_and_fresh_nonces)
{
    struct seal_key k;
    char a[SEAL_MORE], b[SEAL_MORE], out[1];
    ck_assert(seal_derive(s, NULL, "x", NULL, 0, &k));
    ck_assert(seal_close(s, &k, SLICE(""), SLICE(""), a) && seal_close(s, &k, SLICE(""), SLICE(""), b));
    ck_assert_mem_ne(a, b, SEAL_NONCE);
    ck_assert(seal_open(s, &k, SLICE(""), (struct slice){a, sizeof(a)}, out));
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("seal");
    s = sealer_new();
    tcase_add_test(t, derived_keys_differ_by_all_that_goes_in);
    tcase_add_test(t, it_is_hmac);
    tcase_add_test(t, only_the_whole_box_opens);
    tcase_add_test(t, empty_boxes_and_fresh_nonces);
    int failed = run_case("seal", t);
    sealer_free(s);
    return failed;
}
