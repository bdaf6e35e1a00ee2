/*
 * Content codings (RFC 9110 8.4, 12.5.3): may a stored answer that is encoded go to this client?
 */
#ifndef POLICY_CODING_H
#define POLICY_CODING_H

#include "policy/head.h"

/* Does the response carry a content coding other than identity? */
bool coding_encoded(const struct head *response);

/*
 * Does the request's Accept-Encoding name each of `codings` (the value of Content-Encoding), itself or by
 * `*`, with a weight above 0? False without Accept-Encoding: RFC 9110 would allow any coding then, but such
 * clients seldom decode one.
 */
bool coding_accepted(const struct head *request, struct slice codings);

#endif
