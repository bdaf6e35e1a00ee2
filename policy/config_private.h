/*
 * What the files of policy/config*.c share, and nobody else includes: the memory of a snapshot, the
 * parser's state, and the parts that config.c puts together.
 */
#ifndef POLICY_CONFIG_PRIVATE_H
#define POLICY_CONFIG_PRIVATE_H

#include "policy/config.h"

/* ---- config_memory.c: memory that is given back all at once ------------------------------------ */

struct config_chunk;

struct config_arena {
    struct config_chunk *chunks;
    bool failed; /* an allocation failed: whatever was made is incomplete */
};

/* n bytes, zeroed, aligned for anything; NULL (and failed) when out of memory. */
void *config_arena_get(struct config_arena *arena, size_t n);

/* count times size; checks the product. */
void *config_arena_array(struct config_arena *arena, size_t count, size_t size);

/* A copy with a NUL behind it. */
char *config_arena_copy(struct config_arena *arena, const char *p, size_t n);
void config_arena_free(struct config_arena *arena);

/* ---- config_print.c: text made piece by piece -------------------------------------------------- */

/* Writes into buf[room] what fits, its NUL included, and counts all. */
struct config_out {
    char *buf;
    size_t room;
    size_t length;
};

void config_out_text(struct config_out *out, const char *text);

/* In double quotes, escaped as in JSON. */
void config_out_quoted(struct config_out *out, const char *text);

/* A value of this row at this address, as config_print_value() says; `mask` hides secrets in URLs. */
void config_out_value(struct config_out *out, const struct config_option_row *row, const void *value,
                      bool mask);

/* True when both values of this row are the same. */
bool config_value_same(const struct config_option_row *row, const void *a, const void *b);

/* ---- config_value.c: one scalar ---------------------------------------------------------------- */

/* What a parse of one value needs and what comes out of it when the value is bad. */
struct config_parse {
    struct config_arena *arena;
    config_look look; /* NULL: files are not looked at */
    char what[768];   /* "what is wrong, what is allowed" */
};

/* Reads `text` as the row's type into *value (at row->offset of the snapshot). False with `what` set. */
bool config_value_parse(struct config_parse *parse, const struct config_option_row *row, const char *text,
                        void *value);

/* One member of a LIST or RETRY_ON: checks it; for RETRY_ON enters it into *value too. */
bool config_member_parse(struct config_parse *parse, const struct config_option_row *row, const char *text,
                         void *value);

/* Sets `what`; returns false, so that a parser can return it. */
bool config_refuse(struct config_parse *parse, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* `text` fit for an error: in quotes, shortened, without control characters. Kept in buf. */
#define CONFIG_SHOWN 80
const char *config_shown(const char *text, char buf[CONFIG_SHOWN]);

/* Well-formed UTF-8 without control characters (line ends and tabs, too, unless `lines`). */
bool config_text_clean(const char *text, bool lines);

/* ---- config_address.c -------------------------------------------------------------------------- */

bool config_address_parse(struct config_parse *parse, const char *text, struct config_address *out);
bool config_url_parse(struct config_parse *parse, const char *text, struct config_url *out);

/* ---- config_table.c ---------------------------------------------------------------------------- */

/* True when some option's key begins with `key` and a dot. */
bool config_is_section(const char *key);

/* Says what is wrong with an unknown key: the nearest known one, or what its section allows. */
void config_unknown_key(const char *key, char *what, size_t n);

/* ---- config_items.c: lists of mappings --------------------------------------------------------- */

struct config_draft {
    struct config_arena arena;
    struct config_entry *entries;
    size_t count;
    size_t room;
    config_look look;
};

struct config_private {
    unsigned references;          /* atomic */
    struct config_arena arena;    /* values */
    struct config_draft *entries; /* all that it was made from: a changed snapshot is made from these again */
    struct config_place places[CONFIG_OPTION_COUNT];
};

/* A snapshot while it is made. */
struct config_build {
    struct config *cfg;
    const struct config *defaults; /* the same snapshot before any entry */
    struct config_arena *arena;
    const struct config_draft *draft;
    struct config_errors *errors;
    struct config_place *places;     /* one for each option */
    bool bad[CONFIG_OPTION_COUNT];   /* had an error: combinations with it are not judged */
    size_t look_from;                /* files that earlier entries name are not looked at */
    const struct config_entry *skip; /* what stands beneath this entry was reported with it */
};

/* The entries of one list: the members of draft->entries[first ... end), all of `option`. */
struct config_run {
    int option;
    size_t first;
    size_t end;
};

void config_routes_read(struct config_build *build, const struct config_run *run);
void config_alerts_read(struct config_build *build, const struct config_run *run);
void config_webhooks_read(struct config_build *build, const struct config_run *run);

/* True when `key` is "parent.x" or "parent[0]"; a NULL parent has nobody under it. */
bool config_key_under(const char *key, const char *parent);

/* Where the entry's key stands. */
struct config_place config_key_place(const struct config_entry *entry);

/* Adds an error of an option at the entry's value, and marks the option. */
void config_build_error(struct config_build *build, int option, const struct config_entry *entry,
                        const char *what);

/* ---- config_check.c: combinations -------------------------------------------------------------- */

void config_check(struct config_build *build);

#endif
