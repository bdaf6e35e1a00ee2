/*
 * References to resources of our own upstream (RFC 3986), for invalidation (RFC 9111 4.4) and redirects.
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

/*
 * How many bytes at the start of `reference` name the origin of `scheme` and `authority` (a port of its own
 * or none), such that what is left is the
 * same resource as a path that begins with one slash; 0: none. http and https count as the same on their own
 * ports, because a server behind something that ends TLS does not know that it is asked by https.
 */
size_t uri_origin_length(struct slice reference, struct slice scheme, struct slice authority);

#endif
