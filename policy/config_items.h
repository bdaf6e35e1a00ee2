/*
 * Lists of mappings in the configuration: the description of a kind of item, and the walk that reads
 * one list. Included by policy/config*.c only.
 */
#ifndef POLICY_CONFIG_ITEMS_H
#define POLICY_CONFIG_ITEMS_H

#include "policy/config_private.h"

#define CONFIG_MAX_ITEMS 1000u

/* One field of an item: "match.path" of routes. */
struct config_item_field {
    const char *name;
    enum config_shape
        shape;        /* SCALAR; SEQUENCE of scalars, set one by one; or MAPPING: has fields of its own */
    const char *help; /* for the README; "" for a MAPPING */
    bool (*set)(struct config_parse *parse, void *item, const char *text);
};

struct config_item_kind {
    const struct config_item_field *fields;                 /* the last has a NULL name */
    size_t size;                                            /* of an item */
    void (*begin)(void *item);                              /* sets the defaults */
    bool (*finish)(struct config_parse *parse, void *item); /* judges the whole; false with parse->what */
};

/*
 * Reads the run's entries into a new array, in the snapshot's memory. *count gets the number of items,
 * those with errors included. NULL when out of memory or there are too many.
 */
void *config_items_read(struct config_build *build, const struct config_run *run,
                        const struct config_item_kind *kind, size_t *count);

const struct config_item_field *config_route_fields(void);
const struct config_item_field *config_alert_fields(void);
const struct config_item_field *config_webhook_fields(void);

#endif
