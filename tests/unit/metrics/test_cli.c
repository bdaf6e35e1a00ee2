/*
 * metrics/cli: the command line and what is shown, with an admin port made up here in place of ask.c.
 */
int perf_main(int argc, char **argv);
#define main perf_main
#include "metrics/cli/main.c"
#undef main
#include "metrics/cli/alerts.c"
#include "metrics/cli/benchmark.c"
#include "metrics/cli/commands.c"
#include "metrics/cli/debug.c"
#include "metrics/cli/describe.c"
#include "metrics/cli/history.c"
#include "metrics/cli/monitor.c"
#include "metrics/cli/show.c"
#include "metrics/cli/web.c"

#include <check.h>
#include <fcntl.h>

static const char *canned;                   /* what the admin port answers; NULL: an error */
static char asked[2048], asked_body[256];    /* the last request */
static char output[65536], complaints[8192]; /* of the last run */

struct json_t *ask(const struct args *a, const char *method, const char *path, const struct json_t *body)
{
    snprintf(asked, sizeof asked, "%s %s%s", method, a->admin, path);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    snprintf(asked_body, sizeof asked_body, "%s", text ? text : "");
    free(text);
    return canned ? json_loads(canned, 0, NULL) : NULL;
}

void ask_set_url(void *curl, const char *admin, const char *path)
{
    (void)curl;
    snprintf(asked, sizeof asked, "URL %s%s", admin, path);
}

bool read_token(const char *path, char out[TOKEN_FIELD_MAX])
{
    snprintf(out, TOKEN_FIELD_MAX, "Authorization: Bearer of-%s", path);
    return true;
}

bool ask_raw(const struct args *a, const char *path, FILE *out)
{
    snprintf(asked, sizeof asked, "GET %s%s", a->admin, path);
    if (canned)
        fputs(canned, out);
    return canned != NULL;
}

static void capture(int fd, const char *path, int *kept)
{
    fflush(NULL);
    *kept = dup(fd);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(file, 0);
    dup2(file, fd);
    close(file);
}

static void restore(int fd, int kept, char *out, size_t room)
{
    fflush(NULL);
    off_t n = lseek(fd, 0, SEEK_CUR);
    ssize_t got = pread(fd, out, (size_t)n < room - 1 ? (size_t)n : room - 1, 0);
    out[got > 0 ? got : 0] = '\0';
    dup2(kept, fd);
    close(kept);
}

/* Runs a command line, words separated by blanks. Returns the exit code. */
static int run_line(const char *line)
{
    static char copy[512];
    char *argv[32] = {(char[]){"promptops-perf"}}, out[] = "/tmp/test_cli_XXXXXX",
         err[] = "/tmp/test_cli_XXXXXX";
    int argc = 1, kept[2];
    snprintf(copy, sizeof copy, "%s", line);
    for (char *save = NULL, *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    close(mkstemp(out));
    close(mkstemp(err));
    *asked = '\0';
    capture(1, out, &kept[0]);
    capture(2, err, &kept[1]);
    int code = perf_main(argc, argv);
    restore(1, kept[0], output, sizeof output);
    restore(2, kept[1], complaints, sizeof complaints);
    unlink(out);
    unlink(err);
    return code;
}

/* What `monitor --web` makes of a browser's head; "" when it is refused. */
static void rewritten(const char *head, const char *wanted)
{
    struct args a = {.admin = "http://admin:9/base/", .token_file = "t"};
    struct web w = {.args = &a, .port = 8080};
    int ends[2];
    char copy[1024];
    struct text out = {0};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    struct passage p = {.web = &w, .fd = ends[0]};
    snprintf(copy, sizeof copy, "%s", head);
    bool good = rewrite(&p, copy, strlen(copy), &out);
    ck_assert(good == (*wanted != 0));
    if (good) {
        ck_assert_uint_eq(out.n, strlen(wanted));
        ck_assert_mem_eq(out.p, wanted, out.n);
    }
    text_dispose(&out);
    close(ends[0]);
    close(ends[1]);
}

START_TEST(heads_for_the_admin_port)
{
    rewritten(
        "GET /a?b HTTP/1.1\r\nHost: localhost:8080\r\nAuthorization: Bearer x\r\nAccept: a\r\n\r\n",
        "GET /base/a?b HTTP/1.1\r\nAccept: a\r\nHost: admin:9\r\nConnection: close\r\nX-Requested-With: "
        "promptops-perf\r\nAuthorization: Bearer of-t\r\n\r\n");
    rewritten("GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUpgrade: websocket\r\nOrigin: "
              "http://127.0.0.1:8080\r\n\r\n",
              "GET /base/ HTTP/1.1\r\nUpgrade: websocket\r\nHost: admin:9\r\nConnection: Upgrade\r\n"
              "X-Requested-With: promptops-perf\r\nAuthorization: Bearer of-t\r\n\r\n");
    rewritten("GET / HTTP/1.1\r\nHost: evil:8080\r\n\r\n", "");
    rewritten("GET / HTTP/1.1\r\n\r\n", "");
    rewritten("GET / HTTP/1.1\r\nHost: localhost:8080\r\nOrigin: https://localhost:8080\r\n\r\n", "");
    rewritten("GET / HTTP/1.1\r\nHost: localhost:8080\r\nSec-Fetch-Site: cross-site\r\n\r\n", "");
    rewritten("GET http://localhost:8080/ HTTP/1.1\r\nHost: localhost:8080\r\n\r\n", "");
    rewritten("GET\r\n\r\n", "");
}
END_TEST

START_TEST(a_wrong_command_line_asks_nothing)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"", "which command? There are monitor, summary"},
        {"frob", "frob is not a command; there are monitor"},
        {"--admin", "--admin needs a value"},
        {"summary --admin", "--admin needs a value"},
        {"summary --window", "--window needs a value"},
        {"summary --window x", "not a number of minutes"},
        {"summary --window=-3", "not a number of minutes"},
        {"summary --window nan", "not a number of minutes"},
        {"summary --frob", "--frob is not an option of summary"},
        {"summary --no-color=yes", "takes no value"},
        {"summary again", "again: not understood"},
        {"summary -x", "-x: not understood"},
        {"--format xml summary", "not a format; take table, json or csv"},
        {"config", "config --show"},
        {"config --show --get a", "config --show"},
        {"config --set a", "say KEY=VALUE"},
        {"config --set =b", "say KEY=VALUE"},
        {"cache", "cache stats"},
        {"cache frob", "cache stats"},
        {"cache purge", "exactly one of"},
        {"cache purge --all --key x", "exactly one of"},
        {"monitor --interval 0", "not a number of seconds"},
        {"monitor --port 3", "--port goes with --web"},
        {"benchmark --rate x", "--rate x: not a number"},
        {"benchmark --concurrent 0", "--concurrent 0: not a number"},
        {"export --start-time yesterday", "2024-01-01T00:00:00 (UTC) or -30m"},
        {"completion", "completion bash"},
        {"debug --seconds x", "--seconds x"},
        {"debug --module pool", "--module goes with --level"},
    };
    canned = "{}";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_msg(run_line(cases[i].line) == EXIT_USAGE, "%s", cases[i].line);
        ck_assert_msg(strstr(complaints, cases[i].says) != NULL, "%s: %s", cases[i].line, complaints);
        ck_assert_str_eq(asked, "");
        ck_assert_str_eq(output, "");
    }
}
END_TEST

static const char summary[] =
    "{\"requests_total\": 12, \"cache_hit_rate\": 0.456, \"error_rate\": 0, \"throughput\": 0.4,"
    "\"request_latency\": {\"mean\": 0.0123, \"p50\": 0.00045, \"max\": 3.5},"
    "\"memory_usage_mb\": 25.25, \"cost\": {\"bytes_saved\": 2048}, \"window\": 1800.0, \"uptime\": 9000}";

START_TEST(the_summary_as_table)
{
    canned = summary;
    ck_assert_int_eq(run_line("summary"), EXIT_GOOD);
    ck_assert_str_eq(asked, "GET http://127.0.0.1:9901/api/v1/summary?window=1800.000s");
    ck_assert_ptr_nonnull(strstr(output, "cache hit rate        45.6 %\n"));
    ck_assert_ptr_nonnull(strstr(output, "latency mean          12.30 ms\n"));
    ck_assert_ptr_nonnull(strstr(output, "latency p50           450.0 us\n"));
    ck_assert_ptr_nonnull(strstr(output, "bytes saved           2.0 KiB\n"));
    ck_assert_ptr_nonnull(strstr(output, "window                30.0 min\n"));
    ck_assert_ptr_nonnull(strstr(output, "retries               -\n")); /* an older sidecar does not say */
    ck_assert_ptr_null(strchr(output, '\033'));
    ck_assert_int_eq(run_line("--admin host:1 summary --window 0.5 --no-color"), EXIT_GOOD);
    ck_assert_str_eq(asked, "GET host:1/api/v1/summary?window=30.000s");
}
END_TEST

START_TEST(the_summary_as_json_and_csv)
{
    canned = summary;
    ck_assert_int_eq(run_line("--format json summary"), EXIT_GOOD);
    json_t *want = json_loads(summary, 0, NULL), *got = json_loads(output, 0, NULL);
    ck_assert(json_equal(want, got));
    json_decref(want);
    json_decref(got);
    ck_assert_int_eq(run_line("summary --format=csv"), EXIT_GOOD);
    ck_assert(strncmp(output, "name,value\r\nrequests_total,12\r\n", 31) == 0);
    ck_assert_ptr_nonnull(strstr(output, "\r\nrequest_latency.p50,0.00045\r\n"));
}
END_TEST

START_TEST(changes_and_looks_back)
{
    canned =
        "{\"changed\": [{\"key\": \"retry.budget\", \"from\": 0.1, \"to\": 0.2, \"origin\": \"admin\"}]}";
    ck_assert_int_eq(run_line("config --set retry.budget=0.25"), EXIT_GOOD);
    ck_assert_ptr_nonnull(strstr(asked, "PATCH"));
    ck_assert_str_eq(asked_body, "{\"retry.budget\":0.25}");
    ck_assert_ptr_nonnull(strstr(output, "retry.budget  0.1   0.2  admin"));
    ck_assert_int_eq(run_line("config --set pool.acquire_timeout=3s"), EXIT_GOOD);
    ck_assert_str_eq(asked_body, "{\"pool.acquire_timeout\":\"3s\"}");
    ck_assert_int_eq(run_line("config --unset retry.budget"), EXIT_GOOD);
    ck_assert_str_eq(asked_body, "{\"retry.budget\":null}");
    ck_assert_int_eq(run_line("debug --level debug --module pool --phase sent --seconds 20"), EXIT_GOOD);
    ck_assert_str_eq(asked_body,
                     "{\"seconds\":20,\"trace\":{\"phase\":\"sent\"},\"modules\":{\"pool\":\"debug\"}}");
    ck_assert_int_eq(run_line("debug --off"), EXIT_GOOD);
    ck_assert_ptr_nonnull(strstr(asked, "DELETE"));
    ck_assert_int_eq(
        run_line("export --format csv --metric-type REQUEST_LATENCY --start-time 2024-01-01T00:00:00"),
        EXIT_GOOD);
    ck_assert_ptr_nonnull(strstr(asked, "/api/v1/metrics?format=%63%73%76&metric_type="));
    canned = "{\"recommendations\": [{\"id\": \"a\", \"category\": \"CACHING\"}, {\"id\": \"b\", "
             "\"category\": \"RETRY\"}]}";
    ck_assert_int_eq(run_line("optimize --retry"), EXIT_GOOD);
    ck_assert_ptr_nonnull(strstr(output, "\nb "));
    ck_assert_ptr_null(strstr(output, "\na "));
    canned =
        "{\"recommendations\": [{\"id\": \"a\", \"state\": \"trying\", \"confidence\": 1, \"estimate\": "
        "{\"improvement\": 1}}, {\"id\": \"b\", \"state\": \"proposed\", \"confidence\": 0.5, \"estimate\": "
        "{\"improvement\": 0.2}}, {\"id\": \"c\", \"state\": \"proposed\", \"confidence\": 0.9, "
        "\"estimate\": "
        "{\"improvement\": 0.2}, \"change\": {\"key\": \"pool.max_size\"}}]}";
    ck_assert_int_eq(run_line("optimize --auto-apply"), EXIT_GOOD);
    ck_assert_ptr_nonnull(strstr(asked, "/api/v1/recommendations/%63/apply"));
    ck_assert_ptr_nonnull(strstr(output, "pool.max_size"));
    canned = "{\"alerts\": [{\"id\": \"x\", \"state\": \"firing\"}]}";
    ck_assert_int_eq(run_line("alerts --state firing"), EXIT_GOOD);
    ck_assert_ptr_nonnull(strstr(asked, "/api/v1/alerts?state=firing"));
    ck_assert_ptr_nonnull(strstr(output, "firing"));
    ck_assert_int_eq(run_line("alerts silence x --seconds 20"), EXIT_GOOD);
    ck_assert_ptr_nonnull(strstr(asked, "/api/v1/alerts/%78/silence"));
    ck_assert_str_eq(asked_body, "{\"seconds\":20}");
    ck_assert_int_eq(run_line("alerts silence"), EXIT_USAGE);
    ck_assert_int_eq(run_line("alerts history --limit 0x1"), EXIT_USAGE);
    canned = "{\"points\": [{\"p95\": 1, \"mean\": 1}, {\"p95\": 2, \"mean\": 1}, {\"p95\": 3, \"mean\": 1}, "
             "{\"p95\": 4, "
             "\"mean\": 1}, {\"p95\": 5, \"mean\": 1}, {\"p95\": 6, \"mean\": 1}, {\"p95\": 7, \"mean\": 1}, "
             "{\"p95\": 8, "
             "\"mean\": 1}, {\"p95\": 9, \"mean\": 1}]}";
    ck_assert_int_eq(run_line("analyze --trends"), EXIT_GOOD);
    ck_assert_ptr_nonnull(strstr(output, "rising"));
    ck_assert_ptr_nonnull(strstr(output, "no trend"));
    canned = summary;
    ck_assert_int_eq(run_line("monitor --interval 0.05 --duration 0.12"), EXIT_GOOD);
    ck_assert_ptr_nonnull(strstr(output, "cache hit rate 45.60%"));
    ck_assert_ptr_null(strchr(output, '\033'));
    canned = NULL;
    ck_assert_int_eq(run_line("monitor --web"), EXIT_REFUSED); /* nobody answers */
    ck_assert_int_eq(run_line("completion bash"), EXIT_GOOD);
    ck_assert_ptr_nonnull(strstr(output, "--prompt-id"));
    ck_assert_int_eq(run_line("manual"), EXIT_GOOD);
    ck_assert_ptr_nonnull(strstr(output, ".B benchmark"));
}
END_TEST

START_TEST(an_error_of_the_sidecar_is_1)
{
    canned = NULL;
    ck_assert_int_eq(run_line("summary"), EXIT_REFUSED);
    ck_assert_int_eq(run_line("config --show"), EXIT_REFUSED);
    ck_assert_int_eq(run_line("cache stats"), EXIT_REFUSED);
    ck_assert_int_eq(run_line("cache purge --all"), EXIT_REFUSED);
    ck_assert_str_eq(output, "");
}
END_TEST

START_TEST(the_configuration)
{
    canned =
        "{\"options\": {\"cache.default_ttl\": {\"value\": \"1m\", \"origin\": \"x.yaml:3\", \"live\": true},"
        "\"workers\": {\"value\": 4, \"origin\": \"default\"}, \"cache.targets\": {\"value\": [\"a\", "
        "\"b\"], \"origin\": \"a,\\\"b\\\"\"}}}";
    ck_assert_int_eq(run_line("config --get cache.default_ttl"), EXIT_GOOD);
    ck_assert_str_eq(output, "1m\n");
    ck_assert_int_eq(run_line("config --get workers"), EXIT_GOOD);
    ck_assert_str_eq(output, "4\n");
    ck_assert_int_eq(run_line("config --get nothing"), EXIT_REFUSED);
    ck_assert_int_eq(run_line("config --show"), EXIT_GOOD);
    ck_assert_str_eq(output, "KEY                VALUE      ORIGIN\n"
                             "cache.default_ttl  1m         x.yaml:3\n"
                             "workers            4          default\n"
                             "cache.targets      [\"a\",\"b\"]  a,\"b\"\n");
    ck_assert_int_eq(run_line("config --show --format csv"), EXIT_GOOD);
    ck_assert_ptr_nonnull(strstr(output, "\r\ncache.targets,\"[\"\"a\"\",\"\"b\"\"]\",\"a,\"\"b\"\"\"\r\n"));
}
END_TEST

START_TEST(the_cache)
{
    canned = "{\"entries\": 3, \"tiers\": {\"hot\": {\"bytes\": 10}}}";
    ck_assert_int_eq(run_line("cache stats"), EXIT_GOOD);
    ck_assert_str_eq(output, "entries          3\ntiers.hot.bytes  10\n");
    canned = "{\"purged\": 2}";
    ck_assert_int_eq(run_line("cache purge --tag prompt:a"), EXIT_GOOD);
    ck_assert_str_eq(asked, "POST http://127.0.0.1:9901/api/v1/cache/purge");
    ck_assert_str_eq(asked_body, "{\"tag\":\"prompt:a\"}");
    ck_assert_str_eq(output, "purged  2\n");
    ck_assert_int_eq(run_line("cache purge --all"), EXIT_GOOD);
    ck_assert_str_eq(asked_body, "{\"all\":true}");
    canned = "{\"entries\": [{\"uri\": \"/a\\u001b[31m\", \"status\": 200}]}";
    ck_assert_int_eq(run_line("cache entries --sort a&b"), EXIT_GOOD);
    ck_assert_ptr_nonnull(strstr(asked, "sort=%61%26%62&"));
    ck_assert_ptr_nonnull(strstr(output, "/a?[31m")); /* nothing steers the terminal */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cli");
    TCase *t = tcase_create("cli");
    tcase_add_test(t, heads_for_the_admin_port);
    tcase_add_test(t, a_wrong_command_line_asks_nothing);
    tcase_add_test(t, the_summary_as_table);
    tcase_add_test(t, the_summary_as_json_and_csv);
    tcase_add_test(t, an_error_of_the_sidecar_is_1);
    tcase_add_test(t, changes_and_looks_back);
    tcase_add_test(t, the_configuration);
    tcase_add_test(t, the_cache);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
