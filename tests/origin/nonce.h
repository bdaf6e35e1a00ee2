/* The nonces of the last 300 seconds and a little more. Not safe for several threads at once. */
#ifndef ORIGIN_NONCE_H
#define ORIGIN_NONCE_H

#include "policy/base.h"

struct nonces;

struct nonces *nonces_new(void); /* NULL when out of memory */
void nonces_free(struct nonces *nonces);
void nonces_clear(struct nonces *nonces);
/* Remembers a nonce at `now` (ns since 1970). False: it was there already, or so many are remembered that none
 * can be forgotten in time. */
bool nonces_add(struct nonces *nonces, struct slice nonce, int64_t now);

#endif
