/*
 * The file of the tier on disk: records, transactions, limits; and that damage anywhere is found, or does no
 * harm.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/disk.h"
#include "proxy/disk_check.h"
#include "proxy/sigbus.h"
#include "tests/unit/message.h"

enum { PAGE = 4096 };

static char path[64];

static struct disk *open_disk(uint64_t max)
{
    enum disk_end end;
    char why[160];
    struct disk *d = disk_open(path, max, &end, why, sizeof(why));
    if (!d)
        ck_abort_msg("%s", why);
    return d;
}

static void new_path(void)
{
    must(sigbus_init());
    snprintf(path, sizeof(path), "%s/test_disk.%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
             (int)getpid());
    unlink(path);
}

static struct slice key_of(char room[16], int i)
{
    return (struct slice){room, (size_t)snprintf(room, 16, "key %05d", i)};
}

/* Some hundred records of all lengths in several transactions, some of them taken out again. */
static void fill(struct disk *d)
{
    char room[16];
    static char value[20000];
    memset(value, 'v', sizeof(value));
    for (int turn = 0; turn < 3; turn++) {
        must(disk_begin(d, true) == DISK_OK);
        for (int i = 0; i < 120; i++) {
            size_t n = i % 40 == 0 ? sizeof(value) : (size_t)(i * 131 % 1500);
            must(disk_put(d, DISK_ENTRIES, key_of(room, i), (struct slice){value, n}) == DISK_OK);
        }
        for (int i = 0; i < 120; i += 5 + turn)
            must(disk_delete(d, DISK_ENTRIES, key_of(room, i)) == DISK_OK);
        must(disk_commit(d) == DISK_OK);
    }
}

START_TEST(records_and_transactions)
{
    char room[16];
    struct slice key, value;
    new_path();
    struct disk *d = open_disk(1 << 20);
    must(disk_begin(d, true) == DISK_OK);
    must(disk_put(d, DISK_ENTRIES, key_of(room, 2), SLICE("two")) == DISK_OK);
    must(disk_put(d, DISK_ENTRIES, key_of(room, 1), SLICE("one")) == DISK_OK);
    must(disk_put(d, DISK_META, SLICE("m"), SLICE("meta")) == DISK_OK);
    must(disk_commit(d) == DISK_OK);
    must(disk_begin(d, true) == DISK_OK);
    must(disk_put(d, DISK_ENTRIES, key_of(room, 3), SLICE("three")) == DISK_OK);
    disk_abort(d);
    disk_close(d);
    d = open_disk(1 << 20);
    must(disk_begin(d, false) == DISK_OK);
    ck_assert_uint_eq(disk_count(d, DISK_ENTRIES), 2);
    must(disk_next(d, DISK_ENTRIES, (struct slice){NULL, 0}, &key, &value) == DISK_OK);
    must(slice_equal(value, SLICE("one")));
    must(disk_next(d, DISK_ENTRIES, key, &key, &value) == DISK_OK);
    must(slice_equal(value, SLICE("two")));
    must(disk_next(d, DISK_ENTRIES, key, &key, &value) == DISK_NONE);
    must(disk_last(d, DISK_ENTRIES, &key, &value) == DISK_OK && slice_equal(value, SLICE("two")));
    must(disk_get(d, DISK_ENTRIES, key_of(room, 3), &value) == DISK_NONE);
    must(disk_get(d, DISK_META, SLICE("m"), &value) == DISK_OK && slice_equal(value, SLICE("meta")));
    disk_abort(d);
    must(disk_begin(d, true) == DISK_OK);
    must(disk_clear(d, DISK_ENTRIES) == DISK_OK && disk_commit(d) == DISK_OK);
    must(disk_begin(d, false) == DISK_OK);
    ck_assert_uint_eq(disk_count(d, DISK_ENTRIES), 0);
    ck_assert_uint_eq(disk_count(d, DISK_META), 1);
    disk_close(d);
    unlink(path);
}
END_TEST

START_TEST(a_full_file_says_so_and_goes_on)
{
    char room[16];
    static char value[10000];
    struct slice got;
    enum disk_end end = DISK_OK;
    int i = 0;
    new_path();
    struct disk *d = open_disk(1 << 20);
    for (; end == DISK_OK && i < 200; i++) {
        must(disk_begin(d, true) == DISK_OK);
        end = disk_put(d, DISK_ENTRIES, key_of(room, i), (struct slice){value, sizeof(value)});
        if (end == DISK_OK)
            end = disk_commit(d);
    }
    disk_abort(d);
    ck_assert_int_eq(end, DISK_FULL);
    must(i > 50);
    must(disk_begin(d, false) == DISK_OK);
    must(disk_get(d, DISK_ENTRIES, key_of(room, 0), &got) == DISK_OK && got.n == sizeof(value));
    must(disk_bytes(d) <= 1 << 20);
    disk_close(d);
    unlink(path);
}
END_TEST

START_TEST(what_cannot_be_opened_is_named)
{
    enum disk_end end;
    char why[160];
    must(!disk_open("/nowhere/at/all", 1 << 20, &end, why, sizeof(why)));
    ck_assert_int_eq(end, DISK_FAILED);
    must(strstr(why, "No such file"));
    new_path();
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    must(write(fd, "this is something else\n", 23) == 23);
    close(fd);
    must(!disk_open(path, 1 << 20, &end, why, sizeof(why)));
    ck_assert_int_eq(end, DISK_DAMAGED);
    unlink(path);
}
END_TEST

/* Every record, as far as it can be read; then changes. False: damage was found. */
static bool use(struct disk *d)
{
    char room[16];
    struct slice key = {NULL, 0}, value;
    unsigned sum = 0;
    enum disk_end end = disk_begin(d, true);
    while (end == DISK_OK && (end = disk_next(d, DISK_ENTRIES, key, &key, &value)) == DISK_OK)
        for (size_t i = 0; i < value.n; i += 512)
            sum += (unsigned char)value.p[i];
    for (int i = 0; i < 20 && (end == DISK_OK || end == DISK_NONE); i++)
        end = disk_put(d, DISK_ENTRIES, key_of(room, i * 7), SLICE("new"));
    if (end == DISK_OK)
        end = disk_commit(d);
    return sum > 0 && end == DISK_OK;
}

START_TEST(damage_anywhere_is_found_or_does_no_harm)
{
    struct stat st;
    struct disk_check check;
    enum disk_end end;
    char why[160];
    unsigned found = 0, tried = 0;
    new_path();
    struct disk *d = open_disk(8 << 20);
    fill(d);
    disk_close(d);
    must(stat(path, &st) == 0 && disk_check_file(path, &check));
    must(check.records > 80);
    char *whole = malloc((size_t)st.st_size), *copy = malloc((size_t)st.st_size);
    int fd = open(path, O_RDWR);
    must(read(fd, whole, (size_t)st.st_size) == st.st_size);
    for (long at = 0; at < st.st_size; at += at % PAGE < 48     ? 6
                                             : at % PAGE < 3000 ? 1009
                                                                : PAGE - at % PAGE) {
        memcpy(copy, whole, (size_t)st.st_size);
        copy[at] ^= (char)(0x41 + at % 7);
        copy[at + 1] ^= (char)(at / 3);
        must(pwrite(fd, copy, (size_t)st.st_size, 0) == st.st_size && ftruncate(fd, st.st_size) == 0);
        tried++;
        d = disk_open(path, 8 << 20, &end, why, sizeof(why));
        if (!d) {
            ck_assert_int_eq(end, DISK_DAMAGED);
            found++;
            continue;
        }
        use(d);
        disk_close(d);
    }
    for (long n = 1; n < st.st_size; n += 4096 * 7 + 100) { /* cut short */
        must(pwrite(fd, whole, (size_t)st.st_size, 0) == st.st_size && ftruncate(fd, n) == 0);
        d = disk_open(path, 8 << 20, &end, why, sizeof(why));
        if (d)
            use(d);
        disk_close(d);
    }
    if (found < 100)
        ck_abort_msg("found %u of %u", found,
                     tried); /* the rest lies in what records say, or in pages that are free */
    close(fd);
    free(whole);
    free(copy);
    unlink(path);
}
END_TEST

START_TEST(cut_short_while_in_use)
{
    new_path();
    struct disk *d = open_disk(8 << 20);
    fill(d);
    must(truncate(path, 2 * PAGE) == 0);
    must(!use(d));
    must(strlen(disk_why(d)) > 0);
    must(disk_begin(d, false) == DISK_DAMAGED);
    disk_close(d);
    unlink(path);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("disk");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, records_and_transactions);
    tcase_add_test(t, a_full_file_says_so_and_goes_on);
    tcase_add_test(t, what_cannot_be_opened_is_named);
    tcase_add_test(t, damage_anywhere_is_found_or_does_no_harm);
    tcase_add_test(t, cut_short_while_in_use);
    return run_case("disk", t);
}
