/*
 * SHA-1 for what only names things (RFC 6455 asks for it): never for secrets. A room of OpenSSL.
 */
#ifndef PROXY_DIGEST_H
#define PROXY_DIGEST_H

#include "policy/base.h"

/* The letters of base64, without its padding. */
#define DIGEST_BASE64 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

/* Base64 of the SHA-1 of `text`, with a NUL: 29 bytes. False: no room, or OpenSSL has it not. */
bool digest_sha1_base64(struct slice text, char *out, size_t room) MUSTCHECK;

#endif
