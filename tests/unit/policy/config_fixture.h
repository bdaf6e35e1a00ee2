/* Makes snapshots from a few entries, for the tests of the configuration. */
#ifndef TESTS_CONFIG_FIXTURE_H
#define TESTS_CONFIG_FIXTURE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/config.h"

struct fixture {
    struct config_draft *draft;
    struct config_errors errors;
    const struct config *cfg;
    int line;
};

static inline void fixture_begin(struct fixture *f)
{
    *f = (struct fixture){.draft = config_draft_new()};
    ck_assert_ptr_nonnull(f->draft);
}

/* Each entry stands in a line of its own of test.yaml, at column 3. */
static inline void fixture_put(struct fixture *f, const char *key, enum config_shape shape, const char *value)
{
    struct config_entry e = {
        .key = key, .value = value, .shape = shape, .place = {CONFIG_FROM_FILE, "test.yaml", ++f->line, 3}};
    ck_assert(config_draft_put(f->draft, &e));
}

/* A scalar from a flag, which lists may be too. */
static inline void fixture_flag(struct fixture *f, const char *key, const char *value)
{
    struct config_entry e = {.key = key, .value = value, .place = {CONFIG_FROM_FLAG, "--set", 0, 0}};
    ck_assert(config_draft_put(f->draft, &e));
}

static inline void fixture_build(struct fixture *f)
{
    f->cfg = config_draft_build(f->draft, &f->errors);
    ck_assert((f->cfg != NULL) == !config_errors_any(&f->errors));
}

static inline void fixture_end(struct fixture *f)
{
    config_unref(f->cfg);
    config_errors_free(&f->errors);
    config_draft_free(f->draft);
}

static inline const struct config *fixture_good(struct fixture *f)
{
    fixture_build(f);
    ck_assert_msg(f->errors.count == 0, "%s", f->errors.count ? f->errors.items[0] : "");
    ck_assert_ptr_nonnull(f->cfg);
    return f->cfg;
}

/* The i-th error is exactly this. */
static inline void fixture_error(const struct fixture *f, size_t i, const char *want)
{
    ck_assert_msg(i < f->errors.count, "there are only %zu errors, not: %s", f->errors.count, want);
    ck_assert_str_eq(f->errors.items[i], want);
}

/* One key set by a flag: the value as it prints, or the error without "--set: key: ". Free it. */
static inline char *fixture_set(const char *key, const char *value)
{
    struct fixture f;
    char buf[4096];
    fixture_begin(&f);
    fixture_flag(&f, key, value);
    fixture_build(&f);
    if (f.cfg) {
        config_print_value(f.cfg, config_option_find(key), buf, sizeof buf);
    } else {
        ck_assert_uint_eq(f.errors.count, 1);
        size_t n = strlen("--set: : ") + strlen(key);
        ck_assert_uint_ge(strlen(f.errors.items[0]), n);
        ck_assert(strncmp(f.errors.items[0] + 7, key, strlen(key)) == 0);
        snprintf(buf, sizeof buf, "! %s", f.errors.items[0] + n);
    }
    fixture_end(&f);
    return strdup(buf);
}

static inline void expect(const char *key, const char *value, const char *want)
{
    char *got = fixture_set(key, value);
    ck_assert_msg(strcmp(got, want) == 0, "%s=%s gave: %s\n  not: %s", key, value, got, want);
    free(got);
}

static inline int fixture_run(Suite *s)
{
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
