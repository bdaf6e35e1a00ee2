/*
 * What is generated from the table of commands: shell completion and the manual page.
 * Invariant: no command or option stands here; all come out of the table.
 */
#include <ctype.h>
#include <string.h>

#include "metrics/cli/cli.h"

/* Calls back for each option of "window= all ...". */
static void each_flag(const char *list,
                      void (*see)(const char *name, size_t n, bool takes, const char *command),
                      const char *command)
{
    for (const char *p = list; *p; p += *p == ' ') {
        size_t n = strcspn(p, " =");
        if (n)
            see(p, n, p[n] == '=', command);
        p += n + (p[n] == '=');
    }
}

static void bash_flag(const char *name, size_t n, bool takes, const char *command)
{
    (void)takes;
    (void)command;
    printf(" --%.*s", (int)n, name);
}

static void zsh_flag(const char *name, size_t n, bool takes, const char *command)
{
    (void)command;
    printf(" '--%.*s%s'", (int)n, name, takes ? "=:value:_files" : "");
}

static void fish_flag(const char *name, size_t n, bool takes, const char *command)
{
    printf("complete -c promptops-perf -l %.*s%s", (int)n, name, takes ? " -r" : "");
    if (command)
        printf(" -n '__fish_seen_subcommand_from %s'", command);
    putchar('\n');
}

/* Words behind the command in its usage: "stats | entries | purge ...". */
static void put_words(const char *usage)
{
    for (const char *p = usage; *p;) {
        size_t n = strcspn(p, " |[]");
        if (n && islower((unsigned char)*p))
            printf(" %.*s", (int)n, p);
        p += n;
        p += strspn(p, " |[]");
    }
}

static void bash(void)
{
    fputs("_promptops_perf() {\n"
          "    local current=${COMP_WORDS[COMP_CWORD]} command= word words=\n"
          "    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
          "        case $word in -*) ;; *) command=$word; break ;; esac\n"
          "    done\n"
          "    case ${COMP_WORDS[COMP_CWORD-1]} in\n"
          "    --format) COMPREPLY=($(compgen -W 'table json csv' -- \"$current\")); return ;;\n"
          "    --output|--token-file|--check) COMPREPLY=($(compgen -f -- \"$current\")); return ;;\n"
          "    esac\n"
          "    case $command in\n",
          stdout);
    for (const struct command *c = commands; c->name; c++) {
        printf("    %s) words='", c->name);
        each_flag(c->flags, bash_flag, NULL);
        put_words(c->usage);
        fputs("' ;;\n", stdout);
    }
    fputs("    *) words='", stdout);
    for (const struct command *c = commands; c->name; c++)
        printf(" %s", c->name);
    fputs("' ;;\n    esac\n    COMPREPLY=($(compgen -W \"$words", stdout);
    each_flag(flags_everywhere, bash_flag, NULL);
    fputs("\" -- \"$current\"))\n}\ncomplete -F _promptops_perf promptops-perf\n", stdout);
}

static void zsh(void)
{
    fputs("#compdef promptops-perf\n_promptops_perf() {\n    local -a commands=(\n", stdout);
    for (const struct command *c = commands; c->name; c++)
        printf("        '%s:%s'\n", c->name, c->what);
    fputs("    )\n    local command=${words[(r)[a-z]*~promptops-perf]}\n"
          "    if (( CURRENT == 2 )); then _describe command commands; return; fi\n"
          "    case ${words[2]} in\n",
          stdout);
    for (const struct command *c = commands; c->name; c++) {
        printf("    %s) _arguments", c->name);
        each_flag(c->flags, zsh_flag, NULL);
        each_flag(flags_everywhere, zsh_flag, NULL);
        fputs(" ;;\n", stdout);
    }
    fputs("    esac\n}\n_promptops_perf \"$@\"\n", stdout);
}

static void fish(void)
{
    fputs("complete -c promptops-perf -f\n", stdout);
    for (const struct command *c = commands; c->name; c++)
        printf("complete -c promptops-perf -n __fish_use_subcommand -a %s -d '%s'\n", c->name, c->what);
    for (const struct command *c = commands; c->name; c++)
        each_flag(c->flags, fish_flag, c->name);
    each_flag(flags_everywhere, fish_flag, NULL);
}

enum exit_code run_completion(const struct args *a)
{
    const char *shell = a->word_count == 2 ? a->words[1] : "";
    if (strcmp(shell, "bash") == 0)
        bash();
    else if (strcmp(shell, "zsh") == 0)
        zsh();
    else if (strcmp(shell, "fish") == 0)
        fish();
    else
        return complain("say one of: completion bash, completion zsh, completion fish"), EXIT_USAGE;
    return EXIT_GOOD;
}

/* Text for roff: no line begins a request, no dash is a hyphen. */
static void put_roff(const char *s)
{
    for (; *s; s++) {
        if (*s == '-' || *s == '\\')
            putchar('\\');
        if (*s == '\\')
            putchar('e');
        else
            putchar(*s);
    }
}

enum exit_code run_manual(const struct args *a)
{
    (void)a;
    fputs(".TH PROMPTOPS\\-PERF 1\n.SH NAME\npromptops\\-perf \\- watch, measure and change a running "
          "promptops\\-sidecar\n.SH SYNOPSIS\n.B promptops\\-perf\n.I COMMAND\n[OPTIONS]\n.SH COMMANDS\n",
          stdout);
    for (const struct command *c = commands; c->name; c++) {
        printf(".TP\n.B %s ", c->name);
        put_roff(c->usage);
        putchar('\n');
        put_roff(c->what);
        putchar('\n');
    }
    fputs(
        ".SH OPTIONS\nThese go anywhere.\n"
        ".TP\n.BI \\-\\-admin \" URL\"\nThe admin port: http://host:port, https://host:port, host:port or "
        "unix:/path.\n"
        ".TP\n.BI \\-\\-token\\-file \" FILE\"\nHolds the admin token.\n"
        ".TP\n.BI \\-\\-format \" FORMAT\"\ntable, json or csv.\n"
        ".TP\n.B \\-\\-no\\-color\nNo colours, as with NO_COLOR in the environment and in pipes.\n"
        ".SH EXIT STATUS\n0 good; 1 the sidecar answered an error, could not be reached, or a threshold was "
        "crossed; 2 usage.\n",
        stdout);
    return EXIT_GOOD;
}
