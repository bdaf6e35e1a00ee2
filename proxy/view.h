/*
 * Writes a tree of values for the admin port without knowing how it will be sent (JSON or
 * MessagePack). Inside an object every call names its key; inside an array the key is NULL.
 * Running out of memory is remembered, and reported once at the end.
 */
#ifndef PROXY_VIEW_H
#define PROXY_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/base.h"

struct view;
struct json_t; /* jansson's; only view.c, pack.c and admin*.c look inside */

/* An empty tree whose root is an object. NULL when out of memory. */
struct view *view_new(void);
void view_free(struct view *v);

void view_int(struct view *v, const char *key, int64_t value);
void view_uint(struct view *v, const char *key, uint64_t value);
void view_real(struct view *v, const char *key, double value); /* not finite: null */
void view_bool(struct view *v, const char *key, bool value);
void view_null(struct view *v, const char *key);
void view_text(struct view *v, const char *key,
               const char *value); /* NULL: null; bytes that are not UTF-8 become U+FFFD */
void view_slice(struct view *v, const char *key, struct slice value);

/* A value that is JSON text already; null when it is not valid. */
void view_json(struct view *v, const char *key, const char *json);

/* Opens an object or array inside the present one; each is closed by view_end(). At most 16 deep. */
void view_object(struct view *v, const char *key);
void view_array(struct view *v, const char *key);
void view_end(struct view *v);

/* The tree, which goes over to the caller; NULL when something failed (memory, nesting). Frees v. */
struct json_t *view_take(struct view *v);

/* The tree as JSON text, or one member of the root; to be freed. NULL when something failed. Frees v. */
char *view_print(struct view *v, const char *member);

#endif
