/*
 * References to our own resources (RFC 3986 5), for invalidation by Location and Content-Location (RFC
 * 9111 4.4).
 */
#include "policy/uri.h"

#include "tests/unit/message.h"

static const struct uri_base base = {
    {"https://api.example:443", 23}, {"localhost:8080", 14}, {"/a/b/c?q=1", 10}};

static const char *local(const char *reference)
{
    static char out[100];
    size_t n = uri_local((struct slice){reference, strlen(reference)}, &base, out, sizeof out - 1);
    out[n] = '\0';
    return out;
}

START_TEST(same_origin)
{
    static const char *const rows[][2] = {
        {"/x", "/x"},
        {"/x?y=2", "/x?y=2"},
        {"/x?y=2#f", "/x?y=2"},
        {"/x/./y/../z", "/x/z"},
        {"/../../x", "/x"},
        {"/x/..", "/"},
        {"/x/.", "/x/"},
        {"/x//y", "/x//y"},
        {"", "/a/b/c?q=1"},
        {"#f", "/a/b/c?q=1"},
        {"?y=2", "/a/b/c?y=2"},
        {"d", "/a/b/d"},
        {"d?x/../y", "/a/b/d?x/../y"},
        {"./d", "/a/b/d"},
        {"../d", "/a/d"},
        {"../../../d", "/d"},
        {"..", "/a/"},
        {".", "/a/b/"},
        {"d/", "/a/b/d/"},
        {"d/../e", "/a/b/e"},
        {"https://api.example/x", "/x"},
        {"HTTPS://API.example:443/x", "/x"},
        {"https://api.example", "/"},
        {"https://api.example?y", "/?y"},
        {"https://api.example:/x", "/x"},
        {"//api.example/x", "/x"},
        {"http://localhost:8080/x", "/x"}, /* as the client knows us */
        {"https://localhost:8080/x", "/x"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strcmp(local(rows[i][0]), rows[i][1]) != 0)
            ck_abort_msg("%s: %s", rows[i][0], local(rows[i][0]));
}
END_TEST

START_TEST(another_origin_or_nonsense)
{
    static const char *const rows[] = {
        "http://api.example/x", /* another scheme, so another port */
        "http://api.example:443/x",
        "https://api.example:8443/x",
        "https://other.example/x",
        "https://api.example.evil/x",
        "https://user@api.example/x", /* userinfo is no part of an origin that we know */
        "//other.example/x",
        "ftp://localhost:8080/x",
        "mailto:x",
        "https:/x",
        "/x y",
        "/x\ty",
        "/x\x80",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (local(rows[i])[0] != '\0')
            ck_abort_msg("%s: %s", rows[i], local(rows[i]));
}
END_TEST

START_TEST(origin_length)
{
    static const struct {
        const char *reference, *scheme, *authority;
        size_t n;
    } rows[] = {
        {"https://api.example/x", "https", "api.example", 19},
        {"HTTPS://API.example:443/x?y#z", "https", "api.example", 23},
        {"http://api.example/x", "https", "api.example", 18}, /* it does not know of the TLS before it */
        {"http://api.example:80/", "https", "api.example:443", 21},
        {"http://127.0.0.1:8000/x", "http", "127.0.0.1:8000", 21},
        {"http://[::1]:8000/x", "http", "[::1]:8000", 17},
        {"https://127.0.0.1:8000/x", "http", "127.0.0.1:8000", 22},
        {"http://127.0.0.1/x", "http", "127.0.0.1:8000", 0},
        {"http://127.0.0.1:8001/x", "http", "127.0.0.1:8000", 0},
        {"https://api.example:8443/x", "https", "api.example", 0},
        {"https://api.example.evil/x", "https", "api.example", 0},
        {"https://user@api.example/x", "https", "api.example", 0},
        {"ftp://api.example/x", "https", "api.example", 0},
        {"//api.example/x", "https", "api.example", 0},
        {"https://api.example", "https", "api.example", 0}, /* nothing would be left */
        {"https://api.example?x", "https", "api.example", 0},
        {"https://api.example//evil/x", "https", "api.example", 0}, /* what is left would be a host */
        {"https://api.example/\\evil/x", "https", "api.example", 0},
        {"https://api.example/a b", "https", "api.example", 0},
        {"/x", "https", "api.example", 0},
        {"", "https", "api.example", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice s[] = {{rows[i].reference, strlen(rows[i].reference)},
                            {rows[i].scheme, strlen(rows[i].scheme)},
                            {rows[i].authority, strlen(rows[i].authority)}};
        ck_assert_msg(uri_origin_length(s[0], s[1], s[2]) == rows[i].n, "%s", rows[i].reference);
    }
}
END_TEST

START_TEST(room_and_odd_bases)
{
    char out[8];
    struct uri_base odd = base;
    must(uri_local(SLICE("/1234567"), &base, out, 8) == 8);
    must(uri_local(SLICE("/12345678"), &base, out, 8) == 0);
    odd.path = SLICE("*");
    must(uri_local(SLICE("x"), &odd, out, 8) == 0);
    odd.path = SLICE("/");
    must(uri_local(SLICE("x"), &odd, out, 8) == 2 && memcmp(out, "/x", 2) == 0);
    odd.authority = (struct slice){NULL, 0};
    must(uri_local(SLICE("http://localhost:8080/x"), &odd, out, 8) == 0);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("uri");
    tcase_add_test(t, same_origin);
    tcase_add_test(t, another_origin_or_nonsense);
    tcase_add_test(t, origin_length);
    tcase_add_test(t, room_and_odd_bases);
    return run_case("uri", t);
}
