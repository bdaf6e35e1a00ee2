/*
 * Requests that the control thread sends by itself: to webhooks, collectors. libcurl's room in proxy/, on the
 * control thread's event loop; nothing here blocks, and names are resolved on a thread of libcurl's own.
 */
#ifndef PROXY_POST_H
#define PROXY_POST_H

#include "policy/base.h"

struct event_base;
struct post;      /* the sender */
struct post_call; /* one request under way */

struct post_job {
    const char *url;          /* http or https; copied */
    const char *content_type; /* copied */
    const char *body;         /* copied */
    size_t n;
    const char *const *fields; /* further header fields, "Name: value", ended by NULL; or NULL. Copied */
    tick_t timeout;            /* for all of it; to connect, half of it */
    bool keep;                 /* the connection, for the next job: for those that come often */
    bool http2;                /* in plain text without asking first (h2c), as gRPC wants it */
    bool want_answer;          /* the first POST_ANSWER_MOST bytes of it are handed on */
    const char *ca_file;       /* of the authorities trusted; NULL: the system's. Copied */
};

enum { POST_ANSWER_MOST = 4096, POST_DETAILS_MOST = 512 };

/* All that it points to is valid in the call only. */
struct post_result {
    int status;               /* 0: no whole answer */
    tick_t retry_after;       /* as the answer says; -1: it does not */
    const char *error;        /* a sentence when there is no status; never with the URL in it */
    bool timed_out;           /* why there is no status */
    int grpc_status;          /* of a header or trailer field grpc-status; -1: there was none */
    const char *grpc_details; /* of grpc-status-details-bin, base64; "": none */
    const char *answer;       /* with want_answer, else NULL */
    size_t answer_n;
};

typedef void post_done(void *ctx, const struct post_result *result);

/* NULL: out of memory. */
struct post *post_new(struct event_base *base);

/*
 * To be called before the first post_start, by whoever has somebody to tell: loads libcurl (post_curl.h),
 * which takes some milliseconds once. False, with what is wrong and what to do in err.
 */
bool post_ready(struct post *p, char *err, size_t err_size) MUSTCHECK;

/* Breaks off what is under way, without calling anybody. */
void post_free(struct post *p);

/*
 * Sends by POST, follows no redirect, throws the answer's body away but for its beginning where that is
 * wanted (at most a MiB is read). `done` is called once, later, on this thread, unless post_cancel comes
 * first. NULL: out of memory, the URL is none, or post_ready was not, or in vain.
 */
struct post_call *post_start(struct post *p, const struct post_job *job, post_done *done,
                             void *ctx) MUSTCHECK;

/* Breaks off; `done` is not called. */
void post_cancel(struct post_call *call);

#endif
