/*
 * The estimator of change_rate.h. Invariant: every sum stays finite and not below 0; changes <= polls on each
 * scale.
 */
#include "policy/change_rate.h"

#include <math.h>

#define KEEP_LONG   0.95F /* what is left of the old sums after a poll */
#define KEEP_RECENT 0.60F
#define STALE_NEWS                                                                                           \
    0.05F /* recent_changes below this: the last change is long ago, and the short scale is silent */
#define SECONDS_MAX 1e9F

void change_rate_poll(struct change_rate *rate, tick_t interval, bool changed)
{
    float seconds = interval < TICK_MS ? 1e-3F : (float)((double)interval / (double)TICK_S),
          x = changed ? 1.0F : 0.0F;
    if (seconds > SECONDS_MAX)
        seconds = SECONDS_MAX;
    rate->polls = rate->polls * KEEP_LONG + 1;
    rate->changes = rate->changes * KEEP_LONG + x;
    rate->seconds = rate->seconds * KEEP_LONG + seconds;
    rate->recent_polls = rate->recent_polls * KEEP_RECENT + 1;
    rate->recent_changes = rate->recent_changes * KEEP_RECENT + x;
    rate->recent_seconds = rate->recent_seconds * KEEP_RECENT + seconds;
    rate->history = rate->history + seconds > SECONDS_MAX ? SECONDS_MAX : rate->history + seconds;
}

static double cho(double n, double x, double seconds)
{
    if (!(n > 0) || !(seconds > 0))
        return 0;
    return -log((n - x + 0.5) / (n + 0.5)) / (seconds / n);
}

double change_rate_estimate(const struct change_rate *rate)
{
    if (!(rate->history > 0))
        return 0;
    double most = 1.0 / (double)rate->history;
    double slow = cho((double)rate->polls, (double)rate->changes, (double)rate->seconds);
    if (slow > most)
        most = slow;
    if (rate->recent_changes < STALE_NEWS)
        return most;
    double fast =
        cho((double)rate->recent_polls, (double)rate->recent_changes, (double)rate->recent_seconds) / 1.5;
    return fast > most ? fast : most;
}
