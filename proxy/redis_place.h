/*
 * Where a Redis server is and what is needed to get there: the address with its password in secret room,
 * names looked up by a thread of their own, TLS. For any number of connections of one thread.
 */
#ifndef PROXY_REDIS_PLACE_H
#define PROXY_REDIS_PLACE_H

#include "policy/base.h"

struct redis_address;
struct redis_options;
struct resolver;
struct tls_context;

struct redis_place {
    struct redis_address *address; /* secret room */
    struct resolver *resolver;
    struct tls_context *tls; /* NULL: plain */
};

/* `url` as redis_url.h reads it. False with a sentence in err: it is wrong, a file of it cannot be read, no
 * memory. redis_place_close() in any case. */
bool redis_place_open(struct redis_place *p, const char *url, uint64_t seed, char *err,
                      size_t err_size) MUSTCHECK;

/* When no connection is left. */
void redis_place_close(struct redis_place *p);

/* Fills in what is this place's. */
void redis_place_options(const struct redis_place *p, struct redis_options *out);

#endif
