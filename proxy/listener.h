/*
 * Listening sockets: one for each worker and TCP address (SO_REUSEPORT), one shared by duplication
 * for a unix path. Accepts in bounded batches, backs off when descriptors run out, refuses politely
 * beyond the limit of connections.
 */
#ifndef PROXY_LISTENER_H
#define PROXY_LISTENER_H

#include "policy/base.h"

struct worker;
struct listener;

/*
 * Takes over `fd`, which must be listening and non-blocking. `others` (may be NULL) are the worker's
 * listeners so far, which the new one keeps. NULL: no memory; the others are as they were.
 */
struct listener *listener_start(struct worker *w, int fd, struct listener *others);

/* Closes the sockets: new connections are refused by the kernel, unless another process has the same sockets.
 */
void listener_stop(struct listener *l);

/*
 * Opens a listening socket for `address` ("host:port", "[v6]:port", "unix:/path"). With `reuse_port`
 * several may share a TCP address. Returns the descriptor, or -1 with a sentence in err.
 */
int listener_open(const char *address, bool reuse_port, char *err, size_t err_size) MUSTCHECK;

/* The address a socket is bound to, as text. */
void listener_name(int fd, char *out, size_t size);

#endif
