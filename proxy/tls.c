/*
 * TLS by OpenSSL: contexts that are shared and never change, sessions that belong to one thread.
 * Invariants: a context's settings are read-only once it is returned, only its tickets change and those under
 * its lock; a session that failed stays failed; bytes are read with recv and sent with MSG_NOSIGNAL, so that
 * SIGPIPE never rises; an end without close_notify is never reported as an end.
 */
#include "proxy/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/address.h"
#include "proxy/tls_inner.h"

enum {
    RECORD_MAX = 16384,                  /* plaintext bytes of a record, RFC 8446 5.1 */
    READ_AHEAD = 2 * (RECORD_MAX + 320), /* two whole records by one recv */
    TICKETS = 32,                        /* kept by a context */
    NAME_MAX_BYTES = 256,
    ALPN_MAX = 64,
    TEXT_MAX = 256
};

static const char CIPHERS_12[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
static const char CIPHERS_13[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char GROUPS[] = "X25519:P-256:P-384";
static const unsigned char SESSION_ID_CONTEXT[] = "promptops-sidecar";

struct tls_context {
    atomic_uint refs;
    SSL_CTX *ssl;
    BIO_METHOD *bio;
    bool verify; /* the peer's certificate */
    char server_name[NAME_MAX_BYTES];
    bool name_is_ip;
    int64_t not_after;
    unsigned char alpn[ALPN_MAX]; /* as on the wire: length, name, length, name */
    unsigned alpn_len;
    pthread_mutex_t lock;          /* of what follows */
    SSL_SESSION *tickets[TICKETS]; /* a ring, the newest at `newest` */
    unsigned newest, kept;
};

struct tls_session {
    SSL *ssl;
    struct tls_context *context;
    int fd;
    int system_error; /* errno of the last recv or send that failed */
    uint32_t retry;   /* bytes of a record that is encrypted but not sent: to be offered again */
    bool established; /* the handshake is done */
    bool dry;         /* the last read found the socket empty */
    bool filled;      /* the last recv gave all that it was asked for */
    bool saw_eof;     /* recv gave 0 */
    bool truncated;
    bool ended;  /* reading is over, with `end` */
    bool told;   /* tls_read has said so */
    bool failed; /* nothing may be sent any more */
    enum reason reason;
    ssize_t end;
    char *text; /* owned; NULL: none, or no memory for it */
};

/* ---- the socket under OpenSSL ---- */

static int bio_read(BIO *bio, char *out, int n)
{
    struct tls_session *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    for (;;) {
        ssize_t r = recv(s->fd, out, (size_t)n, 0);
        s->filled = r == n;
        if (r > 0)
            return (int)r;
        if (r == 0) {
            s->saw_eof = true;
            return 0;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            BIO_set_retry_read(bio);
        else
            s->system_error = errno;
        return -1;
    }
}

static int bio_write(BIO *bio, const char *in, int n)
{
    struct tls_session *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    for (;;) {
        ssize_t r = send(s->fd, in, (size_t)n, MSG_NOSIGNAL);
        if (r >= 0)
            return (int)r;
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            BIO_set_retry_write(bio);
        else
            s->system_error = errno;
        return -1;
    }
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    struct tls_session *s = BIO_get_data(bio);
    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_EOF)
        return s && s->saw_eof;
    return command == BIO_CTRL_FLUSH;
}

/* Made for each context: a reload must not use up OpenSSL's few numbers for new types, so all share the
 * first. */
static BIO_METHOD *make_bio_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_START | BIO_TYPE_SOURCE_SINK, "socket");
    if (m && BIO_meth_set_read(m, bio_read) && BIO_meth_set_write(m, bio_write) &&
        BIO_meth_set_ctrl(m, bio_ctrl))
        return m;
    BIO_meth_free(m);
    return NULL;
}

/* Errors of others, left in this thread's queue, would be taken for ours. */
static inline void forget_errors(void)
{
    if (ERR_peek_error())
        ERR_clear_error();
}

/* ---- contexts ---- */

/* The oldest error is the cause; the later ones tell of it. */
static bool context_error(char *err, size_t size, const char *key, const char *file)
{
    unsigned long code = ERR_peek_error();
    const char *reason = NULL;
    if (ERR_SYSTEM_ERROR(code))
        reason = strerror(ERR_GET_REASON(code));
    else if (code)
        reason = ERR_reason_error_string(code);
    snprintf(err, size, "%s %s: %s", key, file, reason ? reason : "not usable");
    ERR_clear_error();
    return false;
}

static bool plain_error(char *err, size_t size, const char *what)
{
    snprintf(err, size, "%s", what);
    ERR_clear_error();
    return false;
}

static bool is_set(const char *s)
{
    return s && *s;
}

/* Never ask for a pass phrase on the terminal. */
static int no_pass_phrase(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static bool set_versions(SSL_CTX *ssl, const char *min, char *err, size_t size)
{
    int version = TLS1_2_VERSION;
    if (is_set(min) && strcmp(min, "1.3") == 0)
        version = TLS1_3_VERSION;
    else if (is_set(min) && strcmp(min, "1.2") != 0)
        return plain_error(err, size, "min_version must be 1.2 or 1.3");
    return SSL_CTX_set_min_proto_version(ssl, version) == 1 ||
           plain_error(err, size, "min_version is not available");
}

/* `h2,http/1.1` to its wire form. */
static bool set_alpn(struct tls_context *c, const char *list, char *err, size_t size)
{
    const char *p = is_set(list) ? list : "http/1.1";
    for (;;) {
        size_t n = strcspn(p, ",");
        if (n == 0 || n > 255 || c->alpn_len + 1 + n > sizeof(c->alpn))
            return plain_error(err, size, "the list of ALPN protocols is malformed or too long");
        c->alpn[c->alpn_len] = (unsigned char)n;
        memcpy(c->alpn + c->alpn_len + 1, p, n);
        c->alpn_len += 1 + (unsigned)n;
        if (!p[n])
            return true;
        p += n + 1;
    }
}

static int64_t not_after(const X509 *certificate)
{
    struct tm tm;
    if (!certificate || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) != 1)
        return INT64_MAX;
    return (int64_t)timegm(&tm);
}

static bool load_own(struct tls_context *c, const char *certificate, const char *key, char *err, size_t size)
{
    if (!is_set(certificate) || !is_set(key))
        return plain_error(err, size, "certificate_file and key_file must be set together");
    if (SSL_CTX_use_certificate_chain_file(c->ssl, certificate) != 1)
        return context_error(err, size, "certificate_file", certificate);
    if (SSL_CTX_use_PrivateKey_file(c->ssl, key, SSL_FILETYPE_PEM) != 1)
        return context_error(err, size, "key_file", key);
    if (SSL_CTX_check_private_key(c->ssl) != 1)
        return context_error(err, size, "key_file", key);
    c->not_after = not_after(SSL_CTX_get0_certificate(c->ssl));
    return true;
}

static struct tls_context *context_new(bool client, char *err, size_t size)
{
    struct tls_context *c = calloc(1, sizeof(*c));
    if (!c) {
        plain_error(err, size, "out of memory");
        return NULL;
    }
    ERR_clear_error();
    atomic_init(&c->refs, 1);
    pthread_mutex_init(&c->lock, NULL);
    c->not_after = INT64_MAX;
    c->bio = make_bio_method();
    c->ssl = SSL_CTX_new(client ? TLS_client_method() : TLS_server_method());
    if (c->bio && c->ssl)
        return c;
    plain_error(err, size, "out of memory, or OpenSSL does not work");
    tls_context_unref(c);
    return NULL;
}

/* What both roles share. */
static bool set_common(struct tls_context *c, const char *min_version, char *err, size_t size)
{
    SSL_CTX_set_app_data(c->ssl, c);
    SSL_CTX_set_options(c->ssl,
                        SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                 SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_read_ahead(c->ssl, 1);
    SSL_CTX_set_default_read_buffer_len(c->ssl, READ_AHEAD);
    SSL_CTX_set_default_passwd_cb(c->ssl, no_pass_phrase);
    if (SSL_CTX_set_cipher_list(c->ssl, CIPHERS_12) != 1 ||
        SSL_CTX_set_ciphersuites(c->ssl, CIPHERS_13) != 1 || SSL_CTX_set1_groups_list(c->ssl, GROUPS) != 1)
        return plain_error(err, size, "OpenSSL lacks the ciphers that are needed");
    return set_versions(c->ssl, min_version, err, size);
}

/* ---- tickets ---- */

/* OpenSSL hands over a ticket that came. 1: the reference is kept. */
static int keep_ticket(SSL *ssl, SSL_SESSION *ticket)
{
    struct tls_context *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    pthread_mutex_lock(&c->lock);
    c->newest = (c->newest + 1) % TICKETS;
    SSL_SESSION *old = c->tickets[c->newest];
    c->tickets[c->newest] = ticket;
    if (c->kept < TICKETS)
        c->kept++;
    pthread_mutex_unlock(&c->lock);
    SSL_SESSION_free(old);
    return 1;
}

static bool ticket_usable(const SSL_SESSION *ticket)
{
    int64_t end = (int64_t)SSL_SESSION_get_time(ticket) + SSL_SESSION_get_timeout(ticket);
    return SSL_SESSION_is_resumable(ticket) && (int64_t)time(NULL) < end;
}

/*
 * The newest ticket, with a reference, or NULL. TLS 1.3 wants each used once (RFC 8446 C.4) and brings new
 * ones with every connection; in TLS 1.2 the same one goes on serving.
 */
static SSL_SESSION *take_ticket(struct tls_context *c)
{
    SSL_SESSION *found = NULL;
    pthread_mutex_lock(&c->lock);
    while (c->kept > 0 && !found) {
        SSL_SESSION **slot = &c->tickets[c->newest];
        bool usable = ticket_usable(*slot);
        if (usable && SSL_SESSION_get_protocol_version(*slot) < TLS1_3_VERSION) {
            if (SSL_SESSION_up_ref(*slot))
                found = *slot;
            break;
        }
        if (usable)
            found = *slot;
        else
            SSL_SESSION_free(*slot);
        *slot = NULL;
        c->newest = (c->newest + TICKETS - 1) % TICKETS;
        c->kept--;
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

/* ---- contexts, continued ---- */

static bool set_trust(struct tls_context *c, const struct tls_client_options *o, char *err, size_t size)
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(c->ssl);
    c->verify = o->verify;
    SSL_CTX_set_verify(c->ssl, o->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (is_set(o->ca_file)) {
        if (SSL_CTX_load_verify_file(c->ssl, o->ca_file) != 1)
            return context_error(err, size, "ca_file", o->ca_file);
    } else if (SSL_CTX_set_default_verify_paths(c->ssl) != 1) {
        return plain_error(err, size, "the system's certificates cannot be read; set ca_file");
    }
    if (!is_set(o->server_name))
        return !o->verify || plain_error(err, size, "server_name is needed to verify the certificate");
    size_t n = strlen(o->server_name);
    if (n > 1 && o->server_name[n - 1] == '.')
        n--; /* the root of the DNS is no part of the name in a certificate */
    if (n >= sizeof(c->server_name))
        return plain_error(err, size, "server_name is longer than 255 bytes");
    memcpy(c->server_name, o->server_name, n);
    c->name_is_ip = address_is_ip(c->server_name);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    int set = c->name_is_ip ? X509_VERIFY_PARAM_set1_ip_asc(param, c->server_name)
                            : X509_VERIFY_PARAM_set1_host(param, c->server_name, n);
    return set == 1 || plain_error(err, size, "server_name is not usable");
}

static bool fill_client(struct tls_context *c, const struct tls_client_options *o, char *err, size_t size)
{
    if (!set_common(c, o->min_version, err, size) || !set_trust(c, o, err, size))
        return false;
    if ((is_set(o->certificate_file) || is_set(o->key_file)) &&
        !load_own(c, o->certificate_file, o->key_file, err, size))
        return false;
    if (!set_alpn(c, o->alpn, err, size))
        return false;
    if (SSL_CTX_set_alpn_protos(c->ssl, c->alpn, c->alpn_len) != 0)
        return plain_error(err, size, "out of memory");
    SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c->ssl, keep_ticket);
    return true;
}

struct tls_context *tls_context_client(const struct tls_client_options *options, char *err, size_t err_size)
{
    struct tls_context *c = context_new(true, err, err_size);
    if (c && !fill_client(c, options, err, err_size)) {
        tls_context_unref(c);
        return NULL;
    }
    return c;
}

/* Our order decides. A client that offers protocols but none of ours is refused, RFC 7301 3.2. */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned in_len, void *arg)
{
    struct tls_context *c = arg;
    unsigned char *chosen;
    (void)ssl;
    if (SSL_select_next_proto(&chosen, out_len, c->alpn, c->alpn_len, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static bool ask_for_certificates(struct tls_context *c, const char *ca_file, char *err, size_t size)
{
    if (SSL_CTX_load_verify_file(c->ssl, ca_file) != 1)
        return context_error(err, size, "client_ca_file", ca_file);
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ca_file);
    if (!names)
        return context_error(err, size, "client_ca_file", ca_file);
    SSL_CTX_set_client_CA_list(c->ssl, names);
    SSL_CTX_set_verify(c->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    c->verify = true;
    return true;
}

static bool fill_server(struct tls_context *c, const struct tls_server_options *o, char *err, size_t size)
{
    if (!set_common(c, o->min_version, err, size) || !set_alpn(c, o->alpn, err, size) ||
        !load_own(c, o->certificate_file, o->key_file, err, size))
        return false;
    if (is_set(o->client_ca_file) && !ask_for_certificates(c, o->client_ca_file, err, size))
        return false;
    SSL_CTX_set_alpn_select_cb(c->ssl, select_alpn, c);
    /* Tickets need no memory here; the cache would need a lock. */
    SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF);
    return SSL_CTX_set_session_id_context(c->ssl, SESSION_ID_CONTEXT, sizeof(SESSION_ID_CONTEXT) - 1) == 1 ||
           plain_error(err, size, "out of memory");
}

struct tls_context *tls_context_server(const struct tls_server_options *options, char *err, size_t err_size)
{
    struct tls_context *c = context_new(false, err, err_size);
    if (c && !fill_server(c, options, err, err_size)) {
        tls_context_unref(c);
        return NULL;
    }
    return c;
}

struct tls_context *tls_context_ref(struct tls_context *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void tls_context_unref(struct tls_context *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned i = 0; i < TICKETS; i++)
        SSL_SESSION_free(c->tickets[i]);
    SSL_CTX_free(c->ssl);
    BIO_meth_free(c->bio);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

struct ssl_ctx_st *tls_context_ssl(struct tls_context *context)
{
    return context->ssl;
}

int64_t tls_certificate_not_after(const struct tls_context *c)
{
    return c->not_after;
}

/* ---- sessions ---- */

static struct tls_session *session_new(struct tls_context *c, int fd)
{
    struct tls_session *s = calloc(1, sizeof(*s));
    BIO *bio = BIO_new(c->bio);
    SSL *ssl = SSL_new(c->ssl);
    if (!s || !bio || !ssl) {
        free(s);
        BIO_free(bio);
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    s->fd = fd;
    s->ssl = ssl;
    s->context = tls_context_ref(c);
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return s;
}

struct tls_session *tls_session_new_client(struct tls_context *c, int fd)
{
    struct tls_session *s = session_new(c, fd);
    if (!s)
        return NULL;
    SSL_set_connect_state(s->ssl);
    if (c->server_name[0] && !c->name_is_ip && SSL_set_tlsext_host_name(s->ssl, c->server_name) != 1) {
        tls_close(s);
        return NULL;
    }
    SSL_SESSION *ticket = take_ticket(c);
    if (ticket) {
        SSL_set_session(s->ssl, ticket);
        SSL_SESSION_free(ticket);
    }
    return s;
}

struct tls_session *tls_session_new_server(struct tls_context *c, int fd)
{
    struct tls_session *s = session_new(c, fd);
    if (s)
        SSL_set_accept_state(s->ssl);
    return s;
}

/* Puts the cause into words. `error` is SSL_get_error's. */
static void describe(struct tls_session *s, int error)
{
    unsigned long code = ERR_peek_error();
    long verdict = SSL_get_verify_result(s->ssl);
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    const char *name = s->context->server_name[0] ? s->context->server_name : "the peer";
    s->text = malloc(TEXT_MAX);
    if (!s->text)
        return;
    if (s->reason == REASON_TLS_CERTIFICATE)
        snprintf(s->text, TEXT_MAX, "certificate of %.150s: %s", name,
                 X509_verify_cert_error_string(verdict));
    else if (s->truncated)
        snprintf(s->text, TEXT_MAX, "%s",
                 s->established ? "the peer closed the connection without close_notify"
                                : "the peer closed the connection during the handshake");
    else if (s->system_error)
        snprintf(s->text, TEXT_MAX, "%s", strerror(s->system_error));
    else
        snprintf(s->text, TEXT_MAX, "%s (%d)", reason ? reason : "unknown TLS error", error);
}

/* The first failure gives the reason; a truncation may be found after a write has failed. */
static void fail_session(struct tls_session *s, int error)
{
    bool refused = s->context->verify && !s->established && SSL_get_verify_result(s->ssl) != X509_V_OK;
    s->truncated = s->saw_eof && !(SSL_get_shutdown(s->ssl) & SSL_RECEIVED_SHUTDOWN);
    if (!s->failed) {
        s->failed = true;
        s->reason = refused ? REASON_TLS_CERTIFICATE : REASON_TLS_FAILED;
        describe(s, error);
    }
    ERR_clear_error();
}

enum tls_result tls_handshake(struct tls_session *s)
{
    if (s->failed)
        return TLS_FAILED;
    forget_errors();
    int r = SSL_do_handshake(s->ssl);
    if (r == 1) {
        s->established = true;
        return TLS_DONE;
    }
    int error = SSL_get_error(s->ssl, r);
    if (error == SSL_ERROR_WANT_READ)
        return TLS_WANT_READ;
    if (error == SSL_ERROR_WANT_WRITE)
        return TLS_WANT_WRITE;
    fail_session(s, error);
    s->ended = true;
    s->end = STREAM_ERROR;
    return TLS_FAILED;
}

/* A read gave nothing: what that means. Ends are kept, for a later call finds them no more. */
static ssize_t read_stopped(struct tls_session *s)
{
    int error = SSL_get_error(s->ssl, 0);
    if (error == SSL_ERROR_WANT_READ) {
        s->dry = true;
        return STREAM_AGAIN;
    }
    if (error == SSL_ERROR_WANT_WRITE)
        return STREAM_WANT_WRITE;
    s->ended = true;
    s->end = error == SSL_ERROR_ZERO_RETURN ? STREAM_EOF : STREAM_ERROR;
    if (s->end == STREAM_ERROR)
        fail_session(s, error);
    return s->end;
}

ssize_t tls_read(struct tls_session *s, void *buf, size_t n)
{
    size_t got = 0;
    s->dry = false;
    while (got < n && !s->ended) {
        size_t k = 0;
        forget_errors();
        if (!SSL_read_ex(s->ssl, (char *)buf + got, n - got, &k)) {
            ssize_t stopped = read_stopped(s);
            if (!s->ended && got == 0)
                return stopped;
            break;
        }
        got += k;
        if (!SSL_has_pending(s->ssl))
            break;
    }
    if (got > 0)
        return (ssize_t)got;
    s->told = true;
    return s->end;
}

bool tls_pending(const struct tls_session *s)
{
    if (s->ended)
        return !s->told;
    return !s->dry && SSL_has_pending(s->ssl);
}

bool tls_more(const struct tls_session *s)
{
    return !s->ended && (s->filled || SSL_has_pending(s->ssl));
}

/* Where in a vector the writing stands. */
struct cursor {
    const struct iovec *iov;
    int count;
    size_t at; /* in iov[0] */
};

/*
 * The next `want` bytes, or fewer when the vector ends: where they lie when that is one piece, else gathered
 * in scratch, because a record costs more than a copy.
 */
static const char *next_run(struct cursor *c, size_t want, char *scratch, size_t *n)
{
    while (c->count > 0 && c->at == c->iov->iov_len) {
        c->iov++;
        c->count--;
        c->at = 0;
    }
    *n = 0;
    if (c->count == 0)
        return NULL;
    const char *here = (const char *)c->iov->iov_base + c->at;
    size_t left = c->iov->iov_len - c->at;
    if (left >= want || c->count == 1) {
        *n = left < want ? left : want;
        c->at += *n;
        return here;
    }
    while (*n < want && c->count > 0) {
        size_t k = c->iov->iov_len - c->at;
        k = k < want - *n ? k : want - *n;
        if (k > 0)
            memcpy(scratch + *n, (const char *)c->iov->iov_base + c->at, k);
        *n += k;
        c->at += k;
        if (c->at == c->iov->iov_len) {
            c->iov++;
            c->count--;
            c->at = 0;
        }
    }
    return scratch;
}

static ssize_t write_stopped(struct tls_session *s, size_t n)
{
    int error = SSL_get_error(s->ssl, 0);
    if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ) {
        s->retry = (uint32_t)n;
        return error == SSL_ERROR_WANT_WRITE ? STREAM_AGAIN : STREAM_WANT_WRITE;
    }
    /* Reading goes on: an early answer, or the peer's alert, may lie in the socket. */
    fail_session(s, error);
    return STREAM_ERROR;
}

ssize_t tls_writev(struct tls_session *s, const struct iovec *iov, int count)
{
    char scratch[RECORD_MAX];
    struct cursor c = {.iov = iov, .count = count};
    ssize_t total = 0;
    if (s->failed)
        return STREAM_ERROR;
    for (;;) {
        size_t n, sent = 0;
        /* A record that waits must be offered with exactly its own bytes, see stream_writev. */
        size_t want = s->retry ? s->retry : RECORD_MAX;
        const char *p = next_run(&c, want, scratch, &n);
        if (n == 0)
            return total;
        if (s->retry && n < s->retry)
            return STREAM_ERROR;
        forget_errors();
        bool went = SSL_write_ex(s->ssl, p, n, &sent);
        ssize_t stopped = went ? 0 : write_stopped(s, n);
        if (p == scratch)
            explicit_bzero(scratch, n); /* it may have been a key's */
        if (!went)
            return total ? total : stopped;
        s->retry = 0;
        total += (ssize_t)sent;
        if (sent < n)
            return total;
    }
}

void tls_end(struct tls_session *s)
{
    forget_errors();
    /* Behind half a record a close_notify would be garbage; and a second call would read. */
    if (s->established && !s->failed && !s->retry && !(SSL_get_shutdown(s->ssl) & SSL_SENT_SHUTDOWN))
        SSL_shutdown(s->ssl);
    forget_errors();
}

void tls_close(struct tls_session *s)
{
    if (!s)
        return;
    tls_end(s);
    SSL_set_shutdown(s->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(s->ssl);
    forget_errors();
    tls_context_unref(s->context);
    free(s->text);
    free(s);
}

enum reason tls_failure(const struct tls_session *s, const char **text)
{
    if (text)
        *text = s->text ? s->text : "";
    return s->failed ? s->reason : REASON_NONE;
}

bool tls_truncated(const struct tls_session *s)
{
    return s->truncated;
}

bool tls_resumed(const struct tls_session *s)
{
    return SSL_session_reused(s->ssl) == 1;
}

const char *tls_version(const struct tls_session *s)
{
    return SSL_get_version(s->ssl);
}

const char *tls_cipher(const struct tls_session *s)
{
    return SSL_get_cipher_name(s->ssl);
}

struct slice tls_alpn(const struct tls_session *s)
{
    const unsigned char *p = NULL;
    unsigned n = 0;
    SSL_get0_alpn_selected(s->ssl, &p, &n);
    return (struct slice){(const char *)p, n};
}

const char *tls_peer_name(const struct tls_session *s)
{
    const char *name = SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name);
    return name ? name : "";
}
