/* SHA-256 and HMAC-SHA256. */
#ifndef ORIGIN_DIGEST_H
#define ORIGIN_DIGEST_H

#include "policy/base.h"

struct digest;

/* NULL when out of memory. */
struct digest *digest_new(void);
void digest_add(struct digest *d, const void *p, size_t n);
/* Writes 64 hexadecimal digits and a NUL, and frees d. */
void digest_end(struct digest *d, char hex[65]);
void digest_free(struct digest *d);

/* HMAC-SHA256 in hexadecimal. */
void hmac_sha256(struct slice key, struct slice message, char hex[65]);
/* Compares in a time that does not depend on where they differ. */
bool digest_equal(const char hex[65], struct slice given);
/* Fills with random letters and digits, from the system. False when it has none. */
bool random_name(char *out, size_t n);

#endif
