/*
 * Retry, budget, breaker and a concurrency cap in simulated outages, against bounds. Prints a table, exits 1
 * when a bound is broken. Three seeds a row; the worst counts.
 */
#include "tests/sim/outage.h"

#include <stdio.h>
#include <stdlib.h>

enum { SEEDS = 3 };

struct row {
    const char *name;
    int attempts;
    double budget; /* > 1: in effect none */
    double threshold;
    bool breaker;
    int cap;
    tick_t deadline;
    tick_t health;
};

static const struct row rows[] = {
    {"no retry", 1, 0.1, 0, false, 0, TICK_NEVER, 0},
    {"3 attempts, no budget", 3, 100, 0, false, 0, TICK_NEVER, 0},
    {"+ 10 % budget", 3, 0.1, 0, false, 0, TICK_NEVER, 0},
    {"+ success threshold 0.5", 3, 0.1, 0.5, false, 0, TICK_NEVER, 0},
    {"+ breaker", 3, 0.1, 0.5, true, 0, TICK_NEVER, 0},
    {"+ health check each 5 s", 3, 0.1, 0.5, true, 0, TICK_NEVER, 5 * TICK_S},
    {"+ cap 120, 2 s deadline", 3, 0.1, 0.5, true, 120, 2 * TICK_S, 5 * TICK_S},
    {"the same without breaker", 3, 0.1, 0.5, false, 120, 2 * TICK_S, 0},
};

struct worst { /* of the seeds */
    double load, fault, after, recovery;
    uint64_t late;
};

static int failures;

static void bound(bool good, const char *what)
{
    if (good)
        return;
    printf("  BROKEN: %s\n", what);
    failures++;
}

static struct worst run(const struct row *row, enum outage_kind kind, double errors)
{
    struct worst worst = {.fault = 1, .after = 1};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct outage_setup s;
        struct outage_result r;
        outage_defaults(&s);
        s.seed = seed;
        s.kind = kind;
        s.errors = errors;
        s.retry.max_attempts = row->attempts;
        s.retry.success_rate_threshold = row->threshold;
        s.budget = row->budget;
        s.breaker.enabled = row->breaker;
        s.cap = row->cap;
        s.deadline = row->deadline;
        s.health = row->health;
        if (!outage_run(&s, &r)) {
            fputs("out of memory\n", stderr);
            exit(1);
        }
        double load = (double)r.phase[OUTAGE_DURING].sent / (double)r.phase[OUTAGE_DURING].offered;
        double fault = (double)r.phase[OUTAGE_DURING].good / (double)r.phase[OUTAGE_DURING].offered;
        double after = (double)r.phase[OUTAGE_AFTER].good / (double)r.phase[OUTAGE_AFTER].offered;
        worst.load = load > worst.load ? load : worst.load;
        worst.fault = fault < worst.fault ? fault : worst.fault;
        worst.after = after < worst.after ? after : worst.after;
        if (r.recovery < 0 || worst.recovery < 0)
            worst.recovery = -1;
        else
            worst.recovery = r.recovery > worst.recovery ? r.recovery : worst.recovery;
        worst.late += r.late;
    }
    bound(worst.late == 0, "no attempt starts after its deadline");
    return worst;
}

static void print(const char *name, struct worst w)
{
    printf("%-26s load x%-5.2f  good in fault %.3f  after %.3f  recovery ", name, w.load, w.fault, w.after);
    if (w.recovery < 0)
        puts("never");
    else
        printf("%.0f s\n", w.recovery);
}

int main(void)
{
    struct worst w[ARRAY_LEN(rows)];
    puts("hard outage: every request answered 503 in 5 ms for 30 s");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        print(rows[i].name, w[i] = run(&rows[i], OUTAGE_HARD, 0));
    bound(w[1].load > 2.9, "without a budget three attempts are three times the load");
    bound(w[2].load <= 1.15, "the budget holds the load at 1.15 x offered");
    bound(w[3].load <= 1.05, "the success threshold holds it at 1.05");
    bound(w[4].load <= 0.05, "with the breaker the load is at most 0.05 of what is offered");
    bound(w[5].recovery >= 0 && w[5].recovery <= 5, "with health checks the breaker closes within 5 s");
    bound(w[6].after >= 0.9, "all together");

    puts("gray failure: five times slower for 30 s; 0.216 of the requests could be answered in time");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        print(rows[i].name, w[i] = run(&rows[i], OUTAGE_GRAY, 0));
    bound(w[1].recovery < 0, "without a budget the overload outlives the fault");
    bound(w[2].recovery >= 0, "with the budget it ends");
    bound(w[4].recovery >= 0 && w[4].recovery <= 20, "with the breaker within 20 s");
    bound(w[6].fault >= 0.9 * 0.216, "all together: 0.9 of what is possible in the fault");
    bound(w[6].after >= 0.97, "all together: 0.97 good after it");
    bound(w[6].recovery >= 0 && w[6].recovery <= 5, "all together: well within 5 s");

    puts("1 % random errors, no outage");
    print("as shipped", w[0] = run(&rows[4], OUTAGE_NONE, 0.01));
    bound(w[0].fault >= 0.999 && w[0].after >= 0.999, "success 99.9 %");
    bound(w[0].load <= 1.02, "load 1.02");
    puts(failures ? "BROKEN" : "all bounds held");
    return failures > 0;
}
