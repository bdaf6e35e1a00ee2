/*
 * Is a file of LMDB (data version 1) one that LMDB may walk through? LMDB trusts what it reads: a page that
 * is not what it says can lead it anywhere in memory. This reads every page of its trees once, and trusts
 * nothing: page numbers, places and sizes within pages, depths, orders, counts, the list of free pages. What
 * the records say is not looked at; who wrote them seals them.
 */
#ifndef PROXY_DISK_CHECK_H
#define PROXY_DISK_CHECK_H

#include "policy/base.h"

enum { DISK_CHECK_PAGE_MAX = 32768 }; /* bytes of a page */

/* Where the pages come from: n bytes from `at` on. False: they are not there. */
struct disk_source {
    bool (*read)(void *arg, uint64_t at, size_t n, void *out);
    void *arg;
    uint64_t size; /* of all of it */
};

struct disk_check {
    const char *what; /* is wrong */
    uint64_t page;    /* where */
    uint64_t records; /* in all tables, when it is sound */
};

/* Pure but for the source. False: *out says what is wrong. An empty source is sound. */
bool disk_check(const struct disk_source *source, struct disk_check *out) MUSTCHECK;

/* The same for a file; one that is not there is sound. */
bool disk_check_file(const char *path, struct disk_check *out) MUSTCHECK;

#endif
