/*
 * The commands summary, config, cache.
 * Invariants: a command asks at most one thing of the sidecar, shows the answer, and gives the exit code.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "metrics/cli/cli.h"

static const struct line summary_lines[] = {
    {"requests", "requests_total", UNIT_PLAIN},
    {"throughput", "throughput", UNIT_RATE},
    {"error rate", "error_rate", UNIT_SHARE},
    {"active requests", "active_requests", UNIT_PLAIN},
    {"latency mean", "request_latency.mean", UNIT_SECONDS},
    {"latency p50", "request_latency.p50", UNIT_SECONDS},
    {"latency p90", "request_latency.p90", UNIT_SECONDS},
    {"latency p95", "request_latency.p95", UNIT_SECONDS},
    {"latency p99", "request_latency.p99", UNIT_SECONDS},
    {"latency max", "request_latency.max", UNIT_SECONDS},
    {"network latency", "network_latency", UNIT_SECONDS},
    {"cache hit rate", "cache_hit_rate", UNIT_SHARE},
    {"fetch time saved", "cost.fetch_seconds_saved", UNIT_SECONDS},
    {"requests saved", "cost.requests_saved", UNIT_PLAIN},
    {"bytes saved", "cost.bytes_saved", UNIT_BYTES},
    {"upstream requests", "upstream_requests_total", UNIT_PLAIN},
    {"retries", "retry_count", UNIT_PLAIN},
    {"upstream connections", "connection_pool_size", UNIT_PLAIN},
    {"batch size", "batch_size", UNIT_PLAIN},
    {"compression ratio", "compression_ratio", UNIT_PLAIN},
    {"memory", "memory_usage_mb", UNIT_MEGABYTES},
    {"processor", "cpu_usage", UNIT_PERCENT},
    {"window", "window", UNIT_SECONDS},
    {"uptime", "uptime", UNIT_SECONDS},
    {NULL, NULL, UNIT_PLAIN},
};

static enum exit_code no_words_wanted(const struct args *a)
{
    complain("%s: not understood after %s", a->words[1], a->words[0]);
    return EXIT_USAGE;
}

enum exit_code run_summary(const struct args *a)
{
    const char *window = args_flag(a, "window");
    char *end, path[96];
    double minutes = window ? strtod(window, &end) : 30;
    if (window && (end == window || *end || !(minutes > 0) || minutes > 1e6)) {
        complain("--window %s: not a number of minutes above 0", window);
        return EXIT_USAGE;
    }
    if (a->word_count > 1)
        return no_words_wanted(a);
    snprintf(path, sizeof path, "/api/v1/summary?window=%.3fs", minutes * 60);
    json_t *tree = ask(a, "GET", path, NULL);
    if (!tree)
        return EXIT_REFUSED;
    show_values(a, tree, summary_lines);
    json_decref(tree);
    return EXIT_GOOD;
}

/* ---- config ---- */

static enum exit_code show_one(const struct args *a, const json_t *options, const char *key)
{
    const json_t *option = json_object_get(options, key);
    if (!option) {
        complain("%s: the sidecar has no such key; promptops-perf config --show lists them", key);
        return EXIT_REFUSED;
    }
    if (a->format == FORMAT_TABLE) {
        json_t *value = json_object_get(option, "value");
        char *text = json_is_string(value) ? strdup(json_string_value(value))
                                           : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        printf("%s\n", text ? text : "");
        free(text);
    } else {
        show_values(a, option, NULL);
    }
    return EXIT_GOOD;
}

/* The options, a row each: {key, value, origin, live}. NULL when out of memory. */
static json_t *option_rows(const json_t *options)
{
    const char *key;
    json_t *option, *rows = json_array();
    json_object_foreach((json_t *)(size_t)options, key, option)
    {
        json_t *row = json_deep_copy(option);
        if (!row || json_object_set_new(row, "key", json_string(key)) || json_array_append_new(rows, row)) {
            json_decref(rows);
            return NULL;
        }
    }
    return rows;
}

static enum exit_code show_all(const struct args *a, const json_t *options)
{
    json_t *rows = a->format == FORMAT_JSON ? NULL : option_rows(options);
    if (a->format == FORMAT_JSON)
        show_values(a, options, NULL);
    else if (rows)
        show_rows(a, rows, "key value origin");
    else
        complain("out of memory");
    json_decref(rows);
    return rows || a->format == FORMAT_JSON ? EXIT_GOOD : EXIT_REFUSED;
}

/* `--set KEY=VALUE` or `--unset KEY`. A value that is JSON (a number, true, a list) is sent as it is. */
static enum exit_code change(const struct args *a, const char *set, const char *unset)
{
    char key[128];
    const char *equals = set ? strchr(set, '=') : unset + strlen(unset);
    size_t n = equals ? (size_t)(equals - (set ? set : unset)) : 0;
    if (!n || n >= sizeof key) {
        complain("config %s: say KEY%s", set ? "--set" : "--unset", set ? "=VALUE" : "");
        return EXIT_USAGE;
    }
    snprintf(key, sizeof key, "%.*s", (int)n, set ? set : unset);
    json_t *value = set ? json_loads(equals + 1, JSON_DECODE_ANY, NULL) : json_null();
    if (!value)
        value = json_string(equals + 1);
    json_t *body = json_object();
    if (!body || !value || json_object_set_new(body, key, value) != 0) {
        json_decref(body);
        complain("out of memory, or the value is not UTF-8");
        return EXIT_USAGE;
    }
    json_t *tree = ask(a, "PATCH", "/api/v1/config", body);
    json_decref(body);
    if (!tree)
        return EXIT_REFUSED;
    show_rows(a, json_object_get(tree, "changed"), "key from to origin");
    json_decref(tree);
    return EXIT_GOOD;
}

/* The sidecar beside this program, or the one on the PATH, judges the file. Comes back only when there is
 * none. */
static enum exit_code check_file(const char *file)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;
    if (slash) {
        memcpy(slash + 1, "promptops-sidecar", sizeof "promptops-sidecar");
        execl(path, "promptops-sidecar", "--config", file, "--check", (char *)NULL);
    }
    execlp("promptops-sidecar", "promptops-sidecar", "--config", file, "--check", (char *)NULL);
    complain("config --check: promptops-sidecar, which judges the file, was not found");
    return EXIT_REFUSED;
}

enum exit_code run_config(const struct args *a)
{
    const char *key = args_flag(a, "get"), *set = args_flag(a, "set"), *unset = args_flag(a, "unset"),
               *check = args_flag(a, "check");
    bool show = args_flag(a, "show") != NULL;
    if (a->word_count > 1)
        return no_words_wanted(a);
    if (show + !!key + !!set + !!unset + !!check != 1) {
        complain(
            "say one of: config --show, config --get KEY, config --set KEY=VALUE, config --unset KEY, config "
            "--check FILE");
        return EXIT_USAGE;
    }
    if (set || unset)
        return change(a, set, unset);
    if (check)
        return check_file(check);
    json_t *tree = ask(a, "GET", "/api/v1/config", NULL);
    if (!tree)
        return EXIT_REFUSED;
    const json_t *options = json_object_get(tree, "options");
    enum exit_code code = key ? show_one(a, options, key) : show_all(a, options);
    json_decref(tree);
    return code;
}

/* ---- cache ---- */

static enum exit_code cache_stats(const struct args *a)
{
    json_t *tree = ask(a, "GET", "/api/v1/cache", NULL);
    if (!tree)
        return EXIT_REFUSED;
    show_values(a, tree, NULL);
    json_decref(tree);
    return EXIT_GOOD;
}

void escape_query(const char *s, char *out, size_t room)
{
    size_t n = 0;
    for (; *s && n + 4 < room; s++)
        n += (size_t)snprintf(out + n, room - n, "%%%02X", (unsigned)(unsigned char)*s);
    out[n] = '\0';
}

static enum exit_code cache_entries(const struct args *a)
{
    const char *sort = args_flag(a, "sort"), *limit = args_flag(a, "limit");
    char path[512], sort_escaped[128], limit_escaped[128];
    escape_query(sort ? sort : "hits", sort_escaped, sizeof sort_escaped);
    escape_query(limit ? limit : "100", limit_escaped, sizeof limit_escaped);
    snprintf(path, sizeof path, "/api/v1/cache/entries?sort=%s&limit=%s", sort_escaped, limit_escaped);
    json_t *tree = ask(a, "GET", path, NULL);
    if (!tree)
        return EXIT_REFUSED;
    if (a->format == FORMAT_JSON)
        show_values(a, tree, NULL);
    else
        show_rows(a, json_object_get(tree, "entries"), "uri status bytes hits age ttl tier");
    json_decref(tree);
    return EXIT_GOOD;
}

static enum exit_code cache_purge(const struct args *a)
{
    static const char *const names[] = {"key", "prefix", "tag", "all"};
    json_t *body = json_object();
    int given = 0, failed = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = args_flag(a, names[i]);
        if (!value)
            continue;
        given++;
        failed |= json_object_set_new(body, names[i], i == 3 ? json_true() : json_string(value));
    }
    if (given != 1 || failed) {
        complain(failed ? "the value is not UTF-8"
                        : "say exactly one of --key K, --prefix P, --tag T, --all");
        json_decref(body);
        return EXIT_USAGE;
    }
    json_t *tree = ask(a, "POST", "/api/v1/cache/purge", body);
    json_decref(body);
    if (!tree)
        return EXIT_REFUSED;
    show_values(a, tree, NULL);
    json_decref(tree);
    return EXIT_GOOD;
}

enum exit_code run_cache(const struct args *a)
{
    const char *word = a->word_count == 2 ? a->words[1] : "";
    if (strcmp(word, "stats") == 0)
        return cache_stats(a);
    if (strcmp(word, "entries") == 0)
        return cache_entries(a);
    if (strcmp(word, "purge") == 0)
        return cache_purge(a);
    complain("say one of: cache stats, cache entries, cache purge");
    return EXIT_USAGE;
}
