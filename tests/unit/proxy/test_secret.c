/*
 * Keys from files: what is accepted, what is said of the rest, and how the memory behind them is kept.
 */
#include "proxy/secret.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/message.h"

/* The sanitizers take the place of mlock with a call that does nothing and succeeds. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MLOCK_IS_REAL false
#else
#define MLOCK_IS_REAL true
#endif

static char folder[] = "/tmp/secret-XXXXXX";
static char path[64];

static void setup(void)
{
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    must(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/key", folder);
}

static void teardown(void)
{
    (void)unlink(path);
    (void)rmdir(folder);
}

static void put(const void *bytes, size_t n)
{
    FILE *f = fopen(path, "w");
    must(f && fwrite(bytes, 1, n, f) == n);
    must(fclose(f) == 0);
}

static void accepts(const char *bytes, size_t n, enum secret_use use, const char *wanted)
{
    char why[256] = "";
    put(bytes, n);
    struct secret *s = secret_read(path, use, why, sizeof why);
    ck_assert_msg(s != NULL, "%s", why);
    ck_assert_uint_eq(secret_bytes(s).n, strlen(wanted));
    ck_assert_mem_eq(secret_bytes(s).p, wanted, strlen(wanted));
    secret_free(s);
}

static void refuses(const char *bytes, size_t n, enum secret_use use, const char *words)
{
    char why[256] = "";
    put(bytes, n);
    ck_assert_ptr_null(secret_read(path, use, why, sizeof why));
    ck_assert_msg(strstr(why, words) != NULL, "%s", why);
    ck_assert_msg(strstr(why, "po_") == NULL && strstr(why, path) == NULL, "%s", why);
}

START_TEST(one_line)
{
    accepts("po_1", 4, SECRET_FOR_FIELD, "po_1");
    accepts("po_1\n", 5, SECRET_FOR_FIELD, "po_1");
    accepts("po_1\r\n", 6, SECRET_FOR_FIELD, "po_1");
    accepts("po_1\n\n", 6, SECRET_FOR_FIELD, "po_1");
    accepts("two words \xC3\xA9\n", 13, SECRET_FOR_MAC, "two words \xC3\xA9");
}
END_TEST

START_TEST(what_is_no_key)
{
    refuses("", 0, SECRET_FOR_FIELD, "it is empty; write the key into it");
    refuses("\n", 1, SECRET_FOR_MAC, "it is empty; write the key into it");
    refuses("po_1\npo_2\n", 10, SECRET_FOR_FIELD, "at 4");
    refuses("po_1\npo_2\n", 10, SECRET_FOR_MAC, "control character, at 4");
    refuses("po_1 ", 5, SECRET_FOR_FIELD, "at 4");
    refuses("po_1\0x", 6, SECRET_FOR_MAC, "at 4");
    refuses("po_\xC3\xA9", 5, SECRET_FOR_FIELD, "at 3");
    refuses("po_\x7F", 4, SECRET_FOR_MAC, "at 3");
}
END_TEST

START_TEST(size_is_bounded)
{
    char big[SECRET_MAX + 8];
    char wanted[SECRET_MAX + 1];
    memset(big, 'k', sizeof big);
    memset(wanted, 'k', SECRET_MAX);
    wanted[SECRET_MAX] = '\0';
    accepts(big, SECRET_MAX, SECRET_FOR_FIELD, wanted);
    big[SECRET_MAX] = '\r';
    big[SECRET_MAX + 1] = '\n';
    accepts(big, SECRET_MAX + 2, SECRET_FOR_FIELD, wanted);
    memset(big, 'k', sizeof big);
    refuses(big, SECRET_MAX + 1, SECRET_FOR_FIELD, "more than 3072 bytes");
    refuses(big, sizeof big, SECRET_FOR_MAC, "more than 3072 bytes");
}
END_TEST

static void no_file(const char *words)
{
    char why[256] = "";
    ck_assert_ptr_null(secret_read(path, SECRET_FOR_FIELD, why, sizeof why));
    ck_assert_msg(strstr(why, words) != NULL, "%s", why);
}

START_TEST(files_that_cannot_be_read)
{
    no_file("No such file or directory; give a file that this user may read");
    must(mkfifo(path, 0600) == 0);
    no_file("not a regular file");
    must(unlink(path) == 0);
    must(mkdir(path, 0700) == 0);
    no_file("not a regular file");
    must(rmdir(path) == 0);
}
END_TEST

/* The flags of the mapping that has this address (proc(5), smaps). */
static void flags_of(const void *p, char *out, size_t n)
{
    char line[512];
    bool inside = false;
    FILE *maps = fopen("/proc/self/smaps", "r");
    must(maps);
    *out = '\0';
    while (fgets(line, sizeof line, maps)) {
        uintptr_t from, to;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
            inside = (uintptr_t)p >= from && (uintptr_t)p < to;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            snprintf(out, n, "%s", line + 8);
    }
    fclose(maps);
    for (char *c = out; *c; c++)
        if (*c == '\n')
            *c = ' ';
}

static bool flag(const void *p, const char *name)
{
    char flags[512], word[8];
    flags_of(p, flags, sizeof flags);
    snprintf(word, sizeof word, " %s ", name);
    return strstr(flags, word) != NULL;
}

START_TEST(memory_is_locked_and_not_dumped)
{
    char why[256];
    put("po_1\n", 5);
    struct secret *s = secret_read(path, SECRET_FOR_FIELD, why, sizeof why);
    must(s);
    struct secret *line = secret_join("Authorization: Bearer ", s, "\r\n");
    must(line);
    const struct secret *all[] = {s, line};
    for (size_t i = 0; i < 2; i++) {
        const char *p = secret_bytes(all[i]).p;
        ck_assert(flag(p, "dd"));
        ck_assert(flag(p, "wf"));
        if (MLOCK_IS_REAL)
            ck_assert_int_eq(flag(p, "lo"), secret_protected(all[i]));
    }
    ck_assert(slice_equal(secret_bytes(line), SLICE("Authorization: Bearer po_1\r\n")));
    secret_free(s);
    secret_free(line);
    char *room = secret_room(70000);
    must(room);
    ck_assert(flag(room, "dd"));
    ck_assert_int_eq(room[69999], 0);
    secret_room_free(room, 70000);
    secret_room_free(NULL, 5);
    secret_free(NULL);
}
END_TEST

/* Where nothing may be locked the key is there all the same, and says so. */
START_TEST(without_the_right_to_lock)
{
    pid_t child = fork();
    must(child >= 0);
    put("po_1\n", 5);
    if (child == 0) {
        char why[256];
        struct rlimit none = {0, 0};
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
            _exit(3);
        setrlimit(RLIMIT_MEMLOCK, &none);
        char open_path[80];
        snprintf(open_path, sizeof open_path, "%s", "/proc/version"); /* readable by anybody, with spaces */
        struct secret *s = secret_read(open_path, SECRET_FOR_MAC, why, sizeof why);
        _exit(s && (!secret_protected(s) || !MLOCK_IS_REAL) && secret_bytes(s).n > 0 ? 0 : 4);
    }
    int status;
    must(waitpid(child, &status, 0) == child);
    ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("secret");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, one_line);
    tcase_add_test(t, what_is_no_key);
    tcase_add_test(t, size_is_bounded);
    tcase_add_test(t, files_that_cannot_be_read);
    tcase_add_test(t, memory_is_locked_and_not_dumped);
    tcase_add_test(t, without_the_right_to_lock);
    return run_case("secret", t);
}
