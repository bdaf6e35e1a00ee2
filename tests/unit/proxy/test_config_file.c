/*
 * proxy/config_file.c, config_yaml.c, config_print.c: places in YAML, what YAML is refused, the
 * environment, precedence over real files, reload, and that --print-config reads back.
 */
#include "proxy/config_file.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/command_line.h"

static char directory[64];

/* A file of this name and content in the test's directory; returns its path, in a static buffer. */
static const char *make_file(const char *name, const char *text)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert(fputs(text, f) >= 0);
    ck_assert_int_eq(fclose(f), 0);
    return path;
}

static void set_up(void)
{
    strcpy(directory, "/tmp/test_config_XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void tear_down(void)
{
    static const char *const names[] = {"config.yaml", "other", "ca.pem", "dir"};
    char path[128];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        if (unlink(path) != 0)
            rmdir(path);
    }
    ck_assert_int_eq(rmdir(directory), 0);
}

/* ---- YAML from memory -------------------------------------------------------------------------- */

static const struct config *read_bytes(const void *bytes, size_t n, struct config_errors *errors)
{
    struct config_text text = {bytes, n, "", {.source = CONFIG_FROM_FILE, .name = "c.yaml"}};
    struct config_draft *draft = config_draft_new();
    ck_assert_ptr_nonnull(draft);
    config_read_yaml(&text, draft, errors);
    const struct config *cfg = config_draft_build(draft, errors);
    config_draft_free(draft);
    return cfg;
}

static const struct config *good(const char *yaml)
{
    struct config_errors errors = {0};
    const struct config *cfg = read_bytes(yaml, strlen(yaml), &errors);
    ck_assert_msg(errors.count == 0, "%s", errors.count ? errors.items[0] : "");
    ck_assert_ptr_nonnull(cfg);
    return cfg;
}

/* The text gives exactly these errors; the last is NULL. */
static void bad_bytes(const void *bytes, size_t n, const char *const *want)
{
    struct config_errors errors = {0};
    const struct config *cfg = read_bytes(bytes, n, &errors);
    size_t i = 0;
    for (; want[i]; i++) {
        ck_assert_msg(i < errors.count, "missing: %s", want[i]);
        ck_assert_str_eq(errors.items[i], want[i]);
    }
    ck_assert_msg(i == errors.count, "more: %s", i < errors.count ? errors.items[i] : "");
    config_unref(cfg);
    config_errors_free(&errors);
}

#define BAD(yaml, ...) bad_bytes(yaml, sizeof(yaml) - 1, (const char *const[]){__VA_ARGS__, NULL})

START_TEST(places)
{
    BAD("workers: 4\nlisten:\n  header_timeout: 2h\n    \ncache: {default_ttl:   x, enabld: true}\n",
        "c.yaml:3:19: listen.header_timeout: \"2h\" is out of bounds, allowed: 10ms to 1h",
        "c.yaml:5:24: cache.default_ttl: \"x\" is not a duration, allowed: 0s to 8760h, written like 250ms, "
        "30s, 5m, 1h or "
        "plain seconds",
        "c.yaml:5:27: cache.enabld: unknown key, did you mean cache.enabled?");
    /* Columns count characters, not bytes. */
    BAD("performance: {service_name: \"\xc3\xa9\xc3\xa9\", sample_rate: 2}\n",
        "c.yaml:1:48: performance.sample_rate: \"2\" is out of bounds, allowed: 0 to 1");
    /* A list's or a mapping's place is its key's; that of a member its own. */
    BAD("cache:\n  targets:\n    - A\n    - B C\n  enabled:\n    x: 1\n",
        "c.yaml:4:7: cache.targets[1]: \"B C\" is not a field name, allowed: letters, digits and "
        "!#$%&'*+-.^_`|~",
        "c.yaml:5:3: cache.enabled: must be one value, not a list or a mapping");
    BAD("pool:\n  max_size:\n", "c.yaml:2:12: pool.max_size: has no value; give it one or leave it out");
}
END_TEST

START_TEST(values)
{
    const struct config *c = good("# nothing but what is needed\n"
                                  "workers: 2\n"
                                  "log: {level: debug, file: '-'}\n"
                                  "cache:\n"
                                  "routes:\n"
                                  "  - match: {path: '/a/{b}', methods: [GET]}\n"
                                  "    cache: {ttl: 24h, tags: ['p:{b}']}\n"
                                  "  - match: {path: /}\n"
                                  "concurrency: {mode: off}\n"
                                  "alerts:\n"
                                  "  - id: a\n    metric_type: ERROR_RATE\n    condition: '> 1'\n"
                                  "    message: >-\n      two\n      lines\n");
    ck_assert_int_eq(c->workers, 2);
    ck_assert_int_eq(c->log_level, CONFIG_LOG_LEVEL_DEBUG);
    ck_assert_int_eq(c->concurrency_mode, CONFIG_CONCURRENCY_MODE_OFF);
    ck_assert_uint_eq(c->routes.count, 2);
    ck_assert_str_eq(c->routes.items[0].tags[0], "p:{b}");
    ck_assert_str_eq(c->alerts.items[0].message, "two lines");
    ck_assert_int_eq(config_place_of(c, CONFIG_OPTION_workers)->line, 2);
    ck_assert_int_eq(config_place_of(c, CONFIG_OPTION_routes)->line, 5);
    config_unref(c);
}
END_TEST

START_TEST(empty_texts)
{
    config_unref(good(""));
    config_unref(good("# only a comment\n"));
    config_unref(good("---\n...\n"));
    config_unref(good("{}\n"));
    config_unref(good("\xef\xbb\xbfworkers: 1\n"));
}
END_TEST

START_TEST(duplicates)
{
    BAD("cache: {enabled: true}\nworkers: 1\ncache: {enabled: false}\n",
        "c.yaml:3:1: cache: the key is there twice, first in line 1; leave one out");
    BAD("pool:\n  max_size: 3\n  'max_size': 4\n",
        "c.yaml:3:3: pool.max_size: the key is there twice, first in line 2; leave one out");
    BAD("routes:\n- match: {path: /}\n  match: {path: /x}\n",
        "c.yaml:3:3: routes[0].match: the key is there twice, first in line 2; leave one out");
}
END_TEST

START_TEST(strange_keys)
{
    BAD("cache.enabled: true\n",
        "c.yaml:1:1: cache.enabled: a key must be one word; write a: {b: value} in place of a.b: value");
    BAD("routes[0]: x\n",
        "c.yaml:1:1: routes[0]: a key must be one word; write a: {b: value} in place of a.b: value");
    BAD("? [a]\n: b\n", "c.yaml:1:3: a key must be one word");
    BAD("? {a: b}\n: c\n", "c.yaml:1:3: a key must be one word");
    BAD("\"a\\0b\": c\n", "c.yaml:1:1: a key must be one word");
    BAD("'': c\n", "c.yaml:1:1: a key must be one word; write a: {b: value} in place of a.b: value");
    char yaml[400] = "", long_key[300];
    memset(long_key, 'k', sizeof long_key);
    long_key[299] = '\0';
    snprintf(yaml, sizeof yaml, "%s: 1\n", long_key);
    bad_bytes(yaml, strlen(yaml), (const char *const[]){"c.yaml:1:1: the key is too long", NULL});
}
END_TEST

START_TEST(not_understood)
{
    BAD("a: &x {enabled: true}\ncache:\n  <<: *x\n",
        "c.yaml:3:3: cache.<<: merge keys are not understood; write the keys out",
        "c.yaml:1:1: a: unknown key, allowed here: workers, drain_timeout, drain_idle, security, log, "
        "listen, admin, "
        "upstream, auth, "
        "pool, cache, retry, circuit_breaker, rate_limit, concurrency, batching, performance, alerts, "
        "notifications, "
        "server_timing, preset, routes");
    BAD("workers: !!int 3\n", "c.yaml:1:10: tags such as !!str are not understood; leave it out");
    BAD("workers: 1\n---\nworkers: 2\n", "c.yaml:2:1: a second document begins here, allowed: one");
    BAD("- a\n", "c.yaml:1:1: must be a mapping: keys such as listen: and what they hold");
    BAD("hello\n", "c.yaml:1:1: must be a mapping: keys such as listen: and what they hold");
    BAD("performance: {service_name: \"a\\0b\"}\n",
        "c.yaml:1:29: performance.service_name: has a NUL character, allowed: printable text");
}
END_TEST

START_TEST(not_well_formed)
{
    BAD("workers: [1\n",
        "c.yaml:2:1: not well-formed YAML: did not find expected ',' or ']' while parsing a flow sequence");
    BAD("a: b: c\n", "c.yaml:1:5: not well-formed YAML: mapping values are not allowed in this context");
    BAD("workers: 1\n# \xff\n",
        "c.yaml:2:3: not UTF-8 text (invalid leading UTF-8 octet), allowed: printable UTF-8");
    BAD("a: \x01\n",
        "c.yaml:1:4: not UTF-8 text (control characters are not allowed), allowed: printable UTF-8");
    /* UTF-16, which libyaml would take. */
    BAD("\xff\xfe"
        "a\0:\0 \0b\0\n\0",
        "c.yaml:1:1: not UTF-8 text (invalid leading UTF-8 octet), allowed: printable UTF-8");
    BAD("a: *nothing\n", "c.yaml:1:4: not well-formed YAML: found undefined alias");
}
END_TEST

START_TEST(aliases)
{
    const struct config *c = good("cache: {default_ttl: &t 5s, stale_if_error: *t}\n");
    ck_assert_int_eq(c->cache_stale_if_error, 5 * TICK_S);
    config_unref(c);
}
END_TEST

/* Only that an error with these words is among them. */
static void has_error(const char *yaml, size_t n, const char *words)
{
    struct config_errors errors = {0};
    const struct config *cfg = read_bytes(yaml, n, &errors);
    bool found = false;
    ck_assert_ptr_null(cfg);
    for (size_t i = 0; i < errors.count; i++)
        found = found || strstr(errors.items[i], words);
    ck_assert_msg(found, "%s: %s", words, errors.count ? errors.items[0] : "no error");
    config_errors_free(&errors);
}

static void repeat(char *buf, const char *piece, int times)
{
    size_t n = strlen(piece);
    for (int i = 0; i < times; i++)
        memcpy(buf + (size_t)i * n, piece, n);
    buf[(size_t)times * n] = '\0';
}

START_TEST(bounds)
{
    char *text = malloc(2u << 20);
    ck_assert_ptr_nonnull(text);
    has_error("a: &a [*a]\n", 11, "aliases make this too large or too deep");
    /* Multiplying aliases. */
    static const char bomb[] =
        "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c "
        "[*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    has_error(bomb, sizeof bomb - 1, "aliases make this too large or too deep");
    repeat(text, "[", 17);
    has_error(text, 17, "c.yaml:1:17: nested more than 16 deep, allowed: less");
    repeat(text, "[", 1000000);
    has_error(text, 1000000, "nested more than 16 deep");
    repeat(text, "- a\n", 60000);
    has_error(text, strlen(text), "more than 50000 values");
    repeat(text, "- &a a\n", 101);
    has_error(text, strlen(text), "c.yaml:101:3: more than 100 anchors and aliases");
    size_t n = 0;
    for (int i = 0; i < 1025; i++)
        n += (size_t)sprintf(text + n, "k%d: 1\n", i);
    has_error(text, n, "more than 1024 keys in one mapping");
    memset(text, '#', (1u << 20) + 1);
    has_error(text, (1u << 20) + 1, "c.yaml:1:1: larger than 1 MiB");
    struct config_errors errors = {0};
    const struct config *cfg = read_bytes(text, 1u << 20, &errors);
    ck_assert_ptr_nonnull(cfg);
    config_unref(cfg);
    config_errors_free(&errors);
    free(text);
}
END_TEST

/* ---- Sources ----------------------------------------------------------------------------------- */

static const struct config *load(const char *file, char *const *environment, struct config_errors *errors)
{
    struct config_sources s = {.file = file, .environment = environment};
    return config_load(&s, errors);
}

/* With these variables there is exactly this error. */
static void variable_error(const char *variable, const char *want)
{
    struct config_errors errors = {0};
    char *environment[] = {(char *)variable, NULL};
    const struct config *cfg = load(NULL, environment, &errors);
    ck_assert_ptr_null(cfg);
    ck_assert_uint_eq(errors.count, 1);
    ck_assert_str_eq(errors.items[0], want);
    config_errors_free(&errors);
}

START_TEST(every_key_has_a_variable)
{
    char name[160], variable[400];
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const struct config_option_row *row = config_option_row(i);
        struct config_errors errors = {0};
        size_t n = config_variable_name(row->key, name, sizeof name);
        ck_assert_uint_eq(strlen(name), n);
        snprintf(variable, sizeof variable, "%s=%s", name, row->preset);
        char *environment[] = {variable, NULL};
        const struct config *cfg = load(NULL, environment, &errors);
        ck_assert_msg(cfg != NULL, "%s", errors.count ? errors.items[0] : "");
        ck_assert_int_eq(config_place_of(cfg, i)->source, CONFIG_FROM_ENVIRONMENT);
        ck_assert_str_eq(config_place_of(cfg, i)->name, name);
        config_unref(cfg);
    }
    config_variable_name("cache.default_ttl", name, sizeof name);
    ck_assert_str_eq(name, "PROMPTOPS_SIDECAR_CACHE__DEFAULT_TTL");
}
END_TEST

START_TEST(bad_variables)
{
    variable_error("PROMPTOPS_SIDECAR_CACHE__DEFAULT_TTL=x",
                   "PROMPTOPS_SIDECAR_CACHE__DEFAULT_TTL: cache.default_ttl: \"x\" is not a duration, "
                   "allowed: 0s to 8760h, "
                   "written like 250ms, 30s, 5m, 1h or plain seconds");
    variable_error("PROMPTOPS_SIDECAR_CACHE_DEFAULT_TTL=1",
                   "PROMPTOPS_SIDECAR_CACHE_DEFAULT_TTL: unknown variable, did you "
                   "mean PROMPTOPS_SIDECAR_CACHE__DEFAULT_TTL?");
    variable_error("PROMPTOPS_SIDECAR_WORKER=1",
                   "PROMPTOPS_SIDECAR_WORKER: unknown variable, did you mean PROMPTOPS_SIDECAR_WORKERS?");
    variable_error("PROMPTOPS_SIDECAR_workers=1",
                   "PROMPTOPS_SIDECAR_workers: unknown variable, did you mean PROMPTOPS_SIDECAR_WORKERS?");
    variable_error("PROMPTOPS_SIDECAR_ZZZZZZZZZZ=1",
                   "PROMPTOPS_SIDECAR_ZZZZZZZZZZ: unknown variable, allowed: "
                   "PROMPTOPS_SIDECAR_ and a key in capitals, dots as double "
                   "underscores");
    variable_error("PROMPTOPS_SIDECAR_ROUTES=[{match: {path: x}}]",
                   "PROMPTOPS_SIDECAR_ROUTES: routes[0].match.path: \"x\" must begin with / and have at most "
                   "1024 bytes, "
                   "allowed: a template such as /v1/client/prompts/{prompt_id}");
    variable_error("PROMPTOPS_SIDECAR_ALERTS=[", "PROMPTOPS_SIDECAR_ALERTS: alerts: not well-formed YAML: "
                                                 "did not find expected node content while parsing "
                                                 "a flow node");
    variable_error("PROMPTOPS_SIDECAR_PORT=9000",
                   "PROMPTOPS_SIDECAR_PORT: unknown variable, allowed: PROMPTOPS_SIDECAR_ and "
                   "a key in capitals, dots as double underscores");
}
END_TEST

START_TEST(good_variables)
{
    struct config_errors errors = {0};
    char *environment[] = {(char *)"PATH=/bin",
                           (char *)"PROMPTOPS_SIDECAR_CACHE__TARGETS=A, B",
                           (char *)"PROMPTOPS_SIDECAR_ROUTES=[{\"match\": {\"path\": \"/x\"}}]",
                           (char *)"PROMPTOPS_BASE_URL=http://x",
                           (char *)"PROMPTOPS_SIDECAR",
                           NULL};
    const struct config *c = load(NULL, environment, &errors);
    ck_assert_msg(c != NULL, "%s", errors.count ? errors.items[0] : "");
    ck_assert_str_eq(c->cache_targets.items[1], "B");
    ck_assert_str_eq(c->routes.items[0].path, "/x");
    ck_assert_str_eq(config_place_of(c, CONFIG_OPTION_routes)->name, "PROMPTOPS_SIDECAR_ROUTES");
    config_unref(c);
}
END_TEST

START_TEST(kubernetes_service_links_are_left_aside)
{
    struct config_errors errors = {0};
    char *environment[] = {(char *)"PROMPTOPS_SIDECAR_SERVICE_HOST=10.0.0.1",
                           (char *)"PROMPTOPS_SIDECAR_SERVICE_PORT=8080",
                           (char *)"PROMPTOPS_SIDECAR_SERVICE_PORT_HTTP=8080",
                           (char *)"PROMPTOPS_SIDECAR_PORT=tcp://10.0.0.1:8080",
                           (char *)"PROMPTOPS_SIDECAR_PORT_8080_TCP=tcp://10.0.0.1:8080",
                           (char *)"PROMPTOPS_SIDECAR_PORT_8080_TCP_PROTO=tcp",
                           (char *)"PROMPTOPS_SIDECAR_PORT_8080_TCP_PORT=8080",
                           (char *)"PROMPTOPS_SIDECAR_PORT_8080_TCP_ADDR=10.0.0.1",
                           (char *)"PROMPTOPS_SIDECAR_ADMIN_SERVICE_HOST=10.0.0.2",
                           (char *)"PROMPTOPS_SIDECAR_ADMIN_PORT=tcp://10.0.0.2:9901",
                           NULL};
    const struct config *c = load(NULL, environment, &errors);
    ck_assert_msg(c != NULL, "%s", errors.count ? errors.items[0] : "");
    config_unref(c);
}
END_TEST

START_TEST(precedence)
{
    const char *file =
        make_file("config.yaml", "pool: {max_size: 20, min_size: 3}\ncache: {max_size: 5}\nworkers: 2\n");
    char *environment[] = {(char *)"PROMPTOPS_SIDECAR_POOL__MAX_SIZE=30",
                           (char *)"PROMPTOPS_SIDECAR_WORKERS=3", NULL};
    struct config_assignment flags[] = {{"workers", "4", "--set"}, {"workers", "5", "--set"}};
    struct config_sources s = {file, environment, flags, 2};
    struct config_errors errors = {0};
    char origin[200], want[200];
    const struct config *c = config_load(&s, &errors);
    ck_assert_msg(c != NULL, "%s", errors.count ? errors.items[0] : "");
    ck_assert_int_eq(c->retry_max_attempts, 3);
    ck_assert_int_eq(c->cache_max_size, 5);
    ck_assert_int_eq(c->pool_min_size, 3);
    ck_assert_int_eq(c->pool_max_size, 30);
    ck_assert_int_eq(c->workers, 5);
    config_origin(c, CONFIG_OPTION_cache_max_size, origin, sizeof origin);
    snprintf(want, sizeof want, "%s:2", file);
    ck_assert_str_eq(origin, want);
    config_unref(c);
}
END_TEST

START_TEST(all_errors_of_all_sources)
{
    const char *file = make_file("config.yaml", "pool: {max_size: x}\nzzz: 1\n");
    char *environment[] = {(char *)"PROMPTOPS_SIDECAR_POOL__MIN_SIZE=y", (char *)"PROMPTOPS_SIDECAR_WRKERS=1",
                           NULL};
    struct config_assignment flags[] = {{"listen.address", "z", "--listen"}, {"no.such", "1", "--set"}};
    struct config_sources s = {file, environment, flags, 2};
    struct config_errors errors = {0};
    ck_assert_ptr_null(config_load(&s, &errors));
    ck_assert_uint_eq(errors.count, 6);
    config_errors_free(&errors);
}
END_TEST

START_TEST(files_that_cannot_be_read)
{
    struct config_errors errors = {0};
    char path[128], want[512];
    snprintf(path, sizeof path, "%s/none.yaml", directory);
    ck_assert_ptr_null(load(path, NULL, &errors));
    snprintf(want, sizeof want,
             "%s: cannot be read, allowed: a YAML file that this user may read: No such file or directory",
             path);
    ck_assert_str_eq(errors.items[0], want);
    config_errors_free(&errors);
    ck_assert_ptr_null(load(directory, NULL, &errors));
    ck_assert_ptr_nonnull(strstr(errors.items[0], "Is a directory"));
    config_errors_free(&errors);
}
END_TEST

static void usable(enum config_type type, const char *path, const char *words)
{
    char why[256] = "";
    bool yes = config_file_usable(type, path, why, sizeof why);
    ck_assert_msg(yes == !words, "%s: %s", path, why);
    if (words)
        ck_assert_msg(strstr(why, words) != NULL, "%s: %s", path, why);
}

START_TEST(named_files)
{
    char path[160], other[128];
    snprintf(other, sizeof other, "%s", make_file("other", "x"));
    usable(CONFIG_TYPE_READ_FILE, other, NULL);
    usable(CONFIG_TYPE_READ_FILE, directory, "Is a directory");
    usable(CONFIG_TYPE_WRITE_FILE, "-", NULL);
    usable(CONFIG_TYPE_WRITE_FILE, other, NULL);
    usable(CONFIG_TYPE_WRITE_FILE, directory, "Is a directory");
    snprintf(path, sizeof path, "%s/new", directory);
    usable(CONFIG_TYPE_WRITE_FILE, path, NULL);
    usable(CONFIG_TYPE_READ_FILE, path, "No such file or directory");
    snprintf(path, sizeof path, "%s/none/new", directory);
    usable(CONFIG_TYPE_WRITE_FILE, path, "No such file or directory");
    usable(CONFIG_TYPE_DIRECTORY, directory, NULL);
    usable(CONFIG_TYPE_DIRECTORY, other, "Not a directory");
    usable(CONFIG_TYPE_DIRECTORY, path, "No such file or directory");
    snprintf(path, sizeof path, "%s/x", other);
    usable(CONFIG_TYPE_WRITE_FILE, path, "Not a directory");
}
END_TEST

START_TEST(a_named_file_that_is_missing_is_an_error_of_the_configuration)
{
    struct config_errors errors = {0};
    char yaml[300], want[400];
    snprintf(yaml, sizeof yaml, "upstream:\n  tls: {ca_file: %s/ca.pem}\n", directory);
    const char *file = make_file("config.yaml", yaml);
    ck_assert_ptr_null(load(file, NULL, &errors));
    ck_assert_uint_eq(errors.count, 1);
    snprintf(want, sizeof want,
             "%s:2:18: upstream.tls.ca_file: \"%s/ca.pem\" cannot be read, allowed: a file that this user "
             "may read: No such file or directory",
             file, directory);
    ck_assert_str_eq(errors.items[0], want);
    config_errors_free(&errors);
}
END_TEST

/* ---- Reload ------------------------------------------------------------------------------------ */

START_TEST(reload_keeps_nothing_but_what_needs_a_restart)
{
    struct config_errors errors = {0};
    struct config_pending pending;
    struct config_sources s = {0};
    char path[128];
    snprintf(path, sizeof path, "%s",
             make_file("config.yaml", "workers: 2\nretry: {max_attempts: 5}\ncache: {max_size: 9}\n"));
    s.file = path;
    const struct config *first = config_load(&s, &errors);
    ck_assert_ptr_nonnull(first);
    make_file("config.yaml", "workers: 3\nretry: {max_attempts: 6}\n");
    const struct config *second = config_reload(&s, first, &errors, &pending);
    ck_assert_ptr_nonnull(second);
    ck_assert_int_eq(second->workers, 2);
    ck_assert_int_eq(second->retry_max_attempts, 6);
    ck_assert_int_eq(second->cache_max_size, 10000);
    ck_assert_uint_eq(pending.count, 1);
    ck_assert_int_eq(pending.options[0], CONFIG_OPTION_workers);
    /* A bad file leaves the running one as it is. */
    make_file("config.yaml", "retry: {max_attempts: 0}\n");
    ck_assert_ptr_null(config_reload(&s, second, &errors, NULL));
    ck_assert_uint_eq(errors.count, 1);
    config_errors_free(&errors);
    ck_assert_int_eq(second->retry_max_attempts, 6);
    /* What was changed while running stays over the next reload, until it is taken back. */
    const struct config *changed = config_with(second, "cache.max_size", "77", &errors);
    ck_assert_ptr_nonnull(changed);
    make_file("config.yaml", "workers: 2\n");
    const struct config *third = config_reload(&s, changed, &errors, &pending);
    ck_assert_ptr_nonnull(third);
    ck_assert_int_eq(third->cache_max_size, 77);
    ck_assert_uint_eq(pending.count, 0);
    config_unref(first);
    config_unref(second);
    config_unref(changed);
    config_unref(third);
}
END_TEST

/* ---- --print-config ---------------------------------------------------------------------------- */

static char *print_yaml(const struct config *cfg)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    ck_assert_ptr_nonnull(out);
    config_print_yaml(cfg, out);
    ck_assert_int_eq(fclose(out), 0);
    return text;
}

static void reads_back(const struct config *cfg)
{
    char *text = print_yaml(cfg);
    const struct config *again = good(text);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        ck_assert_msg(config_same_value(cfg, again, i), "%s", config_option_row(i)->key);
    char *text_again = print_yaml(again);
    ck_assert_uint_eq(strlen(text) > 0, strlen(text_again) > 0);
    free(text_again);
    free(text);
    config_unref(again);
}

START_TEST(defaults_read_back)
{
    const struct config *c = good("");
    reads_back(c);
    char *text = print_yaml(c);
    ck_assert_ptr_nonnull(
        strstr(text, "\nlisten:\n  address: \"127.0.0.1:8080\"                 # default\n"));
    ck_assert_ptr_nonnull(
        strstr(text, "\n  tls:\n    ca_file: \"\"                             # default\n"));
    free(text);
    config_unref(c);
}
END_TEST

/* A value other than the default: the other bound, choice or truth, or something in its form. */
static bool other_value(const struct config_option_row *row, char *buf, size_t n)
{
    const char *value = row->most;
    if (row->type == CONFIG_TYPE_BOOL)
        value = strcmp(row->preset, "true") == 0 ? "false" : "true";
    else if (row->type == CONFIG_TYPE_ENUM)
        value = row->choices[strcmp(row->choices[0].text, row->preset) == 0].text;
    else if (row->type == CONFIG_TYPE_STRING)
        value = "a: b # \"c\" \\ 'd' \xc3\xa9 - [e]";
    else if (row->type == CONFIG_TYPE_ADDRESS || row->type == CONFIG_TYPE_READ_FILE)
        return false; /* said together with their companions */
    else if (row->type == CONFIG_TYPE_WRITE_FILE)
        value = "/dev/null";
    else if (row->type == CONFIG_TYPE_URL)
        value = "http://[::1]:1/x,y";
    else if (row->type == CONFIG_TYPE_LIST)
        value = "true, 12, null, ~";
    else if (row->type == CONFIG_TYPE_DISGUISES)
        value = "[400:too many, 503:slow down]";
    else if (row->type == CONFIG_TYPE_RETRY_ON)
        value = "[500, reset]";
    else if (!*value)
        return false;
    snprintf(buf, n, "%s", value);
    return true;
}

START_TEST(everything_else_reads_back)
{
    struct config_errors errors = {0};
    struct config_draft *draft = config_draft_new();
    char value[128];
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const struct config_option_row *row = config_option_row(i);
        struct config_entry e = {
            .key = row->key, .value = value, .place = {CONFIG_FROM_FLAG, "--set\n# x", 0, 0}};
        if (!row->ready || i == CONFIG_OPTION_upstream_tls_server_name ||
            i == CONFIG_OPTION_pool_health_check_path || i == CONFIG_OPTION_auth_scheme ||
            i == CONFIG_OPTION_listen_max_target_bytes || i == CONFIG_OPTION_listen_handover ||
            i == CONFIG_OPTION_upstream_connect_to)
            continue;
        if (!other_value(row, value, sizeof value))
            continue;
        ck_assert(config_draft_put(draft, &e));
    }
    static const char *const more[][2] = {{"listen.address", "unix:/run/x y"},
                                          {"admin.address", "[::1]:1"},
                                          {"admin.token_file", "yes"},
                                          {"upstream.tls.ca_file", "/a:b"},
                                          {"upstream.tls.server_name", "off"},
                                          {"pool.health_check_path", "/a?b=\"c\""},
                                          {"listen.handover", "/run/x: y"},
                                          {"cache.redis_url", "redis://h:1/2"},
                                          {"listen.tls.certificate_file", "1.5"},
                                          {"listen.tls.key_file", "- x"}};
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        struct config_entry e = {
            .key = more[i][0], .value = more[i][1], .place = {CONFIG_FROM_FLAG, "--set", 0, 0}};
        ck_assert(config_draft_put(draft, &e));
    }
    const struct config *c = config_draft_build(draft, &errors);
    ck_assert_msg(c != NULL, "%s", errors.count ? errors.items[0] : "");
    config_draft_free(draft);
    reads_back(c);
    config_unref(c);
}
END_TEST

START_TEST(lists_of_mappings_read_back)
{
    const struct config *c =
        good("routes:\n"
             "  - match: {path: '/a/{b}', methods: [GET, DELETE]}\n"
             "    cache: {ttl: 1500ms, tags: ['p:{b}', \"q\\\"\"]}\n"
             "    invalidates: ['p:*']\n"
             "    safe: true\n"
             "  - {match: {path: /}, cache: {enabled: false}, timeout: 3}\n"
             "alerts:\n"
             "  - {id: a, enabled: false}\n"
             "  - {id: b, metric_type: CUSTOM_METRIC, metric_name: m, condition: '!= 1e3',\n"
             "     message: \"two\\n\\tlines: # x\", for: 1h, cooldown_period: 0}\n");
    ck_assert_uint_eq(c->routes.count + c->alerts.count, 4);
    reads_back(c);
    char *text = print_yaml(c);
    ck_assert_ptr_nonnull(
        strstr(text, "\nroutes:                                     # c.yaml:1\n  - {\"match\": "));
    free(text);
    config_unref(c);
}
END_TEST

static void add_yaml(Suite *s)
{
    TCase *t = tcase_create("yaml");
    suite_add_tcase(s, t);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, places);
    tcase_add_test(t, values);
    tcase_add_test(t, empty_texts);
    tcase_add_test(t, duplicates);
    tcase_add_test(t, strange_keys);
    tcase_add_test(t, not_understood);
    tcase_add_test(t, not_well_formed);
    tcase_add_test(t, aliases);
    tcase_add_test(t, bounds);
    tcase_add_test(t, defaults_read_back);
    tcase_add_test(t, everything_else_reads_back);
    tcase_add_test(t, lists_of_mappings_read_back);
}

static void add_sources(Suite *s)
{
    TCase *t = tcase_create("sources");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, every_key_has_a_variable);
    tcase_add_test(t, bad_variables);
    tcase_add_test(t, good_variables);
    tcase_add_test(t, kubernetes_service_links_are_left_aside);
    tcase_add_test(t, precedence);
    tcase_add_test(t, all_errors_of_all_sources);
    tcase_add_test(t, files_that_cannot_be_read);
    tcase_add_test(t, named_files);
    tcase_add_test(t, a_named_file_that_is_missing_is_an_error_of_the_configuration);
    tcase_add_test(t, reload_keeps_nothing_but_what_needs_a_restart);
}

int main(void)
{
    Suite *s = suite_create("config_file");
    add_yaml(s);
    add_sources(s);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
