/*
 * `promptops-perf debug`: log levels and traces that a live sidecar switches off again by itself.
 * Invariant: without an option it only shows.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/cli/cli.h"

static bool put_text(json_t *object, const char *name, const char *value)
{
    return !value || json_object_set_new(object, name, json_string(value)) == 0;
}

static json_t *wanted(const struct args *a)
{
    const char *seconds = args_flag(a, "seconds"), *level = args_flag(a, "level"),
               *module = args_flag(a, "module");
    char *end = NULL;
    unsigned long n = seconds ? strtoul(seconds, &end, 10) : 300;
    if (seconds && (end == seconds || *end || *seconds == '-' || n > 86400)) {
        complain("--seconds %s: not a number from 1 to 86400", seconds);
        return NULL;
    }
    if (module && !level) {
        complain("--module goes with --level");
        return NULL;
    }
    json_t *body = json_object(), *trace = json_object(), *modules = json_object();
    bool good = body && put_text(trace, "request_id", args_flag(a, "request-id")) &&
                put_text(trace, "client", args_flag(a, "client")) &&
                put_text(trace, "phase", args_flag(a, "phase")) &&
                put_text(modules, module ? module : "all", level) &&
                json_object_set_new(body, "seconds", json_integer((json_int_t)n)) == 0;
    good = good && (!json_object_size(trace) || json_object_set(body, "trace", trace) == 0) &&
           (!json_object_size(modules) || json_object_set(body, "modules", modules) == 0);
    json_decref(trace);
    json_decref(modules);
    if (!good) {
        complain("out of memory, or a value is not UTF-8");
        json_decref(body);
        return NULL;
    }
    return body;
}

enum exit_code run_debug(const struct args *a)
{
    json_t *body = NULL;
    bool off = args_flag(a, "off") != NULL;
    if (a->word_count > 1 || (off && a->flag_count > 1)) {
        complain("say debug, debug --off, or what to switch on");
        return EXIT_USAGE;
    }
    if (a->flag_count && !off && !(body = wanted(a)))
        return EXIT_USAGE;
    json_t *tree = ask(a, off ? "DELETE" : body ? "PUT" : "GET", "/api/v1/debug", body);
    json_decref(body);
    if (!tree)
        return EXIT_REFUSED;
    show_values(a, tree, NULL);
    json_decref(tree);
    return EXIT_GOOD;
}
