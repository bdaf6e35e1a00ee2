/*
 * Nests the keys of the option table into objects. Invariants: every option is a property; an object takes no
 * others, so that a misspelt key is refused. What a schema cannot say (bounds of durations and sizes,
 * combinations) the program's
 * --check says.
 */
#include "proxy/config_schema.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "policy/config.h"

/* ---- JSON ------------------------------------------------------------------------------------------------
 */

static void put_text(const char *text, FILE *out)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void put_member(const char *name, const char *text, FILE *out)
{
    fprintf(out, ",\"%s\":", name);
    put_text(text, out);
}

/* ---- one option
 * -------------------------------------------------------------------------------------------- */

static const char duration[] = "\"type\":[\"number\",\"string\"],\"minimum\":0,"
                               "\"pattern\":\"^[0-9]+([.][0-9]+)?(ns|us|ms|s|m|h|d)?$\"";
static const char size[] = "\"type\":[\"integer\",\"string\"],\"minimum\":0,"
                           "\"pattern\":\"^[0-9]+([.][0-9]+)?([KMGT]i?)?B?$\"";

static void put_choices(const struct config_option_row *row, FILE *out)
{
    fputs("\"enum\":[", out);
    bool first = true;
    for (const struct config_choice *c = row->choices; c->text; c++) {
        if (!c->ready)
            continue;
        if (!first)
            fputc(',', out);
        put_text(c->text, out);
        first = false;
    }
    fputc(']', out);
}

/* The members of an entry are not typed: they may stand as a tree or as dotted keys. */
static void put_items(int option, FILE *out)
{
    const char *help, *name;
    fputs("\"type\":\"array\",\"items\":{\"type\":\"object\"", out);
    fputs(",\"description\":\"Of:", out);
    for (size_t i = 0; (name = config_item_help(option, i, &help)) != NULL; i++)
        fprintf(out, "%s %s", i ? "," : "", name);
    fputs("\"}", out);
}

static void put_type(int option, const struct config_option_row *row, FILE *out)
{
    switch (row->type) {
    case CONFIG_TYPE_DURATION:
        fputs(duration, out);
        break;
    case CONFIG_TYPE_SIZE:
        fputs(size, out);
        break;
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_REAL:
        fprintf(out, "\"type\":\"%s\",\"minimum\":%s,\"maximum\":%s",
                row->type == CONFIG_TYPE_INT ? "integer" : "number", row->least, row->most);
        break;
    case CONFIG_TYPE_AUTO:
        fprintf(out, "\"anyOf\":[{\"const\":\"auto\"},{\"type\":\"integer\",\"minimum\":%s,\"maximum\":%s}]",
                row->least, row->most);
        break;
    case CONFIG_TYPE_BOOL:
        fputs("\"type\":\"boolean\"", out);
        break;
    case CONFIG_TYPE_ENUM:
        put_choices(row, out);
        break;
    case CONFIG_TYPE_LIST:
    case CONFIG_TYPE_DISGUISES:
        fputs("\"type\":\"array\",\"items\":{\"type\":\"string\"}", out);
        break;
    case CONFIG_TYPE_RETRY_ON:
        fputs("\"type\":\"array\",\"items\":{\"type\":[\"string\",\"integer\"]}", out);
        break;
    case CONFIG_TYPE_ROUTES:
    case CONFIG_TYPE_ALERTS:
    case CONFIG_TYPE_WEBHOOKS:
        put_items(option, out);
        break;
    default:
        fputs("\"type\":\"string\"", out);
        break;
    }
}

/* ---- the tree
 * ---------------------------------------------------------------------------------------------- */

/* Is an option before `option` below the same `n` bytes of key? */
static bool seen_before(int option, const char *prefix, size_t n)
{
    for (int i = 0; i < option; i++) {
        const char *key = config_option_row(i)->key;
        if (strncmp(key, prefix, n) == 0 && (key[n] == '.' || key[n] == '\0'))
            return true;
    }
    return false;
}

/* The object of all options below the first `n` bytes of `prefix` ("" or "cache."). */
static void put_object(const char *prefix, size_t n, FILE *out)
{
    bool first = true;
    fputs("\"type\":\"object\",\"additionalProperties\":false,\"properties\":{", out);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const struct config_option_row *row = config_option_row(i);
        if (strncmp(row->key, prefix, n) != 0)
            continue;
        size_t name = strcspn(row->key + n, ".");
        if (seen_before(i, row->key, n + name))
            continue;
        fprintf(out, "%s\n\"%.*s\":{", first ? "" : ",", (int)name, row->key + n);
        first = false;
        if (row->key[n + name] == '.') {
            put_object(row->key, n + name + 1, out);
        } else {
            put_type(i, row, out);
            put_member("description", row->help, out);
        }
        fputc('}', out);
    }
    fputc('}', out);
}

void config_schema_print(FILE *out)
{
    fputs("{\"$schema\":\"http://json-schema.org/draft-07/schema#\",\"title\":\"promptops-sidecar\",", out);
    put_object("", 0, out);
    fputs("}\n", out);
}
