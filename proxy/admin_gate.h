/*
 * Who may ask the admin port for what: the bearer token, the host that was meant, and
 * whether a browser acts for somebody else's page. No sockets; reads the token's file.
 */
#ifndef PROXY_ADMIN_GATE_H
#define PROXY_ADMIN_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/base.h"

struct admin_gate;

/* What a request says about itself; any may be NULL. */
struct gate_request {
    const char *authorization;
    const char *host; /* the Host field */
    const char *origin;
    const char *fetch_site;     /* Sec-Fetch-Site */
    const char *requested_with; /* X-Requested-With */
    const char *content_type;
    bool session; /* a browser's session that is known (admin_sessions.h) */
    bool open;    /* health: no token asked for */
    bool login;   /* no token asked for, all else as ever */
    bool live;    /* a WebSocket: a page of another origin could read it */
    bool scrape;  /* read by machines under any name: the host is not looked at */
    bool changes; /* changes something */
};

/* status 0: come in. Otherwise the answer, what is wrong and how to put it right; static texts. */
struct gate_verdict {
    int status;
    const char *what;
    const char *how;
    bool token; /* it came with the token */
};

/*
 * Whether the file holds a token, of *bytes bytes; if not, *why is the reason, which lives for ever or until
 * the next strerror(). Blocks on the file system.
 */
bool admin_gate_token_usable(const char *path, size_t *bytes, const char **why) MUSTCHECK;

/*
 * `token_file` NULL or "": no token. `own_host`: the name or address listened on ("" for a unix socket, where
 * any host will do). NULL with a sentence in `error` when the token cannot be read.
 */
struct admin_gate *admin_gate_new(const char *token_file, const char *own_host, char *error,
                                  size_t error_size);
void admin_gate_free(struct admin_gate *g);

/* True when a token is asked for. */
bool admin_gate_guarded(const struct admin_gate *g);

/*
 * Judges a request. Looks whether the token's file was replaced; one that cannot be read or is empty leaves
 * the old token in force. The comparison takes the same time wherever the tokens differ.
 */
struct gate_verdict admin_gate_check(struct admin_gate *g, const struct gate_request *r);

/* The token given at a login, compared in the same way. False when none is asked for. */
bool admin_gate_opens(struct admin_gate *g, const char *token);

/* Another number once the token is another: what was begun with the old one has ended. */
uint64_t admin_gate_generation(struct admin_gate *g);

/* `fresh` takes the place of `old` (may be NULL): its number goes on. */
void admin_gate_succeed(struct admin_gate *fresh, const struct admin_gate *old);

#endif
