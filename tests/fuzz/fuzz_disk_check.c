/*
 * Changes a sound file of the tier on disk in any places, and looks whether the check lets LMDB near it: what
 * the check calls sound, LMDB must be able to walk through, to change and to commit, without a crash. The
 * input is a list of changes: page u8, place u16, count u8, so many bytes.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/disk.h"
#include "proxy/disk_check.h"
#include "proxy/sigbus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAGE = 4096, PAGES_MAX = 256 };

static char *sound;
static size_t sound_n;
static char path[64];

static struct slice numbered(char room[32], const char *word, int i)
{
    return (struct slice){room, (size_t)snprintf(room, 32, "%s %05d", word, i)};
}

static void remove_file(void)
{
    unlink(path);
}

/* Leaves, branches, long records and free pages. */
static void make_file(void)
{
    enum disk_end end;
    char why[160], key[32], value[2 * PAGE];
    struct stat st;
    memset(value, 'v', sizeof(value));
    snprintf(path, sizeof(path), "/dev/shm/fuzz_disk_check.%d", (int)getpid());
    unlink(path);
    atexit(remove_file);
    assert(sigbus_init());
    struct disk *d = disk_open(path, 4 << 20, &end, why, sizeof(why));
    assert(d);
    for (int turn = 0; turn < 2; turn++) {
        assert(disk_begin(d, true) == DISK_OK);
        for (int i = 0; i < 24; i++) {
            size_t n = i == 7 ? sizeof(value) : (size_t)(i * 37 % 900);
            assert(disk_put(d, DISK_ENTRIES, numbered(key, "entry", i + turn * 8),
                            (struct slice){value, n}) == DISK_OK);
            assert(disk_put(d, DISK_ORDER, numbered(key, "order", i), (struct slice){value, 40}) == DISK_OK);
        }
        for (int i = 0; turn && i < 8; i++) {
            enum disk_end gone = disk_delete(d, DISK_ENTRIES, numbered(key, "entry", i * 3));
            assert(gone == DISK_OK || gone == DISK_NONE);
        }
        assert(disk_commit(d) == DISK_OK);
    }
    disk_close(d);
    int fd = open(path, O_RDONLY);
    assert(fd >= 0 && fstat(fd, &st) == 0 && st.st_size <= PAGES_MAX * PAGE);
    sound_n = (size_t)st.st_size;
    sound = malloc(sound_n);
    assert(sound && read(fd, sound, sound_n) == (ssize_t)sound_n);
    close(fd);
    struct disk_check check;
    assert(disk_check_file(path, &check));
}

static bool read_memory(void *arg, uint64_t at, size_t n, void *out)
{
    if (at > sound_n || n > sound_n - at)
        return false;
    memcpy(out, (const char *)arg + at, n);
    return true;
}

static void walk_and_change(struct disk *d)
{
    char room[32], copy[512];
    struct slice key = {NULL, 0}, value;
    unsigned count = 0;
    enum disk_end end = disk_begin(d, true);
    while (end == DISK_OK && (end = disk_next(d, DISK_ENTRIES, key, &key, &value)) == DISK_OK &&
           count++ < 10000)
        assert(key.n >= 1 && key.n <= 511);
    if (end != DISK_OK && end != DISK_NONE)
        return;
    for (int i = 0; i < 10; i++) {
        numbered(room, "entry", i * 5);
        memset(copy, 'c', sizeof(copy));
        end = disk_put(d, DISK_ENTRIES, numbered(room, "entry", i * 5), (struct slice){copy, sizeof(copy)});
        if (end == DISK_OK)
            end = disk_delete(d, DISK_ENTRIES, numbered(room, "entry", i * 4));
        if (end != DISK_OK && end != DISK_NONE)
            return;
    }
    end = disk_commit(d);
    (void)end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct disk_check check;
    enum disk_end end;
    char why[160];
    if (!sound)
        make_file();
    char *copy = malloc(sound_n);
    assert(copy);
    memcpy(copy, sound, sound_n);
    size_t at = 0;
    while (at + 4 <= size) {
        size_t place = data[at] % (sound_n / PAGE) * PAGE + (data[at + 1] | data[at + 2] << 8) % PAGE,
               n = data[at + 3];
        at += 4;
        for (size_t i = 0; i < n && at < size && place + i < sound_n; i++)
            copy[place + i] = (char)data[at++];
    }
    struct disk_source source = {read_memory, copy, sound_n};
    bool tries = size > 0 && data[size - 1] % 4 == 0; /* a file and its transactions take a while */
    if (disk_check(&source, &check) && tries && memcmp(copy, sound, sound_n) != 0) {
        int fd = open(path, O_WRONLY | O_TRUNC);
        assert(fd >= 0 && write(fd, copy, sound_n) == (ssize_t)sound_n);
        close(fd);
        struct disk *d = disk_open(path, 4 << 20, &end, why, sizeof(why));
        if (d)
            walk_and_change(d);
        disk_close(d);
    }
    free(copy);
    return 0;
}
