/*
 * promptops-sidecar --health: asks a running sidecar how it is, for images that have no shell and no curl.
 */
#ifndef PROXY_HEALTH_PROBE_H
#define PROXY_HEALTH_PROBE_H

#include <stdio.h>

#include "policy/base.h"

struct config;

/*
 * Asks `url` (http://, https:// or unix:/path; without a path /health/ready), or with NULL the admin address
 * of `cfg`, and prints the answer to `out` when it was 200, else a sentence to `err`. Waits at most three
 * seconds in all. A certificate is not checked: nothing secret is sent. Returns 0 for 200, 1 else, 2 for a
 * URL that is none.
 */
int health_probe(const char *url, const struct config *cfg, FILE *out, FILE *err);

#endif
