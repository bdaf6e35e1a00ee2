/*
 * What only a trial shows of a configuration: whether the certificates and keys that it names are some, and
 * belong together. For --check; a start and a reload find it out by themselves.
 */
#ifndef PROXY_CONFIG_TRIAL_H
#define PROXY_CONFIG_TRIAL_H

#include "policy/config.h"

/* Adds an error for each of listen.tls, upstream.tls and admin.tls that cannot be used. Reads files. */
void config_try_tls(const struct config *cfg, struct config_errors *errors);

#endif
