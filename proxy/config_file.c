/*
 * Gathers the configuration from its sources, in order of precedence, and looks at the files that it
 * names. Invariants: every variable that begins with PROMPTOPS_SIDECAR_ is either used or reported,
 * those that Kubernetes sets for services left aside; a file is read whole or not at all; nothing is
 * kept from one load to the next.
 */
#include "proxy/config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/suggest.h"
#include "proxy/config_trust.h"
#include "proxy/read_up_to.h"
#include "proxy/redis_url.h"
#include "proxy/secret.h"

#define PREFIX    "PROMPTOPS_SIDECAR_"
#define MAX_BYTES (1024u * 1024u)

/* ---- Files that options name ------------------------------------------------------------------- */

static bool say(char *why, size_t n, const char *what, int error)
{
    char text[128];
    snprintf(why, n, "%s: %s", what, strerror_r(error, text, sizeof text));
    return false;
}

static bool readable(const char *path, char *why, size_t n)
{
    struct stat st;
    if (stat(path, &st) != 0 || access(path, R_OK) != 0)
        return say(why, n, "cannot be read, allowed: a file that this user may read", errno);
    if (S_ISDIR(st.st_mode))
        return say(why, n, "cannot be read, allowed: a file that this user may read", EISDIR);
    return true;
}

static bool directory_usable(const char *path, char *why, size_t n)
{
    struct stat st;
    int error = stat(path, &st) != 0 ? errno : !S_ISDIR(st.st_mode) ? ENOTDIR : 0;
    if (!error && access(path, W_OK | X_OK) != 0)
        error = errno;
    return !error || say(why, n, "cannot be used, allowed: a directory that this user may write to", error);
}

/* An existing file that may be written to, or a new one in a directory that may. */
static bool writable(const char *path, char *why, size_t n)
{
    struct stat st;
    char parent[4096];
    if (strcmp(path, "-") == 0)
        return true;
    if (stat(path, &st) == 0) {
        int error = S_ISDIR(st.st_mode) ? EISDIR : access(path, W_OK) != 0 ? errno : 0;
        return !error || say(why, n, "cannot be written, allowed: a file that this user may write to", error);
    }
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (errno != ENOENT || length >= sizeof parent || path[strlen(path) - 1] == '/')
        return say(why, n, "cannot be written, allowed: a file that this user may write to", errno);
    memcpy(parent, path, length);
    parent[length] = '\0';
    return directory_usable(slash ? (*parent ? parent : "/") : ".", why, n);
}

bool config_file_usable(enum config_type type, const char *path, char *why, size_t n)
{
    switch (type) {
    case CONFIG_TYPE_READ_FILE:
        return readable(path, why, n);
    case CONFIG_TYPE_WRITE_FILE:
        return writable(path, why, n);
    case CONFIG_TYPE_DIRECTORY:
        return directory_usable(path, why, n);
    default:
        return true;
    }
}

/* ---- The configuration file -------------------------------------------------------------------- */

static void put_file(const char *path, struct config_draft *draft, struct config_errors *errors)
{
    struct config_text text = {.key = "", .place = {.source = CONFIG_FROM_FILE, .name = path}};
    unsigned char *buf = malloc(MAX_BYTES + 1);
    int fd = buf ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY) : -1;
    ssize_t n = fd >= 0 ? read_up_to(fd, buf, MAX_BYTES + 1) : -1;
    if (!buf) {
        errors->out_of_memory = true;
    } else if (n < 0) {
        char why[128];
        config_errors_add(errors, &text.place, NULL,
                          "cannot be read, allowed: a YAML file that this user may read: %s",
                          strerror_r(errno, why, sizeof why));
    } else {
        text.bytes = buf;
        text.n = (size_t)n;
        config_read_yaml(&text, draft, errors);
    }
    if (fd >= 0)
        close(fd);
    free(buf);
}

/* ---- One key from outside a file --------------------------------------------------------------- */

static bool is_structured(const char *key)
{
    int option = config_option_find(key);
    enum config_type type = option >= 0 ? config_option_row(option)->type : CONFIG_TYPE_STRING;
    return type == CONFIG_TYPE_ROUTES || type == CONFIG_TYPE_ALERTS || type == CONFIG_TYPE_WEBHOOKS;
}

/* Lists of mappings are written as YAML (or JSON, which is YAML) in one value. */
static void put_value(const struct config_entry *entry, struct config_draft *draft,
                      struct config_errors *errors)
{
    if (is_structured(entry->key)) {
        struct config_text text = {(const unsigned char *)entry->value, strlen(entry->value), entry->key,
                                   entry->place};
        text.place.line = -1;
        config_read_yaml(&text, draft, errors);
    } else if (!config_draft_put(draft, entry)) {
        errors->out_of_memory = true;
    }
}

/* ---- The environment --------------------------------------------------------------------------- */

size_t config_variable_name(const char *key, char *buf, size_t n)
{
    size_t at = 0;
    char text[160] = PREFIX;
    for (at = strlen(text); *key && at + 3 < sizeof text; key++) {
        if (*key == '.')
            text[at++] = '_';
        text[at++] = *key == '.' ? '_' : *key >= 'a' && *key <= 'z' ? (char)(*key - 'a' + 'A') : *key;
    }
    text[at] = '\0';
    return (size_t)snprintf(buf, n, "%s", text);
}

/*
 * Kubernetes puts the addresses of services into every container: a service called
 * promptops-sidecar gives PROMPTOPS_SIDECAR_SERVICE_HOST, PROMPTOPS_SIDECAR_PORT=tcp://... and more.
 */
static bool is_service_link(const char *name, const char *value)
{
    static const char *const ends[] = {"_SERVICE_HOST", "_SERVICE_PORT", "_TCP",      "_UDP",
                                       "_SCTP",         "_TCP_PROTO",    "_TCP_PORT", "_TCP_ADDR",
                                       "_UDP_PROTO",    "_UDP_PORT",     "_UDP_ADDR", "_SCTP_PROTO",
                                       "_SCTP_PORT",    "_SCTP_ADDR"};
    size_t n = strlen(name);
    if (strstr(name, "_SERVICE_PORT_"))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        size_t m = strlen(ends[i]);
        bool service = i < 2;
        if (n > m && strcmp(name + n - m, ends[i]) == 0 && (service || strstr(name, "_PORT_")))
            return true;
    }
    return n > 5 && strcmp(name + n - 5, "_PORT") == 0 && strstr(value, "://") != NULL;
}

/* The option of a variable's name, or -1. */
static int option_of_variable(const char *name, size_t n)
{
    char known[160];
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        if (config_variable_name(config_option_row(i)->key, known, sizeof known) == n &&
            memcmp(known, name, n) == 0)
            return i;
    return -1;
}

/* A name without its doubled underscores: writing one where there are two is the usual mistake. */
static void squeeze(const char *name, char *out, size_t n)
{
    size_t at = 0;
    for (; *name && at + 1 < n; name++)
        if (*name != '_' || at == 0 || out[at - 1] != '_')
            out[at++] = *name >= 'a' && *name <= 'z' ? (char)(*name - 'a' + 'A') : *name;
    out[at] = '\0';
}

static void unknown_variable(const char *name, struct config_errors *errors)
{
    char typed[160], known[160], squeezed[160];
    struct config_place place = {.source = CONFIG_FROM_ENVIRONMENT, .name = name};
    struct suggestion near;
    int best = -1;
    squeeze(name + strlen(PREFIX), typed, sizeof typed);
    near = (struct suggestion){.typed = typed};
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        config_variable_name(config_option_row(i)->key, known, sizeof known);
        squeeze(known + strlen(PREFIX), squeezed, sizeof squeezed);
        if (suggest_offer(&near, squeezed))
            best = i;
    }
    if (best < 0) {
        config_errors_add(errors, &place, NULL,
                          "unknown variable, allowed: " PREFIX
                          " and a key in capitals, dots as double underscores");
        return;
    }
    config_variable_name(config_option_row(best)->key, known, sizeof known);
    config_errors_add(errors, &place, NULL, "unknown variable, did you mean %s?", known);
}

static void put_variable(const char *variable, struct config_draft *draft, struct config_errors *errors)
{
    char name[160];
    const char *equals = strchr(variable, '=');
    if (!equals || strncmp(variable, PREFIX, strlen(PREFIX)) != 0)
        return;
    size_t n = (size_t)(equals - variable);
    int option = option_of_variable(variable, n);
    snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), variable);
    if (option < 0) {
        if (!is_service_link(name, equals + 1))
            unknown_variable(name, errors);
        return;
    }
    struct config_entry entry = {.key = config_option_row(option)->key,
                                 .value = equals + 1,
                                 .place = {.source = CONFIG_FROM_ENVIRONMENT, .name = name}};
    put_value(&entry, draft, errors);
}

/* ---- Keys --------------------------------------------------------------------------------------- */

/* A file that can be read may still hold no key: said with its place, as all that is wrong. */
static bool key_usable(const struct config *cfg, int option, const char *path, enum secret_use use,
                       struct config_errors *errors)
{
    char why[256];
    if (!*path)
        return true;
    struct secret *key = secret_read(path, use, why, sizeof why);
    if (!key)
        config_errors_add(errors, config_place_of(cfg, option), config_option_row(option)->key, "%s: %s",
                          path, why);
    secret_free(key);
    return key != NULL;
}

static bool redis_known(const struct config *cfg, struct config_errors *errors)
{
    struct redis_address address;
    char why[256];
    int option = CONFIG_OPTION_cache_redis_url;
    bool ok = !*cfg->cache_redis_url || redis_url_parse(cfg->cache_redis_url, &address, why, sizeof why);
    if (!ok)
        config_errors_add(errors, config_place_of(cfg, option), config_option_row(option)->key, "%s", why);
    explicit_bzero(&address, sizeof address);
    return ok;
}

static bool keys_usable(const struct config *cfg, struct config_errors *errors)
{
    bool key =
        key_usable(cfg, CONFIG_OPTION_auth_api_key_file, cfg->auth_api_key_file, SECRET_FOR_FIELD, errors);
    bool secret = key_usable(cfg, CONFIG_OPTION_auth_secret_key_file, cfg->auth_secret_key_file,
                             SECRET_FOR_MAC, errors);
    return redis_known(cfg, errors) && key && secret;
}

/* ---- All together ------------------------------------------------------------------------------ */

const struct config *config_load(const struct config_sources *sources, struct config_errors *errors)
{
    struct config_draft *draft = config_draft_new();
    if (!draft) {
        errors->out_of_memory = true;
        return NULL;
    }
    config_draft_look(draft, config_file_usable);
    if (sources->file)
        put_file(sources->file, draft, errors);
    for (char *const *v = sources->environment; v && *v; v++)
        put_variable(*v, draft, errors);
    for (size_t i = 0; i < sources->flag_count; i++) {
        const struct config_assignment *f = &sources->flags[i];
        struct config_entry entry = {
            .key = f->key, .value = f->value, .place = {.source = CONFIG_FROM_FLAG, .name = f->flag}};
        put_value(&entry, draft, errors);
    }
    /* Built even after an error, so that all errors are found at once. */
    const struct config *cfg = config_draft_build(draft, errors);
    config_draft_free(draft);
    bool usable = cfg && keys_usable(cfg, errors);
    bool trusted = cfg && config_trust_files(cfg, sources->file, errors);
    if (usable && trusted)
        return cfg;
    config_unref(cfg);
    return NULL;
}

const struct config *config_reload(const struct config_sources *sources, const struct config *running,
                                   struct config_errors *errors, struct config_pending *pending)
{
    const struct config *fresh = config_load(sources, errors);
    if (!fresh)
        return NULL;
    const struct config *carried = config_carry_over(fresh, running, errors);
    if (pending) {
        pending->count = 0;
        for (int i = 0; (i = config_next_pending(fresh, running, i)) >= 0; i++)
            pending->options[pending->count++] = i;
    }
    config_unref(fresh);
    return carried;
}
