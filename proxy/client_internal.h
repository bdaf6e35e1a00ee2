/*
 * A client from the inside, shared by client.c (the connection and its requests) and client_codec.c (the
 * door towards the exchange).
 */
#ifndef PROXY_CLIENT_INTERNAL_H
#define PROXY_CLIENT_INTERNAL_H

#include <event2/event_struct.h>
#include <netinet/in.h>

#include "proxy/codec.h"
#include "proxy/h1.h"
#include "proxy/stream.h"
#include "proxy/worker.h"

struct config;

struct client {
    struct downstream d; /* first: the codec's door */
    struct stream stream;
    struct client *prev, *next; /* on the list of its state */
    struct client *resume_next;
    struct event rd, wr;
    struct timer timer;
    struct settings *settings; /* those that the present request began with; a reference */
    struct out out;
    struct {
        char *p;
        uint32_t len, cap;
    } in;
    struct h1_scan scan;
    struct h1_body body;
    uint32_t lingered;
    uint32_t peer;  /* its IPv4 address, and */
    in_port_t port; /* its port, 0: another family; both in network order */
    uint8_t state;
    bool reading, writing; /* events armed */
    bool body_paused;      /* the exchange wants no more body now */
    bool replied;          /* a final head was given for the present request */
    bool chunked;          /* the present answer is sent chunked */
    bool until_close;      /* the present answer's body ends with the connection */
    bool end_writing;      /* tunnel: shut our side down once the queue is empty */
    bool hard_end;         /* end it with a reset */
    bool close_after;      /* the connection ends with the present answer */
    bool on_resume;
    bool feeding; /* client_feed() is at work, and sees itself when the exchange is over */
    bool misdirected;
};

extern const struct downstream_ops CLIENT_OPS;

/* The only writer of `state`: moves the client to that state's list. */
void client_set_state(struct client *c, enum client_state state);

/* Arm or disarm an event. */
void client_read_on(struct client *c, bool on);
void client_write_on(struct client *c, bool on);

void client_set_timer(struct client *c, tick_t after);

/* The configuration that the present request began with, or the worker's. */
const struct config *client_config(const struct client *c);

/* Looks at the client again when the turn ends. */
void client_resume_later(struct client *c);

/* Drops the saved input. */
void client_in_clear(struct client *c);

#endif
