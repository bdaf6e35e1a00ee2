/*
 * Tells when files were replaced: written anew, renamed over, or reached through a symbolic
 * link that was swapped, as Kubernetes does with mounted secrets and configuration. Looks, does not listen:
 * call it once a second from the control thread.
 */
#ifndef PROXY_FILE_WATCH_H
#define PROXY_FILE_WATCH_H

#include <sys/types.h>

#include "policy/base.h"

enum { FILE_WATCH_MAX = 12 };

struct file_watch {
    size_t count;
    struct file_stamp {
        char *path;   /* owned */
        dev_t device; /* of the file behind all links; all zero when there is none */
        ino_t inode;
        off_t size;
        int64_t modified; /* ns since 1970 */
        int64_t changed;
    } at[FILE_WATCH_MAX];
};

/* Begins with nothing watched. */
void file_watch_init(struct file_watch *watch);

/* Adds a file as it is now. NULL and "" are passed over. False when out of memory or FILE_WATCH_MAX is
 * reached. */
bool file_watch_add(struct file_watch *watch, const char *path) MUSTCHECK;

/* True when any file differs from what the last call (or file_watch_add) saw; a change is told once. */
bool file_watch_changed(struct file_watch *watch);

/* Forgets all. Safe twice. */
void file_watch_dispose(struct file_watch *watch);

#endif
