/*
 * What a Redis server says, read from bytes into bounded trees. Between redis.c and redis_reply.c only.
 */
#ifndef PROXY_REDIS_REPLY_H
#define PROXY_REDIS_REPLY_H

#include "proxy/redis.h"

struct redis_parser;

struct redis_parser *redis_parser_new(void) MUSTCHECK; /* NULL: out of memory */
void redis_parser_free(struct redis_parser *parser);   /* NULL is fine */

/* False: more than REDIS_REPLY_MAX without a whole reply, or out of memory; see redis_parser_error. */
bool redis_parser_feed(struct redis_parser *parser, const char *bytes, size_t n) MUSTCHECK;

/* The next whole reply, the caller's to free; NULL: none yet, or an error. */
struct redis_reply *redis_parser_next(struct redis_parser *parser);

/* "" while all is well. Static text. Nothing can be read any more after an error. */
const char *redis_parser_error(const struct redis_parser *parser);

void redis_reply_free(struct redis_reply *reply); /* NULL is fine */

#endif
