/*
 * Sessions of browsers at the admin port: who has shown the token once is known by a random cookie for a
 * while. No sockets and no clock of its own.
 */
#ifndef PROXY_ADMIN_SESSIONS_H
#define PROXY_ADMIN_SESSIONS_H

#include "policy/base.h"

enum {
    ADMIN_SESSIONS_MAX = 64,           /* beyond, the one that was used least recently goes */
    ADMIN_SESSION_SECONDS = 12 * 3600, /* from the login, used or not */
    ADMIN_SESSION_ID = 65              /* 32 random bytes in hexadecimal, and a NUL */
};
#define ADMIN_SESSION_COOKIE "promptops_session"

struct admin_sessions;

struct admin_sessions *admin_sessions_new(void); /* NULL: out of memory */
void admin_sessions_free(struct admin_sessions *s);

/* Begins one. It is good while the gate's token is the one of `generation`. False: no randomness. */
bool admin_sessions_begin(struct admin_sessions *s, uint64_t generation, tick_t now,
                          char id[ADMIN_SESSION_ID]) MUSTCHECK;

/* The id in a Cookie field (may be NULL), whether or not it is known. False: there is none. */
bool admin_sessions_read(const char *cookie, char id[ADMIN_SESSION_ID]) MUSTCHECK;

/* Seconds that a session is still good; 0: there is none of this id. */
unsigned admin_sessions_left(struct admin_sessions *s, const char *id, uint64_t generation, tick_t now);

void admin_sessions_end(struct admin_sessions *s, const char *id);

#endif
