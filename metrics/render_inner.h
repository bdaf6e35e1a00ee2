/*
 * Pieces of the text formats, shared by render*.c only.
 */
#ifndef METRICS_RENDER_INNER_H
#define METRICS_RENDER_INNER_H

#include "metrics/custom.h"
#include "metrics/observe.h"
#include "metrics/text.h"

/* HELP and TYPE of a family; a counter's name with its _total. */
void render_family(struct text *out, bool open_metrics, const char *name, const char *type, const char *help);

/* `,key="value"` or, as the first, without the comma. */
void render_label(struct text *out, bool first, const char *key, const char *value);

/* render_custom.c: all custom metrics. */
void render_custom(const struct custom *c, bool open_metrics, struct text *out);

/* render_exemplar.c: all that are kept, by operation, to be freed, and how many; none when out of memory. */
struct exemplar;
size_t render_exemplars_gather(const struct metrics *m, struct exemplar **out);

/* How many of these n are of the operation; *at moves on from where it is to the first of them. */
size_t render_exemplars_of(const struct exemplar *all, size_t n, unsigned operation, size_t *at);

/* Of n, the newest with a duration in (above, upto] nanoseconds; NULL: none. */
const struct exemplar *render_exemplar_pick(const struct exemplar *all, size_t n, double above, double upto);

/* ` # {trace_id="..."} value time`, as it stands behind a sample. */
void render_exemplar(struct text *out, const struct exemplar *e);

#endif
