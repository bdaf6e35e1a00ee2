/* policy/config_value.c and config_address.c: every type, each bound, and what errors say. */
#include <stdio.h>

#include "policy/units.h"
#include "tests/unit/policy/config_fixture.h"

#define DURATION_FORM ", written like 250ms, 30s, 5m, 1h or plain seconds"

START_TEST(durations)
{
    expect("listen.header_timeout", "10", "\"10s\"");
    expect("listen.header_timeout", "250ms", "\"250ms\"");
    expect("listen.header_timeout", "10ms", "\"10ms\"");
    expect("listen.header_timeout", "1h", "\"1h\"");
    expect("listen.header_timeout", "9ms", "! \"9ms\" is out of bounds, allowed: 10ms to 1h");
    expect("listen.header_timeout", "61m", "! \"61m\" is out of bounds, allowed: 10ms to 1h");
    expect("listen.header_timeout", "soon",
           "! \"soon\" is not a duration, allowed: 10ms to 1h" DURATION_FORM);
    expect("listen.header_timeout", "", "! \"\" is not a duration, allowed: 10ms to 1h" DURATION_FORM);
    expect("listen.header_timeout", "-1", "! \"-1\" is not a duration, allowed: 10ms to 1h" DURATION_FORM);
}
END_TEST

START_TEST(sizes)
{
    expect("listen.max_header_bytes", "65536", "\"64KiB\"");
    expect("listen.max_header_bytes", "1MiB", "\"1MiB\"");
    expect("listen.max_header_bytes", "1048577", "! \"1048577\" is out of bounds, allowed: 1KiB to 1MiB");
    expect("listen.max_header_bytes", "1023", "! \"1023\" is out of bounds, allowed: 1KiB to 1MiB");
    expect("listen.max_header_bytes", "64k",
           "! \"64k\" is not a size, allowed: 1KiB to 1MiB, written like 64KiB, 100MiB or plain bytes");
}
END_TEST

START_TEST(numbers)
{
    expect("pool.max_size", "100", "100");
    expect("pool.max_size", "0", "! \"0\" is out of bounds, allowed: 1 to 100000");
    expect("pool.max_size", "1.5", "! \"1.5\" is not a whole number, allowed: 1 to 100000");
    expect("pool.max_size", "auto", "! \"auto\" is not a whole number, allowed: 1 to 100000");
    expect("workers", "auto", "\"auto\"");
    expect("workers", "4", "4");
    expect("workers", "0", "! \"0\" is out of bounds, allowed: auto, or 1 to 256");
    expect("workers", "many", "! \"many\" is not a whole number, allowed: auto, or 1 to 256");
    expect("retry.budget", "0.25", "0.25");
    expect("retry.budget", "1", "1");
    expect("retry.budget", "1.01", "! \"1.01\" is out of bounds, allowed: 0 to 1");
    expect("retry.budget", "-0.1", "! \"-0.1\" is out of bounds, allowed: 0 to 1");
    expect("retry.budget", "10%", "! \"10%\" is not a number, allowed: 0 to 1");
    expect("log.access", "no", "false");
    expect("log.access", "maybe", "! \"maybe\" is neither true nor false, allowed: true | false");
}
END_TEST

START_TEST(choices)
{
    expect("pool.strategy", "lazy", "\"lazy\"");
    expect("pool.strategy", "adaptve",
           "! \"adaptve\" is not known, did you mean adaptive? allowed: fixed | dynamic | adaptive | lazy");
    expect("pool.strategy", "x", "! \"x\" is not known, allowed: fixed | dynamic | adaptive | lazy");
    expect("pool.strategy", "Lazy",
           "! \"Lazy\" is not known, did you mean lazy? allowed: fixed | dynamic | adaptive | lazy");
    expect("auth.scheme", "passthrough", "\"passthrough\"");
    expect("performance.opentelemetry_protocol", "http/protobuf", "\"http/protobuf\"");
}
END_TEST

START_TEST(texts)
{
    char *got, long_text[5000];
    expect("performance.service_name", "a \"b\" \\ \xc3\xa9", "\"a \\\"b\\\" \\\\ \xc3\xa9\"");
    static const char *const bad[] = {"a\nb",         "\x7f",         "\xff",     "\xc3",
                                      "\xc0\x80",     "\xed\xa0\x80", "\xe2",     "\xf4\x90\x80\x80",
                                      "\xe2\x80\xa8", "\xef\xbb\xbf", "\xc2\x85", "\xf0\x80\x80\x80",
                                      "\xe0\x80\x80", "\x80"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        expect("performance.service_name", bad[i],
               "! not UTF-8, or has control characters, allowed: printable text");
    memset(long_text, 'x', sizeof long_text);
    long_text[4097] = '\0';
    expect("performance.service_name", long_text, "! longer than 4096 bytes");
    long_text[4096] = '\0';
    got = fixture_set("performance.service_name", long_text);
    ck_assert_uint_eq(strspn(got + 1, "x"), 4094); /* the fixture's buffer ends here */
    free(got);
}
END_TEST

START_TEST(long_values_are_shortened_in_errors)
{
    char text[201], want[400];
    memset(text, 'x', 200);
    text[200] = '\0';
    snprintf(want, sizeof want, "! \"%.73s...\" is neither true nor false, allowed: true | false", text);
    expect("log.access", text, want);
    /* Never in the middle of a character: 72 x, then one of two bytes. */
    memcpy(text + 72, "\xc3\xa9\xc3\xa9", 4);
    snprintf(want, sizeof want, "! \"%.72s...\" is neither true nor false, allowed: true | false", text);
    expect("log.access", text, want);
}
END_TEST

START_TEST(lists)
{
    expect("cache.targets", "[A, b-C]", "[\"A\", \"b-C\"]");
    expect("cache.targets", "A,b", "[\"A\", \"b\"]");
    expect("cache.targets", " A , b ", "[\"A\", \"b\"]");
    expect("cache.targets", "", "[]");
    expect("cache.targets", "[]", "[]");
    expect("cache.targets", "[A", "! \"[A\" is not a list, allowed: [a, b] or a, b");
    expect("cache.targets", "['A']", "! \"['A']\" is not a list, allowed: [a, b] or a, b");
    expect("cache.targets", "A,,b",
           "! \"\" is not a field name, allowed: letters, digits and !#$%&'*+-.^_`|~");
    expect("cache.targets", "A b",
           "! \"A b\" is not a field name, allowed: letters, digits and !#$%&'*+-.^_`|~");
    expect("retry.retry_on", "timeout, 500,404", "[\"timeout\", 404, 500]");
    expect("retry.retry_on", "[]", "[]");
    expect("retry.retry_on", "399",
           "! \"399\" is not known, allowed: connect_failure, reset, timeout, or a status from 400 to 599");
    expect("retry.retry_on", "600",
           "! \"600\" is not known, allowed: connect_failure, reset, timeout, or a status from 400 to 599");
}
END_TEST

START_TEST(retry_statuses)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_flag(&f, "retry.retry_on", "400, 463, 464, 599, reset");
    const struct config *cfg = fixture_good(&f);
    for (int s = 0; s < 700; s++)
        ck_assert(config_retries_status(cfg, s) == (s == 400 || s == 463 || s == 464 || s == 599));
    ck_assert(cfg->retry_retry_on.reset && !cfg->retry_retry_on.timeout &&
              !cfg->retry_retry_on.connect_failure);
    fixture_end(&f);
}
END_TEST

static void check_address(const char *text, const char *host, unsigned port, const char *path, bool loopback)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_flag(&f, "listen.address", text);
    const struct config_address *a = &fixture_good(&f)->listen_address;
    ck_assert_str_eq(a->text, text);
    ck_assert_str_eq(a->host, host);
    ck_assert_uint_eq(a->port, port);
    ck_assert_str_eq(a->path, path);
    ck_assert(a->loopback == loopback);
    fixture_end(&f);
}

START_TEST(addresses)
{
    check_address("127.0.0.1:0", "127.0.0.1", 0, "", true);
    check_address("127.9.9.9:65535", "127.9.9.9", 65535, "", true);
    check_address("localhost:80", "localhost", 80, "", true);
    check_address("0.0.0.0:80", "0.0.0.0", 80, "", false);
    check_address("[::1]:80", "::1", 80, "", true);
    check_address("[::]:80", "::", 80, "", false);
    check_address("[2001:db8::1.2.3.4]:80", "2001:db8::1.2.3.4", 80, "", false);
    check_address("[1:2:3:4:5:6:7:8]:80", "1:2:3:4:5:6:7:8", 80, "", false);
    check_address("[1:2:3:4:5:6:7::]:80", "1:2:3:4:5:6:7::", 80, "", false);
    check_address("pod-1.my_net:80", "pod-1.my_net", 80, "", false);
    /* Looks like loopback, but is a name that may lead anywhere. */
    check_address("127.0.0.1.example:80", "127.0.0.1.example", 80, "", false);
    check_address("unix:/run/x.sock", "", 0, "/run/x.sock", true);
}
END_TEST

START_TEST(bad_addresses)
{
    static const char *const bad[] = {"",
                                      "8080",
                                      "localhost",
                                      "1.2.3:80",
                                      "1.2.3.4.5:80",
                                      "1.2.3.256:80",
                                      "01.2.3.4:80",
                                      "a b:80",
                                      "[::1]",
                                      "[::1]80",
                                      "[:::]:80",
                                      "[1::2::3]:80",
                                      "[12345::]:80",
                                      "[1:2:3]:80",
                                      "[::1.2.3]:80",
                                      "[1:2:3:4:5:6:7:8::]:80",
                                      "[::1:80",
                                      "a..b:80",
                                      ".a:80",
                                      "::1:80",

                                      "a/b:80",
                                      "[1:2:3:4:5:6:7:8:9]:80",
                                      "[g::]:80",
                                      "[]:80"};
    char want[200];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        snprintf(want, sizeof want, "! \"%s\" is not an address, allowed: host:port, [v6]:port or unix:/path",
                 bad[i]);
        expect("listen.address", bad[i], want);
    }
    expect("listen.address", "a:65536",
           "! \"a:65536\" has no port from 0 to 65535, allowed: host:port, [v6]:port or unix:/path");
    expect("listen.address",
           "a:", "! \"a:\" has no port from 0 to 65535, allowed: host:port, [v6]:port or unix:/path");
    expect("listen.address", "a:-1",
           "! \"a:-1\" has no port from 0 to 65535, allowed: host:port, [v6]:port or unix:/path");
    expect(
        "listen.address", ":80",
        "! \":80\" names no host; for every interface write 0.0.0.0:port or [::]:port, allowed: host:port, "
        "[v6]:port or unix:/path");
    expect("listen.address", "unix:x",
           "! \"unix:x\" is not an address: the path of a socket begins with / and has at most 107 bytes, "
           "allowed: "
           "host:port, [v6]:port or unix:/path");
}
END_TEST

static void check_url(const char *text, bool tls, const char *host, unsigned port, const char *rest)
{
    struct fixture f;
    char got[300];
    fixture_begin(&f);
    fixture_flag(&f, "upstream.url", text);
    const struct config_url *u = &fixture_good(&f)->upstream_url;
    ck_assert(u->tls == tls);
    ck_assert_str_eq(u->host, host);
    ck_assert_uint_eq(u->port, port);
    snprintf(got, sizeof got, "%s|%s", u->authority, u->path);
    ck_assert_str_eq(got, rest);
    fixture_end(&f);
}

START_TEST(urls)
{
    check_url("https://api.promptops.ai", true, "api.promptops.ai", 443, "api.promptops.ai|");
    check_url("https://a:443/", true, "a", 443, "a|");
    check_url("https://a:80", true, "a", 80, "a:80|");
    check_url("http://a", false, "a", 80, "a|");
    check_url("http://a:8000/x/y//", false, "a", 8000, "a:8000|/x/y");
    check_url("http://[::1]:8000/%41", false, "::1", 8000, "[::1]:8000|/%41");
}
END_TEST

START_TEST(bad_urls)
{
    expect("upstream.url", "", "! is empty, allowed: http://host[:port][/path] or https://...");
    expect("upstream.url", "api",
           "! \"api\" is not a URL, allowed: http://host[:port][/path] or https://...");
    expect("upstream.url", "ftp://a",
           "! \"ftp://a\" is not a URL, allowed: http://host[:port][/path] or https://...");
    expect("upstream.url", "http://",
           "! \"http://\" names no host, allowed: http://host[:port][/path] or https://...");
    expect("upstream.url", "http://1.2.3",
           "! \"http://1.2.3\" names no host, allowed: http://host[:port][/path] or https://...");
    expect("upstream.url", "http://a:0",
           "! \"http://a:0\" has no port from 1 to 65535, allowed: http://host[:port][/path] or https://...");
    expect(
        "upstream.url", "http://user:geheim@a",
        "! a URL with a user name or password is refused, allowed: http://host[:port][/path] or https://...");
    static const char *const bad[] = {"http://a?x",  "http://a/#f",       "http://a/ b",
                                      "http://a/%4", "http://a/\xc3\xa9", "http://a/<"};
    char want[200];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        snprintf(want, sizeof want,
                 "! \"%s\" has a query, a fragment or a character that no path may have, "
                 "allowed: http://host[:port][/path] or https://...",
                 bad[i]);
        expect("upstream.url", bad[i], want);
    }
}
END_TEST

/* The value one step outside a bound, as text. */
static void beyond(const struct config_option_row *row, bool above, char *buf, size_t n)
{
    char text[UNITS_MAX_TEXT];
    const char *bound = above ? row->most : row->least;
    tick_t t;
    uint64_t s;
    int64_t i;
    double r;
    if (row->type == CONFIG_TYPE_DURATION && units_parse_duration(bound, &t))
        snprintf(buf, n, "%s", units_print_duration(above ? t + 1 : t - 1, text));
    else if (row->type == CONFIG_TYPE_SIZE && units_parse_size(bound, &s))
        snprintf(buf, n, "%s", units_print_size(above ? s + 1 : s - 1, text));
    else if (row->type == CONFIG_TYPE_REAL && units_parse_real(bound, &r))
        snprintf(buf, n, "%s", units_print_real(above ? r + 1e-9 : r - 1e-9, text));
    else if (units_parse_int(bound, &i))
        snprintf(buf, n, "%s", units_print_int(above ? i + 1 : i - 1, text));
    else
        ck_abort_msg("%s: the bound %s is no value", row->key, bound);
}

static bool is_measure(const struct config_option_row *row)
{
    return row->type == CONFIG_TYPE_DURATION || row->type == CONFIG_TYPE_SIZE ||
           row->type == CONFIG_TYPE_REAL || row->type == CONFIG_TYPE_INT || row->type == CONFIG_TYPE_AUTO;
}

START_TEST(every_bound)
{
    int i = _i;
    const struct config_option_row *row = config_option_row(i);
    if (!is_measure(row)) {
        ck_assert_str_eq(row->least, "");
        ck_assert_str_eq(row->most, "");
        return;
    }
    for (int above = 0; above < 2; above++) {
        char text[UNITS_MAX_TEXT];
        char *at = fixture_set(row->key, above ? row->most : row->least);
        /* Against another option it may be too much; in itself it is good. */
        ck_assert_msg(*at != '!' || strstr(at, " is above "), "%s: %s", row->key, at);
        free(at);
        bool zero = !above && (strcmp(row->least, "0") == 0 || strcmp(row->least, "0s") == 0);
        if (zero && (row->type == CONFIG_TYPE_DURATION || row->type == CONFIG_TYPE_SIZE))
            continue; /* less than nothing cannot be written */
        beyond(row, above, text, sizeof text);
        char *past = fixture_set(row->key, text);
        ck_assert_msg(strstr(past, " is out of bounds, allowed: ") != NULL, "%s=%s: %s", row->key, text,
                      past);
        free(past);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("config_value");
    TCase *t = tcase_create("config_value");
    suite_add_tcase(s, t);
    tcase_add_test(t, durations);
    tcase_add_test(t, sizes);
    tcase_add_test(t, numbers);
    tcase_add_test(t, choices);
    tcase_add_test(t, texts);
    tcase_add_test(t, long_values_are_shortened_in_errors);
    tcase_add_test(t, lists);
    tcase_add_test(t, retry_statuses);
    tcase_add_test(t, addresses);
    tcase_add_test(t, bad_addresses);
    tcase_add_test(t, urls);
    tcase_add_test(t, bad_urls);
    tcase_add_loop_test(t, every_bound, 0, CONFIG_OPTION_COUNT);
    return fixture_run(s);
}
