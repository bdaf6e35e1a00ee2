/*
 * Errors of a configuration, gathered so that one look shows them all. Invariants: every item is a
 * whole line without its end; not more than CONFIG_MAX_ERRORS are kept; a lost error is never
 * forgotten, because left_out or out_of_memory remember it.
 */
#include "policy/config_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool config_errors_any(const struct config_errors *errors)
{
    return errors->count > 0 || errors->left_out > 0 || errors->out_of_memory;
}

void config_errors_free(struct config_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++)
        free(errors->items[i]);
    free(errors->items);
    *errors = (struct config_errors){0};
}

static bool make_room(struct config_errors *errors)
{
    if (errors->count < errors->room)
        return true;
    size_t room = errors->room ? errors->room * 2 : 8;
    char **items = realloc(errors->items, room * sizeof *items);
    if (!items)
        return false;
    errors->items = items;
    errors->room = room;
    return true;
}

static size_t print_place(char *buf, size_t n, const struct config_place *place)
{
    int length = 0;
    if (place->name && place->line > 0)
        length = snprintf(buf, n, "%.300s:%d:%d: ", place->name, place->line, place->column);
    else if (place->name)
        length = snprintf(buf, n, "%.300s: ", place->name);
    return length > 0 && (size_t)length < n ? (size_t)length : 0;
}

void config_errors_add(struct config_errors *errors, const struct config_place *place, const char *key,
                       const char *format, ...)
{
    char line[2048];
    if (errors->count >= CONFIG_MAX_ERRORS) {
        errors->left_out++;
        return;
    }
    size_t at = print_place(line, sizeof line, place);
    if (key && *key)
        at += (size_t)snprintf(line + at, sizeof line - at, "%.300s: ", key);
    va_list args;
    va_start(args, format);
    vsnprintf(line + at, sizeof line - at, format, args);
    va_end(args);
    /* Keys and names come from outside: they shall not write to the terminal what they like. */
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    char *copy = make_room(errors) ? malloc(strlen(line) + 1) : NULL;
    if (!copy) {
        errors->out_of_memory = true;
        return;
    }
    memcpy(copy, line, strlen(line) + 1);
    errors->items[errors->count++] = copy;
}
