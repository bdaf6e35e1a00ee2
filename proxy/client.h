/*
 * A client connection speaking HTTP/1: reads heads and bodies, answers in order, keeps alive.
 */
#ifndef PROXY_CLIENT_H
#define PROXY_CLIENT_H

#include "policy/base.h"

struct client;
struct worker;
struct tls_session;
struct sockaddr_storage;

/* Takes over an accepted socket (non-blocking), and the TLS session when there is one. On failure
 * closes both and returns false. `peer`: who it is, for the log; NULL: the kernel is asked when that is
 * wanted. `misdirected`: a redirected connection that was meant for a host other than the upstream; its
 * requests are refused. */
bool client_open(struct worker *w, int fd, struct tls_session *tls, const struct sockaddr_storage *peer,
                 bool misdirected);

/* Closes every client that has no request in flight (at the end of a drain, or all when `force`). */
void clients_close_idle(struct worker *w, bool force);

/* Looks at clients whose saved input waits; called at the end of a turn. */
void clients_resume(struct worker *w);

#endif
