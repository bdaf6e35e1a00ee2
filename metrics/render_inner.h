/*
 * Pieces of the text formats, shared by render*.c only.
 */
#ifndef METRICS_RENDER_INNER_H
#define METRICS_RENDER_INNER_H

#include "metrics/custom.h"
#include "metrics/text.h"

/* HELP and TYPE of a family; a counter's name with its _total. */
void render_family(struct text *out, bool open_metrics, const char *name, const char *type, const char *help);

/* `,key="value"` or, as the first, without the comma. */
void render_label(struct text *out, bool first, const char *key, const char *value);

/* render_custom.c: all custom metrics. */
void render_custom(const struct custom *c, bool open_metrics, struct text *out);

#endif
