/*
 * One scalar of the configuration: text in, the typed value out, or a sentence that says what is
 * wrong and what is allowed. Invariants: a value is written only when the text is good; text that is
 * kept was checked to be UTF-8 without control characters.
 */
#include "policy/config_private.h"
#include "policy/outcome.h"
#include "policy/suggest.h"
#include "policy/units.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAX_TEXT 4096u

bool config_refuse(struct config_parse *parse, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(parse->what, sizeof parse->what, format, args);
    va_end(args);
    return false;
}

const char *config_shown(const char *text, char buf[CONFIG_SHOWN])
{
    size_t at = 0;
    buf[at++] = '"';
    for (; *text && at < CONFIG_SHOWN - 6; text++) {
        unsigned char c = (unsigned char)*text;
        buf[at++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    if (*text) {
        /* Not in the middle of a character. */
        while (((unsigned char)*text & 0xc0) == 0x80 && at > 1) {
            text--;
            at--;
        }
        memcpy(buf + at, "...", 3);
        at += 3;
    }
    buf[at++] = '"';
    buf[at] = '\0';
    return buf;
}

/* The next character of UTF-8 text, or -1 when it is not well-formed (RFC 3629). */
static int32_t next_character(const unsigned char **text)
{
    const unsigned char *p = *text;
    int more = *p < 0x80 ? 0 : *p >= 0xc2 && *p < 0xe0 ? 1 : *p >= 0xe0 && *p < 0xf0 ? 2 : *p < 0xf5 ? 3 : -1;
    if (*p >= 0x80 && *p < 0xc2)
        return -1;
    if (more < 0)
        return -1;
    int32_t c = more == 0 ? *p : *p & (0x3f >> more);
    for (int i = 1; i <= more; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return -1;
        c = c << 6 | (p[i] & 0x3f);
    }
    if ((more == 2 && c < 0x800) || (more == 3 && (c < 0x10000 || c > 0x10ffff)) ||
        (c >= 0xd800 && c < 0xe000))
        return -1;
    *text = p + more + 1;
    return c;
}

bool config_text_clean(const char *text, bool lines)
{
    const unsigned char *p = (const unsigned char *)text;
    while (*p) {
        int32_t c = next_character(&p);
        if (c < 0 || c == 0x7f || (c >= 0x80 && c < 0xa0))
            return false;
        if (c < 0x20 && !(lines && (c == '\n' || c == '\t')))
            return false;
        /* Line separators, byte order marks and non-characters would not come back from YAML as they went. */
        if (c == 0x2028 || c == 0x2029 || c == 0xfeff || (c & 0xfffe) == 0xfffe)
            return false;
    }
    return true;
}

/* "10ms to 1h", "at least 1", "at most 5", or "any". */
static const char *bounds(const struct config_option_row *row, char *buf, size_t n)
{
    if (*row->least && *row->most)
        snprintf(buf, n, "%s to %s", row->least, row->most);
    else if (*row->least)
        snprintf(buf, n, "at least %s", row->least);
    else
        snprintf(buf, n, *row->most ? "at most %s" : "any%s", row->most);
    return buf;
}

static bool refuse_form(struct config_parse *parse, const struct config_option_row *row, const char *text,
                        const char *form)
{
    char shown[CONFIG_SHOWN], range[UNITS_MAX_TEXT * 2 + 8];
    return config_refuse(parse, "%s is not a %s, allowed: %s%s%s", config_shown(text, shown), form,
                         row->type == CONFIG_TYPE_AUTO ? "auto, or " : "", bounds(row, range, sizeof range),
                         row->type == CONFIG_TYPE_DURATION
                             ? ", written like 250ms, 30s, 5m, 1h or plain seconds"
                         : row->type == CONFIG_TYPE_SIZE ? ", written like 64KiB, 100MiB or plain bytes"
                                                         : "");
}

static bool refuse_bounds(struct config_parse *parse, const struct config_option_row *row, const char *text)
{
    char shown[CONFIG_SHOWN], range[UNITS_MAX_TEXT * 2 + 8];
    return config_refuse(parse, "%s is out of bounds, allowed: %s%s", config_shown(text, shown),
                         row->type == CONFIG_TYPE_AUTO ? "auto, or " : "", bounds(row, range, sizeof range));
}

static bool parse_duration(struct config_parse *parse, const struct config_option_row *row, const char *text,
                           void *value)
{
    tick_t v, bound;
    if (!units_parse_duration(text, &v))
        return refuse_form(parse, row, text, "duration");
    if (units_parse_duration(row->least, &bound) && v < bound)
        return refuse_bounds(parse, row, text);
    if (units_parse_duration(row->most, &bound) && v > bound)
        return refuse_bounds(parse, row, text);
    *(tick_t *)value = v;
    return true;
}

static bool parse_size(struct config_parse *parse, const struct config_option_row *row, const char *text,
                       void *value)
{
    uint64_t v, bound;
    if (!units_parse_size(text, &v))
        return refuse_form(parse, row, text, "size");
    if (units_parse_size(row->least, &bound) && v < bound)
        return refuse_bounds(parse, row, text);
    if (units_parse_size(row->most, &bound) && v > bound)
        return refuse_bounds(parse, row, text);
    *(uint64_t *)value = v;
    return true;
}

static bool parse_int(struct config_parse *parse, const struct config_option_row *row, const char *text,
                      void *value)
{
    int64_t v, bound;
    if (row->type == CONFIG_TYPE_AUTO && strcmp(text, "auto") == 0) {
        *(int64_t *)value = 0;
        return true;
    }
    if (!units_parse_int(text, &v))
        return refuse_form(parse, row, text, "whole number");
    if (units_parse_int(row->least, &bound) && v < bound)
        return refuse_bounds(parse, row, text);
    if (units_parse_int(row->most, &bound) && v > bound)
        return refuse_bounds(parse, row, text);
    *(int64_t *)value = v;
    return true;
}

static bool parse_real(struct config_parse *parse, const struct config_option_row *row, const char *text,
                       void *value)
{
    double v, bound;
    if (!units_parse_real(text, &v))
        return refuse_form(parse, row, text, "number");
    if (units_parse_real(row->least, &bound) && v < bound)
        return refuse_bounds(parse, row, text);
    if (units_parse_real(row->most, &bound) && v > bound)
        return refuse_bounds(parse, row, text);
    *(double *)value = v;
    return true;
}

static bool parse_bool(struct config_parse *parse, const char *text, void *value)
{
    char shown[CONFIG_SHOWN];
    if (!units_parse_bool(text, value))
        return config_refuse(parse, "%s is neither true nor false, allowed: true | false",
                             config_shown(text, shown));
    return true;
}

static bool refuse_choice(struct config_parse *parse, const struct config_option_row *row, const char *text)
{
    struct suggestion near = {.typed = text};
    char shown[CONFIG_SHOWN], allowed[256] = "";
    size_t at = 0;
    for (const struct config_choice *c = row->choices; c->text; c++) {
        if (!c->ready)
            continue;
        suggest_offer(&near, c->text);
        int n = snprintf(allowed + at, sizeof allowed - at, "%s%s", at ? " | " : "", c->text);
        at += (size_t)n < sizeof allowed - at ? (size_t)n : 0;
    }
    return config_refuse(parse, "%s is not known%s%s%s allowed: %s", config_shown(text, shown),
                         near.best ? ", did you mean " : "", near.best ? near.best : "",
                         near.best ? "?" : ",", allowed);
}

static bool parse_choice(struct config_parse *parse, const struct config_option_row *row, const char *text,
                         void *value)
{
    char shown[CONFIG_SHOWN];
    for (int i = 0; row->choices[i].text; i++) {
        if (strcmp(row->choices[i].text, text) != 0)
            continue;
        if (!row->choices[i].ready)
            return config_refuse(parse, "%s is not available in this version; leave it out",
                                 config_shown(text, shown));
        *(int *)value = i;
        return true;
    }
    return refuse_choice(parse, row, text);
}

static bool parse_text(struct config_parse *parse, const char *text, void *value)
{
    const char *copy = config_arena_copy(parse->arena, text, strlen(text));
    if (!copy)
        return config_refuse(parse, "out of memory");
    *(const char **)value = copy;
    return true;
}

static bool parse_path(struct config_parse *parse, const struct config_option_row *row, const char *text,
                       void *value)
{
    char why[256], shown[CONFIG_SHOWN];
    if (*text && parse->look && !parse->look(row->type, text, why, sizeof why))
        return config_refuse(parse, "%s %s", config_shown(text, shown), why);
    return parse_text(parse, text, value);
}

/* A field name is a token (RFC 9110 5.6.2). */
static bool is_token(const char *text)
{
    return *text &&
           strspn(text, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") ==
               strlen(text);
}

static bool parse_retry_condition(struct config_parse *parse, const char *text, struct config_retry_on *out)
{
    char shown[CONFIG_SHOWN];
    int64_t status;
    if (strcmp(text, "connect_failure") == 0)
        return out->connect_failure = true;
    if (strcmp(text, "reset") == 0)
        return out->reset = true;
    if (strcmp(text, "timeout") == 0)
        return out->timeout = true;
    if (!units_parse_int(text, &status) || status < 400 || status > 599)
        return config_refuse(
            parse, "%s is not known, allowed: connect_failure, reset, timeout, or a status from 400 to 599",
            config_shown(text, shown));
    out->statuses[(status - 400) / 64] |= (uint64_t)1 << ((status - 400) % 64);
    return true;
}

static bool parse_disguise(struct config_parse *parse, const char *text)
{
    char shown[CONFIG_SHOWN];
    struct outcome_disguise unused;
    return outcome_disguise_parse((struct slice){text, strlen(text)}, &unused) ||
           config_refuse(parse,
                         "%s is not allowed: a status from 400 to 599, a colon and up to 100 bytes of the "
                         "body, such as 401:rate limit",
                         config_shown(text, shown));
}

bool config_member_parse(struct config_parse *parse, const struct config_option_row *row, const char *text,
                         void *value)
{
    char shown[CONFIG_SHOWN];
    if (row->type == CONFIG_TYPE_RETRY_ON)
        return parse_retry_condition(parse, text, value);
    if (row->type == CONFIG_TYPE_DISGUISES)
        return parse_disguise(parse, text);
    if (!is_token(text) || strlen(text) > 256)
        return config_refuse(parse, "%s is not a field name, allowed: letters, digits and !#$%%&'*+-.^_`|~",
                             config_shown(text, shown));
    return true;
}

/* Cuts the next member out of "a, b": white space around it left out. NULL at the end. */
static char *next_member(struct config_arena *arena, const char **text)
{
    const char *p = *text + strspn(*text, " \t");
    if (*p == '\0')
        return NULL;
    size_t n = strcspn(p, ",");
    *text = p[n] == ',' ? p + n + 1 : p + n;
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
        n--;
    return config_arena_copy(arena, p, n);
}

/* "[a, b]" or "a, b", as in the environment and on the command line. */
static bool parse_list(struct config_parse *parse, const struct config_option_row *row, const char *text,
                       void *value)
{
    char shown[CONFIG_SHOWN];
    struct config_retry_on conditions = {0};
    size_t n = strlen(text), count = 0;
    bool brackets = n >= 2 && text[0] == '[' && text[n - 1] == ']';
    char *inner = config_arena_copy(parse->arena, text + brackets, n - 2 * brackets);
    if (!inner)
        return config_refuse(parse, "out of memory");
    if (strpbrk(inner, "[]{}\"'"))
        return config_refuse(parse, "%s is not a list, allowed: [a, b] or a, b", config_shown(text, shown));
    for (const char *p = inner; *p; p++)
        count += *p == ',';
    const char **items = config_arena_array(parse->arena, count + 1, sizeof *items);
    const char *rest = inner;
    count = 0;
    for (char *member; items && (member = next_member(parse->arena, &rest)) != NULL;) {
        if (!config_member_parse(parse, row, member, &conditions))
            return false;
        items[count++] = member;
    }
    if (parse->arena->failed)
        return config_refuse(parse, "out of memory");
    if (row->type == CONFIG_TYPE_RETRY_ON)
        *(struct config_retry_on *)value = conditions;
    else
        *(struct config_list *)value = (struct config_list){items, count};
    return true;
}

bool config_value_parse(struct config_parse *parse, const struct config_option_row *row, const char *text,
                        void *value)
{
    if (strlen(text) > MAX_TEXT)
        return config_refuse(parse, "longer than %u bytes", MAX_TEXT);
    if (!config_text_clean(text, false))
        return config_refuse(parse, "not UTF-8, or has control characters, allowed: printable text");
    switch (row->type) {
    case CONFIG_TYPE_DURATION:
        return parse_duration(parse, row, text, value);
    case CONFIG_TYPE_SIZE:
        return parse_size(parse, row, text, value);
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_AUTO:
        return parse_int(parse, row, text, value);
    case CONFIG_TYPE_REAL:
        return parse_real(parse, row, text, value);
    case CONFIG_TYPE_BOOL:
        return parse_bool(parse, text, value);
    case CONFIG_TYPE_ENUM:
        return parse_choice(parse, row, text, value);
    case CONFIG_TYPE_STRING:
    case CONFIG_TYPE_SECRET_URL:
        return parse_text(parse, text, value);
    case CONFIG_TYPE_READ_FILE:
    case CONFIG_TYPE_WRITE_FILE:
    case CONFIG_TYPE_DIRECTORY:
        return parse_path(parse, row, text, value);
    case CONFIG_TYPE_ADDRESS:
        return config_address_parse(parse, text, value);
    case CONFIG_TYPE_URL:
        return config_url_parse(parse, text, value);
    case CONFIG_TYPE_LIST:
    case CONFIG_TYPE_DISGUISES:
    case CONFIG_TYPE_RETRY_ON:
        return parse_list(parse, row, text, value);
    default:
        return config_refuse(parse, "must be a list of mappings");
    }
}
