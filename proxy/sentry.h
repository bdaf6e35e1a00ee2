/*
 * The alerts of a running sidecar: gathers what they measure, has policy judge them every
 * performance.alert_interval, keeps what the admin port sets, and hands on what is to be told.
 * Control thread only.
 */
#ifndef PROXY_SENTRY_H
#define PROXY_SENTRY_H

#include "metrics/recent.h"
#include "metrics/render.h"
#include "policy/alert.h"

struct config;
struct log;
struct sentry;

enum { SENTRY_ADMIN_MOST = 256 };

/* Where the values come from beside the counters; NAN = not known. All are required. */
struct sentry_sources {
    void *ctx;
    struct recent *recent;
    const struct metrics *metrics;
    struct metrics_block *block; /* the control thread's */
    struct log *log;
    void (*process)(void *ctx, struct process_values *out);
    double (*quota_left)(void *ctx);       /* the least share of a rate limit's window that is left */
    double (*circuits_open)(void *ctx);    /* open or half-open */
    double (*batching_refuted)(void *ctx); /* kinds of requests whose batches answer otherwise */
    bool (*starved)(void *ctx);            /* requests wait, and no connection may be added, now */
    double (*certificate_days)(void *ctx); /* until the first of ours ends */
    /* An application's own metric of this name. */
    double (*custom)(void *ctx, const char *name);
};

/* Sources are copied. NULL: out of memory. */
struct sentry *sentry_new(const struct sentry_sources *sources, const struct config *cfg, tick_t now);
void sentry_free(struct sentry *w);

/* Another configuration: it is read here, and not kept. Out of memory: the old rules stay, and the log says
 * so. */
void sentry_tune(struct sentry *w, const struct config *cfg, tick_t now);

/* Once a second. Judges when it is time to. */
void sentry_second(struct sentry *w, tick_t now);

/* Who hears of a judgement's events, `told` ones and others; called within sentry_second. */
typedef void sentry_listener(void *ctx, const struct alert_event *events, size_t count);
void sentry_listen(struct sentry *w, sentry_listener *listener, void *ctx);

bool sentry_enabled(const struct sentry *w);

/* For looking at, and for alerts_silence. */
struct alerts *sentry_alerts(struct sentry *w);

/*
 * An alert set by the admin port; takes the spec over (see alert_spec_read) when it is true. It replaces one
 * of the same id, whoever said that, until sentry_unset or the end of the process. False: too many, or out of
 * memory.
 */
bool sentry_set(struct sentry *w, const struct alert_spec *spec, tick_t now) MUSTCHECK;

enum sentry_unset { SENTRY_REMOVED, SENTRY_SWITCHED_OFF, SENTRY_UNKNOWN, SENTRY_NO_ROOM };

/* Takes back what sentry_set did; any other alert of that id is switched off. */
enum sentry_unset sentry_unset(struct sentry *w, const char *id, tick_t now) MUSTCHECK;

/* The time of day of an instant, in unix nanoseconds. */
int64_t sentry_wall(tick_t at, tick_t now);

#endif
