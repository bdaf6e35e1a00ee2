/*
 * The way to a Redis server. Invariant: the password is in secret room from the parsing on, and wiped with
 * it.
 */
#include "proxy/redis_place.h"

#include "proxy/redis.h"
#include "proxy/redis_url.h"
#include "proxy/resolve.h"
#include "proxy/secret.h"
#include "proxy/tls.h"

bool redis_place_open(struct redis_place *p, const char *url, uint64_t seed, char *err, size_t err_size)
{
    struct resolver_options ro = {.refresh = 30 * TICK_S, .seed = seed};
    *p = (struct redis_place){0};
    p->address = secret_room(sizeof(*p->address));
    if (!p->address || !redis_url_parse(url, p->address, err, err_size))
        return false;
    if (p->address->endpoint.tls) {
        struct tls_client_options to = {.server_name = p->address->endpoint.host,
                                        .ca_file = p->address->ca_file,
                                        .verify = p->address->verify};
        p->tls = tls_context_client(&to, err, err_size);
        if (!p->tls)
            return false;
    }
    p->resolver = resolver_start(&p->address->endpoint, &ro, err, err_size);
    return p->resolver != NULL;
}

void redis_place_close(struct redis_place *p)
{
    if (p->resolver)
        resolver_stop(p->resolver);
    tls_context_unref(p->tls);
    secret_room_free(p->address, sizeof(*p->address));
    *p = (struct redis_place){0};
}

void redis_place_options(const struct redis_place *p, struct redis_options *out)
{
    out->resolver = p->resolver;
    out->address = p->address;
    out->tls = p->tls;
}
