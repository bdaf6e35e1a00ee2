/*
 * Requests that meet a connection which the upstream has just closed: with a fixed trust of five minutes, and
 * with the learnt one. An upstream with an idle timeout, 20 ms away; clients that come at random and one that
 * polls; an hour each. Prints a table, exits 1 when a bound is broken.
 */
#include "policy/idle_learn.h"
#include "policy/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { POOL = 64 };

#define WAY      (20 * TICK_MS) /* one way */
#define SERVICE  (30 * TICK_MS)
#define LENGTH   (3600 * TICK_S)
#define MAX_IDLE (300 * TICK_S)

struct scene {
    const char *name;
    tick_t timeout, later; /* of the upstream; and from half-time on */
    double rate;           /* of random requests, a second */
    tick_t poll;           /* a request so long after its last answer; 0 = none */
    tick_t restart;        /* all connections closed at once so often; 0 = never */
    bool says_so;          /* sends Keep-Alive: timeout=N */
};

static const struct scene scenes[] = {
    {"timeout 5 s, 0.5/s", 5 * TICK_S, 5 * TICK_S, 0.5, 0, 0, false},
    {"timeout 5 s, poll at 4.97 s", 5 * TICK_S, 5 * TICK_S, 0, 4970 * TICK_MS, 0, false},
    {"the same, timeout said", 5 * TICK_S, 5 * TICK_S, 0, 4970 * TICK_MS, 0, true},
    {"timeout 60 s, 0.05/s", 60 * TICK_S, 60 * TICK_S, 0.05, 0, 0, false},
    {"60 s, then 5 s, poll at 4.97 s", 60 * TICK_S, 5 * TICK_S, 0.2, 4970 * TICK_MS, 0, false},
    {"5 s, then 60 s, 0.5/s", 5 * TICK_S, 60 * TICK_S, 0.5, 0, 0, false},
    {"60 s, a restart each 2 min, 2/s", 60 * TICK_S, 60 * TICK_S, 2, 0, 120 * TICK_S, false},
};

struct counts {
    long requests, dead, opened, reused;
};

struct connection {
    tick_t idle_since; /* our view: the answer was read */
    tick_t dies;       /* our view: the close arrives */
};

static struct connection idle[POOL]; /* a stack, the last used on top */
static int idle_count;
static struct idle_learn learn;
static struct rng rng;

/* Closes that have arrived by now. */
static void notice_closes(tick_t now)
{
    int kept = 0;
    for (int i = 0; i < idle_count; i++) {
        if (idle[i].dies <= now)
            idle_learn_closed(&learn, idle[i].dies - idle[i].idle_since, idle[i].dies);
        else
            idle[kept++] = idle[i];
    }
    idle_count = kept;
}

static void drop_untrusted(tick_t trust, tick_t now)
{
    int kept = 0;
    for (int i = 0; i < idle_count; i++)
        if (now - idle[i].idle_since < trust)
            idle[kept++] = idle[i];
    idle_count = kept;
}

static void request(const struct scene *s, bool learning, tick_t now, struct counts *n)
{
    tick_t timeout = now < LENGTH / 2 ? s->timeout : s->later;
    notice_closes(now);
    drop_untrusted(learning ? idle_learn_trust(&learn, now) : MAX_IDLE, now);
    n->requests++;
    if (idle_count) {
        struct connection c = idle[--idle_count];
        tick_t age = now - c.idle_since;
        if (now + 2 * WAY > c.dies) { /* the upstream closed it before our bytes arrived */
            n->dead++;
            n->opened++;
            idle_learn_closed(&learn, age, now);
        } else {
            n->reused++;
            idle_learn_reused(&learn, age, now);
        }
    } else {
        n->opened++;
    }
    if (s->says_so)
        idle_learn_hint(&learn, SLICE("timeout=5, max=1000"));
    tick_t answer = now + 2 * WAY + SERVICE, restart = TICK_NEVER;
    if (s->restart)
        restart = (answer / s->restart + 1) * s->restart;
    tick_t dies = answer + timeout + rng_range(&rng, 0, timeout / 100); /* its timer is a little late */
    if (idle_count < POOL)
        idle[idle_count++] = (struct connection){answer, dies < restart ? dies : restart};
}

static struct counts run(const struct scene *s, bool learning)
{
    struct counts n = {0};
    tick_t random = s->rate > 0 ? 0 : TICK_NEVER, poll = s->poll ? 0 : TICK_NEVER;
    rng_seed(&rng, 17);
    idle_count = 0;
    idle_learn_init(&learn, MAX_IDLE);
    for (;;) {
        tick_t now = random < poll ? random : poll;
        if (now >= LENGTH)
            return n;
        request(s, learning, now, &n);
        if (now == random)
            random = now + (tick_t)(-log(1 - rng_double(&rng)) / s->rate * (double)TICK_S);
        else
            poll = now + 2 * WAY + SERVICE + s->poll;
    }
}

int main(void)
{
    int failures = 0;
    puts("                                  requests   fixed 300 s: dead opened   learnt: dead opened");
    for (size_t i = 0; i < ARRAY_LEN(scenes); i++) {
        struct counts fixed = run(&scenes[i], false), learnt = run(&scenes[i], true);
        printf("%-34s %7ld %18ld %6ld %14ld %6ld\n", scenes[i].name, fixed.requests, fixed.dead, fixed.opened,
               learnt.dead, learnt.opened);
        /* Until it has learnt, and once more where the timeout became shorter: an hour's memory gives no
         * more. */
        bool restarts = scenes[i].restart != 0;
        if (!restarts && learnt.dead > 3) {
            puts("  BROKEN: at most three requests meet a dead connection");
            failures++;
        }
        if (restarts && learnt.opened > fixed.opened + fixed.opened / 10 + 2) {
            puts("  BROKEN: restarts must not be taken for a timeout");
            failures++;
        }
    }
    puts(failures ? "BROKEN" : "all bounds held");
    return failures > 0;
}
