/* Faults on demand: which of them meet a request, and what they make of its reply. */
#ifndef ORIGIN_FAULT_H
#define ORIGIN_FAULT_H

#include "tests/origin/call.h"

/* What was drawn for one request, all rules together. */
struct fault_draw {
    double latency_ms;
    int status; /* an error to answer with; 0: none */
    bool rate_limited, reset_before, hang;
    int dialect;
    int64_t retry_after;
    enum cut cut;
    uint64_t bytes_per_second;
};

/* An outage ends the request here: true, and the reply says how. */
bool fault_outage(struct call *call);
/* Draws from every rule for this operation, and counts down their `times`. */
void fault_draw(struct call *call, struct fault_draw *draw);
/* Answers in place of the handler when an error or a rate limit was drawn. False: nothing was. */
bool fault_answer(struct call *call, const struct fault_draw *draw);
/* Lays latency, resets, cuts and slowness over the finished reply. */
void fault_apply(struct call *call, const struct fault_draw *draw);
/* Adds the fields that the settings ask for, and answers conditions with 304 where they make validators. */
void fault_fields(struct call *call);

#endif
