/*
 * Layers that retry know of each other: what a request says of the attempts made above us, and what an answer
 * says of further ones. Without it three layers of three attempts make twenty-seven calls.
 */
#ifndef POLICY_RETRY_MARK_H
#define POLICY_RETRY_MARK_H

#include "policy/head.h"
#include "policy/retry.h"

/* Our own mark on a repeated request: the number of retries so far, in decimal. */
#define RETRY_COUNT_FIELD "X-Retry-Count"

/*
 * Is this request itself a retry of the application or of its client library? Known: X-Retry-Count,
 * X-Retry-Attempt, X-Stainless-Retry-Count and Grpc-Previous-Rpc-Attempts (retries so far),
 * X-Envoy-Attempt-Count and Amz-Sdk-Request "attempt=N" (attempts, the first included). What is not digits
 * says nothing.
 */
bool retry_marked(const struct head *request);

/* X-Should-Retry: true or false, in any letter case; anything else says nothing. */
enum retry_hint retry_hint_of(const struct head *response);

#endif
