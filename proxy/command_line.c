/*
 * Reads argv, and does what ends without a proxy. Invariants: every argument is either understood or
 * named in out->error; a flag that takes a value takes it as --flag=value or --flag value; later
 * flags win over earlier ones.
 */
#include "proxy/command_line.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy/suggest.h"
#include "proxy/config_schema.h"
#include "proxy/config_trial.h"
#include "proxy/config_trust.h"
#include "proxy/health_probe.h"
#include "proxy/version.h"

enum { TAKES_FILE, TAKES_KEY, TAKES_SETTING, MAY_TAKE_URL, TAKES_NOTHING };

struct flag {
    const char *name;
    int takes;
    const char *key;      /* TAKES_KEY: what it sets */
    enum command command; /* TAKES_NOTHING: what it asks for */
    const char *value;    /* in --help */
    const char *help;     /* NULL: not shown */
};

static const struct flag flags[] = {
    {"--config", TAKES_FILE, NULL, COMMAND_RUN, "FILE", "read this YAML file"},
    {"--upstream", TAKES_KEY, "upstream.url", COMMAND_RUN, "URL", "the API (upstream.url)"},
    {"--listen", TAKES_KEY, "listen.address", COMMAND_RUN, "ADDR",
     "where the application connects (listen.address)"},
    {"--admin", TAKES_KEY, "admin.address", COMMAND_RUN, "ADDR",
     "where the admin port listens (admin.address)"},
    {"--set", TAKES_SETTING, NULL, COMMAND_RUN, "KEY=VALUE", "set any key; may be repeated"},
    {"--check", TAKES_NOTHING, NULL, COMMAND_CHECK, "", "read everything, print every error, and stop"},
    {"--print-config", TAKES_NOTHING, NULL, COMMAND_PRINT_CONFIG, "",
     "print all values and where each came from"},
    {"--print-schema", TAKES_NOTHING, NULL, COMMAND_PRINT_SCHEMA, "",
     "print a JSON Schema of the file, for editors"},
    {"--health", MAY_TAKE_URL, NULL, COMMAND_HEALTH, "[URL]",
     "ask URL, or the admin port of this configuration whether it is ready; ends with 0 or 1"},
    {"--version", TAKES_NOTHING, NULL, COMMAND_VERSION, "", "print the version"},
    {"--help", TAKES_NOTHING, NULL, COMMAND_HELP, "", "print this"},
    {"-h", TAKES_NOTHING, NULL, COMMAND_HELP, "", NULL},
    {"--print-options-markdown", TAKES_NOTHING, NULL, COMMAND_PRINT_OPTIONS_MARKDOWN, "", NULL},
};

static const struct flag *find_flag(const char *name, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (strlen(flags[i].name) == n && strncmp(flags[i].name, name, n) == 0)
            return &flags[i];
    return NULL;
}

static int refuse_unknown(struct command_line *out, const char *argument, size_t n)
{
    char typed[SUGGEST_MAX_LENGTH + 1];
    struct suggestion near = {.typed = typed};
    snprintf(typed, sizeof typed, "%.*s", (int)(n < sizeof typed ? n : sizeof typed - 1), argument);
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (flags[i].help)
            suggest_offer(&near, flags[i].name);
    if (*argument != '-')
        snprintf(out->error, sizeof out->error, "%s: is not a flag; all arguments begin with --", typed);
    else if (near.best)
        snprintf(out->error, sizeof out->error, "%s: unknown flag, did you mean %s?", typed, near.best);
    else
        snprintf(out->error, sizeof out->error, "%s: unknown flag", typed);
    return EXIT_USAGE;
}

/* Cuts "key=value" apart. The key is copied to the next free place of out->keys. */
static int add_setting(struct command_line *out, char **keys, const char *text)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text) {
        snprintf(out->error, sizeof out->error, "--set: \"%.80s\" is not KEY=VALUE", text);
        return EXIT_USAGE;
    }
    size_t n = (size_t)(equals - text);
    memcpy(*keys, text, n);
    (*keys)[n] = '\0';
    out->assignments[out->sources.flag_count++] = (struct config_assignment){*keys, equals + 1, "--set"};
    *keys += n + 1;
    return EXIT_GOOD;
}

static int take(struct command_line *out, const struct flag *flag, const char *value, char **keys)
{
    switch (flag->takes) {
    case TAKES_FILE:
        out->sources.file = value;
        return EXIT_GOOD;
    case TAKES_KEY:
        out->assignments[out->sources.flag_count++] =
            (struct config_assignment){flag->key, value, flag->name};
        return EXIT_GOOD;
    case TAKES_SETTING:
        return add_setting(out, keys, value);
    case MAY_TAKE_URL:
        out->health = value;
        /* fall through */
    default:
        /* --help and --version answer whatever else was asked for; the first of the others wins. */
        if (out->command == COMMAND_RUN || flag->command == COMMAND_HELP || flag->command == COMMAND_VERSION)
            out->command = flag->command;
        return EXIT_GOOD;
    }
}

/* Room for the worst case: every argument a --set. */
static bool make_room(struct command_line *out, int argc, char **argv)
{
    size_t bytes = 1;
    for (int i = 0; i < argc; i++)
        bytes += strlen(argv[i]) + 1;
    out->keys = malloc(bytes);
    out->assignments = calloc((size_t)argc + 1, sizeof *out->assignments);
    out->sources.flags = out->assignments;
    if (out->keys && out->assignments)
        return true;
    snprintf(out->error, sizeof out->error, "out of memory");
    return false;
}

int command_line_parse(int argc, char **argv, struct command_line *out)
{
    *out = (struct command_line){.sources.environment = environ};
    if (!make_room(out, argc, argv))
        return EXIT_USAGE;
    char *keys = out->keys;
    for (int i = 1; i < argc; i++) {
        size_t n = strcspn(argv[i], "=");
        const struct flag *flag = find_flag(argv[i], n);
        const char *value = argv[i][n] == '=' ? argv[i] + n + 1 : NULL;
        if (!flag)
            return refuse_unknown(out, argv[i], n);
        if (flag->takes == MAY_TAKE_URL && !value && i + 1 < argc && argv[i + 1][0] != '-')
            value = argv[++i];
        if (flag->takes == TAKES_NOTHING && value) {
            snprintf(out->error, sizeof out->error, "%s: takes no value", flag->name);
            return EXIT_USAGE;
        }
        bool needs = flag->takes != TAKES_NOTHING && flag->takes != MAY_TAKE_URL;
        if (needs && !value && i + 1 == argc) {
            snprintf(out->error, sizeof out->error, "%s: needs a value: %s %s", flag->name, flag->name,
                     flag->value);
            return EXIT_USAGE;
        }
        if (needs && !value)
            value = argv[++i];
        int code = take(out, flag, value, &keys);
        if (code != EXIT_GOOD)
            return code;
    }
    return EXIT_GOOD;
}

void command_line_free(struct command_line *cl)
{
    free(cl->assignments);
    free(cl->keys);
    *cl = (struct command_line){0};
}

void command_line_usage(const struct command_line *cl, FILE *err)
{
    if (*cl->error)
        fprintf(err, "promptops-sidecar: %s\n", cl->error);
    fputs("usage: promptops-sidecar [--config FILE] [--upstream URL] [--listen ADDR] [--admin ADDR]\n"
          "                         [--set key.path=value]... [--check] [--print-config] [--print-schema]\n"
          "                         [--health [URL]] [--version] [--help]\n",
          err);
}

static void print_choices(const struct config_option_row *row, FILE *out)
{
    for (const struct config_choice *c = row->choices; c && c->text; c++)
        if (c->ready)
            fprintf(out, "%s%s", c == row->choices ? "" : " | ", c->text);
}

static void print_help(FILE *out)
{
    struct command_line none = {0};
    command_line_usage(&none, out);
    fputs(
        "\nA reverse proxy that runs beside an application and stands between it and the PromptOps API.\n\n",
        out);
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (flags[i].help)
            fprintf(out, "  %-15s %-10s %s\n", flags[i].name, flags[i].value, flags[i].help);
    fputs("\nEach of the following keys can stand in the file, in the environment (PROMPTOPS_SIDECAR_ and "
          "the key\n"
          "in capitals, dots as double underscores: PROMPTOPS_SIDECAR_CACHE__DEFAULT_TTL=60), or behind "
          "--set.\n"
          "Flags win over the environment, the environment over the file, the file over the defaults.\n\n",
          out);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const struct config_option_row *row = config_option_row(i);
        if (!row->ready)
            continue;
        fprintf(out, "  %s: %s\n      %s", row->key, *row->preset ? row->preset : "\"\"", row->help);
        if (row->choices) {
            fputs(" One of ", out);
            print_choices(row, out);
            fputc('.', out);
        }
        fputs(row->live ? "\n" : " Needs a restart.\n", out);
    }
}

/* ---- The README's table ------------------------------------------------------------------------ */

/* A | would end the cell. */
static void print_cell(const char *text, FILE *out)
{
    for (; *text; text++) {
        if (*text == '|')
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void print_allowed(const struct config_option_row *row, FILE *out)
{
    static const char *const words[CONFIG_TYPE_COUNT] = {
        [CONFIG_TYPE_BOOL] = "`true`, `false`",
        [CONFIG_TYPE_STRING] = "text",
        [CONFIG_TYPE_SECRET_URL] = "URL",
        [CONFIG_TYPE_READ_FILE] = "file to read",
        [CONFIG_TYPE_WRITE_FILE] = "file to write",
        [CONFIG_TYPE_DIRECTORY] = "directory",
        [CONFIG_TYPE_ADDRESS] = "address",
        [CONFIG_TYPE_URL] = "URL",
        [CONFIG_TYPE_LIST] = "list",
        [CONFIG_TYPE_DISGUISES] = "list",
        [CONFIG_TYPE_RETRY_ON] = "list",
        [CONFIG_TYPE_ROUTES] = "list of mappings",
        [CONFIG_TYPE_ALERTS] = "list of mappings",
        [CONFIG_TYPE_WEBHOOKS] = "list of mappings",
    };
    if (row->type == CONFIG_TYPE_AUTO)
        fputs("`auto`, ", out);
    if (*row->least)
        fprintf(out, "%s to %s", row->least, row->most);
    for (const struct config_choice *c = row->choices; c && c->text; c++)
        if (c->ready)
            fprintf(out, "%s`%s`", c == row->choices ? "" : ", ", c->text);
    if (!*row->least && words[row->type])
        fputs(words[row->type], out);
    if (*row->unit)
        fprintf(out, " (%s)", row->unit);
}

static void print_item_fields(int option, FILE *out)
{
    const char *help, *name;
    if (!config_item_help(option, 0, &help))
        return;
    fprintf(out, "\nAn entry of `%s`:\n\n| key | meaning |\n|---|---|\n", config_option_row(option)->key);
    for (size_t i = 0; (name = config_item_help(option, i, &help)) != NULL; i++) {
        if (!*help)
            continue;
        fprintf(out, "| `%s` | ", name);
        print_cell(help, out);
        fputs(" |\n", out);
    }
}

static void print_markdown(FILE *out)
{
    fputs("| key | default | allowed | change | meaning |\n|---|---|---|---|---|\n", out);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const struct config_option_row *row = config_option_row(i);
        fprintf(out, "| `%s` | `%s` | ", row->key, *row->preset ? row->preset : "\"\"");
        print_allowed(row, out);
        fprintf(out, " | %s | ", row->live ? "live" : "restart");
        print_cell(row->help, out);
        fputs(row->effective ? " |\n"
              : row->ready   ? " *No effect in this version yet.* |\n"
                             : " *Not available in this version.* |\n",
              out);
    }
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        if (config_option_row(i)->ready)
            print_item_fields(i, out);
}

/* ---- What ends without a proxy ----------------------------------------------------------------- */

static int check_or_print(const struct command_line *cl, FILE *out, FILE *err)
{
    struct config_errors errors = {0};
    const struct config *cfg = config_load(&cl->sources, &errors);
    if (cfg && cl->command == COMMAND_CHECK)
        config_try_tls(cfg, &errors);
    int code = cfg && !config_errors_any(&errors) ? EXIT_GOOD : EXIT_USAGE;
    config_print_errors(&errors, err);
    for (size_t i = 0; cfg && config_warning(cfg, i); i++)
        fprintf(err, "warning: %s\n", config_warning(cfg, i));
    char text[4352];
    int option;
    for (size_t i = 0; cfg && config_trust_warning(cfg, i, &option, text, sizeof text); i++)
        fprintf(err, "warning: %s\n", text);
    if (cfg && cl->command == COMMAND_PRINT_CONFIG)
        config_print_yaml(cfg, out);
    else if (code == EXIT_GOOD)
        fprintf(out, "%s: the configuration is good\n",
                cl->sources.file ? cl->sources.file : "promptops-sidecar");
    config_errors_free(&errors);
    config_unref(cfg);
    return code;
}

static int health(const struct command_line *cl, FILE *out, FILE *err)
{
    struct config_errors errors = {0};
    const struct config *cfg = cl->health ? NULL : config_load(&cl->sources, &errors);
    int code = cl->health || cfg ? health_probe(cl->health, cfg, out, err) : EXIT_USAGE;
    config_print_errors(&errors, err);
    config_errors_free(&errors);
    config_unref(cfg);
    return code;
}

int command_line_act(const struct command_line *cl, FILE *out, FILE *err)
{
    int code = EXIT_GOOD;
    switch (cl->command) {
    case COMMAND_CHECK:
    case COMMAND_PRINT_CONFIG:
        code = check_or_print(cl, out, err);
        break;
    case COMMAND_HEALTH:
        code = health(cl, out, err);
        break;
    case COMMAND_VERSION:
        fprintf(out, "promptops-sidecar %s\n", PROMPTOPS_SIDECAR_VERSION);
        break;
    case COMMAND_HELP:
        print_help(out);
        break;
    case COMMAND_PRINT_SCHEMA:
        config_schema_print(out);
        break;
    case COMMAND_PRINT_OPTIONS_MARKDOWN:
        print_markdown(out);
        break;
    case COMMAND_RUN:
        break;
    }
    /* A full disk or a closed pipe must not look like success. */
    if (fflush(out) != 0 || ferror(out))
        return code == EXIT_GOOD ? EXIT_RUN_TIME : code;
    return code;
}
