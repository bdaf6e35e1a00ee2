/*
 * One WebSocket (RFC 6455) that tells and hardly listens, on a connection that has been upgraded already.
 * What is sent waits in the connection's buffer up to a limit; beyond it nothing is queued. The room of
 * wslay. Event loop's thread only.
 */
#ifndef PROXY_WEBSOCKET_H
#define PROXY_WEBSOCKET_H

#include "policy/base.h"

struct bufferevent;
struct websocket;

/* Bytes that may wait; most of a client's message; silence after which a ping goes, and then the end comes.
 */
enum { WEBSOCKET_QUEUE = 512 * 1024, WEBSOCKET_MESSAGE = 4096, WEBSOCKET_PING = 20, WEBSOCKET_SILENCE = 50 };

/* Codes of a close (RFC 6455 7.4.1). */
enum {
    WEBSOCKET_NORMAL = 1000,
    WEBSOCKET_GOING_AWAY = 1001,
    WEBSOCKET_POLICY = 1008,
    WEBSOCKET_FAILED = 1011,
    WEBSOCKET_TRY_LATER = 1013
};

/* Room for what answers Sec-WebSocket-Key, its NUL included. */
enum { WEBSOCKET_ACCEPT = 29 };

/* Sec-WebSocket-Accept for a key (RFC 6455 4.2.2). False: that is no key (16 bytes in base64). */
bool websocket_accept(const char *key, char out[WEBSOCKET_ACCEPT]) MUSTCHECK;

/*
 * Takes over the callbacks of `b`, which stays the caller's and must live for longer. `over` is called once,
 * from the event loop, when the connection has ended by whatever cause: the caller then frees both. What the
 * client had sent behind its handshake is read by websocket_go(). NULL: out of memory.
 */
struct websocket *websocket_new(struct bufferevent *b, void (*over)(void *arg), void *arg) MUSTCHECK;
void websocket_go(struct websocket *w);

/* NULL is fine. Does not call `over`. */
void websocket_free(struct websocket *w);

/* Queues a text message, which must be UTF-8. False: WEBSOCKET_QUEUE bytes wait already, or the end has
 * begun. */
bool websocket_send(struct websocket *w, struct slice text) MUSTCHECK;

/* To be called about once a second: pings, and ends what is silent. */
void websocket_tick(struct websocket *w, tick_t now);

/* Begins the end: says why, and waits a few seconds for the client's word. `reason`: at most 123 bytes. */
void websocket_close(struct websocket *w, unsigned code, const char *reason);

#endif
