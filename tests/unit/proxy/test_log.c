/* proxy/log.c and access_log.c: valid lines whatever comes in, no credentials, and never a wait. */
#include "proxy/log.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[] = "/tmp/test_log_XXXXXX";
static char path[64], moved[64];
static const char *const names[] = {"other"};

static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/log", directory);
    snprintf(moved, sizeof moved, "%s/log.1", directory);
}

static void tear_down(void)
{
    unlink(path);
    unlink(moved);
    rmdir(directory);
}

static struct log *opened(const char *file, bool text)
{
    struct log_config config = {.file = file, .level = LOG_INFO, .text = text, .access = true};
    int error;
    struct log *log = log_open(&config, &error);
    ck_assert_ptr_nonnull(log);
    return log;
}

static struct metrics *counted(void)
{
    struct metrics_config config = {1, names, 1, names, 1, NULL, 0};
    struct metrics *m = metrics_new(&config);
    ck_assert_ptr_nonnull(m);
    return m;
}

static size_t content(const char *file, char *out, size_t room)
{
    FILE *f = fopen(file, "r");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(out, 1, room - 1, f);
    fclose(f);
    out[n] = '\0';
    return n;
}

/* The line as JSON; fails when it is not. */
static json_t *parsed(const char *line)
{
    json_error_t error;
    json_t *tree = json_loadb(line, strcspn(line, "\n"), JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(tree != NULL, "%s in: %s", error.text, line);
    return tree;
}

static const char *member(const json_t *tree, const char *key)
{
    return json_string_value(json_object_get(tree, key));
}

START_TEST(lines_are_json_and_levels_hold)
{
    char all[4096];
    struct log *log = opened(path, false);
    log_write(log, LOG_DEBUG, "test", "not this one");
    log_write(log, LOG_WARNING, "test", "quote \" back \\ line\nend %d", 5);
    log_set_level(log, LOG_DEBUG);
    log_write(log, LOG_DEBUG, "test", "this one");
    log_close(log);
    content(path, all, sizeof all);
    json_t *first = parsed(all);
    ck_assert_str_eq(member(first, "level"), "warning");
    ck_assert_str_eq(member(first, "module"), "test");
    ck_assert_str_eq(member(first, "message"), "quote \" back \\ line\nend 5");
    ck_assert_uint_eq(strlen(member(first, "time")), 24);
    json_t *second = parsed(strchr(all, '\n') + 1);
    ck_assert_str_eq(member(second, "message"), "this one");
    json_decref(first);
    json_decref(second);
}
END_TEST

START_TEST(long_messages_are_cut_and_say_so)
{
    char all[8192], *big = malloc(5000);
    struct log *log = opened(path, false);
    memset(big, 1, 4999); /* each byte becomes six */
    big[4999] = '\0';
    log_write(log, LOG_ERROR, "test", "%s", big);
    log_write(log, LOG_ERROR, "test", "after");
    log_close(log);
    size_t n = content(path, all, sizeof all);
    ck_assert_uint_lt(n, LOG_LINE_MAX + 200);
    json_t *first = parsed(all);
    const char *message = member(first, "message");
    ck_assert_str_eq(message + strlen(message) - 3, "...");
    json_t *second = parsed(strchr(all, '\n') + 1);
    ck_assert_str_eq(member(second, "message"), "after");
    json_decref(first);
    json_decref(second);
    free(big);
}
END_TEST

START_TEST(text_lines_cannot_be_forged)
{
    char all[4096];
    struct log *log = opened(path, true);
    log_write(log, LOG_INFO, "test", "one\n2026-01-01T00:00:00.000Z error test: \x1b[2J forged");
    log_close(log);
    size_t n = content(path, all, sizeof all);
    ck_assert_ptr_eq(strchr(all, '\n'), all + n - 1);
    ck_assert_ptr_null(strchr(all, '\x1b'));
    ck_assert_ptr_nonnull(strstr(all, " info    test: one\\n2026"));
}
END_TEST

START_TEST(any_bytes_become_a_json_string)
{
    unsigned char raw[2] = {0, 0};
    char out[64], line[80];
    for (int a = 0; a < 256; a++) {
        for (int b = 0; b < 256; b += 5) {
            raw[0] = (unsigned char)a;
            raw[1] = (unsigned char)b;
            size_t n = log_escape((struct slice){(char *)raw, 2}, out, sizeof out);
            int m = snprintf(line, sizeof line, "[\"%.*s\"]", (int)n, out);
            json_t *tree = json_loadb(line, (size_t)m, JSON_ALLOW_NUL, NULL);
            ck_assert_msg(tree != NULL, "bytes %02x %02x gave %s", (unsigned)a, (unsigned)b, line);
            json_decref(tree);
        }
    }
}
END_TEST

START_TEST(escapes)
{
    static const struct {
        struct slice in;
        const char *out;
    } cases[] = {
        {{"a\"b\\c", 5}, "a\\\"b\\\\c"},
        {{"\r\n\t\0\x7f", 5}, "\\r\\n\\t\\u0000\\u007f"},
        {{"gr\xC3\xBC\xC3\x9F", 6}, "gr\xC3\xBC\xC3\x9F"},
        {{"\xF0\x9F\x98\x80", 4}, "\xF0\x9F\x98\x80"},
        {{"\xC0\xAF", 2}, "\\ufffd\\ufffd"},
        {{"\xED\xA0\x80", 3}, "\\ufffd\\ufffd\\ufffd"},
        {{"\xF4\x90\x80\x80", 4}, "\\ufffd\\ufffd\\ufffd\\ufffd"},
        {{"\xE2\x82", 2}, "\\ufffd\\ufffd"},
        {{"\xC2\x9B", 2}, "\\u009b"},
    };
    char out[64];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = log_escape(cases[i].in, out, sizeof out - 1);
        out[n] = '\0';
        ck_assert_str_eq(out, cases[i].out);
    }
    ck_assert_uint_eq(log_escape(SLICE("a\n"), out, 2), 1); /* an escape is never cut */
}
END_TEST

START_TEST(credentials_in_a_query_are_masked)
{
    static const char *const cases[][2] = {
        {"/a?api_key=abc&q=1", "/a?api_key=***&q=1"},
        {"/a?q=1&API-KEY=abc", "/a?q=1&API-KEY=***"},
        {"/a?api%5Fkey=abc", "/a?api%5Fkey=***"},
        {"/a?%74oken=abc;x=y", "/a?%74oken=***;x=y"},
        {"/a?access_token=abc#f", "/a?access_token=***#f"},
        {"/a?user_password=&b", "/a?user_password=***&b"},
        {"/a?X-Amz-Signature=00&key=k", "/a?X-Amz-Signature=***&key=***"},
        {"/a?monkey=1&query=token", "/a?monkey=1&query=token"},
        {"/a", "/a"},
        {"/a?", "/a?"},
        {"http://u:p@host/a?b=c", "http://***@host/a?b=c"},
        {"http://host/a?b=c@d", "http://host/a?b=c@d"},
    };
    char out[128];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = log_mask_target((struct slice){cases[i][0], strlen(cases[i][0])}, out, sizeof out - 1);
        out[n] = '\0';
        ck_assert_str_eq(out, cases[i][1]);
    }
    ck_assert_uint_eq(log_mask_target(SLICE("/abcdef?x=y"), out, 4), 4);
    ck_assert_uint_eq(log_mask_target(SLICE(""), out, 4), 0);
}
END_TEST

static struct access_record example(const struct observation *o)
{
    return (struct access_record){.observed = o,
                                  .client = SLICE("127.0.0.1:5000"),
                                  .method = SLICE("GET"),
                                  .target = SLICE("/v1/client/prompts/p?token=tk1"),
                                  .host = SLICE("localhost:8080"),
                                  .user_agent = SLICE("evil\"\r\n\xff agent"),
                                  .request_id = SLICE("id-1"),
                                  .operation = "get_prompt",
                                  .minor = 1};
}

START_TEST(an_access_line)
{
    char all[4096];
    struct log *log = opened(path, false);
    struct metrics *m = counted();
    struct worker_log *w = worker_log_new(log, metrics_block(m, 0));
    struct observation o = {.status = 200,
                            .cache = VERDICT_MISS,
                            .ended_wall = 1700000000123456789,
                            .total = 12345678,
                            .tcp = 400000,
                            .attempts = 2,
                            .retries = 1,
                            .bytes_out = 77,
                            .flags = OBSERVED_BROKEN};
    struct access_record r = example(&o);
    r.reason = "response_timeout";
    worker_log_access(w, &r);
    ck_assert_uint_eq(content(path, all, sizeof all), 0); /* gathered, not written */
    worker_log_flush(w);
    content(path, all, sizeof all);
    json_t *line = parsed(all);
    ck_assert_str_eq(member(line, "type"), "access");
    ck_assert_str_eq(member(line, "time"), "2023-11-14T22:13:20.123Z");
    ck_assert_str_eq(member(line, "target"), "/v1/client/prompts/p?token=***");
    ck_assert_str_eq(member(line, "cache"), "miss");
    ck_assert_str_eq(member(line, "reason"), "response_timeout");
    ck_assert_str_eq(member(line, "user_agent"), "evil\"\r\n\xEF\xBF\xBD agent");
    ck_assert_int_eq(json_integer_value(json_object_get(line, "status")), 200);
    ck_assert_int_eq(json_integer_value(json_object_get(line, "bytes_out")), 77);
    ck_assert(json_real_value(json_object_get(line, "duration_ms")) == 12.345);
    ck_assert(json_real_value(json_object_get(line, "tcp_ms")) == 0.4);
    ck_assert_ptr_null(json_object_get(line, "dns_ms")); /* did not happen */
    ck_assert(json_is_true(json_object_get(line, "broken")));
    json_decref(line);
    worker_log_free(w);
    log_close(log);
    metrics_free(m);
}
END_TEST

START_TEST(a_line_of_the_worst_bytes_is_still_one)
{
    static char worst[5000];
    char all[8192];
    memset(worst, 1, sizeof worst);
    struct slice bad = {worst, sizeof worst};
    struct log *log = opened(path, false);
    struct metrics *m = counted();
    struct worker_log *w = worker_log_new(log, metrics_block(m, 0));
    struct observation o = {.status = 999,
                            .total = INT64_MAX,
                            .queue_wait = INT64_MAX,
                            .pool_wait = INT64_MAX,
                            .dns = INT64_MAX,
                            .tcp = INT64_MAX,
                            .tls = INT64_MAX,
                            .first_byte = INT64_MAX,
                            .upstream = INT64_MAX,
                            .retry_delay = INT64_MAX,
                            .saved = INT64_MAX,
                            .bytes_in = INT64_MAX,
                            .bytes_out = INT64_MAX,
                            .attempts = 255,
                            .retries = 255,
                            .flags = 255};
    struct access_record r = {.observed = &o,
                              .client = bad,
                              .method = bad,
                              .target = bad,
                              .host = bad,
                              .user_agent = bad,
                              .request_id = bad,
                              .trace_id = bad,
                              .upstream = bad,
                              .operation = "o",
                              .reason = "r"};
    worker_log_access(w, &r);
    worker_log_flush(w);
    size_t n = content(path, all, sizeof all);
    ck_assert_uint_gt(n, 1000);
    ck_assert_uint_le(n, LOG_LINE_MAX);
    json_decref(parsed(all));
    ck_assert_uint_eq(metrics_sum(m, METRIC_LOG_DROPPED), 0);
    worker_log_free(w);
    log_close(log);
    metrics_free(m);
}
END_TEST

START_TEST(a_full_pipe_drops_whole_lines_and_counts_them)
{
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    ck_assert_int_ge(reader, 0);
    struct log *log = opened(path, false);
    struct metrics *m = counted();
    struct worker_log *w = worker_log_new(log, metrics_block(m, 0));
    struct observation o = {.status = 200};
    struct access_record r = example(&o);
    size_t asked = 2000, got = 0;
    for (size_t i = 0; i < asked; i++)
        worker_log_access(w, &r); /* some 400 bytes each: far more than a pipe holds */
    worker_log_flush(w);
    uint64_t dropped = metrics_sum(m, METRIC_LOG_DROPPED);
    ck_assert_uint_gt(dropped, 0);
    static char all[1 << 20];
    ssize_t n;
    size_t have = 0;
    while ((n = read(reader, all + have, sizeof all - 1 - have)) > 0)
        have += (size_t)n;
    all[have] = '\0';
    for (char *line = all; *line; line = strchr(line, '\n') + 1, got++)
        json_decref(parsed(line));
    ck_assert_uint_eq(got + dropped, asked);
    worker_log_access(w, &r); /* and once it is read again, it goes on */
    worker_log_flush(w);
    ck_assert_int_gt(read(reader, all, sizeof all), 100);
    close(reader);
    worker_log_free(w);
    log_close(log);
    metrics_free(m);
}
END_TEST

START_TEST(a_full_disk_is_counted)
{
    struct log *log = opened("/dev/full", false);
    struct metrics *m = counted();
    struct worker_log *w = worker_log_new(log, metrics_block(m, 0));
    struct observation o = {.status = 200};
    struct access_record r = example(&o);
    for (int i = 0; i < 3; i++)
        worker_log_access(w, &r);
    worker_log_flush(w);
    ck_assert_uint_eq(metrics_sum(m, METRIC_LOG_DROPPED), 3);
    log_write(log, LOG_ERROR, "test", "lost");
    ck_assert_uint_eq(log_dropped(log), 1);
    worker_log_free(w);
    log_close(log);
    metrics_free(m);
}
END_TEST

START_TEST(reopening_follows_a_rotated_file)
{
    char all[4096];
    struct log *log = opened(path, false);
    log_write(log, LOG_INFO, "test", "before");
    ck_assert_int_eq(rename(path, moved), 0);
    log_write(log, LOG_INFO, "test", "between");
    ck_assert_int_eq(log_reopen(log), 0);
    log_write(log, LOG_INFO, "test", "after");
    content(moved, all, sizeof all);
    ck_assert_ptr_nonnull(strstr(all, "between"));
    content(path, all, sizeof all);
    ck_assert_ptr_nonnull(strstr(all, "after"));
    ck_assert_ptr_null(strstr(all, "between"));
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(log_reopen(log), EISDIR); /* cannot: the old one stays in use */
    ck_assert_int_eq(rmdir(path), 0);
    log_write(log, LOG_INFO, "test", "into the unlinked file");
    ck_assert_uint_eq(log_dropped(log), 0);
    log_close(log);
}
END_TEST

START_TEST(another_file_and_another_form)
{
    char all[4096];
    struct log *log = opened(path, false);
    ck_assert_int_eq(log_set_file(log, moved), 0);
    log_set_text(log, true);
    log_write(log, LOG_INFO, "test", "plain");
    ck_assert_int_eq(log_set_file(log, directory), EISDIR);
    log_write(log, LOG_INFO, "test", "still here");
    content(moved, all, sizeof all);
    ck_assert_ptr_nonnull(strstr(all, "test: plain\n"));
    ck_assert_ptr_nonnull(strstr(all, "still here"));
    ck_assert_uint_eq(content(path, all, sizeof all), 0);
    ck_assert_int_eq(log_set_file(log, path), 0);
    log_write(log, LOG_INFO, "test", "back");
    ck_assert_uint_gt(content(path, all, sizeof all), 0);
    log_close(log);
}
END_TEST

START_TEST(standard_error_is_left_as_it_was)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    int kept = dup(STDERR_FILENO);
    ck_assert_int_ge(dup2(ends[1], STDERR_FILENO), 0);
    struct log *log = opened("-", false);
    log_write(log, LOG_INFO, "test", "to standard error");
    int flags = fcntl(STDERR_FILENO, F_GETFL);
    dup2(kept, STDERR_FILENO);
    ck_assert_int_eq(flags & O_NONBLOCK, 0);
    char all[512];
    ssize_t n = read(ends[0], all, sizeof all - 1);
    ck_assert_int_gt(n, 0);
    all[n] = '\0';
    ck_assert_ptr_nonnull(strstr(all, "to standard error"));
    ck_assert_int_eq(log_reopen(log), 0);
    log_close(log);
    close(ends[0]);
    close(ends[1]);
    close(kept);
}
END_TEST

START_TEST(access_lines_can_be_switched_off)
{
    char all[512];
    struct log *log = opened(path, false);
    struct metrics *m = counted();
    struct worker_log *w = worker_log_new(log, metrics_block(m, 0));
    struct observation o = {.status = 200};
    struct access_record r = example(&o);
    log_set_access(log, false);
    worker_log_access(w, &r);
    worker_log_flush(w);
    ck_assert_uint_eq(content(path, all, sizeof all), 0);
    worker_log_free(w);
    log_close(log);
    metrics_free(m);
}
END_TEST

START_TEST(levels_by_name)
{
    enum log_level level;
    ck_assert(log_level_parse("warn", &level) && level == LOG_WARNING);
    ck_assert(log_level_parse("debug", &level) && level == LOG_DEBUG);
    ck_assert(!log_level_parse("loud", &level));
    int error;
    struct log_config nowhere = {.file = "/nonexistent/x"};
    ck_assert_ptr_null(log_open(&nowhere, &error));
    ck_assert_int_eq(error, ENOENT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log");
    TCase *t = tcase_create("log");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, lines_are_json_and_levels_hold);
    tcase_add_test(t, long_messages_are_cut_and_say_so);
    tcase_add_test(t, text_lines_cannot_be_forged);
    tcase_add_test(t, any_bytes_become_a_json_string);
    tcase_add_test(t, escapes);
    tcase_add_test(t, credentials_in_a_query_are_masked);
    tcase_add_test(t, an_access_line);
    tcase_add_test(t, a_line_of_the_worst_bytes_is_still_one);
    tcase_add_test(t, a_full_pipe_drops_whole_lines_and_counts_them);
    tcase_add_test(t, a_full_disk_is_counted);
    tcase_add_test(t, reopening_follows_a_rotated_file);
    tcase_add_test(t, another_file_and_another_form);
    tcase_add_test(t, standard_error_is_left_as_it_was);
    tcase_add_test(t, access_lines_can_be_switched_off);
    tcase_add_test(t, levels_by_name);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
