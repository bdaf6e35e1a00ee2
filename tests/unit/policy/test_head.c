/*
 * Field names to numbers, list fields over several lines, comparisons, and authorities.
 */
#include <check.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/head.h"
#include "policy/host.h"
#include "policy/octet.h"

static struct slice text(const char *s)
{
    return (struct slice){s, strlen(s)};
}

/* ---- names ---- */

static const char *const ids[FIELD_COUNT] = {
    "OTHER",
#define FIELD(id, name, flags) #id,
#include "policy/field.def"
#undef FIELD
};

static uint32_t name_key(struct slice s)
{
    return ((uint8_t)s.p[0] | (uint32_t)(uint8_t)s.p[s.n / 2] << 8 | (uint32_t)(uint8_t)s.p[s.n - 1] << 16 |
            0x202020u) |
           (uint32_t)s.n << 24;
}

static bool factor_fits(uint32_t factor, uint8_t slots[256])
{
    memset(slots, 0, 256);
    for (unsigned id = 1; id < FIELD_COUNT; id++) {
        uint32_t slot = (name_key(field_name((enum field_id)id)) * factor) >> 24;
        if (slots[slot])
            return false;
        slots[slot] = (uint8_t)id;
    }
    return true;
}

/* Prints what field.c must say, for whoever adds a row to field.def. */
static void print_table(void)
{
    uint8_t slots[256];
    uint32_t factor = 0xbab9f87fu;
    for (int tries = 0; tries < 10000000 && !factor_fits(factor, slots); tries++)
        factor = (factor * 1664525u + 1013904223u) | 1;
    printf("field.c does not know every row of field.def. Put there:\n#define HASH_FACTOR 0x%08xu\n", factor);
    for (int i = 0; i < 256; i++)
        if (slots[i])
            printf("    [%d] = FIELD_%s,\n", i, ids[slots[i]]);
    fflush(stdout); /* who fails next ends the process */
}

START_TEST(every_name_has_its_number)
{
    for (unsigned id = 1; id < FIELD_COUNT; id++) {
        struct slice name = field_name((enum field_id)id);
        if (field_lookup(name.p, name.n) != id) {
            print_table();
            ck_abort_msg("%.*s is not found", (int)name.n, name.p);
        }
    }
}
END_TEST

/* Each name in exact memory, in all letter cases, and with each byte changed to each other byte. */
START_TEST(no_other_name_has_a_number)
{
    for (unsigned id = 1; id < FIELD_COUNT; id++) {
        struct slice name = field_name((enum field_id)id);
        char *copy = malloc(name.n);
        ck_assert_ptr_nonnull(copy);
        for (size_t i = 0; i < name.n; i++)
            copy[i] = (char)toupper((unsigned char)name.p[i]);
        ck_assert_int_eq(field_lookup(copy, name.n), id);
        for (size_t n = 0; n < name.n; n++) { /* a shorter name may be another one of the table */
            enum field_id part = field_lookup(copy, n);
            ck_assert(part == FIELD_OTHER || slice_equal_nocase(field_name(part), (struct slice){copy, n}));
        }
        for (size_t i = 0; i < name.n; i++)
            for (int c = 0; c < 256; c++) {
                memcpy(copy, name.p, name.n);
                copy[i] = (char)c;
                bool same = tolower(c) == name.p[i];
                enum field_id got = field_lookup(copy, name.n);
                ck_assert_msg((got == id) == same, "%.*s with byte %d at %zu", (int)name.n, name.p, c, i);
            }
        free(copy);
    }
    ck_assert_int_eq(field_lookup("", 0), FIELD_OTHER);
    ck_assert_int_eq(field_lookup("x-a-name-that-is-longer-than-all", 32), FIELD_OTHER);
}
END_TEST

START_TEST(flags_of_names)
{
    ck_assert(field_is_hop(FIELD_CONNECTION) && !field_is_kept(FIELD_CONNECTION));
    ck_assert(!field_is_hop(FIELD_HOST) && field_is_kept(FIELD_HOST));
    ck_assert(!field_is_hop(FIELD_ACCEPT_LANGUAGE) && !field_is_kept(FIELD_ACCEPT_LANGUAGE));
    ck_assert(!field_is_hop(FIELD_OTHER) && !field_is_kept(FIELD_OTHER));
    ck_assert(!field_is_hop((enum field_id)200) && !field_is_kept((enum field_id)200));
    ck_assert_uint_eq(field_name(FIELD_OTHER).n, 0);
    ck_assert_uint_eq(field_name((enum field_id)200).n, 0);
    ck_assert(!field_is_hop(FIELD_COUNT) && !field_is_kept(FIELD_COUNT)); /* just behind the table */
    ck_assert_uint_eq(field_name(FIELD_COUNT).n, 0);
}
END_TEST

START_TEST(comparisons)
{
    ck_assert(slice_equal_nocase(text("aBc-1"), text("AbC-1")));
    ck_assert(!slice_equal_nocase(text("a@"), text("a`"))); /* 0x40 and 0x60 differ in the bit of the case */
    ck_assert(!slice_equal_nocase(text("a["), text("a{")));
    ck_assert(!slice_equal_nocase(text("abc"), text("abcd")));
    ck_assert(slice_equal_nocase((struct slice){NULL, 0}, text("")));
    ck_assert(slice_equal((struct slice){NULL, 0}, text("")));
    ck_assert(slice_equal(text("ab"), text("ab")));
    ck_assert(!slice_equal(text("ab"), text("aB")));
    ck_assert(!slice_equal(text("ab"), text("abc")));
}
END_TEST

/* The classes against the words of the RFCs. */
START_TEST(octet_classes)
{
    for (int c = 0; c < 256; c++) {
        bool alnum = c < 128 && isalnum(c);
        ck_assert_int_eq(octet_is((char)c, OCTET_TOKEN),
                         alnum || (c && c < 128 && strchr("!#$%&'*+-.^_`|~", c)));
        ck_assert_int_eq(octet_is((char)c, OCTET_TARGET), c > ' ' && c < 127 && c != '#');
        ck_assert_int_eq(octet_is((char)c, OCTET_CONTROL), (c < 32 && c != '\t') || c == 127);
        ck_assert_int_eq(octet_is((char)c, OCTET_HOST),
                         alnum || (c && c < 128 && strchr("-._~!$&'()*+;=", c)));
        ck_assert_int_eq(octet_is((char)c, OCTET_HEX), c < 128 && isxdigit(c));
        ck_assert_int_eq(octet_is_blank((char)c), c == ' ' || c == '\t');
        ck_assert_int_eq(octet_is_digit((char)c), c >= '0' && c <= '9');
    }
}
END_TEST

/* ---- lists ---- */

#define MAX_LINES 4

/* A head whose fields are these values, all with the id VARY but those that begin with `!`. */
static void make_head(struct head *h, struct field *fields, const char *const *values, char *memory)
{
    size_t at = 0;
    *h = (struct head){.base = memory, .fields = fields, .field_max = MAX_LINES};
    for (; *values; values++) {
        bool other = **values == '!';
        size_t n = strlen(*values);
        memcpy(memory + at, *values, n);
        fields[h->field_count++] = (struct field){
            .value = (uint32_t)at, .value_len = (uint32_t)n, .id = other ? FIELD_AGE : FIELD_VARY};
        h->present |= (uint64_t)1 << (other ? FIELD_AGE : FIELD_VARY);
        at += n;
    }
}

static const struct list_row {
    const char *lines[MAX_LINES + 1];
    const char *members; /* joined by `|` */
} list_rows[] = {
    {{NULL}, ""},
    {{"", NULL}, ""},
    {{"a", NULL}, "a"},
    {{"a,b , c\t,\td", NULL}, "a|b|c|d"},
    {{",,a,, ,b,", NULL}, "a|b"},
    {{" , ,", NULL}, ""},
    {{"a,b", "!x", "c", NULL}, "a|b|c"},
    {{"!x", "a", "", "b", NULL}, "a|b"},
    {{"a=\"x,y\", b", NULL}, "a=\"x,y\"|b"},
    {{"a=\"x\\\",y\", b", NULL}, "a=\"x\\\",y\"|b"},
    {{"a=\"x, b", "c", NULL}, "a=\"x, b|c"}, /* never closed: to the end of its line */
    {{"\"a\\", "b", NULL}, "\"a\\|b"},       /* an escape with nothing behind it */
    {{"a b;c=1, d", NULL}, "a b;c=1|d"},
};

START_TEST(list_members)
{
    const struct list_row *row = &list_rows[_i];
    struct field fields[MAX_LINES];
    struct head h;
    size_t at = 0, bytes = 1;
    for (int i = 0; row->lines[i]; i++)
        bytes += strlen(row->lines[i]);
    char got[256] = "", *memory = malloc(bytes);
    ck_assert_ptr_nonnull(memory);
    memory++; /* so that the last value ends with the memory */
    make_head(&h, fields, row->lines, memory);
    struct list_cursor cursor = {0};
    struct slice member;
    while (head_list_next(&h, FIELD_VARY, &cursor, &member))
        at += (size_t)snprintf(got + at, sizeof(got) - at, "%s%.*s", at ? "|" : "", (int)member.n, member.p);
    ck_assert_str_eq(got, row->members);
    ck_assert(!head_list_next(&h, FIELD_VARY, &cursor, &member)); /* the end stays the end */
    ck_assert(!head_list_next(&h, FIELD_VARY, &cursor, &member));
    free(memory - 1);
}
END_TEST

START_TEST(find_and_first)
{
    struct field fields[MAX_LINES];
    struct head h;
    char memory[64];
    make_head(&h, fields, (const char *const[]){"!1", "a", "b", NULL}, memory);
    ck_assert_int_eq(head_find(&h, FIELD_VARY, 0), 1);
    ck_assert_int_eq(head_find(&h, FIELD_VARY, 2), 2);
    ck_assert_int_eq(head_find(&h, FIELD_VARY, 3), -1);
    ck_assert_int_eq(head_find(&h, FIELD_HOST, 0), -1);
    ck_assert(slice_equal(head_first(&h, FIELD_VARY), text("a")));
    ck_assert_ptr_null(head_first(&h, FIELD_HOST).p);
    ck_assert(slice_equal(head_path(&h), text("/")));
}
END_TEST

/* ---- authorities (RFC 3986 3.2.2, 3.2.3) ---- */

static const char *const good_authorities[] = {
    "a",
    "example.com",
    "EXAMPLE.com.",
    "a_b-c~d",
    "a:80",
    "a:0",
    "a:65535",
    "a:00080",
    "a:",
    "127.0.0.1:8080",
    "999.1.1.1",
    "%41b",
    "a%41",
    "a%2Fb:1",
    "a!$&'()*+;=b",
    "[::]",
    "[::1]:443",
    "[1:2:3:4:5:6:7:8]",
    "[1:2:3:4:5:6:7::]",
    "[::2:3:4:5:6:7:8]",
    "[1::8]",
    "[2001:DB8::ff]",
    "[::ffff:1.2.3.4]",
    "[1:2:3:4:5:6:255.0.10.99]",
    "[1::5:6:1.2.3.4]",
    "[::1]:",
    "[::2:3:4:5:6:1.2.3.4]",
    "[1::4:5:6:7:1.2.3.4]",
};

static const char *const bad_authorities[] = {
    "",
    ":",
    ":80",
    "a b",
    "a\t",
    "a,b",
    "a, b",
    "u@a",
    "u:p@a",
    "@",
    "a/b",
    "a?b",
    "a#b",
    "a\\b",
    "a<b",
    "a\"",
    "a|b",
    "a^b",
    "a`",
    "a{b}",
    "a:65536",
    "a:99999",
    "a:000080",
    "a:-1",
    "a:+1",
    "a:8x",
    "a: 80",
    "a:80:80",
    "a:80 ",
    "%",
    "%4",
    "%4g",
    "a%zz",
    "\xc3\xa9",
    "a\x7f",
    "[",
    "]",
    "[]",
    "[:]",
    "[:::]",
    "[::1",
    "::1",
    "[::1]x",
    "[::1]80",
    "[1:2:3:4:5:6:7]",
    "[1:2:3:4:5:6:7:8:9]",
    "[1:2:3:4:5:6:7::8]",
    "[::1::2]",
    "[1:]",
    "[:1]",
    "[1:2:3:4:5:6:7:]",
    "[:2:3:4:5:6:7:8]",
    "[12345::]",
    "[g::]",
    "[::1.2.3]",
    "[::1.2.3.4.5]",
    "[::1.2.3.256]",
    "[::01.2.3.4]",
    "[::1.2.3.4:5]",
    "[1:2:3:4:5:6:7:1.2.3.4]",
    "[1:2:3:4:5:1.2.3.4]",
    "[1.2.3.4]",
    "[1::3:4:5:6:7:1.2.3.4]",
    "[::1.2.3.]",
    "[::1..3.4]",
    "[::1.2.3.1234]",
    "[fe80::1%25eth0]",
    "[v1.a]",
    "[::1]@a",
    "a[::1]",
    "[[::1]]",
    "[::1]]",
};

static bool valid_copy(const char *s, size_t n)
{
    char *copy = malloc(n ? n : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, s, n);
    bool valid = authority_valid((struct slice){copy, n});
    free(copy);
    return valid;
}

START_TEST(authorities)
{
    for (size_t i = 0; i < ARRAY_LEN(good_authorities); i++)
        ck_assert_msg(valid_copy(good_authorities[i], strlen(good_authorities[i])), "%s",
                      good_authorities[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad_authorities); i++)
        ck_assert_msg(!valid_copy(bad_authorities[i], strlen(bad_authorities[i])), "%s", bad_authorities[i]);
    ck_assert(!valid_copy("a\0b", 3));
    ck_assert(!valid_copy("a\0", 2));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("head");
    TCase *tc = tcase_create("head");
    tcase_add_test(tc, every_name_has_its_number);
    tcase_add_test(tc, no_other_name_has_a_number);
    tcase_add_test(tc, flags_of_names);
    tcase_add_test(tc, comparisons);
    tcase_add_test(tc, octet_classes);
    tcase_add_loop_test(tc, list_members, 0, (int)ARRAY_LEN(list_rows));
    tcase_add_test(tc, find_and_first);
    tcase_add_test(tc, authorities);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
