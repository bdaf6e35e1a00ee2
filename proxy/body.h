/*
 * The bytes of one stored answer. Written by one thread, append-only, never changed once written, read by
 * any. Reference-counted. Small bodies are heap runs (one run when complete); from BODY_FD_MIN on a memfd,
 * which a plain socket sends with sendfile; heap runs again where no memfd can be had or BODY_FD_MAX of them
 * are in use.
 */
#ifndef PROXY_BODY_H
#define PROXY_BODY_H

#include <sys/uio.h>

#include "policy/base.h"

#define BODY_FD_MIN ((uint64_t)64 * 1024)
#define BODY_FD_MAX 1024

struct body;

/* Descriptors in use by all bodies of one store. */
struct body_budget {
    _Atomic int descriptors;
    int max; /* BODY_FD_MAX; 0 keeps all on the heap */
};

/*
 * An empty body with one reference. `expected` is its length where that is known, else UINT64_MAX;
 * `limit` is the most that will ever be appended. `budget` outlives the body. NULL: out of memory.
 */
struct body *body_new(struct body_budget *budget, uint64_t expected, uint64_t limit);

struct body *body_ref(struct body *body);
void body_unref(struct body *body); /* NULL is fine */

/*
 * Appends n bytes. False: out of memory, or more than `limit`; what was there before can still be read, but
 * nothing more may be appended. Writer only.
 */
bool body_append(struct body *body, const void *bytes, size_t n) MUSTCHECK;

/*
 * No more will be appended. Gives the body to be kept: itself, or a copy in one run when it is small and
 * scattered (the reference moves to the copy). Writer only.
 */
struct body *body_finish(struct body *body);

/* Bytes appended so far. The writer's side, or anybody's once it is complete. */
uint64_t body_length(const struct body *body);

/* Bytes of memory held, for accounting. */
uint64_t body_footprint(const struct body *body);

/* The descriptor to sendfile from, at the same offsets; -1 when the body is on the heap. Owned by the body.
 */
int body_fd(const struct body *body);

/*
 * Fills iov[0..max) with the runs that hold the bytes from `at` on, at most `n` of them. Returns how many
 * were filled; 0 at the end. The runs stay as long as the reference. While the body is being written, at + n
 * may not exceed a length that the writer told under a lock.
 */
int body_iov(const struct body *body, uint64_t at, uint64_t n, struct iovec *iov, int max);

#endif
