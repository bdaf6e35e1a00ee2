/*
 * policy/config.c, config_table.c, config_check.c, config_print.c: the table of options, precedence,
 * unknown keys, shapes, combinations, changes, reloads and what snapshots say of themselves.
 */
#include <pthread.h>
#include <stdio.h>

#include "tests/unit/policy/config_fixture.h"

/* ---- The table --------------------------------------------------------------------------------- */

START_TEST(keys_make_members)
{
    static const char *const members[] = {
#define OPTION(member, ...) #member,
#include "policy/options.def"
    };
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        char member[128];
        const struct config_option_row *row = config_option_row(i);
        ck_assert_uint_lt(strlen(row->key), sizeof member);
        strcpy(member, row->key);
        for (char *p = member; *p; p++)
            *p = *p == '.' ? '_' : *p;
        ck_assert_str_eq(member, members[i]);
        ck_assert_int_eq(config_option_find(row->key), i);
        ck_assert(strlen(row->help) > 0 && row->help[strlen(row->help) - 1] == '.');
        ck_assert((row->choices != NULL) == (row->type == CONFIG_TYPE_ENUM));
    }
    ck_assert_int_eq(config_option_find("listen"), -1);
    ck_assert_int_eq(config_option_find(""), -1);
}
END_TEST

/* Sections are printed once, so the keys of one must stand together. */
START_TEST(sections_stand_together)
{
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const char *key = config_option_row(i)->key, *dot = strrchr(key, '.');
        size_t n = dot ? (size_t)(dot - key) + 1 : 0;
        bool left = false;
        for (int j = i + 1; n && j < CONFIG_OPTION_COUNT; j++) {
            bool same = strncmp(config_option_row(j)->key, key, n) == 0;
            ck_assert_msg(!(left && same), "%s stands apart", config_option_row(j)->key);
            left = left || !same;
        }
    }
}
END_TEST

START_TEST(defaults)
{
    struct fixture f;
    fixture_begin(&f);
    const struct config *c = fixture_good(&f);
    ck_assert_int_eq(c->workers, 0);
    ck_assert_int_eq(c->log_level, CONFIG_LOG_LEVEL_INFO);
    ck_assert_str_eq(c->log_file, "-");
    ck_assert_int_eq(c->listen_address.port, 8080);
    ck_assert_int_eq(c->listen_header_timeout, 10 * TICK_S);
    ck_assert_int_eq(c->listen_max_header_fields, 128);
    ck_assert_uint_eq(c->listen_max_target_bytes, 16384);
    ck_assert_int_eq(c->admin_address.port, 9901);
    ck_assert_str_eq(c->upstream_url.host, "api.promptops.ai");
    ck_assert(c->upstream_tls_verify);
    ck_assert_int_eq(c->upstream_tls_min_version, CONFIG_UPSTREAM_TLS_MIN_VERSION_TLS_1_2);
    ck_assert_uint_eq(c->upstream_max_header_bytes, 65536);
    ck_assert_int_eq(c->pool_max_idle_time, 300 * TICK_S);
    ck_assert_uint_eq(c->cache_max_memory_bytes, 100u << 20);
    ck_assert_uint_eq(c->cache_partition_by.count, 3);
    ck_assert_str_eq(c->cache_partition_by.items[1], "X-API-Key");
    ck_assert(config_retries_status(c, 429) && config_retries_status(c, 503) &&
              !config_retries_status(c, 500));
    ck_assert(c->retry_retry_on.connect_failure && c->retry_retry_on.reset && c->retry_retry_on.timeout);
    ck_assert(c->retry_budget == 0.1);
    ck_assert_uint_eq(c->routes.count, 0);
    ck_assert_str_eq(c->performance_custom_metrics_endpoint.text, "");
    ck_assert_str_eq(c->performance_custom_metrics_endpoint.host, "");
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        ck_assert_int_eq(config_place_of(c, i)->source, CONFIG_FROM_DEFAULT);
    fixture_end(&f);
}
END_TEST

/* ---- Unknown keys and wrong shapes ------------------------------------------------------------- */

static void unknown(const char *key, const char *want)
{
    struct fixture f;
    char text[1024];
    fixture_begin(&f);
    fixture_put(&f, key, CONFIG_SCALAR, "1");
    fixture_build(&f);
    ck_assert_uint_eq(f.errors.count, 1);
    snprintf(text, sizeof text, "test.yaml:1:3: %s: unknown key, %s", key, want);
    fixture_error(&f, 0, text);
    fixture_end(&f);
}

START_TEST(unknown_keys_name_the_nearest)
{
    unknown("worker", "did you mean workers?");
    unknown("listen.header_timout", "did you mean listen.header_timeout?");
    unknown("lisen.header_timeout", "did you mean listen.header_timeout?");
    unknown("listen.tls.cert_file", "did you mean listen.tls.key_file?");
    unknown("cach", "did you mean cache?");
    unknown("upstream.tsl", "did you mean upstream.tls?");
    /* The right word in the wrong place. */
    unknown("default_ttl", "did you mean cache.default_ttl?");
    unknown("cache.max_attempts", "did you mean retry.max_attempts?");
    unknown("log.zzzzzzzzzz", "allowed in log: level, format, file, access");
    unknown("listen.zzzzzzzzzzzz",
            "allowed in listen: address, tls, max_connections, header_timeout, idle_timeout, "
            "max_header_bytes, max_header_fields, max_target_bytes, transparent, handover");
    unknown("zzzzzzzz.yyyyyyyy",
            "allowed here: workers, drain_timeout, drain_idle, security, log, listen, admin, upstream, auth, "
            "pool, cache, retry, circuit_breaker, rate_limit, concurrency, batching, performance, "
            "alerts, notifications, server_timing, preset, routes");
}
END_TEST

START_TEST(nearest_for_others)
{
    ck_assert_int_eq(config_option_nearest("cache.defalt_ttl"), CONFIG_OPTION_cache_default_ttl);
    ck_assert_int_eq(config_option_nearest("qqqqqqqqqqqqqqqqqqq"), -1);
}
END_TEST

START_TEST(what_is_beneath_an_unknown_key_is_not_reported)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_put(&f, "cach", CONFIG_MAPPING, NULL);
    fixture_put(&f, "cach.enabled", CONFIG_SCALAR, "true");
    fixture_put(&f, "cach.targets", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "cach.targets[0]", CONFIG_SCALAR, "x");
    fixture_put(&f, "cache", CONFIG_MAPPING, NULL);
    fixture_put(&f, "cache.enabld", CONFIG_SCALAR, "true");
    fixture_build(&f);
    ck_assert_uint_eq(f.errors.count, 2);
    fixture_error(&f, 0, "test.yaml:1:3: cach: unknown key, did you mean cache?");
    fixture_error(&f, 1, "test.yaml:6:3: cache.enabld: unknown key, did you mean cache.enabled?");
    fixture_end(&f);
}
END_TEST

START_TEST(wrong_shapes)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_put(&f, "listen", CONFIG_SCALAR, "8080");
    fixture_put(&f, "cache", CONFIG_NOTHING, NULL); /* a section with everything commented out */
    fixture_put(&f, "cache.targets", CONFIG_SCALAR, "A");
    fixture_put(&f, "cache.partition_by", CONFIG_NOTHING, NULL);
    fixture_put(&f, "server_timing", CONFIG_NOTHING, NULL);
    fixture_put(&f, "pool.max_size", CONFIG_MAPPING, NULL);
    fixture_put(&f, "pool.max_size.x", CONFIG_SCALAR, "1");
    fixture_put(&f, "retry.retry_on", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "retry.retry_on[0]", CONFIG_MAPPING, NULL);
    fixture_put(&f, "retry.retry_on[0].a", CONFIG_SCALAR, "1");
    fixture_put(&f, "retry.retry_on[1]", CONFIG_SCALAR, "sometimes");
    fixture_put(&f, "routes", CONFIG_SCALAR, "none");
    fixture_put(&f, "cache.targets[0]", CONFIG_SCALAR, "A");
    fixture_build(&f);
    fixture_error(&f, 0,
                  "test.yaml:1:3: listen: must be a mapping: it holds the keys that begin with this name");
    fixture_error(&f, 1, "test.yaml:3:3: cache.targets: must be a list, such as [a, b]");
    fixture_error(&f, 2, "test.yaml:4:3: cache.partition_by: must be a list, such as [a, b]");
    fixture_error(&f, 3, "test.yaml:5:3: server_timing: has no value; give it one or leave it out");
    fixture_error(&f, 4, "test.yaml:6:3: pool.max_size: must be one value, not a list or a mapping");
    fixture_error(&f, 5, "test.yaml:9:3: retry.retry_on[0]: must be one value");
    fixture_error(&f, 6,
                  "test.yaml:11:3: retry.retry_on[1]: \"sometimes\" is not known, allowed: connect_failure, "
                  "reset, timeout, or a status from 400 to 599");
    fixture_error(&f, 7, "test.yaml:12:3: routes: must be a list of mappings");
    fixture_error(&f, 8, "test.yaml:13:3: cache.targets[0]: is one member of a list; set the whole list");
    ck_assert_uint_eq(f.errors.count, 9);
    fixture_end(&f);
}
END_TEST

START_TEST(errors_are_bounded_and_harmless)
{
    struct fixture f;
    fixture_begin(&f);
    for (int i = 0; i < 150; i++)
        fixture_put(&f, "zz\x1b[31m", CONFIG_SCALAR, "x");
    fixture_build(&f);
    ck_assert_uint_eq(f.errors.count, CONFIG_MAX_ERRORS);
    ck_assert_uint_eq(f.errors.left_out, 50);
    ck_assert_ptr_null(strchr(f.errors.items[0], '\x1b'));
    fixture_end(&f);
}
END_TEST

/* ---- Precedence and origins -------------------------------------------------------------------- */

static void put_from(struct fixture *f, enum config_source source, const char *name, const char *value)
{
    struct config_entry e = {.key = "cache.default_ttl", .value = value, .place = {source, name, 0, 0}};
    ck_assert(config_draft_put(f->draft, &e));
}

START_TEST(later_sources_win)
{
    struct fixture f;
    char origin[64];
    fixture_begin(&f);
    fixture_put(&f, "cache.default_ttl", CONFIG_SCALAR, "1");
    fixture_put(&f, "cache.targets", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "cache.targets[0]", CONFIG_SCALAR, "A");
    fixture_put(&f, "cache.targets[1]", CONFIG_SCALAR, "B");
    put_from(&f, CONFIG_FROM_ENVIRONMENT, "PROMPTOPS_SIDECAR_CACHE__DEFAULT_TTL", "2");
    fixture_flag(&f, "cache.targets", "C");
    const struct config *c = fixture_good(&f);
    ck_assert_int_eq(c->cache_default_ttl, 2 * TICK_S);
    /* A list is replaced, not added to. */
    ck_assert_uint_eq(c->cache_targets.count, 1);
    ck_assert_str_eq(c->cache_targets.items[0], "C");
    config_origin(c, CONFIG_OPTION_cache_default_ttl, origin, sizeof origin);
    ck_assert_str_eq(origin, "PROMPTOPS_SIDECAR_CACHE__DEFAULT_TTL");
    config_origin(c, CONFIG_OPTION_cache_targets, origin, sizeof origin);
    ck_assert_str_eq(origin, "--set");
    config_origin(c, CONFIG_OPTION_cache_enabled, origin, sizeof origin);
    ck_assert_str_eq(origin, "default");
    fixture_end(&f);
}
END_TEST

START_TEST(a_bad_value_is_an_error_though_a_later_source_is_good)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_put(&f, "cache.default_ttl", CONFIG_SCALAR, "x");
    put_from(&f, CONFIG_FROM_FLAG, "--set", "2");
    fixture_build(&f);
    ck_assert_uint_eq(f.errors.count, 1);
    fixture_end(&f);
}
END_TEST

START_TEST(file_origin)
{
    struct fixture f;
    char origin[64];
    fixture_begin(&f);
    fixture_put(&f, "cache", CONFIG_MAPPING, NULL);
    fixture_put(&f, "cache.default_ttl", CONFIG_SCALAR, "1");
    const struct config *c = fixture_good(&f);
    config_origin(c, CONFIG_OPTION_cache_default_ttl, origin, sizeof origin);
    ck_assert_str_eq(origin, "test.yaml:2");
    ck_assert_int_eq(config_place_of(c, CONFIG_OPTION_cache_default_ttl)->column, 3);
    fixture_end(&f);
}
END_TEST

/* ---- Combinations ------------------------------------------------------------------------------ */

/* Two keys from the file, in lines 1 and 2: the only error, or NULL for none. */
static void both(const char *one, const char *two, const char *want)
{
    struct fixture f;
    const char *texts[] = {one, two};
    fixture_begin(&f);
    for (int i = 0; i < 2 && texts[i]; i++) {
        char key[128];
        const char *equals = strchr(texts[i], '=');
        snprintf(key, sizeof key, "%.*s", (int)(equals - texts[i]), texts[i]);
        fixture_put(&f, key, CONFIG_SCALAR, equals + 1);
    }
    fixture_build(&f);
    if (want)
        fixture_error(&f, 0, want);
    ck_assert_msg(f.errors.count == (want != NULL), "%s: %s", one,
                  f.errors.count ? f.errors.items[0] : "no error");
    fixture_end(&f);
}

START_TEST(smaller_and_larger)
{
    both(
        "pool.min_size=5", "pool.max_size=2",
        "test.yaml:2:3: pool.max_size: pool.min_size (5) is above pool.max_size (2), allowed: at most equal");
    both("pool.max_size=2", "pool.min_size=2", NULL);
    both("concurrency.min=5", "concurrency.max=2",
         "test.yaml:2:3: concurrency.max: concurrency.min (5) is above concurrency.max (2), allowed: at most "
         "equal");
    both("retry.base_delay=2s", "retry.max_delay=1s",
         "test.yaml:2:3: retry.max_delay: retry.base_delay (\"2s\") is above retry.max_delay (\"1s\"), "
         "allowed: at most "
         "equal");
    both("circuit_breaker.circuit_breaker_timeout=2s", "circuit_breaker.circuit_breaker_max_timeout=1s",
         "test.yaml:2:3: circuit_breaker.circuit_breaker_max_timeout: "
         "circuit_breaker.circuit_breaker_timeout (\"2s\") is "
         "above circuit_breaker.circuit_breaker_max_timeout (\"1s\"), allowed: at most equal");
    both("cache.max_object_bytes=2MiB", "cache.max_memory_bytes=1MiB",
         "test.yaml:2:3: cache.max_memory_bytes: cache.max_object_bytes (\"2MiB\") is above "
         "cache.max_memory_bytes "
         "(\"1MiB\"), allowed: at most equal");
}
END_TEST

START_TEST(a_default_gives_way)
{
    struct fixture f;
    char origin[32];
    fixture_begin(&f);
    fixture_put(&f, "pool.max_size", CONFIG_SCALAR, "1");
    fixture_put(&f, "concurrency.min", CONFIG_SCALAR, "5000");
    fixture_put(&f, "cache.max_memory_bytes", CONFIG_SCALAR, "1MiB");
    fixture_put(&f, "listen.max_header_bytes", CONFIG_SCALAR, "8KiB");
    const struct config *c = fixture_good(&f);
    ck_assert_int_eq(c->pool_min_size, 1);
    ck_assert_int_eq(c->concurrency_max, 5000);
    ck_assert_uint_eq(c->cache_max_object_bytes, 1u << 20);
    ck_assert_uint_eq(c->listen_max_target_bytes, 8192);
    config_origin(c, CONFIG_OPTION_pool_min_size, origin, sizeof origin);
    ck_assert_str_eq(origin, "default");
    fixture_end(&f);
    /* But memory is not taken that nobody asked for. */
    both("cache.max_object_bytes=1GiB", NULL,
         "test.yaml:1:3: cache.max_object_bytes: cache.max_object_bytes (\"1GiB\") is above "
         "cache.max_memory_bytes "
         "(\"100MiB\"), allowed: at most equal");
}
END_TEST

START_TEST(certificates_and_keys)
{
    both("listen.tls.certificate_file=/c", "listen.tls.key_file=/k", NULL);
    both("listen.tls.certificate_file=/c", NULL,
         "test.yaml:1:3: listen.tls.certificate_file: is set without listen.tls.key_file, allowed: both or "
         "neither");
    both("listen.tls.key_file=/k", NULL,
         "test.yaml:1:3: listen.tls.key_file: is set without listen.tls.certificate_file, allowed: both or "
         "neither");
    both("upstream.tls.key_file=/k", NULL,
         "test.yaml:1:3: upstream.tls.key_file: is set without upstream.tls.certificate_file, allowed: both "
         "or neither");
    both("listen.tls.client_ca_file=/a", NULL,
         "test.yaml:1:3: listen.tls.client_ca_file: is set without listen.tls.certificate_file, allowed: "
         "only together "
         "with it");
}
END_TEST

START_TEST(admin_stays_at_home)
{
    both("admin.address=0.0.0.0:9901", NULL,
         "test.yaml:1:3: admin.address: can be reached from other machines, allowed without "
         "admin.token_file: 127.0.0.1, "
         "[::1], localhost or unix:/path");
    both("admin.address=[::]:9901", NULL,
         "test.yaml:1:3: admin.address: can be reached from other machines, allowed without "
         "admin.token_file: 127.0.0.1, "
         "[::1], localhost or unix:/path");
    both("admin.address=0.0.0.0:9901", "admin.token_file=/t", NULL);
    both("admin.address=[::1]:9901", NULL, NULL);
    both("admin.address=unix:/run/a", NULL, NULL);
    both("admin.address=127.0.0.1:8080", NULL,
         "test.yaml:1:3: admin.address: listen.address and admin.address are the same, allowed: two "
         "different ones");
    both("admin.address=127.0.0.1:0", "listen.address=127.0.0.1:0", NULL);
}
END_TEST

START_TEST(other_combinations)
{
    struct fixture f;
    both("auth.api_key_file=/k", NULL,
         "test.yaml:1:3: auth.api_key_file: has no effect while auth.scheme is passthrough; leave it out or "
         "choose another "
         "scheme");
    both("auth.secret_key_file=/k", NULL,
         "test.yaml:1:3: auth.secret_key_file: has no effect unless auth.scheme is signed; leave it out or "
         "choose that "
         "scheme");
    both("upstream.tls.server_name=https://a", NULL,
         "test.yaml:1:3: upstream.tls.server_name: is not a host name, allowed: a name without scheme or "
         "port");
    both(
        "pool.health_check_path=health", NULL,
        "test.yaml:1:3: pool.health_check_path: is not a path, allowed: / and what follows, such as /health");
    both("log.file=", NULL, "test.yaml:1:3: log.file: is empty, allowed: - for standard error, or a path");
    fixture_begin(&f);
    fixture_put(&f, "cache.partition_by", CONFIG_SEQUENCE, NULL);
    fixture_build(&f);
    fixture_error(
        &f, 0,
        "test.yaml:1:3: cache.partition_by: is empty, so that all credentials would share stored answers; "
        "allowed: at least one field, or cache.scope: shared");
    fixture_end(&f);
    fixture_begin(&f);
    fixture_put(&f, "cache.partition_by", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "cache.scope", CONFIG_SCALAR, "shared");
    ck_assert_uint_eq(fixture_good(&f)->cache_partition_by.count, 0);
    fixture_end(&f);
}
END_TEST

/* An option that had an error is not judged again in a combination. */
START_TEST(one_mistake_one_error)
{
    both("pool.max_size=none", "pool.min_size=50",
         "test.yaml:1:3: pool.max_size: \"none\" is not a whole number, allowed: 1 to 100000");
    both("admin.address=nowhere", NULL,
         "test.yaml:1:3: admin.address: \"nowhere\" is not an address, allowed: host:port, [v6]:port or "
         "unix:/path");
}
END_TEST

/* ---- What this version does not have ----------------------------------------------------------- */

/* A value other than the default that the row would otherwise take. */
static const char *other_value(const struct config_option_row *row)
{
    if (row->type == CONFIG_TYPE_BOOL)
        return strcmp(row->preset, "true") == 0 ? "false" : "true";
    return row->type == CONFIG_TYPE_URL ? "http://x" : "/x";
}

START_TEST(later_options_are_refused)
{
    int i = _i;
    const struct config_option_row *row = config_option_row(i);
    char want[200], text[128];
    if (row->ready || row->type == CONFIG_TYPE_WEBHOOKS)
        return;
    snprintf(want, sizeof want, "test.yaml:1:3: %s: %s is not available in this version; leave it out",
             row->key, row->key);
    snprintf(text, sizeof text, "%s=%s", row->key, other_value(row));
    /* admin.tls.* would also want their other half; the first error is the one that counts. */
    struct fixture f;
    fixture_begin(&f);
    fixture_put(&f, row->key, CONFIG_SCALAR, other_value(row));
    fixture_build(&f);
    fixture_error(&f, 0, want);
    ck_assert_uint_eq(f.errors.count, 1);
    fixture_end(&f);
    /* Its default may be written down. */
    snprintf(text, sizeof text, "%s=%s", row->key, row->preset);
    both(text, NULL, NULL);
}
END_TEST

START_TEST(later_choices_are_refused)
{
    int i = _i;
    const struct config_option_row *row = config_option_row(i);
    if (i == CONFIG_OPTION_auth_scheme)
        return; /* wants a file beside it: test_config_auth.c */
    for (const struct config_choice *c = row->choices; c && c->text; c++) {
        char want[200], text[128];
        snprintf(want, sizeof want,
                 "test.yaml:1:3: %s: \"%s\" is not available in this version; leave it out", row->key,
                 c->text);
        snprintf(text, sizeof text, "%s=%s", row->key, c->text);
        both(text, NULL, c->ready ? NULL : want);
    }
}
END_TEST

START_TEST(what_is_later)
{
    static const int later[] = {CONFIG_OPTION_cache_frozen_path,
                                CONFIG_OPTION_rate_limit_share_through_redis,
                                CONFIG_OPTION_retry_hedge_enabled,
                                CONFIG_OPTION_notifications_webhooks,
                                CONFIG_OPTION_performance_optimization_auto_apply,
                                CONFIG_OPTION_admin_tls_certificate_file,
                                CONFIG_OPTION_admin_tls_key_file};
    bool listed[CONFIG_OPTION_COUNT] = {false};
    for (size_t i = 0; i < ARRAY_LEN(later); i++)
        listed[later[i]] = true;
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        ck_assert_msg(config_option_row(i)->ready || listed[i], "%s", config_option_row(i)->key);
}
END_TEST

/* ---- Live changes ------------------------------------------------------------------------------ */

static void change_fails(const struct config *c, const char *key, const char *value, const char *want)
{
    struct config_errors errors = {0};
    ck_assert_ptr_null(config_with(c, key, value, &errors));
    ck_assert_uint_eq(errors.count, 1);
    ck_assert_str_eq(errors.items[0], want);
    config_errors_free(&errors);
}

START_TEST(changes_are_judged_together_and_taken_back)
{
    struct fixture f;
    struct config_errors errors = {0};
    static const struct config_change moved[] = {{"pool.min_size", "20"}, {"pool.max_size", "30"}};
    static const struct config_change half[] = {{"pool.max_size", "25"}, {"pool.min_size", "26"}};
    static const struct config_change back[] = {{"pool.min_size", NULL}, {"cache.targets", NULL}};
    fixture_begin(&f);
    fixture_put(&f, "pool.min_size", CONFIG_SCALAR, "3");
    fixture_put(&f, "pool.max_size", CONFIG_SCALAR, "12");
    fixture_put(&f, "cache.targets", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "cache.targets[0]", CONFIG_SCALAR, "A");
    const struct config *old = fixture_good(&f);
    const struct config *a =
        config_with_all(old, moved, 2, &errors); /* each alone would be refused, or not */
    ck_assert_ptr_nonnull(a);
    ck_assert_int_eq(a->pool_min_size, 20);
    ck_assert_ptr_null(config_with_all(a, half, 2, &errors));
    ck_assert_uint_eq(errors.count, 1);
    config_errors_free(&errors);
    const struct config *b = config_with(a, "cache.targets", "[X, Y]", &errors);
    ck_assert_ptr_nonnull(b);
    const struct config *c = config_with_all(b, back, 2, &errors);
    ck_assert_ptr_nonnull(c);
    ck_assert_int_eq(c->pool_min_size, 3);
    ck_assert_int_eq(c->pool_max_size, 30);
    ck_assert_uint_eq(c->cache_targets.count, 1);
    ck_assert_str_eq(c->cache_targets.items[0], "A");
    ck_assert_int_eq(config_place_of(c, CONFIG_OPTION_pool_min_size)->source, CONFIG_FROM_FILE);
    ck_assert_int_eq(config_place_of(c, CONFIG_OPTION_pool_max_size)->source, CONFIG_FROM_CHANGE);
    const struct config *reloaded = config_carry_over(old, c, &errors);
    ck_assert_ptr_nonnull(reloaded);
    ck_assert_int_eq(reloaded->pool_max_size, 30);
    ck_assert_int_eq(reloaded->pool_min_size, 3);
    config_unref(reloaded);
    config_unref(c);
    config_unref(b);
    config_unref(a);
    fixture_end(&f);
}
END_TEST

START_TEST(a_change_makes_a_new_snapshot)
{
    struct fixture f;
    struct config_errors errors = {0};
    char origin[64];
    fixture_begin(&f);
    fixture_put(&f, "cache.default_ttl", CONFIG_SCALAR, "1");
    fixture_put(&f, "cache.targets", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "cache.targets[0]", CONFIG_SCALAR, "A");
    const struct config *old = fixture_good(&f);
    const struct config *a = config_with(old, "cache.default_ttl", "5s", &errors);
    ck_assert_ptr_nonnull(a);
    const struct config *b = config_with(a, "cache.targets", "[X, Y]", &errors);
    ck_assert_ptr_nonnull(b);
    config_unref(a);
    ck_assert_int_eq(old->cache_default_ttl, TICK_S);
    ck_assert_int_eq(b->cache_default_ttl, 5 * TICK_S);
    ck_assert_uint_eq(b->cache_targets.count, 2);
    ck_assert_str_eq(b->cache_targets.items[1], "Y");
    config_origin(b, CONFIG_OPTION_cache_default_ttl, origin, sizeof origin);
    ck_assert_str_eq(origin, "admin");
    ck_assert(!config_same_value(old, b, CONFIG_OPTION_cache_default_ttl));
    ck_assert(config_same_value(old, b, CONFIG_OPTION_cache_max_size));
    config_unref(b);
    fixture_end(&f);
}
END_TEST

START_TEST(refused_changes)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_put(&f, "pool.max_size", CONFIG_SCALAR, "10");
    const struct config *c = fixture_good(&f);
    change_fails(c, "listen.address", "127.0.0.1:1",
                 "listen.address: takes effect at a restart only; change it in the file and restart");
    change_fails(c, "routes", "[]", "routes: cannot be changed by itself; change it in the file and reload");
    change_fails(c, "cache.defalt_ttl", "1",
                 "cache.defalt_ttl: unknown key, did you mean cache.default_ttl?");
    change_fails(c, "cache", "1", "cache: unknown key, did you mean cache?");
    change_fails(c, "pool.min_size", "11",
                 "pool.min_size: pool.min_size (11) is above pool.max_size (10), allowed: at most equal");
    change_fails(c, "server_timing", "perhaps",
                 "server_timing: \"perhaps\" is neither true nor false, allowed: true | false");
    fixture_end(&f);
}
END_TEST

static int looks;

static bool look(enum config_type type, const char *path, char *why, size_t n)
{
    looks++;
    snprintf(why, n, "(type %d) is not there", type == CONFIG_TYPE_READ_FILE);
    return strcmp(path, "/good") == 0;
}

START_TEST(files_are_looked_at_once)
{
    struct fixture f;
    struct config_errors errors = {0};
    looks = 0;
    fixture_begin(&f);
    config_draft_look(f.draft, look);
    fixture_put(&f, "upstream.tls.ca_file", CONFIG_SCALAR, "/good");
    const struct config *c = fixture_good(&f);
    ck_assert_int_eq(looks, 1);
    /* A change of something else does not look again; a change of the file does. */
    const struct config *changed = config_with(c, "cache.enabled", "false", &errors);
    ck_assert_ptr_nonnull(changed);
    ck_assert_int_eq(looks, 1);
    change_fails(changed, "upstream.tls.ca_file", "/bad",
                 "upstream.tls.ca_file: \"/bad\" (type 1) is not there");
    ck_assert_int_eq(looks, 2);
    config_unref(changed);
    fixture_end(&f);
}
END_TEST

/* ---- Reload ------------------------------------------------------------------------------------ */

START_TEST(a_reload_keeps_what_needs_a_restart)
{
    struct fixture running, fresh;
    struct config_errors errors = {0};
    fixture_begin(&running);
    fixture_put(&running, "listen.address", CONFIG_SCALAR, "127.0.0.1:1000");
    fixture_put(&running, "cache.default_ttl", CONFIG_SCALAR, "1");
    fixture_put(&running, "cache.max_size", CONFIG_SCALAR, "7");
    fixture_good(&running);
    fixture_begin(&fresh);
    fixture_put(&fresh, "listen.address", CONFIG_SCALAR, "127.0.0.1:2000");
    fixture_put(&fresh, "workers", CONFIG_SCALAR, "3");
    fixture_put(&fresh, "cache.default_ttl", CONFIG_SCALAR, "2");
    fixture_good(&fresh);
    const struct config *c = config_carry_over(fresh.cfg, running.cfg, &errors);
    ck_assert_ptr_nonnull(c);
    ck_assert_int_eq(c->listen_address.port, 1000);
    ck_assert_int_eq(c->workers, 0);
    ck_assert_int_eq(c->cache_default_ttl, 2 * TICK_S);
    ck_assert_int_eq(c->cache_max_size, 10000); /* nothing else is kept */
    ck_assert_int_eq(config_next_pending(fresh.cfg, running.cfg, 0), CONFIG_OPTION_workers);
    ck_assert_int_eq(config_next_pending(fresh.cfg, running.cfg, CONFIG_OPTION_workers + 1),
                     CONFIG_OPTION_listen_address);
    ck_assert_int_eq(config_next_pending(fresh.cfg, running.cfg, CONFIG_OPTION_listen_address + 1), -1);
    config_unref(c);
    fixture_end(&running);
    fixture_end(&fresh);
}
END_TEST

/* ---- Printing and references ------------------------------------------------------------------- */

START_TEST(printing_never_overruns)
{
    struct fixture f;
    char whole[512], part[512];
    fixture_begin(&f);
    const struct config *c = fixture_good(&f);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        size_t n = config_print_value(c, i, whole, sizeof whole);
        ck_assert_uint_eq(strlen(whole), n);
        ck_assert_uint_eq(config_print_value(c, i, NULL, 0), n);
        for (size_t room = 1; room <= n; room++) {
            memset(part, '#', sizeof part);
            ck_assert_uint_eq(config_print_value(c, i, part, room), n);
            ck_assert_uint_eq(strlen(part), room - 1);
            ck_assert(strncmp(part, whole, room - 1) == 0);
            ck_assert_int_eq(part[room], '#');
        }
    }
    fixture_end(&f);
}
END_TEST

static void *take_and_give(void *arg)
{
    const struct config *c = arg;
    for (int i = 0; i < 20000; i++) {
        config_ref(c);
        config_unref(c);
    }
    config_unref(c);
    return NULL;
}

START_TEST(references_are_counted_across_threads)
{
    struct fixture f;
    pthread_t threads[4];
    fixture_begin(&f);
    const struct config *c = fixture_good(&f);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_and_give, (void *)config_ref(c)), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(c->listen_address.port, 8080);
    fixture_end(&f);
    config_unref(NULL);
}
END_TEST

static void add_table(Suite *s)
{
    TCase *t = tcase_create("table");
    suite_add_tcase(s, t);
    tcase_add_test(t, keys_make_members);
    tcase_add_test(t, sections_stand_together);
    tcase_add_test(t, defaults);
    tcase_add_test(t, unknown_keys_name_the_nearest);
    tcase_add_test(t, nearest_for_others);
    tcase_add_test(t, what_is_beneath_an_unknown_key_is_not_reported);
    tcase_add_test(t, wrong_shapes);
    tcase_add_test(t, errors_are_bounded_and_harmless);
}

static void add_combinations(Suite *s)
{
    TCase *t = tcase_create("combinations");
    suite_add_tcase(s, t);
    tcase_add_test(t, later_sources_win);
    tcase_add_test(t, a_bad_value_is_an_error_though_a_later_source_is_good);
    tcase_add_test(t, file_origin);
    tcase_add_test(t, smaller_and_larger);
    tcase_add_test(t, a_default_gives_way);
    tcase_add_test(t, certificates_and_keys);
    tcase_add_test(t, admin_stays_at_home);
    tcase_add_test(t, other_combinations);
    tcase_add_test(t, one_mistake_one_error);
    tcase_add_loop_test(t, later_options_are_refused, 0, CONFIG_OPTION_COUNT);
    tcase_add_loop_test(t, later_choices_are_refused, 0, CONFIG_OPTION_COUNT);
    tcase_add_test(t, what_is_later);
}

static void add_snapshots(Suite *s)
{
    TCase *t = tcase_create("snapshots");
    suite_add_tcase(s, t);
    tcase_add_test(t, a_change_makes_a_new_snapshot);
    tcase_add_test(t, changes_are_judged_together_and_taken_back);
    tcase_add_test(t, refused_changes);
    tcase_add_test(t, files_are_looked_at_once);
    tcase_add_test(t, a_reload_keeps_what_needs_a_restart);
    tcase_add_test(t, printing_never_overruns);
    tcase_add_test(t, references_are_counted_across_threads);
}

int main(void)
{
    Suite *s = suite_create("config");
    add_table(s);
    add_combinations(s);
    add_snapshots(s);
    return fixture_run(s);
}
