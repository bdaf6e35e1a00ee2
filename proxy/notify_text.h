/*
 * What receivers of alerts are sent, in each format.
 */
#ifndef PROXY_NOTIFY_TEXT_H
#define PROXY_NOTIFY_TEXT_H

#include "policy/alert.h"

struct notify_text {
    const char *service;  /* performance.service_name */
    const char *upstream; /* its host: what alerts are grouped by */
    const char *instance; /* this host's name */
    const struct alerts *alerts;
    tick_t now;
    int64_t wall;    /* unix nanoseconds at `now` */
    tick_t lifetime; /* Alertmanager: how long what fires is to count when nothing more is heard */
};

/* JSON, to be freed; NULL: out of memory. `format`: enum webhook_format. */
char *notify_text_events(const struct notify_text *t, int format, const struct alert_event *events,
                         size_t count);

/* What fires and was told, for an Alertmanager; *count gets how many. */
char *notify_text_firing(const struct notify_text *t, size_t *count);

#endif
