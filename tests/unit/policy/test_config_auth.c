/*
 * The auth options together: what a scheme needs, what its timestamps are, and what is warned of.
 */
#include "tests/unit/policy/config_fixture.h"

/* Lines `key=value` of a file, up to four; the only error, or NULL for none. */
static void file(const char *const lines[4], const char *want)
{
    struct fixture f;
    fixture_begin(&f);
    for (int i = 0; i < 4 && lines[i]; i++) {
        char key[128];
        const char *equals = strchr(lines[i], '=');
        snprintf(key, sizeof key, "%.*s", (int)(equals - lines[i]), lines[i]);
        fixture_put(&f, key, CONFIG_SCALAR, equals + 1);
    }
    fixture_build(&f);
    if (want)
        fixture_error(&f, 0, want);
    ck_assert_msg(f.errors.count == (want != NULL), "%s: %s", lines[0],
                  f.errors.count ? f.errors.items[0] : "no error");
    fixture_end(&f);
}

#define FILE_OF(...) ((const char *const[4]){__VA_ARGS__})

START_TEST(what_a_scheme_needs)
{
    file(FILE_OF("auth.scheme=passthrough"), NULL);
    file(FILE_OF("auth.scheme=bearer", "auth.api_key_file=/k"), NULL);
    file(FILE_OF("auth.scheme=promptops", "auth.api_key_file=/k"), NULL);
    file(FILE_OF("auth.scheme=signed", "auth.api_key_file=/k", "auth.secret_key_file=/s"), NULL);
    file(FILE_OF("auth.scheme=bearer"), "test.yaml:1:3: auth.scheme: needs auth.api_key_file");
    file(FILE_OF("auth.scheme=promptops"), "test.yaml:1:3: auth.scheme: needs auth.api_key_file");
    file(FILE_OF("auth.scheme=signed", "auth.secret_key_file=/s"),
         "test.yaml:1:3: auth.scheme: needs auth.api_key_file");
    file(FILE_OF("auth.scheme=signed", "auth.api_key_file=/k"),
         "test.yaml:1:3: auth.scheme: needs auth.secret_key_file to sign with");
    file(FILE_OF("auth.scheme=bearer", "auth.api_key_file=/k", "auth.secret_key_file=/s"),
         "test.yaml:3:3: auth.secret_key_file: has no effect unless auth.scheme is signed; leave it out or "
         "choose that scheme");
    file(FILE_OF("auth.scheme=passthrough", "auth.api_key_file=/k"),
         "test.yaml:2:3: auth.api_key_file: has no effect while auth.scheme is passthrough; leave it out or "
         "choose another "
         "scheme");
}
END_TEST

static int form_of(const char *const lines[4])
{
    struct fixture f;
    fixture_begin(&f);
    for (int i = 0; i < 4 && lines[i]; i++) {
        char key[128];
        const char *equals = strchr(lines[i], '=');
        snprintf(key, sizeof key, "%.*s", (int)(equals - lines[i]), lines[i]);
        fixture_put(&f, key, CONFIG_SCALAR, equals + 1);
    }
    int form = fixture_good(&f)->auth_timestamp_format;
    fixture_end(&f);
    return form;
}

START_TEST(timestamps)
{
    ck_assert_int_eq(
        form_of(FILE_OF("auth.scheme=signed", "auth.api_key_file=/k", "auth.secret_key_file=/s")),
        CONFIG_AUTH_TIMESTAMP_FORMAT_NAIVE_UTC);
    ck_assert_int_eq(form_of(FILE_OF("auth.scheme=promptops", "auth.api_key_file=/k")),
                     CONFIG_AUTH_TIMESTAMP_FORMAT_UNIX);
    ck_assert_int_eq(
        form_of(FILE_OF("auth.scheme=promptops", "auth.api_key_file=/k", "auth.timestamp_format=naive_utc")),
        CONFIG_AUTH_TIMESTAMP_FORMAT_NAIVE_UTC);
    ck_assert_int_eq(
        form_of(FILE_OF("auth.scheme=promptops", "auth.api_key_file=/k", "auth.timestamp_format=zulu")),
        CONFIG_AUTH_TIMESTAMP_FORMAT_ZULU);
}
END_TEST

/* A default follows the scheme when that is changed live, too. */
START_TEST(timestamps_after_a_change)
{
    struct fixture f;
    struct config_errors errors = {0};
    fixture_begin(&f);
    fixture_put(&f, "auth.scheme", CONFIG_SCALAR, "promptops");
    fixture_put(&f, "auth.api_key_file", CONFIG_SCALAR, "/k");
    const struct config *changed = config_with(fixture_good(&f), "auth.scheme", "bearer", &errors);
    ck_assert_ptr_nonnull(changed);
    ck_assert_int_eq(changed->auth_timestamp_format, CONFIG_AUTH_TIMESTAMP_FORMAT_NAIVE_UTC);
    config_unref(changed);
    fixture_end(&f);
}
END_TEST

START_TEST(partitions_of_one_request)
{
    static const char *const names[] = {"X-PromptOps-Signature", "x-promptops-nonce",
                                        "X-PROMPTOPS-TIMESTAMP"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct fixture f;
        char want[256];
        fixture_begin(&f);
        fixture_put(&f, "cache.partition_by", CONFIG_SEQUENCE, NULL);
        fixture_put(&f, "cache.partition_by[0]", CONFIG_SCALAR, "Authorization");
        fixture_put(&f, "cache.partition_by[1]", CONFIG_SCALAR, names[i]);
        fixture_build(&f);
        snprintf(want, sizeof want,
                 "test.yaml:1:3: cache.partition_by: has %s, which differs on every request, so that nothing "
                 "would be found "
                 "again; allowed: fields that say who asks",
                 names[i]);
        fixture_error(&f, 0, want);
        ck_assert_uint_eq(f.errors.count, 1);
        fixture_end(&f);
    }
}
END_TEST

static bool warned(const char *scheme, const char *url)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_put(&f, "upstream.url", CONFIG_SCALAR, url);
    if (*scheme) {
        fixture_put(&f, "auth.scheme", CONFIG_SCALAR, scheme);
        fixture_put(&f, "auth.api_key_file", CONFIG_SCALAR, "/k");
    }
    const struct config *c = fixture_good(&f);
    const char *text = config_warning(c, 0);
    bool yes = text && strstr(text, "auth.scheme: the API key goes to another machine over plain http");
    ck_assert_ptr_null(config_warning(c, 1));
    fixture_end(&f);
    return yes;
}

START_TEST(a_key_in_the_clear)
{
    ck_assert(warned("bearer", "http://api.example"));
    ck_assert(warned("promptops", "http://10.0.0.1:8000"));
    ck_assert(warned("promptops", "http://127.example:8000"));
    ck_assert(!warned("bearer", "https://api.example"));
    ck_assert(!warned("bearer", "http://localhost:8000"));
    ck_assert(!warned("bearer", "http://127.0.0.1"));
    ck_assert(!warned("bearer", "http://[::1]:8000"));
    ck_assert(!warned("", "http://api.example"));
}
END_TEST

static const char *warning_about(const char *const lines[4], size_t i)
{
    struct fixture f;
    fixture_begin(&f);
    for (int k = 0; k < 4 && lines[k]; k++) {
        char key[128];
        const char *equals = strchr(lines[k], '=');
        snprintf(key, sizeof key, "%.*s", (int)(equals - lines[k]), lines[k]);
        fixture_put(&f, key, CONFIG_SCALAR, equals + 1);
    }
    const char *text = config_warning(fixture_good(&f), i);
    fixture_end(&f);
    return text;
}

START_TEST(what_protects_the_process_is_switched_off)
{
    ck_assert(strstr(warning_about(FILE_OF("security.seccomp=false"), 0), "security.seccomp"));
    ck_assert(strstr(warning_about(FILE_OF("security.core_dumps=true"), 0), "security.core_dumps"));
    ck_assert(strstr(warning_about(FILE_OF("cache.redis_url=redis+sentinel://:p@h/m"), 0),
                     "no TLS with Sentinels"));
    ck_assert(strstr(warning_about(FILE_OF("cache.redis_url=redis+sentinel://h/m"), 0), "no password"));
}
END_TEST

START_TEST(the_port_of_the_other_protocol)
{
    const char *on = "performance.opentelemetry_enabled=true";
    const char *http = "performance.opentelemetry_protocol=http/protobuf";
    ck_assert_ptr_null(warning_about(FILE_OF(on), 0));
    ck_assert_ptr_null(warning_about(FILE_OF(http), 0));
    ck_assert(strstr(warning_about(FILE_OF(on, http), 0), "port 4317"));
    ck_assert(strstr(warning_about(FILE_OF(on, "performance.opentelemetry_endpoint=http://c:4318"), 0),
                     "port 4318"));
    ck_assert_ptr_null(
        warning_about(FILE_OF(on, http, "performance.opentelemetry_endpoint=http://c:4318"), 0));
}
END_TEST

START_TEST(a_key_for_everybody)
{
    const char *text = warning_about(
        FILE_OF("auth.scheme=bearer", "auth.api_key_file=/k", "listen.address=0.0.0.0:8080"), 0);
    ck_assert(text && strstr(text, "other machines reach listen.address"));
    ck_assert_ptr_null(warning_about(
        FILE_OF("auth.scheme=bearer", "auth.api_key_file=/k", "listen.address=unix:/run/s"), 0));
    text = warning_about(FILE_OF("listen.address=0.0.0.0:8080"), 0);
    ck_assert(text && strstr(text, "their keys can be read on the way"));
    ck_assert_ptr_null(warning_about(FILE_OF("listen.address=127.0.0.1:8080"), 0));
    const char *const both[4] = {"auth.scheme=bearer", "auth.api_key_file=/k", "listen.address=0.0.0.0:8080",
                                 "upstream.url=http://x"};
    ck_assert(strstr(warning_about(both, 0), "plain http"));
    ck_assert(strstr(warning_about(both, 1), "other machines"));
    ck_assert_ptr_null(warning_about(both, 2));
}
END_TEST

START_TEST(other_dangers)
{
    const char *text = warning_about(FILE_OF("admin.address=0.0.0.0:9901", "admin.token_file=/t"), 0);
    ck_assert(text && strstr(text, "admin.address: the token comes over plain http"));
    text = warning_about(FILE_OF("upstream.tls.verify=false"), 0);
    ck_assert(text && strstr(text, "upstream.tls.verify: false"));
    ck_assert_ptr_null(
        warning_about(FILE_OF("upstream.tls.verify=false", "upstream.url=https://localhost:8443"), 0));
    text = warning_about(FILE_OF("cache.redis_url=redis://:word@redis"), 0);
    ck_assert(text && strstr(text, "the password goes over a plain connection"));
    ck_assert_ptr_null(warning_about(FILE_OF("cache.redis_url=rediss://:word@redis"), 0));
    ck_assert(strstr(warning_about(FILE_OF("cache.redis_url=redis://redis"), 0), "asks for no password"));
    ck_assert(
        strstr(warning_about(FILE_OF("cache.redis_url=rediss://:w@redis/0?verify=no"), 0), "verify=no"));
    ck_assert_ptr_null(warning_about(FILE_OF("cache.redis_url=redis://127.0.0.1:6379/0"), 0));
    ck_assert_ptr_null(warning_about(FILE_OF("cache.redis_url=redis://:word@[::1]"), 0));
    ck_assert_ptr_null(warning_about(FILE_OF("cache.redis_url=redis+unix:///run/redis.sock"), 0));
}
END_TEST

START_TEST(answers_for_the_keys_of_others)
{
    const char *text = warning_about(FILE_OF("cache.scope=shared"), 0);
    ck_assert(text && strstr(text, "cache.scope: shared"));
    ck_assert_ptr_null(
        warning_about(FILE_OF("cache.scope=shared", "auth.scheme=bearer", "auth.api_key_file=/k"), 0));
    for (int with = 0; with < 2; with++) {
        struct fixture f;
        fixture_begin(&f);
        fixture_put(&f, "cache.partition_by", CONFIG_SEQUENCE, NULL);
        fixture_put(&f, "cache.partition_by[0]", CONFIG_SCALAR, "X-Tenant");
        if (with)
            fixture_put(&f, "cache.partition_by[1]", CONFIG_SCALAR, "authorization");
        text = config_warning(fixture_good(&f), 0);
        ck_assert(with ? !text : text && strstr(text, "cache.partition_by: without Authorization"));
        fixture_end(&f);
    }
}
END_TEST

START_TEST(alerts_in_the_clear)
{
    static const struct {
        const char *url;
        bool warned;
    } table[] = {{"http://10.0.0.1/x", true},
                 {"http://hooks.example/T/secret", true},
                 {"https://hooks.example/T/secret", false},
                 {"http://127.0.0.1:9093/x", false},
                 {"http://[::1]/x", false},
                 {"", false}};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct fixture f;
        fixture_begin(&f);
        fixture_put(&f, "notifications.webhooks", CONFIG_SEQUENCE, NULL);
        fixture_put(&f, "notifications.webhooks[0]", CONFIG_MAPPING, NULL);
        fixture_put(&f, "notifications.webhooks[0].url", CONFIG_SCALAR, table[i].url);
        const char *text = config_warning(fixture_good(&f), 0);
        ck_assert_msg(table[i].warned ? text && strstr(text, "notifications.webhooks") : !text, "%s",
                      table[i].url);
        fixture_end(&f);
    }
}
END_TEST

START_TEST(dangers_that_are_refused)
{
    file(FILE_OF("auth.scheme=bearer", "auth.api_key_file=/k", "upstream.tls.verify=false"),
         "test.yaml:3:3: upstream.tls.verify: is false while the sidecar holds a key (auth.scheme): anybody "
         "on the "
         "way could take the key; allowed: true, with upstream.tls.ca_file for an authority of your own");
    file(FILE_OF("upstream.connect_to=x:443"), NULL);
    file(FILE_OF("upstream.connect_to=x"), "test.yaml:1:3: upstream.connect_to: is not host:port, allowed: "
                                           "such as api.internal:443 or [::1]:443");
    file(FILE_OF("listen.handover=run/x"),
         "test.yaml:1:3: listen.handover: is no absolute path, allowed: such as /run/promptops/handover");
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("config_auth");
    Suite *s = suite_create("config_auth");
    suite_add_tcase(s, t);
    tcase_add_test(t, what_a_scheme_needs);
    tcase_add_test(t, timestamps);
    tcase_add_test(t, timestamps_after_a_change);
    tcase_add_test(t, partitions_of_one_request);
    tcase_add_test(t, a_key_in_the_clear);
    tcase_add_test(t, the_port_of_the_other_protocol);
    tcase_add_test(t, what_protects_the_process_is_switched_off);
    tcase_add_test(t, a_key_for_everybody);
    tcase_add_test(t, other_dangers);
    tcase_add_test(t, answers_for_the_keys_of_others);
    tcase_add_test(t, alerts_in_the_clear);
    tcase_add_test(t, dangers_that_are_refused);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
