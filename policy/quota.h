/*
 * The quota governor of one key (an upstream and a credential): how many calls the API's rate limit leaves,
 * spent evenly, so that the limit turns into short waits instead of refusals.
 *
 * It knows windows: from the answers' fields (rate_header.h), or, when the server says nothing, from its own
 * count against the limits that the caller assumes, in windows that begin on the minute, hour and day (UTC)
 * by the server's clock as its Date fields show it. A call is let go when every window has one left, calls in
 * flight taken off, and the pace allows it: the interval is (end - newest call) / (left + 1), and idle time
 * saves up half a window. A refusal by the upstream closes a gate for all.
 *
 * Who must wait queues by start-time fair queueing (Goyal et al. 1996) over `flow`s, for max_wait at most;
 * who would wait longer is refused with the time at which its turn would have come. Background work gets only
 * what the foreground will not need.
 *
 * Plain state; the owner locks it when threads share it. Every GO and every grant ends in exactly one
 * quota_end.
 */
#ifndef POLICY_QUOTA_H
#define POLICY_QUOTA_H

#include "policy/base.h"
#include "policy/limit_guess.h"
#include "policy/rate_header.h"

#define QUOTA_WINDOWS 8
#define QUOTA_FLOWS   64
#define QUOTA_ASSUMED 3
#define QUOTA_QUEUE   1024 /* most waiters */

enum quota_mode { QUOTA_OBSERVE, QUOTA_PACE, QUOTA_REJECT };

struct quota_rules { /* configuration: read only */
    bool enabled;    /* false: all go, nothing is counted */
    enum quota_mode mode;
    tick_t max_wait;
    int64_t assumed[QUOTA_ASSUMED]; /* a minute, an hour, a day, when the server says nothing; 0 = none */
    bool assume;                    /* count against them from the start */
    bool believe; /* and hold back at once; else only after the upstream has refused a call in disguise */
};

struct quota_window {
    uint32_t key;          /* rate_window.key */
    tick_t length;         /* 0 = unknown; then the longest reset seen */
    int64_t limit;         /* < 0 = unknown */
    int64_t share;         /* how much of it proved to be ours; <= limit; < 0 = all */
    int64_t left;          /* not counting calls in flight */
    tick_t begin;          /* earliest time at which it began */
    tick_t end_lo, end_hi; /* it ends between these */
    tick_t last;           /* the newest call, or the end of a gate */
    double credit;         /* calls that may go ahead of the pace; grows in idle time */
    int64_t edge;          /* calls of this window that the next one may count as well */
    tick_t told_at;        /* newest answer that spoke of it; 0 = none: our own count */
    uint32_t hungry;       /* windows in a row that ran out while somebody wanted more */
    uint32_t rest;         /* windows before an assumed limit is tried again */
    struct {               /* of a learnt one (quota_learnt.c) */
        enum limit_shape shape, from_shape;
        tick_t from_span; /* and from_shape: what was believed when more was tried */
        tick_t span;      /* the length that was guessed */
        int64_t calls;    /* in it, while it is spent at a rate */
        bool slides;      /* of each such time before, not from a beginning on */
        bool narrow;      /* its rate is known well */
        bool trying;      /* with more than is believed */
        uint32_t vain;    /* tries, all refused */
        tick_t rest;      /* no more is tried before */
        tick_t each;      /* one call each so long, on average; 0: it is spent as other windows */
        double size;      /* so many may go at once after idle time */
    } learnt;
    bool wanted;     /* somebody had to wait or was refused in it */
    tick_t probe_at; /* soft: the newest call beyond the limit, 0 = none */
    bool open;       /* soft, and more than the limit was accepted */
    bool soft;       /* assumed and not confirmed: counted, but it holds nobody back */
    bool partial;    /* we did not see its beginning */
    bool refused;    /* the upstream refused a call in it */
    int64_t mine;    /* calls of ours that were counted in it */
    int64_t grant;   /* so many may be ours in all, others spending as well; < 0 = nobody said */
    int64_t common;  /* what is left of it for all who share it, when that was said */
};

struct quota_waiter { /* embedded in what waits; zero it before use */
    struct quota_waiter *prev, *next;
    double tag;
    uint64_t flow;
    tick_t since, until; /* refused when its turn cannot come before `until` */
    bool queued;
};

struct quota_flow {
    uint64_t flow;
    double finish;
};

struct quota {
    const struct quota_rules *rules; /* not owned */
    int count;
    struct quota_window window[QUOTA_WINDOWS];
    tick_t turn_due;             /* before it no window ends and none is forgotten; 0: look */
    tick_t offset_lo, offset_hi; /* the server's unix time minus our ticks, in ticks */
    tick_t gate;                 /* nothing goes before */
    tick_t throttled_at;         /* newest refusal by the upstream */
    uint32_t streak;             /* refusals without a success between */
    uint32_t in_flight;
    int sidecars;           /* that share this key, 0 = it is not shared */
    bool in_touch;          /* and what they use is known */
    bool refusal_disguised; /* the newest refusal was */
    struct limit_log log;   /* while nothing is stated */
    bool said_when;         /* the newest refusal said when it is over */
    bool unsettled; /* something was refused, and what to believe now is decided once nothing is under way */
    struct quota_waiter *first, *last; /* by tag */
    uint32_t waiting;
    double virtual_time;
    struct quota_flow flow[QUOTA_FLOWS];
    struct { /* of the last minute or so, decaying: what the foreground asks for */
        double rate;
        tick_t at;
    } demand;
    uint64_t let_go, waited, refused, upstream_refused; /* counts, only growing */
    tick_t used_at;                                     /* newest call, for the owner's table */
};

/* `wall`: unix time in nanoseconds at `now`, believed to within a second until the server's Date says better.
 */
void quota_init(struct quota *q, const struct quota_rules *rules, tick_t now, int64_t wall);

/* New rules, live. Waiters stay; assumed limits that are off now are forgotten. */
void quota_tune(struct quota *q, const struct quota_rules *rules, tick_t now);

enum quota_verdict_kind { QUOTA_GO, QUOTA_WAIT, QUOTA_REFUSED };

struct quota_verdict {
    enum quota_verdict_kind kind;
    tick_t at; /* WAIT: call quota_turn then; REFUSED: when its turn would have come (Retry-After) */
};

struct quota_call {
    uint64_t flow;   /* who asks: shares are fair between flows */
    tick_t deadline; /* waiting beyond it is no use; TICK_NEVER */
    bool background; /* goes from the spare or not at all */
};

/* How a waiter learns its fate: `go` is a GO; otherwise REFUSED, `at` as in the verdict. It is out of the
 * queue. */
typedef void (*quota_wake)(struct quota_waiter *w, bool go, tick_t at, void *arg);

/*
 * Asks for one call. On WAIT the waiter is in the queue until it is woken or leaves. A newcomer that has had
 * less than its share may push out the last waiter, which is woken as refused.
 */
struct quota_verdict quota_ask(struct quota *q, const struct quota_call *call, struct quota_waiter *w,
                               quota_wake wake, void *arg, tick_t now) MUSTCHECK;

/* Lets go who may go now and refuses whose time is over. Returns when to call again, TICK_NEVER with nobody
 * waiting. */
tick_t quota_turn(struct quota *q, quota_wake wake, void *arg, tick_t now);

/* The waiter wants no more. No harm when it is not queued. */
void quota_leave(struct quota *q, struct quota_waiter *w);

struct quota_answer {
    bool charged;   /* the upstream has or may have counted it (outcome_row) */
    bool throttled; /* and refused it */
    bool disguised; /* as the PromptOps API does, under another name and without a word about when */
    tick_t sent_at;
    const struct rate_reading *reading; /* NULL: no answer came */
};

/* A call that was let go is over. Call quota_turn after it. */
void quota_end(struct quota *q, const struct quota_answer *a, tick_t now);

/* Would a background call go now? Leaves what the foreground is likely to need, and a tenth. */
bool quota_spare(struct quota *q, tick_t now);

/* When the next call could go if nobody waited; `now` or earlier: at once. */
tick_t quota_next(struct quota *q, tick_t now);

/* One window for showing: left with calls in flight taken off, not below 0. i in 0 ... q->count - 1. */
struct quota_look {
    uint32_t key;
    int64_t limit, left;
    tick_t length, ends;
    bool told;    /* the server said so; else our own count */
    bool assumed; /* and nothing that the server did shows that there is such a limit */
};
struct quota_look quota_look(struct quota *q, int i, tick_t now);

/* --- One budget for all sidecars that share the key (quota_share.c, budget.h). --- */

/* A window that is shared, as it stands. */
struct quota_part {
    uint32_t key;
    int64_t limit;
    int64_t left;       /* by the server's word, calls in flight taken off; < 0: it said nothing */
    int64_t used, held; /* of ours, as in budget_member */
    double wants;
    tick_t length, ends;
};

/* `count` sidecars share the key (0: it is not shared). Out of touch each takes its even part of every new
 * window. Call quota_turn after it. */
void quota_share(struct quota *q, int count, bool in_touch, tick_t now);

/* The windows of which others spend as well, at most QUOTA_WINDOWS. Returns how many. */
int quota_parts(struct quota *q, struct quota_part *out, tick_t now);

/* So many of this window's calls are ours; `rest` are left for all. Ignored when the window is over.
 * Call quota_turn after it. */
void quota_granted(struct quota *q, const struct quota_part *part, int64_t grant, int64_t rest, tick_t now);

/* Another sidecar was refused: nothing goes before `until`. */
void quota_heard_refusal(struct quota *q, tick_t until, bool disguised, tick_t now);

/* --- Between quota.c, quota_window.c and quota_share.c. --- */

/* Calls of a window that may still go, those in flight taken off; may be below 0. */
int64_t quota_window_left(const struct quota *q, const struct quota_window *w);
/* What of it is ours by the budget that is shared; < 0: all. */
int64_t quota_window_ours(const struct quota *q, const struct quota_window *w);
/* The window of our own count, by the server's clock, that `now` surely has reached. */
void quota_window_align(const struct quota *q, struct quota_window *w, tick_t now);
/* Nothing goes before, and what goes then goes at the even pace: who all come back at once are refused at
 * once. */
void quota_close_gate(struct quota *q, tick_t until);
/* Calls a second that the foreground asks for, of late. */
double quota_demand(const struct quota *q, tick_t now);
/* Refused elsewhere. */
void quota_windows_heard(struct quota *q, tick_t until, bool disguised, tick_t now);

/* Renews windows that are over, forgets those that nobody speaks of any more. */
void quota_windows_turn(struct quota *q, tick_t now);
/* A call goes: the pace moves on. */
void quota_windows_spend(struct quota *q, tick_t now);
/* When the call that is `rank` places behind the next one goes, as things are. */
tick_t quota_windows_when(const struct quota *q, int64_t rank, tick_t now);
/* An answer's news. */
void quota_windows_hear(struct quota *q, const struct quota_answer *a, tick_t now);
/* The refusal alone. */
void quota_windows_refused(struct quota *q, const struct quota_answer *a, tick_t now);
/* Our own count against the assumed limits begins, unless it has. */
void quota_windows_assume(struct quota *q, tick_t now);

/* --- A limit that nobody states (quota_learnt.c). --- */

/* The learnt window, NULL: there is none. */
struct quota_window *quota_learnt(struct quota *q);
/* The server states its windows. */
bool quota_stated(const struct quota *q);
/* Believes what the log says; false when it says nothing. */
bool quota_learn(struct quota *q, tick_t now);
/* The learnt window is over. True: it is another one now, and has begun. */
bool quota_learnt_review(struct quota *q, struct quota_window *w, bool spent, tick_t now);
/* A refusal where nothing is stated. `after` < 0: it did not say when. */
void quota_learnt_refused(struct quota *q, tick_t sent, tick_t after, tick_t now);
/* Once nothing is under way that was sent before it. */
void quota_learnt_settle(struct quota *q, tick_t now);

#endif
