/*
 * GET and PATCH /api/v1/config: every option with its value and where it came from; live changes.
 * Invariants: every option of options.def is shown, once, secrets masked by config_print_value(); a change
 * is judged like a file and put in force whole, or not at all; what was changed is what the answer and
 * the audit log say, from and to as they are shown.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/config.h"
#include "proxy/admin_request.h"

enum { MAX_CHANGES = 256, NESTING = 8, KEY_MAX = 128, ORIGIN_MAX = 512 };

/* The value as JSON text; to be freed. NULL when out of memory. */
static char *printed(const struct config *cfg, int option)
{
    size_t n = config_print_value(cfg, option, NULL, 0);
    char *text = malloc(n + 1);
    if (text)
        config_print_value(cfg, option, text, n + 1);
    return text;
}

static void put_value(struct view *v, const char *key, const struct config *cfg, int option)
{
    char *value = printed(cfg, option);
    view_json(v, key, value ? value : "null");
    free(value);
}

static void option_view(const struct config *cfg, int option, struct view *v)
{
    const struct config_option_row *row = config_option_row(option);
    char origin[ORIGIN_MAX];
    config_origin(cfg, option, origin, sizeof origin);
    view_object(v, row->key);
    put_value(v, "value", cfg, option);
    view_text(v, "origin", origin);
    view_bool(v, "live", row->live);
    view_text(v, "default", row->preset);
    view_text(v, "help", row->help);
    view_end(v);
}

void admin_show_config(struct admin_request *r)
{
    if (!r->sources->snapshot) {
        admin_absent(r);
        return;
    }
    const struct config *cfg = r->sources->snapshot(r->sources->ctx);
    struct view *v = view_new();
    if (v) {
        view_object(v, "options");
        for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
            option_view(cfg, i, v);
        view_end(v);
    }
    admin_reply(r, 200, v);
}

/* ---- what is asked for ---- */

struct asked {
    struct config_change changes[MAX_CHANGES];
    size_t count;
    const char *wrong; /* the first thing that is; NULL while all is well */
    char what[256];
};

static void asked_free(struct asked *a)
{
    for (size_t i = 0; i < a->count; i++) {
        free((char *)(uintptr_t)a->changes[i].key);
        free((char *)(uintptr_t)a->changes[i].value);
    }
    free(a);
}

static void asked_wrong(struct asked *a, const char *key, const char *what)
{
    if (a->wrong)
        return;
    snprintf(a->what, sizeof a->what, "%.100s: %s", key, what);
    a->wrong = a->what;
}

/* A scalar as a file would have it. To be freed; NULL when it is no scalar, has a NUL, or out of memory. */
static char *scalar_text(const json_t *value)
{
    if (json_is_string(value)) {
        const char *s = json_string_value(value);
        return strlen(s) == json_string_length(value) ? strdup(s) : NULL;
    }
    if (json_is_array(value) || json_is_object(value) || json_is_null(value))
        return NULL;
    return json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
}

/* "[a, b]". To be freed. */
static char *list_text(const json_t *list)
{
    struct text t = {0};
    text_bytes(&t, "[", 1);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char *one = scalar_text(json_array_get(list, i));
        if (!one || strpbrk(one, ",[]\"\n")) {
            free(one);
            text_dispose(&t);
            return NULL;
        }
        if (i)
            text_bytes(&t, ", ", 2);
        text_bytes(&t, one, strlen(one));
        free(one);
    }
    text_bytes(&t, "]", 2);
    char *copy = t.failed ? NULL : strdup(t.p);
    text_dispose(&t);
    return copy;
}

static void ask_one(struct asked *a, const char *key, const json_t *value)
{
    char *text = json_is_array(value) ? list_text(value) : scalar_text(value);
    char *name = strdup(key);
    if (!name || (!text && !json_is_null(value)))
        asked_wrong(a, key, "the value is not a scalar, a list of them, or null");
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->changes[i].key, key) == 0)
            asked_wrong(a, key, "comes twice");
    if (a->count == MAX_CHANGES)
        asked_wrong(a, key, "is one change too many; make fewer at once");
    if (a->wrong) {
        free(name);
        free(text);
        return;
    }
    a->changes[a->count++] = (struct config_change){name, text};
}

/* {"retry.budget": 0.2} or {"retry": {"budget": 0.2}}. */
static void ask_all(struct asked *a, const char *parent, const json_t *object, int depth)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        char key[KEY_MAX];
        int n = snprintf(key, sizeof key, "%s%s%s", parent, *parent ? "." : "", name);
        if (n < 0 || (size_t)n >= sizeof key || depth == NESTING)
            asked_wrong(a, parent, "has a member whose name is too long, or nested too deep");
        else if (json_is_object(value) && config_option_find(key) < 0)
            ask_all(a, key, value, depth + 1);
        else
            ask_one(a, key, value);
        if (a->wrong)
            return;
    }
}

/* ---- putting it in force ---- */

static void put_change(struct view *v, const struct config *before, const struct config *after, int option)
{
    char from[ORIGIN_MAX], to[ORIGIN_MAX];
    config_origin(before, option, from, sizeof from);
    config_origin(after, option, to, sizeof to);
    view_object(v, NULL);
    view_text(v, "key", config_option_row(option)->key);
    put_value(v, "from", before, option);
    put_value(v, "to", after, option);
    view_text(v, "from_origin", from);
    view_text(v, "origin", to);
    view_end(v);
}

static bool asked_for(const struct asked *a, int option)
{
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->changes[i].key, config_option_row(option)->key) == 0)
            return true;
    return false;
}

static struct view *changes_view(const struct asked *a, const struct config *before,
                                 const struct config *after)
{
    struct view *v = view_new();
    if (!v)
        return NULL;
    view_array(v, "changed");
    for (int i = 0; i < CONFIG_OPTION_COUNT;
         i++) /* what follows from a change, too: pool.max_size of pool.min_size */
        if (!config_same_value(before, after, i) || asked_for(a, i))
            put_change(v, before, after, i);
    view_end(v);
    return v;
}

static void reply_errors(struct admin_request *r, const struct config_errors *errors)
{
    struct text t = {0};
    for (size_t i = 0; i < errors->count && i < 8; i++) {
        if (i)
            text_bytes(&t, "; ", 2);
        text_bytes(&t, errors->items[i], strlen(errors->items[i]));
    }
    text_bytes(&t, "", 1);
    if (errors->out_of_memory || t.failed)
        admin_reply_error(r, 503, "The sidecar is out of memory; nothing was changed.", "Try again.");
    else
        admin_reply_error(r, 400, t.p,
                          "Nothing was changed. GET /api/v1/config lists the keys, and which are live.");
    text_dispose(&t);
}

static void adopt(struct admin_request *r, const struct asked *a, const struct config *fresh)
{
    struct admin_sources const *s = r->sources;
    const char *dry = admin_query(r, "dry_run");
    bool try_only = dry && strcmp(dry, "true") == 0;
    char err[512] = "";
    const struct config *before = config_ref(s->snapshot(s->ctx));
    config_ref(fresh);
    if (!try_only && !s->change(s->ctx, fresh, err, sizeof err)) {
        admin_reply_error(r, 409, err, "Nothing was changed. Put that right, and try again.");
        config_unref(fresh);
    } else {
        struct view *audit = changes_view(a, before, fresh), *v = changes_view(a, before, fresh);
        json_t *tree = audit ? view_take(audit) : NULL;
        r->changes = tree && !try_only ? json_incref(json_object_get(tree, "changed")) : NULL;
        json_decref(tree);
        if (v)
            view_bool(v, "in_force", !try_only);
        admin_reply(r, 200, v);
        if (try_only)
            config_unref(fresh);
    }
    config_unref(fresh);
    config_unref(before);
}

void admin_change_config(struct admin_request *r)
{
    struct config_errors errors = {0};
    if (!r->sources->change || !r->sources->snapshot) {
        admin_absent(r);
        return;
    }
    if (!admin_query_word(r, "dry_run", "true|false"))
        return;
    json_t *body = admin_body(r);
    if (!body)
        return;
    struct asked *a = calloc(1, sizeof *a);
    if (a)
        ask_all(a, "", body, 0);
    if (!a) {
        admin_reply(r, 503, NULL);
    } else if (a->wrong) {
        admin_reply_error(r, 400, a->wrong, "Send {\"key\": value}; null takes a change back.");
    } else {
        const struct config *now = r->sources->snapshot(r->sources->ctx);
        const struct config *fresh = config_with_all(now, a->changes, a->count, &errors);
        snprintf(r->detail, sizeof r->detail, "%zu keys", a->count);
        if (fresh)
            adopt(r, a, fresh);
        else
            reply_errors(r, &errors);
    }
    config_errors_free(&errors);
    if (a)
        asked_free(a);
    json_decref(body);
}
