/*
 * proxy/config_trust.c over real files: who else can read or change them, and how long the admin token is.
 */
#include "proxy/config_trust.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/config_file.h"

static char directory[64];

static const char *const names[] = {"key", "token", "config.yaml", "tier"};

static void set_up(void)
{
    strcpy(directory, "/tmp/test_trust_XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void tear_down(void)
{
    char path[128];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        if (unlink(path) != 0)
            rmdir(path);
    }
    ck_assert_int_eq(rmdir(directory), 0);
}

static void make(char path[128], const char *name, const char *text, mode_t mode)
{
    snprintf(path, 128, "%s/%s", directory, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert(fputs(text, f) >= 0);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(chmod(path, mode), 0);
}

/* Loads with these settings ("key" then "value", NULL at the end); what is said first, in a static buffer. */
static const char *said(const char *file, const char *const settings[])
{
    static char text[1024];
    struct config_assignment flags[8];
    struct config_sources sources = {.file = file, .flags = flags};
    struct config_errors errors = {0};
    int option;
    for (; settings[2 * sources.flag_count]; sources.flag_count++)
        flags[sources.flag_count] = (struct config_assignment){settings[2 * sources.flag_count],
                                                               settings[2 * sources.flag_count + 1], "--set"};
    const struct config *cfg = config_load(&sources, &errors);
    strcpy(text, "");
    if (!cfg)
        snprintf(text, sizeof text, "refused: %s", errors.items[0]);
    else if (config_trust_warning(cfg, 0, &option, text, sizeof text))
        ck_assert(!config_trust_warning(cfg, 1, &option, (char[1]){0}, 1));
    else
        ck_assert_str_eq(text, "");
    config_errors_free(&errors);
    config_unref(cfg);
    return text;
}

#define SAID(file, ...) said(file, (const char *const[]){__VA_ARGS__, NULL, NULL})

START_TEST(keys)
{
    char key[128];
    make(key, "key", "po_key", 0600);
    ck_assert_str_eq(SAID(NULL, "auth.scheme", "bearer", "auth.api_key_file", key), "");
    ck_assert_int_eq(chmod(key, 0640), 0);
    ck_assert_str_eq(SAID(NULL, "auth.scheme", "bearer", "auth.api_key_file", key), "");
    ck_assert_int_eq(chmod(key, 0644), 0);
    const char *text = SAID(NULL, "auth.scheme", "bearer", "auth.api_key_file", key);
    ck_assert_msg(strstr(text, "auth.api_key_file: ") == text && strstr(text, "can read it") &&
                      strstr(text, "chmod o-r"),
                  "%s", text);
    ck_assert_int_eq(chmod(key, 0602), 0);
    text = SAID(NULL, "auth.scheme", "bearer", "auth.api_key_file", key);
    ck_assert_msg(strstr(text, "refused: --set: auth.api_key_file: ") == text && strstr(text, "chmod o-w"),
                  "%s", text);
}
END_TEST

START_TEST(authorities)
{
    char file[128];
    make(file, "key", "x", 0644);
    ck_assert_str_eq(SAID(NULL, "upstream.tls.ca_file", file), "");
    ck_assert_int_eq(chmod(file, 0646), 0);
    ck_assert_ptr_nonnull(strstr(SAID(NULL, "upstream.tls.ca_file", file), "can change it"));
}
END_TEST

START_TEST(the_configuration_itself)
{
    char file[128];
    make(file, "config.yaml", "cache: {max_size: 5}\n", 0644);
    ck_assert_str_eq(SAID(file, "cache.max_size", "6"), "");
    ck_assert_int_eq(chmod(file, 0666), 0);
    ck_assert_ptr_nonnull(strstr(SAID(file, "cache.max_size", "6"), "can change this file"));
}
END_TEST

START_TEST(tokens)
{
    char file[128];
    make(file, "token", "fifteen-letters\n", 0600);
    ck_assert_str_eq(SAID(NULL, "admin.token_file", file), "");
    const char *text = SAID(NULL, "admin.token_file", file, "admin.address", "0.0.0.0:9901");
    ck_assert_msg(strstr(text, "a token of 15 bytes can be guessed") && strstr(text, "16 or more") &&
                      !strstr(text, "refused"),
                  "%s", text);
    make(file, "token", " sixteen-letters!\n", 0600);
    ck_assert_str_eq(SAID(NULL, "admin.token_file", file, "admin.address", "0.0.0.0:9901"), "");
    make(file, "token", "\n", 0600);
    ck_assert_ptr_nonnull(strstr(SAID(NULL, "admin.token_file", file), "refused: --set: admin.token_file: "));
}
END_TEST

START_TEST(a_tier_for_everybody)
{
    char path[128];
    snprintf(path, sizeof path, "%s/tier", directory);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_str_eq(SAID(NULL, "cache.frozen_path", path), "");
    ck_assert_int_eq(chmod(path, 01777), 0);
    ck_assert_ptr_nonnull(strstr(SAID(NULL, "cache.frozen_path", path), "can put files there"));
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("config_trust");
    Suite *s = suite_create("config_trust");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, keys);
    tcase_add_test(t, authorities);
    tcase_add_test(t, the_configuration_itself);
    tcase_add_test(t, tokens);
    tcase_add_test(t, a_tier_for_everybody);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
