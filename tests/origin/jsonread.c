/*
 * Invariant: `path` is always the object under the cursor, so that a fault can say where it is.
 */
#include "tests/origin/jsonread.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void read_fail(struct json_reader *r, const char *name, const char *sentence)
{
    if (r->failed)
        return;
    r->failed = true;
    text_printf(r->why, "%s%s%s: %s", r->path, r->path[0] && name[0] ? "." : "", name, sentence);
}

void read_members(struct json_reader *r, const json_t *object, const char *const *allowed)
{
    const char *key;
    json_t *value;
    if (r->failed)
        return;
    json_object_foreach((json_t *)object, key, value) {
        int i = 0;
        while (allowed[i] && strcmp(allowed[i], key) != 0)
            i++;
        if (allowed[i])
            continue;
        struct text list = {0};
        text_puts(&list, "unknown; allowed here:");
        for (i = 0; allowed[i]; i++)
            text_printf(&list, "%s %s", i ? "," : "", allowed[i]);
        read_fail(r, key, text_cstr(&list));
        text_free(&list);
        return;
    }
}

static const json_t *member(struct json_reader *r, const json_t *object, const char *name)
{
    return r->failed ? NULL : json_object_get(object, name);
}

void read_number(struct json_reader *r, const json_t *object, const char *name, double bounds[2], double *out)
{
    const json_t *v = member(r, object, name);
    if (!v)
        return;
    double x = json_number_value(v);
    if (json_is_number(v) && x >= bounds[0] && x <= bounds[1]) {
        *out = x;
        return;
    }
    char sentence[96];
    snprintf(sentence, sizeof(sentence), "must be a number from %g to %g", bounds[0], bounds[1]);
    read_fail(r, name, sentence);
}

void read_integer(struct json_reader *r, const json_t *object, const char *name, int64_t bounds[2], int64_t *out)
{
    const json_t *v = member(r, object, name);
    if (!v)
        return;
    int64_t x = json_integer_value(v);
    if (json_is_integer(v) && x >= bounds[0] && x <= bounds[1]) {
        *out = x;
        return;
    }
    char sentence[96];
    snprintf(sentence, sizeof(sentence), "must be a whole number from %" PRId64 " to %" PRId64, bounds[0], bounds[1]);
    read_fail(r, name, sentence);
}

void read_bool(struct json_reader *r, const json_t *object, const char *name, bool *out)
{
    const json_t *v = member(r, object, name);
    if (!v)
        return;
    if (json_is_boolean(v))
        *out = json_is_true(v);
    else
        read_fail(r, name, "must be true or false");
}

void read_choice(struct json_reader *r, const json_t *object, const char *name, const char *const *names, int *out)
{
    const json_t *v = member(r, object, name);
    if (!v)
        return;
    const char *s = json_string_value(v);
    for (int i = 0; s && names[i]; i++) {
        if (strcmp(names[i], s) == 0) {
            *out = i;
            return;
        }
    }
    struct text list = {0};
    text_puts(&list, "must be one of");
    for (int i = 0; names[i]; i++)
        text_printf(&list, "%s \"%s\"", i ? "," : "", names[i]);
    read_fail(r, name, text_cstr(&list));
    text_free(&list);
}

void read_rate(struct json_reader *r, const json_t *object, const char *name, double *out)
{
    read_number(r, object, name, (double[2]){0, 1}, out);
}

static const json_t *enter(struct json_reader *r, const json_t *v, const char *step, size_t *mark)
{
    size_t n = strlen(r->path), more = strlen(step);
    *mark = n;
    if (n + more + 2 > sizeof(r->path)) {
        read_fail(r, step, "nested too deeply");
        return NULL;
    }
    if (n)
        r->path[n++] = '.';
    memcpy(r->path + n, step, more + 1);
    if (json_is_object(v))
        return v;
    read_fail(r, "", "must be an object");
    return NULL;
}

const json_t *read_enter(struct json_reader *r, const json_t *object, const char *name, size_t *mark)
{
    *mark = strlen(r->path);
    const json_t *v = member(r, object, name);
    return v ? enter(r, v, name, mark) : NULL;
}

const json_t *read_element(struct json_reader *r, const json_t *list, const char *name, size_t i, size_t *mark)
{
    char step[64];
    snprintf(step, sizeof(step), "%s[%zu]", name, i);
    *mark = strlen(r->path);
    return r->failed ? NULL : enter(r, json_array_get(list, i), step, mark);
}

void read_leave(struct json_reader *r, size_t mark)
{
    r->path[mark] = 0;
}

static int add_dump(const char *buffer, size_t n, void *arg)
{
    text_add(arg, buffer, n);
    return 0;
}

void text_json_value(struct text *t, const json_t *value)
{
    if (!value)
        text_puts(t, "null");
    else if (json_dump_callback(value, add_dump, t, JSON_COMPACT | JSON_ENCODE_ANY) != 0)
        t->failed = true;
}
