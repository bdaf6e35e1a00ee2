/*
 * Whether the files that a configuration names may be trusted: the modes of keys, certificates and the
 * configuration itself, and the length of the admin token.
 */
#ifndef PROXY_CONFIG_TRUST_H
#define PROXY_CONFIG_TRUST_H

#include "policy/config.h"

/*
 * Refuses what would give everybody what belongs to the sidecar's user: files that anybody on this machine
 * can change; and an admin token that is none. `file` is that of --config, or NULL. False when it added an
 * error. Blocks on the file system.
 */
bool config_trust_files(const struct config *cfg, const char *file, struct config_errors *errors) MUSTCHECK;

/*
 * The i-th warning about files that are allowed, but hardly meant so: into text[0 ... n), of the option
 * *option. False when there are no more. Blocks on the file system.
 */
bool config_trust_warning(const struct config *cfg, size_t i, int *option, char *text, size_t n) MUSTCHECK;

#endif
