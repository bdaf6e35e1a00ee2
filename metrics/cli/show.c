/*
 * Shows answers as a table, JSON or CSV.
 * Invariants: control characters out of an answer never reach a terminal; CSV is quoted as RFC 4180 says;
 * colours only where asked for.
 */
#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/cli/cli.h"

enum { MAX_COLUMNS = 16, CELL = 512 };

const struct json_t *at_path(const struct json_t *tree, const char *path)
{
    while (tree && *path) {
        char key[128];
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        tree = json_object_get(tree, key);
        path += n + (path[n] == '.');
    }
    return tree;
}

/* A value as text, cut to the cell; what is not a scalar as JSON. */
static void as_text(const json_t *v, char out[CELL])
{
    if (json_is_string(v)) {
        snprintf(out, CELL, "%s", json_string_value(v));
    } else if (json_is_integer(v)) {
        snprintf(out, CELL, "%lld", (long long)json_integer_value(v));
    } else if (json_is_real(v)) {
        snprintf(out, CELL, "%.6g", json_real_value(v));
    } else if (!v || json_is_null(v)) {
        snprintf(out, CELL, "-");
    } else {
        char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
        snprintf(out, CELL, "%s", text ? text : "?");
        free(text);
    }
}

static void as_seconds(double v, char out[CELL])
{
    if (v != 0 && v < 1e-3)
        snprintf(out, CELL, "%.1f us", v * 1e6);
    else if (v != 0 && v < 1)
        snprintf(out, CELL, "%.2f ms", v * 1e3);
    else if (v >= 7200)
        snprintf(out, CELL, "%.1f h", v / 3600);
    else if (v >= 120)
        snprintf(out, CELL, "%.1f min", v / 60);
    else
        snprintf(out, CELL, "%.2f s", v);
}

static void as_bytes(double v, char out[CELL])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    for (; v >= 1024 && unit < 4; unit++)
        v /= 1024;
    snprintf(out, CELL, unit ? "%.1f %s" : "%.0f %s", v, units[unit]);
}

static void as_people_read(const json_t *v, enum unit unit, char out[CELL])
{
    double x = json_number_value(v);
    if (!json_is_number(v) || unit == UNIT_PLAIN)
        as_text(v, out);
    else if (unit == UNIT_SHARE)
        snprintf(out, CELL, "%.1f %%", x * 100);
    else if (unit == UNIT_SECONDS)
        as_seconds(x, out);
    else if (unit == UNIT_BYTES)
        as_bytes(x, out);
    else if (unit == UNIT_MEGABYTES)
        snprintf(out, CELL, "%.1f MB", x);
    else if (unit == UNIT_PERCENT)
        snprintf(out, CELL, "%.1f %%", x);
    else
        snprintf(out, CELL, "%.2f/s", x);
}

/* Terminal columns of UTF-8 text, one a character. */
static int width(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static void put_plain(const char *s)
{
    for (; *s; s++)
        putchar((unsigned char)*s < 0x20 || *s == 0x7F ? '?' : *s);
}

static void put_cell(const char *s, int wanted, bool last)
{
    put_plain(s);
    for (int n = width(s); !last && n < wanted + 2; n++)
        putchar(' ');
}

static void put_csv(const char *s, bool last)
{
    if (strpbrk(s, ",\"\r\n")) {
        putchar('"');
        for (; *s; s++) {
            if (*s == '"')
                putchar('"');
            putchar(*s);
        }
        putchar('"');
    } else {
        fputs(s, stdout);
    }
    fputs(last ? "\r\n" : ",", stdout);
}

static void put_json(const json_t *tree)
{
    json_dumpf(tree, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    putchar('\n');
}

/* Calls back for every leaf under `tree`, with its path. */
static void each_leaf(const json_t *tree, const char *path,
                      void (*leaf)(const char *path, const json_t *v, int *widest), int *widest)
{
    const char *key;
    json_t *value;
    if (!json_is_object(tree)) {
        leaf(path, tree, widest);
        return;
    }
    json_object_foreach((json_t *)(size_t)tree, key, value)
    {
        char longer[256];
        snprintf(longer, sizeof longer, "%s%s%s", path, *path ? "." : "", key);
        each_leaf(value, longer, leaf, widest);
    }
}

static void leaf_csv(const char *path, const json_t *v, int *widest)
{
    char cell[CELL];
    (void)widest;
    as_text(v, cell);
    put_csv(path, false);
    put_csv(cell, true);
}

static void leaf_width(const char *path, const json_t *v, int *widest)
{
    (void)v;
    if (width(path) > *widest)
        *widest = width(path);
}

static void leaf_table(const char *path, const json_t *v, int *widest)
{
    char cell[CELL];
    as_text(v, cell);
    put_cell(path, *widest, false);
    put_cell(cell, 0, true);
    putchar('\n');
}

static void put_lines(const struct args *a, const json_t *tree, const struct line *lines)
{
    char cell[CELL];
    int widest = 0;
    for (const struct line *l = lines; l->label; l++)
        if (width(l->label) > widest)
            widest = width(l->label);
    for (const struct line *l = lines; l->label; l++) {
        as_people_read(at_path(tree, l->path), l->unit, cell);
        put_cell(l->label, widest, false);
        if (a->color)
            fputs("\033[1m", stdout);
        put_cell(cell, 0, true);
        fputs(a->color ? "\033[0m\n" : "\n", stdout);
    }
}

void show_values(const struct args *a, const struct json_t *tree, const struct line *lines)
{
    int widest = 0;
    if (a->format == FORMAT_JSON) {
        put_json(tree);
    } else if (a->format == FORMAT_CSV) {
        fputs("name,value\r\n", stdout);
        each_leaf(tree, "", leaf_csv, &widest);
    } else if (lines) {
        put_lines(a, tree, lines);
    } else {
        each_leaf(tree, "", leaf_width, &widest);
        each_leaf(tree, "", leaf_table, &widest);
    }
}

/* ---- rows ---- */

struct columns {
    char name[MAX_COLUMNS][64];
    int width[MAX_COLUMNS];
    int count;
};

static void read_columns(const char *list, const json_t *rows, struct columns *c)
{
    char cell[CELL];
    for (c->count = 0; *list && c->count < MAX_COLUMNS; c->count++) {
        size_t n = strcspn(list, " ");
        snprintf(c->name[c->count], sizeof c->name[0], "%.*s", (int)n, list);
        list += n + (list[n] == ' ');
        int widest = (int)n;
        for (size_t i = 0; i < json_array_size(rows); i++) {
            as_text(at_path(json_array_get(rows, i), c->name[c->count]), cell);
            if (width(cell) > widest)
                widest = width(cell);
        }
        c->width[c->count] = widest < 60 ? widest : 60;
    }
}

static void put_head(const struct args *a, const struct columns *c)
{
    if (a->color)
        fputs("\033[1m", stdout);
    for (int k = 0; k < c->count; k++) {
        char upper[64];
        size_t i = 0;
        for (; c->name[k][i]; i++)
            upper[i] = (char)toupper((unsigned char)c->name[k][i]);
        upper[i] = '\0';
        if (a->format == FORMAT_CSV)
            put_csv(c->name[k], k == c->count - 1);
        else
            put_cell(upper, c->width[k], k == c->count - 1);
    }
    if (a->color)
        fputs("\033[0m", stdout);
    if (a->format != FORMAT_CSV)
        putchar('\n');
}

static void put_row(const struct args *a, const struct columns *c, const json_t *row)
{
    char cell[CELL];
    for (int k = 0; k < c->count; k++) {
        bool last = k == c->count - 1;
        as_text(at_path(row, c->name[k]), cell);
        if (a->format == FORMAT_CSV)
            put_csv(cell, last);
        else
            put_cell(cell, c->width[k], last);
    }
    if (a->format != FORMAT_CSV)
        putchar('\n');
}

void show_rows(const struct args *a, const struct json_t *list, const char *columns)
{
    struct columns c;
    if (a->format == FORMAT_JSON) {
        put_json(list);
        return;
    }
    read_columns(columns, list, &c);
    put_head(a, &c);
    for (size_t i = 0; i < json_array_size(list); i++)
        put_row(a, &c, json_array_get(list, i));
}
