/*
 * A stored answer: immutable once complete, reference-counted, shared by all threads. Its head is kept as it
 * goes on the wire, so that a hit copies nothing.
 */
#ifndef PROXY_STORE_ENTRY_H
#define PROXY_STORE_ENTRY_H

#include "policy/condition.h"
#include "policy/freshness.h"
#include "policy/hash.h"
#include "policy/head.h"
#include "proxy/body.h"

struct entry; /* private to store_entry.c and the store */

/* Gives a reference back. Any thread. NULL is fine. */
void entry_release(struct entry *entry);

/* A further reference. */
struct entry *entry_ref(struct entry *entry);

int entry_status(const struct entry *entry);

/* The level below memory that it was found in, counted from 1; 0: it came from the origin. */
unsigned entry_level(const struct entry *entry);

/*
 * The head: status line (always HTTP/1.1) and the end-to-end fields as received, each line with its CRLF,
 * without the empty line, without Age and Content-Length. Date is always there. The caller adds
 * Content-Length or its own framing, Age, Cache-Status, Via and the empty line.
 */
struct slice entry_head(const struct entry *entry);

/* The same with `Content-Length: N` as the last line: for the whole answer. Only on a complete entry. */
struct slice entry_head_with_length(const struct entry *entry);

/* Validators as received; n = 0 when missing (RFC 9111 4.3.1). */
struct slice entry_etag(const struct entry *entry);
struct slice entry_last_modified(const struct entry *entry);

const struct freshness *entry_freshness(const struct entry *entry);

/* Bytes of the body that are stored: all, but for a part. Only on a complete entry. */
uint64_t entry_length(const struct entry *entry);

/* Bytes of the whole body, of which a part has some. Only on a complete entry. */
uint64_t entry_total(const struct entry *entry);

/* What the upstream once took to answer with it, from the request to the last byte; 0: not known, as of what
 * another sidecar fetched. Only on a complete entry. */
tick_t entry_fetch_time(const struct entry *entry);

/* The body's descriptor for sendfile, or -1; its runs from `at` on (body_iov). Only on a complete entry. */
int entry_fd(const struct entry *entry);
int entry_body_iov(const struct entry *entry, uint64_t at, uint64_t n, struct iovec *iov, int max);

enum answer_kind {
    ANSWER_WHOLE,        /* the stored status, with the body (none after HEAD) */
    ANSWER_NOT_MODIFIED, /* 304 */
    ANSWER_PART,         /* 206 with bytes first ... first + length - 1 */
    ANSWER_UNSATISFIABLE /* 416 */
};

struct answer {
    enum answer_kind kind;
    int status;
    bool has_body;  /* bytes follow the head */
    uint64_t first; /* of the body, for sendfile or entry_body_iov */
    uint64_t length;
};

/*
 * What this entry answers to this request: its conditions, its Range, and whether it is a HEAD (RFC 9110 13,
 * 14; RFC 9111 4.3.2). `wall` in unix seconds. Only on a complete entry.
 */
void entry_answer(const struct entry *entry, const struct head *request, int64_t wall, struct answer *out);

/*
 * Writes the head of an answer that is not WHOLE (for WHOLE use entry_head_with_length): status line and
 * fields with Content-Range and Content-Length where due, no empty line. Returns the bytes, or 0 when cap is
 * too small (entry_head(entry).n + 256 is always enough).
 */
size_t entry_answer_head(const struct entry *entry, const struct answer *answer, char *out, size_t cap);

#endif
