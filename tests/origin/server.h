/*
 * The stand-in as a whole: what all threads share, the threads, and their listening sockets.
 */
#ifndef ORIGIN_SERVER_H
#define ORIGIN_SERVER_H

#include "tests/origin/auth.h"
#include "tests/origin/count.h"
#include "tests/origin/desks.h"
#include "tests/origin/io.h"
#include "tests/origin/settings.h"
#include "tests/origin/store.h"
#include "tests/origin/usage.h"

struct event_base;
struct worker;

struct origin {
    struct store *store;
    struct keyring *keyring;
    struct usage *usage;
    struct desks *desks;
    struct settings_box *settings;
    struct counts counts;
    struct io_tls *tls; /* NULL: plain */
    struct server *server;
};

/*
 * Binds `listen` and, when given, `control` (on which no fault applies), each ADDRESS:PORT, and starts
 * `threads` threads. Port 0 takes a free one; the ports in use come back. On failure NULL, and *why (static
 * or of strerror) says what.
 */
struct server_plan {
    const char *listen;
    const char *control; /* NULL: none */
    int threads;
    char listen_at[64]; /* out: the addresses in use */
    char control_at[64];
};
struct server *server_start(struct origin *origin, struct server_plan *plan, const char **why);

/* Stops and joins the threads, closes everything, frees. */
void server_stop(struct server *server);

/* Tells every thread to look at settings.outage again (any thread may call). */
void server_settings_changed(struct server *server);

/* What a connection needs of its thread. */
struct event_base *worker_base(struct worker *worker);
struct origin *worker_origin(struct worker *worker);
const struct settings *
worker_settings(struct worker *worker);      /* the newest, good until the callback returns */
double worker_random(struct worker *worker); /* uniform in [0, 1) */
/* The thread's list of unused input buffers; conn.c knows what they are. */
void **worker_spares(struct worker *worker);
void conn_free_spares(void *spares);
/* Every open connection is on its thread's list, so that stopping can close it. */
struct conn;
void worker_link(struct worker *worker, struct conn *conn);
void worker_unlink(struct worker *worker, struct conn *conn);

#endif
