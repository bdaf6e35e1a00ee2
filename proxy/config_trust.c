/*
 * Whether the files that a configuration names may be trusted: who else can read or change them, and whether
 * the admin token is one that nobody guesses. Invariants: only what is in force is judged (an option that is
 * empty, or a file that is gone, is the business of others); a file on a mount that is read-only here, as a
 * container's secrets are, is nobody's to change, and whom its mode lets read is not here.
 */
#include "proxy/config_trust.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "proxy/admin_gate.h"

enum { TOKEN_BYTES_LEAST = 16 };

/* Files that decide who is believed, and of these the ones that hold a secret. */
static const struct file_option {
    int option;
    bool secret;
} file_options[] = {
    {CONFIG_OPTION_auth_api_key_file, true},          {CONFIG_OPTION_auth_secret_key_file, true},
    {CONFIG_OPTION_admin_token_file, true},           {CONFIG_OPTION_listen_tls_key_file, true},
    {CONFIG_OPTION_admin_tls_key_file, true},         {CONFIG_OPTION_upstream_tls_key_file, true},
    {CONFIG_OPTION_listen_tls_client_ca_file, false}, {CONFIG_OPTION_upstream_tls_ca_file, false},
};

static const char *path_of(const struct config *cfg, int option)
{
    const char *const *path =
        (const char *const *)(const void *)((const char *)cfg + config_option_row(option)->offset);
    return *path;
}

/* The mode of a file that others could come at; 0 when there is none, or its mount is read-only here. */
static mode_t exposed_mode(const char *path)
{
    struct stat st;
    struct statvfs mount;
    if (!*path || stat(path, &st) != 0 || statvfs(path, &mount) != 0 || (mount.f_flag & ST_RDONLY))
        return 0;
    return st.st_mode;
}

static bool token_good(const struct config *cfg, struct config_errors *errors)
{
    const char *path = cfg->admin_token_file, *why = NULL;
    const struct config_place *place = config_place_of(cfg, CONFIG_OPTION_admin_token_file);
    size_t bytes = 0;
    if (!*path)
        return true;
    if (!admin_gate_token_usable(path, &bytes, &why)) {
        config_errors_add(errors, place, "admin.token_file",
                          "%s: %s; give a file with one line of printable characters", path, why);
        return false;
    }
    return true;
}

/* A token that can be tried out from other machines. */
static bool token_guessable(const struct config *cfg, size_t *bytes)
{
    const char *why;
    return *cfg->admin_token_file && !cfg->admin_address.loopback &&
           admin_gate_token_usable(cfg->admin_token_file, bytes, &why) && *bytes < TOKEN_BYTES_LEAST;
}

bool config_trust_files(const struct config *cfg, const char *file, struct config_errors *errors)
{
    bool good = token_good(cfg, errors);
    for (size_t i = 0; i < ARRAY_LEN(file_options); i++) {
        int option = file_options[i].option;
        const char *path = path_of(cfg, option);
        if (!(exposed_mode(path) & S_IWOTH))
            continue;
        config_errors_add(errors, config_place_of(cfg, option), config_option_row(option)->key,
                          "%s: every user of this machine can change it; take that away: chmod o-w", path);
        good = false;
    }
    if (file && (exposed_mode(file) & S_IWOTH)) {
        struct config_place place = {.source = CONFIG_FROM_FILE, .name = file};
        config_errors_add(errors, &place, NULL,
                          "every user of this machine can change this file, and with it where requests and "
                          "keys are sent; take that away: chmod o-w");
        good = false;
    }
    return good;
}

bool config_trust_warning(const struct config *cfg, size_t i, int *option, char *text, size_t n)
{
    size_t bytes;
    if (token_guessable(cfg, &bytes) && i-- == 0) {
        *option = CONFIG_OPTION_admin_token_file;
        snprintf(text, n,
                 "admin.token_file: %s: a token of %zu bytes can be guessed, and other machines reach "
                 "admin.address; %d or more are better, such as `openssl rand -hex 24` gives",
                 cfg->admin_token_file, bytes, TOKEN_BYTES_LEAST);
        return true;
    }
    for (size_t k = 0; k < ARRAY_LEN(file_options); k++) {
        const char *path = path_of(cfg, file_options[k].option);
        if (!file_options[k].secret || !(exposed_mode(path) & S_IROTH) || i-- > 0)
            continue;
        *option = file_options[k].option;
        snprintf(text, n, "%s: %s: every user of this machine can read it; take that away: chmod o-r",
                 config_option_row(*option)->key, path);
        return true;
    }
    if (!(exposed_mode(cfg->cache_frozen_path) & S_IWOTH) || i > 0)
        return false;
    *option = CONFIG_OPTION_cache_frozen_path;
    snprintf(text, n,
             "cache.frozen_path: %s: every user of this machine can put files there; give the sidecar a "
             "directory of its own (chmod 0700)",
             cfg->cache_frozen_path);
    return true;
}
