/*
 * Writes a snapshot of the configuration into a view. Invariant: every option of options.def is there, once.
 */
#include "proxy/admin_config.h"

#include <stdlib.h>

/* The value as JSON text; to be freed. NULL when out of memory. */
static char *printed(const struct config *cfg, int option)
{
    size_t n = config_print_value(cfg, option, NULL, 0);
    char *text = malloc(n + 1);
    if (text)
        config_print_value(cfg, option, text, n + 1);
    return text;
}

static void option_view(const struct config *cfg, int option, struct view *v)
{
    const struct config_option_row *row = config_option_row(option);
    char origin[512];
    char *value = printed(cfg, option);
    config_origin(cfg, option, origin, sizeof origin);
    view_object(v, row->key);
    view_json(v, "value", value ? value : "null");
    view_text(v, "origin", origin);
    view_bool(v, "live", row->live);
    view_text(v, "default", row->preset);
    view_text(v, "help", row->help);
    view_end(v);
    free(value);
}

void admin_config_view(const struct config *cfg, struct view *v)
{
    view_object(v, "options");
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        option_view(cfg, i, v);
    view_end(v);
}
