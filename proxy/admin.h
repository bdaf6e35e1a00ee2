/*
 * The admin port: health, metrics, views and a few changes, over HTTP on the control
 * thread's event loop. It decides who may ask and how the answer is written; what is
 * answered comes from the sources handed in.
 */
#ifndef PROXY_ADMIN_H
#define PROXY_ADMIN_H

#include "metrics/recent.h"
#include "metrics/render.h"
#include "policy/base.h"
#include "proxy/log.h"
#include "proxy/view.h"

struct config;
struct debug;
struct adviser;
struct custom;
struct notify;
struct sentry;
struct event_base;
struct tls_context;
struct history;
struct admin;

struct admin_health {
    bool live;       /* the process is sound */
    bool started;    /* start-up is over */
    bool ready;      /* new work is welcome: false while draining */
    const char *why; /* a sentence when one of them is false; static or owned by the source */
};

enum admin_purge { PURGE_KEY, PURGE_PREFIX, PURGE_TAG, PURGE_ALL };

/*
 * Where the answers come from. All are called on the control thread, must not block, and get `ctx`. A NULL
 * source answers 501 and says so. Views write into the root object of the answer.
 */
struct admin_sources {
    void *ctx;
    struct metrics *metrics; /* required */
    struct recent *recent;   /* required; the admin port does not tick it */
    struct history *history; /* NULL: series and export answer 501; not ticked here */
    void (*health)(void *ctx, struct admin_health *out); /* required */
    tick_t (*now)(void *ctx);                            /* required: monotonic clock */
    void (*process)(void *ctx, struct process_values *out);
    void (*supply)(void *ctx, struct supplied *out); /* gauges that somebody else keeps */
    void (*cache)(void *ctx, struct view *v);
    void (*cache_entries)(void *ctx, struct view *v, const char *sort, size_t limit);
    void (*pool)(void *ctx, struct view *v);
    void (*circuit)(void *ctx, struct view *v);
    void (*circuit_history)(void *ctx, struct view *v);
    void (*rate_limits)(void *ctx, struct view *v);
    const struct config *(*snapshot)(
        void *ctx); /* the configuration in force; borrowed until the next call */
    /* Puts a changed one in force and takes its reference over; false with the reason: nothing has changed.
     */
    bool (*change)(void *ctx, const struct config *fresh, char *err, size_t err_size);
    void (*drain)(void *ctx);
    struct sentry *sentry;   /* NULL: /api/v1/alerts answers 501 */
    struct adviser *adviser; /* NULL: /api/v1/recommendations answers 501 */
    struct notify *notify;   /* who is told of them; may be NULL */
    struct custom *custom;   /* NULL: /api/v1/custom-metrics answers 501 */
    struct debug *debug;     /* NULL: /api/v1/debug answers 501 */
    struct log *log;         /* whose levels it changes */
    /* Entries dropped, or -1 when it failed. `what` is empty for PURGE_ALL, else NUL-terminated and not
     * empty. */
    int64_t (*purge)(void *ctx, enum admin_purge kind, struct slice what);
    /* False when there is no circuit of that name. */
    bool (*circuit_reset)(void *ctx, const char *name);
};

struct admin_options {
    const char *address;         /* host:port, [v6]:port or unix:/path; port 0 takes a free one */
    int fd;                      /* a listening socket to take over instead of opening one; 0: none */
    const struct config *cfg;    /* admin.token_file, admin.tls and admin.audit_log of it; only read here */
    struct log *log;             /* may be NULL */
    struct metrics_block *block; /* the control thread's; may be NULL */
};

/*
 * Listens and answers until admin_free(). Options are copied, sources too (what they point to is borrowed).
 * NULL on failure: `error` then says what is wrong and what to do.
 */
struct admin *admin_new(struct event_base *base, const struct admin_options *options,
                        const struct admin_sources *sources, char *error, size_t error_size);

/* The port's TLS: one reference in *out, NULL for plain connections. False with a sentence, which begins with
 * the name of the key in admin.tls that is at fault, when a file does not hold what it should. */
bool admin_tls(const struct config *cfg, struct tls_context **out, char *error, size_t error_size);

/* Takes over what concerns the port of a new configuration: token, certificate, audit log. False with the
 * reason when one cannot be used: then the old ones stay. NULL admin: true. */
bool admin_retune(struct admin *a, const struct config *cfg, char *error, size_t error_size);

/* A change that the sidecar makes by itself, for the audit log. False: there is one, and it cannot be
 * written. NULL admin: true. */
bool admin_audit(struct admin *a, const char *action, const char *detail);

/* Something happened: those who hear the live stream are told at once. Takes `data` over, which may be NULL
 * (then nobody is told). NULL admin is fine. */
void admin_event(struct admin *a, const char *kind, struct view *data);

/* The process is about to stop: those who hear are told. NULL admin is fine. */
void admin_leave(struct admin *a);

/* True when anybody hears it. NULL admin: false. */
bool admin_heard(const struct admin *a);

struct alert_event;
/* The members of an event of GET /api/v1/alerts/history. */
void admin_put_alert_event(struct view *v, const struct alert_event *e, tick_t now);

/* When the port's certificate ends, in seconds since 1970; INT64_MAX: it has none. NULL admin: the same. */
int64_t admin_certificate_not_after(const struct admin *a);

/* The listening socket, to lend it. */
int admin_socket(const struct admin *a);

/* Accepts no more, since another process does; connections that are there are served. */
void admin_say_goodbye(struct admin *a);

/* Stops listening and drops connections. */
void admin_free(struct admin *a);

/* The TCP port listened on; 0 for a unix socket. */
uint16_t admin_port(const struct admin *a);

#endif
