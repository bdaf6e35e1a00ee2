/*
 * The configuration as the program uses it: struct config, an immutable snapshot with every value of
 * options.def as a plain member, and the calls that make, change and print one.
 *
 * Whoever reads a snapshot holds a reference on it; nothing in it ever changes, so threads share it
 * without a lock. A change (reload, admin port) makes a new snapshot. This file reads no file and no
 * environment: proxy/config_file.c does, and hands over entries (key, text, place).
 */
#ifndef POLICY_CONFIG_H
#define POLICY_CONFIG_H

#include "policy/alert_spec.h"
#include "policy/base.h"
#include "policy/route_spec.h"

/* ---- The types of options.def ------------------------------------------------------------------ */

struct config_address {
    const char *text; /* as written */
    const char *host; /* a name, an IPv4 address, or an IPv6 address without brackets; "" for a unix socket */
    uint16_t port;    /* 0: any free one */
    const char *path; /* of a unix socket; "" otherwise */
    bool loopback;    /* reachable from this machine only: 127/8, ::1, localhost, unix */
};

struct config_url {
    const char *text;      /* as written; "" = not set, and all else is empty too */
    bool tls;              /* https */
    const char *host;      /* without brackets */
    uint16_t port;         /* always set: 80 or 443 when the URL says none */
    const char *authority; /* as Host says it: brackets kept, the scheme's own port left out */
    const char *path;      /* what goes before every request's path: "" or "/x/y", no slash at its end */
    bool loopback;         /* the host is this machine: 127/8, ::1, localhost */
};

struct config_list {
    const char *const *items;
    size_t count;
};

struct config_retry_on {
    bool connect_failure;
    bool reset;
    bool timeout;
    uint64_t statuses[4]; /* bit s - 400 for status s; ask config_retries_status() */
};

struct config_routes {
    const struct route_spec *items;
    size_t count;
};

struct config_alerts {
    const struct alert_spec *items;
    size_t count;
};

struct config_webhooks {
    const struct webhook_spec *items;
    size_t count;
};

typedef tick_t config_DURATION;
typedef uint64_t config_SIZE;
typedef int64_t config_INT;
typedef int64_t config_AUTO;
typedef double config_REAL;
typedef bool config_BOOL;
typedef int config_ENUM;
typedef const char *config_STRING;
typedef const char *config_SECRET_URL;
typedef const char *config_READ_FILE;
typedef const char *config_WRITE_FILE;
typedef const char *config_DIRECTORY;
typedef struct config_address config_ADDRESS;
typedef struct config_url config_URL;
typedef struct config_list config_LIST;
typedef struct config_list config_DISGUISES;
typedef struct config_retry_on config_RETRY_ON;
typedef struct config_routes config_ROUTES;
typedef struct config_alerts config_ALERTS;
typedef struct config_webhooks config_WEBHOOKS;

enum config_type {
    CONFIG_TYPE_DURATION,
    CONFIG_TYPE_SIZE,
    CONFIG_TYPE_INT,
    CONFIG_TYPE_AUTO,
    CONFIG_TYPE_REAL,
    CONFIG_TYPE_BOOL,
    CONFIG_TYPE_ENUM,
    CONFIG_TYPE_STRING,
    CONFIG_TYPE_SECRET_URL,
    CONFIG_TYPE_READ_FILE,
    CONFIG_TYPE_WRITE_FILE,
    CONFIG_TYPE_DIRECTORY,
    CONFIG_TYPE_ADDRESS,
    CONFIG_TYPE_URL,
    CONFIG_TYPE_LIST,
    CONFIG_TYPE_DISGUISES,
    CONFIG_TYPE_RETRY_ON,
    CONFIG_TYPE_ROUTES,
    CONFIG_TYPE_ALERTS,
    CONFIG_TYPE_WEBHOOKS,
    CONFIG_TYPE_COUNT
};

/* enum config_log_level { CONFIG_LOG_LEVEL_ERROR, ... } and so on, one for each ENUM option. */
/* clang-format off */
#define CHOICES(member) enum config_##member {
#define CHOICE(prefix, name, text, state) CONFIG_##prefix##_##name,
#define CHOICES_END(member) };
/* clang-format on */
#include "policy/options.def"

/* CONFIG_OPTION_listen_address and so on: the number of an option. */
enum config_option {
#define OPTION(member, ...) CONFIG_OPTION_##member,
#include "policy/options.def"
    CONFIG_OPTION_COUNT
};

struct config {
#define OPTION(member, key, type, ...) config_##type member;
#include "policy/options.def"
    struct config_private *own; /* references, memory, origins: config.c's */
};

/* ---- Holding a snapshot ------------------------------------------------------------------------ */

/* Takes one more reference, from any thread; gives back its argument. */
const struct config *config_ref(const struct config *cfg);

/* Gives a reference up, from any thread; the last one frees everything. NULL is fine. */
void config_unref(const struct config *cfg);

/* True when an answer with this status is to be retried (retry.retry_on). */
static inline bool config_retries_status(const struct config *cfg, int status)
{
    unsigned bit = (unsigned)status - 400u;
    return bit < 200 && ((cfg->retry_retry_on.statuses[bit / 64] >> (bit % 64)) & 1);
}

/* ---- The options themselves -------------------------------------------------------------------- */

struct config_choice {
    const char *text;
    bool ready; /* false: refused in this version */
};

struct config_option_row {
    const char *key;
    enum config_type type;
    const char *preset; /* the default, as text */
    const char *least;  /* bounds as text, "" = none */
    const char *most;
    bool live;      /* a change takes effect without a restart */
    bool ready;     /* false: refused in this version unless it has its default */
    bool effective; /* false: accepted, but without effect in this version */
    const char *unit;
    const char *help;
    size_t offset;                       /* in struct config */
    const struct config_choice *choices; /* ENUM: ends with a NULL text; else NULL */
};

/* The row of an option, 0 <= option < CONFIG_OPTION_COUNT. Never NULL. */
const struct config_option_row *config_option_row(int option);

/* The number of the option with this key, or -1. */
int config_option_find(const char *key);

/* The option whose key is nearest to a mistyped one, or -1 when none is near. */
int config_option_nearest(const char *key);

/*
 * Fields of the items of a list of mappings, for documentation: the i-th one's name ("match.path") and
 * in *help what it is; NULL behind the last, and for an option that is no such list.
 */
const char *config_item_help(int option, size_t i, const char **help);

/* ---- Errors ------------------------------------------------------------------------------------ */

/* All that is wrong, gathered. Start with all zero; config_errors_free() when done. */
struct config_errors {
    char **items; /* "FILE:LINE:COLUMN: key.path: what is wrong, what is allowed" */
    size_t count;
    size_t room;
    size_t left_out;    /* errors beyond CONFIG_MAX_ERRORS, counted only */
    bool out_of_memory; /* an error could not be kept, or the snapshot not be made */
};

#define CONFIG_MAX_ERRORS 100

bool config_errors_any(const struct config_errors *errors);
void config_errors_free(struct config_errors *errors);

/* ---- Making a snapshot ------------------------------------------------------------------------- */

/* Where a value comes from, in order of precedence. */
enum config_source {
    CONFIG_FROM_DEFAULT,
    CONFIG_FROM_FILE,
    CONFIG_FROM_ENVIRONMENT,
    CONFIG_FROM_FLAG,
    CONFIG_FROM_CHANGE /* config_with() */
};

struct config_place {
    enum config_source source;
    const char *name; /* the file's, the variable's or the flag's */
    int line;         /* from 1; 0 unless it is a file */
    int column;
};

enum config_shape {
    CONFIG_SCALAR,
    CONFIG_NOTHING,  /* a key without a value (YAML null) */
    CONFIG_SEQUENCE, /* a list begins; its members follow as key[0], key[1], ... */
    CONFIG_MAPPING   /* a mapping begins; its members follow as key.name */
};

struct config_entry {
    const char *key;   /* "cache.targets[0]", "routes[2].match.path" */
    const char *value; /* SCALAR: the text; otherwise ignored */
    enum config_shape shape;
    struct config_place place; /* of the value; of the key when a list or a mapping begins */
    int key_line;              /* of the key, for an error about the key itself; 0 = as the place */
    int key_column;
};

/* The entries gathered so far. Private to config.c. */
struct config_draft;

/* NULL when out of memory. Ends with config_draft_free(); NULL is fine there. */
struct config_draft *config_draft_new(void) MUSTCHECK;
void config_draft_free(struct config_draft *draft);

/*
 * Adds an entry; everything it points to is copied. Later entries win, so sources are put in order of
 * precedence. Nothing is judged yet. Returns false when out of memory.
 */
bool config_draft_put(struct config_draft *draft, const struct config_entry *entry) MUSTCHECK;

/*
 * Says whether a file that an option of type READ_FILE, WRITE_FILE or DIRECTORY names can be used so;
 * if not, puts the reason into why[n]. Handed in, because policy reads no files.
 */
typedef bool (*config_look)(enum config_type type, const char *path, char *why, size_t n);

/* Files are looked at through this when the draft is built, and when its snapshot is changed. */
void config_draft_look(struct config_draft *draft, config_look look);

/*
 * Judges all entries over the defaults: unknown keys, types, bounds, combinations. Adds every error.
 * Returns a snapshot with one reference, or NULL when there is any error, those that were there before
 * (of reading the file) included. The draft stays the caller's.
 */
const struct config *config_draft_build(const struct config_draft *draft,
                                        struct config_errors *errors) MUSTCHECK;

/* Adds one error of this form; key may be NULL. For the readers in proxy/. */
void config_errors_add(struct config_errors *errors, const struct config_place *place, const char *key,
                       const char *format, ...) __attribute__((format(printf, 4, 5)));

/*
 * A new snapshot like `cfg` with one key changed while running. A LIST or RETRY_ON takes
 * "[a, b]" or "a, b". Refuses unknown keys, keys that need a restart, lists of mappings (routes, alerts,
 * webhooks) and all that a file would be refused for; the sentence goes to `errors`. NULL then.
 */
const struct config *config_with(const struct config *cfg, const char *key, const char *value,
                                 struct config_errors *errors) MUSTCHECK;

struct config_change {
    const char *key;
    const char *value; /* NULL: the change made before is taken back, and what the sources say is in force */
};

/*
 * The same for several keys at once, judged together: all of them, or none. Each key at most once. Every
 * reason is added to `errors`.
 */
const struct config *config_with_all(const struct config *cfg, const struct config_change *changes, size_t n,
                                     struct config_errors *errors) MUSTCHECK;

/*
 * For a reload: `fresh` with the values that need a restart taken from `running`, and what was changed
 * while running laid over it. Returns a new snapshot
 * with one reference, or NULL with an error: a combination that only the restart would make good.
 */
const struct config *config_carry_over(const struct config *fresh, const struct config *running,
                                       struct config_errors *errors) MUSTCHECK;

/*
 * The first option at or after `from` that needs a restart and differs between the two, or -1. For
 * saying at a reload what did not take effect.
 */
int config_next_pending(const struct config *fresh, const struct config *running, int from);

/* True when the option has the same value in both. */
bool config_same_value(const struct config *a, const struct config *b, int option);

/*
 * The i-th thing that is allowed, but hardly what was meant, as a sentence "key: ..."; NULL behind the last.
 * For the log of a start or reload, and for --check.
 */
const char *config_warning(const struct config *cfg, size_t i);

/* ---- Showing a snapshot ------------------------------------------------------------------------ */

/* Where an option's value came from. / The same in words: "default", "config.yaml:12", "PROMPTOPS_SIDECAR_X",
 * "--listen". */
const struct config_place *config_place_of(const struct config *cfg, int option);
size_t config_origin(const struct config *cfg, int option, char *buf, size_t n);

/*
 * The value as JSON (which is YAML too): numbers and booleans bare, all else in double quotes, lists and
 * mappings in flow form. Secrets in URLs are masked. Like snprintf: returns the length that it needs.
 */
size_t config_print_value(const struct config *cfg, int option, char *buf, size_t n);

/* The same for one item of a list of mappings; 0 behind the last, and for an option that is no such list. */
size_t config_print_item(const struct config *cfg, int option, size_t i, char *buf, size_t n);

#endif
