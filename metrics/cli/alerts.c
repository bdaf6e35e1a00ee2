/*
 * `promptops-perf alerts`: how they stand, what happened, and silence. Invariant: only `silence` and `remove`
 * change anything.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/cli/cli.h"

enum { ALERTS_PATH = 512 };

/* "/api/v1/alerts/ID" + tail, the id encoded. */
static void alerts_path(const char *id, const char *tail, char out[ALERTS_PATH])
{
    size_t n = (size_t)snprintf(out, ALERTS_PATH, "/api/v1/alerts/");
    for (const char *p = id; *p && n + 16 < ALERTS_PATH; p++)
        n += (size_t)snprintf(out + n, ALERTS_PATH - n, "%%%02X", (unsigned)(unsigned char)*p);
    snprintf(out + n, ALERTS_PATH - n, "%s", tail);
}

/* Asks and shows; `list` is the member to show as rows, or NULL for all values. */
static enum exit_code alerts_show(const struct args *a, json_t *tree, const char *list, const char *columns)
{
    if (!tree)
        return EXIT_REFUSED;
    if (list)
        show_rows(a, json_object_get(tree, list), columns);
    else
        show_values(a, tree, NULL);
    json_decref(tree);
    return EXIT_GOOD;
}

static enum exit_code alerts_list(const struct args *a)
{
    static const char *const states[] = {"inactive", "pending", "firing", "resolved"};
    const char *state = args_flag(a, "state");
    char path[ALERTS_PATH];
    size_t i = 0;
    while (state && i < sizeof states / sizeof *states && strcmp(states[i], state) != 0)
        i++;
    if (i == sizeof states / sizeof *states) {
        complain("--state %s: none of inactive, pending, firing and resolved", state);
        return EXIT_USAGE;
    }
    snprintf(path, sizeof path, "/api/v1/alerts%s%s", state ? "?state=" : "", state ? state : "");
    return alerts_show(a, ask(a, "GET", path, NULL), "alerts",
                       "id severity state metric_type condition value since origin");
}

/* A whole number of a flag; false after complaining. */
static bool alerts_number(const struct args *a, const char *name, unsigned long most, unsigned long *out)
{
    const char *text = args_flag(a, name);
    char *end;
    if (!text)
        return true;
    *out = strtoul(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && *out <= most)
        return true;
    complain("--%s %s: not a whole number from 0 to %lu", name, text, most);
    return false;
}

static enum exit_code alerts_history(const struct args *a)
{
    char path[ALERTS_PATH];
    unsigned long limit = 100;
    if (!alerts_number(a, "limit", 512, &limit))
        return EXIT_USAGE;
    snprintf(path, sizeof path, "/api/v1/alerts/history?limit=%lu", limit);
    return alerts_show(a, ask(a, "GET", path, NULL), "history",
                       "at id event severity metric_type condition value told");
}

static enum exit_code alerts_silence(const struct args *a)
{
    char path[ALERTS_PATH];
    unsigned long seconds = 3600;
    if (!alerts_number(a, "seconds", 2592000, &seconds))
        return EXIT_USAGE;
    alerts_path(a->words[2], "/silence", path);
    json_t *body = json_pack("{s:I}", "seconds", (json_int_t)seconds);
    json_t *answer = body ? ask(a, "POST", path, body) : NULL;
    json_decref(body);
    return alerts_show(a, answer, NULL, NULL);
}

static enum exit_code alerts_remove(const struct args *a)
{
    char path[ALERTS_PATH];
    alerts_path(a->words[2], "", path);
    return alerts_show(a, ask(a, "DELETE", path, NULL), NULL, NULL);
}

enum exit_code run_alerts(const struct args *a)
{
    const char *what = a->word_count > 1 ? a->words[1] : "list";
    bool named = strcmp(what, "silence") == 0 || strcmp(what, "remove") == 0;
    if (named ? a->word_count != 3 : a->word_count > 2) {
        complain("say alerts, alerts history, alerts silence ID or alerts remove ID");
        return EXIT_USAGE;
    }
    if (strcmp(what, "silence") == 0)
        return alerts_silence(a);
    if (strcmp(what, "remove") == 0)
        return alerts_remove(a);
    if (strcmp(what, "history") == 0)
        return alerts_history(a);
    if (strcmp(what, "list") == 0)
        return alerts_list(a);
    complain("%s: not understood after alerts", what);
    return EXIT_USAGE;
}
