/* redis_url.c: every form that is allowed, and what is refused in which words. */
#include "proxy/redis_url.h"
#include "tests/unit/message.h"

struct good {
    const char *text, *host, *user, *password;
    int port, kind;
    unsigned db;
    bool tls;
};

START_TEST(forms_that_are_allowed)
{
    static const struct good rows[] = {
        {"redis://localhost", "localhost", "", "", 6379, ENDPOINT_TCP, 0, false},
        {"redis://cache:7000/3", "cache", "", "", 7000, ENDPOINT_TCP, 3, false},
        {"redis://cache/", "cache", "", "", 6379, ENDPOINT_TCP, 0, false},
        {"redis://:se%40cret@h", "h", "", "se@cret", 6379, ENDPOINT_TCP, 0, false},
        {"redis://me:a@b@h:1", "h", "me", "a@b", 1, ENDPOINT_TCP, 0, false},
        {"redis://[::1]:65535/65535", "::1", "", "", 65535, ENDPOINT_TCP, 65535, false},
        {"rediss://h?ca_file=/ca.pem", "h", "", "", 6379, ENDPOINT_TCP, 0, true},
        {"redis+unix:///run/r.sock?db=5", "/run/r.sock", "", "", 0, ENDPOINT_UNIX, 5, false},
        {"redis+unix://u:p@/run/r.sock", "/run/r.sock", "u", "p", 0, ENDPOINT_UNIX, 0, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct redis_address a;
        char err[256] = "";
        ck_assert_msg(redis_url_parse(rows[i].text, &a, err, sizeof(err)), "%s: %s", rows[i].text, err);
        ck_assert_str_eq(a.endpoint.host, rows[i].host);
        ck_assert_str_eq(a.user, rows[i].user);
        ck_assert_str_eq(a.password, rows[i].password);
        ck_assert_int_eq(a.endpoint.port, rows[i].port);
        ck_assert_int_eq(a.endpoint.kind, rows[i].kind);
        ck_assert_uint_eq(a.db, rows[i].db);
        ck_assert_int_eq(a.endpoint.tls, rows[i].tls);
        ck_assert(a.verify);
    }
}
END_TEST

START_TEST(options_behind_the_question_mark)
{
    struct redis_address a;
    char err[256];
    ck_assert(redis_url_parse("rediss://h?db=7&ca_file=/a%20b&verify=no", &a, err, sizeof(err)));
    ck_assert_uint_eq(a.db, 7);
    ck_assert_str_eq(a.ca_file, "/a b");
    ck_assert(!a.verify);
    ck_assert_str_eq(a.master, "");
    ck_assert(redis_url_parse("redis+sentinel://me:pw@s.example/my-master?db=3&sentinel_password=a%20b", &a,
                              err, sizeof(err)));
    ck_assert_str_eq(a.endpoint.host, "s.example");
    ck_assert_int_eq(a.endpoint.port, 26379);
    ck_assert_str_eq(a.master, "my-master");
    ck_assert_str_eq(a.password, "pw");
    ck_assert_str_eq(a.sentinel_password, "a b");
    ck_assert_uint_eq(a.db, 3);
}
END_TEST

START_TEST(what_is_refused_shows_no_secret)
{
    static const char *const rows[][2] = {
        {"", "no URL"},
        {"http://h", "no URL"},
        {"redis-sentinel://hunter2@h/mymaster", "Sentinel"},
        {"redis+sentinel://h", "no master"},
        {"redis+sentinel://h/", "no master"},
        {"redis+sentinel://h/a/b", "no master"},
        {"redis+sentinel://:hunter2@/m", "no host"},
        {"rediss+sentinel://:hunter2@h/m", "without TLS"},
        {"redis+sentinel://h/m?sentinel_password=hunter2%0a", "encoded"},
        {"redis-cluster://h", "Cluster"},
        {"redis://a:1,b:2", "Cluster"},
        {"redis://", "no host"},
        {"redis://:hunter2@", "no host"},
        {"redis://h:0", "port"},
        {"redis://h:65536", "port"},
        {"redis://:hunter2@h:x", "port"},
        {"redis://[::1", "]"},
        {"redis://[::1]6379", "port"},
        {"redis://h/x", "database"},
        {"redis://h/99999", "database"},
        {"redis://:hunter2%zz@h", "encoded"},
        {"redis://:hunter2%0a@h", "encoded"},
        {"redis://:hunter2%4", "port"},
        {"redis://h?hunter2=1", "only db"},
        {"redis://h#x", "fragment"},
        {"redis+unix://", "path"},
        {"redis+unix://relative", "path"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct redis_address a;
        char err[256] = "";
        ck_assert_msg(!redis_url_parse(rows[i][0], &a, err, sizeof(err)), "%s", rows[i][0]);
        ck_assert_msg(strstr(err, rows[i][1]) != NULL, "%s: %s", rows[i][0], err);
        ck_assert_ptr_null(strstr(err, "hunter2"));
    }
}
END_TEST

START_TEST(parts_that_are_too_long_are_refused_whole)
{
    char text[2048], err[256];
    struct redis_address a;
    memset(text, 'x', sizeof(text));
    memcpy(text, "redis://:", 9);
    memcpy(text + 700, "@h", 3);
    ck_assert(!redis_url_parse(text, &a, err, sizeof(err)));
    memset(text, 'x', sizeof(text));
    memcpy(text, "redis://", 8);
    text[500] = '\0';
    ck_assert(!redis_url_parse(text, &a, err, sizeof(err)));
    memset(text, 'x', sizeof(text));
    memcpy(text, "redis+unix:///", 14);
    text[200] = '\0';
    ck_assert(!redis_url_parse(text, &a, err, sizeof(err)));
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("redis_url");
    tcase_add_test(t, forms_that_are_allowed);
    tcase_add_test(t, options_behind_the_question_mark);
    tcase_add_test(t, what_is_refused_shows_no_secret);
    tcase_add_test(t, parts_that_are_too_long_are_refused_whole);
    return run_case("redis_url", t);
}
