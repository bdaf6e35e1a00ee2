/*
 * One fetch under way for many requests (request coalescing). The leader brings the answer; waiters of any
 * worker are given its head and then its bytes as they come.
 *
 * The leader's life: store_lookup says LEAD or REVALIDATE (or fill_poll says FILL_LEAD) and gives a fill. The
 * role ends with exactly one of fill_response that says FILL_PASSED      the answer is not stored; the fill
 * is gone fill_not_modified that gives an entry    the fill is gone fill_end all bytes were appended; the
 * fill is gone fill_abort                               the fetch failed, or its owner gives up; the fill is
 * gone The leader is one thread at a time. Its own client reads best as a waiter too (fill_watch after
 * FILL_STORED): then a slow client of the leader's holds nobody up.
 *
 * Memory: a body is kept up to max_object_bytes. Beyond that the answer is not stored, nobody joins any more,
 * and the waiters that are there are served from a window: what all have passed is freed, and fill_backlog
 * tells the leader to stop reading the upstream while more than FILL_BACKLOG_HIGH bytes wait for the slowest.
 * So a fill holds at most max_object_bytes + FILL_BACKLOG_HIGH + one append.
 *
 * Threads: everything here may be called from any thread, one at a time for the same waiter and for the same
 * leader's role.
 */
#ifndef PROXY_FILL_H
#define PROXY_FILL_H

#include "policy/reason.h"
#include "proxy/store_entry.h"

struct fill;
struct store_request;

#define FILL_MAX_WAITERS   4096 /* further requests are passed */
#define FILL_MAX_HANDOVERS 3    /* then the waiters are turned loose */
#define FILL_BACKLOG_HIGH  ((uint64_t)256 * 1024)
#define FILL_BACKLOG_LOW   ((uint64_t)64 * 1024)

/* ---- the leader ---- */

enum fill_verdict {
    FILL_STORED, /* append the bytes, then fill_end. (Whether it will be kept in the end is known only then.)
                  */
    FILL_PASSED  /* not to be stored: the waiters were turned loose; the leader's role is over, relay to your
                    own client alone */
};

/*
 * The head of the final answer came. `sent` is when its request left; request->now and wall are the time of
 * receipt. *why (may be NULL) tells why it is not stored. `response` is only looked at during the call.
 */
enum fill_verdict fill_response(struct fill *fill, const struct store_request *request,
                                const struct head *response, tick_t sent, enum storable *why) MUSTCHECK;

/*
 * A 304 came for the entry that this fill validates. Gives the entry with the merged head, the caller's
 * reference, and wakes the waiters with it. NULL: the 304 is not for what is stored (another strong
 * validator), or memory ran out: the role goes on, send the request again without conditions.
 */
struct entry *fill_not_modified(struct fill *fill, const struct store_request *request,
                                const struct head *response, tick_t sent) MUSTCHECK;

/*
 * A 206 came for the rest of the beginning that this fill is to make whole (STORE_COMPLETE). True: the stored
 * beginning is the first bytes of the fill, go on with fill_append; *entry has the head of the whole, the
 * caller's reference. False: it is not the rest (another validator, other bytes), or there is no memory: the
 * role goes on, ask for all of it.
 */
bool fill_complete_part(struct fill *fill, const struct store_request *request, const struct head *response,
                        tick_t sent, struct entry **entry) MUSTCHECK;

enum fill_more {
    FILL_MORE,    /* go on */
    FILL_USELESS, /* it has grown too large to store, and nobody reads: stop appending; fill_end or fill_abort
                     still end the role */
    FILL_NO_MEMORY /* likewise, and waiters that were reading have failed */
};
enum fill_more fill_append(struct fill *fill, const void *bytes, size_t n) MUSTCHECK;

/*
 * The body is whole. Returns whether the entry is in the store now: false when it was too large, when a purge
 * came in between, or when it is shorter than its Content-Length said (then the waiters see it broken off).
 */
bool fill_end(struct fill *fill, tick_t now);

/*
 * The fetch cannot go on. `hand_over`: the fault lies with this leader alone (its client went away, its
 * deadline is over), so one waiter that was given nothing yet is told to lead, at most FILL_MAX_HANDOVERS
 * times, and then, or when the head was there already, all that were given nothing are turned loose. Without
 * `hand_over` the waiters fail with `why`. Waiters that were given the head always fail: their clients must
 * see a broken message.
 */
void fill_abort(struct fill *fill, enum reason why, bool hand_over);

/* The entry that a revalidating fill validates, borrowed from the fill; NULL when there is none. */
struct entry *fill_validates(struct fill *fill);

/* Waiters attached now (the leader's own included). 0: nobody would miss this fetch, though its answer may be
 * stored. */
unsigned fill_waiters(struct fill *fill);

/*
 * Bytes that the slowest waiter has yet to read beyond what is kept anyway; 0 unless the answer has outgrown
 * max_object_bytes. At FILL_BACKLOG_HIGH or more the leader stops appending, and `drained` is called once,
 * from any thread and under the fill's lock (so it only posts a message), when it has sunk to
 * FILL_BACKLOG_LOW. Not called any more once the role is over.
 */
uint64_t fill_backlog(struct fill *fill, void (*drained)(void *arg), void *arg);

/* Has the answer outgrown max_object_bytes, so that its bytes are held for the waiters alone? */
bool fill_outgrown(struct fill *fill);

/* Fails the waiters that hold the backlog up, and wakes them. Returns how many. For a leader that has been
 * held up for too long. */
unsigned fill_cut_slow(struct fill *fill);

/* ---- the waiters ---- */

/* Embedded in an exchange. All zero at first; `wake` set before fill_join. The rest is private to fill.c. */
struct fill_waiter {
    /*
     * Called from whatever thread made the news, at most once until the next fill_poll or fill_read (and once
     * more when the waiter is cut), and never after fill_leave has returned. It holds the fill's lock: post a
     * message to the waiter's worker, and call nothing of the fill.
     */
    void (*wake)(struct fill_waiter *waiter);

    struct fill *fill; /* NULL: not attached */
    struct fill_waiter *prev, *next;
    uint64_t at;  /* bytes consumed */
    bool asleep;  /* wants to be woken */
    bool reading; /* was given the head */
    bool cut;     /* failed alone: too slow */
    bool lead;    /* was chosen to lead */
};

enum fill_state {
    FILL_WAIT,  /* nothing yet: wake will be called */
    FILL_HEAD,  /* news.entry: the head is there (entry_head, entry_status); read the bytes with fill_read */
    FILL_DONE,  /* news.entry is complete: serve it like a hit. The waiter is detached */
    FILL_LOOSE, /* the answer is not for you (not stored, or another variant): go yourself, by store_lookup
                   again. Detached */
    FILL_LEAD,  /* the leader gave up: news.fill is yours to lead. Detached */
    FILL_FAILED /* the fetch failed: news.why. Detached */
};

struct fill_news {
    struct entry *entry; /* HEAD, DONE: the caller's reference, to be given to entry_release */
    struct fill *fill;   /* LEAD */
    enum reason why;     /* FAILED */
    bool has_length;     /* HEAD: the length of the body is known: */
    uint64_t length;
};

/* Attaches a waiter to the fill of a JOIN, consuming the reference. Then call fill_poll. */
void fill_join(struct fill *fill, struct fill_waiter *waiter);

/* Gives a JOIN's reference back unused. */
void fill_drop(struct fill *fill);

/* After FILL_STORED: the leader's own client reads along, from the first byte, as one that was given the
 * head. */
void fill_watch(struct fill *fill, struct fill_waiter *waiter);

/* What is new for an attached waiter, whose request this is. Once it has said FILL_HEAD, go on with fill_read
 * alone. */
enum fill_state fill_poll(struct fill_waiter *waiter, const struct store_request *request,
                          struct fill_news *news);

enum { FILL_READ_WAIT = 0, FILL_READ_END = -1, FILL_READ_BROKEN = -2 };

/*
 * After FILL_HEAD: fills iov[0..max), which may be none to hear of the end alone, with bytes that the waiter
 * has not consumed. Returns how many were filled, or WAIT (wake will be called), END (all was consumed, and
 * the body is whole), or BROKEN (*why says by what; the client must see a broken message). The runs stay
 * until fill_advance passes them or fill_leave. After END and BROKEN the waiter is still attached: leave.
 */
int fill_read(struct fill_waiter *waiter, struct iovec *iov, int max, enum reason *why);

/* n bytes were consumed. */
void fill_advance(struct fill_waiter *waiter, uint64_t n);

/* Detaches, at any time, also when already detached. */
void fill_leave(struct fill_waiter *waiter);

#endif
