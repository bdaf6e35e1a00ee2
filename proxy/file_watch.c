/*
 * Compares what stat says of files now with what it said before.
 * Invariants: stat follows links, so a swapped directory link shows as another inode; a file that vanishes is
 * a change, and so is its return.
 */
#include "proxy/file_watch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int64_t to_ns(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Looks at the file again. True when it is not the same as before. */
static bool look(struct file_stamp *stamp)
{
    struct stat st;
    struct file_stamp now = {.path = stamp->path};
    if (stat(stamp->path, &st) == 0) {
        now.device = st.st_dev;
        now.inode = st.st_ino;
        now.size = st.st_size;
        now.modified = to_ns(st.st_mtim);
        now.changed = to_ns(st.st_ctim);
    }
    bool same = now.device == stamp->device && now.inode == stamp->inode && now.size == stamp->size &&
                now.modified == stamp->modified && now.changed == stamp->changed;
    *stamp = now;
    return !same;
}

void file_watch_init(struct file_watch *watch)
{
    memset(watch, 0, sizeof(*watch));
}

bool file_watch_add(struct file_watch *watch, const char *path)
{
    if (!path || !*path)
        return true;
    if (watch->count == FILE_WATCH_MAX)
        return false;
    struct file_stamp *stamp = &watch->at[watch->count];
    memset(stamp, 0, sizeof(*stamp));
    stamp->path = strdup(path);
    if (!stamp->path)
        return false;
    watch->count++;
    look(stamp);
    return true;
}

bool file_watch_changed(struct file_watch *watch)
{
    bool changed = false;
    for (size_t i = 0; i < watch->count; i++)
        changed |= look(&watch->at[i]);
    return changed;
}

void file_watch_dispose(struct file_watch *watch)
{
    for (size_t i = 0; i < watch->count; i++)
        free(watch->at[i].path);
    watch->count = 0;
}
