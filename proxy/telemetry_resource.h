/*
 * Who reports to an OpenTelemetry collector, and with which header fields: out of the configuration, the
 * environment and the system.
 */
#ifndef PROXY_TELEMETRY_RESOURCE_H
#define PROXY_TELEMETRY_RESOURCE_H

#include "metrics/text.h"
#include "policy/base.h"

/* The environment: getenv() or, in tests, something like it. */
typedef const char *telemetry_env(const char *name);

struct telemetry_identity {
    const char *service_name; /* as configured */
    bool service_name_set;    /* by the configuration: goes before OTEL_SERVICE_NAME */
    const char *version;
    const char *instance; /* tells this process from all others */
};

/*
 * Appends the attributes of the resource, as metrics/otlp.h wants them: service.*, host.*, os.type,
 * process.*, k8s.* where the environment has them (POD_NAME, POD_NAMESPACE, POD_UID, NODE_NAME,
 * CONTAINER_NAME, CLUSTER_NAME and the names that OpenTelemetry's operator gives), and what
 * OTEL_RESOURCE_ATTRIBUTES says, which goes before what was found. False: out of memory.
 */
bool telemetry_resource(const struct telemetry_identity *id, telemetry_env *env, struct text *out);

/*
 * Takes `key=value,key2=value2` apart, values decoded from %XX (W3C Baggage, as OTEL_RESOURCE_ATTRIBUTES and
 * OTEL_EXPORTER_OTLP_HEADERS are written). Calls `each` for every pair whose key is not empty; pairs that are
 * malformed are left out and counted in the result. -1: out of memory.
 */
int telemetry_pairs(const char *text, void (*each)(void *ctx, const char *key, const char *value), void *ctx);

/* Header fields "Name: value" of OTEL_EXPORTER_OTLP_HEADERS (tokens, most often): at most `most`, each to be
 * freed. Returns how many; *bad: left out because no header field can be so. */
size_t telemetry_fields(telemetry_env *env, char **out, size_t most, unsigned *bad);

#endif
