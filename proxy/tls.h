/*
 * TLS 1.2 and 1.3, both roles, over a non-blocking socket that the caller owns.
 * Reading, writing and closing are in stream.h: tls_read, tls_writev, tls_pending, tls_close.
 * The only file that knows OpenSSL's TLS.
 */
#ifndef PROXY_TLS_H
#define PROXY_TLS_H

#include "policy/base.h"
#include "policy/reason.h"
#include "proxy/stream.h"

/*
 * Certificates, keys, trust and the newest session tickets. Immutable to its users and shared by all threads.
 * A reload builds a new one; sessions keep the one that they began with.
 */
struct tls_context;

struct tls_client_options {  /* strings: NULL or "" = not set; only read during the call */
    const char *server_name; /* SNI (RFC 6066 3) and the name that the certificate must bear; an IP
                                literal is checked as such and not sent. Needed when verify. */
    const char *ca_file;     /* PEM; else the system's */
    bool verify;
    const char *certificate_file; /* PEM chain, ours first; with key_file */
    const char *key_file;
    const char *min_version; /* "1.2" (also when not set) or "1.3" */
    const char *alpn;        /* comma-separated protocols, RFC 7301; "http/1.1" when not set */
};

struct tls_server_options {
    const char *certificate_file; /* PEM chain, ours first */
    const char *key_file;
    const char *client_ca_file; /* set: a client must show a certificate that one of these signed */
    const char *min_version;
    const char *alpn;
};

/* One reference for the caller, or NULL with a sentence in err that names the file. Reads files: not on a
 * worker. */
struct tls_context *tls_context_client(const struct tls_client_options *options, char *err,
                                       size_t err_size) MUSTCHECK;
struct tls_context *tls_context_server(const struct tls_server_options *options, char *err,
                                       size_t err_size) MUSTCHECK;
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context); /* NULL is well; sessions hold references of their own */

/* When our own certificate ends, in seconds since 1970; INT64_MAX when the context has none. */
int64_t tls_certificate_not_after(const struct tls_context *context);

/*
 * A session over a connected, non-blocking fd, which stays the caller's. NULL when out of memory.
 * Used by one thread at a time. Ended by tls_close (stream.h). A client session offers the newest ticket.
 */
struct tls_session *tls_session_new_client(struct tls_context *context, int fd) MUSTCHECK;
struct tls_session *tls_session_new_server(struct tls_context *context, int fd) MUSTCHECK;

struct bufferevent;
struct event_base;

/*
 * A server session for a server that brings its own bufferevents: libevent's, over a socket that is not
 * known yet. It closes the socket when it is freed. NULL when out of memory.
 */
struct bufferevent *tls_bufferevent(struct tls_context *context, struct event_base *base) MUSTCHECK;

enum tls_result {
    TLS_DONE,       /* read and write now; tls_pending may already be true */
    TLS_WANT_READ,  /* call again when readable */
    TLS_WANT_WRITE, /* call again when writable */
    TLS_FAILED      /* see tls_failure; then tls_close */
};

/* Takes the handshake on as far as the socket allows. */
enum tls_result tls_handshake(struct tls_session *session) MUSTCHECK;

/*
 * Why the session failed (handshake, read or write): REASON_TLS_CERTIFICATE when the peer's certificate was
 * not accepted by us, REASON_TLS_FAILED for all else, REASON_NONE when nothing failed. *text (may be NULL)
 * gets a sentence that lives as long as the session.
 */
enum reason tls_failure(const struct tls_session *session, const char **text);

/*
 * True when the peer's bytes ended without close_notify (RFC 8446 6.1): somebody may have cut them. tls_read
 * says STREAM_ERROR then and never STREAM_EOF, so that a body that ends with the connection cannot be
 * mistaken for a whole one; this tells such an end from a real failure, in logs and for idle connections.
 */
bool tls_truncated(const struct tls_session *session);

bool tls_resumed(const struct tls_session *session);        /* by a ticket: no certificates were exchanged */
const char *tls_version(const struct tls_session *session); /* "TLSv1.3"; static */
const char *tls_cipher(const struct tls_session *session);  /* "TLS_AES_128_GCM_SHA256"; static */
struct slice
tls_alpn(const struct tls_session *session); /* the protocol agreed; empty for none; lives as long */
const char *tls_peer_name(const struct tls_session *session); /* server: the SNI asked for, or "" */

#endif
