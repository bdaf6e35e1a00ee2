/*
 * Keys in memory: read from a file into pages of their own that are locked where the system allows it (no
 * swap), left out of core dumps, not given to child processes, and wiped before they are given back.
 */
#ifndef PROXY_SECRET_H
#define PROXY_SECRET_H

#include "policy/base.h"

#define SECRET_MAX 3072 /* bytes of a key; with HEAD_ROOM of worker.h it fits into any head */

/* Immutable after it was made, so that all threads may read it. One owner. */
struct secret;

enum secret_use {
    SECRET_FOR_FIELD, /* goes into a header field: visible ASCII without spaces */
    SECRET_FOR_MAC    /* signs: any text without control characters */
};

/*
 * Reads a key from a file; line ends behind it are no part of it. NULL with a sentence in why[n] ("it is
 * empty; write the key into it, on one line") that names neither the file nor anything of its content. Reads
 * a file: not on a worker.
 */
struct secret *secret_read(const char *path, enum secret_use use, char *why, size_t n) MUSTCHECK;

/* `before` and the secret and `behind`, put together as a secret of its own. NULL: no memory. */
struct secret *secret_join(const char *before, const struct secret *secret, const char *behind) MUSTCHECK;

/* The bytes; they live as long as the secret. */
struct slice secret_bytes(const struct secret *secret);

/* False: the system did not let the page be locked (RLIMIT_MEMLOCK), or knows no way to keep it out of core
 * dumps. */
bool secret_protected(const struct secret *secret);

/* Wipes and frees. NULL is fine. */
void secret_free(struct secret *secret);

/*
 * Zeroed room for buffers through which secrets pass: left out of core dumps, not locked. NULL: no memory.
 * Given back by secret_room_free with the same n; NULL is fine there.
 */
void *secret_room(size_t n) MUSTCHECK;
void secret_room_free(void *room, size_t n);

/*
 * Overwrites what code that has handled a key (copies and ciphers) may have left of it: the stack below the
 * caller, and the vector registers, which a core dump holds of every thread.
 */
void secret_burn_traces(void);

#endif
