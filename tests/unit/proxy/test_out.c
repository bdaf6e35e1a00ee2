/*
 * out.c over a socket pair: what is taken, what is queued, in which order, and who holds what.
 */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "proxy/out.h"

static int pair[2];
static struct stream to;
static struct out out;
static struct gather g;
static uint64_t sent;

static void setup(void)
{
    int small = 4096;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    to = (struct stream){pair[0], NULL};
    out = (struct out){0};
    gather_clear(&g);
    sent = 0;
}

static void teardown(void)
{
    out_dispose(&out);
    close(pair[0]);
    close(pair[1]);
}

/* Reads all there is. */
static size_t drain(char *into, size_t room)
{
    size_t n = 0;
    ssize_t r;
    while (n < room && (r = read(pair[1], into + n, room - n)) > 0)
        n += (size_t)r;
    return n;
}

/* What follows a head that lies in the scratch is put behind it there, up to the limit; the head may be
 * alone. */
START_TEST(test_small_bodies_join_their_head)
{
    static char scratch[2 * GATHER_FLAT], body[GATHER_FLAT], got[2 * GATHER_FLAT];
    memset(body, 'b', sizeof(body));
    g.out = &out;
    g.scratch = scratch;
    memcpy(scratch, "head", 4);
    ck_assert(gather_add(&g, scratch, 4, NULL, NULL));
    ck_assert(gather_add(&g, body, GATHER_FLAT - 4 - 1, NULL, NULL));
    ck_assert_int_eq(g.count, 1);
    ck_assert(gather_add(&g, "z", 1, NULL, NULL));
    ck_assert_int_eq(g.count, 1);
    ck_assert(gather_add(&g, "apart", 5, NULL, NULL)); /* over the limit: a run of its own */
    ck_assert_int_eq(g.count, 2);
    ck_assert(gather_add(&g, "too", 3, NULL, NULL));
    ck_assert_int_eq(g.count, 3);
    for (size_t at = 0; g.out || out.first;) {
        enum out_result r = g.out ? out_flush(&out, &g, &to, &sent) : out_push(&out, &to, &sent);
        ck_assert(r == OUT_DONE || r == OUT_QUEUED);
        at += drain(got + at, sizeof(got) - at);
    }
    ck_assert_uint_eq(sent, GATHER_FLAT + 8);
    ck_assert_mem_eq(got, "headb", 5);
    ck_assert_mem_eq(got + GATHER_FLAT - 2, "bzaparttoo", 10);
    g.scratch = NULL;
}
END_TEST

START_TEST(test_small_runs_leave_in_order)
{
    char got[64];
    g.out = &out;
    ck_assert(gather_add(&g, "head ", 5, NULL, NULL));
    ck_assert(gather_add(&g, "", 0, NULL, NULL));
    ck_assert(gather_add(&g, "body", 4, NULL, NULL));
    ck_assert_int_eq(out_flush(&out, &g, &to, &sent), OUT_DONE);
    ck_assert_uint_eq(sent, 9);
    ck_assert_ptr_null(g.out);
    ck_assert_uint_eq(drain(got, sizeof(got)), 9);
    ck_assert_mem_eq(got, "head body", 9);
}
END_TEST

START_TEST(test_what_is_not_taken_is_held_and_sent_later)
{
    struct block_pool blocks = {0};
    struct block *b = block_get(&blocks);
    char *got = malloc(2 * BLOCK_SIZE);
    size_t n = 0;
    memset(b->data, 'b', BLOCK_SIZE);
    b->data[BLOCK_SIZE - 1] = 'e';
    g.out = &out;
    ck_assert(gather_add(&g, "h", 1, NULL, NULL));
    ck_assert(gather_add(&g, b->data, BLOCK_SIZE, b, &OUT_BLOCK));
    ck_assert_int_eq(out_flush(&out, &g, &to, &sent), OUT_QUEUED);
    ck_assert_uint_eq(b->refs, 2); /* the queue holds the block, it has not copied it */
    ck_assert_uint_eq(sent + out.bytes, BLOCK_SIZE + 1);
    while (out.bytes) {
        n += drain(got + n, 2 * BLOCK_SIZE - n);
        ck_assert_int_ne(out_push(&out, &to, &sent), OUT_BROKEN);
    }
    n += drain(got + n, 2 * BLOCK_SIZE - n);
    ck_assert_uint_eq(n, BLOCK_SIZE + 1);
    ck_assert_int_eq(got[0], 'h');
    ck_assert_int_eq(got[n - 1], 'e');
    ck_assert_uint_eq(b->refs, 1);
    block_unref(b);
    block_pool_dispose(&blocks);
    free(got);
}
END_TEST

START_TEST(test_bytes_without_owner_are_copied)
{
    char big[BLOCK_SIZE], *got = malloc(2 * BLOCK_SIZE);
    size_t n = 0;
    memset(big, 'x', sizeof(big));
    g.out = &out;
    ck_assert(gather_add(&g, big, sizeof(big), NULL, NULL));
    ck_assert_int_eq(out_flush(&out, &g, &to, &sent), OUT_QUEUED);
    memset(big, 'y', sizeof(big)); /* the caller's bytes are the caller's again */
    while (out.bytes) {
        n += drain(got + n, 2 * BLOCK_SIZE - n);
        ck_assert_int_ne(out_push(&out, &to, &sent), OUT_BROKEN);
    }
    n += drain(got + n, 2 * BLOCK_SIZE - n);
    ck_assert_uint_eq(n, sizeof(big));
    ck_assert_ptr_null(memchr(got, 'y', n));
    free(got);
}
END_TEST

static int file_drops;

static void hold_nothing(void *owner)
{
    (void)owner;
}

static void count_drop(void *owner)
{
    (void)owner;
    file_drops++;
}

START_TEST(test_a_file_follows_the_head)
{
    static const struct out_owner_ops ops = {hold_nothing, count_drop};
    enum { SIZE = 300000 };
    char *bytes = malloc(SIZE), *got = malloc(2 * SIZE);
    size_t n = 0;
    int fd = memfd_create("test", MFD_CLOEXEC);
    for (int i = 0; i < SIZE; i++)
        bytes[i] = (char)(i * 7 + i / 251);
    ck_assert_int_eq(write(fd, bytes, SIZE), SIZE);
    g.out = &out;
    ck_assert(gather_add(&g, "head", 4, NULL, NULL));
    g.file_fd = fd;
    g.file_at = 100;
    g.file_len = SIZE - 100;
    g.file_owner = &file_drops;
    g.file_ops = &ops;
    ck_assert_int_eq(out_flush(&out, &g, &to, &sent), OUT_QUEUED);
    while (out.bytes) {
        n += drain(got + n, 2 * SIZE - n);
        ck_assert_int_ne(out_push(&out, &to, &sent), OUT_BROKEN);
    }
    n += drain(got + n, 2 * SIZE - n);
    ck_assert_uint_eq(n, SIZE - 100 + 4);
    ck_assert_mem_eq(got, "head", 4);
    ck_assert_mem_eq(got + 4, bytes + 100, SIZE - 100);
    ck_assert_int_eq(file_drops, 1);
    close(fd);
    free(bytes);
    free(got);
}
END_TEST

START_TEST(test_a_broken_peer_is_told)
{
    close(pair[1]);
    g.out = &out;
    ck_assert(gather_add(&g, "x", 1, NULL, NULL));
    ck_assert_int_eq(out_flush(&out, &g, &to, &sent), OUT_BROKEN);
    pair[1] = open("/dev/null", O_RDONLY);
}
END_TEST

START_TEST(test_a_full_gather_says_so)
{
    g.out = &out;
    for (int i = 0; i < GATHER_MAX; i++)
        ck_assert(gather_add(&g, "x", 1, NULL, NULL));
    ck_assert(!gather_add(&g, "x", 1, NULL, NULL));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("out");
    TCase *c = tcase_create("out");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, test_small_bodies_join_their_head);
    tcase_add_test(c, test_small_runs_leave_in_order);
    tcase_add_test(c, test_what_is_not_taken_is_held_and_sent_later);
    tcase_add_test(c, test_bytes_without_owner_are_copied);
    tcase_add_test(c, test_a_file_follows_the_head);
    tcase_add_test(c, test_a_broken_peer_is_told);
    tcase_add_test(c, test_a_full_gather_says_so);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
