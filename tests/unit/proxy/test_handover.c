/*
 * Tests of proxy/handover.c: both ends in one process, the one who asks on a thread of its own, because it
 * waits. Nothing changes for the one who lends until "serving" comes; and nothing is left open.
 */
#include "proxy/handover.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/unit/policy/harness.h"
#include "tests/unit/proxy/scratch.h"

static char dir[64], path[100], err[256];
static struct event_base *base;
static struct handover *h;
static int sockets[3], fds_before;
static struct {
    int lent, left;
    bool with_admin;
} lender;

static bool lend(void *ctx, const char *listen, const char *admin, struct inherited *out, char *why,
                 size_t why_size)
{
    ck_assert_ptr_eq(ctx, &lender);
    if (strcmp(listen, "127.0.0.1:1") != 0) {
        snprintf(why, why_size, "nobody listens at %s", listen);
        return false;
    }
    lender.lent++;
    out->listen[0] = sockets[0];
    out->listen[1] = sockets[1];
    out->listen_count = 2;
    out->admin = lender.with_admin && *admin ? sockets[2] : -1;
    return true;
}

static void leave(void *ctx)
{
    ck_assert_ptr_eq(ctx, &lender);
    lender.left++;
    event_base_loopbreak(base);
}

static const struct handover_source source = {&lender, lend, leave};

static void setup(void)
{
    scratch_make(dir);
    snprintf(path, sizeof(path), "%s/handover", dir);
    memset(&lender, 0, sizeof(lender));
    fds_before = open_fds();
    base = event_base_new();
    for (size_t i = 0; i < ARRAY_LEN(sockets); i++)
        sockets[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    h = handover_listen(base, path, false, &source, err, sizeof(err));
    ck_assert_msg(h != NULL, "%s", err);
}

static void teardown(void)
{
    handover_free(h);
    event_base_free(base);
    for (size_t i = 0; i < ARRAY_LEN(sockets); i++)
        close(sockets[i]);
    ck_assert_int_eq(open_fds(), fds_before);
    scratch_remove(dir);
}

/* The one who asks. */
struct asker {
    pthread_t thread;
    const char *listen, *admin;
    bool confirms;
    struct inherited got;
    int fd;
    char err[256];
    _Atomic bool done;
};

static void *ask(void *arg)
{
    struct asker *a = arg;
    a->fd = handover_take(path, a->listen, a->admin, &a->got, a->err, sizeof(a->err));
    if (a->confirms)
        handover_confirm(a->fd);
    atomic_store(&a->done, true);
    return NULL;
}

/* Runs the lender's loop until the asker has what it wanted. */
static void serve(struct asker *a)
{
    struct timeval soon = {0, 1000};
    ck_assert_int_eq(pthread_create(&a->thread, NULL, ask, a), 0);
    while (!atomic_load(&a->done)) {
        event_base_loopexit(base, &soon);
        event_base_loop(base, 0);
    }
    pthread_join(a->thread, NULL);
    for (int i = 0; i < 20; i++) /* what it said last */
        event_base_loop(base, EVLOOP_NONBLOCK);
}

static bool same_socket(int a, int b)
{
    struct stat one, two;
    return fstat(a, &one) == 0 && fstat(b, &two) == 0 && one.st_ino == two.st_ino && one.st_dev == two.st_dev;
}

START_TEST(sockets_are_lent_and_the_lender_leaves)
{
    lender.with_admin = _i;
    struct asker a = {.listen = "127.0.0.1:1", .admin = "127.0.0.1:2", .confirms = true};
    serve(&a);
    ck_assert_msg(a.fd >= 0, "%s", a.err);
    ck_assert_int_eq(a.got.listen_count, 2);
    ck_assert(same_socket(a.got.listen[0], sockets[0]) && same_socket(a.got.listen[1], sockets[1]));
    ck_assert(_i ? same_socket(a.got.admin, sockets[2]) : a.got.admin == -1);
    ck_assert(lender.lent == 1 && lender.left == 1);
    inherited_close(&a.got);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0); /* the file is the next one's, who is to take it over */
    handover_free(h);
    h = NULL;
    ck_assert_int_eq(stat(path, &st), 0);
}
END_TEST

START_TEST(one_that_fails_to_start_takes_nothing_along)
{
    for (int round = 0; round < 2; round++) {
        struct asker a = {.listen = "127.0.0.1:1", .admin = ""};
        serve(&a);
        ck_assert_int_ge(a.fd, 0);
        inherited_close(&a.got);
        close(a.fd);
        for (int i = 0; i < 20; i++)
            event_base_loop(base, EVLOOP_NONBLOCK);
        ck_assert_int_eq(lender.left, 0);
    }
    ck_assert_int_eq(lender.lent, 2);
}
END_TEST

START_TEST(who_listens_elsewhere_is_refused)
{
    struct asker a = {.listen = "127.0.0.1:9", .admin = ""};
    serve(&a);
    ck_assert_int_eq(a.fd, -1);
    ck_assert_msg(strstr(a.err, "nobody listens at 127.0.0.1:9") != NULL, "%s", a.err);
    ck_assert(a.got.listen_count == 0 && lender.left == 0);
}
END_TEST

static int connected(void)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct timeval patience = {5, 0};
    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return fd;
}

START_TEST(what_is_not_understood_is_refused_in_words)
{
    static const char *const said[] = {"hello", "take", "take ", "take a", "serving?", "given 1 1"};
    for (size_t i = 0; i < ARRAY_LEN(said); i++) {
        char text[256];
        int fd = connected();
        ck_assert_int_eq(send(fd, said[i], strlen(said[i]), 0), (ssize_t)strlen(said[i]));
        event_base_loop(base, EVLOOP_ONCE); /* accepts */
        event_base_loop(base, EVLOOP_ONCE); /* reads */
        ssize_t n = recv(fd, text, sizeof(text), 0);
        ck_assert_msg(n > 8 && memcmp(text, "refused:", 8) == 0, "to `%s`: %zd", said[i], n);
        close(fd);
        event_base_loop(base, EVLOOP_ONCE); /* hears the end */
    }
    ck_assert(lender.lent == 0 && lender.left == 0);
}
END_TEST

START_TEST(one_asks_at_a_time)
{
    char text[8];
    int first = connected();
    event_base_loop(base, EVLOOP_ONCE);
    int second = connected();
    event_base_loop(base, EVLOOP_ONCE);
    ck_assert_int_eq(recv(second, text, sizeof(text), 0), 0);
    close(second);
    close(first);
    event_base_loop(base, EVLOOP_ONCE);
    struct asker a = {.listen = "127.0.0.1:1", .admin = "", .confirms = true};
    serve(&a);
    ck_assert(a.fd >= 0 && lender.left == 1);
    inherited_close(&a.got);
}
END_TEST

START_TEST(nobody_there)
{
    struct inherited got;
    char why[512] = "x";
    ck_assert_int_eq(handover_take("/nowhere/at/all", "a", "b", &got, why, sizeof(why)), -1);
    ck_assert_str_eq(why, ""); /* the first process of all: no error */
    ck_assert_int_eq(handover_take("relative", "a", "b", &got, why, sizeof(why)), -1);
    ck_assert_ptr_nonnull(strstr(why, "no absolute path"));
    char longest[256];
    memset(longest, 'x', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    ck_assert_int_eq(handover_take(longest, "a", "b", &got, why, sizeof(why)), -1);
    ck_assert_ptr_nonnull(strstr(why, "at most"));
    handover_confirm(-1);
}
END_TEST

START_TEST(a_file_that_is_no_socket_is_not_asked)
{
    struct inherited got;
    char file[128], why[256] = "";
    snprintf(file, sizeof(file), "%s/file", dir);
    fclose(fopen(file, "w"));
    ck_assert_int_eq(handover_take(file, "a", "b", &got, why, sizeof(why)), -1);
}
END_TEST

START_TEST(the_place_is_taken_over_by_a_successor_only)
{
    struct stat before, after;
    ck_assert_ptr_null(handover_listen(base, path, false, &source, err, sizeof(err)));
    ck_assert_ptr_nonnull(strstr(err, "another process listens"));
    ck_assert_int_eq(stat(path, &before), 0);
    ck_assert_int_eq(before.st_mode & 0777, 0600);
    struct handover *next = handover_listen(base, path, true, &source, err, sizeof(err));
    ck_assert_msg(next != NULL, "%s", err);
    ck_assert(stat(path, &after) == 0 && after.st_ino != before.st_ino);
    handover_free(next); /* and removes it, as nobody came */
    ck_assert_int_ne(stat(path, &after), 0);
    ck_assert_ptr_null(handover_listen(base, "/nowhere/at/all", false, &source, err, sizeof(err)));
    ck_assert_ptr_nonnull(strstr(err, "cannot listen"));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, sockets_are_lent_and_the_lender_leaves, 0, 2);
    tcase_add_test(tc, one_that_fails_to_start_takes_nothing_along);
    tcase_add_test(tc, who_listens_elsewhere_is_refused);
    tcase_add_test(tc, what_is_not_understood_is_refused_in_words);
    tcase_add_test(tc, one_asks_at_a_time);
    tcase_add_test(tc, nobody_there);
    tcase_add_test(tc, a_file_that_is_no_socket_is_not_asked);
    tcase_add_test(tc, the_place_is_taken_over_by_a_successor_only);
    return run_case("handover", tc);
}
