/*
 * Who is addressed: the value of Host, of :authority, and the authority of an absolute target.
 */
#ifndef POLICY_HOST_H
#define POLICY_HOST_H

#include "policy/base.h"

/*
 * Is this `uri-host [":" port]` (RFC 9110 7.2, RFC 3986 3.2.2)? The host is a registered name or an IPv4
 * address (not empty, `%` only before two hexadecimal digits, no comma), or an IPv6 address in brackets,
 * without a zone. The port is at most five digits and at most 65535; it may be empty, as RFC 3986 3.2.3 has
 * it. No user information.
 */
bool authority_valid(struct slice authority);

#endif
