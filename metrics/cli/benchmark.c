/*
 * `promptops-perf benchmark`: asks one URL many times and shows how long the answers took.
 *
 * Invariants: with --rate the time of each request is fixed before the run and its latency counts from
 * there, whether or not a connection was free then (no coordinated omission: Tene, "How NOT to measure
 * latency"); without it each of --concurrent clients asks again once answered. Every request is counted
 * exactly once, as an answer by its status or as a failure.
 */
#include <curl/curl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "metrics/cli/cli.h"
#include "metrics/hist.h"

enum { MOST_CLIENTS = 4096, URL_MAX = 4096 };

struct client {
    CURL *curl;
    int64_t due; /* when the request was to be sent, ns */
};

struct bench {
    const struct args *args;
    char url[URL_MAX];
    char socket[URL_MAX];  /* "unix:/path" when the sidecar listens there; else "" */
    double duration, rate; /* rate 0: closed loop */
    double max_p99, max_errors;
    unsigned long concurrent, iterations; /* iterations 0: no limit */
    struct curl_slist *fields;
    CURLM *multi;
    struct client *clients;
    struct client **idle;
    unsigned long idle_count;
    struct hist latency;
    uint64_t sent, done, failed, by_class[6], bytes;
    int64_t began, ended;
    char failure[CURL_ERROR_SIZE];
};

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static size_t swallow(char *p, size_t size, size_t n, void *arg)
{
    struct bench *b = arg;
    (void)p;
    b->bytes += size * n;
    return size * n;
}

/* A number from `least` to `most`; `fallback` when the flag was not given. False after complaining. */
static bool number_flag(const struct args *a, const char *name, double fallback, double least, double most,
                        double *out)
{
    const char *text = args_flag(a, name);
    char *end;
    *out = fallback;
    if (!text)
        return true;
    *out = strtod(text, &end);
    if (end != text && !*end && *out >= least && *out <= most)
        return true;
    complain("--%s %s: not a number from %g to %g", name, text, least, most);
    return false;
}

static const char *option_text(const json_t *options, const char *key)
{
    const char *text = json_string_value(json_object_get(json_object_get(options, key), "value"));
    return text ? text : "";
}

/* Whether the admin port is one of this machine: then the addresses that it names are, too. */
static bool is_local(const char *admin)
{
    static const char *const local[] = {"unix:", "127.", "localhost", "[::1]"};
    const char *host = strstr(admin, "://") ? strstr(admin, "://") + 3 : admin;
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        if (strncmp(host, local[i], strlen(local[i])) == 0)
            return true;
    return false;
}

/* Where the sidecar of the admin port listens, as it says itself. False after the reason was told. */
static bool find_sidecar(struct bench *b)
{
    if (!is_local(b->args->admin)) {
        complain("--admin %s is another machine's: give --url, where its sidecar is reached from here",
                 b->args->admin);
        return false;
    }
    json_t *tree = ask(b->args, "GET", "/api/v1/config", NULL);
    const json_t *options = json_object_get(tree, "options");
    const char *address = option_text(options, "listen.address"), *port = strrchr(address, ':');
    const char *scheme = *option_text(options, "listen.tls.certificate_file") ? "https" : "http";
    bool everywhere =
        strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0 || *address == '*';
    if (strncmp(address, "unix:", 5) == 0) {
        snprintf(b->socket, sizeof b->socket, "%s", address);
        snprintf(b->url, sizeof b->url, "%s://localhost", scheme);
    } else if (port && strcmp(port, ":0") != 0) { /* else the kernel chose one */
        snprintf(b->url, sizeof b->url, "%s://%s", scheme, everywhere ? "localhost" : address);
        if (everywhere)
            snprintf(b->url + strlen(b->url), sizeof b->url - strlen(b->url), "%s", port);
    }
    json_decref(tree);
    if (*b->url)
        return true;
    complain("where the sidecar listens is not known: give --url, as in --url http://127.0.0.1:8080");
    return false;
}

static bool read_flags(struct bench *b, const struct args *a)
{
    double concurrent, iterations;
    if (!number_flag(a, "duration", args_flag(a, "iterations") ? 86400 : 60, 0.001, 86400, &b->duration) ||
        !number_flag(a, "rate", 0, 0.001, 1e6, &b->rate) ||
        !number_flag(a, "concurrent", 10, 1, MOST_CLIENTS, &concurrent) ||
        !number_flag(a, "iterations", 0, 1, 1e12, &iterations) ||
        !number_flag(a, "max-p99", 0, 0.001, 1e9, &b->max_p99) ||
        !number_flag(a, "max-errors", 1, 0, 1, &b->max_errors))
        return false;
    b->concurrent = (unsigned long)concurrent;
    b->iterations = (unsigned long)iterations;
    const char *url = args_flag(a, "url");
    if (url && strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) {
        complain(
            "--url %s: not a URL of http:// or https://, as in http://127.0.0.1:8080/v1/client/prompts/ID",
            url);
        return false;
    }
    return true;
}

/* What is asked for: --url, or the sidecar's own address, and the prompt's path behind it. */
static bool make_url(struct bench *b)
{
    const char *url = args_flag(b->args, "url"), *id = args_flag(b->args, "prompt-id");
    int n = url ? snprintf(b->url, sizeof b->url, "%s", url) : (int)strlen(b->url);
    while (id && n > 0 && n < URL_MAX && b->url[n - 1] == '/')
        b->url[--n] = '\0';
    if (id && n < URL_MAX / 2) {
        char *escaped = curl_easy_escape(NULL, id, 0);
        n += snprintf(b->url + n, sizeof b->url - (size_t)n, "/v1/client/prompts/%s", escaped ? escaped : "");
        curl_free(escaped);
    }
    if (n < URL_MAX)
        return true;
    complain("--url: too long");
    return false;
}

static bool make_clients(struct bench *b)
{
    const char *field = args_flag(b->args, "header");
    b->multi = curl_multi_init();
    b->clients = calloc(b->concurrent, sizeof *b->clients);
    b->idle = calloc(b->concurrent, sizeof(struct client *));
    if (field)
        b->fields = curl_slist_append(NULL, field);
    if (!b->multi || !b->clients || !b->idle || (field && !b->fields))
        return false;
    curl_multi_setopt(b->multi, CURLMOPT_MAXCONNECTS, (long)b->concurrent);
    for (unsigned long i = 0; i < b->concurrent; i++) {
        CURL *curl = b->clients[i].curl = curl_easy_init();
        if (!curl)
            return false;
        curl_easy_setopt(curl, CURLOPT_URL, b->url);
        if (*b->socket)
            curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, b->socket + strlen("unix:"));
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, swallow);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, b);
        curl_easy_setopt(curl, CURLOPT_PRIVATE, &b->clients[i]);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, b->fields);
        curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, 60L);
        b->idle[b->idle_count++] = &b->clients[i];
    }
    return true;
}

static void dispose(struct bench *b)
{
    for (unsigned long i = 0; b->clients && i < b->concurrent; i++) {
        if (b->multi && b->clients[i].curl)
            curl_multi_remove_handle(b->multi, b->clients[i].curl);
        curl_easy_cleanup(b->clients[i].curl);
    }
    if (b->multi)
        curl_multi_cleanup(b->multi);
    curl_slist_free_all(b->fields);
    free(b->clients);
    free(b->idle);
    hist_dispose(&b->latency);
}

/* When the n-th request is due; closed loop: at once. */
static int64_t due_at(const struct bench *b, uint64_t n)
{
    return b->rate > 0 ? b->began + (int64_t)((double)n * 1e9 / b->rate) : clock_ns();
}

/* All that the run is to send has been sent. What was due in time is sent, however late. */
static bool all_sent(const struct bench *b)
{
    if (b->iterations && b->sent >= b->iterations)
        return true;
    return due_at(b, b->sent) - b->began >= (int64_t)(b->duration * 1e9);
}

static bool send_due(struct bench *b)
{
    while (b->idle_count && !all_sent(b) && due_at(b, b->sent) <= clock_ns()) {
        struct client *c = b->idle[--b->idle_count];
        c->due = due_at(b, b->sent++);
        if (curl_multi_add_handle(b->multi, c->curl) != CURLM_OK)
            return false;
    }
    return true;
}

static void take_answer(struct bench *b, CURL *curl, CURLcode code)
{
    struct client *c = NULL;
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_PRIVATE, (char **)&c);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(b->multi, curl);
    b->idle[b->idle_count++] = c;
    b->done++;
    if (code != CURLE_OK) {
        b->failed++;
        snprintf(b->failure, sizeof b->failure, "%s", curl_easy_strerror(code));
        return;
    }
    b->by_class[status >= 100 && status < 600 ? status / 100 : 0]++;
    (void)hist_record(&b->latency, clock_ns() - c->due);
}

static void show_progress(const struct bench *b, int64_t *shown)
{
    int64_t now = clock_ns();
    if (now - *shown < 1000000000 || !isatty(STDERR_FILENO))
        return;
    *shown = now;
    fprintf(stderr, "\r%.0f s: %llu sent, %llu answered, %llu failed   ", (double)(now - b->began) / 1e9,
            (unsigned long long)b->sent, (unsigned long long)b->done, (unsigned long long)b->failed);
}

static bool run_bench(struct bench *b)
{
    b->began = clock_ns();
    int64_t shown = b->began;
    for (;;) {
        int running = 0, left;
        if (!send_due(b) || curl_multi_perform(b->multi, &running) != CURLM_OK)
            return false;
        for (CURLMsg *m; (m = curl_multi_info_read(b->multi, &left));)
            if (m->msg == CURLMSG_DONE)
                take_answer(b, m->easy_handle, m->data.result);
        show_progress(b, &shown);
        if (all_sent(b) && b->done == b->sent)
            break;
        int64_t wait = due_at(b, b->sent) - clock_ns();
        bool ready = b->idle_count && !all_sent(b);
        int ms = !ready ? 100 : wait <= 0 ? 0 : wait > 100000000 ? 100 : (int)(wait / 1000000);
        if (curl_multi_poll(b->multi, NULL, 0, ms, NULL) != CURLM_OK)
            return false;
    }
    b->ended = clock_ns();
    if (isatty(STDERR_FILENO))
        fputc('\n', stderr);
    return true;
}

/* ---- what came out ---- */

static const double quantiles[] = {0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1};

/* Rows like those of HdrHistogram's percentile output. */
static json_t *percentiles(const struct hist_counts *h)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        double q = quantiles[i];
        json_t *row = json_pack("{s:f, s:f, s:I}", "percentile", q * 100, "latency_ms",
                                hist_quantile(h, q) / 1e6, "count", (json_int_t)ceil(q * (double)h->count));
        if (q < 1)
            json_object_set_new(row, "one_in", json_real(1 / (1 - q)));
        json_array_append_new(rows, row);
    }
    return rows;
}

static json_t *result(const struct bench *b, const struct hist_counts *h)
{
    double seconds = (double)(b->ended - b->began) / 1e9;
    static const char *const names[] = {"other", "1xx", "2xx", "3xx", "4xx", "5xx"};
    json_t *statuses = json_object();
    for (int i = 0; i < 6; i++)
        if (b->by_class[i])
            json_object_set_new(statuses, names[i], json_integer((json_int_t)b->by_class[i]));
    json_t *tree = json_pack("{s:s, s:s, s:I, s:I, s:o, s:f, s:f, s:I, s:I, s:f, s:f}", "url", b->url, "mode",
                             b->rate > 0 ? "open loop" : "closed loop", "requests", (json_int_t)b->sent,
                             "failed", (json_int_t)b->failed, "statuses", statuses, "seconds", seconds,
                             "throughput", seconds > 0 ? (double)(b->done - b->failed) / seconds : 0.0,
                             "concurrent", (json_int_t)b->concurrent, "bytes", (json_int_t)b->bytes, "rate",
                             b->rate, "latency_mean_ms", hist_mean(h) / 1e6);
    if (tree)
        json_object_set_new(tree, "percentiles", percentiles(h));
    return tree;
}

static const struct line result_lines[] = {
    {"url", "url", UNIT_PLAIN},
    {"mode", "mode", UNIT_PLAIN},
    {"requests", "requests", UNIT_PLAIN},
    {"failed", "failed", UNIT_PLAIN},
    {"statuses", "statuses", UNIT_PLAIN},
    {"took", "seconds", UNIT_SECONDS},
    {"throughput", "throughput", UNIT_RATE},
    {"content", "bytes", UNIT_BYTES},
    {NULL, NULL, UNIT_PLAIN},
};

static enum exit_code judge(const struct bench *b, const struct hist_counts *h)
{
    double bad = (double)(b->failed + b->by_class[5] + b->by_class[0]);
    double share = b->done ? bad / (double)b->done : 1;
    if (b->failed)
        complain("%llu requests failed; the last: %s", (unsigned long long)b->failed, b->failure);
    if (share > b->max_errors || b->failed == b->done)
        return complain("errors: %.4g of all requests", share), EXIT_REFUSED;
    if (b->max_p99 > 0 && hist_quantile(h, 0.99) / 1e6 > b->max_p99)
        return complain("p99 %.3f ms is over --max-p99 %g", hist_quantile(h, 0.99) / 1e6, b->max_p99),
               EXIT_REFUSED;
    return EXIT_GOOD;
}

static enum exit_code report(const struct bench *b)
{
    struct hist_counts *h = calloc(1, sizeof *h);
    if (!h) {
        complain("out of memory");
        return EXIT_REFUSED;
    }
    hist_read(&b->latency, h);
    json_t *tree = result(b, h);
    if (tree && b->args->format == FORMAT_JSON) {
        show_values(b->args, tree, NULL);
    } else if (tree) {
        if (b->args->format == FORMAT_TABLE)
            show_values(b->args, tree, result_lines);
        show_rows(b->args, json_object_get(tree, "percentiles"), "percentile latency_ms count one_in");
    }
    enum exit_code code = tree ? judge(b, h) : EXIT_REFUSED;
    json_decref(tree);
    free(h);
    return code;
}

static enum exit_code measure_and_report(struct bench *b)
{
    if (!make_url(b))
        return EXIT_USAGE;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) == 0 && make_clients(b) && run_bench(b))
        return report(b);
    complain("out of memory, or libcurl failed");
    return EXIT_REFUSED;
}

enum exit_code run_benchmark(const struct args *a)
{
    struct bench *b = calloc(1, sizeof *b);
    enum exit_code code = EXIT_USAGE;
    if (!b) {
        complain("out of memory");
        return EXIT_REFUSED;
    }
    b->args = a;
    if (a->word_count > 1) {
        complain("%s: not understood after benchmark", a->words[1]);
    } else if (read_flags(b, a)) {
        bool known = args_flag(a, "url") || find_sidecar(b);
        code = known ? measure_and_report(b) : EXIT_REFUSED;
    }
    dispose(b);
    free(b);
    return code;
}
