/*
 * Where something listens: an endpoint as the operator wrote it, and the socket
 * addresses that it stands for.
 */
#ifndef PROXY_ADDRESS_H
#define PROXY_ADDRESS_H

#include <stdatomic.h>
#include <sys/socket.h>

#include "policy/base.h"

enum { ENDPOINT_HOST_MAX = 256, ENDPOINT_BASE_MAX = 1024, ADDRESS_TEXT_MAX = 160 };

enum endpoint_kind { ENDPOINT_TCP, ENDPOINT_UNIX };

/* An endpoint as text says it. A value: copy it freely. */
struct endpoint {
    enum endpoint_kind kind;
    bool tls;                     /* the URL's scheme is https */
    uint16_t port;                /* host byte order; 0 for ENDPOINT_UNIX, or "any" when listening */
    char host[ENDPOINT_HOST_MAX]; /* name or IP literal without brackets; the path for ENDPOINT_UNIX */
    char base[ENDPOINT_BASE_MAX]; /* path of the URL, "" or "/x/y": no slash at its end, no query */
};

/* One socket address. A value. */
struct address {
    socklen_t len;
    struct sockaddr_storage sa;
};

/*
 * Immutable and shared between threads: the addresses of an endpoint in the order to try (RFC 6724).
 * Made by the resolver; taken and given back with address_list_ref and address_list_unref.
 */
struct address_list {
    atomic_uint refs;
    uint32_t version; /* 1 for the first list of a resolver, one more for each change */
    uint32_t count;   /* at least 1 */
    struct address at[];
};

/*
 * Reads `host:port`, `[v6]:port`, `*:port` (all interfaces), `:port` (the same) or `unix:/path`.
 * False when it is none of them: a sentence without a final period is then in err.
 */
bool endpoint_parse(const char *text, struct endpoint *out, char *err, size_t err_size) MUSTCHECK;

/*
 * Reads `http[s]://host[:port][/base]` or `unix:/path` (plain HTTP over that socket). No user information,
 * query or fragment. Port 80 or 443 when none is written. As endpoint_parse otherwise.
 */
bool endpoint_parse_url(const char *text, struct endpoint *out, char *err, size_t err_size) MUSTCHECK;

/* Writes `host:port`, `[v6]:port` or `unix:/path`. Returns the length; cut (and still terminated) when size
 * is short. */
size_t endpoint_format(const struct endpoint *endpoint, char *out, size_t size);

/* Writes the value for the Host field (RFC 9110 7.2): no port when it is the scheme's own; `localhost` for a
 * path. */
size_t endpoint_authority(const struct endpoint *endpoint, char *out, size_t size);

/* True when no resolver is needed (an IP literal, `*`, a path); the address is then in *out. */
bool endpoint_literal(const struct endpoint *endpoint, struct address *out) MUSTCHECK;

/* True for `127.0.0.1`, `::1`, `fe80::1%eth0`: text that is an IP address and not a name. */
bool address_is_ip(const char *host);

/* Writes `1.2.3.4:80`, `[::1]:80` or `unix:/path`; ADDRESS_TEXT_MAX bytes suffice. Returns the length. */
size_t address_format(const struct address *address, char *out, size_t size);

/* The same peer: family, address, port and scope. */
bool address_equal(const struct address *a, const struct address *b);

/* A list of these addresses, holding one reference, version 0. NULL when out of memory or count is 0. */
struct address_list *address_list_new(const struct address *at, uint32_t count) MUSTCHECK;

struct address_list *address_list_ref(struct address_list *list);
void address_list_unref(struct address_list *list); /* NULL is well */

/* True when the address is in the list. */
bool address_list_has(const struct address_list *list, const struct address *address);

#endif
