/*
 * The rows of `alerts:` and of `notifications.webhooks:`. Invariants: ids are unique; an alert that is
 * on says what it measures and against what; a webhook without a URL is none.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/config_items.h"
#include "policy/suggest.h"

static const struct config_option_row text_row = {.type = CONFIG_TYPE_STRING};
static const struct config_option_row bool_row = {.type = CONFIG_TYPE_BOOL};
static const struct config_option_row time_row = {.type = CONFIG_TYPE_DURATION, .least = "0s", .most = "24h"};

/* Finds text among the names of a table; -1 with `what` set when it is none. */
static int find_name(struct config_parse *parse, const char *text, const char *(*name)(int))
{
    struct suggestion near = {.typed = text};
    char shown[CONFIG_SHOWN], allowed[512] = "";
    size_t at = 0;
    for (int i = 0; *name(i); i++) {
        if (strcmp(name(i), text) == 0)
            return i;
        suggest_offer(&near, name(i));
        int n = snprintf(allowed + at, sizeof allowed - at, "%s%s", at ? " | " : "", name(i));
        at += (size_t)n < sizeof allowed - at ? (size_t)n : 0;
    }
    config_refuse(parse, "%s is not known%s%s%s allowed: %s", config_shown(text, shown),
                  near.best ? ", did you mean " : "", near.best ? near.best : "", near.best ? "?" : ",",
                  allowed);
    return -1;
}

static bool is_id(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    return n > 0 && n <= 64 && text[n] == '\0';
}

static bool set_name(struct config_parse *parse, const char *text, const char **out)
{
    char shown[CONFIG_SHOWN];
    if (!is_id(text))
        return config_refuse(parse, "%s is not a name, allowed: up to 64 letters, digits, _ . and -",
                             config_shown(text, shown));
    return config_value_parse(parse, &text_row, text, out);
}

static bool set_id(struct config_parse *parse, void *item, const char *text)
{
    return set_name(parse, text, &((struct alert_spec *)item)->id);
}

static bool set_metric_name(struct config_parse *parse, void *item, const char *text)
{
    return set_name(parse, text, &((struct alert_spec *)item)->metric_name);
}

static bool set_metric(struct config_parse *parse, void *item, const char *text)
{
    struct alert_spec *a = item;
    a->metric_type = find_name(parse, text, alert_metric_name);
    return a->metric_type >= 0;
}

static bool set_condition(struct config_parse *parse, void *item, const char *text)
{
    struct alert_spec *a = item;
    char shown[CONFIG_SHOWN];
    if (!alert_condition_parse(text, &a->compare, &a->threshold)) {
        a->compare = ALERT_COMPARE_NONE;
        return config_refuse(
            parse, "%s is not a condition, allowed: one of > >= < <= == != and a number, such as \"> 2000\"",
            config_shown(text, shown));
    }
    return config_value_parse(parse, &text_row, text, &a->condition);
}

static bool set_severity(struct config_parse *parse, void *item, const char *text)
{
    struct alert_spec *a = item;
    int severity = find_name(parse, text, alert_severity_name);
    if (severity >= 0)
        a->severity = severity;
    return severity >= 0;
}

static bool set_message(struct config_parse *parse, void *item, const char *text)
{
    if (strlen(text) > 1024 || !config_text_clean(text, true))
        return config_refuse(parse, "a message is UTF-8 text of at most 1024 bytes");
    ((struct alert_spec *)item)->message = config_arena_copy(parse->arena, text, strlen(text));
    return true;
}

static bool set_hold(struct config_parse *parse, void *item, const char *text)
{
    return config_value_parse(parse, &time_row, text, &((struct alert_spec *)item)->hold);
}

static bool set_cooldown(struct config_parse *parse, void *item, const char *text)
{
    return config_value_parse(parse, &time_row, text, &((struct alert_spec *)item)->cooldown_period);
}

static bool set_enabled(struct config_parse *parse, void *item, const char *text)
{
    return config_value_parse(parse, &bool_row, text, &((struct alert_spec *)item)->enabled);
}

static void begin_alert(void *item)
{
    *(struct alert_spec *)item = (struct alert_spec){
        .id = "",
        .metric_type = ALERT_METRIC_NONE,
        .metric_name = "",
        .compare = ALERT_COMPARE_NONE,
        .condition = "",
        .severity = ALERT_WARNING,
        .message = "",
        .cooldown_period = -1,
        .enabled = true,
    };
}

static bool finish_alert(struct config_parse *parse, void *item)
{
    const struct alert_spec *a = item;
    if (!*a->id)
        return config_refuse(parse,
                             "has no id; give it one, which may be that of a built-in alert to replace it");
    if (a->metric_type == ALERT_METRIC_CUSTOM_METRIC && !*a->metric_name)
        return config_refuse(parse, "CUSTOM_METRIC needs metric_name, the name it is posted under");
    if (a->metric_type != ALERT_METRIC_CUSTOM_METRIC && *a->metric_name)
        return config_refuse(parse, "metric_name goes with metric_type CUSTOM_METRIC only");
    if (a->enabled && (a->metric_type < 0 || a->compare < 0))
        return config_refuse(parse, "needs metric_type and condition, or enabled: false");
    return true;
}

static const struct config_item_field alert_fields[] = {
    {"id", CONFIG_SCALAR, "Its name; that of a built-in alert replaces it.", set_id},
    {"metric_type", CONFIG_SCALAR,
     "One of the guide's metric types, `CUSTOM_METRIC`, or what a built-in alert measures.", set_metric},
    {"metric_name", CONFIG_SCALAR, "For `CUSTOM_METRIC`: the name it is posted under.", set_metric_name},
    {"condition", CONFIG_SCALAR, "One of `> >= < <= == !=` and a number.", set_condition},
    {"severity", CONFIG_SCALAR, "`info`, `warning` (the default), `error` or `critical`.", set_severity},
    {"message", CONFIG_SCALAR, "What is told.", set_message},
    {"for", CONFIG_SCALAR, "How long the condition must hold; 0 = at once.", set_hold},
    {"cooldown_period", CONFIG_SCALAR,
     "Not raised again sooner; left out = `performance.alert_cooldown_seconds`.", set_cooldown},
    {"enabled", CONFIG_SCALAR, "`false` switches it off, a built-in one too.", set_enabled},
    {NULL, CONFIG_SCALAR, NULL, NULL},
};

struct owned_spec {
    struct alert_spec spec; /* first */
    struct config_arena arena;
};

static bool set_by_name(struct config_parse *parse, struct alert_spec *spec, const struct alert_field *field)
{
    for (const struct config_item_field *f = alert_fields; f->name; f++)
        if (strcmp(f->name, field->name) == 0)
            return f->set(parse, spec, field->value);
    char shown[CONFIG_SHOWN];
    return config_refuse(parse, "%s is no member of an alert", config_shown(field->name, shown));
}

const struct alert_spec *alert_spec_read(const struct alert_field *fields, size_t count, char *what,
                                         size_t room)
{
    struct owned_spec *owned = calloc(1, sizeof *owned);
    struct config_parse *parse = calloc(1, sizeof *parse);
    bool good = owned && parse;
    const char *name = "";
    if (good) {
        parse->arena = &owned->arena;
        begin_alert(&owned->spec);
    }
    for (size_t i = 0; good && i < count; i++) {
        name = fields[i].name;
        good = set_by_name(parse, &owned->spec, &fields[i]);
    }
    if (good) {
        name = "";
        good = finish_alert(parse, &owned->spec);
    }
    bool empty = !parse || (owned && owned->arena.failed);
    snprintf(what, room, "%.32s%s%s", empty ? "" : name, empty || !*name ? "" : ": ",
             empty ? "" : parse->what);
    free(parse);
    if (good && !empty)
        return &owned->spec;
    alert_spec_free(owned ? &owned->spec : NULL);
    return NULL;
}

void alert_spec_free(const struct alert_spec *spec)
{
    struct owned_spec *owned = (struct owned_spec *)(uintptr_t)spec;
    if (!owned)
        return;
    config_arena_free(&owned->arena);
    free(owned);
}

static bool set_url(struct config_parse *parse, void *item, const char *text)
{
    struct config_url url;
    struct webhook_spec *w = item;
    if (!config_url_parse(parse, text, &url))
        return false;
    w->url = url.text;
    return true;
}

static bool set_format(struct config_parse *parse, void *item, const char *text)
{
    struct webhook_spec *w = item;
    int format = find_name(parse, text, webhook_format_name);
    if (format >= 0)
        w->format = format;
    return format >= 0;
}

static void begin_webhook(void *item)
{
    *(struct webhook_spec *)item = (struct webhook_spec){.url = "", .format = WEBHOOK_JSON};
}

static bool finish_webhook(struct config_parse *parse, void *item)
{
    (void)parse;
    (void)item;
    return true;
}

static const struct config_item_field webhook_fields[] = {
    {"url", CONFIG_SCALAR, "Where alerts are posted; empty = nowhere.", set_url},
    {"format", CONFIG_SCALAR, "`json` (the default), `slack` or `alertmanager`.", set_format},
    {NULL, CONFIG_SCALAR, NULL, NULL},
};

const struct config_item_field *config_alert_fields(void)
{
    return alert_fields;
}

const struct config_item_field *config_webhook_fields(void)
{
    return webhook_fields;
}

void config_alerts_read(struct config_build *build, const struct config_run *run)
{
    static const struct config_item_kind kind = {alert_fields, sizeof(struct alert_spec), begin_alert,
                                                 finish_alert};
    size_t count;
    const struct alert_spec *items = config_items_read(build, run, &kind, &count);
    for (size_t i = 1; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (!*items[i].id || strcmp(items[i].id, items[j].id) != 0)
                continue;
            config_errors_add(build->errors, &build->places[run->option], "alerts",
                              "the id %s is there twice; give each alert its own", items[i].id);
            build->bad[run->option] = true;
            break;
        }
    }
    build->cfg->alerts = (struct config_alerts){items, count};
}

void config_webhooks_read(struct config_build *build, const struct config_run *run)
{
    static const struct config_item_kind kind = {webhook_fields, sizeof(struct webhook_spec), begin_webhook,
                                                 finish_webhook};
    size_t count, kept = 0;
    struct webhook_spec *items = config_items_read(build, run, &kind, &count);
    for (size_t i = 0; i < count; i++)
        if (*items[i].url)
            items[kept++] = items[i];
    build->cfg->notifications_webhooks = (struct config_webhooks){items, kept};
}
