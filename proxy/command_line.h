/*
 * The command line of promptops-sidecar, and what it does without becoming a proxy: --check,
 * --print-config, --health, --help, --version.
 */
#ifndef PROXY_COMMAND_LINE_H
#define PROXY_COMMAND_LINE_H

#include <stdio.h>

#include "proxy/config_file.h"

enum command {
    COMMAND_RUN,
    COMMAND_CHECK,
    COMMAND_PRINT_CONFIG,
    COMMAND_VERSION,
    COMMAND_HELP,
    COMMAND_HEALTH,
    COMMAND_PRINT_SCHEMA,
    COMMAND_PRINT_OPTIONS_MARKDOWN /* --print-options-markdown: the README's table; not in --help */
};

enum { EXIT_GOOD = 0, EXIT_RUN_TIME = 1, EXIT_USAGE = 2 };

struct command_line {
    enum command command;
    const char *health;            /* COMMAND_HEALTH: the URL to ask; NULL: the configuration's admin port */
    struct config_sources sources; /* file and flags; environment is the process's */
    struct config_assignment *assignments;
    char *keys;      /* memory of the keys of --set */
    char error[320]; /* what is wrong with the command line; "" = nothing */
};

/*
 * Reads the arguments, which must outlive *out. Returns 0, or 2 (EXIT_USAGE) with a sentence in
 * out->error. The environment is `environ`. End with command_line_free() in both cases.
 */
int command_line_parse(int argc, char **argv, struct command_line *out) MUSTCHECK;
void command_line_free(struct command_line *cl);

/* Does what is not COMMAND_RUN: writes to `out` and `err`. Returns the exit code. */
int command_line_act(const struct command_line *cl, FILE *out, FILE *err);

/* Prints out->error and a short usage. For an exit with 2. */
void command_line_usage(const struct command_line *cl, FILE *err);

/* Prints each error on a line of its own. */
void config_print_errors(const struct config_errors *errors, FILE *err);

/* Prints every key with its value and where it came from, as YAML that --config reads again. */
void config_print_yaml(const struct config *cfg, FILE *out);

#endif
