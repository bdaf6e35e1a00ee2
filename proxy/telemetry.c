/*
 * The exporter: gathers, encodes, and gives the messages to a courier for each signal. Invariants: nothing
 * waits; a point or span that was put into a message ends in exactly one count (exported, rejected, failed,
 * dropped); while OpenTelemetry is off there are no couriers.
 */
#include "proxy/telemetry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "metrics/custom.h"
#include "metrics/otlp_spans.h"
#include "policy/config.h"
#include "proxy/courier.h"
#include "proxy/log.h"
#include "proxy/service.h"
#include "proxy/telemetry_answer.h"
#include "proxy/telemetry_resource.h"
#include "proxy/tracing.h"
#include "proxy/version.h"

#define TIMEOUT (10 * TICK_S)

enum {
    FIELDS_MOST = 16,
    ATTEMPTS = 6, /* about a minute */
    GRPC_FRAME = 5,
    SPANS_A_MESSAGE = 512,
    RECORDS_A_TURN = 4096, /* then others have their turn */
    EXEMPLARS = 128
};

enum signal { SIGNAL_METRICS, SIGNAL_SPANS, SIGNALS };

/* What tells the signals apart. */
static const struct {
    const char *service, *path; /* by gRPC, by HTTP */
    unsigned messages;
    size_t bytes;
    enum metric exported, rejected, failed, dropped;
} signals[SIGNALS] = {
    {"/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", "/v1/metrics", 4, 16 << 20,
     METRIC_OTLP_POINTS_EXPORTED, METRIC_OTLP_POINTS_REJECTED, METRIC_OTLP_POINTS_FAILED,
     METRIC_OTLP_POINTS_DROPPED},
    {"/opentelemetry.proto.collector.trace.v1.TraceService/Export", "/v1/traces", 64, 8 << 20,
     METRIC_OTLP_SPANS_EXPORTED, METRIC_OTLP_SPANS_REJECTED, METRIC_OTLP_SPANS_FAILED,
     METRIC_OTLP_SPANS_DROPPED},
};

struct channel {
    struct telemetry *owner;
    enum signal signal;
    struct courier *courier; /* NULL: off */
    uint64_t rejected;       /* of the message whose answer came just now */
};

struct telemetry {
    struct telemetry_setup setup;
    struct channel channels[SIGNALS];
    bool grpc, counting; /* counting: the histograms by the conventions are kept */
    char *endpoint;
    struct text resource;
    char instance[37];
    struct otlp_scene scene;
    char *server_address, *server_path;
    int64_t http_start;
    tick_t interval, next;
    struct text spans; /* of the next message, encoded */
    size_t span_count;
    struct span_record record;
    struct otlp_exemplar
        exemplars[EXEMPLARS]; /* since the last message with metrics: the slowest of each kind */
    size_t exemplar_count;
};

static int64_t wall_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * TICK_S + t.tv_nsec;
}

/* ---- counting what became of messages ---- */

static enum courier_verdict judge(void *ctx, const struct post_result *result, tick_t *retry_after)
{
    const struct channel *c = ctx;
    return telemetry_judge(c->owner->grpc, result, retry_after);
}

static void count_call(void *ctx, const struct courier_call *call)
{
    struct channel *c = ctx;
    enum metric metric = call->verdict == COURIER_GOOD ? METRIC_OTLP_CALLS_OK
                         : !call->result->status       ? call->result->timed_out ? METRIC_OTLP_CALLS_TIMEOUT
                                                                                 : METRIC_OTLP_CALLS_UNREACHABLE
                         : call->verdict == COURIER_AGAIN ? METRIC_OTLP_CALLS_UNAVAILABLE
                                                          : METRIC_OTLP_CALLS_REFUSED;
    metric_add(c->owner->setup.block, metric, 1);
    c->rejected = call->verdict == COURIER_GOOD ? telemetry_rejected(c->owner->grpc, call->result) : 0;
}

static void count_end(void *ctx, enum courier_end end, unsigned units, unsigned kind)
{
    struct channel *c = ctx;
    struct metrics_block *block = c->owner->setup.block;
    (void)kind;
    if (end == COURIER_TAKEN) {
        uint64_t rejected = c->rejected < units ? c->rejected : units;
        metric_add(block, signals[c->signal].exported, units - rejected);
        metric_add(block, signals[c->signal].rejected, rejected);
        if (rejected)
            log_write(c->owner->setup.service->log, LOG_WARNING, "telemetry",
                      "the collector has left out %llu of %u %s", (unsigned long long)rejected, units,
                      c->signal == SIGNAL_METRICS ? "data points" : "spans");
    } else if (end == COURIER_REFUSED) {
        metric_add(block, signals[c->signal].rejected, units);
    } else {
        metric_add(block, end == COURIER_DROPPED ? signals[c->signal].dropped : signals[c->signal].failed,
                   units);
    }
}

/* ---- setting up ---- */

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* endpoint and path, with one slash between them; to be freed. */
static char *join(const char *endpoint, const char *path)
{
    size_t n = strlen(endpoint), k = strlen(path);
    while (n && endpoint[n - 1] == '/')
        n--;
    char *url = malloc(n + k + 1);
    if (url) {
        memcpy(url, endpoint, n);
        memcpy(url + n, path, k + 1);
    }
    return url;
}

static struct courier *courier_for(struct telemetry *t, struct channel *c, const char *const *fields)
{
    char *url = join(t->endpoint, t->grpc ? signals[c->signal].service : signals[c->signal].path);
    char *host = courier_host(t->endpoint), what[300];
    struct courier *courier = NULL;
    if (url && host) {
        snprintf(what, sizeof what, "the collector at %.200s", host);
        struct post_job job = {.url = url,
                               .content_type = t->grpc ? "application/grpc+proto" : "application/x-protobuf",
                               .fields = fields,
                               .timeout = TIMEOUT,
                               .keep = true,
                               .http2 = t->grpc,
                               .want_answer = true,
                               .ca_file = environment("OTEL_EXPORTER_OTLP_CERTIFICATE")};
        struct courier_setup setup = {.post = t->setup.post,
                                      .log = t->setup.service->log,
                                      .module = "telemetry",
                                      .what = what,
                                      .job = &job,
                                      .seed = t->setup.seed++,
                                      .messages = signals[c->signal].messages,
                                      .bytes = signals[c->signal].bytes,
                                      .attempts = ATTEMPTS,
                                      .ctx = c,
                                      .judge = judge,
                                      .called = count_call,
                                      .ended = count_end};
        courier = courier_new(&setup);
    }
    free(url);
    free(host);
    return courier;
}

static void stop(struct telemetry *t, enum signal signal)
{
    courier_free(t->channels[signal].courier);
    t->channels[signal].courier = NULL;
}

static bool start(struct telemetry *t, const struct config *cfg)
{
    char *fields[FIELDS_MOST + 2] = {0};
    unsigned bad = 0;
    size_t n = telemetry_fields(environment, fields, FIELDS_MOST, &bad);
    bool good = true;
    if (bad)
        log_write(
            t->setup.service->log, LOG_WARNING, "telemetry",
            "OTEL_EXPORTER_OTLP_HEADERS: %u entries are left out: write key=value,key=value, with %%XX for "
            "what is not plain text",
            bad);
    if (t->grpc)
        good = (fields[n++] = strdup("TE: trailers")) != NULL;
    for (int i = 0; i < SIGNALS; i++) {
        struct channel *c = &t->channels[i];
        bool wanted = i == SIGNAL_METRICS || cfg->performance_opentelemetry_traces;
        if (!wanted)
            stop(t, (enum signal)i);
        else if (good && !c->courier)
            good = (c->courier = courier_for(t, c, (const char *const *)fields)) != NULL;
    }
    for (size_t i = 0; i < FIELDS_MOST + 1; i++) {
        if (fields[i])
            explicit_bzero(fields[i], strlen(fields[i]));
        free(fields[i]);
    }
    return good && tracing_set(t->setup.service->tracing, cfg->performance_opentelemetry_traces,
                               cfg->performance_sample_rate);
}

static bool set_scene(struct telemetry *t, const struct config *cfg)
{
    const struct config_place *place = config_place_of(cfg, CONFIG_OPTION_performance_service_name);
    struct telemetry_identity id = {.service_name = cfg->performance_service_name,
                                    .service_name_set = place->source != CONFIG_FROM_DEFAULT,
                                    .version = PROMPTOPS_SIDECAR_VERSION,
                                    .instance = t->instance};
    text_clear(&t->resource);
    t->resource.failed = false;
    free(t->server_address);
    free(t->server_path);
    t->server_address = strdup(cfg->upstream_url.host);
    t->server_path = strdup(cfg->upstream_url.path);
    t->scene = (struct otlp_scene){
        .metrics = t->setup.service->metrics,
        .resource = &t->resource,
        .version = PROMPTOPS_SIDECAR_VERSION,
        .listen_scheme = *cfg->listen_tls_certificate_file ? "https" : "http",
        .server_address = t->server_address,
        .server_port = cfg->upstream_url.port,
        .server_scheme = cfg->upstream_url.tls ? "https" : "http",
        .server_path = t->server_path,
    };
    return telemetry_resource(&id, environment, &t->resource) && t->server_address && t->server_path;
}

void telemetry_tune(struct telemetry *t, const struct config *cfg)
{
    bool on = cfg->performance_enabled && cfg->performance_opentelemetry_enabled;
    bool grpc = cfg->performance_opentelemetry_protocol == CONFIG_PERFORMANCE_OPENTELEMETRY_PROTOCOL_GRPC;
    const char *endpoint = cfg->performance_opentelemetry_endpoint.text;
    bool same = on && t->endpoint && t->grpc == grpc && strcmp(t->endpoint, endpoint) == 0;
    if (!same) {
        for (int i = 0; i < SIGNALS; i++)
            stop(t, (enum signal)i);
        free(t->endpoint);
        t->endpoint = NULL;
    }
    if (!on) {
        (void)tracing_set(t->setup.service->tracing, false, 0);
        return;
    }
    t->interval = cfg->performance_export_interval;
    t->next = 0;
    t->grpc = grpc;
    if (!t->endpoint)
        t->endpoint = strdup(endpoint);
    if (!t->counting) {
        t->counting = metrics_http_begin(t->setup.service->metrics);
        t->http_start = wall_now();
    }
    if (!t->endpoint || !t->counting || !set_scene(t, cfg) || !start(t, cfg))
        log_write(t->setup.service->log, LOG_ERROR, "telemetry",
                  "out of memory: not everything goes to the collector");
}

struct telemetry *telemetry_new(const struct telemetry_setup *setup)
{
    struct telemetry *t = calloc(1, sizeof *t);
    uint8_t id[16];
    if (!t)
        return NULL;
    t->setup = *setup;
    for (int i = 0; i < SIGNALS; i++)
        t->channels[i] = (struct channel){.owner = t, .signal = (enum signal)i};
    if (getrandom(id, sizeof id, 0) != sizeof id)
        memcpy(id, setup->service->instance, sizeof id);
    id[6] = (id[6] & 0x0f) | 0x40; /* a UUID of version 4 */
    id[8] = (id[8] & 0x3f) | 0x80;
    for (size_t i = 0, at = 0; i < sizeof id; i++)
        at += (size_t)snprintf(t->instance + at, sizeof t->instance - at, "%s%02x",
                               i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
    return t;
}

void telemetry_free(struct telemetry *t)
{
    if (!t)
        return;
    for (int i = 0; i < SIGNALS; i++)
        stop(t, (enum signal)i);
    free(t->server_address);
    free(t->server_path);
    free(t->endpoint);
    text_dispose(&t->resource);
    text_dispose(&t->spans);
    free(t);
}

/* ---- sending ---- */

/* A message of gRPC is framed: not compressed, and its length (big-endian). */
static void begin_message(const struct telemetry *t, struct text *message)
{
    if (t->grpc)
        text_bytes(message, "\0\0\0\0", GRPC_FRAME);
}

static void give(struct telemetry *t, enum signal signal, struct text *message, size_t units, tick_t now)
{
    size_t n = message->n - (t->grpc ? GRPC_FRAME : 0);
    for (size_t i = 0; t->grpc && !message->failed && i < 4; i++)
        message->p[1 + i] = (char)(n >> (24 - 8 * i));
    if (message->failed)
        text_dispose(message);
    courier_put(t->channels[signal].courier, message->failed ? NULL : message->p, message->n, (unsigned)units,
                0, now);
}

static void send_metrics(struct telemetry *t, tick_t now)
{
    struct process_values process = {0};
    struct supplied *supplied = calloc(1, sizeof *supplied);
    struct text message = {0};
    size_t points = 0;
    if (supplied)
        t->setup.supply(t->setup.ctx, supplied);
    t->setup.process(t->setup.ctx, &process);
    int64_t wall = wall_now();
    t->scene.offset = wall - now;
    struct otlp_metrics_input in = {.scene = &t->scene,
                                    .supplied = supplied,
                                    .process = &process,
                                    .custom = t->setup.custom,
                                    .exemplars = t->exemplars,
                                    .exemplar_count = t->exemplar_count,
                                    .start = t->setup.start,
                                    .http_start = t->http_start,
                                    .now = wall};
    begin_message(t, &message);
    message.failed |= !otlp_metrics(&in, &message, &points);
    free(supplied);
    t->exemplar_count = 0;
    give(t, SIGNAL_METRICS, &message, points, now);
}

/* ---- traces ---- */

static bool same_key(const struct otlp_exemplar *a, const struct otlp_exemplar *b)
{
    return a->side == b->side && a->key.route == b->key.route && a->key.status == b->key.status &&
           a->key.cause == b->key.cause && a->key.method == b->key.method;
}

static void keep_exemplar(struct telemetry *t, const struct otlp_exemplar *e)
{
    for (size_t i = 0; i < t->exemplar_count; i++)
        if (same_key(&t->exemplars[i], e)) {
            if (e->value > t->exemplars[i].value)
                t->exemplars[i] = *e;
            return;
        }
    if (t->exemplar_count < EXEMPLARS)
        t->exemplars[t->exemplar_count++] = *e;
}

/* The request and its attempts as examples of what the histograms hold. */
static void keep_exemplars(struct telemetry *t, const struct span_record *s)
{
    const struct span_head *h = &s->head;
    struct observation o = {.operation = h->operation,
                            .method = h->method,
                            .status = h->status,
                            .reason = h->reason,
                            .flags = h->observed};
    struct otlp_exemplar e = {.side = METRICS_HTTP_SERVER,
                              .key = metrics_http_key(&o),
                              .value = (double)h->total / 1e9,
                              .at = h->ended + t->scene.offset};
    memcpy(e.trace_id, h->trace_id, sizeof e.trace_id);
    memcpy(e.span_id, h->id, sizeof e.span_id);
    if (!h->internal)
        keep_exemplar(t, &e);
    for (unsigned i = 0; i < h->attempts; i++) {
        const struct span_attempt *a = &s->attempts[i];
        e.side = METRICS_HTTP_CLIENT;
        e.key = (struct http_key){.status = a->status, .cause = a->outcome, .method = h->method};
        e.value = (double)a->total / 1e9;
        e.at = a->ended + t->scene.offset;
        memcpy(e.span_id, a->id, sizeof e.span_id);
        if (a->ended)
            keep_exemplar(t, &e);
    }
}

static void send_spans(struct telemetry *t, tick_t now)
{
    struct text message = {0};
    if (!t->span_count)
        return;
    begin_message(t, &message);
    otlp_traces(&message, &t->scene, &t->spans);
    give(t, SIGNAL_SPANS, &message, t->span_count, now);
    text_clear(&t->spans);
    t->spans.failed = false;
    t->span_count = 0;
}

void telemetry_gather(struct telemetry *t, tick_t now)
{
    bool wanted = t->channels[SIGNAL_SPANS].courier != NULL;
    struct tracing *tracing = t->setup.service->tracing;
    if (!wanted && !t->counting)
        return; /* it was never on */
    t->scene.offset = wall_now() - now;
    for (int i = 0; i < RECORDS_A_TURN && tracing_take(tracing, &t->record); i++) {
        if (!wanted) {
            metric_add(t->setup.block, METRIC_OTLP_SPANS_DROPPED, span_count(&t->record));
            continue;
        }
        keep_exemplars(t, &t->record);
        t->span_count += otlp_spans(&t->spans, &t->scene, &t->record);
        if (t->span_count >= SPANS_A_MESSAGE)
            send_spans(t, now);
    }
}

void telemetry_second(struct telemetry *t, tick_t now)
{
    if (!t->channels[SIGNAL_METRICS].courier)
        return;
    if (!t->next)
        t->next = now + t->interval - TICK_S / 2;
    if (now >= t->next) {
        t->next += t->interval;
        if (t->next <= now)
            t->next = now + t->interval - TICK_S / 2;
        send_metrics(t, now);
    }
    if (t->channels[SIGNAL_SPANS].courier)
        send_spans(t, now);
    for (int i = 0; i < SIGNALS; i++)
        if (t->channels[i].courier)
            courier_second(t->channels[i].courier, now);
}

bool telemetry_idle(const struct telemetry *t)
{
    struct courier_view v;
    for (int i = 0; i < SIGNALS; i++) {
        if (!t->channels[i].courier)
            continue;
        courier_look(t->channels[i].courier, &v);
        if (v.busy)
            return false;
    }
    return true;
}

void telemetry_flush(struct telemetry *t, tick_t now)
{
    telemetry_gather(t, now);
    if (t->channels[SIGNAL_SPANS].courier)
        send_spans(t, now);
    if (t->channels[SIGNAL_METRICS].courier)
        send_metrics(t, now);
}
