/*
 * Between the files that know OpenSSL's TLS: tls.c and tls_event.c.
 */
#ifndef PROXY_TLS_INNER_H
#define PROXY_TLS_INNER_H

#include "proxy/tls.h"

struct ssl_ctx_st; /* OpenSSL's SSL_CTX */

/* Borrowed. */
struct ssl_ctx_st *tls_context_ssl(struct tls_context *context);

#endif
