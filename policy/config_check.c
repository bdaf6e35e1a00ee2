/*
 * What single values cannot say: combinations that contradict each other, and settings that this
 * version does not have. Invariants: an option that already had an error is not judged again; a
 * default gives way to a value that was set, except where that would take more memory than was asked
 * for.
 */
#include <string.h>

#include "policy/config_private.h"
#include "policy/head.h"
#include "policy/outcome.h"

static bool was_set(const struct config_build *b, int option)
{
    return b->places[option].source != CONFIG_FROM_DEFAULT;
}

static void complain(struct config_build *b, int option, const char *what)
{
    config_errors_add(b->errors, &b->places[option], config_option_row(option)->key, "%s", what);
    b->bad[option] = true;
}

/* Of two options that do not go together, the one that was set last: there the error is shown. */
static int culprit(const struct config_build *b, int one, int other)
{
    return b->places[one].source > b->places[other].source ? one : other;
}

struct pair {
    int less;
    int more;
    bool may_raise; /* a default of `more` may rise to what was set for `less` */
};

static const struct pair pairs[] = {
    {CONFIG_OPTION_pool_min_size, CONFIG_OPTION_pool_max_size, true},
    {CONFIG_OPTION_concurrency_min, CONFIG_OPTION_concurrency_max, true},
    {CONFIG_OPTION_retry_base_delay, CONFIG_OPTION_retry_max_delay, true},
    {CONFIG_OPTION_circuit_breaker_circuit_breaker_timeout,
     CONFIG_OPTION_circuit_breaker_circuit_breaker_max_timeout, true},
    {CONFIG_OPTION_cache_max_object_bytes, CONFIG_OPTION_cache_max_memory_bytes, false},
    {CONFIG_OPTION_listen_max_target_bytes, CONFIG_OPTION_listen_max_header_bytes, false},
};

/* All options of the pairs are 64-bit whole numbers that fit into int64_t. */
static int64_t *number(const struct config_build *b, int option)
{
    return (int64_t *)(void *)((char *)b->cfg + config_option_row(option)->offset);
}

static void check_pair(struct config_build *b, const struct pair *p)
{
    const struct config_option_row *less = config_option_row(p->less), *more = config_option_row(p->more);
    if (b->bad[p->less] || b->bad[p->more] || *number(b, p->less) <= *number(b, p->more))
        return;
    if (!was_set(b, p->less)) {
        *number(b, p->less) = *number(b, p->more);
        return;
    }
    if (!was_set(b, p->more) && p->may_raise) {
        *number(b, p->more) = *number(b, p->less);
        return;
    }
    char one[64], other[64];
    struct config_out a = {.buf = one, .room = sizeof one}, z = {.buf = other, .room = sizeof other};
    config_out_value(&a, less, number(b, p->less), false);
    config_out_value(&z, more, number(b, p->more), false);
    int shown = culprit(b, p->less, p->more);
    config_errors_add(b->errors, &b->places[shown], config_option_row(shown)->key,
                      "%s (%s) is above %s (%s), allowed: at most equal", less->key, one, more->key, other);
}

/* A certificate and its key come together. */
static void check_tls(struct config_build *b, int certificate, int key)
{
    const char *const *c =
        (const char *const *)(void *)((char *)b->cfg + config_option_row(certificate)->offset);
    const char *const *k = (const char *const *)(void *)((char *)b->cfg + config_option_row(key)->offset);
    if (b->bad[certificate] || b->bad[key] || !**c == !**k)
        return;
    int given = **c ? certificate : key, missing = **c ? key : certificate;
    config_errors_add(b->errors, &b->places[given], config_option_row(given)->key,
                      "is set without %s, allowed: both or neither", config_option_row(missing)->key);
}

static void check_listeners(struct config_build *b)
{
    const struct config *cfg = b->cfg;
    check_tls(b, CONFIG_OPTION_listen_tls_certificate_file, CONFIG_OPTION_listen_tls_key_file);
    check_tls(b, CONFIG_OPTION_admin_tls_certificate_file, CONFIG_OPTION_admin_tls_key_file);
    if (*cfg->listen_tls_client_ca_file && !*cfg->listen_tls_certificate_file &&
        !b->bad[CONFIG_OPTION_listen_tls_certificate_file])
        complain(b, CONFIG_OPTION_listen_tls_client_ca_file,
                 "is set without listen.tls.certificate_file, allowed: only together with it");
    if (!b->bad[CONFIG_OPTION_admin_address] && !b->bad[CONFIG_OPTION_admin_token_file] &&
        !cfg->admin_address.loopback && !*cfg->admin_token_file)
        complain(b, CONFIG_OPTION_admin_address,
                 "can be reached from other machines, allowed without admin.token_file: 127.0.0.1, [::1], "
                 "localhost "
                 "or unix:/path");
    if (*cfg->listen_handover && *cfg->listen_handover != '/')
        complain(b, CONFIG_OPTION_listen_handover,
                 "is no absolute path, allowed: such as /run/promptops/handover");
    if (!b->bad[CONFIG_OPTION_listen_address] && !b->bad[CONFIG_OPTION_admin_address] &&
        strcmp(cfg->listen_address.text, cfg->admin_address.text) == 0 &&
        (*cfg->listen_address.path || cfg->listen_address.port))
        complain(b, culprit(b, CONFIG_OPTION_listen_address, CONFIG_OPTION_admin_address),
                 "listen.address and admin.address are the same, allowed: two different ones");
}

static void check_upstream(struct config_build *b)
{
    const struct config *cfg = b->cfg;
    const char *name = cfg->upstream_tls_server_name;
    check_tls(b, CONFIG_OPTION_upstream_tls_certificate_file, CONFIG_OPTION_upstream_tls_key_file);
    if (!*cfg->upstream_url.text && !b->bad[CONFIG_OPTION_upstream_url])
        complain(b, CONFIG_OPTION_upstream_url,
                 "is empty, allowed: http://host[:port][/path] or https://...");
    if (*name && (strlen(name) > 253 || strpbrk(name, ":/@[] ")))
        complain(b, CONFIG_OPTION_upstream_tls_server_name,
                 "is not a host name, allowed: a name without scheme or port");
    const char *to = cfg->upstream_connect_to, *colon = strrchr(to, ':');
    if (*to && (!colon || colon == to || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
                strpbrk(to, "/@ ")))
        complain(b, CONFIG_OPTION_upstream_connect_to,
                 "is not host:port, allowed: such as api.internal:443 or [::1]:443");
    const char *path = cfg->pool_health_check_path;
    if (*path != '/' || strpbrk(path, " #"))
        complain(b, CONFIG_OPTION_pool_health_check_path,
                 "is not a path, allowed: / and what follows, such as /health");
}

/* Without a check whoever answers for the upstream's name is handed the key that the sidecar holds. */
static void check_unverified(struct config_build *b)
{
    const struct config *cfg = b->cfg;
    if (!cfg->upstream_tls_verify && cfg->upstream_url.tls && !cfg->upstream_url.loopback &&
        cfg->auth_scheme != CONFIG_AUTH_SCHEME_PASSTHROUGH && !b->bad[CONFIG_OPTION_upstream_tls_verify])
        complain(
            b, CONFIG_OPTION_upstream_tls_verify,
            "is false while the sidecar holds a key (auth.scheme): anybody on the way could take the key; "
            "allowed: true, with upstream.tls.ca_file for an authority of your own");
}

static void check_auth(struct config_build *b)
{
    const struct config *cfg = b->cfg;
    bool passthrough = cfg->auth_scheme == CONFIG_AUTH_SCHEME_PASSTHROUGH;
    if (b->bad[CONFIG_OPTION_auth_scheme])
        return;
    if (passthrough && *cfg->auth_api_key_file)
        complain(b, CONFIG_OPTION_auth_api_key_file,
                 "has no effect while auth.scheme is passthrough; leave it out or choose another scheme");
    if (cfg->auth_scheme != CONFIG_AUTH_SCHEME_SIGNED && *cfg->auth_secret_key_file)
        complain(b, CONFIG_OPTION_auth_secret_key_file,
                 "has no effect unless auth.scheme is signed; leave it out or choose that scheme");
    if (!passthrough && !*cfg->auth_api_key_file && !b->bad[CONFIG_OPTION_auth_api_key_file])
        complain(b, CONFIG_OPTION_auth_scheme, "needs auth.api_key_file");
    if (cfg->auth_scheme == CONFIG_AUTH_SCHEME_SIGNED && !*cfg->auth_secret_key_file &&
        !b->bad[CONFIG_OPTION_auth_secret_key_file])
        complain(b, CONFIG_OPTION_auth_scheme, "needs auth.secret_key_file to sign with");
}

/* The Python client's scheme has unix seconds: a default gives way to what was chosen. */
static void settle_timestamp(struct config_build *b)
{
    if (!was_set(b, CONFIG_OPTION_auth_timestamp_format))
        b->cfg->auth_timestamp_format = b->cfg->auth_scheme == CONFIG_AUTH_SCHEME_PROMPTOPS
                                            ? CONFIG_AUTH_TIMESTAMP_FORMAT_UNIX
                                            : CONFIG_AUTH_TIMESTAMP_FORMAT_NAIVE_UTC;
}

/* Fields that differ on every request and say nothing about who asks: with one of them nothing would ever
 * hit. */
static void check_partition(struct config_build *b)
{
    const struct config_list *names = &b->cfg->cache_partition_by;
    if (b->bad[CONFIG_OPTION_cache_partition_by])
        return;
    for (size_t i = 0; i < names->count; i++) {
        enum field_id id = field_lookup(names->items[i], strlen(names->items[i]));
        if (id != FIELD_X_PROMPTOPS_TIMESTAMP && id != FIELD_X_PROMPTOPS_NONCE &&
            id != FIELD_X_PROMPTOPS_SIGNATURE)
            continue;
        config_errors_add(
            b->errors, &b->places[CONFIG_OPTION_cache_partition_by], "cache.partition_by",
            "has %s, which differs on every request, so that nothing would be found again; allowed: fields "
            "that say who asks",
            names->items[i]);
        return;
    }
}

/* What this version does not do is refused, rather than ignored. */
static void check_available(struct config_build *b)
{
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const struct config_option_row *row = config_option_row(i);
        if (row->ready || b->bad[i] || !was_set(b, i))
            continue;
        if (config_value_same(row, (char *)b->cfg + row->offset, (const char *)b->defaults + row->offset))
            continue;
        config_errors_add(b->errors, &b->places[i], row->key,
                          "%s is not available in this version; leave it out", row->key);
        b->bad[i] = true;
    }
}

void config_check(struct config_build *b)
{
    const struct config *cfg = b->cfg;
    check_available(b);
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        check_pair(b, &pairs[i]);
    check_listeners(b);
    check_upstream(b);
    check_auth(b);
    check_unverified(b);
    settle_timestamp(b);
    check_partition(b);
    if (cfg->rate_limit_disguised.count > OUTCOME_DISGUISES && !b->bad[CONFIG_OPTION_rate_limit_disguised])
        complain(b, CONFIG_OPTION_rate_limit_disguised, "has too many members, allowed: 8");
    if (cfg->rate_limit_share_through_redis && !*cfg->cache_redis_url &&
        !b->bad[CONFIG_OPTION_rate_limit_share_through_redis] && !b->bad[CONFIG_OPTION_cache_redis_url])
        complain(b, CONFIG_OPTION_rate_limit_share_through_redis, "needs cache.redis_url");
    if (!*cfg->log_file)
        complain(b, CONFIG_OPTION_log_file, "is empty, allowed: - for standard error, or a path");
    if (cfg->cache_scope == CONFIG_CACHE_SCOPE_PRIVATE && cfg->cache_partition_by.count == 0 &&
        !b->bad[CONFIG_OPTION_cache_partition_by] && !b->bad[CONFIG_OPTION_cache_scope])
        complain(
            b, CONFIG_OPTION_cache_partition_by,
            "is empty, so that all credentials would share stored answers; allowed: at least one field, or "
            "cache.scope: shared");
}

/* Whether what is said to this Redis leaves the machine, as a URL says; Sentinels may name any master. */
static bool redis_elsewhere(const char *url)
{
    static const char *const here[] = {"127.", "localhost", "[::1]"};
    const char *authority = strstr(url, "://");
    if (!authority || strncmp(url, "unix", 4) == 0 || strncmp(url, "redis+unix", 10) == 0)
        return false;
    authority += 3;
    size_t n = strcspn(authority, "/?");
    const char *at = memchr(authority, '@', n);
    const char *host = at ? at + 1 : authority;
    if (strncmp(url, "redis+sentinel", 14) != 0)
        for (size_t i = 0; i < ARRAY_LEN(here); i++)
            if (strncmp(host, here[i], strlen(here[i])) == 0)
                return false;
    return true;
}

/* A webhook's URL is as good as a password with most services. */
static bool webhook_in_the_clear(const struct config *cfg)
{
    static const char *const here[] = {"http://127.", "http://localhost", "http://[::1]"};
    for (size_t i = 0; i < cfg->notifications_webhooks.count; i++) {
        const char *url = cfg->notifications_webhooks.items[i].url;
        bool clear = strncmp(url, "http://", 7) == 0;
        for (size_t k = 0; k < ARRAY_LEN(here); k++)
            clear = clear && strncmp(url, here[k], strlen(here[k])) != 0;
        if (clear)
            return true;
    }
    return false;
}

/* Partitions without the field that tells one client's key from another's. */
static bool mixes_keys(const struct config *cfg)
{
    if (cfg->auth_scheme != CONFIG_AUTH_SCHEME_PASSTHROUGH || cfg->cache_scope != CONFIG_CACHE_SCOPE_PRIVATE)
        return false;
    for (size_t i = 0; i < cfg->cache_partition_by.count; i++) {
        const char *name = cfg->cache_partition_by.items[i];
        if (field_lookup(name, strlen(name)) == FIELD_AUTHORIZATION)
            return false;
    }
    return true;
}

const char *config_warning(const struct config *cfg, size_t i)
{
    bool holds = cfg->auth_scheme != CONFIG_AUTH_SCHEME_PASSTHROUGH;
    bool grpc = cfg->performance_opentelemetry_protocol == CONFIG_PERFORMANCE_OPENTELEMETRY_PROTOCOL_GRPC;
    uint16_t other = grpc ? 4318 : 4317; /* where a collector speaks the other protocol */
    bool elsewhere = *cfg->cache_redis_url && redis_elsewhere(cfg->cache_redis_url);
    bool mixed =
        cfg->performance_opentelemetry_enabled && cfg->performance_opentelemetry_endpoint.port == other;
    const struct {
        bool applies;
        const char *text;
    } table[] = {
        {mixed && grpc, "performance.opentelemetry_endpoint: port 4318 is a collector's for HTTP most often; "
                        "gRPC has 4317, or set "
                        "performance.opentelemetry_protocol: http/protobuf"},
        {mixed && !grpc, "performance.opentelemetry_endpoint: port 4317 is a collector's for gRPC most "
                         "often; HTTP has 4318, or set "
                         "performance.opentelemetry_protocol: grpc"},
        {holds && !cfg->upstream_url.tls && !cfg->upstream_url.loopback,
         "auth.scheme: the API key goes to another machine over plain http (upstream.url), where it can be "
         "read on the way; "
         "use https, unless something on the way encrypts it"},
        {holds && !cfg->listen_address.loopback && !*cfg->listen_tls_client_ca_file,
         "auth.scheme: other machines reach listen.address, and whoever does uses the sidecar's API key; "
         "listen on 127.0.0.1 "
         "or a unix socket, or ask for client certificates (listen.tls.client_ca_file)"},
        {!holds && !cfg->listen_address.loopback && !*cfg->listen_tls_certificate_file,
         "listen.address: other machines reach it over plain http, where their keys can be read on the way; "
         "listen "
         "on 127.0.0.1 or a unix socket, or set listen.tls.certificate_file"},
        {*cfg->admin_token_file && !cfg->admin_address.loopback && !*cfg->admin_tls_certificate_file,
         "admin.address: the token comes over plain http from other machines and can be read on the way; set "
         "admin.tls.certificate_file, or let nobody but Prometheus reach the port"},
        {!cfg->upstream_tls_verify && cfg->upstream_url.tls && !cfg->upstream_url.loopback,
         "upstream.tls.verify: false: anybody on the way can answer for the upstream and read what is sent "
         "to it"},
        {elsewhere && strncmp(cfg->cache_redis_url, "redis://", 8) == 0 &&
             strchr(cfg->cache_redis_url + 8, '@'),
         "cache.redis_url: the password goes over a plain connection; use rediss:// unless Redis is on this "
         "machine"},
        {elsewhere && !strchr(cfg->cache_redis_url, '@'),
         "cache.redis_url: that Redis asks for no password: whoever reaches it can empty what is shared and "
         "use "
         "up a shared budget; give it one (redis/users.acl is an example) and use rediss://"},
        {strncmp(cfg->cache_redis_url, "rediss://", 9) == 0 && strstr(cfg->cache_redis_url, "verify=no"),
         "cache.redis_url: verify=no: anybody on the way can answer for Redis and read its password; leave "
         "it "
         "out, with ca_file for an authority of your own"},
        {!holds && cfg->cache_scope == CONFIG_CACHE_SCOPE_SHARED,
         "cache.scope: shared: clients with different keys share stored answers; only answers to requests "
         "with "
         "Authorization are kept apart (RFC 9111 section 3.5); use private unless all keys may see the same"},
        {mixes_keys(cfg),
         "cache.partition_by: without Authorization, clients with different keys share stored "
         "answers; add it, or let the sidecar hold the key (auth.scheme)"},
        {strncmp(cfg->cache_redis_url, "redis+sentinel://", 17) == 0 && strchr(cfg->cache_redis_url, '@'),
         "cache.redis_url: the password goes over a plain connection, since there is no TLS with Sentinels; "
         "keep it within a network that you trust"},
        {webhook_in_the_clear(cfg), "notifications.webhooks: an alert goes to another machine over plain "
                                    "http, where its URL can be read on "
                                    "the way; use https, unless that network is one that you trust"},
        {!cfg->security_seccomp, "security.seccomp: false: who takes this process over by a fault in it may "
                                 "do all that its user may"},
        {cfg->security_core_dumps, "security.core_dumps: true: requests and answers are in a dump, and a "
                                   "debugger of the same user sees the keys too"},
    };
    for (size_t k = 0; k < ARRAY_LEN(table); k++)
        if (table[k].applies && i-- == 0)
            return table[k].text;
    return NULL;
}
