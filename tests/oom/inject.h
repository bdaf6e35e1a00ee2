/*
 * Makes allocations of our own objects fail, the n-th or many: the linker's --wrap puts these
 * functions in the place of malloc and its kin, for what is linked statically only, so libraries go on
 * undisturbed.
 */
#ifndef TESTS_OOM_INJECT_H
#define TESTS_OOM_INJECT_H

#include <stdbool.h>

/* Counts from now on, and fails allocation number `nth` (from 1; 0: none), with all that follow it when
 * `forever`. */
void inject(long nth, bool forever);

/* Allocations asked for since inject(). */
long inject_seen(void);

/*
 * Does something from its beginning to its end, its own cleaning up included. True: it worked. False: it was
 * refused, and everything was given back.
 */
typedef bool scenario_fn(void);

struct scenario {
    const char *name;
    scenario_fn *run;
};

/* Runs each as a Check test of its own: inject_everywhere() must find nothing. The result is main()'s. */
int inject_main(const char *suite, const struct scenario *scenarios, int count, void (*set_up)(void),
                void (*tear_down)(void));

/*
 * Runs a scenario without failures, then with each of its allocations failing, alone and with all later ones.
 * It may not crash, leak (the address sanitizer looks) or be broken afterwards. Returns how many faults there
 * were; prints.
 */
int inject_everywhere(const char *name, scenario_fn *scenario);

#endif
