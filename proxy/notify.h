/*
 * Tells receivers of alerts: one message a judgement and receiver, in its format, with retries and bounded
 * queues. A receiver that hangs holds up nobody but itself. Control thread only.
 */
#ifndef PROXY_NOTIFY_H
#define PROXY_NOTIFY_H

#include "metrics/counters.h"
#include "proxy/notify_text.h"

struct config;
struct log;
struct notify;
struct post;
struct view;

enum {
    NOTIFY_QUEUE = 32, /* messages that wait, a receiver; the oldest goes */
    NOTIFY_RECEIVERS = 32,
    NOTIFY_ATTEMPTS = 8,       /* of a message */
    NOTIFY_RESEND_SECONDS = 60 /* what still fires is told to an Alertmanager again so often */
};

struct notify_setup {
    struct post *post;           /* borrowed */
    struct alerts *alerts;       /* borrowed */
    struct log *log;             /* borrowed */
    struct metrics_block *block; /* the control thread's */
    uint64_t seed;               /* for jitter */
};

/* NULL: out of memory. */
struct notify *notify_new(const struct notify_setup *setup);

/* Breaks off what is under way. */
void notify_free(struct notify *n);

/* Another configuration: it is read here and not kept. Receivers that stay keep their queues. */
void notify_tune(struct notify *n, const struct config *cfg);

/* Events of one judgement: those that are to be told go out, together. */
void notify_events(struct notify *n, const struct alert_event *events, size_t count, tick_t now);

/* Once a second: retries, and what Alertmanagers must hear again. */
void notify_second(struct notify *n, tick_t now);

/* For the admin port: each receiver, by host, with its counts. Writes into the array that is open. */
void notify_show(const struct notify *n, struct view *v);

#endif
