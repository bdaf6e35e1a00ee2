/*
 * A finished request in a sentence: what came of it, why, and where the time went.
 */
#ifndef METRICS_EXPLAIN_H
#define METRICS_EXPLAIN_H

#include "metrics/observe.h"
#include "metrics/text.h"

/* One stretch of a request's time. */
struct explain_phase {
    const char *name;  /* as in the admin port's answers */
    const char *words; /* "waiting for ..." */
    int64_t ns;
};
enum { EXPLAIN_PHASES = 9 };

/* The phases that the request went through, one after the other; those of 0 are left out. Returns how many.
 */
size_t explain_phases(const struct observation *o, struct explain_phase out[EXPLAIN_PHASES]);

/* Appends the sentence. Control thread only (names of operations). */
void explain_request(const struct metrics *m, const struct observation *o, struct text *out);

#endif
