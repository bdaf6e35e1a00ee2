/*
 * Publications and settings. Invariants: a publication never changes after publication_new(); it
 * owns a reference on its configuration and on each TLS context, and the keys; settings are touched by one
 * worker.
 */
#include "proxy/settings.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/observe.h"
#include "policy/config.h"
#include "policy/head.h"
#include "proxy/guard.h"
#include "proxy/signer.h"
#include "proxy/tls.h"

static struct slice text_of(const char *s)
{
    return (struct slice){s, strlen(s)};
}

static void read_cache_rules(const struct config *cfg, struct cache_rules *r)
{
    *r = (struct cache_rules){
        .shared = cfg->cache_scope == CONFIG_CACHE_SCOPE_SHARED,
        .default_ttl = cfg->cache_default_ttl,
        .stale_while_revalidate = cfg->cache_stale_while_revalidate,
        .stale_if_error = cfg->cache_stale_if_error,
        .heuristic_fraction = cfg->cache_heuristic_fraction,
        .adaptive_ttl = cfg->cache_enable_adaptive_ttl,
    };
    for (size_t i = 0; i < cfg->cache_targets.count && i < CACHE_MAX_TARGETS; i++)
        r->targets[r->target_count++] = text_of(cfg->cache_targets.items[i]);
    for (size_t i = 0; i < cfg->cache_partition_by.count && i < CACHE_MAX_PARTITION_NAMES; i++) {
        struct slice name = text_of(cfg->cache_partition_by.items[i]);
        r->partition_names[r->partition_count] = name;
        r->partition_ids[r->partition_count++] = (uint8_t)field_lookup(name.p, name.n);
    }
}

static void read_limits(const struct config *cfg, struct publication *p)
{
    p->client_limits = (struct h1_limits){
        .max_head = (uint32_t)cfg->listen_max_header_bytes,
        .max_target = (uint32_t)cfg->listen_max_target_bytes,
        .max_trailer = (uint32_t)cfg->listen_max_header_bytes,
    };
    p->upstream_limits = (struct h1_limits){
        .max_head = (uint32_t)cfg->upstream_max_header_bytes,
        .max_trailer = (uint32_t)cfg->upstream_max_header_bytes,
        .unknown_coding_until_close =
            cfg->upstream_unknown_transfer_coding == CONFIG_UPSTREAM_UNKNOWN_TRANSFER_CODING_UNTIL_CLOSE,
    };
}

static bool compile_routes(struct publication *p, const struct publication *previous, struct metrics *metrics,
                           char *err, size_t err_size)
{
    const struct config *cfg = p->cfg;
    struct route_error error = {0};
    p->routes = routes_compile(cfg->routes.items, cfg->routes.count, cfg->preset == CONFIG_PRESET_PROMPTOPS,
                               previous ? previous->routes : NULL, &error);
    if (!p->routes) {
        snprintf(err, err_size, "routes[%d]: %s", error.row, error.message);
        return false;
    }
    int n = routes_operations(p->routes);
    p->operations = calloc((size_t)n, sizeof(*p->operations));
    for (int i = 0; p->operations && i < n; i++)
        p->operations[i] = i == ROUTE_OTHER ? OPERATION_OTHER
                                            : metrics_operation(metrics, routes_operation_name(p->routes, i));
    size_t rows = routes_rows(p->routes);
    p->templates = calloc(rows + 1, sizeof(*p->templates));
    for (size_t i = 0; p->templates && i < rows; i++)
        p->templates[i + 1] = metrics_route(metrics, routes_row(p->routes, i)->path);
    return p->operations && p->templates;
}

static const char *min_version(const struct config *cfg)
{
    return cfg->upstream_tls_min_version == CONFIG_UPSTREAM_TLS_MIN_VERSION_TLS_1_3 ? "1.3" : "1.2";
}

bool settings_server_tls(const struct config *cfg, struct tls_context **out, char *err, size_t err_size)
{
    struct tls_server_options options = {
        .certificate_file = cfg->listen_tls_certificate_file,
        .key_file = cfg->listen_tls_key_file,
        .client_ca_file = cfg->listen_tls_client_ca_file,
    };
    *out = NULL;
    if (!*options.certificate_file)
        return true;
    *out = tls_context_server(&options, err, err_size);
    return *out != NULL;
}

bool settings_client_tls(const struct config *cfg, struct tls_context **out, char *err, size_t err_size)
{
    struct tls_client_options options = {
        .server_name =
            cfg->upstream_tls_server_name[0] ? cfg->upstream_tls_server_name : cfg->upstream_url.host,
        .ca_file = cfg->upstream_tls_ca_file,
        .verify = cfg->upstream_tls_verify,
        .certificate_file = cfg->upstream_tls_certificate_file,
        .key_file = cfg->upstream_tls_key_file,
        .min_version = min_version(cfg),
    };
    *out = NULL;
    if (!cfg->upstream_url.tls)
        return true;
    *out = tls_context_client(&options, err, err_size);
    return *out != NULL;
}

static bool load_tls(struct publication *p, char *err, size_t err_size)
{
    return settings_server_tls(p->cfg, &p->tls_server, err, err_size) &&
           settings_client_tls(p->cfg, &p->tls_client, err, err_size);
}

static bool load_keys(struct publication *p, char *err, size_t err_size)
{
    static const enum signer_scheme schemes[] = {
        [CONFIG_AUTH_SCHEME_PASSTHROUGH] = SIGNER_PASSTHROUGH,
        [CONFIG_AUTH_SCHEME_BEARER] = SIGNER_BEARER,
        [CONFIG_AUTH_SCHEME_SIGNED] = SIGNER_SIGNED,
        [CONFIG_AUTH_SCHEME_PROMPTOPS] = SIGNER_PROMPTOPS,
    };
    static const enum timestamp_form forms[] = {
        [CONFIG_AUTH_TIMESTAMP_FORMAT_NAIVE_UTC] = TIMESTAMP_NAIVE_UTC,
        [CONFIG_AUTH_TIMESTAMP_FORMAT_ZULU] = TIMESTAMP_ZULU,
        [CONFIG_AUTH_TIMESTAMP_FORMAT_UNIX] = TIMESTAMP_UNIX,
    };
    struct signer_options options = {
        .scheme = schemes[p->cfg->auth_scheme],
        .form = forms[p->cfg->auth_timestamp_format],
        .replace = p->cfg->auth_replace_client_credentials,
        .api_key_file = p->cfg->auth_api_key_file,
        .secret_key_file = p->cfg->auth_secret_key_file,
    };
    p->signer = signer_new(&options, err, err_size);
    p->cache.adds_credential = options.scheme != SIGNER_PASSTHROUGH;
    return p->signer != NULL;
}

static bool name_origin(struct publication *p)
{
    const struct config_url *url = &p->cfg->upstream_url;
    size_t room = strlen(url->host) + 32;
    p->origin = malloc(room);
    if (!p->origin)
        return false;
    p->origin_len =
        (size_t)snprintf(p->origin, room, "%s://%s:%u", url->tls ? "https" : "http", url->host, url->port);
    return true;
}

struct publication *publication_new(const struct config *cfg, const struct publication *previous,
                                    struct metrics *metrics, char *err, size_t err_size)
{
    struct publication *p = calloc(1, sizeof(*p));
    snprintf(err, err_size, "out of memory");
    if (!p)
        return NULL;
    atomic_init(&p->refs, 1);
    p->cfg = config_ref(cfg);
    p->generation = previous ? previous->generation + 1 : 1;
    read_cache_rules(cfg, &p->cache);
    guard_retry_rules(cfg, &p->retry);
    outcome_disguises_read(&p->disguises, cfg->rate_limit_disguised.items, cfg->rate_limit_disguised.count);
    read_limits(cfg, p);
    if (!name_origin(p) || !compile_routes(p, previous, metrics, err, err_size) ||
        !load_tls(p, err, err_size) || !load_keys(p, err, err_size)) {
        publication_unref(p);
        return NULL;
    }
    return p;
}

struct publication *publication_ref(struct publication *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void publication_unref(struct publication *p)
{
    if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
        return;
    routes_free(p->routes);
    free(p->operations);
    free(p->templates);
    tls_context_unref(p->tls_server);
    tls_context_unref(p->tls_client);
    signer_free(p->signer);
    free(p->origin);
    config_unref(p->cfg);
    free(p);
}

struct settings *settings_new(struct publication *p)
{
    struct settings *s = malloc(sizeof(*s));
    if (!s) {
        publication_unref(p);
        return NULL;
    }
    *s = (struct settings){p, 1};
    return s;
}

void settings_unref(struct settings *s)
{
    if (--s->refs)
        return;
    publication_unref(s->p);
    free(s);
}
