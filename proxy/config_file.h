/*
 * Where the configuration comes from: a YAML file, the environment and flags, put over the defaults.
 * Reads files and looks whether named files are usable; policy/config.h judges the values.
 */
#ifndef PROXY_CONFIG_FILE_H
#define PROXY_CONFIG_FILE_H

#include "policy/config.h"

/* One key set on the command line. */
struct config_assignment {
    const char *key;
    const char *value;
    const char *flag; /* as it is named in errors and origins: "--set", "--listen" */
};

/* All that is needed to load, and later to load again. Everything is borrowed: argv and environ live long. */
struct config_sources {
    const char *file;         /* of --config; NULL = none */
    char *const *environment; /* "NAME=value", NULL at its end; NULL = none */
    const struct config_assignment *flags;
    size_t flag_count;
};

/*
 * Reads all sources, in order of precedence: defaults < file < environment < flags. Returns a snapshot
 * with one reference, or NULL with every error found. Blocks on the file system.
 */
const struct config *config_load(const struct config_sources *sources,
                                 struct config_errors *errors) MUSTCHECK;

/* The options whose new values wait for a restart. */
struct config_pending {
    int options[CONFIG_OPTION_COUNT];
    size_t count;
};

/*
 * The same for a reload: options that need a restart keep what `running` has; *pending (may be NULL)
 * gets those among them that were changed. NULL when the new configuration is bad: go on with the
 * running one.
 */
const struct config *config_reload(const struct config_sources *sources, const struct config *running,
                                   struct config_errors *errors, struct config_pending *pending) MUSTCHECK;

/* A YAML text in memory, as from --config. */
struct config_text {
    const unsigned char *bytes;
    size_t n;
    const char *key;           /* the key that the text is the value of; "" = it is a whole configuration */
    struct config_place place; /* source and name; line 0 counts lines, any other stands for all entries */
};

/*
 * Puts the text's entries into the draft. UTF-8, one document, at most 1 MiB, bounded depth, aliases and
 * nodes; refused otherwise, with the place. Returns false when it added an error.
 */
bool config_read_yaml(const struct config_text *text, struct config_draft *draft,
                      struct config_errors *errors);

/* Whether a file that an option names is usable as its type wants. If not, says why. A config_look. */
bool config_file_usable(enum config_type type, const char *path, char *why, size_t n);

/* "PROMPTOPS_SIDECAR_CACHE__DEFAULT_TTL" for cache.default_ttl. Returns its length, like snprintf. */
size_t config_variable_name(const char *key, char *buf, size_t n);

#endif
