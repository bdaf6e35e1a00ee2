/* The usage log. */
#ifndef ORIGIN_USAGE_H
#define ORIGIN_USAGE_H

#include "tests/origin/call.h"

struct usage;

struct usage *usage_new(void); /* NULL when out of memory */
void usage_free(struct usage *usage);
void usage_reset(struct usage *usage);

handler op_log_usage, op_usage_stats;

#endif
