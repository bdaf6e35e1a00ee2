/*
 * Where a Redis server is, as one line of configuration says it.
 */
#ifndef PROXY_REDIS_URL_H
#define PROXY_REDIS_URL_H

#include "proxy/address.h"

enum { REDIS_USER_MAX = 128, REDIS_PASSWORD_MAX = 512, REDIS_PATH_MAX = 256, REDIS_MASTER_MAX = 64 };

/* A value; it holds a password: wipe it when it is no longer needed. */
struct redis_address {
    struct endpoint endpoint;      /* tls: speak TLS */
    char master[REDIS_MASTER_MAX]; /* "" = the server is at the endpoint; else Sentinels are, who know where
                                    * the master of this name is */
    char sentinel_password[REDIS_PASSWORD_MAX]; /* of the Sentinels; "" = none */
    char user[REDIS_USER_MAX];
    char password[REDIS_PASSWORD_MAX]; /* "" = none */
    unsigned db;
    char ca_file[REDIS_PATH_MAX]; /* authorities (PEM) for TLS; "" = the system's */
    bool verify;
};

/*
 * Reads `redis://[[user][:password]@]host[:port][/db]`, the same with `rediss` for TLS,
 * `redis+unix://[[user][:password]@]/path[?db=N]`, and
 * `redis+sentinel://[[user][:password]@]host[:port]/MASTER`, where user and password are those of the master.
 * They may be percent-encoded (RFC 3986 2.1). Behind a `?`: db=N, ca_file=PATH, verify=no,
 * sentinel_password=P. False: a sentence without a final period is in err, which shows nothing of the user
 * and the password.
 */
bool redis_url_parse(const char *text, struct redis_address *out, char *err, size_t err_size) MUSTCHECK;

#endif
