/*
 * Bodies: every length around every border, known and unknown lengths, descriptors and their limit, runs that
 * stay while the writer goes on.
 */
#include "proxy/body.c"

#include "tests/unit/message.h"

enum { MOST = 3 << 20 };

static char *source;
static struct body_budget budget;

static void setup(void)
{
    source = malloc(MOST);
    must(source);
    for (size_t i = 0; i < MOST; i++)
        source[i] = (char)(i * 31 + (i >> 8) * 7 + (i >> 16));
    budget = (struct body_budget){0, BODY_FD_MAX};
}

static void teardown(void)
{
    free(source);
    must(atomic_load(&budget.descriptors) == 0);
}

/* Is what the body holds from `at` on, n bytes at most, what the source has there? */
static void check_run(const struct body *b, uint64_t at, uint64_t n, int max)
{
    struct iovec iov[64];
    uint64_t seen = at;
    while (seen < at + n) {
        int count = body_iov(b, seen, at + n - seen, iov, max);
        must(count > 0 && count <= max);
        for (int i = 0; i < count; i++) {
            must(iov[i].iov_len > 0);
            must(memcmp(iov[i].iov_base, source + seen, iov[i].iov_len) == 0);
            seen += iov[i].iov_len;
        }
    }
    must(seen == at + n);
}

static struct body *filled(uint64_t length, uint64_t expected, size_t piece)
{
    struct body *b = body_new(&budget, expected, MOST);
    must(b);
    for (uint64_t at = 0; at < length; at += piece) {
        size_t n = length - at < piece ? (size_t)(length - at) : piece;
        must(body_append(b, source + at, n));
        must(body_length(b) == at + n);
    }
    return b;
}

static void check_whole(const struct body *b, uint64_t length)
{
    struct iovec iov[1];
    check_run(b, 0, length, 64);
    check_run(b, 0, length, 1);
    check_run(b, length / 2, length - length / 2, 2);
    if (length > 10)
        check_run(b, length / 3, 7, 1);
    must(body_iov(b, length, 0, iov, 1) == 0);
    if (body_fd(b) >= 0) {
        char byte;
        must(pread(body_fd(b), &byte, 1, (off_t)(length - 1)) == 1 && byte == source[length - 1]);
        must(pread(body_fd(b), &byte, 1, (off_t)length) == 0);
    }
}

START_TEST(every_length_in_every_cut)
{
    static const uint64_t lengths[] = {
        0,      1,   RUN_MIN - 1, RUN_MIN, RUN_MIN + 1, 10000, BODY_FD_MIN - 1, BODY_FD_MIN, BODY_FD_MIN + 1,
        200000, MOST};
    static const size_t pieces[] = {777, 4096, 16384, MOST};
    for (int max = 0; max <= BODY_FD_MAX; max += BODY_FD_MAX) { /* with descriptors and without */
        budget.max = max;
        for (size_t l = 0; l < ARRAY_LEN(lengths); l++) {
            for (size_t p = 0; p < 2 * ARRAY_LEN(pieces); p++) {
                uint64_t n = lengths[l];
                struct body *b = filled(n, p % 2 ? n : UINT64_MAX, pieces[p / 2]);
                check_whole(b, n);
                b = body_finish(b);
                check_whole(b, n);
                must(body_length(b) == n);
                must((body_fd(b) >= 0) == (n >= BODY_FD_MIN && max > 0));
                must(n == 0 || n >= BODY_FD_MIN || !b->runs->next); /* small: in one run */
                must(body_footprint(b) >= n);
                must(body_footprint(b) <= n + n / 2 + 8192);
                body_unref(b);
            }
        }
    }
}
END_TEST

/* Runs that a reader was given stay where they are until it lets go, whatever becomes of the body. */
START_TEST(runs_stay)
{
    struct body *b = body_new(&budget, UINT64_MAX, MOST);
    struct iovec first[8], later[8];
    must(body_append(b, source, 100));
    must(body_iov(b, 0, 100, first, 8) == 1);
    for (size_t at = 100; at < MOST; at += 1000)
        must(body_append(b, source + at, MOST - at < 1000 ? MOST - at : 1000));
    must(memcmp(first[0].iov_base, source, 100) == 0);
    int n = body_iov(b, BODY_FD_MIN - 10, 20, later, 8);
    must(n >= 1);
    struct body *mine = body_ref(b);
    struct body *kept = body_finish(b);
    must(kept != mine && body_fd(kept) >= 0);
    must(memcmp(later[0].iov_base, source + BODY_FD_MIN - 10, later[0].iov_len) == 0);
    check_run(mine, 0, MOST, 3);
    body_unref(kept); /* what mine reads from the descriptor lives on with it */
    check_run(mine, 0, MOST, 3);
    body_unref(mine);
}
END_TEST

START_TEST(no_more_than_the_limit)
{
    struct body *b = body_new(&budget, UINT64_MAX, 1000);
    must(body_append(b, source, 999));
    must(!body_append(b, source, 2));
    must(body_length(b) == 999);
    must(body_append(b, source + 999, 1));
    must(!body_append(b, source, 1));
    must(body_append(b, source, 0));
    check_run(b, 0, 1000, 4);
    body_unref(b);
    b = body_new(&budget, 10, 1000); /* the announced length is a limit too */
    must(!body_append(b, source, 11));
    must(body_append(b, source, 10));
    body_unref(b);
}
END_TEST

START_TEST(descriptors_are_bounded)
{
    struct body *bodies[5];
    budget.max = 2;
    for (int i = 0; i < 5; i++) {
        bodies[i] = filled(BODY_FD_MIN * 2, i % 2 ? UINT64_MAX : BODY_FD_MIN * 2, 5000);
        must((body_fd(bodies[i]) >= 0) == (i < 2));
        check_whole(bodies[i], BODY_FD_MIN * 2);
    }
    must(atomic_load(&budget.descriptors) == 2);
    for (int i = 0; i < 5; i++)
        body_unref(bodies[i]);
    must(atomic_load(&budget.descriptors) == 0);
    body_unref(NULL);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("body");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, every_length_in_every_cut);
    tcase_add_test(t, runs_stay);
    tcase_add_test(t, no_more_than_the_limit);
    tcase_add_test(t, descriptors_are_bounded);
    return run_case("body", t);
}
