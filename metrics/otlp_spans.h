/*
 * Spans of OTLP by the semantic conventions for HTTP: one for a request, one for each attempt at the
 * upstream.
 */
#ifndef METRICS_OTLP_SPANS_H
#define METRICS_OTLP_SPANS_H

#include "metrics/otlp.h"
#include "metrics/span.h"

/* Appends the spans of a record, as fields of a ScopeSpans. Returns how many. Control thread only. */
size_t otlp_spans(struct text *spans, const struct otlp_scene *scene, const struct span_record *s);

/* How many spans a record makes. */
size_t span_count(const struct span_record *s);

/* Appends an ExportTraceServiceRequest with these spans. */
void otlp_traces(struct text *out, const struct otlp_scene *scene, const struct text *spans);

#endif
