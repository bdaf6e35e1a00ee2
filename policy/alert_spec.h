/*
 * One row of `alerts:` and of `notifications.webhooks:` as written: what the configuration
 * reader delivers, and what the judge of alerts and the sender of notifications take.
 */
#ifndef POLICY_ALERT_SPEC_H
#define POLICY_ALERT_SPEC_H

#include "policy/base.h"

/* The guide's eleven metric types and CUSTOM_METRIC, and what the sidecar's own alerts look at. */
enum alert_metric {
    ALERT_METRIC_REQUEST_LATENCY, /* seconds */
    ALERT_METRIC_MEMORY_USAGE,    /* MB */
    ALERT_METRIC_CPU_USAGE,       /* per cent */
    ALERT_METRIC_NETWORK_LATENCY, /* seconds */
    ALERT_METRIC_CACHE_HIT_RATE,  /* 0 to 1 */
    ALERT_METRIC_ERROR_RATE,      /* 0 to 1 */
    ALERT_METRIC_THROUGHPUT,      /* requests a second */
    ALERT_METRIC_CONNECTION_POOL_SIZE,
    ALERT_METRIC_RETRY_COUNT,
    ALERT_METRIC_BATCH_SIZE,
    ALERT_METRIC_COMPRESSION_RATIO,
    ALERT_METRIC_CUSTOM_METRIC,
    ALERT_METRIC_QUOTA_REMAINING,     /* 0 to 1: of the upstream's rate limit, where the least is left */
    ALERT_METRIC_CIRCUITS_OPEN,       /* circuits that are open or half-open */
    ALERT_METRIC_POOL_STARVATION,     /* 0 to 1: share of the window's seconds with waiters and a full pool */
    ALERT_METRIC_CERTIFICATE_DAYS,    /* until the first of our certificates ends */
    ALERT_METRIC_RETRY_AMPLIFICATION, /* attempts at the upstream over first attempts */
    ALERT_METRIC_ERROR_BUDGET_BURN_FAST,   /* error budget: the lower of the burn rates of an hour and five
                                              minutes */
    ALERT_METRIC_ERROR_BUDGET_BURN_SLOW,   /* of six hours and half an hour */
    ALERT_METRIC_ERROR_BUDGET_BURN_TICKET, /* of three days and six hours */
    ALERT_METRIC_BATCHING_REFUTED, /* kinds of requests whose batches were shown to answer otherwise */
    ALERT_METRIC_COUNT,
    ALERT_METRIC_NONE = -1 /* not said: as in the built-in alert of the same id */
};

enum alert_compare {
    ALERT_ABOVE,     /* > */
    ALERT_AT_LEAST,  /* >= */
    ALERT_BELOW,     /* < */
    ALERT_AT_MOST,   /* <= */
    ALERT_EQUAL,     /* == */
    ALERT_NOT_EQUAL, /* != */
    ALERT_COMPARE_COUNT,
    ALERT_COMPARE_NONE = -1 /* not said: as in the built-in alert of the same id */
};

enum alert_severity { ALERT_INFO, ALERT_WARNING, ALERT_ERROR, ALERT_CRITICAL, ALERT_SEVERITY_COUNT };

struct alert_spec {
    const char *id;          /* [A-Za-z0-9_.-]+, unique */
    int metric_type;         /* enum alert_metric; NONE only when enabled is false */
    const char *metric_name; /* for CUSTOM_METRIC: whose; else "" */
    int compare;             /* enum alert_compare; NONE only when enabled is false */
    double threshold;        /* the condition is: metric compare threshold */
    const char *condition;   /* as written, "> 2000" */
    int severity;            /* enum alert_severity */
    const char *message;
    tick_t hold;            /* `for`: the condition must have been true for this long */
    tick_t cooldown_period; /* not raised again sooner; -1: performance.alert_cooldown_seconds */
    bool enabled;
};

enum webhook_format { WEBHOOK_JSON, WEBHOOK_SLACK, WEBHOOK_ALERTMANAGER, WEBHOOK_FORMAT_COUNT };

struct webhook_spec {
    const char *url;
    int format; /* enum webhook_format */
};

/* "REQUEST_LATENCY", ... / "info", ... / ">" ... / "json", ...; "" for a number out of range. */
const char *alert_metric_name(int metric);
const char *alert_severity_name(int severity);
const char *alert_compare_name(int compare);
const char *webhook_format_name(int format);

/* Reads "> 2000": false when it is not a comparison and a finite number. */
bool alert_condition_parse(const char *text, int *compare, double *threshold) MUSTCHECK;

/*
 * One row from its fields as text, judged like a row of `alerts:`. NULL with a sentence in `what` (at least
 * 768 bytes), or with "" there when out of memory. Freed, whole, by alert_spec_free().
 */
struct alert_field {
    const char *name, *value;
};
const struct alert_spec *alert_spec_read(const struct alert_field *fields, size_t count, char *what,
                                         size_t room) MUSTCHECK;
void alert_spec_free(const struct alert_spec *spec);

#endif
