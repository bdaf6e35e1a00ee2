/*
 * promptops-perf: asks a running sidecar's admin port, and shows the answers. Private to metrics/cli.
 */
#ifndef METRICS_CLI_CLI_H
#define METRICS_CLI_CLI_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct json_t; /* jansson's */

enum exit_code { EXIT_GOOD = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2 };
enum format { FORMAT_TABLE, FORMAT_JSON, FORMAT_CSV };

enum { MAX_FLAGS = 24, MAX_WORDS = 4 };

/* The command line, taken apart. Points into argv. */
struct args {
    const char *admin;      /* http://host:port, host:port or unix:/path */
    const char *token_file; /* NULL: none */
    enum format format;
    bool color;
    bool help;
    const char *words[MAX_WORDS]; /* command, and what follows it */
    int word_count;
    struct {
        const char *name;  /* without the two dashes */
        const char *value; /* NULL: takes none */
    } flags[MAX_FLAGS];
    int flag_count;
};

/* Value of a flag ("" for one that takes none), or NULL when it was not given. The last one counts. */
const char *args_flag(const struct args *a, const char *name);

struct command {
    const char *name;
    const char *flags; /* "window= recommendations ...": `=` takes a value */
    const char *usage; /* behind the name */
    const char *what;
    enum exit_code (*run)(const struct args *a); /* NULL: not built yet */
};

extern const struct command commands[]; /* ended by a NULL name */

/* Options that go anywhere, in the form of command.flags. */
extern const char flags_everywhere[];

enum exit_code run_monitor(const struct args *a);
enum exit_code run_export(const struct args *a);
enum exit_code run_optimize(const struct args *a);
enum exit_code run_analyze(const struct args *a);
enum exit_code run_benchmark(const struct args *a);
enum exit_code run_debug(const struct args *a);
enum exit_code run_alerts(const struct args *a);
enum exit_code run_completion(const struct args *a);
enum exit_code run_manual(const struct args *a);
enum exit_code run_summary(const struct args *a);
enum exit_code run_config(const struct args *a);
enum exit_code run_cache(const struct args *a);

/*
 * Asks the admin port: `method` GET, POST, PUT, PATCH or DELETE, `path` with its query, `body` as JSON or
 * NULL. A new reference, or NULL after the reason was told on standard error.
 */
struct json_t *ask(const struct args *a, const char *method, const char *path, const struct json_t *body);

/* Sets where a handle of libcurl goes: a path of the admin port. */
void ask_set_url(void *curl, const char *admin, const char *path);

/* Asks for a path and writes what comes, whatever its form, to `out`. False after the reason was told. */
bool ask_raw(const struct args *a, const char *path, FILE *out);

/* A query's value, or a segment of a path, with every byte escaped; cut to the room. */
void escape_query(const char *s, char *out, size_t room);

/* "Authorization: Bearer ..." out of the token's file. False after complaining. */
enum { TOKEN_FIELD_MAX = 1024 + 64 };
bool read_token(const char *path, char out[TOKEN_FIELD_MAX]);

/* web.c: serves the admin port, and with it the dashboard, on 127.0.0.1:port until *ended. */
enum exit_code serve_web(const struct args *a, unsigned port, const volatile sig_atomic_t *ended);

/* Writes a message to standard error, after the program's name. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- showing ---- */

/* One line of a two-column table: where the value is ("cost.bytes_saved") and how people read it. */
enum unit { UNIT_PLAIN, UNIT_SHARE, UNIT_SECONDS, UNIT_BYTES, UNIT_MEGABYTES, UNIT_PERCENT, UNIT_RATE };
struct line {
    const char *label;
    const char *path;
    enum unit unit;
};

/* The value at a path by dots; NULL when there is none. Borrowed. */
const struct json_t *at_path(const struct json_t *tree, const char *path);

/* Shows the tree: JSON as it is; CSV as name,value of every leaf; a table of `lines`, or with NULL of every
 * leaf. */
void show_values(const struct args *a, const struct json_t *tree, const struct line *lines);

/* Shows a list of objects, one a row; `columns` is a blank-separated list of members, or
 * of paths by dots. */
void show_rows(const struct args *a, const struct json_t *list, const char *columns);

#endif
