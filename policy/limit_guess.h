/*
 * What a rate limit is that nobody states: guessed from which calls were accepted and which refused. Limits
 * come as windows that begin on round times of the server's clock, windows that begin with their first call,
 * windows that slide, and buckets that are refilled evenly. Each of these, of each usual length, either can
 * or cannot have answered as the server did; of those that can, the most usual one is believed until it is
 * refuted.
 *
 * Plain state; times are ticks. A guess reads the whole log some ten times over a hundred: it is made after a
 * refusal, not for each call.
 */
#ifndef POLICY_LIMIT_GUESS_H
#define POLICY_LIMIT_GUESS_H

#include "policy/base.h"

#define LIMIT_RUNS 160 /* of the log; older ones are joined, then forgotten */

struct limit_run { /* calls that were accepted one after the other, or one refusal */
    tick_t first, last;
    uint32_t calls; /* 0: a refusal */
};

struct limit_log {
    int count;
    tick_t doubt;        /* about when the server counted a call */
    tick_t would_refuse; /* not in the log yet; 0 = none */
    struct limit_run run[LIMIT_RUNS];
};

/* A call that was sent and answered then. Calls need not come in the order in which they were sent. */
void limit_log_accepted(struct limit_log *l, tick_t sent, tick_t answered);
void limit_log_refused(struct limit_log *l, tick_t sent, tick_t answered);
/* The server said that it would refuse one at that time as well. */
void limit_log_would_refuse(struct limit_log *l, tick_t at);
/* Whatever was refused so far was refused by another limit than what holds now. */
void limit_log_forget_refusals(struct limit_log *l);
/* Forgets what came before. */
void limit_log_forget(struct limit_log *l, tick_t before);

struct limit_clock { /* the server's unix time minus our ticks, in ticks */
    tick_t lo, hi;
};

enum limit_shape {
    LIMIT_SHAPE_NONE,    /* nothing that is known here answers so */
    LIMIT_SHAPE_FIXED,   /* from round times on */
    LIMIT_SHAPE_BEGUN,   /* from its first call on */
    LIMIT_SHAPE_SLIDING, /* so many within any such time */
    LIMIT_SHAPE_BUCKET
};

struct limit_guess {
    enum limit_shape shape;
    tick_t length; /* of the window; bucket: in which `limit` calls flow in */
    double limit;  /* calls; whole but for a bucket */
    double burst;  /* bucket: its size, about */
    bool narrow;   /* bucket: known to within 1 % */
};

/* The most usual limit that can have answered so and allows more than `faster` calls a tick (0: any). NONE
 * when none can, or nothing was refused. */
struct limit_guess limit_guess(const struct limit_log *l, struct limit_clock clock, double faster);

/* Can so many calls in each such time, from round times on, have answered so? `unheard` calls are under way.
 * Others may have spent from the first window before the log begins. */
enum limit_fit {
    LIMIT_FIT_REFUTED, /* more was accepted */
    LIMIT_FIT_MERELY,  /* it may be there, but something else has refused */
    LIMIT_FIT_EXPLAINS
};
enum limit_fit limit_fits(const struct limit_log *l, struct limit_clock clock, tick_t length, int64_t limit,
                          int64_t unheard);

/* After a refusal: when it is worth a call to see whether the limit is over. For each usual length that is
 * behind the next round time, or that long after the first call of the newest spell. */
tick_t limit_probe(const struct limit_log *l, struct limit_clock clock, tick_t now);

/* When fewer than `limit` calls were accepted in the `length` before; `now` or earlier: already. */
tick_t limit_room(const struct limit_log *l, tick_t length, int64_t limit);

/* Calls accepted before the newest refusal. */
int64_t limit_accepted_before_refusal(const struct limit_log *l);

/* Calls accepted since then. */
int64_t limit_accepted_since(const struct limit_log *l, tick_t since);

#endif
