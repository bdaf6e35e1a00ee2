/*
 * Lists of mappings (routes, alerts, webhooks): a walk over their entries, the same for all three.
 * What each field means is in config_routes.c and config_alerts.c. Invariants: every entry of the run
 * is either set, or reported, or lies beneath one that was reported.
 */
#include "policy/config_items.h"

#include <stdio.h>
#include <string.h>

#include "policy/suggest.h"

bool config_key_under(const char *key, const char *parent)
{
    size_t n = parent ? strlen(parent) : 0;
    return n > 0 && strncmp(key, parent, n) == 0 && (key[n] == '.' || key[n] == '[');
}

void config_build_error(struct config_build *build, int option, const struct config_entry *entry,
                        const char *what)
{
    config_errors_add(build->errors, &entry->place, entry->key, "%s", what);
    build->bad[option] = true;
}

struct config_place config_key_place(const struct config_entry *entry)
{
    struct config_place place = entry->place;
    if (entry->key_line > 0) {
        place.line = entry->key_line;
        place.column = entry->key_column;
    }
    return place;
}

/* What stands behind "routes[12]": "" or ".match.path"; NULL when the key is no member of the list. */
static const char *behind_index(const char *key, const char *list)
{
    const char *p = key + strlen(list);
    if (*p++ != '[')
        return NULL;
    size_t digits = strspn(p, "0123456789");
    return digits && p[digits] == ']' ? p + digits + 1 : NULL;
}

static const struct config_item_field *find_field(const struct config_item_field *fields, const char *name,
                                                  size_t n)
{
    for (; fields->name; fields++)
        if (strlen(fields->name) == n && strncmp(fields->name, name, n) == 0)
            return fields;
    return NULL;
}

static void unknown_field(const struct config_item_field *fields, const char *name, char *what, size_t n)
{
    struct suggestion near = {.typed = name};
    for (const struct config_item_field *f = fields; f->name; f++)
        suggest_offer(&near, f->name);
    if (near.best) {
        snprintf(what, n, "unknown key, did you mean %s?", near.best);
        return;
    }
    snprintf(what, n, "unknown key, allowed here: ");
    for (const struct config_item_field *f = fields; f->name; f++) {
        size_t at = strlen(what);
        snprintf(what + at, n - at, "%s%s", f == fields ? "" : ", ", f->name);
    }
}

/* NULL when an entry of this shape may stand at the field; else what is wrong. */
static const char *wrong_shape(const struct config_item_field *field, const struct config_entry *e,
                               bool member)
{
    switch (member ? CONFIG_SCALAR : field->shape) {
    case CONFIG_MAPPING:
        return e->shape == CONFIG_MAPPING || e->shape == CONFIG_NOTHING ? NULL : "must be a mapping";
    case CONFIG_SEQUENCE:
        return e->shape == CONFIG_SEQUENCE || e->shape == CONFIG_NOTHING ? NULL
                                                                         : "must be a list, such as [a, b]";
    default:
        if (e->shape == CONFIG_NOTHING)
            return "has no value; give it one or leave it out";
        return e->shape == CONFIG_SCALAR ? NULL : "must be one value, not a list or a mapping";
    }
}

struct walk {
    struct config_build *build;
    const struct config_item_kind *kind;
    int option;
    struct config_parse parse;
    char *items; /* kind->size each */
    size_t count;
    const struct config_entry *begun; /* the entry of the item being read; NULL: none, or a bad one */
    bool spoilt;                      /* a field of it was reported: the whole is not judged */
    const char *skip;                 /* entries beneath this key were reported with it */
};

static void refuse(struct walk *w, const struct config_entry *e, const char *what)
{
    config_build_error(w->build, w->option, e, what);
    w->spoilt = true;
    w->skip = e->key;
}

static void finish_item(struct walk *w)
{
    if (!w->begun)
        return;
    if (!w->spoilt && !w->kind->finish(&w->parse, w->items + (w->count - 1) * w->kind->size))
        config_build_error(w->build, w->option, w->begun, w->parse.what);
    w->begun = NULL;
}

static void begin_item(struct walk *w, const struct config_entry *e)
{
    finish_item(w);
    if (e->shape != CONFIG_MAPPING) {
        refuse(w, e, "must be a mapping of keys and values");
        return;
    }
    w->begun = e;
    w->spoilt = false;
    w->kind->begin(w->items + w->count * w->kind->size);
    w->count++;
}

static void set_field(struct walk *w, const struct config_entry *e, const char *name)
{
    size_t n = strcspn(name, "[");
    const struct config_item_field *field = find_field(w->kind->fields, name, n);
    bool member = field && field->shape == CONFIG_SEQUENCE && name[n] == '[';
    if (!field || (name[n] == '[' && !member)) {
        struct config_entry at_key = *e;
        at_key.place = config_key_place(e);
        unknown_field(w->kind->fields, name, w->parse.what, sizeof w->parse.what);
        refuse(w, &at_key, w->parse.what);
        return;
    }
    const char *wrong = wrong_shape(field, e, member);
    if (wrong) {
        refuse(w, e, wrong);
        return;
    }
    if (e->shape != CONFIG_SCALAR)
        return;
    if (!field->set(&w->parse, w->items + (w->count - 1) * w->kind->size, e->value))
        refuse(w, e, w->parse.what);
}

static size_t count_items(const struct config_draft *draft, const struct config_run *run, const char *list)
{
    size_t count = 0;
    for (size_t i = run->first; i < run->end; i++) {
        const char *rest = behind_index(draft->entries[i].key, list);
        count += rest && *rest == '\0' && draft->entries[i].shape == CONFIG_MAPPING;
    }
    return count;
}

void *config_items_read(struct config_build *build, const struct config_run *run,
                        const struct config_item_kind *kind, size_t *count)
{
    const char *list = config_option_row(run->option)->key;
    size_t room = count_items(build->draft, run, list);
    struct walk w = {.build = build, .kind = kind, .option = run->option};
    w.parse.arena = build->arena;
    *count = 0;
    if (room > CONFIG_MAX_ITEMS) {
        config_errors_add(build->errors, &build->places[run->option], list,
                          "%zu entries, allowed: at most %u", room, CONFIG_MAX_ITEMS);
        return NULL;
    }
    w.items = config_arena_array(build->arena, room + 1, kind->size);
    for (size_t i = run->first; w.items && i < run->end; i++) {
        const struct config_entry *e = &build->draft->entries[i];
        const char *rest = behind_index(e->key, list);
        if (config_key_under(e->key, w.skip))
            continue;
        if (rest && *rest == '\0')
            begin_item(&w, e);
        else if (rest && *rest == '.' && w.begun)
            set_field(&w, e, rest + 1);
        else
            refuse(&w, e, "is not a member of this list");
    }
    finish_item(&w);
    *count = w.count;
    return w.items;
}

static const struct config_item_field *fields_of(int option)
{
    switch (config_option_row(option)->type) {
    case CONFIG_TYPE_ROUTES:
        return config_route_fields();
    case CONFIG_TYPE_ALERTS:
        return config_alert_fields();
    case CONFIG_TYPE_WEBHOOKS:
        return config_webhook_fields();
    default:
        return NULL;
    }
}

const char *config_item_help(int option, size_t i, const char **help)
{
    const struct config_item_field *f = fields_of(option);
    while (f && f->name && i-- > 0)
        f++;
    if (!f || !f->name)
        return NULL;
    *help = f->help;
    return f->name;
}
