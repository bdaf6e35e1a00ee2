/*
 * What looks back or acts on it: export, optimize, analyze; and debug.
 * Invariants: what the sidecar does not know yet is told in its own words, never made up here; nothing is
 * changed without --auto-apply or an order.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "metrics/cli/cli.h"
#include "metrics/trend.h"

enum { PATH = 1024 };

static bool no_words(const struct args *a)
{
    if (a->word_count > 1)
        complain("%s: not understood after %s", a->words[1], a->words[0]);
    return a->word_count <= 1;
}

/* A time in the forms that people give, as the admin port takes it. False after complaining. */
static bool time_flag(const struct args *a, const char *name, char out[32])
{
    const char *text = args_flag(a, name);
    struct tm utc = {0};
    char *end;
    *out = '\0';
    if (!text)
        return true;
    if (*text == '-') {
        double n = strtod(text + 1, &end), unit = 0;
        static const struct {
            char name;
            double seconds;
        } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
        for (size_t i = 0; i < sizeof units / sizeof *units; i++)
            if (*end == units[i].name && !end[1])
                unit = units[i].seconds;
        if (end != text + 1 && unit > 0 && n >= 0 && n * unit < 1e9) {
            time_t at = time(NULL) - (time_t)(n * unit);
            strftime(out, 32, "%Y-%m-%dT%H:%M:%S", gmtime_r(&at, &utc));
            return true;
        }
    } else {
        end = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);
        if (end && (!*end || strcmp(end, "Z") == 0)) {
            strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &utc);
            return true;
        }
    }
    complain("--%s %s: not a time; give 2024-01-01T00:00:00 (UTC) or -30m", name, text);
    return false;
}

static void add_query(char path[PATH], const char *name, const char *value)
{
    size_t n = strlen(path);
    if (!value || !*value)
        return;
    n += (size_t)snprintf(path + n, PATH - n, "%c%s=", strchr(path, '?') ? '&' : '?', name);
    for (; *value && n + 4 < PATH; value++)
        n += (size_t)snprintf(path + n, PATH - n, "%%%02X", (unsigned)(unsigned char)*value);
}

enum exit_code run_export(const struct args *a)
{
    char path[PATH], from[32], to[32];
    const char *type = args_flag(a, "metric-type"), *name = args_flag(a, "output");
    if (!no_words(a) || !time_flag(a, "start-time", from) || !time_flag(a, "end-time", to))
        return EXIT_USAGE;
    snprintf(path, sizeof path, "%s", type ? "/api/v1/metrics" : "/api/v1/export");
    add_query(path, "format", a->format == FORMAT_CSV ? "csv" : "json");
    add_query(path, "metric_type", type);
    add_query(path, "start_time", from);
    add_query(path, "end_time", to);
    FILE *out = name ? fopen(name, "we") : stdout;
    if (!out) {
        complain("--output %s: cannot be written", name);
        return EXIT_REFUSED;
    }
    bool good = ask_raw(a, path, out);
    if ((name ? fclose(out) : fflush(out)) != 0 && good) {
        complain("the output could not be written");
        good = false;
    }
    if (good && name)
        fprintf(stderr, "written to %s\n", name);
    return good ? EXIT_GOOD : EXIT_REFUSED;
}

/* ---- recommendations ---- */

static bool of_kind(const struct args *a, const json_t *one)
{
    static const struct {
        const char *flag, *word;
    } kinds[] = {{"cache", "cach"}, {"retry", "retry"}, {"pool", "pool"}};
    const char *category = json_string_value(json_object_get(one, "category"));
    bool any = false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!args_flag(a, kinds[i].flag))
            continue;
        any = true;
        if (category && strcasestr(category, kinds[i].word))
            return true;
    }
    return !any;
}

#define ADVICE_COLUMNS                                                                                       \
    "id title change.key change.from change.to estimated_improvement confidence state measured_improvement"

/* What one is worth trying for: confidence times improvement; 0 when its state does not allow it. */
static double worth_of(const json_t *one)
{
    const char *state = json_string_value(json_object_get(one, "state"));
    if (!state || strcmp(state, "proposed") != 0)
        return 0;
    return json_number_value(json_object_get(one, "confidence")) *
           json_number_value(at_path(one, "estimate.improvement"));
}

/* The sidecar tries one at a time: the best is begun. */
static enum exit_code apply_best(const struct args *a, const json_t *chosen)
{
    char path[PATH] = "/api/v1/recommendations/";
    const json_t *best = NULL;
    for (size_t i = 0; i < json_array_size(chosen); i++)
        if (worth_of(json_array_get(chosen, i)) > (best ? worth_of(best) : 0))
            best = json_array_get(chosen, i);
    const char *id = json_string_value(json_object_get(best, "id"));
    if (!id) {
        fprintf(stderr, "nothing to apply\n");
        return EXIT_GOOD;
    }
    size_t n = strlen(path);
    for (const char *p = id; *p && n + 12 < sizeof path; p++)
        n += (size_t)snprintf(path + n, sizeof path - n, "%%%02X", (unsigned)(unsigned char)*p);
    snprintf(path + n, sizeof path - n, "/apply");
    json_t *answer = ask(a, "POST", path, NULL);
    if (answer)
        fprintf(stderr,
                "%s: is being tried, and kept when it is shown to be better; `promptops-perf optimize` shows "
                "it\n",
                id);
    enum exit_code code = answer ? EXIT_GOOD : EXIT_REFUSED;
    json_decref(answer);
    return code;
}

static json_t *recommendations(const struct args *a)
{
    json_t *tree = ask(a, "GET", "/api/v1/recommendations", NULL), *chosen = tree ? json_array() : NULL;
    const json_t *list = json_is_array(tree) ? tree : json_object_get(tree, "recommendations");
    for (size_t i = 0; chosen && i < json_array_size(list); i++)
        if (of_kind(a, json_array_get(list, i)))
            json_array_append(chosen, json_array_get(list, i));
    json_decref(tree);
    return chosen;
}

enum exit_code run_optimize(const struct args *a)
{
    if (!no_words(a))
        return EXIT_USAGE;
    json_t *chosen = recommendations(a);
    if (!chosen)
        return EXIT_REFUSED;
    show_rows(a, chosen, ADVICE_COLUMNS);
    enum exit_code code = args_flag(a, "auto-apply") ? apply_best(a, chosen) : EXIT_GOOD;
    json_decref(chosen);
    return code;
}

/* ---- analyze ---- */

static const struct {
    const char *type, *member;
} trends[] = {{"REQUEST_LATENCY", "p95"}, {"CACHE_HIT_RATE", "mean"}, {"ERROR_RATE", "mean"},
              {"THROUGHPUT", "mean"},     {"MEMORY_USAGE", "mean"},   {"CPU_USAGE", "mean"}};

/* The series' numbers, newest TREND_MOST at most; returns how many. */
static size_t numbers_of(const json_t *tree, const char *member, double values[TREND_MOST])
{
    const json_t *points = json_object_get(tree, "points");
    if (!points)
        points = json_object_get(json_array_get(json_object_get(tree, "series"), 0), "points");
    size_t all = json_array_size(points), n = 0;
    for (size_t i = all > TREND_MOST ? all - TREND_MOST : 0; i < all; i++) {
        const json_t *value = json_object_get(json_array_get(points, i), member);
        if (json_is_number(value) && isfinite(json_number_value(value)))
            values[n++] = json_number_value(value);
    }
    return n;
}

static json_t *trend_row(const char *type, const char *member, const double *values, size_t n)
{
    struct trend t;
    if (n < TREND_LEAST || !trend_test(values, n, &t))
        return json_pack("{s:s, s:s, s:I, s:s}", "metric", type, "of", member, "points", (json_int_t)n,
                         "verdict", "too few points to say");
    const char *verdict = t.p >= 0.05   ? "no trend"
                          : t.slope > 0 ? "rising"
                          : t.slope < 0 ? "falling"
                                        : "no trend";
    return json_pack("{s:s, s:s, s:I, s:s, s:f, s:f, s:f}", "metric", type, "of", member, "points",
                     (json_int_t)n, "verdict", verdict, "p", t.p, "slope_per_point", t.slope, "correction",
                     t.correction);
}

static enum exit_code show_trends(const struct args *a)
{
    double *values = malloc(TREND_MOST * sizeof *values);
    json_t *rows = json_array();
    enum exit_code code = values && rows ? EXIT_GOOD : EXIT_REFUSED;
    for (size_t i = 0; code == EXIT_GOOD && i < sizeof trends / sizeof *trends; i++) {
        char path[PATH] = "/api/v1/metrics";
        time_t from = time(NULL) - 3600;
        struct tm utc;
        char text[32];
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", gmtime_r(&from, &utc));
        add_query(path, "metric_type", trends[i].type);
        add_query(path, "start_time", text);
        json_t *tree = ask(a, "GET", path, NULL);
        if (!tree)
            code = EXIT_REFUSED;
        else
            json_array_append_new(rows, trend_row(trends[i].type, trends[i].member, values,
                                                  numbers_of(tree, trends[i].member, values)));
        json_decref(tree);
    }
    if (code == EXIT_GOOD)
        show_rows(a, rows, "metric of verdict p slope_per_point points correction");
    json_decref(rows);
    free(values);
    return code;
}

static enum exit_code show_issues(const struct args *a)
{
    json_t *tree = ask(a, "GET", "/api/v1/alerts", NULL);
    if (!tree)
        return EXIT_REFUSED;
    const json_t *list = json_is_array(tree) ? tree : json_object_get(tree, "alerts");
    if (json_is_array(list))
        show_rows(a, list, "id severity state message value");
    else
        show_values(a, tree, NULL);
    json_decref(tree);
    return EXIT_GOOD;
}

/* The slowest and the failed requests that are kept, or one of them: where its time went, in a sentence. */
static enum exit_code show_requests(const struct args *a, const char *id)
{
    char path[PATH] = "/api/v1/requests/";
    json_t *tree, *list = json_array();
    if (id) {
        escape_query(id, path + strlen(path), sizeof path - strlen(path));
        tree = ask(a, "GET", path, NULL);
        if (tree)
            json_array_append(list, tree);
    } else {
        tree = ask(a, "GET", "/api/v1/requests?kept=failed&limit=10", NULL);
        json_array_extend(list, json_object_get(tree, "requests"));
        json_decref(tree);
        tree = tree ? ask(a, "GET", "/api/v1/requests?kept=slow&sort=slowest&limit=10", NULL) : NULL;
        json_array_extend(list, json_object_get(tree, "requests"));
    }
    bool good = tree != NULL;
    if (good)
        show_rows(a, list, id ? "explanation" : "id ended duration explanation");
    json_decref(tree);
    json_decref(list);
    return good ? EXIT_GOOD : EXIT_REFUSED;
}

enum exit_code run_analyze(const struct args *a)
{
    bool all = a->flag_count == 0;
    enum exit_code code = EXIT_GOOD;
    if (!no_words(a))
        return EXIT_USAGE;
    if (all || args_flag(a, "recommendations")) {
        json_t *chosen = recommendations(a);
        if (chosen)
            show_rows(a, chosen, ADVICE_COLUMNS);
        code = chosen ? code : EXIT_REFUSED;
        json_decref(chosen);
    }
    if ((all || args_flag(a, "issues")) && show_issues(a) != EXIT_GOOD)
        code = EXIT_REFUSED;
    if ((all || args_flag(a, "trends")) && show_trends(a) != EXIT_GOOD)
        code = EXIT_REFUSED;
    const char *id = args_flag(a, "request");
    if ((id || args_flag(a, "requests")) && show_requests(a, id) != EXIT_GOOD)
        code = EXIT_REFUSED;
    return code;
}
