/*
 * MessagePack for the admin port: the same trees as its JSON.
 */
#ifndef PROXY_PACK_H
#define PROXY_PACK_H

#include <stdbool.h>
#include <stddef.h>

#include "metrics/text.h"

struct json_t; /* jansson's */

/* Appends the tree to *out. False when out of memory. */
bool pack_tree(const struct json_t *tree, struct text *out);

/*
 * Reads one value that fills p[0..n) exactly. Map keys must be strings, text valid UTF-8, nesting at most 32.
 * A new reference, or NULL: *why is then a sentence about what is wrong.
 */
struct json_t *pack_read(const char *p, size_t n, const char **why);

#endif
