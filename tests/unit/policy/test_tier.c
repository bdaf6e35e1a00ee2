/* Tests of policy/tier.c: prices from windows, and where entries belong at a price. */
#include "policy/tier.h"
#include "tests/unit/policy/harness.h"

#include <math.h>
#include <string.h>

/* 50 ms a miss; memory that would hold a megabyte more would save ten of them a second. */
static const struct tier_window wanted = {
    .seconds = 10, .regrets = 100, .regret_bytes = 1 << 20, .fetch_ns = 50e6};

static double price_after(const struct tier_window *w, int times)
{
    double price = 0;
    while (times-- > 0)
        price = tier_price(price, w);
    return price;
}

START_TEST(the_price_is_what_a_byte_more_would_save)
{
    ck_assert_double_eq_tol(price_after(&wanted, 100), 10 * 50e6 / (1 << 20), 0.01);
    struct tier_window quiet = wanted;
    quiet.regrets = 0;
    ck_assert_double_eq(price_after(&quiet, 5), 0);
    quiet.regret_bytes = 0;
    ck_assert_double_eq(price_after(&quiet, 5), 0);
}
END_TEST

START_TEST(what_compression_gains_keeps_its_price)
{
    /* Nothing is missed any more, but what is hit lies compressed: plain it would not fit. */
    struct tier_window cold = {.seconds = 10, .cold_uses = 100, .cold_bytes = 1 << 20, .fetch_ns = 50e6};
    ck_assert_double_eq_tol(price_after(&cold, 100), 10 * 50e6 / (1 << 20), 0.01);
    double price = price_after(&wanted, 100);
    struct tier_window nothing = {.seconds = 30};
    ck_assert_double_eq_tol(tier_price(price, &nothing), price / exp(1), 0.01);
    nothing.seconds = 0;
    ck_assert_double_eq(tier_price(price, &nothing), price);
}
END_TEST

START_TEST(rates_follow)
{
    double rate = 0;
    for (int i = 0; i < 20; i++)
        rate = tier_rate(rate, 6, 2);
    ck_assert_double_eq_tol(rate, 3, 0.001);
    for (int i = 0; i < 20; i++)
        rate = tier_rate(rate, 0, 2);
    must(rate < 1e-4);
    ck_assert_double_eq(tier_rate(1.5, 7, 0), 1.5);
}
END_TEST

START_TEST(each_where_it_pays)
{
    struct tier_market market = {.price = 500, .unpack_ns = 3, .ratio = 0.4};
    struct tier_facts f = {.plain = 2000, .squeezable = true, .pressed = true};
    ck_assert_int_eq(tier_judge(&market, &f), TIER_COLD); /* 1200 bytes * 500 against nothing */
    f.rate = 40;                                          /* 240,000 ns/s against 600,000 / 2 */
    ck_assert_int_eq(tier_judge(&market, &f), TIER_COLD);
    f.rate = 60; /* 360,000 */
    ck_assert_int_eq(tier_judge(&market, &f), TIER_WARM);
    f.rate = 101;
    ck_assert_int_eq(tier_judge(&market, &f), TIER_HOT);
    f.now = TIER_COLD; /* it is thawed for good at twice what it saves */
    f.packed = 800;
    ck_assert_int_eq(tier_judge(&market, &f), TIER_COLD);
    f.rate = 201;
    ck_assert_int_eq(tier_judge(&market, &f), TIER_HOT);
}
END_TEST

START_TEST(nothing_is_compressed_for_nothing)
{
    struct tier_market none = {0}, market = {.price = 500, .unpack_ns = 3, .ratio = 0.4};
    struct tier_facts f = {.plain = 2000, .squeezable = true, .pressed = true};
    ck_assert_int_eq(tier_judge(&none, &f), TIER_WARM);
    f.rate = 1;
    ck_assert_int_eq(tier_judge(&none, &f), TIER_HOT); /* used, and its bytes are worth nothing */
    f.rate = 0;
    f.pressed = false;
    ck_assert_int_eq(tier_judge(&market, &f), TIER_WARM);
    f.pressed = true;
    f.squeezable = false;
    ck_assert_int_eq(tier_judge(&market, &f), TIER_WARM);
    f.squeezable = true;
    f.packed = 2500; /* larger than before */
    ck_assert_int_eq(tier_judge(&market, &f), TIER_WARM);
}
END_TEST

/* Whatever the numbers: what was just put into one tier does not belong into another at once. */
START_TEST(nothing_goes_to_and_fro)
{
    for (double price = 1e-6; price < 1e9; price *= 7)
        for (double rate = 0; rate < 1e6; rate = rate * 5 + 1e-4)
            for (double packed = 100; packed < 2000; packed *= 1.7) {
                struct tier_market market = {.price = price, .unpack_ns = 2, .ratio = packed / 2000};
                struct tier_facts f = {.plain = 2000, .rate = rate, .squeezable = true, .pressed = true};
                enum tier tier = tier_judge(&market, &f);
                f.now = tier;
                f.packed = tier == TIER_COLD ? packed : 0;
                must(tier_judge(&market, &f) == tier);
            }
}
END_TEST

START_TEST(on_disk_use_spares_but_not_for_ever)
{
    must(tier_spares(0, 2000, 1 << 20));
    must(!tier_spares(64, 2000, 1 << 20));
    must(!tier_spares(0, 1 << 15, 1 << 20));
    ck_assert_str_eq(tier_name(TIER_COLD), "cold");
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("tier");
    tcase_add_test(t, the_price_is_what_a_byte_more_would_save);
    tcase_add_test(t, what_compression_gains_keeps_its_price);
    tcase_add_test(t, rates_follow);
    tcase_add_test(t, each_where_it_pays);
    tcase_add_test(t, nothing_is_compressed_for_nothing);
    tcase_add_test(t, nothing_goes_to_and_fro);
    tcase_add_test(t, on_disk_use_spares_but_not_for_ever);
    return run_case("policy/tier", t);
}
