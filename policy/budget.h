/*
 * One budget for several sidecars that spend from the same rate limit: how much of a window is whose. Fair in
 * the sense of max-min: who wants less than an equal part gets what it wants, and the others share the rest
 * equally (Bertsekas, Gallager, Data Networks, 6.5.2).
 */
#ifndef POLICY_BUDGET_H
#define POLICY_BUDGET_H

#include "policy/base.h"

#define BUDGET_MEMBERS 64 /* that are told apart; more share as if they were so many */

struct budget_member {
    int64_t used; /* of this window, calls under way included */
    int64_t held; /* may be used in all; >= used */
    double wants; /* so many more until the window ends */
};

/*
 * What `me` should hold of a window of `limit` calls, of which at most `left` are left by the server's word
 * (< 0: it says nothing). `others` are count members, with the newest that is known of them. Between used and
 * limit; what all hold together is bounded by whoever hands it out.
 */
int64_t budget_target(const struct budget_member *others, int count, const struct budget_member *me,
                      int64_t limit, int64_t left);

/* What is left of it for anybody, by the same reckoning; >= 0. */
int64_t budget_rest(const struct budget_member *others, int count, const struct budget_member *me,
                    int64_t limit, int64_t left);

/*
 * How a window of this length is shared. RATE: it is over before anybody has heard; `used` counts for nothing
 * and the target is a part of the limit. EXACT: what all hold together never exceeds the limit. LONG: others'
 * use is known in good time, and what is held without being used must not be lost for a day.
 */
enum budget_kind { BUDGET_RATE, BUDGET_EXACT, BUDGET_LONG };
enum budget_kind budget_kind_of(tick_t length);

/* The part of one of `sidecars` that know nothing of each other: at least 1 of a limit of at least 1. */
int64_t budget_alone(int64_t limit, int sidecars);

#endif
