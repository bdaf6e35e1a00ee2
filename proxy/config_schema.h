/*
 * The options as a JSON Schema, for editors and for the chart's values.
 */
#ifndef PROXY_CONFIG_SCHEMA_H
#define PROXY_CONFIG_SCHEMA_H

#include <stdio.h>

/* Writes the schema (draft 7) of a configuration file, made from policy/options.def. */
void config_schema_print(FILE *out);

#endif
