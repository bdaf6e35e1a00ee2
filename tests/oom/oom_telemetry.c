/*
 * Custom metrics and OTLP without memory: what was counted before stays, and a message is whole or not made.
 */
#include <stdlib.h>
#include <string.h>

#include "metrics/history.h"
#include "metrics/otlp_spans.h"
#include "proxy/telemetry_resource.h"
#include "tests/oom/inject.h"

static struct custom_sample sample(const char *name, enum custom_type type, const char *value)
{
    return (struct custom_sample){
        .name = name, .type = type, .value = 2, .attributes = {{"k", value}}, .attribute_count = 1};
}

/* Adds one of each type. */
static bool fill(struct custom *c)
{
    bool well = true, folded;
    for (int i = 0; i < CUSTOM_TYPES; i++) {
        struct custom_sample s = sample(custom_type_name((enum custom_type)i), (enum custom_type)i, "v");
        struct custom_error e;
        well = custom_check(c, &s, 1, &e) && custom_add(c, &s, 1, &folded) && well;
    }
    return well;
}

static bool custom_scenario(void)
{
    static const char *const methods[] = {"other"}, *const reasons[] = {"NONE"}, *const outcomes[] = {"ok"};
    struct metrics_config config = {1, methods, 1, reasons, 1, outcomes, 1};
    struct metrics *m = metrics_new(&config);
    struct history *h = m ? history_new(m, 0, 0, HISTORY_BUDGET) : NULL;
    struct custom *c = h ? custom_new() : NULL;
    struct text out = {0};
    struct history_gauges gauges = {1, 1, 1, 1};
    bool well = c && fill(c);
    if (c) {
        struct render_input in = {.metrics = m, .open_metrics = true, .custom = c};
        history_follow(h, c);
        well = history_tick(h, 1000000000, &gauges) && well;
        well = render_metrics(&in, &out) && well;
    }
    text_dispose(&out);
    custom_free(c);
    history_free(h);
    metrics_free(m);
    return well;
}

/* One request with a retry. */
static struct span_record record(void)
{
    struct span_record s;
    memset(&s, 0, sizeof s);
    s.head = (struct span_head){
        .id = {1}, .status = 200, .attempts = 2, .events = 2, .path_bytes = 2, .host_bytes = 1};
    memcpy(s.path, "/x", 2);
    s.host[0] = 'h';
    s.attempts[0].status = 503;
    s.attempts[1].status = 200;
    s.events[1].kind = SPAN_RETRY;
    return s;
}

static bool otlp_scenario(void)
{
    static const char *const methods[] = {"other", "GET"}, *const reasons[] = {"NONE"},
                             *const outcomes[] = {"ok"};
    struct metrics_config config = {2, methods, 2, reasons, 1, outcomes, 1};
    struct metrics *m = metrics_new(&config);
    struct custom *c = m ? custom_new() : NULL;
    struct text resource = {0}, spans = {0}, metrics = {0}, traces = {0};
    struct process_values process = {.cpu_ns = 1};
    struct span_record s = record();
    size_t points = 0;
    bool well = c && metrics_http_begin(m) && fill(c);
    if (well) {
        struct observation o = {.method = 1, .status = 200, .total = 5, .route = metrics_route(m, "/x")};
        struct attempt a = {.method = 1, .status = 200, .total = 5};
        metrics_observe(metrics_block(m, 0), &o);
        metrics_upstream(metrics_block(m, 1), &a);
        otlp_text(&resource, OTLP_RESOURCE_ATTRIBUTE, "service.name", "x");
        struct otlp_scene scene = {.metrics = m,
                                   .resource = &resource,
                                   .version = "1",
                                   .listen_scheme = "http",
                                   .server_address = "::1",
                                   .server_port = 80,
                                   .server_scheme = "http",
                                   .server_path = ""};
        struct otlp_metrics_input in = {
            .scene = &scene, .process = &process, .custom = c, .now = 2, .start = 1};
        well = otlp_metrics(&in, &metrics, &points);
        well = otlp_spans(&spans, &scene, &s) == 3 && well;
        otlp_traces(&traces, &scene, &spans);
        well = !traces.failed && well;
    }
    text_dispose(&resource);
    text_dispose(&spans);
    text_dispose(&metrics);
    text_dispose(&traces);
    custom_free(c);
    metrics_free(m);
    return well;
}

static const char *env(const char *name)
{
    return strcmp(name, "OTEL_RESOURCE_ATTRIBUTES") == 0     ? "a=b,c=%41"
           : strcmp(name, "OTEL_EXPORTER_OTLP_HEADERS") == 0 ? "authorization=Bearer%20x,y=z"
           : strcmp(name, "KUBERNETES_SERVICE_HOST") == 0    ? "10.0.0.1"
           : strcmp(name, "POD_NAME") == 0                   ? "p"
                                                             : NULL;
}

static bool resource_scenario(void)
{
    struct telemetry_identity id = {"s", true, "1", "i"};
    struct text out = {0};
    char *fields[4] = {0};
    unsigned bad = 0;
    bool well = telemetry_resource(&id, env, &out);
    well = telemetry_fields(env, fields, 4, &bad) == 2 && !bad && well;
    for (size_t i = 0; i < 4; i++)
        free(fields[i]);
    text_dispose(&out);
    return well;
}

static bool ring_scenario(void)
{
    struct span_ring *r = span_ring_new(8192);
    struct span_record s = record(), got;
    bool well = r && span_ring_put(r, &s) && span_ring_take(r, &got) && got.head.attempts == 2;
    span_ring_free(r);
    return well;
}

int main(void)
{
    static const struct scenario scenarios[] = {{"custom metrics", custom_scenario},
                                                {"messages of OTLP", otlp_scenario},
                                                {"the resource", resource_scenario},
                                                {"the ring of spans", ring_scenario}};
    return inject_main("telemetry without memory", scenarios, (int)ARRAY_LEN(scenarios), NULL, NULL);
}
