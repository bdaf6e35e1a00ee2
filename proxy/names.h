/*
 * Gives metrics/, which knows no policy, the words for methods and reasons.
 */
#ifndef PROXY_NAMES_H
#define PROXY_NAMES_H

#include "metrics/observe.h"

/*
 * Metrics with a block for each worker and one for the control thread, in which enum method and enum reason
 * are the numbers. NULL when out of memory. Freed by metrics_free().
 */
struct metrics *names_metrics_new(int workers);

#endif
