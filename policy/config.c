/*
 * Snapshots: made from entries, held by references, changed by being made again. Invariants: a
 * snapshot never changes once it was given out; it owns a copy of all entries it was made from, so
 * that a change or a reload judges everything anew; a bad configuration gives no snapshot at all.
 *
 * The reference count is the only thing in policy/ that two threads may touch: it uses the compiler's
 * atomic builtins.
 */
#include "policy/config.h"

#include <stdlib.h>
#include <string.h>

#include "policy/config_private.h"

/* ---- References -------------------------------------------------------------------------------- */

const struct config *config_ref(const struct config *cfg)
{
    __atomic_add_fetch(&cfg->own->references, 1, __ATOMIC_RELAXED);
    return cfg;
}

static void free_config(struct config *cfg)
{
    if (cfg->own) {
        config_arena_free(&cfg->own->arena);
        config_draft_free(cfg->own->entries);
        free(cfg->own);
    }
    free(cfg);
}

void config_unref(const struct config *cfg)
{
    /* The last holder must see what all the others did with it before it is freed. */
    if (cfg && __atomic_sub_fetch(&cfg->own->references, 1, __ATOMIC_ACQ_REL) == 0)
        free_config((struct config *)cfg);
}

const struct config_place *config_place_of(const struct config *cfg, int option)
{
    return &cfg->own->places[option];
}

/* ---- Drafts ------------------------------------------------------------------------------------ */

struct config_draft *config_draft_new(void)
{
    return calloc(1, sizeof(struct config_draft));
}

void config_draft_free(struct config_draft *draft)
{
    if (!draft)
        return;
    config_arena_free(&draft->arena);
    free(draft->entries);
    free(draft);
}

void config_draft_look(struct config_draft *draft, config_look look)
{
    draft->look = look;
}

static const char *copy_name(struct config_draft *draft, const char *name)
{
    const char *before = draft->count ? draft->entries[draft->count - 1].place.name : NULL;
    if (!name)
        return NULL;
    if (before && strcmp(before, name) == 0)
        return before;
    return config_arena_copy(&draft->arena, name, strlen(name));
}

bool config_draft_put(struct config_draft *draft, const struct config_entry *entry)
{
    if (draft->count == draft->room) {
        size_t room = draft->room ? draft->room * 2 : 64;
        struct config_entry *entries = realloc(draft->entries, room * sizeof *entries);
        if (!entries)
            return false;
        draft->entries = entries;
        draft->room = room;
    }
    struct config_entry copy = *entry;
    copy.key = config_arena_copy(&draft->arena, entry->key, strlen(entry->key));
    copy.value = "";
    if (entry->shape == CONFIG_SCALAR)
        copy.value = config_arena_copy(&draft->arena, entry->value, strlen(entry->value));
    copy.place.name = copy_name(draft, entry->place.name);
    if (draft->arena.failed)
        return false;
    draft->entries[draft->count++] = copy;
    return true;
}

/* The option that an entry belongs to, itself or as a member of its list; -1 when none. */
static int option_of(const char *key)
{
    int option = config_option_find(key);
    const char *bracket = strchr(key, '[');
    char list[64];
    if (option >= 0 || !bracket || (size_t)(bracket - key) >= sizeof list)
        return option;
    memcpy(list, key, (size_t)(bracket - key));
    list[bracket - key] = '\0';
    return config_option_find(list);
}

/* Whether an entry is to be taken over. */
typedef bool (*entry_filter)(int option, int arg);

static bool any_but(int option, int arg)
{
    return option != arg;
}

static bool by_time(int option, int live)
{
    return (option < 0 || config_option_row(option)->live) == (bool)live;
}

static bool copy_entries(struct config_draft *to, const struct config_draft *from, entry_filter wanted,
                         int arg)
{
    for (size_t i = 0; i < from->count; i++) {
        const struct config_entry *e = &from->entries[i];
        if (wanted(option_of(e->key), arg) && !config_draft_put(to, e))
            return false;
    }
    return true;
}

/* ---- Building ---------------------------------------------------------------------------------- */

static void *member(const struct config_build *b, int option)
{
    return (char *)b->cfg + config_option_row(option)->offset;
}

static bool has_items(int option)
{
    enum config_type type = config_option_row(option)->type;
    return type == CONFIG_TYPE_ROUTES || type == CONFIG_TYPE_ALERTS || type == CONFIG_TYPE_WEBHOOKS;
}

static bool is_list(int option)
{
    enum config_type type = config_option_row(option)->type;
    return has_items(option) || type == CONFIG_TYPE_LIST || type == CONFIG_TYPE_DISGUISES ||
           type == CONFIG_TYPE_RETRY_ON;
}

/* Returns false when a default of options.def is no good value, which is a mistake there. */
static bool set_defaults(struct config_build *b)
{
    struct config_parse parse = {.arena = b->arena};
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const struct config_option_row *row = config_option_row(i);
        if (has_items(i) || config_value_parse(&parse, row, row->preset, member(b, i)))
            continue;
        config_errors_add(b->errors, &b->places[i], row->key, "the default: %s", parse.what);
        return false;
    }
    struct config *defaults = config_arena_get(b->arena, sizeof *defaults);
    if (defaults)
        *defaults = *b->cfg;
    b->defaults = defaults;
    return defaults != NULL;
}

static void refuse(struct config_build *b, int option, const struct config_entry *e, const char *what)
{
    if (option >= 0)
        b->bad[option] = true;
    config_errors_add(b->errors, &e->place, e->key, "%s", what);
    b->skip = e;
}

static void set_value(struct config_build *b, int option, const struct config_entry *e)
{
    struct config_parse parse = {.arena = b->arena};
    if ((size_t)(e - b->draft->entries) >= b->look_from)
        parse.look = b->draft->look;
    b->places[option] = e->place;
    if (!config_value_parse(&parse, config_option_row(option), e->value, member(b, option)))
        refuse(b, option, e, parse.what);
}

static void set_scalar(struct config_build *b, int option, const struct config_entry *e)
{
    if (e->shape == CONFIG_SCALAR)
        set_value(b, option, e);
    else if (e->shape == CONFIG_NOTHING)
        refuse(b, option, e, "has no value; give it one or leave it out");
    else
        refuse(b, option, e, "must be one value, not a list or a mapping");
}

/* A LIST or RETRY_ON from its members. */
static void read_members(struct config_build *b, const struct config_run *run)
{
    const struct config_option_row *row = config_option_row(run->option);
    struct config_parse parse = {.arena = b->arena};
    struct config_retry_on conditions = {0};
    const char **items = config_arena_array(b->arena, run->end - run->first + 1, sizeof *items);
    size_t count = 0;
    for (size_t i = run->first; items && i < run->end; i++) {
        const struct config_entry *e = &b->draft->entries[i];
        if (b->skip && config_key_under(e->key, b->skip->key))
            continue;
        if (e->shape != CONFIG_SCALAR)
            refuse(b, run->option, e, "must be one value");
        else if (!config_member_parse(&parse, row, e->value, &conditions))
            refuse(b, run->option, e, parse.what);
        else
            items[count++] = e->value;
    }
    if (row->type == CONFIG_TYPE_RETRY_ON)
        b->cfg->retry_retry_on = conditions;
    else
        *(struct config_list *)member(b, run->option) = (struct config_list){items, count};
}

static void read_run(struct config_build *b, const struct config_run *run)
{
    switch (config_option_row(run->option)->type) {
    case CONFIG_TYPE_ROUTES:
        config_routes_read(b, run);
        break;
    case CONFIG_TYPE_ALERTS:
        config_alerts_read(b, run);
        break;
    case CONFIG_TYPE_WEBHOOKS:
        config_webhooks_read(b, run);
        break;
    default:
        read_members(b, run);
    }
}

/* Entry i begins a list. Returns the last entry that belongs to it. */
static size_t set_list(struct config_build *b, int option, size_t i)
{
    const struct config_entry *entries = b->draft->entries, *e = &entries[i];
    struct config_run run = {option, i + 1, i + 1};
    while (run.end < b->draft->count && config_key_under(entries[run.end].key, e->key))
        run.end++;
    if (e->shape == CONFIG_SEQUENCE || (e->shape == CONFIG_NOTHING && has_items(option))) {
        b->places[option] = e->place;
        read_run(b, &run);
    } else if (has_items(option)) {
        refuse(b, option, e, "must be a list of mappings");
    } else if (e->shape == CONFIG_SCALAR && e->place.source != CONFIG_FROM_FILE) {
        set_value(b, option, e);
    } else {
        refuse(b, option, e, "must be a list, such as [a, b]");
    }
    return run.end - 1;
}

static void set_other(struct config_build *b, const struct config_entry *e)
{
    char what[1024];
    bool section = config_is_section(e->key);
    if (section && (e->shape == CONFIG_MAPPING || e->shape == CONFIG_NOTHING))
        return;
    if (section) {
        refuse(b, -1, e, "must be a mapping: it holds the keys that begin with this name");
        return;
    }
    if (option_of(e->key) >= 0 && is_list(option_of(e->key))) {
        refuse(b, -1, e, "is one member of a list; set the whole list");
        return;
    }
    struct config_place place = config_key_place(e);
    config_unknown_key(e->key, what, sizeof what);
    config_errors_add(b->errors, &place, e->key, "%s", what);
    b->skip = e;
}

static bool reported(const struct config_build *b, const struct config_entry *e)
{
    return b->skip && b->skip->place.source == e->place.source && config_key_under(e->key, b->skip->key);
}

static void set_all(struct config_build *b)
{
    for (size_t i = 0; i < b->draft->count; i++) {
        const struct config_entry *e = &b->draft->entries[i];
        if (reported(b, e))
            continue;
        int option = config_option_find(e->key);
        if (option < 0)
            set_other(b, e);
        else if (is_list(option))
            i = set_list(b, option, i);
        else
            set_scalar(b, option, e);
    }
}

static bool allocate(struct config_build *b)
{
    struct config *cfg = calloc(1, sizeof *cfg);
    if (!cfg)
        return false;
    b->cfg = cfg;
    cfg->own = calloc(1, sizeof *cfg->own);
    if (!cfg->own)
        return false;
    cfg->own->references = 1;
    b->arena = &cfg->own->arena;
    b->places = cfg->own->places;
    return true;
}

/* Makes a snapshot that owns `draft`, which is freed in every case. NULL draft: out of memory. */
static const struct config *build(struct config_draft *draft, size_t look_from, struct config_errors *errors)
{
    struct config_build b = {.draft = draft, .look_from = look_from, .errors = errors};
    if (!draft || !allocate(&b))
        errors->out_of_memory = true;
    if (b.cfg && b.cfg->own)
        b.cfg->own->entries = draft;
    else
        config_draft_free(draft);
    if (!errors->out_of_memory && set_defaults(&b)) {
        set_all(&b);
        config_check(&b);
    }
    if (b.arena && b.arena->failed)
        errors->out_of_memory = true;
    if (!config_errors_any(errors))
        return b.cfg;
    if (b.cfg)
        free_config(b.cfg);
    return NULL;
}

/* A draft with what the filter lets through of `from`; NULL when out of memory. */
static struct config_draft *filtered(const struct config_draft *from, entry_filter wanted, int arg)
{
    struct config_draft *draft = config_draft_new();
    if (!draft)
        return NULL;
    draft->look = from->look;
    if (copy_entries(draft, from, wanted, arg))
        return draft;
    config_draft_free(draft);
    return NULL;
}

const struct config *config_draft_build(const struct config_draft *draft, struct config_errors *errors)
{
    return build(filtered(draft, any_but, CONFIG_OPTION_COUNT), 0, errors);
}

/* ---- Changing ---------------------------------------------------------------------------------- */

/* Judges what one change asks for by itself. */
static bool may_change(const struct config_change *change, struct config_errors *errors)
{
    struct config_place place = {.source = CONFIG_FROM_CHANGE};
    char what[1024];
    int option = config_option_find(change->key);
    if (option < 0) {
        config_unknown_key(change->key, what, sizeof what);
        config_errors_add(errors, &place, change->key, "%s", what);
    } else if (!config_option_row(option)->live) {
        config_errors_add(errors, &place, change->key,
                          "takes effect at a restart only; change it in the file and restart");
    } else if (has_items(option)) {
        config_errors_add(errors, &place, change->key,
                          "cannot be changed by itself; change it in the file and reload");
    } else {
        return true;
    }
    return false;
}

static bool is_changed(const struct config_entry *e, const struct config_change *changes, size_t n)
{
    for (size_t i = 0; e->place.source == CONFIG_FROM_CHANGE && i < n; i++)
        if (strcmp(e->key, changes[i].key) == 0)
            return true;
    return false;
}

/* What the snapshot was made from without earlier changes of the same keys, so that these can be taken back.
 */
static struct config_draft *without_changes(const struct config_draft *from,
                                            const struct config_change *changes, size_t n)
{
    struct config_draft *draft = config_draft_new();
    bool good = draft != NULL;
    if (draft)
        draft->look = from->look;
    for (size_t i = 0; good && i < from->count; i++)
        if (!is_changed(&from->entries[i], changes, n))
            good = config_draft_put(draft, &from->entries[i]);
    if (good)
        return draft;
    config_draft_free(draft);
    return NULL;
}

const struct config *config_with_all(const struct config *cfg, const struct config_change *changes, size_t n,
                                     struct config_errors *errors)
{
    bool good = true;
    for (size_t i = 0; i < n; i++)
        good &= may_change(&changes[i], errors);
    if (!good)
        return NULL;
    struct config_draft *draft = without_changes(cfg->own->entries, changes, n);
    /* Files of other options were good at start; one that was removed since shall not forbid a change. */
    size_t first = draft ? draft->count : 0;
    for (size_t i = 0; draft && i < n; i++) {
        struct config_entry entry = {
            .key = changes[i].key, .value = changes[i].value, .place = {.source = CONFIG_FROM_CHANGE}};
        if (!entry.value || config_draft_put(draft, &entry))
            continue;
        config_draft_free(draft);
        draft = NULL;
    }
    return build(draft, first, errors);
}

const struct config *config_with(const struct config *cfg, const char *key, const char *value,
                                 struct config_errors *errors)
{
    return config_with_all(cfg, &(struct config_change){key, value}, 1, errors);
}

static bool copy_changes(struct config_draft *to, const struct config_draft *from)
{
    for (size_t i = 0; i < from->count; i++)
        if (from->entries[i].place.source == CONFIG_FROM_CHANGE && !config_draft_put(to, &from->entries[i]))
            return false;
    return true;
}

const struct config *config_carry_over(const struct config *fresh, const struct config *running,
                                       struct config_errors *errors)
{
    struct config_draft *draft = filtered(fresh->own->entries, by_time, true);
    if (draft && (!copy_entries(draft, running->own->entries, by_time, false) ||
                  !copy_changes(draft, running->own->entries))) {
        config_draft_free(draft);
        draft = NULL;
    }
    return build(draft, SIZE_MAX, errors);
}

int config_next_pending(const struct config *fresh, const struct config *running, int from)
{
    for (int i = from; i < CONFIG_OPTION_COUNT; i++)
        if (!config_option_row(i)->live && !config_same_value(fresh, running, i))
            return i;
    return -1;
}
