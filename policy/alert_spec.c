/*
 * Names of what an alert is made of, and its condition read. Invariant: the tables are in the order
 * of their enums.
 */
#include "policy/alert_spec.h"

#include <string.h>

#include "policy/units.h"

static const char *const metrics[] = {
    "REQUEST_LATENCY",
    "MEMORY_USAGE",
    "CPU_USAGE",
    "NETWORK_LATENCY",
    "CACHE_HIT_RATE",
    "ERROR_RATE",
    "THROUGHPUT",
    "CONNECTION_POOL_SIZE",
    "RETRY_COUNT",
    "BATCH_SIZE",
    "COMPRESSION_RATIO",
    "CUSTOM_METRIC",
    "QUOTA_REMAINING",
    "CIRCUITS_OPEN",
    "POOL_STARVATION",
    "CERTIFICATE_DAYS",
    "RETRY_AMPLIFICATION",
    "ERROR_BUDGET_BURN_FAST",
    "ERROR_BUDGET_BURN_SLOW",
    "ERROR_BUDGET_BURN_TICKET",
    "BATCHING_REFUTED",
};
_Static_assert(ARRAY_LEN(metrics) == ALERT_METRIC_COUNT, "one name a metric");

static const char *const severities[] = {"info", "warning", "error", "critical"};
_Static_assert(ARRAY_LEN(severities) == ALERT_SEVERITY_COUNT, "one name a severity");

static const char *const compares[] = {">", ">=", "<", "<=", "==", "!="};
_Static_assert(ARRAY_LEN(compares) == ALERT_COMPARE_COUNT, "one sign a comparison");

static const char *const formats[] = {"json", "slack", "alertmanager"};
_Static_assert(ARRAY_LEN(formats) == WEBHOOK_FORMAT_COUNT, "one name a format");

static const char *name_of(const char *const *names, int count, int i)
{
    return i >= 0 && i < count ? names[i] : "";
}

const char *alert_metric_name(int metric)
{
    return name_of(metrics, ALERT_METRIC_COUNT, metric);
}

const char *alert_severity_name(int severity)
{
    return name_of(severities, ALERT_SEVERITY_COUNT, severity);
}

const char *alert_compare_name(int compare)
{
    return name_of(compares, ALERT_COMPARE_COUNT, compare);
}

const char *webhook_format_name(int format)
{
    return name_of(formats, WEBHOOK_FORMAT_COUNT, format);
}

bool alert_condition_parse(const char *text, int *compare, double *threshold)
{
    size_t n = strspn(text, "<>=!");
    for (int i = 0; i < ALERT_COMPARE_COUNT; i++) {
        if (n != strlen(compares[i]) || strncmp(text, compares[i], n) != 0)
            continue;
        *compare = i;
        return units_parse_real(text + n + strspn(text + n, " "), threshold);
    }
    return false;
}
