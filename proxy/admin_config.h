/*
 * The effective configuration as GET /api/v1/config shows it.
 */
#ifndef PROXY_ADMIN_CONFIG_H
#define PROXY_ADMIN_CONFIG_H

#include "policy/config.h"
#include "proxy/view.h"

/* Writes `options`: key -> {value, origin, live, default, help}. Secrets are masked by config_print_value().
 */
void admin_config_view(const struct config *cfg, struct view *v);

#endif
