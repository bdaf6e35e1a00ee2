/* The echoing end of a WebSocket (RFC 6455), with no socket: bytes in, bytes out. */
#ifndef ORIGIN_WS_H
#define ORIGIN_WS_H

#include "tests/origin/bytes.h"

enum { WS_MAX_FRAME = 1024 * 1024 };

struct ws {
    struct text frame; /* what came of the frame so far; owned */
    bool ended;        /* a close frame was answered */
};

/*
 * Reads all of in[0..n) and adds the answers to `out`: every data frame comes back with the same opcode and FIN, a
 * ping as a pong, a close as a close. Counts data frames in *messages. False: the peer broke the protocol (1002)
 * or sent a frame over WS_MAX_FRAME (1009); the close frame that says so is in `out`, and the connection is to end.
 */
bool ws_read(struct ws *ws, const char *in, size_t n, struct text *out, unsigned *messages);
void ws_free(struct ws *ws);
/* Sec-WebSocket-Accept for a key: 28 characters and a NUL. False when the key is not 24 characters. */
bool ws_accept(struct slice key, char out[29]);

#endif
