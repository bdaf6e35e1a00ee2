/*
 * Takes the command line apart and runs the command.
 * Invariants: whatever is wrong with the command line is told on standard error together with what is
 * allowed, and ends with 2; nothing was asked of the sidecar then.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "metrics/cli/cli.h"

const struct command commands[] = {
    {"monitor", "duration= interval= web port=", "[--duration 60] [--interval 5] [--web [--port 8080]]",
     "watch the sidecar live", run_monitor},
    {"summary", "window=", "[--window 30]", "the main numbers of the last minutes", run_summary},
    {"export", "output= metric-type= start-time= end-time=",
     "[--output F] [--metric-type T] [--start-time T] [--end-time T]", "all retained history", run_export},
    {"optimize", "cache retry pool auto-apply", "[--cache] [--retry] [--pool] [--auto-apply]",
     "show or apply recommendations", run_optimize},
    {"benchmark", "duration= concurrent= iterations= prompt-id= url= rate= header= max-p99= max-errors=",
     "[--duration 60] [--concurrent 10] [--iterations N] [--prompt-id ID] [--url U] [--rate R] "
     "[--header F] [--max-p99 MS] [--max-errors SHARE]",
     "measure latency and throughput", run_benchmark},
    {"analyze", "recommendations issues trends requests request=",
     "[--recommendations] [--issues] [--trends] [--requests] [--request ID]", "find out what is wrong",
     run_analyze},
    {"alerts",
     "state= limit= seconds=", "[--state S] | history [--limit N] | silence ID [--seconds 3600] | remove ID",
     "alerts: how they stand, what happened, silence", run_alerts},
    {"config",
     "show get= set= unset= check=", "--show | --get KEY | --set KEY=VALUE | --unset KEY | --check FILE",
     "the effective configuration, and live changes", run_config},
    {"cache", "key= prefix= tag= all sort= limit=",
     "stats | entries | purge --key K|--prefix P|--tag T|--all", "the cache", run_cache},
    {"debug", "module= level= request-id= client= phase= seconds= off",
     "[--level L [--module M]] [--request-id ID] [--client ADDRESS] [--phase P] [--seconds 300] | --off",
     "log levels and traces of a live sidecar", run_debug},
    {"completion", "", "bash | zsh | fish", "completion for a shell", run_completion},
    {"manual", "", "", "the manual page, for man", run_manual},
    {NULL, NULL, NULL, NULL, NULL},
};

const char flags_everywhere[] = "admin= token-file= format= no-color help ";

void complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("promptops-perf: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

static void usage(FILE *out)
{
    fputs("usage: promptops-perf COMMAND [OPTIONS]\n\ncommands:\n", out);
    for (const struct command *c = commands; c->name; c++)
        fprintf(out, "  %-10s %s%s\n  %10s   %s\n", c->name, c->usage, c->run ? "" : "   (not built yet)", "",
                c->what);
    fputs("\nanywhere:\n"
          "  --admin URL        the admin port: http://host:port, host:port or unix:/path "
          "(http://127.0.0.1:9901)\n"
          "  --token-file FILE  holds the admin token\n"
          "  --format FORMAT    table, json or csv (table)\n"
          "  --no-color         no colours\n\n"
          "exit codes: 0 good, 1 the sidecar answered an error or could not be reached, 2 usage\n",
          out);
}

/* 1 when `name` is in the list and takes a value, 0 when it takes none, -1 when it is not there. */
static int flag_kind(const char *list, const char *name, size_t n)
{
    for (const char *p = list; *p; p += *p == ' ') {
        size_t length = strcspn(p, " =");
        bool takes = p[length] == '=';
        if (length == n && strncmp(p, name, n) == 0)
            return takes;
        p += length + takes;
    }
    return -1;
}

static const struct command *find_command(const char *name)
{
    for (const struct command *c = commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

const char *args_flag(const struct args *a, const char *name)
{
    for (int i = a->flag_count - 1; i >= 0; i--)
        if (strcmp(a->flags[i].name, name) == 0)
            return a->flags[i].value ? a->flags[i].value : "";
    return NULL;
}

/* What a flag that any command may have is for. False when it is none of them; complains about a bad value by
 * *bad. */
static bool take_everywhere(struct args *a, const char *name, const char *value, bool *bad)
{
    static const char *const formats[] = {
        [FORMAT_TABLE] = "table", [FORMAT_JSON] = "json", [FORMAT_CSV] = "csv"};
    if (strcmp(name, "admin") == 0)
        a->admin = value;
    else if (strcmp(name, "token-file") == 0)
        a->token_file = value;
    else if (strcmp(name, "no-color") == 0)
        a->color = false;
    else if (strcmp(name, "help") == 0)
        a->help = true;
    else if (strcmp(name, "format") != 0)
        return false;
    else {
        unsigned i = 0;
        while (i < 3 && strcmp(value, formats[i]) != 0)
            i++;
        *bad = i == 3;
        a->format = (enum format)(i % 3);
        if (*bad)
            complain("--format %s: not a format; take table, json or csv", value);
    }
    return true;
}

/* Reads `--name`, `--name=value` or `--name value`. Returns how many arguments that were, 0 when something is
 * wrong. */
static int take_flag(struct args *a, char **argv, const struct command *command)
{
    char *name = argv[0] + 2, *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    int kind = flag_kind(flags_everywhere, name, n);
    if (kind < 0 && command)
        kind = flag_kind(command->flags, name, n);
    if (kind < 0) {
        complain("--%.*s is not an option%s%s%s", (int)n, name,
                 command ? " of " : "; see promptops-perf --help", command ? command->name : "", "");
        if (command)
            complain("usage: promptops-perf %s %s", command->name, command->usage);
        return 0;
    }
    char *value = equals ? equals + 1 : kind ? argv[1] : NULL;
    if (!kind != !value) {
        complain(kind ? "--%.*s needs a value" : "--%.*s takes no value", (int)n, name);
        return 0;
    }
    name[n] = '\0';
    bool bad = false;
    if (!take_everywhere(a, name, value, &bad)) {
        if (a->flag_count == MAX_FLAGS) {
            complain("too many options");
            return 0;
        }
        a->flags[a->flag_count].name = name;
        a->flags[a->flag_count++].value = value;
    }
    return bad ? 0 : kind && !equals ? 2 : 1;
}

/* The first word: options may stand before it, and are judged by it. */
static const struct command *command_of(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0)
            return find_command(argv[i]);
        size_t n = strlen(argv[i] + 2);
        i += flag_kind(flags_everywhere, argv[i] + 2, n) == 1;
    }
    return NULL;
}

static bool parse(int argc, char **argv, const struct command *command, struct args *a)
{
    for (int i = 1; i < argc;) {
        if (strncmp(argv[i], "--", 2) == 0 && argv[i][2]) {
            int taken = take_flag(a, argv + i, command);
            if (!taken)
                return false;
            i += taken;
            continue;
        }
        if (a->word_count == MAX_WORDS || *argv[i] == '-') {
            complain("%s: not understood; see promptops-perf --help", argv[i]);
            return false;
        }
        a->words[a->word_count++] = argv[i++];
    }
    return true;
}

static void say_commands(const char *wrong)
{
    char list[256] = "";
    for (const struct command *c = commands; c->name; c++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", c->name);
    }
    if (wrong)
        complain("%s is not a command; there are %s", wrong, list);
    else
        complain("which command? There are %s", list);
}

int main(int argc, char **argv)
{
    struct args a = {.admin = "http://127.0.0.1:9901", .color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR")};
    const struct command *command = command_of(argc, argv);
    if (!parse(argc, argv, command, &a))
        return EXIT_USAGE;
    if (a.help) {
        usage(stdout);
        return EXIT_GOOD;
    }
    if (!command) {
        say_commands(a.word_count ? a.words[0] : NULL);
        return EXIT_USAGE;
    }
    if (!command->run) {
        complain("%s is not built yet in this version", command->name);
        return EXIT_USAGE;
    }
    enum exit_code code = command->run(&a);
    if (fflush(stdout) != 0 && code == EXIT_GOOD) {
        complain("the output could not be written");
        return EXIT_REFUSED;
    }
    return (int)code;
}
