/*
 * Max-min fair parts of what is left. Invariant: used <= target <= limit, unless more than the limit was used
 * already.
 */
#include "policy/budget.h"

#include <math.h>

int64_t budget_rest(const struct budget_member *others, int count, const struct budget_member *me,
                    int64_t limit, int64_t left)
{
    int64_t rest = limit - me->used;
    for (int i = 0; i < count; i++)
        rest -= others[i].used;
    if (left >= 0 && left < rest)
        rest = left;
    return rest > 0 ? rest : 0;
}

/* The part of who wants so much, when `rest` is filled up evenly from below. */
static double part(const struct budget_member *others, int count, double wants, double rest)
{
    double level = 0, filled = 0;
    int open = count + 1; /* those that the level has not satisfied yet */
    while (open > 0) {
        double next = wants > level ? wants : INFINITY; /* the next one to be satisfied */
        for (int i = 0; i < count; i++)
            if (others[i].wants > level && others[i].wants < next)
                next = others[i].wants;
        open = wants > level;
        for (int i = 0; i < count; i++)
            open += others[i].wants > level;
        if (!open) /* all are satisfied: what is over is for everybody, should they want it after all */
            return wants + (rest - filled) / (count + 1);
        if (filled + open * (next - level) >= rest)
            return wants > level ? level + (rest - filled) / open : wants;
        filled += open * (next - level);
        level = next;
    }
    return wants;
}

int64_t budget_target(const struct budget_member *others, int count, const struct budget_member *me,
                      int64_t limit, int64_t left)
{
    int64_t rest = budget_rest(others, count, me, limit, left);
    double mine = part(others, count, me->wants > 0 ? me->wants : 0, (double)rest);
    int64_t whole = (int64_t)ceil(mine - 1e-9);
    if (whole < 1 && rest > count) /* so that the first call after a pause need not wait */
        whole = 1;
    return me->used + (whole < rest ? whole : rest);
}

enum budget_kind budget_kind_of(tick_t length)
{
    return length <= 10 * TICK_S ? BUDGET_RATE : length <= 600 * TICK_S ? BUDGET_EXACT : BUDGET_LONG;
}

int64_t budget_alone(int64_t limit, int sidecars)
{
    int64_t share = limit / (sidecars > 1 ? sidecars : 1);
    return share < 1 && limit > 0 ? 1 : share;
}
