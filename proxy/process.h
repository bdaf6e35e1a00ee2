/*
 * What the system says about this process: for process_* of /metrics and for the summary.
 */
#ifndef PROXY_PROCESS_H
#define PROXY_PROCESS_H

#include "metrics/render.h"

/* Fills in all that can be known, 0 for the rest. Reads /proc/self: some 50 us, for the control thread. */
void process_read(struct process_values *out);

/* Puts the processor time into the control thread's block: before every recent_tick() and every summary. */
void process_note(struct metrics_block *control);

#endif
