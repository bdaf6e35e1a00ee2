/*
 * The bytes of one connection, plain or TLS, and where TLS comes from.
 */
#ifndef ORIGIN_IO_H
#define ORIGIN_IO_H

#include <sys/types.h>
#include <sys/uio.h>

#include "policy/base.h"

struct io_tls; /* certificates, shared by all connections of one listener */

struct io {
    int fd;      /* -1 when closed */
    void *layer; /* the TLS session, NULL when plain */
};

enum { IO_EOF = 0, IO_AGAIN = -1, IO_ERROR = -2, IO_WANT_WRITE = -3 };

/* NULL when a file cannot be used: *why says which and why (a static or owned-by-OpenSSL string). */
struct io_tls *io_tls_new(const char *cert_file, const char *key_file, const char **why);
void io_tls_free(struct io_tls *tls);

/* Takes the descriptor. tls NULL: plain. False when out of memory (the descriptor is closed then). */
bool io_open(struct io *io, int fd, struct io_tls *tls);
ssize_t io_read(struct io *io, void *buf, size_t n);
/* May take fewer bytes than offered. */
ssize_t io_writev(struct io *io, const struct iovec *iov, int count);
/* TLS holds decrypted bytes for which no event will come. */
bool io_pending(const struct io *io);
/* Ends the sending side and leaves the rest open. */
void io_shutdown(struct io *io);
/* reset: with RST instead of FIN. */
void io_close(struct io *io, bool reset);

#endif
