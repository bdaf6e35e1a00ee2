/*
 * Values as text that reads back to the same value: JSON, which is YAML too. Invariants: a buffer is
 * never overrun and always ends in a NUL when it has any room; what is left out of it is still
 * counted, as snprintf does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/config_private.h"
#include "policy/head.h"
#include "policy/units.h"

static void out_bytes(struct config_out *out, const char *p, size_t n)
{
    if (out->length + 1 < out->room) {
        size_t fits = out->room - out->length - 1;
        memcpy(out->buf + out->length, p, n < fits ? n : fits);
    }
    out->length += n;
    if (out->room)
        out->buf[out->length < out->room ? out->length : out->room - 1] = '\0';
}

void config_out_text(struct config_out *out, const char *text)
{
    out_bytes(out, text, strlen(text));
}

void config_out_quoted(struct config_out *out, const char *text)
{
    out_bytes(out, "\"", 1);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        char escaped[8] = {'\\', (char)c, '\0'};
        if (c >= 0x20 && c != '"' && c != '\\') {
            out_bytes(out, text, 1);
            continue;
        }
        if (c < 0x20)
            snprintf(escaped, sizeof escaped, "\\u%04x", c);
        config_out_text(out, escaped);
    }
    out_bytes(out, "\"", 1);
}

/* A URL that may hold a password: everything between :// and @ is masked. */
static void out_secret_url(struct config_out *out, const char *text, bool mask)
{
    char masked[1024];
    const char *authority = strstr(text, "://");
    const char *at = authority ? strrchr(authority, '@') : NULL;
    if (mask && at) {
        snprintf(masked, sizeof masked, "%.*s://***%.512s",
                 (int)(authority - text < 64 ? authority - text : 64), text, at);
        text = masked;
    }
    config_out_quoted(out, text);
}

/* Names a field of a mapping in flow form, with what separates it from the one before. */
static void out_field(struct config_out *out, const char *name, bool *first)
{
    config_out_text(out, *first ? "\"" : ", \"");
    config_out_text(out, name);
    config_out_text(out, "\": ");
    *first = false;
}

static void out_strings(struct config_out *out, const char *const *items, size_t count)
{
    config_out_text(out, "[");
    for (size_t i = 0; i < count; i++) {
        config_out_text(out, i ? ", " : "");
        config_out_quoted(out, items[i]);
    }
    config_out_text(out, "]");
}

static void out_retry_on(struct config_out *out, const struct config_retry_on *on)
{
    const struct {
        const char *name;
        bool set;
    } conditions[] = {
        {"connect_failure", on->connect_failure}, {"reset", on->reset}, {"timeout", on->timeout}};
    char status[UNITS_MAX_TEXT];
    const char *before = "";
    config_out_text(out, "[");
    for (size_t i = 0; i < ARRAY_LEN(conditions); i++) {
        if (!conditions[i].set)
            continue;
        config_out_text(out, before);
        config_out_quoted(out, conditions[i].name);
        before = ", ";
    }
    for (int i = 0; i < 200; i++) {
        if (!((on->statuses[i / 64] >> (i % 64)) & 1))
            continue;
        config_out_text(out, before);
        config_out_text(out, units_print_int(400 + i, status));
        before = ", ";
    }
    config_out_text(out, "]");
}

static void out_duration(struct config_out *out, tick_t value)
{
    char text[UNITS_MAX_TEXT];
    config_out_quoted(out, units_print_duration(value, text));
}

static void out_methods(struct config_out *out, uint32_t methods)
{
    static const char *const names[METHOD_COUNT] = {
        [METHOD_GET] = "GET",         [METHOD_HEAD] = "HEAD",     [METHOD_POST] = "POST",
        [METHOD_PUT] = "PUT",         [METHOD_DELETE] = "DELETE", [METHOD_PATCH] = "PATCH",
        [METHOD_OPTIONS] = "OPTIONS",
    };
    const char *set[METHOD_COUNT];
    size_t count = 0;
    for (int i = 0; i < METHOD_COUNT; i++)
        if (names[i] && (methods >> i & 1))
            set[count++] = names[i];
    out_strings(out, set, count);
}

static size_t count_tags(const char *const *tags)
{
    size_t n = 0;
    while (n < ROUTE_MAX_TAGS && tags[n])
        n++;
    return n;
}

static void out_route_cache(struct config_out *out, const struct route_spec *r)
{
    bool first = true;
    config_out_text(out, "{");
    if (r->no_store) {
        out_field(out, "enabled", &first);
        config_out_text(out, "false");
    }
    if (r->has_ttl) {
        out_field(out, "ttl", &first);
        out_duration(out, r->ttl);
    }
    if (r->tags[0]) {
        out_field(out, "tags", &first);
        out_strings(out, r->tags, count_tags(r->tags));
    }
    config_out_text(out, "}");
}

static void out_route(struct config_out *out, const struct route_spec *r)
{
    char text[UNITS_MAX_TEXT];
    bool first = true;
    config_out_text(out, "{\"match\": {\"path\": ");
    config_out_quoted(out, r->path ? r->path : "");
    if (r->methods) {
        config_out_text(out, ", \"methods\": ");
        out_methods(out, r->methods);
    }
    config_out_text(out, "}");
    first = false;
    if (r->operation) {
        out_field(out, "operation", &first);
        config_out_quoted(out, r->operation);
    }
    if (r->safe) {
        out_field(out, "safe", &first);
        config_out_text(out, "true");
    }
    if (r->no_store || r->has_ttl || r->tags[0]) {
        out_field(out, "cache", &first);
        out_route_cache(out, r);
    }
    if (r->max_attempts) {
        out_field(out, "retry", &first);
        config_out_text(out, "{\"max_attempts\": ");
        config_out_text(out, units_print_int(r->max_attempts, text));
        config_out_text(out, "}");
    }
    if (r->timeout) {
        out_field(out, "timeout", &first);
        out_duration(out, r->timeout);
    }
    if (r->invalidates[0]) {
        out_field(out, "invalidates", &first);
        out_strings(out, r->invalidates, count_tags(r->invalidates));
    }
    config_out_text(out, "}");
}

static void out_alert_text(struct config_out *out, const char *name, const char *value)
{
    bool first = false;
    if (!*value)
        return;
    out_field(out, name, &first);
    config_out_quoted(out, value);
}

static void out_alert(struct config_out *out, const struct alert_spec *a)
{
    bool first = false;
    config_out_text(out, "{\"id\": ");
    config_out_quoted(out, a->id);
    out_alert_text(out, "metric_type", alert_metric_name(a->metric_type));
    out_alert_text(out, "metric_name", a->metric_name);
    out_alert_text(out, "condition", a->condition);
    out_alert_text(out, "severity", alert_severity_name(a->severity));
    out_alert_text(out, "message", a->message);
    out_field(out, "for", &first);
    out_duration(out, a->hold);
    if (a->cooldown_period >= 0) {
        out_field(out, "cooldown_period", &first);
        out_duration(out, a->cooldown_period);
    }
    out_field(out, "enabled", &first);
    config_out_text(out, a->enabled ? "true}" : "false}");
}

/* The path of a webhook's URL is often its password. */
static void out_webhook(struct config_out *out, const struct webhook_spec *w, bool mask)
{
    char masked[320];
    const char *authority = strstr(w->url, "://");
    size_t n = authority ? (size_t)(authority - w->url) + 3 : 0;
    n += strcspn(w->url + n, "/");
    bool hide = mask && w->url[n] && w->url[n + 1];
    snprintf(masked, sizeof masked, "%.*s/***", (int)(n < 300 ? n : 300), w->url);
    config_out_text(out, "{\"url\": ");
    config_out_quoted(out, hide ? masked : w->url);
    config_out_text(out, ", \"format\": ");
    config_out_quoted(out, webhook_format_name(w->format));
    config_out_text(out, "}");
}

/* One item of a list of mappings; false when there is no such. */
static bool out_item(struct config_out *out, const struct config_option_row *row, const void *value, size_t i,
                     bool mask)
{
    const struct config_routes *routes = value;
    const struct config_alerts *alerts = value;
    const struct config_webhooks *webhooks = value;
    if (row->type == CONFIG_TYPE_ROUTES && i < routes->count)
        out_route(out, &routes->items[i]);
    else if (row->type == CONFIG_TYPE_ALERTS && i < alerts->count)
        out_alert(out, &alerts->items[i]);
    else if (row->type == CONFIG_TYPE_WEBHOOKS && i < webhooks->count)
        out_webhook(out, &webhooks->items[i], mask);
    else
        return false;
    return true;
}

static void out_items(struct config_out *out, const struct config_option_row *row, const void *value,
                      bool mask)
{
    struct config_out nowhere = {0};
    config_out_text(out, "[");
    for (size_t i = 0; out_item(&nowhere, row, value, i, mask); i++) {
        config_out_text(out, i ? ", " : "");
        out_item(out, row, value, i, mask);
    }
    config_out_text(out, "]");
}

void config_out_value(struct config_out *out, const struct config_option_row *row, const void *value,
                      bool mask)
{
    const struct config_list *list = value;
    char text[UNITS_MAX_TEXT];
    switch (row->type) {
    case CONFIG_TYPE_DURATION:
        out_duration(out, *(const tick_t *)value);
        break;
    case CONFIG_TYPE_SIZE:
        config_out_quoted(out, units_print_size(*(const uint64_t *)value, text));
        break;
    case CONFIG_TYPE_AUTO:
    case CONFIG_TYPE_INT:
        if (row->type == CONFIG_TYPE_AUTO && *(const int64_t *)value == 0)
            config_out_quoted(out, "auto");
        else
            config_out_text(out, units_print_int(*(const int64_t *)value, text));
        break;
    case CONFIG_TYPE_REAL:
        config_out_text(out, units_print_real(*(const double *)value, text));
        break;
    case CONFIG_TYPE_BOOL:
        config_out_text(out, *(const bool *)value ? "true" : "false");
        break;
    case CONFIG_TYPE_ENUM:
        config_out_quoted(out, row->choices[*(const int *)value].text);
        break;
    case CONFIG_TYPE_ADDRESS:
        config_out_quoted(out, ((const struct config_address *)value)->text);
        break;
    case CONFIG_TYPE_URL:
        config_out_quoted(out, ((const struct config_url *)value)->text);
        break;
    case CONFIG_TYPE_LIST:
    case CONFIG_TYPE_DISGUISES:
        out_strings(out, list->items, list->count);
        break;
    case CONFIG_TYPE_RETRY_ON:
        out_retry_on(out, value);
        break;
    case CONFIG_TYPE_ROUTES:
    case CONFIG_TYPE_ALERTS:
    case CONFIG_TYPE_WEBHOOKS:
        out_items(out, row, value, mask);
        break;
    case CONFIG_TYPE_SECRET_URL:
        out_secret_url(out, *(const char *const *)value, mask);
        break;
    default:
        config_out_quoted(out, *(const char *const *)value);
    }
}

bool config_value_same(const struct config_option_row *row, const void *a, const void *b)
{
    struct config_out one = {0}, other = {0};
    config_out_value(&one, row, a, false);
    config_out_value(&other, row, b, false);
    if (one.length != other.length)
        return false;
    size_t room = one.length + 1;
    char *text = malloc(2 * room);
    if (!text)
        return false;
    one = (struct config_out){.buf = text, .room = room};
    other = (struct config_out){.buf = text + room, .room = room};
    config_out_value(&one, row, a, false);
    config_out_value(&other, row, b, false);
    bool same = memcmp(text, text + room, room) == 0;
    free(text);
    return same;
}

static const void *value_at(const struct config *cfg, int option)
{
    return (const char *)cfg + config_option_row(option)->offset;
}

bool config_same_value(const struct config *a, const struct config *b, int option)
{
    return config_value_same(config_option_row(option), value_at(a, option), value_at(b, option));
}

size_t config_print_value(const struct config *cfg, int option, char *buf, size_t n)
{
    struct config_out out = {.buf = buf, .room = n};
    config_out_value(&out, config_option_row(option), value_at(cfg, option), true);
    return out.length;
}

size_t config_print_item(const struct config *cfg, int option, size_t i, char *buf, size_t n)
{
    struct config_out out = {.buf = buf, .room = n};
    out_item(&out, config_option_row(option), value_at(cfg, option), i, true);
    return out.length;
}

size_t config_origin(const struct config *cfg, int option, char *buf, size_t n)
{
    const struct config_place *place = config_place_of(cfg, option);
    int length;
    if (place->source == CONFIG_FROM_DEFAULT)
        length = snprintf(buf, n, "default");
    else if (place->source == CONFIG_FROM_CHANGE)
        length = snprintf(buf, n, "admin");
    else if (place->line > 0)
        length = snprintf(buf, n, "%s:%d", place->name, place->line);
    else
        length = snprintf(buf, n, "%s", place->name);
    return length > 0 ? (size_t)length : 0;
}
