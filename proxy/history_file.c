/*
 * Reads and writes performance.history_file.
 * Invariants: readers never see half a file; the content is nobody's but the operator's (mode 0600), and
 * holds no paths, keys or contents of requests: only numbers, and the names of operations.
 */
#include "proxy/history_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metrics/history.h"
#include "metrics/text.h"
#include "proxy/log.h"

enum { MOST = 64 << 20 };

static char *read_whole(int fd, size_t *n)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > MOST) {
        errno = EFBIG;
        return NULL;
    }
    char *p = malloc((size_t)st.st_size + 1);
    *n = 0;
    while (p && *n < (size_t)st.st_size) {
        ssize_t got = read(fd, p + *n, (size_t)st.st_size - *n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        *n += (size_t)got;
    }
    return p;
}

void history_file_load(struct history *h, const char *path, struct log *log, tick_t now)
{
    size_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        if (errno != ENOENT)
            log_write(log, LOG_WARNING, "metrics",
                      "performance.history_file: %s: %s; the time series begin anew", path, strerror(errno));
        return;
    }
    char *bytes = read_whole(fd, &n);
    if (!bytes)
        log_write(log, LOG_WARNING, "metrics", "performance.history_file: %s: %s; the time series begin anew",
                  path, strerror(errno));
    else if (!history_load(h, bytes, n, now))
        log_write(
            log, LOG_WARNING, "metrics",
            "performance.history_file: %s is damaged, or was written by another version; the time series "
            "begin anew, and the file is written over",
            path);
    free(bytes);
    close(fd);
}

static bool write_whole(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t wrote = write(fd, p, n);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return false;
        p += wrote;
        n -= (size_t)wrote;
    }
    return true;
}

bool history_file_save(const struct history *h, const char *path, struct log *log)
{
    char beside[PATH_MAX];
    struct text bytes = {0};
    history_save(h, &bytes);
    int length = snprintf(beside, sizeof beside, "%s.new", path);
    errno = bytes.failed ? ENOMEM : ENAMETOOLONG;
    int fd = !bytes.failed && (size_t)length < sizeof beside
                 ? open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)
                 : -1;
    bool good = fd >= 0 && write_whole(fd, bytes.p, bytes.n);
    int error = errno;
    if (fd >= 0 && close(fd) != 0 && good) {
        good = false;
        error = errno;
    }
    if (good && rename(beside, path) != 0) {
        good = false;
        error = errno;
    }
    if (!good && fd >= 0)
        unlink(beside);
    text_dispose(&bytes);
    if (!good)
        log_write(log, LOG_WARNING, "metrics",
                  "performance.history_file: %s: %s; the time series were not written", path,
                  strerror(error));
    return good;
}
