/*
 * Directives (RFC 9111 5.2) and targeted fields (RFC 9213), as tables.
 */
#include "policy/cache_control.h"

#include "tests/unit/message.h"

enum { NONE = -1, BAD = -2 };

#define MOST ((int64_t)1 << 31)

static struct cache_control read_response(const char *text)
{
    struct message m;
    struct cache_control cc;
    response_text(&m, text);
    cache_control_read(&m.head, &cc);
    return cc;
}

/* RFC 9111 5.2, 4.2.1: numbers. */
START_TEST(seconds)
{
    static const struct {
        const char *value;
        int64_t max_age;
    } rows[] = {
        {"max-age=5", 5},
        {"MAX-AGE=5", 5},     /* names without case */
        {"max-age=\"5\"", 5}, /* quoted numbers read as numbers */
        {"max-age=007", 7},
        {"max-age=0", 0},
        {"foo, max-age=5, bar=\"x, y\"", 5},
        {"foo=\"max-age=9\", max-age=5", 5},              /* quoted strings respected */
        {"foo=\"a\\\", max-age=9, \\\"\", max-age=5", 5}, /* with their escapes */
        {"max-age=5, max-age=9", 5},                      /* the first of duplicates counts */
        {"max-age=x, max-age=9", BAD},
        {"max-age=2147483647", 2147483647},
        {"max-age=2147483648", MOST},
        {"max-age=2147483649", MOST},                    /* clamped */
        {"max-age=99999999999999999999999999999", MOST}, /* and never wrapped */
        {"max-age", BAD},
        {"max-age=", BAD},
        {"max-age=\"\"", BAD},
        {"max-age= 5", BAD},
        {"max-age =5", NONE}, /* no directive of that name */
        {"max-age=-5", BAD},
        {"max-age=+5", BAD},
        {"max-age=5.0", BAD},
        {"max-age=5s", BAD},
        {"max-age='5'", BAD},
        {"max-age=\"5", BAD},
        {"max-age=5 6", BAD},
        {"max-age=5;x", BAD},
        {"xmax-age=5", NONE},
        {"max-agex=5", NONE},
        {"max-age:5", NONE},
        {"=5", NONE},
        {"", NONE},
        {", ,", NONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[200];
        snprintf(text, sizeof text, "200 | Cache-Control: %s", rows[i].value);
        struct cache_control cc = read_response(text);
        if (cc.max_age != rows[i].max_age)
            ck_abort_msg("%s: %lld", rows[i].value, (long long)cc.max_age);
    }
}
END_TEST

START_TEST(flags)
{
    static const struct {
        const char *value;
        uint32_t flags;
    } rows[] = {
        {"no-store", CC_NO_STORE},
        {"No-Store", CC_NO_STORE},
        {"no-store=1", CC_NO_STORE},
        {"no-storex", 0},
        {"no-cache", CC_NO_CACHE},
        {"no-cache=\"a\"", CC_NO_CACHE_FIELDS},
        {"no-cache=a", CC_NO_CACHE_FIELDS},
        {"no-cache=\"\"", CC_NO_CACHE}, /* names nothing: may have meant all */
        {"no-cache=", CC_NO_CACHE},
        {"no-cache=\"a", CC_NO_CACHE}, /* broken off: likewise */
        {"no-cache=\"a, b\", no-cache", CC_NO_CACHE_FIELDS | CC_NO_CACHE},
        {"private", CC_PRIVATE},
        {"private=\"a\"", CC_PRIVATE_FIELDS},
        {"public", CC_PUBLIC},
        {"must-revalidate, proxy-revalidate", CC_MUST_REVALIDATE | CC_PROXY_REVALIDATE},
        {"must-understand, no-store", CC_MUST_UNDERSTAND | CC_NO_STORE},
        {"no-transform", CC_NO_TRANSFORM},
        {"immutable", CC_IMMUTABLE},
        {"only-if-cached", CC_ONLY_IF_CACHED},
        {"max-stale", CC_MAX_STALE_ANY},
        {"max-stale=5", 0},
        {"foo=\"no-store\"", 0},
        {"community=\"UCI\"", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[200];
        snprintf(text, sizeof text, "200 | Cache-Control: %s", rows[i].value);
        struct cache_control cc = read_response(text);
        if (cc.flags != rows[i].flags)
            ck_abort_msg("%s: %x", rows[i].value, cc.flags);
    }
}
END_TEST

START_TEST(several_lines_are_one_list)
{
    struct cache_control cc =
        read_response("200 | Cache-Control: max-age=5 | X: y | cache-control: max-age=9, s-maxage=7 | "
                      "Cache-Control: stale-while-revalidate=3, stale-if-error=4, min-fresh=1, max-stale=2");
    must(cc.seen);
    ck_assert_int_eq(cc.max_age, 5);
    ck_assert_int_eq(cc.s_maxage, 7);
    ck_assert_int_eq(cc.stale_while_revalidate, 3);
    ck_assert_int_eq(cc.stale_if_error, 4);
    ck_assert_int_eq(cc.min_fresh, 1);
    ck_assert_int_eq(cc.max_stale, 2);
    cc = read_response("200 | X: y");
    must(!cc.seen && cc.flags == 0);
    must(cc.max_age == NONE && cc.s_maxage == NONE && cc.min_fresh == NONE && cc.max_stale == NONE);
    must(cc.stale_while_revalidate == NONE && cc.stale_if_error == NONE);
}
END_TEST

/* RFC 9111 5.2.2.4, 5.2.2.7: the names in the qualified forms. */
START_TEST(names_of_fields)
{
    struct message m;
    struct cc_name_cursor cursor = {{0, 0}, {NULL, 0}};
    struct slice name;
    char all[200] = "";
    response_text(&m, "200 | Cache-Control: no-cache=\"a, B ,,c\", private=\"p\", max-age=5 | Cache-Control: "
                      "no-cache=d, foo=\"e\"");
    while (cache_control_next_name(&m.head, CC_NO_CACHE_FIELDS, &cursor, &name)) {
        strncat(all, name.p, name.n);
        strcat(all, ";");
    }
    ck_assert_str_eq(all, "a;B;c;d;");
    cursor = (struct cc_name_cursor){{0, 0}, {NULL, 0}};
    must(cache_control_next_name(&m.head, CC_PRIVATE_FIELDS, &cursor, &name) &&
         slice_equal(name, SLICE("p")));
    must(!cache_control_next_name(&m.head, CC_PRIVATE_FIELDS, &cursor, &name));
}
END_TEST

/* RFC 9213 2.1, RFC 8941: an invalid field is ignored whole, a wrong-typed directive alone. */
START_TEST(targeted_fields)
{
    static const struct {
        const char *value;
        bool valid;
        int64_t max_age;
        uint32_t flags;
    } rows[] = {
        {"max-age=5", true, 5, 0},
        {"max-age=5, no-store", true, 5, CC_NO_STORE},
        {"max-age=5,no-store", true, 5, CC_NO_STORE},
        {"max-age=5;x=1;y, private", true, 5, CC_PRIVATE}, /* parameters are nobody's business */
        {"max-age=5, max-age=9", true, 9, 0},              /* the last counts in a dictionary */
        {"no-store=?1", true, NONE, CC_NO_STORE},
        {"no-store=?0", true, NONE, 0},
        {"no-store, no-store=?0", true, NONE, 0},
        {"max-age=\"5\"", true, NONE, 0}, /* wrong type */
        {"max-age=5.5", true, NONE, 0},
        {"max-age=?1", true, NONE, 0},
        {"max-age", true, NONE, 0},
        {"max-age=-1", true, BAD, 0},
        {"max-age=999999999999999", true, MOST, 0},
        {"no-store=1", true, NONE, 0},
        {"no-store=\"x\"", true, NONE, 0},
        {"no-cache=\"a\"", true, NONE, CC_NO_CACHE}, /* the safer reading */
        {"unknown=(a b \"c\");p, max-age=5", true, 5, 0},
        {"u=:aGk=:, v=*t/x:y, w=-1.5, max-age=5", true, 5, 0},
        {"a\t,\t max-age=5", true, 5, 0},
        {"Max-Age=5", false, NONE, 0}, /* keys are case-sensitive */
        {"max-age=5, NO-STORE", false, NONE, 0},
        {"max-age =5", false, NONE, 0},
        {"max-age= 5", false, NONE, 0},
        {"max-age=5,", false, NONE, 0},
        {",max-age=5", false, NONE, 0},
        {"max-age=5,,no-store", false, NONE, 0},
        {"max-age=5 no-store", false, NONE, 0},
        {"max-age=5s", false, NONE, 0},
        {"max-age=", false, NONE, 0},
        {"max-age=9999999999999999", false, NONE, 0}, /* sixteen digits */
        {"max-age=1.2345", false, NONE, 0},
        {"max-age=1.", false, NONE, 0},
        {"x=\"abc", false, NONE, 0},
        {"x=\"a\\b\"", false, NONE, 0},
        {"x=(a b, max-age=5", false, NONE, 0},
        {"x=(a\"b\")", false, NONE, 0},
        {"x=:a*b:", false, NONE, 0},
        {"x=?2", false, NONE, 0},
        {"x;=1", false, NONE, 0},
        {"x=$", false, NONE, 0},
        {"", false, NONE, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[200];
        struct message m;
        struct cache_control cc;
        snprintf(text, sizeof text, "200 | Cache-Control: max-age=77 | cdn-cache-control: %s", rows[i].value);
        response_text(&m, text);
        bool valid = cache_control_read_targeted(&m.head, SLICE("CDN-Cache-Control"), &cc);
        if (valid != rows[i].valid || cc.max_age != rows[i].max_age || cc.flags != rows[i].flags)
            ck_abort_msg("%s: %d, %lld, %x", rows[i].value, valid, (long long)cc.max_age, cc.flags);
    }
}
END_TEST

START_TEST(targeted_fields_by_any_name_and_over_lines)
{
    struct message m;
    struct cache_control cc;
    response_text(&m, "200 | Sidecar-Cache-Control: max-age=5 | sidecar-cache-control: no-store");
    must(cache_control_read_targeted(&m.head, SLICE("Sidecar-Cache-Control"), &cc));
    must(cc.max_age == 5 && cc.flags == CC_NO_STORE);
    must(!cache_control_read_targeted(&m.head, SLICE("CDN-Cache-Control"), &cc));
    response_text(&m, "200 | Sidecar-Cache-Control: max-age=5 | sidecar-cache-control: ");
    must(!cache_control_read_targeted(&m.head, SLICE("Sidecar-Cache-Control"), &cc));
    must(cc.max_age == NONE);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("cache_control");
    tcase_add_test(t, seconds);
    tcase_add_test(t, flags);
    tcase_add_test(t, several_lines_are_one_list);
    tcase_add_test(t, names_of_fields);
    tcase_add_test(t, targeted_fields);
    tcase_add_test(t, targeted_fields_by_any_name_and_over_lines);
    return run_case("cache_control", t);
}
