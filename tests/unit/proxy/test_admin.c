/*
 * proxy/admin*.c over real sockets: a listener on a free port, raw requests, answers read to the end.
 */
#include "proxy/admin.h"

#include <arpa/inet.h>
#include <check.h>
#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "policy/config.h"
#include "proxy/pack.h"
#include "proxy/page_assets.h"

static const char *const methods[] = {"other", "GET"};
static const char *const reasons[] = {"NONE", "CONNECT_FAILED"};

struct world {
    struct event_base *base;
    struct metrics *metrics;
    struct recent *recent;
    struct admin *admin;
    struct admin_sources sources;
    struct admin_health health;
    char directory[32], token[64], audit[64], path[64];
    int drains;
    enum admin_purge purged;
    char purged_what[64];
    int64_t purge_result;
};

static struct world w;

static void health(void *ctx, struct admin_health *out)
{
    *out = ((struct world *)ctx)->health;
}

static tick_t now(void *ctx)
{
    (void)ctx;
    return 100 * TICK_S;
}

static void pool(void *ctx, struct view *v)
{
    (void)ctx;
    view_uint(v, "idle", 3);
    view_array(v, "endpoints");
    view_object(v, NULL);
    view_text(v, "address", "127.0.0.1:\xff");
    view_end(v);
    view_end(v);
}

static void drain(void *ctx)
{
    ((struct world *)ctx)->drains++;
}

static int64_t purge(void *ctx, enum admin_purge kind, struct slice what)
{
    struct world *world = ctx;
    world->purged = kind;
    snprintf(world->purged_what, sizeof world->purged_what, "%.*s", (int)what.n, what.p);
    return world->purge_result;
}

static bool reset(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "api/1 x") == 0;
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void set_up(void)
{
    struct metrics_config config = {1, methods, 2, reasons, 2, NULL, 0};
    memset(&w, 0, sizeof w);
    strcpy(w.directory, "/tmp/test_admin_XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(w.directory));
    snprintf(w.token, sizeof w.token, "%s/token", w.directory);
    snprintf(w.audit, sizeof w.audit, "%s/audit", w.directory);
    snprintf(w.path, sizeof w.path, "%s/socket", w.directory);
    w.base = event_base_new();
    w.metrics = metrics_new(&config);
    w.recent = recent_new(w.metrics, 0);
    w.health = (struct admin_health){true, true, true, NULL};
    w.sources = (struct admin_sources){.ctx = &w,
                                       .metrics = w.metrics,
                                       .recent = w.recent,
                                       .health = health,
                                       .now = now,
                                       .pool = pool,
                                       .drain = drain,
                                       .purge = purge,
                                       .circuit_reset = reset};
    ck_assert(w.base && w.metrics && w.recent);
}

static void tear_down(void)
{
    admin_free(w.admin);
    recent_free(w.recent);
    metrics_free(w.metrics);
    event_base_free(w.base);
    unlink(w.token);
    unlink(w.audit);
    unlink(w.path);
    rmdir(w.directory);
}

/* What the port reads of a configuration. */
static const struct config *settings(const char *token_file, const char *audit_log)
{
    static struct config cfg;
    cfg = (struct config){.admin_token_file = token_file ? token_file : "",
                          .admin_audit_log = audit_log ? audit_log : "",
                          .admin_tls_certificate_file = "",
                          .admin_tls_key_file = ""};
    return &cfg;
}

static void start(const char *address, const char *token_file, const char *audit_log)
{
    char error[256] = "";
    struct admin_options options = {
        .address = address, .cfg = settings(token_file, audit_log), .block = metrics_block(w.metrics, 1)};
    w.admin = admin_new(w.base, &options, &w.sources, error, sizeof error);
    ck_assert_msg(w.admin != NULL, "%s", error);
}

static int connected(void)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(admin_port(w.admin))};
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&sin, sizeof sin), 0);
    return fd;
}

static int connected_path(void)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    snprintf(sun.sun_path, sizeof sun.sun_path, "%s", w.path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&sun, sizeof sun), 0);
    return fd;
}

static char answer[1 << 20];
static size_t answer_n;

/* Sends bytes and reads the answer until the other side closes. Returns its status. */
static int exchange_on(int fd, const char *request, size_t n)
{
    ck_assert_int_eq(send(fd, request, n, MSG_NOSIGNAL), (ssize_t)n);
    answer_n = 0;
    for (;;) {
        event_base_loop(w.base, EVLOOP_NONBLOCK);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 1) != 1)
            continue;
        ssize_t r = read(fd, answer + answer_n, sizeof answer - 1 - answer_n);
        if (r <= 0)
            break;
        answer_n += (size_t)r;
    }
    close(fd);
    answer[answer_n] = '\0';
    int status = 0;
    ck_assert_int_eq(sscanf(answer, "HTTP/1.1 %d", &status), 1);
    return status;
}

static int ask(const char *line, const char *fields, const char *body)
{
    static char request[70000];
    const char *host = strstr(fields, "Host:") ? "" : "Host: localhost\r\n";
    int n = snprintf(request, sizeof request,
                     "%s HTTP/1.1\r\n%sConnection: close\r\nContent-Length: %zu\r\n%s\r\n%s", line, host,
                     strlen(body), fields, body);
    return exchange_on(connected(), request, (size_t)n);
}

static const char *body(void)
{
    const char *at = strstr(answer, "\r\n\r\n");
    ck_assert_ptr_nonnull(at);
    return at + 4;
}

static json_t *answered(void)
{
    json_error_t error;
    json_t *tree = json_loads(body(), 0, &error);
    ck_assert_msg(tree != NULL, "%s in: %s", error.text, answer);
    return tree;
}

/* A member of the answer, by dots: "cost.bytes_saved". */
static double number(const char *path)
{
    json_t *tree = answered(), *at = tree;
    char copy[128];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *save = NULL, *key = strtok_r(copy, ".", &save); key; key = strtok_r(NULL, ".", &save))
        at = json_object_get(at, key);
    ck_assert_msg(json_is_number(at), "no number %s in %s", path, answer);
    double v = json_number_value(at);
    json_decref(tree);
    return v;
}

static bool has_remedy(void)
{
    json_t *tree = answered();
    const char *what = json_string_value(json_object_get(tree, "error"));
    const char *how = json_string_value(json_object_get(tree, "remedy"));
    bool has = what && *what && how && *how && json_is_false(json_object_get(tree, "success"));
    json_decref(tree);
    return has;
}

START_TEST(health_tells_why)
{
    start("127.0.0.1:0", NULL, NULL);
    ck_assert_int_eq(ask("GET /health/ready", "", ""), 200);
    w.health.ready = false;
    w.health.why = "Draining.";
    ck_assert_int_eq(ask("GET /health/ready", "", ""), 503);
    ck_assert_ptr_nonnull(strstr(body(), "Draining."));
    ck_assert_int_eq(ask("GET /health/live", "", ""), 200);
    ck_assert_int_eq(ask("HEAD /health/live", "", ""), 200);
    ck_assert_str_eq(body(), "");
    w.health.started = false;
    ck_assert_int_eq(ask("GET /health/startup", "", ""), 503);
    w.health.live = false;
    ck_assert_int_eq(ask("GET /health/live", "", ""), 503);
}
END_TEST

START_TEST(metrics_in_both_formats)
{
    start("127.0.0.1:0", NULL, NULL);
    struct observation o = {.method = 1, .status = 200, .total = 1000, .cache = VERDICT_HIT};
    metrics_observe(metrics_block(w.metrics, 0), &o);
    ck_assert_int_eq(ask("GET /metrics", "", ""), 200);
    ck_assert_ptr_nonnull(strstr(answer, "text/plain; version=0.0.4"));
    ck_assert_ptr_nonnull(strstr(
        body(),
        "promptops_requests_total{operation=\"other\",method=\"GET\",code=\"200\",cache=\"hit\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(body(), "\nprocess_resident_memory_bytes "));
    ck_assert_int_eq(
        ask("GET /metrics", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n", ""),
        200);
    ck_assert_ptr_nonnull(strstr(answer, "application/openmetrics-text; version=1.0.0"));
    ck_assert_str_eq(answer + answer_n - 6, "# EOF\n");
    ck_assert_int_eq(ask("GET /metrics", "Host: sidecar.monitoring.svc:9901\r\n", ""), 200);
}
END_TEST

START_TEST(summary_has_the_contract)
{
    static const char *const members[] = {"cache_hit_rate",
                                          "error_rate",
                                          "throughput",
                                          "request_latency.mean",
                                          "request_latency.p50",
                                          "request_latency.p90",
                                          "request_latency.p95",
                                          "request_latency.p99",
                                          "request_latency.max",
                                          "network_latency",
                                          "memory_usage_mb",
                                          "cpu_usage",
                                          "active_requests",
                                          "connection_pool_size",
                                          "retry_count",
                                          "batch_size",
                                          "compression_ratio",
                                          "requests_total",
                                          "upstream_requests_total",
                                          "cost.fetch_seconds_saved",
                                          "cost.requests_saved",
                                          "cost.bytes_saved",
                                          "uptime"};
    start("127.0.0.1:0", NULL, NULL);
    struct observation o = {.method = 1, .status = 200, .total = 2 * TICK_S, .cache = VERDICT_HIT};
    metrics_observe(metrics_block(w.metrics, 0), &o);
    ck_assert_int_eq(ask("GET /api/v1/summary?window=30m", "", ""), 200);
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        number(members[i]);
    ck_assert(number("request_latency.max") == 2 && number("cache_hit_rate") == 1 && number("uptime") == 100);
    ck_assert(number("memory_usage_mb") > 0.1);
    ck_assert(number("cpu_usage") > 0);
    ck_assert_int_eq(ask("GET /api/v1/summary?window=soon", "", ""), 400);
    ck_assert(has_remedy() && strstr(body(), "window"));
    ck_assert_int_eq(ask("GET /api/v1/summary?window=-5m", "", ""), 400);
    ck_assert_int_eq(ask("GET /api/v1/summary?window=5y", "", ""), 400);
    ck_assert_int_eq(ask("GET /api/v1/summary?window=0x10", "", ""), 400);
    ck_assert_int_eq(ask("GET /api/v1/summary?window=nan", "", ""), 400);
}
END_TEST

START_TEST(recent_requests_are_listed_and_filtered)
{
    start("127.0.0.1:0", NULL, NULL);
    uint16_t get = metrics_operation(w.metrics, "get_prompt");
    for (int i = 1; i <= 10; i++) {
        struct observation o = {.operation = i % 2 ? get : 0,
                                .method = 1,
                                .status = i == 7 ? 502 : 200,
                                .reason = i == 7,
                                .ended_wall = i * TICK_S,
                                .total = i * TICK_MS,
                                .tcp = TICK_MS,
                                .path = "/v1/x",
                                .request_id = "r"};
        metrics_observe(metrics_block(w.metrics, i % 2), &o);
    }
    ck_assert_int_eq(ask("GET /api/v1/requests", "", ""), 200);
    json_t *tree = answered(), *list = json_object_get(tree, "requests");
    ck_assert_uint_eq(json_array_size(list), 10);
    const char *ended = json_string_value(json_object_get(json_array_get(list, 0), "ended"));
    ck_assert_str_eq(ended, "1970-01-01T00:00:10.000Z");
    json_decref(tree);
    ck_assert_int_eq(ask("GET /api/v1/requests?operation=get_prompt&min_duration=5ms&limit=2", "", ""), 200);
    tree = answered();
    ck_assert_uint_eq(json_array_size(json_object_get(tree, "requests")), 2);
    json_decref(tree);
    ck_assert_int_eq(ask("GET /api/v1/requests?status=502", "", ""), 200);
    ck_assert_ptr_nonnull(strstr(body(), "\"reason\":\"connect_failed\""));
    ck_assert_ptr_null(strstr(body(), "\"status\":200"));
    ck_assert_int_eq(ask("GET /api/v1/requests?limit=many", "", ""), 400);
    ck_assert_int_eq(ask("GET /api/v1/requests?limit=1001", "", ""), 400);
}
END_TEST

START_TEST(messagepack_says_the_same)
{
    const char *why;
    start("127.0.0.1:0", NULL, NULL);
    ck_assert_int_eq(ask("GET /api/v1/pool", "", ""), 200);
    json_t *json = answered();
    ck_assert_int_eq(ask("GET /api/v1/pool", "Accept: application/msgpack\r\n", ""), 200);
    ck_assert_ptr_nonnull(strstr(answer, "Content-Type: application/msgpack"));
    const char *at = body();
    json_t *pack = pack_read(at, answer_n - (size_t)(at - answer), &why);
    ck_assert_msg(pack != NULL, "%s", why);
    ck_assert(json_equal(json, pack));
    json_decref(json);
    json_decref(pack);
    ck_assert_int_eq(ask("GET /api/v1/pool", "Accept: application/msgpack;q=0.2, application/json\r\n", ""),
                     200);
    json_decref(answered());
}
END_TEST

START_TEST(every_answer_is_guarded_by_its_fields)
{
    static const char *const fields[] = {"X-Content-Type-Options: nosniff\r\n", "Cache-Control: no-store\r\n",
                                         "Content-Security-Policy: default-src 'none'",
                                         "X-Frame-Options: DENY\r\n"};
    static const char *const lines[] = {"GET /health/live", "GET /nothing", "POST /metrics",
                                        "GET /api/v1/pool", "GET /assets/nothing"};
    start("127.0.0.1:0", NULL, NULL);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        ask(lines[i], "X-Requested-With: test\r\n", "");
        for (size_t k = 0; k < ARRAY_LEN(fields); k++)
            ck_assert_msg(strstr(answer, fields[k]) != NULL, "%s lacks %s", lines[i], fields[k]);
    }
}
END_TEST

/* The page is nobody's data: no token, compressed where that may be, and it may load from here only. */
START_TEST(the_dashboard_is_served_from_the_program)
{
    const struct page_asset *page = page_assets, *file = page_assets + 1;
    char line[160], fields[160], length[48];
    write_file(w.token, "s3cret-token\n");
    start("127.0.0.1:0", w.token, NULL);
    if (!page->name) { /* built without npm */
        ck_assert_int_eq(ask("GET /", "", ""), 501);
        ck_assert_ptr_nonnull(strstr(answer, page_left_out));
        return;
    }
    ck_assert_str_eq(page->name, "");
    ck_assert_int_eq(ask("GET /", "Accept-Encoding: br, gzip\r\n", ""), 200);
    ck_assert_ptr_nonnull(strstr(answer, "Content-Encoding: gzip\r\n"));
    ck_assert_ptr_nonnull(strstr(answer, "Cache-Control: no-cache\r\n"));
    ck_assert_ptr_nonnull(strstr(answer, "; script-src 'self'; style-src 'self'; "));
    ck_assert_ptr_null(strstr(answer, "unsafe"));
    ck_assert_uint_eq(answer_n - (size_t)(body() - answer), page->n);
    ck_assert_mem_eq(body(), page->bytes, page->n);
    ck_assert_int_eq(ask("GET /", "Accept-Encoding: gzip;q=0\r\n", ""), 200);
    ck_assert_ptr_null(strstr(answer, "Content-Encoding"));
    ck_assert_uint_eq(answer_n - (size_t)(body() - answer), page->plain);
    ck_assert_mem_eq(body(), "<!doctype html>", 15);
    ck_assert_int_eq(ask("HEAD /", "", ""), 200);
    snprintf(length, sizeof length, "Content-Length: %zu\r\n", page->plain);
    ck_assert_ptr_nonnull(strstr(answer, length));
    snprintf(fields, sizeof fields, "If-None-Match: \"other\", %s\r\n", page->etag);
    ck_assert_int_eq(ask("GET /", fields, ""), 304);
    snprintf(line, sizeof line, "GET /assets/%s", file->name);
    ck_assert_int_eq(ask(line, "Accept-Encoding: gzip\r\n", ""), 200);
    ck_assert_ptr_nonnull(strstr(answer, "Cache-Control: public, max-age=31536000, immutable\r\n"));
    ck_assert_int_eq(ask("GET /assets/..%2f", "", ""), 404);
    ck_assert_int_eq(ask("GET /api/v1/pool", "", ""), 401);
}
END_TEST

START_TEST(what_is_not_there_is_said_plainly)
{
    start("127.0.0.1:0", NULL, NULL);
    ck_assert_int_eq(ask("GET /nothing", "", ""), 404);
    ck_assert(has_remedy());
    ck_assert_int_eq(ask("DELETE /api/v1/summary", "X-Requested-With: t\r\n", ""), 405);
    ck_assert_ptr_nonnull(strstr(answer, "Allow: GET, HEAD, OPTIONS\r\n"));
    ck_assert_int_eq(ask("GET /api/v1/cache/purge", "", ""), 405);
    ck_assert_ptr_nonnull(strstr(answer, "Allow: POST, OPTIONS\r\n"));
    ck_assert_int_eq(ask("OPTIONS /api/v1/summary", "X-Requested-With: t\r\n", ""), 204);
    ck_assert_int_eq(ask("GET /api/v1/alerts", "", ""), 501);
    ck_assert(has_remedy());
    ck_assert_int_eq(ask("GET /api/v1/cache", "", ""), 501); /* no source */
    ck_assert_int_eq(ask("GET /api/v1/alerts/", "", ""), 404);
    ck_assert_int_eq(ask("GET /api/v1", "", ""), 200);
    ck_assert_ptr_nonnull(strstr(body(), "\"path\":\"/api/v1/summary\""));
}
END_TEST

START_TEST(the_token_opens_all_but_health)
{
    write_file(w.token, "  s3cret-token\n");
    start("127.0.0.1:0", w.token, NULL);
    ck_assert_int_eq(ask("GET /health/live", "", ""), 200);
    ck_assert_int_eq(ask("GET /metrics", "", ""), 401);
    ck_assert_ptr_nonnull(strstr(answer, "WWW-Authenticate: Bearer"));
    ck_assert(has_remedy());
    ck_assert_int_eq(ask("GET /nothing", "", ""), 401); /* what there is, is told to no stranger */
    ck_assert_int_eq(ask("GET /metrics", "Authorization: Bearer s3cret-token\r\n", ""), 200);
    ck_assert_int_eq(ask("GET /metrics", "Authorization: bearer  s3cret-token\r\n", ""), 200);
    ck_assert_int_eq(ask("GET /metrics", "Authorization: Bearer s3cret-toke\r\n", ""), 401);
    ck_assert_int_eq(ask("GET /metrics", "Authorization: Bearer s3cret-tokens\r\n", ""), 401);
    ck_assert_int_eq(ask("GET /metrics", "Authorization: Bearer \r\n", ""), 401);
    ck_assert_int_eq(ask("GET /metrics", "Authorization: Basic s3cret-token\r\n", ""), 401);
    ck_assert_int_eq(
        ask("POST /drain", "Authorization: Bearer s3cret-token\r\nOrigin: http://evil.example\r\n", ""), 202);
    ck_assert_uint_eq(metrics_sum(w.metrics, METRIC_ADMIN_REFUSED), 6);
    char fresh[80];
    snprintf(fresh, sizeof fresh, "%s.new", w.token); /* replaced, as one does with secrets */
    write_file(fresh, "another");
    ck_assert_int_eq(rename(fresh, w.token), 0);
    ck_assert_int_eq(ask("GET /metrics", "Authorization: Bearer s3cret-token\r\n", ""), 401);
    ck_assert_int_eq(ask("GET /metrics", "Authorization: Bearer another\r\n", ""), 200);
    ck_assert_int_eq(unlink(w.token), 0); /* lost: the door does not open by itself */
    ck_assert_int_eq(ask("GET /metrics", "", ""), 401);
    ck_assert_int_eq(ask("GET /metrics", "Authorization: Bearer another\r\n", ""), 200);
}
END_TEST

START_TEST(a_foreign_page_changes_nothing)
{
    static const struct {
        const char *fields;
        int status;
    } cases[] = {
        {"", 403},
        {"X-Requested-With: promptops-perf\r\n", 202},
        {"Content-Type: application/json\r\n", 202},
        {"Content-Type: text/plain\r\n", 403},
        {"Content-Type: application/x-www-form-urlencoded\r\n", 403},
        {"Host: localhost:99\r\nOrigin: http://localhost:99\r\n", 202},
        {"Host: localhost:99\r\nOrigin: http://localhost:98\r\n", 403},
        {"Origin: http://evil.example\r\nX-Requested-With: x\r\n", 403},
        {"Origin: null\r\nContent-Type: application/json\r\n", 403},
        {"Sec-Fetch-Site: same-origin\r\n", 202},
        {"Sec-Fetch-Site: cross-site\r\nX-Requested-With: x\r\n", 403},
        {"Sec-Fetch-Site: same-site\r\n", 403},
    };
    int expected = 0;
    start("127.0.0.1:0", NULL, NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ck_assert_msg(ask("POST /drain", cases[i].fields, "") == cases[i].status, "case %zu: %s", i, answer);
        expected += cases[i].status == 202;
        ck_assert_int_eq(w.drains, expected);
    }
}
END_TEST

START_TEST(a_name_bound_here_by_others_is_not_answered)
{
    start("127.0.0.1:0", NULL, NULL);
    ck_assert_int_eq(ask("GET /api/v1/pool", "Host: rebind.evil.example:9901\r\n", ""), 421);
    ck_assert(has_remedy());
    ck_assert_int_eq(ask("GET /api/v1/pool", "Host: 127.0.0.1.evil.example\r\n", ""), 421);
    ck_assert_int_eq(ask("GET /api/v1/pool", "Host: 10.0.0.1:9901\r\n", ""), 200);
    ck_assert_int_eq(ask("GET /api/v1/pool", "Host: [::1]:9901\r\n", ""), 200);
    ck_assert_int_eq(ask("GET /api/v1/pool", "Host: LOCALHOST\r\n", ""), 200);
    ck_assert_int_eq(ask("GET /health/ready", "Host: pod.example\r\n", ""), 200);
}
END_TEST

START_TEST(purging)
{
    static const char *const wrong[] = {"",
                                        "{",
                                        "[]",
                                        "{}",
                                        "{\"all\": false}",
                                        "{\"all\": true, \"key\": \"x\"}",
                                        "{\"key\": \"\"}",
                                        "{\"key\": 5}",
                                        "{\"key\": \"a\", \"key\": \"b\"}",
                                        "{\"tag\": \"a\\u0000b\"}",
                                        "{\"tags\": \"a\"}",
                                        "{\"tag\": \"\xff\"}"};
    const char *json = "Content-Type: application/json\r\n";
    start("127.0.0.1:0", NULL, NULL);
    w.purged_what[0] = '\0';
    w.purge_result = 5;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        ck_assert_msg(ask("POST /api/v1/cache/purge", json, wrong[i]) == 400, "%s: %s", wrong[i], answer);
        ck_assert(has_remedy());
        ck_assert_str_eq(w.purged_what, "");
    }
    ck_assert_int_eq(ask("POST /api/v1/cache/purge", json, "{\"tag\": \"prompt:a\"}"), 200);
    ck_assert(w.purged == PURGE_TAG && strcmp(w.purged_what, "prompt:a") == 0);
    ck_assert(number("purged") == 5);
    ck_assert_int_eq(ask("POST /api/v1/cache/purge", json, "{\"all\": true}"), 200);
    ck_assert(w.purged == PURGE_ALL);
    ck_assert_int_eq(
        ask("POST /api/v1/cache/purge", "Content-Type: application/msgpack\r\n", "\x81\xa3key\xa2/x"), 200);
    ck_assert(w.purged == PURGE_KEY && strcmp(w.purged_what, "/x") == 0);
    ck_assert_int_eq(
        ask("POST /api/v1/cache/purge", "Content-Type: application/msgpack\r\n", "\x81\xa3key\xc4\x02/x"),
        400);
    ck_assert_int_eq(
        ask("POST /api/v1/cache/purge", "Content-Type: application/msgpack\r\n", "\x81\xa3key\xa2/x!"), 400);
    w.purge_result = -1;
    ck_assert_int_eq(ask("POST /api/v1/cache/purge", json, "{\"prefix\": \"/x\"}"), 503);
}
END_TEST

START_TEST(a_body_too_large_is_refused)
{
    static char big[66000];
    memset(big, ' ', sizeof big - 1);
    start("127.0.0.1:0", NULL, NULL);
    ck_assert_int_eq(ask("POST /api/v1/cache/purge", "Content-Type: application/json\r\n", big), 413);
}
END_TEST

START_TEST(names_in_paths_are_decoded)
{
    start("127.0.0.1:0", NULL, NULL);
    ck_assert_int_eq(ask("POST /api/v1/circuit/api%2F1%20x/reset", "X-Requested-With: t\r\n", ""), 200);
    ck_assert_int_eq(ask("POST /api/v1/circuit/other/reset", "X-Requested-With: t\r\n", ""), 404);
    ck_assert_int_eq(ask("POST /api/v1/circuit//reset", "X-Requested-With: t\r\n", ""), 404);
}
END_TEST

START_TEST(changes_are_audited)
{
    char all[2048];
    start("127.0.0.1:0", NULL, w.audit);
    w.purge_result = 2;
    ck_assert_int_eq(
        ask("POST /api/v1/cache/purge", "Content-Type: application/json\r\n", "{\"prefix\": \"/a\\nb\"}"),
        200);
    ck_assert_int_eq(ask("POST /drain", "X-Requested-With: t\r\n", ""), 202);
    ck_assert_int_eq(ask("GET /api/v1/pool", "", ""), 200);
    FILE *f = fopen(w.audit, "r");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(all, 1, sizeof all - 1, f);
    fclose(f);
    all[n] = '\0';
    json_t *first = json_loadb(all, strcspn(all, "\n"), 0, NULL);
    ck_assert_str_eq(json_string_value(json_object_get(first, "action")), "purge the cache");
    ck_assert_str_eq(json_string_value(json_object_get(first, "detail")), "prefix /a\nb: 2 entries");
    ck_assert_str_eq(json_string_value(json_object_get(first, "peer")), "127.0.0.1");
    ck_assert_int_eq(json_integer_value(json_object_get(first, "status")), 200);
    json_decref(first);
    const char *second = strchr(all, '\n') + 1;
    ck_assert_ptr_nonnull(strstr(second, "\"action\":\"drain\""));
    ck_assert_ptr_eq(strchr(second, '\n'), all + n - 1); /* two lines, no more */
}
END_TEST

START_TEST(without_its_audit_log_nothing_is_changed)
{
    start("127.0.0.1:0", NULL, "/nonexistent/audit");
    ck_assert_int_eq(ask("POST /drain", "X-Requested-With: t\r\n", ""), 503);
    ck_assert_int_eq(w.drains, 0);
}
END_TEST

START_TEST(a_unix_socket)
{
    char address[80];
    static const char request[] = "GET /api/v1/pool HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n";
    snprintf(address, sizeof address, "unix:%s", w.path);
    start(address, NULL, NULL);
    ck_assert_int_eq(exchange_on(connected_path(), request, sizeof request - 1), 200);
    struct stat st;
    ck_assert_int_eq(stat(w.path, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0660);
    admin_free(w.admin);
    ck_assert_int_ne(stat(w.path, &st), 0);   /* and gone with it */
    int fd = socket(AF_UNIX, SOCK_STREAM, 0); /* what a crash leaves behind does no harm */
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    snprintf(sun.sun_path, sizeof sun.sun_path, "%s", w.path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sun, sizeof sun), 0);
    close(fd);
    start(address, NULL, NULL);
    ck_assert_int_eq(exchange_on(connected_path(), request, sizeof request - 1), 200);
}
END_TEST

START_TEST(bad_settings_are_named)
{
    static const struct {
        const char *address, *token;
        const char *says;
    } cases[] = {{"nonsense", NULL, "admin.address"},
                 {"127.0.0.1:0", "/nonexistent/token", "admin.token_file: /nonexistent/token: No such file"},
                 {"192.0.2.1:0", NULL, "admin.address: 192.0.2.1:0: cannot listen"},
                 {"unix:/nonexistent/x", NULL, "admin.address"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char error[256] = "";
        struct admin_options options = {.address = cases[i].address, .cfg = settings(cases[i].token, NULL)};
        ck_assert_ptr_null(admin_new(w.base, &options, &w.sources, error, sizeof error));
        ck_assert_msg(strstr(error, cases[i].says) != NULL, "%s", error);
    }
    write_file(w.token, "\n");
    char error[256] = "";
    struct admin_options options = {.address = "127.0.0.1:0", .cfg = settings(w.token, NULL)};
    ck_assert_ptr_null(admin_new(w.base, &options, &w.sources, error, sizeof error));
    ck_assert_ptr_nonnull(strstr(error, "it is empty"));
}
END_TEST

START_TEST(a_broken_request_does_no_harm)
{
    static const char *const requests[] = {"GARBAGE\r\n\r\n", "GET  HTTP/1.1\r\n\r\n", "\r\n\r\n\r\n",
                                           "GET /health/live HTTP/1.1\r\nHost localhost\r\n\r\n"};
    start("127.0.0.1:0", NULL, NULL);
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        int fd = connected();
        ck_assert_int_gt(send(fd, requests[i], strlen(requests[i]), MSG_NOSIGNAL), 0);
        shutdown(fd, SHUT_WR);
        for (bool open = true; open;) {
            event_base_loop(w.base, EVLOOP_NONBLOCK);
            struct pollfd p = {.fd = fd, .events = POLLIN};
            if (poll(&p, 1, 1) == 1)
                open = read(fd, answer, sizeof answer) > 0;
        }
        close(fd);
    }
    ck_assert_int_eq(ask("GET /health/live", "", ""), 200);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("admin");
    TCase *t = tcase_create("admin");
    tcase_set_timeout(t, 20);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, health_tells_why);
    tcase_add_test(t, metrics_in_both_formats);
    tcase_add_test(t, summary_has_the_contract);
    tcase_add_test(t, recent_requests_are_listed_and_filtered);
    tcase_add_test(t, messagepack_says_the_same);
    tcase_add_test(t, every_answer_is_guarded_by_its_fields);
    tcase_add_test(t, the_dashboard_is_served_from_the_program);
    tcase_add_test(t, what_is_not_there_is_said_plainly);
    tcase_add_test(t, the_token_opens_all_but_health);
    tcase_add_test(t, a_foreign_page_changes_nothing);
    tcase_add_test(t, a_name_bound_here_by_others_is_not_answered);
    tcase_add_test(t, purging);
    tcase_add_test(t, a_body_too_large_is_refused);
    tcase_add_test(t, names_in_paths_are_decoded);
    tcase_add_test(t, changes_are_audited);
    tcase_add_test(t, without_its_audit_log_nothing_is_changed);
    tcase_add_test(t, a_unix_socket);
    tcase_add_test(t, bad_settings_are_named);
    tcase_add_test(t, a_broken_request_does_no_harm);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
