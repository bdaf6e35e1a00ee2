/* Every way in which operators and Kubernetes replace a file. */
#include "proxy/file_watch.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static const char *in_dir(const char *name)
{
    static char path[4][128];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
    return path[turn];
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
}

static void setup(void)
{
    snprintf(dir, sizeof(dir), "/tmp/sidecar-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(written_removed_returned)
{
    struct file_watch w;
    file_watch_init(&w);
    put(in_dir("a"), "1");
    put(in_dir("b"), "1");
    ck_assert(file_watch_add(&w, in_dir("a")));
    ck_assert(file_watch_add(&w, in_dir("b")));
    ck_assert(file_watch_add(&w, NULL));
    ck_assert(file_watch_add(&w, ""));
    ck_assert_uint_eq(w.count, 2);
    ck_assert(!file_watch_changed(&w));
    put(in_dir("b"), "longer");
    ck_assert(file_watch_changed(&w));
    ck_assert(!file_watch_changed(&w)); /* told once */
    unlink(in_dir("a"));
    ck_assert(file_watch_changed(&w));
    ck_assert(!file_watch_changed(&w));
    put(in_dir("a"), "1");
    ck_assert(file_watch_changed(&w));
    put(in_dir("c"), "1");
    ck_assert_int_eq(rename(in_dir("c"), in_dir("a")), 0); /* as editors save */
    ck_assert(file_watch_changed(&w));
    ck_assert(!file_watch_changed(&w));
    file_watch_dispose(&w);
    file_watch_dispose(&w);
}
END_TEST

/* A mounted secret: tls.crt -> ..data/tls.crt, ..data -> ..2024_1; the update renames a new ..data over the
 * old. */
START_TEST(kubernetes_swaps_a_link)
{
    struct file_watch w;
    file_watch_init(&w);
    ck_assert_int_eq(mkdir(in_dir("..2024_1"), 0700), 0);
    put(in_dir("..2024_1/tls.crt"), "same length 1");
    ck_assert_int_eq(symlink("..2024_1", in_dir("..data")), 0);
    ck_assert_int_eq(symlink("..data/tls.crt", in_dir("tls.crt")), 0);
    ck_assert(file_watch_add(&w, in_dir("tls.crt")));
    ck_assert(!file_watch_changed(&w));
    ck_assert_int_eq(mkdir(in_dir("..2024_2"), 0700), 0);
    put(in_dir("..2024_2/tls.crt"), "same length 2");
    ck_assert(!file_watch_changed(&w));
    ck_assert_int_eq(symlink("..2024_2", in_dir("..data_tmp")), 0);
    ck_assert_int_eq(rename(in_dir("..data_tmp"), in_dir("..data")), 0);
    ck_assert(file_watch_changed(&w));
    ck_assert(!file_watch_changed(&w));
    file_watch_dispose(&w);
}
END_TEST

START_TEST(missing_at_first)
{
    struct file_watch w;
    file_watch_init(&w);
    ck_assert(file_watch_add(&w, in_dir("later")));
    ck_assert(!file_watch_changed(&w));
    put(in_dir("later"), "");
    ck_assert(file_watch_changed(&w));
    for (int i = 1; i < FILE_WATCH_MAX; i++)
        ck_assert(file_watch_add(&w, in_dir("later")));
    ck_assert(!file_watch_add(&w, in_dir("later")));
    file_watch_dispose(&w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file_watch");
    TCase *t = tcase_create("file_watch");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, written_removed_returned);
    tcase_add_test(t, kubernetes_swaps_a_link);
    tcase_add_test(t, missing_at_first);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
