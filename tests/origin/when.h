/* Times as text. All in ns since 1970, UTC. */
#ifndef ORIGIN_WHEN_H
#define ORIGIN_WHEN_H

#include "policy/base.h"

/* 2024-01-01T00:00:00, with a Z when zulu. out holds 40 bytes. */
void when_text(int64_t t, bool zulu, char out[40]);
/* 2024-01-01 10:00 */
void when_hour(int64_t t, char out[32]);
/* Mon, 01 Jan 2024 00:00:00 GMT (RFC 9110 5.6.7) */
void when_http(int64_t t, char out[40]);
/*
 * Reads what the real server reads as naive UTC: YYYY-MM-DDTHH:MM:SS[.digits], nothing behind it. False for all
 * else, the form with Z included.
 */
bool when_parse_naive(struct slice s, int64_t *out);

#endif
