/*
 * The configuration as it is in force. A publication is made by the control thread at start and at
 * every reload: the immutable snapshot with everything that was worked out from it (routes, TLS
 * contexts, rules), shared by all threads. Settings are one worker's hold on a publication: a
 * request keeps the settings that it began with, at the price of a plain counter.
 */
#ifndef PROXY_SETTINGS_H
#define PROXY_SETTINGS_H

#include "policy/base.h"
#include "policy/freshness.h"
#include "policy/outcome.h"
#include "policy/retry.h"
#include "policy/route.h"
#include "proxy/h1.h"

struct config;
struct signer;
struct tls_context;

struct publication {
    _Atomic int refs;
    const struct config *cfg; /* a reference */
    struct routes *routes;
    uint16_t *operations; /* metrics' number of each operation of the routes */
    uint16_t *templates;  /* likewise of each route's template, by struct route's number */
    struct cache_rules cache;
    struct retry_rules retry;
    struct outcome_disguises disguises;
    struct h1_limits client_limits, upstream_limits;
    struct tls_context *tls_server; /* NULL: plain */
    struct tls_context *tls_client; /* NULL: plain */
    struct signer *signer;          /* never NULL; may hold no key */
    char *origin;                   /* "https://host:port" */
    size_t origin_len;
    uint32_t generation; /* grows with every publication */
};

struct settings {
    struct publication *p; /* a reference */
    unsigned refs;
};

struct metrics;

/*
 * Works everything out. `previous` (or NULL) keeps operation numbers stable. Takes its own reference on
 * cfg. NULL with a sentence in err: a certificate or a key that cannot be read, a bad template, no memory.
 */
struct publication *publication_new(const struct config *cfg, const struct publication *previous,
                                    struct metrics *metrics, char *err, size_t err_size);
struct publication *publication_ref(struct publication *p);
void publication_unref(struct publication *p);

/*
 * The TLS of the listening side and of the upstream's: one reference in *out, NULL for plain connections.
 * False with a sentence in err, which begins with the name of the key in listen.tls or upstream.tls that is
 * at fault, when a file does not hold what it should.
 */
bool settings_server_tls(const struct config *cfg, struct tls_context **out, char *err, size_t err_size);
bool settings_client_tls(const struct config *cfg, struct tls_context **out, char *err, size_t err_size);

/* Takes over the caller's reference on p. NULL (p released): no memory. */
struct settings *settings_new(struct publication *p);

static inline struct settings *settings_ref(struct settings *s)
{
    s->refs++;
    return s;
}

void settings_unref(struct settings *s);

static inline const struct config *settings_config(const struct settings *s)
{
    return s->p->cfg;
}

#endif
