/*
 * The control thread from the inside, shared by the control*.c files only.
 */
#ifndef PROXY_CONTROL_INTERNAL_H
#define PROXY_CONTROL_INTERNAL_H

#include "metrics/render.h"
#include "policy/advise.h"
#include "policy/config.h"
#include "proxy/admin.h"
#include "proxy/config_file.h"
#include "proxy/file_watch.h"
#include "proxy/mailbox.h"
#include "proxy/service.h"
#include "proxy/supervisor.h"

struct event;
struct event_base;
struct adviser;
struct handover;
struct notify;
struct post;
struct custom;
struct custom_push;
struct history;
struct recent;
struct sentry;
struct telemetry;

enum stage { STAGE_STARTING, STAGE_SERVING, STAGE_DRAINING, STAGE_STOPPING };

struct control {
    const struct config_sources *sources;
    const struct config *cfg;      /* in force; a reference */
    struct publication *published; /* a reference */
    struct service service;
    struct event_base *base;
    struct event *signals[5];
    struct event *second; /* once a second */
    struct event *drain_check;
    struct admin *admin;
    struct recent *recent;
    struct history *history;
    struct custom *custom; /* what the application posts */
    struct custom_push *custom_push;
    struct telemetry *telemetry;
    int64_t began_wall; /* when the counters were zero, in nanoseconds since 1970 */
    tick_t flushed;     /* when the last of it was given to who sends it; 0: not yet */
    struct sentry *sentry;
    struct post *post; /* what the control thread sends by itself */
    struct notify *notify;
    struct adviser *adviser;
    struct file_watch watch;
    enum stage stage;
    tick_t since; /* of the stage */
    tick_t history_saved;
    tick_t noted;       /* of the last note in `recent` */
    bool forced;        /* what is in flight was cut */
    bool reload_failed; /* the last reload was refused: said by readiness views */
    bool leaving;       /* draining, and accepting no more: it ends when the clients have left */
    bool supervised; /* the application's sockets are a supervisor's: what we do not accept waits in them */
    bool admin_supervised; /* the admin port's too */
    unsigned workers_running;
    uint64_t lookups; /* of the upstream's name, that are counted */
    struct {          /* to those who hear the live stream */
        uint64_t breaker;
        uint8_t advice[ADVISE_KINDS]; /* enum adviser_state */
    } told;
    struct inherited inherited; /* sockets that were handed over and not taken yet */
    int sockets[INHERITED_MAX]; /* listening ones, each once; owned by the workers' listeners */
    int socket_count;
    int handover_fd; /* to the process before, which waits for us; -1: none */
    struct handover *handover;
    tick_t watchdog; /* how often the supervisor wants to hear of us; 0: never */
    tick_t watched;  /* when it last did */
};

tick_t control_now(void);

/* control_sockets.c: takes the sockets that are there already. False: the start must fail. */
bool control_inherit(struct control *c, char *err, size_t err_size) MUSTCHECK;

/* Makes the workers, each with its sockets. False with a sentence in err. */
bool control_listen(struct control *c, int workers, char *err, size_t err_size) MUSTCHECK;

/* We serve: the process before may leave, and the next one may come. / Whatever is left of it. */
void control_handover(struct control *c);

/*
 * The supervisor wants us to end, and its sockets stay open: connections wait in them for the process that it
 * starts next, so none is accepted any more. False: the sockets are our own, nothing was done.
 */
bool control_yield(struct control *c);
void control_sockets_end(struct control *c);

/* control_admin.c: what the admin port shows. */
void control_sources(struct control *c, struct admin_sources *out);

/* control_entries.c: `entries` and `total` of what is stored. `sort` must be a word of admin_endpoints.def.
 */
void control_entries(void *ctx, struct view *v, const char *sort, size_t limit);

/* control_events.c: what the live stream is told of. `turn`: often; `before`: the configuration that was. */
struct guard_change;
void control_put_change(const struct control *c, struct view *v, const struct guard_change *change);
void control_events_turn(struct control *c);
void control_events_second(struct control *c);
void control_events_config(struct control *c, const struct config *before);
void control_events_alerts(struct control *c, const struct alert_event *events, size_t count);

/* control_admin.c: "upstream", or an operation's name. */
const char *control_circuit_name(const struct control *c, int operation);

/* control_alerts.c: the alerts of this process, and who is told. False: out of memory. */
bool control_alerts_start(struct control *c);
void control_alerts_tune(struct control *c);
void control_alerts_second(struct control *c, tick_t now);
void control_alerts_stop(struct control *c);

/* control_tiers.c: the tiers of the cache. False with a reason: no memory, no thread. */
struct store_stats;
bool control_tiers_start(struct control *c, const char **why);
void control_tiers_tune(struct control *c);
void control_tiers_second(struct control *c);
void control_tiers_note(struct control *c);
void control_tiers_supply(struct control *c, const struct store_stats *stats, struct supplied *out);
void control_tiers_show(struct control *c, const struct store_stats *stats, struct view *v);
void control_tiers_settle(struct control *c); /* a purge that is told is on the disk, if the disk is quick */
void control_tiers_stop(struct control *c);
/* control_telemetry.c: what is sent to collectors. False: out of memory. */
bool control_telemetry_start(struct control *c);
void control_telemetry_tune(struct control *c);
/* A few times a second: takes over what the workers have traced. */
void control_telemetry_turn(struct control *c);
void control_telemetry_second(struct control *c, tick_t now);
/* The workers have left: sends the last. True: it has arrived, or is waited for no more. */
bool control_telemetry_ended(struct control *c, tick_t now);
void control_telemetry_stop(struct control *c);

/* control_admin.c: gauges that others keep. */
void control_supply(void *ctx, struct supplied *out);

/* control_advice.c: recommendations. False: out of memory. */
bool control_advice_start(struct control *c);

enum { SIGNAL_RELOAD = 2 }; /* place of HUP in control.signals */

/*
 * control.c: puts a snapshot in force. Takes over the reference and what `watch` holds; when something in it
 * cannot be worked out (a certificate that is not there) false with the reason: then nothing has changed, and
 * both stay the caller's.
 */
bool control_adopt(struct control *c, const struct config *fresh, struct file_watch *watch, char *err,
                   size_t err_size);

/* The same for a change by the admin port. */
bool control_change(void *ctx, const struct config *fresh, char *err, size_t err_size);

/* control.c: for the admin port. */
void control_drain(struct control *c);

/* control.c: accepts no more, since another process does or will: ends when the clients have left. */
void control_leave(struct control *c);

/* Numbers summed over the workers' blocks. */
uint64_t control_gauge(struct control *c, enum metric m);

#endif
