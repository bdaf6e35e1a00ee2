/*
 * What happened in the last minutes: every ten seconds the control thread notes how far all
 * counters and the main histograms have come since the last note. A window is the sum of
 * such notes and what came since. Workers know nothing of it.
 */
#ifndef METRICS_RECENT_H
#define METRICS_RECENT_H

#include <stdint.h>

#include "metrics/observe.h"

enum { RECENT_SECONDS = 10, RECENT_NOTES = 390 /* an hour and five minutes */ };

struct recent;

/* What was counted within a window. About 80 KiB: not for the stack. */
struct recent_totals {
    int64_t covered; /* nanoseconds that it really covers: less than asked for just after the start */
    uint64_t v[METRIC_COUNT];   /* differences of counters; present values of gauges */
    struct hist_counts request; /* all operations */
    struct hist_counts upstream;
    struct hist_counts round_trip;
    struct hist_counts batch;
};

/* `now`: nanoseconds on a monotonic clock, as in all of these. NULL when out of memory. */
struct recent *recent_new(const struct metrics *m, int64_t now);
void recent_free(struct recent *w);

/* To be called every RECENT_SECONDS; a late call makes a longer note. False when out of memory (the note then
 * joins the next). */
bool recent_tick(struct recent *w, int64_t now);

/* What was counted in the last `length` nanoseconds (rounded up to notes); 0 = since the start. */
void recent_read(struct recent *w, int64_t length, int64_t now, struct recent_totals *out);

/* Nanoseconds since recent_new(). */
int64_t recent_age(const struct recent *w, int64_t now);

/* Bytes that the notes take. */
size_t recent_bytes(const struct recent *w);

#endif
