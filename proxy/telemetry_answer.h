/*
 * What a collector's answer means, by OTLP 1.x: for gRPC its grpc-status, for HTTP its status; and how much
 * of what was sent it has left out.
 */
#ifndef PROXY_TELEMETRY_ANSWER_H
#define PROXY_TELEMETRY_ANSWER_H

#include "proxy/courier.h"

/* *retry_after is set where google.rpc.RetryInfo says so. */
enum courier_verdict telemetry_judge(bool grpc, const struct post_result *result, tick_t *retry_after);

/* Data points or spans that were rejected for good: partial_success of the answer. 0 when it is malformed, or
 * says nothing. */
uint64_t telemetry_rejected(bool grpc, const struct post_result *result);

#endif
