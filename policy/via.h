/*
 * Via (RFC 9110 7.6.3): our member, and whether a request has already passed through this very sidecar. The
 * pseudonym is the same for all sidecars, so a comment with an instance id tells them apart on the way up.
 */
#ifndef POLICY_VIA_H
#define POLICY_VIA_H

#include "policy/base.h"
#include "policy/head.h"

#define VIA_PSEUDONYM    "promptops-sidecar"
#define VIA_INSTANCE_LEN 16 /* hex digits */
#define VIA_MAX          (4 + sizeof(VIA_PSEUDONYM) + 3 + VIA_INSTANCE_LEN)

/*
 * Writes "1.1 promptops-sidecar" for a message received in HTTP/1.minor, and " (instance)" when instance is
 * not NULL (VIA_INSTANCE_LEN hex digits). Returns the bytes; no NUL.
 */
size_t via_format(char out[VIA_MAX], int minor, const char *instance);

/* True when a Via line of the request has our pseudonym with this instance: a loop. */
bool via_is_loop(const struct head *h, const char *instance);

#endif
