/* policy/config_items.c, config_routes.c, config_alerts.c, alert_spec.c: lists of mappings. */
#include <stdio.h>

#include "policy/head.h"
#include "tests/unit/policy/config_fixture.h"

static void route_begin(struct fixture *f)
{
    fixture_begin(f);
    fixture_put(f, "routes", CONFIG_SEQUENCE, NULL);
    fixture_put(f, "routes[0]", CONFIG_MAPPING, NULL);
}

START_TEST(a_whole_route)
{
    struct fixture f;
    char text[512];
    route_begin(&f);
    fixture_put(&f, "routes[0].match", CONFIG_MAPPING, NULL);
    fixture_put(&f, "routes[0].match.path", CONFIG_SCALAR, "/v1/{prompt_id}/{rest...}");
    fixture_put(&f, "routes[0].match.methods", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "routes[0].match.methods[0]", CONFIG_SCALAR, "GET");
    fixture_put(&f, "routes[0].match.methods[1]", CONFIG_SCALAR, "POST");
    fixture_put(&f, "routes[0].operation", CONFIG_SCALAR, "get_it");
    fixture_put(&f, "routes[0].safe", CONFIG_SCALAR, "true");
    fixture_put(&f, "routes[0].cache", CONFIG_MAPPING, NULL);
    fixture_put(&f, "routes[0].cache.ttl", CONFIG_SCALAR, "24h");
    fixture_put(&f, "routes[0].cache.tags", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "routes[0].cache.tags[0]", CONFIG_SCALAR, "prompt:{prompt_id}");
    fixture_put(&f, "routes[0].retry", CONFIG_MAPPING, NULL);
    fixture_put(&f, "routes[0].retry.max_attempts", CONFIG_SCALAR, "4");
    fixture_put(&f, "routes[0].timeout", CONFIG_SCALAR, "10");
    fixture_put(&f, "routes[0].invalidates", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "routes[0].invalidates[0]", CONFIG_SCALAR, "list:{rest}:*");
    fixture_put(&f, "routes[1]", CONFIG_MAPPING, NULL);
    fixture_put(&f, "routes[1].match", CONFIG_MAPPING, NULL);
    fixture_put(&f, "routes[1].match.path", CONFIG_SCALAR, "/");
    fixture_put(&f, "routes[1].cache", CONFIG_MAPPING, NULL);
    fixture_put(&f, "routes[1].cache.enabled", CONFIG_SCALAR, "false");
    const struct config *c = fixture_good(&f);
    ck_assert_uint_eq(c->routes.count, 2);
    const struct route_spec *r = &c->routes.items[0];
    ck_assert_str_eq(r->path, "/v1/{prompt_id}/{rest...}");
    ck_assert_uint_eq(r->methods, 1u << METHOD_GET | 1u << METHOD_POST);
    ck_assert_str_eq(r->operation, "get_it");
    ck_assert(r->safe && r->has_ttl && !r->no_store);
    ck_assert_int_eq(r->ttl, 24 * 3600 * TICK_S);
    ck_assert_str_eq(r->tags[0], "prompt:{prompt_id}");
    ck_assert_ptr_null(r->tags[1]);
    ck_assert_str_eq(r->invalidates[0], "list:{rest}:*");
    ck_assert_int_eq(r->max_attempts, 4);
    ck_assert_int_eq(r->timeout, 10 * TICK_S);
    r++;
    ck_assert(r->no_store && !r->has_ttl && r->methods == 0 && r->operation == NULL);
    config_print_item(c, CONFIG_OPTION_routes, 0, text, sizeof text);
    ck_assert_str_eq(
        text, "{\"match\": {\"path\": \"/v1/{prompt_id}/{rest...}\", \"methods\": [\"GET\", \"POST\"]}, "
              "\"operation\": \"get_it\", \"safe\": true, \"cache\": {\"ttl\": \"24h\", \"tags\": "
              "[\"prompt:{prompt_id}\"]}, \"retry\": {\"max_attempts\": 4}, \"timeout\": \"10s\", "
              "\"invalidates\": [\"list:{rest}:*\"]}");
    config_print_value(c, CONFIG_OPTION_routes, text, sizeof text);
    ck_assert(strstr(text, "}, {\"match\": {\"path\": \"/\"}, \"cache\": {\"enabled\": false}}]") != NULL);
    ck_assert_uint_eq(config_print_item(c, CONFIG_OPTION_routes, 2, text, sizeof text), 0);
    ck_assert_uint_eq(config_print_item(c, CONFIG_OPTION_workers, 0, text, sizeof text), 0);
    fixture_end(&f);
}
END_TEST

/* One field of a route with a good path /a/{id}: the only error, without its place and key; NULL: good. */
static void route_field(const char *name, const char *value, const char *want)
{
    struct fixture f;
    char key[64], text[600];
    route_begin(&f);
    fixture_put(&f, "routes[0].match", CONFIG_MAPPING, NULL);
    fixture_put(&f, "routes[0].match.path", CONFIG_SCALAR, "/a/{id}");
    snprintf(key, sizeof key, "routes[0].%s", name);
    fixture_put(&f, key, CONFIG_SCALAR, value);
    fixture_build(&f);
    ck_assert_msg(f.errors.count == (want != NULL), "%s: %s", value,
                  f.errors.count ? f.errors.items[0] : "taken");
    if (want && strncmp(want, "the tag", 7) == 0)
        snprintf(text, sizeof text, "test.yaml:2:3: routes[0]: %s", want);
    else
        snprintf(text, sizeof text, "test.yaml:5:3: %s: %s", key, want ? want : "");
    if (want)
        fixture_error(&f, 0, text);
    fixture_end(&f);
}

static void bad_path(const char *path, const char *why)
{
    char want[300];
    snprintf(want, sizeof want, "\"%s\" %s, allowed: a template such as /v1/client/prompts/{prompt_id}", path,
             why);
    route_field("match.path", path, want);
}

START_TEST(paths)
{
    static const char *const good[] = {"/", "/a/", "/a//b", "/{a}", "/{a}/{b}/{c...}", "/{_A9}", "/a.b-c~d"};
    char deep[80] = "";
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        route_field("match.path", good[i], NULL);
    bad_path("", "must begin with / and have at most 1024 bytes");
    bad_path("a", "must begin with / and have at most 1024 bytes");
    bad_path("/a?b", "has a query, a fragment or a space");
    bad_path("/a b", "has a query, a fragment or a space");
    bad_path("/{a}/{a}", "has the same variable twice");
    bad_path("/{a}/{b}/{a...}", "has the same variable twice");
    bad_path("/{a...}/b", "has a {name...} that is not its last segment");
    static const char *const braces[] = {
        "/{}",   "/{a",    "/a}",    "/{a}b",  "/b{a}",
        "/{9a}", "/{a-b}", "/{a..}", "/{{a}}", "/{aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}"};
    for (size_t i = 0; i < ARRAY_LEN(braces); i++)
        bad_path(braces[i],
                 "has a { or } that is not a whole segment {name}, names being letters, digits and _");
    for (int i = 0; i < 32; i++)
        strcat(deep, "/x");
    route_field("match.path", deep, NULL);
    strcat(deep, "/x");
    bad_path(deep, "has more than 32 segments");
}
END_TEST

START_TEST(fields)
{
    route_field(
        "timeout", "soon",
        "\"soon\" is not a duration, allowed: 1ms to 24h, written like 250ms, 30s, 5m, 1h or plain seconds");
    route_field("retry.max_attempts", "21", "\"21\" is out of bounds, allowed: 1 to 20");
    route_field("operation", "a b", "\"a b\" is not a name, allowed: up to 64 letters, digits, _ . and -");
    route_field("operation", "", "\"\" is not a name, allowed: up to 64 letters, digits, _ . and -");
    route_field("safe", "maybe", "\"maybe\" is neither true nor false, allowed: true | false");
    route_field("match.pth", "/", "unknown key, did you mean match.path?");
    route_field("cache.tll", "1", "unknown key, did you mean cache.ttl?");
    route_field(
        "zzzzzz", "1",
        "unknown key, allowed here: match, match.path, match.methods, operation, safe, cache, cache.enabled, "
        "cache.ttl, cache.tags, retry, retry.max_attempts, timeout, invalidates");
    route_field("match.methods", "GET", "must be a list, such as [a, b]");
    route_field("cache", "1", "must be a mapping");
    route_field("match.methods[0]", "get",
                "\"get\" is not known, allowed: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS");
    route_field("timeout[0]", "1", "unknown key, did you mean timeout?");
    route_field("cache.tags[0]", "a:{idd}", "the tag \"a:{idd}\" has a {name} that is not in match.path");
    route_field("cache.tags[0]", "a:{id", "the tag \"a:{id\" has a {name} that is not in match.path");
    route_field("cache.tags[0]", "a}", "the tag \"a}\" has a {name} that is not in match.path");
    route_field("cache.tags[0]", "a*",
                "the tag \"a*\" has a *, which is allowed only at the end of one in invalidates");
    route_field("invalidates[0]", "*a",
                "the tag \"*a\" has a *, which is allowed only at the end of one in invalidates");
    route_field("invalidates[0]", "a:{id}*", NULL);
    route_field("cache.tags[0]", "", "a tag has from 1 to 256 bytes, such as prompt:{prompt_id}");
}
END_TEST

START_TEST(whole_items)
{
    struct fixture f;
    route_begin(&f);
    fixture_put(&f, "routes[0].operation", CONFIG_SCALAR, "x");
    fixture_put(&f, "routes[1]", CONFIG_SCALAR, "x");
    fixture_put(&f, "routes[2]", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "routes[2][0]", CONFIG_SCALAR, "x");
    fixture_put(&f, "routes[3]", CONFIG_MAPPING, NULL);
    fixture_put(&f, "routes[3].match", CONFIG_MAPPING, NULL);
    fixture_put(&f, "routes[3].match.path", CONFIG_MAPPING, NULL);
    fixture_put(&f, "routes[3].match.path.x", CONFIG_SCALAR, "1");
    fixture_put(&f, "routes[3].timeout", CONFIG_NOTHING, NULL);
    fixture_build(&f);
    fixture_error(&f, 0,
                  "test.yaml:2:3: routes[0]: has no match.path, allowed: a template such as "
                  "/v1/client/prompts/{prompt_id}");
    fixture_error(&f, 1, "test.yaml:4:3: routes[1]: must be a mapping of keys and values");
    fixture_error(&f, 2, "test.yaml:5:3: routes[2]: must be a mapping of keys and values");
    fixture_error(&f, 3, "test.yaml:9:3: routes[3].match.path: must be one value, not a list or a mapping");
    fixture_error(&f, 4, "test.yaml:11:3: routes[3].timeout: has no value; give it one or leave it out");
    ck_assert_uint_eq(f.errors.count, 5);
    fixture_end(&f);
}
END_TEST

START_TEST(empty_lists)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_put(&f, "routes", CONFIG_NOTHING, NULL);
    fixture_put(&f, "alerts", CONFIG_SEQUENCE, NULL);
    const struct config *c = fixture_good(&f);
    ck_assert_uint_eq(c->routes.count + c->alerts.count, 0);
    fixture_end(&f);
}
END_TEST

START_TEST(too_many)
{
    struct fixture f;
    char key[32];
    for (int count = 1000; count <= 1001; count++) {
        fixture_begin(&f);
        fixture_put(&f, "alerts", CONFIG_SEQUENCE, NULL);
        for (int i = 0; i < count; i++) {
            snprintf(key, sizeof key, "alerts[%d]", i);
            fixture_put(&f, key, CONFIG_MAPPING, NULL);
            char id[16];
            snprintf(id, sizeof id, "a%d", i);
            snprintf(key, sizeof key, "alerts[%d].id", i);
            fixture_put(&f, key, CONFIG_SCALAR, id);
            snprintf(key, sizeof key, "alerts[%d].enabled", i);
            fixture_put(&f, key, CONFIG_SCALAR, "false");
        }
        fixture_build(&f);
        ck_assert_uint_eq(f.errors.count, count > 1000);
        if (count > 1000)
            fixture_error(&f, 0, "test.yaml:1:3: alerts: 1001 entries, allowed: at most 1000");
        fixture_end(&f);
    }
}
END_TEST

START_TEST(nine_tags)
{
    struct fixture f;
    route_begin(&f);
    fixture_put(&f, "routes[0].match.path", CONFIG_SCALAR, "/");
    fixture_put(&f, "routes[0].cache.tags", CONFIG_SEQUENCE, NULL);
    for (int i = 0; i < 9; i++) {
        char key[40];
        snprintf(key, sizeof key, "routes[0].cache.tags[%d]", i);
        fixture_put(&f, key, CONFIG_SCALAR, "t");
    }
    fixture_build(&f);
    ck_assert_uint_eq(f.errors.count, 1);
    fixture_error(&f, 0, "test.yaml:13:3: routes[0].cache.tags[8]: more tags than 8, allowed: at most 8");
    fixture_end(&f);
}
END_TEST

/* ---- Alerts ------------------------------------------------------------------------------------ */

/* An alert of these "key=value" fields, NULL ends: its only error without place, or NULL for none. */
static void alert(const char *const *pairs, const char *want)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_put(&f, "alerts", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "alerts[0]", CONFIG_MAPPING, NULL);
    for (; *pairs; pairs++) {
        char key[64];
        size_t n = strcspn(*pairs, "=");
        snprintf(key, sizeof key, "alerts[0].%.*s", (int)n, *pairs);
        fixture_put(&f, key, CONFIG_SCALAR, *pairs + n + 1);
    }
    fixture_build(&f);
    ck_assert_msg(f.errors.count == (want != NULL), "%s", f.errors.count ? f.errors.items[0] : "taken");
    if (want)
        ck_assert_str_eq(strstr(f.errors.items[0], "alerts"), want);
    fixture_end(&f);
}

#define ALERT(...) ((const char *const[]){__VA_ARGS__, NULL})

START_TEST(alerts)
{
    alert(ALERT("id=a", "metric_type=ERROR_RATE", "condition=> 0.5"), NULL);
    alert(ALERT("id=high_latency", "enabled=false"), NULL);
    alert(ALERT("id=a", "metric_type=CUSTOM_METRIC", "metric_name=q", "condition=<=1"), NULL);
    alert(ALERT("metric_type=ERROR_RATE", "condition=> 0.5"),
          "alerts[0]: has no id; give it one, which may be that of a built-in alert to replace it");
    alert(ALERT("id=a", "condition=> 0.5"), "alerts[0]: needs metric_type and condition, or enabled: false");
    alert(ALERT("id=a", "metric_type=ERROR_RATE"),
          "alerts[0]: needs metric_type and condition, or enabled: false");
    alert(ALERT("id=a", "metric_type=CUSTOM_METRIC", "condition=> 1"),
          "alerts[0]: CUSTOM_METRIC needs metric_name, the name it is posted under");
    alert(ALERT("id=a", "metric_type=ERROR_RATE", "condition=> 1", "metric_name=q"),
          "alerts[0]: metric_name goes with metric_type CUSTOM_METRIC only");
    alert(ALERT("id=a b"),
          "alerts[0].id: \"a b\" is not a name, allowed: up to 64 letters, digits, _ . and -");
    alert(ALERT("id=a", "metric_type=ERROR_RAT"),
          "alerts[0].metric_type: \"ERROR_RAT\" is not known, did you mean ERROR_RATE? allowed: "
          "REQUEST_LATENCY | "
          "MEMORY_USAGE | CPU_USAGE | NETWORK_LATENCY | CACHE_HIT_RATE | ERROR_RATE | THROUGHPUT | "
          "CONNECTION_POOL_SIZE | "
          "RETRY_COUNT | BATCH_SIZE | COMPRESSION_RATIO | CUSTOM_METRIC | QUOTA_REMAINING | CIRCUITS_OPEN | "
          "POOL_STARVATION | CERTIFICATE_DAYS | RETRY_AMPLIFICATION | ERROR_BUDGET_BURN_FAST | "
          "ERROR_BUDGET_BURN_SLOW | ERROR_BUDGET_BURN_TICKET | BATCHING_REFUTED");
    alert(ALERT("id=a", "severity=fatal"),
          "alerts[0].severity: \"fatal\" is not known, allowed: info | warning | error | critical");
    alert(ALERT("id=a", "cooldown_period=25h"),
          "alerts[0].cooldown_period: \"25h\" is out of bounds, allowed: 0s to 24h");
    alert(ALERT("id=a", "mesage=x"), "alerts[0].mesage: unknown key, did you mean message?");
}
END_TEST

START_TEST(alert_values)
{
    struct fixture f;
    char text[512];
    fixture_begin(&f);
    fixture_put(&f, "alerts", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "alerts[0]", CONFIG_MAPPING, NULL);
    fixture_put(&f, "alerts[0].id", CONFIG_SCALAR, "memory_spike");
    fixture_put(&f, "alerts[0].metric_type", CONFIG_SCALAR, "MEMORY_USAGE");
    fixture_put(&f, "alerts[0].condition", CONFIG_SCALAR, "> 2000");
    fixture_put(&f, "alerts[0].severity", CONFIG_SCALAR, "critical");
    fixture_put(&f, "alerts[0].message", CONFIG_SCALAR, "two\nlines");
    fixture_put(&f, "alerts[0].for", CONFIG_SCALAR, "30");
    const struct alert_spec *a = fixture_good(&f)->alerts.items;
    ck_assert_uint_eq(f.cfg->alerts.count, 1);
    ck_assert_int_eq(a->metric_type, ALERT_METRIC_MEMORY_USAGE);
    ck_assert_int_eq(a->compare, ALERT_ABOVE);
    ck_assert(a->threshold == 2000.0);
    ck_assert_int_eq(a->severity, ALERT_CRITICAL);
    ck_assert_int_eq(a->hold, 30 * TICK_S);
    ck_assert_int_eq(a->cooldown_period, -1);
    ck_assert(a->enabled);
    config_print_item(f.cfg, CONFIG_OPTION_alerts, 0, text, sizeof text);
    ck_assert_str_eq(
        text, "{\"id\": \"memory_spike\", \"metric_type\": \"MEMORY_USAGE\", \"condition\": \"> 2000\", "
              "\"severity\": \"critical\", \"message\": \"two\\u000alines\", \"for\": \"30s\", "
              "\"enabled\": true}");
    fixture_end(&f);
}
END_TEST

START_TEST(an_id_twice)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_put(&f, "alerts", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "alerts[0]", CONFIG_MAPPING, NULL);
    fixture_put(&f, "alerts[0].id", CONFIG_SCALAR, "x");
    fixture_put(&f, "alerts[0].enabled", CONFIG_SCALAR, "false");
    fixture_put(&f, "alerts[1]", CONFIG_MAPPING, NULL);
    fixture_put(&f, "alerts[1].id", CONFIG_SCALAR, "x");
    fixture_put(&f, "alerts[1].enabled", CONFIG_SCALAR, "false");
    fixture_build(&f);
    ck_assert_uint_eq(f.errors.count, 1);
    fixture_error(&f, 0, "test.yaml:1:3: alerts: the id x is there twice; give each alert its own");
    fixture_end(&f);
}
END_TEST

START_TEST(conditions)
{
    static const char *const signs[] = {">", ">=", "<", "<=", "==", "!="};
    int compare;
    double threshold;
    for (int i = 0; i < (int)ARRAY_LEN(signs); i++) {
        char text[32];
        snprintf(text, sizeof text, "%s  -1.5", signs[i]);
        ck_assert(alert_condition_parse(text, &compare, &threshold));
        ck_assert(compare == i && threshold == -1.5);
        ck_assert_str_eq(alert_compare_name(i), signs[i]);
    }
    static const char *const bad[] = {"", ">", "5", "=> 5", "= 5", "> x", "> 5 ms", "> nan", "><5", "> > 5"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!alert_condition_parse(bad[i], &compare, &threshold), "%s", bad[i]);
    ck_assert_str_eq(alert_metric_name(ALERT_METRIC_CUSTOM_METRIC), "CUSTOM_METRIC");
    ck_assert_str_eq(alert_metric_name(ALERT_METRIC_NONE), "");
    ck_assert_str_eq(alert_metric_name(ALERT_METRIC_COUNT), "");
    ck_assert_str_eq(alert_severity_name(ALERT_CRITICAL), "critical");
}
END_TEST

START_TEST(webhooks)
{
    struct fixture f;
    /* The empty entry of the documentation is none; a URL is refused in this version, or kept with its path
     * masked. */
    fixture_begin(&f);
    fixture_put(&f, "notifications.webhooks", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "notifications.webhooks[0]", CONFIG_MAPPING, NULL);
    fixture_put(&f, "notifications.webhooks[0].url", CONFIG_SCALAR, "");
    fixture_put(&f, "notifications.webhooks[0].format", CONFIG_SCALAR, "slack");
    ck_assert_uint_eq(fixture_good(&f)->notifications_webhooks.count, 0);
    fixture_end(&f);
    fixture_begin(&f);
    fixture_put(&f, "notifications.webhooks", CONFIG_SEQUENCE, NULL);
    fixture_put(&f, "notifications.webhooks[0]", CONFIG_MAPPING, NULL);
    fixture_put(&f, "notifications.webhooks[0].url", CONFIG_SCALAR, "https://hooks.example/T00/secret");
    fixture_build(&f);
    if (config_option_row(CONFIG_OPTION_notifications_webhooks)->ready) {
        char text[256];
        config_print_value(f.cfg, CONFIG_OPTION_notifications_webhooks, text, sizeof text);
        ck_assert_str_eq(text, "[{\"url\": \"https://hooks.example/***\", \"format\": \"json\"}]");
    } else {
        fixture_error(
            &f, 0,
            "test.yaml:1:3: notifications.webhooks: notifications.webhooks is not available in this "
            "version; leave it out");
    }
    fixture_end(&f);
}
END_TEST

START_TEST(documented)
{
    const char *help = NULL;
    ck_assert_str_eq(config_item_help(CONFIG_OPTION_alerts, 0, &help), "id");
    ck_assert(strlen(help) > 0);
    ck_assert_ptr_null(config_item_help(CONFIG_OPTION_alerts, 99, &help));
    ck_assert_ptr_null(config_item_help(CONFIG_OPTION_workers, 0, &help));
    ck_assert_str_eq(config_item_help(CONFIG_OPTION_routes, 1, &help), "match.path");
    ck_assert_str_eq(config_item_help(CONFIG_OPTION_notifications_webhooks, 1, &help), "format");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("config_items");
    TCase *t = tcase_create("config_items");
    suite_add_tcase(s, t);
    tcase_add_test(t, a_whole_route);
    tcase_add_test(t, paths);
    tcase_add_test(t, fields);
    tcase_add_test(t, whole_items);
    tcase_add_test(t, empty_lists);
    tcase_add_test(t, too_many);
    tcase_add_test(t, nine_tags);
    tcase_add_test(t, alerts);
    tcase_add_test(t, alert_values);
    tcase_add_test(t, an_id_twice);
    tcase_add_test(t, conditions);
    tcase_add_test(t, webhooks);
    tcase_add_test(t, documented);
    return fixture_run(s);
}
