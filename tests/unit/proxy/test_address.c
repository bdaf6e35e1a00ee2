/* Endpoints as text, both ways, and lists of addresses. */
#include "proxy/address.h"

#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

struct good {
    const char *text, *host, *base, *authority;
    enum endpoint_kind kind;
    int port;
    bool tls;
};

static const struct good urls[] = {
    {"http://api.promptops.ai", "api.promptops.ai", "", "api.promptops.ai", ENDPOINT_TCP, 80, false},
    {"https://api.promptops.ai", "api.promptops.ai", "", "api.promptops.ai", ENDPOINT_TCP, 443, true},
    {"https://api.promptops.ai/", "api.promptops.ai", "", "api.promptops.ai", ENDPOINT_TCP, 443, true},
    {"https://api:8443/v1/x//", "api", "/v1/x", "api:8443", ENDPOINT_TCP, 8443, true},
    {"http://h:443", "h", "", "h:443", ENDPOINT_TCP, 443, false},
    {"http://127.0.0.1:1", "127.0.0.1", "", "127.0.0.1:1", ENDPOINT_TCP, 1, false},
    {"http://[::1]", "::1", "", "[::1]", ENDPOINT_TCP, 80, false},
    {"https://[2001:db8::7]:65535/a", "2001:db8::7", "/a", "[2001:db8::7]:65535", ENDPOINT_TCP, 65535, true},
    {"unix:/run/app.sock", "/run/app.sock", "", "localhost", ENDPOINT_UNIX, 0, false},
};

START_TEST(good_urls)
{
    struct endpoint e;
    char err[128] = "", text[400];
    const struct good *g = &urls[_i];
    ck_assert_msg(endpoint_parse_url(g->text, &e, err, sizeof(err)), "%s: %s", g->text, err);
    ck_assert_str_eq(e.host, g->host);
    ck_assert_str_eq(e.base, g->base);
    ck_assert_int_eq(e.kind, g->kind);
    ck_assert_int_eq(e.port, g->port);
    ck_assert_int_eq(e.tls, g->tls);
    ck_assert_uint_eq(endpoint_authority(&e, text, sizeof(text)), strlen(g->authority));
    ck_assert_str_eq(text, g->authority);
}
END_TEST

static const char *const bad_urls[] = {
    "",
    "api.promptops.ai",
    "ftp://x",
    "HTTP//x",
    "http://",
    "http:///x",
    "http://:80",
    "http://a:",
    "http://a:0",
    "http://a:65536",
    "http://a:123456",
    "http://a:8x",
    "http://a:+8",
    "http://a: 8",
    "http://u@a",
    "http://u:p@a/",
    "http://a/b?c",
    "http://a#b",
    "http://a?b",
    "http://a b",
    "http://a/b c",
    "http://a/\x01",
    "http://::1",
    "http://[::1",
    "http://[::1]x",
    "http://[a]",
    "http://[127.0.0.1]",
    "http://[]",
    "http://a/\xc3\xa9",
    "unix:",
    "unix:run",
    "http://a\\b",
};

START_TEST(bad_urls_are_refused)
{
    struct endpoint e;
    char err[128] = "";
    ck_assert_msg(!endpoint_parse_url(bad_urls[_i], &e, err, sizeof(err)), "%s", bad_urls[_i]);
    ck_assert_msg(strlen(err) > 10, "%s: %s", bad_urls[_i], err);
}
END_TEST

static const char *const listeners[][2] = {
    {"127.0.0.1:8080", "127.0.0.1:8080"},
    {"localhost:0", "localhost:0"},
    {"[::]:9901", "[::]:9901"},
    {"*:80", "*:80"},
    {":80", "*:80"},
    {"unix:/run/a b.sock", "unix:/run/a b.sock"},
};

START_TEST(good_listeners)
{
    struct endpoint e;
    char err[128] = "", text[400];
    ck_assert_msg(endpoint_parse(listeners[_i][0], &e, err, sizeof(err)), "%s", err);
    endpoint_format(&e, text, sizeof(text));
    ck_assert_str_eq(text, listeners[_i][1]);
}
END_TEST

static const char *const bad_listeners[] = {
    "",       "8080",  "localhost", "127.0.0.1", "a:65536", "a:-1",  "a:",
    "::1:80", "[::1]", "[::1]80",   "unix:",     "unix:a",  "a b:1",
};

START_TEST(bad_listeners_are_refused)
{
    struct endpoint e;
    char err[128] = "";
    ck_assert_msg(!endpoint_parse(bad_listeners[_i], &e, err, sizeof(err)), "%s", bad_listeners[_i]);
    ck_assert_msg(strlen(err) > 10, "%s", err);
}
END_TEST

START_TEST(too_long)
{
    struct endpoint e;
    char text[2000] = "http://", err[128];
    memset(text + 7, 'a', 255);
    ck_assert(endpoint_parse_url(text, &e, err, sizeof(err)));
    text[262] = 'a';
    ck_assert(!endpoint_parse_url(text, &e, err, sizeof(err)));
    memset(text, 'a', sizeof(text));
    memcpy(text, "http://a/", 9);
    text[8 + 1023] = 0;
    ck_assert(endpoint_parse_url(text, &e, err, sizeof(err)));
    text[8 + 1023] = 'a';
    text[8 + 1024] = 0;
    ck_assert(!endpoint_parse_url(text, &e, err, sizeof(err)));
    memcpy(text, "unix:/", 6);
    text[5 + 107] = 0;
    ck_assert(endpoint_parse(text, &e, err, sizeof(err)));
    text[5 + 107] = 'a';
    text[5 + 108] = 0;
    ck_assert(!endpoint_parse(text, &e, err, sizeof(err)));
}
END_TEST

/* Every prefix of what is good, and every byte of it replaced: no crash, and what is taken is well formed. */
START_TEST(damaged_text)
{
    struct endpoint e;
    char text[64], err[64];
    for (size_t u = 0; u < ARRAY_LEN(urls); u++) {
        size_t n = strlen(urls[u].text);
        for (size_t at = 0; at <= n; at++) {
            for (int byte = 0; byte < 256; byte++) {
                memcpy(text, urls[u].text, n + 1);
                text[at] = (char)byte;
                if (!endpoint_parse_url(text, &e, err, sizeof(err)))
                    continue;
                if (e.host[0] == 0 || strpbrk(e.host, e.kind == ENDPOINT_UNIX ? "\r\n" : "\r\n@[]") ||
                    strpbrk(e.base, "\r\n ?#"))
                    ck_abort_msg("took %s", text);
            }
        }
    }
}
END_TEST

START_TEST(literals)
{
    struct endpoint e;
    struct address a;
    char err[64], text[ADDRESS_TEXT_MAX];
    const char *const same[] = {"127.0.0.1:80", "[::1]:8080", "[2001:db8::1]:1", "unix:/run/x"};
    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        ck_assert(endpoint_parse(same[i], &e, err, sizeof(err)));
        ck_assert(endpoint_literal(&e, &a));
        ck_assert_uint_eq(address_format(&a, text, sizeof(text)), strlen(same[i]));
        ck_assert_str_eq(text, same[i]);
    }
    ck_assert(endpoint_parse("*:7", &e, err, sizeof(err)) && endpoint_literal(&e, &a));
    address_format(&a, text, sizeof(text));
    ck_assert_str_eq(text, "0.0.0.0:7");
    ck_assert(endpoint_parse("localhost:7", &e, err, sizeof(err)) && !endpoint_literal(&e, &a));
    ck_assert(address_is_ip("127.0.0.1") && address_is_ip("::1") && address_is_ip("fe80::1%1"));
    ck_assert(!address_is_ip("127.0.0.1.nip.io") && !address_is_ip("1.2.3") && !address_is_ip("") &&
              !address_is_ip("fe80::1%") && !address_is_ip("fe80::1%nonesuch") && !address_is_ip("::1%0"));
}
END_TEST

START_TEST(formats_are_cut_not_overrun)
{
    struct endpoint e;
    char err[64], text[400];
    ck_assert(endpoint_parse("localhost:8080", &e, err, sizeof(err)));
    for (size_t size = 1; size < 16; size++) {
        memset(text, 'x', sizeof(text));
        size_t n = endpoint_format(&e, text, size);
        ck_assert_uint_eq(n, size - 1 < 14 ? size - 1 : 14);
        ck_assert_int_eq(text[n], 0);
        ck_assert_int_eq(text[size], 'x');
    }
    ck_assert_uint_eq(endpoint_format(&e, text, 0), 0);
}
END_TEST

static struct address of(const char *text)
{
    struct endpoint e;
    struct address a;
    char err[64];
    ck_assert(endpoint_parse(text, &e, err, sizeof(err)) && endpoint_literal(&e, &a));
    return a;
}

START_TEST(lists)
{
    struct address at[3] = {of("127.0.0.1:80"), of("[::1]:80"), of("unix:/x")};
    struct address other[4] = {of("127.0.0.1:81"), of("127.0.0.2:80"), of("[::2]:80"), of("unix:/y")};
    struct address_list *list = address_list_new(at, 3);
    ck_assert_ptr_nonnull(list);
    ck_assert_ptr_eq(address_list_ref(list), list);
    address_list_unref(list);
    for (int i = 0; i < 3; i++)
        ck_assert(address_list_has(list, &at[i]));
    for (int i = 0; i < 4; i++)
        ck_assert(!address_list_has(list, &other[i]));
    ck_assert_ptr_null(address_list_new(at, 0));
    address_list_unref(list);
    address_list_unref(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("address");
    TCase *t = tcase_create("address");
    tcase_add_loop_test(t, good_urls, 0, (int)ARRAY_LEN(urls));
    tcase_add_loop_test(t, bad_urls_are_refused, 0, (int)ARRAY_LEN(bad_urls));
    tcase_add_loop_test(t, good_listeners, 0, (int)ARRAY_LEN(listeners));
    tcase_add_loop_test(t, bad_listeners_are_refused, 0, (int)ARRAY_LEN(bad_listeners));
    tcase_add_test(t, too_long);
    tcase_add_test(t, damaged_text);
    tcase_add_test(t, literals);
    tcase_add_test(t, formats_are_cut_not_overrun);
    tcase_add_test(t, lists);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
