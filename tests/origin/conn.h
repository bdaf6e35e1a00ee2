/* One connection of a client. */
#ifndef ORIGIN_CONN_H
#define ORIGIN_CONN_H

#include <stdbool.h>

struct worker;
struct conn;

/* Takes an accepted, non-blocking socket. control: one on which no fault applies. Frees itself at its end. */
void conn_accept(struct worker *worker, int fd, bool control);
/* Closes it at once and frees it. */
void conn_free(struct conn *conn);

/* Links of the thread's list; only server.c uses them. */
struct conn_links {
    struct conn *next, *prev;
};
struct conn_links *conn_links(struct conn *conn);

#endif
