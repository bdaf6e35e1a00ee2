/*
 * Keys made of keys, and boxes that only who has the key can open or make: for what is left with a third
 * party (a shared Redis). HMAC-SHA256 (RFC 2104) and AES-256-GCM (NIST SP 800-38D). A room of OpenSSL.
 */
#ifndef PROXY_SEAL_H
#define PROXY_SEAL_H

#include "policy/base.h"

enum { SEAL_KEY_BYTES = 32, SEAL_NONCE = 12, SEAL_TAG = 16, SEAL_MORE = SEAL_NONCE + SEAL_TAG };

struct seal_key {
    unsigned char bytes[SEAL_KEY_BYTES];
};

struct sealer; /* the algorithms; immutable, any thread */

struct sealer *sealer_new(void) MUSTCHECK; /* NULL: OpenSSL has them not, or no memory */
void sealer_free(struct sealer *sealer);   /* NULL is fine */

/*
 * A key made of `key` (may be NULL: of nothing secret) for the purpose `label` and these parts, each with its
 * length, so that no two lists of parts are the same text. False: no memory.
 */
bool seal_derive(const struct sealer *sealer, const struct seal_key *key, const char *label,
                 const struct slice *parts, size_t count, struct seal_key *out) MUSTCHECK;

/*
 * Writes nonce, ciphertext and tag into out (plain.n + SEAL_MORE bytes). `place` is not in it, but must be
 * the same to open it. The nonce is random: a key is good for 2^32 boxes (SP 800-38D 8.3). False: no memory,
 * no randomness.
 */
bool seal_close(const struct sealer *sealer, const struct seal_key *key, struct slice place,
                struct slice plain, char *out) MUSTCHECK;

/* Opens a box into out (box.n - SEAL_MORE bytes). False: made with another key or for another place, damaged,
 * or cut; nothing in out is to be used then. */
bool seal_open(const struct sealer *sealer, const struct seal_key *key, struct slice place, struct slice box,
               char *out) MUSTCHECK;

#endif
