/*
 * Tests of policy/route*.c: the preset row by row, templates, priorities, escapes, tags, errors, and random
 * rows against a slow matcher.
 */
#include "policy/rng.h"
#include "policy/route.h"
#include "tests/unit/policy/harness.h"

#include <stdio.h>
#include <string.h>

static struct route_error error;
static struct routes *routes;
static struct route_match match;

static struct slice str(const char *s)
{
    return (struct slice){s, strlen(s)};
}

static struct routes *compile(const struct route_spec *specs, size_t count, bool preset)
{
    struct routes *r = routes_compile(specs, count, preset, NULL, &error);
    ck_assert_msg(r != NULL, "row %d: %s", error.row, error.message);
    return r;
}

static const char *operation_of(enum method method, const char *path)
{
    routes_find(routes, method, str(path), &match);
    return routes_operation_name(routes, match.route->operation);
}

static const char *tag_of(int i)
{
    static char buf[300];
    size_t n = route_tag(&match, i, buf, sizeof buf - 1);
    ck_assert_uint_lt(n, sizeof buf);
    buf[n] = 0;
    return buf;
}

static const char *purge_of(int i)
{
    static char buf[300];
    bool prefix;
    size_t n = route_invalidate(&match, i, buf, sizeof buf - 2, &prefix);
    ck_assert_uint_lt(n, sizeof buf - 1);
    buf[n] = prefix ? '*' : 0;
    buf[n + prefix] = 0;
    return buf;
}

/* --- The preset. --- */

static const struct {
    enum method method;
    const char *path, *operation;
    int ttl; /* seconds; -1: none said; -2: never stored */
    const char *tag;
} known[] = {
    {METHOD_GET, "/v1/client/prompts/p1", "get_prompt", 60, "prompt:p1"},
    {METHOD_HEAD, "/v1/client/prompts/p1", "get_prompt", 60, "prompt:p1"},
    {METHOD_GET, "/v1/client/prompts/p1?project_id=a/b/c", "get_prompt", 60, "prompt:p1"},
    {METHOD_GET, "/v1/client/prompts/p1/versions", "list_versions", 60, "prompt:p1"},
    {METHOD_GET, "/v1/client/prompts/p1/versions/1.2.0", "get_prompt_version", 86400, "prompt:p1"},
    {METHOD_GET, "/v1/client/prompts/p1/versions/v3", "get_prompt_version", 86400, "prompt:p1"},
    {METHOD_GET, "/v1/client/prompts/p1/versions/7", "get_prompt_version", 86400, "prompt:p1"},
    {METHOD_GET, "/v1/client/prompts/p1/versions/latest", "get_prompt_version", 60, "prompt:p1"},
    {METHOD_GET, "/v1/client/prompts/p1/versions/v", "get_prompt_version", 60, "prompt:p1"},
    {METHOD_GET, "/v1/client/prompts/p1/versions/1%2E2", "get_prompt_version", 60, "prompt:p1"},
    {METHOD_GET, "/v1/client/prompts?query=x&limit=50", "search_prompts", 30, "prompts"},
    {METHOD_GET, "/v1/client/prompts/p1/model/openai/gpt-4", "get_model_prompt", 60, "prompt:p1"},
    {METHOD_POST, "/v1/client/prompts/batch", "batch_get", -2, NULL},
    {METHOD_POST, "/v1/client/usage/log", "log_usage", -2, NULL},
    {METHOD_GET, "/v1/client/usage/stats?days=3", "usage_stats", -2, NULL},
    {METHOD_GET, "/v1/client/usage/limits", "usage_limits", -2, NULL},
    {METHOD_GET, "/v1/client/usage/new/thing", "usage", -2, NULL},
    {METHOD_GET, "/v1/client/auth/api-keys", "list_keys", -2, NULL},
    {METHOD_POST, "/v1/client/auth/api-keys", "create_key", -2, NULL},
    {METHOD_DELETE, "/v1/client/auth/api-keys/k1", "delete_key", -2, NULL},
    {METHOD_POST, "/v1/client/auth/validate", "validate_key", -2, NULL},
    {METHOD_GET, "/v1/client/auth/whoami", "keys", -2, NULL},
    {METHOD_GET, "/health", "health", -2, NULL},
    {METHOD_GET, "/api/prompts/", "search_prompts", 30, "prompts"},
    {METHOD_GET, "/api/prompts", "search_prompts", 30, "prompts"},
    {METHOD_GET, "/api/prompts/p1", "get_prompt", 60, "prompt:p1"},
    {METHOD_GET, "/api/prompts/p1/1.0.0", "get_prompt_version", 86400, "prompt:p1"},
    {METHOD_GET, "/api/prompts/p1/latest", "get_prompt", 60, "prompt:p1"},
    {METHOD_GET, "/api/prompts/p1/versions", "list_versions", 60, "prompt:p1"},
    {METHOD_GET, "/api/prompts/p1/stats", "other", -1, NULL},
    {METHOD_POST, "/api/prompts/", "create_prompt", -2, NULL},
    {METHOD_DELETE, "/api/prompts/p1", "delete_prompt", -2, NULL},
    {METHOD_DELETE, "/api/prompts/p1/1.0.0", "update_prompt", -2, NULL},
    {METHOD_PUT, "/v1/client/prompts/p1", "update_prompt", -2, NULL},
    {METHOD_POST, "/v1/client/prompts/p1/versions", "update_prompt", -2, NULL},
    {METHOD_GET, "/prompts", "search_prompts", 30, "prompts"},
    {METHOD_GET, "/prompts/p1/2", "get_prompt_version", 86400, "prompt:p1"},
    {METHOD_GET, "/prompts/p1/compatibility/openai/gpt-4", "check_compatibility", 60, "prompt:p1"},
    {METHOD_POST, "/render", "render_prompt", -2, NULL},
    {METHOD_POST, "/prompts/p1/render", "render_prompt", -2, NULL},
    {METHOD_GET, "/api/v1/prompts/p1", "get_prompt", 60, "prompt:p1"},
    {METHOD_GET, "/v1/prompts", "search_prompts", 30, "prompts"},
    {METHOD_OTHER, "/v1/prompts", "other", -1, NULL},
    {METHOD_GET, "/", "other", -1, NULL},
    {METHOD_GET, "/v1/client/promptsx", "other", -1, NULL},
    {METHOD_GET, "/v1/client/prompts//versions", "other", -1, NULL},
    {METHOD_GET, "/v1/client/prompts/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s", "other", -1, NULL},
};

START_TEST(preset_knows_every_operation)
{
    routes = compile(NULL, 0, true);
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        const char *got = operation_of(known[i].method, known[i].path);
        ck_assert_msg(strcmp(got, known[i].operation) == 0, "%s: %s", known[i].path, got);
        const struct route *r = match.route;
        ck_assert_msg(r->no_store == (known[i].ttl == -2), "%s: stored?", known[i].path);
        ck_assert_msg(r->has_ttl == (known[i].ttl >= 0), "%s: ttl?", known[i].path);
        if (r->has_ttl)
            ck_assert_int_eq(r->ttl, known[i].ttl * TICK_S);
        bool moves = known[i].ttl == 60; /* what a new version of the prompt changes */
        ck_assert_int_eq(r->tags, (known[i].tag != NULL) + moves);
        if (known[i].tag)
            ck_assert_str_eq(tag_of(0), known[i].tag);
        if (moves)
            ck_assert_str_eq(tag_of(1), "latest");
    }
    routes_free(routes);
}
END_TEST

START_TEST(preset_writes_purge)
{
    routes = compile(NULL, 0, true);
    static const struct {
        enum method method;
        const char *path, *first, *second;
    } write[] = {
        {METHOD_PUT, "/v1/client/prompts/p1", "prompt:p1", "prompts"},
        {METHOD_PATCH, "/v1/client/prompts/p1", "prompt:p1", "prompts"},
        {METHOD_DELETE, "/v1/client/prompts/p1", "prompt:p1", "prompts"},
        {METHOD_POST, "/v1/client/prompts/p1/versions", "prompt:p1", "prompts"},
        {METHOD_DELETE, "/api/prompts/p1/1.0.0", "prompt:p1", "prompts"},
        {METHOD_POST, "/prompts/p1/publish/now", "prompt:p1", "prompts"},
        {METHOD_PUT, "/v1/prompts/p1-v1.2.0/1.2.0", "prompt:p1", "prompts"},
        {METHOD_POST, "/v1/prompts/p1-v1.2.0/1.2.0/activate", "prompt:p1", "prompts"},
        {METHOD_POST, "/v1/client/prompts", "prompts", "latest"},
        {METHOD_POST, "/api/prompts/", "prompts", "latest"},
    };
    for (size_t i = 0; i < ARRAY_LEN(write); i++) {
        operation_of(write[i].method, write[i].path);
        ck_assert_int_eq(match.route->invalidates, 2);
        ck_assert_str_eq(purge_of(0), write[i].first);
        ck_assert_str_eq(purge_of(1), write[i].second);
    }
    /* Reads in a POST purge nothing. */
    operation_of(METHOD_POST, "/v1/client/prompts/batch");
    ck_assert_int_eq(match.route->invalidates, 0);
    ck_assert(match.route->safe);
    operation_of(METHOD_POST, "/prompts/p1/render");
    ck_assert_int_eq(match.route->invalidates, 0);
    ck_assert(!match.route->safe);
    routes_free(routes);
}
END_TEST

START_TEST(preset_is_bounded)
{
    routes = compile(NULL, 0, true);
    int n = routes_operations(routes);
    ck_assert_int_gt(n, 15);
    ck_assert_int_lt(n, 32);
    ck_assert_str_eq(routes_operation_name(routes, 0), "other");
    ck_assert_str_eq(routes_operation_name(routes, -1), "other");
    ck_assert_str_eq(routes_operation_name(routes, n), "other");
    routes_free(routes);
}
END_TEST

/* --- Dots and escapes. --- */

START_TEST(dot_segments_match_nothing)
{
    static const char *const bad[] = {
        "/v1/client/prompts/..",
        "/v1/client/prompts/.",
        "/v1/client/prompts/%2e%2E",
        "/v1/client/prompts/.%2e",
        "/v1/client/prompts/%2e",
        "/v1/client/prompts/x/versions/../1",
        "/v1/../v1/client/prompts/x",
        "/v1/client/auth/a/b/../../c",
        "/v1/client/usage/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/..",
    };
    routes = compile(NULL, 0, true);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!routes_find(routes, METHOD_GET, str(bad[i]), &match), "%s", bad[i]);
    /* These only look like it. */
    ck_assert_str_eq(operation_of(METHOD_GET, "/v1/client/prompts/..."), "get_prompt");
    ck_assert_str_eq(operation_of(METHOD_GET, "/v1/client/prompts/.a"), "get_prompt");
    ck_assert_str_eq(operation_of(METHOD_GET, "/v1/client/prompts/%2"), "get_prompt");
    ck_assert_str_eq(operation_of(METHOD_GET, "/v1/client/prompts/%2e%"), "get_prompt");
    routes_free(routes);
}
END_TEST

/* An upstream that decodes before it routes reads a slash where we read none: nothing may be stored for as
 * long as another operation allows, nor outlive a write that was meant for the shorter name. */
START_TEST(an_escaped_slash_lends_no_lifetime_and_widens_what_is_purged)
{
    static const char *const paths[] = {"/v1/client/prompts/a%2Fversions%2f1",
                                        "/v1/client/prompts/p1/versions/1%2F2", "/v1/client/prompts/a%2f",
                                        "/prompts/a%2Fb/1"};
    const struct route_spec own = {.path = "/files/{name}",
                                   .operation = "file",
                                   .has_ttl = true,
                                   .ttl = TICK_S,
                                   .tags = {"file:{name}"},
                                   .invalidates = {"file:{name}:x"}};
    char text[64];
    bool prefix;
    routes = compile(&own, 1, true);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        ck_assert_str_eq(operation_of(METHOD_GET, paths[i]), "other");
    ck_assert_str_eq(operation_of(METHOD_GET, "/v1/client/prompts/a?x=%2F"), "get_prompt");
    ck_assert_str_eq(operation_of(METHOD_GET, "/v1/client/prompts/a%2"), "get_prompt");
    ck_assert_str_eq(operation_of(METHOD_DELETE, "/v1/client/prompts/a%62%2Fc"), "delete_prompt");
    size_t n = route_invalidate(&match, 0, text, sizeof text, &prefix);
    ck_assert_msg(n == 9 && memcmp(text, "prompt:ab", 9) == 0 && prefix, "%.*s", (int)n, text);
    ck_assert_str_eq(operation_of(METHOD_GET, "/files/a%2Fb"), "file"); /* its own rows the user knows */
    ck_assert_str_eq(tag_of(0), "file:a%2Fb");
    n = route_invalidate(&match, 0, text, sizeof text, &prefix);
    ck_assert_msg(n == 6 && memcmp(text, "file:a", 6) == 0 && prefix, "%.*s", (int)n, text);
    operation_of(METHOD_GET, "/files/a");
    n = route_invalidate(&match, 0, text, sizeof text, &prefix);
    ck_assert_msg(n == 8 && memcmp(text, "file:a:x", 8) == 0 && !prefix, "%.*s", (int)n, text);
    routes_free(routes);
}
END_TEST

START_TEST(escapes_stay_inside_their_segment)
{
    routes = compile(NULL, 0, true);
    ck_assert_str_eq(operation_of(METHOD_GET, "/v1/client/prompts/a%3aversions%3A1"), "get_prompt");
    ck_assert_str_eq(tag_of(0), "prompt:a%3Aversions%3A1"); /* hex in capitals */
    ck_assert_str_eq(operation_of(METHOD_GET, "/v1%2Fclient/prompts/a"), "other");
    ck_assert_str_eq(operation_of(METHOD_GET, "/v1/client/prompts/%61%2Db%7e%2a"), "get_prompt");
    ck_assert_str_eq(tag_of(0), "prompt:a-b~%2A"); /* one resource, one tag */
    ck_assert_str_eq(operation_of(METHOD_GET, "/v1/client/prompts/%4%zz%"), "get_prompt");
    ck_assert_str_eq(tag_of(0), "prompt:%4%zz%");
    routes_free(routes);
}
END_TEST

START_TEST(versions_of_one_prompt_share_a_tag)
{
    static const struct {
        const char *id, *tag;
    } of[] = {
        {"p-v1.2.0", "prompt:p"},        {"p-v10.20.30", "prompt:p"},         {"p-v1.0.0-v1.1.0", "prompt:p"},
        {"p%2Dv1%2e2.0", "prompt:p"},    {"-v1.2.0", "prompt:-v1.2.0"}, /* nothing would be left */
        {"p-v1.2", "prompt:p-v1.2"},     {"p-v1.2.3.4", "prompt:p-v1.2.3.4"}, {"p-v1..2", "prompt:p-v1..2"},
        {"p-v.1.2", "prompt:p-v.1.2"},   {"p-v1.2.", "prompt:p-v1.2."},       {"p-v", "prompt:p-v"},
        {"p-x1.2.3", "prompt:p-x1.2.3"}, {"pv1.2.3", "prompt:pv1.2.3"},       {"1.2.3", "prompt:1.2.3"},
        {"v1.2.3", "prompt:v1.2.3"},
    };
    char path[100];
    routes = compile(NULL, 0, true);
    for (size_t i = 0; i < ARRAY_LEN(of); i++) {
        snprintf(path, sizeof path, "/v1/client/prompts/%s", of[i].id);
        ck_assert_str_eq(operation_of(METHOD_GET, path), "get_prompt");
        ck_assert_str_eq(tag_of(0), of[i].tag);
    }
    operation_of(METHOD_GET, "/v1/client/prompts/p-v1.2.0");
    for (size_t room = 0; room < 15; room++) /* what does not fit is said, and no byte behind is written */
        ck_assert_uint_eq(route_tag(&match, 0, path, room), 15);
    ck_assert_uint_eq(route_tag(&match, 0, path, 15), 8);
    routes_free(routes);
}
END_TEST

START_TEST(star_in_a_capture_is_no_wildcard)
{
    static const struct route_spec spec[] = {
        {.path = "/x/{id}", .invalidates = {"x:{id}"}},
        {.path = "/y/{id}", .invalidates = {"y:{id}:*", "all*", "*"}},
    };
    routes = compile(spec, 2, false);
    char buf[50];
    bool prefix;
    operation_of(METHOD_DELETE, "/x/a*");
    ck_assert_uint_eq(route_invalidate(&match, 0, buf, sizeof buf, &prefix), 4);
    ck_assert(!prefix);
    ck_assert_mem_eq(buf, "x:a*", 4);
    operation_of(METHOD_DELETE, "/y/a");
    ck_assert_uint_eq(route_invalidate(&match, 0, buf, sizeof buf, &prefix), 4);
    ck_assert(prefix);
    ck_assert_mem_eq(buf, "y:a:", 4);
    ck_assert_str_eq(purge_of(1), "all*");
    ck_assert_str_eq(purge_of(2), "*");
    routes_free(routes);
}
END_TEST

START_TEST(tag_longer_than_its_room)
{
    routes = compile(NULL, 0, true);
    operation_of(METHOD_GET, "/v1/client/prompts/abcdefgh");
    char buf[11];
    memset(buf, '#', sizeof buf);
    ck_assert_uint_eq(route_tag(&match, 0, buf, 10), 15);
    ck_assert_int_eq(buf[10], '#');
    ck_assert_uint_eq(route_tag(&match, 0, NULL, 0), 15);
    routes_free(routes);
}
END_TEST

/* --- Rows. --- */

START_TEST(first_match_wins_and_users_come_first)
{
    static const struct route_spec spec[] = {
        {.path = "/v1/client/prompts/{id}",
         .methods = 1u << METHOD_GET,
         .operation = "mine",
         .has_ttl = true,
         .ttl = 5 * TICK_S,
         .max_attempts = 4,
         .timeout = 10 * TICK_S,
         .tags = {"a", "b:{id}"}},
        {.path = "/v1/client/prompts/special", .operation = "never_reached_by_get"},
    };
    routes = compile(spec, 2, true);
    ck_assert_str_eq(operation_of(METHOD_GET, "/v1/client/prompts/special"), "mine");
    ck_assert_int_eq(match.route->max_attempts, 4);
    ck_assert_int_eq(match.route->timeout, 10 * TICK_S);
    ck_assert_int_eq(match.route->tags, 2);
    ck_assert_str_eq(tag_of(0), "a");
    ck_assert_str_eq(tag_of(1), "b:special");
    ck_assert_str_eq(operation_of(METHOD_POST, "/v1/client/prompts/special"), "never_reached_by_get");
    ck_assert_str_eq(operation_of(METHOD_DELETE, "/v1/client/prompts/x"), "delete_prompt");
    routes_free(routes);
}
END_TEST

START_TEST(rest_takes_slashes_and_nothing)
{
    static const struct route_spec spec[] = {
        {.path = "/a/{x}/{rest...}", .operation = "rest", .tags = {"{x}|{rest}"}},
        {.path = "/{all...}", .operation = "all", .tags = {"all:{all}"}},
    };
    routes = compile(spec, 2, false);
    ck_assert_str_eq(operation_of(METHOD_GET, "/a/b/c/d//e?q"), "rest");
    ck_assert_str_eq(tag_of(0), "b|c/d//e");
    ck_assert_str_eq(operation_of(METHOD_GET, "/a/b/"), "rest");
    ck_assert_str_eq(tag_of(0), "b|");
    ck_assert_str_eq(operation_of(METHOD_GET, "/a/b"), "all");
    ck_assert_str_eq(tag_of(0), "all:a/b");
    ck_assert_str_eq(operation_of(METHOD_GET, "/a//c"), "all"); /* {x} is not empty */
    ck_assert_str_eq(operation_of(METHOD_GET, "/"), "all");
    ck_assert_str_eq(tag_of(0), "all:");
    ck_assert_str_eq(operation_of(METHOD_GET, "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20"), "all");
    ck_assert_str_eq(tag_of(0), "all:1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20");
    ck_assert(!routes_find(routes, METHOD_OPTIONS, str("*"), &match));
    ck_assert(!routes_find(routes, METHOD_GET, str(""), &match));
    ck_assert(!routes_find(routes, METHOD_GET, (struct slice){NULL, 0}, &match));
    routes_free(routes);
}
END_TEST

START_TEST(names_are_made_from_paths)
{
    static const struct route_spec spec[] = {
        {.path = "/v1/things/{thing_id}/Sub-Part"},
        {.path = "/"},
        {.path = "/v2/{all...}"},
        {.path = "/explicit", .operation = "other"},
    };
    routes = compile(spec, 4, false);
    ck_assert_str_eq(operation_of(METHOD_GET, "/v1/things/1/Sub-Part"), "v1_things_thing_id_Sub_Part");
    ck_assert_str_eq(operation_of(METHOD_GET, "/"), "root");
    ck_assert_str_eq(operation_of(METHOD_GET, "/v2/x/y"), "v2_all");
    ck_assert(routes_find(routes, METHOD_GET, str("/explicit"), &match));
    ck_assert_str_eq(match.route->path, "/explicit");
    ck_assert(match.route == routes_row(routes, match.route->number - 1u));
    ck_assert_int_eq(match.route->operation, ROUTE_OTHER);
    ck_assert(!routes_find(routes, METHOD_GET, str("/none/of/them"), &match) && match.route->number == 0);
    routes_free(routes);
}
END_TEST

START_TEST(numbers_survive_a_reload)
{
    static const struct route_spec a[] = {{.path = "/a", .operation = "a"}, {.path = "/b", .operation = "b"}};
    static const struct route_spec b[] = {{.path = "/c", .operation = "c"}, {.path = "/b", .operation = "b"}};
    struct routes *first = compile(a, 2, true);
    routes_find(first, METHOD_GET, str("/b"), &match);
    int before = match.route->operation;
    struct routes *second = routes_compile(b, 2, true, first, &error);
    ck_assert_ptr_nonnull(second);
    int operations = routes_operations(first);
    routes_free(first);
    routes_find(second, METHOD_GET, str("/b"), &match);
    ck_assert_int_eq(match.route->operation, before);
    routes_find(second, METHOD_GET, str("/c"), &match);
    ck_assert_int_eq(match.route->operation, operations);
    ck_assert(!routes_find(second, METHOD_GET, str("/a"), &match));
    routes_free(second);
}
END_TEST

START_TEST(no_routes_at_all)
{
    routes = compile(NULL, 0, false);
    ck_assert_str_eq(operation_of(METHOD_GET, "/x"), "other");
    ck_assert_int_eq(match.route->captures, 0);
    ck_assert_int_eq(routes_operations(routes), 1);
    routes_free(routes);
    routes_free(NULL);
}
END_TEST

/* --- Errors. --- */

static const struct {
    struct route_spec spec;
    const char *part; /* of the message */
} wrong[] = {
    {{.path = NULL}, "slash"},
    {{.path = "v1/x"}, "slash: v1/x"},
    {{.path = ""}, "slash"},
    {{.path = "/a b"}, "space"},
    {{.path = "/a?b"}, "'?'"},
    {{.path = "/\xc3\xa4"}, "127"},
    {{.path = "/x{id}"}, "whole segment"},
    {{.path = "/{id"}, "whole segment"},
    {{.path = "/{}"}, "{name}"},
    {{.path = "/{a b}"}, "{name}"},
    {{.path = "/{...}"}, "{name}"},
    {{.path = "/{a}/{a}"}, "twice"},
    {{.path = "/{a...}/b"}, "last"},
    {{.path = "/a//b"}, "empty segment"},
    {{.path = "/a/../b"}, "never matched"},
    {{.path = "/a/%2e"}, "never matched"},
    {{.path = "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}"}, "8 {names}"},
    {{.path = "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17"}, "16 segments"},
    {{.path = "/a", .operation = ""}, "operation"},
    {{.path = "/a", .operation = "a b"}, "operation"},
    {{.path = "/a", .operation = "x23456789012345678901234567890123456789012345678"}, "1 to 47"},
    {{.path = "/this/is/a/path/that/is/too/long/for/a/name/of/its/own"}, "give one"},
    {{.path = "/a", .methods = 1u << METHOD_COUNT}, "method"},
    {{.path = "/a/{id}", .tags = {"x:{other}"}}, "no {other}"},
    {{.path = "/a/{id}", .tags = {"x:{id"}}, "brace"},
    {{.path = "/a/{id}", .tags = {"x:id}"}}, "brace"},
    {{.path = "/a/{id}", .tags = {""}}, "empty"},
    {{.path = "/a/{id}", .tags = {"a*"}}, "'*'"},
    {{.path = "/a/{id}", .invalidates = {"a*b"}}, "'*'"},
    {{.path = "/a/{id}", .invalidates = {"a**"}}, "'*'"},
    {{.path = "/a/{id}", .invalidates = {"{no}"}}, "no {no}"},
    {{.path = "/a", .ttl = -1, .has_ttl = true}, "negative"},
    {{.path = "/a", .max_attempts = -1}, "negative"},
};

START_TEST(every_error_names_its_row)
{
    struct route_spec two[2] = {{.path = "/fine"}};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        two[1] = wrong[i].spec;
        ck_assert_ptr_null(routes_compile(two, 2, true, NULL, &error));
        ck_assert_msg(error.row == 1, "case %zu: row %d", i, error.row);
        ck_assert_msg(strstr(error.message, wrong[i].part) != NULL, "case %zu: %s", i, error.message);
    }
}
END_TEST

START_TEST(too_many_rows_and_operations)
{
    static struct route_spec many[ROUTE_MAX_ROWS + 1];
    static char name[ROUTE_MAX_ROWS + 1][16];
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        snprintf(name[i], sizeof name[i], "/p%zu", i);
        many[i] = (struct route_spec){.path = name[i], .operation = "same"};
    }
    ck_assert_ptr_null(routes_compile(many, ROUTE_MAX_ROWS + 1, false, NULL, &error));
    ck_assert_int_eq(error.row, -1);
    routes = compile(many, ROUTE_MAX_ROWS, false);
    ck_assert_str_eq(operation_of(METHOD_GET, "/p1023"), "same");
    ck_assert_str_eq(operation_of(METHOD_GET, "/p1024"), "other");
    routes_free(routes);
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i].operation = NULL;
    ck_assert_ptr_null(routes_compile(many, 64, false, NULL, &error));
    ck_assert_int_eq(error.row, 63);
    routes = compile(many, 63, false);
    ck_assert_int_eq(routes_operations(routes), ROUTE_MAX_OPERATIONS);
    routes_free(routes);
}
END_TEST

/* --- Random rows against a matcher that goes row by row, segment by segment. --- */

static bool slow_segment(const char *t, size_t tn, const char *s, size_t sn)
{
    if (t[0] != '{')
        return tn == sn && memcmp(t, s, tn) == 0;
    if (t[tn - 2] == '#')
        return sn && s[0] >= '0' && s[0] <= '9'; /* the texts below have no other numbers */
    return sn > 0;
}

static bool slow_match(const char *t, const char *s)
{
    for (;;) {
        t++, s++; /* both at a slash */
        size_t tn = strcspn(t, "/"), sn = strcspn(s, "/");
        if (tn > 4 && memcmp(t + tn - 4, "...}", 4) == 0)
            return true;
        if (!slow_segment(t, tn, s, sn))
            return false;
        t += tn;
        s += sn;
        if (!*t || !*s)
            return !*t && !*s;
    }
}

static void random_path(struct rng *r, char *out, bool template)
{
    static const char *const word[] = {"a",    "bb",  "longer-than-eight", "longer-then-eight", "1.0",
                                       "abcd", "abce"};
    int n = (int)rng_range(r, 1, 5), at = 0;
    for (int i = 0; i < n; i++) {
        uint64_t kind = rng_below(r, template ? 8 : 5);
        if (kind == 5)
            at += sprintf(out + at, "/{w%d}", i);
        else if (kind == 6)
            at += sprintf(out + at, "/{n%d#}", i);
        else if (kind == 7 && i == n - 1)
            at += sprintf(out + at, "/{r...}");
        else if (kind == 4 && i == n - 1)
            at += sprintf(out + at, "/");
        else
            at += sprintf(out + at, "/%s", word[rng_below(r, ARRAY_LEN(word))]);
    }
}

START_TEST(random_rows_against_a_slow_matcher)
{
    enum { ROWS = 150 };
    static char path[ROWS][200];
    static struct route_spec spec[ROWS];
    struct rng r;
    rng_seed(&r, 77 + (uint64_t)_i);
    int rows = (int)rng_range(&r, 1, ROWS), hits = 0;
    for (int i = 0; i < rows; i++) {
        random_path(&r, path[i], true);
        spec[i] = (struct route_spec){.path = path[i], .operation = "x", .max_attempts = i + 1};
    }
    routes = compile(spec, (size_t)rows, false);
    for (int k = 0; k < 2000; k++) {
        char request[200];
        random_path(&r, request, false);
        int want = 0;
        for (int i = 0; i < rows && !want; i++)
            if (slow_match(path[i], request))
                want = i + 1;
        bool found = routes_find(routes, METHOD_GET, str(request), &match);
        must(found == (want != 0));
        must(match.route->max_attempts == want);
        hits += found;
    }
    must(rows < 20 || hits > 0);
    routes_free(routes);
}
END_TEST

/*
 * Any bytes, as template, tag and request: nothing is read or written out of bounds, and an error has a
 * sentence.
 */
static void random_bytes(struct rng *r, char *out, size_t room)
{
    static const char some[] = "//{}%%..2eEfa*#?:-v1 \x01\x7f\xff";
    size_t n = (size_t)rng_below(r, room);
    for (size_t i = 0; i < n; i++)
        out[i] = some[rng_below(r, sizeof some - 1)];
    out[n] = 0;
}

START_TEST(random_bytes_do_no_harm)
{
    struct rng r;
    rng_seed(&r, 4000);
    int compiled = 0;
    for (int i = 0; i < 20000; i++) {
        char path[24] = "/", tag[12], purge[12], request[64] = "/", out[100];
        random_bytes(&r, path + rng_below(&r, 2), sizeof path - 2);
        random_bytes(&r, tag, sizeof tag);
        random_bytes(&r, purge, sizeof purge);
        struct route_spec spec = {.path = path, .operation = "x"};
        if (rng_below(&r, 2)) {
            spec.tags[0] = tag;
            spec.invalidates[0] = purge;
        }
        struct routes *some = routes_compile(&spec, 1, false, NULL, &error);
        must(some || error.message[0]);
        compiled += some != NULL;
        for (int k = 0; some && k < 10; k++) {
            random_bytes(&r, request + 1, sizeof request - 1);
            routes_find(some, (enum method)rng_below(&r, METHOD_COUNT + 1), str(request), &match);
            bool prefix;
            for (int t = 0; t < match.route->tags; t++)
                route_tag(&match, t, out, rng_below(&r, sizeof out));
            for (int t = 0; t < match.route->invalidates; t++)
                route_invalidate(&match, t, out, rng_below(&r, sizeof out), &prefix);
        }
        routes_free(some);
    }
    ck_assert_int_gt(compiled, 100);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("route");
    tcase_add_test(t, preset_knows_every_operation);
    tcase_add_test(t, preset_writes_purge);
    tcase_add_test(t, preset_is_bounded);
    tcase_add_test(t, dot_segments_match_nothing);
    tcase_add_test(t, an_escaped_slash_lends_no_lifetime_and_widens_what_is_purged);
    tcase_add_test(t, escapes_stay_inside_their_segment);
    tcase_add_test(t, versions_of_one_prompt_share_a_tag);
    tcase_add_test(t, star_in_a_capture_is_no_wildcard);
    tcase_add_test(t, tag_longer_than_its_room);
    tcase_add_test(t, first_match_wins_and_users_come_first);
    tcase_add_test(t, rest_takes_slashes_and_nothing);
    tcase_add_test(t, names_are_made_from_paths);
    tcase_add_test(t, numbers_survive_a_reload);
    tcase_add_test(t, no_routes_at_all);
    tcase_add_test(t, every_error_names_its_row);
    tcase_add_test(t, too_many_rows_and_operations);
    tcase_add_loop_test(t, random_rows_against_a_slow_matcher, 0, 30);
    tcase_add_test(t, random_bytes_do_no_harm);
    return run_case("policy/route", t);
}
