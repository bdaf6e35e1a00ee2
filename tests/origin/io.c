/*
 * Sockets with or without TLS: the only file of the stand-in that knows SSL. Invariant: a closed io has fd -1
 * and no layer; nothing here blocks.
 */
#include "tests/origin/io.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct io_tls {
    SSL_CTX *ctx;
};

static int choose_http11(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                         unsigned in_len, void *arg)
{
    (void)ssl;
    (void)arg;
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen;
    unsigned char n;
    if (SSL_select_next_proto(&chosen, &n, ours, sizeof(ours) - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    *out_len = n;
    return SSL_TLSEXT_ERR_OK;
}

struct io_tls *io_tls_new(const char *cert_file, const char *key_file, const char **why)
{
    struct io_tls *tls = calloc(1, sizeof(*tls));
    *why = "out of memory";
    if (!tls)
        return NULL;
    tls->ctx = SSL_CTX_new(TLS_server_method());
    if (!tls->ctx)
        goto fail;
    SSL_CTX_set_min_proto_version(tls->ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(tls->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                   SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(tls->ctx, choose_http11, NULL);
    SSL_CTX_set_session_id_context(tls->ctx, (const unsigned char *)"promptops-origin", 16);
    if (SSL_CTX_use_certificate_chain_file(tls->ctx, cert_file) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls->ctx, key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(tls->ctx) != 1) {
        *why = ERR_reason_error_string(ERR_get_error());
        goto fail;
    }
    return tls;
fail:
    io_tls_free(tls);
    return NULL;
}

void io_tls_free(struct io_tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->ctx);
    free(tls);
}

bool io_open(struct io *io, int fd, struct io_tls *tls)
{
    *io = (struct io){.fd = fd};
    if (!tls)
        return true;
    SSL *ssl = SSL_new(tls->ctx);
    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        close(fd);
        io->fd = -1;
        return false;
    }
    SSL_set_accept_state(ssl);
    io->layer = ssl;
    return true;
}

static ssize_t ssl_result(SSL *ssl, int r)
{
    int e = SSL_get_error(ssl, r);
    ERR_clear_error();
    switch (e) {
    case SSL_ERROR_WANT_READ:
        return IO_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        return IO_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return IO_EOF;
    default:
        return IO_ERROR;
    }
}

ssize_t io_read(struct io *io, void *buf, size_t n)
{
    if (io->layer) {
        int r = SSL_read(io->layer, buf, n > INT32_MAX ? INT32_MAX : (int)n);
        return r > 0 ? r : ssl_result(io->layer, r);
    }
    for (;;) {
        ssize_t r = recv(io->fd, buf, n, 0);
        if (r >= 0)
            return r;
        if (errno != EINTR)
            return errno == EAGAIN ? IO_AGAIN : IO_ERROR;
    }
}

/* Small pieces are put together, so that a head and its body make one record. */
static ssize_t ssl_writev(SSL *ssl, const struct iovec *iov, int count)
{
    char record[16 * 1024];
    size_t n = 0;
    for (int i = 0; i < count && n < sizeof(record); i++) {
        size_t part = iov[i].iov_len < sizeof(record) - n ? iov[i].iov_len : sizeof(record) - n;
        memcpy(record + n, iov[i].iov_base, part);
        n += part;
    }
    if (n == 0)
        return 0;
    int r = SSL_write(ssl, record, (int)n);
    if (r > 0)
        return r;
    ssize_t e = ssl_result(ssl, r);
    if (e == IO_EOF)
        return IO_ERROR;
    /* Nothing was taken; the reader will make TLS go on when it wants to read first. */
    return e == IO_AGAIN ? IO_AGAIN : e;
}

ssize_t io_writev(struct io *io, const struct iovec *iov, int count)
{
    if (io->layer)
        return ssl_writev(io->layer, iov, count);
    struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
    for (;;) {
        ssize_t r = sendmsg(io->fd, &m, MSG_NOSIGNAL);
        if (r >= 0)
            return r;
        if (errno != EINTR)
            return errno == EAGAIN ? IO_AGAIN : IO_ERROR;
    }
}

bool io_pending(const struct io *io)
{
    return io->layer && SSL_pending(io->layer) > 0;
}

void io_shutdown(struct io *io)
{
    if (io->layer) {
        SSL_shutdown(io->layer);
        ERR_clear_error();
    }
    shutdown(io->fd, SHUT_WR);
}

void io_close(struct io *io, bool reset)
{
    if (io->fd < 0)
        return;
    if (io->layer) {
        if (!reset)
            SSL_shutdown(io->layer);
        SSL_free(io->layer);
        ERR_clear_error();
        io->layer = NULL;
    }
    if (reset) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        setsockopt(io->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    close(io->fd);
    io->fd = -1;
}
