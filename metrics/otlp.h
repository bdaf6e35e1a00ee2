/*
 * What is measured as messages of the OpenTelemetry protocol (OTLP 1.x, protobuf): requests of the metrics
 * and the trace service. Nothing is sent here; see proxy/telemetry.h.
 */
#ifndef METRICS_OTLP_H
#define METRICS_OTLP_H

#include "metrics/custom.h"
#include "metrics/protobuf.h"
#include "metrics/render.h"

/* Who reports: the attributes of the resource, encoded; put together by otlp_text() and so on. */
enum { OTLP_RESOURCE_ATTRIBUTE = 1 };

/* One attribute (KeyValue) as the given field. Bytes that are no UTF-8 are shown as %XX. */
void otlp_text(struct text *t, unsigned field, const char *key, const char *value);
void otlp_bytes(struct text *t, unsigned field, const char *key, const char *p, size_t n);
void otlp_int(struct text *t, unsigned field, const char *key, int64_t value);
void otlp_bool(struct text *t, unsigned field, const char *key, bool value);

/* What all messages need to know of the process. */
struct otlp_scene {
    const struct metrics *metrics;
    const struct text *resource; /* encoded attributes */
    const char *version;         /* of this program */
    const char *listen_scheme;   /* "http" or "https": of the clients' requests */
    const char *server_address;  /* of the upstream */
    uint16_t server_port;
    const char *server_scheme;
    const char *server_path; /* what goes before each path at the upstream; "" mostly */
    int64_t offset;          /* wall clock minus monotonic clock */
};

/* A trace that shows what lies behind a measurement of http.server.request.duration (or client). */
struct otlp_exemplar {
    enum metrics_http_side side;
    struct http_key key;
    double value;
    int64_t at; /* wall */
    uint8_t trace_id[16], span_id[8];
};

struct otlp_metrics_input {
    const struct otlp_scene *scene;
    const struct supplied *supplied;      /* may be NULL */
    const struct process_values *process; /* may be NULL */
    const struct custom *custom;          /* may be NULL */
    const struct otlp_exemplar *exemplars;
    size_t exemplar_count;
    int64_t start;      /* wall: when the counters were zero */
    int64_t http_start; /* wall: the same of those by the semantic conventions */
    int64_t now;        /* wall */
};

/*
 * Appends an ExportMetricsServiceRequest: everything that /metrics shows, as promptops.* (the name there with
 * a dot behind promptops and without _total), cumulative; http.server.request.duration and
 * http.client.request.duration; process.*; custom metrics under their own names. *points: data points in it.
 * Control thread only. False: out of memory.
 */
bool otlp_metrics(const struct otlp_metrics_input *in, struct text *out, size_t *points);

/* Opens the parts around metrics or spans: the list of resources, one of them, its scope. */
struct otlp_envelope {
    size_t request, scope;
};
struct otlp_envelope otlp_open(struct text *t, const struct otlp_scene *s);
/* Ends the scope and begins another of this name. */
void otlp_next_scope(struct text *t, struct otlp_envelope *e, const struct otlp_scene *s, const char *name);
void otlp_close(struct text *t, const struct otlp_envelope *e);

#endif
