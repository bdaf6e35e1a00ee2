/*
 * The tree of values behind an admin answer, as jansson holds it.
 *
 * Invariants: at[depth] is the container that values go into now; each is owned by the one
 * above it, at[0] by the view. After a failure nothing is added, and view_take() says so.
 */
#include "proxy/view.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 16 };

struct view {
    json_t *at[DEPTH];
    int depth;
    bool failed;
};

struct view *view_new(void)
{
    struct view *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    v->at[0] = json_object();
    if (v->at[0])
        return v;
    free(v);
    return NULL;
}

void view_free(struct view *v)
{
    if (!v)
        return;
    json_decref(v->at[0]);
    free(v);
}

struct json_t *view_take(struct view *v)
{
    json_t *root = v->failed || v->depth ? NULL : json_incref(v->at[0]);
    view_free(v);
    return root;
}

/* Takes `value` over. */
static void view_put(struct view *v, const char *key, json_t *value)
{
    json_t *into = v->at[v->depth];
    int failed;
    if (v->failed || !value) {
        json_decref(value);
        v->failed = true;
        return;
    }
    if (json_is_object(into))
        failed = json_object_set_new(into, key ? key : "", value);
    else
        failed = json_array_append_new(into, value);
    if (failed)
        v->failed = true;
}

void view_int(struct view *v, const char *key, int64_t value)
{
    view_put(v, key, json_integer(value));
}

void view_uint(struct view *v, const char *key, uint64_t value)
{
    view_put(v, key, json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value));
}

void view_real(struct view *v, const char *key, double value)
{
    view_put(v, key, isfinite(value) ? json_real(value) : json_null());
}

void view_bool(struct view *v, const char *key, bool value)
{
    view_put(v, key, json_boolean(value));
}

void view_null(struct view *v, const char *key)
{
    view_put(v, key, json_null());
}

/* A string in which every byte that is not part of valid UTF-8 is U+FFFD. */
static json_t *repaired(struct slice value)
{
    char *copy = malloc(value.n * 3 + 1);
    json_t *string = NULL;
    size_t n = 0;
    if (!copy)
        return NULL;
    for (size_t i = 0; i < value.n;) {
        size_t length = 1;
        json_t *one = NULL;
        for (; !one && length <= 4 && i + length <= value.n; length += !one)
            one = json_stringn(value.p + i, length);
        memcpy(copy + n, one ? value.p + i : "\xEF\xBF\xBD", one ? length : 3);
        n += one ? length : 3;
        i += one ? length : 1;
        json_decref(one);
    }
    string = json_stringn(copy, n);
    free(copy);
    return string;
}

void view_slice(struct view *v, const char *key, struct slice value)
{
    json_t *string = json_stringn(value.p ? value.p : "", value.n);
    view_put(v, key, string ? string : repaired(value));
}

void view_text(struct view *v, const char *key, const char *value)
{
    if (value)
        view_slice(v, key, (struct slice){value, strlen(value)});
    else
        view_null(v, key);
}

void view_json(struct view *v, const char *key, const char *json)
{
    json_t *value = json_loads(json, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    view_put(v, key, value ? value : json_null());
}

static void view_open(struct view *v, const char *key, json_t *container)
{
    if (v->depth + 1 >= DEPTH)
        v->failed = true;
    view_put(v, key, container);
    if (!v->failed)
        v->at[++v->depth] = container;
}

void view_object(struct view *v, const char *key)
{
    view_open(v, key, json_object());
}

void view_array(struct view *v, const char *key)
{
    view_open(v, key, json_array());
}

void view_end(struct view *v)
{
    if (v->depth > 0)
        v->depth--;
}

char *view_print(struct view *v, const char *member)
{
    json_t *tree = view_take(v);
    const json_t *part = tree && member ? json_object_get(tree, member) : tree;
    char *text = part ? json_dumps(part, JSON_COMPACT) : NULL;
    json_decref(tree);
    return text;
}
