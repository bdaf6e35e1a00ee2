/*
 * The connections to the admin port: how many there may be, how long a request may take to come, and how
 * many requests a second are answered.
 */
#ifndef PROXY_ADMIN_CLIENTS_H
#define PROXY_ADMIN_CLIENTS_H

#include "policy/base.h"

struct admin_clients;
struct bufferevent;
struct event_base;

enum { ADMIN_CLIENTS_MAX = 128, ADMIN_CLIENT_SECONDS = 30, ADMIN_ANSWER_SECONDS = 300 };

/* NULL when out of memory. Freed after the server that owns the connections. */
struct admin_clients *admin_clients_new(struct event_base *base);
void admin_clients_free(struct admin_clients *c); /* NULL is fine */

/*
 * A connection was accepted; NULL is fine. Over ADMIN_CLIENTS_MAX the one that has been without a whole
 * request for the longest is cut, so that those who sit there keep nobody out.
 */
void admin_clients_add(struct admin_clients *c, struct bufferevent *b);

/* A whole request came on it: its time begins anew. */
void admin_clients_asked(struct admin_clients *c, const struct bufferevent *b);

/* It is no connection of requests any more, and somebody else bounds it. */
void admin_clients_leave(struct admin_clients *c, const struct bufferevent *b);

/*
 * Takes one from the tokens: `failed` for a request that the gate refused (5/s, burst 20), else any (100/s,
 * burst 500). 0 when there was one, else the seconds until there will be.
 */
unsigned admin_clients_wait(struct admin_clients *c, bool failed, tick_t now);

#endif
