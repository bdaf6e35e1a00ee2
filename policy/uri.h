/*
 * References to resources of our own upstream (RFC 3986), for invalidation (RFC 9111 4.4).
 */
#ifndef POLICY_URI_H
#define POLICY_URI_H

#include "policy/base.h"

/* What a reference is relative to. */
struct uri_base {
    struct slice origin;    /* "https://host:port" of the upstream */
    struct slice authority; /* by which the client knows us, "localhost:8080"; n = 0: none. Any scheme */
    struct slice path;      /* path and query of the request */
};

/*
 * Resolves `reference` and, when it lies within the same origin, writes its path and query to out[0..cap) and
 * returns their length. 0: another origin, not a URI reference that we can read, or longer than cap.
 */
size_t uri_local(struct slice reference, const struct uri_base *base, char *out, size_t cap);

#endif
