/*
 * TLS for the admin port, whose HTTP server works on libevent's bufferevents.
 * Invariant: an end without close_notify ends the connection like any other: requests carry their length.
 */
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/ssl.h>

#include "proxy/tls.h"
#include "proxy/tls_inner.h"

struct bufferevent *tls_bufferevent(struct tls_context *context, struct event_base *base)
{
    SSL *ssl = SSL_new(tls_context_ssl(context));
    if (!ssl)
        return NULL;
    SSL_set_accept_state(ssl);
    SSL_set_read_ahead(ssl, 0); /* libevent asks SSL_pending(), which knows nothing of records read ahead */
    struct bufferevent *b =
        bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (b)
        bufferevent_openssl_set_allow_dirty_shutdown(b, 1);
    else
        SSL_free(ssl);
    return b;
}
