/* proxy/command_line.c: what arguments are taken and refused, and what the ends without a proxy print. */
#include "proxy/command_line.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define ARGS(...) ((const char *const[]){"promptops-sidecar", __VA_ARGS__, NULL})

static int parse(const char *const *args, struct command_line *cl)
{
    int n = 0;
    while (args[n])
        n++;
    int code = command_line_parse(n, (char **)args, cl);
    ck_assert((code == EXIT_GOOD) == (*cl->error == '\0'));
    return code;
}

static void refused(const char *const *args, const char *want)
{
    struct command_line cl;
    ck_assert_int_eq(parse(args, &cl), EXIT_USAGE);
    ck_assert_str_eq(cl.error, want);
    command_line_free(&cl);
}

START_TEST(nothing)
{
    struct command_line cl;
    const char *const none[] = {NULL};
    ck_assert_int_eq(parse(none, &cl), EXIT_GOOD);
    command_line_free(&cl);
    ck_assert_int_eq(parse(ARGS(NULL), &cl), EXIT_GOOD);
    ck_assert_int_eq(cl.command, COMMAND_RUN);
    ck_assert_ptr_null(cl.sources.file);
    ck_assert_uint_eq(cl.sources.flag_count, 0);
    ck_assert_ptr_nonnull(cl.sources.environment);
    command_line_free(&cl);
}
END_TEST

static void flag_is(const struct command_line *cl, size_t i, const char *want)
{
    const struct config_assignment *a = &cl->sources.flags[i];
    char got[200];
    ck_assert_uint_lt(i, cl->sources.flag_count);
    snprintf(got, sizeof got, "%s|%s|%s", a->flag, a->key, a->value);
    ck_assert_str_eq(got, want);
}

START_TEST(all_flags)
{
    struct command_line cl;
    ck_assert_int_eq(parse(ARGS("--config", "a.yaml", "--upstream=http://u/?a=b", "--listen", "l", "--admin=",
                                "--set", "a.b=c=d", "--set=x=", "--set", "y=--z", "--config=b.yaml"),
                           &cl),
                     EXIT_GOOD);
    ck_assert_str_eq(cl.sources.file, "b.yaml");
    ck_assert_uint_eq(cl.sources.flag_count, 6);
    flag_is(&cl, 0, "--upstream|upstream.url|http://u/?a=b");
    flag_is(&cl, 1, "--listen|listen.address|l");
    flag_is(&cl, 2, "--admin|admin.address|");
    flag_is(&cl, 3, "--set|a.b|c=d");
    flag_is(&cl, 4, "--set|x|");
    flag_is(&cl, 5, "--set|y|--z");
    command_line_free(&cl);
}
END_TEST

START_TEST(commands)
{
    struct command_line cl;
    static const struct {
        const char *one, *two;
        enum command want;
    } rows[] = {
        {"--check", NULL, COMMAND_CHECK},
        {"--print-config", NULL, COMMAND_PRINT_CONFIG},
        {"--version", NULL, COMMAND_VERSION},
        {"--help", NULL, COMMAND_HELP},
        {"-h", NULL, COMMAND_HELP},
        {"--print-options-markdown", NULL, COMMAND_PRINT_OPTIONS_MARKDOWN},
        {"--check", "--print-config", COMMAND_CHECK},
        {"--check", "--help", COMMAND_HELP},
        {"--help", "--check", COMMAND_HELP},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        ck_assert_int_eq(parse(ARGS(rows[i].one, rows[i].two), &cl), EXIT_GOOD);
        ck_assert_int_eq(cl.command, rows[i].want);
        command_line_free(&cl);
    }
}
END_TEST

START_TEST(refusals)
{
    refused(ARGS("--lsten", "x"), "--lsten: unknown flag, did you mean --listen?");
    refused(ARGS("--chek"), "--chek: unknown flag, did you mean --check?");
    refused(ARGS("--zzzzzzzzzzz=5"), "--zzzzzzzzzzz: unknown flag");
    refused(ARGS("run"), "run: is not a flag; all arguments begin with --");
    refused(ARGS(""), ": is not a flag; all arguments begin with --");
    refused(ARGS("--listen"), "--listen: needs a value: --listen ADDR");
    refused(ARGS("--check=yes"), "--check: takes no value");
    refused(ARGS("--set", "novalue"), "--set: \"novalue\" is not KEY=VALUE");
    refused(ARGS("--set", "=x"), "--set: \"=x\" is not KEY=VALUE");
}
END_TEST

/* Runs the arguments; returns the exit code, and in *out and *err what was printed. Free both. */
static int act(const char *const *args, char **out, char **err)
{
    struct command_line cl;
    size_t n, m;
    char *nobody[] = {NULL};
    ck_assert_int_eq(parse(args, &cl), EXIT_GOOD);
    cl.sources.environment = nobody;
    FILE *o = open_memstream(out, &n), *e = open_memstream(err, &m);
    ck_assert(o && e);
    int code = command_line_act(&cl, o, e);
    ck_assert(fclose(o) == 0 && fclose(e) == 0);
    command_line_free(&cl);
    return code;
}

START_TEST(check_good_and_bad)
{
    char *out, *err;
    ck_assert_int_eq(act(ARGS("--check"), &out, &err), EXIT_GOOD);
    ck_assert_str_eq(out, "promptops-sidecar: the configuration is good\n");
    ck_assert_str_eq(err, "");
    free(out);
    free(err);
    ck_assert_int_eq(act(ARGS("--check", "--set", "workers=0", "--listen", "x"), &out, &err), EXIT_USAGE);
    ck_assert_str_eq(out, "");
    ck_assert_str_eq(err,
                     "--set: workers: \"0\" is out of bounds, allowed: auto, or 1 to 256\n"
                     "--listen: listen.address: \"x\" is not an address, allowed: host:port, [v6]:port or "
                     "unix:/path\n");
    free(out);
    free(err);
}
END_TEST

START_TEST(print_config)
{
    char *out, *err;
    ck_assert_int_eq(
        act(ARGS("--print-config", "--listen", "127.0.0.1:1", "--set", "cache.default_ttl=60"), &out, &err),
        EXIT_GOOD);
    ck_assert_str_eq(err, "");
    ck_assert_ptr_nonnull(strstr(out, "\n  address: \"127.0.0.1:1\"                    # --listen\n"));
    ck_assert_ptr_nonnull(strstr(out, "\n  default_ttl: 1m                           # --set\n"));
    free(out);
    free(err);
    ck_assert_int_eq(act(ARGS("--print-config", "--listen", "x"), &out, &err), EXIT_USAGE);
    ck_assert_str_eq(out, "");
    free(out);
    free(err);
}
END_TEST

START_TEST(help_and_version)
{
    char *out, *err;
    ck_assert_int_eq(act(ARGS("--version"), &out, &err), EXIT_GOOD);
    ck_assert(strncmp(out, "promptops-sidecar ", 18) == 0);
    free(out);
    free(err);
    ck_assert_int_eq(act(ARGS("--help"), &out, &err), EXIT_GOOD);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        char line[128];
        const struct config_option_row *row = config_option_row(i);
        snprintf(line, sizeof line, "\n  %s: ", row->key);
        ck_assert_msg((strstr(out, line) != NULL) == row->ready, "%s", row->key);
    }
    free(out);
    free(err);
}
END_TEST

START_TEST(markdown)
{
    char *out, *err;
    ck_assert_int_eq(act(ARGS("--print-options-markdown"), &out, &err), EXIT_GOOD);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        char line[128];
        snprintf(line, sizeof line, "\n| `%s` | `", config_option_row(i)->key);
        ck_assert_ptr_nonnull(strstr(out, line));
    }
    ck_assert_ptr_nonnull(
        strstr(out, "\nAn entry of `routes`:\n\n| key | meaning |\n|---|---|\n| `match.path` | "));
    free(out);
    free(err);
}
END_TEST

START_TEST(a_full_disk_is_a_failure)
{
    struct command_line cl;
    FILE *full = fopen("/dev/full", "w");
    ck_assert_ptr_nonnull(full);
    ck_assert_int_eq(parse(ARGS("--version"), &cl), EXIT_GOOD);
    ck_assert_int_eq(command_line_act(&cl, full, full), EXIT_RUN_TIME);
    command_line_free(&cl);
    fclose(full);
}
END_TEST

START_TEST(usage)
{
    struct command_line cl;
    char *text = NULL;
    size_t n;
    ck_assert_int_eq(parse(ARGS("--x"), &cl), EXIT_USAGE);
    FILE *e = open_memstream(&text, &n);
    ck_assert_ptr_nonnull(e);
    command_line_usage(&cl, e);
    fclose(e);
    ck_assert(strncmp(text, "promptops-sidecar: --x: unknown flag\nusage: ", 44) == 0);
    free(text);
    command_line_free(&cl);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("command_line");
    TCase *t = tcase_create("command_line");
    suite_add_tcase(s, t);
    tcase_add_test(t, nothing);
    tcase_add_test(t, all_flags);
    tcase_add_test(t, commands);
    tcase_add_test(t, refusals);
    tcase_add_test(t, check_good_and_bad);
    tcase_add_test(t, print_config);
    tcase_add_test(t, help_and_version);
    tcase_add_test(t, markdown);
    tcase_add_test(t, a_full_disk_is_a_failure);
    tcase_add_test(t, usage);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
